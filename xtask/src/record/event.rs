//! What happens in a run, as a closed enum: the whole interface between the run and its reports.

use std::collections::BTreeMap;

use e2e_contract::{AbortKind, Check, Defect, Fault, Invariant, Level, Likeness, Picture};
use serde::{Deserialize, Serialize};

use super::{
    CaseId, Comparison, Counts, FaultCounts, InitStatus, LabIds, Machine, Outcome, RecordedPart, RecordedPatience,
    Verdict,
};

/// One line of `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Time since the run's begin, in milliseconds.
    pub at_ms: f64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Settings of a run, as its first event has them. Older engines left all of them out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunSetup {
    /// The engine's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_version: Option<String>,
    /// The words after `cargo xtask` that it was started with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Seed of the run's faults, where they were drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chaos_seed: Option<u64>,
    /// Name of what the run's measured operations are compared with; absent where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<String>,
    /// Part of the suite that the run is, where the suite was split (`--shard`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<RecordedPart>,
    /// The planned cases, in the order in which they are to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
}

/// Observation of a fault that was injected or healed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultObserved {
    /// The case.
    pub case: CaseId,
    /// Number of the fault in the case, from 1.
    pub fault: u64,
    /// Number of the fault in the schedule; absent where the scenario itself asked for the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<u32>,
    /// The container that the fault was injected into.
    pub container: String,
    /// Kind of the fault, with its parameters.
    pub description: Fault,
    /// Observation before the fault was injected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Observation that proves the fault's effect, or that it is healed.
    pub evidence: String,
    /// Result of the proof that is repeated before a fault is healed; only in `fault_healed`, and not of a fault that lasts a
    /// moment, such as a kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted: Option<FaultLasted>,
    /// Planned begin of a fault of the schedule, since the begin of the chaos; only in `fault_injected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_ms: Option<u64>,
    /// Time from the planned begin until the fault was verified to take effect; only in `fault_injected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<u64>,
    /// Time from the request to the observation.
    pub duration_ms: f64,
}

impl FaultObserved {
    /// Describes the observation, with the result of the repeated proof before it.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.lasted {
            Some(lasted) => format!("{lasted}; recovered: {}", self.evidence),
            None => self.evidence.clone(),
        }
    }
}

/// Result of the proof that is repeated before a fault is healed, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultLasted {
    /// The result.
    pub state: LastedState,
    /// The observation, or the reason why there is none.
    pub detail: String,
}

impl std::fmt::Display for FaultLasted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.state.words(), self.detail)
    }
}

/// Result of the proof that is repeated before a fault is healed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LastedState {
    /// The effect was there until it was healed.
    UntilNow,
    /// The effect was gone although its target lived and the engine had not healed it: it was removed from outside of the container, which
    /// makes the attempt an infrastructure error.
    LostOnHost,
    /// The effect was gone likewise, but the container's own processes can remove it, such as a product that starts a stopped unit again.
    LostInContainer,
    /// The effect had ended by itself, or with its target.
    Over,
    /// The effect could not be observed, such as behind another fault.
    NotSeen,
}

impl LastedState {
    /// Returns the state in words that stand before a colon.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::UntilNow => "was on until now",
            Self::LostOnHost => "was no longer on, though nobody had healed it",
            Self::LostInContainer => "was no longer on, ended in its container",
            Self::Over => "was over before",
            Self::NotSeen => "could not be seen again",
        }
    }

    /// Returns true if the effect was gone although its target lived.
    #[must_use]
    pub fn is_lost(self) -> bool {
        matches!(self, Self::LostOnHost | Self::LostInContainer)
    }
}

/// Decision on a case that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Onward {
    /// The case goes on as if it had not been held.
    Continue,
    /// The case ends here, and the run with it.
    GiveUp,
}

/// Event of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run began.
    RunStarted {
        /// Version of the events and of `run.json`: [`super::FORMAT_VERSION`].
        format_version: u32,
        /// Name of the run and of its folder.
        run_id: String,
        /// RFC 3339, UTC.
        started_at: String,
        /// Number of planned cases.
        cases: u32,
        /// The seed of the order, where it was shuffled.
        shuffle_seed: Option<u64>,
        /// The user the scenarios run as.
        user: String,
        /// Factor by which the run's deadlines are multiplied; absent in records of older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patience: Option<RecordedPatience>,
        /// Settings of the run.
        #[serde(flatten)]
        setup: Box<RunSetup>,
    },
    /// All layers are there, and the cases begin. Older engines had no such event.
    RunPrepared {
        /// Layer hashes by template.
        layers: BTreeMap<String, String>,
        /// What is installed in the containers, by template, as `name=version`: Debian's packages and Python's.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        packages: BTreeMap<String, Vec<String>>,
        /// Templates whose containers run as root of the host.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        privileged: Vec<String>,
        /// Parts of the kernel that containers may use although most may not, by the templates that ask for them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        allowed: BTreeMap<String, Vec<String>>,
        /// The machine it runs on.
        machine: Option<Machine>,
        /// Ids of its labs on the host; absent in records of older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ids: Option<LabIds>,
    },
    /// The run waits, such as for a slot that another run holds.
    Waiting {
        /// What is waited for.
        reason: String,
    },
    /// A step of preparing a template's layer. Told again as long as it goes on, with its duration and the last line of its log.
    LayerStep {
        /// The template.
        template: String,
        /// What is being done.
        step: String,
    },
    /// Cargo builds the scenarios, and the run waits for one of them. Told again as long as that goes on.
    ScenariosBuild {
        /// Last words of Cargo, such as `12/158: regex, serde`.
        progress: String,
    },
    /// A layer was built.
    LayerBuilt {
        /// The template.
        template: String,
        /// How long it took.
        duration_ms: f64,
        /// Its size.
        size_bytes: u64,
    },
    /// A case began.
    CaseStarted {
        /// The case.
        case: CaseId,
        /// From 1; more after a failure with retries.
        attempt: u32,
        /// Its folder below the run's; left out by older engines.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
    },
    /// LXC was told to start a container.
    ContainerStarted {
        /// The case.
        case: CaseId,
        /// Name in the lab.
        container: String,
    },
    /// A container's probes have passed.
    ContainerReady {
        /// The case.
        case: CaseId,
        /// Name in the lab.
        container: String,
        /// Since the lab's begin.
        after_ms: f64,
    },
    /// All containers are ready.
    LabReady {
        /// The case.
        case: CaseId,
        /// Since the lab's begin.
        after_ms: f64,
    },
    /// The scenario's program was started.
    ScenarioStarted {
        /// The case.
        case: CaseId,
        /// Its process number.
        pid: i32,
        /// The user it runs as.
        user: String,
    },
    /// A step began.
    StepStarted {
        /// The case.
        case: CaseId,
        /// The step.
        name: String,
        /// How many steps it stands in.
        depth: u32,
    },
    /// A step ended.
    StepEnded {
        /// The case.
        case: CaseId,
        /// The step.
        name: String,
        /// How many steps it stands in.
        depth: u32,
        /// True if the step ended as it should.
        passed: bool,
        /// How long it took.
        duration_ms: f64,
    },
    /// A check was made.
    Check {
        /// The case.
        case: CaseId,
        /// The condition, its values and its place.
        #[serde(flatten)]
        check: Check,
    },
    /// A program ran in a container.
    Exec {
        /// The case.
        case: CaseId,
        /// Name in the lab.
        container: String,
        /// The command, shortened.
        command: String,
        /// Its status, or 128 + the signal's number.
        status: i32,
        /// How long it took.
        duration_ms: f64,
        /// True if its deadline passed and it was killed.
        timed_out: bool,
        /// Place in the scenario that asked for the program, `file:line`; absent in records of older engines, and where the client does not
        /// say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        location: Option<String>,
        /// Bytes of its output past the bounds of a stream and of an attempt, which were dropped; absent where all are kept.
        #[serde(default, skip_serializing_if = "is_zero")]
        not_kept_bytes: u64,
    },
    /// A repetition of a measured operation ended.
    Operation {
        /// The case.
        case: CaseId,
        /// The operation.
        operation: String,
        /// From 0.
        repetition: u32,
        /// How long it took.
        duration_ms: f64,
        /// True if the repetition succeeded.
        succeeded: bool,
    },
    /// From now on each case runs in two labs.
    DuetBegan {
        /// Name of the baseline: a revision with its commit, or a folder.
        baseline: String,
        /// Seed of all that is drawn at random, such as the side that goes first.
        seed: u64,
        /// Differences between the images of the two labs, a line each.
        differences: Vec<String>,
    },
    /// Samples of an operation were judged.
    Compared(Comparison),
    /// The scenario reported a value that it measured itself.
    Metric {
        /// The case.
        case: CaseId,
        /// The value.
        #[serde(flatten)]
        metric: e2e_contract::Metric,
    },
    /// Effect of a fault was verified.
    FaultInjected(FaultObserved),
    /// Recovery from a fault was verified, and a machine that the fault had taken down or frozen was seen to be ready again.
    FaultHealed(FaultObserved),
    /// A fault of the schedule could not be injected in the state in which the lab was at that time.
    FaultRefused {
        /// The case.
        case: CaseId,
        /// Number of the fault in the schedule.
        scheduled: u32,
        /// The container it was meant for.
        container: String,
        /// Kind of the fault, with its parameters.
        description: Fault,
        /// Reason why it could not be injected.
        reason: String,
    },
    /// The faults of a schedule are played from now on.
    ChaosBegan {
        /// The case.
        case: CaseId,
        /// Profile by which the schedule was drawn.
        profile: String,
        /// Seed from which the schedule was drawn.
        seed: Option<u64>,
        /// Number of faults in the schedule.
        faults: u32,
        /// Length of the schedule.
        length_ms: u64,
    },
    /// All faults are healed, all machines work again, and the quiet period is over.
    Settled {
        /// The case.
        case: CaseId,
        /// Number of faults of the schedule that bit.
        bit: u32,
        /// Number of faults that could not be injected.
        refused: u32,
        /// Time from the scenario's request `settle` until then.
        duration_ms: f64,
    },
    /// Result of an invariant: a condition that the scenario looked at repeatedly.
    Invariant {
        /// The case.
        case: CaseId,
        /// The invariant, and what was seen of it.
        #[serde(flatten)]
        invariant: Invariant,
    },
    /// The lab showed trouble at the end of a case that no check had asked about.
    Finding {
        /// The case.
        case: CaseId,
        /// Kind, such as `oom_kill`.
        kind: String,
        /// The container; absent where the kernel does not say which container's it is.
        container: Option<String>,
        /// The process or unit.
        about: String,
        /// What was seen.
        detail: String,
        /// Moment at which it happened; absent where that is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        happened_at_ms: Option<f64>,
        /// True if `scenario.toml` lists the finding as expected.
        expected: bool,
    },
    /// A machine ended, and no fault had done that.
    MachineEnded {
        /// The case.
        case: CaseId,
        /// Name in the lab.
        container: String,
        /// Status of its process 1.
        process_1: InitStatus,
        /// True if the kernel killed process 1 because the machine had used up its own memory; absent where that is unknown.
        out_of_memory: Option<bool>,
        /// True if `scenario.toml` lists this end as expected.
        expected: bool,
        /// Evidence, in words.
        detail: String,
    },
    /// A machine has rebooted by itself. Its faults are injected again.
    MachineRebooted {
        /// The case.
        case: CaseId,
        /// Name in the lab.
        container: String,
        /// Its reboots in this case, until now.
        reboots: u64,
        /// True if `scenario.toml` lists the reboot as expected.
        expected: bool,
    },
    /// Code that is expected to fail, because of a known defect of the product, was run.
    Defect {
        /// The case.
        case: CaseId,
        /// The defect, the outcome, and the place in the scenario.
        #[serde(flatten)]
        defect: Defect,
    },
    /// The scenario wrote a line for the log.
    Log {
        /// The case.
        case: CaseId,
        /// How much it matters.
        level: Level,
        /// One or more lines.
        message: String,
    },
    /// The scenario gave up.
    Aborted {
        /// The case.
        case: CaseId,
        /// Kind: an error or a panic.
        kind: AbortKind,
        /// The error with its causes, or the panic's message.
        message: String,
        /// `file:line` where it is known.
        location: Option<String>,
    },
    /// A file was kept.
    Artifact {
        /// The case.
        case: CaseId,
        /// Path below the run's folder.
        path: String,
        /// Its size.
        size_bytes: u64,
    },
    /// A picture of a page was asked for.
    Screenshot {
        /// The case.
        case: CaseId,
        /// Its name.
        name: String,
        /// The page.
        url: String,
        /// The file, by its path below the run's folder, or why there is none.
        picture: Picture,
    },
    /// A picture was compared with the expected one from a file.
    ScreenshotCompared {
        /// The case.
        case: CaseId,
        /// Name of the new picture.
        name: String,
        /// The expected picture, by its path on this machine.
        expected: String,
        /// Result of the comparison; files by their paths below the run's folder.
        likeness: Likeness,
    },
    /// The first failure of a case: the scenario, its faults and the engine's deadlines are held, so that somebody can look.
    Held {
        /// The case.
        case: CaseId,
        /// What has failed.
        reason: String,
    },
    /// The hold is over: the scenario, its faults and the deadlines go on, or the case ends here.
    Released {
        /// The case.
        case: CaseId,
        /// Decision: to go on, or to give up.
        onward: Onward,
        /// How long the case was held.
        duration_ms: f64,
    },
    /// The lab is kept after its case, so that somebody can look at it.
    Kept {
        /// The case.
        case: CaseId,
        /// Commands that lead into each container.
        enter: Vec<String>,
        /// The command that removes it.
        remove: String,
    },
    /// The lab is gone.
    LabDown {
        /// The case.
        case: CaseId,
        /// How long that took.
        duration_ms: f64,
    },
    /// An attempt at a case ended.
    CaseEnded {
        /// The case.
        case: CaseId,
        /// From 1.
        attempt: u32,
        /// Outcome of the attempt.
        outcome: Outcome,
        /// Time from the begin of its lab to that lab's end.
        duration_ms: f64,
        /// The last lines of its containers' and its own logs, when it failed.
        last_words: Vec<String>,
        /// Its folder below the run's.
        folder: String,
        /// What became of the faults of its schedule, where it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        faults: Option<FaultCounts>,
    },
    /// All attempts at a case are over.
    CaseJudged {
        /// The case.
        case: CaseId,
        /// Verdict over all attempts.
        verdict: Verdict,
    },
    /// Something a reader should know that fails nothing.
    Warning {
        /// Text of the warning.
        message: String,
    },
    /// The run ended.
    RunEnded {
        /// Number of cases by verdict.
        counts: Counts,
        /// How long it took.
        duration_ms: f64,
        /// The exit code it leads to.
        exit_code: u8,
        /// Failures to remove from the host what the run made there, a sentence each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cleanup_failures: Vec<String>,
        /// The error that ended it before all cases were tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl Event {
    /// Returns the case that the event belongs to; nothing for an event of the whole run.
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
