//! Problems of an attempt, each with its values and its place in the scenario.

use e2e_contract::{DefectOutcome, InvariantKind};

use crate::record::{
    AttemptEvents, Event, Outcome, RunEvents, RunRecord, Stamped, mark_outcome, mark_seen, plain_text, visible_text,
};

/// Maximum characters shown of a problem's text; the record has the whole text.
const CHARS_MAX: usize = 8000;

/// Maximum lines shown of a problem's text.
const LINES_MAX: usize = 200;

/// Reason for which an attempt failed: a failed check, a broken invariant, an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Time in milliseconds since the run's start.
    pub at_ms: f64,
    /// Text of what failed, in one line, such as a check's condition.
    pub title: String,
    /// Observed values, on one or more lines; empty if the problem has none.
    pub values: String,
    /// Source file and line, as the scenario names them.
    pub place: Option<(String, u32)>,
}

impl Problem {
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.title.clone();
        for line in self.values.lines() {
            text.push_str(&format!("\n    {line}"));
        }
        if let Some(place) = self.place() {
            text.push_str(&format!("\n    at {place}"));
        }
        text
    }

    /// Returns the problem's place as `FILE:LINE`.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        self.place.as_ref().map(|(file, line)| format!("{file}:{line}"))
    }
}

/// Returns the problems of an attempt, in the order of time: failed checks, broken invariants, marks of known defects that are no
/// longer true, and the error with which the scenario gave up.
#[must_use]
pub fn problems(attempt: &AttemptEvents) -> Vec<Problem> {
    attempt.events().iter().filter_map(problem).collect()
}

/// Returns the problem that an event reports; `None` for an event without one.
pub(super) fn problem(stamped: &Stamped) -> Option<Problem> {
    let at_ms = stamped.at_ms;
    let made = |title: String, values: &str, file: &str, line: u32| Problem {
        at_ms,
        title: shown(&title.replace('\n', " ")),
        values: lines(values),
        place: Some((shown(file), line)),
    };
    match &stamped.event {
        Event::Check { check, .. } if !check.passed => {
            let meaning = check.message.as_ref().map_or_else(String::new, |message| format!(" ({message})"));
            Some(made(format!("check failed: {}{meaning}", check.condition), &check.values, &check.file, check.line))
        }
        Event::Invariant { invariant, .. } if !invariant.held && invariant.kind != InvariantKind::Sometimes => {
            let title = format!("does not hold: {}", invariant.name);
            Some(made(title, &invariant.values, &invariant.file, invariant.line))
        }
        Event::Defect { defect, .. } => {
            let title = match mark_outcome(defect) {
                DefectOutcome::Known => return None,
                DefectOutcome::Fixed => format!("known defect {} is fixed: remove its mark", defect.defect),
                DefectOutcome::Different => {
                    format!("known defect {} no longer fails with {:?}", defect.defect, defect.failing_with)
                }
            };
            Some(made(title, &mark_seen(defect), &defect.file, defect.line))
        }
        Event::Aborted { message, location, .. } => {
            let (title, rest) = message.split_once('\n').unwrap_or((message, ""));
            let place = location.as_deref().and_then(|location| {
                let (file, line) = location.rsplit_once(':')?;
                Some((shown(file), line.parse().ok()?))
            });
            Some(Problem { at_ms, title: shown(&format!("the scenario gave up: {title}")), values: lines(rest), place })
        }
        _ => None,
    }
}

/// Returns a sentence for each missing part of a run, which reports show first.
#[must_use]
pub fn remarks(record: &RunRecord, events: &RunEvents) -> Vec<String> {
    let mut remarks = record.remarks();
    remarks.extend(events.gaps().iter().filter(|gap| !record.gaps.contains(gap)).cloned());
    remarks
}

/// Returns the reason why an attempt did not pass, in words; `None` for a passed attempt.
#[must_use]
pub fn ending(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Passed => None,
        Outcome::Failed { cause } => Some(lines(&cause.to_string())),
        Outcome::Infrastructure { message, .. } => Some(lines(message)),
        Outcome::Interrupted => Some("the run was interrupted".to_owned()),
    }
}

/// Makes the hidden characters of a line of another program visible.
fn shown(line: &str) -> String {
    plain_text(&visible_text(line))
}

/// Cuts a text of several lines to the maximum characters and lines, and makes its control characters visible.
#[must_use]
pub fn lines(text: &str) -> String {
    let plain: Vec<String> = text.lines().take(LINES_MAX).map(shown).collect();
    let plain = plain.join("\n");
    match (plain.char_indices().nth(CHARS_MAX), text.lines().count().saturating_sub(LINES_MAX)) {
        (Some((end, _)), _) => format!("{} ... (cut: all of it stands in events.jsonl)", &plain[..end]),
        (None, 0) => plain,
        (None, more) => format!("{plain}\n... (cut: {more} more lines stand in events.jsonl)"),
    }
}

#[cfg(test)]
mod tests {
    use e2e_contract::{AbortKind, Check};

    use super::*;
    use crate::record::{CaseId, RunEvents};

    #[test]
    fn a_failed_check_has_its_values_and_place() {
        let case = CaseId("a/b:c".into());
        let check = |passed, condition: &str| Event::Check {
            case: case.clone(),
            check: Check {
                passed,
                condition: condition.into(),
                values: "rows = \u{1b}[31m19999\nwanted = 20000".into(),
                message: Some("none is lost".into()),
                file: "scenarios/a/b/main.rs".into(),
                line: 7,
            },
        };
        let aborted = Event::Aborted {
            case: case.clone(),
            kind: AbortKind::Panic,
            message: "index out of range\nlen is 0".into(),
            location: Some("scenarios/a/b/main.rs:9".into()),
        };
        let events = [
            Event::CaseStarted { case: case.clone(), attempt: 1, folder: None },
            check(true, "ok"),
            check(false, "rows == 20_000"),
            aborted,
        ];
        let events: RunEvents = events.into_iter().map(|event| Stamped { at_ms: 0.0, event }).collect();
        let text: Vec<String> = problems(&events.attempts()[0]).iter().map(Problem::text).collect();
        assert_eq!(
            text,
            [
                "check failed: rows == 20_000 (none is lost)\n    rows = 19999\n    wanted = 20000\n    at scenarios/a/b/main.rs:7",
                "the scenario gave up: index out of range\n    len is 0\n    at scenarios/a/b/main.rs:9"
            ]
        );
    }
}
