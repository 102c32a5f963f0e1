//! `mutants.json`: what each broken product showed about the suite.

use std::fmt;

use serde::Serialize;

use crate::error::{EXIT_FAILED, EXIT_PASSED};

/// File with the table, in the folder of the run on the product as it is.
pub const MUTANTS_FILE: &str = "mutants.json";

/// Version of [`MutantReport`]: raised when a reader of the old form would misread the new one.
pub const MUTANTS_VERSION: u32 = 1;

/// The table: `mutants.json`, and the answer of `--format json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MutantReport {
    /// [`MUTANTS_VERSION`].
    pub format_version: u32,
    /// Name of the run on the product as it is; absent where all mutants are equivalent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// All cases passed on the product as it is. Otherwise no mutant was tried.
    pub unbroken_passed: bool,
    /// Seed of the sample, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_seed: Option<u64>,
    /// Mutants that were tried, in order.
    pub mutants: Vec<MutantResult>,
    /// Number of mutants by verdict.
    pub counts: MutantCounts,
    /// Exit code: 0 if every mutant was killed or is equivalent.
    pub exit_code: u8,
}

impl MutantReport {
    /// Begins an empty table.
    #[must_use]
    pub fn new(sample_seed: Option<u64>) -> Self {
        Self {
            format_version: MUTANTS_VERSION,
            run: None,
            unbroken_passed: true,
            sample_seed,
            mutants: Vec::new(),
            counts: MutantCounts::default(),
            exit_code: EXIT_PASSED,
        }
    }

    /// Adds a row, and counts anew.
    pub fn add(&mut self, result: MutantResult) {
        self.mutants.push(result);
        self.counts = MutantCounts::of(&self.mutants);
        self.exit_code = if self.counts.killed == self.counts.judged() { EXIT_PASSED } else { EXIT_FAILED };
    }
}

/// Outcome of one mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MutantVerdict {
    /// The named check failed, and its message matches the pattern.
    Killed,
    /// The scenario failed in another way: another check, other words, an error, a crash, a time-out.
    KilledUnexplained,
    /// The broken code ran, and every case passed.
    Survived,
    /// Nothing was tested: an infrastructure error, a layer that does not build, or the only reaction is a known defect's mark.
    Misread,
    /// The broken code did not run.
    NotReached,
    /// No check can notice it, by the reason in its file. It was not run.
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

/// One row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MutantResult {
    /// Name of the mutant.
    pub name: String,
    /// Description of what it breaks.
    pub breaks: String,
    /// Outcome.
    pub verdict: MutantVerdict,
    /// Scenario that has to notice it, with its case where it names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// Message of the check, or reason for any other verdict.
    pub reason: String,
    /// Marks that the broken code left, such as the names of functions; each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reached: Vec<String>,
    /// Name of its run, for `cargo xtask runs show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Duration of its run with the build of its layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
}

/// Number of mutants by verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MutantCounts {
    /// Killed by the named check, with its words.
    pub killed: u32,
    /// Killed in another way.
    pub killed_unexplained: u32,
    /// Survived.
    pub survived: u32,
    /// Misread.
    pub misread: u32,
    /// Not reached.
    pub not_reached: u32,
    /// Equivalent; these count neither for nor against the suite.
    pub equivalent: u32,
}

impl MutantCounts {
    /// Counts verdicts.
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

    /// Number of mutants that a check could notice.
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
