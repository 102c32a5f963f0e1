//! State of a session: its specification, and what is known so far.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use e2e_contract::RpcError;

use super::blame::EvidenceLog;
use super::bounds::Used;
use super::ending::Seen;
use super::faults::Faults;
use super::repetition_plan::RepetitionPlan;
use super::spec::SessionSpec;
use super::under_way::UnderWay;
use crate::fault::{Nemesis, Played};
use crate::host::exec::held_clock::Stopwatch;
use crate::host::machine::kmsg::KernelWatch;
use crate::host::patience;
use crate::lab::Lab;
use crate::perf::Meters;
use crate::record::{Calibration, Performance, Recorder};

/// Session of one scenario: executes its requests on a lab and collects evidence.
pub struct Session {
    pub(super) spec: SessionSpec,
    pub(super) lab: Arc<Lab>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) faults: Arc<Faults>,
    pub(super) chaos: Chaos,
    pub(super) meters: Arc<Meters>,
    pub(super) evidence: Arc<EvidenceLog>,
    pub(super) under_way: UnderWay,
    pub(super) used: Used,
    /// Pid of the process that has connected.
    pub(super) driver: Mutex<Option<i32>>,
    pub(super) kernel: Option<KernelWatch>,
    pub(super) interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    pub(super) closed: AtomicBool,
    /// True once a stopped part of the lab was filed as evidence.
    pub(super) stood_still: AtomicBool,
    /// True once the case was paused; only its first failure pauses it.
    pub(super) stopped: AtomicBool,
    pub(super) given_up: AtomicBool,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) seen: Seen,
    /// Names of the containers whose end was filed as evidence.
    pub(super) ended: Vec<String>,
    /// Number of recorded reboots by container name.
    pub(super) reboots: BTreeMap<String, u64>,
    /// Threads that inject the faults of rebooted containers again.
    pub(super) restoring: Vec<std::thread::JoinHandle<()>>,
    pub(super) steps: Vec<(String, Instant)>,
    /// Open measurements by their numbers, the innermost last.
    pub(super) measurements: BTreeMap<u64, Open>,
    pub(super) measurements_begun: u64,
    pub(super) repetition_plan: RepetitionPlan,
    pub(super) performance: Performance,
    /// Total time of finished waits that the engine imposed, which does not count against the scenario's deadline.
    pub(super) excused: Duration,
    /// Start of the current wait that the engine imposes, if any.
    pub(super) waits_since: Option<Instant>,
    /// True once a warning has reported that calibration fails.
    pub(super) calibration_failed: bool,
    pub(super) streams_kept: u32,
    /// Number of unrequested screenshots taken.
    pub(super) unasked: u32,
    pub(super) connection: Option<UnixStream>,
}

pub(super) type Answer<T> = Result<T, RpcError>;

/// State of a case's chaos.
#[derive(Default)]
pub(super) struct Chaos {
    pub(super) state: Mutex<ChaosState>,
}

#[derive(Default)]
pub(super) struct ChaosState {
    pub(super) begun: bool,
    pub(super) settled: bool,
    pub(super) nemesis: Option<Nemesis>,
    pub(super) played: Vec<Played>,
    pub(super) came_true: Vec<String>,
    pub(super) history: Option<std::fs::File>,
    /// Operation that is open in the history, by the process that the history names.
    pub(super) open: BTreeMap<String, String>,
}

/// Measured operation that has begun.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) operation: String,
    pub(super) repetitions: u32,
    pub(super) parent: Option<String>,
    pub(super) begun_ms: f64,
    pub(super) watch: Stopwatch,
    pub(super) calibration: Option<Calibration>,
}

impl Session {
    pub fn new(
        spec: SessionSpec,
        lab: Arc<Lab>,
        recorder: Arc<Recorder>,
        interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        let evidence = Arc::new(EvidenceLog::default());
        let (case, its_lab) = (spec.case.clone(), Arc::clone(&lab));
        let recovery = spec.chaos.as_ref().map_or(Duration::ZERO, |chaos| patience::scaled(chaos.recovery));
        let faults = Faults::new(case, its_lab, Arc::clone(&recorder), Arc::clone(&evidence), recovery);
        let faults = Arc::new(faults);
        let chaos = Chaos::default();
        // Where it cannot be read, its findings are missing and nothing else.
        let kernel = KernelWatch::start().ok();
        let case = format!("{}:{}", spec.scenario, spec.case_name);
        let state = State {
            seen: Seen::default(),
            ended: Vec::new(),
            reboots: BTreeMap::new(),
            restoring: Vec::new(),
            steps: Vec::new(),
            measurements: BTreeMap::new(),
            measurements_begun: 0,
            repetition_plan: RepetitionPlan::new(spec.repeats.clone()),
            performance: Performance::new(case, spec.machine.machine.clone(), spec.machine.class.clone()),
            excused: Duration::ZERO,
            waits_since: None,
            calibration_failed: false,
            streams_kept: 0,
            unasked: 0,
            connection: None,
        };
        let meters = Arc::new(Meters::open(&lab));
        Self {
            spec,
            lab,
            recorder,
            faults,
            chaos,
            meters,
            evidence,
            under_way: UnderWay::default(),
            used: Used::default(),
            driver: Mutex::default(),
            kernel,
            interrupted,
            closed: AtomicBool::new(false),
            stood_still: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Returns the folder of the project, to which the manifests' paths are relative.
    pub(super) fn project_root(&self) -> &Path {
        let depth = Path::new(&self.spec.manifest).parent().map_or(0, |folder| folder.components().count());
        self.spec.working_dir.ancestors().nth(depth).unwrap_or(&self.spec.working_dir)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
