//! Shrinking: finds a minimal fault schedule that still makes a case fail in the same way, by repeated runs of the case.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::build::ScenarioBinaries;
use super::case::run_case;
use super::chaos::{Schedules, read};
use super::clients;
use super::engine::prepare;
use super::interrupt::Interrupt;
use super::options::{CaseContext, Options, RetryBudget};
use super::slot_lease::SlotLease;
use crate::error::Error;
use crate::fault::{CHAOS_FILE, Schedule, Shrink};
use crate::host::invoker::Invoker;
use crate::image::Image;
use crate::input;
use crate::manifest::Project;
use crate::plan::{Plan, PlannedCase};
use crate::record::{Cause, Outcome, PastRun, Recorder, RunDir, Verdict};

/// Name of the file with the smallest failing schedule so far, in the folder of a shrinking.
pub const SHRUNK_FILE: &str = "shrunk.json";

/// Maximum number of labs for one run of the case; a new lab is tried after an infrastructure error.
const NEW_GROUND_MAX: u32 = 3;

/// Failed case of an earlier run, whose schedule is to be shrunk.
#[derive(Debug)]
pub struct Failure {
    /// Name of the case, without the number of its repetition.
    pub case: String,
    /// Schedule of the faults that were played in the case.
    pub schedule: Schedule,
    pub cause: Cause,
}

/// Limits for the runs of a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    /// Maximum runs of a candidate schedule; no more follow its first failure.
    pub candidate: u32,
    /// Number of runs of the shrunk schedule, whose failure rate is reported.
    pub result: u32,
}

#[derive(Debug, Clone, Serialize)]
pub struct Shrunk {
    /// Smallest schedule that still fails.
    pub schedule: Schedule,
    /// Path of the file with the schedule.
    pub file: std::path::PathBuf,
    /// Number of faults in the original schedule.
    pub faults_before: usize,
    pub candidates: u32,
    /// Number of runs of the case, including those of the shrunk schedule.
    pub runs: u32,
    /// Number of runs of the shrunk schedule that failed like the original.
    pub failed: u32,
    /// Number of runs of the shrunk schedule.
    pub of: u32,
}

impl Failure {
    /// Finds a failed case of a run, with its schedule.
    ///
    /// # Errors
    /// [`Error::Usage`] when the run has no such case, or has several and `case` selects none.
    pub fn find(project: &Project, run: &str, case: Option<&str>) -> anyhow::Result<Self> {
        let PastRun { folder, record } = PastRun::find(&project.root, run)?;
        let failed = record.cases.iter().filter(|result| matches!(result.verdict, Verdict::Failed | Verdict::Flaky));
        let wanted = |id: &str| case.is_none_or(|case| id == case || id.split('#').next() == Some(case));
        let mut found = Vec::new();
        for result in failed.filter(|result| wanted(&result.case.0)) {
            let attempt = result.attempts.iter().find_map(|attempt| match &attempt.outcome {
                Outcome::Failed { cause } => Some((cause.clone(), folder.join(&attempt.folder).join(CHAOS_FILE))),
                _ => None,
            });
            if let Some((cause, file)) = attempt.filter(|(_, file)| input::is_file(file)) {
                let schedule = read(&file)?;
                found.push(Self { case: schedule.case.clone(), schedule, cause });
            }
        }
        found.dedup_by(|one, two| one.case == two.case);
        match found.len() {
            0 => Err(Error::Usage(format!("no case of {run} failed while faults were played")).into()),
            1 => Ok(found.remove(0)),
            _ => {
                let names: Vec<String> = found.into_iter().map(|failure| failure.case).collect();
                Err(Error::Usage(format!("several cases failed: choose one with --case: {}", names.join(", "))).into())
            }
        }
    }
}

/// Shrinks the schedule of a failure. `observe` gets a line for each candidate schedule.
///
/// # Errors
/// When the failure does not recur with the whole schedule; for infrastructure errors.
pub fn shrink(
    project: &Project,
    failure: &Failure,
    tries: Tries,
    options: &Options,
    binaries: &ScenarioBinaries,
    interrupt: &Interrupt,
    observe: &dyn Fn(String),
) -> anyhow::Result<Shrunk> {
    let plan = Plan::make(project, std::slice::from_ref(&failure.case), crate::plan::Order::ONCE)?;
    clients::require_listable(project, &plan)?;
    let invoker = Invoker::find();
    let dir = RunDir::create(&project.root, invoker.clone()).context("making the folder of the shrink's runs")?;
    let recorder = Arc::new(Recorder::new(Vec::new()).masked_by(Arc::clone(options.secrets.masks())));
    let dir = dir.masked_by(Arc::clone(recorder.masks()));
    recorder.write_to(&dir)?;
    let (images, _locks) = prepare(project, &plan, options, &recorder, interrupt, &dir)?;
    let mut workshop = Workshop {
        project,
        failure,
        options,
        binaries,
        interrupt,
        dir: &dir,
        invoker: &invoker,
        recorder: &recorder,
        images: &images,
        planned: plan.cases.first().context("the plan of the failed case is empty")?,
        runs: 0,
    };
    let (before, mut candidates) = (failure.schedule.faults.len(), 0_u32);
    let first = workshop.fails(&failure.schedule, "whole", tries.candidate.max(tries.result))?;
    observe(format!("the whole schedule, {before} faults: {first}"));
    if first.failed == 0 {
        bail!(
            "the failure did not recur in {} runs of the whole schedule: {}\n  the faults may not be its cause, or the failure is \
             rare: --times allows more runs",
            first.of,
            failure.cause
        );
    }
    let mut shrink = Shrink::of(failure.schedule.clone());
    while let Some(candidate) = shrink.propose() {
        candidates += 1;
        let rate = workshop.fails(&candidate, &format!("candidate-{candidates}"), tries.candidate)?;
        shrink.tell(rate.failed > 0);
        observe(format!("candidate {candidates}, {}: {rate}", described(&candidate)));
        dir.write(SHRUNK_FILE, &serde_json::to_vec_pretty(shrink.best())?)?;
    }
    dir.write(SHRUNK_FILE, &serde_json::to_vec_pretty(shrink.best())?)?;
    let mut failed = 0;
    for number in 1..=tries.result {
        failed += workshop.fails(shrink.best(), &format!("result-{number}"), 1)?.failed;
    }
    Ok(Shrunk {
        schedule: shrink.best().clone(),
        file: dir.path().join(SHRUNK_FILE),
        faults_before: before,
        candidates,
        runs: workshop.runs,
        failed,
        of: tries.result,
    })
}

fn described(schedule: &Schedule) -> String {
    let one = |planned: &crate::fault::Planned| format!("{} on {}", planned.fault.name(), planned.container);
    let faults: Vec<String> = schedule.faults.iter().map(one).collect();
    format!(
        "{} ({})",
        if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) },
        faults.join(", ")
    )
}

/// Failure rate of a schedule: runs that failed like the original, of all its runs.
#[derive(Debug, Clone, Copy)]
struct Rate {
    failed: u32,
    of: u32,
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { failed, of } = self;
        if *failed == 0 { write!(f, "passes {of} times") } else { write!(f, "fails, in try {of}") }
    }
}

/// Context that is shared by the runs of all candidate schedules.
struct Workshop<'a> {
    project: &'a Project,
    failure: &'a Failure,
    options: &'a Options,
    binaries: &'a ScenarioBinaries,
    interrupt: &'a Interrupt,
    dir: &'a RunDir,
    invoker: &'a Invoker,
    recorder: &'a Arc<Recorder>,
    images: &'a std::collections::BTreeMap<String, Image>,
    planned: &'a PlannedCase,
    runs: u32,
}

impl Workshop<'_> {
    /// Runs the case with a schedule, at most `times` times, until it fails like the original; the runs' folders are `NAME/NUMBER`.
    fn fails(&mut self, schedule: &Schedule, name: &str, times: u32) -> anyhow::Result<Rate> {
        for number in 1..=times {
            let outcome = self.run(schedule, &format!("{name}/{number}"))?;
            if matches!(&outcome, Outcome::Failed { cause } if same(cause, &self.failure.cause)) {
                return Ok(Rate { failed: 1, of: number });
            }
        }
        Ok(Rate { failed: 0, of: times })
    }

    fn run(&mut self, schedule: &Schedule, folder: &str) -> anyhow::Result<Outcome> {
        let options = Options { schedules: Some(Schedules::of_one(schedule.clone())), ..self.options.clone() };
        let context = CaseContext {
            project: self.project,
            options: &options,
            images: self.images,
            binaries: self.binaries,
            dir: self.dir,
            invoker: self.invoker,
            recorder: self.recorder,
            interrupt: self.interrupt,
            gate: None,
        };
        let retries = RetryBudget { failures: 0, infrastructure: 0 };
        for number in 1..=NEW_GROUND_MAX {
            let planned = PlannedCase { folder: folder.to_owned(), ..self.planned.clone() };
            let mut lease = SlotLease::new(&context);
            let attempt = run_case(&context, &planned, number, retries, &mut lease);
            let unclean = lease.end();
            self.runs += 1;
            let outcome = attempt?.0.outcome;
            if !unclean.is_empty() {
                bail!("{}", unclean.join("\n"));
            }
            match outcome {
                Outcome::Interrupted => return Err(Error::Interrupted.into()),
                Outcome::Infrastructure { host_cause: None, .. } if number < NEW_GROUND_MAX => {}
                Outcome::Infrastructure { message, .. } => bail!("infrastructure error: {message}"),
                outcome => return Ok(outcome),
            }
        }
        bail!("infrastructure errors hid the outcome of the case in {NEW_GROUND_MAX} labs")
    }
}

/// Tells whether two failures are the same: of the same kind, and at the same place of the scenario if they name one.
fn same(one: &Cause, two: &Cause) -> bool {
    let place = |cause: &Cause| match cause {
        Cause::Error { message } | Cause::Panic { message } => {
            let line = message.lines().next().unwrap_or_default();
            line.rsplit_once(" at ").map_or_else(|| line.to_owned(), |(_, place)| place.to_owned())
        }
        Cause::Check { message } => {
            message.rsplit_once(" at ").map_or_else(|| message.clone(), |(_, place)| place.to_owned())
        }
        Cause::ExitStatus { status, .. } => status.to_string(),
        Cause::Signal { signal, .. } => signal.to_string(),
        Cause::Chaos { message } | Cause::Protocol { message } => message.clone(),
        Cause::MachineEnded { container, .. } | Cause::NotReady { container, .. } => container.clone(),
        Cause::TimedOut { .. } => String::new(),
    };
    std::mem::discriminant(one) == std::mem::discriminant(two) && place(one) == place(two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_known_again_by_its_place() {
        let late = |deadline_ms| Cause::TimedOut { deadline_ms, doing: None };
        let check = |message: &str| Cause::Check { message: message.into() };
        assert!(same(&check("rows == 5 [rows = 4] at a/main.rs:7"), &check("rows == 5 [rows = 3] at a/main.rs:7")));
        assert!(!same(&check("rows == 5 at a/main.rs:7"), &check("rows == 5 at a/main.rs:9")));
        assert!(!same(&check("x at a/main.rs:7"), &Cause::Error { message: "x at a/main.rs:7".into() }));
        let error = |message: &str| Cause::Error { message: message.into() };
        assert!(same(
            &error("exec failed at a/main.rs:7\n  looked at x"),
            &error("exec failed at a/main.rs:7\n  at y")
        ));
        assert!(same(&late(1), &late(2)));
    }
}
