//! Findings: unexpected anomalies in a lab, such as processes killed for lack of memory, crashes, failed and restarted units, leftover
//! programs.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::container::Container;
use super::exec::{ExecRequest, MARK_VARIABLE};
use super::up::Lab;
use crate::host::disk::container_fs;
use crate::host::exec::process::words;
use crate::host::machine::kmsg::{Noted, oom_kill_field};
use crate::host::patience::Deadline;
use crate::manifest::{FINDINGS, Init};

/// Maximum characters of a command line in a finding.
const ABOUT_CHARS_MAX: usize = 300;

/// Deadline for one program that looks for findings in a container.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(10);

/// Maximum number of written files in each folder of a container that are searched for core dumps.
const FILES_MAX: usize = 20_000;

/// Kind of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// Process that the kernel killed because its container reached its memory limit.
    OomKill,
    /// Process that crashed, according to a kernel message.
    Crash,
    /// Core dump of a crashed process, found among the container's files.
    CoreDump,
    /// systemd unit that has failed.
    UnitFailed,
    /// systemd unit that ended by itself and was restarted by systemd.
    UnitRestarted,
    /// Program that still runs after the program that the engine started in the container has ended.
    LeftOver,
}

/// Unexpected anomaly in a lab, such as a crash or a failed unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// Container; `None` if the kernel does not say whose process it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Process or unit that the finding is about.
    pub about: String,
    /// Details for people, such as an exit status.
    pub detail: String,
    /// Time since the anomaly happened; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<Duration>,
}

impl FindingKind {
    /// Returns the kind's name as written to files.
    #[must_use]
    pub fn name(self) -> &'static str {
        FINDINGS[self as usize]
    }
}

impl Lab {
    /// Returns the findings that the lab shows now, and those in the kernel messages `said`.
    #[must_use]
    pub fn findings(&self, said: &[Noted]) -> Vec<Finding> {
        let slot = self.guard().slot().cgroup();
        let of_kernel = said.iter().filter_map(|(came, message)| {
            let finding = said_by_kernel(&message.text, &slot)?;
            Some(Finding { age: came.elapsed().ok(), ..finding })
        });
        let mut found: Vec<Finding> = of_kernel.collect();
        let guard = self.guard().pid();
        let running = |container: &&Container| container.outage().is_none() && !container.is_dead();
        for container in self.containers().iter().filter(running) {
            found.extend(left_over(container));
            found.extend(guard.into_iter().flat_map(|guard| core_dumps(container, guard)));
            if container.machine().template.init == Init::Systemd {
                found.extend(units(container, self.streams_dir()));
            }
        }
        found.sort();
        found.dedup();
        found
    }
}

/// Parses a kernel message: returns its finding if the message is about a lab in this slot.
fn said_by_kernel(message: &str, slot: &str) -> Option<Finding> {
    if message.starts_with("oom-kill:") {
        let value = |name: &str| oom_kill_field(message, name);
        let group = value("task_memcg")?.trim_start_matches('/').strip_prefix(slot)?.strip_prefix('/')?;
        let container = group.split('/').next().map(str::to_owned);
        let (about, pid) = (value("task")?.to_owned(), value("pid")?);
        let detail = format!("the kernel killed process {pid}: its container was out of memory");
        return Some(Finding { kind: FindingKind::OomKill, container, about, detail, age: None });
    }
    let (about, rest) = message.strip_prefix("traps: ").unwrap_or(message).split_once('[')?;
    let (pid, what) = rest.split_once(']')?;
    let crashed = [" segfault at ", " general protection", " trap ", "invalid opcode", "divide error"];
    let is_crash = crashed.iter().any(|crash| what.trim_start_matches(':').starts_with(crash) || what.contains(crash));
    if !is_crash || pid.parse::<u32>().is_err() || about.contains(' ') {
        return None;
    }
    let detail = format!("in a container that the kernel does not name: {message}");
    Some(Finding { kind: FindingKind::Crash, container: None, about: about.to_owned(), detail, age: None })
}

/// Returns findings for programs that still run after the exec that started them has ended.
fn left_over(container: &Container) -> Vec<Finding> {
    let marked = container.processes_of("").into_iter().filter(|process| {
        let environment = words(process.pid, "environ");
        let mark = format!("{MARK_VARIABLE}=");
        environment.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes()))
    });
    let finding = |pid: i32| {
        let line = words(pid, "cmdline");
        let line: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let about: String = line.join(" ").trim().chars().take(ABOUT_CHARS_MAX).collect();
        let detail = format!("still runs after the end of its exec, as process {pid} of the host");
        Finding {
            kind: FindingKind::LeftOver,
            container: Some(container.machine().name.clone()),
            about,
            detail,
            age: None,
        }
    };
    marked.map(|process| finding(process.pid)).collect()
}

/// Returns findings for core dumps among the files that the container has written.
fn core_dumps(container: &Container, guard: i32) -> Vec<Finding> {
    let seen_by_guard = |path: &Path| {
        let root = format!("/proc/{guard}/root");
        Path::new(&root).join(path.strip_prefix("/").unwrap_or(path))
    };
    let volumes = (0..container.machine().template.volumes.len()).map(|index| container.volume_dir(index));
    let folders = volumes.chain([container.writes_dir()]);
    let mut found = Vec::new();
    for folder in folders {
        let top = seen_by_guard(&folder);
        let walk =
            walkdir::WalkDir::new(&top).same_file_system(true).into_iter().filter_map(Result::ok).take(FILES_MAX);
        let named = walk.filter(|entry| {
            let name = entry.file_name().to_string_lossy();
            entry.file_type().is_file() && (name == "core" || name.starts_with("core.") || name.ends_with(".core"))
        });
        for entry in named {
            let inside = entry.path().strip_prefix(&top).unwrap_or(entry.path());
            if !is_core(&top, inside) {
                continue;
            }
            let about = inside.display().to_string();
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            let container = Some(container.machine().name.clone());
            let detail = format!("{size} bytes");
            found.push(Finding { kind: FindingKind::CoreDump, container, about, detail, age: None });
        }
    }
    found
}

/// Tells whether a file is a core dump: ELF of type 4. The container still runs and may replace the file by a link or a pipe.
fn is_core(top: &Path, inside: &Path) -> bool {
    let mut head = [0; 18];
    let read = container_fs::open_in_place(top, inside).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head.starts_with(b"\x7fELF") && (head[16] == 4 || head[17] == 4)
}

fn units(container: &Container, streams_dir: &Path) -> Vec<Finding> {
    let properties = "--property=Id,ActiveState,Result,NRestarts,ExecMainCode,ExecMainStatus,\
                      ExecMainExitTimestampMonotonic,InactiveEnterTimestampMonotonic";
    let words = ["systemctl", "show", properties, "*.service"];
    let argv = words.map(str::to_owned).to_vec();
    let streams_dir = streams_dir.to_owned();
    let request = ExecRequest { argv, deadline: LOOK_DEADLINE.scaled(), streams_dir, ..ExecRequest::default() };
    let text = container.exec(&request).ok().and_then(|output| output.stdout.text().ok());
    // systemd's clock is the host's: its machine has no time of its own.
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    units_in(&text.unwrap_or_default(), &container.machine().name, now)
}

fn units_in(text: &str, container: &str, now: Duration) -> Vec<Finding> {
    let mut found = Vec::new();
    for block in text.split("\n\n") {
        let value = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let Some(unit) = value("Id") else { continue };
        let mut add = |kind, detail: String, age| {
            found.push(Finding { kind, container: Some(container.to_owned()), about: unit.to_owned(), detail, age });
        };
        if value("ActiveState") == Some("failed") {
            let result = format!("its result is {}", value("Result").unwrap_or("not known"));
            let moment =
                ["ExecMainExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"].into_iter().find_map(|name| {
                    value(name)?.parse().ok().filter(|microseconds| *microseconds > 0).map(Duration::from_micros)
                });
            let age = moment.and_then(|moment| now.checked_sub(moment));
            let end = end_of_main(value("ExecMainCode"), value("ExecMainStatus"));
            let detail = end.map_or_else(|| format!("failed: {result}"), |end| format!("{end}, {result}"));
            add(FindingKind::UnitFailed, detail, age);
        }
        match value("NRestarts").and_then(|count| count.parse::<u32>().ok()) {
            Some(1) => add(FindingKind::UnitRestarted, "once".into(), None),
            Some(count) if count > 1 => add(FindingKind::UnitRestarted, format!("{count} times"), None),
            _ => {}
        }
    }
    found
}

/// Describes the end of a unit's main process, from the numbers of waitid(2); `None` if it succeeded or never ran.
fn end_of_main(code: Option<&str>, status: Option<&str>) -> Option<String> {
    let status: i32 = status?.parse().ok()?;
    match code? {
        "1" if status != 0 => Some(format!("exited with status {status}")),
        "2" | "3" => {
            let name = Signal::try_from(status).map_or_else(|_| format!("signal {status}"), |name| name.to_string());
            Some(format!("died of {name}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_says_of_this_slot_counts() {
        let oom = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,\
                   oom_memcg=/mancer-e2e-1/app,task_memcg=/mancer-e2e-1/app/lxc.payload.x,task=tail,pid=4711,uid=100000";
        let finding = said_by_kernel(oom, "mancer-e2e-1").unwrap();
        assert_eq!((finding.container.as_deref(), finding.about.as_str()), (Some("app"), "tail"));
        assert_eq!(said_by_kernel(oom, "mancer-e2e-2"), None);
        let crash = "worker[331]: segfault at 0 ip 00007f sp 00007ffd error 4 in libc.so";
        assert_eq!(said_by_kernel(crash, "x").unwrap().kind, FindingKind::Crash);
        let trap = "traps: worker[331] general protection fault ip:7f sp:7f error:0 in x";
        assert_eq!(said_by_kernel(trap, "x").unwrap().about, "worker");
        for other in
            ["br0: port 3(port13) entered blocking state", "EXT4-fs (loop1): mounted [x]", "a b[3]: segfault at 0"]
        {
            assert_eq!(said_by_kernel(other, "x"), None, "{other}");
        }
    }

    #[test]
    fn units_that_failed_or_came_again_are_found() {
        let text = "Id=a.service\nActiveState=active\nResult=success\nNRestarts=0\n\n\
                    Id=b.service\nActiveState=failed\nResult=core-dump\nNRestarts=3\nExecMainCode=3\nExecMainStatus=11\n\
                    ExecMainExitTimestampMonotonic=4000000\n";
        let found = units_in(text, "db", Duration::from_secs(6));
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            (found[0].kind, found[0].detail.as_str()),
            (FindingKind::UnitFailed, "died of SIGSEGV, its result is core-dump")
        );
        assert_eq!(found[0].age, Some(Duration::from_secs(2)));
        assert_eq!((found[1].kind, found[1].detail.as_str()), (FindingKind::UnitRestarted, "3 times"));
        assert!(units_in("", "db", Duration::ZERO).is_empty());
        let detail = |rest: &str| {
            let text = format!("Id=c.service\nActiveState=failed\nResult=exit-code\n{rest}");
            units_in(&text, "db", Duration::from_secs(6)).remove(0).detail
        };
        let exited = detail("ExecMainCode=1\nExecMainStatus=3\nInactiveEnterTimestampMonotonic=7000000\n");
        assert_eq!(exited, "exited with status 3, its result is exit-code");
        assert_eq!(detail("ExecMainCode=0\nExecMainStatus=0\n"), "failed: its result is exit-code");
    }

    #[test]
    fn kinds_are_named_as_they_are_written() {
        let kinds = [
            FindingKind::OomKill,
            FindingKind::Crash,
            FindingKind::CoreDump,
            FindingKind::UnitFailed,
            FindingKind::UnitRestarted,
            FindingKind::LeftOver,
        ];
        for kind in kinds {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
