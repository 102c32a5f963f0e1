//! Duet of a case: two labs, with the baseline's templates and with the current ones, in which the same scenario runs at the same time.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::case::run_case;
use super::lockstep::{Lockstep, LockstepPlan, LockstepScope, TIME_IS_UP, comparison};
use super::options::{CaseContext, DuetOptions, RetryBudget};
use super::slot_lease::SlotLease;
use crate::image::{self, LockFile, Replacement};
use crate::manifest::{Origin, Project, Scenario, Template};
use crate::plan::{Plan, PlannedCase};
use crate::record::{Attempt, CaseId, Comparison, Event, Outcome, Performance, Recorder, Sample};
use crate::session::Gate;
use e2e_stats::{Side, Verdict};

/// Maximum runs of a whole case: ten pairs, and ten to confirm a change.
const ROUNDS_MAX: u32 = 20;

/// Retries of a case in a duet: none, because its pairs are the repetitions.
const NO_RETRIES: RetryBudget = RetryBudget { failures: 0, infrastructure: 0 };

/// Contexts of the two sides of a duet, and the duet's options.
pub(super) struct Sides<'a, 'b> {
    pub candidate: &'a CaseContext<'b>,
    pub baseline: &'a CaseContext<'b>,
    pub options: &'a DuetOptions,
    /// Part of the case that is measured in pairs; `None` for all of it.
    pub scope: Option<LockstepScope>,
}

/// Runs a case in both labs, repeatedly if needed; returns the lockstep with the verdicts. The attempts of the candidate are added to those
/// that the case has had.
pub(super) fn run_duet(
    sides: &Sides<'_, '_>,
    planned: &PlannedCase,
    (candidate, baseline): (&mut SlotLease<'_>, &mut SlotLease<'_>),
    attempts: &mut Vec<Attempt>,
) -> anyhow::Result<Arc<Lockstep>> {
    let scenario = &sides.candidate.project.scenarios[planned.scenario];
    let patience = sides.candidate.options.timeout_of(scenario);
    let lockstep = Lockstep::new(LockstepPlan {
        pairs: sides.options.pairs,
        seed: sides.options.seed,
        patience,
        thresholds: scenario.operations.clone(),
        scope: sides.scope.clone(),
    });
    let earlier = u32::try_from(attempts.len()).unwrap_or(u32::MAX - ROUNDS_MAX);
    let of_baseline = PlannedCase {
        id: format!("{}@baseline", planned.id),
        folder: format!("{}/baseline", planned.folder),
        ..planned.clone()
    };
    for round in 1..=ROUNDS_MAX {
        lockstep.next_round();
        let gates: [Arc<dyn Gate>; 2] = [lockstep.side(Side::Baseline), lockstep.side(Side::Candidate)];
        let run = |side: Side, context: &CaseContext<'_>, planned: &PlannedCase, lease: &mut SlotLease<'_>| {
            let context = CaseContext { gate: Some(&gates[usize::from(side == Side::Candidate)]), ..*context };
            let attempt = run_case(&context, planned, earlier + round, NO_RETRIES, lease).map(|(attempt, _)| attempt);
            let how = match &attempt {
                Ok(attempt) => shown(&attempt.outcome),
                Err(error) => format!("{error:#}"),
            };
            lockstep.ended(side, &how);
            attempt
        };
        let (of_candidate, of_baseline) = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(Side::Baseline, sides.baseline, &of_baseline, baseline));
            let candidate = run(Side::Candidate, sides.candidate, planned, candidate);
            (candidate, other.join())
        });
        let of_baseline = of_baseline.map_err(|_| anyhow::anyhow!("the thread of the baseline's lab panicked"))??;
        let of_candidate = of_candidate?;
        let passed = of_candidate.outcome == Outcome::Passed && of_baseline.outcome == Outcome::Passed;
        attempts.push(of_candidate);
        let stop = sides.candidate.interrupt.is_set() || !passed || !sides.options.whole_cases;
        if stop || !lockstep.wants_another_round() {
            break;
        }
    }
    let unpaired = lockstep.unpaired();
    if let Some(why) = lockstep.apart().filter(|why| why != TIME_IS_UP) {
        let message = format!("{}: the two labs stopped measuring in pairs: {why}", planned.id);
        sides.candidate.recorder.record(Event::Warning { message });
    }
    if unpaired > 0 && !lockstep.is_over() {
        let message =
            format!("{}: {unpaired} samples had no partner in the other lab, and were not compared", planned.id);
        sides.candidate.recorder.record(Event::Warning { message });
    }
    Ok(lockstep)
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".into(),
        Outcome::Failed { cause } => cause.to_string(),
        Outcome::Infrastructure { message, .. } => message.clone(),
        Outcome::Interrupted => "interrupted".into(),
    }
}

/// Returns the comparisons of a case whose layers and machine settings are identical in baseline and candidate, so that it ran only once:
/// each metric of each operation is unchanged. With `whole_cases`, operations without repetitions are compared too.
pub(super) fn of_same_sides(case: &CaseId, performance: &Performance, whole_cases: bool) -> Vec<Comparison> {
    let measured = performance.operations.iter().filter(|(_, one)| !one.samples.is_empty());
    let wanted = measured.filter(|(_, one)| whole_cases || one.planned > 1);
    let compared = wanted.flat_map(|(name, one)| {
        let is_known = |metric: &&str| one.samples.iter().all(|sample| sample.metric(metric).is_some());
        let metrics = Sample::METRICS.into_iter().filter(is_known);
        metrics.map(|metric| comparison(case, name, metric, Verdict::of_same_sides()))
    });
    compared.collect()
}

/// Differences between the machines of the two sides.
pub(super) struct Differences {
    /// Differences of layers, of the packages in them, and of the settings of machines, a line each.
    pub lines: Vec<String>,
    /// Templates whose layers and machine settings are identical on both sides.
    same: BTreeSet<String>,
}

impl Differences {
    pub fn between(
        baseline: &Project,
        candidate: &Project,
        plan: &Plan,
        [of_baseline, of_candidate]: [&[Replacement]; 2],
    ) -> anyhow::Result<Self> {
        let wanted = plan.templates(candidate);
        let before = image::status(baseline, &plan.templates(baseline), of_baseline)?;
        let now = image::status(candidate, &wanted, of_candidate)?;
        let (hashes_before, hashes_now) = (
            image::hashes(baseline, &plan.templates(baseline), of_baseline)?,
            image::hashes(candidate, &wanted, of_candidate)?,
        );
        let is_same = |name: &&String| {
            hashes_before.get(*name) == hashes_now.get(*name) && has_same_settings(baseline, candidate, name)
        };
        let same = wanted.iter().filter(is_same).cloned().collect();
        // Hashes themselves: the lock file leaves out those that differ from machine to machine, and this is one machine.
        let layers = now.iter().filter_map(|now| {
            let Some(before) = before.iter().find(|before| before.template == now.template) else {
                return Some(format!("{}: no layer in the baseline, layer {} now", now.template, now.hash));
            };
            (before.hash != now.hash)
                .then(|| format!("{}: layer {} in the baseline, layer {} now", now.template, before.hash, now.hash))
        });
        let side = |what: Option<String>| what.unwrap_or_else(|| "not installed".into());
        let is_layer = |what: &Option<String>| what.as_ref().is_some_and(|what| what.starts_with("layer "));
        let changes = LockFile::of(&before).compare(&now).into_iter();
        let packages = changes
            .filter(|one| !is_layer(&one.locked) && !is_layer(&one.found))
            .map(|one| format!("{}: {} in the baseline, {} now", one.template, side(one.locked), side(one.found)));
        let settings = wanted.iter().filter(|name| !has_same_settings(baseline, candidate, name)).map(|name| {
            format!("{name}: other settings of its machines, such as limits, environment, volumes or probes")
        });
        Ok(Self { lines: layers.chain(packages).chain(settings).collect(), same })
    }

    /// Tells whether all machines of a scenario are the same on both sides.
    pub fn are_none_for(&self, scenario: &Scenario) -> bool {
        scenario.containers.iter().all(|container| self.same.contains(&container.template))
    }
}

/// Tells whether machines of a template, and of those that it is built on, have the same settings on both sides: all that is not part of
/// their layers.
fn has_same_settings(baseline: &Project, candidate: &Project, name: &str) -> bool {
    let mut next = Some(name);
    while let Some(name) = next {
        let (Some(before), Some(now)) = (baseline.templates.get(name), candidate.templates.get(name)) else {
            return false;
        };
        if settings(before) != settings(now) {
            return false;
        }
        next = if let Origin::Template(parent) = &now.from { Some(parent) } else { None };
    }
    true
}

/// Returns a template without the keys that its layer is built from: what is left are the settings of its machines.
fn settings(template: &Template) -> Template {
    Template {
        file: PathBuf::new(),
        from: Origin::Scratch,
        packages: Vec::new(),
        pip: None,
        files: Vec::new(),
        users: Vec::new(),
        run: Vec::new(),
        enable: Vec::new(),
        mask: Vec::new(),
        ..template.clone()
    }
}

/// Records the event with the baseline, the seed and the image differences of a duet.
pub(super) fn announce(recorder: &Arc<Recorder>, options: &DuetOptions, differences: &[String]) {
    let (baseline, differences) = (options.name.clone(), differences.to_vec());
    recorder.record(Event::DuetBegan { baseline, seed: options.seed, differences });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Order;
    use crate::record::Machine;

    #[test]
    fn every_metric_that_the_same_sides_measured_is_unchanged() {
        let machine = Machine {
            cpu_model: "x".into(),
            cores: 2,
            memory_bytes: 1,
            kernel: "x".into(),
            lxc: "x".into(),
            storage: "x".into(),
            cgroup: "v2".into(),
        };
        let mut performance = Performance::new("a/b:c".into(), machine, "x".into());
        let waited = |wait_ms| Some(Sample { wall_ms: 2.0, cpu_ms: 1.0, wait_ms, ..Sample::default() });
        // None has a calibration, as in every duet.
        for (operation, planned, sample) in [
            ("list", 2, waited(Some(0.5))),
            ("list", 2, waited(Some(0.6))),
            ("start", 1, waited(None)),
            ("lost", 2, None),
        ] {
            performance.add(operation, planned, None, sample);
        }
        let found = |whole_cases| {
            let comparisons = of_same_sides(&CaseId("a/b:c".into()), &performance, whole_cases);
            assert!(comparisons.iter().all(|one| one.verdict == Verdict::of_same_sides()), "{comparisons:#?}");
            comparisons.into_iter().map(|one| format!("{} {}", one.operation, one.metric)).collect::<Vec<_>>()
        };
        assert_eq!(found(false), ["list cpu_ms", "list wall_ms", "list wall_minus_wait_ms"]);
        assert_eq!(found(true)[3..], ["start cpu_ms", "start wall_ms"]);
    }

    #[test]
    fn sides_are_the_same_only_where_layers_and_settings_are() {
        let folder = tempfile::tempdir().unwrap();
        let (root, pip) = (folder.path(), "[pip]\nrequirements = 'r.txt'\ntarget = '/opt'\npython = '3.11'\n");
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("e2e.toml", "name = 'x'\n");
        write("tree/pyproject.toml", "");
        for side in ["containers", "before"] {
            write(&format!("{side}/app/template.toml"), &format!("from = 'scratch'\ninit = ['/i']\n{pip}"));
            write(&format!("{side}/app/r.txt"), "a==1 --hash=sha256:aa\n");
            write(&format!("{side}/db/template.toml"), "from = 'scratch'\ninit = ['/i']\n[limits]\nmemory = '8M'\n");
        }
        write("scenarios/c/one/scenario.toml", "description = 'x'\n[containers.app]\n");
        write("scenarios/c/two/scenario.toml", "description = 'x'\n[containers.db]\n");
        let candidate = Project::read(root).unwrap();
        let plan = Plan::make(&candidate, &[], Order::ONCE).unwrap();
        let check = |replacements: &[Replacement], same: [bool; 2], lines: &[&str]| {
            let baseline = candidate.with_containers(&root.join("before")).unwrap();
            let found = Differences::between(&baseline, &candidate, &plan, [&[], replacements]).unwrap();
            assert_eq!([0, 1].map(|scenario| found.are_none_for(&candidate.scenarios[scenario])), same);
            assert!(found.lines.len() == lines.len(), "{:?}", found.lines);
            for (line, start) in found.lines.iter().zip(lines) {
                assert!(line.starts_with(start), "{line}");
            }
        };
        check(&[], [true, true], &[]);
        let one = Replacement { template: "app".into(), package: "a".into(), path: root.join("tree") };
        check(&[one], [false, true], &["app+a: no layer in the baseline, layer "]);
        write("before/db/template.toml", "from = 'scratch'\ninit = ['/i']\n[limits]\nmemory = '9M'\n");
        check(&[], [true, false], &["db: other settings of its machines"]);
        write("before/app/r.txt", "a==2 --hash=sha256:bb\n");
        check(&[], [false, false], &["app: layer ", "db: other settings"]);
    }
}
