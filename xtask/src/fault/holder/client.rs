//! Client of the process that holds the faults of a kept lab.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use e2e_contract::Fault;
use nix::fcntl::{Flock, FlockArg};

use super::protocol::{Ask, LiveFault, PROCESS, Reply, file, log, socket};
use crate::error::Error;
use crate::guard::{Guard, Slot, Spawn};
use crate::host::patience::{self, Deadline};

/// Deadline for a new holder's first answer.
const START_DEADLINE: Deadline = Deadline::from_secs(20);

/// Deadline for a fault to take effect, or to be gone: the slowest of the catalogue starts a container several times.
const ANSWER_DEADLINE: Deadline = Deadline::from_secs(600);

/// Deadline for a holder that was killed to be gone.
const END_DEADLINE: Deadline = Deadline::from_secs(2);

/// Interval between two attempts to reach the holder.
const POLL: Duration = Duration::from_millis(5);

/// Faults of the lab in a slot, as its holder has recorded them.
#[derive(Debug, Clone)]
pub struct LiveFaults {
    /// Active faults, in the order of their injection.
    pub on: Vec<LiveFault>,
    /// True if the process that holds the faults is running: without it none can be healed.
    pub held: bool,
}

impl LiveFaults {
    /// Reads the active faults of a slot; none where no fault was ever injected.
    #[must_use]
    pub fn of(slot: &Slot) -> Self {
        let read = || serde_json::from_slice(&std::fs::read(file(slot)).ok()?).ok();
        Self { on: read().unwrap_or_default(), held: UnixStream::connect(socket(slot)).is_ok() }
    }
}

#[derive(Debug)]
pub struct HeldFaults {
    slot: Slot,
}

impl HeldFaults {
    /// Has the guard of a kept lab start the holder of its faults, unless it runs already.
    ///
    /// # Errors
    /// [`Error::Host`] when no lab is kept in the slot, or the process that held its faults was killed.
    pub fn begin(slot: Slot) -> anyhow::Result<Self> {
        let guard = Guard::attach(slot.clone())?;
        // Of two that begin at once, the second finds what the first has started.
        let path = slot.dir().join("faults.lock");
        // Whoever may open it may hold the lock for ever.
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.with_context(|| format!("making {}", path.display()))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let faults = LiveFaults::of(&slot);
        if !faults.held {
            require_none_lost(&slot, &faults)?;
            start(&guard)?;
        }
        Ok(Self { slot })
    }

    /// Connects to the holder of a lab that has an active fault.
    ///
    /// # Errors
    /// [`Error::Usage`] when no fault is active; [`Error::Host`] when the process that held the faults was killed.
    pub fn find(slot: Slot) -> anyhow::Result<Self> {
        let faults = LiveFaults::of(&slot);
        if !faults.held {
            require_none_lost(&slot, &faults)?;
            return Err(Error::Usage(format!("no fault is on in slot {}", slot.name())).into());
        }
        Ok(Self { slot })
    }

    /// Injects a fault into a container; returns when its effect was verified.
    pub fn inject(&self, container: &str, fault: Fault) -> anyhow::Result<LiveFault> {
        match self.ask(&Ask::Inject { container: container.to_owned(), fault })? {
            Reply::Injected(live) => Ok(live),
            other => bail!("the process that holds the faults answered {other:?} to a request to inject a fault"),
        }
    }

    /// Heals a fault; returns the evidence of its recovery.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such fault; an error of the holder when the fault is still there.
    pub fn heal(&self, fault: u64) -> anyhow::Result<String> {
        match self.ask(&Ask::Heal { fault })? {
            Reply::Healed { evidence } => Ok(evidence),
            other => bail!("the process that holds the faults answered {other:?} to a request to heal a fault"),
        }
    }

    fn ask(&self, ask: &Ask) -> anyhow::Result<Reply> {
        let asking = || format!("asking the process that holds the faults of slot {}", self.slot.name());
        let line = match self.answer_to(ask) {
            Ok(line) if !line.is_empty() => line,
            nothing => {
                self.require_alive()?;
                let log = log(&self.slot);
                nothing.with_context(asking)?;
                bail!("{}: the process ended without an answer; {} may say why", asking(), log.display());
            }
        };
        match serde_json::from_str(&line).with_context(asking)? {
            Reply::Refused(refusal) => Err(refusal.into_error()),
            reply => Ok(reply),
        }
    }

    /// Sends a request to the holder and returns the line that it answers; empty where the holder ended first.
    fn answer_to(&self, ask: &Ask) -> anyhow::Result<String> {
        let mut socket = UnixStream::connect(socket(&self.slot))?;
        socket.set_read_timeout(Some(ANSWER_DEADLINE.scaled()))?;
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        socket.write_all(&line)?;
        let mut line = String::new();
        BufReader::new(socket).read_line(&mut line)?;
        Ok(line)
    }

    /// Fails where the holder was killed. Waits first, because the socket of a dying holder may still accept connections for a moment.
    fn require_alive(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < END_DEADLINE.scaled() {
            let faults = LiveFaults::of(&self.slot);
            if !faults.held {
                return Ok(require_none_lost(&self.slot, &faults)?);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

/// Fails where the holder was killed: the state of its faults is lost, and they are undone from the ledger at the lab's end.
fn require_none_lost(slot: &Slot, faults: &LiveFaults) -> Result<(), Error> {
    if faults.on.is_empty() {
        return Ok(());
    }
    let on: Vec<String> = faults
        .on
        .iter()
        .map(|live| format!("{} {} on {}", live.fault, live.description.name(), live.container))
        .collect();
    let name = slot.name();
    Err(Error::Host {
        problem: format!(
            "the process that held the faults of slot {name} was killed ({}): what it knew of them is lost, and they \
             cannot be healed one by one any more",
            on.join(", ")
        ),
        help: format!("`cargo xtask down --slot {name}` ends the lab, and its faults with it"),
    })
}

fn start(guard: &Guard) -> anyhow::Result<()> {
    let slot = guard.slot();
    // By this process: the file may be built anew meanwhile.
    let engine = format!("/proc/{}/exe", std::process::id());
    let argv = [engine.as_str(), "fault-holder", "--slot", slot.name()].map(str::to_owned).to_vec();
    let kept = ["PATH", "HOME", "E2E_STATE_DIR"];
    let kept = kept.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let environment = kept.chain([patience::variable()]).collect();
    let process = guard.spawn(Spawn { name: PROCESS.into(), argv, environment, log: log(slot), filtered: None })?;
    let begun = Instant::now();
    while UnixStream::connect(socket(slot)).is_err() {
        let said = || std::fs::read_to_string(log(slot)).unwrap_or_default().trim().to_owned();
        if let Some(end) = process.exited() {
            bail!("the process that holds faults {end}: {}", said());
        }
        if begun.elapsed() > START_DEADLINE.scaled() {
            bail!("the process that holds faults did not answer within {START_DEADLINE}: {}", said());
        }
        std::thread::sleep(POLL); // a socket that is not there yet gives no sign
    }
    Ok(())
}
