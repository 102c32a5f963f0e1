//! Outcomes of attempts, cases and runs.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CaseId, Comparison, seconds};
use crate::error::{self, HostCause};

/// Outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// All checks held, and the scenario ended with status 0.
    Passed,
    /// The product, or the scenario, is at fault.
    Failed {
        /// Cause of the failure.
        cause: Cause,
    },
    /// Infrastructure error: the lab was not created or was lost; the product was not tested.
    Infrastructure {
        /// Description of what failed.
        message: String,
        /// Cause on the host that every further case would have met, so that none was tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host_cause: Option<HostCause>,
        /// First check that did not hold, although the infrastructure had failed before or after it: such a case never counts as passed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed_check: Option<String>,
    },
    /// The run was interrupted.
    Interrupted,
}

/// Status of process 1 of a container that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum InitStatus {
    /// Process 1 was not started.
    NotStarted,
    /// Process 1 exited.
    Exited {
        /// Its exit status.
        status: i32,
    },
    /// A signal ended process 1; SIGINT where the container has powered itself off.
    Signaled {
        /// Number of the signal.
        signal: i32,
    },
    /// LXC's log does not name the status.
    Unknown,
}

impl Outcome {
    /// Makes an infrastructure error of which only the message is known.
    #[must_use]
    pub fn infrastructure(message: impl Into<String>) -> Self {
        Self::Infrastructure { message: message.into(), host_cause: None, failed_check: None }
    }

    /// Tells whether the outcome shows a failure of the product, whatever else has failed.
    #[must_use]
    pub fn has_failure(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Infrastructure { failed_check: Some(_), .. })
    }

    /// Returns the cause on the host for which no further case was tried.
    #[must_use]
    pub fn host_cause(&self) -> Option<HostCause> {
        match self {
            Self::Infrastructure { host_cause, .. } => *host_cause,
            _ => None,
        }
    }
}

/// Cause of a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A check did not hold.
    Check {
        /// First check that did not hold, with its values and place.
        message: String,
    },
    /// The scenario returned an error.
    Error {
        /// Text of the error, with its causes.
        message: String,
    },
    /// The scenario panicked.
    Panic {
        /// Text and place of the panic.
        message: String,
    },
    /// The scenario's program ended with a status other than 0, and did not tell the engine why.
    ExitStatus {
        /// Exit status of the program.
        status: i32,
        /// Reason that the program itself wrote, such as an exception with its place; absent where it wrote nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_words: Option<String>,
    },
    /// A signal ended the scenario's program.
    Signal {
        /// Number of the signal.
        signal: i32,
        /// Reason that the program itself wrote; absent where it wrote nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_words: Option<String>,
    },
    /// The scenario did not end within its deadline, and was killed.
    TimedOut {
        /// Deadline of the scenario.
        deadline_ms: u64,
        /// State at the deadline, a line each: the place in the scenario's code, the requests that were under way or the last one that
        /// had ended, and machines that a fault kept down; absent in records of older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doing: Option<String>,
    },
    /// The scenario passed, but its faults were not injected, or a condition that has to come true at least once during the faults never
    /// did.
    Chaos {
        /// Description of what was missing.
        message: String,
    },
    /// A machine ended by itself: its process 1 exited, crashed, or used up the machine's memory.
    MachineEnded {
        /// Name of the container in the lab.
        container: String,
        /// Status of the machine's process 1.
        process_1: InitStatus,
        /// Evidence for the end, with the last lines of the machine's logs.
        message: String,
    },
    /// A machine was not ready before its deadline, although its probe was run: the product did not come up.
    NotReady {
        /// Name of the container in the lab.
        container: String,
        /// Probe and its last answer, with the machine's failed units and the last lines of their journal.
        message: String,
    },
    /// The scenario broke the protocol of its socket.
    Protocol {
        /// Description of the breach.
        message: String,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check { message } => write!(f, "check failed: {message}"),
            Self::Error { message } => write!(f, "error: {message}"),
            Self::Panic { message } if self.is_exception() => write!(f, "exception: {message}"),
            Self::Panic { message } => write!(f, "panic: {message}"),
            Self::ExitStatus { status, last_words: None } => {
                write!(f, "the scenario's program ended with status {status} and wrote nothing")
            }
            Self::ExitStatus { status, last_words: Some(words) } => {
                write!(f, "{words} (the scenario's program ended with status {status})")
            }
            Self::Signal { signal, last_words: None } => {
                write!(f, "the scenario's program was ended by signal {signal}")
            }
            Self::Signal { signal, last_words: Some(words) } => {
                write!(f, "{words} (the scenario's program was ended by signal {signal})")
            }
            Self::TimedOut { deadline_ms, doing } => {
                let deadline = std::time::Duration::from_millis(*deadline_ms);
                write!(f, "the scenario did not end within {} and was killed", humantime::format_duration(deadline))?;
                doing.as_ref().map_or(Ok(()), |doing| write!(f, "; {}", doing.replace('\n', "\n  ")))
            }
            Self::Chaos { message } => write!(f, "the run with faults proves nothing: {message}"),
            Self::MachineEnded { message, .. } => write!(f, "the product ended: {message}"),
            Self::NotReady { message, .. } => write!(f, "the product did not come up: {message}"),
            Self::Protocol { message } => write!(f, "the scenario broke the protocol: {message}"),
        }
    }
}

impl Cause {
    /// Tells whether the cause is an uncaught exception of a program in another language than Rust: the first line of the message ends with
    /// a place in a file of that language.
    #[must_use]
    pub fn is_exception(&self) -> bool {
        let Self::Panic { message } = self else { return false };
        let first = message.lines().next().unwrap_or_default();
        let place = first.rsplit_once(" at ").and_then(|(_, place)| place.rsplit_once(':'));
        let file = place.filter(|(_, line)| line.parse::<u32>().is_ok()).map(|(file, _)| Path::new(file));
        file.and_then(Path::extension).is_some_and(|extension| extension != "rs")
    }
}

/// Verdict on a case over all its attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The case passed in the first attempt.
    Passed,
    /// The case failed in every attempt.
    Failed,
    /// The case passed after it had failed.
    Flaky,
    /// Infrastructure error: the product was not tested.
    Infrastructure,
    /// The run was interrupted during the case.
    Interrupted,
    /// The case was not run.
    Skipped,
}

/// One attempt at a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Outcome of the attempt.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Time from the start of the attempt's lab to the lab's end.
    pub duration_ms: f64,
    /// Folder of the attempt below the run's.
    pub folder: String,
    /// Results of the attempt's scheduled faults, where it had a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultCounts>,
}

/// Number of faults of a schedule, by result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultCounts {
    /// Faults in the schedule.
    pub planned: u32,
    /// Faults whose effect was verified, and then the recovery.
    pub bit: u32,
    /// Faults that could not be injected because of the lab's state at their planned time.
    pub refused: u32,
    /// Lateness of the faults that took effect; left out where none did, and by older engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lateness: Option<Lateness>,
}

/// Lateness of faults: from the planned start of each until its effect was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lateness {
    /// Median of the lateness.
    pub median_ms: u64,
    /// Maximum of the lateness.
    pub max_ms: u64,
    /// Number of faults that were late by a second or more, and by so much that their planned time was over: the schedule that was played
    /// is not the planned one.
    pub displaced: u32,
}

impl std::fmt::Display for Lateness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1e3;
        write!(f, "{:.1} s late in the median, {:.1} s at most", seconds(self.median_ms), seconds(self.max_ms))?;
        match self.displaced {
            0 => Ok(()),
            count => write!(
                f,
                "; {count} of the faults took effect only after their planned time, so ANOTHER SCHEDULE than the planned one was played"
            ),
        }
    }
}

/// A case with its attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    /// Name of the case, as `category/scenario:case`.
    pub case: CaseId,
    /// Verdict over all attempts.
    pub verdict: Verdict,
    /// Attempts in order.
    pub attempts: Vec<Attempt>,
}

impl CaseResult {
    /// Judges a case by its attempts. An infrastructure error before a pass or a failure does not count, unless a check had failed in it:
    /// no later attempt makes up for a failed check.
    #[must_use]
    pub fn judge(case: CaseId, attempts: Vec<Attempt>) -> Self {
        let any = |want: fn(&Outcome) -> bool| attempts.iter().any(|attempt| want(&attempt.outcome));
        let passed = any(|outcome| matches!(outcome, Outcome::Passed));
        let failed = any(|outcome| matches!(outcome, Outcome::Failed { .. }));
        let verdict = match (passed, failed) {
            (true, _) if any(Outcome::has_failure) => Verdict::Flaky,
            (true, _) => Verdict::Passed,
            (false, true) => Verdict::Failed,
            (false, false) if any(|outcome| matches!(outcome, Outcome::Interrupted)) => Verdict::Interrupted,
            (false, false) if attempts.is_empty() => Verdict::Skipped,
            (false, false) => Verdict::Infrastructure,
        };
        Self { case, verdict, attempts }
    }
}

/// Number of cases by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Cases that passed in the first attempt.
    pub passed: u32,
    /// Cases that failed in every attempt.
    pub failed: u32,
    /// Cases that passed after a failure.
    pub flaky: u32,
    /// Cases that ended with an infrastructure error.
    pub infrastructure: u32,
    /// Cases that were interrupted.
    pub interrupted: u32,
    /// Cases that were not run.
    pub skipped: u32,
}

impl Counts {
    /// Counts the verdicts of cases.
    #[must_use]
    pub fn of(cases: &[CaseResult]) -> Self {
        let mut counts = Self::default();
        for case in cases {
            *match case.verdict {
                Verdict::Passed => &mut counts.passed,
                Verdict::Failed => &mut counts.failed,
                Verdict::Flaky => &mut counts.flaky,
                Verdict::Infrastructure => &mut counts.infrastructure,
                Verdict::Interrupted => &mut counts.interrupted,
                Verdict::Skipped => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Returns the exit code: that of an interruption if there was one, else a failure's, else an infrastructure error's, else 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.interrupted > 0 {
            error::EXIT_INTERRUPTED
        } else if self.failed > 0 {
            error::EXIT_FAILED
        } else if self.infrastructure > 0 {
            error::EXIT_INFRASTRUCTURE
        } else {
            error::EXIT_PASSED
        }
    }
}

/// State of a run whose events have no end: the run still goes on, or was killed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unfinished {
    /// True if a process still writes the run's events.
    pub still_runs: bool,
    /// Time of the last event since the run's start.
    pub last_event_ms: f64,
    /// Cases that had begun and not ended.
    pub under_way: Vec<CaseId>,
    /// Number of planned cases that had not begun.
    pub not_begun: u32,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = seconds(self.last_event_ms);
        if self.still_runs {
            write!(f, "it still runs; its last event so far is from {at}")?;
        } else {
            write!(f, "it was killed: its events end at {at} without an end of the run")?;
        }
        match self.under_way.as_slice() {
            [] => f.write_str(", no case was under way")?,
            [one] => write!(f, ", {one} was under way")?,
            many => {
                let names: Vec<&str> = many.iter().map(|case| case.0.as_str()).collect();
                write!(f, ", {} were under way", names.join(", "))?;
            }
        }
        match self.not_begun {
            0 => Ok(()),
            1 => f.write_str(", 1 case had not begun"),
            many => write!(f, ", {many} cases had not begun"),
        }
    }
}

/// Ids of labs on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabIds {
    /// Each slot has a range of ids of its own.
    PerSlot,
    /// All labs have the same range of ids, and share the kernel's limits for each user id.
    Shared,
}

/// Result of a run: `run.json`, which is the fold of the run's events ([`super::Fold`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Version of this format: [`super::FORMAT_VERSION`].
    pub format_version: u32,
    /// Name of the run and of its folder.
    pub run_id: String,
    /// Begin of the run, in RFC 3339, UTC.
    pub started_at: String,
    /// Duration of the run.
    pub duration_ms: f64,
    /// Version of the engine.
    pub engine_version: String,
    /// Name of the user that scenarios ran as.
    pub user: String,
    /// Seed of the order of the cases, where the order was shuffled.
    pub shuffle_seed: Option<u64>,
    /// Seed of the run's faults, where they were drawn from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos_seed: Option<u64>,
    /// Layer hashes by template.
    pub layers: std::collections::BTreeMap<String, String>,
    /// Templates whose containers run as root of the host.
    pub privileged: Vec<String>,
    /// Parts of the kernel that containers may use although most containers may not, by template.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub allowed: std::collections::BTreeMap<String, Vec<String>>,
    /// Results of the cases.
    pub cases: Vec<CaseResult>,
    /// Number of cases by verdict.
    pub counts: Counts,
    /// Baseline of the run's measured operations: `baselines/`, a revision or a folder; absent where they were not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// Comparisons of measured operations with that baseline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Numbers of the product's functions that were called, where they were collected (`--coverage`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<super::RecordedCoverage>,
    /// Things that the run made on the host and could not remove, a sentence for each.
    pub cleanup_failures: Vec<String>,
    /// Exit code of the command, unless its reports could not be written afterwards.
    pub exit_code: u8,
    /// Error that ended the run before all cases were tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Words after `cargo xtask` that the run was started with; a drawn seed has a field of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Machine that the run was on; absent in records of older engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<super::Machine>,
    /// User ids of the run's labs on the host; absent in records of older engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<LabIds>,
    /// Factor by which the run's deadlines were multiplied; absent in records of older engines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<super::RecordedPatience>,
    /// Debian and Python packages in the containers, by template, as `name=version`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub packages: std::collections::BTreeMap<String, Vec<String>>,
    /// Shard of the suite that the run executed, where the suite was split (`--shard`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<RecordedPart>,
    /// State of an unfinished run; absent where the run has ended, as in every `run.json` that an engine wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<Unfinished>,
    /// Parts that are missing in this record, and the reasons, a sentence for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

impl RunRecord {
    /// Returns what a reader has to know first, a sentence each: that the run has no end, the error that ended it, and the gaps in its
    /// record.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let end = self.unfinished.as_ref().map(ToString::to_string);
        let error = self.error.as_ref().map(|error| format!("it was ended by an error: {error}"));
        end.into_iter().chain(error).chain(self.gaps.iter().cloned()).collect()
    }

    /// Returns the name of the mutant whose run this is: the product is broken on purpose, and the failures are not the product's.
    #[must_use]
    pub fn mutant(&self) -> Option<&str> {
        self.run_id.split_once("/mutants/").map(|(_, mutant)| mutant)
    }

    /// Tells whether any case of the run had a schedule of faults.
    #[must_use]
    pub fn had_faults(&self) -> bool {
        self.cases.iter().any(|case| case.attempts.iter().any(|attempt| attempt.faults.is_some()))
    }

    /// Returns the cause on the host for which the run ended before all cases were tried.
    #[must_use]
    pub fn host_cause(&self) -> Option<HostCause> {
        let mut attempts = self.cases.iter().flat_map(|case| &case.attempts);
        attempts.find_map(|attempt| attempt.outcome.host_cause())
    }

    /// Returns the cases that passed in the first attempt, with their durations in milliseconds; a repetition has the name of its case.
    pub fn passed_durations(&self) -> impl Iterator<Item = (String, f64)> {
        let passed = self.cases.iter().filter(|case| case.verdict == Verdict::Passed);
        passed.filter_map(|case| {
            let name = case.case.0.split('#').next().unwrap_or_default().to_owned();
            Some((name, case.attempts.last()?.duration_ms))
        })
    }

    /// Returns the cases that failed, had an infrastructure error, were interrupted or were not run, in order; each once, without the
    /// suffix of a repetition. A flaky case has passed.
    #[must_use]
    pub fn not_passed(&self) -> Vec<String> {
        let mut cases: Vec<String> = Vec::new();
        for result in &self.cases {
            let name = result.case.0.split('#').next().unwrap_or_default();
            if !matches!(result.verdict, Verdict::Passed | Verdict::Flaky) && !cases.iter().any(|case| case == name) {
                cases.push(name.to_owned());
            }
        }
        cases
    }
}

/// Shard of a suite that a run executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPart {
    /// Number of the shard, from 1.
    pub shard: u32,
    /// Number of all shards.
    pub of: u32,
    /// Every case of the suite, repetitions included, in the order of their names.
    pub suite: Vec<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes the record of a run without cases.
    pub fn record() -> RunRecord {
        RunRecord {
            format_version: super::super::FORMAT_VERSION,
            run_id: "20260101-000000-1".into(),
            started_at: "2026-01-01T00:00:00.000Z".into(),
            duration_ms: 1.0,
            engine_version: "0.1.0".into(),
            user: "user".into(),
            ..RunRecord::default()
        }
    }

    #[test]
    fn a_python_program_has_an_exception_and_a_rust_program_panics() {
        let check = |message: &str, expected: &str| {
            assert_eq!(Cause::Panic { message: message.into() }.to_string(), format!("{expected}: {message}"));
        };
        check("KeyError: 'x' at scenarios/a/main.py:41\nTraceback", "exception");
        check("no way at scenarios/a/main.rs:12", "panic");
        check("it stood at 12:30", "panic");
        check("it wrote nothing", "panic");
    }

    #[test]
    fn what_has_not_passed_is_named_once() {
        let case = |name: &str, verdict| CaseResult { case: CaseId(name.into()), verdict, attempts: Vec::new() };
        let cases = vec![
            case("a/b:ok", Verdict::Passed),
            case("a/b:now_and_then", Verdict::Flaky),
            case("a/b:bad", Verdict::Passed),
            case("a/b:bad#2", Verdict::Failed),
            case("a/b:bad#3", Verdict::Failed),
            case("a/b:no_lab", Verdict::Infrastructure),
            case("a/b:cut", Verdict::Interrupted),
            case("a/b:left", Verdict::Skipped),
        ];
        let record = RunRecord { cases, ..record() };
        assert_eq!(record.not_passed(), ["a/b:bad", "a/b:no_lab", "a/b:cut", "a/b:left"]);
    }

    fn check(outcomes: &[Outcome], verdict: Verdict, exit_code: u8) {
        let attempt = |outcome: &Outcome| Attempt {
            outcome: outcome.clone(),
            duration_ms: 1.0,
            folder: String::new(),
            faults: None,
        };
        let result = CaseResult::judge(CaseId("c".into()), outcomes.iter().map(attempt).collect());
        assert_eq!(result.verdict, verdict, "{outcomes:?}");
        assert_eq!(Counts::of(&[result]).exit_code(), exit_code, "{outcomes:?}");
    }

    #[test]
    fn verdicts_and_exit_codes() {
        let failed = Outcome::Failed { cause: Cause::ExitStatus { status: 7, last_words: None } };
        let infrastructure = Outcome::infrastructure("no memory");
        let with_check =
            Outcome::Infrastructure { message: "killed".into(), host_cause: None, failed_check: Some("a == b".into()) };
        check(&[Outcome::Passed], Verdict::Passed, 0);
        check(std::slice::from_ref(&failed), Verdict::Failed, 1);
        check(&[failed.clone(), Outcome::Passed], Verdict::Flaky, 0);
        check(&[infrastructure.clone(), Outcome::Passed], Verdict::Passed, 0);
        check(&[infrastructure.clone(), infrastructure.clone()], Verdict::Infrastructure, 3);
        check(&[infrastructure.clone(), failed.clone()], Verdict::Failed, 1);
        check(&[with_check.clone(), Outcome::Passed], Verdict::Flaky, 0);
        check(&[with_check.clone(), infrastructure], Verdict::Infrastructure, 3);
        check(&[with_check, failed, Outcome::Passed], Verdict::Flaky, 0);
        check(&[Outcome::Interrupted], Verdict::Interrupted, 5);
        check(&[], Verdict::Skipped, 0);
    }
}
