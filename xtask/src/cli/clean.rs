//! `cargo xtask clean`: removes kept labs and what killed runs left, on this host.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Context, sudo};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED};
use crate::guard::{Owner, Reclaimed, Slot, reclaim_dead, slots};
use crate::host::invoker::is_root;
use crate::host::lxc::LOG_PATH;
use crate::lab::log_folder;

/// How long a guard may take to go down.
const DOWN_DEADLINE: Duration = Duration::from_secs(30);

/// Remove kept labs, leftovers of killed runs and old container logs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this slot, and no logs.
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
}

/// Carries the verb out; a lab that a run is using is left alone.
///
/// # Errors
/// When the slots cannot be read.
pub fn run(args: &Args, _context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let mut clean = true;
    let chosen = |slot: &Slot| args.slot.as_ref().is_none_or(|name| slot.name() == name);
    for slot in slots().into_iter().filter(chosen) {
        match slot.owner().filter(|owner| owner.kept) {
            Some(owner) if slot.is_held()? => clean &= take_down(&slot, &owner)?,
            _ => {}
        }
    }
    for (slot, outcome) in reclaim_dead(chosen)? {
        match outcome {
            Reclaimed::Cleaned { failures } if failures.is_empty() => {
                println!("slot {}: leftovers removed", slot.name());
            }
            Reclaimed::Cleaned { failures } => {
                clean = false;
                println!("slot {}: not all could be removed:\n  {}", slot.name(), failures.join("\n  "));
            }
            Reclaimed::InUse => {
                let holder = slot.owner().map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
                println!("slot {}: in use by {holder}, left alone", slot.name());
            }
        }
    }
    let logs = if args.slot.is_none() { remove_logs()? } else { 0 };
    if logs > 0 {
        println!("logs of {logs} containers removed from {LOG_PATH}");
    }
    Ok(if clean { EXIT_PASSED } else { EXIT_INFRASTRUCTURE })
}

/// Tells a kept lab's guard to go down, and waits until its slot is gone.
fn take_down(slot: &Slot, owner: &Owner) -> anyhow::Result<bool> {
    let command = std::fs::read(format!("/proc/{}/cmdline", owner.guard_pid)).unwrap_or_default();
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    if !words.contains(&b"guard".as_slice()) || !words.contains(&slot.name().as_bytes()) {
        println!("slot {}: process {} is no guard of it, left alone", slot.name(), owner.guard_pid);
        return Ok(false);
    }
    kill(Pid::from_raw(owner.guard_pid), Signal::SIGTERM).context("telling the guard to go down")?;
    let started = Instant::now();
    while slot.dir().exists() && slot.is_held()? {
        if started.elapsed() > DOWN_DEADLINE {
            println!("slot {}: its guard {} did not go down within {DOWN_DEADLINE:?}", slot.name(), owner.guard_pid);
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(10)); // until the folder goes: the guard is not our child
    }
    println!("slot {}: the lab of {} is gone", slot.name(), owner.purpose);
    Ok(true)
}

/// Removes the log folders that labs made and no live lab uses.
fn remove_logs() -> anyhow::Result<usize> {
    let live: Vec<String> =
        crate::lab::LiveLab::all().into_iter().flat_map(|lab| lab.machines).map(|machine| machine.host_name).collect();
    log_folder::remove_all(Path::new(LOG_PATH), &live)
}
