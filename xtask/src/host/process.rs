//! Processes of the host, found through /proc.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroup::Tree;

/// Kills every process of a cgroup tree that carries this variable in its environment, with all that descend from
/// one, until none is left, or `give_up` says that they cannot die now.
///
/// # Errors
/// With the numbers of those that are still there after the deadline.
pub fn kill_marked(tree: &Tree, mark: &str, deadline: Duration, give_up: &dyn Fn() -> bool) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let found = marked(&tree.pids(), mark);
        if found.is_empty() {
            return Ok(());
        }
        for pid in &found {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL); // gone already, or seen again in the next round
        }
        if give_up() {
            return Ok(());
        }
        if started.elapsed() > deadline {
            anyhow::bail!("processes {found:?} are still there {deadline:?} after they were killed");
        }
        std::thread::sleep(Duration::from_millis(2)); // until the kernel has taken them away
    }
}

/// A process of the host that was seen running. Its number alone may name another one later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub pid: i32,
    started: u64,
}

impl Running {
    /// The processes of a cgroup tree that have this piece in their command line, its words set apart by blanks.
    #[must_use]
    pub fn find(tree: &Tree, command: &str) -> Vec<Self> {
        let has = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            words.join(" ").contains(command)
        };
        let seen = |pid: i32| Some(Self { pid, started: Stat::of(pid).filter(|stat| stat.state != 'Z')?.started });
        tree.pids().into_iter().filter(has).filter_map(seen).collect()
    }

    /// Kills it; one that has ended already is fine.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.send(Signal::SIGKILL)
    }

    /// Tells it to end; one that has ended already is fine.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn tell_to_end(&self) -> anyhow::Result<()> {
        self.send(Signal::SIGTERM)
    }

    fn send(&self, signal: Signal) -> anyhow::Result<()> {
        if self.is_gone() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => anyhow::bail!("sending {signal} to process {}: {error}", self.pid),
        }
    }

    /// Waits until it has ended; false when it has not after this time.
    #[must_use]
    pub fn wait_for_end(&self, deadline: Duration) -> bool {
        let started = Instant::now();
        while !self.is_gone() {
            if started.elapsed() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1)); // until the kernel has taken it away
        }
        true
    }

    fn is_gone(&self) -> bool {
        Stat::of(self.pid).is_none_or(|stat| stat.started != self.started || stat.state == 'Z')
    }
}

fn marked(pids: &[i32], mark: &str) -> Vec<i32> {
    let mut parents: HashMap<i32, i32> = HashMap::new();
    let mut found: HashSet<i32> = HashSet::new();
    for pid in pids {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()) {
            found.insert(*pid);
        }
        if let Some(stat) = Stat::of(*pid) {
            parents.insert(*pid, stat.parent);
            if stat.state == 'Z' {
                found.remove(pid);
                parents.remove(pid);
            }
        }
    }
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| !found.contains(pid) && found.contains(parent))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.into_iter().collect()
}

/// What /proc says of a process in one line.
pub(super) struct Stat {
    pub parent: i32,
    /// `Z` for one that is dead and not yet reaped.
    pub state: char,
    /// In ticks since the host's start.
    pub started: u64,
}

impl Stat {
    pub fn of(pid: i32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        Some(Self { parent, state, started: fields.nth(17)?.parse().ok()? })
    }
}
