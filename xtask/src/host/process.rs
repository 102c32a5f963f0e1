//! Processes of the host, found through /proc.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
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

    /// The process that traces it, or one of its threads.
    #[must_use]
    pub fn tracer(&self) -> Option<i32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.filter_map(Result::ok);
        let tracer =
            |status: &str| status.lines().find_map(|line| line.strip_prefix("TracerPid:")?.trim().parse().ok());
        let mut of_threads =
            threads.filter_map(|thread| tracer(&std::fs::read_to_string(thread.path().join("status")).ok()?));
        of_threads.find(|pid: &i32| *pid != 0)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        Stat::of(self.pid).is_none_or(|stat| stat.started != self.started || stat.state == 'Z')
    }
}

/// A process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number on the host.
    pub pid: i32,
    /// Its program's name.
    pub name: String,
    /// The file, as the process sees it.
    pub file: PathBuf,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({}, file {})", self.pid, self.name, self.file.display())
    }
}

/// Those of these processes that have a file of this device open for writing, each once.
#[must_use]
pub fn open_for_writing(pids: &[i32], device: u64) -> Vec<Holder> {
    let holds = |pid: &i32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok);
        let mut of_device = files.filter(|file| {
            let on_device = file.path().metadata().is_ok_and(|metadata| metadata.dev() == device);
            let info = format!("/proc/{pid}/fdinfo/{}", file.file_name().to_string_lossy());
            on_device && writes(&std::fs::read_to_string(info).unwrap_or_default())
        });
        let file = std::fs::read_link(of_device.next()?.path()).ok()?;
        Some(Holder { pid: *pid, name: name_of(*pid), file })
    };
    pids.iter().filter_map(holds).collect()
}

/// The name of a process's program, as the kernel keeps it.
#[must_use]
pub fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Whether the `flags` of a file descriptor's `fdinfo` allow writing.
fn writes(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_open_for_writing_by_its_flags() {
        for (flags, expected) in [("0100000", false), ("0100001", true), ("02100002", true), ("x", false)] {
            assert_eq!(writes(&format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n")), expected, "{flags}");
        }
    }

    #[test]
    fn who_has_a_file_open_for_writing_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (own, device) = (std::process::id().cast_signed(), file.path().metadata().unwrap().dev());
        assert_eq!(open_for_writing(&[own, i32::MAX], device)[0].pid, own);
    }
}
