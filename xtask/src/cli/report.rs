//! `cargo xtask report`: writes the HTML page of a run anew from the run's record, or a page that compares two runs.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Context, Format};
use crate::error::{EXIT_PASSED, Error};
use crate::host::exec::shell::{Command, which};
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;
use crate::record::{PastRun, RunDir};
use crate::report::html;
use crate::report::terminal::{Terminal, println};

/// Deadline for the command that opens a browser.
const OPEN_DEADLINE: Deadline = Deadline::from_secs(20);

/// Write report.html, the page that explains a run.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask report --open
  cargo xtask report --compare RUN_A RUN_B",
    after_long_help = "Every run writes its page at its end. `report` writes it again: for a run that was killed or is still \
                  running (the page shows what is missing), or after an update of the engine. With --compare, one page \
                  shows two runs side by side; it lies in the folder of the second run."
)]
pub struct Args {
    /// Run: its name, its folder, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Show two runs side by side: first the older one or the reference.
    #[arg(long, num_args = 2, value_names = ["RUN_A", "RUN_B"], conflicts_with = "run")]
    compare: Option<Vec<String>>,
    /// Open the page in a browser, if there is a display.
    #[arg(long)]
    open: bool,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let owner = Invoker::find();
    let (path, size_bytes) = match args.compare.as_deref() {
        Some([first, second]) => compare(&context.root, first, second, &owner)?,
        _ => explain(&context.root, &args.run, &owner, &context.terminal)?,
    };
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "report": path, "size_bytes": size_bytes }));
    } else {
        println!("{}", path.display());
    }
    if args.open {
        open(&path, &owner)?;
    }
    Ok(EXIT_PASSED)
}

/// Writes the page of a run; returns the page's path and size in bytes.
fn explain(root: &Path, run: &str, owner: &Invoker, terminal: &Terminal) -> anyhow::Result<(PathBuf, usize)> {
    let run = PastRun::find(root, run)?;
    let dir = RunDir::of(&run, owner.clone())?;
    // The folder is the user's, who may plant links there: it is read with the user's rights.
    let text = dir.act(|| html::page(&run, &run.events()?))?;
    // What is missing stands on the page; whoever waits for the path shall know it too.
    run.record.remarks().iter().for_each(|remark| terminal.warn(remark));
    dir.write(html::FILE, text.as_bytes())?;
    Ok((dir.path().join(html::FILE), text.len()))
}

/// Writes the page that compares two runs into the second run's folder; returns the page's path and size in bytes.
fn compare(root: &Path, first: &str, second: &str, owner: &Invoker) -> anyhow::Result<(PathBuf, usize)> {
    let (first, second) = (PastRun::find(root, first)?, PastRun::find(root, second)?);
    let dir = RunDir::of(&second, owner.clone())?;
    let text = dir.act(|| html::side_by_side(&first, &second))?;
    let name = first.folder.file_name().map_or_else(|| "another-run".into(), |name| name.to_string_lossy());
    let file = format!("compared-with-{name}.html");
    dir.write(&file, text.as_bytes())?;
    Ok((dir.path().join(file), text.len()))
}

/// Opens a page in the browser of the user who called sudo; does nothing without a graphical display.
fn open(path: &Path, owner: &Invoker) -> anyhow::Result<()> {
    if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
        return Ok(());
    }
    let Some(program) = which("xdg-open") else {
        let (problem, help) = ("xdg-open is not installed".to_owned(), format!("open {} yourself", path.display()));
        return Err(Error::Host { problem, help }.into());
    };
    // In a session of its own: it may be the browser itself, which stays.
    let command = Command::new("setsid").arg("--fork").arg(program).arg(path).deadline(OPEN_DEADLINE.scaled());
    let command = command.as_user(owner);
    let nowhere = || File::options().write(true).open("/dev/null");
    let output = command.output_to_files(nowhere()?, nowhere()?)?;
    if output.status != 0 {
        let problem = format!("xdg-open could not be started: status {}", output.status);
        return Err(Error::Host { problem, help: format!("open {} yourself", path.display()) }.into());
    }
    Ok(())
}
