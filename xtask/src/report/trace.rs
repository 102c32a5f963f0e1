//! `trace.json`: the run in Chrome's trace format, which Perfetto opens. An attempt at a case is a process; the scenario, its
//! operations, its faults and each container are lines of that process; times are microseconds since the run's start.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::problem::{lines, remarks};
use super::process::{Line, Process};
use crate::record::{AttemptEvents, Event, FaultObserved, PastRun, RunEvents, Sampling, Stamped, mark_outcome};

/// Charts of rates, each with its curves: the name of a curve, and the cumulative counter of a machine whose growth is drawn.
const RATES: [(&str, &[(&str, &str)]); 3] = [
    ("network bytes/s", &[("received", "received_bytes"), ("sent", "sent_bytes")]),
    ("disk bytes/s", &[("read", "read_bytes"), ("written", "written_bytes")]),
    ("packets dropped/s", &[("dropped", "dropped_packets")]),
];

pub fn make(run: &PastRun, events: &RunEvents) -> anyhow::Result<String> {
    let mut processes = vec![whole_run(run, events)];
    for (attempt, number) in events.attempts().iter().zip(2..) {
        let mut process = one_attempt(attempt, number);
        match attempt.folder.as_ref().map(|folder| run.performance(folder)).transpose() {
            Ok(performance) => {
                let sampling = performance.flatten().and_then(|performance| performance.sampling);
                sampling.iter().for_each(|sampling| curves(&mut process, sampling));
            }
            Err(error) => {
                let details = json!({"reason": format!("{error:#}")});
                process.happened((0, "case".into()), "case", "no curves", attempt.ended_ms, details);
            }
        }
        processes.push(process);
    }
    let events: Vec<String> = processes.into_iter().flat_map(Process::events).map(|event| event.to_string()).collect();
    let about = json!({
        "run": run.record.run_id,
        "started_at": run.record.started_at,
        "engine_version": run.record.engine_version,
        "command": run.record.command.join(" "),
    });
    Ok(format!(
        "{{\"displayTimeUnit\": \"ms\",\n\"otherData\": {about},\n\"traceEvents\": [\n{}\n]}}\n",
        events.join(",\n")
    ))
}

fn whole_run(run: &PastRun, events: &RunEvents) -> Process {
    let mut process = Process::new(1, &format!("run {}", run.record.run_id));
    let line = |name: &str| (0, name.to_owned());
    process.lasted(line("run"), "run", &run.record.run_id, (0.0, run.record.duration_ms), json!({}));
    for remark in remarks(&run.record, events) {
        process.happened(line("run"), "run", "incomplete", run.record.duration_ms, json!({"reason": remark}));
    }
    for stamped in events.others() {
        let at_ms = stamped.at_ms;
        match &stamped.event {
            Event::LayerBuilt { template, duration_ms, size_bytes } => {
                let details = json!({"size_bytes": size_bytes});
                process.lasted((1, "templates".into()), "template", template, (at_ms - duration_ms, at_ms), details);
            }
            Event::Waiting { reason } => {
                process.happened(line("run"), "run", "waits", at_ms, json!({"reason": lines(reason)}));
            }
            Event::Warning { message } => {
                process.happened(line("run"), "run", "warning", at_ms, json!({"message": lines(message)}));
            }
            _ => {}
        }
    }
    process
}

fn one_attempt(attempt: &AttemptEvents, number: u32) -> Process {
    let name = if attempt.number == 1 {
        attempt.case.0.clone()
    } else {
        format!("{} attempt {}", attempt.case, attempt.number)
    };
    let mut process = Process::new(number, &name);
    let mut open = Open::default();
    for stamped in attempt.events() {
        lab(&mut process, &mut open, stamped, attempt.begun_ms);
        scenario(&mut process, &mut open, stamped);
        faults(&mut process, &mut open, stamped);
    }
    open.end(&mut process, attempt.ended_ms);
    let whole = (attempt.begun_ms, attempt.ended_ms);
    process.lasted((0, "case".into()), "case", &attempt.case.0, whole, json!({"attempt": attempt.number}));
    process
}

/// Spans of a trace whose end has not been seen yet.
#[derive(Default)]
struct Open<'a> {
    steps: Vec<(&'a str, u32, f64)>,
    starts: BTreeMap<&'a str, f64>,
    faults: Vec<(f64, &'a FaultObserved)>,
    chaos: Option<(f64, Value)>,
}

impl Open<'_> {
    /// Ends all open spans at the attempt's end.
    fn end(self, process: &mut Process, at_ms: f64) {
        for (name, depth, begun_ms) in self.steps {
            process.lasted(scenario_line(), "step", name, (begun_ms, at_ms), json!({"depth": depth, "ended": false}));
        }
        for (container, begun_ms) in self.starts {
            process.lasted(container_line(container), "start", "starts", (begun_ms, at_ms), json!({"ready": false}));
        }
        for (begun_ms, fault) in self.faults {
            let details = json!({"fault": fault.fault, "evidence": lines(&fault.evidence), "healed": false});
            process.lasted(fault_line(fault), "fault", &fault.description.to_string(), (begun_ms, at_ms), details);
        }
        if let Some((begun_ms, details)) = self.chaos {
            process.lasted((2, "chaos".into()), "chaos", "chaos", (begun_ms, at_ms), details);
        }
    }
}

fn scenario_line() -> Line {
    (1, "scenario".into())
}

fn fault_line(fault: &FaultObserved) -> Line {
    (4, format!("faults on {}", fault.container))
}

fn container_line(name: &str) -> Line {
    (5, name.to_owned())
}

/// Adds the lab's events: starts of containers, programs that ran in them, the lab's end.
fn lab<'a>(process: &mut Process, open: &mut Open<'a>, stamped: &'a Stamped, begun_ms: f64) {
    let at_ms = stamped.at_ms;
    match &stamped.event {
        Event::ContainerStarted { container, .. } => drop(open.starts.insert(container, at_ms)),
        Event::ContainerReady { container, .. } => {
            let from_ms = open.starts.remove(container.as_str()).unwrap_or(at_ms);
            process.lasted(container_line(container), "start", "starts", (from_ms, at_ms), json!({"ready": true}));
        }
        Event::LabReady { .. } => process.lasted((0, "case".into()), "lab", "lab starts", (begun_ms, at_ms), json!({})),
        Event::LabDown { duration_ms, .. } => {
            process.lasted((0, "case".into()), "lab", "lab goes down", (at_ms - duration_ms, at_ms), json!({}));
        }
        Event::Exec { container, command, status, duration_ms, timed_out, .. } => {
            let details = json!({"command": lines(command), "status": status, "timed_out": timed_out});
            process.lasted(container_line(container), "exec", command, (at_ms - duration_ms, at_ms), details);
        }
        Event::Finding { kind, container, about, detail, expected, .. } => {
            let line = container.as_deref().map_or_else(scenario_line, container_line);
            let details = json!({"about": lines(about), "detail": lines(detail), "expected": expected});
            process.happened(line, "finding", &format!("finding {kind}"), at_ms, details);
        }
        Event::MachineRebooted { container, reboots, expected, .. } => {
            let details = json!({"reboots": reboots, "expected": expected});
            process.happened(container_line(container), "machine", "machine rebooted", at_ms, details);
        }
        Event::MachineEnded { container, detail, expected, .. } => {
            let details = json!({"detail": lines(detail), "expected": expected});
            process.happened(container_line(container), "machine", "machine ended", at_ms, details);
        }
        _ => {}
    }
}

/// Adds the scenario's steps, operations, checks, metrics, messages and files.
fn scenario<'a>(process: &mut Process, open: &mut Open<'a>, stamped: &'a Stamped) {
    let at_ms = stamped.at_ms;
    let mut mark = |category: &'static str, name: &str, details: Value| {
        process.happened(scenario_line(), category, name, at_ms, details);
    };
    match &stamped.event {
        Event::StepStarted { name, depth, .. } => open.steps.push((name, *depth, at_ms)),
        Event::StepEnded { name, depth, passed, duration_ms, .. } => {
            let begun = open.steps.iter().rposition(|(open, at, _)| (open, at) == (&name.as_str(), depth));
            let from_ms = begun.map_or(at_ms - duration_ms, |place| open.steps.remove(place).2);
            process.lasted(scenario_line(), "step", name, (from_ms, at_ms), json!({"depth": depth, "passed": passed}));
        }
        Event::Operation { operation, repetition, duration_ms, succeeded, .. } => {
            let details = json!({"repetition": repetition, "succeeded": succeeded});
            process.lasted((3, "operations".into()), "operation", operation, (at_ms - duration_ms, at_ms), details);
        }
        Event::Check { check, .. } => {
            let word = if check.passed { "ok" } else { "FAILED" };
            let details = json!({"values": lines(&check.values), "meaning": check.message, "passed": check.passed,
                "place": format!("{}:{}", check.file, check.line)});
            mark("check", &format!("check {word}: {}", check.condition), details);
        }
        Event::Invariant { invariant, .. } => {
            let word = if invariant.held { "holds" } else { "DOES NOT HOLD" };
            let details = json!({"kind": invariant.kind, "values": lines(&invariant.values), "looks": invariant.looks,
                "missed": invariant.missed, "place": format!("{}:{}", invariant.file, invariant.line)});
            mark("invariant", &format!("{word}: {}", invariant.name), details);
        }
        Event::Defect { defect, .. } => {
            let details = json!({"outcome": mark_outcome(defect), "failure": defect.failure.as_deref().map(lines),
                "observed": defect.observed.as_deref().map(lines), "place": format!("{}:{}", defect.file, defect.line)});
            mark("defect", &format!("defect {}", defect.defect), details);
        }
        Event::Metric { metric, .. } => {
            mark("metric", &metric.name, json!({"value": metric.value, "unit": metric.unit}));
        }
        Event::Log { level, message, .. } => mark("log", "log", json!({"level": level, "message": lines(message)})),
        Event::Aborted { kind, message, location, .. } => {
            mark("abort", "gives up", json!({"kind": kind, "message": lines(message), "place": location}));
        }
        Event::Artifact { path, size_bytes, .. } => {
            mark("artifact", "artifact", json!({"path": path, "size_bytes": size_bytes}));
        }
        Event::Screenshot { name, url, picture, .. } => {
            mark("picture", &format!("picture {name}"), json!({"url": url, "picture": picture}));
        }
        Event::ScreenshotCompared { name, expected, likeness, .. } => {
            mark("picture", &format!("picture {name} compared"), json!({"expected": expected, "likeness": likeness}));
        }
        _ => {}
    }
}

/// Adds a span for each fault, from the request until its recovery was verified.
fn faults<'a>(process: &mut Process, open: &mut Open<'a>, stamped: &'a Stamped) {
    let at_ms = stamped.at_ms;
    match &stamped.event {
        Event::FaultInjected(observed) => open.faults.push((at_ms - observed.duration_ms, observed)),
        Event::FaultHealed(healed) => {
            let Some(place) = open.faults.iter().position(|(_, observed)| observed.fault == healed.fault) else {
                return;
            };
            let (begun_ms, injected) = open.faults.remove(place);
            let details = json!({"fault": injected.fault, "scheduled": injected.scheduled, "before": injected.before.as_deref().map(lines),
                "bites_after_ms": injected.duration_ms, "evidence": lines(&injected.evidence),
                "heals_in_ms": healed.duration_ms, "healed": lines(&healed.told())});
            process.lasted(
                fault_line(injected),
                "fault",
                &injected.description.to_string(),
                (begun_ms, at_ms),
                details,
            );
        }
        Event::FaultRefused { container, description, reason, scheduled, .. } => {
            let details = json!({"scheduled": scheduled, "reason": lines(reason)});
            let name = format!("refused: {}", description.name());
            process.happened((4, format!("faults on {container}")), "fault", &name, at_ms, details);
        }
        Event::ChaosBegan { profile, seed, faults, length_ms, .. } => {
            let details = json!({"profile": profile, "seed": seed, "faults": faults, "length_ms": length_ms});
            open.chaos = Some((at_ms, details));
        }
        Event::Settled { .. } => {
            if let Some((begun_ms, details)) = open.chaos.take() {
                process.lasted((2, "chaos".into()), "chaos", "chaos", (begun_ms, at_ms), details);
            }
        }
        _ => {}
    }
}

/// Adds the machines' resource usage; cumulative counters become rates per second. While a container is down, its values are 0.
fn curves(process: &mut Process, sampling: &Sampling) {
    let value = |column: Option<&Vec<Option<f64>>>, look: usize| column.and_then(|column| *column.get(look)?);
    for (container, columns) in &sampling.series {
        for (look, at_ms) in sampling.at_ms.iter().enumerate() {
            for (curve, column) in [("memory bytes", "memory_bytes"), ("processes", "processes")] {
                if columns.contains_key(column) {
                    let now = value(columns.get(column), look).unwrap_or(0.0);
                    process.counted(&format!("{container} {curve}"), *at_ms, &[(column, now)]);
                }
            }
            let Some(before) = look.checked_sub(1) else { continue };
            let seconds = (at_ms - sampling.at_ms[before]) / 1e3;
            let rate = |column: &str| {
                let column = columns.get(column);
                let grown = value(column, look).zip(value(column, before)).map_or(0.0, |(now, then)| now - then);
                if seconds > 0.0 { (grown / seconds).max(0.0) } else { 0.0 }
            };
            // Milliseconds of processor time a second, as a share of one processor.
            let cpu = [("programs", rate("cpu_user_ms") / 10.0), ("kernel", rate("cpu_system_ms") / 10.0)];
            process.counted(&format!("{container} cpu percent"), *at_ms, &cpu);
            for (curve, parts) in RATES {
                let values: Vec<(&str, f64)> = parts
                    .iter()
                    .filter(|(_, column)| columns.contains_key(*column))
                    .map(|(name, column)| (*name, rate(column)))
                    .collect();
                if !values.is_empty() {
                    process.counted(&format!("{container} {curve}"), *at_ms, &values);
                }
            }
        }
    }
    for (name, column) in &sampling.host {
        for (at_ms, value) in sampling.at_ms.iter().zip(column) {
            process.counted(&format!("host {name}"), *at_ms, &[(name, value.unwrap_or(0.0))]);
        }
    }
}
