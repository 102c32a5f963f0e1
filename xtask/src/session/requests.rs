//! What each request does.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e_contract::{
    Abort, Artifact, ChaosBegin, Check, ContainerInfo, Defect, DefectOutcome, Done, Edge, ErrorCode, Exec, ExecResult,
    FaultHeal, FaultInject, Get, Hello, History, Invariant, Log, MeasureBegin, MeasureEnd, Measured, Measurement,
    Method, Metric, PROTOCOL_VERSION, Put, RpcError, STREAM_BYTES_MAX, Screenshot, ScreenshotCompare, Settle, Step,
    Stream, Wait, Waited, Welcome,
};
use nix::errno::Errno;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::blame::{Evidence, EvidenceLog};
use super::chaos::Chaos;
use super::ending::{End, Seen, judge, machine_ended};
use super::faults::{self, Faults};
use super::scenario::{Ended, SessionSpec};
use super::under_way::UnderWay;
use super::wanted::Wanted;
use crate::host::held_clock::Stopwatch;
use crate::host::kmsg::KernelLog;
use crate::host::patience;
use crate::host::rooted;
use crate::host::shell::{CommandError, Problem, quote};
use crate::lab::{Container, ExecRequest, Lab, MachineEnd, Outage, WaitError};
use crate::perf::{Meters, Spent, calibrate};
use crate::record::{Calibration, Event, Performance, Recorder, Sample, Sampling, milliseconds};

/// Findings by which a scenario says that it expects the end or a reboot of a machine.
const MACHINE_ENDED: &str = "machine_ended";
const REBOOTED: &str = "rebooted";

/// The longest command line in the record, in characters.
const COMMAND_CHARS_MAX: usize = 200;

/// One scenario's session.
pub struct Session {
    pub(super) spec: SessionSpec,
    pub(super) lab: Arc<Lab>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) faults: Arc<Faults>,
    pub(super) chaos: Chaos,
    pub(super) meters: Arc<Meters>,
    evidence: Arc<EvidenceLog>,
    under_way: UnderWay,
    kernel: Mutex<Option<KernelLog>>,
    interrupted: Arc<dyn Fn() -> bool + Send + Sync>,
    closed: AtomicBool,
    /// Whether it was held already: once is enough.
    pub(super) stopped: AtomicBool,
    pub(super) given_up: AtomicBool,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) seen: Seen,
    /// Containers whose end was noticed, by their names.
    ended: Vec<String>,
    /// Reboots that were noticed, by the containers' names.
    reboots: BTreeMap<String, u64>,
    /// Threads that do the faults of containers again which have rebooted.
    restoring: Vec<std::thread::JoinHandle<()>>,
    steps: Vec<(String, Instant)>,
    /// Those that are open, by their numbers: the innermost one last.
    measurements: BTreeMap<u64, Open>,
    measurements_begun: u64,
    wanted: Wanted,
    performance: Performance,
    /// Time that comparing took, beyond what the scenario had planned.
    excused: Duration,
    /// Since when it is let wait.
    waits_since: Option<Instant>,
    /// Whether it was said that there is no calibration, and why.
    calibration_failed: bool,
    streams_kept: u32,
    /// Pictures that nobody asked for.
    unasked: u32,
    connection: Option<UnixStream>,
}

/// An operation that has begun.
#[derive(Debug)]
struct Open {
    operation: String,
    repetitions: u32,
    parent: Option<String>,
    begun_ms: f64,
    watch: Stopwatch,
    calibration: Option<Calibration>,
}

pub(super) type Answer<T> = Result<T, RpcError>;

/// Methods by which a scenario states something and asks nothing of the lab: they count also when they are read after its end.
const STATEMENTS: [&str; 9] = [
    Check::NAME,
    Invariant::NAME,
    Defect::NAME,
    History::NAME,
    Step::NAME,
    MeasureEnd::NAME,
    Metric::NAME,
    Log::NAME,
    Abort::NAME,
];

/// The failure that the refusal of a request is, where it was to state something, or nobody knows what it was to do.
fn refused(method: &str, error: &RpcError) -> Option<String> {
    let is_one_of = |codes: &[ErrorCode]| codes.iter().any(|code| *code as i64 == error.code);
    let was_to_state =
        STATEMENTS.contains(&method) && is_one_of(&[ErrorCode::InvalidParams, ErrorCode::InvalidRequest]);
    (was_to_state || is_one_of(&[ErrorCode::MethodNotFound]))
        .then(|| format!("its request `{}` was refused: {}", shorten(method), error.message))
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
        let kernel = Mutex::new(KernelLog::from_now().ok());
        let case = format!("{}:{}", spec.scenario, spec.case_name);
        let state = State {
            seen: Seen::default(),
            ended: Vec::new(),
            reboots: BTreeMap::new(),
            restoring: Vec::new(),
            steps: Vec::new(),
            measurements: BTreeMap::new(),
            measurements_begun: 0,
            wanted: Wanted::new(spec.repeats.clone()),
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
            kernel,
            interrupted,
            closed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Carries out one request. What the scenario states counts, or its refusal does: not every client looks at answers.
    pub fn answer(&self, method: &str, params: Value) -> Answer<Value> {
        let answer = self.carry_out(method, params);
        if let Err(error) = &answer
            && let Some(refusal) = refused(method, error)
        {
            self.file_failure(|seen| {
                seen.refused.get_or_insert(refusal);
            });
        }
        answer
    }

    fn carry_out(&self, method: &str, params: Value) -> Answer<Value> {
        if self.is_closed() && !STATEMENTS.contains(&method) {
            return Err(RpcError::new(ErrorCode::Interrupted, "the session is over"));
        }
        self.wait_while_held()?;
        if !self.state().seen.hello && method != Hello::NAME {
            return Err(RpcError::new(ErrorCode::InvalidRequest, "the first request of a session is `hello`"));
        }
        let _under_way = self.under_way.begin(method, &params);
        match method {
            Hello::NAME => serve(params, |request| self.hello(&request)),
            Exec::NAME => serve(params, |request| self.exec(request)),
            Put::NAME => serve(params, |request| self.put(&request)),
            Get::NAME => serve(params, |request| self.get(&request)),
            Wait::NAME => serve(params, |request| self.wait(&request)),
            Step::NAME => serve(params, |request| self.step(&request)),
            MeasureBegin::NAME => serve(params, |request| self.measure_begin(request)),
            MeasureEnd::NAME => serve(params, |request| self.measure_end(&request)),
            Metric::NAME => serve(params, |request| self.metric(request)),
            Check::NAME => serve(params, |request| self.check(request)),
            FaultInject::NAME => serve(params, |request: FaultInject| {
                let container = self.container(&request.container)?;
                self.of_fault(self.faults.inject(container, &request))
            }),
            FaultHeal::NAME => serve(params, |request| {
                // What a reboot has undone is done again first: what is healed was on until then.
                self.file_reboots();
                self.end_restoring();
                self.of_fault(self.faults.heal(request, &|| self.shall_stop()))
            }),
            ChaosBegin::NAME => serve(params, |_: ChaosBegin| self.chaos_begin()),
            Settle::NAME => serve(params, |_: Settle| self.settle()),
            Invariant::NAME => serve(params, |request| self.invariant(request)),
            History::NAME => serve(params, |request| self.history(&request)),
            Defect::NAME => serve(params, |request| self.defect(request)),
            Log::NAME => serve(params, |request| self.log(request)),
            Abort::NAME => serve(params, |request| self.abort(request)),
            Artifact::NAME => serve(params, |request| self.artifact(&request)),
            Screenshot::NAME => serve(params, |request| self.screenshot(&request)),
            ScreenshotCompare::NAME => serve(params, |request| self.screenshot_compare(&request)),
            other => Err(RpcError::new(ErrorCode::MethodNotFound, format!("there is no method {:?}", shorten(other)))),
        }
    }

    /// The first breach of the protocol.
    pub fn violation(&self) -> Option<String> {
        self.state().seen.violation.clone()
    }

    pub fn break_off(&self, violation: &str) {
        self.file_failure(|seen| {
            seen.violation.get_or_insert_with(|| violation.to_owned());
        });
    }

    /// Files a failure of the scenario, after the ends of machines that came before it.
    pub(super) fn file_failure(&self, note: impl FnOnce(&mut Seen)) {
        self.notice_ends();
        self.evidence.push(Evidence::Scenario);
        note(&mut self.state().seen);
    }

    /// Files the ends of machines that nobody has noticed yet, and waits for LXC where a process 1 is gone.
    pub(super) fn notice_ends(&self) {
        self.lab.containers().iter().for_each(Container::notice_end);
        self.file_ends();
    }

    /// Records reboots that nobody has asked for, and has the faults of such machines done again.
    pub fn file_reboots(&self) {
        for container in self.lab.containers() {
            let (name, reboots) = (container.machine().name.clone(), container.reboots());
            let mut state = self.state();
            let known = state.reboots.entry(name.clone()).or_default();
            if reboots <= *known {
                continue;
            }
            *known = reboots;
            let (faults, rebooted) = (Arc::clone(&self.faults), container.clone());
            let thread = std::thread::Builder::new().name(format!("restore {name}"));
            match thread.spawn(move || faults.restore_after_reboot(&rebooted)) {
                Ok(thread) => state.restoring.push(thread),
                Err(error) => self.evidence.push(Evidence::Host(format!("starting a thread of the engine: {error}"))),
            }
            drop(state);
            let expected = self.expects(REBOOTED, &name);
            let case = self.spec.case.clone();
            self.recorder.record(Event::MachineRebooted { case, container: name, reboots, expected });
        }
    }

    /// Notes what was under way when the scenario had to be killed.
    pub fn note_deadline(&self) {
        let outages = self.lab.containers().iter().filter_map(|container| {
            let (outage, lasting) = container.outage_with_time()?;
            Some(format!("{outage} since {:.1} s", lasting.as_secs_f64()))
        });
        let doing: Vec<String> = self.under_way.told().into_iter().chain(outages).collect();
        self.state().seen.doing = (!doing.is_empty()).then(|| doing.join("; "));
    }

    /// Whether the scenario says that this finding about a container is its own doing.
    fn expects(&self, finding: &str, container: &str) -> bool {
        let covers = |expected: &crate::manifest::Expected| expected.covers(finding, Some(container), container);
        self.spec.expects.iter().any(covers)
    }

    /// Waits until the faults of machines that have rebooted are done again.
    fn end_restoring(&self) {
        let threads = std::mem::take(&mut self.state().restoring);
        for thread in threads {
            if thread.join().is_err() {
                self.evidence.push(Evidence::Host("the engine panicked while it restored a fault".to_owned()));
            }
        }
    }

    /// Files the ends of machines that LXC has noticed and nobody else yet.
    pub fn file_ends(&self) {
        for container in self.lab.containers().iter().filter(|container| container.is_dead()) {
            let Some(end) = container.ending() else { continue }; // a fault has just begun to start it again
            let mut state = self.state();
            if state.ended.contains(&end.container) {
                continue;
            }
            state.ended.push(end.container.clone());
            let expected = self.expects(MACHINE_ENDED, &end.container);
            let event = machine_ended(&self.spec.case, &end, expected);
            if !expected {
                self.evidence.push(Evidence::MachineEnded(Box::new(end)));
            }
            drop(state);
            self.recorder.record(event);
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether whoever still waits for something is to give up.
    pub(super) fn shall_stop(&self) -> bool {
        (self.interrupted)() || self.is_closed()
    }

    pub fn keep_connection(&self, connection: Option<UnixStream>) {
        self.state().connection = connection;
    }

    /// No request is carried out from now on, and the connection is shut.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(connection) = self.state().connection.take() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Heals what the scenario has left, so that its lab can be looked at, and says what came of it.
    pub fn finish(&self, end: End, sampling: Option<Sampling>) -> Ended {
        self.notice_ends();
        self.file_reboots();
        if !matches!(end, End::Exited(0) | End::Interrupted) {
            self.evidence.push(Evidence::Scenario);
        }
        // Before anything is healed: a machine that is started again is not the scenario's doing.
        let exceeded = if end == End::Interrupted { None } else { self.check_limits() };
        self.end_restoring();
        self.end_nemesis();
        self.end_history();
        let (owed, played) = self.judge_chaos();
        let unhealed = if end == End::Interrupted { Vec::new() } else { self.faults.heal_all(&*self.interrupted) };
        if end != End::Interrupted {
            self.record_findings();
        }
        self.notice_ends(); // of those that ended while faults were healed
        if !unhealed.is_empty() {
            self.evidence.push(Evidence::Host(unhealed.join("\n")));
        }
        let mut state = self.state();
        let unseen = self.spec.defects.iter().filter(|defect| !state.seen.defects.contains(defect)).cloned().collect();
        let steps = state.steps.iter().map(|(name, _)| format!("step {name:?}"));
        let operations = state.measurements.values().map(|open| format!("operation {:?}", open.operation));
        let open = steps.chain(operations).collect();
        let seen = Seen { open, unseen_defects: unseen, chaos_owed: owed, exceeded, ..std::mem::take(&mut state.seen) };
        let performance = Performance { sampling, ..state.performance.clone() };
        Ended { outcome: judge(end, seen, self.evidence.all()), performance, played }
    }

    pub(super) fn kernel(&self) -> MutexGuard<'_, Option<KernelLog>> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hello(&self, hello: &Hello) -> Answer<Welcome> {
        if hello.protocol != PROTOCOL_VERSION {
            let message =
                format!("it speaks version {} of the protocol, the engine {PROTOCOL_VERSION}", hello.protocol);
            self.break_off(&message);
            return Err(RpcError::new(ErrorCode::InvalidRequest, message));
        }
        self.state().seen.hello = true;
        let info = |container: &Container| ContainerInfo {
            name: container.machine().name.clone(),
            host_name: container.machine().host_name.clone(),
            address: container.machine().address(),
            template: container.machine().template.name.clone(),
        };
        Ok(Welcome {
            scenario: self.spec.scenario.clone(),
            case: self.spec.case_name.clone(),
            params: self.spec.params.clone(),
            containers: self.lab.containers().iter().map(info).collect(),
            fixtures: self.spec.fixtures.clone(),
            artifacts: self.spec.artifacts.clone(),
        })
    }

    fn exec(&self, exec: Exec) -> Answer<ExecResult> {
        let container = self.container(&exec.container)?;
        if exec.argv.is_empty() {
            return Err(RpcError::new(ErrorCode::InvalidParams, "argv is empty"));
        }
        let settings = exec.environment.iter().flat_map(|(name, value)| [name, value]);
        if let Some(word) = exec.argv.iter().chain(settings).find(|word| word.contains('\0')) {
            return Err(RpcError::new(ErrorCode::InvalidParams, format!("{:?} has a zero byte", shorten(word))));
        }
        if let Some((name, _)) = exec.environment.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
            return Err(RpcError::new(ErrorCode::InvalidParams, format!("{name:?} is no name of a variable")));
        }
        if let Some(user) = &exec.user {
            self.require_user(container, user)?;
        }
        let stdin = exec.stdin.as_ref().map(|stream| self.bytes_of(stream)).transpose()?.unwrap_or_default();
        let command = shorten(&exec.argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "));
        let request = ExecRequest {
            argv: exec.argv,
            stdin,
            environment: exec.environment,
            user: exec.user,
            ..self.exec_request(exec.deadline_ms)
        };
        let output = container
            .exec(&request)
            .map_err(|error| if is_too_long(&error) { self.refusal(&error) } else { self.of_outage(&error) })?;
        let duration_ms = milliseconds(output.duration);
        self.recorder.record(Event::Exec {
            case: self.spec.case.clone(),
            container: exec.container,
            command,
            status: output.status,
            duration_ms,
            timed_out: output.timed_out,
        });
        Ok(ExecResult {
            status: output.status,
            duration_ms,
            timed_out: output.timed_out,
            stdout: self.stream(output.stdout, "stdout")?,
            stderr: self.stream(output.stderr, "stderr")?,
        })
    }

    fn put(&self, put: &Put) -> Answer<Done> {
        let container = self.container(&put.container)?;
        let content = self.bytes_of(&put.content)?;
        let request = self.exec_request(put.deadline_ms);
        container
            .put(&put.path, content, put.mode, put.owner.as_deref(), request)
            .map_err(|error| self.refusal(&error))?;
        Ok(Done {})
    }

    fn get(&self, get: &Get) -> Answer<Stream> {
        let container = self.container(&get.container)?;
        let output =
            container.get(&get.path, self.exec_request(get.deadline_ms)).map_err(|error| self.refusal(&error))?;
        self.stream(output.stdout, "get")
    }

    fn wait(&self, wait: &Wait) -> Answer<Waited> {
        let container = self.container(&wait.container)?;
        let deadline = asked(wait.deadline_ms);
        let stop = || self.shall_stop();
        match container.wait_for(&wait.condition, deadline, self.lab.network(), self.lab.streams_dir(), &stop) {
            Ok(duration) => Ok(Waited { duration_ms: milliseconds(duration) }),
            Err(error @ WaitError::Deadline { .. }) => Err(RpcError::new(ErrorCode::Deadline, error.to_string())),
            Err(error @ WaitError::Interrupted) => Err(RpcError::new(ErrorCode::Interrupted, error.to_string())),
            Err(error) => Err(self.infrastructure(&anyhow::Error::new(error))),
        }
    }

    fn step(&self, step: &Step) -> Answer<Done> {
        let mut state = self.state();
        let case = self.spec.case.clone();
        let event = if step.edge == Edge::Begin {
            let depth = u32::try_from(state.steps.len()).unwrap_or(u32::MAX);
            state.steps.push((step.name.clone(), Instant::now()));
            Event::StepStarted { case, name: step.name.clone(), depth }
        } else {
            let place = state.steps.iter().rposition(|(name, _)| *name == step.name).ok_or_else(|| {
                RpcError::new(ErrorCode::InvalidParams, format!("the step {:?} ends but never began", step.name))
            })?;
            let (name, begun) = state.steps.remove(place);
            let depth = u32::try_from(place).unwrap_or(u32::MAX);
            let passed = step.edge == Edge::Passed;
            Event::StepEnded { case, name, depth, passed, duration_ms: milliseconds(begun.elapsed()) }
        };
        drop(state);
        self.recorder.record(event);
        Ok(Done {})
    }

    /// The counters are read last, so that nothing of the engine's is in what they gain.
    fn measure_begin(&self, begin: MeasureBegin) -> Answer<Measurement> {
        let MeasureBegin { operation, repetitions } = begin;
        if let Some(gate) = &self.spec.gate {
            self.excuse(|| gate.begin(&operation, repetitions, &|| self.shall_stop()));
        }
        let (measurement, calibration, shall_calibrate) = {
            let mut state = self.state();
            state.measurements_begun += 1;
            let measurement = state.measurements_begun;
            let outer = state.measurements.values().next_back();
            let parent = outer.map(|outer| outer.operation.clone());
            // Work between begin and end of another sample would be in that one: it lends its own calibration.
            let lender = state.measurements.values().rev().find(|outer| outer.repetitions > 1);
            let lent = lender.and_then(|lender| lender.calibration);
            let shall_calibrate =
                self.spec.calibrate && repetitions > 1 && lender.is_none() && !state.calibration_failed;
            let calibration = lent.filter(|_| repetitions > 1);
            let watch = self.lab.clock().watch();
            let open = Open { operation, repetitions, parent, begun_ms: 0.0, watch, calibration };
            state.measurements.insert(measurement, open);
            (measurement, calibration, shall_calibrate)
        };
        let calibration = if shall_calibrate { self.excuse(|| self.calibrate()) } else { calibration };
        self.meters.begin(measurement);
        if let Some(open) = self.state().measurements.get_mut(&measurement) {
            open.calibration = calibration;
            open.begun_ms = milliseconds(self.recorder.elapsed());
        }
        Ok(Measurement { measurement })
    }

    /// Time that comparing took, or takes now, beyond what the scenario had planned; and time in which all was held.
    pub(super) fn excused(&self) -> Duration {
        let state = self.state();
        let waits = state.waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        state.excused + waits + self.lab.clock().held()
    }

    /// Does what the scenario has not asked for: its deadline moves by as much.
    pub(super) fn excuse<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        self.state().waits_since = Some(begun);
        let done = work();
        let mut state = self.state();
        state.waits_since = None;
        state.excused += begun.elapsed();
        done
    }

    /// Where it cannot be done, it is said once, and the samples go without.
    fn calibrate(&self) -> Option<Calibration> {
        calibrate(&self.lab, &self.meters).unwrap_or_else(|error| {
            self.state().calibration_failed = true;
            self.recorder.record(Event::Warning { message: format!("samples without calibration: {error:#}") });
            None
        })
    }

    /// The counters are read first.
    fn measure_end(&self, end: &MeasureEnd) -> Answer<Measured> {
        let spent = self.meters.end(end.measurement);
        let mut state = self.state();
        let (Some(open), Some(spent)) = (state.measurements.remove(&end.measurement), spent) else {
            let message = format!("measurement {} is not open", end.measurement);
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        };
        let Open { operation, repetitions, parent, begun_ms, watch, calibration } = open;
        // A time in which somebody looked at a failure says nothing of the operation.
        let counts = end.succeeded && watch.was_held().is_zero();
        let duration_ms = end.duration_ms;
        let Spent { cpu_ms, wait_ms, containers, incomplete } = spent;
        let wall_ms = duration_ms;
        let sample = |repetition| Sample {
            repetition,
            begun_ms,
            wall_ms: (wall_ms * 1e3).round() / 1e3,
            cpu_ms,
            wait_ms,
            calibration,
            containers,
            incomplete,
        };
        let repetition = state.performance.add(&operation, repetitions, parent, counts.then_some(sample));
        let mut more = state.wanted.after(&operation, repetitions, end.succeeded, Instant::now());
        if repetition >= repetitions {
            state.excused += Duration::from_secs_f64(duration_ms.max(0.0) / 1e3);
        }
        let samples = state.performance.operations.get(&operation).map(|operation| &operation.samples);
        let sample = samples.and_then(|samples| samples.last()).filter(|_| counts).cloned();
        drop(state);
        if let Some(gate) = &self.spec.gate {
            let wish = self.excuse(|| gate.end(&operation, sample.as_ref(), &|| self.shall_stop()));
            more = wish.map_or(more, |wish| wish && end.succeeded);
        }
        let case = self.spec.case.clone();
        self.recorder.record(Event::Operation { case, operation, repetition, duration_ms, succeeded: end.succeeded });
        Ok(Measured { more })
    }

    fn metric(&self, metric: Metric) -> Answer<Done> {
        self.state().performance.add_metric(&metric).map_err(|why| RpcError::new(ErrorCode::InvalidParams, why))?;
        self.recorder.record(Event::Metric { case: self.spec.case.clone(), metric });
        Ok(Done {})
    }

    fn check(&self, check: Check) -> Answer<Done> {
        if !check.passed {
            self.notice_ends();
            let meaning = check.message.as_ref().map_or_else(String::new, |message| format!("{message}: "));
            let values = if check.values.is_empty() { String::new() } else { format!(" [{}]", check.values) };
            let message = format!("{meaning}{}{values} at {}:{}", check.condition, check.file, check.line);
            self.recorder.record(Event::Check { case: self.spec.case.clone(), check });
            self.picture_failure();
            return self.fail_check(&message);
        }
        self.recorder.record(Event::Check { case: self.spec.case.clone(), check });
        Ok(Done {})
    }

    /// The number of the next picture that nobody asked for, where there may be one more.
    pub(super) fn number_of_unasked(&self, most: u32) -> Option<u32> {
        let mut state = self.state();
        state.unasked = (state.unasked + 1).min(most + 1);
        (state.unasked <= most).then_some(state.unasked)
    }

    fn of_fault<T>(&self, result: anyhow::Result<T>) -> Answer<T> {
        result.map_err(|error| self.of_outage(&error))
    }

    fn defect(&self, defect: Defect) -> Answer<Done> {
        if !self.spec.defects.contains(&defect.defect) {
            let message = format!(
                "scenario.toml does not list the defect {:?}: write it under `defects` there, and describe it where the \
                 project's defects are described",
                defect.defect
            );
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
        let outcome = match &defect.failure {
            None => DefectOutcome::Fixed,
            Some(failure) if failure.contains(&defect.failing_with) => DefectOutcome::Known,
            Some(_) => DefectOutcome::Different,
        };
        if outcome != defect.outcome {
            let message =
                format!("the outcome of {} is {outcome:?} by its failure, and not what it says", defect.defect);
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
        {
            let mut state = self.state();
            if !state.seen.defects.contains(&defect.defect) {
                state.seen.defects.push(defect.defect.clone());
            }
        }
        let Defect { defect: name, failing_with, file, line, .. } = &defect;
        let failed = match outcome {
            DefectOutcome::Known => None,
            DefectOutcome::Fixed => {
                Some(format!("{name} is fixed: remove this mark at {file}:{line}, and its name from scenario.toml"))
            }
            DefectOutcome::Different => {
                let failure = defect.failure.as_deref().unwrap_or_default();
                Some(format!(
                    "{name} fails in another way than expected ({failing_with:?}) at {file}:{line}: {failure}"
                ))
            }
        };
        self.recorder.record(Event::Defect { case: self.spec.case.clone(), defect });
        failed.map_or(Ok(Done {}), |message| self.fail_check(&message))
    }

    fn log(&self, log: Log) -> Answer<Done> {
        self.recorder.record(Event::Log { case: self.spec.case.clone(), level: log.level, message: log.message });
        Ok(Done {})
    }

    fn abort(&self, abort: Abort) -> Answer<Done> {
        self.recorder.record(Event::Aborted {
            case: self.spec.case.clone(),
            kind: abort.kind,
            message: abort.message.clone(),
            location: abort.location.clone(),
        });
        let reason = abort.message.clone();
        self.file_failure(|seen| {
            seen.abort.get_or_insert(abort);
        });
        let is_pictured = self.state().unasked > 0; // at the check that failed: that is why it gives up
        if !is_pictured {
            self.picture_failure();
        }
        self.stop_at(&reason)
    }

    fn artifact(&self, artifact: &Artifact) -> Answer<Done> {
        let name = &artifact.name;
        require_plain_name(name)?;
        let bytes = self.bytes_of(&artifact.content)?;
        let path = self.spec.artifacts.join(name);
        self.keep(&path, &mut bytes.as_slice())?;
        let path = format!("{}/{name}", self.spec.artifacts_in_run);
        let size_bytes = bytes.len() as u64;
        self.recorder.record(Event::Artifact { case: self.spec.case.clone(), path, size_bytes });
        Ok(Done {})
    }

    fn container(&self, name: &str) -> Answer<&Container> {
        self.lab.container(name).ok_or_else(|| {
            let known: Vec<&str> = self.lab.containers().iter().map(|c| c.machine().name.as_str()).collect();
            let message = format!("there is no container {name:?} in this lab: there are {}", known.join(", "));
            RpcError::new(ErrorCode::InvalidParams, message)
        })
    }

    fn require_user(&self, container: &Container, name: &str) -> Answer<()> {
        let passwd = container.root().and_then(|root| rooted::read(&root, "/etc/passwd"));
        // One that goes down or comes up has no root to read in.
        let why = |error| container.outage().map_or(error, anyhow::Error::new);
        let passwd = passwd.map_err(|error| self.refusal(&why(error)))?;
        if !name.is_empty() && passwd.lines().any(|line| line.split(':').next() == Some(name)) {
            return Ok(());
        }
        let message = format!("there is no user {name:?} in {}", container.machine().name);
        Err(RpcError::new(ErrorCode::InvalidParams, message))
    }

    fn exec_request(&self, deadline_ms: u64) -> ExecRequest {
        let deadline = asked(deadline_ms);
        ExecRequest { deadline, streams_dir: self.lab.streams_dir().to_owned(), ..ExecRequest::default() }
    }

    fn bytes_of(&self, stream: &Stream) -> Answer<Vec<u8>> {
        let bad = |error: String| RpcError::new(ErrorCode::InvalidParams, error);
        match stream {
            Stream::File { path, .. } => self.spec.invoker.read(path).map_err(|error| bad(format!("{error:#}"))),
            inline => Ok(inline.inline_bytes().map_err(|error| bad(error.to_string()))?.unwrap_or_default()),
        }
    }

    /// A stream for the answer: inline, or, where it is large, as a file among the artifacts that belongs to the user.
    /// It is read by its descriptor: the file's folder is root's, and another file system than the artifacts'.
    fn stream(&self, mut file: NamedTempFile, what: &str) -> Answer<Stream> {
        let start = |file: &mut NamedTempFile| -> std::io::Result<u64> {
            file.rewind()?;
            Ok(file.as_file().metadata()?.len())
        };
        let broken = |error: std::io::Error| {
            self.infrastructure(&anyhow::Error::new(error).context("reading a program's output"))
        };
        // What it left running may still write: no more is taken than there was at its end.
        let bytes = start(&mut file).map_err(broken)?;
        let mut content = file.as_file().take(bytes);
        if bytes <= STREAM_BYTES_MAX as u64 {
            let mut inline = Vec::new();
            content.read_to_end(&mut inline).map_err(broken)?;
            return Ok(Stream::from_bytes(inline));
        }
        let number = {
            let mut state = self.state();
            state.streams_kept += 1;
            state.streams_kept
        };
        let path = self.spec.artifacts.join(format!("stream-{number}-{what}"));
        let bytes = self.keep(&path, &mut content)?;
        Ok(Stream::File { path, bytes })
    }

    /// Writes a file among the artifacts, a folder that the scenario may have changed at will; returns its length.
    fn keep(&self, path: &Path, content: &mut (dyn std::io::Read + Send)) -> Answer<u64> {
        self.write(path, content).map_err(|error| self.not_written(&error))
    }

    /// Writes a file of the record with the rights of the scenario's user; returns its length.
    pub(super) fn write(&self, path: &Path, content: &mut (dyn std::io::Read + Send)) -> anyhow::Result<u64> {
        let invoker = &self.spec.invoker;
        invoker.create(path).and_then(|mut file| {
            let bytes = invoker.act(|| Ok(std::io::copy(content, &mut file)?));
            bytes.with_context(|| format!("writing {}", path.display()))
        })
    }

    /// What was to be kept could not be written.
    pub(super) fn not_written(&self, error: &anyhow::Error) -> RpcError {
        if is_hosts(error) { self.infrastructure(error) } else { self.refusal(error) }
    }

    /// An error that is expected where a fault has taken the container away, and otherwise the lab's failure.
    pub(super) fn of_outage(&self, error: &anyhow::Error) -> RpcError {
        faults::refusal(error).unwrap_or_else(|| self.infrastructure(error))
    }

    /// An error that is the container's or the scenario's affair, unless the container has died under it.
    pub(super) fn refusal(&self, error: &anyhow::Error) -> RpcError {
        if error.chain().any(<dyn std::error::Error>::is::<Outage>) {
            return self.of_outage(error);
        }
        self.notice_ends();
        if self.lab.containers().iter().any(Container::is_dead) {
            return RpcError::new(ErrorCode::MachineEnded, format!("{error:#}"));
        }
        RpcError::new(ErrorCode::InvalidParams, format!("{error:#}"))
    }

    pub(super) fn infrastructure(&self, error: &anyhow::Error) -> RpcError {
        let message = format!("{error:#}");
        self.notice_ends();
        // What fails because a machine has ended is no evidence beside that end.
        let is_end = |cause: &(dyn std::error::Error + 'static)| {
            cause.is::<MachineEnd>() || matches!(cause.downcast_ref(), Some(WaitError::Ended { .. }))
        };
        if error.chain().any(is_end) {
            return RpcError::new(ErrorCode::MachineEnded, message);
        }
        if !self.is_closed() {
            self.evidence.push(Evidence::Host(message.clone()));
        }
        RpcError::new(ErrorCode::Infrastructure, message)
    }
}

fn serve<M: Method>(params: Value, carry_out: impl FnOnce(M) -> Answer<M::Answer>) -> Answer<Value> {
    let request = serde_json::from_value(params)
        .map_err(|error| RpcError::new(ErrorCode::InvalidParams, format!("parameters of {}: {error}", M::NAME)))?;
    let answer = carry_out(request)?;
    serde_json::to_value(answer).map_err(|error| RpcError::new(ErrorCode::Infrastructure, error.to_string()))
}

/// A name of a file in a folder, not a way out of it.
pub(super) fn require_plain_name(name: &str) -> Answer<()> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') || name.contains('\0') {
        return Err(RpcError::new(ErrorCode::InvalidParams, format!("{name:?} is no plain file name")));
    }
    Ok(())
}

/// Whether the kernel refused a command line or an environment for its length.
fn is_too_long(error: &anyhow::Error) -> bool {
    let refused = error.chain().find_map(|cause| cause.downcast_ref::<CommandError>()).map(|error| &error.problem);
    matches!(refused, Some(Problem::Start(error)) if error.raw_os_error() == Some(Errno::E2BIG as i32))
}

/// Whether a file could not be written for the host's sake, not for what the scenario asked for or did to its folder.
fn is_hosts(error: &anyhow::Error) -> bool {
    let number = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    let number = number.map(Errno::from_raw);
    matches!(
        number,
        None | Some(
            Errno::ENOSPC | Errno::EDQUOT | Errno::EIO | Errno::EROFS | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM
        )
    )
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= COMMAND_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(COMMAND_CHARS_MAX).chain(" [...]".chars()).collect()
}

/// A deadline that the scenario asks for, on this machine: it tells what hangs from what works, as the engine's own do.
pub(super) fn asked(deadline_ms: u64) -> Duration {
    patience::scaled(Duration::from_millis(deadline_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::shell::Command;

    #[test]
    fn a_command_line_that_is_too_long_is_told_from_a_host_that_fails() {
        let start = |program: &str, argument: String| Command::new(program).arg(argument).run().unwrap_err();
        assert!(is_too_long(&start("true", "x".repeat(1 << 20)).into()));
        assert!(!is_too_long(&start("no-such-program-here", String::new()).into()));
        assert!(!is_too_long(&start("false", String::new()).into()));
    }

    #[test]
    fn a_full_disk_is_the_hosts_and_a_bad_name_the_scenarios() {
        let error = |errno: Errno| anyhow::Error::new(std::io::Error::from(errno)).context("making a file");
        for errno in [Errno::ENAMETOOLONG, Errno::EISDIR, Errno::ENOENT, Errno::EACCES, Errno::EEXIST, Errno::ELOOP] {
            assert!(!is_hosts(&error(errno)), "{errno}");
        }
        for errno in [Errno::ENOSPC, Errno::EIO] {
            assert!(is_hosts(&error(errno)), "{errno}");
        }
        assert!(is_hosts(&anyhow::anyhow!("no system call failed")));
    }
}
