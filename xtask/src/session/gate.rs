//! Who may measure when, and how often: for runs that compare two sides.

use crate::record::Sample;

/// What a session asks before and after each measured operation.
pub trait Gate: Send + Sync + std::fmt::Debug {
    /// Waits until this operation may begin, or `stop` says that the session has to end.
    fn begin(&self, operation: &str, planned: u32, stop: &dyn Fn() -> bool);

    /// An operation has ended, with its sample, or with none where it failed. Says whether another repetition is wanted; `None`
    /// leaves that to the scenario's plan.
    fn end(&self, operation: &str, sample: Option<&Sample>, stop: &dyn Fn() -> bool) -> Option<bool>;
}
