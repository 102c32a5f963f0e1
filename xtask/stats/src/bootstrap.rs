//! Bootstrap intervals: the range of an estimate over other samples of the same kind. Efron and Tibshirani, "An Introduction to the
//! Bootstrap" (1993), percentile intervals.

use rand::RngExt as _;
use rand_pcg::Pcg64;

use super::change::{Estimates, Table, logs, middle};
use super::quantile::quantile;
use super::stream::stream;

/// Number of resamples for an interval.
pub const RESAMPLES: usize = 999;

/// Returns the interval of [`log_ratio`](super::log_ratio), with the same `fraction` and `low_share`, over pairs drawn again with
/// replacement; a pair stays a pair. `confidence` is 0 to 1; 0.9 means from the 5 % to the 95 % quantile. `None` without pairs, or where
/// a value is not a finite number above 0.
#[must_use]
pub fn paired_log_ratio(
    pairs: &[(f64, f64)],
    fraction: f64,
    low_share: f64,
    confidence: f64,
    seed: u64,
) -> Option<(f64, f64)> {
    let logs = logs(pairs)?;
    let table = Table::of(pairs, fraction);
    let mut stream = stream(seed, 2);
    let mut times = vec![0_usize; pairs.len()];
    let mut resample = Vec::with_capacity(pairs.len());
    let mut ratios = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        times.fill(0);
        resample.clear();
        for _ in 0..pairs.len() {
            let pair = index(&mut stream, pairs.len());
            times[pair] += 1;
            resample.push(logs[pair]);
        }
        let low = table.low(|pair| times[pair], |_| false);
        ratios.push(Estimates { low, middle: middle(&mut resample) }.pooled(low_share));
    }
    interval(ratios, confidence)
}

/// Returns the interval of any statistic of samples drawn again with replacement. `None` without samples, or where the statistic of a
/// resample is not finite.
#[must_use]
pub fn resampled(
    samples: &[f64],
    confidence: f64,
    seed: u64,
    statistic: impl Fn(&[f64]) -> Option<f64>,
) -> Option<(f64, f64)> {
    moving_block(samples, 1, confidence, seed, statistic)
}

/// Returns the interval of any statistic of samples that follow each other in time and resemble their neighbors: whole blocks of `length`
/// neighbors are drawn with replacement until there are as many samples as before (Künsch, "The jackknife and the bootstrap for general
/// stationary observations" (1989)). `None` without samples, or where the statistic of a resample is not finite.
#[must_use]
pub fn moving_block(
    samples: &[f64],
    length: usize,
    confidence: f64,
    seed: u64,
    statistic: impl Fn(&[f64]) -> Option<f64>,
) -> Option<(f64, f64)> {
    let mut stream = stream(seed, 3);
    let mut resample = Vec::new();
    let mut statistics = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        draw_blocks(samples, length, &mut stream, &mut resample)?;
        statistics.push(statistic(&resample)?);
    }
    interval(statistics, confidence)
}

/// Returns the interval of ln(statistic of the second side / statistic of the first side), where the sides are unpaired series in time:
/// each side is resampled by itself, in blocks of `length` neighbors as in [`moving_block`]. `None` where a side has no samples, or the
/// statistic of a resample is not a finite number above 0.
#[must_use]
pub fn moving_block_ratio(
    first: &[f64],
    second: &[f64],
    length: usize,
    confidence: f64,
    seed: u64,
    statistic: impl Fn(&[f64]) -> Option<f64>,
) -> Option<(f64, f64)> {
    let mut stream = stream(seed, 5);
    let mut resample = Vec::new();
    let mut logs = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        draw_blocks(first, length, &mut stream, &mut resample)?;
        let before = statistic(&resample)?;
        draw_blocks(second, length, &mut stream, &mut resample)?;
        logs.push(statistic(&resample)?.ln() - before.ln());
    }
    interval(logs, confidence)
}

/// Returns the block length for a number of samples: its cube root, rounded up (Hall, Horowitz and Jing, "On blocking rules for the
/// bootstrap with dependent data" (1995): the optimal length grows with the cube root where a variance is estimated).
#[must_use]
pub fn moving_block_length(samples: usize) -> usize {
    (1..=samples).find(|length| length.saturating_pow(3) >= samples).unwrap_or(1)
}

/// Draws as many values as `samples` has into `resample`, in blocks of neighbors; `None` without samples.
fn draw_blocks(samples: &[f64], length: usize, stream: &mut Pcg64, resample: &mut Vec<f64>) -> Option<()> {
    let length = length.min(samples.len()).max(1);
    let begins = (samples.len() + 1).checked_sub(length).filter(|begins| *begins > 0 && !samples.is_empty())?;
    resample.clear();
    while resample.len() < samples.len() {
        let begin = index(stream, begins);
        resample.extend_from_slice(&samples[begin..begin + length]);
    }
    resample.truncate(samples.len());
    Some(())
}

fn interval(mut statistics: Vec<f64>, confidence: f64) -> Option<(f64, f64)> {
    if !statistics.iter().all(|value| value.is_finite()) {
        return None;
    }
    statistics.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence.clamp(0.0, 1.0)) / 2.0;
    Some((quantile(&statistics, tail)?, quantile(&statistics, 1.0 - tail)?))
}

/// Draws an index below `count`, which is above 0.
fn index(stream: &mut Pcg64, count: usize) -> usize {
    stream.random_range(0..count)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::low::low_fifth;

    const FIRST: [f64; 8] = [12.1, 11.4, 13.9, 12.7, 11.9, 15.2, 12.3, 11.8];
    const SECOND: [f64; 8] = [12.9, 13.4, 12.2, 14.8, 13.1, 13.3, 16.0, 12.6];

    fn mean(samples: &[f64]) -> Option<f64> {
        Some(samples.iter().sum::<f64>() / samples.len() as f64)
    }

    fn near(found: Option<(f64, f64)>, expected: (f64, f64), tolerance: f64) {
        let found = found.unwrap();
        let apart = (found.0 - expected.0).abs().max((found.1 - expected.1).abs());
        assert!(apart <= tolerance, "{found:?} is not {expected:?}");
    }

    // The expected ends are those of 400,000 resamples made with numpy.

    #[test]
    fn the_interval_of_a_paired_log_ratio() {
        let pairs: Vec<_> = FIRST.into_iter().zip(SECOND).collect();
        near(paired_log_ratio(&pairs, 0.2, 1.0, 0.9, 1), (0.024_9, 0.119_7), 0.01);
        near(paired_log_ratio(&pairs, 0.2, 0.5, 0.9, 1), (0.002_1, 0.130_3), 0.01);
        near(paired_log_ratio(&pairs, 0.2, 0.0, 0.9, 1), (-0.032_8, 0.155_2), 0.01);
    }

    #[test]
    fn the_interval_of_a_mean() {
        let samples = [2.1, 2.4, 1.9, 2.2, 9.7, 2.0, 2.3, 2.2];
        near(resampled(&samples, 0.95, 1, mean), (2.075, 5.01), 0.1);
    }

    #[test]
    fn blocks_of_neighbors_make_the_interval_wider() {
        let samples = [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 4.0, 3.0, 2.0, 1.0, 2.0, 3.0];
        near(moving_block(&samples, 3, 0.9, 1, mean), (3.083, 7.417), 0.25);
        let (low, high) = resampled(&samples, 0.9, 1, mean).unwrap();
        assert!(high - low < 3.5, "{low} {high}");
    }

    #[test]
    fn the_interval_of_a_ratio_holds_the_ratio() {
        let (low, high) = moving_block_ratio(&FIRST, &SECOND, 2, 0.9, 1, low_fifth).unwrap();
        let ratio = (low_fifth(&SECOND).unwrap() / low_fifth(&FIRST).unwrap()).ln();
        assert!(low < ratio && ratio < high && high - low < 0.3, "{low} {ratio} {high}");
    }

    #[test]
    fn lengths_of_blocks() {
        assert_eq!([0, 1, 8, 9, 27, 30, 100].map(moving_block_length), [1, 1, 2, 3, 3, 4, 5]);
    }

    #[test]
    fn what_cannot_be_resampled_has_no_interval() {
        assert_eq!(paired_log_ratio(&[], 0.2, 0.5, 0.9, 1), None);
        assert_eq!(paired_log_ratio(&[(1.0, f64::NAN)], 0.2, 0.5, 0.9, 1), None);
        assert_eq!(moving_block(&[], 3, 0.9, 1, mean), None);
        assert_eq!(moving_block(&[1.0, f64::INFINITY], 1, 0.9, 1, mean), None);
        assert_eq!(moving_block_ratio(&[1.0], &[], 3, 0.9, 1, mean), None);
        assert_eq!(moving_block(&[2.0; 5], 100, 0.9, 1, mean), Some((2.0, 2.0)));
    }
}
