//! `cargo xtask e2e`: plans, runs and reports scenarios.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::again::Again;
use super::hold_prompt::HoldPrompt;
use super::programs::{self, ProgramsArgs};
use super::reports::RunName;
use super::{Context, Format, doctor, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::fault::Profile;
use crate::guard::{Stay, Wait};
use crate::host::doctor::require_tools;
use crate::host::git;
use crate::host::invoker::{Invoker, is_root};
use crate::host::setup;
use crate::image::{self, Replacement};
use crate::judge::COMMITTED_SAMPLES;
use crate::manifest::Project;
use crate::plan::{Order, Plan};
use crate::record::{RUNS_FOLDER, Recorder, RunRecord, expected_durations};
use crate::report::terminal::Terminal;
use crate::run::{
    self, Breakpoints, Comparing, DuetOptions, Interrupt, Keep, Machines, Monitoring, Options, ScenarioBinaries,
    Schedules,
};

/// Run scenarios on fresh labs of containers.
#[derive(Debug, clap::Args)]
#[command(after_help = "Filters: a category, a scenario, category/scenario, scenario:case, part of a name, a path \
                        (scenarios/data_pipeline/), or tag:NAME. Several filters add up.\n\n\
                        Exit codes: 0 all passed, 1 a scenario failed, 2 bad usage or a bad file, \
                        3 no lab could be had, 4 a measured operation has become worse, 5 interrupted.")]
pub struct Args {
    /// Which scenarios; all of them if none is given.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Show the scenarios that match, and run none.
    #[arg(long)]
    list: bool,
    /// Show what would be done, and touch nothing.
    #[arg(long)]
    dry_run: bool,
    /// Install what the machine lacks first, what is optional too, without asking.
    #[arg(long)]
    setup: bool,
    /// Stop after N failed cases.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_fail: Option<u32>,
    /// Deadline of a case, such as 90s or 5m, instead of its scenario's own.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Run each case N times.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Run in random order; the seed is printed, and SEED repeats an order.
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true)]
    shuffle: Option<Option<u64>>,
    /// Try a failed case again up to N times; a pass after a failure is reported as flaky.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Break things on purpose, as far as each scenario endures it: light, default, heavy, or families and faults such as
    /// net,process.kill.
    #[arg(long, value_name = "PROFILE", num_args = 0..=1, require_equals = true, default_missing_value = "default",
          value_parser = Profile::parse)]
    chaos: Option<Profile>,
    /// The seed of what is broken when, or of who goes first in a pair; a new one, which is printed, if not given.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Break the same things at the same times as an earlier run: a chaos.json, a run's folder, or its name.
    #[arg(long, value_name = "FILE|RUN", conflicts_with_all = ["chaos", "seed"])]
    chaos_replay: Option<String>,
    /// Run the cases of an earlier run again that failed, had no lab, were interrupted or were not run, with the same faults;
    /// a flaky one has passed. RUN is a run's name, its folder, or `latest`.
    #[arg(long, value_name = "RUN", num_args = 0..=1, require_equals = true, default_missing_value = "latest",
          conflicts_with_all = ["filters", "list", "chaos", "seed", "chaos_replay", "baseline_compare", "baseline_ref", "baseline_dir"])]
    rerun_failed: Option<String>,
    /// The same with a run out of a bundle, which is laid out below target/e2e/bundles; with filters, these cases of it
    /// instead of those that have not passed. It builds and runs what the bundle holds: take one from people you trust.
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["rerun_failed", "list", "dry_run", "chaos", "seed", "chaos_replay", "baseline_compare", "baseline_ref", "baseline_dir"])]
    from_bundle: Option<PathBuf>,
    /// Look at the machines HZ times a second (1 to 50; 2 without this), and calibrate before each repetition of a
    /// measured operation; all of it goes to performance.json.
    #[arg(long, visible_alias = "perf", value_name = "HZ", num_args = 0..=1, require_equals = true,
          default_missing_value = "10", value_parser = clap::value_parser!(u32).range(1..=50))]
    performance_monitoring: Option<u32>,
    /// Compare measured operations with the baselines that are committed for machines like this one.
    #[arg(long, conflicts_with_all = ["chaos", "chaos_replay"])]
    baseline_compare: bool,
    /// Compare with REV's containers/, pair by pair in two labs side by side: more telling than committed baselines.
    #[arg(long, value_name = "REV", conflicts_with_all = ["baseline_compare", "chaos", "chaos_replay", "keep_containers", "retries"])]
    baseline_ref: Option<String>,
    /// The same with another folder of templates, such as another version of the product.
    #[arg(long, value_name = "DIR",
          conflicts_with_all = ["baseline_ref", "baseline_compare", "chaos", "chaos_replay", "keep_containers", "retries"])]
    baseline_dir: Option<PathBuf>,
    /// So many pairs of each operation at most, before what looks changed is confirmed; 50 if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=1000))]
    pairs: Option<u32>,
    /// Run each case up to 20 times in both labs, so that what happens in it once is compared, too: for changes of 10 %
    /// and more.
    #[arg(long)]
    whole_cases: bool,
    /// What to do about an operation without a baseline.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Missing::Error, requires = "baseline_compare")]
    baseline_missing: Missing,
    /// What a regression does: fail ends with exit code 4, warn only says it, off compares nothing.
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = PerfGate::Fail)]
    perf_gate: PerfGate,
    /// Keep the lab after a failure, or always, and print how to enter and remove it.
    #[arg(long, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "failure")]
    keep_containers: Option<KeepWhen>,
    /// How long a kept lab stays, such as 2h, before it goes by itself; without this until it is taken down.
    #[arg(long, value_name = "TIME", requires = "keep_containers", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
    /// At the first failure of a case, hold it with its faults and deadlines, and ask what to do: open a shell in a machine,
    /// go on, or give up.
    #[arg(long, conflicts_with_all = ["baseline_ref", "baseline_dir", "baseline_compare"])]
    break_on_failure: bool,
    /// Meanwhile all machines stand still, but for the one that is entered.
    #[arg(long, requires = "break_on_failure")]
    freeze: bool,
    /// Names of the containers on the host, by position: app, db, worker as e2e.toml orders them.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    e2e_containers: Vec<String>,
    /// Replace a pinned package of a template by a local wheel or source tree: app.mancer=PATH.
    #[arg(long = "set", value_name = "TEMPLATE.PACKAGE=PATH")]
    replacements: Vec<String>,
    /// Fail at once when another run holds the slot, instead of waiting for it.
    #[arg(long)]
    no_wait: bool,
    /// The slot whose names and folders the labs take: another one runs beside.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    slot: u32,
    /// Accepted for those who know it from pytest; running is what this verb does.
    #[arg(long, hide = true)]
    run_e2e: bool,
    #[command(flatten)]
    programs: ProgramsArgs,
}

/// What a missing baseline is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Missing {
    Error,
    Allow,
}

/// What a regression does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PerfGate {
    Fail,
    Warn,
    Off,
}

/// When a lab stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum KeepWhen {
    Failure,
    Always,
}

/// Carries the verb out.
///
/// # Errors
/// Bad usage, a bad project, or a run that cannot begin or be recorded.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let again = again(args, context)?;
    let project = Project::read(again.as_ref().map_or(&context.root, |again| &again.root))?;
    let filters = match &again {
        Some(again) if args.filters.is_empty() => again.run.record.not_passed(),
        _ => args.filters.clone(),
    };
    if let Some(again) = again.as_ref().filter(|_| filters.is_empty()) {
        let name = &again.run.record.run_id;
        context.terminal.say(&format!("every case of run {name} has passed: there is nothing to repeat"));
        return Ok(EXIT_PASSED);
    }
    let shuffle_seed = args.shuffle.map(|given| given.unwrap_or_else(|| u64::from(rand::random::<u32>())));
    let mut plan = Plan::make(&project, &filters, Order { repeat: args.repeat, shuffle_seed })?;
    let replacements =
        args.replacements.iter().map(|text| Replacement::parse(text, &project)).collect::<Result<Vec<_>, _>>()?;
    let host_names = host_names(args, &project)?;
    let duet = args.baseline_ref.is_some() || args.baseline_dir.is_some();
    if args.seed.is_some() && args.chaos.is_none() && !duet {
        let message = "--seed is for what is random in a run: --chaos, --baseline-ref or --baseline-dir";
        return Err(Error::Usage(message.into()).into());
    }
    if !duet && (args.pairs.is_some() || args.whole_cases) {
        let message =
            "--pairs and --whole-cases are for a comparison pair by pair: --baseline-ref REV, or --baseline-dir DIR";
        return Err(Error::Usage(message.into()).into());
    }
    if args.list {
        super::plan_view::list(&project, &plan, context.format);
        return Ok(0);
    }
    if plan.cases.is_empty() {
        return Err(Error::Usage(format!("there is no scenario in {}", project.scenarios_dir.display())).into());
    }
    if args.dry_run {
        let schedules = schedules(args, again.as_ref(), &project, &mut plan, &context.terminal)?;
        let layers = image::status(&project, &plan.templates(&project), &replacements)?;
        let shown = super::plan_view::Shown { layers: &layers, schedules: schedules.as_ref(), timeout: args.timeout };
        super::plan_view::dry_run(&project, &plan, &shown, context.format);
        return Ok(0);
    }
    if args.break_on_failure && !std::io::stdin().is_terminal() {
        let message = "--break-on-failure asks at a terminal, and stdin is none; --keep-containers keeps the lab of a failed \
                       case for a look afterwards";
        return Err(Error::Usage(message.into()).into());
    }
    if !is_root() {
        return sudo::again_with_scenarios(&project, &plan, args.programs.folder().is_some());
    }
    if args.setup {
        setup::install_missing(&doctor::subject(&context.root), |line| context.terminal.say(line))?;
    }
    require_tools()?;
    let schedules = schedules(args, again.as_ref(), &project, &mut plan, &context.terminal)?;
    for note in again.iter().map(|again| again.notes(&project, &plan, &replacements)) {
        note?.iter().for_each(|line| context.terminal.say(line));
    }
    let comparing = comparing(args, &project, &plan)?;
    let interrupt = Interrupt::listen()?;
    let binaries = ScenarioBinaries::found(&project, &plan, args.programs.folder())?;
    let listener = match context.format {
        Format::Human => context.terminal.listener(),
        Format::Json => Terminal::json_listener(),
    };
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    expect_durations(args, &project, &plan, &context.terminal);
    let name = RunName::default();
    let recorder = Arc::new(Recorder::new(vec![listener, name.listener()]));
    let options = Options {
        slot: args.slot.to_string(),
        wait: if args.no_wait { Wait::Never } else { Wait::UntilFree },
        keep: match args.keep_containers {
            None => Keep::Never,
            Some(KeepWhen::Failure) => Keep::OnFailure,
            Some(KeepWhen::Always) => Keep::Always,
        },
        stay: Stay::of(args.ttl),
        breakpoints: args.break_on_failure.then(|| {
            let machines = if args.freeze { Machines::Freeze } else { Machines::Run };
            let prompt = HoldPrompt::new(interrupt.clone(), Arc::clone(&context.terminal));
            Breakpoints::new(Box::new(prompt), machines)
        }),
        failures_max: args.max_fail,
        retries: args.retries,
        timeout: args.timeout,
        schedules,
        monitoring: monitoring(args, &comparing),
        comparing,
        fails_when_regressed: args.perf_gate == PerfGate::Fail,
        host_names,
        replacements,
        command: own_words(again.as_ref(), &args.filters),
        working_dir: std::env::current_dir().context("finding the working directory")?,
    };
    let ended = run::execute(&project, &plan, &options, &binaries, &recorder, &interrupt);
    name.write_reports(&project, context);
    let record = ended?;
    if context.format == Format::Human {
        context.terminal.show_result(&record, &project.root.join(RUNS_FOLDER).join(&record.run_id));
    }
    Ok(record.exit_code)
}

/// Tells the terminal how long each case took in earlier runs of this kind, where it draws that.
fn expect_durations(args: &Args, project: &Project, plan: &Plan, terminal: &Terminal) {
    let has_chaos = args.chaos.is_some() || args.chaos_replay.is_some();
    let compares = args.baseline_compare || args.baseline_ref.is_some() || args.baseline_dir.is_some();
    let is_of_kind = |record: &RunRecord| {
        let had_chaos = record.cases.iter().any(|case| case.attempts.iter().any(|attempt| attempt.faults.is_some()));
        record.command.iter().any(|word| word == "e2e")
            && had_chaos == has_chaos
            && record.compared_with.is_some() == compares
    };
    let cases: Vec<String> = plan.cases.iter().map(|case| case.id.clone()).collect();
    if terminal.is_live()
        && let Some(expected) = expected_durations(&project.root, &cases, is_of_kind)
    {
        terminal.expect(expected);
    }
}

/// The words that this verb was called with, but for those that it gives itself when it becomes root; of an earlier run, those
/// that name it later too.
fn own_words(again: Option<&Again>, filters: &[String]) -> Vec<String> {
    let mut words = std::env::args().skip(1);
    let mut own = Vec::new();
    while let Some(word) = words.next() {
        if word == programs::BUILT {
            words.next();
        } else {
            own.push(word);
        }
    }
    match again {
        Some(again) => again.own_words(own, filters),
        None => own,
    }
}

/// The earlier run that the arguments ask for.
fn again(args: &Args, context: &Context) -> anyhow::Result<Option<Again>> {
    Ok(match (&args.rerun_failed, &args.from_bundle) {
        (Some(run), _) => Some(Again::of_run(context, run)?),
        (None, Some(file)) => Some(Again::of_bundle(context, file)?),
        (None, None) => None,
    })
}

/// What the arguments compare with. What is missing is said before anything runs.
fn comparing(args: &Args, project: &Project, plan: &Plan) -> anyhow::Result<Comparing> {
    if args.perf_gate == PerfGate::Off {
        return Ok(Comparing::Nothing);
    }
    if args.baseline_compare {
        let missing_allowed = args.baseline_missing == Missing::Allow;
        if !missing_allowed {
            run::require_baselines(project, plan)?;
        }
        return Ok(Comparing::Committed { missing_allowed });
    }
    let (name, folder) = if let Some(revision) = &args.baseline_ref {
        let folder = project.containers_dir.strip_prefix(&project.root).unwrap_or(&project.containers_dir);
        let into = project.root.join("target/e2e/refs");
        let exported = git::export(&project.root, revision, folder, &into, &Invoker::find())?;
        (format!("{revision} ({})", &exported.commit[..exported.commit.len().min(12)]), exported.path)
    } else if let Some(folder) = &args.baseline_dir {
        let folder = std::path::absolute(folder).context("finding the baseline's folder")?;
        if !folder.is_dir() {
            return Err(Error::Usage(format!("--baseline-dir: there is no folder {}", folder.display())).into());
        }
        (folder.display().to_string(), folder)
    } else {
        return Ok(Comparing::Nothing);
    };
    Ok(Comparing::Duet(Box::new(DuetOptions {
        baseline: project.with_containers(&folder)?,
        name,
        pairs: args.pairs,
        whole_cases: args.whole_cases,
        seed: args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
    })))
}

/// What is measured: with committed baselines, as often as they were.
fn monitoring(args: &Args, comparing: &Comparing) -> Monitoring {
    let rate_hz = args.performance_monitoring.unwrap_or(Monitoring::ALWAYS.rate_hz);
    let committed = matches!(comparing, Comparing::Committed { .. });
    let duet = matches!(comparing, Comparing::Duet(_));
    let samples = committed.then(|| u32::try_from(COMMITTED_SAMPLES).unwrap_or(u32::MAX));
    Monitoring { rate_hz, calibrate: committed || (args.performance_monitoring.is_some() && !duet), samples }
}

/// The faults that the arguments ask for, by case.
fn schedules(
    args: &Args,
    again: Option<&Again>,
    project: &Project,
    plan: &mut Plan,
    terminal: &Terminal,
) -> anyhow::Result<Option<Schedules>> {
    if let Some(again) = again {
        return again.prepare(project, plan);
    }
    if let Some(from) = &args.chaos_replay {
        return Schedules::replay(project, plan, from).map(Some);
    }
    let Some(profile) = &args.chaos else { return Ok(None) };
    let seed = args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    terminal.say(&format!("chaos: profile {profile}, seed {seed} (--chaos={profile} --seed {seed})"));
    Ok(Some(Schedules::draw(project, plan, profile, seed)?))
}

fn host_names(args: &Args, project: &Project) -> Result<BTreeMap<String, String>, Error> {
    if args.e2e_containers.len() > project.container_order.len() {
        return Err(Error::Usage(format!(
            "--e2e-containers has {} names, but e2e.toml orders only {} containers ({})",
            args.e2e_containers.len(),
            project.container_order.len(),
            project.container_order.join(", ")
        )));
    }
    for (place, name) in args.e2e_containers.iter().enumerate() {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 60 || !name.chars().all(good) || name.starts_with('-') {
            return Err(Error::Usage(format!(
                "--e2e-containers: {name:?} is no name for a container: use letters, digits, '-', '_'"
            )));
        }
        if args.e2e_containers[..place].contains(name) {
            return Err(Error::Usage(format!("--e2e-containers names {name:?} twice")));
        }
    }
    Ok(project.container_order.iter().cloned().zip(args.e2e_containers.iter().cloned()).collect())
}
