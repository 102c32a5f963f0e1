//! The page of a run.

use serde::Serialize;

use super::attempt::{AttemptView, Source};
use super::environment::{Environment, environment};
use super::log;
use super::performance::{ComparisonView, comparisons};
use super::pictures::Room;
use super::story::stories;
use super::template::filled;
use super::words::{Moment, Word, count, duration, moment, plain, verdict};
use crate::record::human::summary;
use crate::record::{CaseResult, Comparison, Event, Outcome, PastRun, RunRecord, Stamped, Verdict};

/// All that is on the page.
#[derive(Debug, Serialize)]
struct Page {
    run_id: String,
    /// The verdict in words.
    headline: String,
    /// The class that colours it.
    class: &'static str,
    summary: String,
    started_at: String,
    duration: String,
    cases: Vec<CaseView>,
    comparisons: Vec<ComparisonView>,
    compared_with: Option<String>,
    warnings: Vec<(Moment, String)>,
    environment: Environment,
}

/// One case.
#[derive(Debug, Serialize)]
struct CaseView {
    anchor: String,
    name: String,
    verdict: Word,
    duration: String,
    /// Why it did not pass, in a line.
    why: String,
    /// Faults that bit, of those that were planned.
    faults: Option<String>,
    /// Whether it stands open.
    open: bool,
    attempts: Vec<AttemptView>,
}

/// What the page of a run is called, in the run's folder.
pub const FILE: &str = "report.html";

/// The page of a run, with its events: one text without links to anything but files beside it.
///
/// # Errors
/// When a file of the record cannot be read or is damaged.
pub fn page(run: &PastRun, events: &[Stamped]) -> anyhow::Result<String> {
    let record = &run.record;
    let mut stories = stories(events);
    let mut sources = Vec::new();
    for (place, case) in record.cases.iter().enumerate() {
        for (number, attempt) in case.attempts.iter().enumerate() {
            let story = stories.remove(&attempt.folder);
            let lines = match &story {
                Some(_) => run.log_lines(&attempt.folder)?,
                None => Vec::new(),
            };
            let number = (number + 1, place + 1);
            sources.push(Source { run, case: &case.case, number, attempt, story, lines });
        }
    }
    let sizes: Vec<usize> = sources.iter().map(|source| log::size(&source.lines)).collect();
    let shares = log::shares(&sizes, log::BYTES_MAX);
    let mut room = Room::ALL;
    let mut views = Vec::new();
    for (source, share) in sources.into_iter().zip(shares) {
        views.push((source.number.1, source.view(share, &mut room)?));
    }
    let mut cases = Vec::new();
    for (place, case) in record.cases.iter().enumerate() {
        let (own, others) = views.into_iter().partition(|(of, _)| *of == place + 1);
        views = others;
        cases.push(case_view(place + 1, case, own.into_iter().map(|(_, view)| view).collect()));
    }
    let warnings = events.iter().filter_map(|stamped| match &stamped.event {
        Event::Warning { message } => Some((moment(stamped.at_ms), plain(message, 2000))),
        _ => None,
    });
    let (headline, class) = headline(record);
    filled(
        "page.html",
        Page {
            run_id: record.run_id.clone(),
            headline,
            class,
            summary: summary(&record.counts, record.duration_ms),
            started_at: record.started_at.clone(),
            duration: duration(record.duration_ms),
            cases,
            comparisons: comparisons(run)?,
            compared_with: record.compared_with.clone(),
            warnings: warnings.collect(),
            environment: environment(record),
        },
    )
}

fn case_view(number: usize, case: &CaseResult, attempts: Vec<AttemptView>) -> CaseView {
    let last = case.attempts.last();
    let why = match last.map(|attempt| &attempt.outcome) {
        Some(Outcome::Failed { cause }) => cause.to_string(),
        Some(Outcome::Infrastructure { message }) => message.clone(),
        _ => match case.attempts.iter().find_map(|attempt| failed(&attempt.outcome)) {
            Some(why) if case.verdict == Verdict::Flaky => format!("passed after: {why}"),
            _ => String::new(),
        },
    };
    let faults = last.and_then(|attempt| attempt.faults).map(|it| format!("{} of {}", it.bit, it.planned));
    CaseView {
        anchor: format!("case-{number}"),
        name: case.case.to_string(),
        verdict: verdict(case.verdict),
        duration: duration(case.attempts.iter().map(|attempt| attempt.duration_ms).sum()),
        why: plain(why.lines().next().unwrap_or_default(), 300),
        faults,
        open: !matches!(case.verdict, Verdict::Passed | Verdict::Skipped),
        attempts,
    }
}

fn failed(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Failed { cause } => Some(cause.to_string()),
        _ => None,
    }
}

/// What a run came to, in words, and the class that colours it.
pub fn headline(record: &RunRecord) -> (String, &'static str) {
    let counts = &record.counts;
    let all = [counts.passed, counts.failed, counts.flaky, counts.infrastructure, counts.interrupted, counts.skipped];
    let all = count(all.iter().sum::<u32>() as usize, "case", "cases");
    if counts.interrupted > 0 {
        return ("The run was interrupted".into(), "interrupted");
    }
    if counts.failed > 0 {
        return (format!("{} of {all} failed", counts.failed), "failed");
    }
    if counts.infrastructure > 0 {
        return (format!("No lab for {} of {all}", counts.infrastructure), "infrastructure");
    }
    if record.comparisons.iter().any(Comparison::fails) {
        return (format!("{all} passed, and a measured operation has become worse"), "failed");
    }
    if counts.flaky > 0 {
        return (format!("{} of {all} passed only after a failure", counts.flaky), "flaky");
    }
    (format!("{} of {all} passed", counts.passed), "passed")
}
