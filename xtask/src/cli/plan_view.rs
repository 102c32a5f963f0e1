//! Output of `e2e --list` and `e2e --dry-run`: the plan of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::Format;
use crate::image::LayerStatus;
use crate::manifest::Project;
use crate::plan::Plan;
use crate::report::terminal::println;
use crate::run::Schedules;

/// Prints the scenarios of a plan with their cases, tags and known defects, for `e2e --list`.
pub fn list(project: &Project, plan: &Plan, format: Format) {
    let scenarios = project.scenarios.iter().enumerate();
    let chosen = scenarios.filter(|(index, _)| plan.cases.iter().any(|case| case.scenario == *index));
    // Two scenarios may come by the same one.
    let defects: BTreeSet<&String> = plan.scenarios(project).flat_map(|scenario| &scenario.defects).collect();
    if format == Format::Json {
        let rows: Vec<_> = chosen
            .map(|(index, scenario)| {
                json!({
                    "scenario": scenario.id(),
                    "description": scenario.description,
                    "tags": scenario.tags,
                    "defects": scenario.defects,
                    "pages": scenario.pages.iter().map(|page| (&page.name, &page.url)).collect::<BTreeMap<_, _>>(),
                    "cases": cases_of(plan, index),
                    "containers": scenario.containers.iter().map(|used| &used.name).collect::<Vec<_>>(),
                })
            })
            .collect();
        let counts = json!({ "scenarios": rows.len(), "defects": defects.len() });
        println!("{:#}", json!({ "format_version": 1, "scenarios": rows, "counts": counts }));
        return;
    }
    for (index, scenario) in chosen {
        println!("{}", scenario.id());
        println!("    {}", scenario.description);
        let cases = cases_of(plan, index);
        let containers: Vec<&str> = scenario.containers.iter().map(|used| used.name.as_str()).collect();
        println!(
            "    cases: {}; containers: {}; tags: {}; known defects: {}",
            cases.join(", "),
            containers.join(", "),
            scenario.tags.join(", "),
            scenario.defects.len()
        );
    }
    println!("in all: scenarios: {}; known defects: {}", plan.scenarios(project).count(), defects.len());
}

/// Returns the names of a scenario's cases in a plan, each name once.
fn cases_of(plan: &Plan, scenario: usize) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for case in plan.cases.iter().filter(|case| case.scenario == scenario) {
        if !names.contains(&case.case.name.as_str()) {
            names.push(&case.case.name);
        }
    }
    names
}

/// Layers, faults and timeout of a run, as `e2e --dry-run` shows them.
pub struct Shown<'a> {
    pub layers: &'a [LayerStatus],
    /// Schedules of the faults that would be injected; `None` for a run without random faults.
    pub schedules: Option<&'a Schedules>,
    /// Timeout that replaces the timeouts of all scenarios; `None` if each scenario keeps its own.
    pub timeout: Option<Duration>,
}

/// Prints what a run would do, for `e2e --dry-run`.
pub fn dry_run(project: &Project, plan: &Plan, shown: &Shown<'_>, format: Format) {
    let Shown { layers, schedules, timeout } = *shown;
    let schedule_of = |id: &str| schedules.and_then(|schedules| schedules.of(id));
    if format == Format::Json {
        let cases: Vec<_> = plan
            .cases
            .iter()
            .map(|case| {
                let scenario = &project.scenarios[case.scenario];
                json!({
                    "case": case.id,
                    "containers": scenario.containers.iter().map(|used| json!({"name": used.name, "template": used.template}))
                        .collect::<Vec<_>>(),
                    "memory_bytes": case.memory_bytes,
                    "timeout_ms": u64::try_from(timeout.unwrap_or(scenario.timeout).as_millis()).unwrap_or(u64::MAX),
                    "schedule": schedule_of(&case.id),
                })
            })
            .collect();
        println!(
            "{:#}",
            json!({ "format_version": 1, "layers": layers, "cases": cases, "shuffle_seed": plan.shuffle_seed })
        );
        return;
    }
    println!("images");
    for layer in layers {
        let state = match &layer.stored {
            Some(record) => format!("cached, {} MiB", record.size_bytes >> 20),
            None if layer.hidden => "only root sees whether it is built".to_owned(),
            None => "to be built".to_owned(),
        };
        println!("    {:<12} {}  {state}", layer.template, layer.hash);
    }
    println!("cases, each in a fresh lab");
    for (number, case) in plan.cases.iter().enumerate() {
        let scenario = &project.scenarios[case.scenario];
        let timeout = humantime::format_duration(timeout.unwrap_or(scenario.timeout));
        println!(
            "{:>4}. {}   up to {} MiB of memory, deadline {timeout}",
            number + 1,
            case.id,
            case.memory_bytes >> 20
        );
        for (position, used) in scenario.containers.iter().enumerate() {
            let address = project.network.host(project.address_octet(&used.name, position));
            println!("        start {} from template {} at {address}", used.name, used.template);
        }
        println!("        wait for their probes, run {}, collect logs, take the lab down", scenario.name);
        for planned in schedule_of(&case.id).iter().flat_map(|schedule| &schedule.faults) {
            let (at, lasts) = (planned.at_ms as f64 / 1e3, planned.duration_ms as f64 / 1e3);
            println!("        break {} from {at:.1} s on, for {lasts:.1} s: {}", planned.container, planned.fault);
        }
    }
    for note in schedules.iter().flat_map(|schedules| &schedules.notes) {
        println!("{note}");
    }
    if let Some(seed) = plan.shuffle_seed {
        println!("order: shuffled with seed {seed}");
    }
}
