//! Specification of a session, and its result.

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

/// Chaos of a case: its fault schedule, and what is expected of its machines.
#[derive(Debug, Clone)]
pub struct ChaosSpec {
    pub schedule: Schedule,
    /// Maximum number of faults that may be active at once.
    pub bound: u32,
    /// Time without faults after all machines have recovered.
    pub quiet: Duration,
    /// Maximum time for the machines to recover after the last fault.
    pub recovery: Duration,
    /// Names of the conditions that must come true at least once.
    pub sometimes: Vec<String>,
}

/// Specification of one session: a scenario's case, its program, and what to record.
#[derive(Debug)]
pub struct SessionSpec {
    pub case: CaseId,
    /// Name of the scenario, `category/name`.
    pub scenario: String,
    /// Path of the scenario's `scenario.toml`, relative to the project's folder.
    pub manifest: String,
    pub case_name: String,
    pub params: Map<String, Value>,
    /// Known defects that the scenario has to test.
    pub defects: Vec<String>,
    /// True if only these are to be tried, in place of the scenario.
    pub defects_only: bool,
    /// Absolute path of the scenario's program, and its arguments.
    pub argv: Vec<String>,
    /// Environment variables of the program, added to those of this process.
    pub environment: Vec<(String, String)>,
    pub working_dir: PathBuf,
    /// Path of the scenario's `fixtures/`.
    pub fixtures: PathBuf,
    /// Folder for files that the scenario keeps in the record.
    pub artifacts: PathBuf,
    /// Path of the artifacts' folder relative to the run's folder.
    pub artifacts_in_run: String,
    /// Path of the folder for screenshots, relative to the run's folder; created for the first screenshot.
    pub screenshots_in_run: String,
    /// Pages of which the engine takes screenshots after a failure.
    pub pages: Vec<WebPage>,
    /// Findings that the scenario expects.
    pub expects: Vec<Expected>,
    /// Limits of the containers' resource usage.
    pub limits: Vec<UsageLimit>,
    /// Faults to play while the scenario runs; `None` for no faults.
    pub chaos: Option<ChaosSpec>,
    /// Names of the conditions that must come true at least once in a run with faults.
    pub sometimes: Vec<String>,
    /// Path of the file with the history of operations, relative to the run's folder; created for the first operation.
    pub history_in_run: String,
    /// Description of the host, for measurements.
    pub machine: KnownMachine,
    /// Samples of the containers' resource usage per second.
    pub rate_hz: u32,
    /// True if a fixed calibration workload runs before each repetition of a repeatable operation.
    pub calibrate: bool,
    /// Requested repetitions of each repeatable operation; `None` follows the scenario's plan.
    pub repeats: Option<Repeats>,
    /// Interface to call before and after each measured operation, in a duet.
    pub gate: Option<Arc<dyn Gate>>,
    /// Breakpoint to call at the first failure.
    pub breakpoint: Option<Arc<dyn Breakpoint>>,
    /// Files for the program's stdout and stderr.
    pub output: Arc<OutputFiles>,
    pub dir: RunDir,
    /// User that the scenario's program runs as.
    pub invoker: Invoker,
    /// Deadline of the scenario from its start to its end.
    pub timeout: Duration,
    /// Folder for the session's socket: that of the slot.
    pub slot_dir: PathBuf,
    /// Cgroup of the slot, relative to the top of each cgroup hierarchy.
    pub slot_cgroup: String,
}

#[derive(Debug)]
pub struct Ended {
    pub outcome: Outcome,
    /// Measurements of the attempt, for `performance.json`.
    pub performance: Performance,
    /// Results of the scheduled faults; `None` for a case without a schedule.
    pub played: Option<Vec<Played>>,
}

/// Breakpoint that a session calls at the first failure of a case.
pub trait Breakpoint: Send + Sync + std::fmt::Debug {
    /// Pauses the case; returns the decision whether it continues or is given up.
    fn stop(&self, stopped: &Stopped<'_>) -> Onward;
}

/// Case that is paused at its first failure.
#[derive(Debug, Clone, Copy)]
pub struct Stopped<'a> {
    pub case: &'a CaseId,
    /// Description of the failure.
    pub reason: &'a str,
    pub lab: &'a Arc<Lab>,
}

/// Interface that a session calls before and after each measured operation, so that a duet can pair the operations of its sides.
pub trait Gate: Send + Sync + std::fmt::Debug {
    /// Waits until this operation, of which the scenario plans `planned` repetitions, may begin, or `stop` returns true because the session
    /// has to end.
    fn begin(&self, operation: &str, planned: u32, stop: &dyn Fn() -> bool);

    /// Takes the sample of an ended operation; `None` for a failed one. Returns whether another repetition is needed; `None` leaves that to
    /// the scenario's plan.
    fn end(&self, operation: &str, sample: Option<&Sample>, stop: &dyn Fn() -> bool) -> Option<bool>;
}
