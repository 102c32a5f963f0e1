//! Answers of a condition that is looked at again and again: which one is told when the deadline has come.

use std::fmt;
use std::time::Duration;

use crate::host::patience::Deadline;

/// Shortest bound of a look near the deadline: a shorter one could not answer, and would say nothing but that.
const LOOK_SHORTEST: Deadline = Deadline::from_millis(500);

/// One answer to the question whether a condition holds, other than yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The condition was looked at, and does not hold.
    No(String),
    /// The look did not end within its bound.
    Overran(Duration),
    /// The container runs no programs: it starts, or a fault keeps it down.
    NotRunning(String),
    /// The look itself failed.
    NotLooked(String),
    /// It does not hold, and whoever was asked will do nothing about that by itself.
    DeadEnd {
        /// Answer.
        text: String,
        /// What the reason is found in.
        evidence: String,
    },
    /// A program of the host that every look needs is not there.
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
            Self::Overran(bound) => write!(formatter, "no answer within {}", humantime::format_duration(*bound)),
        }
    }
}

/// Bound of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LookBound {
    /// Time that the look has.
    pub time: Duration,
    /// The deadline leaves it less than it should have.
    pub is_clipped: bool,
}

impl LookBound {
    /// The bound of a look that should have `full`, when the deadline comes after `left`: it may pass the deadline by
    /// [`LOOK_SHORTEST`].
    pub fn new(full: Duration, left: Duration) -> Self {
        let time = full.min(left.max(LOOK_SHORTEST.scaled()));
        Self { time, is_clipped: time < full }
    }
}

/// What a wait has seen, without the looks that its deadline has clipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastAnswer {
    /// The last answer of a look that ended.
    pub answered: Option<ProbeAnswer>,
    /// The bound that the last look has overrun, if that came after the answer.
    pub overran: Option<Duration>,
    /// The same of looks that the deadline has clipped, as long as there is nothing else.
    clipped: Option<Duration>,
}

impl LastAnswer {
    /// Whether a look after the last answer had its whole time and gave none.
    pub(super) fn overran(&self) -> bool {
        self.overran.is_some()
    }

    /// Notes what a look has seen. A look that was clipped and overran says nothing of the condition.
    pub(super) fn note(&mut self, answer: ProbeAnswer, bound: LookBound) {
        match answer {
            ProbeAnswer::Overran(time) if bound.is_clipped => self.clipped = Some(time),
            ProbeAnswer::Overran(time) => self.overran = Some(time),
            answer => *self = Self { answered: Some(answer), ..Self::default() },
        }
    }
}

impl fmt::Display for LastAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.answered, self.overran.or(self.clipped).map(ProbeAnswer::Overran)) {
            (Some(answered), Some(overran)) if self.overran.is_some() => {
                write!(formatter, "{overran}, and before that: {answered}")
            }
            (Some(answered), _) => answered.fmt(formatter),
            (None, Some(overran)) => overran.fmt(formatter),
            (None, None) => formatter.write_str("it was not looked at"),
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
        check(&[no("refused"), overran(FULL), overran(CLIPPED)], "no answer within 5s, and before that: refused");
        check(&[overran(FULL), no("refused")], "refused");
        check(&[overran(FULL), overran(CLIPPED)], "no answer within 5s");
        check(&[(ProbeAnswer::No("status 2".into()), CLIPPED)], "status 2");
        check(&[overran(CLIPPED)], "no answer within 700ms");
        check(&[(ProbeAnswer::NotRunning("it has not started yet".into()), FULL)], "it has not started yet");
        check(&[], "it was not looked at");
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
