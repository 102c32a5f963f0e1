//! Lock for screenshots: one thread holds it at a time, and waiting for it has a deadline.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Interval at which a thread that waits for the lock checks whether it has to stop.
pub const STOP_POLL: Duration = Duration::from_millis(50);

/// Lock that one thread holds at a time while it takes a screenshot.
#[derive(Debug, Default)]
pub struct CaptureLock {
    taken: Mutex<bool>,
    given_back: Condvar,
}

/// Guard of a held [`CaptureLock`]; dropping it wakes the next thread.
pub struct CaptureGuard<'a>(&'a CaptureLock);

impl CaptureLock {
    /// Waits for the lock and takes it; `None` when `left` returns zero or `stop` returns true.
    pub fn take(&self, left: &dyn Fn() -> Duration, stop: &dyn Fn() -> bool) -> Option<CaptureGuard<'_>> {
        let mut taken = self.lock();
        while *taken {
            if left().is_zero() || stop() {
                return None;
            }
            let waited = self.given_back.wait_timeout(taken, left().min(STOP_POLL));
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken = true;
        Some(CaptureGuard(self))
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CaptureGuard<'_> {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_nobody_waits_for_ever() {
        let capture_lock = CaptureLock::default();
        let (none, much) = (|| Duration::ZERO, || Duration::MAX);
        let first = capture_lock.take(&none, &|| false).expect("it is free");
        assert!(capture_lock.take(&none, &|| false).is_none(), "its time is over");
        assert!(capture_lock.take(&much, &|| true).is_none(), "it is told to stop");
        std::thread::scope(|scope| {
            let second = scope.spawn(|| capture_lock.take(&much, &|| false).is_some());
            drop(first);
            assert!(second.join().unwrap(), "it is handed on");
        });
    }
}
