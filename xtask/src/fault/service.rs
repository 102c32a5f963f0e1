//! Fault of systemd units, and their states.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::effect::{Effect, FaultTarget, Keeper, Lasted, usage};
use crate::host::patience::Deadline;

/// Deadline for a unit that is being started: its process may have been killed meanwhile.
const START_DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval between two checks of a unit that is being started.
const START_POLL: Duration = Duration::from_millis(50);

/// Fault that stops a unit until it is healed (`service.stop`).
pub struct Stop {
    unit: String,
    begun: bool,
}

impl Stop {
    pub fn new(unit: &str) -> Self {
        Self { unit: unit.to_owned(), begun: false }
    }
}

impl Effect for Stop {
    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Unit { state, process } = Unit::look(target, &self.unit)?;
        if state != "active" {
            let message = format!("service.stop: the unit {} of {} is {state}, not active", self.unit, target.name());
            return Err(usage(message));
        }
        Ok(format!("the unit is active{}", named(process)))
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        self.begun = true;
        target.ask(&["systemctl", "stop", "--", &self.unit]).map(drop)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Unit { state, process } = Unit::look(target, &self.unit)?;
        if process.is_some() || !matches!(state.as_str(), "inactive" | "failed") {
            bail!("the unit is not stopped: it is {state}{}", named(process));
        }
        Ok(format!("the unit is {state} and has no process"))
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Unit { state, process } = Unit::look(target, &self.unit)?;
        Ok(match (state.as_str(), process) {
            ("inactive" | "failed", None) => Lasted::until_now(format!("the unit is {state} and has no process")),
            _ => Lasted::lost(Keeper::Container, format!("the unit is {state}{}", named(process))),
        })
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if self.begun {
            target.ask(&["systemctl", "start", "--", &self.unit])?;
        }
        Ok(())
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let started = Instant::now();
        loop {
            let Unit { state, process } = Unit::look(target, &self.unit)?;
            match state.as_str() {
                "active" => return Ok(format!("the unit is active again{}", named(process))),
                "activating" if started.elapsed() < START_DEADLINE.scaled() => std::thread::sleep(START_POLL), // systemd is asked
                _ => bail!("the unit is {state}, not active"),
            }
        }
    }
}

/// Names a unit's process as the end of a sentence; empty where the unit, such as postgresql.service, has none of its own.
fn named(process: Option<u32>) -> String {
    process.map_or_else(String::new, |pid| format!(", process {pid}"))
}

/// Deadline for an answer of systemd: a machine that has just been started again runs programs before systemd answers.
const ANSWER_DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval between two questions while systemd does not answer yet.
const ANSWER_POLL: Duration = Duration::from_millis(50);

/// Message of `systemctl` when systemd does not answer.
const NO_ANSWER: &str = "Failed to connect to bus";

/// State of a systemd unit at one moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    /// Value of `ActiveState`.
    pub state: String,
    /// PID in the container of the unit's main process; `None` where it has none.
    pub process: Option<u32>,
}

impl Unit {
    /// Asks systemd for the state of a unit; fails where systemd does not answer within [`ANSWER_DEADLINE`].
    pub fn look(target: &FaultTarget<'_>, name: &str) -> anyhow::Result<Self> {
        let argv = ["systemctl", "show", "--property=ActiveState,MainPID", "--", name];
        let began = Instant::now();
        loop {
            let output = target.exec(&argv)?;
            let Some(why) = output.failure() else {
                return Ok(Self::parse(&output.stdout.text().context("reading a program's output")?));
            };
            if output.timed_out || !why.contains(NO_ANSWER) || began.elapsed() >= ANSWER_DEADLINE.scaled() {
                bail!("`{}` in {} {why}", argv.join(" "), target.name());
            }
            std::thread::sleep(ANSWER_POLL); // it is asked again
        }
    }

    fn parse(shown: &str) -> Self {
        let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let process = value("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0);
        Self { state: value("ActiveState").unwrap_or_default().to_owned(), process }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_without_a_process_has_none() {
        let unit = |state: &str, process| Unit { state: state.into(), process };
        assert_eq!(Unit::parse("MainPID=171\nActiveState=active\n"), unit("active", Some(171)));
        assert_eq!(Unit::parse("MainPID=0\nActiveState=inactive\n"), unit("inactive", None));
        assert_eq!(Unit::parse(""), unit("", None));
    }
}
