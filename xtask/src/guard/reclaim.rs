//! Taking back what a dead holder of a slot left behind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::ledger::Ledger;
use super::protocol::Owner;
use super::slot::{Lock, Slot, slots};
use crate::host::patience::Deadline;

/// How long a holder may take to go that was killed: its last call into the kernel, or a child that it has just begun,
/// keeps the lock for a moment.
const DYING_DEADLINE: Deadline = Deadline::from_millis(500);

/// How long a guard may take to go down.
const DOWN_DEADLINE: Deadline = Deadline::from_secs(30);

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

/// Tells the guard of a kept lab to go down, whatever build of the engine it is of, and waits until its slot is free.
/// What it could not take back is still in the slot's ledger then.
///
/// # Errors
/// When the process that is written down is no guard of this slot, or does not go.
pub fn take_down(slot: &Slot, owner: &Owner) -> anyhow::Result<()> {
    let command = std::fs::read(format!("/proc/{}/cmdline", owner.guard_pid)).unwrap_or_default();
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    if !words.contains(&b"guard".as_slice()) || !words.contains(&slot.name().as_bytes()) {
        bail!("process {} is no guard of it, left alone", owner.guard_pid);
    }
    kill(Pid::from_raw(owner.guard_pid), Signal::SIGTERM).context("telling the guard to go down")?;
    let started = Instant::now();
    while slot.dir().exists() && slot.is_held()? {
        if started.elapsed() > DOWN_DEADLINE.scaled() {
            bail!("its guard {} did not go down within {DOWN_DEADLINE}", owner.guard_pid);
        }
        std::thread::sleep(POLL); // until the folder goes: the guard is not our child
    }
    Ok(())
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
        if lock.is_some() || begun.elapsed() > DYING_DEADLINE.scaled() {
            return Ok(lock);
        }
        std::thread::sleep(POLL); // flock has no wait with a deadline
    }
}
