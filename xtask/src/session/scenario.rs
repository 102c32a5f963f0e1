//! Execution of one scenario process, from start to end.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use e2e_contract::SOCKET_VARIABLE;

use super::connection;
use super::ending::End;
use super::output::Output;
use super::spec::{Ended, SessionSpec};
use super::state::Session;
use crate::host::cgroup::Tree;
use crate::host::exec::shell::{self, BoundProcess, UserProcess};
use crate::host::invoker::Invoker;
use crate::host::patience::{self, Deadline};
use crate::lab::Lab;
use crate::perf::Sampler;
use crate::record::{Event, Recorder};

/// Interval at which the session checks for an interrupt while the scenario runs.
const INTERRUPT_POLL: Duration = Duration::from_millis(50);

/// Deadline for the killed processes of a scenario to end.
const KILL_DEADLINE: Deadline = Deadline::from_secs(5);

/// Deadline for running requests to end after the session is over: injecting or healing a fault is not abandoned halfway.
const END_DEADLINE: Deadline = Deadline::from_secs(120);

/// Deadline for executing the requests that the scenario wrote before its end.
const DRAIN_DEADLINE: Deadline = Deadline::from_secs(1);

/// Runs a scenario in a lab; returns the outcome, the measurements, and the results of scheduled faults.
///
/// # Errors
/// For infrastructure errors, such as a program that cannot be started. A failed scenario is no error.
pub fn run(
    spec: SessionSpec,
    lab: &Arc<Lab>,
    recorder: &Arc<Recorder>,
    interrupted: &Arc<dyn Fn() -> bool + Send + Sync>,
) -> anyhow::Result<Ended> {
    let socket = spec.slot_dir.join("socket");
    let listener = listen(&socket, &spec.invoker)?;
    let (output, writer) = Output::keep(Arc::clone(&spec.output), Arc::clone(recorder))?;
    let process = start(&spec, &socket, writer)?;
    let (pid, started, timeout, rate_hz) = (process.pid(), Instant::now(), spec.timeout, spec.rate_hz);
    recorder.record(Event::ScenarioStarted { case: spec.case.clone(), pid, user: spec.invoker.name.clone() });
    let cgroup = Tree::named(&scenario_cgroup(&spec.slot_cgroup));
    let session = Arc::new(Session::new(spec, Arc::clone(lab), Arc::clone(recorder), Arc::clone(interrupted)));
    let sampler = Sampler::start(Arc::clone(&session.meters), rate_hz, Arc::clone(recorder))?;
    let serving = Arc::clone(&session);
    let (done, served) = channel::<()>();
    std::thread::Builder::new().name("session".into()).spawn(move || {
        connection::serve(&listener, &serving);
        drop(done);
    })?;

    let (sender, ended) = channel();
    std::thread::Builder::new().name("scenario".into()).spawn(move || {
        let _ = sender.send(process.wait()); // nobody listens any more after a kill
    })?;
    let end = loop {
        session.file_ends();
        session.file_reboots();
        // What a comparison asks for beyond the scenario's own plan is not on its account, nor what somebody looks at.
        let timeout = timeout + session.excused();
        let left = timeout.saturating_sub(started.elapsed());
        match ended.recv_timeout(left.min(INTERRUPT_POLL)) {
            Ok(status) => break End::of(status.context("waiting for the scenario's end")?),
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that waits for the scenario's end is gone"),
            Err(RecvTimeoutError::Timeout) if interrupted() => break End::Interrupted,
            Err(RecvTimeoutError::Timeout) if session.is_given_up() => break End::GivenUp,
            Err(RecvTimeoutError::Timeout) if session.violation().is_some() => break End::BrokeProtocol,
            Err(RecvTimeoutError::Timeout) if started.elapsed() >= timeout => {
                session.note_deadline(&cgroup);
                break End::TimedOut(timeout);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    };
    session.wait_for_release();
    // What the scenario started and left behind goes with it.
    let killed = cgroup.kill_and_remove(KILL_DEADLINE.scaled(), || ());
    connection::release(&socket);
    if end == End::GivenUp {
        session.close(); // the request that failed waits for nothing else
    }
    // What it wrote before its end counts; what is still under way after that does not.
    let _ = served.recv_timeout(DRAIN_DEADLINE.scaled());
    output.wait(DRAIN_DEADLINE.scaled());
    session.close();
    // Whatever runs in the lab for a request ends with the session, before the lab may go: the next one has the same names.
    lab.clock().end();
    let all_ended = matches!(served.recv_timeout(END_DEADLINE.scaled()), Err(RecvTimeoutError::Disconnected));
    lab.clock().begin_anew();
    if !all_ended {
        bail!("requests of the scenario were still being executed {END_DEADLINE} after its end");
    }
    lab.wait_for_pictures(KILL_DEADLINE.scaled()); // a kept lab is to be looked at, not to run a browser
    let _ = std::fs::remove_file(&socket);
    killed.context("ending the scenario's processes")?;
    Ok(session.finish(end, &output.end(), sampler.end()))
}

fn listen(socket: &Path, invoker: &Invoker) -> anyhow::Result<UnixListener> {
    let make = || -> anyhow::Result<UnixListener> {
        let _ = std::fs::remove_file(socket); // of an earlier session in this lab
        let listener = UnixListener::bind(socket)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
        invoker.own(socket)?;
        Ok(listener)
    };
    make().with_context(|| format!("making the scenario's socket {}", socket.display()))
}

fn start(spec: &SessionSpec, socket: &Path, output: File) -> anyhow::Result<BoundProcess> {
    let mut environment = spec.environment.clone();
    environment.push((SOCKET_VARIABLE.into(), socket.display().to_string()));
    environment.push(patience::variable());
    let join = Tree::named(&scenario_cgroup(&spec.slot_cgroup)).make()?;
    shell::spawn_as_user(&UserProcess {
        argv: &spec.argv,
        environment: &environment,
        dir: &spec.working_dir,
        log: output,
        cgroup_procs: &join,
        invoker: &spec.invoker,
    })
    .with_context(|| format!("starting the scenario {}", spec.argv.join(" ")))
}

fn scenario_cgroup(slot_cgroup: &str) -> String {
    format!("{slot_cgroup}/_scenario") // no container is named like this
}
