//! Engine's side of a guard: starts or attaches to it, sends requests, and is told when processes of the guard end.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::Pid;

use super::holder::Holder;
use super::process::SOCKET_FD;
use super::protocol::{Answer, Command, Failure, Make, Message, ProcessEnd, Request, Spawn, Stay, Wait};
use super::reclaim::{Reclaimed, reclaim};
use super::slot::Slot;
use crate::error::Error;
use crate::host::exec::shell::{self, BoundProcess};
use crate::host::patience::Deadline;
use crate::host::syntax::{IpBatch, Text};
use crate::host::undo::Undo;

/// Deadline for one request to a guard: making a volume takes longest.
const ANSWER_DEADLINE: Deadline = Deadline::from_secs(60);

/// Deadline for a guard to greet an engine that attaches later: the guard processes one request at a time.
const ATTACH_DEADLINE: Deadline = Deadline::from_secs(30);

/// Deadline for noticing, after a failed request, that the guard has ended.
const GONE_DEADLINE: Deadline = Deadline::from_secs(1);

/// Connection to a running guard. If the connection is dropped without [`Guard::down`], the guard takes its lab down, unless the lab is
/// kept.
#[derive(Debug)]
pub struct Guard {
    slot: Slot,
    socket: UnixStream,
    shared: Arc<Shared>,
    process: Mutex<Option<BoundProcess>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    pending: HashMap<u64, Sender<Result<Answer, Failure>>>,
    exits: HashMap<i32, ProcessEnd>,
    /// Processes that already ran when this engine attached, by name.
    found: HashMap<String, i32>,
    gone: bool,
}

#[derive(Debug, Clone)]
pub struct Process {
    pid: i32,
    shared: Arc<Shared>,
}

impl Process {
    /// Returns the pid of the process on the host.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns how the process ended, or `None` while it runs.
    #[must_use]
    pub fn exited(&self) -> Option<ProcessEnd> {
        let state = lock(&self.shared.state);
        state.exits.get(&self.pid).copied().or(state.gone.then_some(ProcessEnd::GuardGone))
    }

    /// Waits until the process ends and returns how it ended; `None` if the deadline passed first.
    #[must_use]
    pub fn wait(&self, deadline: Duration) -> Option<ProcessEnd> {
        let until = Instant::now() + deadline;
        let mut state = lock(&self.shared.state);
        loop {
            if let Some(end) = state.exits.get(&self.pid).copied().or(state.gone.then_some(ProcessEnd::GuardGone)) {
                return Some(end);
            }
            let left = until.checked_duration_since(Instant::now())?;
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Guard {
    /// Starts the guard of a slot and waits until the guard holds the slot; `waiting` is called once if another process holds it.
    /// `interrupted` is polled during the wait; true ends the wait.
    ///
    /// # Errors
    /// When another process keeps the slot, or leftovers of an earlier holder cannot be removed.
    pub fn start(
        slot: Slot,
        purpose: &str,
        wait: Wait,
        mut waiting: impl FnMut(&Holder) -> anyhow::Result<()>,
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Self> {
        let (ours, theirs) = UnixStream::pair().context("making a socket pair")?;
        let mut args =
            vec!["guard".to_owned(), "--slot".into(), slot.name().into(), "--purpose".into(), purpose.into()];
        if wait == Wait::Never {
            args.push("--no-wait".into());
        }
        let process = shell::spawn_engine(&args, theirs.into(), SOCKET_FD)?;
        let shared = Arc::new(Shared::default());
        let (opening, opened) = channel();
        let reader = ours.try_clone()?;
        let for_reader = Arc::clone(&shared);
        std::thread::Builder::new().name("guard".into()).spawn(move || read_messages(reader, &for_reader, &opening))?;
        let guard = Self { slot, socket: ours, shared, process: Mutex::new(Some(process)) };
        loop {
            match opened.recv_timeout(Duration::from_millis(50)) {
                Ok(Message::Held { failures }) if failures.is_empty() => return Ok(guard),
                Ok(Message::Held { failures }) => {
                    bail!(
                        "slot {} has leftovers of an earlier holder that cannot be removed:\n{}",
                        guard.slot.name(),
                        failures.join("\n")
                    );
                }
                Ok(Message::Refused { reason }) => {
                    let help = format!(
                        "wait for that process, end it, remove a kept lab with `cargo xtask down --slot {}`, or use another --slot N",
                        guard.slot.name()
                    );
                    return Err(Error::Host { problem: reason, help }.into());
                }
                Ok(Message::Failed { reason }) => {
                    bail!("the guard of slot {} could not start: {reason}", guard.slot.name())
                }
                Ok(Message::Waiting { holder }) => waiting(&holder)?,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if interrupted() => return Err(Error::Interrupted.into()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = guard.reap();
                    let _ = reclaim(&guard.slot); // what it had begun; the error below is the one to tell
                    bail!(
                        "the guard of slot {} ended with status {status:?} before it held the slot",
                        guard.slot.name()
                    );
                }
            }
        }
    }

    /// Attaches to the guard of a kept lab, whose engine has ended. The lab stays when the returned guard is dropped.
    ///
    /// # Errors
    /// [`Error::Host`] when no lab is kept in the slot, or its guard belongs to another build of this engine.
    pub fn attach(slot: Slot) -> anyhow::Result<Self> {
        let name = slot.name().to_owned();
        let ours = match UnixStream::connect(slot.guard_socket()) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Err(Error::Host {
                    problem: format!("no lab is kept in slot {name}"),
                    help: "`cargo xtask up TEMPLATE` makes a kept lab, and `cargo xtask ps` lists the existing labs"
                        .into(),
                }
                .into());
            }
            other => other.with_context(|| format!("connecting to the guard of slot {name}"))?,
        };
        let shared = Arc::new(Shared::default());
        let (opening, opened) = channel();
        let (reader, for_reader) = (ours.try_clone()?, Arc::clone(&shared));
        std::thread::Builder::new().name("guard".into()).spawn(move || read_messages(reader, &for_reader, &opening))?;
        let guard = Self { slot, socket: ours, shared, process: Mutex::new(None) };
        match opened.recv_timeout(ATTACH_DEADLINE.scaled()) {
            Ok(Message::Attached { processes }) => {
                let mut state = lock(&guard.shared.state);
                let ended = processes.values().filter_map(|started| Some((started.pid, started.end?)));
                state.exits.extend(ended);
                state.found = processes.into_iter().map(|(name, started)| (name, started.pid)).collect();
                drop(state);
                Ok(guard)
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Err(Error::Host {
                problem: format!("the guard of slot {name} uses another version of the protocol: another build of this engine started it"),
                help: format!("take the lab down with `cargo xtask down --slot {name}`, and make it anew"),
            }
            .into()),
            Err(RecvTimeoutError::Timeout) => Err(Error::Host {
                problem: format!("the guard of slot {name} did not answer within {ATTACH_DEADLINE}"),
                help: format!("`cargo xtask down --slot {name}` ends it, and takes its lab down"),
            }
            .into()),
        }
    }

    /// Returns a process that an earlier engine started through the guard under this name; the last one if there were several.
    #[must_use]
    pub fn found(&self, name: &str) -> Option<Process> {
        let pid = lock(&self.shared.state).found.get(name).copied()?;
        Some(Process { pid, shared: Arc::clone(&self.shared) })
    }

    #[must_use]
    pub fn is_gone(&self) -> bool {
        lock(&self.shared.state).gone
    }

    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        let started = lock(&self.process).as_ref().map(BoundProcess::pid);
        // That of another engine is whoever listens at its socket.
        started.or_else(|| Some(getsockopt(&self.socket, PeerCredentials).ok()?.pid()).filter(|pid| *pid > 0))
    }

    /// Creates files, mounts and other resources on the host in this order. The undo step of each is in the ledger before it is created.
    ///
    /// # Errors
    /// For the first thing that cannot be made; the things made before it stay until the guard goes down.
    pub fn make(&self, things: Vec<Make>) -> anyhow::Result<()> {
        self.ask(Command::Make(things)).map(drop)
    }

    /// Creates a network namespace, configured by lines for `ip -batch`; returns a path that leads to it.
    pub fn make_network(&self, ip_batch: Text<IpBatch>) -> anyhow::Result<PathBuf> {
        match self.ask(Command::Network { ip_batch })? {
            Answer::Network { path } => Ok(path),
            other => bail!("the guard answered {other:?} to a request for a network"),
        }
    }

    /// Starts a process that dies with the guard.
    pub fn spawn(&self, spawn: Spawn) -> anyhow::Result<Process> {
        match self.ask(Command::Spawn(spawn))? {
            Answer::Spawned { pid } => Ok(Process { pid, shared: Arc::clone(&self.shared) }),
            other => bail!("the guard answered {other:?} to a request for a process"),
        }
    }

    /// Writes undo steps into the ledger for a change that the caller makes next.
    ///
    /// # Errors
    /// When the ledger cannot be written: then the caller must not make the change.
    pub fn note(&self, steps: Vec<Undo>) -> anyhow::Result<()> {
        self.ask(Command::Note(steps)).map(drop)
    }

    /// Executes undo steps now, in order, in the guard's mount namespace, and removes them from the ledger.
    ///
    /// # Errors
    /// For the first step that fails; that step and all later ones stay in the ledger.
    pub fn undo(&self, steps: Vec<Undo>) -> anyhow::Result<()> {
        self.ask(Command::Undo(steps)).map(drop)
    }

    /// Undoes all steps of the ledger, and keeps the slot.
    ///
    /// # Errors
    /// All failed undo steps, in one error.
    pub fn reset(&self) -> anyhow::Result<()> {
        match self.ask(Command::Reset) {
            Ok(answer) => undone(answer),
            Err(error) => self.reclaim_if_dead(error),
        }
    }

    /// Keeps the lab without this engine, until SIGTERM tells the guard to go down, or the lab's lifetime is over. A further call restarts
    /// the lifetime.
    pub fn keep(&self, stay: Stay) -> anyhow::Result<()> {
        self.ask(Command::Keep(stay))?;
        if let Some(process) = lock(&self.process).take() {
            process.let_go();
        }
        Ok(())
    }

    /// Undoes all steps of the ledger and ends the guard.
    ///
    /// # Errors
    /// All failed undo steps, in one error.
    pub fn down(&self) -> anyhow::Result<()> {
        match self.ask(Command::Down) {
            Ok(answer) => {
                self.reap();
                undone(answer)
            }
            Err(error) => self.reclaim_if_dead(error),
        }
    }

    fn reclaim_if_dead(&self, error: anyhow::Error) -> anyhow::Result<()> {
        if !self.is_gone_within(GONE_DEADLINE.scaled()) {
            return Err(error);
        }
        self.reap();
        match reclaim(&self.slot)? {
            Reclaimed::Cleaned { failures, .. } if failures.is_empty() => Ok(()),
            Reclaimed::Cleaned { failures, .. } => bail!("slot {}: {}", self.slot.name(), failures.join("\n")),
            Reclaimed::InUse => Ok(()), // another run took the slot, and takes back what it finds
        }
    }

    /// Tells whether the guard has ended; waits for that until the deadline, because it is noticed a moment after a request has failed.
    fn is_gone_within(&self, deadline: Duration) -> bool {
        let state = lock(&self.shared.state);
        let waited = self.shared.changed.wait_timeout_while(state, deadline, |state| !state.gone);
        waited.unwrap_or_else(PoisonError::into_inner).0.gone
    }

    /// Waits until the guard's process has ended, after it was told to end. A stopped process is continued first.
    fn reap(&self) -> Option<ExitStatus> {
        let child = lock(&self.process).as_ref().map(BoundProcess::pid);
        if let Some(pid) = child {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT); // it is a child that nobody else reaps
        }
        lock(&self.process).take().and_then(|process| process.wait().ok())
    }

    fn ask(&self, command: Command) -> anyhow::Result<Answer> {
        let (sender, receiver): (_, Receiver<Result<Answer, Failure>>) = channel();
        let request = {
            let mut state = lock(&self.shared.state);
            if state.gone {
                bail!("the guard of slot {} is gone", self.slot.name());
            }
            state.next_id += 1;
            let id = state.next_id;
            state.pending.insert(id, sender);
            let mut line = serde_json::to_vec(&Request { id, command })?;
            line.push(b'\n');
            (&self.socket).write_all(&line).map(|()| id) // under the lock: lines of two threads must not mix
        };
        let id = request.with_context(|| format!("sending a request to the guard of slot {}", self.slot.name()))?;
        match receiver.recv_timeout(ANSWER_DEADLINE.scaled()) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => Err(failure.error()),
            Err(RecvTimeoutError::Disconnected) => bail!("the guard of slot {} is gone", self.slot.name()),
            Err(RecvTimeoutError::Timeout) => {
                lock(&self.shared.state).pending.remove(&id);
                bail!("the guard of slot {} did not answer within {ANSWER_DEADLINE}", self.slot.name())
            }
        }
    }
}

impl Drop for Guard {
    /// Closes the socket, so that the guard takes its lab down, and waits until the guard has ended. If the guard keeps its lab or has
    /// ended, only the socket is closed.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        self.reap();
    }
}

fn undone(answer: Answer) -> anyhow::Result<()> {
    match answer {
        Answer::Undone { failures } if failures.is_empty() => Ok(()),
        Answer::Undone { failures } => bail!("not everything could be removed:\n{}", failures.join("\n")),
        other => bail!("the guard answered {other:?} to a request to take everything back"),
    }
}

fn read_messages(socket: UnixStream, shared: &Shared, opening: &Sender<Message>) {
    for line in BufReader::new(socket).lines() {
        let Ok(line) = line else { break };
        let Ok(message) = serde_json::from_str(&line) else { break };
        let mut state = lock(&shared.state);
        match message {
            Message::Answer { id, result } => {
                if let Ok(Answer::Spawned { pid }) = &result {
                    state.exits.remove(pid); // of an earlier process that had this number
                }
                if let Some(sender) = state.pending.remove(&id) {
                    let _ = sender.send(result); // the asker may have given up
                }
            }
            Message::Exited { pid, end } => {
                state.exits.insert(pid, end);
                shared.changed.notify_all();
            }
            other => {
                let _ = opening.send(other); // heard until the slot is held
            }
        }
    }
    let mut state = lock(&shared.state);
    state.gone = true;
    state.pending.clear();
    shared.changed.notify_all();
}

/// Locks a mutex even if it is poisoned: a panic in another thread leaves no change half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
