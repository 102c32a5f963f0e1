//! Faults of one lab, by number, from their injection until each is healed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use e2e_contract::Fault;

use super::failure::{FaultError, FaultFailure};
use super::injection::{Injection, Observed};
use crate::error::Error;
use crate::lab::{Container, Lab, WaitError};

/// All faults that were injected into one lab.
#[derive(Debug)]
pub struct ActiveFaults {
    lab: Arc<Lab>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    begun: u64,
    /// Healed faults whose containers are not ready again yet, by number, each with the observation of its recovery.
    recovering: BTreeMap<u64, Observed>,
    /// Injections by number, each behind its own lock, so that faults on two machines begin and end side by side.
    injected: BTreeMap<u64, Arc<Mutex<Injection>>>,
}

/// Limit on the time in which the container of a healed fault has to become ready again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryTime {
    /// Deadlines of the container's own probes. A deadline that is missed while other faults are active is noted in the evidence and is no
    /// error: any of these faults may keep the machine from being ready.
    Probes,
    /// One deadline for all of the container's probes together; where the deadline passes while other faults are active, it starts again.
    Alone(Duration),
}

impl RecoveryTime {
    fn deadline(self) -> Option<Duration> {
        match self {
            Self::Probes => None,
            Self::Alone(time) => Some(time),
        }
    }
}

/// Callback for a fault whose recovery was just verified, with the fault's number.
pub type Tell<'a> = &'a dyn Fn(u64, &Observed);

impl ActiveFaults {
    #[must_use]
    pub fn new(lab: Arc<Lab>) -> Self {
        Self { lab, state: Mutex::default() }
    }

    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Injects a fault into a container; returns the fault's number in the lab, from 1, and the observation of its effect.
    pub fn inject(&self, container: &Container, fault: &Fault) -> Result<(u64, Observed), FaultError> {
        self.require_none_like(container, fault)?;
        let (injection, observed) = Injection::inject(&self.lab, container, fault)?;
        let mut state = lock(&self.state);
        state.begun += 1;
        let number = state.begun;
        state.injected.insert(number, Arc::new(Mutex::new(injection)));
        Ok((number, observed))
    }

    /// Heals a fault and waits until its container is ready again: [`ActiveFaults::take_back`], then [`ActiveFaults::recover`].
    pub fn heal(
        &self,
        number: u64,
        tell: Tell<'_>,
        time: RecoveryTime,
        stop: &dyn Fn() -> bool,
    ) -> Result<Observed, FaultError> {
        let healed = self.take_back(number, tell)?;
        Ok(self.recover(number, tell, time, stop)?.unwrap_or(healed))
    }

    /// Refuses a second fault that would undo the first without either noticing: damage to the same file, or flapping of the same port.
    fn require_none_like(&self, container: &Container, fault: &Fault) -> Result<(), Error> {
        if !undoes(fault, fault) {
            return Ok(());
        }
        let name = &container.machine().name;
        for (number, entry) in self.entries() {
            let Ok(other) = entry.try_lock() else { continue }; // it is just being healed
            if !other.is_healed() && other.container().machine().name == *name && undoes(fault, other.fault()) {
                let problem = format!(
                    "{fault} on {name}: it would undo the active fault {number} ({}): heal that fault first",
                    other.fault()
                );
                return Err(Error::Usage(problem));
            }
        }
        Ok(())
    }

    /// Heals a fault, and restores other faults that a restart of its container has undone; does nothing for a fault that is healed
    /// already. Returns the observation, with the result of the check that the effect had lasted. `tell` is called at once, or by
    /// [`ActiveFaults::recover`] where the container has to become ready again first.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such fault.
    pub fn take_back(&self, number: u64, tell: Tell<'_>) -> Result<Observed, FaultError> {
        let entry = lock(&self.state).injected.get(&number).cloned();
        let Some(entry) = entry else {
            return Err(Error::Usage(format!("no fault {number} was injected into this lab")).into());
        };
        let mut injection = lock(&entry);
        let was_healed = injection.is_healed();
        let healed = injection.heal(&self.lab)?;
        if was_healed {
            return Ok(healed);
        }
        let (starts, stops) = (injection.effect.starts_container(), injection.effect.stops_container());
        drop(injection);
        if stops {
            lock(&self.state).recovering.insert(number, healed.clone());
        } else {
            tell(number, &healed);
        }
        if starts {
            self.restore_on(&healed.container.machine().name, Some(number))?;
        }
        Ok(healed)
    }

    /// Waits until the container that a healed fault had stopped is ready again, and calls `tell`. Returns the observation; `None` where
    /// there is nothing to wait for.
    ///
    /// # Errors
    /// [`FaultFailure::NotReady`] where the container does not become ready although no other fault is active; `tell` is not called then.
    pub fn recover(
        &self,
        number: u64,
        tell: Tell<'_>,
        time: RecoveryTime,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Observed>, FaultError> {
        let Some(mut healed) = lock(&self.state).recovering.get(&number).cloned() else { return Ok(None) };
        let begun = Instant::now();
        let seen = loop {
            let before = self.on();
            match self.lab.wait_until_ready_again(&healed.container, time.deadline(), stop) {
                Ok(_) => break format!("ready again {:.1} s later", begun.elapsed().as_secs_f64()),
                Err(WaitError::Interrupted) => {
                    break "the wait until the container was ready again was interrupted".to_owned();
                }
                Err(error @ WaitError::Deadline { .. }) if before != self.on() || !before.1.is_empty() => {
                    if time == RecoveryTime::Probes {
                        break format!("not ready again while other faults were active: {error}");
                    }
                }
                Err(error) => {
                    lock(&self.state).recovering.remove(&number);
                    let message = format!(
                        "after the healing of {} on {}: {error}",
                        healed.fault,
                        healed.container.machine().name
                    );
                    return Err(FaultError::new(FaultFailure::NotReady(Box::new(error)), message));
                }
            }
        };
        healed.evidence = format!("{}; {seen}", healed.evidence);
        healed.duration += begun.elapsed();
        // Of two who wait, one tells.
        if lock(&self.state).recovering.remove(&number).is_some() {
            tell(number, &healed);
        }
        Ok(Some(healed))
    }

    /// Number of faults injected until now, and the numbers of the active ones.
    fn on(&self) -> (u64, Vec<u64>) {
        let begun = lock(&self.state).begun;
        let is_on = |entry: &Mutex<Injection>| match entry.try_lock() {
            Ok(injection) => !injection.is_healed(),
            Err(TryLockError::Poisoned(injection)) => !injection.into_inner().is_healed(),
            Err(TryLockError::WouldBlock) => true, // it is just being healed or done again
        };
        (begun, self.entries().iter().filter(|(_, entry)| is_on(entry)).map(|(number, _)| *number).collect())
    }

    /// All faults injected until now, healed ones too, by number.
    fn entries(&self) -> Vec<(u64, Arc<Mutex<Injection>>)> {
        lock(&self.state).injected.iter().map(|(number, entry)| (*number, Arc::clone(entry))).collect()
    }

    /// Numbers of all faults injected until now, the last first: the order in which they are healed.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        lock(&self.state).injected.keys().rev().copied().collect()
    }

    #[must_use]
    pub fn any_is_on(&self) -> bool {
        !self.on().1.is_empty()
    }

    /// Restores all faults of a container, except `healed`, that the container's start has undone.
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

/// Locks a mutex, also after a panic of another thread, which leaves no change of the data half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells whether `fault` changes what `other` has changed, so that the evidence of both is no longer valid.
fn undoes(fault: &Fault, other: &Fault) -> bool {
    match (fault, other) {
        (Fault::FileBitflip { path, offset, .. }, Fault::FileBitflip { path: of, offset: at, .. }) => {
            path == of && offset == at // each puts its own byte back
        }
        (
            Fault::FileBitflip { path, .. } | Fault::FileTruncate { path, .. },
            Fault::FileBitflip { path: of, .. } | Fault::FileTruncate { path: of, .. },
        ) => path == of,
        (Fault::NetFlap { .. }, Fault::NetFlap { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_one_file_undo_each_other_and_those_of_two_do_not() {
        let flip = |path: &str, bit| Fault::FileBitflip { path: path.into(), offset: 0, bit };
        let cut = Fault::FileTruncate { path: "/a".into(), size_bytes: 1 };
        let flap = |down_ms| Fault::NetFlap { down_ms, up_ms: 300 };
        assert!(
            undoes(&flip("/a", 0), &flip("/a", 0)) && undoes(&flip("/a", 1), &cut) && undoes(&flap(200), &flap(300))
        );
        let elsewhere = Fault::FileBitflip { path: "/a".into(), offset: 9, bit: 0 };
        assert!(!undoes(&flip("/a", 0), &elsewhere) && undoes(&elsewhere, &cut), "each flip puts its own byte back");
        assert!(!undoes(&flip("/a", 0), &flip("/b", 0)) && !undoes(&flap(200), &cut));
        assert!(!undoes(&Fault::MemoryOom, &Fault::MemoryOom), "what is over at once may be done again");
    }
}
