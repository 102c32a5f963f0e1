//! Ends of containers that no fault has caused, with evidence from the guard, LXC's log and the kernel.

use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::container::Container;
use super::log_folder::tail_of;
use crate::error::Error;
use crate::guard::ProcessEnd;
use crate::host::container::lxc::{self, InitEnd};
use crate::host::exec::process;
use crate::host::machine::kmsg::{KernelLog, oom_kill_field};
use crate::host::patience::Deadline;

/// Maximum bytes that are read at the end of LXC's log: a start writes about 5 KiB.
const LOG_BYTES_MAX: u64 = 64 << 10;

/// Deadline for LXC to notice the end of a container's process 1.
const NOTICE_DEADLINE: Deadline = Deadline::from_secs(10);
const NOTICE_POLL: Duration = Duration::from_millis(1);

/// Unexpected end of a container, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineEnd {
    pub container: String,
    /// End of the container's process 1.
    pub init: InitEnd,
    /// End of the container's `lxc-start`.
    pub monitor: ProcessEnd,
    /// True if the kernel killed process 1 because the container reached its memory limit; `None` if the kernel's messages cannot be read.
    pub out_of_memory: Option<bool>,
    /// Last lines of the container's logs on the host.
    pub words: String,
}

impl From<MachineEnd> for anyhow::Error {
    fn from(end: MachineEnd) -> Self {
        Error::MachineEnded(end.to_string()).into()
    }
}

impl fmt::Display for MachineEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container, init, monitor, out_of_memory, words } = self;
        write!(f, "container {container} has ended: ")?;
        match (init, monitor) {
            (InitEnd::Signaled(_), _) if *out_of_memory == Some(true) => {
                f.write_str("the kernel killed its process 1, because the container had used up its memory")
            }
            (InitEnd::Unknown, ProcessEnd::Signaled(_) | ProcessEnd::GuardGone) => {
                write!(f, "its lxc-start {monitor}, and the status of its process 1 is unknown")
            }
            (init, _) => write!(f, "{init}"),
        }?;
        f.write_str(words)
    }
}

#[cfg(test)]
impl MachineEnd {
    /// Creates an example: an end of container `a` whose `lxc-start` has exited.
    pub fn example(init: InitEnd, out_of_memory: Option<bool>) -> Self {
        let monitor = ProcessEnd::Exited(0);
        Self { container: "a".into(), init, monitor, out_of_memory, words: String::new() }
    }
}

impl Container {
    /// Fails with LXC's error lines and the end of the console if the container has ended although no fault has ended it.
    pub fn fail_if_dead(&self) -> Result<(), MachineEnd> {
        self.ending().map_or(Ok(()), Err)
    }

    /// Returns the end of the container, unless a fault caused it.
    #[must_use]
    pub fn ending(&self) -> Option<MachineEnd> {
        let monitor = self.death()?;
        let log = tail_of(&self.machine().log_dir().join("lxc.log"), LOG_BYTES_MAX);
        let init = match monitor {
            ProcessEnd::Exited(_) => lxc::init_end(&log),
            ProcessEnd::Signaled(_) | ProcessEnd::GuardGone => InitEnd::Unknown,
        };
        let out_of_memory = match init {
            InitEnd::Signaled(signal) if signal == Signal::SIGKILL as i32 => self.is_killed_for_memory(),
            _ => Some(false),
        };
        let container = self.machine().name.clone();
        Some(MachineEnd { container, init, monitor, out_of_memory, words: self.last_words() })
    }

    fn is_killed_for_memory(&self) -> Option<bool> {
        let messages = KernelLog::whole().and_then(|mut log| log.read()).ok()?;
        let (pid, group) = (self.init_pid().ok()?, self.cgroup_name());
        Some(messages.iter().any(|message| killed_for_memory(&message.text, pid, &group)))
    }

    /// Waits until LXC has noticed that process 1 has ended, so that [`Container::ending`] reports it.
    pub fn notice_end(&self) {
        let begun = Instant::now();
        let pid = self.init_pid().ok();
        let is_pending = || {
            self.outage().is_none()
                && self.death().is_none()
                && self.init_pid().ok() == pid // a container that reboots has another one
                && pid.is_some_and(process::has_ended)
        };
        while is_pending() && begun.elapsed() < NOTICE_DEADLINE.scaled() {
            std::thread::sleep(NOTICE_POLL); // the guard tells of the end of lxc-start, not of the process below it
        }
    }
}

/// Tells whether a kernel message reports that process `pid`, in the cgroup `group` or below, was killed because that cgroup reached its
/// memory limit.
fn killed_for_memory(message: &str, pid: i32, group: &str) -> bool {
    let value = |name: &str| oom_kill_field(message, name);
    let below = value("task_memcg").and_then(|path| path.trim_start_matches('/').strip_prefix(group));
    value("constraint") == Some("CONSTRAINT_MEMCG")
        && value("pid").and_then(|text| text.parse().ok()) == Some(pid)
        && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kill_for_the_containers_own_memory_is_the_containers() {
        let message = |constraint: &str| {
            format!(
                "oom-kill:constraint={constraint},nodemask=(null),task_memcg=/mancer-e2e-1/a/lxc.payload.x,task=app,pid=77,uid=100000"
            )
        };
        let group = "mancer-e2e-1/a";
        assert!(killed_for_memory(&message("CONSTRAINT_MEMCG"), 77, group));
        assert!(!killed_for_memory(&message("CONSTRAINT_MEMCG"), 78, group));
        assert!(!killed_for_memory(&message("CONSTRAINT_MEMCG"), 77, "mancer-e2e-1/ab"));
        assert!(!killed_for_memory(&message("CONSTRAINT_NONE"), 77, group), "the host was out of memory");
        assert!(!killed_for_memory("app[77]: segfault at 0", 77, group));
    }

    #[test]
    fn an_end_is_told_by_what_is_known_of_it() {
        let told = |init, monitor, out_of_memory: Option<bool>| {
            let end = MachineEnd { container: "db".into(), init, monitor, out_of_memory, words: String::new() };
            end.to_string().trim_start_matches("container db has ended: ").to_owned()
        };
        let clean = ProcessEnd::Exited(0);
        assert_eq!(told(InitEnd::Exited(7), clean, Some(false)), "its process 1 exited with status 7");
        assert_eq!(told(InitEnd::Signaled(11), clean, Some(false)), "its process 1 was ended by SIGSEGV");
        assert_eq!(
            told(InitEnd::Signaled(9), clean, Some(true)),
            "the kernel killed its process 1, because the container had used up its memory"
        );
        assert_eq!(
            told(InitEnd::Unknown, ProcessEnd::Signaled(9), Some(false)),
            "its lxc-start was ended by SIGKILL, and the status of its process 1 is unknown"
        );
    }
}
