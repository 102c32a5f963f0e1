//! The faults of a session: from a scenario's request, or the scenario's end, to what was observed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use e2e_contract::{ErrorCode, Fault, FaultHeal, FaultInject, Healed, Injected, RpcError};

use super::blame::{Evidence, EvidenceLog};
use crate::error::Error;
use crate::fault::{ActiveFaults, HealedFault, Observed, Planned, Reboots, Stage};
use crate::lab::{Container, Lab, Outage};
use crate::record::{CaseId, Event, FaultObserved, Recorder, milliseconds};

/// Every fault of one session.
pub struct Faults {
    case: CaseId,
    active: ActiveFaults,
    recorder: Arc<Recorder>,
    evidence: Arc<EvidenceLog>,
    /// Numbers in the schedule, by the fault's own, of those that come from there.
    scheduled: Mutex<BTreeMap<u64, u32>>,
}

impl Faults {
    pub fn new(case: CaseId, lab: Arc<Lab>, recorder: Arc<Recorder>, evidence: Arc<EvidenceLog>) -> Self {
        Self { case, active: ActiveFaults::new(lab), recorder, evidence, scheduled: Mutex::default() }
    }

    /// Injects a fault into a container.
    pub fn inject(
        &self,
        container: &Container,
        request: &FaultInject,
        scheduled: Option<u32>,
    ) -> anyhow::Result<Injected> {
        let (number, observed) = self.active.inject(container, &request.fault)?;
        if let Some(scheduled) = scheduled {
            self.scheduled.lock().unwrap_or_else(PoisonError::into_inner).insert(number, scheduled);
        }
        self.recorder.record(Event::FaultInjected(self.observed(number, container, &request.fault, &observed)));
        Ok(Injected { fault: number, evidence: observed.evidence })
    }

    /// Heals a fault; the second time nothing happens.
    pub fn heal(&self, request: FaultHeal) -> anyhow::Result<Healed> {
        let evidence = self.active.heal(request.fault, &|healed: &HealedFault| {
            let HealedFault { number, container, fault, observed } = healed;
            self.recorder.record(Event::FaultHealed(self.observed(*number, container, fault, observed)));
        })?;
        Ok(Healed { evidence })
    }

    /// Does the faults of a container again that its own reboot has undone, as soon as it runs programs.
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
            self.evidence.push(Evidence::Host(format!("after a reboot of {name}: {error:#}")));
        }
    }

    /// Heals what the scenario has left, the last first; the answer is what could not be healed.
    pub fn heal_all(&self) -> Vec<String> {
        let heal = |fault: u64| self.heal(FaultHeal { fault }).err();
        self.active.numbers().into_iter().filter_map(heal).map(|error| format!("{error:#}")).collect()
    }

    fn observed(&self, number: u64, container: &Container, fault: &Fault, observed: &Observed) -> FaultObserved {
        FaultObserved {
            case: self.case.clone(),
            fault: number,
            scheduled: self.scheduled.lock().unwrap_or_else(PoisonError::into_inner).get(&number).copied(),
            container: container.machine().name.clone(),
            description: fault.clone(),
            before: observed.before.clone(),
            evidence: observed.evidence.clone(),
            duration_ms: milliseconds(observed.duration),
        }
    }
}

impl Stage for Faults {
    fn inject(&self, planned: &Planned) -> anyhow::Result<(u64, String)> {
        let Some(container) = self.active.lab().container(&planned.container) else {
            return Err(Error::Usage(format!("there is no container {}", planned.container)).into());
        };
        let request = FaultInject { container: planned.container.clone(), fault: planned.fault.clone() };
        let injected = Self::inject(self, container, &request, Some(planned.number))?;
        Ok((injected.fault, injected.evidence))
    }

    fn heal(&self, fault: u64) -> anyhow::Result<String> {
        Ok(Self::heal(self, FaultHeal { fault })?.evidence)
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

/// The answer to a request about a fault that failed.
pub fn refusal(error: &anyhow::Error) -> Option<RpcError> {
    let outage = error.chain().any(|cause| cause.is::<Outage>() || cause.is::<Reboots>());
    let code = match error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::Usage(_)) => ErrorCode::InvalidParams,
        _ if outage => ErrorCode::Unavailable,
        _ => return None,
    };
    Some(RpcError::new(code, format!("{error:#}")))
}
