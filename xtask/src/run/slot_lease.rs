//! Lease of the slot for a run's labs: starts the slot's guard when it is first needed, and again if the guard was killed.

use std::sync::Arc;

use super::lab_check::{LabCheckError, check_lab};
use super::options::CaseContext;
use crate::error::{Error, HostCause};
use crate::guard::{Guard, Holder, Slot, Wait};
use crate::image::ids_of;
use crate::record::{Event, Outcome};

/// Lease of the slot for a run's labs.
pub(super) struct SlotLease<'a> {
    context: &'a CaseContext<'a>,
    state: State,
    failures: Vec<String>,
    labs: Labs,
}

/// Evidence so far of whether this host can run labs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Labs {
    /// No lab has become ready in this run so far.
    Untried,
    /// A lab has become ready in this run, so a later failure does not affect every case.
    Possible,
}

enum State {
    /// The run does not hold the slot.
    Free,
    /// This guard holds the slot for the run.
    Held(Arc<Guard>),
    /// A lab is kept in the slot after the run, so no other lab can be created there.
    Kept,
}

impl<'a> SlotLease<'a> {
    pub fn new(context: &'a CaseContext<'a>) -> Self {
        Self { context, state: State::Free, failures: Vec::new(), labs: Labs::Untried }
    }

    /// Returns the guard that holds the slot; starts one if needed, and waits if another run holds the slot.
    pub fn guard(&mut self) -> anyhow::Result<Arc<Guard>> {
        if let State::Held(guard) = &self.state
            && !guard.is_gone()
        {
            return Ok(Arc::clone(guard));
        }
        self.release();
        let guard = Arc::new(self.start()?);
        self.state = State::Held(Arc::clone(&guard));
        Ok(guard)
    }

    /// Records that a lab has become ready.
    pub fn had_lab(&mut self) {
        self.labs = Labs::Possible;
    }

    /// Adds to an infrastructure error the cause that would make every case fail, if no lab has become ready before and even the smallest
    /// lab cannot be created. The smallest lab is tried once per run.
    pub fn explain(&mut self, outcome: Outcome) -> Outcome {
        let Outcome::Infrastructure { message, host_cause: None, failed_check } = &outcome else { return outcome };
        if self.labs == Labs::Possible || self.context.interrupt.is_set() {
            return outcome;
        }
        self.labs = Labs::Possible;
        let project = self.context.project;
        match check_lab(project.network, &ids_of(project)) {
            Err(LabCheckError::Failed(error)) => {
                let host_cause = HostCause::of(&error).unwrap_or(HostCause::Lab);
                let message = format!("{message}\n{}: {error:#}", HostCause::Lab.problem());
                let failed_check = failed_check.clone();
                Outcome::Infrastructure { message, host_cause: Some(host_cause), failed_check }
            }
            Ok(_) | Err(LabCheckError::NotTried(_)) => outcome,
        }
    }

    /// Tells whether a lab is kept in the slot.
    pub fn is_kept(&self) -> bool {
        matches!(self.state, State::Kept)
    }

    /// Keeps the current lab in the slot after the run.
    pub fn keep(&mut self) -> anyhow::Result<()> {
        if let State::Held(guard) = &self.state {
            guard.keep(self.context.options.stay)?;
            self.state = State::Kept;
        }
        Ok(())
    }

    /// Takes down the current lab, and keeps the slot for the next one.
    pub fn clear(&mut self) {
        if let State::Held(guard) = &self.state
            && let Err(error) = guard.reset()
        {
            self.fail(&error);
            // A guard that could not clean up is not used again: the next one tries what is left.
            self.state = State::Free;
        }
    }

    /// Takes down the current lab and releases the slot.
    pub fn release(&mut self) {
        if let State::Held(guard) = std::mem::replace(&mut self.state, State::Free)
            && let Err(error) = guard.down()
        {
            self.fail(&error);
        }
    }

    /// Releases the slot unless a lab is kept in it; returns a sentence for each failed cleanup of the run.
    pub fn end(mut self) -> Vec<String> {
        if !self.is_kept() {
            self.release();
        }
        self.failures
    }

    fn fail(&mut self, error: &anyhow::Error) {
        let message = format!("cleaning up slot {}: {error:#}", self.context.options.slot);
        self.context.recorder.record(Event::Warning { message: message.clone() });
        self.failures.push(message);
    }

    fn start(&self) -> anyhow::Result<Guard> {
        let context = self.context;
        let waiting = |reason: String| context.recorder.record(Event::Waiting { reason });
        let purpose = format!("run {}", context.dir.run_id());
        let slot = Slot::named(&context.options.slot);
        take(&slot, &purpose, context.options.wait, &waiting, &|| context.interrupt.is_set())
    }
}

/// Starts the guard of a slot; if another process holds the slot, reports to `waiting` what it waits for.
///
/// # Errors
/// [`Error::Host`] when the slot has a kept lab, or its holder is stopped and can never end by itself.
pub(super) fn take(
    slot: &Slot,
    purpose: &str,
    wait: Wait,
    waiting: &dyn Fn(String),
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<Guard> {
    let name = slot.name().to_owned();
    let tell = |holder: &Holder| {
        if holder.is_kept() {
            return Err(Error::Host {
                problem: format!("slot {name} holds a lab: {holder}"),
                help: format!(
                    "remove the lab with `cargo xtask down --slot {name}`, or use another slot with --slot N"
                ),
            }
            .into());
        }
        if holder.is_stuck() {
            return Err(Error::Host {
                problem: format!("slot {name} is held by {holder}, whose engine has ended"),
                help: format!("`cargo xtask clean --slot {name}` ends it and removes its leftovers"),
            }
            .into());
        }
        waiting(format!(
            "slot {name} is held by {holder}; --no-wait fails instead of waiting, --slot N uses another slot"
        ));
        Ok(())
    };
    Guard::start(slot.clone(), purpose, wait, tell, interrupted)
}
