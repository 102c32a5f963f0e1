//! The hidden verb that the engine delays packets with, in a lab's network namespace.

use std::path::PathBuf;
use std::time::Duration;

use crate::host::netqueue::{Delay, serve};

/// What the engine tells it on the command line.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    namespace: PathBuf,
    #[arg(long)]
    queue: u16,
    #[arg(long)]
    delay_ms: u32,
    #[arg(long)]
    jitter_ms: u32,
    #[arg(long)]
    seed: u64,
}

/// Delays packets until SIGTERM.
///
/// # Errors
/// When the namespace cannot be entered, or another program reads the queue.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let milliseconds = |count: u32| Duration::from_millis(u64::from(count));
    let delay = Delay { delay: milliseconds(args.delay_ms), jitter: milliseconds(args.jitter_ms), seed: args.seed };
    serve(&args.namespace, args.queue, delay)?;
    Ok(0)
}
