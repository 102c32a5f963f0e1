//! `cargo xtask bundle`: packs a run into one file, to be repeated elsewhere.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;

use super::{Context, Format, secrets};
use crate::bundle::{Packed, Reports, pack};
use crate::error::EXIT_PASSED;
use crate::host::invoker::Invoker;
use crate::manifest::Project;
use crate::program;
use crate::record::{PastRun, RUNS_FOLDER, RunDir, plain_text};
use crate::report::files;
use crate::report::terminal::println;

/// Pack a run into one file, to repeat it elsewhere
///
/// `e2e --from-bundle` repeats it.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask bundle latest
  cargo xtask e2e --from-bundle target/e2e/bundles/RUN.tar.gz",
    after_long_help = "A bundle has the project's current files (the whole Cargo workspace that builds its scenarios), and the \
                        run's record and logs without declared secrets and without texts that look like one; reports are \
                        made again from the rest. Project files are not changed; files that contain a declared secret are \
                        left out."
)]
pub struct Args {
    /// Run: its name, its folder, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Path of the bundle [default: target/e2e/bundles/RUN.tar.gz].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let run = PastRun::find(&context.root, &args.run)?;
    let invoker = Invoker::find();
    let output = match &args.output {
        Some(output) => {
            std::path::absolute(output).with_context(|| format!("resolving the path {}", output.display()))?
        }
        None => {
            let folder = project.root.join(RUNS_FOLDER).join("bundles");
            invoker
                .act(|| Ok(std::fs::create_dir_all(&folder)?))
                .with_context(|| format!("creating the folder {}", folder.display()))?;
            folder.join(format!("{}.tar.gz", run.record.run_id))
        }
    };
    let names: Vec<&str> = files::names().collect();
    let make = |run: &PastRun| match RunDir::of(run, invoker.clone()) {
        Ok(dir) => files::write_all(run, &dir),
        Err(error) => vec![format!("no report can be made: {error:#}")],
    };
    let reports = Reports { names: &names, make: &make };
    let declared = secrets::declared(&project)?;
    let Packed { path, size_bytes, bundle, unsearched } = pack(&project, &run, &output, &declared, &reports, &invoker)?;
    if context.format == Format::Json {
        let files = bundle.files.len();
        println!(
            "{:#}",
            json!({ "format_version": 1, "bundle": path, "size_bytes": size_bytes, "files": files, "run": bundle.run_id,
                    "redactions": bundle.redactions, "left_out": bundle.left_out, "unsearched": unsearched, "incomplete": run.record.remarks() })
        );
        return Ok(EXIT_PASSED);
    }
    for redaction in &bundle.redactions {
        let times = if redaction.count == 1 { "once" } else { "times" };
        let count = if redaction.count == 1 { String::new() } else { format!("{} ", redaction.count) };
        println!("redacted {count}{times} in {}: {}", plain_text(&redaction.path), redaction.kind);
    }
    bundle.left_out.iter().for_each(|why| println!("left out {}", plain_text(why)));
    unsearched.iter().for_each(|path| println!("not searched for secrets: {} (it is compressed)", plain_text(path)));
    run.record.remarks().iter().for_each(|remark| println!("incomplete: {remark}"));
    let count: u32 = bundle.redactions.iter().map(|redaction| redaction.count).sum();
    println!(
        "{}: {} files, {:.1} MiB, {count} secrets taken out of the record",
        path.display(),
        bundle.files.len(),
        size_bytes as f64 / f64::from(1 << 20)
    );
    println!("repeat it: {} e2e --from-bundle {}", program::name(), path.display());
    Ok(EXIT_PASSED)
}
