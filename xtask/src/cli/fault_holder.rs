//! The hidden verb that a lab's guard starts for the faults on it.

use crate::fault::serve_holder;
use crate::guard::Slot;

/// Arguments of the hidden verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    slot: String,
}

/// Holds faults until the guard ends it.
///
/// # Errors
/// When no lab is kept in the slot.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    serve_holder(&Slot::named(&args.slot))?;
    Ok(0)
}
