//! `cargo xtask dist`: builds the files with which the engine is installed on other machines.

use std::path::PathBuf;

use serde_json::json;

use super::{Context, Format};
use crate::dist::{self, Linkage, Profile};
use crate::error::EXIT_PASSED;
use crate::report::terminal::println;

/// Build release artifacts.
///
/// Writes an archive, a Debian package and their checksums.
#[derive(Debug, clap::Args)]
#[command(after_help = "The program is static if Rust's target for musl is installed (rustup target add \
                        x86_64-unknown-linux-musl). Otherwise it needs a glibc as new as this machine's, and the package \
                        depends on that. It is called mancer-e2e, and has manual pages and completions for bash, zsh and fish.")]
pub struct Args {
    /// Output folder [default: target/dist of the checkout].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cargo profile: `release` for use, `dev` to inspect the contents quickly.
    #[arg(long, value_name = "PROFILE", value_enum, default_value_t = Built::Release)]
    profile: Built,
}

/// Cargo profile of the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Built {
    Release,
    Dev,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let profile = match args.profile {
        Built::Release => Profile::Release,
        Built::Dev => Profile::Dev,
    };
    let out = args.out.clone().unwrap_or_else(|| context.root.join("target/dist"));
    let release = dist::release(&context.root, profile, &out, &(context.command_line)())?;
    if context.format == Format::Json {
        let files: Vec<_> = release
            .files
            .iter()
            .map(|file| json!({ "path": file.path, "size_bytes": file.size_bytes, "sha256": file.sha256 }))
            .collect();
        let glibc = match &release.linkage {
            Linkage::Static => None,
            Linkage::Dynamic { glibc } => Some(glibc),
        };
        println!("{:#}", json!({ "format_version": 1, "glibc": glibc, "files": files }));
        return Ok(EXIT_PASSED);
    }
    println!("{} is {}", dist::NAME, release.linkage);
    for file in &release.files {
        println!("written: {}  {:.1} MiB", file.path.display(), file.size_bytes as f64 / f64::from(1 << 20));
    }
    Ok(EXIT_PASSED)
}
