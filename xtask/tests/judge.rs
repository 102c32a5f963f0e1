//! Error rates of the rules of verdicts on recorded timings, and the tables that docs/verdicts.md has of them.

use std::path::Path;
use std::sync::LazyLock;

use e2e_stats::{CALIBRATION_RUNS, COMMITTED_SAMPLES, Decision, Plan, RUN_ALPHA, Thresholds};
use proptest::prelude::*;
use xtask::rates::{Comparisons, Rate, Recording, Windows, criterion, fixed_20_percent};

/// Any number a clock or a bug could give.
fn anything() -> impl Strategy<Value = f64> {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, -1.0, f64::MAX, f64::MIN_POSITIVE, 5e-324];
    prop_oneof![4 => 0.001..1e6, 1 => any::<f64>(), 1 => prop::sample::select(odd.to_vec())]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_usual_rules_answer_whatever_the_values(
        values in prop::collection::vec((anything(), anything()), 0..110),
        seed: u64,
    ) {
        let (first, second): (Vec<f64>, Vec<f64>) = values.iter().copied().unzip();
        let usable = first.len() > 1 && values.iter().all(|(one, two)| {
            one.is_finite() && two.is_finite() && *one > 0.0 && *two > 0.0
        });
        prop_assert_eq!(fixed_20_percent(&first, &second) == Decision::Inconclusive, !usable);
        prop_assert_eq!(criterion(&first, &second, seed) == Decision::Inconclusive, !usable);
    }
}

/// A small part of what xtask/stats/README.md was made from: whole sessions, two of three on a busy machine.
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
