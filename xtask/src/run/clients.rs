//! Client libraries for scenarios in other languages, embedded in this engine. Each run gets them in its folder, so that scenario and
//! engine speak the same version of the protocol.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::error::Error;
use crate::manifest::Project;
use crate::plan::Plan;
use crate::record::RunDir;

const PYTHON: (&str, &str) = ("sdk/e2e.py", include_str!("../../sdk/python/e2e.py"));

/// Writes the client libraries to a run's folder, with the rights of the folder's owner.
pub(super) fn write(dir: &RunDir) -> anyhow::Result<()> {
    let (name, text) = PYTHON;
    dir.write(name, text.as_bytes()).context("writing the client libraries of scenarios")
}

/// Refuses a plan with scenarios that need the client libraries, in a project folder that cannot be an entry of PYTHONPATH.
///
/// # Errors
/// [`Error::Usage`] if the folder's path has a colon.
pub(super) fn require_listable(project: &Project, plan: &Plan) -> Result<(), Error> {
    let needs_client = plan.scenarios(project).any(|scenario| scenario.command.is_some());
    if needs_client { require_no_colon(&project.root) } else { Ok(()) }
}

fn require_no_colon(folder: &Path) -> Result<(), Error> {
    if !folder.as_os_str().as_bytes().contains(&b':') {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{} has a colon in its path, which separates the folders in PYTHONPATH: no scenario with a `command` would find its client. \
         Move the project to a path without one",
        folder.display()
    )))
}

/// Returns environment variables that let a scenario find the client libraries, and make Python flush its output at once and write no
/// bytecode files beside the sources.
pub(super) fn environment(dir: &RunDir) -> Vec<(String, String)> {
    environment_below(dir.path())
}

fn environment_below(folder: &Path) -> Vec<(String, String)> {
    let mut path = folder.join("sdk").display().to_string();
    if let Some(more) = std::env::var("PYTHONPATH").ok().filter(|more| !more.is_empty()) {
        path = format!("{path}:{more}");
    }
    let set = |name: &str, value: String| (name.to_owned(), value);
    vec![
        set("PYTHONPATH", path),
        set("PYTHONUNBUFFERED", "1".to_owned()),
        set("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
    ]
}

#[test]
fn a_path_with_a_colon_is_refused() {
    require_no_colon(Path::new("/home/u/project")).unwrap();
    let error = require_no_colon(Path::new("/home/u/project:2")).unwrap_err();
    assert!(error.to_string().contains("PYTHONPATH"), "{error}");
}

#[test]
fn the_protocols_page_has_what_is_set() {
    let page = include_str!("../../../docs/protocol.md");
    let rows = page.lines().filter(|line| line.contains("| with a `command` |"));
    let listed: Vec<&str> = rows.filter_map(|line| line.split('`').nth(1)).collect();
    let set = environment_below(Path::new("/run"));
    assert_eq!(
        listed,
        set.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "docs/protocol.md: its variables"
    );
}
