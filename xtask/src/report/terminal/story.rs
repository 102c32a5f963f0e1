//! Facts of each case from a run's events that its record alone does not hold: checks with their places, faults that
//! took effect, findings, last words. Bounded, whatever a scenario does.

use std::collections::BTreeMap;

use e2e_contract::{Check, DefectOutcome, InvariantKind, Level};

use crate::record::{Event, Outcome, Stamped};
use crate::report::before::Before;

/// Maximum failures kept of one attempt; all are counted.
const FAILURES_MAX: usize = 20;
/// Maximum errors kept that the scenario of one attempt reported.
const ERRORS_MAX: usize = 5;
/// Maximum findings kept of one case; all are counted.
const FINDINGS_MAX: usize = 20;

/// A run's cases by name, without the other sides of duets.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Story {
    cases: BTreeMap<String, CaseStory>,
}

/// Story of one case, over all its attempts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct CaseStory {
    /// The last attempt that did not pass, or the one that goes on.
    pub attempt: AttemptStory,
    /// Unexpected findings: kind, place and details.
    pub findings: Vec<String>,
    /// Number of all findings.
    pub findings_count: usize,
    /// Number of times that a known defect was seen.
    pub known_defects: u32,
    /// Number of faults that took effect in the last attempt, by kind.
    pub bites: BTreeMap<&'static str, u32>,
    /// The lab that was kept: how to enter it, and how to remove it.
    pub kept: Option<(Vec<String>, String)>,
}

/// Failures of an attempt.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AttemptStory {
    /// Failures in order.
    pub failures: Vec<Failure>,
    /// Number of all failures.
    pub failures_count: usize,
    /// Errors that the scenario reported, with their counts.
    pub errors: Vec<String>,
    pub errors_count: usize,
    /// The last lines of its logs.
    pub last_words: Vec<String>,
    /// Ends of programs before it failed.
    pub before: Before,
}

/// Failure: its text, its values, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub what: String,
    pub values: String,
    /// `file:line`, where it is known.
    pub place: Option<String>,
}

impl Failure {
    fn of_check(check: &Check) -> Self {
        let meaning = check.message.as_ref().map_or_else(String::new, |message| format!(" ({message})"));
        Self {
            what: format!("check {}{meaning}", check.condition),
            values: check.values.clone(),
            place: Some(format!("{}:{}", check.file, check.line)),
        }
    }
}

impl Story {
    /// Returns the story of a case.
    pub fn of(&self, case: &str) -> Option<&CaseStory> {
        self.cases.get(case)
    }

    /// Returns all cases, by name.
    pub fn cases(&self) -> impl Iterator<Item = (&String, &CaseStory)> {
        self.cases.iter()
    }

    /// Takes in what happened.
    pub fn apply(&mut self, stamped: &Stamped) {
        self.apply_event(&stamped.event);
        if let Some(story) = stamped.event.case().and_then(|case| self.cases.get_mut(&case.0)) {
            story.attempt.before.apply(stamped);
        }
    }

    fn apply_event(&mut self, event: &Event) {
        match event {
            Event::CaseStarted { case, .. } if !case.is_baseline_side() => {
                let story = self.cases.entry(case.0.clone()).or_default();
                story.attempt = AttemptStory::default();
                story.bites.clear();
            }
            Event::Check { case, check } if !check.passed => self.failed(&case.0, || Failure::of_check(check)),
            Event::Invariant { case, invariant } if !invariant.held && invariant.kind != InvariantKind::Sometimes => {
                let when = if invariant.kind == InvariantKind::Always { "always" } else { "at the end" };
                self.failed(&case.0, || Failure {
                    what: format!("{when}: {}", invariant.name),
                    values: invariant.values.clone(),
                    place: Some(format!("{}:{}", invariant.file, invariant.line)),
                });
            }
            Event::Aborted { case, message, location, .. } => self.failed(&case.0, || Failure {
                what: format!("the scenario gave up: {message}"),
                values: String::new(),
                place: location.clone(),
            }),
            Event::Defect { case, defect } => match defect.outcome {
                DefectOutcome::Known => {
                    if let Some(story) = self.cases.get_mut(&case.0) {
                        story.known_defects += 1;
                    }
                }
                DefectOutcome::Fixed => self.failed(&case.0, || Failure {
                    what: format!("defect {} is fixed: remove its mark", defect.defect),
                    values: String::new(),
                    place: Some(format!("{}:{}", defect.file, defect.line)),
                }),
                DefectOutcome::Different => self.failed(&case.0, || Failure {
                    what: format!("defect {} fails in another way than with {:?}", defect.defect, defect.failing_with),
                    values: defect.failure.clone().unwrap_or_default(),
                    place: Some(format!("{}:{}", defect.file, defect.line)),
                }),
            },
            event => self.apply_rest(event),
        }
    }

    fn apply_rest(&mut self, event: &Event) {
        match event {
            Event::Log { case, level: Level::Error, message } => {
                let Some(CaseStory { attempt, .. }) = self.cases.get_mut(&case.0) else { return };
                attempt.errors_count += 1;
                if attempt.errors.len() < ERRORS_MAX {
                    attempt.errors.push(message.clone());
                }
            }
            Event::FaultInjected(seen) => {
                if let Some(story) = self.cases.get_mut(&seen.case.0) {
                    *story.bites.entry(seen.description.name()).or_default() += 1;
                }
            }
            Event::Finding { case, kind, container, about, detail, expected: false, .. } => {
                let Some(story) = self.cases.get_mut(&case.0) else { return };
                story.findings_count += 1;
                if story.findings.len() < FINDINGS_MAX {
                    let place = container.as_ref().map_or_else(String::new, |container| format!(" on {container}"));
                    story.findings.push(format!("{kind}{place}: {about}: {detail}"));
                }
            }
            Event::MachineRebooted { case, container, reboots, expected: false } => {
                let Some(story) = self.cases.get_mut(&case.0) else { return };
                story.findings.retain(|finding| !finding.starts_with(&format!("rebooted on {container}:")));
                if story.findings.len() < FINDINGS_MAX {
                    story.findings.push(format!("rebooted on {container}: by itself, reboots: {reboots}"));
                }
            }
            Event::Kept { case, enter, remove } => {
                if let Some(story) = self.cases.get_mut(&case.0) {
                    story.kept = Some((enter.clone(), remove.clone()));
                }
            }
            Event::CaseEnded { case, outcome, last_words, .. } if *outcome != Outcome::Passed => {
                if let Some(story) = self.cases.get_mut(&case.0) {
                    story.attempt.last_words.clone_from(last_words);
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, case: &str, failure: impl FnOnce() -> Failure) {
        let Some(story) = self.cases.get_mut(case) else { return };
        story.attempt.failures_count += 1;
        if story.attempt.failures.len() < FAILURES_MAX {
            story.attempt.failures.push(failure());
        }
    }
}
