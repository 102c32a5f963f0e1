//! Process that holds a slot's lock, found through the kernel's list of locks.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::exec::process::{has_ended, is_ending, is_stopped};

/// Maximum characters of a command line in a message.
const COMMAND_MAX: usize = 80;

/// Owner of a slot, as recorded in `owner.json` in the slot's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process id of the guard.
    pub guard_pid: i32,
    /// Process id of the engine that started the guard.
    pub engine_pid: i32,
    /// Purpose of the slot for messages, such as the run's id.
    pub purpose: String,
    /// True for a kept lab, which stays without an engine until its guard is told to go down.
    pub kept: bool,
    /// End of a kept lab's lifetime in milliseconds since the host's start, sleep included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_at_boot_ms: Option<u64>,
}

impl Owner {
    /// Returns the remaining lifetime of a kept lab; `None` if it has no limit.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.goes_at_boot_ms.map(|at| Duration::from_millis(at).saturating_sub(since_boot()))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kept {
            return write!(f, "{} (process {})", self.purpose, self.engine_pid);
        }
        write!(f, "{}, kept for inspection (guard: process {})", self.purpose, self.guard_pid)?;
        match self.time_left() {
            Some(left) => {
                write!(
                    f,
                    ", taken down automatically in {}",
                    humantime::format_duration(Duration::from_secs(left.as_secs()))
                )
            }
            None => Ok(()),
        }
    }
}

/// Returns the time since the host's start. Unlike the wall clock, it cannot be set; time while the host sleeps counts.
pub(super) fn since_boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Holder of a slot's lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process that took the lock; `None` if it is in a pid namespace that this process does not see.
    pub pid: Option<i32>,
    /// Command line of the process.
    pub command: String,
    /// Owner that is recorded in the slot, if a guard holds the slot's lock.
    pub owner: Option<Owner>,
}

impl Holder {
    /// Finds the holder of the lock on a file; `written` is the last recorded owner.
    pub(super) fn of(lock: &Path, written: Option<Owner>) -> Self {
        let pid = pid_of(lock);
        let command = pid.map(command_of).unwrap_or_default();
        let owner = written.filter(|owner| pid.is_none_or(|pid| pid == owner.guard_pid));
        Self { pid: pid.or(owner.as_ref().map(|owner| owner.guard_pid)), command, owner }
    }

    /// Tells whether the holder is the guard of a kept lab, which needs no engine.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.kept)
    }

    /// Tells whether the holder would never end: its engine has ended, but the holder is stopped and cannot notice that.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.is_stopped() && self.owner.as_ref().is_some_and(|owner| has_ended(owner.engine_pid))
    }

    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.pid.is_some_and(is_stopped)
    }

    /// Tells whether the holder has ended or is ending: its lock stays until the kernel has released the process.
    pub(super) fn is_ending(&self) -> bool {
        self.pid.is_some_and(is_ending)
    }

    /// Tells whether the holder is a guard of this slot, judging by its command line.
    pub(super) fn is_guard_of(&self, slot: &str) -> bool {
        let Some(pid) = self.pid else { return false };
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
        words.contains(&b"guard".as_slice()) && words.contains(&slot.as_bytes())
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.owner, self.pid) {
            (Some(owner), _) => owner.fmt(f)?,
            (None, Some(pid)) => write!(f, "process {pid} ({})", self.command)?,
            (None, None) => f.write_str("a process in another PID namespace")?,
        }
        if self.is_stopped() { f.write_str(", whose guard is stopped (SIGSTOP)") } else { Ok(()) }
    }
}

/// Returns the process that took the exclusive lock on a file, from the kernel's list of locks.
fn pid_of(lock: &Path) -> Option<i32> {
    let metadata = std::fs::metadata(lock).ok()?;
    let (major, minor) = (nix::sys::stat::major(metadata.dev()), nix::sys::stat::minor(metadata.dev()));
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let listed = listed(&locks, &format!("{major:02x}:{minor:02x}:{}", metadata.ino()))?;
    // A lock that was handed on lives longer than the process that took it.
    if has_ended(listed) { with_file(lock) } else { Some(listed) }
}

fn listed(locks: &str, file: &str) -> Option<i32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, at, ..] = words[..] else { return None };
        (at == file).then(|| pid.parse().ok().filter(|pid| *pid > 0))?
    })
}

/// Finds a process that has a file open.
fn with_file(path: &Path) -> Option<i32> {
    let numbers = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
        open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|target| target == path)
    })
}

fn command_of(pid: i32) -> String {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let shown: String = command.trim().chars().filter(|c| !c.is_control()).take(COMMAND_MAX).collect();
    if shown.is_empty() { "without a command line".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Slot;

    #[test]
    fn the_kernel_names_the_holder() {
        let slot = Slot::named("test-holder");
        let lock = slot.try_lock().unwrap().expect("nobody else uses this name");
        let holder = slot.holder().unwrap().expect("it is held");
        assert_eq!(holder.pid, Some(std::process::id().cast_signed()));
        assert!(holder.owner.is_none() && !holder.is_stopped() && !holder.is_guard_of("test-holder"));
        assert!(holder.to_string().starts_with(&format!("process {} (", std::process::id())), "{holder}");
        slot.remove(lock).unwrap();
        assert!(slot.holder().unwrap().is_none());
    }

    #[test]
    fn only_exclusive_locks_of_the_file_count() {
        let locks = "1: FLOCK  ADVISORY  READ 7 fe:00:12 0 EOF\n2: POSIX  ADVISORY  WRITE 8 fe:00:12 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 fe:00:123 0 EOF\n4: FLOCK  ADVISORY  WRITE 10 fe:00:12 0 EOF\n";
        assert_eq!(listed(locks, "fe:00:12"), Some(10));
        assert_eq!(listed(locks, "fe:00:1"), None);
    }
}
