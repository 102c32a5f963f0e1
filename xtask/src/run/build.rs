//! The scenarios' programs: built by Cargo, beside the making of images and the first lab.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::error::Error;
use crate::host::cargo;
use crate::manifest::Project;

/// How often the wait for a build looks for an interrupt.
const BUILD_POLL: Duration = Duration::from_millis(5);

/// Programs by scenario name.
pub type Binaries = BTreeMap<String, PathBuf>;

/// Programs that may still be in the making.
#[derive(Debug)]
pub struct ScenarioBinaries {
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Building(JoinHandle<anyhow::Result<Binaries>>),
    Ready(Binaries),
    Failed,
}

impl ScenarioBinaries {
    /// Starts to build them.
    #[must_use]
    pub fn build(project: &Project) -> Self {
        let (root, package) = (project.root.clone(), project.scenarios_package.clone());
        Self { state: Mutex::new(State::Building(std::thread::spawn(move || build(&root, &package)))) }
    }

    /// Those of a folder, built earlier.
    #[must_use]
    pub fn in_folder(project: &Project, dir: &Path) -> Self {
        let programs = project.scenarios.iter().map(|scenario| (scenario.name.clone(), dir.join(&scenario.name)));
        Self { state: Mutex::new(State::Ready(programs.collect())) }
    }

    /// The program of a scenario; waits for the build where it is not over.
    ///
    /// # Errors
    /// [`Error::Usage`] when the build failed, or there is no such program; [`Error::Interrupted`].
    pub fn get(&self, scenario: &str, interrupted: &dyn Fn() -> bool) -> anyhow::Result<PathBuf> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while matches!(&*state, State::Building(thread) if !thread.is_finished()) {
            if interrupted() {
                return Err(Error::Interrupted.into());
            }
            std::thread::sleep(BUILD_POLL); // a thread gives no sign that could be waited for with a deadline
        }
        if matches!(*state, State::Building(_))
            && let State::Building(thread) = std::mem::replace(&mut *state, State::Failed)
        {
            let built =
                thread.join().map_err(|_| anyhow::anyhow!("the thread that builds the scenarios panicked"))??;
            *state = State::Ready(built);
        }
        let State::Ready(programs) = &*state else { bail!("the scenarios could not be built") };
        match programs.get(scenario) {
            Some(program) if program.is_file() => Ok(program.clone()),
            _ => Err(Error::Usage(format!(
                "the scenario {scenario} has no program: list it in the scenarios' Cargo.toml, \
                 [[bin]] name = \"{scenario}\", path = \"CATEGORY/{scenario}/main.rs\""
            ))
            .into()),
        }
    }
}

fn build(root: &Path, package: &str) -> anyhow::Result<Binaries> {
    let built = cargo::build(root, &["build", "--package", package, "--bins"]).context("building the scenarios")?;
    Ok(built.into_iter().map(|program| (program.name, program.path)).collect())
}
