//! The engine's program, built to be given away, and what it needs of the machine that it will run on.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Error;
use crate::host::doctor::is_static;
use crate::host::exec::shell::Command;
use crate::host::tools::cargo;

/// Profile of the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Release for use: optimized, and static where this machine can build that.
    Release,
    /// Development build: quick to make, for trying what is packed.
    Dev,
}

/// Libraries that a program needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linkage {
    /// Static program: it runs wherever the kernel and the processor are right.
    Static,
    /// Dynamic program: it needs the C library, at least of this version, and the compiler's own library.
    Dynamic {
        /// Version, such as `2.34`.
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

/// A program that was built.
#[derive(Debug)]
pub struct Program {
    /// Bytes of the program.
    pub content: Vec<u8>,
    /// Needs of the program.
    pub linkage: Linkage,
}

/// Builds the engine of a checkout.
///
/// # Errors
/// [`Error::Usage`] where this folder is no checkout, it does not build, or it is another version than this program, whose
/// manual it would get.
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
    let path: PathBuf = path.context("building the engine: Cargo names no program that it built")?;
    let says = Command::new(&path).arg("--version").run()?.text();
    let version = says.rsplit(' ').next().unwrap_or_default();
    if version != env!("CARGO_PKG_VERSION") {
        let problem = format!(
            "{} has version {version} of the engine, this program is {}: run the checkout's own, `cargo xtask dist` there",
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

/// Returns Rust's target for static programs on this processor.
#[must_use]
pub fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Returns the latest glibc version that a program's strings ask for. Each stands between two zero bytes, as `GLIBC_2.34`.
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
