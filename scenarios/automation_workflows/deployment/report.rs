//! Report of the deployment, which `fixtures/deploy.py` writes to a file.

use std::time::Duration;

use common::mancer;
use e2e::{Container, Lab, check};
use serde::Deserialize;

/// Deadline of a deployment, which takes 2 s at most on two idle cores; the rest is headroom for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Result of one deployment.
#[derive(Debug, Deserialize)]
pub struct Report {
    version: String,
    outcome: String,
    stage: Option<String>,
    target: Option<String>,
    reason: Option<String>,
    rollback: Option<String>,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    target: String,
    state: String,
    restarts: u32,
}

/// Deploys a release and returns the report. A release that the product refuses or rolls back is no error.
pub fn deploy(lab: &Lab, app: &Container, version: u32) -> e2e::Result<Report> {
    let version = version.to_string();
    let argv = ["/srv/deployment/deploy.py", &version];
    let report: Report = mancer::report(lab, app, &argv, &format!("deployment-{version}"), DEADLINE)?;
    check!(report.version == version);
    Ok(report)
}

impl Report {
    /// Returns the outcome in one line: `deployed`, or the failure with its place and reason.
    pub fn outcome(&self) -> String {
        let Self { outcome, stage, target, reason, rollback, .. } = self;
        let (Some(stage), Some(reason)) = (stage, reason) else { return outcome.clone() };
        let target = target.as_ref().map(|target| format!(" of {target}")).unwrap_or_default();
        let rollback = rollback.as_ref().map(|rollback| format!("; the way back: {rollback}")).unwrap_or_default();
        format!("{outcome}: {stage}{target}: {reason}{rollback}")
    }

    /// Returns the state of each machine in a line, in the order of the deployment.
    pub fn states(&self) -> Vec<String> {
        let shown = |Target { target, state, restarts }: &Target| format!("{target}: {state}, restarts: {restarts}");
        self.targets.iter().map(shown).collect()
    }
}
