//! Two functions run at the same time.

use std::panic::resume_unwind;

use e2e::Result;

/// Runs two functions side by side; returns the results of both.
///
/// # Errors
/// The error of the second function, otherwise that of the first, when both have ended.
pub fn together<A: Send, B>(
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    std::thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        let first = first.join().unwrap_or_else(|panic| resume_unwind(panic));
        let second = second?;
        Ok((first?, second))
    })
}
