//! Properties of verdicts and statistics for any input, their error rates in made-up noise, and their speed.

use std::time::Duration;

use e2e_stats::{
    Better, Decision, Duet, Estimates, Kind, Metric, Pair, Permuted, Plan, Step, Thresholds, Timings, Verdict,
    committed, hodges_lehmann, low_mean, mann_whitney, moving_block_ratio, paired, paired_log_ratio,
};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;

/// Any number a clock or a bug could give.
fn anything() -> impl Strategy<Value = f64> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0, f64::MAX, f64::MIN_POSITIVE, 5e-324];
    prop_oneof![4 => 0.001..1e6, 1 => any::<f64>(), 1 => prop::sample::select(odd.to_vec())]
}

fn pairs(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((0.01..10.0, 0.01..10.0), count)
}

fn exchanged(pairs: &[(f64, f64)]) -> Vec<(f64, f64)> {
    pairs.iter().map(|(first, second)| (*second, *first)).collect()
}

/// Powers of two, so that not even the last bit of a ratio changes.
fn scaled(pairs: &[(f64, f64)], power: i32) -> Vec<(f64, f64)> {
    let factor = 2_f64.powi(power);
    pairs.iter().map(|(first, second)| (first * factor, second * factor)).collect()
}

fn duet(plan: Plan, pairs: &[(f64, f64)], better: Better) -> Verdict {
    let metric = Metric { better, thresholds: Thresholds::default() };
    let mut duet = Duet::new(plan, vec![metric], 3);
    for values in pairs {
        if let Step::Done(mut verdicts) = duet.feed(&Pair { first: duet.first(), values: vec![*values] }) {
            return verdicts.remove(0);
        }
    }
    duet.end("there were no more pairs").remove(0)
}

fn mirrored(decision: Decision) -> Decision {
    match decision {
        Decision::Regressed => Decision::Improved,
        Decision::Improved => Decision::Regressed,
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_unit_of_a_time_does_not_matter(pairs in pairs(1..60), power in -12..12, seed: u64) {
        let other = scaled(&pairs, power);
        let (one, two) = (paired(&pairs, 0.2, seed).unwrap(), paired(&other, 0.2, seed).unwrap());
        prop_assert_eq!((one.p_higher, one.p_lower), (two.p_higher, two.p_lower));
        prop_assert!((one.log_ratio - two.log_ratio).abs() < 1e-9);
        let (one, two) = (paired_log_ratio(&pairs, 0.3, 0.6, 0.9, seed).unwrap(), paired_log_ratio(&other, 0.3, 0.6, 0.9, seed).unwrap());
        prop_assert!((one.0 - two.0).abs() < 1e-9 && (one.1 - two.1).abs() < 1e-9);
        let (one, two) = (duet(Plan::quick(), &pairs, Better::Lower), duet(Plan::quick(), &other, Better::Lower));
        prop_assert_eq!((one.decision, one.samples, one.p), (two.decision, two.samples, two.p));
    }

    #[test]
    fn exchanging_the_sides_turns_everything_round(pairs in pairs(1..60), seed: u64) {
        let other = exchanged(&pairs);
        let (one, two) = (paired(&pairs, 0.2, seed).unwrap(), paired(&other, 0.2, seed).unwrap());
        prop_assert_eq!(one.log_ratio, -two.log_ratio);
        prop_assert_eq!((one.p_higher, one.p_lower), (two.p_lower, two.p_higher));
        let (one, two) = (paired_log_ratio(&pairs, 0.3, 0.6, 0.9, seed).unwrap(), paired_log_ratio(&other, 0.3, 0.6, 0.9, seed).unwrap());
        prop_assert!((one.0 + two.1).abs() < 1e-9 && (one.1 + two.0).abs() < 1e-9);
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let (one, two) = (hodges_lehmann(&first, &second).unwrap(), hodges_lehmann(&second, &first).unwrap());
        prop_assert!((one + two).abs() < 1e-9);
        let (one, two) = (mann_whitney(&first, &second).unwrap(), mann_whitney(&second, &first).unwrap());
        prop_assert!((one - two).abs() < 1e-9);
    }

    #[test]
    fn a_verdict_on_exchanged_sides_is_the_opposite(pairs in pairs(100..101), factor in 0.3..3.0) {
        let pairs: Vec<_> = pairs.iter().map(|(first, second)| (*first, second * factor)).collect();
        let (one, two) =
            (duet(Plan::quick(), &pairs, Better::Lower), duet(Plan::quick(), &exchanged(&pairs), Better::Lower));
        prop_assert_eq!((one.decision, one.samples, one.p), (mirrored(two.decision), two.samples, two.p));
        prop_assert!((one.effect.unwrap() * two.effect.unwrap() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_low_mean_lies_among_its_samples(samples in prop::collection::vec(0.01..10.0_f64, 1..50), part in 0.0..1.0) {
        let (low, mean) = (low_mean(&samples, part).unwrap(), low_mean(&samples, 1.0).unwrap());
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        prop_assert!(least <= low && low <= mean + 1e-9, "{} {} {}", least, low, mean);
    }

    #[test]
    fn whatever_the_values_there_is_an_answer(
        values in prop::collection::vec((anything(), anything()), 0..110),
        seed: u64,
        part in anything(),
    ) {
        for plan in [Plan::quick(), Plan::slow()] {
            for better in [Better::Lower, Better::Higher] {
                let verdict = duet(plan.clone(), &values, better);
                prop_assert!(!verdict.because.is_empty());
                let usable = values.iter().take(verdict.samples).all(|(one, two)| {
                    one.is_finite() && two.is_finite() && *one > 0.0 && *two > 0.0
                });
                prop_assert!(usable || verdict.decision == Decision::Inconclusive, "{:?}", verdict);
                let text = serde_json::to_string(&verdict).unwrap();
                prop_assert!(serde_json::from_str::<Verdict>(&text).is_ok(), "{}", text);
            }
        }
        let (first, second): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
        let side = |one: &[f64], other: &[f64]| Timings {
            wall_ms: one.to_vec(),
            cpu_ms: one.iter().map(|value| value * part).collect(),
            wait_ms: Some(other.to_vec()),
            calibration_wall_ms: other.to_vec(),
            calibration_cpu_ms: other.to_vec(),
        };
        let (before, after) = (side(&first, &second), side(&second, &first));
        for kind in [Kind::Wall, Kind::Processor] {
            let verdict = committed(&before, &after, kind, Thresholds::default(), seed);
            prop_assert!(first.len() >= 30 || verdict.decision == Decision::Inconclusive);
            let text = serde_json::to_string(&verdict).unwrap();
            prop_assert!(serde_json::from_str::<Verdict>(&text).is_ok(), "{}", text);
        }
        prop_assert_eq!(paired(&values, part, seed).is_none(), paired_log_ratio(&values, 0.3, 0.6, part, seed).is_none());
        prop_assert_eq!(mann_whitney(&first, &second).is_none(), first.is_empty() || first.iter().chain(&second).any(|it| it.is_nan()));
        if first.iter().all(|it| it.abs() < 1e100) {
            prop_assert_eq!(Estimates::of(&first, seed).is_none(), first.is_empty());
        }
        let _ = moving_block_ratio(&first, &second, 3, part, seed, e2e_stats::low_fifth);
        prop_assert!(e2e_stats::outliers(&first).iter().all(|place| *place < first.len()));
        prop_assert_eq!(e2e_stats::holm(&first, part).len(), first.len());
    }
}

/// Times of identical work with what a shared machine adds: a slow part that comes and goes, and single long ones.
fn noise(seed: u64, count: usize) -> Vec<(f64, f64)> {
    use rand::RngExt as _;
    let mut stream = e2e_stats::stream(seed, 97);
    let mut busy = 1.0;
    let mut time = |busy: f64| {
        let long = if stream.random_bool(0.08) { 1.0 + stream.random::<f64>() } else { 1.0 };
        (0.1 * busy * long * (1.0 + 0.1 * stream.random::<f64>()), stream.random_bool(0.1))
    };
    let mut pair = || {
        let ((one, turns), (two, _)) = (time(busy), time(busy));
        busy = if turns { 3.0 - busy } else { busy };
        (one, two)
    };
    (0..count).map(|_| pair()).collect()
}

#[test]
fn p_of_identical_work_is_as_small_as_it_says_and_no_more_often() {
    const SETS: usize = 1000;
    let p: Vec<_> = (0..SETS as u64).map(|seed| paired(&noise(seed, 20), 0.2, seed).unwrap()).collect();
    for level in [0.01, 0.05, 0.2, 0.5] {
        let share = |of: fn(&Permuted) -> f64| p.iter().filter(|it| of(it) <= level).count() as f64 / SETS as f64;
        let spread = 4.0 * (level * (1.0 - level) / SETS as f64).sqrt();
        for share in [share(|it| it.p_higher), share(|it| it.p_lower)] {
            assert!((share - level).abs() < spread, "{share} of the p are at most {level}");
        }
    }
}

#[test]
fn identical_work_in_made_up_noise_is_hardly_ever_called_changed() {
    let verdicts: Vec<Verdict> = (0..500).map(|seed| duet(Plan::quick(), &noise(seed, 100), Better::Lower)).collect();
    let of = |decision| verdicts.iter().filter(|verdict| verdict.decision == decision).count();
    assert!(
        of(Decision::Regressed) + of(Decision::Improved) <= 8,
        "{} {}",
        of(Decision::Regressed),
        of(Decision::Improved)
    );
    assert!(of(Decision::Unchanged) >= 250, "{}", of(Decision::Unchanged));
}

#[test]
fn sixty_comparisons_of_fifty_pairs_take_less_than_a_second_of_a_processor() {
    // So much noise that no look says anything but the last, that nothing can be said.
    let set = |seed| {
        noise(seed, 50)
            .into_iter()
            .zip(noise(seed + 1000, 50))
            .map(|((one, two), (three, four))| (one * three.powi(3), two * four.powi(3)))
    };
    let sets: Vec<Vec<(f64, f64)>> = (0..60).map(|seed| set(seed).collect()).collect();
    let clock = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let begin = clock();
    let used: usize = sets.iter().map(|pairs| duet(Plan::quick(), pairs, Better::Lower).samples).sum();
    let took = clock() - begin;
    assert!(used >= 60 * 49, "{used} pairs: nearly every look was made");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
