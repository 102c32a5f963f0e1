//! Page that compares two runs: verdicts, durations, operations, and the differences of packages, layers and machines.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::densities::{CONFIDENCE, densities, undrawn};
use super::environment::{machine, package};
use super::page::filled;
use super::page::headline;
use super::performance::decision;
use super::words::{Word, change, duration, verdict};
use crate::record::{CaseId, CaseResult, Operation, PastRun, Verdict};
use e2e_stats::{
    CALIBRATION_RUNS, COMMITTED_SAMPLES, Kind, Thresholds, Timings, committed, median, moving_block_length,
    moving_block_ratio,
};

/// Seed of the resampling; fixed, so that the same samples always give the same interval.
const SEED: u64 = 1;

/// Data with which the template of the page is filled.
#[derive(Debug, Serialize)]
struct SideBySide {
    runs: [Head; 2],
    cases: Vec<CaseRow>,
    operations: Vec<OperationRow>,
    /// Reasons why operations are missing, such as a file of a record that cannot be read.
    problems: Vec<String>,
    machine: Vec<Difference>,
    layers: Vec<Difference>,
    packages: Vec<PackageRows>,
}

/// Facts about one of the two runs.
#[derive(Debug, Serialize)]
struct Head {
    letter: &'static str,
    run_id: String,
    headline: String,
    class: &'static str,
    started_at: String,
    duration: String,
}

/// Row of a case that is in one of the runs or in both.
#[derive(Debug, PartialEq, Serialize)]
struct CaseRow {
    name: String,
    verdicts: [Option<Word>; 2],
    durations: [Option<String>; 2],
    ratio: Option<String>,
    /// True if the two runs gave the case different verdicts.
    differs: bool,
}

/// Row of an operation that both runs have measured.
#[derive(Debug, Serialize)]
struct OperationRow {
    case: String,
    operation: String,
    metric: &'static str,
    samples: [usize; 2],
    medians: [String; 2],
    ratio: Option<String>,
    interval: Option<String>,
    word: Option<Word>,
    /// Verdict on the change, or the reason why there is no verdict.
    judged: String,
    drawing: Option<String>,
    undrawn: Option<String>,
}

/// Property whose values differ between the two runs.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    name: String,
    values: [String; 2],
}

/// Packages of a template that differ between the two runs.
#[derive(Debug, PartialEq, Serialize)]
struct PackageRows {
    template: String,
    differences: Vec<Difference>,
}

/// Returns the page that compares two runs as HTML; the first run is the older one or the reference.
pub fn side_by_side(first: &PastRun, second: &PastRun) -> anyhow::Result<String> {
    let runs = [first, second];
    let records = runs.map(|run| &run.record);
    let heads = [("A", first), ("B", second)].map(|(letter, run)| {
        let (headline, class) = headline(&run.record);
        Head {
            letter,
            run_id: run.record.run_id.clone(),
            headline,
            class,
            started_at: run.record.started_at.clone(),
            duration: duration(run.record.duration_ms),
        }
    });
    let machines = records.map(|record| record.machine.as_ref().map(machine).unwrap_or_default());
    let machines = machines.map(|all| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    let (operations, mut problems) = operations(runs)?;
    problems.extend(
        runs.iter()
            .flat_map(|run| run.record.remarks().into_iter().map(|remark| format!("{}: {remark}", run.record.run_id))),
    );
    filled(
        "side_by_side.html",
        SideBySide {
            runs: heads,
            cases: cases(records.map(|record| record.cases.as_slice())),
            operations,
            problems,
            machine: differences(&machines),
            layers: differences(&records.map(|record| record.layers.clone())),
            packages: packages(records.map(|record| &record.packages)),
        },
    )
}

fn cases(both: [&[CaseResult]; 2]) -> Vec<CaseRow> {
    let names: BTreeSet<&str> = both.iter().flat_map(|cases| cases.iter().map(|case| case.case.0.as_str())).collect();
    let by_name = both.map(|cases| cases.iter().map(|case| (case.case.0.as_str(), case)).collect::<HashMap<_, _>>());
    let row = |name: &str| {
        let found = [by_name[0].get(name).copied(), by_name[1].get(name).copied()];
        let took = |case: &CaseResult| case.attempts.last().map(|attempt| attempt.duration_ms);
        let times = found.map(|case| case.and_then(took));
        let verdicts = found.map(|case| case.map(|case| case.verdict));
        CaseRow {
            name: name.to_owned(),
            verdicts: verdicts.map(|it| it.map(verdict)),
            durations: times.map(|time| time.map(duration)),
            ratio: ratio(times[0], times[1]).map(change),
            differs: verdicts[0] != verdicts[1],
        }
    };
    let mut rows: Vec<CaseRow> = names.into_iter().map(row).collect();
    rows.sort_by_key(|row| !row.differs);
    rows
}

fn ratio(first: Option<f64>, second: Option<f64>) -> Option<f64> {
    let ratio = second? / first?;
    ratio.is_finite().then_some(ratio)
}

/// Returns rows for the operations of cases that passed in both runs, sorted by case and name, and the reasons why other operations are
/// missing.
fn operations(runs: [&PastRun; 2]) -> anyhow::Result<(Vec<OperationRow>, Vec<String>)> {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let of_second: HashMap<&CaseId, &CaseResult> = runs[1].record.cases.iter().map(|case| (&case.case, case)).collect();
    let mut read = |run, case| {
        measured(run, case).unwrap_or_else(|error| {
            problems.push(format!("operations of {} are missing: {error:#}", case.case));
            None
        })
    };
    for case in &runs[0].record.cases {
        let Some(other) = of_second.get(&case.case) else { continue };
        let (Some(first), Some(second)) = (read(runs[0], case), read(runs[1], other)) else { continue };
        for (name, operation) in &first {
            if let Some(of_second) = second.get(name) {
                let metrics = [(Kind::Wall, "wall time"), (Kind::Processor, "processor time")];
                for (kind, metric) in metrics {
                    rows.push(operation_row(&case.case.0, name, (kind, metric), [operation, of_second])?);
                }
            }
        }
    }
    Ok((rows, problems))
}

/// Returns the measurements of a case's last attempt by operation; `None` for a case that did not pass.
fn measured(run: &PastRun, case: &CaseResult) -> anyhow::Result<Option<BTreeMap<String, Operation>>> {
    let passed = matches!(case.verdict, Verdict::Passed | Verdict::Flaky);
    let Some(attempt) = case.attempts.last().filter(|_| passed) else { return Ok(None) };
    Ok(run.performance(&attempt.folder)?.map(|performance| performance.operations))
}

fn operation_row(
    case: &str,
    operation: &str,
    (kind, metric): (Kind, &'static str),
    both: [&Operation; 2],
) -> anyhow::Result<OperationRow> {
    let timings = both.map(Operation::timings);
    let samples = [timings[0].samples(kind), timings[1].samples(kind)];
    let medians = samples.map(median);
    let interval = interval(samples);
    let (word, judged) = judged(&timings, kind);
    Ok(OperationRow {
        case: case.to_owned(),
        operation: operation.to_owned(),
        metric,
        samples: [samples[0].len(), samples[1].len()],
        medians: medians.map(|it| it.map_or_else(|| "-".into(), duration)),
        ratio: ratio(medians[0], medians[1]).map(change),
        interval: interval.map(|(low, high)| format!("{} to {}", change(low), change(high))),
        word,
        judged,
        drawing: densities(samples[1], samples[0])?,
        undrawn: undrawn(samples[1], samples[0]),
    })
}

/// Returns the confidence interval of the ratio of the two runs' medians; `None` if a run has fewer than five samples.
fn interval([first, second]: [&[f64]; 2]) -> Option<(f64, f64)> {
    let fewest = first.len().min(second.len());
    if fewest < 5 {
        return None;
    }
    let length = moving_block_length(fewest);
    let (low, high) = moving_block_ratio(first, second, length, CONFIDENCE, SEED, median)?;
    Some((low.exp(), high.exp()))
}

/// Returns the decision on an operation's change and its reason. There is no decision if there are too few samples, or too few runs of the
/// fixed work that measures the machine's own speed.
fn judged([first, second]: &[Timings; 2], kind: Kind) -> (Option<Word>, String) {
    let fewest = first.count().min(second.count());
    let calibrated = first.calibration(kind).len().min(second.calibration(kind).len());
    if fewest < COMMITTED_SAMPLES {
        return (None, format!("not judged: {fewest} of {COMMITTED_SAMPLES} samples"));
    }
    if calibrated < CALIBRATION_RUNS {
        return (None, format!("not judged: {calibrated} of {CALIBRATION_RUNS} runs of the fixed work"));
    }
    let verdict = committed(first, second, kind, Thresholds::default(), SEED);
    (Some(decision(verdict.decision)), verdict.because)
}

/// Returns the properties whose values differ between the two runs, by name.
fn differences(both: &[BTreeMap<String, String>; 2]) -> Vec<Difference> {
    let names: BTreeSet<&String> = both.iter().flat_map(BTreeMap::keys).collect();
    let differing = names.into_iter().filter(|name| both[0].get(*name) != both[1].get(*name));
    let value = |name: &String, side: &BTreeMap<String, String>| side.get(name).cloned().unwrap_or_else(|| "-".into());
    differing
        .map(|name| Difference { name: name.clone(), values: [value(name, &both[0]), value(name, &both[1])] })
        .collect()
}

fn packages(both: [&BTreeMap<String, Vec<String>>; 2]) -> Vec<PackageRows> {
    let templates: BTreeSet<&String> = both.iter().flat_map(|side| side.keys()).collect();
    let of = |template: &String| {
        let side = |all: &BTreeMap<String, Vec<String>>| {
            all.get(template).into_iter().flatten().map(|text| package(text)).collect::<BTreeMap<_, _>>()
        };
        PackageRows { template: template.clone(), differences: differences(&both.map(side)) }
    };
    templates.into_iter().map(of).filter(|rows| !rows.differences.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attempt, Outcome, Sample};

    fn case(name: &str, outcome: Outcome, duration_ms: f64) -> CaseResult {
        let attempt = Attempt { outcome, duration_ms, folder: name.into(), faults: None };
        CaseResult::judge(CaseId(name.into()), vec![attempt])
    }

    #[test]
    fn cases_that_differ_come_first() {
        let first = [case("a", Outcome::Passed, 100.0), case("b", Outcome::Passed, 100.0)];
        let second = [case("a", Outcome::Passed, 110.0), case("b", Outcome::Interrupted, 100.0)];
        let rows = cases([&first, &second]);
        let shown: Vec<(&str, bool, Option<&str>)> =
            rows.iter().map(|row| (row.name.as_str(), row.differs, row.ratio.as_deref())).collect();
        assert_eq!(shown, [("b", true, Some("+0.0 %")), ("a", false, Some("+10.0 %"))]);
        let alone = cases([&first, &second[..1]]);
        assert_eq!((alone[0].name.as_str(), &alone[0].durations[1]), ("b", &None));
    }

    #[test]
    fn only_what_differs_is_listed() {
        let side = |packages: &[&str]| {
            BTreeMap::from([("app".to_owned(), packages.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())])
        };
        let rows = packages([&side(&["nginx=1.0", "curl=7", "old=1"]), &side(&["nginx=1.1", "curl=7", "new=2"])]);
        let shown: Vec<String> =
            rows[0].differences.iter().map(|it| format!("{} {} {}", it.name, it.values[0], it.values[1])).collect();
        assert_eq!(shown, ["new - 2", "nginx 1.0 1.1", "old 1 -"]);
        assert!(packages([&side(&["a=1"]), &side(&["a=1"])]).is_empty());
    }

    #[test]
    fn few_samples_are_not_judged_and_many_are() {
        let operation = |factor: f64, count: u32| {
            let sample = |repetition| {
                let spread = 1.0 + f64::from(repetition * 7 % 10) / 1000.0;
                Sample {
                    repetition,
                    begun_ms: 0.0,
                    wall_ms: 50.0 * factor * spread,
                    cpu_ms: 40.0 * factor * spread,
                    wait_ms: None,
                    calibration: Some(crate::record::Calibration { wall_ms: 10.0 * spread, cpu_ms: 9.0 * spread }),
                    containers: BTreeMap::new(),
                    incomplete: Vec::new(),
                }
            };
            Operation { planned: count, failed: 0, parent: None, samples: (0..count).map(sample).collect() }
        };
        let row = |count| {
            let both = [&operation(1.0, count), &operation(1.2, count)];
            operation_row("c", "query", (Kind::Processor, "processor time"), both).unwrap()
        };
        let many = row(30);
        assert_eq!((many.ratio.as_deref(), many.word.unwrap().text), (Some("+20.0 %"), "worse"));
        assert!(many.interval.is_some() && many.drawing.is_some());
        let few = row(4);
        assert!(few.word.is_none() && few.judged.starts_with("not judged: 4 of 30 samples"), "{}", few.judged);
        assert!(few.interval.is_none());
    }
}
