//! Replays the rules over recordings, and counts their verdicts.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde::Serialize;

use super::recording::{Recording, Run, Track};
use super::rules;
use e2e_stats::{
    Better, COMMITTED_SAMPLES, Decision, Duet, Kind, Metric, Pair, Plan, Side, Step, Thresholds, Timings, committed,
    stream, wilson,
};

/// Choice of the compared windows of rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// Windows one after the other; none shares a round with another.
    InOrder,
    /// Number of windows for each rule, metric, workload and effect, each beginning at a random round: they may share rounds.
    Random(u32),
    /// Windows in order, and this number of random ones.
    Both(u32),
}

/// Options of a replay.
#[derive(Debug, Clone, Copy)]
pub struct Comparisons {
    pub windows: Windows,
    pub seed: u64,
}

/// Counts of a rule's verdicts on one metric of one workload, with one amount of additional work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// `duet`, `duet_brief` and `duet_slow` (its plans for brief and for slow operations), `committed`, `criterion`, `mann_whitney`,
    /// `fixed_20_percent`.
    pub rule: &'static str,
    /// `wall`, `cpu`, `wall_minus_wait`.
    pub metric: &'static str,
    /// Name of the workload in the recording.
    pub workload: String,
    /// Additional work of the candidate; 0 is identical work.
    pub effect_percent: u32,
    /// Number of verdicts.
    pub comparisons: usize,
    /// Number of verdicts `regressed`: false alarms where the work is identical.
    pub regressed: usize,
    /// Number of verdicts `improved`.
    pub improved: usize,
    /// Number of verdicts `unchanged`.
    pub unchanged: usize,
    /// Number of verdicts `inconclusive`.
    pub inconclusive: usize,
    /// Mean number of pairs for a verdict; for a rule without pairs, of samples of each side.
    pub pairs_mean: f64,
}

/// Decision, and the number of pairs, or of samples of each side, that it is made from.
pub(super) type Said = (Decision, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Duet,
    DuetBrief,
    DuetSlow,
    Committed,
    Criterion,
    MannWhitney,
    Fixed20Percent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Wall,
    Cpu,
    WallMinusWait,
}

/// Rounds of a track in which both the baseline and the candidate ran, with their values of one metric.
struct Sides {
    rounds: Vec<PairedRound>,
    /// Kind of time that the calibration measures as well; `None` for a metric without calibration.
    kind: Option<Kind>,
}

/// Values of both sides in one round, each as (baseline, candidate); times in seconds.
struct PairedRound {
    values: (f64, f64),
    first: Side,
    wall: (f64, f64),
    cpu: (f64, f64),
    /// Wall time and CPU time of the calibration's fixed work, in seconds.
    calibration: Option<(f64, f64)>,
}

impl Comparisons {
    /// Replays every rule on every metric, workload and effect of the recordings; returns the rates in that order. Combinations
    /// with too few rounds for a verdict are left out.
    #[must_use]
    pub fn run(&self, recordings: &[Recording]) -> Vec<Rate> {
        let mut rates: Vec<Rate> = Vec::new();
        let tracks = || recordings.iter().flat_map(|recording| &recording.tracks);
        for rule in Rule::ALL {
            for measure in Measure::ALL {
                let mut counts: BTreeMap<(&str, u32), Vec<Said>> = BTreeMap::new();
                for track in tracks() {
                    for effect in track.effects() {
                        let sides = Sides::of(track, effect, measure);
                        let said = counts.entry((&track.workload, effect)).or_default();
                        said.extend(self.replay(rule, &sides));
                    }
                }
                let said = counts.into_iter().filter(|(_, said)| !said.is_empty());
                let rate = |((workload, effect), said): (_, Vec<Said>)| {
                    Rate::of(rule.name(), measure.name(), workload, effect, &said)
                };
                rates.extend(said.map(rate));
            }
        }
        rates
    }

    fn replay(&self, rule: Rule, sides: &Sides) -> Vec<Said> {
        let (in_order, random) = match self.windows {
            Windows::InOrder => (true, 0),
            Windows::Random(count) => (false, count),
            Windows::Both(count) => (true, count),
        };
        let mut stream = stream(self.seed, 7);
        let mut said = Vec::new();
        if in_order {
            let mut begin = 0;
            while let Some((decision, pairs, used)) = rule.judge_in_order(sides, begin, self.seed + begin as u64) {
                said.push((decision, pairs));
                begin += used;
            }
        }
        let drawn =
            (0..random).map_while(|number| rule.judge_anywhere(sides, &mut stream, self.seed + u64::from(number)));
        said.extend(drawn);
        said
    }
}

impl Rule {
    const ALL: [Self; 7] = [
        Self::Duet,
        Self::DuetBrief,
        Self::DuetSlow,
        Self::Committed,
        Self::Criterion,
        Self::MannWhitney,
        Self::Fixed20Percent,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Duet => "duet",
            Self::DuetBrief => "duet_brief",
            Self::DuetSlow => "duet_slow",
            Self::Committed => "committed",
            Self::Criterion => "criterion",
            Self::MannWhitney => "mann_whitney",
            Self::Fixed20Percent => "fixed_20_percent",
        }
    }

    /// Returns the plan of a rule that judges pairs; `None` for the other rules.
    fn plan(self) -> Option<Plan> {
        match self {
            Self::Duet => Some(Plan::quick()),
            Self::DuetBrief => Some(Plan::brief()),
            Self::DuetSlow => Some(Plan::slow()),
            _ => None,
        }
    }

    /// Returns the decision from round `begin` on, its number of pairs, and the number of rounds that it took; `None` where too
    /// few rounds are left. The unpaired rules take the baseline from the first rounds, and the candidate from those right after.
    fn judge_in_order(self, sides: &Sides, begin: usize, seed: u64) -> Option<(Decision, usize, usize)> {
        if let Some(plan) = self.plan() {
            let (decision, pairs) = duet(plan, sides, begin, seed)?;
            return Some((decision, pairs, pairs));
        }
        let decision = self.unpaired(sides, begin, begin + COMMITTED_SAMPLES, seed)?;
        Some((decision, COMMITTED_SAMPLES, 2 * COMMITTED_SAMPLES))
    }

    /// Returns the decision for a random window of rounds; the unpaired rules take baseline and candidate from two windows that do not
    /// overlap.
    fn judge_anywhere(self, sides: &Sides, stream: &mut Pcg64, seed: u64) -> Option<Said> {
        let rounds = sides.rounds.len();
        if let Some(plan) = self.plan() {
            let last = rounds.checked_sub(plan.pairs_most())?;
            return duet(plan, sides, stream.random_range(0..=last), seed);
        }
        let last = rounds.checked_sub(2 * COMMITTED_SAMPLES)?;
        // Two places in a row of what is left when both windows have no length, then moved apart: each pair as likely.
        let (one, other) = (stream.random_range(0..=last), stream.random_range(0..=last));
        let (early, late) = (one.min(other), one.max(other) + COMMITTED_SAMPLES);
        let (baseline, candidate) = if stream.random() { (early, late) } else { (late, early) };
        Some((self.unpaired(sides, baseline, candidate, seed)?, COMMITTED_SAMPLES))
    }

    fn unpaired(self, sides: &Sides, baseline: usize, candidate: usize, seed: u64) -> Option<Decision> {
        let before = sides.window(baseline, |pair| pair.0)?;
        let after = sides.window(candidate, |pair| pair.1)?;
        Some(match self {
            Self::Criterion => rules::criterion(&before, &after, seed),
            Self::MannWhitney => rules::mann_whitney(&before, &after),
            Self::Fixed20Percent => rules::fixed_20_percent(&before, &after),
            _ => {
                let (before, after) =
                    (sides.timings(baseline, |pair| pair.0)?, sides.timings(candidate, |pair| pair.1)?);
                committed(&before, &after, sides.kind?, Thresholds::default(), seed).decision
            }
        })
    }
}

/// Returns the decision of a duet that begins at this round, and its number of pairs; `None` if fewer rounds are left than its plan may
/// need.
fn duet(plan: Plan, sides: &Sides, begin: usize, seed: u64) -> Option<Said> {
    let rounds = sides.rounds.get(begin..begin + plan.pairs_most())?;
    let metric = Metric { better: Better::Lower, thresholds: Thresholds::default() };
    let mut duet = Duet::new(plan, vec![metric], seed);
    for round in rounds {
        if let Step::Done(verdicts) = duet.feed(&Pair { first: round.first, values: vec![round.values] }) {
            return verdicts.first().map(|verdict| (verdict.decision, verdict.samples));
        }
    }
    None
}

impl Measure {
    const ALL: [Self; 3] = [Self::Wall, Self::Cpu, Self::WallMinusWait];

    fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Cpu => "cpu",
            Self::WallMinusWait => "wall_minus_wait",
        }
    }

    fn of(self, run: Run) -> Option<f64> {
        match self {
            Self::Wall => Some(run.wall),
            Self::Cpu => Some(run.cpu),
            Self::WallMinusWait => run.wait.map(|wait| run.wall - wait),
        }
    }

    fn kind(self) -> Option<Kind> {
        match self {
            Self::Wall => Some(Kind::Wall),
            Self::Cpu => Some(Kind::Processor),
            Self::WallMinusWait => None,
        }
    }
}

impl Track {
    fn effects(&self) -> Vec<u32> {
        let mut effects: Vec<u32> = self.rounds.iter().flat_map(|round| round.candidates.keys().copied()).collect();
        effects.sort_unstable();
        effects.dedup();
        effects
    }
}

impl Sides {
    fn of(track: &Track, effect: u32, measure: Measure) -> Self {
        let mut rounds = Vec::new();
        for round in &track.rounds {
            let (Some(baseline), Some(candidate)) = (round.baseline, round.candidates.get(&effect)) else { continue };
            let (Some(before), Some(after)) = (measure.of(baseline), measure.of(*candidate)) else { continue };
            let first = if baseline.position < candidate.position { Side::Baseline } else { Side::Candidate };
            let (wall, cpu) = ((baseline.wall, candidate.wall), (baseline.cpu, candidate.cpu));
            rounds.push(PairedRound { values: (before, after), first, wall, cpu, calibration: round.calibration });
        }
        Self { rounds, kind: measure.kind() }
    }

    /// Returns one side's values from this round on, for an unpaired rule; `None` if too few rounds are left.
    fn window(&self, begin: usize, side: fn(&(f64, f64)) -> f64) -> Option<Vec<f64>> {
        let rounds = self.rounds.get(begin..begin + COMMITTED_SAMPLES)?;
        Some(rounds.iter().map(|round| side(&round.values)).collect())
    }

    /// Returns one side's times from this round on, in seconds although the fields are named `_ms`: only ratios of them are judged. `None`
    /// where rounds or calibrations are missing.
    fn timings(&self, begin: usize, side: fn(&(f64, f64)) -> f64) -> Option<Timings> {
        let rounds = self.rounds.get(begin..begin + COMMITTED_SAMPLES)?;
        let fixed = rounds.iter().map(|round| round.calibration).collect::<Option<Vec<_>>>()?;
        let (calibration_wall_ms, calibration_cpu_ms) = fixed.into_iter().unzip();
        let all = |of: fn(&PairedRound) -> &(f64, f64)| rounds.iter().map(|round| side(of(round))).collect();
        let (wall_ms, cpu_ms) = (all(|round| &round.wall), all(|round| &round.cpu));
        Some(Timings { wall_ms, cpu_ms, wait_ms: None, calibration_wall_ms, calibration_cpu_ms })
    }
}

impl Rate {
    pub(super) fn of(
        rule: &'static str,
        metric: &'static str,
        workload: &str,
        effect_percent: u32,
        said: &[Said],
    ) -> Self {
        let count = |decision| said.iter().filter(|(said, _)| *said == decision).count();
        Self {
            rule,
            metric,
            workload: workload.to_owned(),
            effect_percent,
            comparisons: said.len(),
            regressed: count(Decision::Regressed),
            improved: count(Decision::Improved),
            unchanged: count(Decision::Unchanged),
            inconclusive: count(Decision::Inconclusive),
            pairs_mean: said.iter().map(|(_, pairs)| *pairs as f64).sum::<f64>() / said.len().max(1) as f64,
        }
    }

    /// Returns the share of verdicts `regressed`, in percent, with the ends of its 95 % interval (Wilson). The interval takes the
    /// comparisons for independent; those of random windows are not, so that their true interval is wider.
    #[must_use]
    pub fn regressed_percent(&self) -> (f64, f64, f64) {
        let (low, high) = wilson(self.regressed, self.comparisons);
        let share = self.regressed as f64 / self.comparisons.max(1) as f64;
        (100.0 * share, 100.0 * low, 100.0 * high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    /// Rounds of work that takes about 100 ms of processor time, `p20` 20 % more.
    fn recording(rounds: u32) -> Recording {
        let mut stream = stream(1, 98);
        let mut text = String::new();
        for round in 0..rounds {
            for (place, (variant, factor)) in [("A0", 1.0), ("A1", 1.0), ("p20", 1.2)].into_iter().enumerate() {
                let time = 0.1 * factor * (1.0 + 0.05 * stream.random::<f64>());
                let place = (place + round as usize) % 3;
                text += &format!(
                    "1,quiet,{round},w,{place},{variant},0,{time},{time},0,0,0,0,0,0,0,0,0,{},{}\n",
                    0.1,
                    0.1 * (1.0 + 0.01 * f64::from(round % 3))
                );
            }
        }
        Recording::parse(Path::new("x.csv"), &text).unwrap()
    }

    #[test]
    fn every_rule_is_counted_on_every_metric_and_effect_that_there_is() {
        let rates = Comparisons { windows: Windows::Both(10), seed: 1 }.run(&[recording(130)]);
        for rate in &rates {
            let counted = rate.regressed + rate.improved + rate.unchanged + rate.inconclusive;
            assert!(counted == rate.comparisons && rate.comparisons >= 10, "{rate:?}");
            assert!(rate.workload == "w" && [0, 20].contains(&rate.effect_percent), "{rate:?}");
        }
        assert_eq!(rates.len(), 6 * 2 * 2, "six rules, wall and cpu, two effects");
        let one = |rule: &str, effect| {
            let found =
                rates.iter().find(|rate| (rate.rule, rate.metric, rate.effect_percent) == (rule, "cpu", effect));
            found.cloned().unwrap()
        };
        assert_eq!(one("duet", 0).regressed, 0);
        assert_eq!(one("duet", 20).regressed, one("duet", 20).comparisons);
        assert_eq!(one("committed", 0).unchanged, one("committed", 0).comparisons);
        assert_eq!(one("committed", 20).regressed, one("committed", 20).comparisons);
        assert_eq!(one("committed", 20).pairs_mean, 30.0);
        assert_eq!(one("mann_whitney", 20).regressed, one("mann_whitney", 20).comparisons);
    }

    #[test]
    fn a_seed_repeats_the_rates_and_too_few_rounds_give_none() {
        let run = |windows, rounds| Comparisons { windows, seed: 5 }.run(&[recording(rounds)]);
        assert_eq!(run(Windows::Random(5), 110), run(Windows::Random(5), 110));
        assert_eq!(run(Windows::Both(5), 19), []);
        let rules = |rates: Vec<Rate>| {
            let mut rules: Vec<&str> = rates.iter().map(|rate| rate.rule).collect();
            rules.dedup();
            rules
        };
        assert_eq!(rules(run(Windows::InOrder, 20)), ["duet_slow"], "which wants 20 at most");
    }

    #[test]
    fn the_share_has_its_interval() {
        let said = [(Decision::Regressed, 20), (Decision::Unchanged, 40)];
        let rate = Rate::of("duet", "cpu", "w", 5, &said);
        let (share, low, high) = rate.regressed_percent();
        assert!(share == 50.0 && low > 9.0 && low < 10.0 && high > 90.0 && high < 91.0, "{low} {high}");
        assert_eq!(rate.pairs_mean, 30.0);
    }
}
