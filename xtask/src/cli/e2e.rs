//! `cargo xtask e2e`: plans, runs and reports scenarios.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;

use super::again::Again;
use super::help::{CHAOS, CHOOSING, LOOKING_INSIDE, MACHINE, PERFORMANCE, RUNNING};
use super::hold_prompt::HoldPrompt;
use super::reports::{Reports, RunName};
use super::secrets::SecretFlags;
use super::settings::{Origin, RunFlags, Settings};
use super::sudo::ProgramsArgs;
use super::{Context, Format, doctor, plan_view, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::fault::Profile;
use crate::guard::{Stay, Wait};
use crate::host::doctor::require_tools;
use crate::host::invoker::{Invoker, is_root};
use crate::host::tools::git;
use crate::host::tools::setup;
use crate::image::{self, Replacement};
use crate::input;
use crate::manifest::{BaselineMissing, Durations, KeepWhen, PerfGate, Project};
use crate::plan::{Order, Plan, Shard};
use crate::record::{RUNS_FOLDER, Recorder, RunRecord, expected_durations};
use crate::report::terminal::Terminal;
use crate::run::{
    self, Breakpoints, Comparing, CoveredPackage, DuetOptions, Interrupt, Machines, Monitoring, Options,
    ScenarioBinaries, Schedules, Secrets, SettleOptions,
};

/// Run scenarios on fresh labs of containers.
#[derive(Debug, clap::Args)]
#[command(before_long_help = EXAMPLES, after_long_help = EXIT_CODES)]
pub struct Args {
    /// Scenarios to run [default: all].
    ///
    /// A category, a scenario, category/scenario, scenario:case, part of a name, a path (scenarios/data_pipeline/), or
    /// tag:NAME. With several filters, the cases that match any of them run.
    #[arg(value_name = "FILTER", help_heading = CHOOSING)]
    filters: Vec<String>,
    /// List matching scenarios without running them.
    #[arg(long, help_heading = CHOOSING)]
    list: bool,
    /// Show what would run, without changing anything.
    #[arg(long, help_heading = CHOOSING)]
    dry_run: bool,
    /// Run shard K of N shards of about equal duration.
    ///
    /// The split uses scenarios/durations.toml, so it is the same on every machine. `merge` joins the records.
    #[arg(long, value_name = "K/N", help_heading = CHOOSING, conflicts_with_all = ["rerun_failed", "from_bundle"])]
    shard: Option<Shard>,
    /// Rerun the cases of an earlier run that did not pass.
    ///
    /// These are cases that failed, had an infrastructure error, were interrupted or were not run; a flaky case has passed. They get the
    /// same faults. RUN is a run's name, its folder, or `latest` (the default).
    #[arg(long, value_name = "RUN", num_args = 0..=1, require_equals = true, default_missing_value = "latest", help_heading = CHOOSING,
          conflicts_with_all = ["filters", "list", "chaos", "seed", "chaos_replay", "baseline_compare", "baseline_ref", "baseline_dir"])]
    rerun_failed: Option<String>,
    /// Rerun the failed cases of a bundled run.
    ///
    /// The bundle is unpacked below target/e2e/bundles. Filters choose other cases of it. Its content is built and run:
    /// use only bundles from people you trust.
    #[arg(long, value_name = "FILE", help_heading = CHOOSING,
          conflicts_with_all = ["rerun_failed", "list", "dry_run", "chaos", "seed", "chaos_replay", "baseline_compare", "baseline_ref", "baseline_dir"])]
    from_bundle: Option<PathBuf>,
    /// Run each case N times.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000),
          help_heading = RUNNING)]
    repeat: u32,
    /// Run in random order; the seed is printed, and SEED repeats an order.
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true, help_heading = RUNNING)]
    shuffle: Option<Option<u64>>,
    /// Inject faults within each scenario's declared tolerance.
    ///
    /// PROFILE is light, default, heavy, or a list of families and faults such as net,process.kill.
    #[arg(long, alias = "chaos-mode", value_name = "PROFILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "default", value_parser = Profile::parse, help_heading = CHAOS)]
    chaos: Option<Profile>,
    /// Random seed [default: random, printed].
    ///
    /// The seed decides the faults, their times, and which lab of a pair measures first.
    #[arg(long, value_name = "N", help_heading = CHAOS)]
    seed: Option<u64>,
    /// Repeat the faults of an earlier run at the same times.
    ///
    /// The value is a chaos.json, a run's folder, or a run's name.
    #[arg(long, value_name = "FILE|RUN", conflicts_with_all = ["chaos", "seed"], help_heading = CHAOS)]
    chaos_replay: Option<String>,
    /// Compare with the committed baselines of machines like this one.
    #[arg(long, conflicts_with_all = ["chaos", "chaos_replay"], help_heading = PERFORMANCE)]
    baseline_compare: bool,
    /// Compare with the templates of Git revision REV, pair by pair in two labs.
    ///
    /// Both labs run side by side, which detects smaller changes than committed baselines do.
    #[arg(long, value_name = "REV", help_heading = PERFORMANCE,
          conflicts_with_all = ["baseline_compare", "chaos", "chaos_replay", "keep_containers", "retries", "ttl"])]
    baseline_ref: Option<String>,
    /// Compare with another folder of templates, pair by pair in two labs.
    ///
    /// For example, with another version of the product.
    #[arg(long, value_name = "DIR", help_heading = PERFORMANCE,
          conflicts_with_all = ["baseline_ref", "baseline_compare", "chaos", "chaos_replay", "keep_containers", "retries", "ttl"])]
    baseline_dir: Option<PathBuf>,
    /// Maximum pairs per operation [default: 50; 100 if an operation takes less than 0.25 s].
    ///
    /// Pairs that confirm a change are not counted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(20..=1000), help_heading = PERFORMANCE)]
    pairs: Option<u32>,
    /// Compare whole cases too, each run up to 20 times in both labs.
    ///
    /// This also compares operations that happen once in a case. It detects changes of 10 % and more.
    #[arg(long, help_heading = PERFORMANCE)]
    whole_cases: bool,
    /// Pause at the first failure and open a prompt.
    ///
    /// Faults and deadlines pause too. The prompt offers a shell in a machine, to continue, and to give up.
    #[arg(long, conflicts_with_all = ["baseline_ref", "baseline_dir", "baseline_compare"], help_heading = LOOKING_INSIDE)]
    break_on_failure: bool,
    /// With --break-on-failure: freeze all machines during the pause.
    #[arg(long, requires = "break_on_failure", help_heading = LOOKING_INSIDE)]
    freeze: bool,
    /// Install missing dependencies first, without asking.
    ///
    /// Optional dependencies are installed too.
    #[arg(long, help_heading = MACHINE)]
    setup: bool,
    /// Names of the containers on the host, by position.
    ///
    /// Names replace app, db and worker, in the order of e2e.toml.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = MACHINE)]
    e2e_containers: Vec<String>,
    /// Replace a pinned package of a template by a local one.
    ///
    /// PATH is a wheel or a source tree, as in app.mancer=PATH. Everything else that the template pins stays. With
    /// --baseline-ref, --baseline-dir and --settle, the baseline keeps its own package.
    #[arg(long = "set", value_name = "TEMPLATE.PACKAGE=PATH", help_heading = MACHINE)]
    replacements: Vec<String>,
    /// Collect which functions of a Python package are called.
    ///
    /// The package is one that a template pins, as in app.mancer [default: `of` in [coverage] of e2e.toml]. The result is in the page and in
    /// coverage.json.
    #[arg(long, value_name = "TEMPLATE.PACKAGE", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = RUNNING,
          conflicts_with_all = ["baseline_compare", "baseline_ref", "baseline_dir"])]
    coverage: Option<String>,
    /// Fail at once when another run holds the slot, instead of waiting for it.
    #[arg(long, help_heading = MACHINE)]
    no_wait: bool,
    #[command(flatten)]
    flags: RunFlags,
    #[command(flatten)]
    secrets: SecretFlags,
    /// Accepted for users of pytest; has no effect.
    #[arg(long, hide = true)]
    run_e2e: bool,
    #[command(flatten)]
    programs: ProgramsArgs,
}

impl Args {
    /// Tells whether this command line creates labs or needs their layers, as all do except `--list`.
    #[must_use]
    pub fn makes_labs(&self) -> bool {
        !self.list
    }
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask e2e                                # every scenario
  cargo xtask e2e data_ingestion                 # one, or part of a name
  cargo xtask e2e tag:slow --list                # list what matches
  cargo xtask e2e --setup                        # install what is missing first
  cargo xtask e2e data_ingestion --repeat 20 --shuffle --max-fail 1
  cargo xtask e2e --chaos --seed 7               # with the random faults of seed 7
  cargo xtask e2e --rerun-failed                 # cases that did not pass
  cargo xtask e2e data_ingestion --keep-containers --ttl 2h
  cargo xtask e2e --baseline-ref v1.2            # has it become slower?";

const EXIT_CODES: &str = "\
Exit codes: 0 all passed, 1 a scenario failed, 2 bad usage or a bad file, 3 infrastructure error, or the run or its \
reports could not be written, 4 a measured operation regressed, 5 interrupted.

Defaults of this project and machine: `cargo xtask config show`.";

/// Settings that are recorded as flags of the command line if the environment has set them, so that the recorded command means the same
/// elsewhere.
const RECORDED: [&str; 10] = [
    "max_fail",
    "retries",
    "timeout",
    "performance_monitoring",
    "perf_gate",
    "baseline_missing",
    "settle",
    "keep_containers",
    "ttl",
    "slot",
];

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let Some(mut request) = Request::read(args, context)? else { return Ok(EXIT_PASSED) };
    if args.list {
        plan_view::list(&request.project, &request.plan, context.format);
        return Ok(EXIT_PASSED);
    }
    request.require_cases()?;
    if args.dry_run {
        return request.show_plan();
    }
    request.require_prompt()?;
    if !is_root() {
        return sudo::again_with_scenarios(
            &request.project,
            &request.plan,
            &args.programs,
            &args.secrets,
            &context.terminal,
        );
    }
    let secrets = args.secrets.given(&request.project)?;
    request.prepare_host()?;
    let schedules = request.schedules()?;
    request.tell_notes()?;
    let comparing = request.comparing()?;
    request.execute(secrets, schedules, comparing)
}

/// Cases to run and the options of the run, from the command line, the environment and the project.
struct Request<'a> {
    args: &'a Args,
    context: &'a Context,
    /// Earlier run that is to be repeated.
    again: Option<Again>,
    project: Project,
    plan: Plan,
    replacements: Vec<Replacement>,
    coverage: Option<CoveredPackage>,
    /// Names of the containers on the host, by their names in the lab.
    host_names: BTreeMap<String, String>,
    settings: Settings,
}

impl<'a> Request<'a> {
    /// Reads the request; `None` if there is nothing to repeat because every case of the earlier run has passed.
    fn read(args: &'a Args, context: &'a Context) -> anyhow::Result<Option<Self>> {
        let again = again(args, context)?;
        let project = Project::read(again.as_ref().map_or(&context.root, |again| &again.root))?;
        let filters = match &again {
            Some(again) if args.filters.is_empty() => again.run.record.not_passed(),
            _ => args.filters.clone(),
        };
        if let Some(again) = again.as_ref().filter(|_| filters.is_empty()) {
            let name = &again.run.record.run_id;
            context.terminal.say(&format!("every case of run {name} has passed: there is nothing to repeat"));
            return Ok(None);
        }
        let plan = plan(args, &project, &filters)?;
        // A shard without the template has nothing to replace, and is no mistake: all shards get the same flags.
        let whole = Plan::make(&project, &filters, Order::ONCE)?;
        let replacements = Replacement::parse_all(&args.replacements, &project, &whole.templates(&project))?;
        let host_names = host_names(args, &project)?;
        let settings = settings(args, context)?;
        require_effects(args, &settings)?;
        let coverage = coverage(args, &project, &settings)?;
        Ok(Some(Self { args, context, again, project, plan, replacements, coverage, host_names, settings }))
    }

    /// Rejects a project without scenarios.
    fn require_cases(&self) -> Result<(), Error> {
        if self.plan.cases.is_empty() {
            return Err(Error::Usage(format!("there is no scenario in {}", self.project.scenarios_dir.display())));
        }
        Ok(())
    }

    /// Rejects `--break-on-failure` without a terminal, on which the prompt could be answered.
    fn require_prompt(&self) -> Result<(), Error> {
        if self.args.break_on_failure && !std::io::stdin().is_terminal() {
            let message = "--break-on-failure opens a prompt, and stdin is not a terminal; --keep-containers keeps the \
                           lab of a failed case instead";
            return Err(Error::Usage(message.into()));
        }
        Ok(())
    }

    /// Shows the plan with its layers and faults, for `--dry-run`.
    fn show_plan(&mut self) -> anyhow::Result<u8> {
        let schedules = self.schedules()?;
        let layers = image::status(&self.project, &self.plan.templates(&self.project), &self.replacements)?;
        let timeout = self.settings.timeout.value.every();
        let shown = plan_view::Shown { layers: &layers, schedules: schedules.as_ref(), timeout };
        plan_view::dry_run(&self.project, &self.plan, &shown, self.context.format);
        Ok(EXIT_PASSED)
    }

    /// Installs missing dependencies if `--setup` is given; an error if a tool that the templates need is missing.
    fn prepare_host(&self) -> anyhow::Result<()> {
        if self.args.setup {
            let say = |line: &str| self.context.terminal.say(line);
            setup::install_missing(&doctor::subject(&self.context.root), &|news| super::setup::tell(news, say))?;
        }
        require_tools(&image::uses_to_run(&self.project, &self.plan.templates(&self.project))?)?;
        Ok(())
    }

    /// Returns the schedules of faults of the cases: those of the earlier run, those of `--chaos-replay`, or newly drawn ones for
    /// `--chaos`.
    fn schedules(&mut self) -> anyhow::Result<Option<Schedules>> {
        let Self { args, context, again, project, plan, .. } = self;
        if let Some(again) = again {
            return again.prepare(project, plan);
        }
        if let Some(from) = &args.chaos_replay {
            return Schedules::replay(project, plan, from).map(Some);
        }
        let Some(profile) = &args.chaos else { return Ok(None) };
        let seed = args.seed.unwrap_or_else(random_seed);
        context.terminal.say(&format!("chaos: profile {profile}, seed {seed} (--chaos={profile} --seed {seed})"));
        Ok(Some(Schedules::draw(project, plan, profile, seed)?))
    }

    /// Prints where the repeated run comes from, and which layers have changed since that run.
    fn tell_notes(&self) -> anyhow::Result<()> {
        let Some(again) = &self.again else { return Ok(()) };
        let notes = again.notes(&self.project, &self.plan, &self.replacements)?;
        notes.iter().for_each(|line| self.context.terminal.say(line));
        Ok(())
    }

    /// Returns the requested comparison; an error, before anything runs, if a baseline or the other templates are missing.
    fn comparing(&self) -> anyhow::Result<Comparing> {
        let Self { args, project, settings, .. } = self;
        if settings.perf_gate.value == PerfGate::Off {
            return Ok(Comparing::Nothing);
        }
        if args.baseline_compare {
            let missing_allowed = settings.baseline_missing.value == BaselineMissing::Allow;
            let settle = settings.settle.value.get().map(|budget| SettleOptions {
                budget,
                seed: args.seed.unwrap_or_else(random_seed),
                pairs: args.pairs,
            });
            return Comparing::committed(project, &self.plan, missing_allowed, settle);
        }
        let Some((name, folder)) = baseline_templates(args, project)? else { return Ok(Comparing::Nothing) };
        Ok(Comparing::Duet(Box::new(DuetOptions {
            baseline: project.with_containers(&folder)?,
            name,
            pairs: args.pairs,
            whole_cases: args.whole_cases,
            seed: args.seed.unwrap_or_else(random_seed),
            measures_same_sides: false,
        })))
    }

    /// Runs the cases, writes the reports and shows the result; returns the exit code.
    fn execute(&self, secrets: Secrets, schedules: Option<Schedules>, comparing: Comparing) -> anyhow::Result<u8> {
        let (project, plan, terminal) = (&self.project, &self.plan, &self.context.terminal);
        let interrupt = Interrupt::listen()?;
        let binaries = ScenarioBinaries::found(project, plan, self.args.programs.folder())?;
        let listener = match self.context.format {
            Format::Human => terminal.listener(),
            Format::Json => Terminal::json_listener(),
        };
        let stops = interrupt.clone();
        terminal.stops_when(move || stops.is_set());
        self.expect_durations();
        let masks = secrets.masks();
        let name = RunName::masked_by(Arc::clone(masks));
        let recorder = Recorder::new(vec![listener, name.listener()]).masked_by(Arc::clone(masks));
        let options = self.options(secrets, schedules, comparing, &interrupt)?;
        let ended = run::execute(project, plan, &options, &binaries, &Arc::new(recorder), &interrupt);
        let reports = name.write_reports(project, self.context);
        Ok(self.show_result(&ended?.record, reports))
    }

    /// Sets the durations of the cases in earlier runs of the same kind, from which the live lines estimate the remaining time.
    fn expect_durations(&self) {
        let Self { args, project, .. } = self;
        let has_chaos = args.chaos.is_some() || args.chaos_replay.is_some();
        let compares = args.baseline_compare || has_pairs(args);
        let is_of_kind = |record: &RunRecord| {
            record.command.iter().any(|word| word == "e2e")
                && record.had_faults() == has_chaos
                && record.compared_with.is_some() == compares
        };
        let cases: Vec<String> = self.plan.cases.iter().map(|case| case.id.clone()).collect();
        if self.context.terminal.is_live()
            && let Some(expected) = expected_durations(&project.root, &cases, is_of_kind)
        {
            self.context.terminal.expect(expected);
        }
    }

    fn options(
        &self,
        secrets: Secrets,
        schedules: Option<Schedules>,
        comparing: Comparing,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Options> {
        let Self { args, settings, .. } = self;
        Ok(Options {
            slot: settings.slot.value.to_string(),
            wait: if args.no_wait { Wait::Never } else { Wait::UntilFree },
            keep: settings.keep_containers.value,
            stay: Stay::of(settings.ttl.value.get()),
            breakpoints: args.break_on_failure.then(|| {
                let machines = if args.freeze { Machines::Freeze } else { Machines::Run };
                let prompt = HoldPrompt::new(interrupt.clone(), Arc::clone(&self.context.terminal));
                Breakpoints::new(Box::new(prompt), machines)
            }),
            failures_max: settings.max_fail.value.get(),
            retries: settings.retries.value.get(),
            timeout: settings.timeout.value.every(),
            defects_only: false,
            schedules,
            monitoring: monitoring(settings, &comparing),
            comparing,
            fails_when_regressed: settings.perf_gate.value == PerfGate::Fail,
            host_names: self.host_names.clone(),
            replacements: self.replacements.clone(),
            coverage: self.coverage.clone(),
            secrets,
            command: self.own_words(),
            working_dir: std::env::current_dir().context("finding the working directory")?,
            part: None,
        })
    }

    /// Returns the command line to be recorded. It lacks the arguments that the engine adds when it becomes root, has flags for settings
    /// from the environment, and names a repeated run in a way that stays valid.
    fn own_words(&self) -> Vec<String> {
        let own = sudo::after_verb(sudo::own_words(), self.settings.flags_for_variables(&RECORDED));
        match &self.again {
            Some(again) => again.own_words(own, &self.args.filters),
            None => own,
        }
    }

    fn show_result(&self, record: &RunRecord, reports: Reports) -> u8 {
        let terminal = &self.context.terminal;
        if self.context.format == Format::Human {
            terminal.show_result(record, &self.project.root.join(RUNS_FOLDER).join(&record.run_id));
        }
        let exit_code = reports.exit_code(record.exit_code);
        if exit_code != record.exit_code {
            terminal
                .warn(&format!("the run passed, but not all of its reports could be written: exit code {exit_code}"));
        }
        exit_code
    }
}

/// Returns the earlier run that `--rerun-failed` or `--from-bundle` names; `None` without these flags.
fn again(args: &Args, context: &Context) -> anyhow::Result<Option<Again>> {
    Ok(match (&args.rerun_failed, &args.from_bundle) {
        (Some(run), _) => Some(Again::of_run(context, run)?),
        (None, Some(file)) => Some(Again::of_bundle(context, file)?),
        (None, None) => None,
    })
}

/// Returns the chosen cases in the order in which they run; with `--shard`, only the cases of the shard.
fn plan(args: &Args, project: &Project, filters: &[String]) -> anyhow::Result<Plan> {
    let shuffle_seed = args.shuffle.map(|given| given.unwrap_or_else(random_seed));
    let mut plan = Plan::make(project, filters, Order { repeat: args.repeat, shuffle_seed })?;
    if let Some(shard) = args.shard {
        plan.keep_shard(shard, &Durations::read(project)?)?;
    }
    Ok(plan)
}

fn random_seed() -> u64 {
    u64::from(rand::random::<u32>())
}

/// Tells whether the flags ask for a duet: a comparison in two labs, pair by pair.
fn has_pairs(args: &Args) -> bool {
    args.baseline_ref.is_some() || args.baseline_dir.is_some()
}

/// Rejects flags that would have no effect together with the others.
fn require_effects(args: &Args, settings: &Settings) -> Result<(), Error> {
    let settles = settings.settle.value.get().is_some();
    if args.seed.is_some() && args.chaos.is_none() && !has_pairs(args) && !settles {
        let message = "--seed has an effect only with --chaos, --baseline-ref, --baseline-dir or --settle";
        return Err(Error::Usage(message.into()));
    }
    if args.pairs.is_some() && !has_pairs(args) && !settles {
        let message = "--pairs has an effect only with --baseline-ref REV, --baseline-dir DIR or --settle";
        return Err(Error::Usage(message.into()));
    }
    if args.whole_cases && !has_pairs(args) {
        let message = "--whole-cases has an effect only with --baseline-ref REV or --baseline-dir DIR";
        return Err(Error::Usage(message.into()));
    }
    Ok(())
}

/// Returns the settings of this run; its flags precede the environment and `e2e.toml`.
fn settings(args: &Args, context: &Context) -> Result<Settings, Error> {
    let settings = context.settings.with_run(&args.flags);
    let is_flag = |origin: &Origin| matches!(origin, Origin::Flag(_));
    if is_flag(&settings.ttl.origin) && settings.keep_containers.value == KeepWhen::Never {
        return Err(Error::Usage("--ttl has an effect only on a kept lab: give --keep-containers too".into()));
    }
    if is_flag(&settings.baseline_missing.origin) && !args.baseline_compare {
        return Err(Error::Usage("--baseline-missing has an effect only with --baseline-compare".into()));
    }
    if is_flag(&settings.settle.origin) && !args.baseline_compare {
        return Err(Error::Usage("--settle has an effect only with --baseline-compare".into()));
    }
    let settles_by_flag = is_flag(&settings.settle.origin) && settings.settle.value.get().is_some();
    let settings = if has_pairs(args) || settles_by_flag { settings.for_pairs() } else { settings };
    let settings = if args.baseline_compare { settings } else { settings.without_baselines() };
    Ok(if settings.keep_containers.value == KeepWhen::Never { settings.without_ttl() } else { settings })
}

/// Returns the package of `--coverage`; an error if the run also measures, because coverage costs time.
fn coverage(args: &Args, project: &Project, settings: &Settings) -> anyhow::Result<Option<CoveredPackage>> {
    let Some(given) = &args.coverage else { return Ok(None) };
    let monitoring = &settings.performance_monitoring;
    if monitoring.value.get().is_some() {
        let message = "--coverage and --performance-monitoring exclude each other: coverage costs processor time in every call, which \
                       would be measured";
        return Err(Error::Usage(message.into()).into());
    }
    CoveredPackage::find(project, Some(given.as_str()).filter(|given| !given.is_empty())).map(Some)
}

/// Returns the name and the folder of the templates to compare with; `None` without `--baseline-ref` and `--baseline-dir`.
fn baseline_templates(args: &Args, project: &Project) -> anyhow::Result<Option<(String, PathBuf)>> {
    if let Some(revision) = &args.baseline_ref {
        let folder = project.containers_dir.strip_prefix(&project.root).unwrap_or(&project.containers_dir);
        let into = project.root.join("target/e2e/refs");
        let exported = git::export(&project.root, revision, folder, &into, &Invoker::find())?;
        let commit = &exported.commit[..exported.commit.len().min(12)];
        return Ok(Some((format!("{revision} ({commit})"), exported.path)));
    }
    let Some(folder) = &args.baseline_dir else { return Ok(None) };
    let folder = std::path::absolute(folder).context("resolving the path of --baseline-dir")?;
    if !input::is_folder(&folder) {
        return Err(Error::Usage(format!("--baseline-dir: there is no folder {}", folder.display())).into());
    }
    Ok(Some((folder.display().to_string(), folder)))
}

/// Returns the sampling rate of resource usage, whether to calibrate, and the number of samples of each operation: for a comparison with
/// committed baselines, as many as the baseline has.
fn monitoring(settings: &Settings, comparing: &Comparing) -> Monitoring {
    let asked_hz = settings.performance_monitoring.value.get();
    let rate_hz = asked_hz.unwrap_or(Monitoring::ALWAYS.rate_hz);
    let committed = matches!(comparing, Comparing::Committed { .. });
    let duet = matches!(comparing, Comparing::Duet(_));
    Monitoring { rate_hz, calibrate: committed || (asked_hz.is_some() && !duet), samples: None }
}

fn host_names(args: &Args, project: &Project) -> Result<BTreeMap<String, String>, Error> {
    if args.e2e_containers.len() > project.container_order.len() {
        return Err(Error::Usage(format!(
            "--e2e-containers has {} names, but `containers` in e2e.toml lists only {} ({})",
            args.e2e_containers.len(),
            project.container_order.len(),
            project.container_order.join(", ")
        )));
    }
    for (place, name) in args.e2e_containers.iter().enumerate() {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 60 || !name.chars().all(good) || name.starts_with('-') {
            return Err(Error::Usage(format!(
                "--e2e-containers: {name:?} is no name for a container: use 1 to 60 letters, digits, '-' and '_', not '-' first"
            )));
        }
        if args.e2e_containers[..place].contains(name) {
            return Err(Error::Usage(format!("--e2e-containers names {name:?} twice")));
        }
    }
    Ok(project.container_order.iter().cloned().zip(args.e2e_containers.iter().cloned()).collect())
}
