//! A case's samples against its baseline.

use std::collections::BTreeMap;

use super::file::BaselineCase;
use crate::program;
use crate::record::{CaseId, Comparison, Way};
use e2e_stats::{Kind, Thresholds, Timings, Verdict, committed};

/// Seed of the intervals: the same samples always give the same ones.
const SEED: u64 = 1;

/// Judged times, with the names of their metrics, and whether a change of it fails a build: other work on the machine hardly shows
/// in processor time, and does in wall time.
const METRICS: [(Kind, &str, bool); 2] = [(Kind::Processor, "cpu_ms", true), (Kind::Wall, "wall_ms", false)];

/// Judges every repeatable operation of a case by the `thresholds` of scenario.toml. An operation that only one side has is listed
/// as inconclusive, with that as the reason.
#[must_use]
pub fn against(
    case: &CaseId,
    baseline: &BaselineCase,
    candidate: &BaselineCase,
    thresholds: &BTreeMap<String, Thresholds>,
) -> Vec<Comparison> {
    let names: std::collections::BTreeSet<&String> =
        baseline.operations.keys().chain(candidate.operations.keys()).collect();
    let comparisons = names.into_iter().flat_map(|name| {
        let (before, after) = (baseline.operations.get(name), candidate.operations.get(name));
        match (before, after) {
            (Some(before), Some(after)) => {
                let thresholds = thresholds.get(name).copied().unwrap_or_default();
                METRICS.map(|metric| judged(case, name, metric, (before, after), thresholds)).to_vec()
            }
            (Some(before), None) => {
                let because =
                    "the baseline has this operation, and this run does not: it was removed, or was not repeated";
                vec![unjudged(case, name, before.count(), because, false)]
            }
            (None, _) => {
                let scenario = case.0.split(':').next().unwrap_or(&case.0);
                let because = format!(
                    "the baseline has no such operation: `{} baseline-update {scenario}` adds it",
                    program::name()
                );
                vec![unjudged(case, name, 0, &because, true)]
            }
        }
    });
    comparisons.collect()
}

/// Returns an inconclusive comparison for each operation of a case that has no baseline to be judged against, with the reason
/// `because`. `missing` stands in each, see [`Comparison::missing`].
#[must_use]
pub fn absent(case: &CaseId, candidate: &BaselineCase, because: &str, missing: bool) -> Vec<Comparison> {
    candidate.operations.keys().map(|name| unjudged(case, name, 0, because, missing)).collect()
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

    fn case(middle: f64) -> BaselineCase {
        let mut case = baseline(&times(middle)).cases.remove("default").unwrap();
        let operation = case.operations.get_mut("query").unwrap();
        operation.calibration_wall_ms = times(10.0);
        operation.calibration_cpu_ms = times(8.0);
        case
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
        let query = other.operations.remove("query").unwrap();
        other.operations.insert("insert".into(), query);
        let comparisons = against(&id, &case(20.0), &other, &BTreeMap::new());
        let shown: Vec<_> = comparisons.iter().map(|one| (one.operation.as_str(), one.missing)).collect();
        assert_eq!(shown, [("insert", true), ("query", false)]);
        assert!(comparisons[0].verdict.because.contains("cargo xtask baseline-update pipeline/load"));
        assert!(comparisons[1].verdict.because.contains("was removed"));
    }

    #[test]
    fn fixed_work_that_no_number_can_sum_up_is_told_with_its_operation() {
        let mut slow = case(20.0);
        slow.operations.get_mut("query").unwrap().calibration_cpu_ms = times(f64::MAX / 1.5);
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
        let few = baseline(&[20.0, 21.0]).cases.remove("default").unwrap();
        let comparisons = against(&id, &case(20.0), &few, &BTreeMap::new());
        assert!(comparisons.iter().all(|one| one.verdict.decision == Decision::Inconclusive), "{comparisons:?}");
    }
}
