//! Fault that lets running processes open no more files.

use anyhow::bail;
use nix::errno::Errno;

use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::remote_syscall::{Opened, open_more, problem};
use crate::error::Error;
use crate::host::exec::process::{FileBound, Running};
use crate::host::patience::Deadline;

/// Deadline for the end of a process that no longer answers.
const END_DEADLINE: Deadline = Deadline::from_secs(2);

/// Maximum number of files that a process may still open under the fault. A process that may open no more than that without the fault
/// counts as limited already.
const FREE_MAX: u32 = 256;

/// Number of attempts to observe a process: processes come and go.
const TRIES: usize = 5;

/// Fault that limits the number of open files of all processes of a command (`fd.cap`).
pub struct Cap {
    command: String,
    free: u32,
    capped: Vec<Capped>,
}

/// Process whose number of open files is limited, with its limits before and under the fault.
struct Capped {
    process: Running,
    before: FileBound,
    bound: FileBound,
}

impl Cap {
    pub fn new(command: &str, free: u32) -> Self {
        Self { command: command.to_owned(), free, capped: Vec::new() }
    }

    /// Limits the open files of all processes of the command.
    fn cap(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        for process in target.container.processes_of(&self.command) {
            let Ok(before) = process.file_bound() else { continue };
            // What a process may set itself stays: not every root may put that back.
            let most = bound_for(&process.open_files(), self.free);
            let bound = FileBound { soft: most.min(before.soft), hard: before.hard };
            // Known before it is done: healing finds it even if this stops halfway.
            self.capped.push(Capped { process: process.clone(), before, bound });
            if let Err(error) = process.bound_files(bound)
                && !process.is_gone()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has one of these processes open one more file than the fault leaves it.
    fn open(&self, processes: &[Running]) -> anyhow::Result<(i32, Opened)> {
        let mut last = None;
        for process in processes.iter().filter(|process| !process.is_gone()).take(TRIES) {
            match open_more(process.pid, self.free + 1) {
                Ok(opened) => return Ok((process.pid, opened)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no process with {:?} in its command runs", self.command)))
    }

    fn running(&self) -> Vec<Running> {
        self.capped.iter().map(|capped| capped.process.clone()).collect()
    }
}

impl Effect for Cap {
    fn supported(&self) -> anyhow::Result<()> {
        let Some(problem) = problem() else { return Ok(()) };
        let help =
            "if `sysctl kernel.yama.ptrace_scope` shows 3, boot with a lower value; otherwise use an x86-64 machine";
        Err(Error::Host { problem: format!("fd.cap: {problem}"), help: help.into() }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let running = target.container.processes_of(&self.command);
        if running.is_empty() {
            let message = format!("fd.cap: no process of {} has {:?} in its command", target.name(), self.command);
            return Err(usage(message));
        }
        for process in &running {
            let Ok(bound) = process.file_bound() else { continue };
            let left = left_below(&process.open_files(), bound.soft);
            if left <= u64::from(FREE_MAX) {
                let message = format!(
                    "fd.cap: process {} of {} may open only {left} more files already: heal the fault that limits it, or raise its limit",
                    process.pid,
                    target.name()
                );
                return Err(usage(message));
            }
        }
        let (pid, opened) = self.open(&running)?;
        if let Some(refusal) = opened.refusal {
            bail!("even without the fault, process {pid} could open only {} more files: {refusal}", opened.count);
        }
        Ok(format!("process {pid} could open {} more files", opened.count))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.cap(target)
    }

    fn verify_effect(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let (pid, opened) = self.open(&self.running())?;
        match opened.refusal {
            Some(Errno::EMFILE) if opened.count <= self.free => {
                Ok(format!("process {pid} could open {} more files: {}", opened.count, Errno::EMFILE))
            }
            Some(refusal) => {
                bail!(
                    "process {pid} could open {} more files, but then failed not at the fault's limit: {refusal}",
                    opened.count
                )
            }
            None => bail!("process {pid} could still open {} files, more than the fault leaves", opened.count),
        }
    }

    /// Verifies the effect again before healing. A process may raise its own limit again.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        if let Some(outage) = target.container.outage() {
            return Ok(Lasted::not_seen(outage.to_string()));
        }
        let left: Vec<Running> = self.running().into_iter().filter(|process| !process.is_gone()).collect();
        if left.is_empty() {
            return Ok(Lasted::over("none of the processes that the fault limited is left"));
        }
        let (pid, opened) = self.open(&left)?;
        let seen = |why: &dyn std::fmt::Display| format!("process {pid} could open {} more files: {why}", opened.count);
        Ok(match opened.refusal {
            Some(Errno::EMFILE) if opened.count <= self.free => Lasted::until_now(seen(&Errno::EMFILE)),
            Some(Errno::EMFILE) | None => Lasted::lost(
                Keeper::Container,
                format!("process {pid} could open {} files, more than the fault leaves", opened.count),
            ),
            Some(refusal) => Lasted::not_seen(seen(&refusal)),
        })
    }

    /// Restores the limits of the processes, and of child processes that inherited a changed limit.
    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        for process in target.container.processes_of("") {
            let Ok(now) = process.file_bound() else { continue };
            let own = self.capped.iter().find(|capped| capped.process == process);
            if let Some(capped) = own.into_iter().chain(&self.capped).find(|capped| capped.bound == now)
                && let Err(error) = process.bound_files(capped.before)
                && !process.is_gone()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Ok(format!("{outage}; nothing limits the open files of its processes any more"));
        }
        let left: Vec<Running> = self.running().into_iter().filter(|process| !process.is_gone()).collect();
        if left.is_empty() {
            return Ok("none of the processes that the fault limited is left".into());
        }
        let (pid, opened) = match self.open(&left) {
            // One that is about to end has no memory any more to make a call with.
            Err(_) if left.iter().all(|process| process.wait_for_end(END_DEADLINE.scaled())) => {
                return Ok("none of the processes that the fault limited is left".into());
            }
            other => other?,
        };
        match opened.refusal {
            None => Ok(format!("process {pid} could open {} more files", opened.count)),
            Some(refusal) => bail!("process {pid} still could open only {} more files: {refusal}", opened.count),
        }
    }

    /// Limits the processes of the command again if a restart of the container has ended all that were limited.
    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.capped.retain(|capped| !capped.process.is_gone());
        if self.capped.is_empty() { self.cap(target) } else { Ok(()) }
    }
}

/// Returns the limit below which exactly `free` descriptor numbers are unused: the kernel gives a new file the lowest one.
fn bound_for(used: &[u64], free: u32) -> u64 {
    let mut unused = (0..).filter(|number| !used.contains(number));
    unused.nth(free as usize).unwrap_or(u64::MAX)
}

/// Returns the count of unused descriptor numbers below a limit.
fn left_below(used: &[u64], bound: u64) -> u64 {
    bound.saturating_sub(used.iter().filter(|number| **number < bound).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_leaves_exactly_so_many_numbers() {
        for (used, free, expected) in
            [(&[0, 1, 2][..], 0, 3), (&[0, 1, 2], 2, 5), (&[0, 1, 2, 5], 0, 3), (&[0, 1, 2, 5], 3, 7), (&[], 0, 0)]
        {
            assert_eq!(bound_for(used, free), expected, "{used:?} {free}");
            assert_eq!(left_below(used, expected), u64::from(free), "{used:?} {free}");
        }
    }
}
