//! Rank test of two unpaired sets: Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the
//! other" (1947). No verdict uses it; it serves as a comparison for the other tests.

use super::normal::upper_tail;

/// Returns the two-sided p-value by the normal approximation, with the correction for ties and for continuity (Lehmann, "Nonparametrics"
/// (1975), section 1.3); 1 where all samples are equal. `None` where a side has no samples, or a sample is NaN.
#[must_use]
pub fn mann_whitney(first: &[f64], second: &[f64]) -> Option<f64> {
    if first.is_empty() || second.is_empty() || first.iter().chain(second).any(|sample| sample.is_nan()) {
        return None;
    }
    let mut all: Vec<(f64, bool)> = first.iter().map(|sample| (*sample, true)).collect();
    all.extend(second.iter().map(|sample| (*sample, false)));
    all.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut rank_sum, mut ties, mut begin) = (0.0, 0.0, 0);
    #[expect(clippy::float_cmp, reason = "a tie is an equal sample")]
    while begin < all.len() {
        let same = all[begin..].iter().take_while(|(sample, _)| *sample == all[begin].0).count();
        let middle = begin as f64 + (same as f64 + 1.0) / 2.0;
        rank_sum += middle * all[begin..begin + same].iter().filter(|(_, is_first)| *is_first).count() as f64;
        ties += (same as f64).powi(3) - same as f64;
        begin += same;
    }
    let (one, two, both) = (first.len() as f64, second.len() as f64, all.len() as f64);
    let statistic = rank_sum - one * (one + 1.0) / 2.0;
    let variance = one * two / 12.0 * (both + 1.0 - ties / (both * (both - 1.0)));
    if variance <= 0.0 {
        return Some(1.0);
    }
    let distance = ((statistic - one * two / 2.0).abs() - 0.5).max(0.0);
    Some((2.0 * upper_tail(distance / variance.sqrt())).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_as_scipy_gives_it() {
        let check = |first: &[f64], second: &[f64], expected: f64| {
            for found in [mann_whitney(first, second), mann_whitney(second, first)] {
                assert!((found.unwrap() - expected).abs() < 1e-9, "{found:?}");
            }
        };
        let first = [12.1, 11.4, 13.9, 12.7, 11.9, 15.2, 12.3, 11.8];
        let second = [12.9, 13.4, 12.2, 14.8, 13.1, 13.3, 16.0, 12.6];
        check(&first, &second, 0.103_561_871_176_533_82);
        let with_ties = [1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0];
        check(&with_ties, &[2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 6.0, 7.0], 0.069_350_454_381_822_07);
        check(&[1.0; 4], &[1.0; 5], 1.0);
        check(&[1.0], &[2.0], 1.0);
    }

    #[test]
    fn what_cannot_be_compared_has_no_answer() {
        assert_eq!(mann_whitney(&[], &[1.0]), None);
        assert_eq!(mann_whitney(&[1.0, f64::NAN], &[1.0]), None);
    }
}
