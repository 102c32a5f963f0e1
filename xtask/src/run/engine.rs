//! Execution of a run, from its plan to its record.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use e2e_stats::{Timings, hold_together};

use super::build::ScenarioBinaries;
use super::case::{keep_schedule, run_case};
use super::clients;
use super::coverage;
use super::duet::{self, Differences, Sides, run_duet};
use super::interrupt::Interrupt;
use super::options::{CaseContext, Comparing, DuetOptions, Options, RetryBudget};
use super::settle::settle;
use super::slot_lease::SlotLease;
use crate::error::{
    EXIT_FAILED, EXIT_INFRASTRUCTURE, EXIT_INTERRUPTED, EXIT_PASSED, EXIT_REGRESSED, EXIT_USAGE, Error, HostCause,
};
use crate::guard::state_dir;
use crate::host::container::ids::Ids;
use crate::host::invoker::Invoker;
use crate::host::patience::{self, Patience};
use crate::image::{self, Image, LayerLocks, Progress, Replacement, ids_of};
use crate::lab::isolation_problems;
use crate::manifest::{Project, Template};
use crate::perf::{self, KnownMachine};
use crate::plan::{Plan, PlannedCase};
use crate::record::{
    Attempt, CaseId, CaseResult, Comparison, Counts, Event, FORMAT_VERSION, LabIds, Outcome, Performance, RECORD_FILE,
    RecordedPart, RecordedPatience, Recorder, RunDir, RunRecord, RunSetup, Verdict, milliseconds,
};

/// Result of a run.
#[derive(Debug)]
pub struct Executed {
    pub record: RunRecord,
    /// Host that the run was on, with its class of machines.
    pub machine: &'static KnownMachine,
    /// Times of the repeated operations of each case that passed at the first attempt.
    pub measured: BTreeMap<CaseId, BTreeMap<String, Timings>>,
}

/// Carries out a plan: the recorder gets each event as it happens, and their fold is the run's record.
///
/// # Errors
/// When the run cannot begin or be recorded. Failed cases are no error: they are in the record. If the record is incomplete, a failure
/// still determines the exit code.
pub fn execute(
    project: &Project,
    plan: &Plan,
    options: &Options,
    binaries: &ScenarioBinaries,
    recorder: &Arc<Recorder>,
    interrupt: &Interrupt,
) -> anyhow::Result<Executed> {
    clients::require_listable(project, plan)?;
    let invoker = Invoker::find();
    let dir = match &options.part {
        Some(part) => part.dir.clone(),
        None => RunDir::create(&project.root, invoker.clone()).context("making the run's folder")?,
    };
    let dir = dir.masked_by(Arc::clone(recorder.masks()));
    recorder.write_to(&dir)?;
    let covered = options.coverage.as_ref().map(|of| coverage::covered_project(project, of, &dir)).transpose()?;
    let project = covered.as_ref().unwrap_or(project);
    let record = record_run(project, plan, options, binaries, recorder, interrupt, (&dir, &invoker));
    // Whoever reads the folder from now on shall not take the run for one that goes on.
    recorder.close();
    record
}

fn record_run(
    project: &Project,
    plan: &Plan,
    options: &Options,
    binaries: &ScenarioBinaries,
    recorder: &Arc<Recorder>,
    interrupt: &Interrupt,
    (dir, invoker): (&RunDir, &Invoker),
) -> anyhow::Result<Executed> {
    let Patience { factor, process_start } = patience::patience();
    recorder.record(Event::RunStarted {
        format_version: FORMAT_VERSION,
        run_id: dir.run_id().to_owned(),
        started_at: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
        cases: u32::try_from(plan.cases.len()).unwrap_or(u32::MAX),
        shuffle_seed: plan.shuffle_seed,
        user: invoker.name.clone(),
        patience: Some(RecordedPatience::of(factor, process_start)),
        setup: Box::new(setup(plan, options)),
    });
    match &options.part {
        Some(part) => recorder.record(Event::Warning { message: part.note.clone() }),
        None => link_log(dir, options, recorder),
    }
    for message in options.schedules.iter().flat_map(|schedules| &schedules.notes) {
        recorder.record(Event::Warning { message: message.clone() });
    }
    for message in isolation_problems() {
        recorder.record(Event::Warning { message });
    }
    let prepared = prepare(project, plan, options, recorder, interrupt, dir);
    let (images, _locks, unprepared) = match prepared {
        Ok((images, locks)) => (images, locks, None),
        Err(error) => (BTreeMap::new(), Vec::new(), Some(error)),
    };
    let machine = perf::this_machine(&state_dir());
    recorder.record(Event::RunPrepared {
        layers: images.iter().map(|(name, image)| (name.clone(), image.hash.clone())).collect(),
        packages: images.iter().map(|(name, image)| (name.clone(), image.packages())).collect(),
        privileged: report_privileged(project, plan, recorder),
        allowed: allowed(project, plan),
        machine: Some(machine.machine.clone()),
        ids: Some(report_ids(project, recorder)),
    });
    let context =
        CaseContext { project, options, images: &images, binaries, dir, invoker, recorder, interrupt, gate: None };
    let Cases { results, comparisons, measured, cleanup_failures, error, .. } = match (&options.comparing, unprepared) {
        (_, Some(error)) => run_none(&context, plan, error),
        (Comparing::Duet(duet), None) => run_duets(&context, plan, duet),
        (Comparing::Nothing | Comparing::Committed { .. }, None) => run_cases(&context, plan),
    };
    for comparison in &comparisons {
        recorder.record(Event::Compared(comparison.clone()));
    }
    let error = error.or_else(|| cover(&context).err());
    // Whoever changed the record has made it no proof of anything.
    let error = error.or_else(|| recorder.check(dir).err().map(anyhow::Error::from));
    let counts = Counts::of(&results);
    let missing_fails = matches!(options.comparing, Comparing::Committed { missing_allowed: false, .. });
    let passed = counts.exit_code() == EXIT_PASSED;
    // No failure of the host that comes after a failure of the product hides it.
    let has_failed = counts.exit_code() == EXIT_FAILED;
    let is_hidden = |error: &anyhow::Error| has_failed && Error::exit_code(error) == EXIT_INFRASTRUCTURE;
    let tell = |error: &anyhow::Error| {
        recorder.record(Event::Warning { message: format!("the record of this run is incomplete: {error:#}") });
    };
    error.iter().filter(|error| is_hidden(error)).for_each(tell);
    let mut unwritten = recorder.take_failure().map(|error| unwritten(error, dir));
    unwritten.iter().filter(|error| is_hidden(error)).for_each(tell);
    let exit_code = match &error {
        Some(error) if !is_hidden(error) => Error::exit_code(error),
        Some(_) => EXIT_FAILED,
        None if interrupt.is_set() => EXIT_INTERRUPTED,
        None if passed && !cleanup_failures.is_empty() => EXIT_INFRASTRUCTURE,
        None if passed && options.fails_when_regressed && comparisons.iter().any(Comparison::fails) => EXIT_REGRESSED,
        None if passed && missing_fails && comparisons.iter().any(|one| one.missing) => EXIT_USAGE,
        None => counts.exit_code(),
    };
    recorder.record(Event::RunEnded {
        counts,
        duration_ms: milliseconds(recorder.elapsed()),
        exit_code,
        cleanup_failures,
        error: error.as_ref().map(|error| format!("{error:#}")),
    });
    // An event that could not be written is why all else is missing: it is told first.
    unwritten = unwritten.or_else(|| recorder.take_failure().map(|error| self::unwritten(error, dir)));
    let record = recorder.run_record();
    let written = dir.write(RECORD_FILE, &serde_json::to_vec_pretty(&record)?);
    match error.or(unwritten).or(written.err()) {
        Some(error) if !is_hidden(&error) => Err(error),
        _ => Ok(Executed { record, machine, measured }),
    }
}

/// Returns the options of a run in the form that its first event has.
fn setup(plan: &Plan, options: &Options) -> RunSetup {
    RunSetup {
        engine_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        command: options.command.clone(),
        chaos_seed: options.schedules.as_ref().and_then(|schedules| schedules.seed),
        compared_with: match &options.comparing {
            Comparing::Nothing => None,
            Comparing::Committed { .. } => Some("baselines".to_owned()),
            Comparing::Duet(duet) => Some(duet.name.clone()),
        },
        part: plan.part.as_ref().map(|part| RecordedPart {
            shard: part.shard.number,
            of: part.shard.of,
            suite: part.suite.clone(),
        }),
        plan: plan.cases.iter().map(|planned| planned.id.clone()).collect(),
    }
}

/// Prepares everything that the cases need: client libraries, and layers, which stay locked until the returned locks are dropped.
pub(super) fn prepare(
    project: &Project,
    plan: &Plan,
    options: &Options,
    recorder: &Recorder,
    interrupt: &Interrupt,
    dir: &RunDir,
) -> anyhow::Result<(BTreeMap<String, Image>, Vec<LayerLocks>)> {
    if plan.scenarios(project).any(|scenario| scenario.command.is_some()) {
        clients::write(dir)?;
    }
    let images = make_images(project, plan, &options.replacements, recorder, interrupt)?;
    let locks = images.values().map(Image::lock_shared).collect::<anyhow::Result<Vec<_>>>()?;
    Ok((images, locks))
}

/// Records which functions of the product were called, where the run collects them.
fn cover(context: &CaseContext<'_>) -> anyhow::Result<()> {
    let Some(of) = &context.options.coverage else { return Ok(()) };
    let record = context.recorder.run_record();
    match coverage::collect(of, context.project, context.images, &record, context.dir)? {
        Some(covered) => context.recorder.record(Event::Covered(covered)),
        None => {
            let message = format!("no coverage: no case has a machine of the template {}", of.template);
            context.recorder.record(Event::Warning { message });
        }
    }
    Ok(())
}

/// Returns the error of a run whose events cannot be written.
fn unwritten(error: std::io::Error, dir: &RunDir) -> anyhow::Error {
    let is_full = error.kind() == std::io::ErrorKind::StorageFull;
    let error = anyhow::Error::new(error).context(format!("writing events to {}", dir.path().display()));
    if is_full { HostCause::Space.error(&error) } else { error }
}

fn link_log(dir: &RunDir, options: &Options, recorder: &Recorder) {
    if let Err(error) = dir.link(&options.working_dir.join("e2e_test.log"), &dir.path().join("e2e_test.log")) {
        recorder.record(Event::Warning { message: format!("{error:#}") });
    }
}

fn report_ids(project: &Project, recorder: &Recorder) -> LabIds {
    let Ids::Shared { reason, .. } = ids_of(project) else { return LabIds::PerSlot };
    let message = format!("all labs of this host share one range of ids: {reason}");
    recorder.record(Event::Warning { message });
    LabIds::Shared
}

/// Returns the parts of the kernel that the templates of a plan allow to their machines, by template.
fn allowed(project: &Project, plan: &Plan) -> BTreeMap<String, Vec<String>> {
    let names = |template: &Template| template.allow.iter().map(|part| part.name().to_owned()).collect::<Vec<_>>();
    let all = plan.templates(project).into_iter();
    let all = all.filter_map(|name| project.templates.get(&name).map(|template| (name, names(template))));
    all.filter(|(_, names)| !names.is_empty()).collect()
}

fn report_privileged(project: &Project, plan: &Plan, recorder: &Recorder) -> Vec<String> {
    let mut names = plan.templates(project);
    names.retain(|name| project.templates.get(name).is_some_and(|template| template.privileged));
    for name in &names {
        let message = format!("containers of template {name} are privileged: root in them is root on this host");
        recorder.record(Event::Warning { message });
    }
    names
}

/// Returns the event for the progress of a layer's build.
#[must_use]
pub fn layer_event(progress: Progress) -> Event {
    match progress {
        Progress::Waiting { template, what } => Event::Waiting { reason: format!("template {template}: {what}") },
        Progress::Building { template, step } => Event::LayerStep { template, step },
        Progress::Built { template, duration, bytes } => {
            Event::LayerBuilt { template, duration_ms: milliseconds(duration), size_bytes: bytes }
        }
    }
}

pub(super) fn make_images(
    project: &Project,
    plan: &Plan,
    replacements: &[Replacement],
    recorder: &Recorder,
    interrupt: &Interrupt,
) -> anyhow::Result<BTreeMap<String, Image>> {
    let observe = |progress: Progress| recorder.record(layer_event(progress));
    image::ensure(project, &plan.templates(project), replacements, &observe, &|| interrupt.is_set())
}

/// Records all cases as skipped, because their images could not be prepared.
fn run_none(context: &CaseContext<'_>, plan: &Plan, error: anyhow::Error) -> Cases {
    let skip = |planned: &PlannedCase| {
        keep_schedule(context, planned);
        let result = CaseResult::judge(CaseId(planned.id.clone()), Vec::new());
        context.recorder.record(Event::CaseJudged { case: result.case.clone(), verdict: result.verdict });
        result
    };
    Cases { results: plan.cases.iter().map(skip).collect(), error: Some(error), ..Cases::default() }
}

/// Runs the cases one after the other. An error that prevents an attempt, or a cause that would make every case fail, ends the run: the
/// remaining cases count as skipped, and the lab in the slot is taken down.
fn run_cases(context: &CaseContext<'_>, plan: &Plan) -> Cases {
    let mut lease = SlotLease::new(context);
    let mut cases = Cases::default();
    for planned in &plan.cases {
        let failed = |result: &&CaseResult| matches!(result.verdict, Verdict::Failed | Verdict::Infrastructure);
        let failures = cases.results.iter().filter(failed).count();
        let enough = context.options.failures_max.is_some_and(|most| failures >= most as usize);
        // A case whose events cannot be written down would run for nothing.
        let enough = enough || is_given_up(context.options) || context.recorder.has_failed();
        let (mut attempts, mut measured) = (Vec::new(), None);
        let may_go_on = !enough && !lease.is_kept() && !context.interrupt.is_set() && !cases.has_ended();
        if may_go_on {
            match run_attempts(context, planned, &mut lease, &mut attempts) {
                Ok(performance) => measured = performance,
                Err(error) => cases.error = Some(error),
            }
            cases.host_cause = host_cause(&attempts);
        } else {
            keep_schedule(context, planned);
        }
        let result = CaseResult::judge(CaseId(planned.id.clone()), attempts);
        context.recorder.record(Event::CaseJudged { case: result.case.clone(), verdict: result.verdict });
        if result.verdict == Verdict::Passed {
            let operations = measured.map_or_else(BTreeMap::new, |performance| performance.repeated());
            if let Comparing::Committed { baselines, .. } = &context.options.comparing {
                let scenario = &context.project.scenarios[planned.scenario];
                let found = baselines.judge(&result.case, scenario, &planned.case.name, &operations);
                cases.comparisons.extend(found);
            }
            cases.measured.insert(result.case.clone(), operations);
        }
        cases.results.push(result);
    }
    let skipped = cases.results.iter().filter(|result| result.verdict == Verdict::Skipped).count();
    if lease.is_kept() && skipped > 0 {
        let message = format!("{skipped} cases were not run: the kept lab holds the slot");
        context.recorder.record(Event::Warning { message });
    }
    if let Comparing::Committed { baselines, settle: Some(options), .. } = &context.options.comparing {
        settle(context, plan, &mut lease, (baselines, options), &mut cases);
    }
    cases.cleanup_failures.extend(lease.end());
    cases.tell_host_cause(context.recorder);
    cases
}

/// Runs each case as a duet, in two labs side by side; a case whose machines are the same on both sides runs once, in one lab.
fn run_duets(context: &CaseContext<'_>, plan: &Plan, duet: &DuetOptions) -> Cases {
    let (options, recorder) = (context.options, context.recorder);
    let prepare = || -> anyhow::Result<_> {
        // What is replaced is of the candidate alone.
        let images = make_images(&duet.baseline, plan, &[], recorder, context.interrupt)?;
        let locks = images.values().map(Image::lock_shared).collect::<anyhow::Result<Vec<_>>>()?;
        Ok((images, locks, Differences::between(&duet.baseline, context.project, plan, [&[], &options.replacements])?))
    };
    let (baseline_images, _locks, differences) = match prepare() {
        Ok(prepared) => prepared,
        Err(error) => return run_none(context, plan, error),
    };
    duet::announce(recorder, duet, &differences.lines);
    // Beside the candidate's: what a person has called its containers is theirs.
    let slot = format!("{}b", options.slot);
    let baseline_options = Options { slot, host_names: BTreeMap::new(), replacements: Vec::new(), ..options.clone() };
    let baseline =
        CaseContext { project: &duet.baseline, options: &baseline_options, images: &baseline_images, ..*context };
    let sides = Sides { candidate: context, baseline: &baseline, options: duet, scope: None };
    let (mut lease, mut baseline_lease) = (SlotLease::new(context), SlotLease::new(&baseline));
    let mut cases = Cases::default();
    for planned in &plan.cases {
        let (mut attempts, mut measured) = (Vec::new(), None);
        let is_same =
            !duet.measures_same_sides && differences.are_none_for(&context.project.scenarios[planned.scenario]);
        let may_go_on = !context.interrupt.is_set() && !cases.has_ended() && !recorder.has_failed();
        if may_go_on && is_same {
            match run_attempts(context, planned, &mut lease, &mut attempts) {
                Ok(performance) => measured = performance,
                Err(error) => cases.error = Some(error),
            }
            cases.host_cause = host_cause(&attempts);
        } else if may_go_on {
            match run_duet(&sides, planned, (&mut lease, &mut baseline_lease), &mut attempts) {
                Ok(lockstep) => {
                    let case = CaseId(planned.id.clone());
                    cases.comparisons.extend(lockstep.comparisons(&case, duet.whole_cases));
                }
                Err(error) => cases.error = Some(error),
            }
            cases.host_cause = host_cause(&attempts);
        }
        let result = CaseResult::judge(CaseId(planned.id.clone()), attempts);
        recorder.record(Event::CaseJudged { case: result.case.clone(), verdict: result.verdict });
        if let Some(performance) = measured.filter(|_| result.verdict == Verdict::Passed) {
            cases.comparisons.extend(duet::of_same_sides(&result.case, &performance, duet.whole_cases));
        }
        cases.results.push(result);
    }
    hold_together(cases.comparisons.iter_mut().map(|one| &mut one.verdict));
    cases.cleanup_failures = lease.end();
    cases.cleanup_failures.extend(baseline_lease.end());
    cases.tell_host_cause(recorder);
    cases
}

/// Results of a run's cases, and the reasons for its end, if any.
#[derive(Default)]
pub(super) struct Cases {
    pub results: Vec<CaseResult>,
    pub comparisons: Vec<Comparison>,
    pub measured: BTreeMap<CaseId, BTreeMap<String, Timings>>,
    pub cleanup_failures: Vec<String>,
    error: Option<anyhow::Error>,
    host_cause: Option<HostCause>,
}

impl Cases {
    /// Tells whether no further case will be tried.
    pub fn has_ended(&self) -> bool {
        self.error.is_some() || self.host_cause.is_some()
    }

    /// Records a warning with the number of skipped cases and their cause on the host, if there are any.
    fn tell_host_cause(&self, recorder: &Recorder) {
        let Some(cause) = self.host_cause else { return };
        let skipped = self.results.iter().filter(|result| result.verdict == Verdict::Skipped).count();
        if skipped > 0 {
            let cases = if skipped == 1 { "1 case was".to_owned() } else { format!("{skipped} cases were") };
            let message =
                format!("{cases} not tried, because every case would fail for the same cause: {}", cause.problem());
            recorder.record(Event::Warning { message });
        }
    }
}

fn host_cause(attempts: &[Attempt]) -> Option<HostCause> {
    attempts.last().and_then(|attempt| attempt.outcome.host_cause()).filter(|cause| cause.meets_every_case())
}

/// Tells whether the person at the prompt of a paused case gave it up.
fn is_given_up(options: &Options) -> bool {
    options.breakpoints.as_ref().is_some_and(|breakpoints| breakpoints.is_given_up())
}

/// Attempts a case until it passes, limited by the retries. One attempt more is allowed after an infrastructure error.
fn run_attempts(
    context: &CaseContext<'_>,
    planned: &PlannedCase,
    lease: &mut SlotLease<'_>,
    attempts: &mut Vec<Attempt>,
) -> anyhow::Result<Option<Performance>> {
    loop {
        let count = |want: fn(&Outcome) -> bool| attempts.iter().filter(|attempt| want(&attempt.outcome)).count();
        let failed = u32::try_from(count(|outcome| matches!(outcome, Outcome::Failed { .. }))).unwrap_or(u32::MAX);
        let retries = RetryBudget {
            failures: context.options.retries.saturating_sub(failed),
            infrastructure: 1_u32.saturating_sub(
                u32::try_from(count(|outcome| matches!(outcome, Outcome::Infrastructure { .. }))).unwrap_or(u32::MAX),
            ),
        };
        let number = u32::try_from(attempts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let (attempt, measured) = run_case(context, planned, number, retries, lease)?;
        let again = retries.after(&attempt.outcome);
        attempts.push(attempt);
        if !again || context.interrupt.is_set() || lease.is_kept() || is_given_up(context.options) {
            return Ok(measured);
        }
    }
}
