//! The hidden verb that the engine treats packets with, in a lab's network namespace.

use std::path::PathBuf;
use std::time::Duration;

use crate::host::netqueue::{Damage, Delay, Rate, Treatment, serve};

/// Arguments of the hidden verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    namespace: PathBuf,
    #[arg(long)]
    queue: u16,
    #[command(subcommand)]
    treatment: What,
}

#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum What {
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

/// Treats packets until SIGTERM.
///
/// # Errors
/// When the namespace cannot be entered, or another program reads the queue.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let milliseconds = |count: u32| Duration::from_millis(u64::from(count));
    let seed = u64::from(args.queue); // the same draws in every run
    let treatment = match args.treatment {
        What::Delay { delay_ms, jitter_ms, reorder_percent } => {
            let (delay, jitter) = (milliseconds(delay_ms), milliseconds(jitter_ms));
            Treatment::Delay(Delay { delay, jitter, reorder_percent, seed })
        }
        What::Rate { bits_per_second, burst_bytes, limit_bytes } => {
            Treatment::Rate(Rate { bits_per_second, burst_bytes, limit_bytes })
        }
        What::Stall => Treatment::Stall,
        What::Corrupt { percent } => Treatment::Damage(Damage { percent, seed }),
    };
    serve(&args.namespace, args.queue, treatment)?;
    Ok(0)
}
