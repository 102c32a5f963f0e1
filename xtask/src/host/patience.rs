//! Patience: one factor for all deadlines, because a deadline tells a hanging operation from a working one, and on a slow machine all
//! operations take longer.
//!
//! Every deadline of the engine is a [`Deadline`], as long as it has to be on the machines that the engine was written on.
//! [`Deadline::scaled`] is its length on this machine. The factor is set by the user, or measured once in a process, when the first
//! deadline is scaled. Helper processes and scenarios get it from their parent in [`PATIENCE_VARIABLE`], whose value in their environment
//! is always a number.
//!
//! One quick start of a program is enough for the measurement: a quick machine pays a millisecond, and a busy one is not taken for a slow
//! one. Deadlines of requests are multiplied by the engine, in `session/requests.rs`; the clients multiply only the waits that they do
//! themselves (`eventually`). Durations are not multiplied: those of schedules, faults, kept labs, pauses in loops, and observations of
//! counters.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e_contract::PATIENCE_VARIABLE;

use crate::host::exec::program_time::{ProgramTime, time_of};

/// Largest factor that a measurement leads to: a slower machine is broken, and longer waits do not help.
const MEASURED_MOST: f64 = 20.0;

/// Time for the start and the end of a program up to which deadlines are not multiplied. Two processors of 2025 take 1.0 ms at a load of 8,
/// User-Mode Linux on them 8 to 18 ms.
const QUICK: Duration = Duration::from_micros(1500);

/// Minimum number of starts of the program that are measured, if none is quick: the first one may read the program from the disk.
const TRIES_LEAST: u32 = 4;

/// Maximum number of starts of the program that are measured. The quickest one counts, so that a machine which is busy only for a moment
/// does not count as slow.
const TRIES_MOST: u32 = 12;

/// Largest ratio of a start's elapsed time to its processor time that counts. The time beyond is that of other programs: it shows that this
/// machine is loaded at this moment, which it need not be later.
const LOAD_MOST: u32 = 3;

/// Time after which no further start of the program is measured.
const MEASURING: Duration = Duration::from_millis(150);

/// Deadline of one start of the program whose start time gives the patience factor. It is not scaled: the factor is not known yet.
const STUCK: Duration = Duration::from_secs(10);

/// Limit on the duration of an operation, as written for a quick machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(Duration);

impl Deadline {
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// Returns the deadline on this machine: its length times the factor of this process.
    #[must_use]
    pub fn scaled(self) -> Duration {
        scaled(self.0)
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.scaled()).fmt(formatter)
    }
}

/// Factor of a process for deadlines, and its origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// Factor that all deadlines are multiplied by.
    pub factor: f64,
    /// Time that the start of a program took; `None` where the factor was not measured.
    pub process_start: Option<Duration>,
}

static ASKED: OnceLock<Option<f64>> = OnceLock::new();
static KNOWN: OnceLock<Patience> = OnceLock::new();

/// Sets the factor of this process; `None` has it measured, whatever the environment says. Only the first call counts, and it has to come
/// before the first deadline.
pub fn decide(factor: Option<f64>) {
    ASKED.get_or_init(|| factor);
}

/// Returns the factor of this process. The first call may measure it, which takes one to three milliseconds on a quick machine.
#[must_use]
pub fn patience() -> Patience {
    *KNOWN.get_or_init(|| {
        let asked = ASKED.get().copied().unwrap_or_else(|| inherited(std::env::var(PATIENCE_VARIABLE).ok().as_deref()));
        asked.map_or_else(measured, |factor| Patience { factor, process_start: None })
    })
}

/// Scales a deadline from outside the engine, such as a probe's, which was written for a quick machine.
#[must_use]
pub fn scaled(deadline: Duration) -> Duration {
    times(deadline, patience().factor)
}

/// Returns the environment variable that gives this process's factor to a helper process or a scenario.
#[must_use]
pub fn variable() -> (String, String) {
    (PATIENCE_VARIABLE.to_owned(), patience().factor.to_string())
}

/// Parses a factor from the environment, which a parent or the command line has checked before.
fn inherited(value: Option<&str>) -> Option<f64> {
    value?.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0)
}

/// Returns a deadline times a factor, in whole milliseconds so that it reads well; never zero.
fn times(deadline: Duration, factor: f64) -> Duration {
    let milliseconds = (deadline.as_secs_f64() * 1e3 * factor).round().max(1.0);
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or(Duration::MAX)
}

fn measured() -> Patience {
    let start = start_of(|| time_of("true", STUCK));
    Patience { factor: start.map_or(1.0, factor_of), process_start: start }
}

/// Returns the time that the start of a program takes: the quickest of a few, each measured by `one`; after a quick start none is measured
/// any more.
fn start_of(mut one: impl FnMut() -> Option<ProgramTime>) -> Option<Duration> {
    let (begun, mut quickest, mut processor) = (Instant::now(), Duration::MAX, Duration::ZERO);
    for tried in 1..=TRIES_MOST {
        let took = one()?;
        quickest = quickest.min(took.wall);
        processor += took.processor;
        if quickest <= QUICK {
            break;
        }
        if tried == TRIES_MOST || (tried >= TRIES_LEAST && begun.elapsed() > MEASURING) {
            // All other time it has waited, for other programs.
            let most = processor * LOAD_MOST / tried;
            return Some(if most.is_zero() { quickest } else { quickest.min(most) });
        }
    }
    Some(quickest)
}

/// Returns the factor of a machine that starts a program in this time, rounded to tenths.
fn factor_of(start: Duration) -> f64 {
    let factor = start.as_secs_f64() / QUICK.as_secs_f64();
    (factor.clamp(1.0, MEASURED_MOST) * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn a_quick_machine_has_the_deadlines_as_they_are_written() {
        assert_eq!(factor_of(micros(700)), 1.0);
        assert_eq!(factor_of(QUICK), 1.0);
        assert_eq!(factor_of(micros(9_300)), 6.2);
        assert_eq!(factor_of(Duration::from_secs(3)), MEASURED_MOST);
    }

    /// Checks the factor for starts, each with its elapsed and its processor time in milliseconds, and the number of tries.
    fn check(starts: &[(u64, u64)], expected: u64, tries: u32) {
        let mut tried = 0;
        let found = start_of(|| {
            tried += 1;
            let ms = Duration::from_millis;
            starts
                .get(tried as usize - 1)
                .map(|(wall, processor)| ProgramTime { wall: ms(*wall), processor: ms(*processor) })
        });
        assert_eq!((found, tried), (Some(Duration::from_millis(expected)), tries), "{starts:?}");
    }

    #[test]
    fn one_quick_start_is_enough() {
        check(&[(1, 1), (9, 9)], 1, 1);
        check(&[(200, 9), (8, 8), (1, 1), (0, 0)], 1, 3);
        assert_eq!(start_of(|| None), None, "nothing was measured");
    }

    #[test]
    fn the_quickest_of_a_few_starts_counts() {
        let mut starts = [(30, 20); TRIES_MOST as usize];
        starts[0] = (300, 200);
        starts[7] = (20, 20);
        check(&starts, 20, TRIES_MOST);
        check(&[(20, 0); TRIES_MOST as usize], 20, TRIES_MOST); // a kernel that counts no part of a tick
    }

    #[test]
    fn a_machine_that_is_busy_is_not_taken_for_a_slow_one() {
        check(&[(20, 1); TRIES_MOST as usize], 3, TRIES_MOST);
        check(&[(2, 1); TRIES_MOST as usize], 2, TRIES_MOST);
    }

    #[test]
    fn a_deadline_is_multiplied_and_reads_well() {
        assert_eq!(times(Duration::from_secs(30), 1.0), Duration::from_secs(30));
        assert_eq!(times(Duration::from_secs(30), 6.2), Duration::from_secs(186));
        assert_eq!(times(Duration::from_millis(50), 1.3), Duration::from_millis(65));
        assert_eq!(times(Duration::from_millis(1), 0.1), Duration::from_millis(1), "no deadline is over at once");
        assert_eq!(times(Duration::MAX, 20.0), Duration::MAX);
    }

    #[test]
    fn this_machine_is_measured_within_bounds() {
        let Patience { factor, process_start } = measured();
        assert!((1.0..=MEASURED_MOST).contains(&factor), "{factor}");
        assert!(process_start.is_some_and(|start| start > Duration::ZERO), "{process_start:?}");
    }

    #[test]
    fn a_helper_has_the_factor_of_its_parent() {
        assert_eq!(inherited(Some("2.5")), Some(2.5));
        assert_eq!(inherited(Some("1")), Some(1.0));
        for none in [Some("auto"), Some(""), Some("0"), Some("inf"), Some("nan"), None] {
            assert_eq!(inherited(none), None, "{none:?}");
        }
    }
}
