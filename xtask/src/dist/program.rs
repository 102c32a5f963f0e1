//! The engine's program, built for other machines, and the libraries that it needs there.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Error;
use crate::host::doctor::is_static;
use crate::host::exec::shell::Command;
use crate::host::tools::cargo;

/// Cargo profile of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Optimized, and static if this machine can build static programs.
    Release,
    /// Quick to build, for inspecting the contents of a release.
    Dev,
}

/// Libraries that a program needs at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linkage {
    /// Static program, which runs on every machine with a suitable kernel and processor.
    Static,
    /// Dynamic program, which needs the C library, at least of this version, and the compiler's own library.
    Dynamic {
        /// Minimum version of the C library, such as `2.34`.
        glibc: String,
    },
}

impl fmt::Display for Linkage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str("static, it needs no library"),
            Self::Dynamic { glibc } => write!(f, "dynamic, it needs glibc {glibc} or later"),
        }
    }
}

/// Program that was built for a release.
#[derive(Debug)]
pub struct Program {
    pub content: Vec<u8>,
    pub linkage: Linkage,
}

/// Builds the engine from a checkout.
///
/// # Errors
/// [`Error::Usage`] if the folder is no checkout, the engine does not build, or its version differs from this program's, whose manual the
/// release would get.
pub fn build(root: &Path, profile: Profile) -> anyhow::Result<Program> {
    if !root.join("xtask/Cargo.toml").is_file() {
        let problem = format!("{} is no checkout of the engine: there is no xtask/Cargo.toml", root.display());
        return Err(Error::Usage(problem).into());
    }
    let target = static_target();
    let mut words = vec!["build", "--package", "xtask", "--bin", "xtask"];
    if profile == Profile::Release {
        words.push("--release");
        if cargo::has_target(&target)? {
            words.extend(["--target", &target]);
        }
    }
    let built = cargo::build(root, &words).context("building the engine")?;
    let path = built.into_iter().find(|program| program.name == "xtask").map(|program| program.path);
    let path: PathBuf = path.context("building the engine: Cargo did not name a built program")?;
    let says = Command::new(&path).arg("--version").run()?.text();
    let version = says.rsplit(' ').next().unwrap_or_default();
    if version != env!("CARGO_PKG_VERSION") {
        let problem = format!(
            "{} has version {version} of the engine, this program is version {}: run `cargo xtask dist` in that checkout",
            root.display(),
            env!("CARGO_PKG_VERSION")
        );
        return Err(Error::Usage(problem).into());
    }
    let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let linkage = if is_static(&path)? {
        Linkage::Static
    } else {
        let glibc = glibc_needed(&content).with_context(|| {
            format!(
                "{} is linked dynamically, but has no symbol version GLIBC_x.y, so the glibc that it needs is unknown",
                path.display()
            )
        })?;
        Linkage::Dynamic { glibc }
    };
    Ok(Program { content, linkage })
}

/// Returns Rust's target triple for static programs on this processor.
#[must_use]
pub fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Returns the latest glibc version that a program requires, from strings such as `GLIBC_2.34` between two zero bytes.
fn glibc_needed(program: &[u8]) -> Option<String> {
    let version = |word: &[u8]| {
        let text = std::str::from_utf8(word.strip_prefix(b"GLIBC_")?).ok()?;
        let numbers: Option<Vec<u32>> = text.split('.').map(|number| number.parse().ok()).collect();
        Some((numbers?, text.to_owned()))
    };
    program.split(|byte| *byte == 0).filter_map(version).max().map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_version_counts_by_its_numbers() {
        let needed = |program: &[u8]| glibc_needed(program);
        assert_eq!(needed(b"\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.4\0GLIBC_PRIVATE\0x"), Some("2.34".into()));
        assert_eq!(needed(b"\0GLIBC_2.9\0xGLIBC_2.40\0GLIBC_2.x\0"), Some("2.9".into()));
        assert_eq!(needed(b"\x7fELF"), None);
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(needed(&this).is_some(), cfg!(target_env = "gnu"));
    }

    #[test]
    fn a_folder_without_the_engine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(folder.path(), Profile::Dev).unwrap_err();
        assert_eq!(Error::exit_code(&error), crate::error::EXIT_USAGE);
        assert!(error.to_string().contains("is no checkout of the engine"), "{error}");
    }
}
