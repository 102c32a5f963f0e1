//! Processes of the host, found through /proc.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc::rlimit;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::signals;
use crate::host::cgroup::Tree;

/// Length of the ticks in which Linux shows times to programs, whatever the length of its own ticks.
const MILLISECONDS_PER_TICK: u64 = 10;

/// Number of first words of a script's command line among which its file is: interpreter, an option of it, file.
const INTERPRETER_WORDS_MAX: usize = 3;

/// Returns the name of a signal, such as `SIGSEGV`.
#[must_use]
pub fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

/// Tells whether a process has ended, reaped or not.
#[must_use]
pub fn has_ended(pid: i32) -> bool {
    Stat::of(pid).is_none_or(|stat| stat.state == 'Z' || stat.state == 'X')
}

/// Tells whether a process has ended, is just ending, or was killed and is going to end: the kernel's work at the end may take a while.
#[must_use]
pub fn is_ending(pid: i32) -> bool {
    /// The kernel's flag of a process that is ending, or has ended (`PF_EXITING`).
    const EXITING: u64 = 0x4;
    Stat::of(pid).is_none_or(|stat| stat.flags & EXITING != 0) || signals::is_pending(pid, Signal::SIGKILL)
}

/// Tells whether a process is stopped by a signal, or by a tracer.
#[must_use]
pub fn is_stopped(pid: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| matches!(stat.state, 'T' | 't'))
}

/// Maximum bytes of the arguments, and of the environment, that the kernel takes at a program's start, with the usual size of stacks.
const WORDS_BYTES_MAX: u64 = 2 << 20;

/// Kills every process of a cgroup tree that has the variable `mark` (`NAME=VALUE`) in its environment, with all its descendants, until
/// none is left, or `give_up` returns true because they cannot die now.
///
/// # Errors
/// With the PIDs of the processes that are still there after the deadline.
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

/// Process of the host that was seen running, by its PID and its start, as the PID alone may name another process later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub pid: i32,
    started: u64,
}

impl Running {
    /// Returns the processes of a cgroup tree that have this text in their command line, whose words are joined by spaces.
    #[must_use]
    pub fn find(tree: &Tree, command: &str) -> Vec<Self> {
        Self::those(tree, |pid| words_of(pid).join(" ").contains(command))
    }

    /// Returns the processes of a cgroup tree that have this variable in their environment, `NAME=VALUE`.
    #[must_use]
    pub fn marked(tree: &Tree, mark: &str) -> Vec<Self> {
        Self::those(tree, |pid| words(pid, "environ").split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()))
    }

    /// Returns the processes of a cgroup tree that run this file, by device and inode, or whose interpreter runs the script of this path.
    #[must_use]
    pub fn of_program(tree: &Tree, file: (u64, u64), path: &str) -> Vec<Self> {
        Self::those(tree, |pid| {
            let running = std::fs::metadata(format!("/proc/{pid}/exe"));
            running.is_ok_and(|found| (found.dev(), found.ino()) == file)
                || words_of(pid).iter().take(INTERPRETER_WORDS_MAX).any(|word| word == path)
        })
    }

    /// Returns the processes of the host with exactly this command line, its words joined by spaces.
    #[cfg(test)]
    pub fn of_command_line(line: &str) -> Vec<Self> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| words_of(*pid).join(" ").trim_end() == line).filter_map(Self::seen).collect()
    }

    fn those(tree: &Tree, has: impl Fn(i32) -> bool) -> Vec<Self> {
        tree.pids().into_iter().filter(|pid| has(*pid)).filter_map(Self::seen).collect()
    }

    fn seen(pid: i32) -> Option<Self> {
        Some(Self { pid, started: Stat::of(pid).filter(|stat| stat.state != 'Z')?.started })
    }

    /// Kills the process with SIGKILL; does nothing for one that has ended.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.send(Signal::SIGKILL)
    }

    /// Sends the process SIGTERM; does nothing for one that has ended.
    pub fn tell_to_end(&self) -> anyhow::Result<()> {
        self.send(Signal::SIGTERM)
    }

    /// Stops the process until [`Running::go_on`]; does nothing for one that has ended.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.send(Signal::SIGSTOP)
    }

    /// Lets the process go on after [`Running::pause`]; does nothing for one that has ended.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.send(Signal::SIGCONT)
    }

    /// Tells whether each thread of the process is stopped, by a signal or a tracer.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        let threads =
            std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().filter_map(Result::ok);
        let states: Vec<char> =
            threads.filter_map(|thread| Stat::read(&thread.path())).map(|stat| stat.state).collect();
        !states.is_empty() && states.iter().all(|state| matches!(state, 'T' | 't'))
    }

    /// Returns the processor time that the process has used, in whole ticks; `None` once it has ended.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.stat().map(|stat| Duration::from_millis(stat.cpu_ticks * MILLISECONDS_PER_TICK))
    }

    /// Returns the processor that the process runs on, or ran on last.
    #[must_use]
    pub fn processor(&self) -> Option<usize> {
        self.stat().map(|stat| stat.processor)
    }

    /// Returns the processors that the process may run on, in order; `None` once it has ended.
    #[must_use]
    pub fn processors(&self) -> Option<Vec<usize>> {
        let allowed = sched_getaffinity(Pid::from_raw(self.pid)).ok()?;
        Some((0..CpuSet::count()).filter(|processor| allowed.is_set(*processor).unwrap_or(false)).collect())
    }

    /// Lets the process run on this processor only.
    ///
    /// # Errors
    /// `EINVAL` when its cgroup may not use the processor; `ESRCH` when it has ended.
    pub fn bind_to(&self, processor: usize) -> nix::Result<()> {
        let mut set = CpuSet::new();
        set.set(processor)?;
        sched_setaffinity(Pid::from_raw(self.pid), &set)
    }

    /// Returns the systemd service that the process belongs to, by its cgroup.
    #[must_use]
    pub fn systemd_unit(&self) -> Option<String> {
        let paths = std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        service_in(&paths)
    }

    /// Limits the number of files that the process, with all its threads, can have open: each file descriptor is below the limit.
    pub fn bound_files(&self, bound: FileBound) -> anyhow::Result<()> {
        let new = rlimit { rlim_cur: bound.soft, rlim_max: bound.hard };
        self.file_limit(Some(&new)).map(drop)
    }

    /// Returns the limit on the open files of the process.
    pub fn file_bound(&self) -> anyhow::Result<FileBound> {
        self.file_limit(None)
    }

    fn file_limit(&self, new: Option<&rlimit>) -> anyhow::Result<FileBound> {
        anyhow::ensure!(!self.is_gone(), "process {} has ended", self.pid);
        let mut old = rlimit { rlim_cur: 0, rlim_max: 0 };
        let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: both structures live during the call; a null pointer for the new one changes nothing.
        let result = unsafe { nix::libc::prlimit(self.pid, nix::libc::RLIMIT_NOFILE, new, &raw mut old) };
        let context = || format!("reading or setting the limit on open files of process {}", self.pid);
        Errno::result(result).with_context(context)?;
        Ok(FileBound { soft: old.rlim_cur, hard: old.rlim_max })
    }

    /// Returns the numbers of the process's open files, in order; empty once it has ended.
    #[must_use]
    pub fn open_files(&self) -> Vec<u64> {
        let listed = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().filter_map(Result::ok);
        let mut numbers: Vec<u64> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Returns the bytes that the process holds in memory and in swap.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        held_bytes(&status)
    }

    fn stat(&self) -> Option<Stat> {
        Stat::of(self.pid).filter(|stat| stat.started == self.started && stat.state != 'Z')
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

    /// Waits until the process has ended; returns false when it has not within the deadline.
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

    /// Returns the PID of the process that traces this process, or one of its threads.
    #[must_use]
    pub fn tracer(&self) -> Option<i32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?.filter_map(Result::ok);
        let tracer =
            |status: &str| status.lines().find_map(|line| line.strip_prefix("TracerPid:")?.trim().parse().ok());
        let mut of_threads =
            threads.filter_map(|thread| tracer(&std::fs::read_to_string(thread.path().join("status")).ok()?));
        of_threads.find(|pid: &i32| *pid != 0)
    }

    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.stat().is_none()
    }
}

/// Process that has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// PID on the host.
    pub pid: i32,
    /// Name of the process's program.
    pub name: String,
    /// Path of the file, as the process sees it.
    pub file: PathBuf,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} ({}, file {})", self.pid, self.name, self.file.display())
    }
}

/// Returns those of these processes that have a file of this device open for writing, each once.
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

/// Returns the name of a process's program, as the kernel keeps it.
#[must_use]
pub fn name_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Tells whether the `flags` of a file descriptor's `fdinfo` allow writing.
fn writes(fdinfo: &str) -> bool {
    let flags = fdinfo.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_some_and(|flags| flags & 3 != 0)
}

/// Limit on the number of open files of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileBound {
    /// Limit in effect (`rlim_cur`).
    pub soft: u64,
    /// Maximum limit that the process may set itself (`rlim_max`).
    pub hard: u64,
}

fn marked(pids: &[i32], mark: &str) -> Vec<i32> {
    let mut parents: HashMap<i32, i32> = HashMap::new();
    let mut found: HashSet<i32> = HashSet::new();
    for pid in pids {
        if words(*pid, "environ").split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes()) {
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

/// Fields of `/proc/PID/stat`.
#[derive(Debug)]
pub struct Stat {
    /// PID of the parent.
    pub parent: i32,
    /// State letter of the process; `Z` for one that is dead and not yet reaped.
    pub state: char,
    /// The kernel's flags of the process (`PF_EXITING` and others).
    pub flags: u64,
    /// Start of the process in ticks since the host's boot.
    pub started: u64,
    /// Processor time of the process in ticks.
    pub cpu_ticks: u64,
    /// Processor on which the process runs, or ran last.
    pub processor: usize,
}

impl Stat {
    /// Reads the fields of a process; `None` where it is gone.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::read(&Path::new("/proc").join(pid.to_string()))
    }

    fn read(folder: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(folder.join("stat")).ok()?)
    }

    /// Parses the text of a process's `stat`. Fields are counted from the state, the third of the line.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            flags: number(6)?,
            cpu_ticks: number(11)? + number(12)?,
            started: number(19)?,
            processor: usize::try_from(number(36)?).ok()?,
        })
    }
}

/// Reads the file `environ` or `cmdline` of a process; empty where the process has ended.
#[must_use]
pub fn words(pid: i32, file: &str) -> Vec<u8> {
    std::fs::File::open(format!("/proc/{pid}/{file}")).map(in_bounds).unwrap_or_default()
}

/// Reads the words of a process up to a bound: a process can declare any part of its memory to be its words.
fn in_bounds(file: impl Read) -> Vec<u8> {
    let mut words = Vec::new();
    let _ = file.take(WORDS_BYTES_MAX).read_to_end(&mut words); // a process that has ended has none
    words
}

fn words_of(pid: i32) -> Vec<String> {
    words(pid, "cmdline").split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn service_in(paths: &str) -> Option<String> {
    let parts = paths.lines().flat_map(|line| line.rsplit('/'));
    parts.into_iter().find(|part| part.ends_with(".service")).map(str::to_owned)
}

/// Parses the memory and swap in bytes from /proc/PID/status, and returns their sum.
fn held_bytes(status: &str) -> u64 {
    let kilobytes = |line: &str| {
        let value = line.strip_prefix("VmRSS:").or_else(|| line.strip_prefix("VmSwap:"))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    status.lines().filter_map(kilobytes).sum::<u64>() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_behind_the_name() {
        let line = "42 (a) b) R 7 1 1 0 -1 4 9 0 0 0 30 12 0 0 20 0 1 0 4711 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.cpu_ticks), ('R', 7, 42));
        assert_eq!((stat.started, stat.processor), (4711, 1));
        assert!(Stat::parse("42 (short) R 7").is_none());
    }

    #[test]
    fn a_service_is_the_last_of_its_kind_in_a_path() {
        let paths = "2:cpu:/mancer-e2e-1/a\n1:name=systemd:/mancer-e2e-1/a/system.slice/ssh.service\n0::/\n";
        assert_eq!(service_in(paths).as_deref(), Some("ssh.service"));
        assert_eq!(service_in("0::/init.scope\n"), None);
    }

    #[test]
    fn words_without_end_are_read_up_to_a_bound() {
        assert_eq!(in_bounds(std::io::repeat(b'x')).len() as u64, WORDS_BYTES_MAX);
        let own = std::process::id().cast_signed();
        assert_eq!(words(own, "cmdline"), std::fs::read("/proc/self/cmdline").unwrap());
        assert_eq!(words(i32::MAX, "cmdline"), b"");
    }

    #[test]
    fn memory_in_swap_is_held_too() {
        assert_eq!(held_bytes("Name:\tx\nVmPeak:\t 9 kB\nVmRSS:\t   10 kB\nVmSwap:\t 2 kB\n"), 12 << 10);
    }

    #[test]
    fn what_runs_is_not_paused_and_uses_something() {
        let me = Running::seen(std::process::id().cast_signed()).unwrap();
        assert!(!me.is_paused() && !me.is_gone());
        assert!(me.memory_bytes() > 0 && me.cpu_time().is_some() && me.processor().is_some());
    }

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
