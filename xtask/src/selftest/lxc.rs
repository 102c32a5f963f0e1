//! The tests on real LXC: chosen by name, several at once, with the times of each and the host compared at the end.

use std::path::Path;
use std::sync::Mutex;

use super::libtest::{Finished, Test, TestProgram};
use super::queue;
use super::times::Times;
use crate::error::{EXIT_FAILED, EXIT_PASSED, Error};
use crate::host::inventory::Inventory;

/// How many of the slowest tests are named at the end.
const SLOWEST: usize = 10;

/// Tests at once for each processor: they wait for labs more than they compute.
const JOBS_PER_PROCESSOR: usize = 2;

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Run {
    /// Parts of test names; all tests if there are none.
    pub filters: Vec<String>,
    /// Tests at once; by the number of processors if not given.
    pub jobs: Option<usize>,
    /// Write the times that the tests take to the committed file, if all ran and passed.
    pub record_times: bool,
    /// Environment variables that the tests must not see: those of the user's own settings.
    pub unset: Vec<String>,
}

/// Receives lines for a person.
pub type Show<'a> = &'a (dyn Fn(&str) + Sync);

/// The tests of one program.
#[derive(Debug)]
pub struct LxcTests {
    tests: Vec<Test>,
    times: Times,
}

impl LxcTests {
    /// Lists the tests whose names have one of the filters in them.
    ///
    /// # Errors
    /// [`Error::Usage`] where no name has; when the program or the recorded times cannot be read.
    pub fn find(root: &Path, program: &TestProgram, filters: &[String]) -> anyhow::Result<Self> {
        let mut tests = program.tests()?;
        tests.retain(|test| test.is_chosen(filters));
        if tests.is_empty() {
            let problem = format!(
                "no test on LXC has {} in its name: `cargo xtask test --list` shows them",
                filters.join(" or ")
            );
            return Err(Error::Usage(problem).into());
        }
        Ok(Self { tests, times: Times::read(root)? })
    }

    /// Names and recorded times, a line each.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.tests.iter().map(|test| {
            let expected = self.times.expected(&test.name);
            let time = if expected == std::time::Duration::MAX {
                String::new()
            } else {
                format!("{:.1} s", expected.as_secs_f64())
            };
            format!("{time:>8}  {}", test.name)
        })
    }

    /// Runs them as root and says how each ended; the answer is an exit code.
    ///
    /// # Errors
    /// When the host cannot be looked at, or the times cannot be written.
    pub fn run(self, root: &Path, run: &Run, state_dir: &Path, show: Show<'_>) -> anyhow::Result<u8> {
        let count = self.tests.len();
        let jobs = run.jobs.unwrap_or_else(default_jobs).max(1);
        show(&format!("{count} tests on LXC, {jobs} at once"));
        let before = Inventory::take(state_dir)?;
        let ended = Mutex::new(0_usize);
        let tell = |end: &Finished| {
            let number = ended.lock().map(|mut ended| {
                *ended += 1;
                *ended
            });
            let verdict = if end.failure.is_none() { "PASS" } else { "FAIL" };
            let seconds = end.duration.as_secs_f64();
            show(&format!("{verdict} {:>3}/{count} {seconds:>7.1} s  {}", number.unwrap_or_default(), end.name));
            if let Some(failure) = &end.failure {
                show(&format!("--- {}\n{}\n---", end.name, failure.trim_end()));
            }
        };
        let finished = queue::run(self.tests, jobs, &self.times, |test| test.run(&run.unset), tell);
        let left = Inventory::take(state_dir)?.leftovers_since(&before);

        for line in slowest(&finished) {
            show(&line);
        }
        for line in self.times.slow(&finished) {
            show(&format!("twice as slow as recorded: {line}"));
        }
        for line in &left {
            show(&format!("left on the host: {line}"));
        }
        let failed: Vec<&Finished> = finished.iter().filter(|end| end.failure.is_some()).collect();
        if run.record_times && failed.is_empty() && run.filters.is_empty() {
            show(&format!("times written to {}", Times::record(root, &finished)?.display()));
        } else if run.record_times {
            show("no times written: that takes a run of all tests in which none fails");
        }
        for end in &failed {
            show(&format!("FAIL {}: run it alone with `cargo xtask test lxc {}`", end.name, end.name));
        }
        show(&format!("{} passed, {} failed", finished.len() - failed.len(), failed.len()));
        Ok(if failed.is_empty() && left.is_empty() { EXIT_PASSED } else { EXIT_FAILED })
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from) * JOBS_PER_PROCESSOR
}

fn slowest(finished: &[Finished]) -> Vec<String> {
    let mut by_time: Vec<&Finished> = finished.iter().collect();
    by_time.sort_by_key(|end| std::cmp::Reverse(end.duration));
    let lines = by_time.into_iter().take(SLOWEST);
    lines.map(|end| format!("    slow {:>7.1} s  {}", end.duration.as_secs_f64(), end.name)).collect()
}
