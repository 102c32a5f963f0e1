//! Process of a guard: one thread with one loop over the engines' sockets and its children's ends.
//! It is the parent of the processes that it starts (parent-death signals follow the thread), lives in a mount namespace of its own so that
//! its mounts end with it, and holds the slot's lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, Flock, FlockArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid, setsid};

use super::holder::{Owner, since_boot};
use super::ledger::Ledger;
use crate::error::HostCause;
use crate::host::cgroup::Tree;
use crate::host::crash_point;
use crate::host::disk::container_fs;
use crate::host::disk::ext4;
use crate::host::disk::marked::{self, Mark};
use crate::host::disk::mount;
use crate::host::exec::bounded_log::PipedLog;
use crate::host::exec::shell;
use crate::host::network::netns::NetworkNamespace;
use crate::host::patience::Deadline;
use crate::host::seccomp::{Filter, Occasion};
use crate::host::syntax::{IpBatch, Text};
use crate::host::undo::Undo;

use super::link::{Link, Side};
use super::protocol::{Answer, Command, Failure, Make, Message, ProcessEnd, Request, Spawn, Started, Stay, Wait};
use super::shown::ShownTrees;
use super::signals::{Signals, Termination};
use super::slot::{LEDGER, Lock, Slot, remove_marked};

/// File descriptor at which the engine passes the guard its end of the socket pair.
pub(super) const SOCKET_FD: i32 = 3;

/// Interval at which a guard tries to take the slot's lock: flock has no wait that also watches a socket.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Number of attempts after which a guard that must not wait reports that the slot is taken.
const TRIES_WITHOUT_WAIT: u32 = 4;

/// Runs the guard of a slot until it is told to end, or its engine is gone. Called only by the hidden verb.
pub fn serve(slot_name: &str, purpose: &str, wait: Wait) -> anyhow::Result<()> {
    // SAFETY: the engine passes the socket at this number, and nothing else in this process has taken it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(SOCKET_FD) });
    // Handed over open; no process that the guard starts may hold the engine's line.
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("setting close-on-exec on the engine's socket")?;
    let mut link = Link::new(socket, Side::Engine);
    match prepare(slot_name, purpose, wait, &mut link) {
        Ok(Some(prepared)) => prepared.serve(link),
        Ok(None) => Ok(()),
        Err(error) => {
            link.send(&Message::Failed { reason: format!("{error:#}") });
            Err(error)
        }
    }
}

/// Guard that holds its slot and has not served a request yet.
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
    prctl::set_child_subreaper(true).context("becoming the subreaper of orphaned processes")?;
    let signals = Signals::listen()?;
    mount::leave_the_hosts_namespace()?;
    let slot = Slot::named(slot_name);
    crash_point::arm(engine_pid, slot.name(), &slot.cgroup());
    let Some(lock) = take_lock(&slot, wait, link)? else { return Ok(None) };
    crash_point::reach("locked", "");
    let owner = Owner {
        guard_pid: std::process::id().cast_signed(),
        engine_pid,
        purpose: purpose.to_owned(),
        kept: false,
        goes_at_boot_ms: None,
    };
    let mut ledger = Ledger::open(&slot)?;
    let mut failures = ledger.undo_all(|| ());
    failures.extend(remove_marked(slot.name()).1);
    if failures.is_empty() {
        slot.clear(&[LEDGER])?; // such as the socket of a guard that was killed
    }
    crash_point::reach("reclaimed", "");
    write_owner(&slot, &owner)?;
    crash_point::reach("owned", "");
    Ok(Some(Prepared { slot, owner, lock, ledger, signals, failures }))
}

impl Prepared {
    fn serve(self, mut link: Link) -> anyhow::Result<()> {
        link.send(&Message::Held { failures: self.failures });
        let mut guard = GuardProcess {
            slot: self.slot,
            owner: self.owner,
            ledger: self.ledger,
            links: vec![link],
            attach_socket: None,
            signals: self.signals,
            networks: Vec::new(),
            shown: ShownTrees::default(),
            processes: BTreeMap::new(),
            logs: Vec::new(),
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
            let Some(holder) = slot.holder()? else { continue };
            link.send(&Message::Refused { reason: format!("slot {} is held by {holder}", slot.name()) });
            return Ok(None);
        }
        // Not at the first try: whoever only looks at the slot has it for a moment.
        if wait == Wait::UntilFree
            && tries == TRIES_WITHOUT_WAIT
            && let Some(holder) = slot.holder()?
        {
            link.send(&Message::Waiting { holder });
        }
        let mut fds = [PollFd::new(link.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(LOCK_POLL).unwrap_or(PollTimeout::ZERO);
        if poll(&mut fds, timeout)? > 0 {
            return Ok(None); // the engine gave up: it sends nothing before the slot is held
        }
    }
}

fn write_owner(slot: &Slot, owner: &Owner) -> anyhow::Result<()> {
    let path = slot.dir().join("owner.json");
    let new = slot.write("owner.json.new", serde_json::to_string(owner)?.as_bytes())?;
    crash_point::reach("owner aside", "");
    std::fs::rename(&new, &path).with_context(|| format!("writing {}", path.display()))
}

enum Ending {
    /// Request to end, from the link at this index; it is answered when everything is taken down.
    Asked { link: usize, id: u64 },
    /// End without a request: the engine is gone, a signal came, or the lifetime of the kept lab is over.
    Alone,
}

struct GuardProcess {
    slot: Slot,
    owner: Owner,
    ledger: Ledger,
    links: Vec<Link>,
    /// Socket at which further engines attach, once the lab is kept.
    attach_socket: Option<AttachSocket>,
    signals: Signals,
    networks: Vec<NetworkNamespace>,
    shown: ShownTrees,
    /// Started processes by name; a later process replaces an earlier one of the same name.
    processes: BTreeMap<String, Started>,
    /// Logs of processes, until no process can write to them any more.
    logs: Vec<PipedLog>,
    shared: Vec<Flock<std::fs::File>>,
    ending: Option<Ending>,
}

impl GuardProcess {
    fn run(&mut self) {
        while self.ending.is_none() {
            // Whether reading showed it or writing: the engine may be gone before the guard has said its first word.
            let is_lost = |link: &Link| !link.is_alive() && link.side() == Side::Engine;
            if !self.owner.kept && self.links.iter().any(is_lost) {
                self.ending = Some(Ending::Alone);
                break;
            }
            self.links.retain(Link::is_alive);
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.links.iter().map(|link| PollFd::new(link.as_fd(), PollFlags::POLLIN)));
            let of_logs = fds.len();
            fds.extend(self.logs.iter().map(|log| PollFd::new(log.as_fd(), PollFlags::POLLIN)));
            let of_attach_socket = fds.len();
            fds.extend(
                self.attach_socket.as_ref().map(|attach_socket| PollFd::new(attach_socket.as_fd(), PollFlags::POLLIN)),
            );
            match poll(&mut fds, self.timeout()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break,
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
            // Before the signals: what a process wrote before its end is in its log when that is told.
            if ready[of_logs..of_attach_socket].contains(&true) {
                self.take_logs();
            }
            if ready[0] {
                self.take_signals();
            }
            for place in 0..self.links.len() {
                if ready[1 + place] && self.ending.is_none() {
                    self.listen_to(place);
                }
            }
            if self.attach_socket.is_some() && ready.get(of_attach_socket) == Some(&true) {
                self.accept();
            }
            if self.owner.time_left().is_some_and(|left| left.is_zero()) {
                self.ending.get_or_insert(Ending::Alone);
            }
        }
    }

    /// Returns the time until a kept lab's lifetime is over, at most a minute: poll's own clock stands still while the host sleeps.
    fn timeout(&self) -> PollTimeout {
        const LONGEST: Duration = Duration::from_secs(60);
        let left = self.owner.time_left().map(|left| left.min(LONGEST) + Duration::from_millis(1));
        left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))
    }

    fn listen_to(&mut self, place: usize) {
        for request in self.links[place].receive() {
            self.answer(place, request);
        }
    }

    fn accept(&mut self) {
        if let Some(mut link) = self.attach_socket.as_ref().and_then(AttachSocket::accept) {
            link.send(&Message::Attached { processes: self.processes.clone() });
            self.links.push(link);
        }
    }

    fn take_signals(&mut self) {
        if self.signals.drain() == Termination::Requested {
            self.ending = Some(Ending::Alone);
        }
        self.tell_of(reap());
    }

    fn take_logs(&mut self) {
        self.logs.retain_mut(PipedLog::take);
    }

    /// Tells all connected engines which started processes have ended.
    fn tell_of(&mut self, ended: Vec<(i32, ProcessEnd)>) {
        if !ended.is_empty() {
            self.take_logs();
        }
        for (pid, end) in ended {
            let running = |process: &&mut Started| process.pid == pid && process.end.is_none();
            if let Some(process) = self.processes.values_mut().find(running) {
                process.end = Some(end);
                for link in &mut self.links {
                    link.send(&Message::Exited { pid, end });
                }
            }
        }
    }

    fn answer(&mut self, place: usize, request: Request) {
        let id = request.id;
        if matches!(request.command, Command::Down) {
            self.ending = Some(Ending::Asked { link: place, id });
            return;
        }
        let result = self.carry_out(request.command).map_err(|error| Failure::of(&error));
        self.links[place].send(&Message::Answer { id, result });
    }

    fn carry_out(&mut self, command: Command) -> anyhow::Result<Answer> {
        match command {
            Command::Make(things) => {
                for thing in &things {
                    self.make(thing).map_err(|error| of_full_host(thing, error))?;
                    crash_point::reach("made", thing.kind());
                }
                Ok(Answer::Done)
            }
            Command::Network { ip_batch } => {
                // Once more before no further case is tried because of it: another program may have been in the way.
                let network = make_network(&ip_batch).or_else(|_| make_network(&ip_batch));
                let network = network.map_err(|error| HostCause::Network.error(&error))?;
                let path = network.path();
                self.networks.push(network);
                crash_point::reach("made network", "");
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
            Command::Keep(stay) => self.keep(stay).map(|()| Answer::Done),
            Command::Down => Ok(Answer::Done), // answered at the end, see `end`
        }
    }

    /// Keeps the lab without its engine from now on, and lets other engines attach.
    fn keep(&mut self, stay: Stay) -> anyhow::Result<()> {
        if self.attach_socket.is_none() {
            self.attach_socket = Some(AttachSocket::open(&self.slot)?);
            crash_point::reach("attach socket open", "");
        }
        let goes_at = match stay {
            Stay::UntilTold => None,
            Stay::For(time) => Some(since_boot().saturating_add(time)),
        };
        self.owner.kept = true;
        self.owner.goes_at_boot_ms = goes_at.map(|at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
        write_owner(&self.slot, &self.owner)
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
            Make::Marked { path, mode } => {
                let name = self.slot.name();
                marked::require_free(path, name)?;
                self.ledger.write(Undo::RemoveMarked { path: path.clone(), slot: name.to_owned() })?;
                marked::remove(path, name)?;
                marked::make(path, &Mark::of_slot(name), *mode, (0, 0))
            }
            Make::File { path, content, mode, owner } => {
                // Nobody else may open it before it has its rights.
                let opened = File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
                let written = opened.and_then(|mut file| file.write_all(content.as_bytes()));
                written.with_context(|| format!("writing {}", path.display()))?;
                set_rights(path, *mode, *owner)
            }
            Make::Share { path } => {
                let folder = File::open(path).with_context(|| format!("opening {}", path.display()))?;
                let lock = Flock::lock(folder, FlockArg::LockShared).map_err(|(_, error)| error);
                self.shared.push(lock.with_context(|| format!("locking {}", path.display()))?);
                Ok(())
            }
            Make::FileInRoot { root, path, content, mode, owner } => {
                container_fs::write(root, path, content.as_bytes(), *mode, *owner)
            }
            Make::Proc { path } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::proc(path)
            }
            Make::Tmpfs { path, size_bytes, mode, owner } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::tmpfs(path, *size_bytes, *mode, *owner)
            }
            Make::Overlay { path, lowers, upper, work } => {
                let folder = self.slot.dir().join("shown");
                let lowers = lowers.iter().map(|lower| self.shown.place_of(lower, &folder, &mut self.ledger));
                let lowers = lowers.collect::<anyhow::Result<Vec<_>>>()?;
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::overlay(path, &lowers, upper, work)
            }
            Make::Ext4 { image, size_bytes, path, owner } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(image);
                let file = file.with_context(|| format!("making {}", image.display()))?;
                file.set_len(*size_bytes).with_context(|| format!("making {}", image.display()))?;
                let options = format!("root_owner={}:{},lazy_itable_init=1,lazy_journal_init=1", owner.0, owner.1);
                let mkfs = shell::Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-e", "remount-ro"]);
                mkfs.args(["-E", &options]).arg(image).run()?;
                shell::Command::new("mount")
                    .args(["-t", "ext4", "-o", "loop,nosuid,nodev"])
                    .arg(image)
                    .arg(path)
                    .run()
                    .map_err(|error| ext4::problem().map_or_else(|| error.into(), anyhow::Error::msg))
                    .with_context(|| format!("mounting the volume {}", path.display()))?;
                Ok(())
            }
            Make::Ext4Anew { image, path } => {
                self.ledger.write(Undo::Unmount { path: path.clone() })?;
                mount::detach(path)?;
                ext4::check(image)?;
                ext4::mount_image(image, path)
            }
            Make::Copy { root, path, to } => {
                if let Some(folder) = container_fs::folder(root, path)? {
                    // By the opened folder: its path could lead out of the container's root.
                    let from = format!("/proc/{}/fd/{}/.", std::process::id(), folder.as_raw_fd());
                    shell::Command::new("cp").args(["-a", "--", &from]).arg(to).run()?;
                    // On the device from the start on: a device that fails later takes only what was written later.
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
        crash_point::reach("made group", "");
        let (log, writer) = PipedLog::open(&spawn.log).with_context(|| format!("opening {}", spawn.log.display()))?;
        let filter = spawn.filtered.as_ref().and_then(|parts| Filter::of(parts, Occasion::Lxc));
        let pid = shell::spawn_bound(&spawn.argv, &spawn.environment, writer, Some(&join), filter)
            .with_context(|| format!("starting {} ({})", spawn.name, spawn.argv.join(" ")))?;
        self.logs.push(log);
        crash_point::reach("spawned", "");
        self.processes.insert(spawn.name.clone(), Started { pid, end: None });
        Ok(Answer::Spawned { pid })
    }

    fn take_back(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        let failures = self.ledger.undo_all(|| ended.extend(reap()));
        self.tell_of(ended);
        self.take_logs();
        self.logs.clear();
        self.processes.clear();
        self.networks.clear();
        self.shown.forget();
        self.shared.clear();
        failures
    }

    fn end(mut self, lock: Lock) -> anyhow::Result<()> {
        crash_point::reach("ending", "");
        let mut failures = self.take_back();
        // What an engine that was killed was just making stands in no ledger.
        failures.extend(remove_marked(self.slot.name()).1);
        if failures.is_empty() {
            failures.extend(self.slot.remove(lock).err().map(|error| format!("{error:#}")));
        }
        if let Some(Ending::Asked { link, id }) = self.ending {
            self.links[link].send(&Message::Answer { id, result: Ok(Answer::Undone { failures: failures.clone() }) });
        }
        if failures.is_empty() { Ok(()) } else { Err(anyhow::anyhow!(failures.join("\n"))) }
    }
}

fn make_network(ip_batch: &Text<IpBatch>) -> anyhow::Result<NetworkNamespace> {
    let network = NetworkNamespace::make()?;
    network.ip_batch(ip_batch)?;
    Ok(network)
}

/// Marks an error as a problem of the host if a resource of the engine could not be made because the host's disk is full. A full container
/// or volume is not a problem of the host.
fn of_full_host(thing: &Make, error: anyhow::Error) -> anyhow::Error {
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let kind = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        kind == Some(ErrorKind::StorageFull) || cause.downcast_ref() == Some(&Errno::ENOSPC)
    };
    let is_own = matches!(thing, Make::Dir { .. } | Make::Marked { .. } | Make::File { .. });
    if is_own && error.chain().any(is_full) { HostCause::Space.error(&error) } else { error }
}

fn set_rights(path: &Path, mode: u32, owner: (u32, u32)) -> anyhow::Result<()> {
    chown(path, Some(owner.0), Some(owner.1)).with_context(|| format!("setting the owner of {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the permissions of {}", path.display()))
}

/// Reaps all children that have ended.
fn reap() -> Vec<(i32, ProcessEnd)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) => ended.push((pid.as_raw(), ProcessEnd::Exited(status))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid.as_raw(), ProcessEnd::Signaled(signal as i32))),
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// Deadline for an attached engine to read a message: the guard is blocked meanwhile.
const WRITE_DEADLINE: Deadline = Deadline::from_secs(1);

/// Socket at which engines attach to a kept lab. It is in the slot's folder, for root alone, and is removed with that folder.
struct AttachSocket {
    listener: UnixListener,
}

impl AttachSocket {
    pub fn open(slot: &Slot) -> anyhow::Result<Self> {
        let path = slot.guard_socket();
        let open = || -> anyhow::Result<UnixListener> {
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        Ok(Self { listener: open().with_context(|| format!("making the guard's socket {}", path.display()))? })
    }

    /// Accepts a waiting connection; `None` if none is waiting.
    pub fn accept(&self) -> Option<Link> {
        let (socket, _) = self.listener.accept().ok()?;
        socket.set_nonblocking(false).ok()?;
        socket.set_write_timeout(Some(WRITE_DEADLINE.scaled())).ok()?;
        Some(Link::new(socket, Side::Visitor))
    }
}

impl AsFd for AttachSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
