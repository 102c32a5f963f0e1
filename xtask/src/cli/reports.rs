//! Reports of a run that has just ended, written into the run's folder, and to GitHub if the run is a step of a GitHub workflow.

#![expect(clippy::print_stderr, reason = "annotations are read from the output of a step")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;

use super::{Context, Format};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED};
use crate::host::invoker::Invoker;
use crate::manifest::Project;
use crate::record::{Event, Masks, PastRun, RUNS_FOLDER, RunDir, Stamped};
use crate::report::annotations::{self, Checkout};
use crate::report::files;
use crate::report::terminal::println;

/// Name of a run, learnt from its events, so that the reports of a run that ends with an error can be written too.
#[derive(Debug, Clone, Default)]
pub struct RunName {
    name: Arc<OnceLock<String>>,
    masks: Arc<Masks>,
}

impl RunName {
    /// Returns an empty name, with the masks of the secrets that the run's reports must not show.
    #[must_use]
    pub fn masked_by(masks: Arc<Masks>) -> Self {
        Self { masks, ..Self::default() }
    }

    /// Returns a listener, for a recorder, that takes the name from the run's first event.
    pub fn listener(&self) -> Box<dyn FnMut(&Stamped) + Send> {
        let name = Arc::clone(&self.name);
        Box::new(move |stamped| {
            if let Event::RunStarted { run_id, .. } = &stamped.event {
                name.get_or_init(|| run_id.clone());
            }
        })
    }

    /// Writes the reports of the run from the record on the disk, and warns of those that cannot be written. Without a name no run has
    /// begun, and nothing is written.
    pub fn write_reports(&self, project: &Project, context: &Context) -> Reports {
        let Some(name) = self.name.get() else { return Reports::Written };
        match PastRun::read(project.root.join(RUNS_FOLDER).join(name)) {
            Ok(run) => write_masked(&run, project, &self.masks, context),
            Err(error) => {
                context.terminal.warn(&format!("no report can be made: {error:#}"));
                Reports::Missing
            }
        }
    }
}

/// Result of writing the reports of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reports {
    Written,
    /// At least one report could not be written; a warning with the reason was printed.
    Missing,
}

impl Reports {
    /// Returns the exit code, given that the run itself ended with code `run`: a passed run without its reports counts as an infrastructure
    /// error.
    #[must_use]
    pub fn exit_code(self, run: u8) -> u8 {
        match self {
            Self::Missing if run == EXIT_PASSED => EXIT_INFRASTRUCTURE,
            Self::Written | Self::Missing => run,
        }
    }
}

/// Writes the reports of a run, and warns of those that cannot be written.
pub fn write(run: &PastRun, project: &Project, context: &Context) -> Reports {
    write_masked(run, project, &Arc::default(), context)
}

fn write_masked(run: &PastRun, project: &Project, masks: &Arc<Masks>, context: &Context) -> Reports {
    let owner = Invoker::find();
    let mut problems = match RunDir::of(run, owner.clone()) {
        Ok(dir) => files::write_all(run, &dir.masked_by(Arc::clone(masks))),
        Err(error) => vec![format!("no report can be made: {error:#}")],
    };
    problems.extend(tell_github(project, run, &owner, context).err().map(|error| format!("{error:#}")));
    problems.iter().for_each(|problem| context.terminal.warn(problem));
    if problems.is_empty() { Reports::Written } else { Reports::Missing }
}

/// Appends `summary.md` to the summary of the GitHub step, and prints annotations that GitHub shows beside the code.
fn tell_github(project: &Project, run: &PastRun, owner: &Invoker, context: &Context) -> anyhow::Result<()> {
    if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        let append = || {
            let summary = std::fs::read(run.folder.join("summary.md"))?;
            Ok(File::options().append(true).create(true).open(&path)?.write_all(&summary)?)
        };
        owner.act(append).with_context(|| format!("adding the summary to {}", path.display()))?;
    }
    if std::env::var("GITHUB_ACTIONS").is_ok_and(|value| value == "true") {
        let checkout = checkout(project);
        for line in annotations::make(run, &run.events()?, &checkout) {
            // Both streams are read there; programs read the one with JSON.
            context.terminal.beside(|| match context.format {
                Format::Human => println!("{line}"),
                Format::Json => eprintln!("{line}"),
            });
        }
    }
    Ok(())
}

/// Returns the folders from which annotations compute paths; the repository is the folder that GitHub has checked out, else the one with
/// `.git`.
fn checkout(project: &Project) -> Checkout {
    let named = std::env::var_os("GITHUB_WORKSPACE").map(PathBuf::from);
    let root = named.filter(|root| project.root.starts_with(root)).or_else(|| {
        let is_top = |folder: &&Path| folder.join(".git").exists();
        project.root.ancestors().find(is_top).map(Path::to_owned)
    });
    let scenarios = project.scenarios_dir.clone();
    Checkout { root: root.unwrap_or_else(|| project.root.clone()), project: project.root.clone(), scenarios }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::EXIT_FAILED;

    #[test]
    fn a_run_without_its_reports_has_not_passed() {
        assert_eq!([Reports::Written, Reports::Missing].map(|it| it.exit_code(EXIT_PASSED)), [0, EXIT_INFRASTRUCTURE]);
        assert_eq!([Reports::Written, Reports::Missing].map(|it| it.exit_code(EXIT_FAILED)), [EXIT_FAILED; 2]);
    }
}
