//! Schedules of a run: drawn from a seed, or read from the record of an earlier run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::fault::{CHAOS_FILE, ChaosFile, Fate, Played, Profile, SCHEDULE_VERSION, Schedule, catalogue};
use crate::host::invoker::Invoker;
use crate::input;
use crate::manifest::{Project, Scenario};
use crate::plan::Plan;
use crate::record::{FaultCounts, Lateness, PastRun};
use crate::session::ChaosSpec;

/// Fault schedules of a run's cases.
#[derive(Debug, Clone, Default)]
pub struct Schedules {
    /// Schedules by `category/scenario:case`; all repetitions of a case share one.
    by_case: BTreeMap<String, Schedule>,
    /// Reasons why cases have no schedule, a sentence each.
    pub notes: Vec<String>,
    /// Random seed of all schedules; `None` if they were read from files.
    pub seed: Option<u64>,
}

impl Schedules {
    /// Draws a schedule for each case of a plan whose scenario tolerates faults.
    ///
    /// # Errors
    /// [`Error::Usage`] when no case gets a schedule, because such a run would test no faults.
    pub fn draw(project: &Project, plan: &Plan, profile: &Profile, seed: u64) -> Result<Self, Error> {
        let mut schedules = Self { seed: Some(seed), ..Self::default() };
        let mut notes = BTreeSet::new();
        let mut host = Host::default();
        for planned in &plan.cases {
            let scenario = &project.scenarios[planned.scenario];
            let case = format!("{}:{}", scenario.id(), planned.case.name);
            if schedules.by_case.contains_key(&case) {
                continue;
            }
            match schedule(scenario, &case, profile, seed, &mut host) {
                Ok(schedule) => {
                    schedules.by_case.insert(case, schedule);
                }
                Err(reason) => {
                    notes.insert(format!("{} runs without faults: {reason}", scenario.id()));
                }
            }
        }
        schedules.notes = notes.into_iter().chain(host.notes()).collect();
        if schedules.by_case.is_empty() {
            let message =
                format!("--chaos={profile}: no fault is possible in this run:\n  {}", schedules.notes.join("\n  "));
            return Err(Error::Usage(message));
        }
        Ok(schedules)
    }

    /// Reads the schedules of an earlier run: from one file, or all of a run, by its name or folder. Removes the cases without a schedule
    /// from the plan.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a file that is not a schedule or is from another version, [`Error::Usage`] when there is no such file, or no
    /// schedule for a case of this plan.
    pub fn replay(project: &Project, plan: &mut Plan, from: &str) -> anyhow::Result<Self> {
        let files = files_of(project, from)?;
        let mut schedules = Self::default();
        for file in &files {
            let schedule = read(file)?;
            check(project, file, &schedule)?;
            schedules.by_case.insert(schedule.case.clone(), schedule);
        }
        let names: Vec<String> = schedules.by_case.keys().cloned().collect();
        plan.cases.retain(|case| schedules.of(&case.id).is_some());
        if plan.cases.is_empty() {
            let message = format!(
                "--chaos-replay {from}: its schedules are for {}: select at least one of these cases",
                names.join(", ")
            );
            return Err(Error::Usage(message).into());
        }
        Ok(schedules)
    }

    /// Returns the schedules recorded in a run, for the cases of a plan; a case that ran without faults gets none. `None` if the run has no
    /// schedules at all.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a file that is not a schedule, is from another version, or does not fit the project any more.
    pub fn of_run(project: &Project, plan: &Plan, run: &PastRun) -> anyhow::Result<Option<Self>> {
        let mut schedules = Self { seed: run.record.chaos_seed, ..Self::default() };
        for file in chaos_files(&run.folder) {
            let schedule = read(&file)?;
            if plan.cases.iter().any(|case| case.id.split('#').next() == Some(schedule.case.as_str())) {
                check(project, &file, &schedule)?;
                schedules.by_case.insert(schedule.case.clone(), schedule);
            }
        }
        Ok((!schedules.by_case.is_empty()).then_some(schedules))
    }

    /// Creates the schedules of a run that plays a single schedule.
    #[must_use]
    pub fn of_one(schedule: Schedule) -> Self {
        Self { by_case: BTreeMap::from([(schedule.case.clone(), schedule)]), ..Self::default() }
    }

    /// Returns the schedule of the planned case with this id.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<&Schedule> {
        self.by_case.get(id.split('#').next().unwrap_or(id))
    }

    pub fn all(&self) -> impl Iterator<Item = &Schedule> {
        self.by_case.values()
    }

    /// Returns the chaos specification of a case for its session.
    pub(super) fn spec(&self, scenario: &Scenario, id: &str) -> Option<ChaosSpec> {
        let (schedule, chaos) = (self.of(id)?.clone(), scenario.chaos.as_ref()?);
        let (quiet, recovery, sometimes) = (chaos.quiet, chaos.recovery, chaos.sometimes.clone());
        Some(ChaosSpec { bound: schedule.bound(chaos), schedule, quiet, recovery, sometimes })
    }
}

/// Cache by fault name: the reason why this host does not support the fault; `None` if it does.
#[derive(Default)]
struct Host {
    known: BTreeMap<String, Option<String>>,
}

impl Host {
    fn can(&mut self, name: &str) -> bool {
        if let Some(problem) = self.known.get(name) {
            return problem.is_none();
        }
        let entry = catalogue().into_iter().find(|entry| entry.example.name() == name);
        let problem = match entry {
            Some(entry) => entry.not_applicable(),
            None => Some(format!("the engine has no fault {name}")),
        };
        self.known.insert(name.to_owned(), problem.clone());
        problem.is_none()
    }

    fn notes(&self) -> Vec<String> {
        self.known.values().flatten().map(|problem| format!("not applicable: {problem}")).collect()
    }
}

fn schedule(
    scenario: &Scenario,
    case: &str,
    profile: &Profile,
    seed: u64,
    host: &mut Host,
) -> Result<Schedule, String> {
    let Some(chaos) = &scenario.chaos else {
        return Err("its scenario.toml has no [chaos]".into());
    };
    if let Some(reason) = &chaos.nothing_because {
        return Err(reason.clone());
    }
    for rule in &chaos.faults {
        for name in e2e_contract::Fault::NAMES.into_iter().filter(|name| rule.covers(name)) {
            host.can(name);
        }
    }
    // Two machines have no majority: what cuts them is net.isolate.
    let has_sides = scenario.containers.len() > 2;
    let can = |name: &str| host.known.get(name).is_some_and(Option::is_none) && (has_sides || name != "net.partition");
    let drawn = Schedule::draw(case, chaos, profile, seed, &can);
    drawn.ok_or_else(|| {
        format!("no fault that the scenario tolerates is both in --chaos={profile} and possible on this host")
    })
}

fn files_of(project: &Project, from: &str) -> anyhow::Result<Vec<PathBuf>> {
    let path = PathBuf::from(from);
    if input::exists(&path)? && !input::is_folder(&path) {
        return Ok(vec![path]);
    }
    let folder = PastRun::folder(&project.root, from)?;
    let own = folder.join(CHAOS_FILE);
    if input::is_file(&own) {
        return Ok(vec![own]); // that of one case
    }
    // Whatever lies below any other folder is none of this project's affairs.
    if !PastRun::is_one(&folder) {
        let hint = "name a chaos.json, a run's folder, or its name";
        return Err(
            Error::Usage(format!("--chaos-replay {from}: {} is no run's folder; {hint}", folder.display())).into()
        );
    }
    let files = chaos_files(&folder);
    if files.is_empty() {
        return Err(Error::Usage(format!(
            "{} has no {CHAOS_FILE}: it is not the folder of a run with --chaos",
            folder.display()
        ))
        .into());
    }
    Ok(files)
}

/// Finds the schedule files below a run's folder, one for each case.
fn chaos_files(folder: &Path) -> Vec<PathBuf> {
    let find = || {
        let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_map(Result::ok);
        Ok(walk.filter(|entry| entry.file_name() == CHAOS_FILE).map(walkdir::DirEntry::into_path).collect())
    };
    Invoker::of_process().act(find).unwrap_or_default()
}

/// Reads a schedule from a file with only the schedule, or with the schedule and its played faults.
pub(super) fn read(path: &Path) -> anyhow::Result<Schedule> {
    let text = input::read_text(path)?;
    let bad =
        |line: usize, column: usize, message: String| Error::BadFile { path: path.to_owned(), line, column, message };
    let unreadable = |error: serde_json::Error| {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {line} column {column}");
        bad(line.max(1), column.max(1), message.strip_suffix(&place).unwrap_or(&message).to_owned())
    };
    let value: serde_json::Value = serde_json::from_str(&text).map_err(unreadable)?;
    let schedule = value.get("schedule").unwrap_or(&value);
    match schedule.get("format_version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(SCHEDULE_VERSION) => {}
        Some(version) => {
            let message = format!(
                "the schedule has version {version}, and this engine plays version {SCHEDULE_VERSION}: draw it anew with --chaos --seed SEED"
            );
            return Err(bad(1, 1, message).into());
        }
        None => return Err(bad(1, 1, "this is no schedule: it has no `format_version`".into()).into()),
    }
    // From the text, so that errors have a place.
    let read = match value.get("schedule") {
        Some(_) => serde_json::from_str::<ChaosFile>(&text).map(|file| file.schedule),
        None => serde_json::from_str::<Schedule>(&text),
    };
    let schedule = read.map_err(unreadable)?;
    for (place, planned) in schedule.faults.iter().enumerate() {
        let problem = if planned.end_ms() > schedule.length_ms {
            format!(
                "fault {} ends at {} ms, after the schedule: `length_ms` is {}",
                planned.number,
                planned.end_ms(),
                schedule.length_ms
            )
        } else if schedule.faults[..place].iter().any(|other| other.number == planned.number) {
            format!("two faults of the schedule have the number {}", planned.number)
        } else {
            continue;
        };
        return Err(Error::bad_file(path, &text, place_of(&text, place), problem).into());
    }
    Ok(schedule)
}

/// Returns the position of a planned fault in the text of a schedule, as the byte offset of the fault's number.
fn place_of(text: &str, fault: usize) -> usize {
    text.match_indices("\"number\"").nth(fault).map_or(0, |(offset, _)| offset)
}

/// Checks that the project has the case, containers and faults that a schedule names.
fn check(project: &Project, path: &Path, schedule: &Schedule) -> anyhow::Result<()> {
    let bad = |message: String| Error::BadFile { path: path.to_owned(), line: 1, column: 1, message };
    let (id, case) = schedule.case.split_once(':').unwrap_or((&schedule.case, ""));
    let found = project.scenarios.iter().find(|scenario| scenario.id() == id);
    let Some(scenario) = found.filter(|scenario| scenario.cases.iter().any(|known| known.name == case)) else {
        return Err(
            bad(format!("the schedule is for the case {}, which this project does not have", schedule.case)).into()
        );
    };
    if scenario.chaos.is_none() {
        return Err(bad(format!("{id} tolerates no faults: its scenario.toml has no [chaos]")).into());
    }
    for planned in &schedule.faults {
        if !scenario.containers.iter().any(|used| used.name == planned.container) {
            let names: Vec<&str> = scenario.containers.iter().map(|used| used.name.as_str()).collect();
            let message = format!(
                "fault {} is for the container {}, which {id} does not have: it has {}",
                planned.number,
                planned.container,
                names.join(", ")
            );
            return Err(bad(message).into());
        }
    }
    Ok(())
}

/// Minimum lateness in milliseconds at which a fault counts as displaced; verifying an effect alone takes some time.
const DISPLACED_MS: u64 = 1000;

/// Counts the faults of a schedule: the planned ones, those that took effect, those that could not be injected; and their lateness.
pub(super) fn fault_counts(schedule: Option<&Schedule>, played: &[Played]) -> FaultCounts {
    let count = |want: fn(&Fate) -> bool| counted(played.iter().filter(|one| want(&one.fate)).count());
    FaultCounts {
        planned: counted(played.len()),
        bit: count(|fate| matches!(fate, Fate::Bit { .. })),
        refused: count(|fate| matches!(fate, Fate::Refused { .. })),
        lateness: schedule.and_then(|schedule| lateness(schedule, played)),
    }
}

fn lateness(schedule: &Schedule, played: &[Played]) -> Option<Lateness> {
    let late = |one: &Played| match one.fate {
        Fate::Bit { late_ms, .. } => {
            let planned = schedule.faults.iter().find(|planned| planned.number == one.number)?;
            Some((late_ms, late_ms > planned.duration_ms.max(DISPLACED_MS)))
        }
        _ => None,
    };
    let mut all: Vec<(u64, bool)> = played.iter().filter_map(late).collect();
    all.sort_unstable();
    let displaced = counted(all.iter().filter(|(_, displaced)| *displaced).count());
    Some(Lateness { median_ms: all.get(all.len() / 2)?.0, max_ms: all.last()?.0, displaced })
}

fn counted(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(late_ms: &[u64], expected: &str) {
        let planned = |number: usize| {
            serde_json::json!({ "number": number, "at_ms": 100, "duration_ms": 2000, "container": "a",
                "fault": { "name": "node.kill" } })
        };
        let faults: Vec<_> = (1..=late_ms.len() + 1).map(planned).collect();
        let schedule = serde_json::json!({ "format_version": 1, "case": "a/b:c", "profile": "default", "length_ms": 8000,
            "faults": faults });
        let schedule: Schedule = serde_json::from_value(schedule).unwrap();
        let bit = |(place, late_ms): (usize, &u64)| Played {
            number: u32::try_from(place).unwrap() + 1,
            fate: Fate::Bit {
                begun_ms: 100,
                bitten_ms: 100 + late_ms,
                healed_ms: 9000,
                recovered_ms: None,
                late_ms: *late_ms,
                evidence: String::new(),
                healed: String::new(),
            },
        };
        let not_reached = Played { number: u32::try_from(late_ms.len()).unwrap() + 1, fate: Fate::NotReached };
        let played: Vec<Played> = late_ms.iter().enumerate().map(bit).chain([not_reached]).collect();
        let counts = fault_counts(Some(&schedule), &played);
        assert_eq!((counts.planned as usize, counts.bit as usize), (late_ms.len() + 1, late_ms.len()));
        assert_eq!(counts.lateness.map_or_else(String::new, |lateness| lateness.to_string()), expected);
    }

    #[test]
    fn lateness_is_summed_up_and_another_schedule_is_called_so() {
        check(&[], "");
        check(&[300, 100, 200], "0.2 s late in the median, 0.3 s at most");
        check(
            &[90, 11_700, 120],
            "0.1 s late in the median, 11.7 s at most; 1 of the faults took effect only after their planned time, so ANOTHER SCHEDULE than \
             the planned one was played",
        );
    }
}
