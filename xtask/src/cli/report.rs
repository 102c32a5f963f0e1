//! `cargo xtask report`: the page that explains a run, made again from its record, or two runs side by side.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::{Context, Format};
use crate::error::{EXIT_PASSED, Error};
use crate::host::invoker::{Invoker, is_root};
use crate::host::shell::{Command, which};
use crate::record::PastRun;
use crate::report::html;

/// Make the page that explains a run: report.html in the run's folder.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every run writes its page by itself; this makes it again, for a run of an older engine or after a change of \
                  the engine. With --compare, one page shows two runs side by side; it lies in the second one's folder."
)]
pub struct Args {
    /// The run: its name, its folder, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    run: String,
    /// Show two runs side by side: the older one, or the one to compare with, first.
    #[arg(long, num_args = 2, value_names = ["RUN_A", "RUN_B"], conflicts_with = "run")]
    compare: Option<Vec<String>>,
    /// Open the page in the browser, where there is a display; else its path is all.
    #[arg(long)]
    open: bool,
}

/// Carries the verb out.
///
/// # Errors
/// There is no such run, its record is damaged or from another version, or its folder cannot be written.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let invoker = Invoker::find();
    let root = &context.root;
    // The folder is the user's: it is read and written with the user's rights.
    let (path, size_bytes) = invoker.act(|| match args.compare.as_deref() {
        Some([first, second]) => {
            let (first, second) = (PastRun::find(root, first)?, PastRun::find(root, second)?);
            let name = format!("compared-with-{}.html", first.record.run_id);
            write(&second.folder.join(name), &html::side_by_side(&first, &second)?)
        }
        Some(_) => Err(Error::Usage("--compare takes two runs".into()).into()),
        None => {
            let run = PastRun::find(root, &args.run)?;
            write(&run.folder.join("report.html"), &html::page(&run)?)
        }
    })?;
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "report": path, "size_bytes": size_bytes }));
    } else {
        println!("{}", path.display());
    }
    if args.open {
        open(&path, &invoker)?;
    }
    Ok(EXIT_PASSED)
}

/// Writes a whole file: the old one or the new one is there, never a part. A link that stands there is replaced.
fn write(path: &Path, text: &str) -> anyhow::Result<(PathBuf, usize)> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let write = || -> anyhow::Result<()> {
        Invoker::find().create(Path::new(&new))?.write_all(text.as_bytes())?;
        Ok(std::fs::rename(&new, path)?)
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    Ok((path.to_owned(), text.len()))
}

/// Opens a page as the user, in that user's browser; does nothing where there is no display.
fn open(path: &Path, invoker: &Invoker) -> anyhow::Result<()> {
    if std::env::var_os("DISPLAY").is_none() && std::env::var_os("WAYLAND_DISPLAY").is_none() {
        return Ok(());
    }
    let Some(program) = which("xdg-open") else {
        let (problem, cure) = ("xdg-open is not installed".to_owned(), format!("open {} yourself", path.display()));
        return Err(Error::Host { problem, cure }.into());
    };
    // In a session of its own: it may be the browser itself, which stays.
    let mut command = Command::new("setsid").arg("--fork").arg(program).arg(path).deadline(Duration::from_secs(20));
    if is_root() && !invoker.is_root() {
        command = command.user(invoker.uid, invoker.gid);
    }
    let nowhere = || File::options().write(true).open("/dev/null");
    let output = command.output_to_files(nowhere()?, nowhere()?)?;
    if output.status != 0 {
        let problem = format!("xdg-open could not be started: status {}", output.status);
        return Err(Error::Host { problem, cure: format!("open {} yourself", path.display()) }.into());
    }
    Ok(())
}
