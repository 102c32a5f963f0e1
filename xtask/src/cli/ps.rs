//! `ps`: shows the labs and containers that exist now.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lab_selector::LabSelector;
use super::{Context, Format, sudo};
use crate::error::EXIT_PASSED;
use crate::fault::{LiveFault, LiveFaults};
use crate::guard::Slot;
use crate::host::invoker::is_root;
use crate::lab::{LiveLab, LiveMachine, MachineState, Used};
use crate::report::terminal::println;

/// Interval between the two readings of processor time from which the processor usage is computed.
const SAMPLE: Duration = Duration::from_millis(200);

/// List live labs and their containers.
///
/// Shows the state, resource usage and active faults of each.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    lab: LabSelector,
}

/// State and resource usage of a container at one moment.
struct Row {
    state: MachineState,
    used: Option<Used>,
    cpu_percent: Option<f64>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let labs = args.lab.labs()?;
    let rows = look(&labs);
    if context.format == Format::Json {
        let shown: Vec<Value> = labs.iter().zip(&rows).map(|(lab, rows)| as_json(lab, rows)).collect();
        println!("{:#}", json!({ "format_version": 1, "labs": shown }));
        return Ok(EXIT_PASSED);
    }
    if labs.is_empty() {
        println!("there is no live lab");
    }
    for (lab, rows) in labs.iter().zip(&rows) {
        show(lab, rows);
    }
    Ok(EXIT_PASSED)
}

fn look(labs: &[LiveLab]) -> Vec<Vec<Row>> {
    let machines = || labs.iter().flat_map(|lab| &lab.machines);
    let (begun, first): (_, Vec<_>) = (Instant::now(), machines().map(LiveMachine::used).collect());
    if !first.is_empty() {
        std::thread::sleep(SAMPLE); // the distance between two looks is what makes a share
    }
    let mut first = first.into_iter();
    let row = |machine: &LiveMachine, before: Option<Used>| {
        let (used, passed) = (machine.used(), begun.elapsed());
        // One that was started again in between has used less than before.
        let gained = used.zip(before).and_then(|(now, before)| now.cpu.checked_sub(before.cpu));
        let cpu_percent = gained.map(|gained| gained.as_secs_f64() / passed.as_secs_f64() * 100.0);
        Row { state: machine.state(), used, cpu_percent }
    };
    let mut of_lab = |lab: &LiveLab| lab.machines.iter().map(|machine| row(machine, first.next().flatten())).collect();
    labs.iter().map(&mut of_lab).collect()
}

fn show(lab: &LiveLab, rows: &[Row]) {
    println!("slot {}: {}", lab.slot, lab.owner);
    println!(
        "    {:<10} {:<24} {:<14} {:<12} {:<8} {:>6} {:>17} {:>5}",
        "NAME", "ON THE HOST", "ADDRESS", "TEMPLATE", "STATE", "CPU", "MEMORY", "PIDS"
    );
    for (machine, row) in lab.machines.iter().zip(rows) {
        let cpu = row.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%"));
        let memory = row.used.map_or_else(|| "-".to_owned(), |used| memory(&used));
        let processes = row.used.map_or_else(|| "-".to_owned(), |used| used.processes.to_string());
        println!(
            "    {:<10} {:<24} {:<14} {:<12} {:<8} {cpu:>6} {memory:>17} {processes:>5}",
            machine.name, machine.host_name, machine.address, machine.template, row.state
        );
    }
    let faults = LiveFaults::of(&Slot::named(&lab.slot));
    for live in &faults.on {
        let lost = if faults.held { "" } else { " (the process that held it was killed: it ends with the lab)" };
        let reboot = live.reboot.as_ref().map_or_else(String::new, |reboot| format!(" ({reboot})"));
        let LiveFault { fault, container, description, since, .. } = live;
        println!("    fault {fault} on {container} since {since}: {description}{reboot}{lost}");
    }
}

fn memory(used: &Used) -> String {
    const MIB: f64 = 1048576.0;
    let now = used.memory_bytes as f64 / MIB;
    match used.memory_limit_bytes {
        Some(limit) => format!("{now:.1}/{:.0} MiB", limit as f64 / MIB),
        None => format!("{now:.1} MiB"),
    }
}

fn as_json(lab: &LiveLab, rows: &[Row]) -> Value {
    let machine = |(machine, row): (&LiveMachine, &Row)| {
        let used = row.used;
        json!({
            "name": machine.name,
            "host_name": machine.host_name,
            "address": machine.address,
            "template": machine.template,
            "state": row.state,
            "cpu_percent": row.cpu_percent,
            "cpu_s": used.map(|used| used.cpu.as_secs_f64()),
            "memory_bytes": used.map(|used| used.memory_bytes),
            "memory_limit_bytes": used.and_then(|used| used.memory_limit_bytes),
            "processes": used.map(|used| used.processes),
        })
    };
    let machines: Vec<Value> = lab.machines.iter().zip(rows).map(machine).collect();
    // What a run does to its own lab stands in its events.
    let faults = lab.owner.kept.then(|| LiveFaults::of(&Slot::named(&lab.slot)).on);
    json!({
        "slot": lab.slot,
        "owner": lab.owner,
        "goes_in_s": lab.owner.time_left().map(|left| left.as_secs_f64()),
        "machines": machines,
        "faults": faults,
    })
}
