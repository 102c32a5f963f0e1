//! Test program built with Rust's own harness: lists its tests, and runs each in a process of its own.

use std::path::PathBuf;
use std::time::Duration;

use crate::host::exec::shell::{Command, CommandError};
use crate::host::patience::Deadline;

/// Prefix of the tests that need the whole host: no other test runs beside them.
const ALONE: &str = "alone::";

/// Deadline for one test, including builds of templates.
const DEADLINE: Deadline = Deadline::from_secs(900);

/// Test program that Cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestProgram {
    pub path: PathBuf,
    /// Folder of the program's package, which is its working directory.
    pub package_dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Path of the test's function in the program, such as `runs::a_good_run_passes`.
    pub name: String,
    pub program: TestProgram,
}

/// Result of one test's run.
#[derive(Debug, Clone)]
pub struct Finished {
    pub name: String,
    /// Time from the start to the end of the test's process.
    pub duration: Duration,
    /// Output of a failed test; `None` for a passed one.
    pub failure: Option<String>,
}

impl TestProgram {
    /// Lists the tests of the program.
    pub fn tests(&self) -> anyhow::Result<Vec<Test>> {
        let output = Command::new(&self.path).args(["--list", "--format=terse"]).dir(&self.package_dir).run()?;
        let tests = names(&output.text()).map(|name| Test { name: name.to_owned(), program: self.clone() }).collect();
        Ok(tests)
    }
}

/// Returns the names of tests in the harness's terse list, which has lines `NAME: test`.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_suffix(": test"))
}

impl Test {
    /// Tells whether the test's name contains one of the filters; true if there are no filters.
    #[must_use]
    pub fn is_chosen(&self, filters: &[String]) -> bool {
        filters.is_empty() || filters.iter().any(|filter| self.name.contains(filter))
    }

    /// Tells whether no other test may run beside this one.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.name.starts_with(ALONE)
    }

    /// Runs the test in a process of its own, without the environment variables that `unset` names.
    #[must_use]
    pub fn run(&self, unset: &[String]) -> Finished {
        let command = Command::new(&self.program.path).args(["--exact", &self.name, "--nocapture"]);
        let command = unset.iter().fold(command, Command::env_remove).env("E2E_TEST_BUILT", "1");
        let started = std::time::Instant::now();
        let result = command.dir(&self.program.package_dir).deadline(DEADLINE.scaled()).output();
        let failure = match result {
            Ok(output) if output.status == 0 && has_run_one(&output.text()) => None,
            Ok(output) => {
                let streams = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                Some(format!("{}ended with status {}", streams.concat(), output.status))
            }
            Err(error @ CommandError { .. }) => Some(error.to_string()),
        };
        Finished { name: self.name.clone(), duration: started.elapsed(), failure }
    }
}

/// Tells whether the harness counted one test as passed; for an unknown name it runs no test and still ends with status 0.
fn has_run_one(said: &str) -> bool {
    said.contains("test result: ok. 1 passed;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_tests_and_no_benchmarks() {
        assert_eq!(names("a::b: test\nc: benchmark\n\n1 test, 1 benchmark\n").collect::<Vec<_>>(), ["a::b"]);
    }

    #[test]
    fn a_name_without_a_test_has_not_passed() {
        assert!(has_run_one("running 1 test\n.\ntest result: ok. 1 passed; 0 failed; 0 ignored;"));
        assert!(!has_run_one("running 0 tests\ntest result: ok. 0 passed; 0 failed;"));
    }
}
