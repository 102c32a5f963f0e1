//! The paired permutation test.
//!
//! If both sides do the same work, then within a pair either value could have been either side's: swapping the labels of
//! some pairs changes nothing but chance. So the observed statistic is placed among those of random swaps (Fisher, "The
//! Design of Experiments" (1935), chapter III; Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses" (2005)).
//! It assumes nothing of how the values are distributed, only that who of a pair went first was drawn.

use rand::RngExt as _;

use super::low::lowest;
use super::stream::stream;

/// So many random swaps a test makes: p is never below 1 / ([`PERMUTATIONS`] + 1).
pub const PERMUTATIONS: usize = 999;

/// What [`paired`] says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Permuted {
    /// ln(low mean of the second side) - ln(low mean of the first side).
    pub log_ratio: f64,
    /// How likely a log ratio at least as high is, if both sides do the same.
    pub p_higher: f64,
    /// How likely a log ratio at least as low is, if both sides do the same.
    pub p_lower: f64,
}

/// Tests pairs of (first side, second side) by the ratio of the means of each side's lowest `fraction`.
///
/// p = (1 + swaps at least as extreme) / (1 + [`PERMUTATIONS`]), one-sided (Phipson and Smyth, "Permutation p-values should
/// never be zero" (2010)). Swapping the sides turns the log ratio's sign and exchanges the two p. `None` without pairs, or
/// where a value is not a finite number above 0.
#[must_use]
pub fn paired(pairs: &[(f64, f64)], fraction: f64, seed: u64) -> Option<Permuted> {
    let usable = |value: f64| value.is_finite() && value > 0.0;
    if pairs.is_empty() || !pairs.iter().all(|(first, second)| usable(*first) && usable(*second)) {
        return None;
    }
    let count = lowest(pairs.len(), fraction);
    let table = Table::of(pairs);
    let words = pairs.len().div_ceil(64);
    let mut swapped = vec![0_u64; words];
    let (first, second) = table.low_sums(&swapped, count);
    let (mut higher, mut lower) = (1_usize, 1_usize);
    let mut stream = stream(seed, 1);
    for _ in 0..PERMUTATIONS {
        for word in &mut swapped {
            *word = stream.random();
        }
        let (first_now, second_now) = table.low_sums(&swapped, count);
        // Multiplied crosswise: exact where the labels are as observed, and the same with the sides exchanged.
        let (now, observed) = (second_now * first, second * first_now);
        higher += usize::from(now >= observed);
        lower += usize::from(now <= observed);
    }
    let p = |extreme: usize| extreme as f64 / (PERMUTATIONS + 1) as f64;
    Some(Permuted { log_ratio: second.ln() - first.ln(), p_higher: p(higher), p_lower: p(lower) })
}

/// The values of both sides in one ascending order, sorted once: each swap only walks along its low end.
struct Table {
    entries: Vec<Entry>,
}

struct Entry {
    value: f64,
    pair: u32,
    second: bool,
}

impl Table {
    fn of(pairs: &[(f64, f64)]) -> Self {
        let numbered = (0_u32..).zip(pairs);
        let mut entries: Vec<Entry> = numbered
            .flat_map(|(pair, (first, second))| {
                [Entry { value: *first, pair, second: false }, Entry { value: *second, pair, second: true }]
            })
            .collect();
        entries.sort_by(|one, other| one.value.total_cmp(&other.value));
        Self { entries }
    }

    /// The sums of the `count` lowest values of each side, where the pairs whose bit is set are swapped.
    fn low_sums(&self, swapped: &[u64], count: usize) -> (f64, f64) {
        let mut sums = [0.0_f64; 2];
        let mut left = [count; 2];
        for entry in &self.entries {
            let bit = swapped[entry.pair as usize / 64] >> (entry.pair % 64) & 1 == 1;
            let side = usize::from(entry.second != bit);
            if left[side] > 0 {
                left[side] -= 1;
                sums[side] += entry.value;
                if left == [0, 0] {
                    break;
                }
            }
        }
        (sums[0], sums[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: [f64; 8] = [12.1, 11.4, 13.9, 12.7, 11.9, 15.2, 12.3, 11.8];
    const SECOND: [f64; 8] = [12.9, 13.4, 12.2, 14.8, 13.1, 13.3, 16.0, 12.6];

    fn pairs() -> Vec<(f64, f64)> {
        FIRST.into_iter().zip(SECOND).collect()
    }

    #[test]
    fn it_comes_near_all_256_swaps_of_eight_pairs() {
        // Each of the 256 was made in Python: 12 are at least as high as what is observed, 248 at most as high.
        let permuted = paired(&pairs(), 0.2, 1).unwrap();
        assert!((permuted.log_ratio - 0.066_691_374_498_671_93).abs() < 1e-12, "{permuted:?}");
        assert!((permuted.p_higher - 0.046_875).abs() < 0.02, "{permuted:?}");
        assert!((permuted.p_lower - 0.968_75).abs() < 0.02, "{permuted:?}");
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
