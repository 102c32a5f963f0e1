//! Properties of the judge for any input, its error rates on recorded timings, and its speed.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use e2e_stats::{Estimates, hodges_lehmann, low_mean, mann_whitney, moving_block_ratio, paired, paired_log_ratio};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use xtask::judge::{
    Better, CALIBRATION_RUNS, COMMITTED_SAMPLES, Decision, Duet, Kind, Metric, Pair, Plan, RUN_ALPHA, Series, Step,
    Thresholds, Verdict, committed,
};
use xtask::rates::{Comparisons, Rate, Recording, Windows, criterion, fixed_20_percent};

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
    let metric = Metric { name: "x".into(), better, thresholds: Thresholds::default() };
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
        let (before, after) = (
            Series { samples: &first, calibration: &second, busy: part, waited: Some(part) },
            Series { samples: &second, calibration: &first, busy: part, waited: Some(part) },
        );
        for kind in [Kind::Wall, Kind::Processor] {
            let verdict = committed(before, after, kind, Better::Lower, Thresholds::default(), seed);
            prop_assert!(first.len() >= 30 || verdict.decision == Decision::Inconclusive);
            let text = serde_json::to_string(&verdict).unwrap();
            prop_assert!(serde_json::from_str::<Verdict>(&text).is_ok(), "{}", text);
        }
        let usable = first.len() > 1 && values.iter().all(|(one, two)| {
            one.is_finite() && two.is_finite() && *one > 0.0 && *two > 0.0
        });
        prop_assert_eq!(fixed_20_percent(&first, &second) == Decision::Inconclusive, !usable);
        prop_assert_eq!(criterion(&first, &second, seed) == Decision::Inconclusive, !usable);
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
        let share =
            |of: fn(&e2e_stats::Permuted) -> f64| p.iter().filter(|it| of(it) <= level).count() as f64 / SETS as f64;
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

/// A small part of what README.md beside the judge was made from: whole sessions, two of three on a busy machine.
static RECORDED: LazyLock<Vec<Rate>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/noise/raw.csv");
    let text = std::fs::read_to_string(&path).expect("the sample is in the repository");
    let recording = Recording::parse(&path, &text).expect("the sample is good");
    Comparisons { windows: Windows::Both(60), seed: 1 }.run(&[recording])
});

#[test]
fn on_recorded_timings_verdicts_hold_where_the_usual_rules_do_not() {
    let rates = &*RECORDED;
    let sum = |rule: &str, metric: &str, effect: u32, of: fn(&Rate) -> usize| {
        let chosen =
            rates.iter().filter(|rate| (rate.rule, rate.metric, rate.effect_percent) == (rule, metric, effect));
        // Writing to the disk hardly takes longer when there is 10 % more of it: no slowdown to be found.
        let chosen = chosen.filter(|rate| effect == 0 || rate.workload != "io");
        let (said, all) = chosen.fold((0, 0), |(said, all), rate| (said + of(rate), all + rate.comparisons));
        assert!(all >= 120, "{rule} {metric} {effect}: {all} comparisons");
        said as f64 / all as f64
    };
    let alarms = |rule: &str, metric: &str| sum(rule, metric, 0, |rate| rate.regressed + rate.improved);
    let found = |rule: &str, metric: &str, effect| sum(rule, metric, effect, |rate| rate.regressed);
    for (rule, metric) in [("duet", "wall"), ("duet", "cpu"), ("duet_slow", "wall"), ("duet_slow", "cpu")] {
        assert!(alarms(rule, metric) <= 0.01, "{rule} {metric}: {}", alarms(rule, metric));
    }
    for metric in ["wall", "cpu"] {
        // Fewer windows than rounds, and the noisiest sessions: the whole of the data gives less.
        assert!(alarms("committed", metric) <= 0.02, "{metric}: {}", alarms("committed", metric));
        for rule in ["criterion", "mann_whitney"] {
            assert!(alarms(rule, metric) >= 0.1, "the sample is noisy: {rule} {metric} {}", alarms(rule, metric));
        }
    }
    assert!(found("duet", "cpu", 10) >= 0.95, "{}", found("duet", "cpu", 10));
    assert!(found("duet", "wall", 20) >= 0.6, "{}", found("duet", "wall", 20));
    assert!(found("committed", "cpu", 20) >= 0.6, "{}", found("committed", "cpu", 20));
}

/// Set to anything, it makes the tables of `docs/verdicts.md` anew.
const WRITE_VARIABLE: &str = "E2E_WRITE_REFERENCE";

#[test]
fn the_tables_for_users_are_what_the_rules_say_of_the_recorded_timings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verdicts.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let made = with(&with(&written, "thresholds", &thresholds()), "rates", &rates(&RECORDED));
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(&path, &made).unwrap();
        return;
    }
    let differing = made.lines().zip(written.lines()).position(|(made, written)| made != written);
    assert!(
        made == written,
        "docs/verdicts.md:{}: the rules say something else\n    help: {WRITE_VARIABLE}=1 cargo test -p xtask --test judge tables",
        differing.unwrap_or_else(|| made.lines().count().min(written.lines().count())) + 1
    );
}

/// The text with another one between the marks of this name.
fn with(text: &str, name: &str, table: &str) -> String {
    let begin = format!("<!-- {name} -->\n");
    let (before, rest) = text.split_once(&begin).expect("the page has the mark");
    let (_, after) = rest.split_once("<!-- end -->").expect("the page has its end");
    format!("{before}{begin}{table}<!-- end -->{after}")
}

fn thresholds() -> String {
    let default = Thresholds::default();
    let mut text = String::from("| threshold | if nothing else is said |\n|---|---|\n");
    for (what, value) in [
        ("a duet suspects a change beyond", format!("{} %", default.worse_percent())),
        ("and confirms it, on fresh pairs, beyond", format!("{} %", default.confirm_percent())),
        ("a duet says unchanged where the interval lies within", format!("{} %", default.same_percent())),
        (
            "the quickest and the median of committed samples, as measured and corrected by the fixed work, are all beyond",
            format!("{} %", default.committed_percent()),
        ),
        (
            "the same, of processor time, where the operation mostly waits",
            format!("{} %", 1.5 * default.committed_percent()),
        ),
        ("pairs of a duet at most, with those that confirm", Plan::quick().pairs_most().to_string()),
        ("the same of operations of up to 0.25 s", Plan::brief().pairs_most().to_string()),
        (
            "the same of operations of more than 2 s, where changes count from 7.5 %",
            Plan::slow().pairs_most().to_string(),
        ),
        ("committed samples at least", COMMITTED_SAMPLES.to_string()),
        ("runs of the fixed work at least", CALIBRATION_RUNS.to_string()),
        ("chance that a run's duets call anything changed by noise", format!("{} %", RUN_ALPHA * 100.0)),
    ] {
        text.push_str(&format!("| {what} | {value} |\n"));
    }
    text
}

fn rates(all: &[Rate]) -> String {
    let mut text = String::from(
        "| rule | time | work | identical: regressed, improved | +10 % | +20 % | pairs or samples: identical, +10 % |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for same in all.iter().filter(|rate| rate.effect_percent == 0) {
        let key = |rate: &Rate| (rate.rule, rate.metric, rate.workload.clone());
        let more = |percent| all.iter().find(|rate| key(rate) == key(same) && rate.effect_percent == percent);
        let share = |part: usize, whole: usize| part as f64 / whole as f64 * 100.0;
        let found = |percent| {
            more(percent).map_or_else(String::new, |it| format!("{:.0}", share(it.regressed, it.comparisons)))
        };
        text.push_str(&format!(
            "| {} | {} | {} | {:.1}, {:.1} (n {}) | {} | {} | {:.0}, {:.0} |\n",
            same.rule,
            same.metric,
            same.workload,
            share(same.regressed, same.comparisons),
            share(same.improved, same.comparisons),
            same.comparisons,
            found(10),
            found(20),
            same.pairs_mean,
            more(10).map_or(f64::NAN, |it| it.pairs_mean)
        ));
    }
    text
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
