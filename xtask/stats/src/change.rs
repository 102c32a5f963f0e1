//! Change from the first to the second side of pairs: two estimates of one log ratio, and their weighted mean.
//!
//! The ratio of the low means considers only each side's undisturbed times. It is better while the machine has quiet moments that every
//! pair may meet. The middle of the pairs' own ratios cancels all that affects both runs of a pair. It is better where the machine has one
//! speed for seconds and another speed afterwards, such as a shared processor: then it is chance which side has more of the few quick
//! times. It is not known beforehand which estimate is better, so each is weighted by how little it varies, and by how far the other one
//! varies with it: with these weights their mean varies least (Bates and Granger, "The combination of forecasts" (1969)). No weight is
//! below 0.

use super::low::{low_mean, lowest};

/// Two estimates of the log ratio of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimates {
    /// ln(low mean of the second side / low mean of the first side).
    pub low: f64,
    /// Mean of the middle half of ln(second / first) of the pairs.
    pub middle: f64,
}

impl Estimates {
    /// Returns the weighted mean of both estimates; `low_share`, 0 to 1, is the weight of `low`.
    pub(crate) fn pooled(self, low_share: f64) -> f64 {
        low_share * self.low + (1.0 - low_share) * self.middle
    }

    /// Returns the weight of `low` with which the pooled estimates of unchanged pairs vary least around 0; a half where all weights are
    /// equally good.
    pub(crate) fn low_share(of_no_change: &[Self]) -> f64 {
        let sum = |of: fn(&Self) -> f64| of_no_change.iter().map(of).sum::<f64>();
        let (low, middle) = (sum(|one| one.low * one.low), sum(|one| one.middle * one.middle));
        let common = sum(|one| one.low * one.middle);
        let apart = low + middle - 2.0 * common;
        if apart > 0.0 { ((middle - common) / apart).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// Returns the log ratio of pairs of (first side, second side): positive where the second takes more. `low_share` is the weight of the
/// ratio of the low parts, the lowest `fraction` of each side; the rest is the middle of the pairs' own ratios. `None` without pairs, or
/// where a value is not a finite number above 0.
#[must_use]
pub fn log_ratio(pairs: &[(f64, f64)], fraction: f64, low_share: f64) -> Option<f64> {
    let mut logs = logs(pairs)?;
    let side = |of: fn(&(f64, f64)) -> f64| low_mean(&pairs.iter().map(of).collect::<Vec<f64>>(), fraction);
    let low = side(|pair| pair.1)?.ln() - side(|pair| pair.0)?.ln();
    Some(Estimates { low, middle: middle(&mut logs) }.pooled(low_share))
}

/// Returns ln(second / first) of each pair; `None` without pairs, or if a value is not a finite number above 0 or so large that a sum of
/// as many is not finite.
pub(crate) fn logs(pairs: &[(f64, f64)]) -> Option<Vec<f64>> {
    let usable = |value: f64| value > 0.0 && value <= f64::MAX / pairs.len() as f64;
    let usable = !pairs.is_empty() && pairs.iter().all(|(first, second)| usable(*first) && usable(*second));
    usable.then(|| pairs.iter().map(|(first, second)| second.ln() - first.ln()).collect())
}

/// Returns the mean of the middle half, without a quarter at either end (Tukey's midmean; Huber, "Robust Statistics" (1981), of trimmed
/// means). Changing all signs changes only the sign of the result. The values are reordered; 0 without any.
pub(crate) fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let cut = values.len() / 4;
    let half = &values[cut..values.len() - cut];
    if half.is_empty() {
        return 0.0;
    }
    // From both ends at once, so that the sum is the same from either end.
    let sum: f64 = half.iter().zip(half.iter().rev()).map(|(one, other)| one + other).sum();
    sum / (2 * half.len()) as f64
}

/// Values of both sides, sorted once in ascending order: each swap or resample only needs those at the low end.
pub(crate) struct Table {
    entries: Vec<Entry>,
    count: usize,
}

struct Entry {
    value: f64,
    pair: usize,
    second: bool,
}

impl Table {
    /// Makes the table of pairs; the lowest `fraction` of each side is its low part.
    pub(crate) fn of(pairs: &[(f64, f64)], fraction: f64) -> Self {
        let mut entries: Vec<Entry> = pairs
            .iter()
            .enumerate()
            .flat_map(|(pair, (first, second))| {
                [Entry { value: *first, pair, second: false }, Entry { value: *second, pair, second: true }]
            })
            .collect();
        entries.sort_by(|one, other| one.value.total_cmp(&other.value));
        Self { entries, count: lowest(pairs.len(), fraction) }
    }

    /// Returns ln of the ratio of the low sums, where each pair counts `times` times, with its sides swapped where `swapped` says
    /// so.
    pub(crate) fn low(&self, times: impl Fn(usize) -> usize, swapped: impl Fn(usize) -> bool) -> f64 {
        let mut sums = [0.0_f64; 2];
        let mut left = [self.count; 2];
        for entry in &self.entries {
            let side = usize::from(entry.second != swapped(entry.pair));
            let taken = times(entry.pair).min(left[side]);
            left[side] -= taken;
            sums[side] += entry.value * taken as f64;
            if left == [0, 0] {
                break;
            }
        }
        sums[1].ln() - sums[0].ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [f64; 8] = [12.1, 11.4, 13.9, 12.7, 11.9, 15.2, 12.3, 11.8];
    const SECOND: [f64; 8] = [12.9, 13.4, 12.2, 14.8, 13.1, 13.3, 16.0, 12.6];

    #[test]
    fn the_middle_half() {
        let check = |mut values: Vec<f64>, expected: f64| assert_eq!(middle(&mut values), expected, "{values:?}");
        check(vec![3.0, 1.0, 2.0], 2.0);
        check(vec![4.0, 100.0, 3.0, -50.0], 3.5);
        check(vec![9.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0], 4.5);
        check(vec![7.0], 7.0);
        check(Vec::new(), 0.0);
    }

    #[test]
    fn the_log_ratio_as_numpy_gives_it() {
        let pairs: Vec<_> = FIRST.into_iter().zip(SECOND).collect();
        for (low_share, expected) in [(1.0, 0.066_691_374_498_671_93), (0.0, 0.094_679_539_661_472_51)] {
            let found = log_ratio(&pairs, 0.2, low_share).unwrap();
            assert!((found - expected).abs() < 1e-12, "{low_share}: {found}");
        }
        let table = Table::of(&pairs, 0.2);
        assert_eq!(table.low(|_| 1, |_| false), -table.low(|_| 1, |_| true), "swapping all turns the sign");
        assert!((table.low(|_| 1, |_| false) - 0.066_691_374_498_671_93).abs() < 1e-12);
    }

    #[test]
    fn what_varies_less_counts_for_more() {
        let check = |ones: &[(f64, f64)], expected: f64| {
            let ones: Vec<_> = ones.iter().map(|(low, middle)| Estimates { low: *low, middle: *middle }).collect();
            let share = Estimates::low_share(&ones);
            assert!((share - expected).abs() < 1e-12, "{ones:?}: {share}");
        };
        // Variances of 1 and 4 (times 0.02) without anything in common.
        check(&[(0.1, 0.2), (-0.1, 0.2), (0.1, -0.2), (-0.1, -0.2)], 0.8);
        check(&[(0.2, 0.1), (-0.2, 0.1), (0.2, -0.1), (-0.2, -0.1)], 0.2);
        // What varies alike and more adds nothing.
        check(&[(0.2, 0.1), (-0.2, -0.1)], 0.0);
        check(&[(0.1, 0.2), (-0.1, -0.2)], 1.0);
        check(&[(0.1, 0.1), (-0.1, -0.1)], 0.5);
        check(&[(0.0, 0.0)], 0.5);
    }

    #[test]
    fn what_cannot_be_compared_has_no_answer() {
        assert_eq!(log_ratio(&[], 0.2, 0.5), None);
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(log_ratio(&[(1.0, 2.0), (bad, 2.0)], 0.2, 0.5), None, "{bad}");
        }
    }
}
