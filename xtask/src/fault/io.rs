//! Faults of system calls of running processes, which fail or take longer. strace changes the calls from outside, and the evidence is the
//! results that it has seen the processes get.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::strace::{Call, Change, calls, command, strace_problem};
use crate::error::Error;
use crate::guard::{Process, Spawn};
use crate::host::cgroup::Tree;
use crate::host::exec::process::{Running, name_of};
use crate::host::patience::Deadline;
use crate::host::undo::Undo;

/// Deadline for one of the processes to make the system call.
const CALL_DEADLINE: Deadline = Deadline::from_secs(10);

/// Deadline for strace to attach to the processes, or to detach.
const TRACER_DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval between two readings of strace's output.
const POLL: Duration = Duration::from_millis(2);

/// Fault that makes a system call of a command's processes fail, or take longer (`io.*`).
pub struct Calls {
    command: String,
    call: String,
    kind: Kind,
    tracer: Option<Tracer>,
}

enum Kind {
    Failing { error: String },
    Delayed { delay_ms: u32 },
}

/// Running strace, attached to the processes of the fault.
struct Tracer {
    process: Process,
    /// Processes that strace was started for.
    processes: Vec<Running>,
    cgroup: String,
    log: PathBuf,
}

impl Calls {
    pub fn failing(command: &str, call: &str, error: &str) -> Self {
        Self::new(command, call, Kind::Failing { error: error.to_owned() })
    }

    pub fn delayed(command: &str, call: &str, delay_ms: u32) -> Self {
        Self::new(command, call, Kind::Delayed { delay_ms })
    }

    fn new(command: &str, call: &str, kind: Kind) -> Self {
        Self { command: command.to_owned(), call: call.to_owned(), kind, tracer: None }
    }

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Failing { .. } => "io.error",
            Kind::Delayed { .. } => "io.delay",
        }
    }

    fn change(&self) -> Change {
        match &self.kind {
            Kind::Failing { error } => Change::Error(error.clone()),
            Kind::Delayed { delay_ms } => Change::Delay(Duration::from_millis(u64::from(*delay_ms))),
        }
    }

    /// Tells whether a finished call was changed as the fault demands.
    fn is_changed(&self, call: &Call) -> bool {
        match &self.kind {
            Kind::Failing { error } => call.is_injected && call.result.contains(error),
            Kind::Delayed { delay_ms } => {
                call.is_delayed && call.took >= Duration::from_millis(u64::from(*delay_ms)).mul_f64(0.95)
            }
        }
    }

    /// Returns the processes that the fault acts on; fails where another program traces one of them.
    fn processes(&self, target: &FaultTarget<'_>) -> anyhow::Result<Vec<Running>> {
        let found = target.container.processes_of(&self.command);
        if found.is_empty() {
            let message =
                format!("{}: no process of {} has {:?} in its command", self.name(), target.name(), self.command);
            return Err(usage(message));
        }
        for process in &found {
            if let Some(tracer) = process.tracer() {
                let message = format!(
                    "{}: process {} of {} is traced already, by process {tracer} ({}): end the tracer, or heal its \
                     fault, first",
                    self.name(),
                    process.pid,
                    target.name(),
                    name_of(tracer)
                );
                return Err(usage(message));
            }
        }
        Ok(found)
    }

    /// Watches the call for a moment without the fault; `None` where no process makes it.
    fn look(&self, target: &FaultTarget<'_>) -> anyhow::Result<Option<Call>> {
        let processes = self.processes(target)?;
        let tracer = self.start(target, &processes, &Change::Nothing)?;
        let seen = tracer.wait_for(&self.call, CALL_DEADLINE.scaled(), |_| true);
        tracer.stop(target)?;
        Ok(seen?.ok())
    }

    fn start(&self, target: &FaultTarget<'_>, processes: &[Running], change: &Change) -> anyhow::Result<Tracer> {
        let pids: Vec<i32> = processes.iter().map(|process| process.pid).collect();
        // A process has one tracer: the number of its first tells it from others. No container's name has a dot.
        let name = format!("{}.strace-{}", target.name(), pids.first().copied().unwrap_or_default());
        let cgroup = format!("{}/{name}", target.lab.guard().slot().cgroup());
        let log = target.lab.streams_dir().join(&name);
        let undo = vec![Undo::RemoveTree { path: log.clone() }, Undo::KillCgroup { name: cgroup.clone() }];
        target.lab.guard().undo(undo.clone())?;
        target.lab.guard().note(undo)?;
        let argv = command(&self.call, change, &pids);
        let process = target.lab.guard().spawn(Spawn {
            name,
            argv,
            environment: Vec::new(),
            log: log.clone(),
            filtered: None,
        })?;
        let tracer = Tracer { process, processes: processes.to_vec(), cgroup, log };
        match self.wait_until_traced(&tracer, processes) {
            Ok(()) => Ok(tracer),
            Err(error) => {
                tracer.stop(target)?;
                Err(error)
            }
        }
    }

    fn wait_until_traced(&self, tracer: &Tracer, processes: &[Running]) -> anyhow::Result<()> {
        let begun = Instant::now();
        let pid = tracer.process.pid();
        while !processes.iter().all(|process| process.is_gone() || process.tracer() == Some(pid)) {
            if let Some(end) = tracer.process.exited() {
                let said = tracer.said();
                if said.contains("invalid") {
                    return Err(usage(format!("{}: {}", self.name(), said.trim())));
                }
                bail!("strace {end}: {}", said.trim());
            }
            if begun.elapsed() > TRACER_DEADLINE.scaled() {
                bail!(
                    "strace has not attached to the processes within {} s: {}",
                    TRACER_DEADLINE.scaled().as_secs(),
                    tracer.said()
                );
            }
            std::thread::sleep(POLL); // the kernel gives no sign of a process that is traced
        }
        Ok(())
    }

    fn describe(&self, call: &Call) -> String {
        let who = call.pid.map_or_else(|| "the process".to_owned(), |pid| format!("process {pid}"));
        format!("{who} got {} from {} after {:.1} ms", call.result, self.call, call.took.as_secs_f64() * 1e3)
    }
}

impl Tracer {
    fn said(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for a finished call for which `is_good` is true; the inner error says what was observed instead.
    fn wait_for(
        &self,
        call: &str,
        deadline: Duration,
        is_good: impl Fn(&Call) -> bool,
    ) -> anyhow::Result<Result<Call, String>> {
        let begun = Instant::now();
        loop {
            // Before its words are read: what it wrote last is among them.
            let (ended, late) = (self.process.exited(), begun.elapsed() > deadline);
            let seen = calls(&self.said(), call);
            if let Some(good) = seen.iter().find(|call| is_good(call)) {
                return Ok(Ok(good.clone()));
            }
            if late || ended.is_some() {
                return Ok(Err(match seen.last() {
                    Some(other) => {
                        format!("{} calls of {call} returned unchanged, the last with {}", seen.len(), other.result)
                    }
                    None if ended.is_some() => format!("the processes have ended, without a call of {call}"),
                    None => format!("none of the processes has called {call} in {} s", deadline.as_secs()),
                }));
            }
            std::thread::sleep(POLL); // until strace has written more
        }
    }

    /// Ends strace, so that the processes go on unchanged.
    fn stop(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        // What is frozen cannot be let go of in good order: the kernel does it when strace is killed.
        if !target.container.outage().is_some_and(|outage| outage.frozen) {
            for tracer in Running::find(&Tree::named(&self.cgroup), "strace") {
                tracer.tell_to_end()?;
                let _ = tracer.wait_for_end(TRACER_DEADLINE.scaled()); // the next step kills it
            }
        }
        target
            .lab
            .guard()
            .undo(vec![Undo::KillCgroup { name: self.cgroup.clone() }, Undo::RemoveTree { path: self.log.clone() }])
    }
}

impl Effect for Calls {
    fn supported(&self) -> anyhow::Result<()> {
        let Some(problem) = strace_problem() else { return Ok(()) };
        let help = "`cargo xtask setup --optional` installs strace; root must be allowed to trace processes \
                    (CAP_SYS_PTRACE, and kernel.yama.ptrace_scope below 3)";
        Err(Error::Host { problem: format!("{}: {problem}", self.name()), help: help.into() }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        match self.look(target)? {
            Some(call) => Ok(self.describe(&call)),
            None => {
                let message = format!(
                    "{}: no process of {} with {:?} in its command has called {} within {} s, so the \
                     fault's effect could not be seen",
                    self.name(),
                    target.name(),
                    self.command,
                    self.call,
                    CALL_DEADLINE.scaled().as_secs()
                );
                Err(usage(message))
            }
        }
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let processes = self.processes(target)?;
        self.tracer = Some(self.start(target, &processes, &self.change())?);
        Ok(())
    }

    fn verify_effect(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some(tracer) = &self.tracer else { bail!("the fault was not injected") };
        let deadline = match self.kind {
            Kind::Failing { .. } => CALL_DEADLINE.scaled(),
            Kind::Delayed { delay_ms } => CALL_DEADLINE.scaled() + Duration::from_millis(u64::from(delay_ms)),
        };
        match tracer.wait_for(&self.call, deadline, |call| self.is_changed(call))? {
            Ok(call) => Ok(self.describe(&call)),
            Err(instead) => bail!(instead),
        }
    }

    /// Verifies the effect again before healing. A process has only one tracer: while the fault's strace is the tracer, the calls are
    /// changed.
    fn lasts(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Some(tracer) = &self.tracer else { bail!("the fault was not injected") };
        let alive: Vec<Running> = tracer.processes.iter().filter(|process| !process.is_gone()).cloned().collect();
        if alive.is_empty() {
            return Ok(Lasted::over("the traced processes have ended"));
        }
        let pid = tracer.process.pid();
        if let Some(end) = tracer.process.exited() {
            return Ok(Lasted::lost(Keeper::Host, format!("strace {end}")));
        }
        if let Some(free) = alive.iter().find(|process| process.tracer() != Some(pid)) {
            return Ok(Lasted::lost(
                Keeper::Host,
                format!("process {} is no longer traced by the fault's strace", free.pid),
            ));
        }
        let seen = calls(&tracer.said(), &self.call);
        Ok(match seen.last() {
            Some(last) if self.is_changed(last) => {
                let evidence =
                    format!("of {} calls of {} the last was changed: {}", seen.len(), self.call, self.describe(last));
                Lasted::until_now(evidence)
            }
            Some(last) => Lasted::not_seen(format!("the last call was unchanged: {}", self.describe(last))),
            None => Lasted::not_seen(format!("no call of {} has returned", self.call)),
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match &self.tracer {
            Some(tracer) => tracer.stop(target),
            None => Ok(()),
        }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing changes its system calls any more"));
        }
        if target.container.processes_of(&self.command).is_empty() {
            return Ok("the processes have ended".into());
        }
        match self.look(target)? {
            Some(call) if !call.is_injected && !call.is_delayed => Ok(self.describe(&call)),
            Some(call) => bail!("a call is still changed: {}", self.describe(&call)),
            None => Ok(format!("the processes do not call {} any more, and nothing traces them", self.call)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_change_itself_counts() {
        let call = |result: &str, took_ms, is_injected, is_delayed| Call {
            pid: None,
            result: result.into(),
            took: Duration::from_millis(took_ms),
            is_injected,
            is_delayed,
        };
        let failing = Calls::failing("x", "fsync", "EIO");
        assert!(failing.is_changed(&call("-1 EIO (Input/output error)", 0, true, false)));
        assert!(!failing.is_changed(&call("-1 EIO (Input/output error)", 0, false, false)), "by itself");
        assert!(!failing.is_changed(&call("-1 ENOSPC (No space left on device)", 0, true, false)));
        let delayed = Calls::delayed("x", "fsync", 100);
        assert!(delayed.is_changed(&call("0", 101, false, true)));
        assert!(!delayed.is_changed(&call("0", 101, false, false)), "by itself");
        assert!(!delayed.is_changed(&call("0", 50, false, true)));
    }
}
