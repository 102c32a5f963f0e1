//! Estimates of one set of samples with intervals, for reports: the five estimates that Criterion shows, each with its 95 % bootstrap
//! interval.

use serde::{Deserialize, Serialize};

use super::bootstrap::{RESAMPLES, resampled};
use super::outliers::median_absolute_deviation;
use super::quantile::{median, quantile};
use super::stream::stream;

/// Confidence of all intervals.
const CONFIDENCE: f64 = 0.95;

/// Estimate with its 95 % interval, in the samples' unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Estimate from the samples as they are.
    pub point: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Estimates of a set of samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimates {
    /// Arithmetic mean.
    pub mean: Estimate,
    /// The median.
    pub median: Estimate,
    /// Median of the distances from the median.
    pub median_absolute_deviation: Estimate,
    /// Standard deviation, with n - 1; 0 for one sample.
    pub standard_deviation: Estimate,
    /// Time for one iteration, where samples are of several iterations each; otherwise `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<Estimate>,
}

impl Estimates {
    /// Returns estimates for samples that are one iteration each; `None` without samples, or where one is not finite or too large
    /// to be squared.
    #[must_use]
    pub fn of(samples: &[f64], seed: u64) -> Option<Self> {
        if samples.is_empty() || !samples.iter().all(|sample| sample.is_finite()) {
            return None;
        }
        let estimate = |statistic: fn(&[f64]) -> Option<f64>| {
            let (low, high) = resampled(samples, CONFIDENCE, seed, statistic)?;
            Some(Estimate { point: statistic(samples)?, low, high })
        };
        Some(Self {
            mean: estimate(mean)?,
            median: estimate(median)?,
            median_absolute_deviation: estimate(median_absolute_deviation)?,
            standard_deviation: estimate(standard_deviation)?,
            slope: None,
        })
    }

    /// Returns estimates for samples of several iterations each: the slope of the line through the origin that has the least squares,
    /// sum(xy) / sum(xx), and the other estimates for one iteration. `None` where there are no samples, not as many counts, a count of 0,
    /// or a sample that is not finite.
    #[must_use]
    pub fn of_iterations(samples: &[f64], iterations: &[u32], seed: u64) -> Option<Self> {
        if samples.len() != iterations.len() || iterations.contains(&0) {
            return None;
        }
        let each: Vec<f64> = samples.iter().zip(iterations).map(|(sample, count)| sample / f64::from(*count)).collect();
        Some(Self { slope: Some(slope(samples, iterations, seed)?), ..Self::of(&each, seed)? })
    }
}

fn slope(samples: &[f64], iterations: &[u32], seed: u64) -> Option<Estimate> {
    use rand::RngExt as _;

    let of = |places: &mut dyn Iterator<Item = usize>| {
        let (mut above, mut below) = (0.0, 0.0);
        for place in places {
            let count = f64::from(iterations[place]);
            above += count * samples[place];
            below += count * count;
        }
        above / below
    };
    let point = of(&mut (0..samples.len()));
    if samples.is_empty() || !point.is_finite() {
        return None;
    }
    let mut stream = stream(seed, 4);
    let draw = |_| of(&mut std::iter::repeat_with(|| stream.random_range(0..samples.len())).take(samples.len()));
    let mut slopes: Vec<f64> = (0..RESAMPLES).map(draw).collect();
    slopes.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some(Estimate { point, low: quantile(&slopes, tail)?, high: quantile(&slopes, 1.0 - tail)? })
}

fn mean(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / samples.len() as f64)
}

fn standard_deviation(samples: &[f64]) -> Option<f64> {
    let middle = mean(samples)?;
    let squares: f64 = samples.iter().map(|sample| (sample - middle).powi(2)).sum();
    Some(if samples.len() < 2 { 0.0 } else { (squares / (samples.len() - 1) as f64).sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_as_python_gives_them_within_their_intervals() {
        let samples = [2.1, 2.4, 1.9, 2.2, 9.7, 2.0, 2.3, 2.2];
        let all = Estimates::of(&samples, 1).unwrap();
        let check = |estimate: Estimate, expected: f64| {
            assert!((estimate.point - expected).abs() < 1e-12, "{estimate:?} is not {expected}");
            assert!(estimate.low <= estimate.point && estimate.point <= estimate.high, "{estimate:?}");
            assert!(estimate.low < estimate.high, "{estimate:?}");
        };
        check(all.mean, 3.1);
        check(all.median, 2.2);
        check(all.median_absolute_deviation, 0.15);
        check(all.standard_deviation, 2.671_543_160_262_034);
        assert_eq!(all.slope, None);
    }

    #[test]
    fn the_slope_goes_through_the_origin() {
        let (samples, iterations) = ([2.1, 3.9, 8.3, 15.8, 32.4], [1, 2, 4, 8, 16]);
        let all = Estimates::of_iterations(&samples, &iterations, 1).unwrap();
        let slope = all.slope.unwrap();
        assert!((slope.point - 2.017_302_052_785_923_6).abs() < 1e-12, "{slope:?}, as numpy gives it");
        assert!(slope.low < slope.point && slope.point < slope.high && slope.high < 2.11, "{slope:?}");
        assert!((all.mean.point - 2.025).abs() < 1e-12, "of one iteration: {:?}", all.mean);
    }

    #[test]
    fn one_sample_is_its_own_interval_and_bad_ones_have_none() {
        let one = Estimates::of(&[4.0], 1).unwrap();
        assert_eq!(one.mean, Estimate { point: 4.0, low: 4.0, high: 4.0 });
        assert_eq!(one.standard_deviation, Estimate { point: 0.0, low: 0.0, high: 0.0 });
        assert_eq!(Estimates::of(&[], 1), None);
        assert_eq!(Estimates::of(&[1.0, f64::NAN], 1), None);
        assert_eq!(Estimates::of_iterations(&[1.0], &[0], 1), None);
        assert_eq!(Estimates::of_iterations(&[1.0], &[1, 2], 1), None);
        assert_eq!(Estimates::of_iterations(&[f64::INFINITY], &[1], 1), None);
    }
}
