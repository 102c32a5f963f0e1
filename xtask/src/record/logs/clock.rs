//! Conversion of times in a case's logs to the run's clock. Times that may be wrong, after a fault of a clock, are left out.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use e2e_contract::Fault;

use crate::record::{Event, FaultObserved, Stamped};

/// Time by which a logged time may lie outside of its attempt: programs round to seconds, and containers start before their event is
/// recorded.
const SLACK_MS: f64 = 2000.0;

/// Converter of logged times to the run's clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    /// Begin of the run on the wall clock, in milliseconds since 1970.
    pub started_epoch_ms: f64,
    /// Begin of the attempt on the run's clock.
    pub begun_ms: f64,
    /// End of the attempt on the run's clock.
    pub ended_ms: f64,
    /// Time on the wall clock near the logged times, from which a time without a year gets its year.
    pub near_epoch_ms: f64,
    /// Ranges of times, by container, that the container's programs may have written while their clock was wrong.
    pub doubtful: BTreeMap<String, Vec<RangeInclusive<f64>>>,
}

impl Clock {
    /// Makes the converter for an attempt from the attempt's events in order.
    pub fn of(started_epoch_ms: f64, events: &[Stamped]) -> Self {
        let at = |stamped: Option<&Stamped>| stamped.map_or(0.0, |stamped| stamped.at_ms);
        let ended_ms = if events.is_empty() { f64::INFINITY } else { at(events.last()) };
        let begun_ms = at(events.first());
        let near_epoch_ms = started_epoch_ms + begun_ms;
        let mut clock = Self { started_epoch_ms, begun_ms, ended_ms, near_epoch_ms, ..Self::default() };
        for (index, stamped) in events.iter().enumerate() {
            let Event::FaultInjected(injected) = &stamped.event else { continue };
            // It takes effect before that is verified.
            let bit_ms = stamped.at_ms - injected.duration_ms;
            let is_end = |later: &&Stamped| match &later.event {
                Event::FaultHealed(FaultObserved { fault, .. }) => *fault == injected.fault,
                _ => false,
            };
            let healed_ms = events[index..].iter().find(is_end).map_or(ended_ms, |healed| healed.at_ms);
            let off_ms = match injected.description {
                Fault::ClockJump { offset_ms, .. } => offset_ms as f64,
                Fault::ClockRate { percent, .. } => (healed_ms - bit_ms) * (f64::from(percent) / 100.0 - 1.0),
                _ => continue,
            };
            let doubtful = bit_ms + off_ms.min(0.0)..=healed_ms + off_ms.max(0.0);
            clock.doubtful.entry(injected.container.clone()).or_default().push(doubtful);
        }
        clock
    }

    /// Makes a converter for logs of machines that run now: their times stay on the wall clock, and have no bounds.
    pub fn of_now(now_epoch_ms: f64) -> Self {
        Self { ended_ms: f64::INFINITY, near_epoch_ms: now_epoch_ms, ..Self::default() }
    }

    /// Converts a time of the host's clock; `None` where it lies outside of the attempt.
    pub fn of_host(&self, epoch_ms: f64) -> Option<f64> {
        let at_ms = epoch_ms - self.started_epoch_ms;
        let within = self.begun_ms - SLACK_MS..=self.ended_ms + SLACK_MS;
        // To the microsecond, as events have it; nothing lies before the run's start.
        within.contains(&at_ms).then(|| (at_ms * 1e3).round().max(0.0) / 1e3)
    }

    /// Converts a time that a program in a container wrote; `None` where it lies outside of the attempt, or where that container's clock
    /// may have been wrong.
    pub fn of_program(&self, container: &str, epoch_ms: f64) -> Option<f64> {
        let at_ms = self.of_host(epoch_ms)?;
        let doubtful = self.doubtful.get(container).into_iter().flatten();
        (!doubtful.into_iter().any(|doubtful| doubtful.contains(&at_ms))).then_some(at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CaseId;

    fn stamped(at_ms: f64, event: Event) -> Stamped {
        Stamped { at_ms, event }
    }

    fn observed(description: Fault) -> FaultObserved {
        FaultObserved {
            case: CaseId("a/b:c".into()),
            fault: 1,
            scheduled: None,
            container: "db".into(),
            description,
            before: None,
            evidence: String::new(),
            lasted: None,
            planned_ms: None,
            late_ms: None,
            duration_ms: 500.0,
        }
    }

    fn clock(fault: &Fault) -> Clock {
        let message = || Event::Warning { message: String::new() };
        Clock::of(
            1_000_000.0,
            &[
                stamped(10_000.0, message()),
                stamped(20_000.0, Event::FaultInjected(observed(fault.clone()))),
                stamped(30_000.0, Event::FaultHealed(observed(fault.clone()))),
                stamped(60_000.0, message()),
            ],
        )
    }

    #[test]
    fn a_time_outside_of_the_attempt_is_none() {
        let clock = clock(&Fault::ClockJump { unit: "x.service".into(), offset_ms: 3_600_000 });
        assert_eq!(clock.of_host(1_015_000.000_4), Some(15_000.0));
        assert_eq!(clock.of_host(1_007_000.0), None);
        assert_eq!(clock.of_host(1_063_000.0), None);
    }

    #[test]
    fn what_a_wrong_clock_may_have_given_is_not_believed() {
        let check = |fault: &Fault, believed: &[f64], doubtful: &[f64]| {
            let clock = clock(fault);
            for at_ms in believed {
                assert_eq!(clock.of_program("db", 1_000_000.0 + at_ms), Some(*at_ms), "{fault}");
            }
            for at_ms in doubtful {
                assert_eq!(clock.of_program("db", 1_000_000.0 + at_ms), None, "{fault} {at_ms}");
                assert_eq!(clock.of_program("app", 1_000_000.0 + at_ms), Some(*at_ms), "another machine's");
                assert_eq!(clock.of_host(1_000_000.0 + at_ms), Some(*at_ms), "the host's");
            }
        };
        let unit = || "x.service".to_owned();
        let ahead = Fault::ClockJump { unit: unit(), offset_ms: 10_000 };
        check(&ahead, &[19_000.0, 41_000.0], &[19_600.0, 25_000.0, 39_000.0]);
        let behind = Fault::ClockJump { unit: unit(), offset_ms: -5_000 };
        check(&behind, &[14_000.0, 31_000.0], &[15_000.0, 29_000.0]);
        let fast = Fault::ClockRate { unit: unit(), percent: 200 };
        check(&fast, &[19_000.0, 41_000.0], &[20_000.0, 40_000.0]);
    }
}
