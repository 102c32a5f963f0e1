//! `cargo xtask fault`: lists the catalogue of faults, and tries faults on temporary labs. Faults on kept labs are in `fault_live.rs`.

use e2e_contract::Fault;
use serde_json::{Value, json};

use super::lab_selector::LabSelector;
use super::settings::SlotFlag;
use super::{Context, Format, fault_live, sudo};
use crate::error::{EXIT_INFRASTRUCTURE, EXIT_PASSED, Error};
use crate::fault::{Entry, Lasted, Observed, catalogue};
use crate::guard::Wait;
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::host::tools::sudo::Sudo;
use crate::image;
use crate::manifest::{Project, nearest};
use crate::record::milliseconds;
use crate::report::terminal::{Amount, println};
use crate::run::{FaultTrial, FaultTrials, Interrupt, TrialOutcome};

/// List faults, try them, or inject them into a kept lab.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask fault list                            # all, and what each needs
  cargo xtask fault try net.delay delay_ms=200      # on a lab made for it
  cargo xtask fault inject net.isolate --on db      # on a kept lab
  cargo xtask fault heal --all")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List every fault with example parameters, its needs, and whether this host supports it
    List(ListArgs),
    /// Inject a fault into a container of a kept lab, until it is healed
    #[command(before_long_help = "\
Examples:
  cargo xtask fault inject net.isolate --on db
  cargo xtask fault inject net.delay delay_ms=200 --on db --slot 2
  cargo xtask fault heal --all")]
    Inject(fault_live::InjectArgs),
    /// Heal faults injected by `fault inject`
    Heal(fault_live::HealArgs),
    /// Try a fault on a small temporary lab, and show what is observed before, during and after
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
    /// List the active faults of kept labs instead of the catalogue.
    #[arg(long)]
    live: bool,
    /// With --live: only the lab in this slot.
    #[arg(long, value_name = "N", requires = "live")]
    slot: Option<String>,
}

#[derive(Debug, clap::Args)]
struct TryArgs {
    /// Fault, such as net.delay, or family, such as net.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    name: Option<String>,
    /// Parameters that replace those of the example.
    #[arg(value_name = "NAME=VALUE", conflicts_with = "all")]
    parameters: Vec<String>,
    /// Template of the target machine [default: the smallest one that shows the fault].
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "all")]
    on: Option<String>,
    /// Try the whole catalogue, each fault on a lab of its own.
    #[arg(long)]
    all: bool,
    /// Fail at once when another run holds the slot, instead of waiting for it.
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    slot: SlotFlag,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    match &args.action {
        // The catalogue itself is for everybody; only root sees what this host can do.
        Action::List(ListArgs { live: false, .. }) if is_root() || Sudo::of_this_user() != Sudo::Silent => {
            list(context.format, is_root());
            if !is_root() {
                context.terminal.say("only root can check what this host supports: run `sudo -v` first");
            }
            Ok(EXIT_PASSED)
        }
        _ if !is_root() => sudo::again(),
        Action::List(ListArgs { slot, .. }) => fault_live::list(&LabSelector { slot: slot.clone() }, context),
        Action::Inject(args) => fault_live::inject(args, &entry_named(&args.name)?, context),
        Action::Heal(args) => fault_live::heal(args, context),
        Action::Try(args) => try_faults(args, context),
    }
}

/// Prints the catalogue; if `sees_host`, which needs root, also the faults that this host does not support, with the reasons.
fn list(format: Format, sees_host: bool) {
    let entries = catalogue();
    if format == Format::Json {
        let row = |entry: &Entry| {
            let problem = sees_host.then(|| entry.supported().err().map(|error| format!("{error:#}")));
            json!({
                "fault": entry.example.name(),
                "example": entry.example,
                "needs": entry.needs.to_string(),
                "supported": problem.as_ref().map(Option::is_none),
                "problem": problem.flatten(),
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
        if sees_host && let Err(error) = entry.supported() {
            println!("        not on this host: {}", indented(&format!("{error:#}"), 8));
        }
    }
}

fn try_faults(args: &TryArgs, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let (trials, mut rows) = planned(&project, chosen(args)?, args.on.as_deref())?;
    let templates: Vec<String> = trials.iter().map(|trial| trial.template.clone()).collect();
    require_tools(&image::uses_to_run(&project, &templates)?)?;
    rows.iter().for_each(|row| row.show_beside(context));
    let is_alone = rows.len() + trials.len() == 1;
    let ended = if trials.is_empty() { Ok(()) } else { carry_out(&project, &trials, args, context, &mut rows) };
    if rows.is_empty() {
        ended?;
        return Ok(EXIT_PASSED);
    }
    let summary = Summary::of(&rows);
    if context.format == Format::Json {
        println!("{:#}", Value::Array(rows.iter().map(Row::json).collect()));
    } else if !is_alone {
        println!("{summary}");
    }
    ended.map(|()| summary.exit_code())
}

/// Runs the trials one after another, and adds a row with the result of each. Without an error, every trial has a row.
///
/// # Errors
/// If the trials cannot be prepared or were interrupted, or a trial met a problem of this host that the remaining trials would
/// meet too.
fn carry_out(
    project: &Project,
    trials: &[FaultTrial],
    args: &TryArgs,
    context: &Context,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let interrupt = Interrupt::listen()?;
    let wait = if args.no_wait { Wait::Never } else { Wait::UntilFree };
    let progress = |line: String| context.terminal.say(&line);
    let stage = FaultTrials::prepare(
        project,
        trials,
        &args.slot.number(&context.settings).to_string(),
        wait,
        &interrupt,
        &progress,
    )?;
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    let of = rows.len() + trials.len();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut ended = Ok(());
    for trial in trials {
        if of > 1 {
            let what = format!("faults tried, now {}", trial.fault.name());
            context.terminal.show_amount(Amount { what, done: count(rows.len()), of: count(of) });
        }
        let row = match trial.entry.supported() {
            Err(error) => Row::unsupported(&trial.fault, Some(&trial.template), reason(&error, of == 1)),
            Ok(()) => {
                let tried = match stage.carry_out(trial) {
                    Err(error) if of > 1 && !interrupt.is_set() => match stage.own_failure(error) {
                        Ok(error) => Err(error),
                        Err(cause) => {
                            ended = Err(cause);
                            break;
                        }
                    },
                    tried => tried,
                };
                Row::of(trial, tried)
            }
        };
        row.show_beside(context);
        rows.push(row);
        if interrupt.is_set() {
            ended = Err(Error::Interrupted.into());
            break;
        }
    }
    context.terminal.end();
    stage.end()?;
    ended
}

/// Returns trials of the chosen faults, and rows for the faults that no template of the project can show; if only one fault is chosen, such
/// a fault is an error.
fn planned(
    project: &Project,
    chosen: Vec<(Entry, Fault)>,
    on: Option<&str>,
) -> Result<(Vec<FaultTrial>, Vec<Row>), Error> {
    let is_alone = chosen.len() == 1;
    let (mut trials, mut rows) = (Vec::new(), Vec::new());
    for (entry, fault) in chosen {
        let needs = entry.needs;
        match FaultTrial::plan(project, entry, fault.clone(), on)? {
            Some(trial) => trials.push(trial),
            None if is_alone => {
                return Err(Error::Usage(format!(
                    "{} needs {needs}, and no template of this project has that",
                    fault.name()
                )));
            }
            None => rows.push(Row::unsupported(&fault, None, format!("no template of this project has {needs}"))),
        }
    }
    Ok((trials, rows))
}

/// Formats the reason why a fault cannot be tried here: in full for a single fault, else its first line.
fn reason(error: &anyhow::Error, is_alone: bool) -> String {
    let whole = format!("{error:#}");
    if is_alone { whole } else { whole.lines().next().unwrap_or_default().to_owned() }
}

/// Numbers of tried faults by result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    good: usize,
    failed: usize,
    unsupported: usize,
}

impl Summary {
    fn of(rows: &[Row]) -> Self {
        let unsupported = rows.iter().filter(|row| !row.supported).count();
        let is_good = |row: &&Row| {
            row.supported && row.took_effect && row.recovered && !matches!(row.lasted, Some(Lasted::Lost { .. }))
        };
        let good = rows.iter().filter(is_good).count();
        Self { good, failed: rows.len() - good - unsupported, unsupported }
    }

    /// Returns the exit code of the trials: faults that are not applicable count as a failure only if all of them are.
    fn exit_code(self) -> u8 {
        if self.failed > 0 || self.good == 0 { EXIT_INFRASTRUCTURE } else { EXIT_PASSED }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { good, failed, unsupported } = self;
        write!(f, "{good} take effect and recover, {failed} do not, {unsupported} not applicable")
    }
}

/// Returns the catalogue's entries that the arguments choose, each with the fault's parameters.
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
    let fault = fault_live::over_example(&entry.example, &args.parameters)?;
    Ok(vec![(entry, fault)])
}

fn entry_named(name: &str) -> Result<Entry, Error> {
    let entries = catalogue();
    if let Some(entry) = entries.iter().find(|entry| entry.example.name() == name) {
        return Ok(entry.clone());
    }
    let hint = nearest(name, entries.iter().map(|entry| entry.example.name()))
        .map_or_else(|| "`cargo xtask fault list` shows them all".to_owned(), |near| format!("did you mean {near}?"));
    Err(Error::Usage(format!("there is no fault {name:?}: {hint}")))
}

/// Result of the trial of one fault.
struct Row {
    fault: Fault,
    template: Option<String>,
    supported: bool,
    took_effect: bool,
    recovered: bool,
    inject_ms: Option<f64>,
    heal_ms: Option<f64>,
    /// Part of `heal_ms` that verifying the effect again took, before healing began.
    proof_ms: Option<f64>,
    lasted: Option<Lasted>,
    before: Option<String>,
    evidence: String,
    after: Option<String>,
}

impl Row {
    fn unsupported(fault: &Fault, template: Option<&str>, reason: String) -> Self {
        Self { supported: false, ..Self::new(fault, template, reason) }
    }

    fn failed(trial: &FaultTrial, evidence: String) -> Self {
        Self::new(&trial.fault, Some(&trial.template), evidence)
    }

    fn new(fault: &Fault, template: Option<&str>, evidence: String) -> Self {
        Self {
            fault: fault.clone(),
            template: template.map(str::to_owned),
            supported: true,
            took_effect: false,
            recovered: false,
            inject_ms: None,
            heal_ms: None,
            proof_ms: None,
            lasted: None,
            before: None,
            evidence,
            after: None,
        }
    }

    fn of(trial: &FaultTrial, tried: anyhow::Result<TrialOutcome>) -> Self {
        let tried = match tried {
            Ok(tried) => tried,
            Err(error) => return Self::failed(trial, format!("{error:#}")),
        };
        let ms = |observed: &Observed| Some(milliseconds(observed.duration));
        let row = match tried.effect {
            Err(error) => return Self::failed(trial, error.to_string()),
            Ok(injected) => {
                let inject_ms = ms(&injected);
                Self { took_effect: true, inject_ms, before: injected.before, ..Self::failed(trial, injected.evidence) }
            }
        };
        match tried.recovery {
            None => row,
            Some(Err(error)) => Self { after: Some(error.to_string()), ..row },
            Some(Ok(healed)) => {
                let (heal_ms, proof_ms) = (ms(&healed), Some(milliseconds(healed.proof)));
                let (lasted, after) = (healed.lasted, Some(healed.evidence));
                Self { recovered: true, heal_ms, proof_ms, lasted, after, ..row }
            }
        }
    }

    fn show_beside(&self, context: &Context) {
        if context.format == Format::Human {
            context.terminal.beside(|| self.show());
        }
    }

    fn show(&self) {
        match &self.template {
            Some(template) => println!("{}  (template {template})", self.fault),
            None => println!("{}", self.fault),
        }
        let line = |what: &str, took: Option<f64>, text: &str| {
            let took = took.map_or_else(String::new, |ms| format!("{ms:.0} ms"));
            println!("    {what:<8} {took:>8}  {}", indented(text, 23));
        };
        if let Some(before) = &self.before {
            line("before", None, before);
        }
        line(
            if self.took_effect {
                "effect"
            } else if self.supported {
                "FAILED"
            } else {
                "cannot"
            },
            self.inject_ms,
            &self.evidence,
        );
        if let Some(lasted) = &self.lasted {
            line("lasting", self.proof_ms, &lasted.to_string());
        }
        if let Some(after) = &self.after {
            line(if self.recovered { "recovery" } else { "FAILED" }, self.heal_ms, after);
        }
    }

    fn json(&self) -> Value {
        json!({
            "fault": self.fault.name(),
            "parameters": self.fault,
            "template": self.template,
            "supported": self.supported,
            "bites": self.took_effect,
            "healed": self.recovered,
            "inject_ms": self.inject_ms,
            "heal_ms": self.heal_ms,
            "proof_ms": self.proof_ms,
            "lasted": self.lasted,
            "before": self.before,
            "evidence": self.evidence,
            "after": self.after,
        })
    }
}

/// Indents all lines of a text except the first by a number of columns.
fn indented(text: &str, columns: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(good: usize, failed: usize, unsupported: usize) -> Vec<Row> {
        let row = || Row::new(&Fault::NetIsolate, Some("mini"), String::new());
        let good = (0..good).map(|_| Row { took_effect: true, recovered: true, ..row() });
        let failed = (0..failed).map(|_| Row { took_effect: true, ..row() });
        let unsupported = (0..unsupported).map(|_| Row { supported: false, ..row() });
        good.chain(failed).chain(unsupported).collect()
    }

    #[test]
    fn a_project_without_systemd_tries_all_faults_that_need_none() {
        let folder = tempfile::tempdir().unwrap();
        let containers = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers");
        let config = "name = \"e2e\"\ncontainers = [\"a\"]\n";
        std::fs::write(folder.path().join("e2e.toml"), config).unwrap();
        for path in ["containers", "scenarios"] {
            std::fs::create_dir(folder.path().join(path)).unwrap();
        }
        for template in ["mini", "minidisk"] {
            std::os::unix::fs::symlink(containers.join(template), folder.path().join("containers").join(template))
                .unwrap();
        }
        let project = Project::read(folder.path()).unwrap();
        let all = || catalogue().into_iter().map(|entry| (entry.clone(), entry.example)).collect::<Vec<_>>();
        let (trials, rows) = planned(&project, all(), None).unwrap();
        assert_eq!((trials.len(), rows.len()), (all().len() - 3, 3));
        for row in rows {
            assert!(!row.supported && row.evidence == "no template of this project has systemd", "{}", row.fault);
        }
        let service = all().into_iter().filter(|(entry, _)| entry.example.name() == "service.stop").collect();
        let Err(Error::Usage(problem)) = planned(&project, service, None) else { panic!("asked for by its name") };
        assert_eq!(problem, "service.stop needs systemd, and no template of this project has that");
    }

    #[test]
    fn faults_that_are_not_applicable_fail_nothing_unless_they_are_all_that_there_is() {
        let check = |good, failed, unsupported, exit_code| {
            let summary = Summary::of(&rows(good, failed, unsupported));
            assert_eq!(summary, Summary { good, failed, unsupported });
            assert_eq!(summary.exit_code(), exit_code, "{summary}");
        };
        check(43, 0, 3, EXIT_PASSED);
        check(46, 0, 0, EXIT_PASSED);
        check(42, 1, 3, EXIT_INFRASTRUCTURE);
        check(0, 0, 1, EXIT_INFRASTRUCTURE);
        check(0, 0, 3, EXIT_INFRASTRUCTURE);
    }

    #[test]
    fn a_reason_among_others_is_one_line() {
        let error = Error::Host { problem: "no nft family inet".into(), help: "modprobe nf_tables_inet".into() };
        let error = anyhow::Error::from(error).context("net.reset");
        assert_eq!(reason(&error, false), "net.reset: no nft family inet");
        assert!(reason(&error, true).contains("modprobe nf_tables_inet"), "{}", reason(&error, true));
    }
}
