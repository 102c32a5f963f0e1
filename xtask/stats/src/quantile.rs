//! Quantiles.

/// Returns the quantile at `part` (0 to 1) of sorted samples, interpolated linearly: definition 7 of Hyndman and Fan, "Sample quantiles
/// in statistical packages" (1996). `None` without samples.
#[must_use]
pub fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = last as f64 * part.clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the last index")]
    let below = place as usize;
    let (low, high) = (sorted[below.min(last)], sorted[(below + 1).min(last)]);
    let share = place - below as f64;
    Some(if share == 0.0 { low } else { low + (high - low) * share })
}

/// Returns the median of samples in any order; `None` without samples.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_as_numpy_gives_them() {
        let mut samples = [2.1, 2.4, 1.9, 2.2, 9.7, 2.0, 2.3, 2.2];
        samples.sort_by(f64::total_cmp);
        for (part, expected) in [(0.0, 1.9), (0.05, 1.935), (0.25, 2.075), (0.5, 2.2), (0.9, 4.59), (1.0, 9.7)] {
            let found = quantile(&samples, part).unwrap();
            assert!((found - expected).abs() < 1e-12, "{part}: {found}");
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0]), Some(4.0));
    }
}
