//! Unexpected ends of programs before a failure, such as crashes: they point to the machine with the cause, which is often not the
//! one at which the scenario gave up.

use super::problem::problem;
use crate::record::{AttemptEvents, Event, Stamped, plain_text};

/// Kinds of findings about the unexpected end of a program.
const KINDS: [&str; 3] = ["crash", "oom_kill", "unit_failed"];

/// Maximum program ends shown in a report: those closest to the failure.
const SHOWN_MAX: usize = 3;

/// Maximum program ends kept of one attempt.
const KEPT_MAX: usize = 100;

/// Ends of programs in one attempt, and the moment of the attempt's failure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Before {
    failed_at_ms: Option<f64>,
    /// For each end of a program, its time in milliseconds since the run's start, and its text.
    ends: Vec<(f64, String)>,
}

impl Before {
    /// Collects the ends of programs from an attempt's events.
    #[must_use]
    pub fn of(attempt: &AttemptEvents) -> Self {
        let mut before = Self::default();
        attempt.events().iter().for_each(|stamped| before.apply(stamped));
        before
    }

    pub fn apply(&mut self, stamped: &Stamped) {
        if self.failed_at_ms.is_none() && problem(stamped).is_some() {
            self.failed_at_ms = Some(stamped.at_ms);
        }
        if let Event::Finding { kind, container, about, detail, happened_at_ms: Some(at_ms), expected: false, .. } =
            &stamped.event
            && KINDS.contains(&kind.as_str())
            && self.ends.len() < KEPT_MAX
        {
            // A lab is looked at when the scenario is over: without another moment, that is the failure's.
            self.failed_at_ms.get_or_insert(stamped.at_ms);
            let place = container.as_ref().map_or_else(String::new, |container| format!(" on {container}"));
            let says = if kind == "unit_failed" { "" } else { ":" };
            self.ends.push((*at_ms, plain_text(&format!("{about}{place}{says} {detail}").replace('\n', " "))));
        }
    }

    /// Returns a line for each end of a program before the failure, in the order of time, such as `x.service on app died of SIGSEGV, 6 ms
    /// before`.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Some(failed_at_ms) = self.failed_at_ms else { return Vec::new() };
        let mut ends: Vec<&(f64, String)> = self.ends.iter().filter(|(at_ms, _)| *at_ms <= failed_at_ms).collect();
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        let shown = &ends[ends.len().saturating_sub(SHOWN_MAX)..];
        shown.iter().map(|(at_ms, text)| format!("{text}, {} before", span(failed_at_ms - at_ms))).collect()
    }
}

fn span(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms:.0} ms") } else { format!("{:.1} s", ms / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CaseId;

    fn finding(kind: &str, about: &str, happened_at_ms: Option<f64>, expected: bool) -> Event {
        let detail = if kind == "unit_failed" { "died of SIGSEGV" } else { "the kernel killed process 7" }.to_owned();
        let (case, container) = (CaseId("a/b:c".into()), Some("app".to_owned()));
        Event::Finding { case, kind: kind.into(), container, about: about.into(), detail, happened_at_ms, expected }
    }

    fn gave_up() -> Event {
        let (case, message) = (CaseId("a/b:c".into()), "curl ended with status 52".into());
        Event::Aborted { case, kind: e2e_contract::AbortKind::Error, message, location: None }
    }

    fn check(events: Vec<(f64, Event)>, expected: &[&str]) {
        let mut before = Before::default();
        events.into_iter().for_each(|(at_ms, event)| before.apply(&Stamped { at_ms, event }));
        assert_eq!(before.lines(), expected);
    }

    #[test]
    fn an_end_before_the_failure_is_told_with_its_distance() {
        let at = |ms| Some(ms);
        check(
            vec![
                (2000.0, gave_up()),
                (2100.0, finding("unit_failed", "counter.service", at(1994.0), false)),
                (2100.0, finding("oom_kill", "tail", at(400.0), false)),
            ],
            &[
                "tail on app: the kernel killed process 7, 1.6 s before",
                "counter.service on app died of SIGSEGV, 6 ms before",
            ],
        );
        check(
            vec![
                (2000.0, gave_up()),
                (2100.0, finding("unit_failed", "after.service", at(2001.0), false)),
                (2100.0, finding("unit_failed", "expected.service", at(1.0), true)),
                (2100.0, finding("unit_failed", "some.service", None, false)),
                (2100.0, finding("unit_restarted", "again.service", at(1.0), false)),
            ],
            &[],
        );
        // A scenario that ends without a word, or is killed, has no other moment.
        check(
            vec![(2100.0, finding("unit_failed", "x.service", at(2000.0), false))],
            &["x.service on app died of SIGSEGV, 100 ms before"],
        );
        let many = (0..9).map(|n| (2100.0, finding("oom_kill", &format!("p{n}"), at(f64::from(n)), false))).collect();
        let line = |n: i32| format!("p{n} on app: the kernel killed process 7, 2.1 s before");
        check(many, &[6, 7, 8].map(line).iter().map(String::as_str).collect::<Vec<_>>());
    }
}
