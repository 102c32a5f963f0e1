//! Baseline file: the raw samples of one scenario's repeatable operations on one class of machines.

use std::collections::BTreeMap;
use std::path::Path;

use e2e_stats::Timings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::perf::KnownMachine;
use crate::record::{Machine, readable_json};

/// Version of the format of baseline files that are written. Version 1, which has no references, is read too.
pub const BASELINE_VERSION: u32 = 2;

/// Content of `baselines/CLASS/CATEGORY/SCENARIO.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// `BASELINE_VERSION` of this file.
    pub format_version: u32,
    /// `category/scenario`.
    pub scenario: String,
    /// Class of the machine, which is the name of the folder `CLASS`.
    pub machine_class: String,
    /// Machine that the samples were taken on.
    pub machine: Machine,
    /// Cases by name.
    pub cases: BTreeMap<String, BaselineCase>,
}

/// Case of a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineCase {
    /// Time at which the samples were taken, RFC 3339.
    pub recorded_at: String,
    /// Hashes of the layers that the case ran on, by template.
    pub layers: BTreeMap<String, String>,
    /// Name of the [reference](super::Reference) to the machines, which is a file of its own; `None` for a case of format version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Operations by name.
    pub operations: BTreeMap<String, Timings>,
}

impl Baseline {
    /// Returns the operations whose programs waited for a processor for more than this share of their runnable time:
    /// each as `case operation`, with its share.
    #[must_use]
    pub fn waiting(&self, share: f64) -> Vec<(String, f64)> {
        let operations = self.cases.iter().flat_map(|(case, it)| it.operations.iter().map(move |each| (case, each)));
        let waited = operations.filter_map(|(case, (name, one))| Some((format!("{case} {name}"), one.waited()?)));
        waited.filter(|(_, waited)| *waited > share).collect()
    }
}

impl Baseline {
    /// Returns a baseline without cases, for this machine.
    #[must_use]
    pub fn empty(scenario: &str, known: &KnownMachine) -> Self {
        Self {
            format_version: BASELINE_VERSION,
            scenario: scenario.to_owned(),
            machine_class: known.class.clone(),
            machine: known.machine.clone(),
            cases: BTreeMap::new(),
        }
    }

    /// Parses the text of a baseline file; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::BadFile`], with line and column, for text that is cut off, damaged or of another format version, for lists of
    /// different lengths, and for numbers that cannot be times.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let bad = |line: usize, column: usize, message: String| Error::BadFile {
            path: path.to_owned(),
            line: line.max(1),
            column: column.max(1),
            message,
        };
        let unreadable = |error: serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            let message = if error.is_eof() {
                format!("the baseline is cut off ({error}): take it from version control, or make it anew")
            } else {
                format!("this is no baseline: {error}")
            };
            bad(line, column, message)
        };
        let value: Value = serde_json::from_str(text).map_err(unreadable)?;
        match value.get("format_version").and_then(Value::as_u64) {
            Some(version) if (1..=u64::from(BASELINE_VERSION)).contains(&version) => {}
            Some(version) => {
                let message = format!(
                    "the baseline has version {version}, and this engine reads 1 to {BASELINE_VERSION}: use the engine that \
                     wrote the baseline, or make it anew with `cargo xtask baseline-update`"
                );
                return Err(bad(1, 1, message));
            }
            None => return Err(bad(1, 1, "this is no baseline: it has no `format_version`".into())),
        }
        let mut baseline: Self = serde_json::from_str(text).map_err(unreadable)?;
        baseline.format_version = BASELINE_VERSION; // the version in which it is written again
        for (case, operation, one) in baseline.operations() {
            let (line, column) = place_of(text, case, operation);
            if let Some((name, list)) = one.lists().find(|(_, list)| list.len() != one.count()) {
                let message = format!(
                    "{operation} of case {case} has {} values of {name}, but {} of wall_ms: make the baseline anew",
                    list.len(),
                    one.count()
                );
                return Err(bad(line, column, message));
            }
            let is_time = |value: &f64| value.is_finite() && *value >= 0.0;
            if let Some((name, value)) =
                one.lists().find_map(|(name, list)| Some((name, list.iter().find(|value| !is_time(value))?)))
            {
                return Err(bad(line, column, format!("{operation} of case {case}: {value} in {name} is no time")));
            }
        }
        Ok(baseline)
    }

    /// Returns the text of the baseline's file: every list on one line, so that a change of one operation is a change of its
    /// lines.
    #[must_use]
    pub fn text(&self) -> String {
        readable_json(self).unwrap_or_default()
    }

    /// Returns every operation, as (case, operation, times).
    pub fn operations(&self) -> impl Iterator<Item = (&str, &str, &Timings)> {
        self.cases.iter().flat_map(|(case, of_case)| {
            of_case.operations.iter().map(move |(name, operation)| (case.as_str(), name.as_str(), operation))
        })
    }
}

/// Returns line and column of an operation in the text of a baseline.
fn place_of(text: &str, case: &str, operation: &str) -> (usize, usize) {
    let key = |name: &str| format!("{}:", Value::String(name.to_owned()));
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.iter().position(|line| line.trim_start().starts_with(&key(case))).unwrap_or(0);
    let found = lines[from..].iter().position(|line| line.trim_start().starts_with(&key(operation)));
    let line = from + found.unwrap_or(0);
    (line + 1, lines.get(line).map_or(1, |text| text.len() - text.trim_start().len() + 1))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Creates a baseline of one operation with these times.
    pub fn baseline(wall_ms: &[f64]) -> Baseline {
        let machine = Machine {
            cpu_model: "any".into(),
            cores: 2,
            memory_bytes: 1 << 30,
            kernel: "6.1".into(),
            lxc: "5.0".into(),
            storage: "ext4".into(),
            cgroup: "v2".into(),
        };
        let operation = Timings {
            wall_ms: wall_ms.to_vec(),
            cpu_ms: wall_ms.iter().map(|value| value * 0.875).collect(),
            wait_ms: None,
            calibration_wall_ms: vec![10.0; wall_ms.len()],
            calibration_cpu_ms: vec![8.0; wall_ms.len()],
        };
        let case = BaselineCase {
            recorded_at: "2026-01-01T00:00:00Z".into(),
            layers: BTreeMap::from([("app".into(), "0123".into())]),
            reference: Some("0123456789abcdef".into()),
            operations: BTreeMap::from([("query".into(), operation)]),
        };
        Baseline {
            format_version: BASELINE_VERSION,
            scenario: "pipeline/load".into(),
            machine_class: "x86_64-2c".into(),
            machine,
            cases: BTreeMap::from([("default".into(), case)]),
        }
    }

    #[test]
    fn who_waited_for_processors_is_named() {
        let with = |wait_ms: Option<Vec<f64>>| {
            let mut baseline = baseline(&[8.0, 8.0]);
            baseline.cases.get_mut("default").unwrap().operations.get_mut("query").unwrap().wait_ms = wait_ms;
            baseline.waiting(0.25)
        };
        assert_eq!(with(Some(vec![6.0, 8.0])), [("default query".to_owned(), 0.5)]);
        assert_eq!(with(Some(vec![1.0, 2.0])), []);
        assert_eq!(with(None), []);
    }

    fn error_of(text: &str) -> String {
        Baseline::parse(Path::new("load.json"), text).unwrap_err().to_string()
    }

    /// Returns a baseline with enough times that each list has a line of its own.
    fn long() -> Baseline {
        baseline(&(1..=40).map(|place| f64::from(place) + 0.125).collect::<Vec<_>>())
    }

    #[test]
    fn a_file_is_read_as_it_was_written_with_each_list_on_one_line() {
        let baseline = long();
        let text = baseline.text();
        assert_eq!(Baseline::parse(Path::new("load.json"), &text).unwrap(), baseline);
        let is_list = |line: &&str| line.trim_start().starts_with("\"wall_ms\": [1.125, 2.125, ");
        let lists: Vec<&str> = text.lines().filter(is_list).collect();
        assert!(lists.len() == 1 && lists[0].trim_end_matches(',').ends_with("40.125]"), "{text}");
    }

    #[test]
    fn the_first_version_has_no_references_and_is_written_as_the_second() {
        let text = long().text();
        let reference = "\"reference\": \"0123456789abcdef\",";
        assert!(text.contains(reference), "{text}");
        let first = text.replace("\"format_version\": 2", "\"format_version\": 1").replace(reference, "");
        let read = Baseline::parse(Path::new("load.json"), &first).unwrap();
        let mut expected = long();
        expected.cases.get_mut("default").unwrap().reference = None;
        assert_eq!(read, expected);
        assert!(read.text().contains("\"format_version\": 2") && !read.text().contains("reference"));
    }

    #[test]
    fn bad_files_are_told_apart_with_their_place() {
        let text = long().text();
        let cut = error_of(&text[..text.len() / 2]);
        assert!(cut.starts_with("load.json:") && cut.contains("cut off"), "{cut}");
        for version in ["0", "7"] {
            let other = text.replace("\"format_version\": 2", &format!("\"format_version\": {version}"));
            let told = error_of(&other);
            assert!(told.contains(&format!("has version {version}, and this engine reads 1 to 2")), "{told}");
        }
        assert!(error_of("[1, 2]").contains("no `format_version`"));
        assert!(error_of("hello").contains("this is no baseline"));
        let shorter = error_of(&text.replace("[1.125, 2.125, ", "[1.125, "));
        assert!(shorter.contains("query of case default has 40 values of cpu_ms, but 39 of wall_ms"), "{shorter}");
        let line = text.lines().position(|line| line.contains("\"query\"")).unwrap() + 1;
        assert!(shorter.starts_with(&format!("load.json:{line}:")), "{shorter}");
        let negative = error_of(&text.replace("[1.125, 2.125, ", "[1.125, -2.125, "));
        assert!(negative.contains("-2.125 in wall_ms is no time"), "{negative}");
        assert!(error_of(&text.replace("[1.125, 2.125, ", "[1.125, NaN, ")).contains("this is no baseline"));
        assert!(error_of(&text.replace("\"machine_class\"", "\"class\"")).contains("unknown field `class`"));
    }
}
