//! Cargo: builds programs and finds their paths.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::error::Error;
use crate::host::exec::shell::Command;
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

/// Deadline for a build, dependencies included.
const BUILD_DEADLINE: Deadline = Deadline::from_secs(1800);

/// Number of last bytes of Cargo's output that are read for its progress: more than a line.
const PROGRESS_BYTES: usize = 2048;

/// Number of columns in which Cargo writes the verb of a message, such as `Compiling`.
const VERB_COLUMNS: usize = 12;

/// Program that Cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Name of the program's Cargo target.
    pub name: String,
    pub path: PathBuf,
    /// Folder of the program's package.
    pub package_dir: PathBuf,
    /// True if the program runs tests.
    pub is_test: bool,
}

/// Returns the Cargo that started this program, else the one in `PATH`.
#[must_use]
pub fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Returns the folder of the workspace that a folder's package belongs to; `None` where Cargo finds none.
pub fn workspace(root: &Path) -> anyhow::Result<Option<PathBuf>> {
    let words = ["locate-project", "--workspace", "--message-format", "plain"];
    let output = Command::new(program()).args(words).dir(root).output()?;
    let found = (output.status == 0).then(|| PathBuf::from(output.text().trim()));
    Ok(found.and_then(|manifest| manifest.parent().map(Path::to_owned)))
}

/// Tells whether the compiler beside Cargo has the standard library of this target triple.
pub fn has_target(target: &str) -> anyhow::Result<bool> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).args(["--print", "target-libdir", "--target", target]).output()?;
    // A target that the compiler does not know is one that it has not.
    Ok(output.status == 0 && Path::new(output.text().trim()).is_dir())
}

/// Runs Cargo in a folder with arguments that build programs, and returns all of them, also those that were built already.
///
/// # Errors
/// [`Error::Usage`] with the compiler's output when the code does not build.
pub fn build(root: &Path, words: &[&str]) -> anyhow::Result<Vec<Program>> {
    build_as(&Invoker::root(), root, words, &BuildLog::new()?)
}

/// Runs Cargo as [`build`] does, as a user and with a log whose progress another thread can read. The user's rights are needed because a
/// build may run programs of its own.
pub fn build_as(invoker: &Invoker, root: &Path, words: &[&str], log: &BuildLog) -> anyhow::Result<Vec<Program>> {
    let messages = tempfile::tempfile().context("making a file for Cargo's messages")?;
    let output = Command::new(program())
        .args(words)
        // Without a terminal Cargo shows how far it is only when it must, and then wants to know a width.
        .args(["--config", "term.progress.when='always'", "--config", "term.progress.width=100"])
        .arg("--message-format=json-render-diagnostics")
        .dir(root)
        .as_user(invoker)
        .deadline(BUILD_DEADLINE.scaled())
        .output_to_files(messages.try_clone()?, log.0.try_clone()?)?;
    if output.timed_out || output.status != 0 {
        let failed = if output.timed_out { "did not end within its deadline" } else { "failed" };
        let said = diagnostics(&log.text(0)?);
        let help = match invoker.is_other() && said.contains("Permission denied") {
            true => format!(
                "\n  help: Cargo runs as {0}, who called sudo, and cannot write files in target that root built before: \
                 `sudo chown -R {0} target`",
                invoker.name
            ),
            false => String::new(),
        };
        let problem = format!("`cargo {}` {failed} in {}:\n{said}{help}", words.join(" "), root.display());
        return Err(Error::Usage(problem)).context("building programs");
    }
    Ok(parse(&BuildLog(messages).text(0)?))
}

/// Output of Cargo while it builds.
#[derive(Debug)]
pub struct BuildLog(File);

impl BuildLog {
    pub fn new() -> anyhow::Result<Self> {
        tempfile::tempfile().map(Self).context("making a file for Cargo's output")
    }

    /// Returns Cargo's present work, such as `12/158: regex, serde`, or `Blocking waiting for file lock on build directory`.
    pub fn progress(&self) -> anyhow::Result<String> {
        let length = self.0.metadata()?.len();
        Ok(progress(&self.text(length.saturating_sub(PROGRESS_BYTES as u64))?))
    }

    /// Returns the text from a byte on, without moving the position at which Cargo goes on writing.
    fn text(&self, from: u64) -> anyhow::Result<String> {
        let length = usize::try_from(self.0.metadata()?.len().saturating_sub(from))?;
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, from).context("reading Cargo's output")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Returns the last line of Cargo's output, without its progress bar.
fn progress(said: &str) -> String {
    let last = said.rsplit(['\n', '\r']).map(str::trim).find(|words| !words.is_empty()).unwrap_or("begins");
    last.split_once("] ").map_or(last, |(_, rest)| rest).to_owned()
}

/// Returns the problems that Cargo and the compiler reported, without progress bars and messages of success.
fn diagnostics(said: &str) -> String {
    let lines = said.lines().map(|line| line.rsplit('\r').next().unwrap_or_default().trim_end());
    lines.filter(|line| !is_status(line)).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Tells whether a line reports Cargo's work, with a verb in columns of its own, as in `   Compiling regex v1.0.0`.
fn is_status(line: &str) -> bool {
    let Some((verb, rest)) = line.split_at_checked(VERB_COLUMNS) else { return false };
    let verb = verb.trim_start();
    verb.starts_with(|first: char| first.is_ascii_uppercase())
        && verb.chars().all(|letter| letter.is_ascii_alphabetic())
        && rest.starts_with(' ')
}

/// Parsed part of Cargo's message on an artifact.
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

/// Parses the programs from Cargo's messages of a build; other messages (libraries, build scripts, the build's end) are passed over.
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
    fn progress_is_the_last_thing_that_cargo_said() {
        for (said, expected) in [
            ("", "begins"),
            (
                "    Blocking waiting for file lock on build directory\n",
                "Blocking waiting for file lock on build directory",
            ),
            ("   Compiling a v1.0.0\n\r    Building [=>  ] 12/158: regex, serde        \r", "12/158: regex, serde"),
            ("[======>       ] 1/4: strsim, walkdir   \r", "1/4: strsim, walkdir"),
        ] {
            assert_eq!(progress(said), expected);
        }
    }

    #[test]
    fn problems_are_told_from_what_went_well() {
        let said = "   Compiling a v1.0.0 (/a)\n    Building [=>  ] 1/2: a   \rerror[E0425]: no x\n --> src/main.rs:1:13\n  |\n\
                    1 | fn main() { x }\n\n    Building [=>  ] 1/2: a   \rerror: could not compile `a`\n";
        let expected =
            "error[E0425]: no x\n --> src/main.rs:1:13\n  |\n1 | fn main() { x }\n\nerror: could not compile `a`";
        assert_eq!(diagnostics(said), expected);
    }

    #[test]
    fn programs_are_told_from_libraries() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"lib"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","target":{"name":"one"},"profile":{"test":true},"executable":"/t/one-1"}
{"reason":"build-finished","success":true}"#;
        let expected = Program { name: "one".into(), path: "/t/one-1".into(), package_dir: "/p".into(), is_test: true };
        assert_eq!(parse(messages), [expected]);
    }
}
