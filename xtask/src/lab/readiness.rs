//! Waiting until a condition is met in a container, with a deadline, and no longer than the container lives.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e_contract::Condition;

use super::container::Container;
use super::ending::MachineEnd;
use super::exec::{ExecError, ExecOutput, ExecRequest};
use super::probe_answer::{LastAnswer, LookBound, ProbeAnswer};
use crate::error::Error;
use crate::host::container::lxc::{self, InitEnd};
use crate::host::exec::shell::Problem;
use crate::host::network::netns::NetworkNamespace;
use crate::host::patience::Deadline;
use crate::manifest::{Init, Probe, Template};

/// Deadline for one test of a condition.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(5);

/// Interval between the first two tests: short, because most conditions are met soon.
const PAUSE_FIRST: Duration = Duration::from_millis(2);
const PAUSE_LAST: Duration = Duration::from_millis(50);

/// Deadline for the first test over the network; each further test has twice as long. A connection that was begun before the container's
/// card was up would otherwise wait a second until its first packet is sent again.
const NETWORK_LOOK_FIRST: Deadline = Deadline::from_millis(50);

/// Reason why a wait for a condition has failed.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("{container}: {condition}: {last}; timed out after {}", humantime::format_duration(*.deadline))]
    Deadline {
        container: String,
        condition: Condition,
        deadline: Duration,
        /// Last answers of the probe; a test that the deadline cut short counts only if no other was answered.
        last: Box<LastAnswer>,
    },
    /// The condition cannot be met any more without a change from outside.
    #[error("{container}: {condition} cannot come true: {reason}")]
    Never {
        container: String,
        condition: Condition,
        /// Reason why the condition cannot be met, with help if there is any.
        reason: String,
        /// Last answers of the probe.
        last: Box<LastAnswer>,
    },
    /// The container ended first.
    #[error("waiting for {condition}: {end}")]
    Ended {
        /// Evidence of the container's end.
        end: Box<MachineEnd>,
        condition: Condition,
    },
    /// The engine or the host failed during the wait.
    #[error("waiting for {condition} in {container}: {reason}")]
    NotLooked { container: String, condition: Condition, reason: String },
    /// The run was interrupted, or another container failed.
    #[error("the wait was interrupted")]
    Interrupted,
}

impl WaitError {
    /// Returns the rank among the errors of several containers: the error with the smallest rank is nearest to the cause.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Ended { .. } => 0,
            Self::NotLooked { .. } => 1,
            Self::Deadline { .. } | Self::Never { .. } => 2,
            Self::Interrupted => 3,
        }
    }

    /// Returns the error for a lab that is not ready: [`Error::Interrupted`], the cause on this host for which LXC did not start a
    /// container, or else this one.
    #[must_use]
    pub fn of_lab(self) -> anyhow::Error {
        let cause = match &self {
            Self::Interrupted => return Error::Interrupted.into(),
            Self::Ended { end, .. } if matches!(end.init, InitEnd::NotStarted | InitEnd::Unknown) => lxc::host_cause(),
            _ => None,
        };
        let error = self.into();
        match cause {
            Some(cause) => cause.error(&error),
            None => error,
        }
    }

    /// Returns the same error with the requested deadline `asked`, instead of the time that was left for this wait.
    #[must_use]
    pub(super) fn with_deadline(mut self, asked: Duration) -> Self {
        if let Self::Deadline { deadline, .. } = &mut self {
            *deadline = asked;
        }
        self
    }
}

/// Shell script that exits with 0 once systemd's boot is done, even with failed units; otherwise it prints the state of systemd.
const IS_BOOTED: &str = "state=$(systemctl is-system-running 2>&1); case $state in running|degraded) ;; *) echo \"systemd is $state\"; exit 1;; esac";

/// Returns the probes of a template. Without own probes, a machine with systemd is ready when its boot is done, because boot still deletes
/// temporary files; another machine is ready when it can run a program.
pub fn probes(template: &Template) -> Vec<Probe> {
    if !template.probes.is_empty() {
        return template.probes.clone();
    }
    let words: &[&str] = if template.init == Init::Systemd { &["sh", "-c", IS_BOOTED] } else { &["/bin/true"] };
    let condition = Condition::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    vec![Probe { condition, timeout: Duration::from_secs(30) }]
}

/// Phase of the machine during a wait: it determines which conditions may still be met without help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nearness {
    /// The machine starts, and its programs may still create what is missing: a wait ends early only after systemd's boot is done.
    Starting,
    /// The machine was ready before.
    Ready,
}

/// Circumstances of a wait for a condition.
#[expect(missing_debug_implementations, reason = "it holds closures")]
pub struct Circumstances<'a> {
    /// Network of the lab, from which TCP and HTTP conditions are tested.
    pub network: &'a NetworkNamespace,
    /// Folder for the output streams of test programs.
    pub streams_dir: &'a Path,
    /// Function that is polled during the wait; true ends the wait.
    pub interrupted: &'a dyn Fn() -> bool,
    /// Function that returns the number of changes to the machine that were begun from outside so far; `None` during a change, when no
    /// condition counts as hopeless.
    pub settled: &'a dyn Fn() -> Option<u64>,
    pub nearness: Nearness,
}

/// Returns the problem of a condition that no machine can meet, such as an empty path; `None` for a valid condition.
#[must_use]
pub fn is_no_condition(condition: &Condition) -> Option<String> {
    let of_text = |what: &str, text: &str| match text {
        "" => Some(format!("the {what} is empty")),
        text if text.contains('\0') => Some(format!("{text:?} has a zero byte")),
        _ => None,
    };
    match condition {
        Condition::Tcp(0) => Some("there is no TCP port 0".to_owned()),
        Condition::Tcp(_) => None,
        Condition::Http(path) => split_http(path).err(),
        Condition::Exec(argv) => {
            let program = of_text("program's name", argv.first().map_or("", String::as_str));
            program.or_else(|| argv.iter().find_map(|word| of_text("word", word).filter(|_| !word.is_empty())))
        }
        Condition::File(path) => of_text("path", path),
        Condition::Unit(unit) => of_text("unit's name", unit),
    }
}

/// Shell script that exits with 0 if a path exists, and with [`UNDER_A_FILE`] if a part of the path is not a folder; prints what is
/// missing.
const LOOK_AT_PATH: &str = "p=$1; [ -e \"$p\" ] && exit 0; d=${p%/*}; while [ -n \"$d\" ] && [ \"$d\" != \"$p\" ] && [ ! -e \"$d\" ]; \
do gone=$d; p=$d; d=${d%/*}; done; \
if [ -n \"$d\" ] && [ -e \"$d\" ] && [ ! -d \"$d\" ]; then echo \"$d is no folder\"; exit 20; fi; \
if [ -n \"$gone\" ]; then echo \"there is no folder $gone\"; else echo \"the path does not exist\"; fi; exit 1";

/// Exit status of [`LOOK_AT_PATH`] for a path that leads through a file.
const UNDER_A_FILE: i32 = 20;

/// Number of tests with the same hopeless answer after which a wait ends: a single answer may come from a passing state.
const HOPELESS_LOOKS: u32 = 2;

impl Container {
    /// Waits until a condition is met, and returns the time that this took.
    pub fn wait_for(
        &self,
        condition: &Condition,
        deadline: Duration,
        circumstances: &Circumstances<'_>,
    ) -> Result<Duration, WaitError> {
        let Circumstances { network, streams_dir, interrupted, settled, .. } = circumstances;
        let mut hopeless: (u32, Option<u64>) = (0, None);
        let started = self.clock().watch();
        let container = self.machine().name.clone();
        let mut pause = PAUSE_FIRST;
        let mut network_look = NETWORK_LOOK_FIRST.scaled();
        let mut last = LastAnswer::default();
        loop {
            let left = deadline.saturating_sub(started.elapsed());
            let longest = match condition {
                Condition::Tcp(_) | Condition::Http(_) => network_look.min(LOOK_DEADLINE.scaled()),
                Condition::Exec(_) | Condition::File(_) | Condition::Unit(_) => LOOK_DEADLINE.scaled(),
            };
            let changes = settled();
            // Before its card is there, a look could only take time from the container's start.
            let bound = LookBound::new(longest, left);
            let answer = if self.init_pid().is_err() {
                pause = PAUSE_FIRST;
                ProbeAnswer::NotRunning("the machine has not started yet".to_owned())
            } else if self.outage().is_none() && !self.has_its_root() {
                ProbeAnswer::NotRunning("the machine has no root filesystem of its own yet".to_owned())
            } else {
                network_look = longest * 2;
                match self.look(condition, bound.time, network, streams_dir) {
                    Ok(()) => return Ok(started.elapsed()),
                    Err(answer) => answer,
                }
            };
            if let ProbeAnswer::NoTool(reason) = answer {
                return Err(WaitError::NotLooked { container, condition: condition.clone(), reason });
            }
            let reason = changes.and_then(|_| self.never(condition, &answer, circumstances));
            last.note(answer, bound);
            let is_settled = changes.is_some() && settled() == changes;
            hopeless = match &reason {
                Some(_) if is_settled && (hopeless.1 == changes || hopeless.0 == 0) => (hopeless.0 + 1, changes),
                _ => (0, None),
            };
            if let Some(end) = self.ending() {
                return Err(WaitError::Ended { end: Box::new(end), condition: condition.clone() });
            }
            if interrupted() {
                return Err(WaitError::Interrupted);
            }
            if let Some(reason) = reason.filter(|_| hopeless.0 >= HOPELESS_LOOKS) {
                let (condition, last) = (condition.clone(), Box::new(last));
                return Err(WaitError::Never { container, condition, reason, last });
            }
            if started.elapsed() >= deadline {
                return Err(WaitError::Deadline {
                    container,
                    condition: condition.clone(),
                    deadline,
                    last: Box::new(last),
                });
            }
            std::thread::sleep(pause); // between two looks at a condition that gives no sign of its own
            pause = (pause * 2).min(PAUSE_LAST);
        }
    }

    fn look(
        &self,
        condition: &Condition,
        bound: Duration,
        network: &NetworkNamespace,
        streams_dir: &Path,
    ) -> Result<(), ProbeAnswer> {
        let address = |port: u16| SocketAddr::new(IpAddr::V4(self.machine().address()), port);
        match condition {
            Condition::Tcp(port) => match network.connect(address(*port), bound) {
                Ok(_) => Ok(()),
                Err(error) => Err(of_network(&error, bound)),
            },
            Condition::Http(path) => {
                let (port, path) = split_http(path).map_err(ProbeAnswer::No)?;
                match http_status(network, address(port), &self.machine().name, path, bound) {
                    Ok(200..400) => Ok(()),
                    Ok(status) => Err(ProbeAnswer::No(format!("the answer's HTTP status is {status}"))),
                    Err(error) => Err(of_network(&error, bound)),
                }
            }
            Condition::Exec(argv) => self.look_by_exec(argv.clone(), bound, streams_dir),
            Condition::File(path) => {
                let argv = ["sh", "-c", LOOK_AT_PATH, "sh", path].map(str::to_owned).to_vec();
                self.look_by_exec(argv, bound, streams_dir)
            }
            Condition::Unit(unit) => self.look_at_unit(unit, bound, streams_dir),
        }
    }

    /// Returns the reason why a condition with this answer cannot be met any more, unless the machine is changed from outside.
    fn never(&self, condition: &Condition, answer: &ProbeAnswer, circumstances: &Circumstances<'_>) -> Option<String> {
        let is_ready = circumstances.nearness == Nearness::Ready;
        match (condition, answer) {
            (Condition::Unit(unit), ProbeAnswer::DeadEnd { evidence, .. }) => {
                self.unit_never(unit, evidence, is_ready, circumstances.streams_dir)
            }
            (Condition::Unit(_), ProbeAnswer::No(_)) if is_ready && self.lacks("systemctl") => {
                Some("the machine has no `systemctl`: only systemd has units".to_owned())
            }
            (Condition::Unit(_), ProbeAnswer::No(text))
                if is_ready && self.machine().template.init != Init::Systemd && text.contains("not been booted") =>
            {
                Some("systemd does not run in this machine".to_owned())
            }
            (Condition::Unit(_), ProbeAnswer::No(text)) if is_ready && text.contains("neither a valid") => {
                Some(text.clone())
            }
            (Condition::File(_), ProbeAnswer::DeadEnd { text, .. }) if is_ready => Some(text.clone()),
            (Condition::Exec(argv), ProbeAnswer::No(_)) if is_ready => {
                let program = argv.first().filter(|program| self.lacks(program))?;
                Some(format!("the machine has no program {program:?}"))
            }
            _ => None,
        }
    }

    fn look_by_exec(&self, argv: Vec<String>, bound: Duration, streams_dir: &Path) -> Result<(), ProbeAnswer> {
        let request =
            ExecRequest { argv, deadline: bound, streams_dir: streams_dir.to_owned(), ..ExecRequest::default() };
        self.answer_of(&request).map(drop)
    }

    /// Runs a program that tests a condition: returns its output if it succeeded, else the answer of the probe.
    pub(super) fn answer_of(&self, request: &ExecRequest) -> Result<ExecOutput, ProbeAnswer> {
        match self.exec(request) {
            Ok(output) if output.timed_out && output.was_running => Err(ProbeAnswer::Hung(request.deadline)),
            Ok(output) if output.timed_out => Err(ProbeAnswer::Overran(request.deadline)),
            Ok(output) if output.status == 0 => Ok(output),
            Ok(output) if output.status == UNDER_A_FILE && request.argv.iter().any(|word| word == LOOK_AT_PATH) => {
                let text = output.tail();
                Err(ProbeAnswer::DeadEnd { evidence: text.clone(), text })
            }
            Ok(output) => Err(ProbeAnswer::No(format!("status {} {}", output.status, output.tail()).trim_end().into())),
            Err(ExecError::Outage(outage)) => Err(ProbeAnswer::NotRunning(outage.to_string())),
            // A program of the host that every look needs.
            Err(ExecError::Command(error)) if matches!(error.problem, Problem::Missing(_)) => {
                Err(ProbeAnswer::NoTool(error.to_string()))
            }
            Err(error) => Err(ProbeAnswer::NotLooked(format!("{:#}", anyhow::Error::from(error)))),
        }
    }
}

/// Returns the answer of a failed test over the network: [`ProbeAnswer::Overran`] for a connection that timed out.
fn of_network(error: &std::io::Error, bound: Duration) -> ProbeAnswer {
    if is_timeout(error) { ProbeAnswer::Overran(bound) } else { ProbeAnswer::No(error.to_string()) }
}

/// Tells whether a test over the network failed because its deadline passed.
pub(super) fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// Parses `/path` or `:8080/path` into port and path; the default port is 80.
fn split_http(text: &str) -> Result<(u16, &str), String> {
    let Some(rest) = text.strip_prefix(':') else { return Ok((80, text)) };
    let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = port.parse().map_err(|_| format!("{text:?} has no valid port: write \"/path\" or \":8080/path\""))?;
    Ok((port, if path.is_empty() { "/" } else { path }))
}

/// Requests a page, within the deadline, and returns its HTTP status.
pub(super) fn http_status(
    network: &NetworkNamespace,
    address: SocketAddr,
    host: &str,
    path: &str,
    deadline: Duration,
) -> std::io::Result<u16> {
    const SHORTEST: Duration = Duration::from_millis(1); // the system calls do not take none
    let started = Instant::now();
    let mut stream = network.connect(address, deadline.max(SHORTEST))?;
    let left = || deadline.saturating_sub(started.elapsed()).max(SHORTEST);
    stream.set_write_timeout(Some(left()))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let (mut head, mut count) = ([0; 64], 0);
    while count < head.len() && !head[..count].contains(&b'\n') {
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut head[count..])? {
            0 => break,
            more => count += more, // a server may write its first line in pieces
        }
    }
    let line = String::from_utf8_lossy(&head[..count]).into_owned();
    let status = line.split(' ').nth(1).and_then(|word| word.get(..3)).and_then(|word| word.parse().ok());
    status.ok_or_else(|| std::io::Error::other(format!("the answer is not HTTP: it begins with {line:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_nothing_is_late_and_one_that_refuses_answers() {
        let of = |kind: ErrorKind| of_network(&std::io::Error::from(kind), Duration::from_secs(1));
        for late in [ErrorKind::TimedOut, ErrorKind::WouldBlock] {
            assert_eq!(of(late), ProbeAnswer::Overran(Duration::from_secs(1)));
        }
        assert_eq!(of(ErrorKind::ConnectionRefused), ProbeAnswer::No("connection refused".into()));
        let other = of_network(&std::io::Error::other("this is no HTTP answer"), Duration::from_secs(1));
        assert_eq!(other, ProbeAnswer::No("this is no HTTP answer".into()));
    }

    #[test]
    fn http_conditions_name_a_port_or_mean_80() {
        assert_eq!(split_http("/status").unwrap(), (80, "/status"));
        assert_eq!(split_http(":8080/x").unwrap(), (8080, "/x"));
        assert_eq!(split_http(":8080").unwrap(), (8080, "/"));
        assert!(split_http(":x/").is_err());
    }
}
