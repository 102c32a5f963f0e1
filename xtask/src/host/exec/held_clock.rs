//! Clock that can be held, so that deadlines by it do not go on while a person examines a failure.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Clock that runs until it is held, and again when it is let go.
#[derive(Debug, Default)]
pub struct HeldClock {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held_since: Option<Instant>,
    /// Total time of earlier holds.
    held: Duration,
    /// True while all deadlines that go by the clock count as passed, whatever time it is.
    is_over: bool,
}

/// Stopwatch that goes by a [`HeldClock`]: it stands still while the clock is held.
#[derive(Debug, Clone)]
pub struct Stopwatch {
    clock: Arc<HeldClock>,
    begun: Instant,
    held_then: Duration,
}

impl HeldClock {
    /// Holds the clock; does nothing where it is held already.
    pub fn hold(&self) {
        self.state().held_since.get_or_insert_with(Instant::now);
    }

    /// Lets the clock go on.
    pub fn let_go(&self) {
        let mut state = self.state();
        if let Some(since) = state.held_since.take() {
            state.held += since.elapsed();
        }
    }

    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state().held_since.is_some()
    }

    /// Returns the total time for which the clock was held, until now.
    #[must_use]
    pub fn held(&self) -> Duration {
        let state = self.state();
        state.held + state.held_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Makes all deadlines that go by this clock expire, now and until [`HeldClock::begin_anew`].
    pub fn end(&self) {
        self.state().is_over = true;
    }

    /// Ends the effect of [`HeldClock::end`]: deadlines that go by this clock count again.
    pub fn begin_anew(&self) {
        self.state().is_over = false;
    }

    /// Tells whether all deadlines that go by this clock have passed, because of [`HeldClock::end`].
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Starts a stopwatch that goes by this clock.
    #[must_use]
    pub fn watch(self: &Arc<Self>) -> Stopwatch {
        Stopwatch { clock: Arc::clone(self), begun: Instant::now(), held_then: self.held() }
    }

    /// Locks the clock's state, also after a panic of another thread: no change is ever left half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stopwatch {
    /// Returns the time for which the clock has run since the stopwatch was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.was_held())
    }

    /// Returns the time for which the clock was held since the stopwatch was started.
    #[must_use]
    pub fn was_held(&self) -> Duration {
        self.clock.held().saturating_sub(self.held_then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_clock_stands_still() {
        const HOLD: Duration = Duration::from_millis(80);
        let clock = Arc::new(HeldClock::default());
        clock.hold();
        clock.let_go();
        let (watch, begun) = (clock.watch(), Instant::now());
        clock.hold();
        clock.hold();
        std::thread::sleep(HOLD); // time that must not count
        let held = watch.elapsed();
        assert!(clock.is_held() && held < begun.elapsed().saturating_sub(HOLD / 2), "{held:?}");
        clock.let_go();
        clock.let_go();
        assert!(watch.was_held() >= HOLD && !clock.is_held());
        std::thread::sleep(Duration::from_millis(5)); // time that counts
        assert!(watch.elapsed() >= held + Duration::from_millis(5));
    }
}
