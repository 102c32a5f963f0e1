//! Shift between two sets of samples: Hodges and Lehmann, "Estimates of location based on rank tests" (1963).

use super::quantile::median;

/// Returns the median of all differences `second - first`, in the samples' unit; `None` where a side has no samples.
/// Takes time and memory in the product of both counts.
#[must_use]
pub fn hodges_lehmann(first: &[f64], second: &[f64]) -> Option<f64> {
    let differences: Vec<f64> = second.iter().flat_map(|two| first.iter().map(move |one| two - one)).collect();
    median(&differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shift_as_numpy_gives_it() {
        let first = [12.1, 11.4, 13.9, 12.7, 11.9, 15.2, 12.3, 11.8];
        let second = [12.9, 13.4, 12.2, 14.8, 13.1, 13.3, 16.0, 12.6];
        assert!((hodges_lehmann(&first, &second).unwrap() - 0.85).abs() < 1e-12);
        assert!((hodges_lehmann(&second, &first).unwrap() + 0.85).abs() < 1e-12);
        assert_eq!(hodges_lehmann(&[], &second), None);
        assert_eq!(hodges_lehmann(&first, &[]), None);
    }
}
