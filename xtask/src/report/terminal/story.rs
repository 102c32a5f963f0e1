//! Facts about each case that are in a run's events and not in its record: checks with their places, faults that took effect, findings,
//! last lines of logs. The number of kept facts is limited, so that no scenario can fill the memory.

use std::collections::{BTreeMap, BTreeSet};

use e2e_contract::{DefectOutcome, Level};

use crate::record::{Event, Outcome, Stamped};
use crate::report::before::Before;
use crate::report::problem::{Problem, problem};

/// Maximum failures kept of one attempt; all are counted.
const FAILURES_MAX: usize = 20;
/// Maximum error messages kept of the scenario of one attempt.
const ERRORS_MAX: usize = 5;
/// Maximum findings kept of one case; all are counted.
const FINDINGS_MAX: usize = 20;

/// Stories of a run's cases, by the case's name; in a comparison, only those of the candidate's cases and not of the baseline's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Story {
    cases: BTreeMap<String, CaseStory>,
}

/// Facts about one case, over all its attempts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CaseStory {
    /// Failures of the last attempt that did not pass, or of the running one.
    pub attempt: AttemptStory,
    /// Unexpected findings, each with its kind, place and details.
    pub findings: Vec<String>,
    /// Number of all findings, including those that are not kept.
    pub findings_count: usize,
    /// Machines that rebooted by themselves; all reboots of a machine are one finding.
    rebooted: BTreeSet<String>,
    /// Number of times that a known defect showed.
    pub known_defects: u32,
    /// Number of faults that took effect in the last attempt, by the fault's kind.
    pub effects: BTreeMap<&'static str, u32>,
    /// Commands that enter the kept lab, and the command that destroys it; `None` if no lab was kept.
    pub kept: Option<(Vec<String>, String)>,
}

/// Failures and last lines of logs of an attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AttemptStory {
    pub failures: Vec<Problem>,
    /// Number of all failures, including those that are not kept.
    pub failures_count: usize,
    /// Messages of level `error` from the scenario.
    pub errors: Vec<String>,
    pub errors_count: usize,
    /// The last lines of the attempt's logs.
    pub last_words: Vec<String>,
    /// Unexpected ends of programs before the attempt failed.
    pub before: Before,
}

impl Story {
    pub fn of(&self, case: &str) -> Option<&CaseStory> {
        self.cases.get(case)
    }

    pub fn cases(&self) -> impl Iterator<Item = (&String, &CaseStory)> {
        self.cases.iter()
    }

    pub fn apply(&mut self, stamped: &Stamped) {
        if let Event::CaseStarted { case, .. } = &stamped.event
            && !case.is_baseline_side()
        {
            let story = self.cases.entry(case.0.clone()).or_default();
            story.attempt = AttemptStory::default();
            story.effects.clear();
        }
        if let Some(story) = stamped.event.case().and_then(|case| self.cases.get_mut(&case.0)) {
            story.apply(stamped);
        }
    }
}

impl CaseStory {
    fn apply(&mut self, stamped: &Stamped) {
        self.attempt.before.apply(stamped);
        if let Some(problem) = problem(stamped) {
            self.attempt.failures_count += 1;
            if self.attempt.failures.len() < FAILURES_MAX {
                self.attempt.failures.push(problem);
            }
        }
        match &stamped.event {
            Event::Defect { defect, .. } if defect.outcome == DefectOutcome::Known => self.known_defects += 1,
            Event::Log { level: Level::Error, message, .. } => {
                self.attempt.errors_count += 1;
                if self.attempt.errors.len() < ERRORS_MAX {
                    self.attempt.errors.push(message.clone());
                }
            }
            Event::FaultInjected(seen) => *self.effects.entry(seen.description.name()).or_default() += 1,
            Event::Finding { kind, container, about, detail, expected: false, .. } => {
                self.findings_count += 1;
                if self.findings.len() < FINDINGS_MAX {
                    let place = container.as_ref().map_or_else(String::new, |container| format!(" on {container}"));
                    self.findings.push(format!("{kind}{place}: {about}: {detail}"));
                }
            }
            Event::MachineRebooted { container, reboots, expected: false, .. } => {
                self.findings.retain(|finding| !finding.starts_with(&format!("rebooted on {container}:")));
                self.findings_count += usize::from(self.rebooted.insert(container.clone()));
                if self.findings.len() < FINDINGS_MAX {
                    self.findings.push(format!("rebooted on {container}: by itself, reboots: {reboots}"));
                }
            }
            Event::Kept { enter, remove, .. } => self.kept = Some((enter.clone(), remove.clone())),
            Event::CaseEnded { outcome, last_words, .. } if *outcome != Outcome::Passed => {
                self.attempt.last_words.clone_from(last_words);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CaseId;

    #[test]
    fn a_machine_that_reboots_again_and_again_is_one_finding() {
        let mut story = CaseStory::default();
        for (container, reboots) in [("a", 1), ("b", 1), ("a", 2)] {
            let (case, container) = (CaseId("x/y:z".into()), container.to_owned());
            let event = Event::MachineRebooted { case, container, reboots, expected: false };
            story.apply(&Stamped { at_ms: 0.0, event });
        }
        assert_eq!(story.findings, ["rebooted on b: by itself, reboots: 1", "rebooted on a: by itself, reboots: 2"]);
        assert_eq!(story.findings_count, 2);
    }

    #[test]
    fn reboots_of_a_machine_count_once_where_no_more_findings_are_kept() {
        let mut story = CaseStory { findings: vec!["crash".into(); FINDINGS_MAX], ..CaseStory::default() };
        for reboots in 1..=3 {
            let (case, container) = (CaseId("x/y:z".into()), "a".to_owned());
            let event = Event::MachineRebooted { case, container, reboots, expected: false };
            story.apply(&Stamped { at_ms: 0.0, event });
        }
        assert_eq!((story.findings.len(), story.findings_count), (FINDINGS_MAX, 1));
    }
}
