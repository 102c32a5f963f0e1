//! `fault inject`, `fault heal` and `fault list --live`: faults on a lab that stays.

use serde_json::{Value, json};

use super::choice::{InLab, lab_in};
use super::up::require_kept;
use super::{Context, Format, fault_words};
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
    lab: InLab,
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
    lab: InLab,
}

/// Carries `fault inject` out.
///
/// # Errors
/// Bad usage; what this host cannot do; what does not bite.
pub fn inject(args: &InjectArgs, entry: &Entry, context: &Context) -> anyhow::Result<u8> {
    let fault = fault_words::alone(&entry.example, &args.parameters)?;
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
    println!("    bites    {}", live.evidence);
    println!("take it back with: {} fault heal {} --slot {}", program::name(), live.fault, lab.slot);
    Ok(EXIT_PASSED)
}

/// Carries `fault heal` out.
///
/// # Errors
/// Bad usage; a fault that is still there.
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

/// The slot that is named, or the only one with faults.
fn slot_with_faults(lab: &InLab) -> Result<Slot, Error> {
    if let Some(slot) = &lab.slot {
        return Ok(Slot::named(&lab_in(slot)?.slot));
    }
    let slots = lab.labs()?.into_iter().map(|lab| Slot::named(&lab.slot));
    let mut found: Vec<Slot> = slots.filter(|slot| !LiveFaults::of(slot).on.is_empty()).collect();
    match (found.pop(), found.is_empty()) {
        (Some(slot), true) => Ok(slot),
        (Some(_), false) => Err(Error::Usage("faults are on in several labs: --slot N says which is meant".into())),
        (None, _) => Err(Error::Usage(
            "no fault is on in any lab: `cargo xtask fault inject FAULT --on CONTAINER` does one".into(),
        )),
    }
}

/// Carries `fault list --live` out.
///
/// # Errors
/// When the slot that is named has no lab.
pub fn list(lab: &InLab, context: &Context) -> anyhow::Result<u8> {
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
                "    the process that held them was killed: they go with the lab, `{} down --slot {slot}`",
                program::name()
            );
        }
    }
    if found.iter().all(|(_, faults)| faults.on.is_empty()) {
        println!("no fault is on");
    }
    Ok(EXIT_PASSED)
}
