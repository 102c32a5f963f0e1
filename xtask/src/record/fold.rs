//! Fold of a run's events: takes one event after another, and can return the run's record at any moment.
//!
//! The record is written as `run.json` at the run's end. After a `kill -9`, readers make it from the events, and a field that no event
//! fills would be missing.

use std::collections::HashMap;

use super::{
    Attempt, CaseId, CaseResult, Counts, Event, FORMAT_VERSION, Outcome, RunRecord, Stamped, Unfinished, Verdict,
};
use crate::error::EXIT_INTERRUPTED;

/// Record of a run while events are added. Its size depends on the record, not on the number of events.
#[derive(Debug, Default)]
pub struct Fold {
    record: RunRecord,
    /// Index of each case in the record's list of cases.
    places: HashMap<CaseId, usize>,
    open: Vec<Open>,
    last_ms: f64,
    planned: u32,
    knows_plan: bool,
    has_begun: bool,
    has_ended: bool,
}

/// An attempt that has begun and not ended.
#[derive(Debug)]
struct Open {
    case: CaseId,
    number: u32,
    folder: Option<String>,
    begun_ms: f64,
}

impl Fold {
    pub fn apply(&mut self, stamped: &Stamped) {
        self.last_ms = self.last_ms.max(stamped.at_ms);
        let record = &mut self.record;
        match &stamped.event {
            Event::RunStarted { format_version, run_id, started_at, cases, shuffle_seed, user, patience, setup } => {
                self.has_begun = true;
                self.planned = *cases;
                record.format_version = *format_version;
                record.run_id.clone_from(run_id);
                record.started_at.clone_from(started_at);
                record.shuffle_seed = *shuffle_seed;
                record.user.clone_from(user);
                record.patience = *patience;
                record.engine_version = setup.engine_version.clone().unwrap_or_default();
                record.command.clone_from(&setup.command);
                record.chaos_seed = setup.chaos_seed;
                record.compared_with.clone_from(&setup.compared_with);
                record.part.clone_from(&setup.part);
                self.knows_plan = !setup.plan.is_empty();
                for case in &setup.plan {
                    self.add(&CaseId(case.clone()));
                }
            }
            Event::RunPrepared { layers, packages, privileged, allowed, machine, ids } => {
                record.layers.clone_from(layers);
                record.packages.clone_from(packages);
                record.privileged.clone_from(privileged);
                record.allowed.clone_from(allowed);
                record.machine.clone_from(machine);
                record.ids = *ids;
            }
            Event::CaseStarted { case, attempt, folder } => {
                self.open.retain(|open| open.case != *case);
                let (case, number, folder) = (case.clone(), *attempt, folder.clone());
                self.open.push(Open { case, number, folder, begun_ms: stamped.at_ms });
            }
            Event::CaseEnded { case, outcome, duration_ms, folder, faults, .. } => {
                self.open.retain(|open| open.case != *case);
                let (outcome, folder) = (outcome.clone(), folder.clone());
                let attempt = Attempt { outcome, duration_ms: *duration_ms, folder, faults: *faults };
                if let Some(result) = self.result(case) {
                    result.attempts.push(attempt);
                    // Until its verdict comes.
                    result.verdict = CaseResult::judge(result.case.clone(), result.attempts.clone()).verdict;
                }
            }
            Event::CaseJudged { case, verdict } => {
                self.open.retain(|open| open.case != *case);
                if let Some(result) = self.result(case) {
                    result.verdict = *verdict;
                }
            }
            Event::Covered(coverage) => record.coverage = Some(coverage.clone()),
            Event::Compared(comparison) => record.comparisons.push(comparison.clone()),
            Event::RunEnded { counts, duration_ms, exit_code, cleanup_failures, error } => {
                self.has_ended = true;
                record.counts = *counts;
                record.duration_ms = *duration_ms;
                record.exit_code = *exit_code;
                record.cleanup_failures.clone_from(cleanup_failures);
                record.error.clone_from(error);
            }
            _ => {}
        }
    }

    /// Tells whether the events so far include the run's start.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Tells whether the events so far include the run's end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the record of the events so far. Without the run's end, cases that are under way count as interrupted and cases that have
    /// not begun as not run. `still_runs` tells whether a process still writes the run's events.
    #[must_use]
    pub fn record(&self, still_runs: bool) -> RunRecord {
        let mut record = self.record.clone();
        if !self.has_begun {
            record.format_version = FORMAT_VERSION;
        }
        if self.has_ended {
            return record;
        }
        let mut under_way = Vec::new();
        for open in self.open.iter().filter(|open| !self.knows_plan || self.places.contains_key(&open.case)) {
            if open.case.is_baseline_side() {
                continue;
            }
            let place = self.places.get(&open.case).copied().unwrap_or_else(|| {
                record.cases.push(CaseResult::judge(open.case.clone(), Vec::new()));
                record.cases.len() - 1
            });
            let mut attempts = std::mem::take(&mut record.cases[place].attempts);
            attempts.push(Attempt {
                outcome: Outcome::Interrupted,
                duration_ms: self.last_ms - open.begun_ms,
                folder: open.folder.clone().unwrap_or_else(|| folder_of(&open.case, open.number)),
                faults: None,
            });
            record.cases[place] = CaseResult::judge(open.case.clone(), attempts);
            under_way.push(open.case.clone());
        }
        record.counts = Counts::of(&record.cases);
        record.duration_ms = self.last_ms;
        record.exit_code = EXIT_INTERRUPTED;
        let not_begun = record.cases.iter().filter(|case| case.verdict == Verdict::Skipped).count();
        // An older engine's events do not name the cases, but count them.
        let not_named = if self.knows_plan {
            0
        } else {
            self.planned.saturating_sub(u32::try_from(record.cases.len()).unwrap_or(u32::MAX))
        };
        let not_begun = u32::try_from(not_begun).unwrap_or(u32::MAX).saturating_add(not_named);
        record.unfinished = Some(Unfinished { still_runs, last_event_ms: self.last_ms, under_way, not_begun });
        record
    }

    /// Returns a case's result in the record, added if it is missing; `None` for a name that is no case of the run, such as the baseline
    /// side of a duet.
    fn result(&mut self, case: &CaseId) -> Option<&mut CaseResult> {
        if !self.places.contains_key(case) {
            if self.knows_plan || case.is_baseline_side() {
                return None;
            }
            self.add(case);
        }
        self.record.cases.get_mut(*self.places.get(case)?)
    }

    fn add(&mut self, case: &CaseId) {
        self.places.insert(case.clone(), self.record.cases.len());
        self.record.cases.push(CaseResult::judge(case.clone(), Vec::new()));
    }
}

/// Returns the folder of an attempt below the run's.
fn folder_of(case: &CaseId, number: u32) -> String {
    let folder = case.0.replace(':', "/");
    if number == 1 { folder } else { format!("{folder}/attempt-{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{PastRun, synthetic};

    #[test]
    fn the_events_of_a_whole_run_come_to_its_record() {
        let folder = tempfile::tempdir().unwrap();
        let written = synthetic::write(folder.path(), 7).record;
        assert_eq!(written.counts, Counts { passed: 6, failed: 1, ..Counts::default() });
        assert_eq!((written.exit_code, written.cases.len(), written.machine.is_some()), (1, 7, true));
        let folded = PastRun::folded(folder.path()).unwrap().unwrap();
        assert_eq!(folded, written);
    }

    #[test]
    fn a_case_has_one_place_and_the_other_side_of_a_duet_none() {
        let plan = |plan: &[&str]| {
            let mut fold = Fold::default();
            let mut first = synthetic::events(0).remove(0);
            if let Event::RunStarted { setup, cases, .. } = &mut first.event {
                setup.plan = plan.iter().map(|case| (*case).to_owned()).collect();
                *cases = 3;
            }
            fold.apply(&first);
            fold
        };
        let tell = |fold: &mut Fold, at_ms, event| fold.apply(&Stamped { at_ms, event });
        let started = |case: &str, attempt| Event::CaseStarted { case: CaseId(case.into()), attempt, folder: None };
        let ended = |case: &str, attempt, outcome| Event::CaseEnded {
            case: CaseId(case.into()),
            attempt,
            outcome,
            duration_ms: 1.0,
            last_words: Vec::new(),
            folder: format!("{case}/{attempt}"),
            faults: None,
        };
        let lost = || Outcome::infrastructure("no lab");
        // An older engine's events name no plan.
        for known in [&["a/b:c", "a/b:d", "a/b:e"][..], &[]] {
            let mut fold = plan(known);
            tell(&mut fold, 1.0, started("a/b:c", 1));
            tell(&mut fold, 1.0, started("a/b:c@baseline", 1));
            tell(&mut fold, 2.0, ended("a/b:c@baseline", 1, Outcome::Passed));
            tell(&mut fold, 3.0, ended("a/b:c", 1, lost()));
            tell(&mut fold, 4.0, started("a/b:c", 2));
            tell(&mut fold, 5.0, ended("a/b:c", 2, Outcome::Passed));
            tell(&mut fold, 6.0, started("a/b:d", 1));
            tell(&mut fold, 9.5, Event::Warning { message: "w".into() });
            let record = fold.record(false);
            let shown: Vec<_> =
                record.cases.iter().map(|case| (case.case.0.as_str(), case.verdict, case.attempts.len())).collect();
            let mut expected = vec![("a/b:c", Verdict::Passed, 2), ("a/b:d", Verdict::Interrupted, 1)];
            expected.extend(known.iter().skip(2).map(|case| (*case, Verdict::Skipped, 0)));
            assert_eq!(shown, expected);
            assert_eq!(record.cases[1].attempts[0].duration_ms, 3.5);
            assert_eq!((record.exit_code, record.duration_ms), (EXIT_INTERRUPTED, 9.5));
            let end = record.unfinished.unwrap();
            assert_eq!(end.under_way, [CaseId("a/b:d".into())]);
            let told = "it was killed: its events end at 0.009 s without an end of the run, a/b:d was under way";
            assert_eq!(end.to_string(), format!("{told}, 1 case had not begun"));
        }
    }
}
