//! Taking back what a dead holder of a slot left behind.

use super::ledger::Ledger;
use super::slot::{Slot, slots};

/// What was found in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reclaimed {
    /// Some process holds it: nothing was touched.
    InUse,
    /// It was left behind, and is gone now, but for these failures.
    Cleaned {
        /// What could not be taken back, and why.
        failures: Vec<String>,
    },
}

/// Takes back every chosen slot that has no holder any more.
///
/// # Errors
/// When a slot's folder cannot be read.
pub fn reclaim_dead(chosen: impl Fn(&Slot) -> bool) -> anyhow::Result<Vec<(Slot, Reclaimed)>> {
    slots().into_iter().filter(chosen).map(|slot| reclaim(&slot).map(|outcome| (slot, outcome))).collect()
}

/// Takes one slot back if it has no holder.
pub(super) fn reclaim(slot: &Slot) -> anyhow::Result<Reclaimed> {
    let Some(lock) = slot.try_lock()? else { return Ok(Reclaimed::InUse) };
    let failures = Ledger::open(slot)?.undo_all(|| ());
    if failures.is_empty() {
        slot.remove(lock)?;
    }
    Ok(Reclaimed::Cleaned { failures })
}
