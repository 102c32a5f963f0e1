//! The hidden verb that a guest's first process starts: carries out the order that another machine wrote.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::error::EXIT_PASSED;
use crate::report::terminal::println;
use crate::selftest::guest::{Order, carry_out};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Path of the order.
    order: PathBuf,
}

/// Carries the order out; its record has the results.
///
/// # Errors
/// When the order cannot be read, or the record not be written.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let text = std::fs::read(&args.order).with_context(|| format!("reading {}", args.order.display()))?;
    let order: Order = serde_json::from_slice(&text).with_context(|| format!("parsing {}", args.order.display()))?;
    carry_out(&order, &|line| println!("{line}"))?;
    Ok(EXIT_PASSED)
}
