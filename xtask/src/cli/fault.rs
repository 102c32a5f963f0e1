//! `cargo xtask fault`: the catalogue of faults, shown and tried; faults on labs that stay are in `fault_live.rs`.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use e2e_contract::Fault;
use serde_json::{Value, json};

use super::choice::InLab;
use super::settings::SlotFlag;
use super::{Context, Format, fault_live, fault_words, sudo};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED, Error};
use crate::fault::{Entry, Observed, catalogue};
use crate::guard::Wait;
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::image;
use crate::manifest::{Project, nearest};
use crate::record::milliseconds;
use crate::report::terminal::Amount;
use crate::run::{Interrupt, Trial, Trials, Tried};

/// Show faults, try them, or do them to a lab that stays.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask fault list                            # all, and what each needs
  cargo xtask fault try net.delay delay_ms=200      # on a lab made for it
  cargo xtask fault inject net.isolate --on db      # on a lab that stays
  cargo xtask fault heal --all")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show every fault with an example of its parameters, what it needs, and whether this host can do it
    List(ListArgs),
    /// Do a fault to a container of a lab that stays; it lasts until it is healed
    #[command(before_long_help = "\
Examples:
  cargo xtask fault inject net.isolate --on db
  cargo xtask fault inject net.delay delay_ms=200 --on db --slot 2
  cargo xtask fault heal --all")]
    Inject(fault_live::InjectArgs),
    /// Take a fault back that was done with `fault inject`
    Heal(fault_live::HealArgs),
    /// Do a fault to a small lab made for it, and show what is seen before, during and after
    #[command(before_long_help = "\
Examples:
  cargo xtask fault try net.delay delay_ms=200 jitter_ms=50
  cargo xtask fault try service.stop unit=postgresql.service --on db
  cargo xtask fault try net          # a family
  cargo xtask fault try --all")]
    Try(TryArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// The faults that are on in labs that stay, instead of those that there are.
    #[arg(long)]
    live: bool,
    /// With --live: of the lab in this slot alone.
    #[arg(long, value_name = "N", requires = "live")]
    slot: Option<String>,
}

#[derive(Debug, clap::Args)]
struct TryArgs {
    /// The fault, such as net.delay, or a family, such as net.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Its parameters, instead of the example's.
    #[arg(value_name = "NAME=VALUE", conflicts_with = "all")]
    parameters: Vec<String>,
    /// The template of the machine it is done to; the smallest on which it can be seen if not given.
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "all")]
    on: Option<String>,
    /// The whole catalogue, each fault on a lab of its own.
    #[arg(long)]
    all: bool,
    /// Fail at once when another run holds the slot, instead of waiting for it.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    slot: SlotFlag,
}

/// Carries the verb out.
///
/// # Errors
/// Bad usage, or no lab could be had.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    match &args.action {
        Action::List(ListArgs { live: true, slot }) => fault_live::list(&InLab { slot: slot.clone() }, context),
        Action::List(_) => {
            list(context.format);
            Ok(EXIT_PASSED)
        }
        Action::Inject(args) => fault_live::inject(args, &entry_named(&args.name)?, context),
        Action::Heal(args) => fault_live::heal(args, context),
        Action::Try(args) => try_faults(args, context),
    }
}

fn list(format: Format) {
    let entries = catalogue();
    if format == Format::Json {
        let row = |entry: &Entry| {
            let problem = entry.supported().err().map(|error| format!("{error:#}"));
            json!({
                "fault": entry.example.name(),
                "example": entry.example,
                "needs": entry.needs.to_string(),
                "supported": problem.is_none(),
                "problem": problem,
            })
        };
        println!("{:#}", json!({ "format_version": 1, "faults": entries.iter().map(row).collect::<Vec<_>>() }));
        return;
    }
    let mut family = "";
    for entry in &entries {
        if entry.example.family() != family {
            family = entry.example.family();
            println!("{family}");
        }
        println!("    {}", entry.example);
        let needs = entry.needs.to_string();
        if !needs.is_empty() {
            println!("        needs {needs}");
        }
        if let Err(error) = entry.supported() {
            println!("        not on this host: {}", indented(&format!("{error:#}"), 8));
        }
    }
}

fn try_faults(args: &TryArgs, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let chosen = chosen(args)?;
    let trials = chosen.into_iter().map(|(entry, fault)| Trial::plan(&project, entry, fault, args.on.as_deref()));
    let trials: Vec<Trial> = trials.collect::<Result<_, _>>()?;
    let templates: Vec<String> = trials.iter().map(|trial| trial.template.clone()).collect();
    require_tools(&image::uses_to_run(&project, &templates)?)?;
    let interrupt = Interrupt::listen()?;
    let wait = if args.no_wait { Wait::Never } else { Wait::UntilFree };
    let progress = |line: String| context.terminal.say(&line);
    let stage =
        Trials::prepare(&project, &trials, &args.slot.number(context).to_string(), wait, &interrupt, &progress)?;
    let (mut rows, mut failed) = (Vec::new(), 0_usize);
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    for trial in &trials {
        if trials.len() > 1 {
            let what = format!("faults tried, now {}", trial.fault.name());
            context.terminal.show_amount(Amount { what, done: count(rows.len()), of: count(trials.len()) });
        }
        let row = match trial.entry.supported() {
            Err(error) => Row::unsupported(trial, &error),
            Ok(()) => Row::of(trial, stage.carry_out(trial)),
        };
        failed += usize::from(row.supported && !(row.bites && row.healed));
        if context.format == Format::Human {
            context.terminal.beside(|| row.show());
        }
        rows.push(row);
        if interrupt.is_set() {
            stage.end()?;
            return Err(Error::Interrupted.into());
        }
    }
    context.terminal.end();
    stage.end()?;
    let unsupported = rows.iter().filter(|row| !row.supported).count();
    if context.format == Format::Json {
        println!("{:#}", Value::Array(rows.iter().map(Row::json).collect()));
    } else if trials.len() > 1 {
        let good = rows.len() - failed - unsupported;
        println!("{good} bite and heal, {failed} do not, {unsupported} cannot be had on this host");
    }
    let lacking = trials.len() == 1 && unsupported == 1;
    Ok(if failed > 0 || lacking { EXIT_INFRASTRUCTURE } else { EXIT_PASSED })
}

/// The faults that the arguments name, with their parameters.
fn chosen(args: &TryArgs) -> Result<Vec<(Entry, Fault)>, Error> {
    let entries = catalogue();
    let Some(name) = &args.name else {
        return Ok(entries.into_iter().map(|entry| (entry.clone(), entry.example)).collect());
    };
    if args.parameters.is_empty() {
        let of_family: Vec<_> = entries.iter().filter(|entry| entry.example.family() == name).cloned().collect();
        if !of_family.is_empty() {
            return Ok(of_family.into_iter().map(|entry| (entry.clone(), entry.example)).collect());
        }
    }
    let entry = entry_named(name)?;
    let fault = fault_words::over_example(&entry.example, &args.parameters)?;
    Ok(vec![(entry, fault)])
}

/// The fault of this name.
fn entry_named(name: &str) -> Result<Entry, Error> {
    let entries = catalogue();
    if let Some(entry) = entries.iter().find(|entry| entry.example.name() == name) {
        return Ok(entry.clone());
    }
    let hint = nearest(name, entries.iter().map(|entry| entry.example.name()))
        .map_or_else(|| "`cargo xtask fault list` shows them all".to_owned(), |near| format!("did you mean {near}?"));
    Err(Error::Usage(format!("there is no fault {name:?}: {hint}")))
}

/// What came of one trial.
struct Row {
    fault: Fault,
    template: String,
    supported: bool,
    bites: bool,
    healed: bool,
    inject_ms: Option<f64>,
    heal_ms: Option<f64>,
    before: Option<String>,
    evidence: String,
    after: Option<String>,
}

impl Row {
    fn unsupported(trial: &Trial, error: &anyhow::Error) -> Self {
        Self { supported: false, ..Self::failed(trial, format!("{error:#}")) }
    }

    fn failed(trial: &Trial, evidence: String) -> Self {
        Self {
            fault: trial.fault.clone(),
            template: trial.template.clone(),
            supported: true,
            bites: false,
            healed: false,
            inject_ms: None,
            heal_ms: None,
            before: None,
            evidence,
            after: None,
        }
    }

    fn of(trial: &Trial, tried: anyhow::Result<Tried>) -> Self {
        let tried = match tried {
            Ok(tried) => tried,
            Err(error) => return Self::failed(trial, format!("{error:#}")),
        };
        let ms = |observed: &Observed| Some(milliseconds(observed.duration));
        let row = match tried.bitten {
            Err(error) => return Self::failed(trial, format!("{error:#}")),
            Ok(bitten) => {
                let inject_ms = ms(&bitten);
                Self { bites: true, inject_ms, before: bitten.before, ..Self::failed(trial, bitten.evidence) }
            }
        };
        match tried.healed {
            None => row,
            Some(Err(error)) => Self { after: Some(format!("{error:#}")), ..row },
            Some(Ok(healed)) => Self { healed: true, heal_ms: ms(&healed), after: Some(healed.evidence), ..row },
        }
    }

    fn show(&self) {
        println!("{}  (template {})", self.fault, self.template);
        let line = |what: &str, took: Option<f64>, text: &str| {
            let took = took.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
            println!("    {what:<8} {took:>8}  {}", indented(text, 23));
        };
        if let Some(before) = &self.before {
            line("before", None, before);
        }
        line(
            if self.bites {
                "bites"
            } else if self.supported {
                "FAILED"
            } else {
                "cannot"
            },
            self.inject_ms,
            &self.evidence,
        );
        if let Some(after) = &self.after {
            line(if self.healed { "healed" } else { "FAILED" }, self.heal_ms, after);
        }
    }

    fn json(&self) -> Value {
        json!({
            "fault": self.fault.name(),
            "parameters": self.fault,
            "template": self.template,
            "supported": self.supported,
            "bites": self.bites,
            "healed": self.healed,
            "inject_ms": self.inject_ms,
            "heal_ms": self.heal_ms,
            "before": self.before,
            "evidence": self.evidence,
            "after": self.after,
        })
    }
}

/// A text whose further lines stand below its first.
fn indented(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}
