//! Page of a run, `report.html`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment as Templates, UndefinedBehavior};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::attempt::{AttemptView, Source};
use super::coverage::{CoverageView, coverage};
use super::environment::{Environment, environment};
use super::log;
use super::performance::{ComparisonView, comparisons};
use super::pictures::Room;
use super::words::{Moment, Word, count, duration, moment, plain, verdict};
use crate::record::human::summary;
use crate::record::logs::LogLine;
use crate::record::{
    CaseResult, Comparison, Event, Outcome, PastRun, RunEvents, RunRecord, Verdict, is_visible, visible_text,
};
use crate::report::problem::remarks;

/// Data with which the template of the page is filled.
#[derive(Debug, Serialize)]
struct Page {
    run_id: String,
    /// Result of the run in words.
    headline: String,
    /// CSS class with the color of the headline.
    class: &'static str,
    summary: String,
    /// Sentences about missing parts of the run's record.
    remarks: Vec<String>,
    /// True if a case had a schedule of faults.
    has_faults: bool,
    started_at: String,
    duration: String,
    cases: Vec<CaseView>,
    comparisons: Vec<ComparisonView>,
    compared_with: Option<String>,
    coverage: Option<CoverageView>,
    warnings: Vec<(Moment, String)>,
    environment: Environment,
}

/// View of one case: the data with which the page's template is filled.
#[derive(Debug, Serialize)]
struct CaseView {
    anchor: String,
    name: String,
    verdict: Word,
    duration: String,
    /// Reason why the case did not pass, in one line; empty for a passed case.
    why: String,
    /// Numbers of the faults that were planned and that took effect, in words.
    faults: Option<String>,
    /// True if the case is unfolded when the page opens.
    open: bool,
    attempts: Vec<AttemptView>,
}

/// Maximum bytes of log lines held in memory; a line counts as the bytes that it takes in a page.
const LOGS_KEPT_BYTES_MAX: usize = 4 * log::BYTES_MAX;

/// File name of the page, in the run's folder.
pub const FILE: &str = "report.html";

/// Returns the page of a run as HTML; its links lead only to files of the run's folder. If a part of the record cannot be read, the page
/// says so.
pub fn page(run: &PastRun, events: &RunEvents) -> anyhow::Result<String> {
    let record = &run.record;
    let mut sources = Vec::new();
    for (place, case) in record.cases.iter().enumerate() {
        for (number, attempt) in case.attempts.iter().enumerate() {
            let number = (number + 1, place + 1);
            let told = events.in_folder(&attempt.folder);
            sources.push(Source { run, case: &case.case, number, attempt, told });
        }
    }
    let (logs, sizes) = read_logs(&sources);
    let shares = log::shares(&sizes, log::BYTES_MAX);
    let mut room = Room::ALL;
    let mut views: Vec<Vec<AttemptView>> = record.cases.iter().map(|_| Vec::new()).collect();
    for ((source, lines), share) in sources.iter().zip(logs).zip(shares) {
        let lines = lines.unwrap_or_else(|| source.lines());
        views[source.number.1 - 1].push(source.view(&lines, share, &mut room)?);
    }
    let cases = record.cases.iter().zip(views).zip(1..).map(|((case, views), number)| case_view(number, case, views));
    let cases: Vec<CaseView> = cases.collect();
    let warnings = events.others().iter().filter_map(|stamped| match &stamped.event {
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
            remarks: remarks(record, events).iter().map(|remark| plain(remark, 2000)).collect(),
            has_faults: cases.iter().any(|case| case.faults.is_some()),
            started_at: record.started_at.clone(),
            duration: duration(record.duration_ms),
            cases,
            comparisons: comparisons(run)?,
            compared_with: record.compared_with.clone(),
            coverage: coverage(run),
            warnings: warnings.collect(),
            environment: environment(record),
        },
    )
}

/// Reads the logs of all attempts. Returns for each attempt its lines as far as memory permits (`None` for later attempts, whose logs are
/// read again), and the bytes that its lines take in a page.
fn read_logs(sources: &[Source<'_>]) -> (Vec<Option<Vec<LogLine>>>, Vec<usize>) {
    let mut kept = 0;
    let read = |source: &Source<'_>| {
        let lines = source.lines();
        let size = log::size(&lines);
        kept += size;
        ((kept <= LOGS_KEPT_BYTES_MAX).then_some(lines), size)
    };
    sources.iter().map(read).unzip()
}

fn case_view(number: usize, case: &CaseResult, attempts: Vec<AttemptView>) -> CaseView {
    let last = case.attempts.last();
    let why = match last.map(|attempt| &attempt.outcome) {
        Some(Outcome::Failed { cause }) => cause.to_string(),
        Some(Outcome::Infrastructure { message, .. }) => message.clone(),
        _ => match case.attempts.iter().find_map(|attempt| failed(&attempt.outcome)) {
            Some(why) if case.verdict == Verdict::Flaky => format!("passed after: {why}"),
            _ => String::new(),
        },
    };
    let faults = last.and_then(|attempt| attempt.faults).map(|it| {
        let is_displaced = it.lateness.is_some_and(|lateness| lateness.displaced > 0);
        format!("{} of {}{}", it.bit, it.planned, if is_displaced { ", too late" } else { "" })
    });
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

/// Returns the result of a run in words, and the CSS class with its color.
pub fn headline(record: &RunRecord) -> (String, &'static str) {
    let counts = &record.counts;
    let all = [counts.passed, counts.failed, counts.flaky, counts.infrastructure, counts.interrupted, counts.skipped];
    let all = count(all.iter().sum::<u32>() as usize, "case", "cases");
    match &record.unfinished {
        Some(end) if end.still_runs => return ("The run still goes on".into(), "interrupted"),
        Some(_) => return ("The run was killed".into(), "interrupted"),
        None => {}
    }
    if record.error.is_some() {
        return ("The run was ended by an error".into(), "infrastructure");
    }
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

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Templates with the names by which they include each other.
const TEMPLATES: [(&str, &str); 7] = [
    ("attempt.html", include_str!("attempt.html")),
    ("failure.html", include_str!("failure.html")),
    ("frame.html", include_str!("frame.html")),
    ("page.html", include_str!("page.html")),
    ("parts.html", include_str!("parts.html")),
    ("side_by_side.html", include_str!("side_by_side.html")),
    ("timeline.html", include_str!("timeline.html")),
];

/// Fills a template with values. All values are escaped except those that the template marks as safe: the drawings, the style sheet and the
/// script, which contain no text of other programs.
///
/// # Errors
/// When a template uses a value that is missing.
pub fn filled(template: &str, values: impl Serialize) -> anyhow::Result<String> {
    let mut templates = Templates::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    for (name, text) in TEMPLATES {
        templates.add_template(name, text)?;
    }
    templates.add_global("style", STYLE);
    templates.add_global("script", SCRIPT);
    // A browser runs the script with this hash and no other, whatever has come into the page.
    templates.add_global("script_hash", format!("sha256-{}", STANDARD.encode(Sha256::digest(SCRIPT))));
    let page = templates.get_template(template)?.render(Serde(values))?;
    // What comes from programs under test comes by many ways: here is the one that all of them take.
    Ok(if is_visible(&page) { page } else { visible_text(&page) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</pre></code><script>alert(1)</script>{{ 7 * 7 }}\u{1b}[31m";

    /// Records a run in a folder: one case has failed under a fault, and its texts contain HTML that must be escaped.
    fn run(folder: &std::path::Path) -> PastRun {
        let event = |at_ms: u32, event: &str, more: serde_json::Value| {
            let mut line = serde_json::json!({ "at_ms": at_ms, "event": event, "case": "a/b:c" });
            line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            format!("{line}\n")
        };
        let fault = serde_json::json!({ "fault": 1, "container": "db", "description": { "name": "node.freeze" },
            "evidence": "no process of it ran", "duration_ms": 100 });
        let cause = serde_json::json!({ "cause": "check", "message": "rows == 3 at scenarios/a/b/main.rs:7" });
        let outcome = serde_json::json!({ "outcome": "failed", "cause": cause });
        let events = [
            event(1000, "case_started", serde_json::json!({ "attempt": 1 })),
            event(2000, "scenario_started", serde_json::json!({ "pid": 7, "user": "user" })),
            event(2100, "step_started", serde_json::json!({ "name": "count", "depth": 0 })),
            event(3000, "fault_injected", fault),
            event(
                3400,
                "exec",
                serde_json::json!({ "container": "db", "command": HOSTILE, "status": 1, "duration_ms": 50,
                "timed_out": false }),
            ),
            event(
                3500,
                "check",
                serde_json::json!({ "passed": false, "condition": "rows == 3", "message": HOSTILE,
                "values": format!("rows = {HOSTILE}"), "file": "scenarios/a/b/main.rs", "line": 7 }),
            ),
            event(
                5000,
                "case_ended",
                serde_json::json!({ "attempt": 1, "outcome": outcome, "duration_ms": 4000,
                "last_words": [HOSTILE], "folder": "a/b" }),
            ),
        ];
        std::fs::create_dir_all(folder.join("a/b/containers/db")).unwrap();
        std::fs::write(folder.join("events.jsonl"), events.concat()).unwrap();
        let mut log = format!("2026-01-01T00:00:03.450000+0000 db app[1]: error: {HOSTILE}\n").into_bytes();
        log.extend_from_slice(b"\xff\xfe no UTF-8\n");
        log.extend(std::iter::repeat_n(b'<', 1 << 20));
        std::fs::write(folder.join("a/b/containers/db/journal.log"), log).unwrap();
        let record = serde_json::json!({ "format_version": 1, "run_id": "run-1", "started_at": "2026-01-01T00:00:00.000Z",
            "duration_ms": 6000, "engine_version": "0.1.0", "user": "user", "shuffle_seed": null, "chaos_seed": 7,
            "layers": { "base": "0123" }, "privileged": [], "cases": [{ "case": "a/b:c", "verdict": "failed", "attempts": [{
            "outcome": "failed", "cause": cause, "duration_ms": 4000, "folder": "a/b" }] }], "counts": { "passed": 0,
            "failed": 1, "flaky": 0, "infrastructure": 0, "interrupted": 0, "skipped": 0 }, "cleanup_failures": [],
            "exit_code": 1, "command": ["e2e", "--chaos", "--slot", "3"], "packages": { "base": ["zlib=1.2"] } });
        std::fs::write(folder.join("run.json"), record.to_string()).unwrap();
        PastRun::read(folder.to_owned()).unwrap()
    }

    fn page_of(run: &PastRun) -> String {
        page(run, &run.events().unwrap()).unwrap()
    }

    /// Returns the visible text of the page between two marks, without empty lines.
    fn text_of(page: &str, begin: &str, end: &str) -> String {
        let from = &page[page.find(begin).unwrap()..];
        let part = &from[..from.find(end).unwrap()];
        let mut text = String::new();
        for piece in part.split('<') {
            // Names and cells stand apart on the page, not in its text.
            text.push_str(match piece.split_once(['>', ' ']).map(|(tag, _)| tag) {
                Some("dt") => "\n",
                Some("/dt") => ": ",
                Some("td" | "th") => " ",
                _ => "",
            });
            text.push_str(piece.split_once('>').map_or(piece, |(_, text)| text));
        }
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_failure_is_told_before_all_else_and_without_the_script() {
        let folder = tempfile::tempdir().unwrap();
        let page = page_of(&run(folder.path()));
        let told = text_of(&page, "<section class=\"failure\"", "</section>");
        let expected = r"A check did not hold
rows == 3
&lt;&#x2f;pre&gt;&lt;&#x2f;code&gt;&lt;script&gt;alert(1)&lt;&#x2f;script&gt;{{ 7 * 7 }}
Values: rows = &lt;&#x2f;pre&gt;&lt;&#x2f;code&gt;&lt;script&gt;alert(1)&lt;&#x2f;script&gt;{{ 7 * 7 }}
Where: scenarios&#x2f;a&#x2f;b&#x2f;main.rs:7
When: 3.500 s of the run (2026-01-01T00:00:03.500Z), 2.500 s into the case, in step count
Machine:
db: node.freeze was on; last asked, 100 ms before: &lt;&#x2f;pre&gt;&lt;&#x2f;code&gt;&lt;script&gt;alert(1)&lt;&#x2f;script&gt;{{ 7 * 7 }} (status 1); logged 1 error close to it
Faults then:
node.freeze on db, on since 500 ms (in effect at 3.000 s: no process of it ran)
Logged:
s machine level line
3.450 db error journal.log app[1]: error: &lt;";
        assert!(told.starts_with(expected), "{told}");
        assert!(told.ends_with("Type next:\ncargo xtask e2e a&#x2f;b:c --slot 3 this case again\ncargo xtask logs run-1 --case a&#x2f;b:c --digest what all machines logged, errors first\ncargo xtask e2e a&#x2f;b:c --slot 3 --keep-containers again, and the machines stay for a look"), "{told}");
        assert!(page.contains("<h1>1 of 1 case failed</h1>"));
        assert!(page.contains("<details class=\"case failed\" id=\"case-1\" open>"), "a failed case stands open");
        assert!(page.contains("cargo xtask e2e --chaos --slot 3 --seed 7"));
    }

    #[test]
    fn no_text_of_others_is_more_than_text_and_no_network_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let page = page_of(&run(folder.path()));
        assert!(!page.contains("<script>alert") && !page.contains('\u{1b}') && page.contains("{{ 7 * 7 }}"));
        assert_eq!(page.matches("<script>").count(), 1, "the page's own");
        assert!(page.len() < 400_000, "{}: a line without an end is cut", page.len());
        for outside in ["src=\"http", "href=\"http", "url(", "@import", "<link", "<iframe"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
