//! `cargo xtask baseline-update`: measures new baselines, and compares them with the old ones.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::baseline::print_comparisons;
use super::reports::RunName;
use super::secrets::SecretFlags;
use super::settings::SlotFlag;
use super::sudo::ProgramsArgs;
use super::{Context, Format, sudo};
use crate::baseline::{Store, Update};
use crate::error::{EXIT_FAILED, Error};
use crate::host::doctor::require_tools;
use crate::host::invoker::{Invoker, is_root};
use crate::image::{self, Replacement};
use crate::manifest::{Project, RepeatTime, word_within};
use crate::plan::{Order, Plan};
use crate::record::{RUNS_FOLDER, Recorder};
use crate::report::terminal::println;
use crate::run::{self, Executed, Interrupt, Monitoring, Options, ReferenceSource, Samples, ScenarioBinaries};
use e2e_stats::COMMITTED_SAMPLES;

/// Take baselines on this machine, to be committed.
///
/// A baseline has samples of every measured operation.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask baseline-update data_ingestion
  cargo xtask baseline-update --samples 60",
    after_long_help = "Every repeatable operation (`measure_n`) is run at least N times and for at least TIME, with a fixed piece of work before each \
                  repetition. The raw samples go to baselines/MACHINE-CLASS/CATEGORY/SCENARIO.json, and what identifies the machines, for \
                  `e2e --settle`, to baselines/references/: commit both. Old baselines stay until the new \
                  ones are completely on the disk; samples of a failed or flaky run are not stored. The comparison of the \
                  new with the old baselines is printed: read it before you commit.\n\n\
                  Exit codes: 0 all stored, 1 a scenario did not pass at once, 2 bad usage or a bad file, 3 infrastructure \
                  error, 5 interrupted."
)]
pub struct Args {
    /// Scenarios to measure, chosen as for `e2e` [default: all].
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// Minimum samples of each operation.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(30..=1000))]
    samples: u32,
    /// Minimum time for which each operation is repeated: a machine's speed varies over seconds.
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = word_within::<RepeatTime>)]
    over: Duration,
    /// Replace a pinned package of a template by a local one, as for `e2e`.
    ///
    /// The baseline says so: it names the revision or the content of the tree.
    #[arg(long = "set", value_name = "TEMPLATE.PACKAGE=PATH")]
    replacements: Vec<String>,
    #[command(flatten)]
    slot: SlotFlag,
    #[command(flatten)]
    secrets: SecretFlags,
    #[command(flatten)]
    programs: ProgramsArgs,
}

/// Share of time that a lab's programs waited for a processor, above which this machine counts as busy. On a quiet machine with two
/// processors, no scenario of the suite reaches it.
const BUSY_MACHINE: f64 = 0.25;

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    debug_assert!(args.samples as usize >= COMMITTED_SAMPLES);
    let project = Project::read(&context.root)?;
    let plan = Plan::make(&project, &args.filters, Order::ONCE)?;
    if plan.cases.is_empty() {
        return Err(Error::Usage(format!("there is no scenario in {}", project.scenarios_dir.display())).into());
    }
    let replacements = Replacement::parse_all(&args.replacements, &project, &plan.templates(&project))?;
    if !is_root() {
        return sudo::again_with_scenarios(&project, &plan, &args.programs, &args.secrets, &context.terminal);
    }
    let secrets = args.secrets.given(&project)?;
    require_tools(&image::uses_to_run(&project, &plan.templates(&project))?)?;
    let interrupt = Interrupt::listen()?;
    let binaries = ScenarioBinaries::found(&project, &plan, args.programs.folder())?;
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    let name = RunName::masked_by(Arc::clone(secrets.masks()));
    let recorder = Recorder::new(vec![context.terminal.listener(), name.listener()]);
    let recorder = Arc::new(recorder.masked_by(Arc::clone(secrets.masks())));
    let monitoring = Monitoring {
        calibrate: true,
        samples: Some(Samples { least: args.samples, over: args.over }),
        ..Monitoring::ALWAYS
    };
    let source = ReferenceSource::find(&project, &replacements)?;
    if let Some(remark) = source.remark() {
        context.terminal.warn(&remark);
    }
    let plain = Options::plain(args.slot.number(&context.settings))?;
    let options = Options { monitoring, secrets, replacements, ..plain };
    let ended = run::execute(&project, &plan, &options, &binaries, &recorder, &interrupt);
    name.write_reports(&project, context);
    let Executed { record, machine, measured } = ended?;
    let folder = project.root.join(RUNS_FOLDER).join(&record.run_id);
    context.terminal.show_problems(&record, &folder);
    let store = Store::of(&project.root, Invoker::find());
    let (mut updates, mut refused) = (Vec::new(), Vec::new());
    for scenario in plan.scenarios(&project) {
        let reference = source.of(&project, scenario, &options.replacements)?;
        match Update::of(&store, scenario, machine, &record, &measured, reference)? {
            Ok(update) => updates.push(update),
            Err(why) => refused.push(why),
        }
    }
    let mut stored = Vec::new();
    for update in &updates {
        for (operation, share) in update.baseline.waiting(BUSY_MACHINE) {
            let (scenario, percent) = (&update.baseline.scenario, 100.0 * share);
            let help = "if programs outside the labs kept this machine busy, measure again on a quiet one";
            context.terminal.warn(&format!(
                "{scenario}:{operation}: its programs waited for a processor {percent:.0} % of their time: {help}"
            ));
        }
        // First, so that no baseline names a reference that is not there.
        store.write_reference(&update.reference)?;
        let path = store.write(&update.baseline)?;
        stored.push(path.strip_prefix(&project.root).unwrap_or(&path).display().to_string());
    }
    if context.format == Format::Json {
        let comparisons: Vec<_> = updates.iter().flat_map(|update| &update.comparisons).collect();
        println!(
            "{:#}",
            json!({ "format_version": 1, "stored": stored, "refused": refused, "comparisons": comparisons })
        );
    } else {
        updates.iter().for_each(|update| print_comparisons(&update.comparisons));
        stored.iter().for_each(|path| println!("stored {path}"));
        refused.iter().for_each(|why| println!("not stored: {why}"));
    }
    let failed = record.counts.failed + record.counts.flaky > 0;
    Ok(if record.exit_code == 0 && failed { EXIT_FAILED } else { record.exit_code })
}
