//! Events of a run, as a closed enum: they are the whole interface between the run and its reports.

use std::collections::BTreeMap;

use e2e_contract::{AbortKind, Check, Defect, Fault, Invariant, Level, Likeness, Picture};
use serde::{Deserialize, Serialize};

use super::{
    CaseId, Comparison, Counts, FaultCounts, InitStatus, LabIds, Machine, Outcome, RecordedCoverage, RecordedPart,
    RecordedPatience, Verdict,
};

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Time since the run's start, in milliseconds.
    pub at_ms: f64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Settings of a run, as its first event has them. Older engines left out all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSetup {
    /// Version of the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// Words after `cargo xtask` that the run was started with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Seed of the run's faults, where they were drawn from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos_seed: Option<u64>,
    /// Name of the baseline of the run's measured operations; absent where they are not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// Shard of the suite that the run executes, where the suite was split (`--shard`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<RecordedPart>,
    /// The planned cases, in the order in which they are to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
}

/// Observation of a fault that was injected or healed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultObserved {
    /// Case of the event, as `category/scenario:case`.
    pub case: CaseId,
    /// Number of the fault in the case, from 1.
    pub fault: u64,
    /// Number of the fault in the schedule; absent where the scenario itself asked for the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<u32>,
    /// Name of the container that the fault was injected into.
    pub container: String,
    /// Kind of the fault, with its parameters.
    pub description: Fault,
    /// Observation before the fault was injected, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Observation, in words, that proves the fault's effect, or the recovery from the fault.
    pub evidence: String,
    /// Result of verifying the effect again before the fault is healed; only in `fault_healed`, and not of a fault that lasts a moment,
    /// such as a kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted: Option<FaultLasted>,
    /// Planned start of a scheduled fault, since the start of the chaos; only in `fault_injected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_ms: Option<u64>,
    /// Time from the planned start until the fault was verified to take effect; only in `fault_injected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<u64>,
    /// Time from the request to the observation, in milliseconds.
    pub duration_ms: f64,
}

impl FaultObserved {
    /// Describes the observation in words, after the result of verifying the effect again.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.lasted {
            Some(lasted) => format!("{lasted}; recovered: {}", self.evidence),
            None => self.evidence.clone(),
        }
    }
}

/// Result of verifying a fault's effect again before the fault is healed, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultLasted {
    /// The result.
    pub state: LastedState,
    /// Observation in words, or the reason why there is none.
    pub detail: String,
}

impl std::fmt::Display for FaultLasted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.state.words(), self.detail)
    }
}

/// Result of verifying a fault's effect again before the fault is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastedState {
    /// The effect lasted until the fault was healed.
    UntilNow,
    /// The effect was gone although the fault's target lived and the engine had not healed the fault: it was removed from outside of the
    /// container, which makes the attempt an infrastructure error.
    LostOnHost,
    /// The effect was gone although the fault's target lived, and the container's own processes can have removed it, such as a product
    /// that starts a stopped unit again.
    LostInContainer,
    /// The effect had ended by itself, or with the fault's target.
    Over,
    /// The effect could not be observed, such as behind another fault.
    NotSeen,
}

impl LastedState {
    /// Returns the result in words that stand before a colon.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::UntilNow => "was on until now",
            Self::LostOnHost => "was no longer on, though nobody had healed it",
            Self::LostInContainer => "was no longer on, because its container had ended it",
            Self::Over => "was over before",
            Self::NotSeen => "could not be seen again",
        }
    }

    /// Tells whether the effect was gone although the fault's target lived.
    #[must_use]
    pub fn is_lost(self) -> bool {
        matches!(self, Self::LostOnHost | Self::LostInContainer)
    }
}

/// Decision of a person on a case that was paused at its first failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Onward {
    /// The case goes on as if it had not been paused.
    Continue,
    /// The case ends here, and so does the run.
    GiveUp,
}

/// Event of a run, named by the field `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began.
    RunStarted {
        /// Version of the events and of `run.json`: [`super::FORMAT_VERSION`].
        format_version: u32,
        /// Name of the run and of its folder.
        run_id: String,
        /// Begin of the run, in RFC 3339, UTC.
        started_at: String,
        /// Number of planned cases.
        cases: u32,
        /// Seed of the order of the cases, where the order was shuffled.
        shuffle_seed: Option<u64>,
        /// Name of the user that scenarios run as.
        user: String,
        /// Factor by which the run's deadlines are multiplied; absent in records of older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patience: Option<RecordedPatience>,
        /// Settings of the run.
        #[serde(flatten)]
        setup: Box<RunSetup>,
    },
    /// All layers are built, and the cases begin. Older engines had no such event.
    RunPrepared {
        /// Layer hashes by template.
        layers: BTreeMap<String, String>,
        /// Debian and Python packages in the containers, by template, as `name=version`.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        packages: BTreeMap<String, Vec<String>>,
        /// Templates whose containers run as root of the host.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        privileged: Vec<String>,
        /// Parts of the kernel that containers may use although most containers may not, by template.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        allowed: BTreeMap<String, Vec<String>>,
        /// Machine that the run is on.
        machine: Option<Machine>,
        /// User ids of the run's labs on the host; absent in records of older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ids: Option<LabIds>,
    },
    /// The run waits, such as for a slot that another run holds.
    Waiting {
        /// Reason why the run waits.
        reason: String,
    },
    /// A step of preparing a template's layer. Repeated as long as the step goes on, with its duration and the last line of its log.
    LayerStep {
        /// Name of the template.
        template: String,
        /// The step in words.
        step: String,
    },
    /// Cargo builds the scenarios, and the run waits for a scenario. Repeated as long as the build goes on.
    ScenariosBuild {
        /// Last words of Cargo's output, such as `12/158: regex, serde`.
        progress: String,
    },
    /// A layer was built.
    LayerBuilt {
        /// Name of the template.
        template: String,
        /// Duration of the build.
        duration_ms: f64,
        /// Size of the layer.
        size_bytes: u64,
    },
    /// An attempt at a case began.
    CaseStarted {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Number of the attempt, from 1; more than 1 after a failure with retries.
        attempt: u32,
        /// Folder of the attempt below the run's; left out by older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
    },
    /// LXC was told to start a container.
    ContainerStarted {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the container in the lab.
        container: String,
    },
    /// A container's probes have passed.
    ContainerReady {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the container in the lab.
        container: String,
        /// Time since the lab's start.
        after_ms: f64,
    },
    /// All containers are ready.
    LabReady {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Time since the lab's start.
        after_ms: f64,
    },
    /// The scenario's program was started.
    ScenarioStarted {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Id of the program's process on the host.
        pid: i32,
        /// Name of the user that the program runs as.
        user: String,
    },
    /// A step began.
    StepStarted {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the step.
        name: String,
        /// Number of open steps around the step.
        depth: u32,
    },
    /// A step ended.
    StepEnded {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the step.
        name: String,
        /// Number of open steps around the step.
        depth: u32,
        /// True if the step ended without a failure.
        passed: bool,
        /// Duration of the step.
        duration_ms: f64,
    },
    /// A check was made.
    Check {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Condition of the check, with its values and its place in the scenario.
        #[serde(flatten)]
        check: Check,
    },
    /// A program ran in a container.
    Exec {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the container in the lab.
        container: String,
        /// Command line of the program, shortened.
        command: String,
        /// Exit status of the program, or 128 + the number of the signal that ended it.
        status: i32,
        /// Duration of the program.
        duration_ms: f64,
        /// True if the program was killed at its deadline.
        timed_out: bool,
        /// Place in the scenario that asked for the program, `file:line`; absent in records of older engines, and where the client does
        /// not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
        /// Bytes of output beyond the bounds of a stream and of an attempt, which were dropped; absent where all are kept.
        #[serde(default, skip_serializing_if = "is_zero")]
        not_kept_bytes: u64,
    },
    /// A repetition of a measured operation ended.
    Operation {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the operation.
        operation: String,
        /// Number of the repetition, from 0.
        repetition: u32,
        /// Duration of the repetition.
        duration_ms: f64,
        /// True if the repetition succeeded.
        succeeded: bool,
    },
    /// A comparison began: from now on each case runs in two labs.
    DuetBegan {
        /// Name of the baseline: a revision with its commit, or a folder.
        baseline: String,
        /// Seed of all random decisions, such as the side that goes first.
        seed: u64,
        /// Differences between the images of the two labs, a line for each.
        differences: Vec<String>,
    },
    /// A measured operation was compared with its baseline.
    Compared(Comparison),
    /// The calls of the product's functions were collected (`--coverage`): `coverage.json` in the run's folder has all of them.
    Covered(RecordedCoverage),
    /// The scenario reported a value that it measured itself.
    Metric {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name, value and unit of the metric.
        #[serde(flatten)]
        metric: e2e_contract::Metric,
    },
    /// Effect of a fault was verified.
    FaultInjected(FaultObserved),
    /// Recovery from a fault was verified, and a machine that the fault had taken down or frozen was seen to be ready again.
    FaultHealed(FaultObserved),
    /// A fault of the schedule could not be injected in the state in which the lab was at that time.
    FaultRefused {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Number of the fault in the schedule.
        scheduled: u32,
        /// Name of the container that the fault was meant for.
        container: String,
        /// Kind of the fault, with its parameters.
        description: Fault,
        /// Reason why the fault could not be injected.
        reason: String,
    },
    /// The engine begins to inject the faults of a schedule.
    ChaosBegan {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the profile by which the schedule was drawn.
        profile: String,
        /// Seed from which the schedule was drawn; null where it is not known.
        seed: Option<u64>,
        /// Number of faults in the schedule.
        faults: u32,
        /// Length of the schedule.
        length_ms: u64,
    },
    /// All faults are healed, all machines work again, and the quiet period is over.
    Settled {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Number of faults of the schedule that took effect.
        bit: u32,
        /// Number of faults of the schedule that could not be injected.
        refused: u32,
        /// Time from the scenario's request `settle` to its answer.
        duration_ms: f64,
    },
    /// Result of an invariant: a condition that the scenario evaluated repeatedly.
    Invariant {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// The invariant, with the number of its evaluations and its result.
        #[serde(flatten)]
        invariant: Invariant,
    },
    /// An unexpected anomaly of the lab that no check had asked about, seen at the end of a case.
    Finding {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Kind of the finding, such as `oom_kill`.
        kind: String,
        /// Name of the container; absent where the kernel does not name the container.
        container: Option<String>,
        /// Process or unit that the finding is about.
        about: String,
        /// Description of the anomaly.
        detail: String,
        /// Time of the anomaly on the run's clock; absent where it is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        happened_at_ms: Option<f64>,
        /// True if `scenario.toml` lists the finding as expected.
        expected: bool,
    },
    /// A machine ended although no fault had ended it.
    MachineEnded {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the container in the lab.
        container: String,
        /// Status of the machine's process 1.
        process_1: InitStatus,
        /// True if the kernel killed process 1 because the machine had used up its own memory; absent where that is unknown.
        out_of_memory: Option<bool>,
        /// True if `scenario.toml` lists this end as expected.
        expected: bool,
        /// Evidence for the end, in words.
        detail: String,
    },
    /// A machine rebooted by itself. Its faults are injected again.
    MachineRebooted {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the container in the lab.
        container: String,
        /// Number of the machine's reboots in this case until now.
        reboots: u64,
        /// True if `scenario.toml` lists the reboot as expected.
        expected: bool,
    },
    /// Code that a known defect of the product makes fail was run.
    Defect {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// The defect, the outcome, and the place in the scenario.
        #[serde(flatten)]
        defect: Defect,
    },
    /// The scenario wrote a message to the log.
    Log {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Level of the message.
        level: Level,
        /// Text of the message, of one or more lines.
        message: String,
    },
    /// The scenario ended early with an error or a panic.
    Aborted {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Kind of the end: an error or a panic.
        kind: AbortKind,
        /// Text of the error with its causes, or of the panic.
        message: String,
        /// Place of the error or panic, `file:line`, where it is known.
        location: Option<String>,
    },
    /// A file was copied into the run's folder.
    Artifact {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Path of the file below the run's folder.
        path: String,
        /// Size of the file.
        size_bytes: u64,
    },
    /// A screenshot of a page was taken, or could not be taken.
    Screenshot {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the screenshot.
        name: String,
        /// URL of the page.
        url: String,
        /// File of the screenshot, by its path below the run's folder, or the reason why there is none.
        picture: Picture,
    },
    /// A screenshot was compared with the expected one from a file.
    ScreenshotCompared {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Name of the new screenshot.
        name: String,
        /// Path of the expected screenshot on this machine.
        expected: String,
        /// Result of the comparison; its files are named by their paths below the run's folder.
        likeness: Likeness,
    },
    /// The case was paused at its first failure: the scenario, its faults and the engine's deadlines stand still, so that a person can
    /// look.
    Held {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Failure that paused the case.
        reason: String,
    },
    /// The pause ended: the scenario, its faults and the deadlines go on, or the case ends here.
    Released {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Decision of the person at the prompt: to go on with the case, or to give up.
        onward: Onward,
        /// Duration of the pause.
        duration_ms: f64,
    },
    /// The lab is kept after its case, so that a person can look at it.
    Kept {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Commands that open a shell in each container.
        enter: Vec<String>,
        /// Command that removes the lab.
        remove: String,
    },
    /// The lab was removed.
    LabDown {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Duration of the removal.
        duration_ms: f64,
    },
    /// An attempt at a case ended.
    CaseEnded {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// Outcome of the attempt.
        outcome: Outcome,
        /// Time from the start of the attempt's lab to the lab's end.
        duration_ms: f64,
        /// Last lines of the containers' logs and of the scenario's log, where the attempt failed.
        last_words: Vec<String>,
        /// Folder of the attempt below the run's.
        folder: String,
        /// Results of the attempt's scheduled faults, where it had a schedule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        faults: Option<FaultCounts>,
    },
    /// All attempts at a case are over.
    CaseJudged {
        /// Case of the event, as `category/scenario:case`.
        case: CaseId,
        /// Verdict over all attempts.
        verdict: Verdict,
    },
    /// A problem that a reader should know, and that fails nothing.
    Warning {
        /// Text of the warning.
        message: String,
    },
    /// The run ended.
    RunEnded {
        /// Number of cases by verdict.
        counts: Counts,
        /// Duration of the run.
        duration_ms: f64,
        /// Exit code of the command.
        exit_code: u8,
        /// Things that the run made on the host and could not remove, a sentence for each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cleanup_failures: Vec<String>,
        /// Error that ended the run before all cases were tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl Event {
    /// Returns the case that the event belongs to; `None` for an event of the whole run.
    #[must_use]
    pub fn case(&self) -> Option<&CaseId> {
        match self {
            Self::RunStarted { .. }
            | Self::RunPrepared { .. }
            | Self::Waiting { .. }
            | Self::LayerStep { .. }
            | Self::ScenariosBuild { .. }
            | Self::LayerBuilt { .. }
            | Self::DuetBegan { .. }
            | Self::Covered(_)
            | Self::Warning { .. }
            | Self::RunEnded { .. } => None,
            Self::Compared(Comparison { case, .. })
            | Self::FaultInjected(FaultObserved { case, .. })
            | Self::FaultHealed(FaultObserved { case, .. })
            | Self::CaseStarted { case, .. }
            | Self::ContainerStarted { case, .. }
            | Self::ContainerReady { case, .. }
            | Self::LabReady { case, .. }
            | Self::ScenarioStarted { case, .. }
            | Self::StepStarted { case, .. }
            | Self::StepEnded { case, .. }
            | Self::Check { case, .. }
            | Self::Exec { case, .. }
            | Self::Operation { case, .. }
            | Self::Metric { case, .. }
            | Self::FaultRefused { case, .. }
            | Self::ChaosBegan { case, .. }
            | Self::Settled { case, .. }
            | Self::Invariant { case, .. }
            | Self::Finding { case, .. }
            | Self::MachineEnded { case, .. }
            | Self::MachineRebooted { case, .. }
            | Self::Defect { case, .. }
            | Self::Log { case, .. }
            | Self::Aborted { case, .. }
            | Self::Artifact { case, .. }
            | Self::Screenshot { case, .. }
            | Self::ScreenshotCompared { case, .. }
            | Self::Held { case, .. }
            | Self::Released { case, .. }
            | Self::Kept { case, .. }
            | Self::LabDown { case, .. }
            | Self::CaseEnded { case, .. }
            | Self::CaseJudged { case, .. } => Some(case),
        }
    }
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
