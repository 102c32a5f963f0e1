//! Present state of a run, folded from the events so far: the state behind the live lines. Pure.

use std::collections::BTreeMap;

use e2e_contract::Fault;

use crate::record::{Event, Stamped, Verdict};
use crate::report::problem::problem;

/// State of a run from which the live lines are made.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Screen {
    /// Progress of work that is not a run of cases, such as trying faults.
    pub amount: Option<Amount>,
    /// Number of planned cases; `None` before the plan is known.
    pub planned: Option<u32>,
    pub tally: Tally,
    /// Running cases, in the order of their start.
    pub cases: Vec<Running>,
    /// Builds of layers that are under way, in the order of their start.
    pub layers: Vec<LayerWork>,
    /// Cargo's build of the scenarios, while a case waits for it: its progress as text, and its start.
    pub scenarios_build: Option<Since>,
    /// Waits of the run, such as for a free slot: the reason and the start of each.
    pub waits: Vec<Since>,
    /// Earlier durations of the unfinished cases in milliseconds; `None` if the earlier duration of some case is not known.
    pub expected_ms: Option<BTreeMap<String, f64>>,
    /// True once the run was asked to stop.
    pub stops: bool,
    /// Time of the last event, in milliseconds since the run's start.
    pub at_ms: f64,
}

/// Progress of work that is counted in items and is not a run of cases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    /// Name of the counted items, such as `faults tried`.
    pub what: String,
    pub done: u32,
    pub of: u32,
}

/// Numbers of finished cases by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub flaky: u32,
    pub without_lab: u32,
    pub interrupted: u32,
    pub skipped: u32,
}

impl Tally {
    pub fn over(&self) -> u32 {
        let Self { passed, failed, flaky, without_lab, interrupted, skipped } = self;
        passed + failed + flaky + without_lab + interrupted + skipped
    }

    fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Passed => &mut self.passed,
            Verdict::Failed => &mut self.failed,
            Verdict::Flaky => &mut self.flaky,
            Verdict::Infrastructure => &mut self.without_lab,
            Verdict::Interrupted => &mut self.interrupted,
            Verdict::Skipped => &mut self.skipped,
        } += 1;
    }
}

/// Activity of the run with its start, such as a step or a wait.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Since {
    pub what: String,
    pub since_ms: f64,
}

/// Build of a layer that is under way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LayerWork {
    pub template: String,
    pub step: String,
    pub since_ms: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Running {
    pub case: String,
    pub attempt: u32,
    pub since_ms: f64,
    pub stage: Stage,
    /// Steps of the scenario that have begun and not ended, the outermost first.
    pub steps: Vec<Since>,
    /// Measured operation that ended last, with the number of its repetitions so far.
    pub operation: Option<(String, u32)>,
    pub machines: Vec<(String, Condition)>,
    pub faults: Vec<FaultOn>,
    /// True once the case had faults: from then on, it has a line or column for them.
    pub has_had_faults: bool,
    pub chaos: Option<ChaosClock>,
    /// Number of problems so far: failed checks, broken invariants and the like.
    pub problems: u32,
}

/// Phase of a running case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    MachinesStart,
    ScenarioStarts,
    ScenarioRuns,
    MachinesGone,
}

/// Condition of a machine; of two, the worse one compares greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    Ready,
    Starting,
    Frozen,
    Down,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct FaultOn {
    pub number: u64,
    pub container: String,
    pub fault: Fault,
    pub since_ms: f64,
}

/// Begin and length of the schedule of faults that a case plays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ChaosClock {
    pub since_ms: f64,
    pub length_ms: f64,
}

impl Running {
    /// Returns the worst of a machine's own condition `started` and the conditions that its active faults cause.
    pub fn condition(&self, container: &str, started: Condition) -> Condition {
        let on_it = self.faults.iter().filter(|fault| fault.container == container);
        on_it.map(|fault| condition_under(&fault.fault)).max().map_or(started, |worst| worst.max(started))
    }

    fn started(&mut self, container: &str, condition: Condition) {
        match self.machines.iter_mut().find(|(name, _)| name == container) {
            Some((_, known)) => *known = condition,
            None => self.machines.push((container.to_owned(), condition)),
        }
    }
}

fn condition_under(fault: &Fault) -> Condition {
    match fault {
        Fault::NodeKill | Fault::NodeStop { .. } | Fault::NodeRestartStorm { .. } => Condition::Down,
        Fault::NodeFreeze => Condition::Frozen,
        _ => Condition::Ready,
    }
}

impl Screen {
    /// Returns the estimated remaining time of the run in milliseconds; `None` if the earlier duration of some case is not known, and
    /// during builds of layers and waits.
    pub fn left_ms(&self, now_ms: f64) -> Option<f64> {
        let expected = self.expected_ms.as_ref().filter(|_| self.layers.is_empty() && self.waits.is_empty())?;
        let one = |(case, took_ms): (&String, &f64)| {
            let running = self.cases.iter().find(|running| running.case == *case);
            running.map_or(*took_ms, |running| (took_ms - (now_ms - running.since_ms)).max(0.0))
        };
        Some(expected.iter().map(one).sum())
    }

    /// Returns the text of the current wait with the time since its start; `None` while cases run, which have lines of their own.
    pub fn wait(&self, now_ms: f64) -> Option<String> {
        let wait = self.waits.last().filter(|_| self.cases.is_empty())?;
        Some(format!("waiting: {}, {:.0} s", wait.what, (now_ms - wait.since_ms) / 1e3))
    }

    pub fn apply(&mut self, stamped: &Stamped) {
        let at_ms = stamped.at_ms;
        self.at_ms = at_ms;
        match &stamped.event {
            Event::RunStarted { cases, .. } => self.planned = Some(*cases),
            Event::Waiting { reason } => self.waits.push(Since { what: reason.clone(), since_ms: at_ms }),
            Event::LayerStep { template, step } => self.layer_step(template, step, at_ms),
            Event::LayerBuilt { template, .. } => self.layer_is_there(template),
            Event::ScenariosBuild { progress } => {
                let since_ms = self.scenarios_build.take().map_or(at_ms, |build| build.since_ms);
                self.scenarios_build = Some(Since { what: progress.clone(), since_ms });
            }
            Event::CaseStarted { case, attempt, .. } => {
                self.waits.clear();
                self.layers.clear();
                self.cases.retain(|running| running.case != case.0);
                self.cases.push(Running {
                    case: case.0.clone(),
                    attempt: *attempt,
                    since_ms: at_ms,
                    stage: Stage::MachinesStart,
                    steps: Vec::new(),
                    operation: None,
                    machines: Vec::new(),
                    faults: Vec::new(),
                    has_had_faults: false,
                    chaos: None,
                    problems: 0,
                });
            }
            Event::CaseEnded { case, .. } => {
                self.scenarios_build = None;
                self.cases.retain(|running| running.case != case.0);
            }
            Event::CaseJudged { case, verdict } => {
                self.tally.count(*verdict);
                if let Some(expected) = &mut self.expected_ms {
                    expected.remove(&case.0);
                }
            }
            Event::RunEnded { .. } => {
                self.cases.clear();
                self.waits.clear();
                self.layers.clear();
                self.scenarios_build = None;
            }
            _ => self.apply_to_case(stamped),
        }
    }

    fn layer_step(&mut self, template: &str, step: &str, at_ms: f64) {
        self.waits.retain(|wait| !is_of_template(&wait.what, template));
        if let Some(layer) = self.layers.iter_mut().find(|layer| layer.template == template) {
            step.clone_into(&mut layer.step);
            return;
        }
        self.layers.push(LayerWork { template: template.to_owned(), step: step.to_owned(), since_ms: at_ms });
    }

    fn layer_is_there(&mut self, template: &str) {
        self.waits.retain(|wait| !is_of_template(&wait.what, template));
        self.layers.retain(|layer| layer.template != template);
    }

    fn apply_to_case(&mut self, stamped: &Stamped) {
        let Stamped { at_ms, event } = stamped;
        let at_ms = *at_ms;
        if let Event::ScenarioStarted { .. } = event {
            self.scenarios_build = None;
        }
        let mut change = |case: &str, change: &mut dyn FnMut(&mut Running)| {
            if let Some(running) = self.cases.iter_mut().find(|running| running.case == case) {
                change(running);
            }
        };
        if let (Some(case), Some(_)) = (event.case(), problem(stamped)) {
            change(&case.0, &mut |it| it.problems += 1);
        }
        match event {
            Event::ContainerStarted { case, container } => {
                change(&case.0, &mut |it| it.started(container, Condition::Starting));
            }
            Event::ContainerReady { case, container, .. } => {
                change(&case.0, &mut |it| it.started(container, Condition::Ready));
            }
            Event::LabReady { case, .. } => change(&case.0, &mut |it| it.stage = Stage::ScenarioStarts),
            Event::ScenarioStarted { case, .. } => change(&case.0, &mut |it| it.stage = Stage::ScenarioRuns),
            Event::StepStarted { case, name, .. } => change(&case.0, &mut |it| {
                it.steps.push(Since { what: name.clone(), since_ms: at_ms });
            }),
            Event::StepEnded { case, name, .. } => change(&case.0, &mut |it| {
                if let Some(place) = it.steps.iter().rposition(|step| step.what == *name) {
                    it.steps.remove(place);
                }
            }),
            Event::Operation { case, operation, .. } => change(&case.0, &mut |it| {
                let again = it.operation.as_ref().filter(|(name, _)| name == operation).map_or(0, |(_, times)| *times);
                it.operation = Some((operation.clone(), again + 1));
            }),
            Event::FaultInjected(seen) => change(&seen.case.0, &mut |it| {
                it.has_had_faults = true;
                it.faults.push(FaultOn {
                    number: seen.fault,
                    container: seen.container.clone(),
                    fault: seen.description.clone(),
                    since_ms: at_ms,
                });
            }),
            Event::FaultHealed(seen) => {
                change(&seen.case.0, &mut |it| it.faults.retain(|fault| fault.number != seen.fault));
            }
            Event::ChaosBegan { case, length_ms, .. } => change(&case.0, &mut |it| {
                it.has_had_faults = true;
                it.chaos = Some(ChaosClock { since_ms: at_ms, length_ms: *length_ms as f64 });
            }),
            Event::Settled { case, .. } => change(&case.0, &mut |it| it.chaos = None),
            Event::LabDown { case, .. } => change(&case.0, &mut |it| {
                it.stage = Stage::MachinesGone;
                it.faults.clear();
                it.machines.clear();
            }),
            _ => {}
        }
    }
}

/// Tells whether the reason of a wait names a layer of this template: it begins with `template NAME:`.
fn is_of_template(reason: &str, template: &str) -> bool {
    reason.strip_prefix("template ").and_then(|rest| rest.strip_prefix(template)).is_some_and(|it| it.starts_with(':'))
}
