//! Diagnosis of a machine that did not become ready: whether its probe was answered, and the states and logs of its units.

use std::path::Path;
use std::time::Duration;

use e2e_contract::Condition;

use super::container::Container;
use super::exec::ExecRequest;
use super::layers::{DamagedLayer, Missing};
use super::probe_answer::{LastAnswer, ProbeAnswer};
use super::readiness::WaitError;
use super::up::Lab;
use crate::host::patience::Deadline;
use crate::manifest::Init;

/// Deadline for one program that examines a machine.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(10);

/// Maximum number of failed units that the diagnosis of a machine shows.
const UNITS_MAX: usize = 3;
const JOURNAL_LINES: &str = "--lines=6";

/// Result of testing the probe of a machine that was not ready before its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The probe ran and reported that the machine is not ready.
    No,
    /// The probe did not end, although the machine runs other programs.
    Hangs,
    /// The probe could not reach the machine over the network, because its network card is down, gone or changed.
    OffNetwork,
    /// Program of the probe that is not in the image.
    ProgramMissing { program: String },
    /// Program of the probe that is missing because a layer in the store was changed.
    LayerDamaged { program: String, layer: DamagedLayer },
    /// The probe could not be tested.
    Nothing,
}

/// Diagnosis of a machine that was not ready before its deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    pub container: String,
    /// Result of testing the machine's probe.
    pub asked: Asked,
    /// Explanation of the result, if any; then the units that failed or keep failing, each with the last lines of its journal, or, without
    /// such units, the last lines of the machine's logs.
    pub diagnosis: String,
}

/// systemd unit that has failed or keeps failing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BadUnit {
    name: String,
    state: String,
}

impl Lab {
    /// Returns the diagnosis of the machine whose probe did not pass; `None` for errors that are not about a probe.
    #[must_use]
    pub fn diagnose(&self, error: &WaitError) -> Option<NotReady> {
        let (WaitError::Deadline { container, condition, last, .. }
        | WaitError::Never { container, condition, last, .. }) = error
        else {
            return None;
        };
        let machine = self.container(container)?;
        let (asked, reason) = machine.asked(condition, last);
        let diagnosis = format!("{reason}{}", machine.diagnosis(self.streams_dir()));
        Some(NotReady { container: container.clone(), asked, diagnosis })
    }
}

impl Container {
    /// Returns the result of testing the probe, and a line that explains the result; the line may be empty.
    fn asked(&self, condition: &Condition, last: &LastAnswer) -> (Asked, String) {
        if let Some(standstill) = self.standstill() {
            return (Asked::Nothing, format!("\n  {standstill}"));
        }
        let missing = match condition {
            Condition::Exec(argv) => argv.first().and_then(|program| Some((program, self.missing(program)?))),
            _ => None,
        };
        let has_answered = matches!(last.answered, Some(ProbeAnswer::No(_) | ProbeAnswer::DeadEnd { .. }));
        match missing.filter(|_| has_answered) {
            Some((program, Missing::InImage)) => {
                return (Asked::ProgramMissing { program: program.clone() }, String::new());
            }
            Some((program, Missing::InLayer(layer))) => {
                return (Asked::LayerDamaged { program: program.clone(), layer }, String::new());
            }
            Some((program, Missing::InMachine)) => {
                return (
                    Asked::No,
                    format!("\n  {program:?} is in the template's layers, but the machine does not have it any more"),
                );
            }
            None => {}
        }
        let lives = || self.runs_a_program(LOOK_DEADLINE.scaled()).unwrap_or(false);
        let (answered_last, hangs) = (has_answered && !last.overran(), last.hangs());
        match self.card_problem(condition).filter(|_| has_answered || hangs) {
            Some(problem) => (Asked::OffNetwork, format!("\n  {problem}")),
            None if answered_last => (Asked::No, String::new()),
            None if hangs && (has_answered || last.answered.is_none()) && lives() => (Asked::Hangs, String::new()),
            None => (Asked::Nothing, String::new()),
        }
    }

    /// Returns the units that failed or keep failing, each with the last lines of its journal; without such units, the last lines of the
    /// machine's logs.
    fn diagnosis(&self, streams_dir: &Path) -> String {
        if self.machine().template.init != Init::Systemd {
            return self.last_words();
        }
        let show = ["systemctl", "show", "--property=Id,ActiveState,SubState,Result,NRestarts", "*.service"];
        let units = bad_units(&self.said(&show, streams_dir).unwrap_or_default());
        let mut text = String::new();
        for BadUnit { name, state } in units.iter().take(UNITS_MAX) {
            let unit = format!("--unit={name}");
            let journal = ["journalctl", "--no-pager", "--quiet", "--output=cat", JOURNAL_LINES, &unit];
            text.push_str(&format!("\n  {name}: {state}"));
            for line in self.said(&journal, streams_dir).unwrap_or_default().lines() {
                text.push_str(&format!("\n    {line}"));
            }
        }
        if units.len() > UNITS_MAX {
            text.push_str(&format!("\n  and {} more units", units.len() - UNITS_MAX));
        }
        if text.is_empty() { self.last_words() } else { text }
    }

    pub(super) fn said(&self, words: &[&str], streams_dir: &Path) -> Option<String> {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        let deadline: Duration = LOOK_DEADLINE.scaled();
        let request = ExecRequest { argv, deadline, streams_dir: streams_dir.to_owned(), ..ExecRequest::default() };
        self.exec(&request).ok()?.stdout.text().ok()
    }
}

/// Returns the units in the output of `systemctl show` that have failed or that systemd restarts repeatedly; failed units come first.
fn bad_units(text: &str) -> Vec<BadUnit> {
    let mut units = Vec::new();
    for block in text.split("\n\n") {
        let value = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        let (Some(name), Some(active)) = (value("Id"), value("ActiveState")) else { continue };
        let (sub, result) = (value("SubState").unwrap_or_default(), value("Result").unwrap_or_default());
        let restarts: u32 = value("NRestarts").and_then(|count| count.parse().ok()).unwrap_or(0);
        let has_failed = active == "failed";
        if has_failed || sub == "auto-restart" || (active != "active" && restarts > 0) {
            let again = if restarts > 0 { format!(", restarted {restarts} times") } else { String::new() };
            let state = format!("{active} ({sub}), result {result}{again}");
            units.push((!has_failed, BadUnit { name: name.to_owned(), state }));
        }
    }
    units.sort_by_key(|(later, _)| *later);
    units.into_iter().map(|(_, unit)| unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_failed_or_start_again_and_again_are_told() {
        let text = "Id=good.service\nActiveState=active\nSubState=running\nResult=success\nNRestarts=0\n\n\
                    Id=again.service\nActiveState=activating\nSubState=auto-restart\nResult=exit-code\nNRestarts=4\n\n\
                    Id=bad.service\nActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=0\n\n\
                    Id=once.service\nActiveState=active\nSubState=running\nResult=success\nNRestarts=1\n";
        let told: Vec<String> = bad_units(text).iter().map(|unit| format!("{}: {}", unit.name, unit.state)).collect();
        assert_eq!(
            told,
            [
                "bad.service: failed (failed), result exit-code",
                "again.service: activating (auto-restart), result exit-code, restarted 4 times",
            ]
        );
        assert!(bad_units("").is_empty());
    }
}
