//! `ps` and `shell`: looking at labs that exist now.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use serde_json::json;

use super::{Context, Format, sudo};
use crate::error::Error;
use crate::host::invoker::is_root;
use crate::host::shell;
use crate::lab::{LiveLab, LiveMachine};
use crate::manifest::nearest;

/// Show the labs and containers that exist now.
#[derive(Debug, clap::Args)]
pub struct PsArgs {}

/// Open a shell, or run a command, in a container of a live lab.
#[derive(Debug, clap::Args)]
pub struct ShellArgs {
    /// The container, such as app or mancer-e2e-app.
    name: String,
    /// What to run instead of a shell.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Carries `ps` out.
///
/// # Errors
/// Without root and sudo.
pub fn ps(_args: &PsArgs, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let labs = LiveLab::all();
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "labs": labs }));
        return Ok(0);
    }
    if labs.is_empty() {
        println!("no lab exists now");
    }
    for lab in labs {
        println!("slot {}: {}", lab.slot, lab.owner);
        for machine in lab.machines {
            println!(
                "    {:<10} {:<24} {:<14} template {}",
                machine.name, machine.host_name, machine.address, machine.template
            );
        }
    }
    Ok(0)
}

/// Carries `shell` out; the answer is the shell's own status.
///
/// # Errors
/// When no live lab has the container.
pub fn open_shell(args: &ShellArgs, _context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let machine = find(&args.name)?;
    let mut words = vec!["-n".to_owned(), machine.host_name, "--".into()];
    if args.command.is_empty() {
        let choose = "if command -v bash >/dev/null; then exec bash; else exec sh; fi";
        words.extend(["/bin/sh", "-c", choose].map(String::from));
    } else {
        words.extend(args.command.iter().cloned());
    }
    let status = shell::run_interactive("lxc-attach", &words)?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

/// The container of this name, in any live lab.
pub(super) fn find(name: &str) -> Result<LiveMachine, Error> {
    let machines: Vec<LiveMachine> = LiveLab::all().into_iter().flat_map(|lab| lab.machines).collect();
    let found = machines.iter().find(|machine| machine.name == name || machine.host_name == name);
    found.cloned().ok_or_else(|| {
        let names = machines.iter().flat_map(|machine| [machine.name.as_str(), machine.host_name.as_str()]);
        let hint = match nearest(name, names) {
            Some(near) => format!("did you mean {near}?"),
            None if machines.is_empty() => {
                "no lab exists now: `cargo xtask e2e --keep-containers=always` keeps one".into()
            }
            None => "`cargo xtask ps` shows what there is".into(),
        };
        Error::Usage(format!("no live lab has a container {name:?}: {hint}"))
    })
}
