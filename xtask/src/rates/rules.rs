//! Rules in common use for unpaired samples, taken at two different times; `replay` compares their verdicts with those of the engine's
//! rules. The samples of every rule are times: less is better.

use rand::RngExt as _;
use rand_pcg::Pcg64;

use e2e_stats::{Decision, RESAMPLES, hodges_lehmann, quantile, stream};

/// Significance level of the tests.
const ALPHA: f64 = 0.05;

/// Criterion's default `noise_threshold`.
const NOISE: f64 = 0.01;

/// Judges by the rule of Criterion 0.8 with its default settings (its book, "Analysis process"): a bootstrapped t-test of the means at 5 %,
/// and if they differ, the 95 % bootstrap interval of the change of the mean has to lie beyond 1 %. Uses 999 resamples instead of 100,000.
/// With fewer than two samples on a side, or any sample that is no finite number above 0, the decision is inconclusive.
#[must_use]
pub fn criterion(baseline: &[f64], candidate: &[f64], seed: u64) -> Decision {
    if !comparable(baseline, candidate) {
        return Decision::Inconclusive;
    }
    let mut stream = stream(seed, 6);
    let observed = t_statistic(baseline, candidate).abs();
    let pool = [baseline, candidate].concat();
    let (mut one, mut two) = (vec![0.0; baseline.len()], vec![0.0; candidate.len()]);
    let (mut extreme, mut changes) = (0_usize, Vec::with_capacity(RESAMPLES));
    for _ in 0..RESAMPLES {
        draw(&pool, &mut one, &mut stream);
        draw(&pool, &mut two, &mut stream);
        extreme += usize::from(t_statistic(&one, &two).abs() > observed);
        draw(baseline, &mut one, &mut stream);
        draw(candidate, &mut two, &mut stream);
        changes.push(mean(&two) / mean(&one) - 1.0);
    }
    changes.sort_by(f64::total_cmp);
    let end = |part| quantile(&changes, part).unwrap_or(0.0);
    let (low, high) = (end(0.025), end(0.975));
    if extreme as f64 / RESAMPLES as f64 >= ALPHA {
        Decision::Unchanged
    } else if low > NOISE {
        Decision::Regressed
    } else if high < -NOISE {
        Decision::Improved
    } else {
        Decision::Unchanged
    }
}

/// Judges by the Mann-Whitney test, two-sided at 5 %; the sign of the Hodges-Lehmann shift decides between regressed and improved. Samples
/// that cannot be compared are inconclusive.
#[must_use]
pub fn mann_whitney(baseline: &[f64], candidate: &[f64]) -> Decision {
    let (Some(p), Some(shift)) = (e2e_stats::mann_whitney(baseline, candidate), hodges_lehmann(baseline, candidate))
    else {
        return Decision::Inconclusive;
    };
    if p >= ALPHA || shift == 0.0 {
        Decision::Unchanged
    } else if shift > 0.0 {
        Decision::Regressed
    } else {
        Decision::Improved
    }
}

/// Compares the means alone: regressed if the candidate's is more than 20 % higher, improved if it is more than 20 % lower. Samples that
/// cannot be compared are inconclusive.
#[must_use]
pub fn fixed_20_percent(baseline: &[f64], candidate: &[f64]) -> Decision {
    if !comparable(baseline, candidate) {
        return Decision::Inconclusive;
    }
    let ratio = mean(candidate) / mean(baseline);
    if ratio > 1.2 {
        Decision::Regressed
    } else if ratio < 0.8 {
        Decision::Improved
    } else {
        Decision::Unchanged
    }
}

fn comparable(baseline: &[f64], candidate: &[f64]) -> bool {
    let usable = |side: &[f64]| side.len() >= 2 && side.iter().all(|value| value.is_finite() && *value > 0.0);
    usable(baseline) && usable(candidate)
}

fn draw(from: &[f64], into: &mut [f64], stream: &mut Pcg64) {
    into.fill_with(|| from[stream.random_range(0..from.len())]);
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

/// Returns Welch's t; 0 if both means are equal.
fn t_statistic(one: &[f64], two: &[f64]) -> f64 {
    let (mean_one, mean_two) = (mean(one), mean(two));
    let squared_error = |side: &[f64], middle: f64| {
        let count = side.len() as f64;
        side.iter().map(|value| (value - middle).powi(2)).sum::<f64>() / (count - 1.0) / count
    };
    let difference = mean_two - mean_one;
    if difference == 0.0 {
        return 0.0;
    }
    difference / (squared_error(one, mean_one) + squared_error(two, mean_two)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: [f64; 8] = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2, 100.8, 99.9];

    fn times(factor: f64) -> Vec<f64> {
        QUICK.iter().map(|value| value * factor).collect()
    }

    #[test]
    fn clear_cases() {
        use Decision::{Improved, Regressed, Unchanged};
        let check = |factor: f64, expected: [Decision; 3]| {
            let after = times(factor);
            let found = [criterion(&QUICK, &after, 1), mann_whitney(&QUICK, &after), fixed_20_percent(&QUICK, &after)];
            assert_eq!(found, expected, "{factor}");
        };
        check(1.0, [Unchanged; 3]);
        check(1.05, [Regressed, Regressed, Unchanged]);
        check(1.25, [Regressed; 3]);
        check(0.95, [Improved, Improved, Unchanged]);
        check(0.75, [Improved; 3]);
    }

    #[test]
    fn what_cannot_be_compared_is_inconclusive() {
        let good = times(1.0);
        for bad in [&[][..], &[f64::NAN, 1.0], &[-1.0, f64::NAN]] {
            let found = [criterion(bad, &good, 1), mann_whitney(&good, bad), fixed_20_percent(bad, &good)];
            assert_eq!(found, [Decision::Inconclusive; 3], "{bad:?}");
        }
        assert_eq!(criterion(&[1.0; 9], &[1.0; 9], 1), Decision::Unchanged);
    }
}
