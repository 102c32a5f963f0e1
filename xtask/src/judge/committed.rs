//! Judges samples against a baseline of another time. Between the two the machine itself may have become slower, which
//! samples alone cannot tell from slower work; so each side carries runs of a fixed piece of work, the calibration, and a
//! change counts only if it stands both as measured and with what the calibration has changed by taken out.

use super::stats::{low_fifth, moving_block_length, moving_block_ratio};
use super::verdict::{Better, Decision, Thresholds, Verdict, complaint, shown};

/// So many samples of each side at least.
pub const COMMITTED_SAMPLES: usize = 30;

/// How sure the interval is.
const CONFIDENCE: f64 = 0.9;

/// One side: what was measured, in the order of time, and what the fixed work took at about the same times.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// Of the operation, in its metric's unit, each above 0.
    pub samples: &'a [f64],
    /// Times of the fixed work, each above 0: wall or CPU, as the samples, and started as operations are.
    pub calibration: &'a [f64],
}

/// Compares two sides, of [`COMMITTED_SAMPLES`] samples or more each.
///
/// r is ln(smallest of the candidate / smallest of the baseline), s the same of the mean of the low fifth of the
/// calibrations. Regressed if r and r - s exceed the threshold, improved if both do so downwards, unchanged if both lie
/// within. Otherwise, and with samples that cannot be compared, inconclusive. The effect is r; its interval, from a
/// bootstrap in blocks, because neighbours in time resemble each other, says nothing of how the machine changed.
#[must_use]
pub fn committed(
    baseline: Series<'_>,
    candidate: Series<'_>,
    better: Better,
    thresholds: Thresholds,
    seed: u64,
) -> Verdict {
    let samples = baseline.samples.len().min(candidate.samples.len());
    let sides = [("baseline", baseline), ("candidate", candidate)];
    if let Some(because) = sides.into_iter().find_map(|(side, series)| problem(side, series, better)) {
        return Verdict::inconclusive(samples, because);
    }
    let [before, after] = [baseline, candidate].map(|series| costs(series.samples, better));
    let calibrated = |series: Series<'_>| low_fifth(series.calibration).unwrap_or(f64::NAN).ln();
    let measured = smallest(&after).unwrap_or(f64::NAN).ln() - smallest(&before).unwrap_or(f64::NAN).ln();
    let machine = calibrated(candidate) - calibrated(baseline);
    let corrected = measured - machine;
    let least = (thresholds.committed_percent() / 100.0).ln_1p();
    let witnesses = format!(
        "the operation shows {}, the fixed work {}, the two together {}",
        shown(measured),
        shown(machine),
        shown(corrected)
    );
    let limit = format!("{:.1} %", thresholds.committed_percent());
    let (decision, because) = if measured > least && corrected > least {
        (Decision::Regressed, format!("with and without the machine's own change it is beyond {limit}: {witnesses}"))
    } else if measured < -least && corrected < -least {
        (Decision::Improved, format!("with and without the machine's own change it is beyond {limit}: {witnesses}"))
    } else if measured.abs() <= least && corrected.abs() <= least {
        (Decision::Unchanged, format!("with and without the machine's own change it is within {limit}: {witnesses}"))
    } else {
        let because = format!("the machine differs, so that one of two witnesses is beyond {limit}: {witnesses}");
        (Decision::Inconclusive, because)
    };
    let length = moving_block_length(samples);
    let interval = moving_block_ratio(&before, &after, length, CONFIDENCE, seed, smallest);
    let interval = interval.map(|interval| better.interval(interval));
    Verdict { decision, effect: Some(better.effect(measured)), interval, p: None, samples, because }
}

fn costs(samples: &[f64], better: Better) -> Vec<f64> {
    samples.iter().map(|sample| better.cost(*sample)).collect()
}

/// Why this side cannot be compared, if it cannot.
fn problem(side: &str, series: Series<'_>, better: Better) -> Option<String> {
    let count = series.samples.len();
    if count < COMMITTED_SAMPLES {
        return Some(format!(
            "the {side} has {count} samples, and {COMMITTED_SAMPLES} are the fewest that can be compared"
        ));
    }
    if series.calibration.len() < COMMITTED_SAMPLES / 5 {
        return Some(format!(
            "the {side} has {} runs of the calibration, and {} are the fewest that say how quick the machine was",
            series.calibration.len(),
            COMMITTED_SAMPLES / 5
        ));
    }
    complaint(side, series.samples)
        .or_else(|| complaint(side, &costs(series.samples, better)))
        .or_else(|| complaint(&format!("{side}'s calibration"), series.calibration))
}

fn smallest(samples: &[f64]) -> Option<f64> {
    samples.iter().copied().min_by(f64::total_cmp)
}
