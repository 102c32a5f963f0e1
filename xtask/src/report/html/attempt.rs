//! View of one attempt at a case.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;

use e2e_contract::{DefectOutcome, InvariantKind, Level};
use serde::Serialize;

use super::chaos::{Chaos, chaos};
use super::curves::curves;
use super::failure::{Failure, More, broke, failure};
use super::history::clients;
use super::log::{Log, alarms, log};
use super::performance::{OperationView, operations};
use super::pictures::{PictureView, Room};
use super::story::Story;
use super::timeline::{Timeline, timeline};
use super::words::{Moment, Word, duration, moment, plain, significant, size, thousands};
use crate::input;
use crate::record::logs::{LogDigest, LogLine};
use crate::record::{Attempt, AttemptEvents, CaseId, Outcome, PastRun, Performance, mark_outcome, mark_seen};
use crate::report::before::Before;
use crate::report::next::next;

/// View of one attempt at a case: the data with which the page's template is filled.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptView {
    /// HTML anchor of the attempt in the page.
    pub anchor: String,
    /// Number of the attempt in its case, from 1.
    pub number: usize,
    pub outcome: Word,
    pub duration: String,
    /// Folder of the attempt, relative to the run's folder.
    pub folder: String,
    /// Explanation of the attempt's failure; `None` for a passed attempt.
    pub failure: Option<Failure>,
    /// Sentences about missing parts of the attempt's record.
    pub missing: Vec<String>,
    /// Timeline of the attempt; `None` if no events of it were recorded.
    pub timeline: Option<Timeline>,
    /// Names of the machines; their order decides their colors.
    pub machines: Vec<String>,
    pub log: Log,
    pub digest: Digest,
    pub checks: Table<CheckRow>,
    /// Conditions that the scenario checked repeatedly over a time.
    pub invariants: Vec<CheckRow>,
    pub defects: Vec<CheckRow>,
    /// Anomalies of the lab that the scenario did not expect.
    pub findings: Vec<CheckRow>,
    pub commands: Table<CommandRow>,
    pub chaos: Option<Chaos>,
    /// Sentence about the delays of faults against their schedule.
    pub lateness: Option<String>,
    /// Reason why measurements are missing; `None` if none are missing.
    pub measured_problem: Option<String>,
    pub operations: Vec<OperationView>,
    /// Values that the scenario measured by itself and reported.
    pub metrics: Vec<MetricRow>,
    pub pictures: Vec<PictureView>,
    /// Name of each machine, and the last screen of its console.
    pub screens: Vec<(String, String)>,
    /// Messages that the scenario sent to the run's log.
    pub notes: Table<NoteRow>,
    /// Files that the scenario kept: path below the run's folder, name, and size.
    pub artifacts: Vec<(String, String, String)>,
}

/// Row of a check, an invariant, a known defect or a finding.
#[derive(Debug, Clone, Serialize)]
pub struct CheckRow {
    pub at: Moment,
    pub word: Word,
    /// Condition that was checked, or name of the defect or finding.
    pub what: String,
    /// The author's words for the meaning of the condition; for an invariant, its kind and number of evaluations.
    pub meaning: Option<String>,
    /// Observed values that decided the check.
    pub values: String,
    /// Place in the scenario, as `FILE:LINE`.
    pub place: String,
}

/// Row of a program that ran in a container.
#[derive(Debug, Clone, Serialize)]
pub struct CommandRow {
    pub at: Moment,
    pub container: String,
    pub text: String,
    /// Exit status or deadline, and the place in the scenario that started the program.
    pub end: String,
    /// True if the program ended with status 0.
    pub passed: bool,
    pub duration: String,
}

/// Row of a value that the scenario itself measured.
#[derive(Debug, Clone, Serialize)]
pub struct MetricRow {
    pub at: Moment,
    pub name: String,
    pub value: String,
}

/// Row of a message that the scenario sent to the run's log.
#[derive(Debug, Clone, Serialize)]
pub struct NoteRow {
    pub at: Moment,
    /// Level of the message: `debug`, `info`, `warning` or `error`.
    pub level: String,
    /// Text of the message, on one or more lines.
    pub text: String,
}

/// Summary of an attempt's logs: similar errors and warnings in groups, first errors, restarts, bottlenecks.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Digest {
    /// Groups of similar errors and warnings, with their count, machines, first moment and an example.
    pub groups: Vec<GroupRow>,
    /// Number of all groups, including those that are not shown.
    pub kinds: u64,
    /// Sentences about first errors, restarts and bottlenecks, each with its moment if it has one.
    pub sentences: Vec<(Option<Moment>, String)>,
}

/// Row of a group of log lines with the same message.
#[derive(Debug, Clone, Serialize)]
pub struct GroupRow {
    /// Level of the group's lines: `warning` or `error`.
    pub level: String,
    pub count: u64,
    /// Names of the machines that logged lines of the group.
    pub machines: String,
    pub first: Option<Moment>,
    pub example: String,
}

/// Maximum bytes read of a log file for the page, from the file's end.
const LOG_FILE_BYTES_MAX: u64 = 8 << 20;

/// Maximum characters shown of a console's screen.
const SCREEN_CHARACTERS_MAX: usize = 16_000;

/// Maximum groups of log lines shown in a digest.
const GROUPS_MAX: usize = 25;

/// Data from which the view of an attempt is made.
#[derive(Debug)]
pub struct Source<'a> {
    pub run: &'a PastRun,
    pub case: &'a CaseId,
    /// Number of the attempt in its case, and number of the case in the run; both count from 1.
    pub number: (usize, usize),
    pub attempt: &'a Attempt,
    /// Events of the attempt; `None` if none were recorded.
    pub told: Option<&'a AttemptEvents>,
}

impl Source<'_> {
    pub fn lines(&self) -> Vec<LogLine> {
        let events = self.told.map(AttemptEvents::events).unwrap_or_default();
        self.run.last_log_lines(&self.attempt.folder, events, LOG_FILE_BYTES_MAX)
    }

    /// Returns the view of the attempt with these log lines, shown in at most `log_bytes`, and with pictures as far as `room` permits. If a
    /// file of the record is damaged, the part made from it has a message instead.
    pub fn view(&self, lines: &[LogLine], log_bytes: usize, room: &mut Room) -> anyhow::Result<AttemptView> {
        let story = self.told.map(Story::of).unwrap_or_default();
        let (run, attempt) = (self.run, self.attempt);
        let (performance, measured_problem) = match run.performance(&attempt.folder) {
            Ok(performance) => (performance, None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        let machines = machines(&story, performance.as_ref());
        let chaos = chaos(&run.folder, &attempt.folder, &story);
        let broke = self.told.and_then(|_| broke(&story, &attempt.outcome));
        let failure = broke.map(|broke| {
            let next = next(&run.record, self.case, attempt, &run.record.run_id);
            let before = self.told.map(|told| Before::of(told).lines()).unwrap_or_default();
            failure(&story, broke, lines, &run.record.started_at, More { before, next })
        });
        let failed_ms = failure.as_ref().map(|failure| failure.broke.at_ms);
        Ok(AttemptView {
            anchor: format!("case-{}-{}", self.number.1, self.number.0),
            number: self.number.0,
            outcome: outcome(&attempt.outcome),
            duration: duration(attempt.duration_ms),
            folder: attempt.folder.clone(),
            missing: self.missing(),
            timeline: self.timeline(&story, lines, &machines, performance.as_ref(), failed_ms)?,
            log: log(lines, failed_ms, log_bytes),
            digest: self.digest(lines, performance.as_ref()),
            failure,
            machines,
            checks: checks(&story),
            invariants: invariants(&story),
            defects: defects(&story),
            findings: findings(&story),
            commands: commands(&story),
            chaos,
            lateness: attempt.faults.and_then(|faults| faults.lateness).map(|lateness| lateness.to_string()),
            measured_problem,
            operations: performance.as_ref().map(operations).transpose()?.unwrap_or_default(),
            metrics: metrics(&story),
            pictures: pictures(run, &story, room),
            screens: screens(&run.folder, &attempt.folder),
            notes: notes(&story),
            artifacts: story.artifacts.iter().map(artifact).collect(),
        })
    }

    fn missing(&self) -> Vec<String> {
        match self.told {
            None => vec!["There are no events of this attempt: what happened in it is not known".into()],
            Some(told) if !told.has_ended => {
                vec!["The events of this attempt have no end: what is here is what was known until then".into()]
            }
            Some(_) => Vec::new(),
        }
    }

    fn timeline(
        &self,
        story: &Story,
        lines: &[LogLine],
        machines: &[String],
        performance: Option<&Performance>,
        failed_ms: Option<f64>,
    ) -> anyhow::Result<Option<Timeline>> {
        if self.told.is_none() {
            return Ok(None);
        }
        let axis = super::plot::Axis::new(story.begun_ms, story.ended_ms);
        let sampling = performance.and_then(|performance| performance.sampling.as_ref());
        let curves = sampling.map(|sampling| curves(sampling, axis, machines)).transpose()?.unwrap_or_default();
        let mut clients = clients(&self.run.folder, &self.attempt.folder, story.ended_ms);
        clients.notes.extend(sampling.filter(|sampling| sampling.thinned > 1).map(|sampling| {
            let (kept, all) = (thousands(sampling.at_ms.len()), thousands(sampling.ticks as usize));
            format!(
                "the curves are made from {kept} of {all} samples of the machines: one in {} was kept",
                sampling.thinned
            )
        }));
        Ok(Some(timeline(story, &clients, &alarms(lines), failed_ms, curves)))
    }

    fn digest(&self, lines: &[LogLine], performance: Option<&Performance>) -> Digest {
        let found = LogDigest::of(lines, self.told.map(AttemptEvents::events).unwrap_or_default(), performance);
        let group = |group: crate::record::logs::LogGroup| GroupRow {
            level: format!("{:?}", group.level).to_lowercase(),
            count: group.count,
            machines: group.machines.keys().cloned().collect::<Vec<_>>().join(", "),
            first: group.first_ms.map(moment),
            example: plain(&group.example, 400),
        };
        let restarts = found.restarts.into_iter().map(|restart| (restart.first_ms.map(moment), restart.sentence));
        let bottlenecks = found.bottlenecks.into_iter().map(|it| (None, it.sentence));
        let first = found.first_errors.into_iter().map(|it| {
            let text = format!("the first error on {}: {}", it.machine, plain(&it.text, 300));
            (it.at_ms.map(moment), text)
        });
        Digest {
            kinds: found.groups.len() as u64 + found.groups_left_out,
            groups: found.groups.into_iter().take(GROUPS_MAX).map(group).collect(),
            sentences: first.chain(restarts).chain(bottlenecks).collect(),
        }
    }
}

/// Returns all pictures of an attempt, in the order in which they were taken.
fn pictures(run: &PastRun, story: &Story, room: &mut Room) -> Vec<PictureView> {
    let mut pictures: Vec<PictureView> =
        story.pictures.iter().map(|(at_ms, shot)| room.picture(&run.folder, *at_ms, shot)).collect();
    let likenesses = story.likenesses.iter();
    pictures.extend(likenesses.map(|(at_ms, name, likeness)| room.likeness(&run.folder, *at_ms, name, likeness)));
    pictures.sort_by(|one, two| one.at.at_ms.total_cmp(&two.at.at_ms));
    pictures
}

/// Returns each machine's name and the last screen of its console; nothing for machines whose screen was not recorded.
fn screens(run: &Path, attempt: &str) -> Vec<(String, String)> {
    let folder = Path::new(attempt).join("containers");
    let machines = input::names_below(run, &folder).into_iter();
    machines
        .filter_map(|machine| {
            let path = folder.join(&machine).join("screen.txt");
            let text = match input::read_below(run, path, input::RECORD_BYTES_MAX) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
                Err(error) => format!("screen.txt cannot be read: {error}"),
                Ok(text) => plain(&String::from_utf8_lossy(&text), SCREEN_CHARACTERS_MAX),
            };
            (!text.trim().is_empty()).then_some((machine, text))
        })
        .collect()
}

/// Returns the names of all machines in the attempt's record, sorted; their colors follow this order.
fn machines(story: &Story, performance: Option<&Performance>) -> Vec<String> {
    let sampled = performance.and_then(|it| it.sampling.as_ref()).into_iter().flat_map(|it| it.series.keys());
    let asked = story.commands.iter().map(|command| &command.container);
    let broken = story.faults.iter().map(|broken| &broken.container);
    sampled.chain(asked).chain(broken).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

pub fn outcome(outcome: &Outcome) -> Word {
    match outcome {
        Outcome::Passed => Word { class: "passed", text: "passed" },
        Outcome::Failed { .. } => Word { class: "failed", text: "failed" },
        Outcome::Infrastructure { .. } => Word { class: "infrastructure", text: "no lab" },
        Outcome::Interrupted => Word { class: "interrupted", text: "interrupted" },
    }
}

const OK: Word = Word { class: "passed", text: "ok" };
const FAILED: Word = Word { class: "failed", text: "failed" };

fn checks(story: &Story) -> Table<CheckRow> {
    let row = |(at_ms, check): &(f64, e2e_contract::Check)| CheckRow {
        at: moment(*at_ms),
        word: if check.passed { OK } else { FAILED },
        what: plain(&check.condition, 1000),
        meaning: check.message.as_ref().map(|message| plain(message, 1000)),
        values: plain(&check.values, 1500),
        place: format!("{}:{}", check.file, check.line),
    };
    Table::new(story.checks.iter().map(row).collect(), |row| row.word == FAILED)
}

fn invariants(story: &Story) -> Vec<CheckRow> {
    let row = |(at_ms, it): &(f64, e2e_contract::Invariant)| {
        let (kind, not) = match it.kind {
            InvariantKind::Always => ("always", FAILED),
            InvariantKind::AtEnd => ("at the end", FAILED),
            InvariantKind::Sometimes => ("sometimes", Word { class: "skipped", text: "not now" }),
        };
        let looks = format!("{kind}; {} looks, {} not answered", it.looks, it.missed);
        CheckRow {
            at: moment(*at_ms),
            word: if it.held { OK } else { not },
            what: plain(&it.name, 1000),
            meaning: Some(looks),
            values: plain(&it.values, 1500),
            place: format!("{}:{}", it.file, it.line),
        }
    };
    story.invariants.iter().map(row).collect()
}

fn defects(story: &Story) -> Vec<CheckRow> {
    let row = |(at_ms, it): &(f64, e2e_contract::Defect)| CheckRow {
        at: moment(*at_ms),
        word: match mark_outcome(it) {
            DefectOutcome::Known => Word { class: "flaky", text: "known" },
            DefectOutcome::Different => Word { class: "failed", text: "not as known" },
            DefectOutcome::Fixed => Word { class: "failed", text: "fixed" },
        },
        what: it.defect.clone(),
        meaning: Some(format!("expected to fail with {:?}", plain(&it.failing_with, 300))),
        values: plain(&mark_seen(it), 1500),
        place: format!("{}:{}", it.file, it.line),
    };
    story.defects.iter().map(row).collect()
}

fn findings(story: &Story) -> Vec<CheckRow> {
    let row = |(at_ms, it): &(f64, super::story::Finding)| CheckRow {
        at: moment(*at_ms),
        word: if it.expected {
            Word { class: "skipped", text: "expected" }
        } else {
            Word { class: "flaky", text: "not expected" }
        },
        what: format!("{}: {}", it.kind, it.about),
        meaning: None,
        values: plain(&it.detail, 1500),
        place: it.container.clone().unwrap_or_default(),
    };
    story.findings.iter().map(row).collect()
}

fn commands(story: &Story) -> Table<CommandRow> {
    let row = |it: &super::story::Command| CommandRow {
        at: moment(it.begun_ms),
        container: it.container.clone(),
        text: plain(&it.text, 1000),
        end: match (it.timed_out, &it.location) {
            (true, Some(place)) => format!("killed at its deadline, asked for at {}", plain(place, 200)),
            (true, None) => "killed at its deadline".into(),
            (false, Some(place)) if it.status != 0 => {
                format!("status {}, asked for at {}", it.status, plain(place, 200))
            }
            (false, _) => format!("status {}", it.status),
        },
        passed: it.status == 0 && !it.timed_out,
        duration: duration(it.ended_ms - it.begun_ms),
    };
    Table::new(story.commands.iter().map(row).collect(), |row| !row.passed)
}

fn metrics(story: &Story) -> Vec<MetricRow> {
    let row = |(at_ms, it): &(f64, e2e_contract::Metric)| MetricRow {
        at: moment(*at_ms),
        name: it.name.clone(),
        value: format!("{} {}", significant(it.value), plain(&it.unit, 40)),
    };
    story.metrics.iter().map(row).collect()
}

/// Returns the path, name and size of a kept file as text for the page.
fn artifact((path, bytes): &(String, u64)) -> (String, String, String) {
    let name = path.rsplit('/').next().unwrap_or(path);
    (path.clone(), name.to_owned(), size(*bytes as f64))
}

fn notes(story: &Story) -> Table<NoteRow> {
    let row = |(at_ms, level, text): &(f64, Level, String)| NoteRow {
        at: moment(*at_ms),
        level: format!("{level:?}").to_lowercase(),
        text: plain(text, 4000),
    };
    Table::new(story.notes.iter().map(row).collect(), |row| row.level == "error" || row.level == "warning")
}

/// Maximum rows shown of a table.
const ROWS_MAX: usize = 400;

/// Table of the page, with the number of rows that are not shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table<T> {
    pub rows: Vec<T>,
    /// Number of all rows, including those that are not shown.
    pub all: usize,
    /// Number of rows that are not shown.
    pub left_out: usize,
}

impl<T> Table<T> {
    /// Returns a table of at most `ROWS_MAX` of these rows, in their order. Rows for which `matters` is true are chosen first, then the
    /// last ones of the others.
    pub fn new(rows: Vec<T>, matters: impl Fn(&T) -> bool) -> Self {
        let all = rows.len();
        let mut places: Vec<usize> = (0..all).collect();
        places.sort_by_key(|place| (!matters(&rows[*place]), Reverse(*place)));
        places.truncate(ROWS_MAX);
        let kept: BTreeSet<usize> = places.into_iter().collect();
        let rows = rows.into_iter().enumerate().filter(|(place, _)| kept.contains(place)).map(|(_, row)| row).collect();
        Self { rows, all, left_out: all - kept.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_stays_and_so_does_the_order() {
        let table = Table::new((0..1000).collect(), |row| *row == 3 || *row == 7);
        assert_eq!((table.rows.len(), table.all, table.left_out), (ROWS_MAX, 1000, 600));
        assert_eq!((&table.rows[..3], table.rows.last()), (&[3, 7, 602][..], Some(&999)));
        let short = Table::new(vec![2, 1], |_| false);
        assert_eq!((short.rows, short.left_out), (vec![2, 1], 0));
    }
}
