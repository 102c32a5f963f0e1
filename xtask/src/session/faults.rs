//! The faults of a session: from a scenario's request, or the scenario's end, to what was observed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use e2e_contract::{ErrorCode, Fault, FaultHeal, FaultInject, Healed, Injected, RpcError};

use crate::error::Error;
use crate::fault::{Injection, Observed, Planned, Stage};
use crate::lab::{Container, Lab, Outage};
use crate::record::{CaseId, Event, FaultObserved, Recorder, milliseconds};

/// Every fault of one session.
pub struct Faults {
    case: CaseId,
    lab: Arc<Lab>,
    recorder: Arc<Recorder>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: u64,
    injected: BTreeMap<u64, Entry>,
}

/// One fault.
#[derive(Clone)]
struct Entry {
    // Behind a lock of its own: faults on two machines begin and end side by side.
    injection: Arc<Mutex<Injection>>,
    /// Its number in the schedule, where it comes from there.
    scheduled: Option<u32>,
}

impl Faults {
    pub fn new(case: CaseId, lab: Arc<Lab>, recorder: Arc<Recorder>) -> Self {
        Self { case, lab, recorder, state: Mutex::default() }
    }

    /// Injects a fault into a container.
    pub fn inject(
        &self,
        container: &Container,
        request: &FaultInject,
        scheduled: Option<u32>,
    ) -> anyhow::Result<Injected> {
        let (injection, observed) = Injection::inject(&self.lab, container, &request.fault)?;
        let number = {
            let mut state = lock(&self.state);
            state.begun += 1;
            let number = state.begun;
            state.injected.insert(number, Entry { injection: Arc::new(Mutex::new(injection)), scheduled });
            number
        };
        let names = Names { number, scheduled, container, fault: &request.fault };
        self.recorder.record(Event::FaultInjected(self.observed(&names, &observed)));
        Ok(Injected { fault: number, evidence: observed.evidence })
    }

    /// Heals a fault; the second time nothing happens.
    pub fn heal(&self, request: FaultHeal) -> anyhow::Result<Healed> {
        let entry = lock(&self.state).injected.get(&request.fault).cloned();
        let Some(entry) = entry else {
            return Err(Error::Usage(format!("there is no fault {}", request.fault)).into());
        };
        Ok(Healed { evidence: self.heal_one(request.fault, &entry)? })
    }

    /// Heals what the scenario has left, the last first; the answer is what could not be healed.
    pub fn heal_all(&self) -> Vec<String> {
        let heal = |(number, entry): (u64, Entry)| self.heal_one(number, &entry).err();
        self.entries().into_iter().rev().filter_map(heal).map(|error| format!("{error:#}")).collect()
    }

    fn entries(&self) -> Vec<(u64, Entry)> {
        lock(&self.state).injected.iter().map(|(number, entry)| (*number, entry.clone())).collect()
    }

    fn heal_one(&self, number: u64, entry: &Entry) -> anyhow::Result<String> {
        let mut injection = lock(&entry.injection);
        if injection.is_healed() {
            return Ok(injection.heal(&self.lab)?.evidence);
        }
        let observed = injection.heal(&self.lab)?;
        let container = injection.container().clone();
        let (description, starts) = (injection.fault().clone(), injection.starts_container());
        drop(injection);
        let names = Names { number, scheduled: entry.scheduled, container: &container, fault: &description };
        self.recorder.record(Event::FaultHealed(self.observed(&names, &observed)));
        if starts {
            self.restore_on(&container.machine().name, number)?;
        }
        Ok(observed.evidence)
    }

    fn observed(&self, names: &Names<'_>, observed: &Observed) -> FaultObserved {
        FaultObserved {
            case: self.case.clone(),
            fault: names.number,
            scheduled: names.scheduled,
            container: names.container.machine().name.clone(),
            description: names.fault.clone(),
            before: observed.before.clone(),
            evidence: observed.evidence.clone(),
            duration_ms: milliseconds(observed.duration),
        }
    }

    /// A container was started again: its other faults go on.
    fn restore_on(&self, container: &str, healed: u64) -> anyhow::Result<()> {
        for (_, entry) in self.entries().iter().filter(|(number, _)| *number != healed) {
            let mut injection = lock(&entry.injection);
            if injection.container().machine().name == container {
                injection.restore(&self.lab)?;
            }
        }
        Ok(())
    }
}

impl Stage for Faults {
    fn inject(&self, planned: &Planned) -> anyhow::Result<(u64, String)> {
        let Some(container) = self.lab.container(&planned.container) else {
            return Err(Error::Usage(format!("there is no container {}", planned.container)).into());
        };
        let request = FaultInject { container: planned.container.clone(), fault: planned.fault.clone() };
        let injected = Self::inject(self, container, &request, Some(planned.number))?;
        Ok((injected.fault, injected.evidence))
    }

    fn heal(&self, fault: u64) -> anyhow::Result<String> {
        Ok(Self::heal(self, FaultHeal { fault })?.evidence)
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

/// What a fault is called.
struct Names<'a> {
    number: u64,
    scheduled: Option<u32>,
    container: &'a Container,
    fault: &'a Fault,
}

/// The answer to a request about a fault that failed.
pub fn refusal(error: &anyhow::Error) -> Option<RpcError> {
    let outage = error.chain().any(<dyn std::error::Error>::is::<Outage>);
    let code = match error.chain().find_map(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::Usage(_)) => ErrorCode::InvalidParams,
        _ if outage => ErrorCode::Unavailable,
        _ => return None,
    };
    Some(RpcError::new(code, format!("{error:#}")))
}

/// A panic in another thread does not make these tables wrong: each change is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
