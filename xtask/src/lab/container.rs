//! Container of a lab: running, or taken down or frozen by a fault.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::config::Places;
use super::log_folder::tail_of;
use super::machine::Machine;
use crate::error::Error;
use crate::guard::{Process, ProcessEnd};
use crate::host::cgroup::{Group, Tree};
use crate::host::container::lxc;
use crate::host::exec::held_clock::HeldClock;
use crate::host::exec::process::{Running, kill_marked};

/// Maximum bytes at the end of a log that are searched for errors. LXC writes about 5 KiB at each start.
const LOG_BYTES_MAX: u64 = 32 << 10;

/// Container of a lab, from its first start on.
#[derive(Debug, Clone)]
pub struct Container {
    machine: Machine,
    places: Places,
    clock: Arc<HeldClock>,
    life: Arc<(Mutex<Life>, Condvar)>,
}

/// Mutable state of a container, shared by all handles of it.
#[derive(Debug)]
struct Life {
    /// `lxc-start` process of the container's last start.
    process: Process,
    /// Outage that keeps the container from running programs.
    outage: Option<Outage>,
    outage_since: Option<Instant>,
    /// Fault that may end process 1 now: if the container ends, that counts as an outage by this fault.
    claim: Option<String>,
    /// Number of programs that the engine runs in the container now.
    entered: usize,
    /// Number of starts that this engine has requested.
    starts: u64,
}

/// Counts one program as running in a container until it is dropped.
#[derive(Debug)]
pub(super) struct Entered<'a>(&'a Container);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.life().entered -= 1;
        self.0.life.1.notify_all();
    }
}

/// Intended state of a container in which it runs no programs: a fault has taken it down or frozen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub container: String,
    pub cause: String,
    /// True if the container is frozen; false if it is down and has no processes.
    pub frozen: bool,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container, cause, frozen } = self;
        write!(f, "{container} is {}: {cause}", if *frozen { "frozen" } else { "down" })
    }
}

impl From<Outage> for anyhow::Error {
    fn from(outage: Outage) -> Self {
        Error::Outage(outage.to_string()).into()
    }
}

impl Container {
    pub(super) fn new(machine: Machine, places: Places, process: Process, clock: Arc<HeldClock>) -> Self {
        let life = Life { process, outage: None, outage_since: None, claim: None, entered: 0, starts: 1 };
        Self { machine, places, clock, life: Arc::new((Mutex::new(life), Condvar::new())) }
    }

    /// Creates the handle of a container that another engine has started; its reboots so far are not counted.
    pub(super) fn found(machine: Machine, places: Places, process: Process, clock: Arc<HeldClock>) -> Self {
        let container = Self::new(machine, places, process, clock);
        let starts = container.starts();
        container.life().starts = starts;
        container
    }

    /// Returns the number of the container's starts so far, including reboots from inside.
    #[must_use]
    pub fn starts(&self) -> u64 {
        std::fs::metadata(self.places.starts()).map_or(0, |metadata| metadata.len()) // a line end each
    }

    /// Returns the number of starts that this engine has not requested.
    #[must_use]
    pub fn reboots(&self) -> u64 {
        let asked = self.life().starts;
        self.starts().saturating_sub(asked)
    }

    /// Counts a start that the engine is about to request.
    pub(super) fn count_start(&self) {
        self.life().starts += 1;
    }

    /// Locks the state. If the container has ended while a fault claimed its end, first records the fault's outage, so that the end is not
    /// taken for a crash.
    fn life(&self) -> MutexGuard<'_, Life> {
        let mut life = self.life.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(cause), None) = (&life.claim, &life.outage)
            && matches!(life.process.exited(), Some(ProcessEnd::Exited(_)))
        {
            let (container, cause) = (self.machine.name.clone(), cause.clone());
            life.outage = Some(Outage { container, cause, frozen: false });
            life.outage_since = Some(Instant::now());
        }
        life
    }

    /// Attributes an end of the container, from now on, to this fault, which may kill process 1.
    pub fn claim_end(&self, cause: &str) {
        self.life().claim = Some(cause.to_owned());
    }

    /// Undoes [`Container::claim_end`]: a later end of the container is a crash again.
    pub fn release_end(&self) {
        self.life().claim = None;
    }

    /// Tells whether an end of the container would now count as a fault's outage, by [`Container::claim_end`].
    pub(super) fn is_claimed(&self) -> bool {
        self.life().claim.is_some()
    }

    /// Returns the outage that keeps the container from running programs.
    #[must_use]
    pub fn outage(&self) -> Option<Outage> {
        self.life().outage.clone()
    }

    /// Returns the container's outage, and how long it has lasted.
    #[must_use]
    pub fn outage_with_time(&self) -> Option<(Outage, Duration)> {
        let life = self.life();
        Some((life.outage.clone()?, life.outage_since?.elapsed()))
    }

    /// Begins an outage; fails with the current outage if there is one.
    pub(super) fn begin_outage(&self, outage: Outage) -> Result<(), Outage> {
        let mut life = self.life();
        match &life.outage {
            Some(other) => Err(other.clone()),
            None => {
                life.outage = Some(outage);
                life.outage_since = Some(Instant::now());
                Ok(())
            }
        }
    }

    /// Counts a program as running in the container until the returned value is dropped; fails during an outage.
    pub(super) fn enter(&self) -> Result<Entered<'_>, Outage> {
        let mut life = self.life();
        match &life.outage {
            Some(outage) => Err(outage.clone()),
            None => {
                life.entered += 1;
                Ok(Entered(self))
            }
        }
    }

    /// Waits until all programs counted by [`Container::enter`] have ended; returns false if the deadline passed first.
    pub(super) fn wait_until_all_have_left(&self, deadline: Duration) -> bool {
        let anybody = |life: &mut Life| life.entered > 0;
        let waited = self.life.1.wait_timeout_while(self.life(), deadline, anybody);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn end_outage(&self) {
        self.life().outage = None;
    }

    pub(super) fn process(&self) -> Process {
        self.life().process.clone()
    }

    /// Sets the `lxc-start` process of a new start. An outage continues until the container runs programs.
    pub(super) fn started_again(&self, process: Process) {
        self.life().process = process;
    }

    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the lab's clock for deadlines in the container; it stands still while a case is paused.
    pub(super) fn clock(&self) -> &Arc<HeldClock> {
        &self.clock
    }

    /// Tells whether the container has ended although no fault has ended it.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.death().is_some()
    }

    /// Returns the end of the container's `lxc-start`, unless a fault caused it.
    pub(super) fn death(&self) -> Option<ProcessEnd> {
        let life = self.life();
        life.process.exited().filter(|_| life.outage.is_none())
    }

    /// Returns the path on the host of the container's root filesystem, through its process 1.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root", self.init_pid()?)))
    }

    /// Tells whether process 1 has changed its root to the container's. Programs that enter earlier, which LXC allows, would see the host's
    /// files.
    #[must_use]
    pub fn has_its_root(&self) -> bool {
        self.init_pid().is_ok_and(has_its_root)
    }

    /// Returns the pid on the host of the container's process 1.
    pub fn init_pid(&self) -> anyhow::Result<i32> {
        init_pid(&self.places)
    }

    /// Returns the container's cgroup, relative to the top of each cgroup hierarchy.
    #[must_use]
    pub fn cgroup_name(&self) -> String {
        format!("{}/{}", self.places.slot_cgroup, self.machine.name)
    }

    #[must_use]
    pub fn running_processes(&self) -> usize {
        self.payload().len()
    }

    /// Returns the cgroup with all processes of the container, some of them in cgroups below; its limits are the container's. A restart
    /// creates a new cgroup.
    pub fn group(&self) -> anyhow::Result<Group> {
        let found = Group::named(&self.cgroup_name()).child_with(self.init_pid()?);
        found.with_context(|| format!("process 1 of {} is in no cgroup below the container's", self.machine.name))
    }

    /// Returns the container's processes whose program, or script of an interpreter, is this file, given by device and inode; see
    /// [`Running::of_program`].
    #[must_use]
    pub fn processes_running(&self, file: (u64, u64), path: &str) -> Vec<Running> {
        Running::of_program(&self.cgroup(), file, path)
    }

    /// Returns the container's processes with this environment variable, `NAME=VALUE`.
    #[must_use]
    pub fn processes_marked(&self, mark: &str) -> Vec<Running> {
        Running::marked(&self.cgroup(), mark)
    }

    /// Kills the container's processes with this environment variable, and their children. A frozen process dies when it is thawed.
    pub fn kill_marked(&self, mark: &str, deadline: Duration) -> anyhow::Result<()> {
        kill_marked(&self.cgroup(), mark, deadline, &|| self.outage().is_some())
    }

    #[must_use]
    pub fn processes_of(&self, command: &str) -> Vec<Running> {
        let inside = self.payload();
        Running::find(&self.cgroup(), command).into_iter().filter(|process| inside.contains(&process.pid)).collect()
    }

    /// Returns the mount point of a volume, by its index in the template, in the guard's mount namespace.
    #[must_use]
    pub fn volume_dir(&self, index: usize) -> PathBuf {
        self.places.volume(index)
    }

    /// Returns the folder of all files that the container has written outside of its volumes, in the guard's mount namespace.
    #[must_use]
    pub fn writes_dir(&self) -> PathBuf {
        self.places.upper()
    }

    /// Returns the path of an ext4 volume's image, by its index in the template, in the guard's mount namespace.
    #[must_use]
    pub fn volume_image(&self, index: usize) -> PathBuf {
        self.places.image(index)
    }

    /// Returns the host pids of the container's processes, process 1 first.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let mut pids = self.payload();
        let init = self.init_pid().ok();
        pids.sort_by_key(|pid| (Some(*pid) != init, *pid));
        pids
    }

    /// Returns the container's cgroup in every cgroup hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> Tree {
        Tree::named(&self.cgroup_name())
    }

    /// Returns the host pids of the container's processes, without its `lxc-start`, which is in the same cgroup.
    fn payload(&self) -> Vec<i32> {
        let monitor = self.life().process.pid();
        self.cgroup().pids().into_iter().filter(|pid| *pid != monitor).collect()
    }

    /// Returns the last error lines of the container's logs on the host, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let logs = self.machine.log_dir();
        let mut words = String::new();
        for name in ["start.log", "lxc.log", "console.log"] {
            let text = tail_of(&logs.join(name), LOG_BYTES_MAX);
            // Where more stands before, the first line is not whole.
            let text = if (text.len() as u64) < LOG_BYTES_MAX {
                text.as_str()
            } else {
                text.split_once('\n').unwrap_or_default().1
            };
            let lines = lxc::error_lines(text, 12);
            if !lines.is_empty() {
                words.push_str(&format!("\n  {name}:\n    {}", lines.join("\n    ")));
            }
        }
        words
    }
}

/// Reads the host pid of a container's process 1 from the file written at the container's start.
pub(super) fn init_pid(places: &Places) -> anyhow::Result<i32> {
    let path = places.init_pid();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} does not contain a process id", path.display()))
}

/// Tells whether a process has another root folder than the host's.
pub(super) fn has_its_root(pid: i32) -> bool {
    let (root, hosts) = (std::fs::metadata(format!("/proc/{pid}/root")), std::fs::metadata("/"));
    matches!((root, hosts), (Ok(root), Ok(hosts)) if (root.dev(), root.ino()) != (hosts.dev(), hosts.ino()))
}
