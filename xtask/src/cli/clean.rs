//! `cargo xtask clean`: removes kept labs, and leftovers of killed runs, from this host.

use std::path::Path;

use super::up::{self, Ended};
use super::{Context, sudo};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED};
use crate::guard::{Slot, slots};
use crate::host::container::apparmor;
use crate::host::container::lxc::LOG_PATH;
use crate::host::invoker::is_root;
use crate::lab::log_folder::{self, Chosen};
use crate::report::terminal::println;

/// Remove kept labs, and what killed runs left.
///
/// Also removes old logs of containers and, if no lab is left, their AppArmor profile.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Clean only this slot, with the logs of its containers.
    #[arg(long, value_name = "NAME")]
    slot: Option<String>,
}

/// Cleans the slots one by one; a lab that a run is using is skipped.
pub fn run(args: &Args, _context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let mut clean = true;
    let chosen = match &args.slot {
        Some(name) => vec![Slot::named(name)],
        None => slots(),
    };
    for slot in chosen {
        match up::end(&slot)? {
            Ended::Nothing | Ended::Wholly => {}
            Ended::Partly => clean = false,
            Ended::InUse(holder) => println!("slot {}: in use by {holder}, left alone", slot.name()),
        }
    }
    if args.slot.is_none() && slots().is_empty() {
        for name in apparmor::unload()? {
            println!("AppArmor profile {name} unloaded");
        }
    }
    let logs = if args.slot.is_none() { remove_logs()? } else { 0 };
    if logs > 0 {
        println!("{}", log_folder::removed(logs));
    }
    Ok(if clean { EXIT_PASSED } else { EXIT_INFRASTRUCTURE })
}

/// Removes the log folders of labs that no longer exist; returns their number.
fn remove_logs() -> anyhow::Result<usize> {
    log_folder::remove_all(Path::new(LOG_PATH), Chosen::All, &up::live_names())
}
