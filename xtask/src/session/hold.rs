//! A session that is held at its first failure: nothing goes on until somebody who looks at it says so.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e_contract::{Done, ErrorCode, RpcError};

use super::spec::Stopped;
use super::state::{Answer, Session};
use crate::record::{Event, Onward, milliseconds};

/// Interval at which a held request looks whether it may go on.
const HELD_POLL: Duration = Duration::from_millis(20);

impl Session {
    /// Files a failed check, of which the first is the scenario's failure, and holds the case as [`Session::stop_at`] does.
    pub(super) fn fail_check(&self, message: &str) -> Answer<Done> {
        self.file_failure(|seen| {
            seen.failed_check.get_or_insert_with(|| message.to_owned());
        });
        self.stop_at(message)
    }

    /// Holds the case at its first failure, where the run has a breakpoint, until somebody has looked at it. If they give the case up, the
    /// request that failed has no answer but the session's end.
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

    /// Returns true if the case was given up, and ends here.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }

    /// Waits, after the scenario's end, as long as somebody looks at its lab: a process that dies waits for no answer.
    pub fn wait_for_release(&self) {
        while self.lab.clock().is_held() && !self.shall_stop() {
            std::thread::sleep(HELD_POLL); // no condition: the session has nothing else to do
        }
    }

    /// Waits while the case is held; in a case that was given up, waits for the session's end and returns that it was.
    pub(super) fn wait_while_held(&self) -> Answer<()> {
        while (self.lab.clock().is_held() || self.is_given_up()) && !self.is_closed() {
            std::thread::sleep(HELD_POLL); // no condition: a request has nothing else to do
        }
        if self.is_given_up() { Err(RpcError::new(ErrorCode::Interrupted, "the case was given up")) } else { Ok(()) }
    }
}
