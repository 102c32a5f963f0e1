//! `scenarios/durations.toml`: recorded durations of cases. It is committed, so that all machines split a suite in the same way.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::Project;
use super::parse::Source;
use super::range::{CaseSeconds, Within};
use crate::input;

/// Comment at the head of `durations.toml`.
const HEAD: &str = "# How long each case takes, in seconds: `--shard` splits the suite by it.\n\
                    # Written by `cargo xtask runs durations RUN`, from a run in which they passed.\n\n[seconds]\n";

/// Assumed duration of a case where no duration of any case is known, in seconds.
const UNKNOWN_S: f64 = 1.0;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    seconds: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    seconds: BTreeMap<String, Within<CaseSeconds>>,
}

impl Durations {
    /// Reads the durations of a project; none where it has no such file. A case that no longer exists is harmless.
    pub fn read(project: &Project) -> anyhow::Result<Self> {
        let path = Self::path(project);
        if !input::exists(&path)? {
            return Ok(Self::default());
        }
        let source = Source::read(&path)?;
        let file: File = source.parse()?;
        Ok(Self { seconds: file.seconds.into_iter().map(|(case, seconds)| (case, seconds.0)).collect() })
    }

    #[must_use]
    pub fn path(project: &Project) -> PathBuf {
        project.scenarios_dir.join("durations.toml")
    }

    /// Makes the durations from a map of cases to seconds.
    #[must_use]
    pub fn from_seconds(seconds: BTreeMap<String, f64>) -> Self {
        Self { seconds }
    }

    /// Adds newer durations, and removes the durations of cases that the project no longer has.
    #[must_use]
    pub fn renewed(mut self, newer: Self, project: &Project) -> Self {
        self.seconds.extend(newer.seconds);
        let all = |scenario: &super::Scenario| {
            let id = scenario.id();
            scenario.cases.iter().map(|case| format!("{id}:{}", case.name)).collect::<Vec<_>>()
        };
        let cases: Vec<String> = project.scenarios.iter().flat_map(all).collect();
        self.seconds.retain(|case, _| cases.contains(case));
        self
    }

    /// Returns the duration of a case; where it is unknown, the median of the known ones. A repetition (`#2`) takes as long as its case.
    #[must_use]
    pub fn seconds(&self, case: &str) -> f64 {
        let case = case.split('#').next().unwrap_or_default();
        self.seconds.get(case).copied().unwrap_or_else(|| {
            let mut all: Vec<f64> = self.seconds.values().copied().collect();
            all.sort_by(f64::total_cmp);
            all.get(all.len() / 2).copied().unwrap_or(UNKNOWN_S)
        })
    }

    /// Returns the cases whose durations are known.
    pub fn cases(&self) -> impl Iterator<Item = &str> {
        self.seconds.keys().map(String::as_str)
    }

    /// Formats the durations as the text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(case, seconds): (&String, &f64)| format!("{} = {seconds:.1}\n", toml::Value::from(case.as_str()));
        format!("{HEAD}{}", self.seconds.iter().map(line).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let seconds = BTreeMap::from([("a/b:c".to_owned(), 12.34), ("a/b:d".to_owned(), 3.0)]);
        let durations = Durations::from_seconds(seconds);
        let text = durations.text();
        assert!(text.ends_with("[seconds]\n\"a/b:c\" = 12.3\n\"a/b:d\" = 3.0\n"), "{text}");
        let file: File = toml::from_str(&text).unwrap();
        assert_eq!(file.seconds["a/b:c"].0, 12.3);
        let all = ["a/b:c", "a/b:d#2", "a/new:x"].map(|case| durations.seconds(case));
        assert_eq!(all, [12.34, 3.0, 12.34]);
    }
}
