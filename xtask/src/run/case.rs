//! One attempt at a case: lab, session, logs, end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use e2e_stats::COMMITTED_SAMPLES;

use super::chaos::fault_counts;
use super::clients;
use super::coverage::{CALLS_LOG, calls_file};
use super::machines::{Position, machine, require_budgets};
use super::not_ready::NotReadyLab;
use super::options::{CaseContext, Comparing, RetryBudget, Samples};
use super::slot_lease::SlotLease;
use crate::error::{Error, HostCause};
use crate::fault::{CHAOS_FILE, ChaosFile, Played, Schedule};
use crate::guard::{Guard, state_dir};
use crate::host::container::lxc;
use crate::host::exec::shell::which;
use crate::host::machine::kmsg::{KernelMessage, KernelWatch, Noted, WATCHED_MAX};
use crate::lab::{Lab, Machine, Moment, WaitError};
use crate::manifest::{ContainerUse, KeepWhen, Scenario};
use crate::plan::PlannedCase;
use crate::record::command_line::carried;
use crate::record::logs::LogLevel;
use crate::record::{
    Attempt, CaseId, Cause, Event, Outcome, Performance, RunDir, as_file_name, milliseconds, readable_json,
};
use crate::session::{self, Breakpoint, Ended, OutputFiles, Repeats, SessionSpec};
use crate::{perf, program};

/// Maximum lines of each log that are shown after a failure.
const LAST_LINES: usize = 8;

/// Maximum characters shown of each log line.
const LAST_LINE_CHARS_MAX: usize = 1000;

/// Bytes read at the end of each log to find its last lines.
const LAST_BYTES: u64 = 256 << 10;

/// Runs one attempt at a case in a new lab; returns its result, and its measurements, if its session ended.
pub(super) fn run_case(
    context: &CaseContext<'_>,
    planned: &PlannedCase,
    number: u32,
    retries: RetryBudget,
    lease: &mut SlotLease<'_>,
) -> anyhow::Result<(Attempt, Option<Performance>)> {
    let guard = lease.guard()?;
    let begun = Instant::now();
    let case = CaseId(planned.id.clone());
    let folder = if number == 1 { planned.folder.clone() } else { format!("{}/attempt-{number}", planned.folder) };
    let recorder = context.recorder;
    context.dir.require()?; // without the run's folder no further case has a record
    recorder.record(Event::CaseStarted { case: case.clone(), attempt: number, folder: Some(folder.clone()) });
    let path = context.dir.path().join(&folder);
    let kernel = KernelWatch::start().ok(); // not every host lets its messages be read
    let containers = &context.project.scenarios[planned.scenario].containers;
    let room =
        require_budgets(context.project, &context.options.slot, containers.iter().map(|used| used.template.as_str()));
    let started = room
        .and_then(|()| context.dir.folder(&format!("{folder}/artifacts")))
        .and_then(|_| write_chaos(context, planned, &folder, Vec::new()))
        .and_then(|()| start_lab(context, planned, &case, &guard));
    let (mut faults, mut measured, mut unkept) = (None, None, Vec::new());
    let (outcome, lab) = match started {
        Ok(lab) => {
            let ready = wait_for_lab(context, &case, &lab);
            if ready.is_ok() {
                lease.had_lab();
            }
            let ended = match ready {
                Err(wait) => of_wait(context, &case, &lab, wait),
                Ok(()) => run_session(context, planned, &case, &folder, &guard, &lab).map(|ended| {
                    match keep_performance(context, &folder, ended.performance) {
                        Ok(performance) => measured = Some(performance),
                        Err(error) => unkept.push(error),
                    }
                    let schedule = schedule_of(context, planned);
                    faults = ended.played.as_deref().map(|played| fault_counts(schedule, played));
                    unkept.extend(ended.played.and_then(|played| write_chaos(context, planned, &folder, played).err()));
                    ended.outcome
                }),
            };
            unkept.extend(keep_logs(context, &folder, &lab).err());
            // The scenario has written there itself, and has read large streams from there.
            unkept.extend(context.dir.mask_below(&format!("{folder}/artifacts")).err());
            (ended.or_else(as_outcome), Some(lab))
        }
        Err(error) => (as_outcome(error), None),
    };
    unkept.extend(write_kernel_log(context.dir, &folder, kernel).err());
    let outcome = outcome.map(|outcome| with_unkept(context, outcome, unkept));
    drop(guard);
    end_lab(context, &case, outcome.as_ref().ok(), retries, lease, lab);
    let outcome = lease.explain(outcome?);
    let duration_ms = milliseconds(begun.elapsed());
    let failed = matches!(outcome, Outcome::Failed { .. } | Outcome::Infrastructure { .. });
    recorder.record(Event::CaseEnded {
        case,
        attempt: number,
        outcome: outcome.clone(),
        duration_ms,
        last_words: if failed { last_words(context, &path, blamed(&outcome)) } else { Vec::new() },
        folder: folder.clone(),
        faults,
    });
    Ok((Attempt { outcome, duration_ms, folder, faults }, measured))
}

fn schedule_of<'a>(context: &'a CaseContext<'_>, planned: &PlannedCase) -> Option<&'a Schedule> {
    context.options.schedules.as_ref()?.of(&planned.id)
}

/// Warns of each failure to write the record, given in `unkept`, and returns the attempt's outcome: with such a failure, a pass becomes an
/// infrastructure error.
fn with_unkept(context: &CaseContext<'_>, outcome: Outcome, unkept: Vec<anyhow::Error>) -> Outcome {
    for error in &unkept {
        context.recorder.record(Event::Warning { message: format!("the record is incomplete: {error:#}") });
    }
    match (outcome, unkept.into_iter().next()) {
        (Outcome::Passed, Some(error)) => {
            let (message, host_cause) = (format!("the record is incomplete: {error:#}"), HostCause::of(&error));
            Outcome::Infrastructure { message, host_cause, failed_check: None }
        }
        (outcome, _) => outcome,
    }
}

/// Writes an attempt's measurements to its folder, with secrets masked; returns them as written.
fn keep_performance(context: &CaseContext<'_>, folder: &str, performance: Performance) -> anyhow::Result<Performance> {
    let performance = context
        .dir
        .masks()
        .typed(performance)
        .context("the measurements hold a secret that cannot be masked in them")?;
    context.dir.write(&format!("{folder}/performance.json"), readable_json(&performance)?.as_bytes())?;
    Ok(performance)
}

/// Writes a case's schedule, if it has one, and the faults played so far, to the case's folder.
fn write_chaos(
    context: &CaseContext<'_>,
    planned: &PlannedCase,
    folder: &str,
    played: Vec<Played>,
) -> anyhow::Result<()> {
    let Some(schedule) = schedule_of(context, planned).cloned() else { return Ok(()) };
    let file = ChaosFile { schedule, played };
    context.dir.write(&format!("{folder}/{CHAOS_FILE}"), &serde_json::to_vec_pretty(&file)?)
}

/// Writes the schedule of a case that was not run, so that a later run can play it.
pub(super) fn keep_schedule(context: &CaseContext<'_>, planned: &PlannedCase) {
    if let Err(error) = write_chaos(context, planned, &planned.folder, Vec::new()) {
        context.recorder.record(Event::Warning { message: format!("{error:#}") });
    }
}

/// Turns an error into an outcome: interrupted, or an infrastructure error. An error of the project's files is returned and ends the run.
fn as_outcome(error: anyhow::Error) -> anyhow::Result<Outcome> {
    match Error::of(&error) {
        Some(Error::Interrupted) => Ok(Outcome::Interrupted),
        Some(Error::Usage(_) | Error::BadFile { .. }) => Err(error),
        Some(_) | None => {
            let (message, host_cause) = (format!("{error:#}"), HostCause::of(&error));
            Ok(Outcome::Infrastructure { message, host_cause, failed_check: None })
        }
    }
}

/// Turns an error of waiting for a lab into an outcome: failed, if the product in a machine is to blame. Otherwise returns the error;
/// if the image lacks something that its template names, that is an error of the project's files.
fn of_wait(context: &CaseContext<'_>, case: &CaseId, lab: &Lab, wait: WaitError) -> anyhow::Result<Outcome> {
    match NotReadyLab::explain(lab, wait) {
        NotReadyLab::Product { cause, end } => {
            if let Some(end) = end {
                context.recorder.record(session::machine_ended(case, &end, false));
            }
            Ok(Outcome::Failed { cause })
        }
        NotReadyLab::Other(error) => Err(error),
    }
}

fn machines(context: &CaseContext<'_>, scenario: &Scenario) -> anyhow::Result<Vec<Machine>> {
    let one = |(index, used): (usize, &ContainerUse)| {
        let host_name = context.options.host_names.get(&used.name);
        let position = Position { name: &used.name, index, slot: &context.options.slot, host_name };
        machine(context.project, context.images, &used.template, position)
    };
    scenario.containers.iter().enumerate().map(one).collect()
}

fn start_lab(
    context: &CaseContext<'_>,
    planned: &PlannedCase,
    case: &CaseId,
    guard: &Arc<Guard>,
) -> anyhow::Result<Arc<Lab>> {
    let machines = machines(context, &context.project.scenarios[planned.scenario])?;
    let observe = |moment: Moment| context.recorder.record(lab_event(case, moment));
    Lab::start(guard, &machines, &observe).map(Arc::new)
}

fn wait_for_lab(context: &CaseContext<'_>, case: &CaseId, lab: &Lab) -> Result<(), WaitError> {
    let observe = |moment: Moment| context.recorder.record(lab_event(case, moment));
    lab.wait_until_ready(&observe, &|| context.interrupt.is_set())?;
    let after_ms = milliseconds(lab.age());
    context.recorder.record(Event::LabReady { case: case.clone(), after_ms });
    Ok(())
}

fn lab_event(case: &CaseId, moment: Moment) -> Event {
    let case = case.clone();
    match moment {
        Moment::Started { container } => Event::ContainerStarted { case, container },
        Moment::Unfiltered { container, missing } => {
            Event::Warning { message: format!("{case}: {container}: {missing}") }
        }
        Moment::Ready { container, after } => Event::ContainerReady { case, container, after_ms: milliseconds(after) },
    }
}

fn run_session(
    context: &CaseContext<'_>,
    planned: &PlannedCase,
    case: &CaseId,
    folder: &str,
    guard: &Guard,
    lab: &Arc<Lab>,
) -> anyhow::Result<Ended> {
    let scenario = &context.project.scenarios[planned.scenario];
    let builds = |progress| context.recorder.record(Event::ScenariosBuild { progress });
    let argv = context.binaries.get(&scenario.name, &builds, &|| context.interrupt.is_set())?;
    let interrupt = context.interrupt.clone();
    let interrupted: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || interrupt.is_set());
    let artifacts_in_run = format!("{folder}/artifacts");
    let monitoring = context.options.monitoring;
    let manifest = scenario.dir.join("scenario.toml");
    let manifest = manifest.strip_prefix(&context.project.root).unwrap_or(&manifest);
    let screenshots_in_run = format!("{folder}/screenshots");
    let repeats = match (&context.options.comparing, monitoring.samples) {
        (_, Some(Samples { least, over })) => Some(Repeats { samples: least, over, of: BTreeMap::new() }),
        (Comparing::Committed { baselines, .. }, None) => {
            let of = baselines.samples(scenario, &planned.case.name);
            Some(Repeats { samples: u32::try_from(COMMITTED_SAMPLES)?, over: Duration::ZERO, of })
        }
        _ => None,
    };
    let spec = SessionSpec {
        case: case.clone(),
        scenario: scenario.id(),
        manifest: manifest.display().to_string(),
        case_name: planned.case.name.clone(),
        params: planned.case.params.clone(),
        defects: scenario.defects.clone(),
        defects_only: context.options.defects_only,
        argv,
        environment: environment(context, scenario),
        working_dir: scenario.dir.clone(),
        fixtures: scenario.dir.join("fixtures"),
        artifacts: context.dir.path().join(&artifacts_in_run),
        artifacts_in_run,
        screenshots_in_run,
        pages: scenario.pages.clone(),
        expects: scenario.expects.clone(),
        // They are meant for the scenario as its author planned it: faults, repetitions and coverage cost something.
        limits: if context.options.schedules.is_some()
            || context.options.defects_only
            || repeats.is_some()
            || context.gate.is_some()
            || context.options.coverage.is_some()
        {
            Vec::new()
        } else {
            scenario.limits.clone()
        },
        chaos: context.options.schedules.as_ref().and_then(|schedules| schedules.spec(scenario, &planned.id)),
        sometimes: scenario.chaos.as_ref().map(|chaos| chaos.sometimes.clone()).unwrap_or_default(),
        history_in_run: format!("{folder}/history.jsonl"),
        machine: perf::this_machine(&state_dir()).clone(),
        rate_hz: monitoring.rate_hz,
        calibrate: monitoring.calibrate,
        repeats,
        gate: context.gate.cloned(),
        breakpoint: context.options.breakpoints.clone().map(|breakpoints| breakpoints as Arc<dyn Breakpoint>),
        output: Arc::new(OutputFiles {
            log: context.dir.file(&format!("{folder}/scenario.log"))?,
            times: context.dir.file(&format!("{folder}/scenario.log.times"))?,
        }),
        dir: context.dir.clone(),
        invoker: context.invoker.clone(),
        timeout: context.options.timeout_of(scenario),
        slot_dir: guard.slot().dir(),
        slot_cgroup: guard.slot().cgroup(),
    };
    session::run(spec, lab, context.recorder, &interrupted)
}

/// Returns the environment variables that a scenario's program gets in addition to the engine's.
fn environment(context: &CaseContext<'_>, scenario: &Scenario) -> Vec<(String, String)> {
    let clients = if scenario.command.is_some() { clients::environment(context.dir) } else { Vec::new() };
    clients.into_iter().chain(context.options.secrets.variables().iter().cloned()).collect()
}

fn keep_logs(context: &CaseContext<'_>, folder: &str, lab: &Lab) -> anyhow::Result<()> {
    for container in lab.containers() {
        let logs = format!("{folder}/containers/{}", container.machine().name);
        for log in container.collect_logs(lab.streams_dir()) {
            if context.options.coverage.is_some() && log.name == CALLS_LOG {
                // It is no log that a person reads.
                if let Ok(calls) = log.content {
                    context.dir.write(&calls_file(folder, &container.machine().name), &calls)?;
                }
                continue;
            }
            let content = log.content.unwrap_or_else(|error| format!("not collected: {error}\n").into_bytes());
            context.dir.write(&format!("{logs}/{}", as_file_name(&log.name)), &content)?;
        }
    }
    Ok(())
}

/// Takes the lab down, or keeps it, if the options say so, and records how to enter it. A lab without an outcome is never kept: an error
/// ends the run.
fn end_lab(
    context: &CaseContext<'_>,
    case: &CaseId,
    outcome: Option<&Outcome>,
    retries: RetryBudget,
    lease: &mut SlotLease<'_>,
    lab: Option<Arc<Lab>>,
) {
    let begun = Instant::now();
    let Some(lab) = lab else { return };
    let keep = match (context.options.keep, outcome) {
        (KeepWhen::Never, _) | (_, None | Some(Outcome::Interrupted)) => false,
        (KeepWhen::Failure, Some(outcome)) => *outcome != Outcome::Passed && !retries.after(outcome),
        (KeepWhen::Always, Some(outcome)) => !retries.after(outcome),
    };
    if keep {
        match lease.keep() {
            Ok(()) => return context.recorder.record(kept_event(context, case, &lab)),
            Err(error) => {
                let message = format!("the lab could not be kept: {error:#}");
                context.recorder.record(Event::Warning { message });
            }
        }
    }
    drop(lab);
    lease.clear();
    context.recorder.record(Event::LabDown { case: case.clone(), duration_ms: milliseconds(begun.elapsed()) });
}

fn kept_event(context: &CaseContext<'_>, case: &CaseId, lab: &Lab) -> Event {
    let sudo = if which("sudo").is_some() { "sudo " } else { "" };
    let names = lab.containers().iter().map(|container| &container.machine().host_name);
    let names = names.zip(lab.containers().iter().map(|container| &container.machine().name));
    let slot = &context.options.slot;
    let root = carried(&context.options.command, &["--root"]);
    let enter = names.map(|(name, short)| {
        let shell = format!("{} shell {short}{root} --slot {slot}", program::name());
        format!("{sudo}lxc-attach -n {name} -- /bin/bash   or   {shell}")
    });
    Event::Kept {
        case: case.clone(),
        enter: enter.collect(),
        remove: format!("{} down{root} --slot {slot}", program::name()),
    }
}

/// Returns the container whose product is to blame, if the outcome names a container.
fn blamed(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { cause: Cause::MachineEnded { container, .. } | Cause::NotReady { container, .. } } => {
            Some(container)
        }
        _ => None,
    }
}

/// Returns the last lines of the scenario's log and of the containers' logs; if a container is to blame, only of that container's.
fn last_words(context: &CaseContext<'_>, folder: &Path, blamed: Option<&str>) -> Vec<String> {
    let mut words = Vec::new();
    let mut logs = vec![folder.join("scenario.log")];
    let containers = blamed.map_or_else(|| folder.join("containers"), |name| folder.join("containers").join(name));
    // Of a journal, its warnings say more than its last lines.
    // Its errors are among these, and the screen shows the console's log.
    let untelling = ["journal.log", "journal-errors.log", "screen.txt"];
    let telling = |entry: &walkdir::DirEntry| {
        entry.file_type().is_file() && !untelling.iter().any(|name| entry.file_name() == *name)
    };
    // The folder is the user's, who may have put a link there.
    let find = || {
        let walk = walkdir::WalkDir::new(containers).sort_by_file_name().into_iter().filter_map(Result::ok);
        Ok(walk.filter(telling).map(walkdir::DirEntry::into_path).collect::<Vec<_>>())
    };
    logs.extend(context.invoker.act(find).unwrap_or_default());
    for log in logs {
        let text =
            String::from_utf8_lossy(&context.invoker.read_end(&log, LAST_BYTES).unwrap_or_default()).into_owned();
        let lines = lxc::error_lines(&text, LAST_LINES);
        if !lines.is_empty() {
            let shown = log.strip_prefix(folder).unwrap_or(&log).display().to_string();
            words.push(format!("{shown}:"));
            let shortened = |line: &&str| line.chars().take(LAST_LINE_CHARS_MAX).collect::<String>();
            words.extend(lines.iter().map(|line| format!("  {}", shortened(line))));
        }
    }
    words
}

/// Name of the file with the messages of the host's kernel during an attempt. Messages do not name a lab, so labs that run at the same time
/// all get them.
const KERNEL_LOG: &str = "kernel.log";

/// Writes the kernel's messages, if there were any, to the folder of an attempt.
fn write_kernel_log(dir: &RunDir, folder: &str, watch: Option<KernelWatch>) -> anyhow::Result<()> {
    let said = watch.map(KernelWatch::end).unwrap_or_default();
    if said.is_empty() {
        return Ok(());
    }
    dir.write(&format!("{folder}/{KERNEL_LOG}"), text_of(&said).as_bytes())
}

fn text_of(said: &[Noted]) -> String {
    let mut text: String = said.iter().map(|(at, message)| line(*at, message)).collect();
    if let Some((at, _)) = said.get(WATCHED_MAX - 1) {
        let message = format!("[only the first {WATCHED_MAX} messages of the kernel are kept]");
        text.push_str(&line(*at, &KernelMessage { priority: 5, text: message }));
    }
    text
}

fn line(at: SystemTime, message: &KernelMessage) -> String {
    let level = LogLevel::of_priority(message.priority);
    format!("{} {level}: {}\n", humantime::format_rfc3339_micros(at), message.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_time_and_level() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_677_625_500);
        let message = KernelMessage { priority: 3, text: "Out of memory: Killed process 1".into() };
        assert_eq!(line(at, &message), "2026-11-26T07:20:25.500000Z error: Out of memory: Killed process 1\n");
        let (one, too_many) = (vec![(at, message.clone())], vec![(at, message); WATCHED_MAX]);
        assert_eq!(text_of(&one).lines().count(), 1);
        assert!(text_of(&too_many).ends_with("[only the first 10000 messages of the kernel are kept]\n"));
    }
}
