//! `up`, `ttl` and `down`: start a lab without a scenario, set the lab's lifetime, and take the lab down.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use humantime::format_duration;
use serde_json::json;

use super::lab_selector::lab_in;
use super::settings::{SlotFlag, slot_word};
use super::{Context, Format, sudo};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED, Error};
use crate::guard::{Guard, Holder, Owner, Reclaimed, Slot, Stay, Wait, lasting_holder, reclaim_dead, slots, take_down};
use crate::host::container::lxc::LOG_PATH;
use crate::host::doctor::require_tools;
use crate::host::exec::shell::which;
use crate::host::invoker::is_root;
use crate::image;
use crate::lab::log_folder::{self, Chosen};
use crate::lab::{LiveLab, LiveMachine};
use crate::manifest::{Project, TimeToLive};
use crate::program;
use crate::report::terminal::println;
use crate::run::{Interrupt, KeptLabSpec, create_kept_lab};

/// Start a kept lab.
///
/// Creates a container of each template, or the containers of a scenario.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask up app db
  cargo xtask up mini mini --name left,right --ttl 2h
  cargo xtask up data_ingestion --slot 2           # a scenario's machines")]
pub struct UpArgs {
    /// Templates, repeated if needed, or one scenario.
    #[arg(value_name = "TEMPLATE|SCENARIO", required = true)]
    what: Vec<String>,
    /// Names of the containers in the lab, by position, instead of their templates'.
    #[arg(long = "name", value_name = "NAMES", value_delimiter = ',')]
    names: Vec<String>,
    /// Lifetime of the lab, such as 2h.
    ///
    /// The lab is removed after this time; with `never` it stays until it is taken down.
    #[arg(long, value_name = "TIME", value_parser = TimeToLive::from_str)]
    ttl: Option<TimeToLive>,
    /// Fail at once when a run holds the slot, instead of waiting for it.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    slot: SlotFlag,
}

/// Set the remaining lifetime of a kept lab.
#[derive(Debug, clap::Args)]
pub struct TtlArgs {
    /// Remaining lifetime, such as 2h, or `never`.
    #[arg(value_name = "TIME", value_parser = parse_stay)]
    stay: Stay,
    /// Slot of the lab.
    #[arg(long, value_name = "N", value_parser = slot_word)]
    slot: Option<String>,
}

/// Take a kept lab down.
///
/// Also removes what a killed guard left, and the logs of the lab's containers.
#[derive(Debug, clap::Args)]
pub struct DownArgs {
    /// Slot of the lab.
    #[arg(long, value_name = "N", value_parser = slot_word, conflicts_with = "all")]
    slot: Option<String>,
    /// Take down every kept lab on this host.
    #[arg(long)]
    all: bool,
}

fn parse_stay(text: &str) -> Result<Stay, String> {
    TimeToLive::from_str(text).map(|ttl| Stay::of(ttl.get()))
}

pub fn up(args: &UpArgs, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let plan = KeptLabSpec::plan(&project, &args.what, &args.names)?;
    if !is_root() {
        return sudo::again();
    }
    let templates: Vec<String> = plan.machines.iter().map(|(_, template)| template.clone()).collect();
    require_tools(&image::uses_to_run(&project, &templates)?)?;
    let interrupt = Interrupt::listen()?;
    let (slot, wait) =
        (args.slot.number(&context.settings).to_string(), if args.no_wait { Wait::Never } else { Wait::UntilFree });
    let stay = Stay::of(args.ttl.unwrap_or(context.settings.ttl.value).get());
    let tell = |line: String| context.terminal.say(&line);
    let standing = create_kept_lab(&project, &plan, (&slot, wait, stay), &interrupt, &tell)?;
    let lab = lab_in(&slot)?;
    let ready_ms = standing.ready_after.as_secs_f64() * 1e3;
    if context.format == Format::Json {
        let machines: Vec<_> = lab.machines.iter().map(described).collect();
        let left_s = lab.owner.time_left().map(|left| left.as_secs());
        let shown = json!({
            "format_version": 1, "slot": lab.slot, "ready_ms": ready_ms, "goes_in_s": left_s, "machines": machines,
        });
        println!("{shown:#}");
    } else {
        show(&lab, standing.ready_after, context);
    }
    Ok(EXIT_PASSED)
}

fn described(machine: &LiveMachine) -> serde_json::Value {
    json!({
        "name": machine.name,
        "host_name": machine.host_name,
        "address": machine.address,
        "template": machine.template,
        "answers": answers(machine),
    })
}

/// Returns the conditions of a container's probes, all of which held when the container became ready.
fn answers(machine: &LiveMachine) -> Vec<String> {
    machine.machine().template.probes.iter().map(|probe| probe.condition.to_string()).collect()
}

fn show(lab: &LiveLab, ready_after: Duration, context: &Context) {
    let (slot, program) = (&lab.slot, program::name());
    let option = if *slot == kept_slot(None, context) { String::new() } else { format!(" --slot {slot}") };
    println!("the lab of slot {slot} is ready after {:.3} s", ready_after.as_secs_f64());
    for machine in &lab.machines {
        let answers = match answers(machine) {
            none if none.is_empty() => "runs programs".to_owned(),
            some => some.join(", "),
        };
        let LiveMachine { name, address, template, host_name, .. } = machine;
        println!("    {name:<10} {address:<14} template {template}: {answers}");
        let sudo = if which("sudo").is_some() { "sudo " } else { "" };
        println!("    {:<10} {program} shell {name}{option}   or   {sudo}lxc-attach -n {host_name}", "");
    }
    if let Some(machine) = lab.machines.first() {
        let name = &machine.name;
        println!("run a program   {program} exec {name}{option} -- COMMAND");
        println!("reach a port    {program} forward {name}:PORT{option}");
    }
    println!("take it down    {program} down{option}");
    if let Some(left) = lab.owner.time_left() {
        println!(
            "it is taken down automatically in {}",
            format_duration(Duration::from_secs(left.as_secs_f64().round() as u64))
        );
    }
}

pub fn ttl(args: &TtlArgs, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let name = kept_slot(args.slot.as_deref(), context);
    let slot = Slot::named(&name);
    require_kept(&slot)?;
    Guard::attach(slot)?.keep(args.stay)?;
    match args.stay {
        Stay::UntilTold => println!("the lab of slot {name} stays until it is taken down"),
        Stay::For(time) => {
            println!("the lab of slot {} is taken down automatically in {}", name, format_duration(time));
        }
    }
    Ok(EXIT_PASSED)
}

pub fn down(args: &DownArgs, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let all: Vec<Slot> = if args.all { slots() } else { vec![Slot::named(&kept_slot(args.slot.as_deref(), context))] };
    let (mut clean, mut done) = (true, false);
    for slot in &all {
        match end(slot)? {
            Ended::Nothing | Ended::InUse(_) if !args.all => require_kept(slot)?,
            Ended::Nothing | Ended::InUse(_) => {}
            Ended::Wholly => done = true,
            Ended::Partly => (clean, done) = (false, true),
        }
    }
    if args.all && !done {
        println!("no lab is kept now");
    }
    Ok(if clean { EXIT_PASSED } else { EXIT_INFRASTRUCTURE })
}

/// Result of taking down the lab in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The slot had no lab.
    Nothing,
    /// A run uses the slot, and nothing was changed.
    InUse(Holder),
    Wholly,
    /// Some of the lab could not be removed.
    Partly,
}

/// Takes down a slot's lab, removes the logs of its containers, and prints the steps. A lab that a running engine uses stays. Kept labs are
/// removed, and so are labs whose guard is gone, and labs whose guard hangs and whose engine is gone.
pub fn end(slot: &Slot) -> anyhow::Result<Ended> {
    let name = slot.name();
    let logged = LiveLab::last_names(slot);
    let holder = lasting_holder(slot)?;
    let mut purpose = None;
    if let Some(holder) = holder {
        if !holder.is_kept() && !holder.is_stuck() {
            return Ok(Ended::InUse(holder));
        }
        match take_down(slot, &holder) {
            Ok(done) => done.iter().for_each(|done| println!("slot {name}: {done}")),
            Err(error) => {
                println!("slot {name}: {error:#}");
                return Ok(Ended::Partly);
            }
        }
        purpose = holder.owner.map(|owner| owner.purpose);
    }
    let mut ended = if purpose.is_some() { Ended::Wholly } else { Ended::Nothing };
    // The guard has removed the slot's folder, unless it was killed or could not take something back.
    for (_, reclaimed) in reclaim_dead(|other| other == slot)? {
        match reclaimed {
            Reclaimed::InUse => {}
            Reclaimed::Cleaned { failures, .. } if !failures.is_empty() => {
                println!("slot {name}: not all could be removed:\n  {}", failures.join("\n  "));
                return Ok(Ended::Partly);
            }
            Reclaimed::Cleaned { folders, .. } => {
                let folders: Vec<String> = folders.iter().map(|folder| format!(" {}", folder.display())).collect();
                println!("slot {name}: the guard was gone; leftovers removed{}", folders.concat());
                ended = Ended::Wholly;
            }
        }
    }
    if let Some(purpose) = purpose {
        println!("slot {name}: the lab of {purpose} is gone");
    }
    let logs = log_folder::remove_all(Path::new(LOG_PATH), Chosen::Slot(name, &logged), &live_names())?;
    if logs > 0 {
        println!("slot {name}: {}", log_folder::removed(logs));
        ended = Ended::Wholly;
    }
    Ok(ended)
}

/// Returns the names on the host of all containers of live labs.
pub fn live_names() -> Vec<String> {
    LiveLab::all().into_iter().flat_map(|lab| lab.machines).map(|machine| machine.host_name).collect()
}

/// Returns the name of the given slot, else of the slot in the settings.
fn kept_slot(named: Option<&str>, context: &Context) -> String {
    named.map_or_else(|| context.settings.slot.value.to_string(), str::to_owned)
}

/// Returns the owner of the kept lab in a slot; `None` if no lab is kept there.
fn kept_owner(slot: &Slot) -> Option<Owner> {
    slot.holder().ok()??.owner.filter(|owner| owner.kept)
}

/// Checks that a lab is kept in a slot.
///
/// # Errors
/// [`Error::Host`] if a run uses the slot, else [`Error::Usage`].
pub fn require_kept(slot: &Slot) -> Result<(), Error> {
    if kept_owner(slot).is_some() {
        return Ok(());
    }
    let Some(holder) = slot.holder().ok().flatten() else { return lab_in(slot.name()).map(drop) };
    Err(Error::Host {
        problem: format!("slot {} has no kept lab: it is in use by {holder}", slot.name()),
        help:
            "end that run, or wait for it; `cargo xtask up TEMPLATE --slot N` starts a lab of your own in another slot"
                .into(),
    })
}
