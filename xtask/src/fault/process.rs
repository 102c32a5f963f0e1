//! Faults of single processes: killed, paused.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::effect::usage;
use super::effect::{Effect, FaultTarget, Keeper, Lasted};
use super::node::run_a_program;
use crate::host::exec::process::Running;
use crate::host::patience::Deadline;

const END_DEADLINE: Deadline = Deadline::from_secs(5);

/// Fault that kills all processes of a command, which their supervisor may start again (`process.kill`). Where process 1 is among them, the
/// machine is down until the fault is healed.
pub struct Kill {
    command: String,
    killed: Vec<Running>,
    with_process_1: bool,
}

impl Kill {
    pub fn new(command: &str) -> Self {
        Self { command: command.to_owned(), killed: Vec::new(), with_process_1: false }
    }
}

impl Effect for Kill {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        self.killed = target.container.processes_of(&self.command);
        if self.killed.is_empty() {
            let message =
                format!("process.kill: no process of {} has {:?} in its command", target.name(), self.command);
            return Err(usage(message));
        }
        let first = target.container.init_pid()?;
        self.with_process_1 = self.killed.iter().any(|process| process.pid == first);
        Ok(format!("{} with this command run", counted(self.killed.len())))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if self.with_process_1 {
            return target.lab.kill(target.container, "process.kill"); // all others end with it
        }
        self.killed.iter().try_for_each(Running::kill)
    }

    fn verify_effect(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<String> {
        for process in &self.killed {
            if !process.wait_for_end(END_DEADLINE.scaled()) {
                bail!("process {} still runs, though it was killed", process.pid);
            }
        }
        let count = self.killed.len();
        let machine = if self.with_process_1 { ", process 1 among them: the machine is down" } else { "" };
        Ok(format!("{} {} gone{machine}", counted(count), if count == 1 { "is" } else { "are" }))
    }

    fn lasts(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        Ok(Lasted::Momentary)
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if self.with_process_1 { target.lab.start_again(target.container) } else { Ok(()) }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if self.with_process_1 {
            return run_a_program(target);
        }
        Ok(format!("{} with this command run now", counted(target.container.processes_of(&self.command).len())))
    }

    fn starts_container(&self) -> bool {
        self.with_process_1
    }
}

/// Maximum number of searches for processes of a command until one finds no further process.
const ROUNDS_MAX: usize = 50;

/// Time for which a paused process is watched; it must not use any processor time meanwhile.
const STILL_FOR: Deadline = Deadline::from_millis(100);

/// Deadline for processes to stop, or to go on.
const STATE_DEADLINE: Deadline = Deadline::from_secs(10);

/// Deadline for a supervisor in a restarted container to start the processes.
const SUPERVISOR_DEADLINE: Deadline = Deadline::from_secs(2);

const POLL: Duration = Duration::from_millis(2);

/// Fault that stops all processes of a command until it is healed (`process.pause`).
pub struct Pause {
    command: String,
    paused: Vec<Running>,
}

impl Pause {
    pub fn new(command: &str) -> Self {
        Self { command: command.to_owned(), paused: Vec::new() }
    }

    /// Stops all processes of the command, and those that they have started before they were stopped themselves.
    fn pause(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        for _ in 0..ROUNDS_MAX {
            let running = target.container.processes_of(&self.command);
            let fresh: Vec<Running> = running.into_iter().filter(|process| !self.paused.contains(process)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for process in fresh {
                process.pause()?;
                self.paused.push(process);
            }
        }
        bail!("processes with {:?} in their command start faster than they can be stopped", self.command)
    }

    /// Returns the paused processes that have not ended meanwhile.
    fn alive(&self) -> impl Iterator<Item = &Running> {
        self.paused.iter().filter(|process| !process.is_gone())
    }
}

impl Effect for Pause {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        let running = target.container.processes_of(&self.command);
        if running.is_empty() {
            let message =
                format!("process.pause: no process of {} has {:?} in its command", target.name(), self.command);
            return Err(usage(message));
        }
        if let Some(paused) = running.iter().find(|process| process.is_paused()) {
            let message = format!(
                "process.pause: process {} of {} is stopped already: heal the fault that stopped it, or let it go on",
                paused.pid,
                target.name()
            );
            return Err(usage(message));
        }
        Ok(format!("{} with this command run, none stands still", counted(running.len())))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.pause(target)
    }

    fn verify_effect(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let begun = Instant::now();
        // Once each thread has come to a stop, none may use any more time.
        while let Some(process) = self.alive().find(|process| !process.is_paused()) {
            if begun.elapsed() > STATE_DEADLINE.scaled() {
                bail!("process {} has not stopped", process.pid);
            }
            std::thread::sleep(POLL); // until it has left the kernel
        }
        let used = || -> Vec<Option<Duration>> { self.paused.iter().map(Running::cpu_time).collect() };
        let (still_since, before) = (Instant::now(), used());
        while still_since.elapsed() < STILL_FOR.scaled() {
            std::thread::sleep(POLL); // this long nothing may happen
        }
        let count = self.alive().filter(|process| process.is_paused()).count();
        if self.alive().count() == 0 {
            let message = format!("process.pause: all processes with {:?} in their command have ended", self.command);
            return Err(usage(message));
        }
        if count < self.alive().count() || used() != before {
            bail!(
                "{count} of {} are stopped: not all are, or some still used processor time",
                counted(self.paused.len())
            );
        }
        Ok(format!(
            "{} stood still: no thread ran, and none used processor time in {} ms",
            counted(count),
            STILL_FOR.scaled().as_millis()
        ))
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        if self.alive().count() == 0 {
            return Ok(Lasted::over("none of the paused processes is left"));
        }
        let used = || -> Vec<Option<Duration>> { self.paused.iter().map(Running::cpu_time).collect() };
        let (before, begun) = (used(), Instant::now());
        let still_for = target.within(STILL_FOR.scaled());
        while begun.elapsed() < still_for {
            std::thread::sleep(POLL); // this long nothing may happen
        }
        let (alive, still) = (self.alive().count(), self.alive().filter(|process| process.is_paused()).count());
        if still < alive || used() != before {
            return Ok(Lasted::lost(
                Keeper::Container,
                format!("{still} of {} are stopped: not all are, or some used processor time", counted(alive)),
            ));
        }
        Ok(Lasted::until_now(format!(
            "{} stood still: none used processor time in {} ms",
            counted(still),
            still_for.as_millis()
        )))
    }

    fn heal(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.paused.iter().try_for_each(Running::go_on)
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let begun = Instant::now();
        while let Some(process) = self.alive().find(|process| process.is_paused()) {
            if let Some(outage) = target.container.outage() {
                return Ok(format!("{outage}; the paused processes go on when the container does"));
            }
            if begun.elapsed() > STATE_DEADLINE.scaled() {
                bail!("process {} is still stopped", process.pid);
            }
            std::thread::sleep(POLL); // until it has its turn
        }
        Ok(match self.alive().count() {
            0 => "none of the paused processes is left".to_owned(),
            1 => "1 process goes on".to_owned(),
            count => format!("{count} processes go on"),
        })
    }

    /// Pauses the processes that still run after a restart; processes started later are left alone.
    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let begun = Instant::now();
        while target.container.processes_of(&self.command).is_empty() && begun.elapsed() < SUPERVISOR_DEADLINE.scaled()
        {
            std::thread::sleep(POLL); // until whoever supervises them has started them
        }
        self.paused.retain(|process| !process.is_gone());
        self.pause(target)
    }
}

pub fn counted(processes: usize) -> String {
    format!("{processes} {}", if processes == 1 { "process" } else { "processes" })
}
