//! The events of a run, put together by the attempts at its cases.

use std::collections::BTreeMap;

use crate::record::{CaseId, Event, Stamped};

/// One attempt at a case, as its events tell it.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The case. The baseline's side of a duet has a name of its own.
    pub case: &'a CaseId,
    /// From 1.
    pub number: u32,
    /// On the run's clock.
    pub begun_ms: f64,
    /// On the run's clock; that of its last event where its end is missing.
    pub ended_ms: f64,
    /// Its folder below the run's, where it has ended.
    pub folder: Option<&'a str>,
    /// All that belongs to it, in order, begin and end included.
    pub events: Vec<&'a Stamped>,
}

/// The attempts of a run in the order of their begins, and the events that belong to none.
#[must_use]
pub fn attempts(events: &[Stamped]) -> (Vec<Attempt<'_>>, Vec<&Stamped>) {
    let (mut attempts, mut others) = (Vec::<Attempt<'_>>::new(), Vec::new());
    let mut running: BTreeMap<&CaseId, usize> = BTreeMap::new();
    for stamped in events {
        let Some(case) = stamped.event.case() else {
            others.push(stamped);
            continue;
        };
        if let Event::CaseStarted { attempt, .. } = &stamped.event {
            running.insert(case, attempts.len());
            let at_ms = stamped.at_ms;
            let events = Vec::new();
            attempts.push(Attempt { case, number: *attempt, begun_ms: at_ms, ended_ms: at_ms, folder: None, events });
        }
        let Some(attempt) = running.get(case).and_then(|place| attempts.get_mut(*place)) else {
            others.push(stamped); // a case that was not run has a verdict, and no attempt
            continue;
        };
        if matches!(stamped.event, Event::CaseJudged { .. }) {
            continue;
        }
        attempt.ended_ms = attempt.ended_ms.max(stamped.at_ms);
        if let Event::CaseEnded { folder, .. } = &stamped.event {
            attempt.folder = Some(folder);
        }
        attempt.events.push(stamped);
    }
    (attempts, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Verdict;

    #[test]
    fn what_two_cases_do_at_the_same_time_is_told_apart() {
        let (one, two) = (CaseId("a/b:c".into()), CaseId("a/b:c@baseline".into()));
        let started = |case: &CaseId, attempt| Event::CaseStarted { case: case.clone(), attempt };
        let down = |case: &CaseId| Event::LabDown { case: case.clone(), duration_ms: 1.0 };
        let judged = Event::CaseJudged { case: CaseId("x/y:z".into()), verdict: Verdict::Skipped };
        let events = [
            Event::Warning { message: "w".into() },
            started(&one, 1),
            started(&two, 1),
            down(&one),
            down(&two),
            started(&one, 2),
            down(&one),
            judged,
        ];
        let stamp = |(at, event): (usize, &Event)| Stamped { at_ms: at as f64, event: event.clone() };
        let events: Vec<Stamped> = events.iter().enumerate().map(stamp).collect();
        let (attempts, others) = attempts(&events);
        let shown: Vec<_> = attempts.iter().map(|it| (it.case, it.number, it.begun_ms, it.ended_ms)).collect();
        assert_eq!(shown, [(&one, 1, 1.0, 3.0), (&two, 1, 2.0, 4.0), (&one, 2, 5.0, 6.0)]);
        assert_eq!(others.len(), 2);
    }
}
