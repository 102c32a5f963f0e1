//! `cp`: copies files and folders into a container of a live lab, or out of it.

use std::path::Path;

use serde_json::json;

use super::lab_selector::LabSelector;
use super::{Context, Format, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::host::invoker::{Invoker, is_root};
use crate::lab::{Existing, Inside};
use crate::record::plain_text;
use crate::report::terminal::println;
use crate::run::Interrupt;

/// Copy files into or out of a container of a live lab.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask cp app:/var/log/nginx .
  cargo xtask cp ./fixed.py app:/srv/app.py --force",
    after_long_help = "A path in a container is NAME:/PATH. If the destination is an existing folder, the source is copied into \
                        it under its own name. Modes are kept. Files copied out belong to you, without set-id bits; files \
                        copied in belong to root, or to --user."
)]
pub struct Args {
    /// Source: a path, or NAME:/PATH.
    from: String,
    /// Destination: a path, or NAME:/PATH.
    to: String,
    /// Replace an existing file; a folder is never replaced.
    #[arg(long)]
    force: bool,
    /// User in the container who reads or writes, by name [default: root].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    lab: LabSelector,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let sides = (inside(&args.from), inside(&args.to));
    if sides.0.is_some() == sides.1.is_some() {
        let message = "one of the two paths must be in a container, as NAME:/PATH, and the other one on this host";
        return Err(Error::Usage(message.into()).into());
    }
    if !is_root() {
        return sudo::again();
    }
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let (invoker, user) = (Invoker::find(), args.user.as_deref());
    let interrupt = Interrupt::listen()?;
    let interrupted = || interrupt.is_set();
    let moved = match sides {
        (Some((name, path)), _) => {
            let (_, machine) = args.lab.machine(name, context)?;
            let from = Inside { machine: &machine, path, user };
            from.copy_out(Path::new(&args.to), existing, &invoker, &interrupted)?
        }
        (None, Some((name, path))) => {
            let (_, machine) = args.lab.machine(name, context)?;
            let to = Inside { machine: &machine, path, user };
            to.copy_in(Path::new(&args.from), existing, &invoker, &interrupted)?
        }
        (None, None) => return Ok(EXIT_PASSED), // refused above
    };
    if context.format == Format::Json {
        let shown = json!({
            "format_version": 1, "files": moved.files, "folders": moved.folders, "size_bytes": moved.bytes,
            "left_out": moved.left_out,
        });
        println!("{shown:#}");
        return Ok(EXIT_PASSED);
    }
    println!("{} files and {} folders, {} bytes", moved.files, moved.folders, moved.bytes);
    for path in &moved.left_out {
        println!("left out, because it is no file: {}", plain_text(&path.display().to_string()));
    }
    Ok(EXIT_PASSED)
}

/// Splits `NAME:/PATH` into a container's name and a path in the container; `None` for a path on this host.
fn inside(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(name, _)| !name.is_empty() && !name.contains('/') && *name != "." && *name != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_on_the_host_may_have_a_colon() {
        assert_eq!(inside("app:/etc/hosts"), Some(("app", "/etc/hosts")));
        assert_eq!(inside("app:"), Some(("app", "")));
        for path in ["./a:b", "/a:/b", "plain", ":/x", "../x:y"] {
            assert_eq!(inside(path), None, "{path}");
        }
    }
}
