//! Report of the backup, which `fixtures/backup.py` writes to a file.

use std::collections::BTreeMap;
use std::time::Duration;

use common::mancer;
use e2e::{Container, Lab, check};
use serde::Deserialize;

/// Folder of the backup on app.
pub const FOLDER: &str = "/srv/backup/first";
/// Deadline of an action, which takes 2 s at most on two idle cores; the rest is headroom for a loaded machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Result of one action of `backup.py`.
#[derive(Debug, Deserialize)]
pub struct Report {
    action: String,
    /// Outcome of the action: `done`, or how it was refused.
    pub outcome: String,
    /// Problems by the name of the file that was refused.
    pub problems: BTreeMap<String, Vec<String>>,
}

/// Runs an action of `backup.py` on a folder; the report is kept as an artifact under `name`.
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

/// Runs an action as [`run`] does, and checks that it succeeds.
pub fn done(lab: &Lab, app: &Container, action: &str) -> e2e::Result {
    let Report { outcome, problems, .. } = run(lab, app, action, FOLDER, action, DEADLINE)?;
    check!(outcome == "done", "{action} of {FOLDER}: {problems:?}");
    Ok(())
}
