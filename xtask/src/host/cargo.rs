//! Cargo: builds programs and says where they are.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use super::shell::Command;
use crate::error::Error;
use crate::host::patience::Deadline;

/// How long a build may take, dependencies included.
const BUILD_DEADLINE: Deadline = Deadline::from_secs(1800);

/// A program that Cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its target's name.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The folder of its package.
    pub package_dir: PathBuf,
    /// It runs tests.
    pub is_test: bool,
}

/// The Cargo that started this program, else the one in `PATH`.
#[must_use]
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The folder of the workspace that a folder's package belongs to; nothing where Cargo finds none.
///
/// # Errors
/// When Cargo cannot be started.
pub fn workspace(root: &Path) -> anyhow::Result<Option<PathBuf>> {
    let words = ["locate-project", "--workspace", "--message-format", "plain"];
    let output = Command::new(program()).args(words).dir(root).output()?;
    let found = (output.status == 0).then(|| PathBuf::from(output.text().trim()));
    Ok(found.and_then(|manifest| manifest.parent().map(Path::to_owned)))
}

/// Whether the compiler beside Cargo has the standard library of this target.
///
/// # Errors
/// When the compiler cannot be started.
pub fn has_target(target: &str) -> anyhow::Result<bool> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).args(["--print", "target-libdir", "--target", target]).output()?;
    // A target that the compiler does not know is one that it has not.
    Ok(output.status == 0 && Path::new(output.text().trim()).is_dir())
}

/// Runs Cargo in a folder with words that build something; what was built already is in the answer, too.
///
/// # Errors
/// [`Error::Usage`] with the compiler's own words when the code does not build.
pub fn build(root: &Path, words: &[&str]) -> anyhow::Result<Vec<Program>> {
    let output = Command::new(program())
        .args(words)
        .args(["--quiet", "--message-format=json-render-diagnostics"])
        .dir(root)
        .deadline(BUILD_DEADLINE.scaled())
        .output()?;
    if output.status != 0 {
        let said = String::from_utf8_lossy(&output.stderr);
        let problem = format!("`cargo {}` failed in {}:\n{}", words.join(" "), root.display(), said.trim_end());
        return Err(Error::Usage(problem)).context("building programs");
    }
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// What Cargo says of one artifact, as far as it is needed.
#[derive(Deserialize)]
struct Artifact {
    executable: PathBuf,
    target: Target,
    profile: Profile,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Lines without a program (libraries, build scripts' outputs, the last word) are passed over.
fn parse(messages: &str) -> Vec<Program> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts
        .map(|artifact| Program {
            name: artifact.target.name,
            path: artifact.executable,
            package_dir: artifact.manifest_path.parent().map(Path::to_owned).unwrap_or_default(),
            is_test: artifact.profile.test,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_libraries() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"lib"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"one"},"profile":{"test":true},"executable":"/t/one-1"}
{"reason":"build-finished","success":true}"#;
        let expected = Program { name: "one".into(), path: "/t/one-1".into(), package_dir: "/p".into(), is_test: true };
        assert_eq!(parse(messages), [expected]);
    }
}
