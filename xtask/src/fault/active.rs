//! The faults that were done to a lab, by number, until each is healed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use e2e_contract::Fault;

use super::injection::{Injection, Observed};
use crate::error::Error;
use crate::lab::{Container, Lab};

/// Every fault of one lab.
#[derive(Debug)]
pub struct ActiveFaults {
    lab: Arc<Lab>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    /// Each behind a lock of its own: faults on two machines begin and end side by side.
    injected: BTreeMap<u64, Arc<Mutex<Injection>>>,
}

/// A fault that was just seen to be gone.
#[derive(Debug, Clone)]
pub struct HealedFault {
    /// Its number.
    pub number: u64,
    /// What it was done to.
    pub container: Container,
    /// What it was.
    pub fault: Fault,
    /// What was seen.
    pub observed: Observed,
}

impl ActiveFaults {
    /// None yet.
    #[must_use]
    pub fn new(lab: Arc<Lab>) -> Self {
        Self { lab, state: Mutex::default() }
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Injects a fault into a container; the answer has its number, from 1.
    ///
    /// # Errors
    /// Those of [`Injection::inject`].
    pub fn inject(&self, container: &Container, fault: &Fault) -> anyhow::Result<(u64, Observed)> {
        let (injection, observed) = Injection::inject(&self.lab, container, fault)?;
        let mut state = lock(&self.state);
        state.begun += 1;
        let number = state.begun;
        state.injected.insert(number, Arc::new(Mutex::new(injection)));
        Ok((number, observed))
    }

    /// Heals a fault, tells of it, and does again what a start of its container has undone of other faults. The second
    /// time nothing happens. The answer is what was seen, and whether it had lasted until then.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such fault; those of [`Injection::heal`].
    pub fn heal(&self, number: u64, tell: &dyn Fn(&HealedFault)) -> anyhow::Result<String> {
        let entry = lock(&self.state).injected.get(&number).cloned();
        let Some(entry) = entry else {
            return Err(Error::Usage(format!("there is no fault {number}")).into());
        };
        let mut injection = lock(&entry);
        if injection.is_healed() {
            return Ok(injection.heal(&self.lab)?.told());
        }
        let observed = injection.heal(&self.lab)?;
        let (container, fault) = (injection.container().clone(), injection.fault().clone());
        let starts = injection.starts_container();
        drop(injection);
        let told = observed.told();
        let healed = HealedFault { number, container, fault, observed };
        tell(&healed);
        if starts {
            self.restore_on(&healed.container.machine().name, Some(number))?;
        }
        Ok(told)
    }

    /// The numbers of all faults there ever were, the last first: the order in which they are healed.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        lock(&self.state).injected.keys().rev().copied().collect()
    }

    /// Whether a fault is on, or is being healed.
    #[must_use]
    pub fn any_is_on(&self) -> bool {
        let entries: Vec<_> = lock(&self.state).injected.values().map(Arc::clone).collect();
        entries.iter().any(|entry| match entry.try_lock() {
            Ok(injection) => !injection.is_healed(),
            Err(TryLockError::Poisoned(injection)) => !injection.into_inner().is_healed(),
            Err(TryLockError::WouldBlock) => true,
        })
    }

    /// Does the faults of a container again that its start has undone, but for one that was just healed.
    ///
    /// # Errors
    /// When one cannot be done again.
    pub fn restore_on(&self, container: &str, healed: Option<u64>) -> anyhow::Result<()> {
        let entries: Vec<_> = lock(&self.state).injected.iter().map(|(number, it)| (*number, Arc::clone(it))).collect();
        for (_, entry) in entries.iter().filter(|(number, _)| Some(*number) != healed) {
            let mut injection = lock(entry);
            if injection.container().machine().name == container {
                injection.restore(&self.lab)?;
            }
        }
        Ok(())
    }
}

/// A panic in another thread does not make these tables wrong: each change is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
