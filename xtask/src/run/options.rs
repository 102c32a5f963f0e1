//! Options of a run, and the context that its cases share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::breakpoint::Breakpoints;
use super::build::ScenarioBinaries;
use super::chaos::Schedules;
use super::coverage::CoveredPackage;
use super::interrupt::Interrupt;
use super::secrets::Secrets;
use crate::baseline::{Baselines, Store};
use crate::guard::{Stay, Wait, state_dir};
use crate::host::invoker::Invoker;
use crate::host::patience;
use crate::image::{Image, Replacement};
use crate::manifest::{KeepWhen, Project, Scenario};
use crate::perf;
use crate::plan::Plan;
use crate::record::{Outcome, Recorder, RunDir};
use crate::session::Gate;

/// Measurements of a run, and how often they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitoring {
    /// Samples of resource usage per second; at least 1.
    pub rate_hz: u32,
    /// True if a fixed calibration workload runs before each repetition of a repeatable operation.
    pub calibrate: bool,
    /// Number of repetitions of each repeatable operation; `None` uses the scenario's plan.
    pub samples: Option<Samples>,
}

/// Number of repetitions of a repeatable operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// Minimum number of repetitions.
    pub least: u32,
    /// Minimum time that the repetitions take altogether.
    pub over: Duration,
}

impl Monitoring {
    /// Default measurements of a run.
    pub const ALWAYS: Self = Self { rate_hz: 2, calibrate: false, samples: None };
}

/// Reference that measured operations are compared with.
#[derive(Debug, Clone)]
pub enum Comparing {
    Nothing,
    /// Committed baselines.
    Committed {
        /// Baselines of the plan's scenarios.
        baselines: Baselines,
        /// True if an operation without a baseline is accepted.
        missing_allowed: bool,
        /// Options of the duets that settle what the samples leave in doubt; `None` for a comparison of samples alone.
        settle: Option<SettleOptions>,
    },
    /// Baseline in a lab of its own, which runs beside the candidate's; compared pair by pair.
    Duet(Box<DuetOptions>),
}

impl Comparing {
    /// Reads the committed baselines of a plan's scenarios, before a run takes its time.
    ///
    /// # Errors
    /// When a baseline cannot be used, or is missing although `missing_allowed` is false.
    pub fn committed(
        project: &Project,
        plan: &Plan,
        missing_allowed: bool,
        settle: Option<SettleOptions>,
    ) -> anyhow::Result<Self> {
        let store = Store::of(&project.root, Invoker::find());
        let class = &perf::this_machine(&state_dir()).class;
        let baselines = Baselines::read(&store, class, plan.scenarios(project).map(Scenario::id), missing_allowed)?;
        Ok(Self::Committed { baselines, missing_allowed, settle })
    }
}

/// Options by which a plan is carried out.
#[derive(Debug, Clone)]
pub struct Options {
    /// Slot that the run's labs use, one after the other.
    pub slot: String,
    pub wait: Wait,
    pub keep: KeepWhen,
    pub stay: Stay,
    /// Breakpoint that pauses a case at its first failure; `None` for no pauses.
    pub breakpoints: Option<Arc<Breakpoints>>,
    /// Number of failed cases after which the run stops.
    pub failures_max: Option<u32>,
    /// Maximum retries of a case after failures; a retry after an infrastructure error is not counted.
    pub retries: u32,
    /// Deadline of each case that replaces the one of its scenario.
    pub timeout: Option<Duration>,
    /// True if each scenario only tries its known defects.
    pub defects_only: bool,
    /// Fault schedules to play; `None` for a run without faults.
    pub schedules: Option<Schedules>,
    pub monitoring: Monitoring,
    pub comparing: Comparing,
    /// True if a regression makes the run fail with an exit code of its own, false if it is only reported.
    pub fails_when_regressed: bool,
    /// Names of containers on the host, by name in the lab, which replace the default names.
    pub host_names: BTreeMap<String, String>,
    pub replacements: Vec<Replacement>,
    /// Package whose called functions are collected; `None` for a run without coverage.
    pub coverage: Option<CoveredPackage>,
    pub secrets: Secrets,
    /// Arguments after `cargo xtask` that started the run, for its record.
    pub command: Vec<String>,
    /// Folder that gets the link `e2e_test.log`.
    pub working_dir: PathBuf,
    /// Place of a run that is part of another run; `None` for a run with a folder of its own, which becomes the project's latest.
    pub part: Option<RunPart>,
}

/// Place of a run that is part of another run, such as a mutant's. The link `e2e_test.log` does not lead to its log.
#[derive(Debug, Clone)]
pub struct RunPart {
    /// Existing folder for the record of the run.
    pub dir: RunDir,
    /// Text of the warning that the record begins with.
    pub note: String,
}

impl Options {
    /// Returns the options of a run in this slot, with defaults for everything else.
    pub fn plain(slot: u32) -> anyhow::Result<Self> {
        Ok(Self {
            slot: slot.to_string(),
            wait: Wait::UntilFree,
            keep: KeepWhen::Never,
            stay: Stay::UntilTold,
            breakpoints: None,
            failures_max: None,
            retries: 0,
            timeout: None,
            defects_only: false,
            schedules: None,
            monitoring: Monitoring::ALWAYS,
            comparing: Comparing::Nothing,
            fails_when_regressed: true,
            host_names: BTreeMap::new(),
            replacements: Vec::new(),
            coverage: None,
            secrets: Secrets::default(),
            command: Vec::new(),
            working_dir: std::env::current_dir().context("finding the working directory")?,
            part: None,
        })
    }

    /// Returns the deadline of a case: the one given for the run, or else its scenario's, multiplied by this host's factor of deadlines
    /// (`patience`).
    pub(super) fn timeout_of(&self, scenario: &Scenario) -> Duration {
        self.timeout.unwrap_or_else(|| patience::scaled(scenario.timeout))
    }
}

/// Options of a duet: what to compare with, and how much to measure.
#[derive(Debug, Clone)]
pub struct DuetOptions {
    /// Project with the templates of the baseline.
    pub baseline: Project,
    pub name: String,
    /// Maximum pairs of an operation, not counting those that confirm a change.
    pub pairs: Option<u32>,
    /// True to repeat whole cases, so that operations done once in a case are compared as well.
    pub whole_cases: bool,
    pub seed: u64,
    /// True to measure in pairs even where the machines of both sides are the same, which shows how often verdicts are wrong.
    pub measures_same_sides: bool,
}

/// Options of the duets that settle what a comparison with committed baselines leaves in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettleOptions {
    /// Maximum time that all of these duets take, the building of their layers included.
    pub budget: Duration,
    pub seed: u64,
    /// Maximum pairs of an operation, not counting those that confirm a change.
    pub pairs: Option<u32>,
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
    /// Interface that the sessions call before and after each measured operation of a duet; `None` outside of duets.
    pub gate: Option<&'a Arc<dyn Gate>>,
}

/// Remaining retries of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryBudget {
    /// Remaining retries after a failed check or another failure of the product.
    pub failures: u32,
    /// Remaining retries after an infrastructure error.
    pub infrastructure: u32,
}

impl RetryBudget {
    /// Tells whether the case gets another attempt after this outcome.
    pub fn after(self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Passed | Outcome::Interrupted => false,
            Outcome::Failed { .. } => self.failures > 0,
            Outcome::Infrastructure { host_cause: Some(_), .. } => false,
            Outcome::Infrastructure { .. } => self.infrastructure > 0,
        }
    }
}
