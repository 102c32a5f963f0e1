//! The shift between two sets of samples: Hodges and Lehmann, "Estimates of location based on rank tests" (1963).

use super::quantile::median;

/// The median of all differences `second - first`, in the samples' unit; `None` where a side has no samples.
/// Takes time and memory in the product of both counts.
#[must_use]
pub fn hodges_lehmann(first: &[f64], second: &[f64]) -> Option<f64> {
    let differences: Vec<f64> = second.iter().flat_map(|two| first.iter().map(move |one| two - one)).collect();
    median(&differences)
}
