//! Comparison of a case's times with its committed baseline, and new baselines from a run's times.

use std::collections::{BTreeMap, BTreeSet};

use e2e_stats::{Kind, Thresholds, Timings, Verdict, committed};

use super::file::{Baseline, BaselineCase};
use super::reference::Reference;
use super::store::Store;
use crate::error::Error;
use crate::manifest::Scenario;
use crate::perf::KnownMachine;
use crate::program;
use crate::record::{self, CaseId, Comparison, RunRecord, Way};

/// Random seed of the intervals, always the same, so that the same samples give the same intervals.
const SEED: u64 = 1;

/// Judged times, the names of their metrics, and whether a regression of the metric fails a build: other work on the host hardly changes
/// processor time, but does change wall time.
const METRICS: [(Kind, &str, bool); 2] = [(Kind::Processor, "cpu_ms", true), (Kind::Wall, "wall_ms", false)];

/// Times of a case's repeated operations, by name.
type Operations = BTreeMap<String, Timings>;

/// Committed baselines of a run's scenarios on one class of machines.
#[derive(Debug, Clone)]
pub struct Baselines {
    store: Store,
    class: String,
    scenarios: BTreeMap<String, Found>,
}

#[derive(Debug, Clone)]
enum Found {
    Here(Baseline),
    /// The scenario has no baseline on this class of machines; lists the classes that have one, if any.
    Elsewhere(Vec<String>),
}

impl Baselines {
    /// Reads the baselines of these scenarios.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a baseline that cannot be used. [`Error::Usage`], with the command that makes the missing baselines, for
    /// scenarios without one on any class of machines, unless `missing_allowed`.
    pub fn read(
        store: &Store,
        class: &str,
        scenarios: impl Iterator<Item = String>,
        missing_allowed: bool,
    ) -> anyhow::Result<Self> {
        let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
        for scenario in scenarios {
            let baseline = match store.read(class, &scenario)? {
                Some(baseline) => Found::Here(baseline),
                None => Found::Elsewhere(store.classes_of(&scenario)),
            };
            if matches!(&baseline, Found::Elsewhere(classes) if classes.is_empty()) {
                missing.push(scenario.clone());
            }
            found.insert(scenario, baseline);
        }
        if missing_allowed || missing.is_empty() {
            return Ok(Self { store: store.clone(), class: class.to_owned(), scenarios: found });
        }
        Err(Error::Usage(format!(
            "--baseline-compare: there is no baseline of {}\n  help: `cargo xtask baseline-update {}`, or \
             --baseline-missing=allow",
            missing.join(", "),
            missing.join(" ")
        ))
        .into())
    }

    fn case(&self, scenario: &Scenario, case: &str) -> Option<&BaselineCase> {
        match self.scenarios.get(&scenario.id())? {
            Found::Here(baseline) => baseline.cases.get(case),
            Found::Elsewhere(_) => None,
        }
    }

    /// Returns the reference of a case's baseline: that of this class of machines, or else, of the other classes, the one of the newest
    /// samples. `None` where no class has a baseline of the case. The error is the reason why a baseline gives no reference.
    ///
    /// # Errors
    /// When the baseline is of format version 1, or the file of the reference cannot be used.
    pub fn reference(&self, scenario: &Scenario, case: &str) -> Result<Option<Reference>, String> {
        let of_class = |class: &str| self.store.read(class, &scenario.id()).map_err(|error| format!("{error:#}"));
        let found = match (self.case(scenario, case), self.scenarios.get(&scenario.id())) {
            (Some(case), _) => Some(case.clone()),
            (None, Some(Found::Elsewhere(classes))) => {
                let baselines = classes.iter().map(|class| of_class(class)).collect::<Result<Vec<_>, _>>()?;
                let cases = baselines.into_iter().flatten().filter_map(|mut baseline| baseline.cases.remove(case));
                cases.max_by_key(|case| (case.reference.is_some(), case.recorded_at.clone()))
            }
            (None, _) => None,
        };
        let Some(case) = found else { return Ok(None) };
        let Some(name) = &case.reference else {
            return Err(format!(
                "its baseline does not say which machines it was measured on: `{} baseline-update {}` makes one that does",
                program::name(),
                scenario.id()
            ));
        };
        self.store.reference(name).map(Some).map_err(|error| format!("{error:#}"))
    }

    /// Returns the number of samples that the baseline of a case has of each operation.
    #[must_use]
    pub fn samples(&self, scenario: &Scenario, case: &str) -> BTreeMap<String, u32> {
        let operations = self.case(scenario, case).into_iter().flat_map(|case| &case.operations);
        operations.map(|(name, one)| (name.clone(), u32::try_from(one.count()).unwrap_or(u32::MAX))).collect()
    }

    /// Judges the operations of a case, which is called `name` in its scenario. Without a baseline, all are listed as inconclusive.
    #[must_use]
    pub fn judge(&self, case: &CaseId, scenario: &Scenario, name: &str, operations: &Operations) -> Vec<Comparison> {
        if let Some(baseline) = self.case(scenario, name) {
            return against(case, &baseline.operations, operations, &scenario.operations);
        }
        let (id, class) = (scenario.id(), &self.class);
        let (because, missing) = match self.scenarios.get(&id) {
            Some(Found::Elsewhere(classes)) if !classes.is_empty() => {
                let classes = classes.join(", ");
                (
                    format!(
                        "nothing to compare with: this machine is of class {class}, and the baselines are of {classes}"
                    ),
                    false,
                )
            }
            _ => (format!("there is no baseline: `{} baseline-update {id}` makes one", program::name()), true),
        };
        operations.keys().map(|name| unjudged(case, name, 0, &because, missing)).collect()
    }
}

/// New baseline of a scenario, made from the times of a run.
#[derive(Debug)]
pub struct Update {
    /// Baseline with the new times of the run's cases, and the old times of the scenario's other cases.
    pub baseline: Baseline,
    /// Reference that the new cases name.
    pub reference: Reference,
    /// Comparisons of the new times with the old ones, for cases that had old ones.
    pub comparisons: Vec<Comparison>,
}

impl Update {
    /// Makes the new baseline of a scenario from what a run has measured on this host, on the machines of the reference. The inner error
    /// says why the run gives no baseline.
    ///
    /// # Errors
    /// [`Error::BadFile`] for an old baseline that cannot be used.
    pub fn of(
        store: &Store,
        scenario: &Scenario,
        machine: &KnownMachine,
        record: &RunRecord,
        measured: &BTreeMap<CaseId, Operations>,
        reference: Reference,
    ) -> anyhow::Result<Result<Self, String>> {
        let id = scenario.id();
        let results = || record.cases.iter().filter(|result| result.case.0.split(':').next() == Some(&id));
        if let Some(bad) = results().find(|result| result.verdict != record::Verdict::Passed) {
            return Ok(Err(format!("{id}: {} did not pass at the first attempt: its times are not stored", bad.case)));
        }
        let fresh = results().filter_map(|result| measured.get_key_value(&result.case));
        let fresh: Vec<_> = fresh.filter(|(_, operations)| !operations.is_empty()).collect();
        if fresh.is_empty() {
            return Ok(Err(format!("{id}: it has no repeatable operation (`measure_n`)")));
        }
        let old = store.read(&machine.class, &id)?;
        let mut baseline = old.unwrap_or_else(|| Baseline::empty(&id, machine));
        baseline.machine = machine.machine.clone();
        let mut comparisons = Vec::new();
        for (case, operations) in fresh {
            let name = case.0.rsplit(':').next().unwrap_or_default().to_owned();
            let (recorded_at, layers) = (record.started_at.clone(), record.layers.clone());
            let named = Some(reference.name());
            let new = BaselineCase { recorded_at, layers, reference: named, operations: operations.clone() };
            if let Some(old) = baseline.cases.insert(name, new) {
                comparisons.extend(against(case, &old.operations, operations, &scenario.operations));
            }
        }
        // What scenario.toml has no more is gone.
        baseline.cases.retain(|name, _| scenario.cases.iter().any(|case| case.name == *name));
        Ok(Ok(Self { baseline, reference, comparisons }))
    }
}

/// Judges every repeatable operation of a case by its threshold, or the default one. An operation that only one side has is listed as
/// inconclusive, for this reason.
#[must_use]
pub fn against(
    case: &CaseId,
    baseline: &Operations,
    candidate: &Operations,
    thresholds: &BTreeMap<String, Thresholds>,
) -> Vec<Comparison> {
    let names: BTreeSet<&String> = baseline.keys().chain(candidate.keys()).collect();
    let comparisons = names.into_iter().flat_map(|name| match (baseline.get(name), candidate.get(name)) {
        (Some(before), Some(after)) => {
            let thresholds = thresholds.get(name).copied().unwrap_or_default();
            METRICS.map(|metric| judged(case, name, metric, (before, after), thresholds)).to_vec()
        }
        (Some(before), None) => {
            let because = "the baseline has this operation, and this run does not: it was removed, or was not repeated";
            vec![unjudged(case, name, before.count(), because, false)]
        }
        (None, _) => {
            let scenario = case.0.split(':').next().unwrap_or(&case.0);
            let because =
                format!("the baseline has no such operation: `{} baseline-update {scenario}` adds it", program::name());
            vec![unjudged(case, name, 0, &because, true)]
        }
    });
    comparisons.collect()
}

fn unjudged(case: &CaseId, operation: &str, samples: usize, because: &str, missing: bool) -> Comparison {
    Comparison {
        case: case.clone(),
        operation: operation.to_owned(),
        metric: METRICS[0].1.to_owned(),
        way: Way::Committed,
        gates: false,
        missing,
        baseline_samples: Vec::new(),
        was: None,
        verdict: Verdict::inconclusive(samples, because),
    }
}

fn judged(
    case: &CaseId,
    operation: &str,
    (kind, metric, gates): (Kind, &str, bool),
    (before, after): (&Timings, &Timings),
    thresholds: Thresholds,
) -> Comparison {
    Comparison {
        case: case.clone(),
        operation: operation.to_owned(),
        metric: metric.to_owned(),
        way: Way::Committed,
        gates,
        missing: false,
        baseline_samples: before.samples(kind).to_vec(),
        was: None,
        verdict: committed(before, after, kind, thresholds, SEED),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::baseline;
    use super::*;
    use e2e_stats::Decision;

    /// Thirty times around a middle, as samples are.
    fn times(middle: f64) -> Vec<f64> {
        (0..30).map(|place| middle * (1.0 + f64::from(place * 7 % 30) / 100.0)).collect()
    }

    fn case(middle: f64) -> Operations {
        let mut operations = baseline(&times(middle)).cases.remove("default").unwrap().operations;
        let operation = operations.get_mut("query").unwrap();
        operation.calibration_wall_ms = times(10.0);
        operation.calibration_cpu_ms = times(8.0);
        operations
    }

    fn decisions(comparisons: &[Comparison]) -> Vec<(&str, Decision)> {
        comparisons.iter().map(|one| (one.metric.as_str(), one.verdict.decision)).collect()
    }

    #[test]
    fn the_same_work_is_unchanged_and_more_of_it_regressed() {
        let id = CaseId("pipeline/load:default".into());
        let none = BTreeMap::new();
        let same = against(&id, &case(20.0), &case(20.2), &none);
        assert_eq!(decisions(&same), [("cpu_ms", Decision::Unchanged), ("wall_ms", Decision::Unchanged)]);
        let slower = against(&id, &case(20.0), &case(24.0), &none);
        assert_eq!(decisions(&slower), [("cpu_ms", Decision::Regressed), ("wall_ms", Decision::Regressed)]);
        assert_eq!(slower.iter().map(|one| one.gates).collect::<Vec<_>>(), [true, false]);
        let coarse = BTreeMap::from([("query".to_owned(), Thresholds::smallest(30.0).unwrap())]);
        let tolerated = against(&id, &case(20.0), &case(24.0), &coarse);
        assert!(tolerated.iter().all(|one| one.verdict.decision == Decision::Unchanged), "{tolerated:?}");
    }

    #[test]
    fn what_only_one_side_has_is_listed() {
        let id = CaseId("pipeline/load:default".into());
        let mut other = case(20.0);
        let query = other.remove("query").unwrap();
        other.insert("insert".into(), query);
        let comparisons = against(&id, &case(20.0), &other, &BTreeMap::new());
        let shown: Vec<_> = comparisons.iter().map(|one| (one.operation.as_str(), one.missing)).collect();
        assert_eq!(shown, [("insert", true), ("query", false)]);
        assert!(comparisons[0].verdict.because.contains("cargo xtask baseline-update pipeline/load"));
        assert!(comparisons[1].verdict.because.contains("was removed"));
    }

    #[test]
    fn fixed_work_that_no_number_can_sum_up_is_told_with_its_operation() {
        let mut slow = case(20.0);
        slow.get_mut("query").unwrap().calibration_cpu_ms = times(f64::MAX / 1.5);
        let found = &against(&CaseId("pipeline/load:default".into()), &case(20.0), &slow, &BTreeMap::new())[0];
        let told = crate::record::human::comparison(found);
        let expected = "the mean of the lowest fifth of the candidate's fixed work is inf";
        assert!(
            told.starts_with("inconclusive pipeline/load:default query cpu_ms:") && told.contains(expected),
            "{told}"
        );
    }

    #[test]
    fn too_few_samples_are_inconclusive() {
        let id = CaseId("pipeline/load:default".into());
        let few = baseline(&[20.0, 21.0]).cases.remove("default").unwrap().operations;
        let comparisons = against(&id, &case(20.0), &few, &BTreeMap::new());
        assert!(comparisons.iter().all(|one| one.verdict.decision == Decision::Inconclusive), "{comparisons:?}");
    }
}
