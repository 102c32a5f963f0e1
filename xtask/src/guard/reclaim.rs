//! Reclaiming: removal of what a dead holder of a slot has left, and ending a holder that still runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::holder::Holder;
use super::ledger::Ledger;

use super::slot::{Lock, Slot, remove_marked, slots};
use crate::host::patience::Deadline;

/// Time that a lock may outlive its holder: a child that the holder has just started may keep it for a moment.
const HANDED_ON_DEADLINE: Deadline = Deadline::from_millis(500);

/// Time that a killed holder may take to end: the kernel first frees its memory and ends its threads.
const DYING_DEADLINE: Deadline = Deadline::from_secs(10);

/// Deadline for a guard to go down.
const DOWN_DEADLINE: Deadline = Deadline::from_secs(30);

/// Interval between two checks of a held lock.
const POLL: Duration = Duration::from_millis(10);

/// Outcome of reclaiming a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reclaimed {
    /// The slot has a holder: nothing was touched.
    InUse,
    /// The slot had no holder, and its leftovers were removed, except for `failures`.
    Cleaned {
        /// Removed folders on disk that had the slot's mark.
        folders: Vec<PathBuf>,
        /// Undo steps that failed, with the reason.
        failures: Vec<String>,
    },
}

/// Reclaims every chosen slot that has no holder any more.
pub fn reclaim_dead(chosen: impl Fn(&Slot) -> bool) -> anyhow::Result<Vec<(Slot, Reclaimed)>> {
    slots().into_iter().filter(chosen).map(|slot| reclaim(&slot).map(|outcome| (slot, outcome))).collect()
}

/// Returns the holder of a slot; if the holder is ending, waits for its end.
pub fn lasting_holder(slot: &Slot) -> anyhow::Result<Option<Holder>> {
    let begun = Instant::now();
    loop {
        match slot.holder()? {
            Some(holder) if holder.is_ending() && begun.elapsed() <= DYING_DEADLINE.scaled() => {}
            holder => return Ok(holder),
        }
        std::thread::sleep(POLL); // its process is not our child
    }
}

/// Tells the guard that holds a slot to go down, whatever build of the engine it belongs to, and waits until the slot is free. A stopped
/// guard is continued; a guard that does not go down is killed, and its remaining undo steps stay in the ledger. Returns a line if the
/// guard was continued, and one if it was killed.
///
/// # Errors
/// When the holder is not the guard of this slot, or does not end after it was killed.
pub fn take_down(slot: &Slot, holder: &Holder) -> anyhow::Result<Vec<String>> {
    let Some(pid) = holder.pid.filter(|_| holder.is_guard_of(slot.name())) else {
        bail!("the slot is held by {holder}, which is not its guard: no process was ended");
    };
    let mut done = Vec::new();
    let is_stopped = holder.is_stopped();
    send(pid, Signal::SIGTERM).context("sending SIGTERM to the guard")?;
    if is_stopped {
        send(pid, Signal::SIGCONT).context("sending SIGCONT to the guard")?;
        done.push(format!("the slot's guard {pid} was stopped: it was continued"));
    }
    if !is_free_within(slot, DOWN_DEADLINE.scaled())? {
        send(pid, Signal::SIGKILL).context("killing the guard")?;
        if !is_free_within(slot, DOWN_DEADLINE.scaled())? {
            bail!(
                "the slot's guard {pid} did not go down within {DOWN_DEADLINE}, and has not ended since it was killed"
            );
        }
        done.push(format!("the slot's guard {pid} did not go down within {DOWN_DEADLINE}: it was killed"));
    }
    Ok(done)
}

fn send(pid: i32, signal: Signal) -> nix::Result<()> {
    match kill(Pid::from_raw(pid), signal) {
        Err(Errno::ESRCH) => Ok(()), // it has just gone
        other => other,
    }
}

fn is_free_within(slot: &Slot, deadline: Duration) -> anyhow::Result<bool> {
    let started = Instant::now();
    while slot.dir().exists() && slot.is_held()? {
        if started.elapsed() > deadline {
            return Ok(false);
        }
        std::thread::sleep(POLL); // until the folder goes: the guard is not our child
    }
    Ok(true)
}

/// Reclaims one slot if it has no holder.
pub(super) fn reclaim(slot: &Slot) -> anyhow::Result<Reclaimed> {
    let Some(lock) = lock_of(slot)? else { return Ok(Reclaimed::InUse) };
    let mut failures = Ledger::open(slot)?.undo_all(|| ());
    let (folders, not_removed) = remove_marked(slot.name());
    failures.extend(not_removed);
    if failures.is_empty() {
        slot.remove(lock)?;
    }
    Ok(Reclaimed::Cleaned { folders, failures })
}

/// Returns the slot's lock if it is free, or becomes free within a moment because its holder is ending.
fn lock_of(slot: &Slot) -> anyhow::Result<Option<Lock>> {
    lasting_holder(slot)?;
    let begun = Instant::now();
    loop {
        let lock = slot.try_lock()?;
        if lock.is_some() || begun.elapsed() > HANDED_ON_DEADLINE.scaled() {
            return Ok(lock);
        }
        std::thread::sleep(POLL); // flock has no wait with a deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::Command;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// Python program that takes the lock and much memory, which the kernel frees before it closes the file.
    const HOLDER: &str = "import fcntl, os, sys, time\nlock = open(sys.argv[1] + '/lock', 'w')\nfcntl.flock(lock, \
                          fcntl.LOCK_EX)\nmemory = b'x' * (256 << 20)\nopen(sys.argv[1] + '/new', \
                          'w').write(str(os.getpid()))\nos.rename(sys.argv[1] + '/new', sys.argv[1] + \
                          '/pid')\ntime.sleep(60)\n";

    #[test]
    fn a_holder_that_was_killed_holds_nothing() {
        let slot = Slot::named("test-killed-holder");
        std::fs::create_dir_all(slot.dir()).unwrap();
        let holder = Command::new("python3").args(["-c", HOLDER]).arg(slot.dir()).deadline(DEADLINE);
        std::thread::scope(|scope| {
            let running = scope.spawn(move || holder.output().unwrap());
            let begun = Instant::now();
            let pid: i32 = loop {
                match std::fs::read_to_string(slot.dir().join("pid")) {
                    Ok(pid) => break pid.parse().unwrap(),
                    Err(_) if begun.elapsed() > DEADLINE => panic!("python3 does not start"),
                    Err(_) => std::thread::sleep(POLL),
                }
            };
            assert_eq!(lasting_holder(&slot).unwrap().unwrap().pid, Some(pid));
            send(pid, Signal::SIGKILL).unwrap();
            assert_eq!(lasting_holder(&slot).unwrap(), None);
            running.join().unwrap();
        });
        let lock = lock_of(&slot).unwrap().unwrap();
        slot.remove(lock).unwrap();
    }
}
