//! Requests to the holder of a lab's faults, and the holder's files in the slot's folder.

use std::path::PathBuf;

use anyhow::anyhow;
use e2e_contract::Fault;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::guard::Slot;

/// Name of the holder among the guard's processes; no container's name begins like this.
pub(super) const PROCESS: &str = "_faults";

/// Active fault of a kept lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFault {
    /// Number of the fault in its lab, from 1.
    pub fault: u64,
    /// Name of the container that the fault acts on.
    pub container: String,
    /// Kind of the fault and its parameters.
    pub description: Fault,
    /// Time at which the fault's effect was verified: RFC 3339, UTC.
    pub since: String,
    /// Observation before the injection.
    pub before: Option<String>,
    /// Evidence of the fault's effect.
    pub evidence: String,
    /// Last unrequested reboot of the container, and its consequence for the fault; `None` where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootSeen>,
}

/// Reboot of a container with an active fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootSeen {
    /// Time at which the reboot was detected: RFC 3339, UTC.
    pub at: String,
    /// Reason why the fault could not be restored; `None` where it was.
    pub problem: Option<String>,
}

impl std::fmt::Display for RebootSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.problem {
            None => write!(f, "on again after a reboot at {}", self.at),
            Some(problem) => write!(f, "NOT ON since a reboot at {}: {problem}", self.at),
        }
    }
}

/// Request to the holder; a connection carries one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    Inject { container: String, fault: Fault },
    Heal { fault: u64 },
}

/// Holder's answer to a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Injected(LiveFault),
    Healed { evidence: String },
    Refused(Refusal),
}

/// Error passed from one process to another, which keeps its kind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refusal {
    Usage(String),
    Host { problem: String, help: String },
    Other(String),
}

impl Refusal {
    pub fn of(error: &anyhow::Error) -> Self {
        match Error::of(error) {
            Some(Error::Usage(_)) => Self::Usage(format!("{error:#}")),
            Some(Error::Host { problem, help }) => Self::Host { problem: problem.clone(), help: help.clone() },
            _ => Self::Other(format!("{error:#}")),
        }
    }

    pub fn into_error(self) -> anyhow::Error {
        match self {
            Self::Usage(message) => Error::Usage(message).into(),
            Self::Host { problem, help } => Error::Host { problem, help }.into(),
            Self::Other(message) => anyhow!(message),
        }
    }
}

/// Path of the holder's socket, which only root may use.
pub(super) fn socket(slot: &Slot) -> PathBuf {
    slot.dir().join("faults.socket")
}

/// Path of the file with the active faults, which stays when the holder is killed.
pub(super) fn file(slot: &Slot) -> PathBuf {
    slot.dir().join("faults.json")
}

/// Path of the holder's log of errors.
pub(super) fn log(slot: &Slot) -> PathBuf {
    slot.dir().join("faults.log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_and_its_causes() {
        let usage = anyhow::Error::from(Error::Usage("no such unit".into())).context("service.stop on app");
        let error = Refusal::of(&usage).into_error();
        assert_eq!(Error::exit_code(&error), crate::error::EXIT_USAGE);
        assert_eq!(error.to_string(), "service.stop on app: no such unit");
        let other = Refusal::of(&anyhow!("it takes no effect").context("net.isolate on app")).into_error();
        assert_eq!(Error::exit_code(&other), crate::error::EXIT_INFRASTRUCTURE);
        assert_eq!(other.to_string(), "net.isolate on app: it takes no effect");
    }
}
