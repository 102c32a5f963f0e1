//! `cargo xtask merge`: joins the records of a suite's shards into one record, one report and one exit code.

use std::path::PathBuf;

use super::{Context, Format, reports};
use crate::host::invoker::Invoker;
use crate::manifest::Project;
use crate::record::Shards;
use crate::report::terminal::println;

/// Join the records of a suite's shards into one run
///
/// The shards are runs of `e2e --shard K/N`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "`merge` verifies that each case is in exactly one shard. Cases of a missing shard count as not run, and a suite \
                  that would have passed without them ends with exit code 3. Otherwise the exit code is the worst of the \
                  shards'. A killed shard is merged as far as its events go, and counts as interrupted. The merged run \
                  lies in target/e2e like any other, with its reports.\n\n\
                  Examples:\n  cargo xtask merge shards/\n  cargo xtask merge shard-1/20261122-194813-4422 shard-2/20261122-194815-977"
)]
pub struct Args {
    /// Folders with the shards' records, directly or in subfolders.
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
}

/// Joins the shards' records; returns the exit code of the whole suite.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let shards = Shards::find(&args.folders)?;
    shards.notes().iter().for_each(|note| context.terminal.warn(note));
    let run = shards.join(&project.root, &Invoker::find())?;
    let reports = reports::write(&run, &project, context);
    match context.format {
        Format::Human => context.terminal.show_past_run(&run)?,
        Format::Json => println!("{:#}", serde_json::to_value(&run.record)?),
    }
    Ok(reports.exit_code(run.record.exit_code))
}
