//! `shell` and `exec`: programs in a container of a live lab.

use super::lab_selector::LabSelector;
use super::{Context, sudo};
use crate::error::Error;
use crate::host::container::lxc::ATTACH;
use crate::host::exec::descriptors;
use crate::host::exec::shell;
use crate::host::invoker::is_root;
use crate::lab::LiveMachine;

/// Open a shell in a container of a live lab.
///
/// Runs a command instead, if one is given.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask shell app
  cargo xtask shell db --slot 2
  cargo xtask shell app -- journalctl -f")]
pub struct ShellArgs {
    /// Container, such as app or mancer-e2e-app.
    name: String,
    #[command(flatten)]
    lab: LabSelector,
    /// Command to run instead of a shell.
    #[arg(last = true)]
    command: Vec<String>,
}

/// Run a program in a container of a live lab.
///
/// The program gets this command's streams, and its exit status becomes this command's.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask exec app -- systemctl is-system-running
  cargo xtask exec db --user postgres -- psql -c 'SELECT 1'
  tar -c src | cargo xtask exec app -- tar -x -C /srv")]
pub struct ExecArgs {
    /// Container, such as app or mancer-e2e-app.
    name: String,
    /// User who runs the program, by name [default: root].
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    lab: LabSelector,
    /// Program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub fn open_shell(args: &ShellArgs, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let (_, machine) = args.lab.machine(&args.name, context)?;
    if args.command.is_empty() { shell_in(&machine) } else { run_in(&machine, &args.command, None) }
}

pub fn exec(args: &ExecArgs, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let (_, machine) = args.lab.machine(&args.name, context)?;
    run_in(&machine, &args.command, args.user.as_deref())
}

/// Runs a shell in a container on the caller's terminal; returns the shell's exit status.
pub fn shell_in(machine: &LiveMachine) -> anyhow::Result<u8> {
    run_in(
        machine,
        &["/bin/sh", "-c", "cd; if command -v bash >/dev/null; then exec bash; else exec sh; fi"].map(String::from),
        None,
    )
}

fn run_in(machine: &LiveMachine, argv: &[String], user: Option<&str>) -> anyhow::Result<u8> {
    if let Some(stream) = descriptors::stream_on_a_folder() {
        let name = &machine.host_name;
        let problem = format!(
            "{stream} is a folder: a program in {name} would reach the files of this host through it; use a file or a pipe instead"
        );
        return Err(Error::Usage(problem).into());
    }
    let terminal = std::env::var("TERM").ok().map(|term| ("TERM".to_owned(), term));
    let words = machine.attach_words(argv, user, terminal.as_slice())?;
    let status = shell::run_interactive_filtered(ATTACH, &words, machine.entry_filter())?;
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}
