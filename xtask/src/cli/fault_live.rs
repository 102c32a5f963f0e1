//! `fault inject`, `fault heal` and `fault list --live`: faults on a kept lab. Also reads a fault's parameters from `NAME=VALUE` arguments.

use e2e_contract::Fault;
use serde_json::{Map, Value, json};

use super::lab_selector::{LabSelector, lab_in};
use super::up::require_kept;
use super::{Context, Format};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED, Error};
use crate::fault::{Entry, HeldFaults, LiveFault, LiveFaults};
use crate::guard::Slot;
use crate::program;
use crate::report::terminal::println;

/// Arguments of `fault inject`.
#[derive(Debug, clap::Args)]
pub struct InjectArgs {
    /// Fault, such as net.isolate.
    pub name: String,
    /// Parameters of the fault.
    #[arg(value_name = "NAME=VALUE")]
    parameters: Vec<String>,
    /// Target container.
    #[arg(long, value_name = "CONTAINER")]
    on: String,
    #[command(flatten)]
    lab: LabSelector,
}

/// Arguments of `fault heal`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["fault", "all"])))]
pub struct HealArgs {
    /// Number of the fault, as `fault inject` and `fault list --live` show it.
    fault: Option<u64>,
    /// Heal all active faults, the last one first.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    lab: LabSelector,
}

pub fn inject(args: &InjectArgs, entry: &Entry, context: &Context) -> anyhow::Result<u8> {
    let fault = alone(&entry.example, &args.parameters)?;
    let (lab, machine) = args.lab.machine(&args.on, context)?;
    let slot = Slot::named(&lab.slot);
    require_kept(&slot)?;
    let live = HeldFaults::begin(slot)?.inject(&machine.name, fault)?;
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "slot": lab.slot, "fault": live }));
        return Ok(EXIT_PASSED);
    }
    println!("fault {}: {} on {}", live.fault, live.description, live.container);
    if let Some(before) = &live.before {
        println!("    before   {before}");
    }
    println!("    effect   {}", live.evidence);
    println!("heal it with: {} fault heal {} --slot {}", program::name(), live.fault, lab.slot);
    Ok(EXIT_PASSED)
}

/// Runs `fault heal`. Faults that could not be healed are printed, with exit code 3.
pub fn heal(args: &HealArgs, context: &Context) -> anyhow::Result<u8> {
    let slot = slot_with_faults(&args.lab)?;
    let on = LiveFaults::of(&slot).on;
    let holder = HeldFaults::find(slot.clone())?;
    let chosen: Vec<u64> = match args.fault {
        Some(number) => vec![number],
        None => on.iter().rev().map(|live| live.fault).collect(),
    };
    let mut healed = Vec::new();
    let mut failures = Vec::new();
    for number in chosen {
        match holder.heal(number) {
            Ok(evidence) => healed.push((number, evidence)),
            // The only one that was asked for: its error is the command's.
            Err(error) if args.fault.is_some() => return Err(error),
            Err(error) => failures.push((number, format!("{error:#}"))),
        }
    }
    if context.format == Format::Json {
        let row = |(number, evidence): &(u64, String)| json!({ "fault": number, "evidence": evidence });
        let lost = |(number, problem): &(u64, String)| json!({ "fault": number, "problem": problem });
        let (healed, failed): (Vec<_>, Vec<_>) =
            (healed.iter().map(row).collect(), failures.iter().map(lost).collect());
        println!("{:#}", json!({ "format_version": 1, "slot": slot.name(), "healed": healed, "failed": failed }));
    } else {
        for (number, evidence) in &healed {
            println!("fault {number} is healed: {evidence}");
        }
        for (number, problem) in &failures {
            println!("fault {number} is NOT healed: {problem}");
        }
        if healed.is_empty() && failures.is_empty() {
            println!("no fault is on in slot {}", slot.name());
        }
    }
    Ok(if failures.is_empty() { EXIT_PASSED } else { EXIT_INFRASTRUCTURE })
}

/// Returns the slot that a flag names; without a flag, the only slot with active faults.
fn slot_with_faults(lab: &LabSelector) -> Result<Slot, Error> {
    if let Some(slot) = &lab.slot {
        return Ok(Slot::named(&lab_in(slot)?.slot));
    }
    let slots = lab.labs()?.into_iter().map(|lab| Slot::named(&lab.slot));
    let mut found: Vec<Slot> = slots.filter(|slot| !LiveFaults::of(slot).on.is_empty()).collect();
    match (found.pop(), found.is_empty()) {
        (Some(slot), true) => Ok(slot),
        (Some(_), false) => Err(Error::Usage("several labs have active faults: choose one with --slot N".into())),
        (None, _) => Err(Error::Usage(
            "no lab has an active fault: `cargo xtask fault inject FAULT --on CONTAINER` injects one".into(),
        )),
    }
}

pub fn list(lab: &LabSelector, context: &Context) -> anyhow::Result<u8> {
    let found: Vec<(String, LiveFaults)> =
        lab.labs()?.into_iter().map(|lab| (lab.slot.clone(), LiveFaults::of(&Slot::named(&lab.slot)))).collect();
    if context.format == Format::Json {
        let labs: Vec<Value> = found
            .iter()
            .map(|(slot, faults)| json!({ "slot": slot, "faults": faults.on, "held": faults.held }))
            .collect();
        println!("{:#}", json!({ "format_version": 1, "labs": labs }));
        return Ok(EXIT_PASSED);
    }
    for (slot, faults) in &found {
        for live in &faults.on {
            let LiveFault { fault, container, description, since, evidence, .. } = live;
            println!("slot {slot}: fault {fault} on {container} since {since}: {description}\n    {evidence}");
            if let Some(reboot) = &live.reboot {
                println!("    {reboot}");
            }
        }
        if !faults.on.is_empty() && !faults.held {
            println!(
                "    the process that held these faults was killed: they end with the lab, `{} down --slot {slot}`",
                program::name()
            );
        }
    }
    if found.iter().all(|(_, faults)| faults.on.is_empty()) {
        println!("no fault is on");
    }
    Ok(EXIT_PASSED)
}

/// Returns a fault with the given parameters; the remaining parameters are those of `example`.
///
/// # Errors
/// [`Error::Usage`] for an argument that is not `NAME=VALUE`, and for a parameter that the fault does not have.
pub(super) fn over_example(example: &Fault, given: &[String]) -> Result<Fault, Error> {
    fault(example, fields(example), given)
}

/// Returns a fault with the given parameters only; `example` supplies the kind of fault.
///
/// # Errors
/// [`Error::Usage`] for an argument that is not `NAME=VALUE`, and for an unknown or missing parameter.
pub(super) fn alone(example: &Fault, given: &[String]) -> Result<Fault, Error> {
    fault(example, Map::from_iter([("name".to_owned(), json!(example.name()))]), given)
}

fn fault(example: &Fault, mut base: Map<String, Value>, given: &[String]) -> Result<Fault, Error> {
    let bad = |message: String| Error::Usage(format!("{}: {message}; an example is: {example}", example.name()));
    let sample = fields(example);
    let mut names = Vec::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            return Err(bad(format!("{text:?} is not a parameter: write NAME=VALUE")));
        };
        let is_text = sample.get(name).is_some_and(Value::is_string);
        let value = match serde_json::from_str::<Value>(value) {
            Ok(value) if !is_text || value.is_object() => value,
            _ => Value::String(value.to_owned()),
        };
        names.push(name);
        base.insert(name.to_owned(), value);
    }
    let made: Fault = serde_json::from_value(Value::Object(base)).map_err(|error| bad(error.to_string()))?;
    // A fault without parameters takes any, and forgets them.
    let taken = fields(&made);
    match names.iter().find(|name| **name == "name" || !taken.contains_key(**name)) {
        Some(unknown) => Err(bad(format!("unknown field `{unknown}`"))),
        None => Ok(made),
    }
}

fn fields(fault: &Fault) -> Map<String, Value> {
    match serde_json::to_value(fault) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use e2e_contract::Partition;

    use super::*;

    type Make = fn(&Fault, &[String]) -> Result<Fault, Error>;

    fn check(make: Make, example: &Fault, given: &[&str], expected: &str) {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        let shown = match make(example, &given) {
            Ok(fault) => fault.to_string(),
            Err(error) => error.to_string(),
        };
        assert!(shown.starts_with(expected), "{shown}\n  expected {expected}");
    }

    #[test]
    fn parameters_are_json_or_text() {
        let rate = Fault::NetRate { kilobits_per_second: 1 };
        let kill = Fault::ProcessKill { command: "x".into() };
        let ring = Fault::NetPartition { shape: Partition::Ring };
        for make in [over_example as Make, alone] {
            check(make, &rate, &["kilobits_per_second=50"], "net.rate kilobits_per_second=50");
            check(make, &kill, &["command=5"], "process.kill command=5");
            let groups = r#"shape={"groups":[["a"],["b"]]}"#;
            check(make, &ring, &[groups], r#"net.partition shape={"groups":[["a"],["b"]]}"#);
            check(make, &Fault::NetReset { port: None }, &["port=80"], "net.reset port=80");
            check(make, &rate, &["x"], "net.rate: \"x\" is not a parameter: write NAME=VALUE");
            check(make, &rate, &["x=1"], "net.rate: unknown field `x`, expected `kilobits");
            check(make, &rate, &["kilobits_per_second=a"], "net.rate: invalid type: string");
            check(make, &Fault::NetIsolate, &[], "net.isolate");
            check(make, &Fault::NetIsolate, &["x=1"], "net.isolate: unknown field `x`");
        }
    }

    #[test]
    fn what_is_not_given_is_the_examples_or_missing() {
        let delay = Fault::NetDelay { delay_ms: 50, jitter_ms: 5, reorder_percent: 0 };
        check(over_example, &delay, &["delay_ms=7"], "net.delay delay_ms=7 jitter_ms=5");
        check(alone, &delay, &["delay_ms=7"], "net.delay delay_ms=7");
        check(alone, &delay, &[], "net.delay: missing field `delay_ms`; an example is: net.delay delay_ms=50");
    }
}
