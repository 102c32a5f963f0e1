//! Failures of faults, by kind: who is to blame, and whether a fault is tried again.

use std::fmt;

use crate::error::Error;
use crate::lab::WaitError;

/// Failure of a fault to be injected or healed.
#[derive(Debug)]
pub struct FaultError {
    /// Kind, by which callers decide.
    pub kind: FaultFailure,
    error: anyhow::Error,
}

/// Kind of a fault's failure.
#[derive(Debug)]
pub enum FaultFailure {
    /// A parameter names nothing, or the container cannot have the fault in its present state.
    Usage,
    /// This host lacks something that the fault needs.
    Host,
    /// A fault keeps a container down or frozen.
    Outage,
    /// The container has rebooted by itself during each attempt.
    Reboots,
    /// The container has ended by itself.
    Ended,
    /// The container did not become ready again.
    NotReady(Box<WaitError>),
    /// The injection failed and could not be taken back completely: the container may still be damaged.
    NotTakenBack,
    /// The fault has no effect, or is not gone after its healing, or the host or the engine failed.
    Other,
}

impl FaultError {
    pub(super) fn new(kind: FaultFailure, message: String) -> Self {
        Self { kind, error: anyhow::Error::msg(message) }
    }

    pub(super) fn context(self, context: String) -> Self {
        Self { error: self.error.context(context), ..self }
    }

    /// Returns the error for an injection that failed with `self`, and whose taking back failed with `healing`: of kind
    /// [`FaultFailure::NotTakenBack`], with the first failure in its text.
    pub(super) fn not_taken_back(&self, healing: &Self) -> Self {
        let message = format!(
            "the injection failed, and what it had changed could not be taken back completely ({healing}): {self}"
        );
        Self::new(FaultFailure::NotTakenBack, message)
    }
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for FaultError {
    fn from(error: anyhow::Error) -> Self {
        let kind = match Error::of(&error) {
            Some(Error::Usage(_)) => FaultFailure::Usage,
            Some(Error::Host { .. }) => FaultFailure::Host,
            Some(Error::Outage(_)) => FaultFailure::Outage,
            Some(Error::MachineEnded(_)) => FaultFailure::Ended,
            Some(_) | None => FaultFailure::Other,
        };
        Self { kind, error }
    }
}

impl From<Error> for FaultError {
    fn from(error: Error) -> Self {
        anyhow::Error::from(error).into()
    }
}

impl From<FaultError> for anyhow::Error {
    fn from(error: FaultError) -> Self {
        error.error
    }
}
