//! `mutants.json`: the outcome of each mutant.

use std::fmt;

use serde::Serialize;

use crate::error::{EXIT_FAILED, EXIT_PASSED};

/// Name of the mutants' report, in the folder of the run on the unchanged product.
pub const MUTANTS_FILE: &str = "mutants.json";

/// Version of [`MutantReport`]: raised when a reader of the old form would misread the new one.
pub const MUTANTS_VERSION: u32 = 1;

/// Report on all mutants: `mutants.json`, and the output of `--format json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MutantReport {
    /// Version of this format: [`MUTANTS_VERSION`].
    pub format_version: u32,
    /// Name of the run on the unchanged product; absent where all mutants are equivalent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// True if all cases passed on the unchanged product. Otherwise no mutant was tried.
    pub unbroken_passed: bool,
    /// Seed of the sample, where only a sample of the mutants was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_seed: Option<u64>,
    /// Functions that were emptied, where the mutants are emptied functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emptied: Option<EmptiedDraw>,
    /// Results of the mutants, in the order in which they were tried.
    pub mutants: Vec<MutantResult>,
    /// Number of mutants by verdict.
    pub counts: MutantCounts,
    /// Exit code: 0 if every mutant was killed or is equivalent.
    pub exit_code: u8,
}

impl MutantReport {
    /// Makes a report without results.
    #[must_use]
    pub fn new(sample_seed: Option<u64>) -> Self {
        Self {
            format_version: MUTANTS_VERSION,
            run: None,
            unbroken_passed: true,
            sample_seed,
            emptied: None,
            mutants: Vec::new(),
            counts: MutantCounts::default(),
            exit_code: EXIT_PASSED,
        }
    }

    /// Adds a result, and updates the counts and the exit code.
    pub fn add(&mut self, result: MutantResult) {
        self.mutants.push(result);
        self.counts = MutantCounts::of(&self.mutants);
        self.exit_code = if self.counts.killed == self.counts.judged() { EXIT_PASSED } else { EXIT_FAILED };
    }
}

/// Functions among which those that were emptied were chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EmptiedDraw {
    /// Name of the Python package.
    pub package: String,
    /// Version of the Python package.
    pub version: String,
    /// Number of functions that drivers called and that can be emptied.
    pub candidates: u32,
    /// Number of functions that drivers called and that do nothing, so that they would be the same without their body.
    pub do_nothing: u32,
}

/// Verdict on a mutant: the suite noticed it, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MutantVerdict {
    /// The named check failed, and its message matches the mutant's pattern.
    Killed,
    /// The scenario failed in another way: another check, other words, an error, a crash, a timeout.
    KilledUnexplained,
    /// The broken code ran, and every case passed.
    Survived,
    /// Nothing was tested: an infrastructure error, a layer that does not build, or no failure except at the mark of a known defect.
    Misread,
    /// The broken code did not run.
    NotReached,
    /// No check can notice the mutant, for the reason in its file. It was not run.
    Equivalent,
}

impl fmt::Display for MutantVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Killed => "killed",
            Self::KilledUnexplained => "killed unexplained",
            Self::Survived => "survived",
            Self::Misread => "misread",
            Self::NotReached => "not reached",
            Self::Equivalent => "equivalent",
        })
    }
}

/// Result of one mutant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MutantResult {
    /// Name of the mutant.
    pub name: String,
    /// Description of what the mutant breaks.
    pub breaks: String,
    /// Verdict on the mutant.
    pub verdict: MutantVerdict,
    /// Scenario that has to notice the mutant, with its case where the mutant names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Message of the check that failed, or the reason of another verdict.
    pub reason: String,
    /// Names that the broken code reported when it ran, such as those of functions; each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<String>,
    /// Name of the mutant's run, for `cargo xtask runs show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Duration of the mutant's run, with the build of its layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// Number of mutants by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MutantCounts {
    /// Mutants that the named check killed, with the expected words.
    pub killed: u32,
    /// Mutants that were killed in another way.
    pub killed_unexplained: u32,
    /// Mutants whose broken code ran while every case passed.
    pub survived: u32,
    /// Mutants with which nothing was tested.
    pub misread: u32,
    /// Mutants whose broken code did not run.
    pub not_reached: u32,
    /// Equivalent mutants, which count neither for nor against the suite.
    pub equivalent: u32,
}

impl MutantCounts {
    #[must_use]
    pub fn of(results: &[MutantResult]) -> Self {
        let mut counts = Self::default();
        for result in results {
            *match result.verdict {
                MutantVerdict::Killed => &mut counts.killed,
                MutantVerdict::KilledUnexplained => &mut counts.killed_unexplained,
                MutantVerdict::Survived => &mut counts.survived,
                MutantVerdict::Misread => &mut counts.misread,
                MutantVerdict::NotReached => &mut counts.not_reached,
                MutantVerdict::Equivalent => &mut counts.equivalent,
            } += 1;
        }
        counts
    }

    /// Returns the number of mutants that a check could notice.
    #[must_use]
    pub fn judged(&self) -> u32 {
        self.killed + self.killed_unexplained + self.survived + self.misread + self.not_reached
    }
}

impl fmt::Display for MutantCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} killed", self.killed, self.judged())?;
        let others = [
            (self.killed_unexplained, "killed unexplained"),
            (self.survived, "survived"),
            (self.misread, "misread"),
            (self.not_reached, "not reached"),
            (self.equivalent, "equivalent"),
        ];
        others.into_iter().filter(|(count, _)| *count > 0).try_for_each(|(count, word)| write!(f, ", {count} {word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_killed_counts() {
        let result = |verdict| MutantResult {
            name: "m".into(),
            breaks: "b".into(),
            verdict,
            scenario: None,
            reason: String::new(),
            reached: Vec::new(),
            run: None,
            duration_ms: None,
        };
        use MutantVerdict::{Equivalent, Killed, KilledUnexplained, Misread, NotReached, Survived};
        let all = [Killed, Killed, KilledUnexplained, Survived, Misread, NotReached, Equivalent].map(result);
        assert_eq!(
            MutantCounts::of(&all).to_string(),
            "2 of 6 killed, 1 killed unexplained, 1 survived, 1 misread, 1 not reached, 1 equivalent"
        );
        assert_eq!(MutantCounts::of(&all[..2]).to_string(), "2 of 2 killed");
        let exit_code = |results: &[MutantResult]| {
            let mut report = MutantReport::new(None);
            results.iter().for_each(|result| report.add(result.clone()));
            report.exit_code
        };
        assert_eq!((exit_code(&all[..2]), exit_code(&all[6..])), (0, 0));
        for result in &all[2..6] {
            let with = [all[0].clone(), result.clone(), all[6].clone()];
            assert_eq!(exit_code(&with), 1, "{}", result.verdict);
        }
    }
}
