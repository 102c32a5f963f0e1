//! Answers of a probe that is tested repeatedly, and the choice of the answer to report when the deadline has passed.

use std::fmt;
use std::time::Duration;

use crate::host::patience::Deadline;

/// Minimum time for one test near the deadline: in less time, no probe could answer.
const LOOK_SHORTEST: Deadline = Deadline::from_millis(500);

/// Answer of a test whose condition is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The test ended: the condition is not met.
    No(String),
    /// The test did not end within this time.
    Overran(Duration),
    /// The test did not end within this time, although its program was seen running in the container.
    Hung(Duration),
    /// The container runs no programs, because it is starting or a fault keeps it down.
    NotRunning(String),
    /// The condition could not be tested, because of this error.
    NotLooked(String),
    /// The condition is not met, and will not be without a change from outside.
    DeadEnd {
        text: String,
        /// Output that proves the reason, such as a unit's properties.
        evidence: String,
    },
    /// A program of the host that every test needs is missing.
    NoTool(String),
}

impl fmt::Display for ProbeAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No(text)
            | Self::DeadEnd { text, .. }
            | Self::NotRunning(text)
            | Self::NotLooked(text)
            | Self::NoTool(text) => formatter.write_str(text),
            Self::Overran(bound) | Self::Hung(bound) => {
                let ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
                write!(formatter, "no answer within {}", humantime::format_duration(Duration::from_millis(ms)))
            }
        }
    }
}

/// Time limit of one test of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LookBound {
    pub time: Duration,
    /// True if the wait's deadline leaves the test less time than its usual limit.
    pub is_clipped: bool,
}

impl LookBound {
    /// Returns the limit of a test that usually takes up to `full`, with `left` until the wait's deadline. Every test gets at least
    /// [`LOOK_SHORTEST`], even past the deadline.
    pub fn new(full: Duration, left: Duration) -> Self {
        let time = full.min(left.max(LOOK_SHORTEST.scaled()));
        Self { time, is_clipped: time < full }
    }
}

/// Last answers that a wait has seen; a test clipped by the wait's deadline replaces no answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastAnswer {
    /// Last answer of a test that ended.
    pub answered: Option<ProbeAnswer>,
    /// Last test that used up its whole time limit without an answer, if it came after `answered`.
    overran: Option<ProbeAnswer>,
    /// Last test without an answer whose time limit was clipped by the wait's deadline; `None` after a later answer.
    clipped: Option<ProbeAnswer>,
}

impl LastAnswer {
    /// Tells whether a test after the last answer used up its whole time limit without an answer.
    pub(super) fn overran(&self) -> bool {
        self.overran.is_some()
    }

    /// Tells whether the probe hangs: a test used up its whole time limit, or no test ever ended and its program still ran at the deadline.
    pub(super) fn hangs(&self) -> bool {
        let was_running = matches!(self.clipped, Some(ProbeAnswer::Hung(_)));
        self.overran.is_some() || (self.answered.is_none() && was_running)
    }

    /// Records the result of a test. A clipped test without an answer does not replace an earlier answer.
    pub(super) fn note(&mut self, answer: ProbeAnswer, bound: LookBound) {
        if !matches!(answer, ProbeAnswer::Overran(_) | ProbeAnswer::Hung(_)) {
            *self = Self { answered: Some(answer), ..Self::default() };
            return;
        }
        // It has started since.
        self.answered.take_if(|answered| matches!(answered, ProbeAnswer::NotRunning(_)));
        let place = if bound.is_clipped { &mut self.clipped } else { &mut self.overran };
        *place = Some(answer);
    }
}

impl fmt::Display for LastAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.answered, self.overran.as_ref().or(self.clipped.as_ref())) {
            (Some(answered), Some(overran)) if self.overran.is_some() => {
                write!(formatter, "{overran}; the last answer before that: {answered}")
            }
            (Some(answered), _) => answered.fmt(formatter),
            (None, Some(overran)) => overran.fmt(formatter),
            (None, None) => formatter.write_str("the condition was not tested"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: LookBound = LookBound { time: Duration::from_secs(5), is_clipped: false };
    const CLIPPED: LookBound = LookBound { time: Duration::from_millis(700), is_clipped: true };

    fn check(looks: &[(ProbeAnswer, LookBound)], expected: &str) {
        let mut last = LastAnswer::default();
        for (answer, bound) in looks {
            last.note(answer.clone(), *bound);
        }
        assert_eq!(last.to_string(), expected, "{looks:?}");
    }

    #[test]
    fn the_last_whole_answer_is_told_and_not_the_look_that_the_deadline_clipped() {
        let no = |text: &str| (ProbeAnswer::No(text.into()), FULL);
        let overran = |bound: LookBound| (ProbeAnswer::Overran(bound.time), bound);
        check(&[no("status 3"), no("status 1"), overran(CLIPPED)], "status 1");
        check(
            &[no("refused"), overran(FULL), overran(CLIPPED)],
            "no answer within 5s; the last answer before that: refused",
        );
        check(&[overran(FULL), no("refused")], "refused");
        check(&[overran(FULL), overran(CLIPPED)], "no answer within 5s");
        check(&[(ProbeAnswer::No("status 2".into()), CLIPPED)], "status 2");
        check(&[overran(CLIPPED)], "no answer within 700ms");
        check(
            &[(ProbeAnswer::NotRunning("the machine has not started yet".into()), FULL)],
            "the machine has not started yet",
        );
        let starts = || (ProbeAnswer::NotRunning("the machine has not started yet".into()), FULL);
        check(&[starts(), overran(FULL)], "no answer within 5s");
        check(&[starts(), overran(CLIPPED)], "no answer within 700ms");
        check(&[overran(LookBound { time: Duration::from_micros(700_500), ..CLIPPED })], "no answer within 700ms");
        check(&[], "the condition was not tested");
    }

    #[test]
    fn a_program_that_ran_until_the_deadline_hangs_even_where_no_look_had_its_whole_time() {
        let hangs = |looks: &[(ProbeAnswer, LookBound)]| {
            let mut last = LastAnswer::default();
            looks.iter().for_each(|(answer, bound)| last.note(answer.clone(), *bound));
            last.hangs()
        };
        let hung = |bound: LookBound| (ProbeAnswer::Hung(bound.time), bound);
        let overran = |bound: LookBound| (ProbeAnswer::Overran(bound.time), bound);
        let starts = || (ProbeAnswer::NotRunning("the machine has not started yet".into()), FULL);
        assert!(hangs(&[starts(), hung(CLIPPED)]));
        assert!(hangs(&[starts(), overran(FULL)]));
        assert!(!hangs(&[starts()]), "it was never looked at");
        assert!(!hangs(&[starts(), overran(CLIPPED)]), "nobody knows whether its program was started");
        assert!(!hangs(&[(ProbeAnswer::No("status 1".into()), FULL), hung(CLIPPED)]), "the answer counts");
        assert!(!hangs(&[(ProbeAnswer::NotLooked("no thread".into()), FULL), hung(CLIPPED)]));
    }

    #[test]
    fn no_look_is_clipped_so_short_that_it_cannot_answer() {
        let ms = Duration::from_millis;
        let least = LOOK_SHORTEST.scaled();
        assert_eq!(LookBound::new(ms(5000), ms(60_000)), LookBound { time: ms(5000), is_clipped: false });
        assert_eq!(LookBound::new(least * 9, least * 3), LookBound { time: least * 3, is_clipped: true });
        assert_eq!(LookBound::new(least * 9, Duration::ZERO), LookBound { time: least, is_clipped: true });
        assert_eq!(LookBound::new(ms(50), Duration::ZERO), LookBound { time: ms(50), is_clipped: false });
    }
}
