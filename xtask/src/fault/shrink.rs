//! Reduces a schedule that leads to a failure, as long as the smaller one leads to the failure too: first fewer faults (delta debugging),
//! then a shorter schedule, shorter faults, milder ones. Pure: proposes schedules, and takes the results of trying them.

use std::collections::BTreeSet;

use super::sampling;
use super::schedule::Schedule;

/// Minimum duration that a fault is shortened to.
const SHORTEST_MS: u64 = 50;

/// Minimum length of a schedule after the last fault.
const TAIL_MS: u64 = 500;

/// Reduction of a schedule, between two proposals.
#[derive(Debug)]
pub struct Shrink {
    best: Schedule,
    phase: Phase,
    /// Keys of the proposals that did not lead to the failure.
    passed: BTreeSet<String>,
    proposed: Option<Schedule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Fewer faults: number of pieces that the faults are cut into, and index of the next proposal. Proposals with an index below `pieces`
    /// each keep only one piece, later ones each leave one piece out.
    Faults {
        pieces: usize,
        next: usize,
    },
    Length,
    Durations {
        place: usize,
    },
    Intensities {
        place: usize,
    },
    Done,
}

impl Shrink {
    /// Starts with a schedule that leads to the failure.
    #[must_use]
    pub fn of(schedule: Schedule) -> Self {
        let best = Schedule { seed: None, profile: "shrunk".into(), ..schedule };
        Self { best, phase: Phase::Faults { pieces: 2, next: 0 }, passed: BTreeSet::new(), proposed: None }
    }

    /// Smallest schedule so far that leads to the failure.
    #[must_use]
    pub fn best(&self) -> &Schedule {
        &self.best
    }

    /// Returns the next schedule to try; `None` when nothing smaller is left to be tried.
    pub fn propose(&mut self) -> Option<Schedule> {
        loop {
            let candidate = match self.phase {
                Phase::Faults { pieces, next } => self.fewer(pieces, next),
                Phase::Length => self.shorter_stretch(),
                Phase::Durations { place } => self.shorter(place),
                Phase::Intensities { place } => self.milder(place),
                Phase::Done => return None,
            };
            match candidate {
                Some(candidate) if !self.passed.contains(&key(&candidate)) => {
                    self.proposed = Some(candidate.clone());
                    return Some(candidate);
                }
                _ => self.advance(),
            }
        }
    }

    /// Notes whether the last proposal leads to the failure.
    pub fn tell(&mut self, fails: bool) {
        let Some(proposed) = self.proposed.take() else { return };
        if !fails {
            self.passed.insert(key(&proposed));
            return self.advance();
        }
        self.best = proposed;
        self.phase = match self.phase {
            // A piece alone was enough; without one of them it still fails.
            Phase::Faults { pieces, next } if next < pieces => Phase::Faults { pieces: 2, next: 0 },
            Phase::Faults { pieces, .. } => Phase::Faults { pieces: (pieces - 1).max(2), next: 0 },
            Phase::Length => Phase::Durations { place: 0 },
            same => same, // once more, by half again
        };
    }

    /// Advances to the next proposal after one that does not lead to the failure, or cannot be made.
    fn advance(&mut self) {
        let count = self.best.faults.len();
        self.phase = match self.phase {
            Phase::Faults { pieces, next } if count > 1 && next + 1 < 2 * pieces => {
                Phase::Faults { pieces, next: next + 1 }
            }
            Phase::Faults { pieces, .. } if pieces < count => {
                Phase::Faults { pieces: (pieces * 2).min(count), next: 0 }
            }
            Phase::Faults { .. } => Phase::Length,
            Phase::Length => Phase::Durations { place: 0 },
            Phase::Durations { place } if place + 1 < count => Phase::Durations { place: place + 1 },
            Phase::Durations { .. } => Phase::Intensities { place: 0 },
            Phase::Intensities { place } if place + 1 < count => Phase::Intensities { place: place + 1 },
            Phase::Intensities { .. } | Phase::Done => Phase::Done,
        };
    }

    fn fewer(&self, pieces: usize, next: usize) -> Option<Schedule> {
        let count = self.best.faults.len();
        if count < 2 {
            return None;
        }
        let pieces = pieces.min(count);
        let (piece, alone) = if next < pieces { (next, true) } else { (next - pieces, false) };
        if piece >= pieces || pieces == 2 && !alone {
            return None; // of two halves, the one without the other is the other
        }
        let inside = |place: usize| place * pieces / count == piece;
        let kept = self.best.faults.iter().enumerate().filter(|(place, _)| inside(*place) == alone);
        let faults: Vec<_> = kept.map(|(_, planned)| planned.clone()).collect();
        (!faults.is_empty() && faults.len() < count).then(|| Schedule { faults, ..self.best.clone() })
    }

    fn shorter_stretch(&self) -> Option<Schedule> {
        let last = self.best.faults.iter().map(super::schedule::Planned::end_ms).max()?;
        let length_ms = last + TAIL_MS;
        (length_ms < self.best.length_ms).then(|| Schedule { length_ms, ..self.best.clone() })
    }

    fn shorter(&self, place: usize) -> Option<Schedule> {
        let mut candidate = self.best.clone();
        let planned = candidate.faults.get_mut(place)?;
        if planned.duration_ms / 2 < SHORTEST_MS {
            return None;
        }
        planned.duration_ms /= 2;
        Some(candidate)
    }

    fn milder(&self, place: usize) -> Option<Schedule> {
        let mut candidate = self.best.clone();
        let planned = candidate.faults.get_mut(place)?;
        planned.fault = sampling::milder(&planned.fault)?;
        Some(candidate)
    }
}

/// Returns a key that tells two schedules of one case apart.
fn key(schedule: &Schedule) -> String {
    let faults = schedule.faults.iter();
    let one = |planned: &super::schedule::Planned| {
        format!("{} {} {} {};", planned.at_ms, planned.duration_ms, planned.container, planned.fault)
    };
    format!("{} {}", schedule.length_ms, faults.map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    use e2e_contract::Fault;

    use super::super::schedule::{Planned, SCHEDULE_VERSION};
    use super::*;

    fn schedule(count: u32) -> Schedule {
        let planned = |number: u32| Planned {
            number,
            at_ms: u64::from(number) * 1000,
            duration_ms: 800,
            container: "a".into(),
            fault: Fault::NetDelay { delay_ms: number * 20, jitter_ms: 0, reorder_percent: 0 },
        };
        Schedule {
            format_version: SCHEDULE_VERSION,
            case: "x".into(),
            seed: Some(1),
            profile: "default".into(),
            length_ms: u64::from(count) * 1000 + 5000,
            faults: (1..=count).map(planned).collect(),
        }
    }

    /// Reduces a schedule of `count` faults by a rule; returns the smallest schedule and the number of proposals.
    fn shrunk(count: u32, fails: impl Fn(&Schedule) -> bool) -> (Schedule, usize) {
        let whole = schedule(count);
        assert!(fails(&whole), "the whole schedule fails");
        let mut shrink = Shrink::of(whole);
        let mut tried = BTreeSet::new();
        while let Some(candidate) = shrink.propose() {
            assert!(tried.insert(key(&candidate)), "proposed twice: {candidate:?}");
            assert!(tried.len() < 300, "it comes to an end");
            shrink.tell(fails(&candidate));
        }
        let best = shrink.best().clone();
        assert!(fails(&best));
        (best, tried.len())
    }

    fn numbers(schedule: &Schedule) -> Vec<u32> {
        schedule.faults.iter().map(|planned| planned.number).collect()
    }

    #[test]
    fn only_the_faults_that_matter_are_left() {
        for needed in [vec![1], vec![8], vec![5], vec![2, 7], vec![1, 4, 8], (1..=8).collect()] {
            let has = |schedule: &Schedule| needed.iter().all(|number| numbers(schedule).contains(number));
            let (best, tried) = shrunk(8, has);
            assert_eq!(numbers(&best), needed);
            assert!(tried <= 130, "{needed:?}: {tried}");
        }
        assert_eq!(numbers(&shrunk(1, |_| true).0), [1]);
    }

    #[test]
    fn durations_length_and_intensities_follow() {
        let (best, _) = shrunk(4, |schedule| {
            schedule.faults.iter().any(|planned| {
                let Fault::NetDelay { delay_ms, .. } = planned.fault else { panic!("{planned:?}") };
                planned.number == 3 && planned.duration_ms >= 200 && delay_ms >= 20
            })
        });
        assert_eq!(best.faults.len(), 1);
        assert_eq!((best.faults[0].duration_ms, best.faults[0].at_ms), (200, 3000));
        let Fault::NetDelay { delay_ms, .. } = best.faults[0].fault else { panic!("{best:?}") };
        assert!((20..40).contains(&delay_ms), "{delay_ms}");
        assert_eq!(best.length_ms, 3000 + 800 + TAIL_MS, "it was shortened before the fault was");
        assert_eq!((best.seed, best.profile.as_str()), (None, "shrunk"));
    }

    #[test]
    fn when_one_of_two_alone_leads_to_it_one_is_left() {
        let (best, _) = shrunk(8, |schedule| numbers(schedule).iter().any(|number| [2, 6].contains(number)));
        assert_eq!(best.faults.len(), 1);
    }
}
