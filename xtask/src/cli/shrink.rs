//! `cargo xtask shrink`: finds a smallest schedule of faults that still makes a case fail.

use serde_json::json;

use super::secrets::SecretFlags;
use super::settings::SlotFlag;
use super::sudo::ProgramsArgs;
use super::{Context, Format, sudo};
use crate::error::EXIT_PASSED;
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::image;
use crate::manifest::Project;
use crate::plan::{Order, Plan};
use crate::program;
use crate::report::terminal::println;
use crate::run::{self, Failure, Interrupt, Options, ScenarioBinaries, Tries};

/// Find the few faults of a run that make a case fail.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask shrink latest
  cargo xtask shrink latest --case chaos_gauntlet --times 5",
    after_long_help = "`shrink` reruns the case with fewer faults, then with shorter and milder ones, as long as the case \
                        fails in the same way. The result is a schedule for `cargo xtask e2e --chaos-replay FILE`."
)]
pub struct Args {
    /// Run: its name, its folder, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Case to shrink, needed if several cases failed.
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
    /// Maximum runs of each candidate schedule; one failure is enough.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    times: u32,
    /// Number of runs of the result, to report how often it fails.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    verify: u32,
    #[command(flatten)]
    slot: SlotFlag,
    #[command(flatten)]
    secrets: SecretFlags,
    #[command(flatten)]
    programs: ProgramsArgs,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let failure = Failure::find(&project, &args.run, args.case.as_deref())?;
    let plan = Plan::make(&project, std::slice::from_ref(&failure.case), Order::ONCE)?;
    if !is_root() {
        return sudo::again_with_scenarios(&project, &plan, &args.programs, &args.secrets, &context.terminal);
    }
    let secrets = args.secrets.given(&project)?;
    require_tools(&image::uses_to_run(&project, &plan.templates(&project))?)?;
    let interrupt = Interrupt::listen()?;
    let binaries = ScenarioBinaries::found(&project, &plan, args.programs.folder())?;
    let options = Options { secrets, ..Options::plain(args.slot.number(&context.settings))? };
    context.terminal.say(&format!("{}: {}", failure.case, failure.cause));
    let tries = Tries { candidate: args.times, result: args.verify };
    let observe = |line: String| context.terminal.say(&line);
    let shrunk = run::shrink(&project, &failure, tries, &options, &binaries, &interrupt, &observe)?;
    let file = shrunk.file.strip_prefix(&project.root).unwrap_or(&shrunk.file).display().to_string();
    let replay = format!("{} e2e {} --chaos-replay {file}", program::name(), failure.case);
    if context.format == Format::Json {
        let mut value = json!({ "format_version": 1, "case": failure.case, "cause": failure.cause, "replay": replay });
        if let (Some(all), Ok(serde_json::Value::Object(more))) = (value.as_object_mut(), serde_json::to_value(&shrunk))
        {
            all.extend(more);
        }
        println!("{value:#}");
        return Ok(EXIT_PASSED);
    }
    println!(
        "{} of {} faults are left, after {} candidates in {} runs; fails in {} of {} runs",
        shrunk.schedule.faults.len(),
        shrunk.faults_before,
        shrunk.candidates,
        shrunk.runs,
        shrunk.failed,
        shrunk.of
    );
    for planned in &shrunk.schedule.faults {
        println!(
            "    at {} ms for {} ms: {} on {}",
            planned.at_ms, planned.duration_ms, planned.fault, planned.container
        );
    }
    println!("replay: {replay}");
    Ok(EXIT_PASSED)
}
