//! Faults of an attempt: the plan of each, its actual time, and the evidence of its effect and recovery.

use std::io::ErrorKind;
use std::path::Path;

use serde::Serialize;

use super::story::Story;
use super::words::{Moment, Word, duration, moment, plain};
use crate::fault::{CHAOS_FILE, ChaosFile, Fate};
use crate::input;

/// View of the faults of an attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Chaos {
    /// Sentence about the schedule's origin and length; `None` if the scenario injected all faults by itself.
    pub schedule: Option<String>,
    /// Moment at which the schedule of faults began.
    pub began: Option<Moment>,
    pub faults: Vec<FaultRow>,
    /// Reason why the schedule cannot be read; `None` if it can.
    pub problem: Option<String>,
}

/// Row of one fault, planned or injected.
#[derive(Debug, Clone, Serialize)]
pub struct FaultRow {
    /// Number of the fault in the schedule; `None` for a fault that the scenario injected by itself.
    pub number: Option<u32>,
    /// Name of the faulted container in the lab.
    pub container: String,
    /// Name of the fault with its parameters.
    pub what: String,
    /// Planned start and duration of the fault.
    pub planned: Option<(Moment, String)>,
    /// Moment at which the fault took effect, and its actual duration.
    pub played: Option<(Moment, String)>,
    /// Time from the planned start until the effect was verified.
    pub late: Option<String>,
    /// Result of the fault in a few words, such as `took effect` or `not applicable`.
    pub fate: Word,
    /// Evidence of the fault's effect, or the reason why it was not injected.
    pub evidence: String,
    /// Evidence of the recovery from the fault.
    pub healed: String,
}

const BIT: Word = Word { class: "passed", text: "took effect, recovered" };
const LASTED: Word = Word { class: "flaky", text: "took effect, recovery not verified" };
const REFUSED: Word = Word { class: "skipped", text: "not possible then" };
const FAILED: Word = Word { class: "infrastructure", text: "failed" };
const NOT_REACHED: Word = Word { class: "skipped", text: "not reached" };
const PLANNED: Word = Word { class: "skipped", text: "planned" };

/// Returns the faults of an attempt, from the run's folder and the path of the attempt's folder in it; `None` if there were no faults and
/// no schedule.
pub fn chaos(run: &Path, attempt: &str, story: &Story) -> Option<Chaos> {
    let read = match input::read_below(run, Path::new(attempt).join(CHAOS_FILE), input::RECORD_BYTES_MAX) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{CHAOS_FILE} cannot be read: {error}")),
        Ok(text) => match serde_json::from_slice::<ChaosFile>(&text) {
            Ok(file) => Ok(Some(file)),
            Err(error) => Err(format!("{CHAOS_FILE} is damaged: {error}")),
        },
    };
    match read {
        Ok(file) => of(file.as_ref(), story),
        Err(problem) => {
            let none =
                Chaos { schedule: None, began: story.chaos_began_ms.map(moment), faults: Vec::new(), problem: None };
            Some(Chaos { problem: Some(problem), ..of(None, story).unwrap_or(none) })
        }
    }
}

fn of(file: Option<&ChaosFile>, story: &Story) -> Option<Chaos> {
    let mut faults: Vec<(f64, FaultRow)> = file.map(|file| scheduled(file, story)).unwrap_or_default();
    faults.extend(own(story, file.is_some()));
    if faults.is_empty() {
        return None;
    }
    faults.sort_by(|one, two| one.0.total_cmp(&two.0));
    let schedule = file.map(|ChaosFile { schedule, .. }| {
        let seed = schedule.seed.map_or_else(|| "made by hand or by shrink".into(), |seed| format!("seed {seed}"));
        format!(
            "profile {}, {seed}, {} faults in {}",
            schedule.profile,
            schedule.faults.len(),
            duration(schedule.length_ms as f64)
        )
    });
    let began = story.chaos_began_ms.map(moment);
    Some(Chaos { schedule, began, faults: faults.into_iter().map(|(_, row)| row).collect(), problem: None })
}

/// Returns the rows of a schedule's faults, each with its planned start in milliseconds since the run's start.
fn scheduled(file: &ChaosFile, story: &Story) -> Vec<(f64, FaultRow)> {
    let begun = story.chaos_began_ms;
    let at = |since_ms: u64| begun.unwrap_or(story.begun_ms) + since_ms as f64;
    let row = |planned: &crate::fault::Planned| {
        let played = file.played.iter().find(|played| played.number == planned.number);
        let span = |from: u64, to: u64| Some((moment(at(from)), duration(to.saturating_sub(from) as f64)));
        let played_fate = played.map(|played| &played.fate);
        let (fate, played, evidence, healed) = match played_fate {
            Some(Fate::Bit { bitten_ms, healed_ms, evidence, healed, .. }) => {
                (BIT, span(*bitten_ms, *healed_ms), evidence.clone(), healed.clone())
            }
            Some(Fate::Refused { reason, .. }) => (REFUSED, None, reason.clone(), String::new()),
            Some(Fate::Failed { reason, .. }) => (FAILED, None, reason.clone(), String::new()),
            Some(Fate::NotReached) => (NOT_REACHED, None, String::new(), String::new()),
            None => seen(planned.number, story),
        };
        let late = match played_fate {
            Some(Fate::Bit { late_ms, .. }) => Some(*late_ms as f64),
            _ => story
                .faults
                .iter()
                .find(|broken| broken.scheduled == Some(planned.number))
                .map(|broken| broken.bit_ms - at(planned.at_ms)),
        };
        let row = FaultRow {
            late: late.filter(|_| played.is_some()).map(duration),
            number: Some(planned.number),
            container: planned.container.clone(),
            what: planned.fault.to_string(),
            planned: span(planned.at_ms, planned.at_ms + planned.duration_ms),
            played,
            fate,
            evidence: plain(&evidence, 1000),
            healed: plain(&healed, 1000),
        };
        (at(planned.at_ms), row)
    };
    file.schedule.faults.iter().map(row).collect()
}

/// Returns the result, actual start and duration, evidence and recovery of a scheduled fault, taken from the events: the schedule of an
/// attempt that was cut short has no results.
fn seen(number: u32, story: &Story) -> (Word, Option<(Moment, String)>, String, String) {
    match story.faults.iter().find(|broken| broken.scheduled == Some(number)) {
        Some(broken) => {
            let end = broken.healed_ms.unwrap_or(story.ended_ms);
            let fate = if broken.healed.is_some() { BIT } else { LASTED };
            let played = Some((moment(broken.bit_ms), duration(end - broken.bit_ms)));
            (fate, played, broken.evidence.clone(), broken.healed.clone().unwrap_or_default())
        }
        None => (PLANNED, None, String::new(), String::new()),
    }
}

/// Returns rows of the faults that the scenario injected by itself, and of all injected faults if there is no readable schedule; each with
/// the time of its effect in milliseconds since the run's start.
fn own(story: &Story, has_schedule: bool) -> impl Iterator<Item = (f64, FaultRow)> {
    story.faults.iter().filter(move |broken| !has_schedule || broken.scheduled.is_none()).map(|broken| {
        let end = broken.healed_ms.unwrap_or(story.ended_ms);
        let row = FaultRow {
            number: broken.scheduled,
            container: broken.container.clone(),
            what: broken.description.to_string(),
            planned: None,
            played: Some((moment(broken.bit_ms), duration(end - broken.bit_ms))),
            late: None,
            fate: if broken.healed.is_some() { BIT } else { LASTED },
            evidence: plain(&broken.evidence, 1000),
            healed: plain(broken.healed.as_deref().unwrap_or_default(), 1000),
        };
        (broken.bit_ms, row)
    })
}

#[cfg(test)]
mod tests {
    use e2e_contract::Fault;

    use super::*;

    fn file() -> ChaosFile {
        serde_json::from_str(
            r#"{"schedule":{"format_version":1,"case":"a/b:c","seed":7,"profile":"default","length_ms":10000,"faults":[
                {"number":2,"at_ms":1000,"duration_ms":500,"container":"db","fault":{"name":"node.kill"}},
                {"number":1,"at_ms":3000,"duration_ms":500,"container":"app","fault":{"name":"node.freeze"}},
                {"number":3,"at_ms":9000,"duration_ms":500,"container":"app","fault":{"name":"node.freeze"}}]},
              "played":[
                {"number":2,"fate":"bit","begun_ms":1000,"bitten_ms":1100,"healed_ms":1600,"evidence":"dead","healed":"up"},
                {"number":1,"fate":"refused","begun_ms":3000,"reason":"it is down"}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn what_was_planned_stands_beside_what_was_played() {
        let mut story = Story { chaos_began_ms: Some(5000.0), ..Story::default() };
        story.faults.push(super::super::story::Broken {
            fault: 1,
            scheduled: None,
            container: "worker".into(),
            description: Fault::NodeKill,
            asked_ms: 5500.0,
            bit_ms: 5600.0,
            healed_ms: None,
            evidence: "gone".into(),
            healed: None,
        });
        let chaos = of(Some(&file()), &story).unwrap();
        assert_eq!(chaos.schedule.as_deref(), Some("profile default, seed 7, 3 faults in 10.000 s"));
        let shown: Vec<String> = chaos
            .faults
            .iter()
            .map(|row| {
                let at = |it: &Option<(Moment, String)>| it.as_ref().map_or("-".into(), |(at, _)| at.text.clone());
                format!("{} {} {} {} {}", row.container, at(&row.planned), at(&row.played), row.fate.text, row.evidence)
            })
            .collect();
        let expected = [
            "worker - 5.600 took effect, recovery not verified gone",
            "db 6.000 6.100 took effect, recovered dead",
            "app 8.000 - not possible then it is down",
            "app 14.000 - planned ",
        ];
        assert_eq!(shown, expected);
        assert!(of(None, &Story::default()).is_none());
    }
}
