//! Lines about past events, which stay on the terminal: above the live lines, or alone if there are no live lines.

use super::frame::{NAME_COLUMN, head, short};
use super::style::{Line, Style, bound_lines, wrapped};
use super::times::took;
use crate::record::human::{self, Weight, stamp};
use crate::record::{Cause, Event, Outcome, Stamped, Verdict};

/// Maximum lines printed of one event; the record has all of them.
const LINES_MAX: usize = 200;
/// Maximum lines printed of one event above live lines, so that earlier lines stay in sight.
const LINES_BESIDE_LIVE_MAX: usize = 12;

/// Amount of detail in the progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Only problems and the result are shown.
    Quiet,
    /// Events that a person wants to follow are shown.
    Normal,
    /// Every event is shown.
    Verbose,
}

/// Returns the lines of an event with time stamps, as `e2e_test.log` has them; they suit the log of a program that calls the engine, such
/// as CI.
pub(super) fn stamped(stamped: &Stamped, detail: Detail) -> Vec<Line> {
    let (weight, mut lines) = human::lines(&stamped.event);
    let least = match detail {
        Detail::Quiet => Weight::Alarm,
        Detail::Normal => Weight::Progress,
        Detail::Verbose => Weight::Detail,
    };
    if weight < least {
        return Vec::new();
    }
    bound_lines(&mut lines, LINES_MAX);
    let style = style(&stamped.event, weight);
    let time = format!("[{}] ", stamp(stamped.at_ms));
    lines.iter().map(|line| Line::of(Style::Faint, &time).with(style, line)).collect()
}

/// Returns the lines of an event that are printed above the live lines: ends of cases and builds, problems and warnings.
pub(super) fn lasting(event: &Event, columns: usize) -> Vec<Line> {
    match event {
        Event::RunStarted { .. } => {
            let text = human::lines(event).1.join("\n");
            wrapped(&text, columns).iter().map(|line| Line::of(Style::Faint, line)).collect()
        }
        Event::LayerBuilt { template, duration_ms, size_bytes } => {
            let what = format!("template {template}, {} MiB", size_bytes >> 20);
            vec![head("BUILT", Style::Good, &short(&took(*duration_ms))).with(Style::Plain, &what)]
        }
        Event::CaseEnded { case, attempt, outcome, duration_ms, .. } => {
            let time = short(&took(*duration_ms));
            let (word, style, why) = match outcome {
                Outcome::Passed => ("PASSED", Style::Good, None),
                // What failed stands above already.
                Outcome::Failed { cause: Cause::Check { .. } | Cause::Panic { .. } | Cause::Error { .. } } => {
                    ("FAILED", Style::Bad, None)
                }
                Outcome::Failed { cause } => ("FAILED", Style::Bad, Some(cause.to_string())),
                Outcome::Infrastructure { message, .. } => ("NO LAB", Style::Bad, Some(message.clone())),
                Outcome::Interrupted => ("STOPPED", Style::Caution, None),
            };
            let again = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
            let mut lines = vec![head(word, style, &time).with(Style::Plain, &format!("{case}{again}"))];
            lines.extend(why.iter().flat_map(|why| below(why, Style::Plain, columns)));
            lines
        }
        Event::CaseJudged { case, verdict: Verdict::Flaky } => {
            vec![head("FLAKY", Style::Caution, "").with(Style::Plain, &format!("{case} passed after it had failed"))]
        }
        Event::CaseJudged { case, verdict: Verdict::Skipped } => {
            vec![head("SKIPPED", Style::Faint, "").with(Style::Plain, &case.0)]
        }
        // These have live lines, or stand in the result.
        Event::Waiting { .. }
        | Event::Kept { .. }
        | Event::Compared(_)
        | Event::Covered(_)
        | Event::CaseJudged { .. } => Vec::new(),
        event => {
            let (weight, lines) = human::lines(event);
            if weight < Weight::Alarm {
                return Vec::new();
            }
            let text: Vec<&str> = lines.iter().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
            below(&text.join("\n"), style(event, weight), columns)
        }
    }
}

/// Returns the lines of a text below the name of a case, wrapped and limited in number.
fn below(text: &str, style: Style, columns: usize) -> Vec<Line> {
    let mut lines = wrapped(text, columns.saturating_sub(NAME_COLUMN));
    bound_lines(&mut lines, LINES_BESIDE_LIVE_MAX);
    lines.iter().map(|line| Line::new().up_to(NAME_COLUMN).with(style, line)).collect()
}

fn style(event: &Event, weight: Weight) -> Style {
    match event {
        Event::CaseEnded { outcome: Outcome::Passed, .. } => Style::Good,
        Event::CaseEnded { outcome: Outcome::Interrupted, .. } => Style::Caution,
        Event::Check { .. } | Event::Invariant { .. } | Event::Aborted { .. } | Event::CaseEnded { .. }
            if weight == Weight::Alarm =>
        {
            Style::Bad
        }
        Event::CaseStarted { .. } => Style::Strong,
        _ if weight == Weight::Alarm => Style::Caution,
        _ if weight == Weight::Detail => Style::Faint,
        _ => Style::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{GAUNTLET, at, case, check as failed_check, ended};
    use super::super::style::Paint;
    use super::*;

    fn check(event: &Event, columns: usize, expected: &[&str]) {
        let lines: Vec<String> = lasting(event, columns).iter().map(|line| line.text(Paint::Plain)).collect();
        assert_eq!(lines, expected, "\n{}", lines.join("\n"));
    }

    #[test]
    fn what_is_over_scrolls_by_with_time_and_verdict() {
        check(
            &ended(GAUNTLET, Outcome::Passed, 2.34),
            80,
            &["PASSED     2.3 s  error_handling/chaos_gauntlet:planted"],
        );
        let cause = Cause::Protocol { message: "no hello\u{1b}[2J".into() };
        check(
            &ended(GAUNTLET, Outcome::Failed { cause }, 75.0),
            80,
            &[
                "FAILED      1:15  error_handling/chaos_gauntlet:planted",
                "                  the scenario broke the protocol: no hello",
            ],
        );
        let built = Event::LayerBuilt { template: "app".into(), duration_ms: 48_000.0, size_bytes: 210 << 20 };
        check(&built, 80, &["BUILT       48 s  template app, 210 MiB"]);
        check(&Event::CaseJudged { case: case("a/b:c"), verdict: Verdict::Passed }, 80, &[]);
    }

    #[test]
    fn a_failed_check_is_told_at_once_and_in_bounds() {
        check(
            &failed_check(GAUNTLET),
            80,
            &[
                "                  check FAILED: done == accepted (no accepted job is lost)",
                "                    done = 119",
                "                  accepted = 120",
                "                    at scenarios/error_handling/chaos_gauntlet/main.rs:88",
            ],
        );
        let message = "x\n".repeat(5000);
        let event = Event::Warning { message };
        assert_eq!(lasting(&event, 80).len(), LINES_BESIDE_LIVE_MAX + 1);
        assert_eq!(stamped(&at(1.0, event), Detail::Quiet).len(), LINES_MAX + 1);
    }

    #[test]
    fn detail_decides_which_events_have_lines() {
        let count = |event: Event, detail: Detail| stamped(&at(1.0, event), detail).len();
        let details = [Detail::Quiet, Detail::Normal, Detail::Verbose];
        let passed = || ended(GAUNTLET, Outcome::Passed, 1.0);
        assert_eq!(details.map(|detail| count(passed(), detail) > 0), [false, true, true]);
        let down = || Event::LabDown { case: case(GAUNTLET), duration_ms: 1.0 };
        assert_eq!(details.map(|detail| count(down(), detail)), [0, 0, 1]);
        assert_eq!(details.map(|detail| count(failed_check(GAUNTLET), detail)), [4, 4, 4]);
    }
}
