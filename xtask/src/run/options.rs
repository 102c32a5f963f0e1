//! Choices of whoever starts a run, and what its cases share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::breakpoint::Breakpoints;
use super::build::ScenarioBinaries;
use super::chaos::Schedules;
use super::interrupt::Interrupt;
use super::secrets::Secrets;
use crate::baseline::{Baselines, Store};
use crate::guard::{Stay, Wait, state_dir};
use crate::host::invoker::Invoker;
use crate::host::patience;
use crate::image::{Image, Replacement};
use crate::manifest::{Project, Scenario};
use crate::perf;
use crate::plan::Plan;
use crate::record::{Outcome, Recorder, RunDir};
use crate::session::Gate;

/// Occasion for a lab to stay after its case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Never.
    Never,
    /// Keep after a failure.
    OnFailure,
    /// Keep always.
    Always,
}

/// Measurements of a run, and how often they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitoring {
    /// Samples of resource usage a second; at least 1.
    pub rate_hz: u32,
    /// True if a fixed piece of work is done before each repetition of a repeatable operation.
    pub calibrate: bool,
    /// Wanted repetitions of each repeatable operation, instead of those that its scenario or its baseline has.
    pub samples: Option<Samples>,
}

/// Number of repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// Minimum number.
    pub least: u32,
    /// Minimum time over which they are made.
    pub over: Duration,
}

impl Monitoring {
    /// Measurements of a run that asks for nothing else.
    pub const ALWAYS: Self = Self { rate_hz: 2, calibrate: false, samples: None };
}

/// Other side that measured operations are compared with.
#[derive(Debug, Clone)]
pub enum Comparing {
    /// No comparison.
    Nothing,
    /// The baselines that are committed.
    Committed {
        /// Baselines of the plan's scenarios.
        baselines: Baselines,
        /// True if an operation without a baseline is accepted.
        missing_allowed: bool,
    },
    /// Another lab beside this one, pair by pair.
    Duet(Box<DuetOptions>),
}

impl Comparing {
    /// Reads the committed baselines of a plan's scenarios, before a run takes its time.
    ///
    /// # Errors
    /// A baseline that cannot be used, or that is missing and may not be.
    pub fn committed(project: &Project, plan: &Plan, missing_allowed: bool) -> anyhow::Result<Self> {
        let store = Store::of(&project.root, Invoker::find());
        let class = &perf::this_machine(&state_dir()).class;
        let baselines = Baselines::read(&store, class, plan.scenarios(project).map(Scenario::id), missing_allowed)?;
        Ok(Self::Committed { baselines, missing_allowed })
    }
}

/// Choices by which a plan is carried out.
#[derive(Debug, Clone)]
pub struct Options {
    /// The slot that the labs take.
    pub slot: String,
    /// Behavior when another run holds the slot.
    pub wait: Wait,
    /// Condition for keeping a lab.
    pub keep: Keep,
    /// Lifetime of a kept lab.
    pub stay: Stay,
    /// Pauses at the first failure of a case.
    pub breakpoints: Option<Arc<Breakpoints>>,
    /// Stop after this many failed cases.
    pub failures_max: Option<u32>,
    /// Maximum retries of a failed case.
    pub retries: u32,
    /// Deadline of a case instead of its scenario's own.
    pub timeout: Option<Duration>,
    /// The faults that are played, by case.
    pub schedules: Option<Schedules>,
    /// Measurements of a run, and how often they are made.
    pub monitoring: Monitoring,
    /// Other side that measured operations are compared with.
    pub comparing: Comparing,
    /// True if a regression has an exit code of its own, false if it is only reported.
    pub fails_when_regressed: bool,
    /// Names on the host by name in the lab, instead of the project's.
    pub host_names: BTreeMap<String, String>,
    /// Packages that are replaced by local ones.
    pub replacements: Vec<Replacement>,
    /// Secrets of the scenarios.
    pub secrets: Secrets,
    /// The words after `cargo xtask` that ask for all this.
    pub command: Vec<String>,
    /// The folder that `e2e_test.log` is linked from.
    pub working_dir: PathBuf,
    /// Place of a run that is a part of another one; without it the run has a folder of its own, and is the project's latest.
    pub part: Option<RunPart>,
}

/// A run that is a part of another one. Its log is linked from nowhere.
#[derive(Debug, Clone)]
pub struct RunPart {
    /// Folder of the part, which is there already.
    pub dir: RunDir,
    /// Sentence that a reader of its record has to know first.
    pub note: String,
}

impl Options {
    /// Returns the default options of a run in this slot.
    ///
    /// # Errors
    /// When there is no working directory.
    pub fn plain(slot: u32) -> anyhow::Result<Self> {
        Ok(Self {
            slot: slot.to_string(),
            wait: Wait::UntilFree,
            keep: Keep::Never,
            stay: Stay::UntilTold,
            breakpoints: None,
            failures_max: None,
            retries: 0,
            timeout: None,
            schedules: None,
            monitoring: Monitoring::ALWAYS,
            comparing: Comparing::Nothing,
            fails_when_regressed: true,
            host_names: BTreeMap::new(),
            replacements: Vec::new(),
            secrets: Secrets::default(),
            command: Vec::new(),
            working_dir: std::env::current_dir().context("finding the working directory")?,
            part: None,
        })
    }

    /// Returns the deadline of a case of this scenario: the given one as it is, or else the scenario's own times this machine's patience.
    pub(super) fn timeout_of(&self, scenario: &Scenario) -> Duration {
        self.timeout.unwrap_or_else(|| patience::scaled(scenario.timeout))
    }
}

/// Other side of a duet, and its extent.
#[derive(Debug, Clone)]
pub struct DuetOptions {
    /// The project with the baseline's templates.
    pub baseline: Project,
    /// Name of the baseline: a revision with its commit, or a folder.
    pub name: String,
    /// Maximum pairs of an operation, without those that confirm a change.
    pub pairs: Option<u32>,
    /// Run each case again and again, so that what happens in it once is compared, too.
    pub whole_cases: bool,
    /// Random seed.
    pub seed: u64,
}

/// Context that all cases of a run share.
#[derive(Clone, Copy)]
pub(super) struct CaseContext<'a> {
    pub project: &'a Project,
    pub options: &'a Options,
    pub images: &'a BTreeMap<String, Image>,
    pub binaries: &'a ScenarioBinaries,
    pub dir: &'a RunDir,
    pub invoker: &'a Invoker,
    pub recorder: &'a Arc<Recorder>,
    pub interrupt: &'a Interrupt,
    /// Gate of a duet, where its sessions are one side of it.
    pub gate: Option<&'a Arc<dyn Gate>>,
}

/// Remaining retries of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryBudget {
    /// Retries after a failure.
    pub failures: u32,
    /// Retries after an infrastructure error.
    pub infrastructure: u32,
}

impl RetryBudget {
    /// Tells whether there is another attempt after this outcome.
    pub fn after(self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Passed | Outcome::Interrupted => false,
            Outcome::Failed { .. } => self.failures > 0,
            Outcome::Infrastructure { host_cause: Some(_), .. } => false,
            Outcome::Infrastructure { .. } => self.infrastructure > 0,
        }
    }
}
