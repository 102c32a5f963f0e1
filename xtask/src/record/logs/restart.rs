//! Restarts of containers and units, found in the journal, the faults and the findings.

use e2e_contract::Fault;
use serde::{Deserialize, Serialize};

use super::LogLine;
use crate::record::{Event, Stamped};

/// Restarts of a unit or container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restart {
    /// Name of the container.
    pub machine: String,
    /// Name of the unit; null where the container itself was restarted.
    pub unit: Option<String>,
    /// Number of restarts.
    pub count: u64,
    /// Time of the first restart that was seen, on the run's clock.
    pub first_ms: Option<f64>,
    /// Sentence for the report.
    pub sentence: String,
}

/// One restart of a container or unit.
struct Again<'a> {
    machine: &'a str,
    unit: Option<&'a str>,
    at_ms: Option<f64>,
}

/// Finds all restarts, sorted by time.
pub(super) fn restarts(lines: &[LogLine], events: &[Stamped]) -> Vec<Restart> {
    let mut found: Vec<Restart> = Vec::new();
    for again in containers(lines, events).into_iter().chain(units(lines, events)) {
        let is_same = |it: &Restart| it.machine == again.machine && it.unit.as_deref() == again.unit;
        match found.iter_mut().find(|it| is_same(it)) {
            Some(restart) => restart.count += 1,
            None => found.push(Restart {
                machine: again.machine.to_owned(),
                unit: again.unit.map(str::to_owned),
                count: 1,
                first_ms: again.at_ms,
                sentence: String::new(),
            }),
        }
    }
    for restart in &mut found {
        restart.sentence = sentence(restart);
    }
    let at = |restart: &Restart| restart.first_ms.unwrap_or(f64::INFINITY);
    found.sort_by(|a, b| at(a).total_cmp(&at(b)));
    found
}

fn sentence(restart: &Restart) -> String {
    let machine = &restart.machine;
    let what = match &restart.unit {
        None => format!("{machine} was started again"),
        Some(unit) => format!("{unit} on {machine} ended by itself and was started again"),
    };
    let times = if restart.count == 1 { String::new() } else { format!(" {} times", restart.count) };
    let order = if restart.count == 1 { "" } else { "first " };
    let at = restart.first_ms.map_or_else(String::new, |at_ms| format!(", {order}at {:.1} s", at_ms / 1000.0));
    format!("{what}{times}{at}")
}

/// Finds restarts of containers in each container's journal, which logs each boot; or, where the journal shows no restart, in the faults
/// that took the container down.
fn containers<'a>(lines: &'a [LogLine], events: &'a [Stamped]) -> Vec<Again<'a>> {
    let is_boot = |line: &&LogLine| {
        let is_of_journal = line.source == "journal.log" && line.text.starts_with("systemd-journald[");
        is_of_journal && line.text.ends_with(": Journal started")
    };
    let mut booted: Vec<&LogLine> = Vec::new();
    let mut again: Vec<Again<'_>> = Vec::new();
    for line in lines.iter().filter(is_boot) {
        if booted.iter().any(|first| first.machine == line.machine) {
            again.push(Again { machine: &line.machine, unit: None, at_ms: line.at_ms });
        }
        booted.push(line);
    }
    let mut by_fault: Vec<Again<'_>> = Vec::new();
    for stamped in events {
        let Event::FaultHealed(fault) = &stamped.event else { continue };
        let starts = match fault.description {
            Fault::NodeKill | Fault::NodeStop { .. } => 1,
            Fault::NodeRestartStorm { times, .. } => times + 1,
            _ => 0,
        };
        let one = || Again { machine: &fault.container, unit: None, at_ms: Some(stamped.at_ms) };
        by_fault.extend((0..starts).map(|_| one()));
    }
    by_fault.retain(|fault| !again.iter().any(|it| it.machine == fault.machine));
    again.extend(by_fault);
    again
}

fn units<'a>(lines: &'a [LogLine], events: &'a [Stamped]) -> Vec<Again<'a>> {
    let mut again: Vec<Again<'_>> = Vec::new();
    for line in lines.iter().filter(|line| line.source == "journal.log") {
        if let Some(unit) = unit_of(&line.text) {
            again.push(Again { machine: &line.machine, unit: Some(unit), at_ms: line.at_ms });
        }
    }
    for stamped in events {
        if let Event::Finding { kind, container: Some(machine), about, .. } = &stamped.event
            && kind == "unit_restarted"
            && !again.iter().any(|it| it.machine == machine && it.unit == Some(about))
        {
            again.push(Again { machine, unit: Some(about), at_ms: None });
        }
    }
    again
}

/// Returns the unit that systemd restarts, from a line such as `systemd[1]: x.service: Scheduled restart job, restart counter is at 1.`
fn unit_of(text: &str) -> Option<&str> {
    let (unit, _) = text.strip_prefix("systemd[1]: ")?.split_once(": Scheduled restart job")?;
    Some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::logs::LogLevel;
    use crate::record::{CaseId, FaultObserved};

    fn line(at_ms: f64, machine: &str, text: &str) -> LogLine {
        let (machine, source) = (machine.into(), "journal.log".into());
        LogLine { at_ms: Some(at_ms), machine, source, level: LogLevel::Info, text: text.into() }
    }

    #[test]
    fn containers_and_units_that_began_again_are_told() {
        let job =
            |count: u32| format!("systemd[1]: w@2.service: Scheduled restart job, restart counter is at {count}.");
        let lines = [
            line(1000.0, "app", "systemd-journald[17]: Journal started"),
            line(1000.0, "db", "systemd-journald[17]: Journal started"),
            line(3000.0, "app", &job(1)),
            line(4000.0, "app", &job(2)),
            line(9000.0, "db", "systemd-journald[18]: Journal started"),
        ];
        let case = || CaseId("a".into());
        let healed = |container: &str, description: Fault| FaultObserved {
            case: case(),
            fault: 1,
            scheduled: None,
            container: container.into(),
            description,
            before: None,
            evidence: String::new(),
            lasted: None,
            planned_ms: None,
            late_ms: None,
            duration_ms: 1.0,
        };
        let finding = |about: &str| Event::Finding {
            case: case(),
            kind: "unit_restarted".into(),
            container: Some("app".into()),
            about: about.into(),
            detail: "once".into(),
            happened_at_ms: None,
            expected: false,
        };
        let events = [
            Event::FaultHealed(healed("db", Fault::NodeKill)),
            Event::FaultHealed(healed("mini", Fault::NodeRestartStorm { times: 2, up_ms: 1 })),
            Event::FaultHealed(healed("mini", Fault::NodeFreeze)),
            finding("w@2.service"),
            finding("lost.service"),
        ];
        let events: Vec<_> = events.into_iter().map(|event| Stamped { at_ms: 8000.0, event }).collect();
        let found: Vec<_> = restarts(&lines, &events).into_iter().map(|it| it.sentence).collect();
        let expected = [
            "w@2.service on app ended by itself and was started again 2 times, first at 3.0 s",
            "mini was started again 3 times, first at 8.0 s",
            "db was started again, at 9.0 s",
            "lost.service on app ended by itself and was started again",
        ];
        assert_eq!(found, expected);
        assert!(restarts(&lines[..2], &[]).is_empty());
    }
}
