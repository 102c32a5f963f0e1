//! The run as it goes, on stderr, and its result, on stdout.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is this module's work")]

use std::path::Path;

use crate::judge::Decision;
use crate::record::human::{Weight, comparison, comparison_counts, lines, stamp, summary};
use crate::record::{Event, Outcome, RunRecord, Stamped, Verdict};

/// Prints events as they happen; while a case is held the terminal belongs to whoever looks at it, and they wait.
#[derive(Debug, Default)]
pub struct EventLines {
    is_held: bool,
    waiting: Vec<String>,
}

impl EventLines {
    /// Prints an event.
    pub fn show(&mut self, stamped: &Stamped) {
        let (weight, lines) = lines(&stamped.event);
        if weight >= Weight::Progress {
            self.waiting.extend(lines.into_iter().map(|line| format!("[{}] {line}", stamp(stamped.at_ms))));
        }
        if matches!(stamped.event, Event::Released { .. }) {
            self.is_held = false;
        }
        if !self.is_held {
            for line in self.waiting.drain(..) {
                eprintln!("{line}");
            }
        }
        if matches!(stamped.event, Event::Held { .. }) {
            self.is_held = true;
        }
    }
}

/// Prints a line of progress that belongs to no run.
pub fn show_progress(line: &str) {
    eprintln!("{line}");
}

/// Prints an event as a line of JSON.
pub fn show_event_as_json(stamped: &Stamped) {
    if let Ok(line) = serde_json::to_string(stamped) {
        println!("{line}");
    }
}

/// Prints what the run came to: what failed and why, what was compared, where its record lies, the counts.
pub fn show_result(record: &RunRecord, folder: &Path) {
    println!();
    show_problems(record, folder);
    for found in record.comparisons.iter().filter(|one| one.verdict.decision != Decision::Unchanged) {
        println!("{}", comparison(found));
    }
    println!("record: {}", folder.display());
    if record.compared_with.is_some() {
        println!("{}", comparison_counts(&record.comparisons));
    }
    println!("{}", summary(&record.counts, record.duration_ms));
}

/// Prints the cases that did not pass at once, and why.
pub fn show_problems(record: &RunRecord, folder: &Path) {
    for case in &record.cases {
        let last = case.attempts.last();
        let why = match last.map(|attempt| &attempt.outcome) {
            Some(Outcome::Failed { cause }) => cause.to_string(),
            Some(Outcome::Infrastructure { message }) => message.clone(),
            _ => String::new(),
        };
        let word = match case.verdict {
            Verdict::Failed => "FAILED",
            Verdict::Infrastructure => "NO LAB",
            Verdict::Flaky => "FLAKY",
            Verdict::Passed | Verdict::Interrupted | Verdict::Skipped => continue,
        };
        println!("{word}  {}", case.case);
        for line in why.lines() {
            println!("        {line}");
        }
        if let Some(attempt) = last {
            println!("        {}", folder.join(&attempt.folder).display());
        }
    }
}
