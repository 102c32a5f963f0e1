//! `cargo xtask defects`: tries the known defects alone, and reports which are present in a version of the product.

use std::sync::Arc;

use serde_json::json;

use super::help::CHOOSING;
use super::reports::RunName;
use super::secrets::SecretFlags;
use super::settings::SlotFlag;
use super::sudo::{ProgramsArgs, own_words};
use super::{Context, Format, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::image::{self, Replacement};
use crate::manifest::Project;
use crate::record::{DEFECTS_FILE, DEFECTS_VERSION, DefectReport, DefectResult, RUNS_FOLDER, Recorder, plain_text};
use crate::report::terminal::println;
use crate::run::{self, DefectPlan, Interrupt, Options, ScenarioBinaries};

/// Maximum characters of what was seen in the table; the report has the whole text.
const SEEN_MAX: usize = 160;

/// Tell which known defects a version of the product has
///
/// Runs the probes of known defects alone, without the scenarios around them, each scenario's in a fresh lab. The table says of each
/// defect whether it is present, gone, or cannot be told, and what was seen.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask defects                              # all, against the pinned product
  cargo xtask defects quoting                      # those with this in their names
  cargo xtask defects inventory                    # those of a scenario
  cargo xtask defects --set app.mancer=../mancer   # against another version of the product
  cargo xtask defects --list",
    after_long_help = "Exit codes: 0 every defect is present; 1 one is gone, or cannot be told; 2 bad usage or a bad file, or the \
                       package of --set is refused, because the template does not pin what it requires; 3 an infrastructure \
                       error prevented all answers; 5 interrupted."
)]
pub struct Args {
    /// Defects to try [default: all].
    ///
    /// A defect's name or a part of it, or a scenario, which means all of its defects.
    #[arg(value_name = "NAME", help_heading = CHOOSING)]
    defects: Vec<String>,
    /// List the known defects, and try none.
    #[arg(long, help_heading = CHOOSING)]
    list: bool,
    /// Replace a pinned package of a template by a local one.
    ///
    /// PATH is a wheel or a source tree, as in app.mancer=PATH. Everything else that the template pins stays.
    #[arg(long = "set", value_name = "TEMPLATE.PACKAGE=PATH")]
    replacements: Vec<String>,
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
    let chosen = DefectPlan::make(&project, &args.defects)?;
    if args.list {
        list(&chosen, context.format);
        return Ok(EXIT_PASSED);
    }
    if chosen.defects.is_empty() {
        let message = "no scenario lists known defects: docs/defects.md says how to mark one";
        return Err(Error::Usage(message.into()).into());
    }
    let templates = chosen.plan.templates(&project);
    let replacements = Replacement::parse_all(&args.replacements, &project, &templates)?;
    if !is_root() {
        return sudo::again_with_scenarios(&project, &chosen.plan, &args.programs, &args.secrets, &context.terminal);
    }
    let secrets = args.secrets.given(&project)?;
    let masks = Arc::clone(secrets.masks());
    require_tools(&image::uses_to_run(&project, &templates)?)?;
    let interrupt = Interrupt::listen()?;
    let binaries = ScenarioBinaries::found(&project, &chosen.plan, args.programs.folder())?;
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    let plain = Options::plain(args.slot.number(&context.settings))?;
    let options = Options { command: own_words(), secrets, replacements, ..plain };
    let name = RunName::masked_by(Arc::clone(&masks));
    let recorder = Recorder::new(vec![context.terminal.listener(), name.listener()]).masked_by(masks);
    let report = run::run_defects(&project, &chosen, &options, &binaries, &Arc::new(recorder), &interrupt);
    context.terminal.end();
    let reports = name.write_reports(&project, context);
    let report = report?;
    match context.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Human => table(&report).iter().for_each(|line| println!("{line}")),
    }
    match &report.refused {
        Some(why) => Err(Error::Usage(format!("refused: {why}")).into()),
        None => Ok(reports.exit_code(report.exit_code)),
    }
}

fn list(chosen: &DefectPlan, format: Format) {
    if format == Format::Json {
        let one = |(name, case): &(String, String)| json!({ "name": name, "case": case });
        let all: Vec<_> = chosen.defects.iter().map(one).collect();
        println!("{:#}", json!({ "format_version": DEFECTS_VERSION, "defects": all }));
        return;
    }
    let width = chosen.defects.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, case) in &chosen.defects {
        println!("{name:width$}  {}", scenario(case));
    }
}

/// Returns the lines of the table: the product's packages, a row for each answer, the counts and the file. A refused package has none.
fn table(report: &DefectReport) -> Vec<String> {
    if report.refused.is_some() {
        return Vec::new();
    }
    let mut lines: Vec<String> = report.packages.iter().map(|package| plain_text(&package.to_string())).collect();
    let width = |of: fn(&DefectResult) -> usize, least: usize| report.defects.iter().map(of).fold(least, usize::max);
    let names = width(|one| one.name.len(), "defect".len());
    let scenarios = width(|one| scenario(&one.case).len(), "scenario".len());
    lines.push(format!("{:names$}  {:scenarios$}  {:11}  seen", "defect", "scenario", "answer"));
    lines.extend(report.defects.iter().map(|one| {
        let row = format!("{:names$}  {:scenarios$}  {:11}  ", one.name, scenario(&one.case), one.verdict);
        plain_text(&(row + &short(&one.seen)))
    }));
    lines.push(format!("{}; {RUNS_FOLDER}/{}/{DEFECTS_FILE}", report.counts, report.run));
    lines
}

/// Returns the scenario of a case, as `category/scenario`.
fn scenario(case: &str) -> &str {
    case.split(':').next().unwrap_or(case)
}

/// Returns the beginning of a text, in one line.
fn short(text: &str) -> String {
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(SEEN_MAX).collect();
    if short.len() < line.len() { format!("{short} ...") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{DefectVerdict, ProductPackage};

    #[test]
    fn the_table_says_which_version_and_what_was_seen() {
        let result = |name: &str, verdict, seen: &str| DefectResult {
            name: name.into(),
            case: "shop/orders:small".into(),
            verdict,
            seen: seen.into(),
            place: None,
        };
        let package = |template: &str, path: Option<&str>| ProductPackage {
            template: template.into(),
            package: "shop".into(),
            version: "1.1".into(),
            path: path.map(str::to_owned),
        };
        let results = vec![
            result("shop-1.0/totals", DefectVerdict::Gone, "observed: 7"),
            result("shop-1.0/dots", DefectVerdict::Present, "it failed: a\n  b \u{1b}[2J"),
            result("shop-1.0/late", DefectVerdict::CannotTell, &"x".repeat(SEEN_MAX + 1)),
        ];
        let packages = vec![package("app", Some("/src/shop")), package("db", None)];
        let report = DefectReport::new("run-1".into(), packages, results, 1);
        let lines = table(&report);
        assert_eq!(
            &lines[..3],
            [
                "shop 1.1 in app, from /src/shop",
                "shop 1.1 in db, as pinned",
                "defect           scenario     answer       seen"
            ]
        );
        assert!(lines[3].starts_with("shop-1.0/dots    shop/orders  present      it failed: a b "), "{}", lines[3]);
        assert!(!lines[3].contains('\u{1b}') && lines[4].ends_with("x ..."), "{lines:?}");
        assert_eq!(lines[5], "shop-1.0/totals  shop/orders  gone         observed: 7");
        assert_eq!(lines[6], "1 present, 1 gone, 1 cannot tell; target/e2e/run-1/defects.json");
        let refused = DefectReport { refused: Some("--set: no".into()), ..report };
        assert_eq!(table(&refused), Vec::<String>::new());
    }
}
