//! Record of the engine's tests on one host: facts about the host, and the result of each test.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::host::Host;

/// Version of the format of host records; raised whenever the meaning changes.
pub const FORMAT_VERSION: u32 = 1;

/// Results of the engine's tests on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// [`FORMAT_VERSION`] of the engine that wrote the record.
    pub format_version: u32,
    /// Name of the host, unique among the records, such as `uml-bookworm`.
    pub name: String,
    /// Day on which the tests ran, as `YYYY-MM-DD`.
    pub date: String,
    /// Version of the tested engine.
    pub engine: String,
    /// Description of the host on which the tests ran.
    pub host: Host,
    /// Steps of the tests in order, with their wall times.
    pub phases: Vec<Phase>,
    /// Result of `doctor`; absent if it was not run.
    pub doctor: Option<Doctor>,
    /// Cases of scenarios that were run, with their results.
    pub cases: Vec<Case>,
    /// Faults of the catalogue, in its order.
    pub faults: Vec<Fault>,
    /// Result of the kill sweep; absent if it was not run.
    pub kills: Option<Kills>,
}

/// Wall time of one step of the tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Name of the step, such as `guest 1: doctor`.
    pub name: String,
    /// Wall time of the step in seconds.
    pub duration_s: f64,
}

/// Result of `doctor` on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doctor {
    /// Number of `doctor` checks that passed.
    pub ok: usize,
    /// Checks of `doctor` that gave a warning.
    pub warnings: Vec<Problem>,
    /// Checks of `doctor` that failed.
    pub failures: Vec<Problem>,
}

/// Check of `doctor` that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// Name of the `doctor` check.
    pub check: String,
    /// Observation of the check, in one line.
    pub seen: String,
}

/// Result of one case of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Name of the case, such as `smoke/programs:default`.
    pub case: String,
    /// True if the case ran on systemd machines.
    pub is_systemd: bool,
    /// True if the case passed at its first attempt.
    pub passed: bool,
    /// Reason of the case's failure, in one line.
    pub reason: Option<String>,
    /// Wall time of all attempts, in seconds.
    pub duration_s: f64,
}

/// Result of one fault of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Name of the fault, such as `net.delay`.
    pub fault: String,
    /// Result of the fault's trial.
    pub result: FaultResult,
    /// Reason of the result in one line; absent if the result is `works`.
    pub reason: Option<String>,
    /// Time from the request until the effect was verified, in milliseconds.
    pub inject_ms: Option<f64>,
    /// Time from healing until the recovery was verified, in milliseconds.
    pub heal_ms: Option<f64>,
}

/// Result of the trial of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultResult {
    /// The effect and the recovery were verified.
    Works,
    /// The host lacks what the fault needs.
    NotApplicable,
    /// The effect or the recovery could not be verified.
    Failed,
    /// The fault was not tried.
    NotTried,
}

/// Result of the kill sweep: whether a killed engine or guard left anything on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kills {
    /// Kills of the sweep, in the order of time.
    pub rounds: Vec<Kill>,
    /// True if a run passed after the last kill.
    pub next_run_passed: bool,
}

/// Result of one kill of the sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Process that was killed.
    pub victim: Victim,
    /// Time of the kill since the start of the run, in milliseconds.
    pub after_ms: u64,
    /// Things of the lab that were left on the host.
    pub left: Vec<String>,
}

/// Process of a run that is killed with SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// The engine's process.
    Engine,
    /// The guard of the engine's lab.
    Guard,
    /// The guard, and immediately afterwards the engine.
    Both,
}

impl HostRecord {
    /// Returns a record without results, dated today.
    #[must_use]
    pub fn new(name: &str, host: Host) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            name: name.to_owned(),
            date: chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).date_naive().to_string(),
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            host,
            phases: Vec::new(),
            doctor: None,
            cases: Vec::new(),
            faults: Vec::new(),
            kills: None,
        }
    }

    /// Reads a record from JSON.
    ///
    /// # Errors
    /// If the text is no record, or its format has another version; the error is the reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value["format_version"].as_u64() {
            Some(version) if version == u64::from(FORMAT_VERSION) => {}
            Some(version) => return Err(format!("format_version {version}: this engine reads {FORMAT_VERSION}")),
            None => return Err("no format_version: this is no record of a host".to_owned()),
        }
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    /// Returns the record as JSON for a file.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Joins the results of another guest of the same host into the record. A fault that one of the guests did not try gets the result of
    /// the other guest.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        self.phases.extend(other.phases);
        self.doctor = self.doctor.or(other.doctor);
        self.cases.extend(other.cases);
        self.kills = self.kills.or(other.kills);
        let mut theirs: BTreeMap<String, Fault> =
            other.faults.into_iter().map(|fault| (fault.fault.clone(), fault)).collect();
        for fault in &mut self.faults {
            if let Some(their) = theirs.remove(&fault.fault)
                && fault.result == FaultResult::NotTried
            {
                *fault = their;
            }
        }
        self.faults.extend(theirs.into_values());
        self
    }

    /// Returns a line for each thing that did not work. `lacks` lists the checks of `doctor` whose failure is expected on the host.
    #[must_use]
    pub fn problems(&self, lacks: &[&str]) -> Vec<String> {
        let mut problems = Vec::new();
        let doctor = self.doctor.iter().flat_map(|doctor| &doctor.failures);
        let doctor = doctor.filter(|problem| !lacks.contains(&problem.check.as_str()));
        problems.extend(doctor.map(|problem| format!("doctor: {}: {}", problem.check, problem.seen)));
        let reason = |reason: &Option<String>| reason.clone().unwrap_or_default();
        let cases = self.cases.iter().filter(|case| !case.passed);
        problems.extend(cases.map(|case| format!("{}: {}", case.case, reason(&case.reason))));
        let faults = self.faults.iter().filter(|fault| fault.result == FaultResult::Failed);
        problems.extend(faults.map(|fault| format!("{}: {}", fault.fault, reason(&fault.reason))));
        for Kill { victim, after_ms, left } in self.kills.iter().flat_map(|kills| &kills.rounds) {
            if !left.is_empty() {
                problems.push(format!("{victim:?} killed after {after_ms} ms: left: {}", left.join(", ")));
            }
        }
        if self.kills.as_ref().is_some_and(|kills| !kills.next_run_passed) {
            problems.push("the run after the kills did not pass".to_owned());
        }
        problems
    }

    /// Returns the numbers of faults by result: works, not applicable, failed, not tried.
    #[must_use]
    pub fn fault_counts(&self) -> [usize; 4] {
        use FaultResult::{Failed, NotApplicable, NotTried, Works};
        [Works, NotApplicable, Failed, NotTried].map(|it| self.faults.iter().filter(|fault| fault.result == it).count())
    }
}

/// Returns the first line of a text; command lines and output of programs may follow it.
#[must_use]
pub fn one_line(text: &str) -> String {
    const COLUMNS: usize = 300;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(COLUMNS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(faults: &[(&str, FaultResult)]) -> HostRecord {
        let faults = faults.iter().map(|(name, result)| Fault {
            fault: (*name).to_owned(),
            result: *result,
            reason: (*result != FaultResult::Works).then(|| "why".to_owned()),
            inject_ms: None,
            heal_ms: None,
        });
        HostRecord { faults: faults.collect(), ..HostRecord::new("test", Host::default()) }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_another_version_is_refused() {
        let record = record(&[("net.loss", FaultResult::Failed)]);
        let text = record.json().unwrap();
        assert_eq!(HostRecord::parse(&text).unwrap(), record);
        let other = text.replace("\"format_version\": 1", "\"format_version\": 9");
        assert!(HostRecord::parse(&other).unwrap_err().contains("format_version 9"));
        assert!(HostRecord::parse("{}").unwrap_err().contains("no format_version"));
        let unknown = text.replace("\"engine\"", "\"motor\"");
        assert!(HostRecord::parse(&unknown).unwrap_err().contains("motor"));
    }

    #[test]
    fn two_guests_make_one_record() {
        use FaultResult::{Failed, NotTried, Works};
        let one = record(&[("a", Works), ("b", NotTried), ("c", NotTried)]);
        let other = record(&[("a", NotTried), ("b", Failed), ("c", NotTried)]);
        let joined = one.joined(other);
        let results: Vec<_> = joined.faults.iter().map(|fault| fault.result).collect();
        assert_eq!(results, [Works, Failed, NotTried]);
        assert_eq!(joined.fault_counts(), [1, 0, 1, 1]);
        assert_eq!(joined.problems(&[]), ["b: why"]);
    }

    #[test]
    fn whatever_is_left_or_failed_is_a_problem() {
        let mut record = record(&[("a", FaultResult::NotApplicable)]);
        assert!(record.problems(&[]).is_empty());
        let kill = Kill { victim: Victim::Guard, after_ms: 7, left: vec!["mount /x".to_owned()] };
        record.kills = Some(Kills { rounds: vec![kill], next_run_passed: false });
        let failure = Problem { check: "loop".to_owned(), seen: "no".to_owned() };
        record.doctor = Some(Doctor { ok: 1, warnings: Vec::new(), failures: vec![failure] });
        assert_eq!(record.problems(&[]).len(), 3, "{:?}", record.problems(&[]));
        assert_eq!(
            record.problems(&["kernel"]).len(),
            3,
            "another check is none of those that fail by the host's nature"
        );
        let expected = record.problems(&["loop"]);
        assert!(expected.len() == 2 && expected.iter().all(|problem| !problem.contains("loop")), "{expected:?}");
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(one_line("\n  a b  \n  stderr: c\n"), "a b");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 300);
    }
}
