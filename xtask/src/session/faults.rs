//! Faults of a session, each from its request to the observations when it is healed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use e2e_contract::{Fault, FaultHeal, Healed, Injected};

use super::blame::{self, Blame, Evidence, EvidenceLog};
use crate::error::Error;
use crate::fault::{ActiveFaults, FaultError, FaultFailure, Keeper, Lasted, Observed, Planned, RecoveryTime, Stage};
use crate::lab::{Container, Lab};
use crate::record::{CaseId, Event, FaultLasted, FaultObserved, LastedState, Recorder, milliseconds};

/// All faults of a session, whether requested by the scenario or scheduled.
pub struct Faults {
    case: CaseId,
    pub(super) active: ActiveFaults,
    recorder: Arc<Recorder>,
    evidence: Arc<EvidenceLog>,
    /// Maximum time for a machine to become ready again after a scheduled fault.
    recovery: Duration,
    /// Numbers of the scheduled faults in the schedule, by their numbers in the case.
    scheduled: Mutex<BTreeMap<u64, u32>>,
}

impl Faults {
    /// Creates the faults of a session; `recovery` is the maximum time for a machine to become ready again after a scheduled fault.
    pub fn new(
        case: CaseId,
        lab: Arc<Lab>,
        recorder: Arc<Recorder>,
        evidence: Arc<EvidenceLog>,
        recovery: Duration,
    ) -> Self {
        Self { case, active: ActiveFaults::new(lab), recorder, evidence, recovery, scheduled: Mutex::default() }
    }

    /// Injects a fault into a container: a scheduled one if `scheduled` is given, with a function that returns the milliseconds since the
    /// chaos began; else one that the scenario requested.
    pub fn inject(
        &self,
        container: &Container,
        fault: &Fault,
        scheduled: Option<(&Planned, &dyn Fn() -> u64)>,
    ) -> Result<Injected, FaultError> {
        let (number, observed) = self.active.inject(container, fault)?;
        let mut event = self.observed(number, &observed);
        if let Some((planned, now_ms)) = scheduled {
            self.scheduled.lock().unwrap_or_else(PoisonError::into_inner).insert(number, planned.number);
            event.scheduled = Some(planned.number);
            event.planned_ms = Some(planned.at_ms);
            event.late_ms = Some(now_ms().saturating_sub(planned.at_ms));
        }
        self.recorder.record(Event::FaultInjected(event));
        Ok(Injected { fault: number, evidence: observed.evidence })
    }

    /// Heals a fault and waits until its machine is ready again; a second call does nothing.
    pub fn heal(&self, request: FaultHeal, stop: &dyn Fn() -> bool) -> Result<Healed, FaultError> {
        let healed = self.active.heal(request.fault, &self.teller(), RecoveryTime::Probes, stop);
        Ok(Healed { evidence: self.judged(healed)?.told() })
    }

    /// Returns a function that records the healing of a fault with a given number in the case.
    fn teller(&self) -> impl Fn(u64, &Observed) {
        |number, healed| {
            self.file_lost(healed);
            self.recorder.record(Event::FaultHealed(self.observed(number, healed)));
        }
    }

    /// Returns the result unchanged; if a machine did not become ready again after a fault, files evidence of that.
    fn judged<T>(&self, recovered: Result<T, FaultError>) -> Result<T, FaultError> {
        recovered.inspect_err(|error| {
            if let FaultFailure::NotReady(wait) = &error.kind
                && let Some(not_ready) = self.active.lab().diagnose(wait)
            {
                let message = format!("{error}{}", not_ready.diagnosis);
                self.evidence.push(Evidence::NotRecovered { not_ready: Box::new(not_ready), message });
            }
        })
    }

    /// Injects the faults of a rebooted container again, as soon as it runs programs, because the reboot has undone them.
    pub fn restore_after_reboot(&self, container: &Container) {
        let name = &container.machine().name;
        let (lab, reboots) = (self.active.lab(), container.reboots());
        let restored = lab.wait_until_it_runs(container).and_then(|()| self.active.restore_on(name, None));
        container.notice_end();
        // After another reboot there is another try.
        if let Err(error) = restored
            && !container.is_dead()
            && !lab.has_rebooted_since(container, reboots)
            && !container.is_dead()
        {
            self.evidence
                .push(Evidence::Host(format!("injecting the faults again after a reboot of {name}: {error:#}")));
        }
    }

    /// Heals the faults that the scenario has left active, the last first, and waits until machines that they had taken down are ready;
    /// returns the failures to heal.
    pub fn heal_all(&self, stop: &dyn Fn() -> bool) -> Vec<String> {
        let numbers = self.active.numbers();
        let taken_back = numbers.iter().map(|fault| self.active.take_back(*fault, &self.teller()));
        let unhealed = taken_back.filter_map(Result::err).map(|error| error.to_string()).collect();
        for fault in numbers {
            let recovered = self.active.recover(fault, &self.teller(), RecoveryTime::Probes, stop);
            let _ = self.judged(recovered); // that is evidence of its own
        }
        unhealed
    }

    /// Files evidence for a fault that had ended before it was healed, if the host is to blame.
    fn file_lost(&self, Observed { container, fault, lasted, .. }: &Observed) {
        let Some(lasted @ Lasted::Lost { keeper, .. }) = lasted else { return };
        if blame::of_lost_fault(*keeper) == Some(Blame::Host) {
            let name = &container.machine().name;
            self.evidence.push(Evidence::Host(format!("fault {} on {name} {lasted}", fault.name())));
        }
    }

    fn observed(&self, number: u64, observed: &Observed) -> FaultObserved {
        FaultObserved {
            case: self.case.clone(),
            fault: number,
            scheduled: self.scheduled.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied(),
            container: observed.container.machine().name.clone(),
            description: observed.fault.clone(),
            before: observed.before.clone(),
            evidence: observed.evidence.clone(),
            lasted: observed.lasted.as_ref().map(recorded),
            planned_ms: None,
            late_ms: None,
            duration_ms: milliseconds(observed.duration),
        }
    }
}

/// Converts the result of the verification that a fault lasted to the record's form.
fn recorded(lasted: &Lasted) -> FaultLasted {
    let (state, detail) = match lasted {
        Lasted::UntilNow { evidence } => (LastedState::UntilNow, evidence.clone()),
        Lasted::Lost { instead, keeper: Keeper::Host } => (LastedState::LostOnHost, instead.clone()),
        Lasted::Lost { instead, keeper: Keeper::Container } => (LastedState::LostInContainer, instead.clone()),
        Lasted::Over { reason } => (LastedState::Over, reason.clone()),
        Lasted::NotSeen { reason } => (LastedState::NotSeen, reason.clone()),
        Lasted::Momentary => (LastedState::Over, lasted.to_string()),
    };
    FaultLasted { state, detail }
}

impl Stage for Faults {
    fn inject(&self, planned: &Planned, now_ms: &dyn Fn() -> u64) -> Result<(u64, String), FaultError> {
        let Some(container) = self.active.lab().container(&planned.container) else {
            return Err(Error::Usage(format!("the lab has no container {}", planned.container)).into());
        };
        let injected = self.inject(container, &planned.fault, Some((planned, now_ms)))?;
        Ok((injected.fault, injected.evidence))
    }

    fn heal(&self, fault: u64) -> Result<String, FaultError> {
        Ok(self.active.take_back(fault, &self.teller())?.told())
    }

    /// Waits until the machine of a fault is ready again. Only a machine that was down is judged here; the others are judged at the end of
    /// the chaos.
    fn recover(&self, planned: &Planned, fault: u64, stop: &dyn Fn() -> bool) -> Result<Option<String>, FaultError> {
        let seen = self.judged(self.active.recover(fault, &self.teller(), RecoveryTime::Alone(self.recovery), stop))?;
        if let (None, Some(container)) = (&seen, self.active.lab().container(&planned.container)) {
            let _ = self.active.lab().wait_until_ready_again(container, Some(self.recovery), stop);
        }
        Ok(seen.map(|recovered| recovered.told()))
    }

    fn failed(&self, planned: &Planned, reason: &str) {
        let target = self.active.lab().container(&planned.container);
        target.iter().for_each(|container| container.notice_end());
        // Where its machine has ended, that is the evidence.
        if !target.is_some_and(Container::is_dead) {
            self.evidence.push(Evidence::Host(format!("fault {} of the schedule: {reason}", planned.number)));
        }
    }

    fn refused(&self, planned: &Planned, reason: &str) {
        self.recorder.record(Event::FaultRefused {
            case: self.case.clone(),
            scheduled: planned.number,
            container: planned.container.clone(),
            description: planned.fault.clone(),
            reason: reason.to_owned(),
        });
    }
}
