//! Hidden verbs that run the engine's helper processes. The engine starts them, or the first process of a test guest does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use crate::error::EXIT_PASSED;
use crate::fault::netqueue::{self, Damage, Delay, Rate, Treatment};
use crate::fault::serve_holder;
use crate::guard::{Slot, Wait, serve};
use crate::image::build_layer;
use crate::report::terminal::println;
use crate::selftest::guest::carry_out;

/// Arguments of a lab's or a build's guard.
#[derive(Debug, clap::Args)]
pub struct GuardArgs {
    #[arg(long)]
    slot: String,
    #[arg(long)]
    purpose: String,
    #[arg(long)]
    no_wait: bool,
}

/// Runs the guard of a lab or a build, until the engine ends it or is gone.
pub fn run_guard(args: &GuardArgs) -> anyhow::Result<u8> {
    serve(&args.slot, &args.purpose, if args.no_wait { Wait::Never } else { Wait::UntilFree })?;
    Ok(EXIT_PASSED)
}

/// Arguments of the worker that builds one layer, under a guard.
#[derive(Debug, clap::Args)]
pub struct BuildLayerArgs {
    /// File in which the engine has written what to build.
    spec: PathBuf,
}

pub fn run_build_layer(args: &BuildLayerArgs) -> anyhow::Result<u8> {
    build_layer(&orders(&args.spec)?)?;
    Ok(EXIT_PASSED)
}

/// Arguments of the packet helper, which works in a lab's network namespace.
#[derive(Debug, clap::Args)]
pub struct NetqueueArgs {
    #[arg(long)]
    namespace: PathBuf,
    #[arg(long)]
    queue: u16,
    #[command(subcommand)]
    treatment: PacketTreatment,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum PacketTreatment {
    Delay {
        #[arg(long)]
        delay_ms: u32,
        #[arg(long)]
        jitter_ms: u32,
        #[arg(long)]
        reorder_percent: u8,
    },
    Rate {
        #[arg(long)]
        bits_per_second: u64,
        #[arg(long)]
        burst_bytes: u64,
        #[arg(long)]
        limit_bytes: u64,
    },
    Stall,
    Corrupt {
        #[arg(long)]
        percent: u8,
    },
}

/// Runs the packet helper, which delays, limits, stalls or damages the packets of a queue until SIGTERM.
pub fn run_netqueue(args: &NetqueueArgs) -> anyhow::Result<u8> {
    let milliseconds = |count: u32| Duration::from_millis(u64::from(count));
    let seed = u64::from(args.queue); // the same draws in every run
    let treatment = match args.treatment {
        PacketTreatment::Delay { delay_ms, jitter_ms, reorder_percent } => {
            let (delay, jitter) = (milliseconds(delay_ms), milliseconds(jitter_ms));
            Treatment::Delay(Delay { delay, jitter, reorder_percent, seed })
        }
        PacketTreatment::Rate { bits_per_second, burst_bytes, limit_bytes } => {
            Treatment::Rate(Rate { bits_per_second, burst_bytes, limit_bytes })
        }
        PacketTreatment::Stall => Treatment::Stall,
        PacketTreatment::Corrupt { percent } => Treatment::Damage(Damage { percent, seed }),
    };
    netqueue::serve(&args.namespace, args.queue, treatment)?;
    Ok(EXIT_PASSED)
}

/// Arguments of the fault holder: the process, started by a lab's guard, that keeps injected faults active and heals them.
#[derive(Debug, clap::Args)]
pub struct FaultHolderArgs {
    #[arg(long)]
    slot: String,
}

/// Runs the fault holder of the lab in a slot, until the guard ends it.
pub fn run_fault_holder(args: &FaultHolderArgs) -> anyhow::Result<u8> {
    serve_holder(&Slot::named(&args.slot))?;
    Ok(EXIT_PASSED)
}

/// Arguments of the hidden verb that a test guest's first process starts.
#[derive(Debug, clap::Args)]
pub struct GuestOrderArgs {
    /// Path of the order file, written by the host that made the guest.
    order: PathBuf,
}

/// Runs the order in a guest, and writes the results into the record that the order names.
pub fn run_guest_order(args: &GuestOrderArgs) -> anyhow::Result<u8> {
    carry_out(&orders(&args.order)?, &|line| println!("{line}"))?;
    Ok(EXIT_PASSED)
}

/// Reads a file in which the engine, or the host that made a guest, has written what to do.
fn orders<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
}
