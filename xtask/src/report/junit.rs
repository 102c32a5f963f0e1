//! `junit.xml`, as Jenkins (xUnit, JUnit) and GitLab read it: each scenario is a test suite, and each case a test case.
//!
//! The failed attempts of a flaky case are `flakyFailure`; of a failed case, the attempts after the first one are `rerunFailure`. A case
//! whose lab could not be made and an interrupted case are an `error`, because neither is a result about the product.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestRerun, TestSuite};
use regex::Regex;

use super::before::Before;
use super::problem::{Problem, ending, lines, problems};
use crate::input;
use crate::program;
use crate::record::{
    self, AttemptEvents, CaseResult, Cause, Event, Outcome, PastRun, RunEvents, RunRecord, Verdict, visible_text,
};

/// Maximum bytes of a scenario's log in a test case; the end of a longer log is shown.
const LOG_BYTES_MAX: u64 = 16 << 10;

pub fn make(run: &PastRun, events: &RunEvents) -> anyhow::Result<String> {
    let mut report = Report::new(format!("e2e {}", run.record.run_id));
    report.set_time(duration(run.record.duration_ms));
    let mut suites: Vec<(&str, TestSuite)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for case in &run.record.cases {
        let (scenario, name) = case.case.0.split_once(':').unwrap_or((&case.case.0, "default"));
        let place = *places.entry(scenario).or_insert_with(|| {
            suites.push((scenario, suite(&run.record, scenario)));
            suites.len() - 1
        });
        suites[place].1.add_test_case(test_case(run, case, events, (scenario, name)));
    }
    let mut begins: HashMap<&str, f64> = HashMap::new();
    for attempt in events.attempts() {
        if let Some((scenario, _)) = attempt.case.0.split_once(':') {
            begins.entry(scenario).or_insert(attempt.begun_ms);
        }
    }
    for (scenario, mut suite) in suites {
        suite.set_time(suite.test_cases.iter().filter_map(|case| case.time).sum());
        let begun_ms = begins.get(scenario).copied().unwrap_or_default();
        if let Ok(started_at) = humantime::parse_rfc3339(&run.record.started_at) {
            suite.set_timestamp(DateTime::<Utc>::from(started_at + duration(begun_ms)));
        }
        report.add_test_suite(suite);
    }
    let text = report.to_string().context("serializing the report as XML")?;
    // Jenkins' schema has the attribute for a suite, and none for all suites. In values '>' is written otherwise.
    let skipped = Regex::new("(<testsuites [^>]*?) skipped=\"[0-9]+\"").context("compiling a regular expression")?;
    Ok(skipped.replace(&text, "$1").into_owned())
}

fn suite(record: &RunRecord, scenario: &str) -> TestSuite {
    let mut suite = TestSuite::new(valid(scenario));
    let mut property = |name: &str, value: String| {
        suite.add_property(Property::new(name, valid(&value)));
    };
    property("run", record.run_id.clone());
    property("engine_version", record.engine_version.clone());
    if !record.command.is_empty() {
        property("command", format!("{} {}", program::name(), record.command.join(" ")));
    }
    if let Some(patience) = record.patience {
        property("patience", patience.factor.to_string());
    }
    if !record.remarks().is_empty() {
        property("missing", record.remarks().join("; "));
    }
    if let Some(seed) = record.chaos_seed {
        property("chaos_seed", seed.to_string());
    }
    if let Some(seed) = record.shuffle_seed {
        property("shuffle_seed", seed.to_string());
    }
    suite
}

fn test_case(run: &PastRun, case: &CaseResult, events: &RunEvents, (scenario, name): (&str, &str)) -> TestCase {
    let tries: Vec<Try<'_>> = case
        .attempts
        .iter()
        .zip(1..)
        .map(|(result, number)| {
            let told = events.attempt(&case.case, number);
            Try { result, told }
        })
        .collect();
    let failed = |one: &&Try<'_>| matches!(one.result.outcome, Outcome::Failed { .. });
    // The attempt that speaks for the case, and those that stand beside it.
    let main = match case.verdict {
        Verdict::Passed | Verdict::Flaky => tries.iter().find(|one| one.result.outcome == Outcome::Passed),
        Verdict::Failed => tries.iter().find(failed),
        Verdict::Interrupted => tries.iter().find(|one| one.result.outcome == Outcome::Interrupted),
        Verdict::Infrastructure | Verdict::Skipped => tries.first(),
    };
    let mut status = match (case.verdict, main) {
        (Verdict::Passed | Verdict::Flaky, _) => TestCaseStatus::success(),
        (Verdict::Skipped, _) | (_, None) => {
            let mut status = TestCaseStatus::skipped();
            let cause = run.record.host_cause().map(|cause| cause.problem().to_owned());
            let why =
                cause.or_else(|| run.record.unfinished.as_ref().map(|end| format!("the run did not finish: {end}")));
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            status.set_message(format!("it was not run{why}"));
            status
        }
        (_, Some(main)) => {
            let mut status = TestCaseStatus::non_success(main.kind());
            status.set_type(main.word()).set_message(main.message()).set_description(main.text());
            status
        }
    };
    // No attempt is left out: one without a verdict stands beside a pass, too.
    let beside = tries.iter().filter(|one| main.is_some_and(|main| !std::ptr::eq(main, *one)));
    let beside = beside.filter(|one| one.result.outcome != Outcome::Passed);
    status.add_reruns(beside.map(|one| one.rerun(run)));
    let mut test_case = TestCase::new(valid(name), status);
    test_case.set_classname(valid(&scenario.replace('/', ".")));
    test_case.set_time(duration(main.map_or(0.0, |main| main.result.duration_ms)));
    if let Some(log) = main.and_then(|main| log_of(run, main.result)) {
        test_case.set_system_out(log);
    }
    test_case
}

/// Attempt at a case, with its events if the run recorded any.
struct Try<'a> {
    result: &'a record::Attempt,
    told: Option<&'a AttemptEvents>,
}

impl Try<'_> {
    fn kind(&self) -> NonSuccessKind {
        match self.result.outcome {
            Outcome::Failed { .. } | Outcome::Passed => NonSuccessKind::Failure,
            Outcome::Infrastructure { .. } | Outcome::Interrupted => NonSuccessKind::Error,
        }
    }

    fn word(&self) -> &'static str {
        match &self.result.outcome {
            Outcome::Passed => "passed",
            Outcome::Infrastructure { .. } => "infrastructure",
            Outcome::Interrupted => "interrupted",
            Outcome::Failed { cause } => match cause {
                Cause::Check { .. } => "check",
                Cause::Error { .. } => "error",
                Cause::Panic { .. } => "panic",
                Cause::ExitStatus { .. } => "exit_status",
                Cause::Signal { .. } => "signal",
                Cause::TimedOut { .. } => "timed_out",
                Cause::Chaos { .. } => "chaos",
                Cause::MachineEnded { .. } => "machine_ended",
                Cause::NotReady { .. } => "not_ready",
                Cause::Protocol { .. } => "protocol",
            },
        }
    }

    fn message(&self) -> String {
        let text = ending(&self.result.outcome).unwrap_or_default();
        // What explains a time-out is short, and most readers of JUnit show nothing but this.
        if self.word() == "timed_out" {
            return valid(&text.lines().map(str::trim).collect::<Vec<_>>().join("; "));
        }
        valid(text.lines().next().unwrap_or_default())
    }

    /// Returns the details of the attempt's failure: outcome, unexpected ends of programs before it, problems, last lines of the logs,
    /// folder.
    fn text(&self) -> String {
        let mut text = ending(&self.result.outcome).unwrap_or_default();
        for line in self.told.iter().flat_map(|told| Before::of(told).lines()) {
            text.push_str(&format!("\nbefore: {line}"));
        }
        for problem in self.told.iter().flat_map(|told| problems(told)) {
            text.push_str(&format!("\n\n{}", Problem::text(&problem)));
        }
        for stamped in self.told.iter().flat_map(|told| told.events()) {
            if let Event::CaseEnded { last_words, .. } = &stamped.event
                && !last_words.is_empty()
            {
                text.push_str(&format!("\n\n{}", lines(&last_words.join("\n"))));
            }
        }
        text.push_str(&format!("\n\nlogs and artifacts: {}/ in the run's folder", self.result.folder));
        valid(&text)
    }

    fn rerun(&self, run: &PastRun) -> TestRerun {
        let mut rerun = TestRerun::new(self.kind());
        rerun.set_type(self.word()).set_message(self.message()).set_stack_trace(self.text());
        if let Some(log) = log_of(run, self.result) {
            rerun.set_system_out(log);
        }
        rerun
    }
}

/// Returns the last lines that the scenario of an attempt printed; `None` if it printed nothing.
fn log_of(run: &PastRun, attempt: &record::Attempt) -> Option<String> {
    let path = Path::new(&attempt.folder).join("scenario.log");
    let (left_out, bytes) = input::read_end_below(&run.folder, path, LOG_BYTES_MAX).ok()?;
    let cut = left_out > 0;
    let text = valid(&String::from_utf8_lossy(&bytes));
    let text = if cut { text.split_once('\n').map_or(text.as_str(), |(_, whole)| whole) } else { &text };
    let cut = if cut { "... the start stands in scenario.log\n" } else { "" };
    (!text.trim().is_empty()).then(|| format!("{cut}{text}"))
}

/// Makes a text of other programs fit for XML: hidden characters become visible, and U+FFFE and U+FFFF, which XML does not allow and
/// quick-junit does not remove, are replaced.
fn valid(text: &str) -> String {
    visible_text(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default()
}
