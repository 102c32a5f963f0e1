//! Estimates with intervals, for reports: what a set of samples says of itself, without any other set.
//! The same five that Criterion shows, each with its 95 % bootstrap interval.

use serde::{Deserialize, Serialize};

use super::bootstrap::{RESAMPLES, resampled};
use super::outliers::median_absolute_deviation;
use super::quantile::{median, quantile};
use super::stream::stream;

/// How sure an interval is.
const CONFIDENCE: f64 = 0.95;

/// A number with its 95 % interval, in the samples' unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Of the samples as they are.
    pub point: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// What a set of samples says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimates {
    /// The arithmetic mean.
    pub mean: Estimate,
    /// The median.
    pub median: Estimate,
    /// The median of the distances from the median.
    pub median_absolute_deviation: Estimate,
    /// The standard deviation, with n - 1; 0 for one sample.
    pub standard_deviation: Estimate,
    /// Time for one iteration, where samples are of several iterations each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<Estimate>,
}

impl Estimates {
    /// Of samples that are one iteration each. `None` without samples, or where one is not finite.
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

    /// Of samples that took so many iterations each: the slope of the line through the origin that has the least squares,
    /// sum(xy) / sum(xx), and the other estimates for one iteration. `None` where there are no samples, not as many counts,
    /// a count of 0, or a sample that is not finite.
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
