//! Events of a run, sorted by the attempts at its cases. Each line is read once.

use std::collections::HashMap;

use super::{CaseId, Event, EventReader, PastRun, Stamped};

/// One attempt at a case, with its events.
#[derive(Debug, Clone, PartialEq)]
pub struct AttemptEvents {
    /// Case of the attempt. The baseline side of a duet has a name of its own.
    pub case: CaseId,
    /// Number of the attempt, from 1.
    pub number: u32,
    /// Begin of the attempt on the run's clock.
    pub begun_ms: f64,
    /// End of the attempt on the run's clock; time of its last event where the end is missing.
    pub ended_ms: f64,
    /// Folder of the attempt below the run's; absent where an older engine was killed during the attempt.
    pub folder: Option<String>,
    /// True if the attempt's end is among its events.
    pub has_ended: bool,
    events: Vec<Stamped>,
}

impl AttemptEvents {
    /// Returns the attempt's events in order, start and end included.
    #[must_use]
    pub fn events(&self) -> &[Stamped] {
        #[cfg(test)]
        super::event_reader::work::count(self.events.len());
        &self.events
    }
}

/// Sorter that assigns events to attempts, one event after another.
#[derive(Debug, Default)]
struct AttemptSorter {
    open: Vec<AttemptEvents>,
    others: Vec<Stamped>,
    forgets_others: bool,
}

impl AttemptSorter {
    fn attempts_alone() -> Self {
        Self { forgets_others: true, ..Self::default() }
    }

    fn other(&mut self, stamped: Stamped) {
        if !self.forgets_others {
            self.others.push(stamped);
        }
    }

    /// Adds an event, and returns the attempt that the event ends.
    fn push(&mut self, stamped: Stamped) -> Option<AttemptEvents> {
        let Some(case) = stamped.event.case() else {
            self.other(stamped);
            return None;
        };
        // As many are open as there are labs: one, or the two of a duet.
        let place = self.open.iter().position(|attempt| attempt.case == *case);
        let at_ms = stamped.at_ms;
        match &stamped.event {
            Event::CaseStarted { case, attempt, folder } => {
                let begun = AttemptEvents {
                    case: case.clone(),
                    number: *attempt,
                    begun_ms: at_ms,
                    ended_ms: at_ms,
                    folder: folder.clone(),
                    has_ended: false,
                    events: vec![stamped],
                };
                // One whose end is missing goes as it is.
                let cut = place.map(|place| self.open.remove(place));
                self.open.push(begun);
                cut
            }
            Event::CaseJudged { .. } => {
                self.other(stamped);
                place.map(|place| self.open.remove(place))
            }
            event => {
                let Some(place) = place else {
                    self.other(stamped);
                    return None;
                };
                let attempt = &mut self.open[place];
                attempt.ended_ms = attempt.ended_ms.max(at_ms);
                let ended = match event {
                    Event::CaseEnded { folder, .. } => Some(folder.clone()),
                    _ => None,
                };
                attempt.events.push(stamped);
                let folder = ended?;
                (attempt.folder, attempt.has_ended) = (Some(folder), true);
                Some(self.open.remove(place))
            }
        }
    }

    /// Returns the attempts without an end, and the events that belong to no attempt.
    fn end(self) -> (Vec<AttemptEvents>, Vec<Stamped>) {
        (self.open, self.others)
    }
}

#[derive(Debug, Default)]
pub struct RunEvents {
    attempts: Vec<AttemptEvents>,
    others: Vec<Stamped>,
    by_name: HashMap<(CaseId, u32), usize>,
    by_folder: HashMap<String, usize>,
    gaps: Vec<String>,
}

impl FromIterator<Stamped> for RunEvents {
    fn from_iter<T: IntoIterator<Item = Stamped>>(events: T) -> Self {
        let mut sorter = AttemptSorter::default();
        let mut attempts: Vec<AttemptEvents> = events.into_iter().filter_map(|stamped| sorter.push(stamped)).collect();
        let (open, others) = sorter.end();
        attempts.extend(open);
        attempts.sort_by(|one, other| one.begun_ms.total_cmp(&other.begun_ms));
        let by_name = attempts.iter().enumerate().map(|(place, it)| ((it.case.clone(), it.number), place)).collect();
        let folder = |(place, it): (usize, &AttemptEvents)| Some((it.folder.clone()?, place));
        let by_folder = attempts.iter().enumerate().filter_map(folder).collect();
        Self { attempts, others, by_name, by_folder, gaps: Vec::new() }
    }
}

impl RunEvents {
    /// Returns the attempts in the order of their begins.
    #[must_use]
    pub fn attempts(&self) -> &[AttemptEvents] {
        &self.attempts
    }

    /// Returns the events that belong to no attempt, in order.
    #[must_use]
    pub fn others(&self) -> &[Stamped] {
        #[cfg(test)]
        super::event_reader::work::count(self.others.len());
        &self.others
    }

    /// Returns the gaps in the events, a sentence for each kind.
    #[must_use]
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Finds an attempt by its case and number, from 1.
    #[must_use]
    pub fn attempt(&self, case: &CaseId, number: usize) -> Option<&AttemptEvents> {
        let place = self.by_name.get(&(case.clone(), u32::try_from(number).ok()?))?;
        self.attempts.get(*place)
    }

    /// Finds an attempt by its folder below the run's.
    #[must_use]
    pub fn in_folder(&self, folder: &str) -> Option<&AttemptEvents> {
        self.attempts.get(*self.by_folder.get(folder)?)
    }
}

impl PastRun {
    /// Reads all events of the run. Lines that are no events are left out, and described in [`RunEvents::gaps`].
    pub fn events(&self) -> anyhow::Result<RunEvents> {
        let mut reader = EventReader::open(&self.folder)?;
        let mut failure = None;
        let events = std::iter::from_fn(|| match reader.next_event() {
            Ok(event) => event,
            Err(error) => {
                failure = Some(error);
                None
            }
        });
        let mut events: RunEvents = events.collect();
        events.gaps = reader.gaps().sentences();
        failure.map_or(Ok(events), Err)
    }

    /// Calls `action` with each attempt when it ends, and at last with the attempts without an end; so memory holds only attempts that go
    /// on at the same time. Returns the gaps in the events, a sentence for each kind.
    pub fn each_attempt(
        &self,
        mut action: impl FnMut(AttemptEvents) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<String>> {
        let (mut reader, mut open) = (EventReader::open(&self.folder)?, AttemptSorter::attempts_alone());
        while let Some(stamped) = reader.next_event()? {
            if let Some(attempt) = open.push(stamped) {
                action(attempt)?;
            }
        }
        open.end().0.into_iter().try_for_each(action)?;
        Ok(reader.gaps().sentences())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Outcome, Verdict};

    fn started(case: &CaseId, attempt: u32) -> Event {
        Event::CaseStarted { case: case.clone(), attempt, folder: None }
    }

    fn ended(case: &CaseId, attempt: u32) -> Event {
        Event::CaseEnded {
            case: case.clone(),
            attempt,
            outcome: Outcome::Passed,
            duration_ms: 1.0,
            last_words: Vec::new(),
            folder: format!("{case}/{attempt}"),
            faults: None,
        }
    }

    #[test]
    fn what_two_cases_do_at_the_same_time_is_told_apart() {
        let (one, two) = (CaseId("a/b:c".into()), CaseId("a/b:c@baseline".into()));
        let down = |case: &CaseId| Event::LabDown { case: case.clone(), duration_ms: 1.0 };
        let judged = Event::CaseJudged { case: CaseId("x/y:z".into()), verdict: Verdict::Skipped };
        let events = [
            Event::Warning { message: "w".into() },
            started(&one, 1),
            started(&two, 1),
            down(&one),
            down(&two),
            ended(&one, 1),
            down(&one), // it belongs to no attempt any more
            started(&one, 2),
            down(&one),
            judged,
        ];
        let stamp = |(at, event): (usize, &Event)| Stamped { at_ms: at as f64, event: event.clone() };
        let events: RunEvents = events.iter().enumerate().map(stamp).collect();
        let shown: Vec<_> = events
            .attempts()
            .iter()
            .map(|it| (&it.case, it.number, it.begun_ms, it.ended_ms, it.has_ended, it.events().len()))
            .collect();
        let expected = [(&one, 1, 1.0, 5.0, true, 3), (&two, 1, 2.0, 4.0, false, 2), (&one, 2, 7.0, 8.0, false, 2)];
        assert_eq!(shown, expected);
        assert_eq!(events.others().len(), 3);
        assert_eq!(events.attempt(&one, 2).map(|it| it.begun_ms), Some(7.0));
        assert_eq!(events.in_folder("a/b:c/1").map(|it| it.begun_ms), Some(1.0));
        assert!(events.in_folder("a/b:c/2").is_none() && events.attempt(&one, 3).is_none());
    }
}
