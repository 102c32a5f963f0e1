//! Result of comparing a measured operation with a baseline.

use serde::{Deserialize, Serialize};

use super::CaseId;
use e2e_stats::{Decision, Verdict};

/// One metric of one operation, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The case.
    pub case: CaseId,
    /// The operation.
    pub operation: String,
    /// `cpu_ms`, `wall_ms` or `wall_minus_wait_ms`.
    pub metric: String,
    /// Kind of the comparison.
    pub way: Way,
    /// True if a regression of this metric fails the run.
    pub gates: bool,
    /// True if the operation was to be compared, and has no baseline.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// Samples of the committed baseline, in their order; empty in a duet, whose samples lie in the run's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baseline_samples: Vec<f64>,
    /// Decision, with its effect and its reason.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Kind of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// With a committed baseline file.
    Committed,
    /// With the baseline in a second lab beside it, pair by pair.
    Duet,
}

impl Comparison {
    /// Returns true for a regression that fails the run.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.gates && self.verdict.decision == Decision::Regressed
    }
}
