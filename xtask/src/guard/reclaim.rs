//! Taking back what a dead holder of a slot left behind.

use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::slot::{Lock, Slot, slots};

/// How long a holder may take to go that was killed: its last call into the kernel, or a child that it has just begun,
/// keeps the lock for a moment.
const DYING_DEADLINE: Duration = Duration::from_millis(500);

/// Between two looks at a lock that is held.
const POLL: Duration = Duration::from_millis(10);

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
    let Some(lock) = lock_of(slot)? else { return Ok(Reclaimed::InUse) };
    let failures = Ledger::open(slot)?.undo_all(|| ());
    if failures.is_empty() {
        slot.remove(lock)?;
    }
    Ok(Reclaimed::Cleaned { failures })
}

/// The lock, when its holder is gone or about to go.
fn lock_of(slot: &Slot) -> anyhow::Result<Option<Lock>> {
    let begun = Instant::now();
    loop {
        let lock = slot.try_lock()?;
        if lock.is_some() || begun.elapsed() > DYING_DEADLINE {
            return Ok(lock);
        }
        std::thread::sleep(POLL); // flock has no wait with a deadline
    }
}
