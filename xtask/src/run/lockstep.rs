//! Lockstep of a duet: the same scenario in two labs, with each measured operation done by one lab at a time, in pairs.
//! Each side asks before it measures, and waits until the other side is at the same operation. The first side is drawn at random; after it,
//! the other side does the same operation, and then both continue. Between measured operations, the two sides run in parallel. If one side
//! fails, ends or comes to another operation, the sides part: they no longer wait for each other, and samples without a partner are counted
//! but not used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::record::{CaseId, Comparison, Sample, Way};
use crate::session::Gate;
use e2e_stats::{Better, Duet, Metric, Pair, Plan, Side, Step, Thresholds, Verdict};

/// Interval at which a waiting side checks whether its session has to stop.
const STOP_POLL: Duration = Duration::from_millis(100);

/// Reason why the sides parted, or an operation has no verdict, after the end of the scope's time.
pub(super) const TIME_IS_UP: &str = "its time budget was used up";

/// Options for pairing the operations of a duet.
#[derive(Debug, Clone)]
pub struct LockstepPlan {
    /// Maximum pairs of an operation, not counting those that confirm a change.
    pub pairs: Option<u32>,
    /// Random seed for the order within pairs.
    pub seed: u64,
    /// Maximum time that one side waits for the other.
    pub patience: Duration,
    /// Thresholds by operation, from scenario.toml.
    pub thresholds: BTreeMap<String, Thresholds>,
    /// Part of the case that is measured in pairs; `None` for all of it.
    pub scope: Option<LockstepScope>,
}

/// Part of a case that is measured in pairs.
#[derive(Debug, Clone)]
pub struct LockstepScope {
    /// Operations that are measured in pairs; others run once, and the sides do not wait for each other there.
    pub operations: BTreeSet<String>,
    /// Time after which no further pair begins.
    pub ends: Instant,
}

/// Lockstep of a duet, shared by both sides.
#[derive(Debug)]
pub struct Lockstep {
    plan: LockstepPlan,
    state: Mutex<State>,
    changed: Condvar,
}

/// Handle of one side of a lockstep.
#[derive(Debug, Clone)]
pub struct LockstepSide {
    lockstep: Arc<Lockstep>,
    side: Side,
}

#[derive(Debug, Default)]
struct State {
    /// States of the baseline (index 0) and the candidate (1).
    sides: [SideState; 2],
    /// Reason why the sides parted and no longer wait for each other; `None` while they are in lockstep.
    apart: Option<String>,
    /// Pair that is being measured.
    pair: Option<Open>,
    operations: BTreeMap<String, Operation>,
    unpaired: u32,
}

#[derive(Debug, Default)]
struct SideState {
    /// Operation that the side waits to begin.
    waits_for: Option<String>,
    /// Number of nested operations that are open: only the outermost one is paired.
    depth: usize,
    /// Description of the side's end, once it has ended.
    ended: Option<String>,
}

#[derive(Debug)]
struct Open {
    operation: String,
    first: Side,
    /// Side that may measure now.
    turn: Side,
    samples: [Option<Sample>; 2],
}

/// Pairs of one operation so far, and their verdicts.
#[derive(Debug)]
struct Operation {
    planned: u32,
    duet: Option<Duet>,
    metrics: Vec<&'static str>,
    /// True if another pair is needed for a verdict.
    more: bool,
    verdicts: Option<Vec<Verdict>>,
    pairs: u32,
}

/// Returns the comparison of one metric in a duet.
pub(super) fn comparison(case: &CaseId, operation: &str, metric: &str, verdict: Verdict) -> Comparison {
    Comparison {
        case: case.clone(),
        operation: operation.to_owned(),
        metric: metric.to_owned(),
        way: Way::Duet,
        gates: true,
        missing: false,
        baseline_samples: Vec::new(),
        was: None,
        verdict,
    }
}

fn place(side: Side) -> usize {
    usize::from(side == Side::Candidate)
}

impl Lockstep {
    /// Creates a lockstep of two sides that have not begun.
    #[must_use]
    pub fn new(plan: LockstepPlan) -> Arc<Self> {
        Arc::new(Self { plan, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Returns the handle of one side.
    #[must_use]
    pub fn side(self: &Arc<Self>, side: Side) -> Arc<LockstepSide> {
        Arc::new(LockstepSide { lockstep: Arc::clone(self), side })
    }

    /// Records that a side has ended, so that the other side no longer waits for it; `how` describes the end.
    pub fn ended(&self, side: Side, how: &str) {
        let mut state = self.state();
        state.sides[place(side)].ended = Some(how.to_owned());
        if state.pair.is_some() || state.sides[place(side.other())].waits_for.is_some() {
            self.part(&mut state, &format!("the {side} has ended: {how}"));
        }
    }

    /// Prepares both sides for another run of the whole case.
    pub fn next_round(&self) {
        let mut state = self.state();
        state.sides = <[SideState; 2]>::default();
        state.pair = None;
        state.apart = None;
    }

    /// Tells whether another run of the whole case is needed for the verdict on an operation that is done once in a case.
    #[must_use]
    pub fn wants_another_round(&self) -> bool {
        let state = self.state();
        state.apart.is_none()
            && state.operations.values().any(|one| one.planned < 2 && one.verdicts.is_none() && one.duet.is_some())
    }

    /// Returns the verdicts on the operations that a case repeats; with `whole_cases`, on all measured operations. To be called after both
    /// sides have ended.
    #[must_use]
    pub fn comparisons(&self, case: &CaseId, whole_cases: bool) -> Vec<Comparison> {
        let state = self.state();
        let because = state.apart.as_deref().unwrap_or("the scenario took no more samples");
        let wanted = state.operations.iter().filter(|(_, one)| whole_cases || one.planned > 1);
        let judged = wanted.flat_map(|(name, one)| {
            let verdicts = one.verdicts.clone().or_else(|| one.duet.as_ref().map(|duet| duet.end(because)));
            let verdicts = one.metrics.iter().zip(verdicts.unwrap_or_default());
            verdicts.map(move |(metric, verdict)| comparison(case, name, metric, verdict))
        });
        judged.collect()
    }

    /// Returns the verdicts on an operation by metric. To be called after both sides have ended.
    ///
    /// # Errors
    /// When too few pairs were measured for a verdict, with the reason.
    pub fn judged(&self, operation: &str) -> Result<Vec<(&'static str, Verdict)>, String> {
        let state = self.state();
        let found = state.operations.get(operation);
        if let Some(Operation { metrics, verdicts: Some(verdicts), .. }) = found {
            return Ok(metrics.iter().copied().zip(verdicts.iter().cloned()).collect());
        }
        Err(match &state.apart {
            Some(why) => why.clone(),
            None if self.is_over() => TIME_IS_UP.to_owned(),
            None => "the scenario took no more samples".to_owned(),
        })
    }

    /// Tells whether the time of the scope has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.plan.scope.as_ref().is_some_and(|scope| Instant::now() >= scope.ends)
    }

    /// Tells whether an operation is measured in pairs.
    fn is_paired(&self, operation: &str) -> bool {
        self.plan.scope.as_ref().is_none_or(|scope| scope.operations.contains(operation))
    }

    /// Returns the number of samples without a partner.
    #[must_use]
    pub fn unpaired(&self) -> u32 {
        self.state().unpaired
    }

    /// Returns the reason why the sides parted; `None` if they stayed in lockstep.
    #[must_use]
    pub fn apart(&self) -> Option<String> {
        self.state().apart.clone()
    }

    /// Opens a pair when both sides want to begin an operation, and no operation of either is open.
    fn open(&self, state: &mut State) {
        let wants = |side: Side| state.sides[place(side)].waits_for.clone();
        let (Some(of_baseline), Some(of_candidate)) = (wants(Side::Baseline), wants(Side::Candidate)) else { return };
        if state.pair.is_some() || state.apart.is_some() {
            return;
        }
        if of_baseline != of_candidate {
            let why = format!("the baseline is about to measure {of_baseline}, the candidate {of_candidate}");
            return self.part(state, &why);
        }
        let pairs = state.operations.get(&of_baseline).map_or(0, |operation| operation.pairs);
        let first = self.first(&of_baseline, pairs);
        state.pair = Some(Open { operation: of_baseline, first, turn: first, samples: [None, None] });
        self.changed.notify_all();
    }

    /// Returns the side that measures first, drawn anew for each pair.
    fn first(&self, operation: &str, pair: u32) -> Side {
        let seed = operation.bytes().fold(self.plan.seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Side::drawn(seed.wrapping_add(u64::from(pair)), 0)
    }

    /// Judges the open pair once it has the samples of both sides.
    fn complete(&self, state: &mut State) {
        let Some(Open { operation: name, first, samples: [Some(baseline), Some(candidate)], .. }) = state.pair.take()
        else {
            return;
        };
        let thresholds = self.plan.thresholds.get(&name).copied().unwrap_or_default();
        let Some(operation) = state.operations.get_mut(&name) else { return };
        operation.pairs += 1;
        let both = |metric: &str| baseline.metric(metric).zip(candidate.metric(metric));
        if operation.duet.is_none() {
            operation.metrics = Sample::METRICS.into_iter().filter(|metric| both(metric).is_some()).collect();
            let metrics = vec![Metric { better: Better::Lower, thresholds }; operation.metrics.len()];
            let seconds = baseline.wall_ms.max(candidate.wall_ms) / 1e3;
            let plan = match self.plan.pairs {
                _ if operation.planned < 2 => Plan::slow(),
                Some(pairs) if seconds <= 2.0 => Plan::up_to(pairs as usize).unwrap_or_else(|_| Plan::quick()),
                _ => Plan::for_seconds(seconds),
            };
            operation.duet = Some(Duet::new(plan, metrics, self.plan.seed));
        }
        let missing = (f64::NAN, f64::NAN);
        let values = operation.metrics.iter().map(|metric| both(metric).unwrap_or(missing)).collect();
        let pair = Pair { first, values };
        if let Some(duet) = &mut operation.duet
            && let Step::Done(verdicts) = duet.feed(&pair)
        {
            operation.verdicts = Some(verdicts);
            operation.more = false;
        }
        operation.more &= !self.is_over();
    }

    /// Parts the sides for the reason `why`: neither waits for the other any more.
    fn part(&self, state: &mut State, why: &str) {
        state.apart.get_or_insert_with(|| why.to_owned());
        if let Some(pair) = state.pair.take() {
            state.unpaired += u32::try_from(pair.samples.iter().flatten().count()).unwrap_or(0);
        }
        self.changed.notify_all();
    }

    /// Waits until `holds` returns true, the sides have parted, the session has to stop, or the maximum wait is over.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        stop: &dyn Fn() -> bool,
        side: Side,
        holds: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let begun = Instant::now();
        while !holds(&state) && state.apart.is_none() {
            if stop() {
                self.part(&mut state, &format!("the session of the {side} was stopped"));
            } else if begun.elapsed() > self.plan.patience {
                let why = format!("the {} did not measure within {:?}", side.other(), self.plan.patience);
                self.part(&mut state, &why);
            } else if self.is_over() {
                self.part(&mut state, TIME_IS_UP);
            } else {
                state = self.changed.wait_timeout(state, STOP_POLL).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state
    }

    /// Locks the state even if the mutex is poisoned: a panic in another thread leaves no change half done.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate for LockstepSide {
    fn begin(&self, operation: &str, planned: u32, stop: &dyn Fn() -> bool) {
        let (lockstep, side) = (&self.lockstep, self.side);
        if !lockstep.is_paired(operation) {
            return;
        }
        let mut state = lockstep.state();
        state.sides[place(side)].depth += 1;
        if state.sides[place(side)].depth > 1 || state.apart.is_some() {
            return;
        }
        state.sides[place(side)].waits_for = Some(operation.to_owned());
        if let Some(how) = state.sides[place(side.other())].ended.clone() {
            lockstep.part(&mut state, &format!("the {} has ended: {how}", side.other()));
        }
        let fresh =
            || Operation { planned, duet: None, metrics: Vec::new(), more: planned > 1, verdicts: None, pairs: 0 };
        state.operations.entry(operation.to_owned()).or_insert_with(fresh);
        lockstep.open(&mut state);
        let granted = |state: &State| {
            state.pair.as_ref().is_some_and(|pair| pair.turn == side && pair.samples[place(side)].is_none())
        };
        let mut state = lockstep.wait(state, stop, side, granted);
        state.sides[place(side)].waits_for = None;
    }

    fn end(&self, operation: &str, sample: Option<&Sample>, stop: &dyn Fn() -> bool) -> Option<bool> {
        let (lockstep, side) = (&self.lockstep, self.side);
        let mut state = lockstep.state();
        if !lockstep.is_paired(operation) {
            // Once is enough, except for what is done inside a paired operation and so is part of its time.
            return (state.sides[place(side)].depth == 0).then_some(false);
        }
        state.sides[place(side)].depth = state.sides[place(side)].depth.saturating_sub(1);
        let is_mine = state.pair.as_ref().is_some_and(|pair| pair.operation == operation && pair.turn == side);
        if !is_mine {
            state.unpaired += u32::from(sample.is_some() && state.apart.is_some());
            let is_over = state.apart.is_some() && state.sides[place(side)].depth == 0 && lockstep.plan.scope.is_some();
            return is_over.then_some(false); // else, inside another one or without a partner, as often as the scenario says
        }
        let Some(sample) = sample else {
            lockstep.part(&mut state, &format!("{operation} failed in the {side}"));
            return Some(false);
        };
        let pair = state.pair.as_mut()?;
        pair.samples[place(side)] = Some(sample.clone());
        if pair.first == side {
            pair.turn = side.other();
            lockstep.changed.notify_all();
            let pairs = |state: &State| state.operations.get(operation).map_or(0, |one| one.pairs);
            let before = pairs(&state);
            state = lockstep.wait(state, stop, side, |state| pairs(state) > before);
        } else {
            lockstep.complete(&mut state);
            lockstep.changed.notify_all();
        }
        Some(state.apart.is_none() && state.operations.get(operation).is_some_and(|one| one.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use e2e_stats::Decision;

    fn plan() -> LockstepPlan {
        let (seed, patience) = (7, Duration::from_secs(20));
        LockstepPlan { pairs: None, seed, patience, thresholds: BTreeMap::new(), scope: None }
    }

    fn sample(number: u32, cpu_ms: f64) -> Sample {
        // As samples are: never two alike, and not in an order.
        let noise = 1.0 + f64::from(number * 7 % 30) / 1000.0;
        Sample {
            repetition: number,
            begun_ms: 0.0,
            wall_ms: cpu_ms * 1.1 * noise,
            cpu_ms: cpu_ms * noise,
            wait_ms: None,
            calibration: None,
            containers: BTreeMap::new(),
            incomplete: Vec::new(),
        }
    }

    /// Measures an operation of `cpu_ms` milliseconds, up to `most` times, as a scenario would.
    fn measure(gate: &LockstepSide, log: &Mutex<Vec<Side>>, operation: &str, cpu_ms: f64, most: u32) {
        for number in 0..most {
            gate.begin(operation, most, &|| false);
            log.lock().unwrap().push(gate.side);
            if gate.end(operation, Some(&sample(number, cpu_ms)), &|| false) != Some(true) {
                return;
            }
        }
    }

    /// Runs the work of both sides in parallel.
    fn both(
        lockstep: &Arc<Lockstep>,
        baseline: impl FnOnce(&LockstepSide) + Send,
        candidate: impl FnOnce(&LockstepSide) + Send,
    ) {
        fn run(lockstep: &Arc<Lockstep>, side: Side, work: impl FnOnce(&LockstepSide)) {
            work(&lockstep.side(side));
            lockstep.ended(side, "passed");
        }
        std::thread::scope(|scope| {
            scope.spawn(|| run(lockstep, Side::Baseline, baseline));
            scope.spawn(|| run(lockstep, Side::Candidate, candidate));
        });
    }

    fn comparisons(lockstep: &Lockstep) -> Vec<Comparison> {
        lockstep.comparisons(&CaseId("a/b:c".into()), false)
    }

    fn decisions(lockstep: &Lockstep) -> Vec<(&'static str, Decision)> {
        let judged = comparisons(lockstep).into_iter();
        let metric = |one: &Comparison| Sample::METRICS.into_iter().find(|metric| *metric == one.metric).unwrap();
        judged.map(|one| (metric(&one), one.verdict.decision)).collect()
    }

    #[test]
    fn sides_take_turns_in_random_order_until_the_answer_is_clear() {
        let (lockstep, log) = (Lockstep::new(plan()), Mutex::default());
        both(&lockstep, |gate| measure(gate, &log, "query", 20.0, 500), |gate| measure(gate, &log, "query", 25.0, 500));
        assert_eq!(decisions(&lockstep), [("cpu_ms", Decision::Regressed), ("wall_ms", Decision::Regressed)]);
        let log = log.into_inner().unwrap();
        assert!(log.len() < 400, "it ended early: {}", log.len());
        let pairs: Vec<&[Side]> = log.chunks(2).collect();
        assert!(pairs.iter().all(|pair| pair.len() == 2 && pair[0] != pair[1]), "{log:?}");
        let baseline_first = pairs.iter().filter(|pair| pair[0] == Side::Baseline).count();
        assert!(
            (pairs.len() / 5..=pairs.len() * 4 / 5).contains(&baseline_first),
            "{baseline_first} of {}",
            pairs.len()
        );
    }

    #[test]
    fn the_same_work_is_unchanged() {
        let (lockstep, log) = (Lockstep::new(plan()), Mutex::default());
        both(&lockstep, |gate| measure(gate, &log, "query", 20.0, 500), |gate| measure(gate, &log, "query", 20.1, 500));
        assert_eq!(decisions(&lockstep), [("cpu_ms", Decision::Unchanged), ("wall_ms", Decision::Unchanged)]);
    }

    #[test]
    fn a_side_that_ends_lets_the_other_go_on() {
        let (lockstep, log) = (Lockstep::new(plan()), Mutex::default());
        let end_early = |gate: &LockstepSide| {
            for number in 0..3 {
                gate.begin("query", 9, &|| false);
                gate.end("query", Some(&sample(number, 20.0)), &|| false);
            }
        };
        both(&lockstep, end_early, |gate| measure(gate, &log, "query", 20.0, 9));
        let judged = comparisons(&lockstep);
        assert_eq!(judged[0].verdict.decision, Decision::Inconclusive);
        assert!(judged[0].verdict.because.contains("after 3 pairs the baseline has ended"), "{judged:?}");
    }

    #[test]
    fn a_side_that_does_something_else_lets_the_other_go_on() {
        let (lockstep, log) = (Lockstep::new(plan()), Mutex::default());
        both(&lockstep, |gate| measure(gate, &log, "insert", 20.0, 9), |gate| measure(gate, &log, "query", 20.0, 9));
        assert_eq!(lockstep.apart().as_deref(), Some("the baseline is about to measure insert, the candidate query"));
        assert_eq!(lockstep.unpaired(), 2, "what had no partner is counted");
    }

    #[test]
    fn a_failed_operation_drops_its_pair() {
        let (lockstep, log) = (Lockstep::new(plan()), Mutex::default());
        let fail = |gate: &LockstepSide| {
            gate.begin("query", 9, &|| false);
            assert_eq!(gate.end("query", None, &|| false), Some(false));
        };
        both(&lockstep, fail, |gate| measure(gate, &log, "query", 20.0, 9));
        assert!(lockstep.apart().unwrap().contains("query failed in the baseline"));
    }

    #[test]
    fn an_operation_inside_another_one_goes_with_it() {
        let lockstep = Lockstep::new(plan());
        let nested = |gate: &LockstepSide| {
            gate.begin("outer", 1, &|| false);
            gate.begin("inner", 3, &|| false);
            assert_eq!(gate.end("inner", Some(&sample(0, 1.0)), &|| false), None);
            assert_eq!(gate.end("outer", Some(&sample(0, 5.0)), &|| false), Some(false));
        };
        both(&lockstep, nested, nested);
        assert_eq!(lockstep.apart(), None);
        assert!(lockstep.wants_another_round(), "one pair of a whole case says nothing yet");
    }

    fn scope(operations: &[&str], ends: Instant) -> Option<LockstepScope> {
        Some(LockstepScope { operations: operations.iter().map(|one| (*one).to_owned()).collect(), ends })
    }

    #[test]
    fn only_the_operations_of_the_scope_are_measured_in_pairs() {
        let ends = Instant::now() + Duration::from_secs(600);
        let lockstep = Lockstep::new(LockstepPlan { scope: scope(&["query", "inner"], ends), ..plan() });
        let (queries, others) = (Mutex::default(), Mutex::default());
        let work = |cpu_ms: f64| {
            let (queries, others) = (&queries, &others);
            move |gate: &LockstepSide| {
                measure(gate, others, "insert", 20.0, 9);
                measure(gate, queries, "query", cpu_ms, 500);
                // Inside one that is not paired, one that is.
                gate.begin("outer", 9, &|| false);
                measure(gate, &Mutex::default(), "inner", cpu_ms, 500);
                assert_eq!(gate.end("outer", Some(&sample(0, 5.0)), &|| false), Some(false));
            }
        };
        both(&lockstep, work(20.0), work(25.0));
        assert_eq!(others.into_inner().unwrap().len(), 2, "once on each side");
        for operation in ["query", "inner"] {
            let judged = lockstep.judged(operation).unwrap();
            assert!(judged[0].0 == "cpu_ms" && judged[0].1.decision == Decision::Regressed, "{judged:?}");
        }
        assert_eq!((lockstep.apart(), lockstep.unpaired()), (None, 0));
        assert_eq!(lockstep.judged("insert").unwrap_err(), "the scenario took no more samples");
    }

    #[test]
    fn the_end_of_its_time_ends_a_duet_without_a_verdict() {
        let lockstep = Lockstep::new(LockstepPlan { scope: scope(&["query", "insert"], Instant::now()), ..plan() });
        let log = Mutex::default();
        let work = |gate: &LockstepSide| {
            measure(gate, &log, "query", 20.0, 500);
            measure(gate, &log, "insert", 20.0, 500);
        };
        both(&lockstep, work, work);
        assert!(lockstep.is_over());
        assert_eq!(log.into_inner().unwrap().len(), 4, "neither side repeats anything");
        for operation in ["query", "insert"] {
            assert_eq!(lockstep.judged(operation).unwrap_err(), TIME_IS_UP);
        }
    }
}
