//! Requests of a scenario: dispatches them, and executes those that have no file of their own.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e_contract::{
    Abort, Artifact, ChaosBegin, Check, ContainerInfo, Defect, DefectOutcome, Done, Edge, ErrorCode, Exec, ExecResult,
    FaultHeal, FaultInject, Get, Hello, History, Invariant, Log, MeasureBegin, MeasureEnd, Method, Metric,
    PROTOCOL_VERSION, Put, RpcError, Screenshot, ScreenshotCompare, Settle, Step, Wait, Waited, Welcome,
};
use serde_json::Value;

use super::blame::Evidence;
use super::bounds::{cut_texts, shorten};
use super::ending::{End, Seen, judge};
use super::failure::RequestFailure;
use super::last_words::last_words;
use super::spec::Ended;
use super::state::{Answer, Session};
use crate::host::disk::container_fs;
use crate::host::exec::shell::quote;
use crate::host::patience;
use crate::lab::{Circumstances, Container, ExecError, ExecRequest, Nearness, is_no_condition};
use crate::record::{Event, Performance, Sampling, mark_failure, milliseconds};

/// Maximum length of a place in a scenario in the record, in characters.
const LOCATION_CHARS_MAX: usize = 1000;

/// Maximum length of a command line in the record, in characters.
const COMMAND_CHARS_MAX: usize = 200;

/// Methods that only state something and ask nothing of the lab: they count even if they are read after the scenario's end.
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

/// Maximum length of a method's name in a message, in characters.
const METHOD_CHARS_MAX: usize = 100;

/// Describes the failure that a refused request counts as, if it was a statement or its method is unknown.
fn refused(method: &str, error: &RpcError) -> Option<String> {
    let is_one_of = |codes: &[ErrorCode]| codes.iter().any(|code| *code as i64 == error.code);
    let was_to_state =
        STATEMENTS.contains(&method) && is_one_of(&[ErrorCode::InvalidParams, ErrorCode::InvalidRequest]);
    (was_to_state || is_one_of(&[ErrorCode::MethodNotFound]))
        .then(|| format!("its request `{}` was refused: {}", shorten(method, METHOD_CHARS_MAX), error.message))
}

impl Session {
    /// Executes one request, made at this place in the scenario. If a statement is refused, the refusal counts as a failure of the
    /// scenario, because not every client looks at answers.
    pub fn answer(&self, method: &str, params: Value, location: Option<&str>) -> Answer<Value> {
        let answer = self.carry_out(method, params, location);
        if let Err(error) = &answer
            && let Some(refusal) = refused(method, error)
        {
            let is_first = self.state().seen.refused.is_none(); // a scenario that goes on against refusals fills no memory
            if is_first {
                self.file_failure(|seen| {
                    seen.refused.get_or_insert(refusal);
                });
            }
        }
        answer
    }

    fn carry_out(&self, method: &str, mut params: Value, location: Option<&str>) -> Answer<Value> {
        if self.is_closed() && !STATEMENTS.contains(&method) {
            return Err(RpcError::new(ErrorCode::Interrupted, "the session is over"));
        }
        self.wait_while_held()?;
        if !self.state().seen.hello && method != Hello::NAME {
            return Err(RpcError::new(ErrorCode::InvalidRequest, "the first request of a session must be `hello`"));
        }
        let is_stated = STATEMENTS.contains(&method) || method == MeasureBegin::NAME;
        if is_stated {
            cut_texts(&mut params, self.recorder.masks());
        }
        let room = self.used.take_request(is_stated.then_some(&params));
        room.map_err(|full| RpcError::new(ErrorCode::InvalidParams, full.to_string()))?;
        let location = location.map(|place| shorten(place, LOCATION_CHARS_MAX));
        let _under_way = self.under_way.begin(method, &params, location.as_deref());
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
                self.faults.inject(container, &request.fault, None).map_err(|error| self.answer_to(error))
            }),
            FaultHeal::NAME => serve(params, |request| {
                // What a reboot has undone is done again first: what is healed was on until then.
                self.file_reboots();
                self.end_restoring();
                self.faults.heal(request, &|| self.shall_stop()).map_err(|error| self.answer_to(error))
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
            other => Err(RpcError::new(
                ErrorCode::MethodNotFound,
                format!("there is no method {:?}", shorten(other, METHOD_CHARS_MAX)),
            )),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Tells whether all waits have to end, because the run is interrupted or the session is closed.
    pub(super) fn shall_stop(&self) -> bool {
        (self.interrupted)() || self.is_closed()
    }

    pub fn keep_connection(&self, connection: Option<UnixStream>) {
        self.state().connection = connection;
    }

    /// Closes the session: only statements are still accepted, and the connection is shut down.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(connection) = self.state().connection.take() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Heals the faults that the scenario has left active, so that its lab can be inspected, and returns the session's result.
    pub fn finish(&self, end: End, output: &str, sampling: Option<Sampling>) -> Ended {
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
        self.drop_empty_stacks();
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
        let last_words = last_words(output, self.project_root());
        let seen = std::mem::take(&mut state.seen);
        let seen = Seen { open, unseen_defects: unseen, chaos_owed: owed, exceeded, last_words, ..seen };
        let performance = Performance { sampling, ..state.performance.clone() };
        Ended { outcome: judge(end, seen, self.evidence.all()), performance, played }
    }

    fn hello(&self, hello: &Hello) -> Answer<Welcome> {
        if hello.protocol != PROTOCOL_VERSION {
            let message = format!(
                "the scenario speaks version {} of the protocol, but the engine speaks version {PROTOCOL_VERSION}",
                hello.protocol
            );
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
            stack_file: self.stack_file(),
            defects_only: self.spec.defects_only,
        })
    }

    fn exec(&self, exec: Exec) -> Answer<ExecResult> {
        let container = self.container(&exec.container)?;
        if exec.argv.is_empty() {
            return Err(RpcError::new(ErrorCode::InvalidParams, "argv is empty"));
        }
        let settings = exec.environment.iter().flat_map(|(name, value)| [name, value]);
        if let Some(word) = exec.argv.iter().chain(settings).find(|word| word.contains('\0')) {
            return Err(RpcError::new(
                ErrorCode::InvalidParams,
                format!("{:?} has a zero byte", shorten(word, COMMAND_CHARS_MAX)),
            ));
        }
        if let Some((name, _)) = exec.environment.iter().find(|(name, _)| name.is_empty() || name.contains('=')) {
            return Err(RpcError::new(
                ErrorCode::InvalidParams,
                format!("{name:?} is not a valid name of an environment variable"),
            ));
        }
        if let Some(user) = &exec.user {
            self.require_user(container, user)?;
        }
        let stdin = exec.stdin.as_ref().map(|stream| self.bytes_of(stream)).transpose()?.unwrap_or_default();
        // Before it is quoted and cut: a part of a secret would be left.
        let masks = self.recorder.masks();
        let command = exec.argv.iter().map(|word| quote(&masks.text(word))).collect::<Vec<_>>().join(" ");
        let command = shorten(&command, COMMAND_CHARS_MAX);
        let request = ExecRequest {
            argv: exec.argv,
            stdin,
            environment: exec.environment,
            user: exec.user,
            ..self.exec_request(exec.deadline_ms)
        };
        let mut output = container.exec(&request).map_err(|error| self.answer_to(error))?;
        let duration_ms = milliseconds(output.duration);
        let (stdout, lost_of_stdout) = self.stream_or_begin(&mut output.stdout, "stdout")?;
        let (stderr, lost_of_stderr) = self.stream_or_begin(&mut output.stderr, "stderr")?;
        let not_kept_bytes = lost_of_stdout + lost_of_stderr;
        if not_kept_bytes > 0 && self.used.tells_of_cut() {
            let message = format!(
                "{}: `{command}` in {} has written more than is kept: {not_kept_bytes} bytes of its output are missing",
                self.spec.case, exec.container
            );
            self.recorder.record(Event::Warning { message });
        }
        self.recorder.record(Event::Exec {
            case: self.spec.case.clone(),
            container: exec.container,
            command,
            status: output.status,
            duration_ms,
            timed_out: output.timed_out,
            location: self.under_way.location(),
            not_kept_bytes,
        });
        Ok(ExecResult { status: output.status, duration_ms, timed_out: output.timed_out, stdout, stderr })
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

    /// Returns the number of the next unrequested screenshot; `None` when `most` have been taken.
    pub(super) fn number_of_unasked(&self, most: u32) -> Option<u32> {
        let mut state = self.state();
        state.unasked = (state.unasked + 1).min(most + 1);
        (state.unasked <= most).then_some(state.unasked)
    }

    fn defect(&self, defect: Defect) -> Answer<Done> {
        if !self.spec.defects.contains(&defect.defect) {
            let message = format!(
                "scenario.toml does not list the defect {:?} under `defects`: add it, and describe it where the project \
                 describes its defects",
                defect.defect
            );
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
        let (failure, observed) = (defect.failure.as_deref(), defect.observed.as_deref());
        let outcome = DefectOutcome::of(&defect.failing_with, failure, observed);
        if outcome != defect.outcome {
            let message = format!(
                "the outcome of {} is {outcome:?} according to its failure and the observed effect, but the request states \
                 another outcome",
                defect.defect
            );
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        }
        {
            let mut state = self.state();
            if !state.seen.defects.contains(&defect.defect) {
                state.seen.defects.push(defect.defect.clone());
            }
        }
        let failed = mark_failure(&defect);
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

    pub(super) fn container(&self, name: &str) -> Answer<&Container> {
        self.lab.container(name).ok_or_else(|| {
            let known: Vec<&str> = self.lab.containers().iter().map(|c| c.machine().name.as_str()).collect();
            let message = format!("there is no container {name:?} in this lab: it has {}", known.join(", "));
            RpcError::new(ErrorCode::InvalidParams, message)
        })
    }

    fn require_user(&self, container: &Container, name: &str) -> Answer<()> {
        let passwd = container.root().and_then(|root| container_fs::read(&root, "/etc/passwd"));
        // One that goes down or comes up has no root to read in.
        let why = |error| container.outage().map_or(ExecError::Other(error), ExecError::Outage);
        let passwd = passwd.map_err(|error| self.answer_to(RequestFailure::of_file(why(error))))?;
        if !name.is_empty() && passwd.lines().any(|line| line.split(':').next() == Some(name)) {
            return Ok(());
        }
        let message = format!("there is no user {name:?} in {}", container.machine().name);
        Err(RpcError::new(ErrorCode::InvalidParams, message))
    }

    pub(super) fn exec_request(&self, deadline_ms: u64) -> ExecRequest {
        let deadline = asked(deadline_ms);
        ExecRequest { deadline, streams_dir: self.lab.streams_dir().to_owned(), ..ExecRequest::default() }
    }

    pub(super) fn wait(&self, wait: &Wait) -> Answer<Waited> {
        let container = self.container(&wait.container)?;
        if let Some(problem) = is_no_condition(&wait.condition) {
            return Err(RpcError::new(ErrorCode::InvalidParams, format!("{}: {problem}", wait.condition)));
        }
        let circumstances = Circumstances {
            network: self.lab.network(),
            streams_dir: self.lab.streams_dir(),
            interrupted: &|| self.shall_stop(),
            settled: &|| self.changes_when_settled(),
            nearness: Nearness::Ready,
        };
        let waited = container.wait_for(&wait.condition, asked(wait.deadline_ms), &circumstances);
        let duration = waited.map_err(|error| self.answer_to(error))?;
        Ok(Waited { duration_ms: milliseconds(duration) })
    }

    /// Returns the number of changes that the scenario has requested; `None` while a request or a fault may still change a machine.
    fn changes_when_settled(&self) -> Option<u64> {
        let is_broken = self.chaos.plays() || self.faults.active.any_is_on();
        self.under_way.changes().filter(|_| !is_broken)
    }
}

fn serve<M: Method>(params: Value, carry_out: impl FnOnce(M) -> Answer<M::Answer>) -> Answer<Value> {
    let request = serde_json::from_value(params)
        .map_err(|error| RpcError::new(ErrorCode::InvalidParams, format!("parameters of {}: {error}", M::NAME)))?;
    let answer = carry_out(request)?;
    serde_json::to_value(answer).map_err(|error| RpcError::new(ErrorCode::Infrastructure, error.to_string()))
}

/// Multiplies a deadline that the scenario requests by this host's factor of deadlines (`patience`).
pub(super) fn asked(deadline_ms: u64) -> Duration {
    patience::scaled(Duration::from_millis(deadline_ms))
}
