//! The backup's report: the file that `fixtures/backup.py` writes.

use std::collections::BTreeMap;
use std::time::Duration;

use common::mancer;
use e2e::{Container, Lab, check};
use serde::Deserialize;

/// Folder of the backup on app.
pub const FOLDER: &str = "/srv/backup/first";
/// Deadline of an action, which takes 2 s at most on two idle cores; the rest is headroom for a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Result of one action.
#[derive(Debug, Deserialize)]
pub struct Report {
    action: String,
    /// `done`, or how it was refused.
    pub outcome: String,
    /// Problems of each file that was refused.
    pub problems: BTreeMap<String, Vec<String>>,
}

/// Runs an action of `backup.py` on a folder; its report is kept under `name`.
///
/// # Errors
/// The program broke down, or takes longer than `deadline`.
pub fn run(
    lab: &Lab,
    app: &Container,
    action: &str,
    folder: &str,
    name: &str,
    deadline: Duration,
) -> e2e::Result<Report> {
    let report: Report = mancer::report(lab, app, &["/srv/drivers/backup.py", action, folder], name, deadline)?;
    check!(report.action == action);
    Ok(report)
}

/// Like [`run`], for an action that must succeed.
///
/// # Errors
/// Those of [`run`], or it was refused.
pub fn done(lab: &Lab, app: &Container, action: &str) -> e2e::Result {
    let Report { outcome, problems, .. } = run(lab, app, action, FOLDER, action, DEADLINE)?;
    check!(outcome == "done", "{action} of {FOLDER}: {problems:?}");
    Ok(())
}
