//! Orders to a session, and its result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::output::OutputFiles;
use super::repetition_plan::Repeats;
use crate::fault::{Played, Schedule};
use crate::host::invoker::Invoker;
use crate::lab::Lab;
use crate::manifest::{Expected, UsageLimit, WebPage};
use crate::perf::KnownMachine;
use crate::record::{CaseId, Onward, Outcome, Performance, RunDir, Sample};

/// Chaos of a case.
#[derive(Debug, Clone)]
pub struct ChaosSpec {
    /// Faults that are played.
    pub schedule: Schedule,
    /// Most faults that may be on at once.
    pub bound: u32,
    /// Time in which nothing happens after everything works again.
    pub quiet: Duration,
    /// Time that the machines may take until they work again.
    pub recovery: Duration,
    /// Names of the conditions that have to come true at least once.
    pub sometimes: Vec<String>,
}

/// Orders to one session.
#[derive(Debug)]
pub struct SessionSpec {
    /// The case, for the record.
    pub case: CaseId,
    /// `category/name`.
    pub scenario: String,
    /// Path of its `scenario.toml`, relative to the project's folder.
    pub manifest: String,
    /// Name of the case.
    pub case_name: String,
    /// The case's parameters.
    pub params: Map<String, Value>,
    /// The known defects that the scenario has to look at.
    pub defects: Vec<String>,
    /// The scenario's program with its arguments.
    pub argv: Vec<String>,
    /// Variables of the program, added to this process's environment.
    pub environment: Vec<(String, String)>,
    /// The folder that the program runs in.
    pub working_dir: PathBuf,
    /// The scenario's `fixtures/`.
    pub fixtures: PathBuf,
    /// Folder for files that the scenario wants kept.
    pub artifacts: PathBuf,
    /// The artifacts' folder below the run's, for the record.
    pub artifacts_in_run: String,
    /// Folder of pictures of pages, below the run's; made for the first one.
    pub screenshots_in_run: String,
    /// Pages of which pictures are taken when something has failed.
    pub pages: Vec<WebPage>,
    /// Findings that the scenario expects.
    pub expects: Vec<Expected>,
    /// Bounds of what its containers may use.
    pub limits: Vec<UsageLimit>,
    /// Chaos while it runs.
    pub chaos: Option<ChaosSpec>,
    /// Names of the conditions that have to come true at least once in a run with faults.
    pub sometimes: Vec<String>,
    /// File of the history of its operations, below the run's folder; made for the first one.
    pub history_in_run: String,
    /// The machine that it is measured on.
    pub machine: KnownMachine,
    /// Samples of the containers' resource usage a second.
    pub rate_hz: u32,
    /// True if a fixed piece of work is done before each repetition of a repeatable operation.
    pub calibrate: bool,
    /// Repetitions of each repeatable operation that are wanted, instead of those that are planned.
    pub repeats: Option<Repeats>,
    /// Gate that is asked before and after each measured operation.
    pub gate: Option<Arc<dyn Gate>>,
    /// Breakpoint that is asked at the first failure.
    pub breakpoint: Option<Arc<dyn Breakpoint>>,
    /// Files for what the program writes to stdout and stderr.
    pub output: Arc<OutputFiles>,
    /// The run's folder.
    pub dir: RunDir,
    /// The user it runs as.
    pub invoker: Invoker,
    /// Deadline from its start to its end.
    pub timeout: Duration,
    /// Folder that the session may put its socket into, the slot's.
    pub slot_dir: PathBuf,
    /// The slot's cgroup, relative to the top of each hierarchy.
    pub slot_cgroup: String,
}

/// Result of a session.
#[derive(Debug)]
pub struct Ended {
    /// Outcome of the attempt.
    pub outcome: Outcome,
    /// Measurements.
    pub performance: Performance,
    /// Fates of the faults of its schedule, where it has one.
    pub played: Option<Vec<Played>>,
}

/// Observer that a session asks at the first failure of a case how to go on.
pub trait Breakpoint: Send + Sync + std::fmt::Debug {
    /// Returns once it is decided that the case goes on or is given up.
    fn stop(&self, stopped: &Stopped<'_>) -> Onward;
}

/// Case that is held at its first failure.
#[derive(Debug, Clone, Copy)]
pub struct Stopped<'a> {
    /// The case.
    pub case: &'a CaseId,
    /// What has failed.
    pub reason: &'a str,
    /// Its lab.
    pub lab: &'a Arc<Lab>,
}

/// Gate that a session asks before and after each measured operation.
pub trait Gate: Send + Sync + std::fmt::Debug {
    /// Waits until this operation may begin, or `stop` says that the session has to end.
    fn begin(&self, operation: &str, planned: u32, stop: &dyn Fn() -> bool);

    /// An operation has ended, with its sample, or with none where it failed. Says whether another repetition is wanted; `None`
    /// leaves that to the scenario's plan.
    fn end(&self, operation: &str, sample: Option<&Sample>, stop: &dyn Fn() -> bool) -> Option<bool>;
}
