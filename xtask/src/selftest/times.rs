//! Recorded times of the tests. Tests that take longest begin first, and a test that has become slow is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::libtest::Finished;
use crate::error::Error;

/// Path of the committed file with the recorded times, relative to the repository.
const FILE: &str = "xtask/tests/lxc/times.toml";

/// Factor by which a test must exceed its recorded time to be shown as slow.
const SLOW_FACTOR: f64 = 2.0;

/// Seconds by which a test must exceed its recorded time to be shown as slow; a smaller difference may come from a busy machine.
const SLOW_DIFFERENCE_S: f64 = 2.0;

const HEADER: &str = "# Seconds that each test on real LXC takes, six at once on two processors without other work.\n\
                      # Written by `cargo xtask test lxc --record-times`.\n";

/// Recorded times in seconds by test name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    seconds: BTreeMap<String, f64>,
}

impl Times {
    /// Reads the recorded times of a repository; empty if the repository has no such file.
    ///
    /// # Errors
    /// [`Error::Usage`] with file and line if the file is damaged.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = path(root);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).map_err(|problem| {
                Error::Usage(format!(
                    "{}: {problem}; `cargo xtask test lxc --record-times` writes it anew",
                    path.display()
                ))
                .into()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map(|seconds| Self { seconds }).map_err(|error| error.to_string())
    }

    /// Returns the recorded time of a test; a test without one counts as long, so that it begins early.
    pub fn expected(&self, name: &str) -> Duration {
        self.seconds.get(name).map_or(Duration::MAX, |seconds| Duration::from_secs_f64(seconds.max(0.0)))
    }

    /// Describes each test that took twice its recorded time or longer.
    pub fn slow<'a>(&self, finished: impl IntoIterator<Item = &'a Finished>) -> Vec<String> {
        let slow = |test: &Finished| {
            let (took, recorded) = (test.duration.as_secs_f64(), *self.seconds.get(&test.name)?);
            let is_slow = took >= recorded * SLOW_FACTOR && took - recorded >= SLOW_DIFFERENCE_S;
            is_slow.then(|| format!("{}: {took:.1} s, recorded {recorded:.1} s", test.name))
        };
        finished.into_iter().filter_map(slow).collect()
    }

    /// Records the times of these tests, and drops the times of all others; returns the path of the file.
    pub fn record(root: &Path, finished: &[Finished]) -> anyhow::Result<PathBuf> {
        let path = path(root);
        let mut lines: Vec<String> =
            finished.iter().map(|test| format!("{:?} = {:.1}\n", test.name, test.duration.as_secs_f64())).collect();
        lines.sort();
        let mut text = HEADER.to_owned();
        let _ = write!(text, "{}", lines.concat());
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

fn path(root: &Path) -> PathBuf {
    root.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(name: &str, seconds: f64) -> Finished {
        Finished { name: name.into(), duration: Duration::from_secs_f64(seconds), failure: None }
    }

    #[test]
    fn a_test_that_takes_twice_its_time_is_shown() {
        let times = Times::parse("'a::long' = 10.0\n'a::short' = 0.2\n").unwrap();
        let tests = [finished("a::long", 19.0), finished("a::short", 1.9), finished("a::new", 100.0)];
        assert_eq!(times.slow(&tests), [""; 0]);
        let tests = [finished("a::long", 20.0), finished("a::short", 2.3)];
        assert_eq!(times.slow(&tests), ["a::long: 20.0 s, recorded 10.0 s", "a::short: 2.3 s, recorded 0.2 s"]);
    }

    #[test]
    fn what_is_recorded_is_read_again_and_a_bad_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("xtask/tests/lxc")).unwrap();
        assert_eq!(Times::read(folder.path()).unwrap(), Times::default());
        Times::record(folder.path(), &[finished("b", 2.0), finished("a", 1.26)]).unwrap();
        let times = Times::read(folder.path()).unwrap();
        assert_eq!(times.expected("a"), Duration::from_secs_f64(1.3));
        assert_eq!(times.expected("c"), Duration::MAX);
        std::fs::write(path(folder.path()), "a = 'x'").unwrap();
        let error = Times::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("times.toml") && error.contains("--record-times"), "{error}");
    }
}
