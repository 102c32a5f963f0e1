//! `defects.json`: whether each known defect is present in the product.

use std::fmt;

use serde::Serialize;

use crate::error::{EXIT_FAILED, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_PASSED};

/// Name of the report on known defects, in the folder of its run.
pub const DEFECTS_FILE: &str = "defects.json";

/// Version of [`DefectReport`]: raised when a reader of the old form would misread the new one.
pub const DEFECTS_VERSION: u32 = 1;

/// Report on known defects: `defects.json`, and the output of `--format json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DefectReport {
    /// Version of this format: [`DEFECTS_VERSION`].
    pub format_version: u32,
    /// Name of the run that tried the defects.
    pub run: String,
    /// Packages that are the product: those that a defect's name begins with, and those that `--set` replaced.
    pub packages: Vec<ProductPackage>,
    /// Answer for each defect in each scenario that lists it, in the order of their names.
    pub defects: Vec<DefectResult>,
    /// Number of answers of each kind.
    pub counts: DefectCounts,
    /// Reason why the package of `--set` was refused, so that no defect was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Exit code: 0 if every defect is present, 1 if one is gone or cannot be told, 2 if the package was refused, 3 if an infrastructure
    /// error prevented all answers, 5 if the run was interrupted.
    pub exit_code: u8,
}

impl DefectReport {
    /// Makes the report of a run that ended with the exit code `of_run`.
    #[must_use]
    pub fn new(run: String, packages: Vec<ProductPackage>, mut defects: Vec<DefectResult>, of_run: u8) -> Self {
        defects.sort_by(|one, two| (&one.name, &one.case).cmp(&(&two.name, &two.case)));
        let counts = DefectCounts::of(&defects);
        let is_judged = |one: &DefectResult| one.place.is_some();
        let exit_code = match of_run {
            EXIT_INTERRUPTED => EXIT_INTERRUPTED,
            EXIT_INFRASTRUCTURE if !defects.iter().any(is_judged) => EXIT_INFRASTRUCTURE,
            _ if counts.gone + counts.cannot_tell > 0 => EXIT_FAILED,
            EXIT_INFRASTRUCTURE => EXIT_INFRASTRUCTURE, // all are present, and something is left on the host
            _ => EXIT_PASSED,
        };
        Self { format_version: DEFECTS_VERSION, run, packages, defects, counts, refused: None, exit_code }
    }
}

/// Package that is the product, in the machines of one template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProductPackage {
    /// Name of the template.
    pub template: String,
    /// Name of the package.
    pub package: String,
    /// Version of the package.
    pub version: String,
    /// Path of the wheel or source tree that `--set` put in the place of the pinned package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl fmt::Display for ProductPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}", self.package, self.version, self.template)?;
        match &self.path {
            Some(path) => write!(f, ", from {path}"),
            None => write!(f, ", as pinned"),
        }
    }
}

/// Answer whether a known defect is in the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DefectVerdict {
    /// The probe failed as known.
    Present,
    /// The probe did not fail, and observed the promised effect on a machine.
    Gone,
    /// The probe failed otherwise, did not fail without an observed effect, or was not reached.
    CannotTell,
}

impl fmt::Display for DefectVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Present => "present",
            Self::Gone => "gone",
            Self::CannotTell => "cannot tell",
        })
    }
}

/// Answer for one defect in one scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DefectResult {
    /// Name of the defect.
    pub name: String,
    /// Case that tried it, as `category/scenario:case`.
    pub case: String,
    /// Whether the defect is in the product. Several marks of the defect in one scenario that do not agree cannot tell.
    pub verdict: DefectVerdict,
    /// What was seen: the failure, the observed effect, or the reason why the probe was not reached.
    pub seen: String,
    /// Place of the mark in the scenario, as `file:line`; absent where it was not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// Number of answers of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DefectCounts {
    /// Answers that the defect is present.
    pub present: u32,
    /// Answers that it is gone.
    pub gone: u32,
    /// Defects of which nothing can be told.
    pub cannot_tell: u32,
}

impl DefectCounts {
    fn of(results: &[DefectResult]) -> Self {
        let mut counts = Self::default();
        for result in results {
            *match result.verdict {
                DefectVerdict::Present => &mut counts.present,
                DefectVerdict::Gone => &mut counts.gone,
                DefectVerdict::CannotTell => &mut counts.cannot_tell,
            } += 1;
        }
        counts
    }
}

impl fmt::Display for DefectCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} present, {} gone, {} cannot tell", self.present, self.gone, self.cannot_tell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_all_is_as_known() {
        let result = |verdict, place: Option<&str>| DefectResult {
            name: "p-1/bug".into(),
            case: "a/b:default".into(),
            verdict,
            seen: String::new(),
            place: place.map(str::to_owned),
        };
        let here = Some("main.rs:3");
        let code = |results: &[DefectResult], of_run| {
            DefectReport::new("run".into(), Vec::new(), results.to_vec(), of_run).exit_code
        };
        let present = result(DefectVerdict::Present, here);
        let unreached = result(DefectVerdict::CannotTell, None);
        assert_eq!(code(std::slice::from_ref(&present), 0), 0);
        assert_eq!(code(std::slice::from_ref(&present), 1), 0, "what failed beside the marks is no defect's");
        assert_eq!(code(&[present.clone(), result(DefectVerdict::Gone, here)], 1), 1);
        assert_eq!(code(&[present.clone(), result(DefectVerdict::CannotTell, here)], 1), 1);
        assert_eq!(code(&[present.clone(), unreached.clone()], 3), 1);
        assert_eq!(code(std::slice::from_ref(&unreached), 3), 3);
        assert_eq!(code(std::slice::from_ref(&unreached), 1), 1);
        assert_eq!(code(std::slice::from_ref(&present), 3), 3);
        assert_eq!(code(&[present, unreached], 5), 5);
    }
}
