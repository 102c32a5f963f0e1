//! Explanation of an attempt that did not pass: what failed, when, on which machine, under which faults, what was logged, and which
//! commands to type next.

use std::collections::BTreeSet;

use e2e_contract::{DefectOutcome, InvariantKind};
use serde::Serialize;

use super::log::{Rows, around, errors_around, while_faults};
use super::story::{Broken, Story};
use super::words::{Moment, count, duration, moment, plain, wall_clock};
use crate::record::logs::LogLine;
use crate::record::{Cause, Outcome, mark_outcome, mark_seen};
use crate::report::next::Next;

/// Maximum listed faults that had ended before the failure.
const OVER_MAX: usize = 12;

/// First check, condition or step of an attempt that failed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Broke {
    /// Time in milliseconds since the run's start.
    pub at_ms: f64,
    /// Kind of the failure in words, such as a failed check.
    pub kind: String,
    /// Condition that did not hold, or message of the error.
    pub what: String,
    /// The author's words for the meaning of the condition.
    pub meaning: Option<String>,
    pub values: String,
    /// Place in the scenario, as `FILE:LINE`.
    pub place: Option<String>,
}

/// Explanation of a failure: the data with which the page's template is filled.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    pub broke: Broke,
    /// Moment of the failure on the run's clock.
    pub at: Moment,
    /// Time of the failure on the wall clock (UTC).
    pub wall_clock: Option<String>,
    /// Time from the attempt's start to the failure.
    pub into: String,
    /// Innermost step of the scenario at the moment of the failure.
    pub step: Option<String>,
    /// Number of other failed checks, invariants and marks of known defects.
    pub others: usize,
    /// Machines that are related to the failure; the strongest relation comes first.
    pub machines: Vec<MachineLine>,
    /// Faults that were active at the moment of the failure.
    pub faults_on: Vec<FaultLine>,
    /// Faults that had ended before the failure, the last one first.
    pub faults_over: Vec<FaultLine>,
    /// Number of ended faults that are not in `faults_over`.
    pub faults_over_left_out: usize,
    /// Log lines around the moment of the failure.
    pub logged: Rows,
    /// Errors and warnings that were logged while faults were active, earlier than the lines of `logged`.
    pub logged_before: Rows,
    /// Last lines of each log, for a failure without log lines around its moment.
    pub last_words: Vec<String>,
    /// Unexpected ends of programs before the failure, a line each.
    pub before: Vec<String>,
    pub next: Vec<Next>,
    /// Commands that open a shell in the machines of a kept lab.
    pub enter: Vec<String>,
}

/// Relation of a machine to a failure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MachineLine {
    /// Name of the machine in the lab.
    pub machine: String,
    /// Reasons why the machine is related to the failure.
    pub reasons: Vec<String>,
}

/// Returns the first failure of an attempt; `None` for a passed attempt.
pub fn broke(story: &Story, outcome: &Outcome) -> Option<Broke> {
    let end = |kind: &str, what: String| {
        Some(Broke {
            at_ms: story.ended_ms,
            kind: kind.into(),
            what,
            meaning: None,
            values: String::new(),
            place: None,
        })
    };
    let cause = match outcome {
        Outcome::Passed => return None,
        Outcome::Interrupted if story.outcome.is_none() => {
            let what = "the events of this case end here, and nothing is known of its end";
            return end("The run has no end: it was killed in this case, or still runs", what.into());
        }
        Outcome::Interrupted => return end("The run was interrupted", "there is no verdict on the product".into()),
        Outcome::Infrastructure { message, .. } => {
            return end("Infrastructure error: the product was not tested", message.clone());
        }
        Outcome::Failed { cause } => cause,
    };
    match cause {
        Cause::Check { message } => {
            let mut broken = checks(story);
            let named = broken.iter().position(|one| message.contains(&one.what));
            match named.or((!broken.is_empty()).then_some(0)) {
                Some(place) => Some(broken.swap_remove(place)),
                None => end("A check did not hold", message.clone()),
            }
        }
        Cause::Error { message } | Cause::Panic { message } => {
            let kind = match cause {
                Cause::Panic { .. } if cause.is_exception() => "The scenario had an uncaught exception",
                Cause::Panic { .. } => "The scenario panicked",
                _ => "The scenario gave up",
            };
            let place = story.aborted.as_ref().and_then(|(_, _, place)| place.clone());
            let at_ms = story.aborted.as_ref().map_or(story.ended_ms, |(at_ms, ..)| *at_ms);
            let (what, values) = (message.clone(), String::new());
            Some(Broke { at_ms, kind: kind.into(), what, meaning: None, values, place })
        }
        Cause::TimedOut { .. } | Cause::Signal { .. } | Cause::ExitStatus { .. } => {
            let at_ms = scenario_end(story);
            let what = cause.to_string();
            let kind = "The scenario's program did not come to its end".into();
            Some(Broke { at_ms, kind, what, meaning: None, values: String::new(), place: None })
        }
        Cause::MachineEnded { container, message, .. } => {
            let told = story
                .findings
                .iter()
                .find(|(_, it)| it.kind == "machine_ended" && it.container.as_ref() == Some(container));
            let at_ms = told.map_or(story.ended_ms, |(at_ms, _)| *at_ms);
            let (kind, what) = (format!("The product ended: {container}"), message.clone());
            Some(Broke { at_ms, kind, what, meaning: None, values: String::new(), place: None })
        }
        Cause::NotReady { container, message } => {
            end(&format!("The product did not come up: {container}"), message.clone())
        }
        Cause::Chaos { message } => end("The run with faults proves nothing", message.clone()),
        Cause::Protocol { message } => end("The scenario broke the protocol", message.clone()),
    }
}

/// Returns the time at which the scenario's program ended, in milliseconds since the run's start: the end of the lab's phase `scenario`, or
/// of the attempt if that phase is missing.
fn scenario_end(story: &Story) -> f64 {
    let scenario = story.phases.iter().find(|phase| phase.name == "scenario");
    scenario.map_or(story.ended_ms, |phase| phase.ended_ms)
}

/// Returns every failed check, invariant and mark of a known defect of an attempt, in the order of time.
fn checks(story: &Story) -> Vec<Broke> {
    let checks = story.checks.iter().filter(|(_, check)| !check.passed).map(|(at_ms, check)| Broke {
        at_ms: *at_ms,
        kind: "A check did not hold".into(),
        what: check.condition.clone(),
        meaning: check.message.clone(),
        values: check.values.clone(),
        place: Some(format!("{}:{}", check.file, check.line)),
    });
    let failed = |(_, it): &&(f64, e2e_contract::Invariant)| !it.held && it.kind != InvariantKind::Sometimes;
    let invariants = story.invariants.iter().filter(failed).map(|(at_ms, it)| {
        let kind = match it.kind {
            InvariantKind::Always => "A condition that must always hold did not",
            InvariantKind::AtEnd | InvariantKind::Sometimes => "A condition that must hold at the end did not",
        };
        let looks = format!("{}, {} without an answer", count(it.looks as usize, "look", "looks"), it.missed);
        Broke {
            at_ms: *at_ms,
            kind: kind.into(),
            what: it.name.clone(),
            meaning: None,
            values: if it.values.is_empty() { looks } else { format!("{}\n{looks}", it.values) },
            place: Some(format!("{}:{}", it.file, it.line)),
        }
    });
    let defects = story.defects.iter().filter(|(_, it)| it.outcome != DefectOutcome::Known).map(|(at_ms, it)| {
        let kind = match mark_outcome(it) {
            DefectOutcome::Fixed => "A known defect is fixed: its mark has to go",
            DefectOutcome::Different | DefectOutcome::Known => "A known defect no longer fails as known",
        };
        Broke {
            at_ms: *at_ms,
            kind: kind.into(),
            what: it.defect.clone(),
            meaning: Some(format!("expected to fail with {:?}", it.failing_with)),
            values: mark_seen(it),
            place: Some(format!("{}:{}", it.file, it.line)),
        }
    });
    let mut all: Vec<Broke> = checks.chain(invariants).chain(defects).collect();
    all.sort_by(|one, two| one.at_ms.total_cmp(&two.at_ms));
    all
}

/// Parts of a failure's explanation that are not made from the attempt's story and logs.
#[derive(Default)]
pub struct More {
    /// Unexpected ends of programs before the failure, a line each.
    pub before: Vec<String>,
    pub next: Vec<Next>,
}

pub fn failure(story: &Story, broke: Broke, lines: &[LogLine], started_at: &str, more: More) -> Failure {
    let More { before, next } = more;
    let at_ms = broke.at_ms;
    let step = story.steps.iter().filter(|step| step.begun_ms <= at_ms && at_ms <= step.ended_ms);
    let step = step.max_by_key(|step| step.number).map(|step| plain(&step.name, 200));
    let others = checks(story).len().saturating_sub(1);
    let logged = around(lines, at_ms);
    let (faults_over, faults_over_left_out) = over_by(story, at_ms, OVER_MAX);
    let last_words: Vec<String> = story.last_words.iter().map(|line| plain(line, 600)).collect();
    let broke = Broke {
        what: plain(&broke.what, 4000),
        values: plain(&broke.values, 8000),
        meaning: broke.meaning.map(|meaning| plain(&meaning, 2000)),
        ..broke
    };
    Failure {
        at: moment(at_ms),
        wall_clock: wall_clock(started_at, at_ms),
        into: duration(at_ms - story.begun_ms),
        step,
        others,
        machines: machines(story, lines, at_ms),
        faults_on: on_at(story, at_ms),
        faults_over,
        faults_over_left_out,
        logged_before: while_faults(lines, story, at_ms),
        last_words: if logged.rows.is_empty() { last_words } else { Vec::new() },
        logged,
        before,
        next,
        enter: story.enter.clone(),
        broke,
    }
}

/// Returns the machines that are related to a moment, with their reasons: an active fault, the last command, logged errors.
fn machines(story: &Story, lines: &[LogLine], at_ms: f64) -> Vec<MachineLine> {
    let last = story.commands.iter().filter(|command| command.ended_ms <= at_ms + 1.0);
    let last = last.max_by(|one, two| one.ended_ms.total_cmp(&two.ended_ms));
    let names: BTreeSet<&String> = story
        .commands
        .iter()
        .map(|command| &command.container)
        .chain(story.faults.iter().map(|broken| &broken.container))
        .collect();
    let line = |name: &String| {
        let on = story.faults.iter().filter(|broken| broken.container == *name && broken.is_on(at_ms));
        let mut reasons: Vec<String> = on.map(|broken| format!("{} was on", broken.description)).collect();
        let asked = last.filter(|command| command.container == *name);
        let weight = 4 * reasons.len() + 2 * usize::from(asked.is_some());
        reasons.extend(asked.map(|command| {
            let before = duration((at_ms - command.ended_ms).max(0.0));
            let place =
                command.location.as_ref().map_or_else(String::new, |place| format!(", at {}", plain(place, 200)));
            format!("last asked, {before} before: {} (status {}{place})", plain(&command.text, 120), command.status)
        }));
        let errors = errors_around(lines, name, at_ms);
        if errors > 0 {
            reasons.push(format!("logged {} close to it", count(errors, "error", "errors")));
        }
        let over = story.faults.iter().filter(|broken| broken.container == *name && !broken.is_on(at_ms)).count();
        if over > 0 {
            reasons.push(format!("had {} before, over by then", count(over, "fault", "faults")));
        }
        (weight + usize::from(errors > 0), MachineLine { machine: name.clone(), reasons })
    };
    let mut found: Vec<(usize, MachineLine)> =
        names.into_iter().map(line).filter(|(_, line)| !line.reasons.is_empty()).collect();
    found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    found.into_iter().map(|(_, line)| line).collect()
}

/// Fault and its relation in time to a failure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FaultLine {
    /// Name of the faulted container in the lab.
    pub container: String,
    /// Name of the fault with its parameters.
    pub what: String,
    /// Moment at which the fault's effect was verified.
    pub bit: Moment,
    /// Relation in time to the failure, in words.
    pub relation: String,
    /// Evidence that the fault took effect.
    pub evidence: String,
}

/// Returns the faults that were active at a moment.
fn on_at(story: &Story, at_ms: f64) -> Vec<FaultLine> {
    let on = story.faults.iter().filter(|broken| broken.is_on(at_ms));
    on.map(|broken| line(broken, format!("on since {}", duration(at_ms - broken.bit_ms)))).collect()
}

/// Returns at most `most` of the faults that had ended before a moment, the last one first, and the number of the others.
fn over_by(story: &Story, at_ms: f64, most: usize) -> (Vec<FaultLine>, usize) {
    let mut over: Vec<(f64, &Broken)> =
        story.faults.iter().filter_map(|it| Some((it.healed_ms.filter(|healed| *healed < at_ms)?, it))).collect();
    over.sort_by(|one, two| two.0.total_cmp(&one.0));
    let left_out = over.len().saturating_sub(most);
    over.truncate(most);
    let line = |(healed, broken): (f64, &Broken)| {
        let lasted = duration(healed - broken.asked_ms);
        line(broken, format!("over {} before, after {lasted}", duration(at_ms - healed)))
    };
    (over.into_iter().map(line).collect(), left_out)
}

fn line(broken: &Broken, relation: String) -> FaultLine {
    FaultLine {
        container: broken.container.clone(),
        what: broken.description.to_string(),
        bit: moment(broken.bit_ms),
        relation,
        evidence: plain(&broken.evidence, 400),
    }
}

#[cfg(test)]
mod tests {
    use e2e_contract::{Check, Invariant};

    use super::super::story::{Broken, Command, Span};
    use super::*;

    fn check(condition: &str, passed: bool) -> Check {
        Check {
            passed,
            condition: condition.into(),
            values: "rows = 3".into(),
            message: None,
            file: "scenarios/a/main.rs".into(),
            line: 7,
        }
    }

    fn story() -> Story {
        let command = |container: &str, ended_ms| Command {
            begun_ms: ended_ms - 5.0,
            ended_ms,
            container: container.into(),
            text: "psql".into(),
            status: 0,
            timed_out: false,
            location: Some("shop/main.py:7".into()),
        };
        Story {
            begun_ms: 1000.0,
            ended_ms: 9000.0,
            checks: vec![(2000.0, check("one", true)), (3000.0, check("two", false)), (4000.0, check("three", false))],
            commands: vec![command("db", 2990.0), command("app", 2500.0), command("app", 5000.0)],
            steps: vec![Span { name: "count".into(), begun_ms: 2900.0, ended_ms: 3100.0, number: 0, passed: false }],
            faults: vec![Broken {
                fault: 1,
                scheduled: None,
                container: "worker".into(),
                description: e2e_contract::Fault::NodeFreeze,
                asked_ms: 2000.0,
                bit_ms: 2100.0,
                healed_ms: Some(3500.0),
                evidence: "it stood still".into(),
                healed: None,
            }],
            ..Story::default()
        }
    }

    fn of_check(message: &str) -> Outcome {
        Outcome::Failed { cause: Cause::Check { message: message.into() } }
    }

    #[test]
    fn the_check_of_the_cause_is_what_broke() {
        let story = story();
        let broke_at = |message: &str| broke(&story, &of_check(message)).map(|broke| (broke.what, broke.at_ms));
        assert_eq!(broke_at("three at scenarios/a/main.rs:7"), Some(("three".into(), 4000.0)));
        assert_eq!(broke_at("something else"), Some(("two".into(), 3000.0)));
        assert_eq!(broke(&story, &Outcome::Passed), None);
        let invariant = Invariant {
            kind: InvariantKind::AtEnd,
            name: "no job is lost".into(),
            held: false,
            looks: 1,
            missed: 0,
            values: String::new(),
            file: "f".into(),
            line: 1,
        };
        let story = Story { invariants: vec![(8000.0, invariant)], ..Story::default() };
        let found = broke(&story, &of_check("no job is lost at f:1")).unwrap();
        assert_eq!((found.at_ms, found.place.as_deref()), (8000.0, Some("f:1")));
    }

    #[test]
    fn a_failure_names_machines_and_faults_of_its_moment() {
        let story = story();
        let broke = broke(&story, &of_check("two")).unwrap();
        let failure = failure(&story, broke, &[], "2026-01-01T00:00:00Z", More::default());
        let machines: Vec<(&str, &str)> =
            failure.machines.iter().map(|line| (line.machine.as_str(), line.reasons[0].as_str())).collect();
        assert_eq!(
            machines,
            [
                ("worker", "node.freeze was on"),
                ("db", "last asked, 10.0 ms before: psql (status 0, at shop/main.py:7)")
            ]
        );
        assert_eq!((failure.step.as_deref(), failure.others), (Some("count"), 1));
        assert_eq!(failure.faults_on[0].relation, "on since 900 ms");
        assert_eq!(failure.wall_clock.as_deref(), Some("2026-01-01T00:00:03.000Z"));
    }
}
