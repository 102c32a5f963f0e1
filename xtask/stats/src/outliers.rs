//! Outliers by the median absolute deviation, which up to half of the samples cannot change: Hampel, "The influence curve and its role in
//! robust estimation" (1974).

use super::quantile::median;

/// Modified z-score from which on a sample is an outlier: Iglewicz and Hoaglin, "How to Detect and Handle Outliers"
/// (1993).
pub const OUTLIER_SCORE: f64 = 3.5;

/// Upper quartile of the standard normal distribution: the ratio of a normal distribution's median absolute deviation to its standard
/// deviation.
const NORMAL_QUARTILE: f64 = 0.674_489_750_196_081_7;

/// Returns the median of the distances from the median, in the samples' unit; `None` without samples.
#[must_use]
pub fn median_absolute_deviation(samples: &[f64]) -> Option<f64> {
    let middle = median(samples)?;
    median(&samples.iter().map(|sample| (sample - middle).abs()).collect::<Vec<_>>())
}

/// Returns the indices of the outliers: samples with 0.6745 |x - median| / MAD above [`OUTLIER_SCORE`]. Empty where more than half of the
/// samples are equal, since the MAD is then 0.
#[must_use]
pub fn outliers(samples: &[f64]) -> Vec<usize> {
    let (Some(middle), Some(deviation)) = (median(samples), median_absolute_deviation(samples)) else {
        return Vec::new();
    };
    let is_far = |sample: f64| NORMAL_QUARTILE * (sample - middle).abs() > OUTLIER_SCORE * deviation;
    let places = samples.iter().enumerate().filter(|(_, sample)| deviation > 0.0 && is_far(**sample));
    places.map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_far_away() {
        let samples = [2.1, 2.4, 1.9, 2.2, 9.7, 2.0, 2.3, 2.2];
        assert!((median_absolute_deviation(&samples).unwrap() - 0.15).abs() < 1e-12, "as scipy gives it");
        assert_eq!(outliers(&samples), [4]);
        assert_eq!(outliers(&samples[..4]), [0_usize; 0]);
    }

    #[test]
    fn without_a_scale_nothing_is_far() {
        assert_eq!(outliers(&[1.0, 1.0, 1.0, 9.0]), [0_usize; 0]);
        assert_eq!(outliers(&[]), [0_usize; 0]);
        assert_eq!(median_absolute_deviation(&[]), None);
    }
}
