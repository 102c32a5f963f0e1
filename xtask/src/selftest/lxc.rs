//! Tests on real LXC: chosen by name, several at once. The time of each test is compared with its recorded time, and the host after the
//! tests with the host before, to find leftovers.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::libtest::{Finished, Test, TestProgram};
use super::times::Times;
use crate::error::{EXIT_FAILED, EXIT_PASSED, Error};
use crate::host::inventory::{Inventory, Leftover};
use crate::host::patience::Deadline;

/// Slots that tests lease, one for each test process. Lower slots are not used, because a person may keep a lab there.
pub const TEST_SLOTS: RangeInclusive<u32> = 90..=97;

/// Slots of the engines that a test runs side by side and kills.
pub const CRASH_SLOTS: RangeInclusive<u32> = 84..=89;

/// Slots of the second lab of a test, 14 below the slot of its first lab: the test with slot 90 uses slot 76 too.
pub const PAIR_SLOTS: RangeInclusive<u32> = 76..=83;

/// Deadline for leftovers to disappear that are still being removed when the tests end.
const GOING_DEADLINE: Deadline = Deadline::from_secs(5);

/// Interval at which the host is searched for leftovers.
const LOOK: Duration = Duration::from_millis(100);

/// Number of slowest tests that are named at the end.
const SLOWEST: usize = 10;

/// Tests at once for each processor; more than one, because tests mostly wait for labs.
const JOBS_PER_PROCESSOR: usize = 3;

/// Options for running the tests on LXC.
#[derive(Debug, Clone)]
pub struct Run {
    /// Substrings of test names that choose tests; all tests if empty.
    pub filters: Vec<String>,
    /// Number of tests at once; `None` derives it from the number of processors.
    pub jobs: Option<usize>,
    /// True to write the times of the tests to the committed file, if all tests ran and passed.
    pub record_times: bool,
    /// Environment variables that the tests must not see, such as the user's own settings of the engine.
    pub unset: Vec<String>,
}

/// Function that shows a line to a person.
pub type Show<'a> = &'a (dyn Fn(&str) + Sync);

/// Function that returns the holder of a slot, if the slot is held.
pub type HolderOf<'a> = &'a dyn Fn(&str) -> Option<String>;

/// New things on the host after the tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Leftovers of the tests, a line each.
    pub own: Vec<String>,
    /// Slots of other runs that are still going on, with the holder of each.
    pub others: BTreeMap<String, String>,
}

impl Leftovers {
    /// Divides new things on the host into leftovers of the tests and things of other runs that are still going on.
    #[must_use]
    pub fn of(new: Vec<Leftover>, holder: HolderOf<'_>) -> Self {
        let mut left = Self::default();
        for Leftover { line, slot } in new {
            let other = slot.filter(|slot| !is_own(slot));
            let known = other.as_ref().is_some_and(|slot| left.others.contains_key(slot));
            match other.and_then(|slot| holder(&slot).map(|holder| (slot, holder))) {
                Some((slot, holder)) => drop(left.others.entry(slot).or_insert(holder)),
                None if known => {} // it ended between two looks
                None => left.own.push(line),
            }
        }
        left
    }
}

/// Tells whether a slot is reserved for tests, so that everything in it is made by a test.
fn is_own(slot: &str) -> bool {
    let numbers = [TEST_SLOTS, CRASH_SLOTS, PAIR_SLOTS];
    slot == "doctor" || slot.parse().is_ok_and(|slot: u32| numbers.iter().any(|numbers| numbers.contains(&slot)))
}

/// Chosen tests of the test program for LXC, with their recorded times.
#[derive(Debug)]
pub struct LxcTests {
    tests: Vec<Test>,
    times: Times,
}

impl LxcTests {
    /// Lists the tests whose names contain one of the filters.
    ///
    /// # Errors
    /// [`Error::Usage`] if no test matches.
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

    /// Returns a line for each test with its name and recorded time.
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

    /// Runs the tests as root, and shows how each ended; returns an exit code. `holder` names the holder of a slot, so that things of
    /// another run do not count as leftovers.
    pub fn run(
        self,
        root: &Path,
        run: &Run,
        state_dir: &Path,
        holder: HolderOf<'_>,
        show: Show<'_>,
    ) -> anyhow::Result<u8> {
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
        let finished = run_in_order(self.tests, jobs, &self.times, |test| test.run(&run.unset), tell);
        let mut left = Leftovers::of(Inventory::take(state_dir)?.since(&before), holder);
        let begun = Instant::now();
        // What a run of somebody else's takes back just now is gone a moment later.
        while !left.own.is_empty() && begun.elapsed() < GOING_DEADLINE.scaled() {
            std::thread::sleep(LOOK); // the host gives no sign when something is gone
            left = Leftovers::of(Inventory::take(state_dir)?.since(&before), holder);
        }

        for line in slowest(&finished) {
            show(&line);
        }
        for line in self.times.slow(&finished) {
            show(&format!("twice as slow as recorded: {line}"));
        }
        for (slot, holder) in &left.others {
            show(&format!("another run holds slot {slot} ({holder}): what it has made does not count as left over"));
        }
        for line in &left.own {
            show(&format!("left on the host: {line}"));
        }
        let failed: Vec<&Finished> = finished.iter().filter(|end| end.failure.is_some()).collect();
        if run.record_times && failed.is_empty() && run.filters.is_empty() {
            show(&format!("times written to {}", Times::record(root, &finished)?.display()));
        } else if run.record_times {
            show("no times written: they are written only after a run of all tests in which none fails");
        }
        for end in &failed {
            show(&format!("FAIL {}: run it alone with `cargo xtask test lxc {}`", end.name, end.name));
        }
        show(&format!("{} passed, {} failed", finished.len() - failed.len(), failed.len()));
        Ok(if failed.is_empty() && left.own.is_empty() { EXIT_PASSED } else { EXIT_FAILED })
    }
}

fn default_jobs() -> usize {
    let wanted = std::thread::available_parallelism().map_or(1, usize::from) * JOBS_PER_PROCESSOR;
    wanted.min(TEST_SLOTS.count())
}

fn slowest(finished: &[Finished]) -> Vec<String> {
    let mut by_time: Vec<&Finished> = finished.iter().collect();
    by_time.sort_by_key(|end| std::cmp::Reverse(end.duration));
    let lines = by_time.into_iter().take(SLOWEST);
    lines.map(|end| format!("    slow {:>7.1} s  {}", end.duration.as_secs_f64(), end.name)).collect()
}

/// Runs the tests, at most `jobs` at once, and calls `tell` with each result as it comes; returns the results in the order of their ends.
fn run_in_order(
    tests: Vec<Test>,
    jobs: usize,
    times: &Times,
    work: impl Fn(&Test) -> Finished + Sync,
    tell: impl Fn(&Finished) + Sync,
) -> Vec<Finished> {
    let (alone, shared): (Vec<Test>, Vec<Test>) = longest_first(tests, times).into_iter().partition(Test::is_alone);
    let finished = Mutex::new(Vec::new());
    for (tests, workers) in [(shared, jobs), (alone, 1)] {
        let waiting = Mutex::new(VecDeque::from(tests));
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(test) = next() {
                        let end = work(&test);
                        tell(&end);
                        finished.lock().unwrap_or_else(PoisonError::into_inner).push(end);
                    }
                });
            }
        });
    }
    finished.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn longest_first(mut tests: Vec<Test>, times: &Times) -> Vec<Test> {
    tests.sort_by_key(|test| std::cmp::Reverse(times.expected(&test.name)));
    tests
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::selftest::libtest::TestProgram;

    #[test]
    fn things_of_another_run_are_no_leftovers() {
        let of = |slot: &str, line: &str| Leftover { line: line.to_owned(), slot: Some(slot.to_owned()) };
        let new = || {
            vec![
                of("75", "process 1 lxc-start -n e2e-selftest-75-a"),
                of("75", "file /run/mancer-e2e/75"),
                of("76", "file /run/mancer-e2e/76"),
                of("93", "file /run/mancer-e2e/93"),
                of("86", "file /run/mancer-e2e/86"),
                of("doctor", "file /run/mancer-e2e/doctor"),
                Leftover { line: "link eth9:".into(), slot: None },
            ]
        };
        let held = |slot: &str| ["75", "93", "86", "doctor"].contains(&slot).then(|| format!("run of {slot}"));
        let left = Leftovers::of(new(), &held);
        assert_eq!(left.others, BTreeMap::from([("75".to_owned(), "run of 75".to_owned())]), "one line a slot");
        let own = ["76", "93", "86", "doctor"].map(|slot| format!("file /run/mancer-e2e/{slot}"));
        assert_eq!(left.own, [own.as_slice(), &["link eth9:".to_owned()]].concat(), "held or not, where it is theirs");
        assert_eq!(Leftovers::of(new(), &|_| None).own.len(), 7, "what nobody holds is left over, wherever it is");
    }

    fn tests(names: &[&str]) -> Vec<Test> {
        let program = TestProgram { path: "/t".into(), package_dir: "/".into() };
        names.iter().map(|name| Test { name: (*name).into(), program: program.clone() }).collect()
    }

    #[test]
    fn nothing_runs_beside_a_test_that_needs_the_whole_host() {
        let (running, together) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let meet = std::sync::Barrier::new(2);
        let work = |test: &Test| {
            let others = running.fetch_add(1, Ordering::SeqCst);
            if test.is_alone() {
                assert_eq!(others, 0, "{} runs beside another", test.name);
            } else {
                meet.wait(); // passed only by two at once
                together.fetch_add(1, Ordering::SeqCst);
            }
            running.fetch_sub(1, Ordering::SeqCst);
            Finished { name: test.name.clone(), duration: Duration::ZERO, failure: None }
        };
        let all = tests(&["alone::x", "a", "b", "alone::y", "c", "d"]);
        let finished = run_in_order(all, 2, &Times::default(), work, |_| ());
        assert_eq!((finished.len(), together.into_inner()), (6, 4));
        assert!(finished[4..].iter().all(|end| end.name.starts_with("alone::")), "{finished:?}");
    }
}
