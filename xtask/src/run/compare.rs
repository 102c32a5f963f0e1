//! A run's samples against committed baselines, and new baselines from a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::baseline::{self, Baseline, BaselineCase, Store};
use crate::error::Error;
use crate::guard::state_dir;
use crate::host::invoker::Invoker;
use crate::manifest::{Project, Scenario};
use crate::perf;
use crate::plan::Plan;
use crate::program;
use crate::record::{CaseResult, Comparison, Performance, RunRecord, Verdict};
use crate::session::Repeats;
use e2e_stats::{COMMITTED_SAMPLES, Thresholds};

/// A scenario's baseline as a run has made it.
#[derive(Debug)]
pub struct Update {
    /// Baseline with the cases of this run; others are unchanged.
    pub baseline: Baseline,
    /// The old values against the new ones, where there were any.
    pub comparisons: Vec<Comparison>,
}

/// Checks that there are baselines to compare with, before a run takes its time.
///
/// # Errors
/// [`Error::Usage`], with the command that makes what is missing, when a scenario of the plan has no baseline on any class of
/// machines; [`Error::BadFile`] for one of this class that cannot be used.
pub fn require_baselines(project: &Project, plan: &Plan) -> anyhow::Result<()> {
    let store = Store::of(&project.root, Invoker::find());
    let class = &perf::this_machine(&state_dir()).class;
    let mut missing = Vec::new();
    for scenario in plan.scenarios(project) {
        let there = store.read(class, &scenario.id())?;
        if there.is_none() && store.classes_of(&scenario.id()).is_empty() {
            missing.push(scenario.id());
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--baseline-compare: there is no baseline of {}\n  help: `cargo xtask baseline-update {}`, or \
         --baseline-missing=allow",
        missing.join(", "),
        missing.join(" ")
    ))
    .into())
}

/// Returns the repetitions of a case's operations: as many of each as its baseline of this machine's class has.
pub(super) fn as_often_as_baseline(project: &Project, scenario: &Scenario, case: &str) -> anyhow::Result<Repeats> {
    let store = Store::of(&project.root, Invoker::find());
    let baseline = store.read(&perf::this_machine(&state_dir()).class, &scenario.id())?;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let operations = baseline.iter().filter_map(|baseline| baseline.cases.get(case)).flat_map(|case| &case.operations);
    let of = operations.map(|(name, one)| (name.clone(), count(one.count()))).collect();
    Ok(Repeats { samples: count(COMMITTED_SAMPLES), over: Duration::ZERO, of })
}

/// Judges every case that passed at once against its baseline of this machine's class.
pub(super) fn compare(
    project: &Project,
    plan: &Plan,
    folder: &Path,
    layers: &BTreeMap<String, String>,
    results: &[CaseResult],
) -> anyhow::Result<Vec<Comparison>> {
    let owner = Invoker::find();
    let store = Store::of(&project.root, owner.clone());
    let mut comparisons = Vec::new();
    for (result, planned) in results.iter().zip(&plan.cases) {
        let scenario = &project.scenarios[planned.scenario];
        let Some(performance) = performance_of(&owner, folder, result)? else { continue };
        let candidate = BaselineCase::of(&performance, "", layers);
        let class = &performance.machine_class;
        let thresholds = thresholds(scenario);
        let found = store.read(class, &scenario.id())?;
        let case = found.as_ref().and_then(|baseline| baseline.cases.get(&planned.case.name));
        comparisons.extend(match case {
            Some(case) => baseline::against(&result.case, case, &candidate, &thresholds),
            None => {
                let classes = store.classes_of(&scenario.id());
                let other = found.is_none() && !classes.is_empty();
                let because = if other {
                    format!("this machine is of class {class}, and there are baselines of {} only", classes.join(", "))
                } else {
                    format!("there is no baseline: `{} baseline-update {}` makes one", program::name(), scenario.id())
                };
                baseline::absent(&result.case, &candidate, &because, !other)
            }
        });
    }
    Ok(comparisons)
}

/// Makes new baselines from a run: one for each scenario whose cases all passed at once. Returns them, and why there is none of the others.
///
/// # Errors
/// When the run's folder, or a baseline that exists, cannot be read.
pub fn updates(
    project: &Project,
    plan: &Plan,
    record: &RunRecord,
    folder: &Path,
) -> anyhow::Result<(Vec<Update>, Vec<String>)> {
    let owner = Invoker::find();
    let store = Store::of(&project.root, owner.clone());
    let (mut updates, mut refused) = (Vec::new(), Vec::new());
    for scenario in plan.scenarios(project) {
        let of_scenario = |result: &&CaseResult| result.case.0.split(':').next() == Some(&scenario.id());
        let results: Vec<&CaseResult> = record.cases.iter().filter(of_scenario).collect();
        let bad = results.iter().find(|result| result.verdict != Verdict::Passed);
        if let Some(bad) = bad {
            refused.push(format!("{}: {} did not pass at once: its times would say nothing", scenario.id(), bad.case));
            continue;
        }
        match update(&owner, &store, scenario, record, folder, &results)? {
            Some(update) => updates.push(update),
            None => refused.push(format!("{}: it has no repeatable operation (`measure_n`)", scenario.id())),
        }
    }
    Ok((updates, refused))
}

fn update(
    owner: &Invoker,
    store: &Store,
    scenario: &Scenario,
    record: &RunRecord,
    folder: &Path,
    results: &[&CaseResult],
) -> anyhow::Result<Option<Update>> {
    let thresholds = thresholds(scenario);
    let mut baseline: Option<Baseline> = None;
    let mut comparisons = Vec::new();
    for result in results {
        let Some(performance) = performance_of(owner, folder, result)? else { continue };
        let case = BaselineCase::of(&performance, &record.started_at, &record.layers);
        if case.operations.is_empty() {
            continue;
        }
        if baseline.is_none() {
            let old = store.read(&performance.machine_class, &scenario.id())?;
            baseline = Some(old.unwrap_or_else(|| Baseline::empty(&scenario.id(), &performance)));
        }
        let Some(baseline) = &mut baseline else { continue };
        let name = result.case.0.rsplit(':').next().unwrap_or_default().to_owned();
        if let Some(old) = baseline.cases.get(&name) {
            comparisons.extend(baseline::against(&result.case, old, &case, &thresholds));
        }
        baseline.machine = performance.machine;
        baseline.cases.insert(name, case);
    }
    Ok(baseline.map(|mut baseline| {
        // What scenario.toml has no more is gone.
        let known: BTreeSet<&String> = scenario.cases.iter().map(|case| &case.name).collect();
        baseline.cases.retain(|name, _| known.contains(name));
        Update { baseline, comparisons }
    }))
}

/// Returns the thresholds of scenario.toml for its operations.
pub(super) fn thresholds(scenario: &Scenario) -> BTreeMap<String, Thresholds> {
    let one = |(name, rule): (&String, &crate::manifest::OperationRule)| {
        Some((name.clone(), Thresholds::smallest(rule.worse_percent).ok()?))
    };
    scenario.operations.iter().filter_map(one).collect()
}

/// Returns the measurements of a case that passed at once.
fn performance_of(owner: &Invoker, folder: &Path, result: &CaseResult) -> anyhow::Result<Option<Performance>> {
    let Some(attempt) = result.attempts.last().filter(|_| result.verdict == Verdict::Passed) else { return Ok(None) };
    let path = folder.join(&attempt.folder).join("performance.json");
    let bytes = owner.read(&path)?;
    let performance = serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(performance))
}
