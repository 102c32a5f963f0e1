//! `cargo xtask mutants`: breaks the product on purpose, one mutant at a time, and reports which mutants the suite notices.

use std::sync::Arc;

use serde_json::json;

use super::help::CHOOSING;
use super::reports::RunName;
use super::secrets::SecretFlags;
use super::settings::SlotFlag;
use super::sudo::{ProgramsArgs, own_words};
use super::{Context, Format, sudo};
use crate::error::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PASSED, Error};
use crate::host::doctor::require_tools;
use crate::host::invoker::{Invoker, is_root};
use crate::image;
use crate::manifest::{MUTANTS_FOLDER, Mutant, MutantFate, Project};
use crate::program;
use crate::record::{
    MUTANTS_FILE, MUTANTS_VERSION, Masks, MutantReport, MutantResult, PastRun, RUNS_FOLDER, Recorder, RunDir,
    RunRecord, plain_text,
};
use crate::report::files;
use crate::report::terminal::{Amount, println};
use crate::run::{
    self, CoveredPackage, EMPTIED, EmptiedChoice, Interrupt, MutantStage, MutantSuite, MutantWatch, Options,
    ScenarioBinaries,
};

/// Maximum characters of a reason in the table; the record has the whole reason.
const REASON_MAX: usize = 160;

/// Check that the suite notices a broken product
///
/// Runs the scenarios that have to notice a mutant: first on the product as it is, then on each mutant of scenarios/mutants/.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask mutants                        # all of them
  cargo xtask mutants half_upload            # one
  cargo xtask mutants --sample 10 --seed 7   # ten of them, the same each time
  cargo xtask mutants --empty 40 --seed 7    # 40 functions of the product emptied, one at a time
  cargo xtask mutants --list",
    after_long_help = "Exit codes: 0 every mutant was killed by the check that its file names, or is equivalent; 1 one was \
                       not, or a scenario failed on the product as it is; 2 bad usage or a bad file; 3 infrastructure \
                       error; 5 interrupted."
)]
pub struct Args {
    /// Names of mutants; all of them if none is given.
    #[arg(value_name = "NAME", help_heading = CHOOSING)]
    mutants: Vec<String>,
    /// Draw N of the chosen mutants.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = CHOOSING)]
    sample: Option<u32>,
    /// Empty N functions of the Python product instead, drawn at random.
    ///
    /// The product is the package that `of` in [coverage] of e2e.toml names. Functions are drawn among those that the scenarios' programs
    /// call; each returns at once. The names empty:MODULE:FUNCTION choose functions without a draw.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = CHOOSING,
          conflicts_with_all = ["mutants", "sample", "list"])]
    empty: Option<u32>,
    /// Seed of the draw [default: random, printed].
    #[arg(long, value_name = "SEED", help_heading = CHOOSING)]
    seed: Option<u64>,
    /// List the mutants, and run none.
    #[arg(long, help_heading = CHOOSING)]
    list: bool,
    #[command(flatten)]
    slot: SlotFlag,
    #[command(flatten)]
    secrets: SecretFlags,
    #[command(flatten)]
    programs: ProgramsArgs,
}

impl Args {
    /// Tells whether this command line creates labs, as all do except `--list`.
    pub fn makes_labs(&self) -> bool {
        !self.list
    }
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    if args.seed.is_some() && args.sample.is_none() && args.empty.is_none() {
        return Err(Error::Usage("--seed has an effect only with --sample or --empty".into()).into());
    }
    let emptied = emptied(args, &project)?;
    let chosen = if emptied.is_some() { Vec::new() } else { chosen(args, &project)? };
    let plan_of = |mutants: &[Mutant]| match emptied {
        Some(_) => run::plan_emptied(&project),
        None => run::plan_mutants(&project, mutants),
    };
    if !args.list && !is_root() {
        // Whatever sample root draws, its scenarios are built.
        let plan = plan_of(&chosen)?;
        return sudo::again_with_scenarios(&project, &plan, &args.programs, &args.secrets, &context.terminal);
    }
    let sample_seed = args.sample.map(|_| args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())));
    let mutants = match (args.sample, sample_seed) {
        (Some(count), Some(seed)) => {
            context.terminal.say(&format!("sample of mutants: --sample {count} --seed {seed}"));
            run::sample(chosen, count as usize, seed)
        }
        _ => chosen,
    };
    if args.list {
        list(&mutants, context.format);
        return Ok(EXIT_PASSED);
    }
    let secrets = args.secrets.given(&project)?;
    let masks = Arc::clone(secrets.masks());
    if let Some((_, EmptiedChoice::Drawn(number, seed))) = &emptied {
        context.terminal.say(&format!("draw of functions: --empty {number} --seed {seed}"));
    }
    let plan = plan_of(&mutants)?;
    require_tools(&image::uses_to_run(&project, &plan.templates(&project))?)?;
    let interrupt = Interrupt::listen()?;
    let binaries = ScenarioBinaries::found(&project, &plan, args.programs.folder())?;
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    let options = Options { command: own_words(), secrets, ..Options::plain(args.slot.number(&context.settings))? };
    let suite = MutantSuite {
        project: &project,
        mutants: &mutants,
        sample_seed,
        options: &options,
        binaries: &binaries,
        interrupt: &interrupt,
    };
    let unbroken = RunName::masked_by(Arc::clone(&masks));
    let watch = Watch { context, project: &project, unbroken, masks };
    let report = match &emptied {
        Some((of, choice)) => run::run_emptied(&suite, of, choice, &watch),
        None => run::run_mutants(&suite, &watch),
    };
    context.terminal.end();
    let report = report?;
    match context.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Human => show(&report),
    }
    Ok(report.exit_code)
}

/// Returns the mutants that the command line names, or all.
fn chosen(args: &Args, project: &Project) -> anyhow::Result<Vec<Mutant>> {
    let chosen = Mutant::choose(Mutant::read_all(project)?, &args.mutants)?;
    if chosen.is_empty() {
        let folder = project.scenarios_dir.join(MUTANTS_FOLDER);
        let message = format!("there is no mutant in {}: docs/mutants.md says how to write one", folder.display());
        return Err(Error::Usage(message).into());
    }
    Ok(chosen)
}

/// Returns the package whose functions are emptied, and their choice; `None` for mutants of files.
fn emptied(args: &Args, project: &Project) -> anyhow::Result<Option<(CoveredPackage, EmptiedChoice)>> {
    let functions: Vec<String> =
        args.mutants.iter().filter_map(|name| Some(name.strip_prefix(EMPTIED)?.to_owned())).collect();
    let choice = match args.empty {
        Some(number) => EmptiedChoice::Drawn(number, args.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()))),
        None if functions.is_empty() => return Ok(None),
        None if functions.len() < args.mutants.len() || args.sample.is_some() || args.list => {
            let message =
                format!("names that begin with {EMPTIED} go with no other name, and not with --sample or --list");
            return Err(Error::Usage(message).into());
        }
        None => EmptiedChoice::Named(functions),
    };
    Ok(Some((CoveredPackage::find(project, None)?, choice)))
}

fn list(mutants: &[Mutant], format: Format) {
    if format == Format::Json {
        let one = |mutant: &Mutant| {
            json!({ "name": mutant.name, "breaks": mutant.breaks, "on": mutant.on,
                    "scenario": mutant.notice().map(|notice| &notice.filter) })
        };
        println!(
            "{:#}",
            json!({ "format_version": MUTANTS_VERSION, "mutants": mutants.iter().map(one).collect::<Vec<_>>() })
        );
        return;
    }
    let width = mutants.iter().map(|mutant| mutant.name.len()).max().unwrap_or(0);
    for mutant in mutants {
        let noticed = match &mutant.expected {
            MutantFate::Noticed(notice) => format!("{}: {}", notice.filter, notice.check),
            MutantFate::Equivalent(reason) => format!("equivalent: {reason}"),
        };
        println!("{:width$}  {} ({noticed})", mutant.name, mutant.breaks);
    }
}

/// Prints a table with the verdict on each mutant.
fn show(report: &MutantReport) {
    let width = report.mutants.iter().map(|result| result.name.len()).max().unwrap_or(0);
    for result in &report.mutants {
        println!("{}", row(result, width));
    }
    println!("{}", result_line(report));
}

/// Returns the last line of the output: the counts of verdicts, or the reason why no mutant was tried.
fn result_line(report: &MutantReport) -> String {
    let Some(run) = &report.run else { return report.counts.to_string() };
    if report.unbroken_passed {
        let cut = if report.exit_code == EXIT_INTERRUPTED { ", interrupted before the others" } else { "" };
        let drawn = report.emptied.as_ref().map_or_else(String::new, |draw| {
            let share = f64::from(report.counts.killed) / f64::from(report.counts.judged().max(1)) * 100.0;
            format!(
                " ({share:.0} %) of {} functions of {} {} that drivers call; {} more do nothing",
                draw.candidates, draw.package, draw.version, draw.do_nothing
            )
        });
        return format!("{}{drawn}{cut}; {RUNS_FOLDER}/{run}/{MUTANTS_FILE}", report.counts);
    }
    let why = match report.exit_code {
        EXIT_FAILED => "the suite fails on the product as it is",
        EXIT_INTERRUPTED => "the run on the product as it is was interrupted",
        _ => "the product as it is was not tested, for an infrastructure error",
    };
    format!("no mutant was tried: {why}: `{} runs show {run}`", program::name())
}

/// Returns the table's line of a mutant, with the beginning of the reason.
fn row(result: &MutantResult, width: usize) -> String {
    let time = result.duration_ms.map_or_else(String::new, |ms| format!("{:.0} s", ms / 1e3));
    let scenario = result.scenario.as_ref().map_or_else(String::new, |scenario| format!("{scenario}: "));
    let reason = result.reason.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let short: String = reason.chars().take(REASON_MAX).collect();
    let cut = if short.len() < reason.len() { " ..." } else { "" };
    plain_text(&format!("{:<18}  {:width$}  {time:>5}  {scenario}{short}{cut}", result.verdict, result.name))
}

/// Observer of the runs on mutants: shows their progress, and writes the reports of each run.
struct Watch<'a> {
    context: &'a Context,
    project: &'a Project,
    unbroken: RunName,
    masks: Arc<Masks>,
}

impl Watch<'_> {
    fn write_reports(&self, record: &RunRecord) -> anyhow::Result<()> {
        let run = PastRun::find(&self.project.root, &record.run_id)?;
        let dir = RunDir::of(&run, Invoker::find())?.masked_by(Arc::clone(&self.masks));
        files::write_all(&run, &dir).iter().for_each(|problem| self.context.terminal.warn(problem));
        Ok(())
    }
}

impl MutantWatch for Watch<'_> {
    fn begins(&self, stage: MutantStage<'_>) -> Arc<Recorder> {
        let terminal = &self.context.terminal;
        let recorder = match stage {
            MutantStage::Unbroken => Recorder::new(vec![terminal.listener(), self.unbroken.listener()]),
            // Its failures are what is hoped for: they are told as verdicts.
            MutantStage::Mutant { name, breaks, place, among } => {
                let (done, of) = (count(place), count(among));
                terminal.say(&format!("mutant {} of {of}: {name}, {breaks}", done + 1));
                if terminal.is_live() {
                    terminal.show_amount(Amount { what: format!("mutants, now {name}"), done, of });
                }
                Recorder::new(Vec::new())
            }
        };
        Arc::new(recorder.masked_by(Arc::clone(&self.masks)))
    }

    fn ended(&self, stage: MutantStage<'_>, record: Option<&RunRecord>) {
        match stage {
            MutantStage::Unbroken => {
                self.unbroken.write_reports(self.project, self.context);
                if let Some(record) = record.filter(|record| record.exit_code != EXIT_PASSED) {
                    let folder = self.project.root.join(RUNS_FOLDER).join(&record.run_id);
                    self.context.terminal.show_problems(record, &folder);
                }
            }
            // No annotations: a mutant that is killed is no failure of the suite.
            MutantStage::Mutant { name, .. } => {
                if let Some(Err(error)) = record.map(|record| self.write_reports(record)) {
                    self.context.terminal.warn(&format!("mutant {name}: no report can be made: {error:#}"));
                }
            }
        }
    }

    fn judged(&self, result: &MutantResult) {
        self.context.terminal.say(&row(result, result.name.len()));
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EmptiedDraw, MutantVerdict};

    #[test]
    fn the_last_line_says_why_no_mutant_was_tried() {
        let mut report = MutantReport { run: Some("run-1".into()), ..MutantReport::new(None) };
        let mut check = |unbroken_passed, exit_code, expected: &str| {
            (report.unbroken_passed, report.exit_code) = (unbroken_passed, exit_code);
            assert_eq!(result_line(&report), expected);
        };
        check(true, 0, "0 of 0 killed; target/e2e/run-1/mutants.json");
        check(true, 5, "0 of 0 killed, interrupted before the others; target/e2e/run-1/mutants.json");
        let show = "`cargo xtask runs show run-1`";
        check(false, 1, &format!("no mutant was tried: the suite fails on the product as it is: {show}"));
        check(
            false,
            3,
            &format!("no mutant was tried: the product as it is was not tested, for an infrastructure error: {show}"),
        );
        check(false, 5, &format!("no mutant was tried: the run on the product as it is was interrupted: {show}"));
    }

    #[test]
    fn the_last_line_has_the_share_of_emptied_functions_that_were_killed() {
        let mut report = MutantReport { run: Some("run-1".into()), ..MutantReport::new(Some(7)) };
        report.emptied =
            Some(EmptiedDraw { package: "shop".into(), version: "1.2".into(), candidates: 200, do_nothing: 3 });
        (report.counts.killed, report.counts.survived) = (2, 1);
        assert_eq!(
            result_line(&report),
            "2 of 3 killed, 1 survived (67 %) of 200 functions of shop 1.2 that drivers call; 3 more do nothing; \
             target/e2e/run-1/mutants.json"
        );
    }

    #[test]
    fn a_row_is_one_line_and_harmless() {
        let result = MutantResult {
            name: "half".into(),
            breaks: "b".into(),
            verdict: MutantVerdict::KilledUnexplained,
            scenario: Some("a/b:c".into()),
            reason: format!("first\n  second \u{1b}[2J{}", "x".repeat(REASON_MAX)),
            reached: Vec::new(),
            run: None,
            duration_ms: Some(12_400.0),
        };
        let row = row(&result, 6);
        assert!(row.starts_with("killed unexplained  half     12 s  a/b:c: first second "), "{row}");
        assert!(row.ends_with("x ...") && !row.contains(['\u{1b}', '\n']), "{row}");
    }
}
