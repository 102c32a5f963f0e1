//! The guard's own process: one thread, one loop over the engine's socket and its children's ends.
//!
//! It is the parent of what it spawns (parent-death signals follow the thread), lives in a mount namespace of its own
//! so that mounts go with it, and holds the slot's lock.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid, setsid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use super::ledger::Ledger;
use super::protocol::{Answer, Command, Make, Message, Owner, Request, Spawn, Wait};
use super::slot::{Lock, Slot};
use crate::host::cgroup::Tree;
use crate::host::netns::NetworkNamespace;
use crate::host::undo::Undo;
use crate::host::{ext4, mount, rooted, shell};

/// The file descriptor on which the engine hands the guard its end of the socket pair.
pub(super) const SOCKET_FD: i32 = 3;

/// How often a guard looks whether the slot has become free: flock has no wait that also watches a socket.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// How often it tries before it says that the slot is taken.
const TRIES_WITHOUT_WAIT: u32 = 4;

/// Runs the guard of a slot until it is told to end, or the engine is gone. Called by the hidden verb only.
///
/// # Errors
/// When it cannot take the slot, or something could not be taken back.
pub fn serve(slot_name: &str, purpose: &str, wait: Wait) -> anyhow::Result<()> {
    // SAFETY: the engine passes the socket at this number, and nothing else in this process has taken it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) });
    // Handed over open; no process that the guard starts may hold the engine's line.
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("keeping the socket to this process")?;
    let mut link = Link { socket, input: Vec::new(), alive: true };
    match prepare(slot_name, purpose, wait, &mut link) {
        Ok(Some(prepared)) => prepared.serve(link),
        Ok(None) => Ok(()),
        Err(error) => {
            link.send(&Message::Failed { reason: format!("{error:#}") });
            Err(error)
        }
    }
}

/// A slot that is held, before the first request.
struct Prepared {
    slot: Slot,
    owner: Owner,
    lock: Lock,
    ledger: Ledger,
    signals: Signals,
    failures: Vec<String>,
}

fn prepare(slot_name: &str, purpose: &str, wait: Wait, link: &mut Link) -> anyhow::Result<Option<Prepared>> {
    let engine_pid = getppid().as_raw();
    let _ = setsid(); // out of the terminal's reach; fails where it leads a session already
    prctl::set_child_subreaper(true).context("becoming the reaper of orphans")?;
    let signals = Signals::listen()?;
    mount::leave_the_hosts_namespace()?;
    let slot = Slot::named(slot_name);
    let Some(lock) = take_lock(&slot, wait, link)? else { return Ok(None) };
    let owner =
        Owner { guard_pid: std::process::id().cast_signed(), engine_pid, purpose: purpose.to_owned(), kept: false };
    let mut ledger = Ledger::open(&slot)?;
    let failures = ledger.undo_all(|| ());
    write_owner(&slot, &owner)?;
    Ok(Some(Prepared { slot, owner, lock, ledger, signals, failures }))
}

impl Prepared {
    fn serve(self, mut link: Link) -> anyhow::Result<()> {
        link.send(&Message::Held { failures: self.failures });
        let mut guard = GuardProcess {
            slot: self.slot,
            owner: self.owner,
            ledger: self.ledger,
            link,
            signals: self.signals,
            networks: Vec::new(),
            children: Vec::new(),
            shared: Vec::new(),
            ending: None,
        };
        guard.run();
        guard.end(self.lock)
    }
}

fn take_lock(slot: &Slot, wait: Wait, link: &mut Link) -> anyhow::Result<Option<Lock>> {
    let mut tries = 0_u32;
    loop {
        if let Some(lock) = slot.try_lock()? {
            return Ok(Some(lock));
        }
        tries += 1;
        if wait == Wait::Never && tries >= TRIES_WITHOUT_WAIT {
            let holder = slot.owner().map_or_else(|| "another process".into(), |owner| owner.to_string());
            link.send(&Message::Refused { reason: format!("slot {} is held by {holder}", slot.name()) });
            return Ok(None);
        }
        // Not at the first try: whoever only looks at the slot has it for a moment.
        if wait == Wait::UntilFree && tries == TRIES_WITHOUT_WAIT {
            link.send(&Message::Waiting { holder: slot.owner() });
        }
        let mut fds = [PollFd::new(link.socket.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(LOCK_POLL).unwrap_or(PollTimeout::ZERO);
        if poll(&mut fds, timeout)? > 0 {
            return Ok(None); // the engine gave up: it sends nothing before the slot is held
        }
    }
}

fn write_owner(slot: &Slot, owner: &Owner) -> anyhow::Result<()> {
    let path = slot.dir().join("owner.json");
    let new = slot.dir().join("owner.json.new");
    std::fs::write(&new, serde_json::to_string(owner)?).with_context(|| format!("writing {}", new.display()))?;
    std::fs::rename(&new, &path).with_context(|| format!("writing {}", path.display()))
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.kept {
            write!(f, "{}, kept for a look (guard {})", self.purpose, self.guard_pid)
        } else {
            write!(f, "{} (process {})", self.purpose, self.engine_pid)
        }
    }
}

/// The engine's end of the line, and what of a message has arrived.
struct Link {
    socket: UnixStream,
    input: Vec<u8>,
    alive: bool,
}

impl Link {
    fn send(&mut self, message: &Message) {
        let Ok(mut line) = serde_json::to_vec(message) else { return };
        line.push(b'\n');
        if self.socket.write_all(&line).is_err() {
            self.alive = false;
        }
    }

    /// Reads what there is; whole lines come back.
    fn receive(&mut self) -> Vec<Request> {
        let mut buffer = [0; 65536];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.alive = false,
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.alive = false,
        }
        let mut requests = Vec::new();
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            match serde_json::from_slice(&line) {
                Ok(request) => requests.push(request),
                Err(_) => self.alive = false, // the engine never writes such a line: treat it as gone
            }
        }
        requests
    }
}

/// Signals as bytes on a socket. They are handled, not blocked: the library that starts short commands hears of their
/// ends by SIGCHLD too.
struct Signals {
    arrived: UnixStream,
    told_to_end: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let (arrived, writer) = UnixStream::pair().context("making a socket pair")?;
        arrived.set_nonblocking(true)?;
        let told_to_end = Arc::new(AtomicBool::new(false));
        flag::register(SIGTERM, Arc::clone(&told_to_end))?;
        // SIGINT and SIGHUP are the engine's affair: handled, so that they do not end the guard.
        for signal in [SIGTERM, SIGCHLD, SIGINT, SIGHUP] {
            low_level::pipe::register(signal, writer.try_clone()?).context("listening to signals")?;
        }
        Ok(Self { arrived, told_to_end })
    }

    fn drain(&mut self) {
        let mut buffer = [0; 256];
        while matches!(self.arrived.read(&mut buffer), Ok(count) if count > 0) {}
    }
}

/// Why the loop ends.
enum Ending {
    /// This request asked for it and waits for the answer.
    Asked(u64),
    /// The engine is gone, or a signal came.
    Alone,
}

struct GuardProcess {
    slot: Slot,
    owner: Owner,
    ledger: Ledger,
    link: Link,
    signals: Signals,
    networks: Vec<NetworkNamespace>,
    children: Vec<i32>,
    shared: Vec<Flock<std::fs::File>>,
    ending: Option<Ending>,
}

impl GuardProcess {
    fn run(&mut self) {
        while self.ending.is_none() {
            let mut fds = vec![PollFd::new(self.signals.arrived.as_fd(), PollFlags::POLLIN)];
            if self.link.alive {
                fds.push(PollFd::new(self.link.socket.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break,
            }
            let ready = |fd: Option<&PollFd>| fd.and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
            let (signalled, spoken) = (ready(fds.first()), ready(fds.get(1)));
            if signalled {
                self.take_signals();
            }
            if spoken {
                for request in self.link.receive() {
                    self.answer(request);
                }
                if !self.link.alive && !self.owner.kept && self.ending.is_none() {
                    self.ending = Some(Ending::Alone);
                }
            }
        }
    }

    fn take_signals(&mut self) {
        self.signals.drain();
        if self.signals.told_to_end.load(Ordering::SeqCst) {
            self.ending = Some(Ending::Alone);
        }
        self.tell_of(reap());
    }

    /// Tells the engine which of the processes that it asked for have ended.
    fn tell_of(&mut self, ended: Vec<(i32, i32)>) {
        for (pid, status) in ended {
            if let Some(place) = self.children.iter().position(|child| *child == pid) {
                self.children.swap_remove(place);
                if self.link.alive {
                    self.link.send(&Message::Exited { pid, status });
                }
            }
        }
    }

    fn answer(&mut self, request: Request) {
        let id = request.id;
        if matches!(request.command, Command::Down) {
            self.ending = Some(Ending::Asked(id));
            return;
        }
        let result = self.carry_out(request.command).map_err(|error| format!("{error:#}"));
        self.link.send(&Message::Answer { id, result });
    }

    fn carry_out(&mut self, command: Command) -> anyhow::Result<Answer> {
        match command {
            Command::Make(things) => {
                for thing in &things {
                    self.make(thing)?;
                }
                Ok(Answer::Done)
            }
            Command::Network { ip_batch } => {
                let network = NetworkNamespace::make()?;
                network.ip_batch(&ip_batch)?;
                let path = network.path();
                self.networks.push(network);
                Ok(Answer::Network { path })
            }
            Command::Spawn(spawn) => self.spawn(&spawn),
            Command::Note(steps) => {
                for step in steps {
                    self.ledger.write(step)?;
                }
                Ok(Answer::Done)
            }
            Command::Undo(steps) => {
                let mut ended = Vec::new();
                let undone = self.ledger.undo(&steps, || ended.extend(reap()));
                self.tell_of(ended);
                undone.map(|()| Answer::Done)
            }
            Command::Reset => Ok(Answer::Undone { failures: self.take_back() }),
            Command::Keep => {
                self.owner.kept = true;
                write_owner(&self.slot, &self.owner)?;
                Ok(Answer::Done)
            }
            Command::Down => Ok(Answer::Done), // answered at the end, see `end`
        }
    }

    fn make(&mut self, thing: &Make) -> anyhow::Result<()> {
        match thing {
            Make::Dir { path, mode, owner } => {
                if !path.exists() {
                    self.ledger.write(Undo::RemoveTree { path: path.clone() })?;
                    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
                }
                set_rights(path, *mode, *owner)
            }
            Make::File { path, content, mode, owner } => {
                std::fs::write(path, content).with_context(|| format!("writing {}", path.display()))?;
                set_rights(path, *mode, *owner)
            }
            Make::Share { path } => {
                let folder = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
                let lock = Flock::lock(folder, FlockArg::LockShared).map_err(|(_, error)| error);
                self.shared.push(lock.with_context(|| format!("locking {}", path.display()))?);
                Ok(())
            }
            Make::FileInRoot { root, path, content, mode, owner } => {
                rooted::write(root, path, content.as_bytes(), *mode, *owner)
            }
            Make::Tmpfs { path, size_bytes, mode, owner } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::tmpfs(path, *size_bytes, *mode, *owner)
            }
            Make::Overlay { path, lowers, upper, work } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::overlay(path, lowers, upper, work)
            }
            Make::Ext4 { image, size_bytes, path, owner } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                let file = std::fs::File::create(image).with_context(|| format!("making {}", image.display()))?;
                file.set_len(*size_bytes).with_context(|| format!("making {}", image.display()))?;
                let options = format!("root_owner={}:{},lazy_itable_init=1,lazy_journal_init=1", owner.0, owner.1);
                let mkfs = shell::Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-e", "remount-ro"]);
                mkfs.args(["-E", &options]).arg(image).run()?;
                shell::Command::new("mount")
                    .args(["-t", "ext4", "-o", "loop,nosuid,nodev"])
                    .arg(image)
                    .arg(path)
                    .run()?;
                Ok(())
            }
            Make::Ext4Anew { image, path } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::detach(path)?;
                ext4::check(image)?;
                ext4::mount_image(image, path)
            }
            Make::Copy { from, to } => {
                if from.is_dir() {
                    shell::Command::new("cp").arg("-a").arg("--").arg(from.join(".")).arg(to).run()?;
                    // On the device from the begin on: a device that fails later takes only what was written later.
                    let folder = std::fs::File::open(to).with_context(|| format!("opening {}", to.display()))?;
                    nix::unistd::syncfs(&folder).with_context(|| format!("syncing {}", to.display()))?;
                }
                Ok(())
            }
        }
    }

    fn spawn(&mut self, spawn: &Spawn) -> anyhow::Result<Answer> {
        self.ledger.write(Undo::KillCgroup { name: self.slot.cgroup() })?;
        let join = Tree::named(&format!("{}/{}", self.slot.cgroup(), spawn.name)).make()?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spawn.log)
            .with_context(|| format!("opening {}", spawn.log.display()))?;
        let pid = shell::spawn_bound(&spawn.argv, &spawn.environment, log, &join)
            .with_context(|| format!("starting {} ({})", spawn.name, spawn.argv.join(" ")))?;
        self.children.push(pid);
        Ok(Answer::Spawned { pid })
    }

    fn take_back(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        let failures = self.ledger.undo_all(|| ended.extend(reap()));
        self.tell_of(ended);
        self.children.clear();
        self.networks.clear();
        self.shared.clear();
        failures
    }

    fn end(mut self, lock: Lock) -> anyhow::Result<()> {
        let mut failures = self.take_back();
        if failures.is_empty() {
            failures.extend(self.slot.remove(lock).err().map(|error| format!("{error:#}")));
        }
        if let Some(Ending::Asked(id)) = self.ending {
            self.link.send(&Message::Answer { id, result: Ok(Answer::Undone { failures: failures.clone() }) });
        }
        if failures.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(failures.join("\n"))) }
    }
}

fn set_rights(path: &Path, mode: u32, owner: (u32, u32)) -> anyhow::Result<()> {
    chown(path, Some(owner.0), Some(owner.1)).with_context(|| format!("giving {} its owner", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("giving {} its mode", path.display()))
}

/// Collects every child that has ended: pid and status as a shell gives it.
fn reap() -> Vec<(i32, i32)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => ended.push((pid.as_raw(), status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid.as_raw(), 128 + signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}
