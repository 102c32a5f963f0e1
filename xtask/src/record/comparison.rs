//! Result of comparing a measured operation with a baseline.

use serde::{Deserialize, Serialize};

use super::CaseId;
use e2e_stats::{Decision, Verdict};

/// Result of comparing one metric of one operation with its baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Case of the operation, as `category/scenario:case`.
    pub case: CaseId,
    /// Name of the operation.
    pub operation: String,
    /// Name of the metric: `cpu_ms`, `wall_ms` or `wall_minus_wait_ms`.
    pub metric: String,
    /// Source of the baseline.
    pub way: Way,
    /// True if a regression of this metric fails the run.
    pub gates: bool,
    /// True if the operation has no baseline although it should be compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// Samples of the committed baseline, in the order in which they were taken; empty in a duet, whose samples lie in the run's folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baseline_samples: Vec<f64>,
    /// Verdict against the committed baseline, which this one replaces; absent where none is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<Verdict>,
    /// Decision, with the measured effect and the reason.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Source of the baseline of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// A committed baseline file.
    Committed,
    /// A second lab beside the candidate's, measured pair by pair.
    Duet,
    /// The same, with the machines that the committed baseline was measured on, because its samples left a doubt.
    Settled,
}

impl Comparison {
    /// Tells whether this is a regression that fails the run.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.gates && self.verdict.decision == Decision::Regressed
    }
}
