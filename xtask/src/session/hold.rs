//! Pause of a session at its first failure: requests wait until the person who looks at the case continues it or gives it up.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e_contract::{Done, ErrorCode, RpcError};

use super::spec::Stopped;
use super::state::{Answer, Session};
use crate::record::{Event, Onward, milliseconds};

/// Interval at which a waiting request checks whether the pause is over.
const HELD_POLL: Duration = Duration::from_millis(20);

impl Session {
    /// Files a failed check as evidence, the first one as the scenario's failure, and pauses the case like [`Session::stop_at`].
    pub(super) fn fail_check(&self, message: &str) -> Answer<Done> {
        self.file_failure(|seen| {
            seen.failed_check.get_or_insert_with(|| message.to_owned());
        });
        self.stop_at(message)
    }

    /// Pauses the case at its first failure, if the run has a breakpoint, until a person has decided. If the case is given up, the failed
    /// request gets no answer before the session ends.
    pub(super) fn stop_at(&self, reason: &str) -> Answer<Done> {
        let Some(breakpoint) = &self.spec.breakpoint else { return Ok(Done {}) };
        if self.shall_stop() || self.stopped.swap(true, Ordering::SeqCst) {
            return self.wait_while_held().map(|()| Done {});
        }
        let begun = Instant::now();
        self.lab.clock().hold();
        self.wait_until_still();
        let (case, reason) = (&self.spec.case, &*self.recorder.masks().text(reason));
        self.recorder.record(Event::Held { case: case.clone(), reason: reason.to_owned() });
        let onward = breakpoint.stop(&Stopped { case, reason, lab: &self.lab });
        if onward == Onward::GiveUp {
            self.given_up.store(true, Ordering::SeqCst);
        }
        let duration_ms = milliseconds(begun.elapsed());
        self.recorder.record(Event::Released { case: case.clone(), onward, duration_ms });
        self.lab.clock().let_go();
        self.wait_while_held().map(|()| Done {})
    }

    /// Tells whether the person at the breakpoint gave the case up.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// Waits, after the scenario's end, until a pause is over, because the scenario may have ended during it.
    pub fn wait_for_release(&self) {
        while self.lab.clock().is_held() && !self.shall_stop() {
            std::thread::sleep(HELD_POLL); // no condition: the session has nothing else to do
        }
    }

    /// Waits while the case is paused. In a case that was given up, waits until the session is closed and returns an error.
    pub(super) fn wait_while_held(&self) -> Answer<()> {
        while (self.lab.clock().is_held() || self.is_given_up()) && !self.is_closed() {
            std::thread::sleep(HELD_POLL); // no condition: a request has nothing else to do
        }
        if self.is_given_up() { Err(RpcError::new(ErrorCode::Interrupted, "the case was given up")) } else { Ok(()) }
    }
}
