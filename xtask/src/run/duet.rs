//! Duet of a case: two labs, with the baseline's templates and with the current ones, in which the same scenario runs at the same time.

use std::sync::Arc;

use super::case::run_case;
use super::lockstep::{Lockstep, LockstepPlan};
use super::options::{CaseContext, DuetOptions, RetryBudget};
use super::slot_lease::SlotLease;
use crate::image::{self, LockFile};
use crate::manifest::Project;
use crate::plan::{Plan, PlannedCase};
use crate::record::{Attempt, CaseId, Comparison, Event, Outcome, Recorder};
use crate::session::Gate;
use e2e_stats::Side;

/// Maximum runs of a whole case: ten pairs, and ten to confirm a change.
const ROUNDS_MAX: u32 = 20;

/// Retries of a case in a duet: none, because its pairs are the repetitions.
const NO_RETRIES: RetryBudget = RetryBudget { failures: 0, infrastructure: 0 };

/// Contexts of the two sides of a duet, and the duet's options.
pub(super) struct Sides<'a, 'b> {
    pub candidate: &'a CaseContext<'b>,
    pub baseline: &'a CaseContext<'b>,
    pub options: &'a DuetOptions,
}

/// Runs a case in both labs, repeatedly if needed; the returned attempts are those of the candidate.
pub(super) fn run_duet(
    sides: &Sides<'_, '_>,
    planned: &PlannedCase,
    (candidate, baseline): (&mut SlotLease<'_>, &mut SlotLease<'_>),
    attempts: &mut Vec<Attempt>,
) -> anyhow::Result<Vec<Comparison>> {
    let scenario = &sides.candidate.project.scenarios[planned.scenario];
    let patience = sides.candidate.options.timeout_of(scenario);
    let lockstep = Lockstep::new(LockstepPlan {
        pairs: sides.options.pairs,
        seed: sides.options.seed,
        patience,
        thresholds: scenario.operations.clone(),
    });
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
            let attempt = run_case(&context, planned, round, NO_RETRIES, lease).map(|(attempt, _)| attempt);
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
    if let Some(why) = lockstep.apart() {
        let message = format!("{}: the two labs stopped measuring in pairs: {why}", planned.id);
        sides.candidate.recorder.record(Event::Warning { message });
    }
    if unpaired > 0 {
        let message =
            format!("{}: {unpaired} samples had no partner in the other lab, and were not compared", planned.id);
        sides.candidate.recorder.record(Event::Warning { message });
    }
    Ok(lockstep.comparisons(&CaseId(planned.id.clone()), sides.options.whole_cases))
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".into(),
        Outcome::Failed { cause } => cause.to_string(),
        Outcome::Infrastructure { message, .. } => message.clone(),
        Outcome::Interrupted => "interrupted".into(),
    }
}

/// Returns the differences between the images of the two sides: layers, and the packages in them.
pub(super) fn differences(baseline: &Project, candidate: &Project, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let of_plan = |project: &Project| image::status(project, &plan.templates(project), &[]);
    let (before, now) = (of_plan(baseline)?, of_plan(candidate)?);
    // Hashes themselves: the lock file leaves out those that differ from machine to machine, and this is one machine.
    let layers = now.iter().filter_map(|now| {
        let before = before.iter().find(|before| before.template == now.template)?;
        (before.hash != now.hash)
            .then(|| format!("{}: layer {} in the baseline, layer {} now", now.template, before.hash, now.hash))
    });
    let side = |what: Option<String>| what.unwrap_or_else(|| "not installed".into());
    let is_layer = |what: &Option<String>| what.as_ref().is_some_and(|what| what.starts_with("layer "));
    let changes = LockFile::of(&before).compare(&now).into_iter();
    let packages = changes.filter(|one| !is_layer(&one.locked) && !is_layer(&one.found));
    let packages =
        packages.map(|one| format!("{}: {} in the baseline, {} now", one.template, side(one.locked), side(one.found)));
    Ok(layers.chain(packages).collect())
}

/// Records the event with the baseline, the seed and the image differences of a duet.
pub(super) fn announce(recorder: &Arc<Recorder>, options: &DuetOptions, differences: &[String]) {
    let (baseline, differences) = (options.name.clone(), differences.to_vec());
    recorder.record(Event::DuetBegan { baseline, seed: options.seed, differences });
}
