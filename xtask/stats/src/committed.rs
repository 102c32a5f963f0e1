//! Judges samples against a baseline that was recorded at another time. Meanwhile the machine itself may have become slower, which
//! samples alone cannot tell from slower work. So each side also has times of a fixed piece of work, the calibration, and a change
//! counts only if it shows both as measured and after the calibration's own change is taken out.

use super::bootstrap::{moving_block_length, moving_block_ratio};
use super::low::low_fifth;
use super::quantile::median;
use super::timings::{Kind, Timings};
use super::verdict::{Better, Decision, Thresholds, Verdict, complaint, shown};

/// Minimum samples of each side.
pub const COMMITTED_SAMPLES: usize = 30;

/// Minimum runs of the fixed work on each side.
pub const CALIBRATION_RUNS: usize = 10;

/// Confidence level of the effect's interval.
const CONFIDENCE: f64 = 0.9;

/// Share of an operation's wall time on a processor, below which the operation counts as one that mostly waits, for disks or other
/// programs.
const BUSY: f64 = 0.5;

/// Difference between the sides in the share of time spent waiting for a processor, above which a change may come from other work
/// on the machine.
const WAITED: f64 = 0.1;

/// Compares one kind of time of two sides, of [`COMMITTED_SAMPLES`] samples or more each.
///
/// Two statistics are compared, each with one of the fixed work beside it: the smallest sample, with the mean of the lowest fifth
/// of the fixed work, and the median, with the fixed work's median. For each, r is ln(candidate / baseline) of the samples and s
/// that of the fixed work. Regressed if r and r - s of both statistics exceed the threshold, improved if all four do so downwards;
/// unchanged if r and r - s of one statistic lie within it, and the other shows no change; else inconclusive. The smallest sample
/// says most where other work comes and goes, the median where the processor itself is now quick, now slow. The effect is r of the
/// medians. Its interval comes from a bootstrap in blocks, because neighbors in time resemble each other; it does not cover
/// changes of the machine.
///
/// Inconclusive too are cases that these statistics cannot decide:
/// - the wall time of an operation that mostly waits: the fixed work only computes, and does not show a slower disk. The
///   operation's processor time is judged, by one and a half times the threshold;
/// - a change where one side waited much more for processors: the other work that kept them busy made the operation slower as
///   well, and more so than the fixed work, which runs alone;
/// - a change whose r - s is smaller than s, the machine's own change, and one whose interval reaches from better to worse;
/// - samples that cannot be compared at all.
#[must_use]
pub fn committed(baseline: &Timings, candidate: &Timings, kind: Kind, thresholds: Thresholds, seed: u64) -> Verdict {
    let (before, after) = (baseline.samples(kind), candidate.samples(kind));
    let samples = before.len().min(after.len());
    let busy = baseline.busy().min(candidate.busy());
    let waits = busy < BUSY;
    let percent = thresholds.committed_percent() * if waits { 1.5 } else { 1.0 };
    let least = (percent / 100.0).ln_1p();
    let is_blind = waits && kind == Kind::Wall;
    let problem = problem("baseline", baseline, kind)
        .or_else(|| problem("candidate", candidate, kind))
        .or_else(|| is_blind.then(|| mostly_waits(busy)));
    if let Some(because) = problem {
        return Verdict::inconclusive(samples, because);
    }
    let sides = ([before, after], [baseline.calibration(kind), candidate.calibration(kind)]);
    let witnesses =
        Witness::of(SMALLEST, LOW_FIFTH, sides).and_then(|one| Ok((one, Witness::of(MEDIAN, MEDIAN, sides)?)));
    let (quickest, middle) = match witnesses {
        Ok(witnesses) => witnesses,
        Err(because) => return Verdict::inconclusive(samples, because),
    };
    let both = [quickest, middle];
    let is_worse = |one: &Witness| one.beyond(least);
    let is_better = |one: &Witness| one.mirrored().beyond(least);
    let (decision, which) = if both.iter().all(is_worse) {
        (Decision::Regressed, "beyond")
    } else if both.iter().all(is_better) {
        (Decision::Improved, "beyond")
    } else if both.iter().any(is_worse) || both.iter().any(is_better) {
        (Decision::Inconclusive, "not both beyond")
    } else if both.iter().any(|one| one.within(least)) {
        (Decision::Unchanged, "within")
    } else {
        (Decision::Inconclusive, "not on the same side, as measured and with that taken out, of")
    };
    let seen = format!(
        "the median is {}, and {} with the machine's own change ({}) taken out; the quickest {}, and {}",
        shown(middle.measured),
        shown(middle.corrected()),
        shown(middle.machine),
        shown(quickest.measured),
        shown(quickest.corrected())
    );
    let length = moving_block_length(samples);
    let interval = moving_block_ratio(before, after, length, CONFIDENCE, seed, median);
    let is_change = matches!(decision, Decision::Regressed | Decision::Improved);
    let doubt = is_change
        .then(|| {
            busier(baseline.waited(), candidate.waited())
                .or_else(|| {
                    both.iter()
                        .any(Witness::is_less_than_the_machine)
                        .then(|| "which is less than the machine's own change".into())
                })
                .or_else(|| reaches_over(interval).then(|| "but the interval reaches from better to worse".into()))
        })
        .flatten();
    let (decision, because) = match doubt {
        Some(doubt) => (Decision::Inconclusive, format!("{seen}, {doubt}")),
        None => (decision, format!("{seen}: {which} {percent:.1} %")),
    };
    let interval = interval.and_then(|interval| Better::Lower.interval(interval));
    Verdict { decision, effect: Better::Lower.effect(middle.measured), interval, p: None, samples, because }
}

/// Statistic of one side, with its name.
type Statistic = (&'static str, fn(&[f64]) -> Option<f64>);

const SMALLEST: Statistic = ("smallest value", |samples| samples.iter().copied().min_by(f64::total_cmp));
const LOW_FIFTH: Statistic = ("mean of the lowest fifth", low_fifth);
const MEDIAN: Statistic = ("median", median);

/// Change of one statistic from baseline to candidate.
#[derive(Clone, Copy)]
struct Witness {
    /// ln(candidate / baseline).
    measured: f64,
    /// ln(candidate / baseline) of the fixed work, by the statistic that this one is compared with.
    machine: f64,
}

impl Witness {
    /// Returns the change of a statistic of both sides' samples beside that of their fixed work; the error names the side whose
    /// statistic is too large for a number.
    fn of(
        of_samples: Statistic,
        of_fixed: Statistic,
        (samples, fixed): ([&[f64]; 2], [&[f64]; 2]),
    ) -> Result<Self, String> {
        Ok(Self {
            measured: log_ratio(of_samples, "", samples)?,
            machine: log_ratio(of_fixed, "'s fixed work", fixed)?,
        })
    }

    fn corrected(self) -> f64 {
        self.measured - self.machine
    }

    fn is_less_than_the_machine(&self) -> bool {
        self.corrected().abs() < self.machine.abs()
    }

    fn mirrored(self) -> Self {
        Self { measured: -self.measured, machine: -self.machine }
    }

    fn beyond(self, least: f64) -> bool {
        self.measured > least && self.corrected() > least
    }

    fn within(self, least: f64) -> bool {
        self.measured.abs() <= least && self.corrected().abs() <= least
    }
}

/// Returns the reason why this side cannot be compared, if it cannot.
fn problem(side: &str, timings: &Timings, kind: Kind) -> Option<String> {
    let (samples, calibration) = (timings.samples(kind), timings.calibration(kind));
    let (count, fewest) = (samples.len(), COMMITTED_SAMPLES);
    if count < fewest {
        return Some(format!("the {side} has {count} samples, and {fewest} are the fewest that can be compared"));
    }
    let (count, fewest) = (calibration.len(), CALIBRATION_RUNS);
    if count < fewest {
        return Some(format!(
            "the {side} has {count} runs of the fixed work, and {fewest} are the fewest that suffice"
        ));
    }
    let known = || timings.busy().is_finite();
    let unknown = || format!("it is not known how much of its time the {side} was on a processor");
    complaint(side, samples)
        .or_else(|| (!known()).then(unknown))
        .or_else(|| complaint(&format!("{side}'s fixed work"), calibration))
}

/// Returns the reason why a change may come from other work on the processors, if one side waited for them much more.
fn busier(baseline: Option<f64>, candidate: Option<f64>) -> Option<String> {
    let (before, after) = (baseline?, candidate?);
    ((before - after).abs() > WAITED).then(|| {
        let percent = |share: f64| 100.0 * share;
        format!(
            "but other work kept the processors busy: programs waited for one {:.0} % of their time, and {:.0} % in the baseline",
            percent(after),
            percent(before)
        )
    })
}

/// Tells whether the interval of ln(candidate / baseline) contains 0, so that better and worse are both possible.
fn reaches_over(interval: Option<(f64, f64)>) -> bool {
    interval.is_some_and(|(low, high)| low <= 0.0 && high >= 0.0)
}

fn mostly_waits(busy: f64) -> String {
    format!(
        "the operation is on a processor for {:.0} % of its time, and what it waits for may have changed as well",
        busy * 100.0
    )
}

/// Returns ln(candidate / baseline) of a statistic; in an error, `work` follows the name of the side.
fn log_ratio((name, statistic): Statistic, work: &str, [before, after]: [&[f64]; 2]) -> Result<f64, String> {
    let ln = |side: &str, values: &[f64]| {
        let value = statistic(values).unwrap_or(f64::NAN);
        let problem = || format!("the {name} of the {side}{work} is {value}, and only finite numbers can be compared");
        Some(value.ln()).filter(|ln| ln.is_finite()).ok_or_else(problem)
    };
    Ok(ln("candidate", after)? - ln("baseline", before)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns values around `middle`, 1 % apart at most, some of them far above.
    fn around(middle: f64, count: usize) -> Vec<f64> {
        let value =
            |place: usize| middle * (1.0 + 0.001 * ((place * 7) % 10) as f64 + if place % 6 == 5 { 0.4 } else { 0.0 });
        (0..count).map(value).collect()
    }

    struct Case {
        before: Vec<f64>,
        after: Vec<f64>,
        machine: f64,
        busy: f64,
        waited: Option<f64>,
        kind: Kind,
    }

    impl Default for Case {
        fn default() -> Self {
            let (before, after) = (around(50.0, 30), around(50.0, 30));
            Self { before, after, machine: 1.0, busy: 0.9, waited: Some(0.1), kind: Kind::Wall }
        }
    }

    impl Case {
        fn slower(factor: f64) -> Self {
            Self { after: around(50.0 * factor, 30), ..Self::default() }
        }

        /// Returns a side with these samples of the compared kind, and of the other kind as many as its share of busy time says.
        fn side(&self, samples: &[f64], calibration: Vec<f64>, waited: Option<f64>) -> Timings {
            let times = |factor: f64| samples.iter().map(|sample| sample * factor).collect::<Vec<f64>>();
            let (wall_ms, cpu_ms) = match self.kind {
                Kind::Wall => (times(1.0), times(self.busy)),
                Kind::Processor => (times(1.0 / self.busy), times(1.0)),
            };
            let wait = |share: f64| cpu_ms.iter().map(|cpu| cpu * share / (1.0 - share)).collect();
            let wait_ms = waited.map(wait);
            let (calibration_wall_ms, calibration_cpu_ms) = (calibration.clone(), calibration);
            Timings { wall_ms, cpu_ms, wait_ms, calibration_wall_ms, calibration_cpu_ms }
        }

        fn judge(&self) -> Verdict {
            let before = self.side(&self.before, around(10.0, 12), Some(0.1));
            let after = self.side(&self.after, around(10.0 * self.machine, 12), self.waited);
            committed(&before, &after, self.kind, Thresholds::default(), 1)
        }
    }

    fn check(case: &Case, decision: Decision, because: &str) {
        let verdict = case.judge();
        assert_eq!(verdict.decision, decision, "{verdict:?}");
        assert!(verdict.because.contains(because), "{verdict:?}\n  expected {because}");
    }

    #[test]
    fn a_change_that_may_be_the_machines_is_none() {
        use Decision::{Inconclusive, Regressed};
        let waited = |waited| Case { waited, kind: Kind::Processor, ..Case::slower(1.3) };
        check(&waited(Some(0.15)), Regressed, "30.0 % worse");
        check(&waited(None), Regressed, "30.0 % worse");
        let busy = "busy: programs waited for one 35 % of their time, and 10 % in the baseline";
        check(&waited(Some(0.35)), Inconclusive, busy);
        let machine = |machine| Case { machine, ..Case::slower(1.3) };
        check(&machine(1.1), Regressed, "30.0 % worse, and 18.2 % worse with");
        check(&machine(1.2), Inconclusive, "30.0 % worse, and 8.3 % worse, which is less than the machine's own");
        // Half of the samples are 20 % dearer and half are cheaper than any of the baseline, so that the median may be either.
        let after: Vec<f64> =
            (0..31).map(|place| if place % 2 == 0 { 70.0 } else { 52.0 } + 0.01 * f64::from(place)).collect();
        let before: Vec<f64> =
            (0..31).map(|place| if place % 2 == 0 { 45.0 } else { 60.0 } + 0.01 * f64::from(place)).collect();
        check(
            &Case { before, after, kind: Kind::Processor, ..Case::default() },
            Inconclusive,
            "the interval reaches from better to worse",
        );
    }

    #[test]
    fn both_witnesses_have_to_agree() {
        use Decision::{Improved, Inconclusive, Regressed, Unchanged};
        check(
            &Case::default(),
            Unchanged,
            "no difference with the machine's own change (no difference) taken out; the quickest no difference, and no difference: within 7.5 %",
        );
        check(&Case::slower(1.1), Regressed, "10.0 % worse, and 10.0 % worse with");
        check(&Case::slower(0.9), Improved, "10.0 % better, and 10.0 % better with");
        check(&Case::slower(1.07), Unchanged, "7.0 % worse");
        let machine = |factor, machine| Case { machine, ..Case::slower(factor) };
        check(
            &machine(1.1, 1.1),
            Inconclusive,
            "10.0 % worse, and no difference with the machine's own change (10.0 % worse)",
        );
        check(&machine(1.0, 1.1), Inconclusive, "not on the same side, as measured and with that taken out, of 7.5 %");
        check(&machine(1.25, 1.1), Regressed, "13.6 % worse with");
        check(&machine(1.2, 0.9), Regressed, "20.0 % worse");
    }

    #[test]
    fn the_effect_is_what_was_measured_in_its_own_unit() {
        let verdict = Case::slower(1.1).judge();
        let (effect, (low, high)) = (verdict.effect.unwrap(), verdict.interval.unwrap());
        assert!((effect - 1.1).abs() < 1e-9 && low <= effect && effect <= high && high < 1.13, "{verdict:?}");
        assert_eq!((verdict.samples, verdict.p), (30, None));
    }

    #[test]
    fn an_operation_that_mostly_waits_is_judged_by_its_processor_time_only() {
        let waiting = |kind, factor| Case { busy: 0.3, kind, ..Case::slower(factor) };
        check(&waiting(Kind::Wall, 1.3), Decision::Inconclusive, "on a processor for 30 % of its time");
        check(&waiting(Kind::Processor, 1.1), Decision::Unchanged, "within 11.2 %");
        check(&waiting(Kind::Processor, 1.13), Decision::Regressed, "beyond 11.2 %");
    }

    #[test]
    fn the_quickest_and_the_median_have_to_agree() {
        let mut median_alone = Case::slower(1.3);
        median_alone.after[0] = 50.0;
        check(&median_alone, Decision::Inconclusive, "30.0 % worse, and 30.0 % worse with");
        check(
            &median_alone,
            Decision::Inconclusive,
            "the quickest no difference, and no difference: not both beyond 7.5 %",
        );
        let mut quickest_alone = Case::default();
        quickest_alone.before[0] = 40.0;
        check(
            &quickest_alone,
            Decision::Inconclusive,
            "the quickest 25.0 % worse, and 25.0 % worse: not both beyond 7.5 %",
        );
        // The quickest may be 8 % off by luck, one of 30: as long as it is not beyond in both ways, the median says it.
        let mut lucky = Case { machine: 1.04, ..Case::default() };
        lucky.before[0] = 46.0;
        check(&lucky, Decision::Unchanged, "the quickest 8.7 % worse, and 4.5 % worse: within 7.5 %");
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let of = |after: Vec<f64>| Case { after, ..Case::default() };
        let with = |bad: f64| {
            let mut after = around(50.0, 30);
            after[4] = bad;
            of(after)
        };
        let check = |case: &Case, because: &str| check(case, Decision::Inconclusive, because);
        check(&of(Vec::new()), "the candidate has 0 samples, and 30 are the fewest");
        check(&of(vec![1.0]), "the candidate has 1 samples");
        for (bad, shown) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (-1.0, "-1"), (0.0, "0")] {
            check(&with(bad), &format!("a value of the candidate is {shown}, where only"));
        }
        check(&of(vec![3.0; 40]), "all 40 values of the candidate are 3");
        check(&Case { machine: f64::NAN, ..Case::default() }, "a value of the candidate's fixed work is NaN");
        check(&Case { busy: f64::NAN, ..Case::default() }, "how much of its time the baseline was on a processor");
        let huge = "the mean of the lowest fifth of the candidate's fixed work is inf, and only finite numbers can";
        check(&Case { machine: f64::MAX / 15.0, ..Case::default() }, huge);
        let side = Case::default().side(&around(50.0, 30), vec![1.0], None);
        let few = committed(&side, &side, Kind::Wall, Thresholds::default(), 1);
        assert_eq!(few.because, "the baseline has 1 runs of the fixed work, and 10 are the fewest that suffice");
    }
}
