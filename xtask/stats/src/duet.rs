//! Judges pairs: the same operation done by the baseline and by the candidate right after each other, in an order drawn at random, so that
//! whatever else the machine does affects both. A state machine without I/O: it is fed pairs, and says whether it wants more.
//!
//! The pairs are tested only at a few counts. Each such look has its own share of the error (as in Pocock, "Group sequential methods in the
//! design and analysis of clinical trials" (1977)), and a suspected change is confirmed on fresh pairs: a coincidence that made one set of
//! pairs look bad hardly occurs a second time.

use rand::RngExt as _;

use super::bootstrap::paired_log_ratio;
use super::change::log_ratio;
use super::permutation::{Permuted, paired};
use super::stream::stream;
use super::verdict::{Better, Decision, Thresholds, Verdict, complaint, shown};

/// Fraction of each side's costs ([`Better::cost`]), the lowest ones, whose means are compared in addition to the ratios within the pairs:
/// disturbances only make a program slower, so its lowest costs say most while there are undisturbed moments.
const TESTED: f64 = 0.2;

/// Fraction of each side's costs, the lowest ones, for the interval that shows that nothing changed: larger than [`TESTED`], because that
/// interval has to be short.
const COMPARED: f64 = 0.3;

/// Confidence level of the interval that a verdict shows.
const CONFIDENCE: f64 = 0.9;

/// Confidence of the interval that shows that nothing changed: above [`CONFIDENCE`], because each of several looks may be wrong.
const SAME_CONFIDENCE: f64 = 0.95;

/// Significance level of the last look of a confirmation.
const CONFIRM_ALPHA: f64 = 0.015;

/// Significance level of a confirmation's earlier looks: only a clear change ends the confirmation early, because the change has to stay
/// significant among all comparisons of a run.
const EARLY_ALPHA: f64 = 0.003;

/// Numbers of pairs at which a duet is tested, with the significance level of each test.
const LOOKS: [(usize, f64); 4] = [(20, 0.015), (30, 0.02), (50, 0.03), (100, 0.03)];

/// Side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The old state.
    Baseline,
    /// The new state.
    Candidate,
}

/// Metric that is judged on every pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// Direction of improvement.
    pub better: Better,
    /// The smallest change that matters.
    pub thresholds: Thresholds,
}

/// One pair: the values of all metrics on both sides, each above 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Side that went first.
    pub first: Side,
    /// Values of each metric as (baseline, candidate), in the order of the duet's metrics.
    pub values: Vec<(f64, f64)>,
}

/// Test plan of a duet: numbers of pairs, levels and effects.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Numbers of pairs, with the level of the test at each.
    looks: Vec<(usize, f64)>,
    /// Maximum number of pairs, those of the confirmation included.
    most: usize,
    /// Smallest change that is judged, in percent: smaller thresholds are raised to it.
    smallest_percent: f64,
}

/// Next step of a duet after a pair.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Another pair is needed.
    More,
    /// Another pair is needed: a metric looks changed by now, and the pairs from the next one on have to confirm that.
    Confirm,
    /// No further pair is needed; the verdicts, in the order of the metrics.
    Done(Vec<Verdict>),
}

/// The pairs of one operation, judged by several metrics.
#[derive(Debug, Clone)]
pub struct Duet {
    plan: Plan,
    seed: u64,
    pairs: usize,
    judges: Vec<Judge>,
}

/// State of the judgment of one metric.
#[derive(Debug, Clone)]
struct Judge {
    metric: Metric,
    stage: Stage,
    /// Costs ([`Better::cost`]) of the pairs since the current stage began, as (baseline, candidate); in the metric's unit or its
    /// reciprocal.
    costs: Vec<(f64, f64)>,
    /// Number of the pairs in `costs` in which the baseline went first.
    baseline_first: usize,
    /// Number of pairs since the first stage began.
    used: usize,
}

#[derive(Debug, Clone)]
enum Stage {
    Looking,
    /// Fresh pairs have to confirm this decision, whose p-value is that over all earlier looks and both directions.
    Confirming(Decision, f64),
    Done(Verdict),
}

impl Side {
    /// Returns the side that goes first in a pair, drawn from the seed.
    #[must_use]
    pub fn drawn(seed: u64, pair: usize) -> Self {
        if stream(seed, 0x0f00_0000 + pair as u64).random() { Self::Baseline } else { Self::Candidate }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Baseline => Self::Candidate,
            Self::Candidate => Self::Baseline,
        }
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Baseline => "baseline",
            Self::Candidate => "candidate",
        })
    }
}

impl Plan {
    /// Returns the plan for operations of up to a quarter of a second, of which more pairs cost little: looks at 20,
    /// 30, 50 and 100.
    #[must_use]
    pub fn brief() -> Self {
        Self { most: 300, ..Self::looking(100) }
    }

    /// Returns the plan for operations of up to 2 s: looks at 20, 30 and 50 pairs.
    #[must_use]
    pub fn quick() -> Self {
        Self::looking(50)
    }

    /// Returns the plan whose last look for a change is at this number of pairs; as many again may confirm it.
    ///
    /// # Errors
    /// Fewer than 20: verdicts of fewer pairs do not hold.
    pub fn up_to(pairs: usize) -> Result<Self, String> {
        if pairs < LOOKS[0].0 {
            return Err(format!("{pairs} pairs are too few: verdicts of fewer than 20 do not hold"));
        }
        Ok(Self::looking(pairs))
    }

    fn looking(pairs: usize) -> Self {
        let before = LOOKS.iter().map(|look| look.0).filter(|look| *look < pairs).take(LOOKS.len() - 1);
        let looks = before.chain([pairs]).zip(LOOKS.iter().map(|look| look.1)).collect();
        Self { looks, most: 2 * pairs, smallest_percent: 0.0 }
    }

    /// Returns the plan for operations of more than 2 s, and those that repeat a whole case: one look at 10 pairs.
    /// Changes of less than 7.5 % are never judged, so that those of 10 % can be found, and those of 20 % mostly are.
    #[must_use]
    pub fn slow() -> Self {
        Self { looks: vec![(10, 0.05)], most: 20, smallest_percent: 7.5 }
    }

    /// Returns the plan for an operation of this duration.
    #[must_use]
    pub fn for_seconds(seconds: f64) -> Self {
        match seconds {
            ..=0.25 => Self::brief(),
            ..=2.0 => Self::quick(),
            _ => Self::slow(),
        }
    }

    /// Returns the looks of a confirmation after `before` pairs: those of the plan for which pairs are left, and one at the last
    /// pair.
    fn confirming(&self, before: usize) -> Vec<(usize, f64)> {
        let left = self.most.saturating_sub(before);
        let early = self.looks.iter().map(|look| look.0).filter(|look| *look < left);
        early.map(|look| (look, EARLY_ALPHA)).chain([(left, CONFIRM_ALPHA)]).collect()
    }

    #[must_use]
    pub fn pairs_most(&self) -> usize {
        self.most
    }
}

impl Duet {
    #[must_use]
    pub fn new(plan: Plan, metrics: Vec<Metric>, seed: u64) -> Self {
        let judge = |metric: Metric| {
            let thresholds = metric.thresholds.at_least(plan.smallest_percent);
            let metric = Metric { thresholds, ..metric };
            Judge { metric, stage: Stage::Looking, costs: Vec::new(), baseline_first: 0, used: 0 }
        };
        let judges = metrics.into_iter().map(judge).collect();
        Self { plan, seed, pairs: 0, judges }
    }

    /// Returns the side that goes first in the next pair, drawn from the seed.
    #[must_use]
    pub fn first(&self) -> Side {
        Side::drawn(self.seed, self.pairs)
    }

    /// Returns the number of pairs fed so far.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.pairs
    }

    /// Takes the next pair. A value that is missing, or is not a finite number above 0, makes that metric's verdict inconclusive.
    /// After [`Step::Done`] further pairs change nothing.
    pub fn feed(&mut self, pair: &Pair) -> Step {
        self.pairs += 1;
        let mut confirms = false;
        for (place, judge) in self.judges.iter_mut().enumerate() {
            let values = pair.values.get(place).copied().unwrap_or((f64::NAN, f64::NAN));
            let was_looking = matches!(judge.stage, Stage::Looking);
            // Each look has a random stream of its own; metrics share it, so that their order does not matter.
            judge.take(values, pair.first, &self.plan, self.seed.wrapping_add(self.pairs as u64));
            confirms |= was_looking && matches!(judge.stage, Stage::Confirming(..));
        }
        let verdicts: Vec<Verdict> = self.judges.iter().filter_map(Judge::verdict).collect();
        if verdicts.len() == self.judges.len() {
            return Step::Done(verdicts);
        }
        if confirms { Step::Confirm } else { Step::More }
    }

    /// Returns the verdicts of a duet that gets no more pairs, in the order of the metrics. A metric without a verdict is
    /// inconclusive, with `because` as the reason (`the candidate failed`).
    #[must_use]
    pub fn end(&self, because: &str) -> Vec<Verdict> {
        let early = |judge: &Judge| Verdict::inconclusive(judge.used, format!("after {} pairs {because}", judge.used));
        self.judges.iter().map(|judge| judge.verdict().unwrap_or_else(|| early(judge))).collect()
    }
}

impl Judge {
    fn verdict(&self) -> Option<Verdict> {
        match &self.stage {
            Stage::Done(verdict) => Some(verdict.clone()),
            _ => None,
        }
    }

    fn take(&mut self, (baseline, candidate): (f64, f64), first: Side, plan: &Plan, seed: u64) {
        if matches!(self.stage, Stage::Done(_)) {
            return;
        }
        self.used += 1;
        self.baseline_first += usize::from(first == Side::Baseline);
        let cost = |value: f64| self.metric.better.cost(value);
        self.costs.push((cost(baseline), cost(candidate)));
        let named = [("baseline", baseline), ("candidate", candidate)];
        let unusable = |value: f64| !(value.is_finite() && value > 0.0 && cost(value).is_finite() && cost(value) > 0.0);
        if let Some((side, value)) = named.into_iter().find(|(_, value)| unusable(*value)) {
            let because = format!(
                "in pair {} the {side}'s value is {value}, where only a finite number above 0 can be compared",
                self.used
            );
            self.stage = Stage::Done(Verdict::inconclusive(self.used, because));
            return;
        }
        let looks = match self.stage {
            Stage::Confirming(..) => plan.confirming(self.used - self.costs.len()),
            _ => plan.looks.clone(),
        };
        if let Some(place) = looks.iter().position(|look| look.0 == self.costs.len()) {
            self.look(&looks, place, seed);
        }
    }

    fn look(&mut self, looks: &[(usize, f64)], place: usize, seed: u64) {
        let count = self.costs.len();
        let side = |of: fn(&(f64, f64)) -> f64| self.costs.iter().map(of).collect::<Vec<f64>>();
        let (baseline, candidate) = (side(|pair| pair.0), side(|pair| pair.1));
        let mut complaints =
            [complaint("baseline", &baseline), complaint("candidate", &candidate)].into_iter().flatten();
        let unmixed = (self.baseline_first == 0 || self.baseline_first == count)
            .then(|| format!("the same side went first in all {count} pairs, so that order and change look alike"));
        let complaint = complaints.next().or(unmixed);
        let permuted = paired(&self.costs, TESTED, seed);
        let (Some(permuted), None) = (permuted, &complaint) else {
            let because = complaint
                .unwrap_or_else(|| format!("the lowest of the {count} values of a side add up to no finite number"));
            self.stage = Stage::Done(Verdict::inconclusive(self.used, because));
            return;
        };
        let is_last = place + 1 == looks.len();
        let alpha = looks[place].1;
        match self.stage.clone() {
            Stage::Looking => {
                let p = over_looks(looks, place, 2.0 * permuted.p_higher.min(permuted.p_lower));
                if let Some(change) = self.change(permuted, self.metric.thresholds.worse_percent(), alpha) {
                    self.stage = Stage::Confirming(change, p);
                    self.costs.clear();
                    self.baseline_first = 0;
                } else if let Some(because) = self.unchanged(permuted.low_share, seed) {
                    self.end(Decision::Unchanged, permuted, p, seed, because);
                } else if is_last {
                    let because = format!(
                        "{count} pairs show {}, which is neither small enough for unchanged nor beyond noise",
                        shown(permuted.log_ratio)
                    );
                    self.end(Decision::Inconclusive, permuted, p, seed, because);
                }
            }
            Stage::Confirming(suspected, p_before) => {
                let p_one = if suspected == Decision::Regressed { permuted.p_higher } else { permuted.p_lower };
                let p = together(p_before, over_looks(looks, place, p_one));
                let seen = shown(permuted.log_ratio);
                let before = self.used - count;
                let confirmed = self.change(permuted, self.metric.thresholds.confirm_percent(), alpha);
                if confirmed == Some(suspected) {
                    let because =
                        format!("{before} pairs looked {suspected}, and {count} fresh ones confirm it: {seen}");
                    self.end(suspected, permuted, p, seed, because);
                } else if is_last {
                    let because =
                        format!("{before} pairs looked {suspected}, but {count} fresh ones do not confirm it: {seen}");
                    self.end(Decision::Inconclusive, permuted, p, seed, because);
                }
            }
            Stage::Done(_) => {}
        }
    }

    /// Returns the change that the pairs show at a significance level of `alpha`, if it exceeds `percent`.
    fn change(&self, permuted: Permuted, percent: f64, alpha: f64) -> Option<Decision> {
        let least = (percent / 100.0).ln_1p();
        if permuted.log_ratio > least && permuted.p_higher < alpha {
            return Some(Decision::Regressed);
        }
        (permuted.log_ratio < -least && permuted.p_lower < alpha).then_some(Decision::Improved)
    }

    /// Returns the reason why nothing that matters has changed, if these pairs show that.
    fn unchanged(&self, low_share: f64, seed: u64) -> Option<String> {
        let bound = |percent: f64| (percent / 100.0).ln_1p();
        let thresholds = self.metric.thresholds;
        let estimate = log_ratio(&self.costs, COMPARED, low_share)?;
        if estimate.abs() > bound(thresholds.worse_percent()) {
            return None;
        }
        let (low, high) = paired_log_ratio(&self.costs, COMPARED, low_share, SAME_CONFIDENCE, seed)?;
        let same = bound(thresholds.same_percent());
        (-same < low && high < same).then(|| {
            let count = self.costs.len();
            format!("{count} pairs keep the change within {:.1} %: {}", thresholds.same_percent(), shown(estimate))
        })
    }

    fn end(&mut self, decision: Decision, permuted: Permuted, p: f64, seed: u64, because: String) {
        let better = self.metric.better;
        let interval = paired_log_ratio(&self.costs, TESTED, permuted.low_share, CONFIDENCE, seed);
        let interval = interval.and_then(|interval| better.interval(interval));
        let effect = better.effect(permuted.log_ratio);
        self.stage = Stage::Done(Verdict { decision, effect, interval, p: Some(p), samples: self.used, because });
    }
}

/// Returns the p-value over all looks, from the p-value of the look at index `place`, which was the last: p times the sum of all levels /
/// that look's level (weighted Bonferroni).
fn over_looks(looks: &[(usize, f64)], place: usize, p: f64) -> f64 {
    let together: f64 = looks.iter().map(|look| look.1).sum();
    (p * together / looks[place].1).min(1.0)
}

/// Combines two independent p-values into one: the chance q(1 - ln q) that two uniform numbers have a product as small as theirs, q
/// (Fisher, "Statistical Methods for Research Workers" (1932), section 21.1, for two).
fn together(one: f64, other: f64) -> f64 {
    let product = one * other;
    if product <= 0.0 { 0.0 } else { (product * (1.0 - product.ln())).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    use rand_pcg::Pcg64;

    fn metric(better: Better) -> Metric {
        Metric { better, thresholds: Thresholds::default() }
    }

    /// A time of about 100 with noise that makes some slower.
    fn time(stream: &mut Pcg64) -> f64 {
        let noise: f64 = stream.random();
        100.0 * (1.0 + 0.04 * noise + if stream.random_bool(0.1) { 0.5 } else { 0.0 })
    }

    /// Feeds pairs whose candidate is slower by a factor, until there are verdicts; returns them, and the numbers of pairs at
    /// which a confirmation began.
    fn play(duet: &mut Duet, factor: impl Fn(usize) -> f64, seed: u64) -> (Vec<Verdict>, Vec<usize>) {
        let mut noise = stream(seed, 99);
        let mut confirms = Vec::new();
        loop {
            let (one, two) = (time(&mut noise), time(&mut noise) * factor(duet.pairs()));
            let values = duet.judges.iter().map(|judge| (judge.metric.better.cost(one), judge.metric.better.cost(two)));
            let pair = Pair { first: duet.first(), values: values.collect() };
            match duet.feed(&pair) {
                Step::More => {}
                Step::Confirm => confirms.push(duet.pairs()),
                Step::Done(verdicts) => return (verdicts, confirms),
            }
            assert!(duet.pairs() < 200, "it ends");
        }
    }

    fn judged(better: Better, factor: impl Fn(usize) -> f64) -> (Verdict, Vec<usize>) {
        let (verdicts, confirms) = play(&mut Duet::new(Plan::quick(), vec![metric(better)], 7), factor, 3);
        (verdicts[0].clone(), confirms)
    }

    #[test]
    fn slower_work_is_suspected_and_confirmed_on_fresh_pairs() {
        let (verdict, confirms) = judged(Better::Lower, |_| 1.2);
        assert_eq!((verdict.decision, verdict.samples, confirms), (Decision::Regressed, 40, vec![20]));
        let (effect, (low, high)) = (verdict.effect.unwrap(), verdict.interval.unwrap());
        assert!((1.17..1.23).contains(&effect) && low <= effect && effect <= high, "{verdict:?}");
        assert!(verdict.p.unwrap() < 0.001, "{verdict:?}");
        assert!(
            verdict.because.starts_with("20 pairs looked regressed, and 20 fresh ones confirm it: "),
            "{verdict:?}"
        );
        assert!(verdict.because.ends_with(" % worse"), "{verdict:?}");
    }

    #[test]
    fn quicker_work_is_improved_and_a_lower_rate_is_regressed() {
        let (verdict, _) = judged(Better::Lower, |_| 0.8);
        assert_eq!(verdict.decision, Decision::Improved);
        let (verdict, _) = judged(Better::Higher, |_| 1.25);
        assert_eq!(verdict.decision, Decision::Regressed, "{verdict:?}");
        let (effect, (low, high)) = (verdict.effect.unwrap(), verdict.interval.unwrap());
        assert!((0.78..0.82).contains(&effect) && low <= effect && effect <= high, "a rate's own: {verdict:?}");
        let (verdict, _) = judged(Better::Higher, |_| 0.8);
        assert_eq!(verdict.decision, Decision::Improved, "{verdict:?}");
    }

    #[test]
    fn identical_work_is_unchanged_at_the_first_look_that_can_say_so() {
        let (verdict, confirms) = judged(Better::Lower, |_| 1.0);
        assert_eq!(verdict.decision, Decision::Unchanged, "{verdict:?}");
        assert!(verdict.samples <= 50 && confirms.is_empty(), "{verdict:?}");
    }

    #[test]
    fn what_fresh_pairs_do_not_confirm_is_inconclusive() {
        let (verdict, confirms) = judged(Better::Lower, |pair| if pair < 20 { 1.2 } else { 1.0 });
        assert_eq!((verdict.decision, verdict.samples, confirms), (Decision::Inconclusive, 100, vec![20]));
        assert!(verdict.because.contains("80 fresh ones do not confirm it"), "{verdict:?}");
        let (verdict, _) = judged(Better::Lower, |pair| if pair < 20 { 1.2 } else { 0.8 });
        assert_eq!(verdict.decision, Decision::Inconclusive, "the other direction confirms nothing: {verdict:?}");
    }

    #[test]
    fn a_change_below_the_threshold_is_none() {
        let thresholds = Thresholds::smallest(30.0).unwrap();
        let metric = Metric { thresholds, ..metric(Better::Lower) };
        let (verdicts, _) = play(&mut Duet::new(Plan::quick(), vec![metric], 7), |_| 1.2, 3);
        assert_eq!(verdicts[0].decision, Decision::Unchanged, "{verdicts:?}");
    }

    #[test]
    fn metrics_are_judged_each_at_its_own_pace() {
        let metrics = vec![metric(Better::Lower), metric(Better::Higher), metric(Better::Lower)];
        let mut duet = Duet::new(Plan::quick(), metrics, 7);
        let mut noise = stream(3, 99);
        let verdicts = loop {
            let (one, two) = (time(&mut noise), time(&mut noise));
            let values = vec![(one, two), (one.recip(), two.recip() * 1.2), (one, 1.2 * two)];
            if let Step::Done(verdicts) = duet.feed(&Pair { first: duet.first(), values }) {
                break verdicts;
            }
        };
        let decisions: Vec<Decision> = verdicts.iter().map(|verdict| verdict.decision).collect();
        assert_eq!(decisions, [Decision::Unchanged, Decision::Improved, Decision::Regressed]);
        assert!(verdicts[1].samples == 40 && verdicts[0].samples != 40, "{verdicts:?}");
    }

    #[test]
    fn plans() {
        assert_eq!(Plan::up_to(50).unwrap(), Plan::quick());
        assert_eq!(Plan::up_to(20).unwrap().looks, [(20, 0.015)]);
        assert_eq!(Plan::up_to(25).unwrap().looks, [(20, 0.015), (25, 0.02)]);
        assert_eq!(Plan::up_to(80).unwrap().looks, [(20, 0.015), (30, 0.02), (50, 0.03), (80, 0.03)]);
        assert_eq!(Plan::up_to(400).unwrap().looks, [(20, 0.015), (30, 0.02), (50, 0.03), (400, 0.03)]);
        assert!(Plan::up_to(19).unwrap_err().contains("fewer than 20 do not hold"));
        assert_eq!((Plan::for_seconds(0.25), Plan::for_seconds(0.26)), (Plan::brief(), Plan::quick()));
        assert_eq!((Plan::for_seconds(2.0), Plan::for_seconds(2.1)), (Plan::quick(), Plan::slow()));
        assert_eq!(
            [Plan::brief(), Plan::quick(), Plan::slow(), Plan::up_to(80).unwrap()].map(|plan| plan.pairs_most()),
            [300, 100, 20, 160]
        );
        let confirming = |plan: Plan, before| plan.confirming(before).iter().map(|look| look.0).collect::<Vec<_>>();
        assert_eq!(confirming(Plan::quick(), 20), [20, 30, 50, 80]);
        assert_eq!(confirming(Plan::quick(), 50), [20, 30, 50]);
        assert_eq!(confirming(Plan::slow(), 10), [10]);
        assert_eq!(confirming(Plan::brief(), 100), [20, 30, 50, 100, 200]);
    }

    #[test]
    fn slow_operations_are_judged_after_ten_pairs_and_by_large_changes_only() {
        let slow = |factor: f64| {
            let (verdicts, _) = play(&mut Duet::new(Plan::slow(), vec![metric(Better::Lower)], 7), |_| factor, 3);
            (verdicts[0].decision, verdicts[0].samples)
        };
        assert_eq!(slow(1.3), (Decision::Regressed, 20));
        assert_eq!(slow(1.04).0, Decision::Unchanged);
    }

    #[test]
    fn who_goes_first_is_drawn() {
        let mut duet = Duet::new(Plan::quick(), vec![metric(Better::Lower)], 7);
        let mut baseline = 0;
        for _ in 0..400 {
            let first = duet.first();
            assert_eq!(first, duet.first(), "asked twice, it is the same");
            baseline += usize::from(first == Side::Baseline);
            duet.feed(&Pair { first, values: vec![(f64::NAN, 1.0)] });
        }
        assert!((160..=240).contains(&baseline), "{baseline}");
    }

    #[test]
    fn what_cannot_be_judged_says_why() {
        let check = |values: &dyn Fn(usize) -> (f64, f64), first: &dyn Fn(&Duet) -> Side, expected: &str| {
            let mut duet = Duet::new(Plan::quick(), vec![metric(Better::Lower)], 7);
            let verdict = loop {
                let pair = Pair { first: first(&duet), values: vec![values(duet.pairs())] };
                if let Step::Done(verdicts) = duet.feed(&pair) {
                    break verdicts[0].clone();
                }
            };
            assert_eq!((verdict.decision, verdict.because.as_str()), (Decision::Inconclusive, expected));
        };
        let bad = "where only a finite number above 0 can be compared";
        check(&|_| (1.0, f64::NAN), &Duet::first, &format!("in pair 1 the candidate's value is NaN, {bad}"));
        check(&|_| (f64::INFINITY, 1.0), &Duet::first, &format!("in pair 1 the baseline's value is inf, {bad}"));
        check(&|_| (1.0, -1.0), &Duet::first, &format!("in pair 1 the candidate's value is -1, {bad}"));
        let zero = |pair: usize| (1.0, if pair == 3 { 0.0 } else { 2.0 });
        check(&zero, &Duet::first, &format!("in pair 4 the candidate's value is 0, {bad}"));
        let constant = "all 20 values of the baseline are 1: a clock or counter so coarse cannot show a change";
        check(&|pair| (1.0, pair as f64 + 1.0), &Duet::first, constant);
        let huge = |pair: usize| (1.0 + pair as f64, f64::MAX / (1.0 + 0.01 * pair as f64));
        check(&huge, &Duet::first, "the lowest of the 20 values of a side add up to no finite number");
        let unmixed = "the same side went first in all 20 pairs, so that order and change look alike";
        check(&|pair| (pair as f64 + 1.0, pair as f64 + 2.0), &|_| Side::Candidate, unmixed);
    }

    #[test]
    fn a_duet_that_ends_early_keeps_what_it_knows() {
        let mut duet = Duet::new(Plan::quick(), vec![metric(Better::Lower), metric(Better::Lower)], 7);
        assert_eq!(duet.feed(&Pair { first: Side::Baseline, values: vec![(1.0, 1.0)] }), Step::More, "one is left");
        let verdicts = duet.end("the candidate failed");
        assert_eq!(verdicts[0], Verdict::inconclusive(1, "after 1 pairs the candidate failed"));
        assert!(verdicts[1].because.contains("value is NaN"), "a value that is missing: {verdicts:?}");
    }

    #[test]
    fn one_p_of_several_looks() {
        let looks = [(20, 0.01), (50, 0.03)];
        assert!((over_looks(&looks, 0, 0.002) - 0.008).abs() < 1e-12);
        assert!((over_looks(&looks, 1, 0.003) - 0.004).abs() < 1e-12);
        assert_eq!((over_looks(&looks, 0, 0.9), over_looks(&looks[..1], 0, 0.01)), (1.0, 0.01));
    }

    #[test]
    fn two_p_together_as_scipy_gives_it() {
        assert!((together(0.012, 0.03) - 0.003_214_586_349_545_082).abs() < 1e-12);
        assert_eq!((together(1.0, 1.0), together(0.0, 0.5)), (1.0, 0.0));
    }
}
