//! What is said of a measured operation, compared with what it took before.

use serde::{Deserialize, Serialize};

use super::CaseId;
use crate::judge::{Decision, Verdict};

/// One metric of one operation, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The case.
    pub case: CaseId,
    /// The operation.
    pub operation: String,
    /// `cpu_ms`, `wall_ms` or `wall_minus_wait_ms`.
    pub metric: String,
    /// How it was judged.
    pub way: Way,
    /// Whether a regression of it fails the run.
    pub gates: bool,
    /// It was to be compared, and there is nothing to compare it with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// The samples of the side it was compared with, in their order, where they lie in no file of the run: those of a
    /// committed baseline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baseline_samples: Vec<f64>,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How two sides were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// With a baseline file of another time.
    Committed,
    /// Side by side, pair by pair.
    Duet,
}

impl Comparison {
    /// Whether it is a regression that fails the run.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.gates && self.verdict.decision == Decision::Regressed
    }
}
