//! The hidden verb that the engine starts a guard with.

use crate::guard::{Wait, serve};

/// Arguments that the engine gives its guard.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    slot: String,
    #[arg(long)]
    purpose: String,
    #[arg(long)]
    no_wait: bool,
}

/// Serves until the engine is gone or says so.
///
/// # Errors
/// When the slot cannot be had or taken back.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    serve(&args.slot, &args.purpose, if args.no_wait { Wait::Never } else { Wait::UntilFree })?;
    Ok(0)
}
