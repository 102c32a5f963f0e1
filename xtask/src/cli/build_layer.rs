//! The hidden verb that builds one layer, under a guard.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::image::{BuildSpec, build_layer};

/// Arguments that the engine gives the worker.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file with what to build.
    spec: PathBuf,
}

/// Builds the layer.
///
/// # Errors
/// For the first step that fails.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let text = std::fs::read_to_string(&args.spec).with_context(|| format!("reading {}", args.spec.display()))?;
    let spec: BuildSpec =
        serde_json::from_str(&text).with_context(|| format!("understanding {}", args.spec.display()))?;
    build_layer(&spec)?;
    Ok(0)
}
