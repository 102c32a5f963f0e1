//! Blame: decides, only here, who is to blame for a failed attempt, from evidence in the order in which it was seen.

use std::sync::{Mutex, PoisonError};

use crate::fault::Keeper;
use crate::host::container::lxc::InitEnd;
use crate::lab::{Asked, MachineEnd, NotReady};

/// Signal that cannot come from inside a container, because the kernel protects its process 1 from its other processes.
const SIGKILL: i32 = nix::libc::SIGKILL;

/// Party that is to blame for a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Product,
    /// Host, LXC or engine: the product was not tested.
    Host,
    /// The template is at fault: it names a program that its layer does not contain.
    Image,
}

/// Piece of evidence about the failure of an attempt; the first one decides the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The scenario failed: a failed check, an error, a breach of the protocol, or a wrong exit.
    Scenario,
    /// A machine ended although no fault ended it.
    MachineEnded(Box<MachineEnd>),
    /// A machine did not become ready again after a fault.
    NotRecovered {
        not_ready: Box<NotReady>,
        /// Error and diagnosis as text.
        message: String,
    },
    /// The host, the engine or a fault failed, with the error.
    Host(String),
}

/// Evidence of one attempt, in the order in which it was seen.
#[derive(Debug, Default)]
pub struct EvidenceLog(Mutex<Vec<Evidence>>);

impl EvidenceLog {
    /// Appends a piece of evidence.
    pub fn push(&self, evidence: Evidence) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(evidence);
    }

    pub fn all(&self) -> Vec<Evidence> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Returns who is to blame for the unexpected end of a machine.
#[must_use]
pub fn of_end(end: &MachineEnd) -> Blame {
    match end.init {
        InitEnd::NotExecutable { .. } => Blame::Image,
        InitEnd::NotStarted | InitEnd::Unknown => Blame::Host,
        InitEnd::Signaled(SIGKILL) if end.out_of_memory != Some(true) => Blame::Host,
        InitEnd::Exited(_) | InitEnd::Signaled(_) => Blame::Product,
    }
}

/// Returns who is to blame for a machine that was not ready before its deadline.
#[must_use]
pub fn of_not_ready(not_ready: &NotReady) -> Blame {
    match &not_ready.asked {
        Asked::No | Asked::Hangs | Asked::OffNetwork => Blame::Product,
        Asked::ProgramMissing { .. } => Blame::Image,
        Asked::Nothing | Asked::LayerDamaged { .. } => Blame::Host,
    }
}

/// Returns who is to blame for a fault that had ended when it was to be healed, although its target lived and the engine had not healed it.
/// Packet filters, queues, cgroups, the freezer, tracers and devices belong to the host, out of the product's reach. If such a fault ends,
/// the record wrongly said that it was active, so the attempt proves nothing about the product. A fault inside the container (a stopped
/// unit, a paused process, a file, space on a volume, a clock) may be ended by the product itself, and then that is the tested behavior:
/// `None`, and the record says that the fault had ended.
#[must_use]
pub fn of_lost_fault(keeper: Keeper) -> Option<Blame> {
    match keeper {
        Keeper::Host => Some(Blame::Host),
        Keeper::Container => None,
    }
}

/// Returns who is to blame for a machine that did not become ready again after a fault. It was ready before, so its image is complete.
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
