//! State of a unit as systemd reports it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::effect::Site;
use crate::host::patience::Deadline;

/// Deadline for an answer of systemd: a machine that has just been started again runs programs before it does.
const ANSWER_DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval between two questions while systemd does not answer yet.
const ANSWER_POLL: Duration = Duration::from_millis(50);

/// Message of `systemctl` when systemd does not answer.
const NO_ANSWER: &str = "Failed to connect to bus";

/// A unit at a moment.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    /// Value of `ActiveState`.
    pub state: String,
    /// Main process, by its number in the container.
    pub process: Option<u32>,
}

impl Unit {
    /// Asks systemd for the state of a unit; fails where systemd does not answer within a deadline.
    pub fn look(site: &Site<'_>, name: &str) -> anyhow::Result<Self> {
        let argv = ["systemctl", "show", "--property=ActiveState,MainPID", "--", name];
        let began = Instant::now();
        loop {
            let output = site.exec(&argv)?;
            let Some(why) = output.failure() else {
                return Ok(Self::parse(&output.stdout.text().context("reading a program's output")?));
            };
            if output.timed_out || !why.contains(NO_ANSWER) || began.elapsed() >= ANSWER_DEADLINE.scaled() {
                bail!("`{}` in {} {why}", argv.join(" "), site.name());
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
