//! `cargo xtask clean`: removes kept labs and what killed runs left, on this host.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use std::path::Path;

use super::{Context, sudo, up};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED};
use crate::guard::{Reclaimed, Slot, reclaim_dead, slots};
use crate::host::apparmor;
use crate::host::invoker::is_root;
use crate::host::lxc::LOG_PATH;
use crate::lab::log_folder;

/// Remove kept labs, and what killed runs left.
///
/// Old logs of containers, too, and the AppArmor profile of containers where no lab is left.
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
        clean &= up::end(&slot)?;
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
    if args.slot.is_none() && slots().is_empty() {
        for name in apparmor::unload()? {
            println!("AppArmor profile {name} unloaded");
        }
    }
    let logs = if args.slot.is_none() { remove_logs()? } else { 0 };
    if logs > 0 {
        println!("logs of {logs} containers removed from {LOG_PATH}");
    }
    Ok(if clean { EXIT_PASSED } else { EXIT_INFRASTRUCTURE })
}

/// Removes the log folders that labs made and no live lab uses.
fn remove_logs() -> anyhow::Result<usize> {
    let live: Vec<String> =
        crate::lab::LiveLab::all().into_iter().flat_map(|lab| lab.machines).map(|machine| machine.host_name).collect();
    log_folder::remove_all(Path::new(LOG_PATH), &live)
}
