//! Somebody who looks at a case at its first failure, while everything is held.

use std::sync::Arc;

use crate::lab::Lab;
use crate::record::{CaseId, Onward};

/// Whom a session asks at the first failure of a case.
pub trait Breakpoint: Send + Sync + std::fmt::Debug {
    /// Comes back when the case may go on, or is given up.
    fn stop(&self, stopped: &Stopped<'_>) -> Onward;
}

/// What has stopped.
#[derive(Debug, Clone, Copy)]
pub struct Stopped<'a> {
    /// The case.
    pub case: &'a CaseId,
    /// What has failed.
    pub reason: &'a str,
    /// Its lab.
    pub lab: &'a Arc<Lab>,
}
