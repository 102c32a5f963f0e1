//! Requests to a holder of faults, and its files in the slot's folder.

use std::path::PathBuf;

use anyhow::anyhow;
use e2e_contract::Fault;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::guard::Slot;

/// Name among the processes of the guard; no container's begins like this.
pub(super) const PROCESS: &str = "_faults";

/// A fault that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveFault {
    /// Number in its lab, from 1.
    pub fault: u64,
    /// Container with the fault.
    pub container: String,
    /// Fault and its parameters.
    pub description: Fault,
    /// Time at which its effect was verified: RFC 3339, UTC.
    pub since: String,
    /// Observation before its injection.
    pub before: Option<String>,
    /// Evidence of its effect.
    pub evidence: String,
    /// Last reboot of the container that nobody had asked for, and its consequence for the fault; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<RebootSeen>,
}

/// A reboot of a container with a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebootSeen {
    /// Moment of its detection: RFC 3339, UTC.
    pub at: String,
    /// Reason why the fault could not be restored; absent where it was.
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

/// Request: a connection has one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    Inject { container: String, fault: Fault },
    Heal { fault: u64 },
}

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Injected(LiveFault),
    Healed { evidence: String },
    Refused(Refusal),
}

/// An error on its way from one process to another: its kind is kept.
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

/// Returns the path of the holder's socket, which only root may use.
pub(super) fn socket(slot: &Slot) -> PathBuf {
    slot.dir().join("faults.socket")
}

/// Returns the path of the file with the active faults, which stays when the holder is killed.
pub(super) fn file(slot: &Slot) -> PathBuf {
    slot.dir().join("faults.json")
}

/// Returns the path of the holder's log of errors.
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
