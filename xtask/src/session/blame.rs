//! Blame: whose failure an attempt is, decided here alone, from evidence in the order in which it was seen.

use std::sync::{Mutex, PoisonError};

use crate::fault::Keeper;
use crate::host::container::lxc::InitEnd;
use crate::lab::{Asked, MachineEnd, NotReady};

/// Signal that never comes from inside a container: its process 1 is protected from those of its own processes.
const SIGKILL: i32 = nix::libc::SIGKILL;

/// Party whose failure an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The product under test.
    Product,
    /// The host, LXC, or the engine: the product was not tested.
    Host,
    /// The image or the template: it names a program that is not there.
    Image,
}

/// Evidence that decides the outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The scenario failed: a check did not hold, it gave up, broke the protocol, or did not end as it should.
    Scenario,
    /// A machine ended by itself.
    MachineEnded(Box<MachineEnd>),
    /// A machine did not become ready again after a fault.
    NotRecovered {
        /// Diagnosis.
        not_ready: Box<NotReady>,
        /// Error and diagnosis, in words.
        message: String,
    },
    /// The host, the engine or a fault failed.
    Host(String),
}

/// Evidence of one attempt, in the order in which it was seen.
#[derive(Debug, Default)]
pub struct EvidenceLog(Mutex<Vec<Evidence>>);

impl EvidenceLog {
    /// Files a piece of evidence behind all earlier ones.
    pub fn push(&self, evidence: Evidence) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(evidence);
    }

    /// Returns all evidence so far.
    pub fn all(&self) -> Vec<Evidence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Blame for the unexpected end of a machine.
#[must_use]
pub fn of_end(end: &MachineEnd) -> Blame {
    match end.init {
        InitEnd::NotExecutable { .. } => Blame::Image,
        InitEnd::NotStarted | InitEnd::Unknown => Blame::Host,
        InitEnd::Signaled(SIGKILL) if end.out_of_memory != Some(true) => Blame::Host,
        InitEnd::Exited(_) | InitEnd::Signaled(_) => Blame::Product,
    }
}

/// Blame for a machine that was not ready before its deadline.
#[must_use]
pub fn of_not_ready(not_ready: &NotReady) -> Blame {
    match &not_ready.asked {
        Asked::No | Asked::Hangs | Asked::OffNetwork => Blame::Product,
        Asked::ProgramMissing { .. } => Blame::Image,
        Asked::Nothing | Asked::LayerDamaged { .. } => Blame::Host,
    }
}

/// Blame for a fault that was no longer on when it was healed, although its target lived and nobody had healed it.
///
/// Packet filters, queues, control groups, the freezer, tracers and devices are kept by the host, out of the product's reach: the
/// record said that it was on, so the attempt says nothing of the product. A fault that lies in the container (a stopped unit, a paused
/// process, a file, room on a volume, a clock) may be ended by the product itself, which is then what was tested: nobody is to
/// blame, and the record says that it had ended.
#[must_use]
pub fn of_lost_fault(keeper: Keeper) -> Option<Blame> {
    match keeper {
        Keeper::Host => Some(Blame::Host),
        Keeper::Container => None,
    }
}

/// Blame for a machine that did not become ready again after a fault. It had been ready, so its image lacks nothing.
#[must_use]
pub fn of_not_recovered(not_ready: &NotReady) -> Blame {
    match of_not_ready(not_ready) {
        Blame::Product | Blame::Image => Blame::Product,
        Blame::Host => Blame::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::DamagedLayer;

    #[test]
    fn an_end_is_the_products_unless_it_came_from_outside() {
        let check = |init: InitEnd, out_of_memory: Option<bool>, expected: Blame| {
            let end = MachineEnd::example(init, out_of_memory);
            assert_eq!(of_end(&end), expected, "{end}");
        };
        let missing = InitEnd::NotExecutable { program: "/app".into(), reason: "No such file or directory".into() };
        check(InitEnd::Exited(0), Some(false), Blame::Product);
        check(InitEnd::Exited(7), Some(false), Blame::Product);
        check(InitEnd::Signaled(2), Some(false), Blame::Product); // it powered itself off
        check(InitEnd::Signaled(11), Some(false), Blame::Product);
        check(InitEnd::Signaled(9), Some(true), Blame::Product);
        check(InitEnd::Signaled(9), Some(false), Blame::Host); // the host's OOM killer, or a person
        check(InitEnd::Signaled(9), None, Blame::Host); // the kernel's messages cannot be read
        check(InitEnd::Unknown, Some(false), Blame::Host); // lxc-start was killed, or the guard
        check(InitEnd::NotStarted, Some(false), Blame::Host);
        check(missing, Some(false), Blame::Image);
    }

    #[test]
    fn a_lost_fault_is_the_hosts_where_no_product_can_reach_it() {
        assert_eq!(of_lost_fault(Keeper::Host), Some(Blame::Host));
        assert_eq!(of_lost_fault(Keeper::Container), None);
    }

    #[test]
    fn a_machine_is_not_ready_by_its_products_fault_only_where_that_was_asked() {
        let check = |asked: Asked, expected: Blame| {
            let not_ready = NotReady { container: "a".into(), asked, diagnosis: String::new() };
            assert_eq!(of_not_ready(&not_ready), expected, "{not_ready:?}");
        };
        check(Asked::No, Blame::Product);
        check(Asked::Hangs, Blame::Product);
        check(Asked::OffNetwork, Blame::Product);
        check(Asked::Nothing, Blame::Host);
        let layer = DamagedLayer { template: "mini".into(), changed: "bin".into() };
        check(Asked::LayerDamaged { program: "true".into(), layer }, Blame::Host);
        check(Asked::ProgramMissing { program: "pg_isready".into() }, Blame::Image);
    }

    #[test]
    fn a_machine_that_is_not_ready_after_a_fault_is_the_products_where_it_was_asked() {
        let check = |asked: Asked, expected: Blame| {
            let not_ready = NotReady { container: "a".into(), asked, diagnosis: String::new() };
            assert_eq!(of_not_recovered(&not_ready), expected, "{not_ready:?}");
        };
        check(Asked::No, Blame::Product);
        check(Asked::Hangs, Blame::Product);
        check(Asked::ProgramMissing { program: "pg_isready".into() }, Blame::Product); // it was there before the fault
        check(Asked::Nothing, Blame::Host);
    }
}
