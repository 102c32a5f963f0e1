//! The faults of a session: from a scenario's request, or the scenario's end, to what was observed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use e2e_contract::{ErrorCode, Fault, FaultHeal, FaultInject, Healed, Injected, RpcError};

use crate::error::Error;
use crate::fault::{Injection, Observed};
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
    // Each behind a lock of its own: faults on two machines begin and end side by side.
    injected: BTreeMap<u64, Arc<Mutex<Injection>>>,
}

impl Faults {
    pub fn new(case: CaseId, lab: Arc<Lab>, recorder: Arc<Recorder>) -> Self {
        Self { case, lab, recorder, state: Mutex::default() }
    }

    /// Injects a fault into a container.
    pub fn inject(&self, container: &Container, request: &FaultInject) -> anyhow::Result<Injected> {
        let (injection, observed) = Injection::inject(&self.lab, container, &request.fault)?;
        let number = {
            let mut state = lock(&self.state);
            state.begun += 1;
            let number = state.begun;
            state.injected.insert(number, Arc::new(Mutex::new(injection)));
            number
        };
        self.recorder.record(Event::FaultInjected(self.observed(number, container, &request.fault, &observed)));
        Ok(Injected { fault: number, evidence: observed.evidence })
    }

    /// Heals a fault; the second time nothing happens.
    pub fn heal(&self, request: FaultHeal) -> anyhow::Result<Healed> {
        let injection = lock(&self.state).injected.get(&request.fault).cloned();
        let Some(injection) = injection else {
            return Err(Error::Usage(format!("there is no fault {}", request.fault)).into());
        };
        Ok(Healed { evidence: self.heal_one(request.fault, &injection)? })
    }

    /// Heals what the scenario has left, the last first; the answer is what could not be healed.
    pub fn heal_all(&self) -> Vec<String> {
        let injected: Vec<_> = lock(&self.state).injected.iter().map(|(n, it)| (*n, Arc::clone(it))).collect();
        let heal = |(number, injection): &(u64, Arc<Mutex<Injection>>)| self.heal_one(*number, injection).err();
        injected.iter().rev().filter_map(heal).map(|error| format!("{error:#}")).collect()
    }

    fn heal_one(&self, number: u64, injection: &Mutex<Injection>) -> anyhow::Result<String> {
        let mut injection = lock(injection);
        if injection.is_healed() {
            return Ok(injection.heal(&self.lab)?.evidence);
        }
        let observed = injection.heal(&self.lab)?;
        let container = injection.container().clone();
        let (description, starts) = (injection.fault().clone(), injection.starts_container());
        drop(injection);
        self.recorder.record(Event::FaultHealed(self.observed(number, &container, &description, &observed)));
        if starts {
            self.restore_on(&container.machine().name, number)?;
        }
        Ok(observed.evidence)
    }

    fn observed(&self, number: u64, container: &Container, fault: &Fault, observed: &Observed) -> FaultObserved {
        FaultObserved {
            case: self.case.clone(),
            fault: number,
            container: container.machine().name.clone(),
            description: fault.clone(),
            before: observed.before.clone(),
            evidence: observed.evidence.clone(),
            duration_ms: milliseconds(observed.duration),
        }
    }

    /// A container was started again: its other faults go on.
    fn restore_on(&self, container: &str, healed: u64) -> anyhow::Result<()> {
        let injected: Vec<_> = lock(&self.state).injected.iter().map(|(n, it)| (*n, Arc::clone(it))).collect();
        for (_, injection) in injected.iter().filter(|(number, _)| *number != healed) {
            let mut injection = lock(injection);
            if injection.container().machine().name == container {
                injection.restore(&self.lab)?;
            }
        }
        Ok(())
    }
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
