//! `cargo xtask setup`: installs the dependencies that doctor finds missing, with the system's package manager.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use super::doctor::{looked_at, subject};
use super::{Context, Format};
use crate::error::{EXIT_INTERRUPTED, EXIT_PASSED, Error};
use crate::host::doctor::{Finding, Status, examine};
use crate::host::invoker::is_root;
use crate::host::tools::setup::{News, Plan, Scope, install, still_failing};

/// Options of `setup`.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask setup
  cargo xtask setup --yes --optional               # in scripts, and for pictures")]
pub struct Args {
    /// Install without asking.
    #[arg(long, short)]
    yes: bool,
    /// Install the packages of optional features too.
    #[arg(long)]
    optional: bool,
}

/// JSON document that `--format json` prints; its version is raised whenever its meaning changes.
#[derive(Serialize)]
struct Document {
    format_version: u32,
    /// Commands that were run, in order.
    commands: Vec<String>,
    /// Findings of doctor that remain after the installation.
    findings: Vec<Finding>,
}

/// Shows the commands, asks, runs them, and checks the machine again. If the package manager does not know all packages, they are installed
/// one by one. Returns exit code 3 if a required dependency is still missing.
///
/// # Errors
/// If stdin is no terminal on which to ask, a command fails, or this machine has no package manager that the engine can use.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let subject = subject(&context.root);
    let before = examine(&subject);
    let scope = if args.optional { Scope::Everything } else { Scope::Required };
    let plan = Plan::new(&before, scope)?;
    show(&plan)?;
    if !plan.commands.is_empty() && !args.yes && !ask()? {
        writeln!(io::stderr(), "nothing was changed")?;
        return Ok(EXIT_INTERRUPTED);
    }
    let announce = |line: &str| context.terminal.say(line);
    let commands = install(&before, scope, &|news| tell(news, announce))?;
    // Only root makes a lab: to somebody else it would be one more thing that is not as it should be.
    let after = match () {
        () if is_root() => looked_at(&context.root),
        () if plan.commands.is_empty() => before,
        () => examine(&subject),
    };
    let wanting = after.into_iter().filter(|finding| finding.status != Status::Ok).collect::<Vec<_>>();
    let failures: Vec<_> = wanting.iter().filter(|finding| finding.status == Status::Failure).cloned().collect();
    match context.format {
        Format::Json => {
            let document = Document { format_version: 1, commands, findings: wanting };
            writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&document)?)?;
        }
        Format::Human if failures.is_empty() => {
            let done = if plan.is_empty() { "nothing to install" } else { "done" };
            writeln!(io::stdout(), "{done}: this machine has what the engine needs")?;
        }
        Format::Human => {}
    }
    if failures.is_empty() { Ok(EXIT_PASSED) } else { Err(still_failing(&failures).into()) }
}

/// Prints the progress of the installation. If stderr is a terminal, messages that a command is still running are left out.
pub(super) fn tell(news: News<'_>, say: impl Fn(&str)) {
    match news {
        News::GoesOn(_) if io::stderr().is_terminal() => {}
        News::Line(line) | News::GoesOn(line) => say(line),
    }
}

fn show(plan: &Plan) -> io::Result<()> {
    let mut stderr = io::stderr();
    if !plan.commands.is_empty() {
        writeln!(stderr, "these commands install what is missing:\n")?;
        plan.lines().iter().try_for_each(|line| writeln!(stderr, "  {line}"))?;
        writeln!(stderr)?;
    }
    plan.by_hand.iter().try_for_each(|what| writeln!(stderr, "no package provides this; install it by hand: {what}"))
}

/// Asks on the terminal whether to run the commands.
///
/// # Errors
/// [`Error::Usage`] if stdin is no terminal.
fn ask() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        let message = "setup asks before it installs, and stdin is not a terminal: run `cargo xtask setup --yes`, or the commands above";
        return Err(Error::Usage(message.to_owned()).into());
    }
    write!(io::stderr(), "run them? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
