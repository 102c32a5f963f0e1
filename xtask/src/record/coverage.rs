//! `coverage.json`: the functions of a Python product, and which of them the run has called.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::visible_text;
use crate::input;

/// Name of the file with the coverage, in the folder of the run.
pub const COVERAGE_FILE: &str = "coverage.json";

/// Version of [`Coverage`]: raised when a reader of the old form would misread the new one.
pub const COVERAGE_VERSION: u32 = 1;

/// Functions of a Python product, and which of them the run has called: `coverage.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Version of this format: [`COVERAGE_VERSION`].
    pub format_version: u32,
    /// Template that pins the package.
    pub template: String,
    /// Name of the Python package.
    pub package: String,
    /// Version of the Python package, by its installed metadata.
    pub version: String,
    /// Number of functions by who called them.
    pub counts: CoverageCounts,
    /// Functions of the package, by their file and line.
    pub functions: Vec<CoveredFunction>,
    /// Calls that are missing here, and the reasons, a sentence for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

/// Number of a package's functions by who called them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoverageCounts {
    /// All functions.
    pub functions: u32,
    /// Functions that any program called.
    pub called: u32,
    /// Functions that a program called that is no probe.
    pub by_drivers: u32,
    /// Functions that only probes of known defects called.
    pub by_probes_alone: u32,
    /// Functions that no program called.
    pub never: u32,
}

/// Function of a package, and the programs that called it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoveredFunction {
    /// Name of the function, as `module:function`, `module:Class.method` or `module:function.<locals>.inner`. The setter of a property is
    /// `module:Class.property.setter`.
    pub function: String,
    /// File of the function, below the folder of the packages.
    pub file: String,
    /// Line in that file.
    pub line: u32,
    /// True if the function has no body, or one that returns an empty value at once, so that no emptied mutant can be made of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub does_nothing: bool,
    /// Callers of the function.
    pub called: CalledBy,
    /// Cases in which each program called the function, by the file name of the program.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, Vec<String>>,
    /// Type of a value that the function returned, the first one that is not None; absent where there was none. A generator or a coroutine
    /// has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns: Option<String>,
}

/// Callers of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalledBy {
    /// A program that is no probe called it.
    Drivers,
    /// Only probes of known defects called it.
    ProbesAlone,
    /// No program called it.
    Never,
}

impl fmt::Display for CalledBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Drivers => "drivers",
            Self::ProbesAlone => "probes alone",
            Self::Never => "never",
        })
    }
}

/// Coverage of a run in its record: numbers alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedCoverage {
    /// Name of the Python package.
    pub package: String,
    /// Version of the Python package.
    pub version: String,
    /// Number of functions by who called them.
    #[serde(flatten)]
    pub counts: CoverageCounts,
    /// Calls that are missing, and the reasons, a sentence for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

impl fmt::Display for RecordedCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CoverageCounts { functions, called, by_drivers, by_probes_alone, .. } = self.counts;
        write!(
            f,
            "coverage of {} {}: {called} of {functions} functions called, {by_drivers} by drivers, {by_probes_alone} by probes alone",
            self.package, self.version
        )?;
        match self.gaps.len() {
            0 => Ok(()),
            1 => f.write_str(" (incomplete: 1 gap)"),
            many => write!(f, " (incomplete: {many} gaps)"),
        }
    }
}

/// List of a package's functions, as the layer has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFunctions {
    package: String,
    version: String,
    functions: Vec<ListedFunction>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedFunction {
    function: String,
    file: String,
    line: u32,
    does_nothing: bool,
}

impl Coverage {
    /// Makes the coverage of a run that has called nothing yet.
    #[must_use]
    pub fn new(template: &str, listed: ListedFunctions) -> Self {
        let function = |ListedFunction { function, file, line, does_nothing }| CoveredFunction {
            function,
            file,
            line,
            does_nothing,
            called: CalledBy::Never,
            programs: BTreeMap::new(),
            returns: None,
        };
        let mut functions: Vec<_> = listed.functions.into_iter().map(function).collect();
        functions.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
        let mut coverage = Self {
            format_version: COVERAGE_VERSION,
            template: template.to_owned(),
            package: listed.package,
            version: listed.version,
            counts: CoverageCounts::default(),
            functions,
            gaps: Vec::new(),
        };
        coverage.count(&[]);
        coverage
    }

    /// Reads the coverage of a run.
    ///
    /// # Errors
    /// `NotFound` where the run has none.
    pub fn read(run: &Path) -> std::io::Result<Self> {
        let bytes = input::read_below(run, COVERAGE_FILE, input::RECORD_BYTES_MAX)?;
        let coverage: Self = serde_json::from_slice(&bytes)?;
        if coverage.format_version == COVERAGE_VERSION {
            Ok(coverage)
        } else {
            let message = format!("{COVERAGE_FILE} has version {}, not {COVERAGE_VERSION}", coverage.format_version);
            Err(std::io::Error::other(message))
        }
    }

    /// Adds the calls of a case, from the lines that its programs wrote. Lines that are cut or name no function of the package are skipped.
    pub fn add(&mut self, case: &str, calls: &str) {
        let places: HashMap<&str, usize> =
            self.functions.iter().enumerate().map(|(place, one)| (one.function.as_str(), place)).collect();
        let found: Vec<_> = calls
            .lines()
            .filter_map(|line| {
                let mut words = line.split('\t');
                let (kind, function, program) = (words.next()?, words.next()?, words.next()?);
                Some((kind, *places.get(function)?, program, words.next()))
            })
            .collect();
        for (kind, place, program, value) in found {
            let function = &mut self.functions[place];
            match (kind, value) {
                ("call", None) => {
                    let cases = function.programs.entry(visible_text(program)).or_default();
                    if !cases.iter().any(|known| known == case) {
                        cases.push(case.to_owned());
                    }
                }
                ("value", Some(value)) => {
                    function.returns.get_or_insert_with(|| visible_text(value));
                }
                _ => {}
            }
        }
    }

    /// Counts the functions; `probes` are the names of the programs that are probes.
    pub fn count(&mut self, probes: &[String]) {
        let mut counts = CoverageCounts::default();
        for function in &mut self.functions {
            let is_driver = |program: &String| !probes.contains(program);
            function.called = match function.programs.keys().any(is_driver) {
                true => CalledBy::Drivers,
                false if function.programs.is_empty() => CalledBy::Never,
                false => CalledBy::ProbesAlone,
            };
            counts.add(function.called);
        }
        self.counts = counts;
    }

    /// Returns the text of the file.
    pub fn text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Returns the numbers for the record of the run.
    #[must_use]
    pub fn recorded(&self) -> RecordedCoverage {
        RecordedCoverage {
            package: self.package.clone(),
            version: self.version.clone(),
            counts: self.counts,
            gaps: self.gaps.clone(),
        }
    }

    /// Joins the coverage of another shard of the same suite.
    ///
    /// # Errors
    /// The difference, where the other one is of another package or version.
    pub fn join(&mut self, other: Self) -> Result<(), String> {
        let of = |one: &Self| format!("{} {} of {}", one.package, one.version, one.template);
        if of(self) != of(&other) || self.functions.len() != other.functions.len() {
            return Err(format!("the shards differ in the package of --coverage: {}, {}", of(self), of(&other)));
        }
        let mut others: HashMap<String, CoveredFunction> =
            other.functions.into_iter().map(|one| (one.function.clone(), one)).collect();
        let mut counts = CoverageCounts::default();
        for function in &mut self.functions {
            if let Some(other) = others.remove(&function.function) {
                for (program, cases) in other.programs {
                    let known = function.programs.entry(program).or_default();
                    known.extend(cases);
                    known.sort();
                    known.dedup();
                }
                function.returns = function.returns.take().or(other.returns);
                function.called = function.called.or(other.called);
            }
            counts.add(function.called);
        }
        self.counts = counts;
        self.gaps.extend(other.gaps);
        Ok(())
    }
}

impl CoverageCounts {
    fn add(&mut self, called: CalledBy) {
        self.functions += 1;
        self.called += u32::from(called != CalledBy::Never);
        *match called {
            CalledBy::Drivers => &mut self.by_drivers,
            CalledBy::ProbesAlone => &mut self.by_probes_alone,
            CalledBy::Never => &mut self.never,
        } += 1;
    }
}

impl CalledBy {
    /// Returns the callers of a function with these and other callers.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Drivers, _) | (_, Self::Drivers) => Self::Drivers,
            (Self::ProbesAlone, _) | (_, Self::ProbesAlone) => Self::ProbesAlone,
            (Self::Never, Self::Never) => Self::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(names: &[&str]) -> Coverage {
        let function = |name: &&str| ListedFunction {
            function: (*name).into(),
            file: "m.py".into(),
            line: 1,
            does_nothing: false,
        };
        let functions = names.iter().map(function).collect();
        Coverage::new("app", ListedFunctions { package: "shop".into(), version: "1.2".into(), functions })
    }

    fn callers(coverage: &Coverage) -> Vec<(&str, CalledBy)> {
        coverage.functions.iter().map(|one| (one.function.as_str(), one.called)).collect()
    }

    #[test]
    fn calls_of_probes_alone_are_counted_apart_and_damaged_lines_not_at_all() {
        let mut coverage = coverage(&["m:f", "m:g", "m:h"]);
        coverage
            .add("a/b:c", "call\tm:f\trun.py\nvalue\tm:f\trun.py\tstr\ncall\tm:f\tprobes.py\ncall\tm:g\tprobes.py\n");
        coverage.add(
            "a/b:d",
            "[only the last 8 MiB of this log are kept]\nm:h\trun.py\ncall\tm:x\trun.py\ncall\tm:h\nvalue\tm:f\t",
        );
        coverage.add(
            "a/b:d",
            "call\tm:f\trun.py\ncall\tm:f\trun.py\nvalue\tm:f\trun.py\tint\nvalue\tm:g\tprobes.py\tb\u{1b}d\n",
        );
        coverage.count(&["probes.py".into()]);
        let expected = [("m:f", CalledBy::Drivers), ("m:g", CalledBy::ProbesAlone), ("m:h", CalledBy::Never)];
        assert_eq!(callers(&coverage), expected);
        assert_eq!(coverage.functions[0].programs["run.py"], ["a/b:c", "a/b:d"]);
        assert_eq!(coverage.functions[0].returns.as_deref(), Some("str"), "the first one stays");
        assert!(!coverage.functions[1].returns.as_ref().unwrap().contains('\u{1b}'));
        let counts = CoverageCounts { functions: 3, called: 2, by_drivers: 1, by_probes_alone: 1, never: 1 };
        assert_eq!(coverage.counts, counts);
        assert_eq!(
            coverage.recorded().to_string(),
            "coverage of shop 1.2: 2 of 3 functions called, 1 by drivers, 1 by probes alone"
        );
        coverage.count(&[]);
        assert_eq!(coverage.counts.by_drivers, 2, "without probes, every program is a driver");
    }

    #[test]
    fn shards_are_joined_by_function() {
        let (mut one, mut other) = (coverage(&["m:f", "m:g", "m:h", "m:i"]), coverage(&["m:f", "m:g", "m:h", "m:i"]));
        one.add("a/b:c", "call\tm:f\tprobes.py\ncall\tm:g\trun.py\n");
        other.add("a/b:d", "call\tm:f\trun.py\nvalue\tm:f\trun.py\tstr\ncall\tm:h\tprobes.py\n");
        other.gaps.push("a/b:d: full".into());
        [&mut one, &mut other].into_iter().for_each(|coverage| coverage.count(&["probes.py".into()]));
        one.join(other).unwrap();
        let expected = [
            ("m:f", CalledBy::Drivers),
            ("m:g", CalledBy::Drivers),
            ("m:h", CalledBy::ProbesAlone),
            ("m:i", CalledBy::Never),
        ];
        assert_eq!(callers(&one), expected);
        assert_eq!((one.counts.by_drivers, one.functions[0].returns.as_deref()), (2, Some("str")));
        assert!(one.recorded().to_string().ends_with("1 by probes alone (incomplete: 1 gap)"));
        let error = one.join(coverage(&["m:f"])).unwrap_err();
        assert!(error.contains("differ in the package of --coverage: shop 1.2 of app"), "{error}");
    }

    #[test]
    fn a_file_of_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let write = |coverage: &Coverage| {
            std::fs::write(folder.path().join(COVERAGE_FILE), coverage.text().unwrap()).unwrap();
            Coverage::read(folder.path()).map_err(|error| error.to_string())
        };
        let good = coverage(&["m:f"]);
        assert_eq!(write(&good), Ok(good.clone()));
        let error = write(&Coverage { format_version: 2, ..good }).unwrap_err();
        assert_eq!(error, "coverage.json has version 2, not 1");
    }
}
