//! The clock of a systemd unit's processes: ahead, behind, too fast or too slow. libfaketime, preloaded into the unit, gives its processes
//! another time; all other processes have the right time.
//!
//! A process can have the library in its memory and read the right time all the same: a Go program, and any other that makes the system
//! call itself, does not use the C library. So the evidence is the process's own reading: the library opens the file with the unit's clock
//! whenever it is asked for the time, and the kernel tells who opens it. Where no process is observed to open the file, the fault is not
//! applicable to its unit.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::disk::open_watch::{Image, OpenWatch, open_watch_problem};
use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::net::listeners::listening_at;
use super::net::network_of;
use super::service::Unit;
use super::strace::{asks_for_time, strace_problem};
use crate::error::Error;
use crate::host::exec::process::{Running, name_of};
use crate::host::patience::Deadline;
use crate::host::syntax::{self, Text, UnitWord, compose};

/// Seconds for which each attempt in turn watches a clock's rate: the longer, the less a delay on a busy machine changes the result.
const WATCH_SECONDS: [u32; 5] = [1, 1, 2, 4, 6];

/// Maximum offset of a clock that counts as right.
const SLACK: Duration = Duration::from_millis(100);

/// Deadline for the restart of a unit.
const RESTART_DEADLINE: Deadline = Deadline::from_secs(60);

/// Deadline for the unit to run again after a restart of its container.
const START_DEADLINE: Deadline = Deadline::from_secs(60);

/// Interval between two checks whether the unit runs.
const START_POLL: Duration = Duration::from_millis(50);

/// Deadlines for a process to read its clock, after the injection and in the check before healing, and the time after which connections to
/// the unit's ports make the processes read the clock.
const READ_DEADLINE: Deadline = Deadline::from_secs(6);
const READ_AGAIN_DEADLINE: Deadline = Deadline::from_secs(2);
const ASK_AFTER: Duration = Duration::from_millis(300);

/// Time that a restarted program has for its start. A reading of the clock within it, such as one of an interpreter, is no evidence: the
/// program itself may never read its clock.
const START_TIME: Deadline = Deadline::from_secs(2);

/// Time for which the processes are watched for system calls that ask the kernel for the time.
const CALLS_WATCHED: Duration = Duration::from_millis(300);

const CONNECT_DEADLINE: Deadline = Deadline::from_millis(300);

/// Folder of the files with the units' clocks, in the container.
const FOLDER: &str = "run/e2e-clock";

/// Script that prints the path of libfaketime, in its variant for programs with threads, which works for all programs.
const FIND: &str = r#"for file in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib*/faketime/libfaketimeMT.so.1; do
    if [ -e "$file" ]; then echo "$file"; exit; fi
done
exit 3"#;

/// Script that writes the clock's file of the unit `$1` with the settings `$2`. Files in /run are lost with the container's end.
const PREPARE: &str = r#"set -e
umask 022
mkdir -p /run/e2e-clock
echo "$2" > "/run/e2e-clock/$1""#;

/// Script that gives the unit `$1` the drop-in `$2`, and restarts the unit.
const BEGIN: &str = r#"set -e
umask 022
mkdir -p "/run/systemd/system/$1.d"
printf '%s' "$2" > "/run/systemd/system/$1.d/e2e-clock.conf"
systemctl daemon-reload
systemctl restart -- "$1""#;

/// Script that changes the settings of the clock of the unit `$1` to `$2`, in one step.
const SET: &str = r#"set -e
umask 022
echo "$2" > "/run/e2e-clock/$1.new"
mv -f "/run/e2e-clock/$1.new" "/run/e2e-clock/$1""#;

/// Script that gives the unit `$1` the right clock again, if the unit has another.
const END: &str = r#"set -e
conf="/run/systemd/system/$1.d/e2e-clock.conf"
rm -f "/run/e2e-clock/$1"
if [ -e "$conf" ]; then
    rm -f "$conf"
    rmdir "/run/systemd/system/$1.d" 2>/dev/null || true
    systemctl daemon-reload
    systemctl restart -- "$1"
fi"#;

/// Script that prints the right time, the time by the unit's clock, and the right time again, waits, and prints all three once more. The
/// right time is read without the library; both readings by the unit's clock count from the start of the shell.
const LOOK: &str = r#"right() { env -u LD_PRELOAD date +%s.%N; }
a=$(right); b=$(date +%s.%N); c=$(right)
env -u LD_PRELOAD sleep "$1"
d=$(right); e=$(date +%s.%N); f=$(right)
env -u LD_PRELOAD rm -f "/dev/shm/faketime_shm_$$" "/dev/shm/sem.faketime_sem_$$"
echo "$a $b $c $d $e $f""#;

/// Fault that gives the processes of a systemd unit another clock.
pub struct Clock {
    unit: String,
    kind: Kind,
    library: String,
    begun: bool,
    reads: Option<Reads>,
    /// Time at which the unit was restarted with the fault's clock.
    restarted: Option<Instant>,
}

/// Watch for processes of a unit that read their clock.
struct Reads {
    opens: OpenWatch,
    /// Programs in which the library has started. The library opens the clock's file once at its start; each further open is a reading.
    started: Vec<Image>,
}

impl Reads {
    fn begin(target: &FaultTarget<'_>) -> anyhow::Result<Self> {
        Ok(Self { opens: OpenWatch::on(&target.container.root()?, FOLDER)?, started: Vec::new() })
    }

    /// Counts every open of the clock's file until now as made by the library at its start, not as a reading.
    fn forget(&mut self, target: &FaultTarget<'_>, unit: &str) -> anyhow::Result<()> {
        for pid in self.opens.wait(Duration::ZERO)? {
            self.note(target, unit, pid);
        }
        Ok(())
    }

    /// Notes the programs of these processes as started, so that their next open of the clock's file is a reading.
    fn know(&mut self, processes: &[Running]) {
        self.started.extend(processes.iter().filter_map(|process| Image::of(process.pid)));
    }

    /// Tells whether an open of the clock's file by this process is a reading of the clock by a process of the unit; if not, notes the
    /// process's program as started.
    fn note(&mut self, target: &FaultTarget<'_>, unit: &str, pid: i32) -> bool {
        if !processes_of(target, unit).iter().any(|process| process.pid == pid) {
            return false;
        }
        let Some(image) = Image::of(pid) else { return false };
        let is_reading = self.started.contains(&image);
        if !is_reading {
            self.started.push(image);
        }
        is_reading
    }

    /// Waits until a process of the unit reads its clock, and names the process; `None` when the deadline passed first. Idle processes are
    /// given work by connections that end at once.
    fn wait(&mut self, target: &FaultTarget<'_>, unit: &str, deadline: Duration) -> anyhow::Result<Option<String>> {
        let begun = Instant::now();
        loop {
            let left = deadline.saturating_sub(begun.elapsed());
            for pid in self.opens.wait(left.min(ASK_AFTER))? {
                if self.note(target, unit, pid) {
                    return Ok(Some(format!("process {pid} ({})", name_of(pid))));
                }
            }
            if left.is_zero() {
                return Ok(None);
            }
            if begun.elapsed() >= ASK_AFTER {
                ask(target, unit);
            }
        }
    }
}

/// Returns the processes of a systemd unit in the container, with their host PIDs.
fn processes_of(target: &FaultTarget<'_>, unit: &str) -> Vec<Running> {
    let all = target.container.processes_of("").into_iter();
    all.filter(|process| process.systemd_unit().as_deref() == Some(unit)).collect()
}

/// Opens a connection to each port that the processes of a unit listen on, and closes it.
fn ask(target: &FaultTarget<'_>, unit: &str) {
    let pids: Vec<i32> = processes_of(target, unit).iter().map(|process| process.pid).collect();
    let Ok(network) = network_of(target.container) else { return };
    for address in listening_at(&pids) {
        // Whoever takes no connection has other work, or none: that is seen by its reading.
        let _ = network.inside(|| TcpStream::connect_timeout(&address, CONNECT_DEADLINE.scaled()));
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Jump { offset_ms: i64 },
    Rate { percent: u32 },
}

/// Observed clock, compared with the right one.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    /// Seconds by which the clock is ahead; negative where it is behind.
    ahead: f64,
    unsure: f64,
    /// Lowest and highest possible rate, in percent of the right one; `None` where the clock was not watched long enough.
    percent: Option<(f64, f64)>,
}

impl Seen {
    /// Tells whether the clock may be `seconds` ahead of the right one, within the error of the observation.
    fn may_be_ahead(&self, seconds: f64) -> bool {
        (self.ahead - seconds).abs() <= self.unsure + SLACK.as_secs_f64()
    }

    /// Tells whether the lowest and the highest possible rate of the clock are both nearer to `to` than to `than`, in percent.
    fn is_nearer(&self, to: f64, than: f64) -> bool {
        let is_near = |percent: f64| (percent - to).abs() < (to - than).abs() / 2.0;
        self.percent.is_some_and(|(least, most)| is_near(least) && is_near(most))
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.percent {
            Some((least, most)) => write!(f, "a clock of {:.0} % of the right rate", f64::midpoint(least, most)),
            None if self.ahead < 0.0 => write!(f, "a clock {:.3} s behind", -self.ahead),
            None => write!(f, "a clock {:.3} s ahead", self.ahead),
        }
    }
}

impl Clock {
    pub fn jump(unit: &str, offset_ms: i64) -> Self {
        Self::new(unit, Kind::Jump { offset_ms })
    }

    pub fn rate(unit: &str, percent: u32) -> Self {
        Self::new(unit, Kind::Rate { percent })
    }

    fn new(unit: &str, kind: Kind) -> Self {
        Self { unit: unit.to_owned(), kind, library: String::new(), begun: false, reads: None, restarted: None }
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Jump { .. } => "clock.jump",
            Kind::Rate { .. } => "clock.rate",
        }
    }

    /// Environment variables that give a program the unit's clock.
    fn environment(&self) -> [String; 4] {
        [
            format!("LD_PRELOAD={}", self.library),
            format!("FAKETIME_TIMESTAMP_FILE=/run/e2e-clock/{}", self.unit),
            // A change counts at once.
            "FAKETIME_NO_CACHE=1".to_owned(),
            // Waiting goes on as it should: it is the time of day that is wrong.
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }

    fn drop_in(&self) -> anyhow::Result<Text<syntax::Unit>> {
        let line = |entry: String| anyhow::Ok(compose!(Unit, "Environment={entry}\n", entry = UnitWord::new(&entry)?));
        let lines: Text<syntax::Unit> = self.environment().into_iter().map(line).collect::<anyhow::Result<_>>()?;
        Ok(compose!(Unit, "[Service]\n{lines}", lines = lines))
    }

    /// Settings of libfaketime before the unit's start, and those set afterwards, if others. libfaketime counts a rate from a process's
    /// start.
    fn settings(&self) -> (String, Option<String>) {
        match self.kind {
            Kind::Jump { offset_ms } => ("+0 x1".into(), Some(format!("{:+.3}", offset_ms as f64 / 1e3))),
            Kind::Rate { percent } => (format!("+0 x{:.2}", f64::from(percent) / 100.0), None),
        }
    }

    /// Main process of the active unit; the inner error is the reason why there is none.
    fn process(&self, target: &FaultTarget<'_>) -> anyhow::Result<Result<u32, String>> {
        let Unit { state, process } = Unit::look(target, &self.unit)?;
        Ok(match (state, process) {
            (state, _) if state != "active" => Err(format!("the unit {} is {state}, not active", self.unit)),
            (_, None) => Err(format!("the unit {} has no process of its own", self.unit)),
            (_, Some(pid)) => Ok(pid),
        })
    }

    fn run(&self, target: &FaultTarget<'_>, script: &'static str, arguments: &[&str]) -> anyhow::Result<()> {
        let script = compose!(Shell, "{script}", script = script);
        let argv = [&["/bin/sh", "-c", script.as_script(), "clock", &self.unit], arguments].concat();
        let output = target.exec_within(&argv, RESTART_DEADLINE.scaled())?;
        if output.timed_out {
            bail!(
                "{} is not up {} s after its restart: a program with an allocator of its own, such as jemalloc in Redis, \
                 does not start with libfaketime; {}",
                self.unit,
                RESTART_DEADLINE.scaled().as_secs(),
                output.tail()
            );
        }
        if output.status != 0 {
            bail!("setting the clock of {} ended with status {}: {}", self.unit, output.status, output.tail());
        }
        Ok(())
    }

    fn begin(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (first, then) = self.settings();
        self.run(target, PREPARE, &[&first])?;
        // From before the restart on: the library's own opening is told from readings by being the first.
        let mut reads = Reads::begin(target)?;
        self.run(target, BEGIN, &[&self.drop_in()?])?;
        if let Some(then) = then {
            self.run(target, SET, &[&then])?;
            reads.forget(target, &self.unit)?;
        }
        self.reads = Some(reads);
        Ok(())
    }

    /// Finds a system call by which a process of the unit asks the kernel for the time, past the library; `None` also where strace is
    /// missing, or traces the processes for another fault.
    fn own_call(&self, target: &FaultTarget<'_>) -> anyhow::Result<Option<String>> {
        let processes = processes_of(target, &self.unit);
        if strace_problem().is_some() || processes.iter().any(|process| process.tracer().is_some()) {
            return Ok(None);
        }
        let pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
        // No container's name has a dot.
        asks_for_time(&pids, CALLS_WATCHED, &target.lab.streams_dir().join(format!("{}.clock-calls", target.name())))
    }

    /// Error for a unit whose processes do not read their time through the library; `why` is the evidence.
    fn not_applicable(&self, why: &str) -> anyhow::Error {
        usage(format!("not applicable to {}: {why}", self.unit))
    }

    /// Observes the clock that a program with this environment reads.
    fn look(&self, target: &FaultTarget<'_>, environment: &[String], watch_seconds: u32) -> anyhow::Result<Seen> {
        let watch = match self.kind {
            Kind::Jump { .. } => 0,
            Kind::Rate { .. } => watch_seconds,
        };
        let watch = watch.to_string();
        let mut argv: Vec<&str> = vec!["env"];
        argv.extend(environment.iter().map(String::as_str));
        argv.extend(["/bin/sh", "-c", LOOK, "clock", &watch]);
        let said = target.ask(&argv)?;
        let said = String::from_utf8_lossy(&said);
        seen(&said)
            .with_context(|| format!("a program that reads its clock printed {said:?} instead of six clock times"))
    }

    /// Tells whether an observed clock is as the fault makes it, and cannot be a right one.
    fn is_wrong(&self, seen: &Seen) -> bool {
        match self.kind {
            Kind::Jump { offset_ms } => seen.may_be_ahead(offset_ms as f64 / 1e3) && !seen.may_be_ahead(0.0),
            Kind::Rate { percent } => seen.is_nearer(percent.into(), 100.0),
        }
    }

    /// Tells whether an observed clock is right, and cannot be as the fault makes it.
    fn is_right(&self, seen: &Seen) -> bool {
        let is_right = match self.kind {
            Kind::Jump { offset_ms } => !seen.may_be_ahead(offset_ms as f64 / 1e3),
            Kind::Rate { percent } => seen.is_nearer(100.0, percent.into()),
        };
        is_right && seen.may_be_ahead(0.0)
    }

    /// Observes a clock until `is_good` is true; the inner error is the last observation.
    fn look_until(
        &self,
        target: &FaultTarget<'_>,
        environment: &[String],
        is_good: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Result<Seen, Seen>> {
        let mut last = None;
        for watch_seconds in WATCH_SECONDS {
            let seen = self.look(target, environment, watch_seconds)?;
            if is_good(&seen) {
                return Ok(Ok(seen));
            }
            last = Some(seen);
        }
        last.map(Err).context("the clock was not observed")
    }

    /// Tells whether a process of the container has libfaketime in its memory.
    fn has_library(&self, target: &FaultTarget<'_>, pid: u32) -> anyhow::Result<bool> {
        let maps = target.ask(&["cat", &format!("/proc/{pid}/maps")])?;
        Ok(String::from_utf8_lossy(&maps).contains("/libfaketimeMT.so"))
    }
}

impl Effect for Clock {
    fn supported(&self) -> anyhow::Result<()> {
        let Some(problem) = open_watch_problem() else { return Ok(()) };
        let problem = format!("{}: {problem}, so no process can be observed reading its clock", self.name());
        let help = "run the engine as root of the host: the kernel refuses fanotify to any other root, such as \
                    that of an unprivileged container";
        Err(Error::Host { problem, help: help.into() }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let name = self.name();
        let found = target.exec(&["/bin/sh", "-c", FIND])?;
        if found.status != 0 || found.timed_out {
            let message = format!(
                "{name}: {} has no libfaketime: write \"libfaketime\" into `packages` of its template {}",
                target.name(),
                target.container.machine().template.name
            );
            return Err(usage(message));
        }
        let library = found.stdout.text().context("reading a program's output")?;
        self.library = library.trim().to_owned();
        let pid = self.process(target)?.map_err(|problem| usage(format!("{name}: {problem}")))?;
        if self.has_library(target, pid)? {
            return Err(usage(format!(
                "{name}: another fault has changed the clock of {} already: heal that fault first",
                self.unit
            )));
        }
        match self.look_until(target, &[], |seen| self.is_right(seen))? {
            Ok(seen) => Ok(format!("process {pid} runs; a program in {} sees {seen}", target.name())),
            Err(seen) => bail!("the clock of {} is not right before the fault: a program sees {seen}", target.name()),
        }
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        // All of it lies in the container, below /run.
        self.begun = true;
        self.begin(target)?;
        self.restarted = Some(Instant::now());
        Ok(())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let pid = match self.process(target)? {
            Ok(pid) => pid,
            Err(problem) => bail!("after its restart with the fault's clock, {problem}"),
        };
        if !self.has_library(target, pid)? {
            let why = format!("process {pid} has not loaded libfaketime: its program is static, or ignores LD_PRELOAD");
            return Err(self.not_applicable(&why));
        }
        let seen = match self.look_until(target, &self.environment(), |seen| self.is_wrong(seen))? {
            Ok(seen) => seen,
            Err(seen) => {
                bail!("a program with the environment of process {pid} does not see the fault's clock, but {seen}")
            }
        };
        let reads = self.reads.as_mut().context("the fault was not injected")?;
        let running = self.restarted.map_or(Duration::ZERO, |restarted| restarted.elapsed());
        std::thread::sleep(START_TIME.scaled().saturating_sub(running)); // no sign tells when an interpreter has started
        reads.forget(target, &self.unit)?;
        match reads.wait(target, &self.unit, READ_DEADLINE.scaled())? {
            Some(reader) => match self.own_call(target)? {
                None => Ok(format!("{reader} reads its clock through libfaketime: {seen}")),
                Some(call) => {
                    let why = format!(
                        "{reader} reads its clock through libfaketime, but a process of the unit asks the kernel for the time: {call}"
                    );
                    Err(self.not_applicable(&why))
                }
            },
            None => {
                let why = format!(
                    "none of its processes was seen reading its clock through libfaketime within {READ_DEADLINE}: they read \
                     no clock, or ask the kernel themselves, as a Go program does, and have the right time"
                );
                Err(self.not_applicable(&why))
            }
        }
    }

    /// Verifies the effect again before healing. A unit that was restarted meanwhile still has the fault's clock.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let pid = match self.process(target)? {
            Ok(pid) => pid,
            Err(problem) => return Ok(Lasted::over(problem)),
        };
        if !self.has_library(target, pid)? {
            let instead = format!("process {pid} of {} runs without libfaketime", self.unit);
            return Ok(Lasted::lost(Keeper::Container, instead));
        }
        let seen = self.look(target, &self.environment(), WATCH_SECONDS[0])?;
        if self.is_right(&seen) {
            return Ok(Lasted::lost(
                Keeper::Container,
                format!("a program with the environment of process {pid} sees the right clock: {seen}"),
            ));
        }
        let mut reads = Reads::begin(target)?;
        reads.know(&processes_of(target, &self.unit));
        Ok(match reads.wait(target, &self.unit, target.within(READ_AGAIN_DEADLINE.scaled()))? {
            Some(reader) if self.is_wrong(&seen) => {
                Lasted::until_now(format!("{reader} reads its clock through libfaketime: {seen}"))
            }
            Some(_) => Lasted::not_seen(format!(
                "a program with the environment of process {pid} sees neither the right clock nor the fault's, but {seen}"
            )),
            None => Lasted::not_seen(format!("no process of {} read its clock while the engine watched", self.unit)),
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        // What is down has lost it already.
        if !self.begun || target.container.outage().is_some_and(|outage| !outage.frozen) {
            return Ok(());
        }
        self.run(target, END, &[])
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; {} has the right clock when it starts", self.unit));
        }
        let pid = match self.process(target)? {
            Ok(pid) => pid,
            Err(problem) => bail!("after its restart with the right clock, {problem}"),
        };
        if self.has_library(target, pid)? {
            bail!("process {pid} of {} still has {} in its memory", self.unit, self.library);
        }
        match self.look_until(target, &self.environment(), |seen| self.is_right(seen))? {
            Ok(seen) => {
                Ok(format!("process {pid} runs without libfaketime; a program in {} sees {seen}", target.name()))
            }
            Err(seen) => bail!("a program in {} still sees {seen}", target.name()),
        }
    }

    /// Changes the clock of the unit again after a restart of the container, which has emptied /run. Waits until the unit runs first.
    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let problem = match self.process(target) {
                Ok(Ok(_)) => return self.begin(target),
                Ok(Err(problem)) => problem,
                Err(error) => format!("{error:#}"), // systemd does not answer yet
            };
            if begun.elapsed() > START_DEADLINE.scaled() {
                bail!(
                    "the container was started again, and the clock of {} could not be changed again within {} s: {problem}",
                    self.unit,
                    START_DEADLINE.scaled().as_secs()
                );
            }
            std::thread::sleep(START_POLL); // nothing tells when a unit of a container runs
        }
    }
}

/// Parses the six times that [`LOOK`] prints; `None` where they are not six.
fn seen(times: &str) -> Option<Seen> {
    let times: Vec<f64> = times.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, e, f] = times[..] else { return None };
    let first = f64::midpoint(a, c);
    // The clock was read at some moment between the two of each.
    let (shortest, longest) = (d - c, f - a);
    let percent = |passed: f64| (e - b) / passed * 100.0;
    let percent =
        (shortest > 0.0 && longest >= f64::from(WATCH_SECONDS[0])).then(|| (percent(longest), percent(shortest)));
    Some(Seen { ahead: b - first, unsure: (c - a) / 2.0, percent })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_told_by_six_times() {
        let jumped = seen("1000.00 4600.01 1000.02 1000.03 4600.04 1000.05\n").unwrap();
        assert!((jumped.ahead - 3600.0).abs() < 1e-6 && (jumped.unsure - 0.01).abs() < 1e-6, "{jumped:?}");
        assert_eq!((jumped.percent, jumped.to_string()), (None, "a clock 3600.000 s ahead".into()));
        let fast = seen("1000.00 1000.01 1000.02 1002.00 1004.01 1002.02").unwrap();
        let (least, most) = fast.percent.unwrap();
        assert!((least - 198.02).abs() < 0.01 && (most - 202.02).abs() < 0.01, "{fast:?}");
        assert_eq!(fast.to_string(), "a clock of 200 % of the right rate");
        assert_eq!((seen("1 2 3"), seen("1 2 3 4 5 x")), (None, None));
    }

    #[test]
    fn a_clock_is_right_or_wrong() {
        let check = |clock: Clock, ahead, percent: Option<f64>, is_right: bool, is_wrong: bool| {
            let seen = Seen { ahead, unsure: 0.01, percent: percent.map(|percent| (percent - 1.0, percent + 1.0)) };
            assert_eq!((clock.is_right(&seen), clock.is_wrong(&seen)), (is_right, is_wrong), "{seen:?}");
        };
        check(Clock::jump("x.service", -3_600_000), 0.05, None, true, false);
        check(Clock::jump("x.service", -3_600_000), -3600.05, None, false, true);
        check(Clock::jump("x.service", -3_600_000), 3600.0, None, false, false);
        check(Clock::rate("x.service", 50), 0.0, Some(101.0), true, false);
        check(Clock::rate("x.service", 50), 0.0, Some(52.0), false, true);
        check(Clock::rate("x.service", 50), 0.0, None, false, false);
    }

    #[test]
    fn a_look_that_was_held_up_proves_nothing() {
        let check = |clock: Clock, unsure, percent| {
            let seen = Seen { ahead: 0.5, unsure, percent };
            assert_eq!((clock.is_right(&seen), clock.is_wrong(&seen)), (false, false), "{seen:?}");
        };
        check(Clock::jump("x.service", 1000), 0.5, None);
        check(Clock::rate("x.service", 200), 0.5, Some((90.0, 160.0)));
        check(Clock::rate("x.service", 200), 0.5, Some((140.0, 210.0)));
    }

    #[test]
    fn the_library_is_told_by_an_offset_or_a_rate() {
        assert_eq!(Clock::jump("x.service", -1500).settings(), ("+0 x1".into(), Some("-1.500".into())));
        assert_eq!(Clock::jump("x.service", 3_600_000).settings().1.unwrap(), "+3600.000");
        assert_eq!(Clock::rate("x.service", 50).settings(), ("+0 x0.50".into(), None));
        let drop_in = Clock::rate("x.service", 50).drop_in().unwrap();
        assert!(drop_in.starts_with("[Service]\nEnvironment=LD_PRELOAD="), "{drop_in}");
        assert_eq!(drop_in.lines().count(), 5);
    }
}
