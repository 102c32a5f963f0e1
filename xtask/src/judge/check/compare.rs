//! Replays the rules over recordings, and counts what they say.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde::Serialize;

use super::recording::{Recording, Round, Run, Track};
use crate::judge::committed::{COMMITTED_SAMPLES, Series, committed};
use crate::judge::duet::{Duet, Metric, Pair, Plan, Side, Step};
use crate::judge::rules;
use crate::judge::stats::{stream, wilson};
use crate::judge::verdict::{Better, Decision, Thresholds};

/// Which stretches of the rounds are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// One after the other; none shares a round with another.
    InOrder,
    /// So many for each rule, metric, workload and effect, each beginning anywhere: they share rounds.
    Random(u32),
    /// Those in order, and so many random ones.
    Both(u32),
}

/// What is replayed.
#[derive(Debug, Clone, Copy)]
pub struct Comparisons {
    /// Which stretches.
    pub windows: Windows,
    /// What all that is random comes from.
    pub seed: u64,
}

/// What a rule said of one metric of one workload with so much additional work.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// `duet`, `duet_slow` (its plan for slow operations), `committed`, `criterion`, `mann_whitney`, `fixed_20_percent`.
    pub rule: &'static str,
    /// `wall`, `cpu`, `wall_minus_wait`.
    pub metric: &'static str,
    /// As the recording names it.
    pub workload: String,
    /// How much more work the candidate does; 0 is identical work.
    pub effect_percent: u32,
    /// So many verdicts.
    pub comparisons: usize,
    /// Of which so many say regressed: false alarms where the work is identical.
    pub regressed: usize,
    /// Likewise.
    pub improved: usize,
    /// Likewise.
    pub unchanged: usize,
    /// Likewise.
    pub inconclusive: usize,
    /// How many pairs, or samples of each side, a verdict took on average.
    pub pairs_mean: f64,
}

/// What was said, and from how many pairs.
type Said = (Decision, usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Duet,
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

/// The rounds of a track that have both sides of a comparison, and their metric.
struct Sides {
    /// (baseline, candidate), and who went first.
    pairs: Vec<((f64, f64), Side)>,
    /// Of each round, where it has one that suits the metric.
    calibration: Vec<Option<f64>>,
}

impl Comparisons {
    /// Replays every rule on every metric, workload and effect of the recordings. What has too few rounds for a verdict is
    /// left out. In the order rule, metric, workload, effect.
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
                rates.extend(said.map(|((workload, effect), said)| Rate::of(rule, measure, workload, effect, &said)));
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
    const ALL: [Self; 6] =
        [Self::Duet, Self::DuetSlow, Self::Committed, Self::Criterion, Self::MannWhitney, Self::Fixed20Percent];

    fn name(self) -> &'static str {
        match self {
            Self::Duet => "duet",
            Self::DuetSlow => "duet_slow",
            Self::Committed => "committed",
            Self::Criterion => "criterion",
            Self::MannWhitney => "mann_whitney",
            Self::Fixed20Percent => "fixed_20_percent",
        }
    }

    /// How the pairs are judged, of a rule that judges pairs.
    fn plan(self) -> Option<Plan> {
        match self {
            Self::Duet => Some(Plan::quick()),
            Self::DuetSlow => Some(Plan::slow()),
            _ => None,
        }
    }

    /// The decision from this round on, its pairs, and how many rounds it took; `None` where they do not suffice for any
    /// decision. The unpaired rules take a baseline, and the candidate from right after it.
    fn judge_in_order(self, sides: &Sides, begin: usize, seed: u64) -> Option<(Decision, usize, usize)> {
        if let Some(plan) = self.plan() {
            let (decision, pairs) = duet(plan, sides, begin, seed)?;
            return Some((decision, pairs, pairs));
        }
        let decision = self.unpaired(sides, begin, begin + COMMITTED_SAMPLES, seed)?;
        Some((decision, COMMITTED_SAMPLES, 2 * COMMITTED_SAMPLES))
    }

    /// The decision from anywhere on; the unpaired rules take baseline and candidate from two places that do not overlap.
    fn judge_anywhere(self, sides: &Sides, stream: &mut Pcg64, seed: u64) -> Option<Said> {
        let rounds = sides.pairs.len();
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
        let side = |begin: usize, of: fn(&(f64, f64)) -> f64| {
            let pairs = sides.pairs.get(begin..begin + COMMITTED_SAMPLES)?;
            Some(pairs.iter().map(|(values, _)| of(values)).collect::<Vec<f64>>())
        };
        let (before, after) = (side(baseline, |pair| pair.0)?, side(candidate, |pair| pair.1)?);
        Some(match self {
            Self::Criterion => rules::criterion(&before, &after, seed),
            Self::MannWhitney => rules::mann_whitney(&before, &after),
            Self::Fixed20Percent => rules::fixed_20_percent(&before, &after),
            _ => {
                let calibration = |begin: usize| {
                    sides
                        .calibration
                        .get(begin..begin + COMMITTED_SAMPLES)?
                        .iter()
                        .copied()
                        .collect::<Option<Vec<f64>>>()
                };
                let (fixed_before, fixed_after) = (calibration(baseline)?, calibration(candidate)?);
                let before = Series { samples: &before, calibration: &fixed_before };
                let after = Series { samples: &after, calibration: &fixed_after };
                committed(before, after, Better::Lower, Thresholds::default(), seed).decision
            }
        })
    }
}

/// The verdict of a duet that begins at this round; `None` where it could want more rounds than there are.
fn duet(plan: Plan, sides: &Sides, begin: usize, seed: u64) -> Option<Said> {
    let pairs = sides.pairs.get(begin..begin + plan.pairs_most())?;
    let metric = Metric { name: String::new(), better: Better::Lower, thresholds: Thresholds::default() };
    let mut duet = Duet::new(plan, vec![metric], seed);
    for (values, first) in pairs {
        if let Step::Done(verdicts) = duet.feed(&Pair { first: *first, values: vec![*values] }) {
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

    fn calibration(self, round: &Round) -> Option<f64> {
        match self {
            Self::Wall => round.calibration.map(|(wall, _)| wall),
            Self::Cpu => round.calibration.map(|(_, cpu)| cpu),
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
        let mut sides = Self { pairs: Vec::new(), calibration: Vec::new() };
        for round in &track.rounds {
            let (Some(baseline), Some(candidate)) = (round.baseline, round.candidates.get(&effect)) else { continue };
            let (Some(before), Some(after)) = (measure.of(baseline), measure.of(*candidate)) else { continue };
            let first = if baseline.position < candidate.position { Side::Baseline } else { Side::Candidate };
            sides.pairs.push(((before, after), first));
            sides.calibration.push(measure.calibration(round));
        }
        sides
    }
}

impl Rate {
    fn of(rule: Rule, measure: Measure, workload: &str, effect_percent: u32, said: &[Said]) -> Self {
        let count = |decision| said.iter().filter(|(said, _)| *said == decision).count();
        Self {
            rule: rule.name(),
            metric: measure.name(),
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

    /// The share of `regressed`, in percent, with its 95 % interval (Wilson). It takes the comparisons for independent,
    /// which random windows are not: with those the true one is wider.
    #[must_use]
    pub fn regressed_percent(&self) -> (f64, f64, f64) {
        let (low, high) = wilson(self.regressed, self.comparisons);
        let share = self.regressed as f64 / self.comparisons.max(1) as f64;
        (100.0 * share, 100.0 * low, 100.0 * high)
    }
}
