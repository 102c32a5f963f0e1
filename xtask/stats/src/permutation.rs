//! Paired permutation test.
//!
//! If both sides do the same work, then within a pair either value could have been either side's: swapping the labels of some pairs
//! changes only chance. So the observed statistic is ranked among those of random swaps (Fisher, "The Design of Experiments" (1935),
//! chapter III; Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses" (2005)). The test assumes nothing about the
//! distribution of the values, only that it was drawn at random which side of a pair ran first.

use rand::RngExt as _;

use super::change::{Estimates, Table, logs, middle};
use super::stream::stream;

/// Number of random swaps of a test: p is never below 1 / ([`PERMUTATIONS`] + 1).
pub const PERMUTATIONS: usize = 999;

/// Result of [`paired`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Permuted {
    /// Log ratio of the second side to the first, pooled from the ratio of the low means and the middle of the pairs' own ratios.
    pub log_ratio: f64,
    /// Weight of the low means in `log_ratio`, 0 to 1.
    pub low_share: f64,
    /// Probability of a log ratio at least as high, if both sides do the same work.
    pub p_higher: f64,
    /// Probability of a log ratio at least as low, if both sides do the same work.
    pub p_lower: f64,
}

/// Tests pairs of (first side, second side) by [`log_ratio`](super::log_ratio), with the lowest `fraction` of each side. The weight of each
/// of the two estimates comes from the swaps: an estimate that varies less over the swaps has more weight. The observed pairs and all swaps
/// have the same weights, so that they differ only in the labels.
///
/// p = (1 + swaps at least as extreme) / (1 + [`PERMUTATIONS`]), one-sided (Phipson and Smyth, "Permutation p-values should never be
/// zero" (2010)). Swapping the sides changes the sign of the log ratio and exchanges the two p-values. `None` without pairs, or where a
/// value, or the sum of a side, is not a finite number above 0.
#[must_use]
pub fn paired(pairs: &[(f64, f64)], fraction: f64, seed: u64) -> Option<Permuted> {
    let logs = logs(pairs)?;
    let table = Table::of(pairs, fraction);
    let mut swapped = vec![0_u64; pairs.len().div_ceil(64)];
    let mut turned = logs.clone();
    let mut estimates = |swapped: &[u64]| {
        let is_swapped = |pair: usize| swapped[pair / 64] >> (pair % 64) & 1 == 1;
        for (pair, (now, log)) in turned.iter_mut().zip(&logs).enumerate() {
            *now = if is_swapped(pair) { -log } else { *log };
        }
        Estimates { low: table.low(|_| 1, is_swapped), middle: middle(&mut turned) }
    };
    let observed = estimates(&swapped);
    let mut stream = stream(seed, 1);
    let mut swaps = Vec::with_capacity(PERMUTATIONS);
    for _ in 0..PERMUTATIONS {
        for word in &mut swapped {
            *word = stream.random();
        }
        swaps.push(estimates(&swapped));
    }
    let low_share = Estimates::low_share(&swaps);
    let log_ratio = Some(observed.pooled(low_share)).filter(|ratio| ratio.is_finite())?;
    let p = |is_extreme: &dyn Fn(f64) -> bool| {
        let extreme = swaps.iter().filter(|swap| is_extreme(swap.pooled(low_share))).count();
        (1 + extreme) as f64 / (PERMUTATIONS + 1) as f64
    };
    // Sums of the same values in another order may differ in their last digits.
    let near = 1e-12;
    let p_higher = p(&|now| now >= log_ratio - near);
    let p_lower = p(&|now| now <= log_ratio + near);
    Some(Permuted { log_ratio, low_share, p_higher, p_lower })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [f64; 8] = [12.1, 11.4, 13.9, 12.7, 11.9, 15.2, 12.3, 11.8];
    const SECOND: [f64; 8] = [12.9, 13.4, 12.2, 14.8, 13.1, 13.3, 16.0, 12.6];

    #[test]
    fn values_whose_sum_is_infinite_have_neither_change_nor_interval() {
        let pairs = [(0.001, f64::MAX); 2];
        assert!(paired(&pairs, 1.0, 0).is_none());
        assert!(crate::paired_log_ratio(&pairs, 1.0, 0.6, 0.9, 0).is_none());
        let smaller = [(0.001, f64::MAX / 2.0); 2];
        assert!(paired(&smaller, 1.0, 0).is_some_and(|change| change.log_ratio.is_finite()));
        assert!(crate::paired_log_ratio(&smaller, 1.0, 0.6, 0.9, 0).is_some());
    }

    fn pairs() -> Vec<(f64, f64)> {
        FIRST.into_iter().zip(SECOND).collect()
    }

    #[test]
    fn it_comes_near_all_256_swaps_of_eight_pairs() {
        // Each of the 256 was made in Python. By them the low means alone vary least; and 12 are at least as high as what is
        // observed, 248 at most as high.
        let permuted = paired(&pairs(), 0.2, 1).unwrap();
        assert!(permuted.low_share > 0.95, "{permuted:?}");
        assert!((permuted.log_ratio - 0.066_691).abs() < 0.002, "{permuted:?}");
        assert!((permuted.p_higher - 0.046_9).abs() < 0.02, "{permuted:?}");
        assert!((permuted.p_lower - 0.968_8).abs() < 0.02, "{permuted:?}");
    }

    #[test]
    fn its_least_p_is_that_of_no_swap_as_extreme() {
        let pairs: Vec<_> = (0..80).map(|place| (100.0 + f64::from(place), 300.0 + f64::from(place))).collect();
        let permuted = paired(&pairs, 0.2, 1).unwrap();
        assert_eq!((permuted.p_higher, permuted.p_lower), (0.001, 1.0));
    }

    #[test]
    fn a_seed_repeats_its_swaps_and_another_makes_others() {
        assert_eq!(paired(&pairs(), 0.2, 5), paired(&pairs(), 0.2, 5));
        assert_ne!(paired(&pairs(), 0.2, 5), paired(&pairs(), 0.2, 6));
    }

    #[test]
    fn what_cannot_be_compared_has_no_answer() {
        assert_eq!(paired(&[], 0.2, 1), None);
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            assert_eq!(paired(&[(1.0, 2.0), (bad, 2.0)], 0.2, 1), None, "{bad}");
            assert_eq!(paired(&[(1.0, 2.0), (2.0, bad)], 0.2, 1), None, "{bad}");
        }
    }
}
