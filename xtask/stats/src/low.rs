//! Means of the lowest samples.
//!
//! Disturbances make a program slower, hardly ever quicker, so its lowest times say most about its work. Chen and Revels, "Robust
//! benchmarking in noisy environments" (2016), take the minimum for this reason. The mean of the low fifth varies less from one set of
//! samples to the next than the minimum (a trimmed mean as in Huber, "Robust Statistics" (1981), with all of the trimming at the upper
//! end).

/// Returns the number of samples, of `count`, in the lowest `fraction`: k = max(1, round(count * fraction)), at most
/// `count`.
#[must_use]
pub fn lowest(count: usize, fraction: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the count on the next line"
    )]
    let rounded = (count as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
    rounded.max(1).min(count)
}

/// Returns the mean of the lowest `fraction` (0 to 1) of the samples, of one sample at least; `None` without samples.
#[must_use]
pub fn low_mean(samples: &[f64], fraction: f64) -> Option<f64> {
    let count = lowest(samples.len(), fraction);
    if count == 0 {
        return None;
    }
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted[..count].iter().sum::<f64>() / count as f64)
}

/// Returns the mean of the k = max(1, round(n / 5)) smallest of n samples; `None` without samples.
#[must_use]
pub fn low_fifth(samples: &[f64]) -> Option<f64> {
    low_mean(samples, 0.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_part_is_rounded_and_never_empty() {
        let check = |count, fraction, expected| assert_eq!(lowest(count, fraction), expected, "{count} {fraction}");
        check(20, 0.2, 4);
        check(13, 0.2, 3);
        check(12, 0.2, 2);
        check(1, 0.2, 1);
        check(3, 0.01, 1);
        check(5, 7.0, 5);
        check(0, 0.2, 0);
        check(5, f64::NAN, 1);
    }

    #[test]
    fn means_of_the_low_part() {
        let samples = [9.0, 1.0, 4.0, 2.0, 8.0, 3.0, 7.0, 6.0, 5.0, 100.0];
        assert_eq!(low_fifth(&samples), Some(1.5));
        assert_eq!(low_mean(&samples, 0.3), Some(2.0));
        assert_eq!(low_mean(&samples, 1.0), Some(14.5));
        assert_eq!(low_fifth(&[]), None);
    }
}
