//! The command line: all verbs, the options that they share, and the steps before any verb runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use e2e_contract::is_absolute_path;

use super::context::{Context, Format, GlobalArgs};
use super::settings::{Origin, Settings};
use super::{
    baseline, baseline_update, bundle, clean, config, cp, defects, dist, doctor, e2e, enter, fault, forward, help,
    helpers, host_tests, image, init, judge_check, logs, merge, mutants, new, pcap, ps, report, runs, setup, shrink,
    test, trust, up,
};
use crate::error::{EXIT_PASSED, Error};
use crate::guard::state_dir;
use crate::host::invoker::Invoker;
use crate::host::patience;
use crate::manifest::Defaults;
use crate::report::terminal::{Terminal, check_stdout};

/// Multi-machine end-to-end tests on LXC containers.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100,
    before_long_help = EXAMPLES,
    after_long_help = "Help for a verb: `cargo xtask e2e --help`, or `-h` for a summary."
)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask e2e --setup          # install, build the machines, run everything
  cargo xtask e2e data_ingestion   # one scenario
  cargo xtask e2e --chaos          # with random faults
  cargo xtask runs show latest     # summary of the last run
  cargo xtask up app db            # machines to look at
  cargo xtask shell app
  cargo xtask doctor               # check this machine";

#[derive(Debug, Subcommand)]
enum Verb {
    E2e(Box<e2e::Args>),
    Baseline(baseline::Args),
    BaselineUpdate(baseline_update::Args),
    Fault(fault::Args),
    Shrink(shrink::Args),
    Mutants(mutants::Args),
    Defects(defects::Args),
    Runs(runs::Args),
    Merge(merge::Args),
    Bundle(bundle::Args),
    New(new::Args),
    Init(init::Args),
    Report(report::Args),
    Test(test::Args),
    Dist(dist::Args),
    /// Check this machine, and print help for each problem
    Doctor(doctor::Args),
    /// Install missing dependencies with the package manager
    Setup(setup::Args),
    Up(up::UpArgs),
    Down(up::DownArgs),
    Ttl(up::TtlArgs),
    Ps(ps::Args),
    Shell(enter::ShellArgs),
    Exec(enter::ExecArgs),
    Cp(cp::Args),
    Forward(forward::Args),
    Pcap(pcap::Args),
    Logs(logs::Args),
    Clean(clean::Args),
    Image(image::Args),
    Config(config::Args),
    JudgeCheck(judge_check::Args),
    #[command(hide = true)]
    Guard(helpers::GuardArgs),
    #[command(hide = true)]
    BuildLayer(helpers::BuildLayerArgs),
    #[command(hide = true)]
    Netqueue(helpers::NetqueueArgs),
    #[command(hide = true)]
    FaultHolder(helpers::FaultHolderArgs),
    #[command(hide = true)]
    LxcTests(test::lxc::Args),
    #[command(hide = true)]
    HostTests(host_tests::Args),
    #[command(hide = true)]
    GuestOrder(helpers::GuestOrderArgs),
}

impl Cli {
    /// Parses the program's arguments. Bad arguments print an error and end the program, and so do `--help` and `--version` with their
    /// text.
    #[must_use]
    pub fn typed() -> Self {
        let matches = Self::dressed().try_get_matches();
        let matches = matches.unwrap_or_else(|error| before_a_program(error, std::env::args()).exit());
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// Returns clap's description of the command line with the full text of its help.
    #[must_use]
    pub fn dressed() -> clap::Command {
        help::dressed(Self::command())
    }

    /// Runs the verb; returns the exit code.
    ///
    /// # Errors
    /// The verb's own error, whose exit code [`crate::error::Error::exit_code`] returns.
    pub fn run(self) -> anyhow::Result<u8> {
        if !self.verb.needs_root() {
            Invoker::of_process().give_up_root()?;
        }
        if self.verb.takes_orders() && Invoker::of_process().is_other() {
            let message = "this verb is for the engine's own processes: it obeys a file as root, so it refuses to run under a user's sudo";
            return Err(Error::Usage(message.into()).into());
        }
        let (root, root_origin) = self.root()?;
        if self.global.format == Format::Json && !self.verb.has_json() {
            let message = "--format json: this verb prints the output of other programs, which is not JSON";
            return Err(Error::Usage(message.into()).into());
        }
        let root = std::path::absolute(root)?;
        check_state_dir(&state_dir())?;
        if !self.verb.is_a_helper() {
            trust::require(&root, root_origin != Origin::BuiltIn, std::env::var_os(trust::TRUST_VARIABLE).as_deref())?;
        }
        let settings = if self.verb.is_a_helper() {
            Settings::built_in()
        } else {
            let settings = Settings::below_flags(&Defaults::read(&root)?, &|name| std::env::var_os(name))?;
            let settings = settings.with_patience(self.global.patience);
            patience::decide(settings.patience.value.get()); // a helper has it from its parent's environment
            settings
        };
        let settings = self.global.look.above(&settings);
        let terminal = Arc::new(Terminal::open(self.global.look.look(&settings)?).map_err(Error::Usage)?);
        let (format, command_line) = (self.global.format, Self::dressed as fn() -> _);
        let context = Context { root, root_origin, settings, format, terminal: Arc::clone(&terminal), command_line };
        let done = self.verb.carry_out(&context);
        terminal.end(); // before an error is printed
        match (done, check_stdout()) {
            (Ok(EXIT_PASSED), Err(error)) => Err(error),
            (Ok(status), Err(error)) => {
                terminal.warn(&format!("{error:#}"));
                Ok(status)
            }
            (done, _) => done,
        }
    }

    /// Returns the project's folder, and its origin: a flag, a variable, or neither.
    fn root(&self) -> anyhow::Result<(PathBuf, Origin)> {
        if let Some(root) = &self.global.root {
            return Ok((root.clone(), Origin::Flag("--root".into())));
        }
        if let Some(root) = std::env::var_os(ROOT_VARIABLE).filter(|root| !root.is_empty()) {
            return Ok((root.into(), Origin::Variable(ROOT_VARIABLE.into())));
        }
        Ok((project_above(&std::env::current_dir()?), Origin::BuiltIn))
    }
}

impl Verb {
    fn carry_out(&self, context: &Context) -> anyhow::Result<u8> {
        match self {
            Verb::E2e(args) => e2e::run(args, context),
            Verb::Baseline(args) => baseline::run(args, context),
            Verb::BaselineUpdate(args) => baseline_update::run(args, context),
            Verb::Fault(args) => fault::run(args, context),
            Verb::Shrink(args) => shrink::run(args, context),
            Verb::Mutants(args) => mutants::run(args, context),
            Verb::Defects(args) => defects::run(args, context),
            Verb::Runs(args) => runs::run(args, context),
            Verb::Merge(args) => merge::run(args, context),
            Verb::Bundle(args) => bundle::run(args, context),
            Verb::New(args) => new::run(args, context),
            Verb::Init(args) => init::run(args, context),
            Verb::Report(args) => report::run(args, context),
            Verb::Test(args) => test::run(args, context),
            Verb::Dist(args) => dist::run(args, context),
            Verb::Doctor(args) => doctor::run(args, context),
            Verb::Setup(args) => setup::run(args, context),
            Verb::Up(args) => up::up(args, context),
            Verb::Down(args) => up::down(args, context),
            Verb::Ttl(args) => up::ttl(args, context),
            Verb::Ps(args) => ps::run(args, context),
            Verb::Shell(args) => enter::open_shell(args, context),
            Verb::Exec(args) => enter::exec(args, context),
            Verb::Cp(args) => cp::run(args, context),
            Verb::Forward(args) => forward::run(args, context),
            Verb::Pcap(args) => pcap::run(args, context),
            Verb::Logs(args) => logs::run(args, context),
            Verb::Clean(args) => clean::run(args, context),
            Verb::Image(args) => image::run(args, context),
            Verb::Config(args) => config::run(args, context),
            Verb::JudgeCheck(args) => judge_check::run(args, context),
            Verb::BuildLayer(args) => helpers::run_build_layer(args),
            Verb::Guard(args) => helpers::run_guard(args),
            Verb::Netqueue(args) => helpers::run_netqueue(args),
            Verb::FaultHolder(args) => helpers::run_fault_holder(args),
            Verb::LxcTests(args) => test::lxc::run(args, context),
            Verb::HostTests(args) => host_tests::run(args, context),
            Verb::GuestOrder(args) => helpers::run_guest_order(args),
        }
    }

    /// Tells whether this verb does something on the host that only root may do. Any other verb gives up root before it starts: no path
    /// that the user, a project or a record names is followed with root's rights.
    fn needs_root(&self) -> bool {
        match self {
            Self::Baseline(_)
            | Self::Runs(_)
            | Self::Merge(_)
            | Self::Bundle(_)
            | Self::New(_)
            | Self::Init(_)
            | Self::Report(_)
            | Self::Dist(_)
            | Self::Config(_) => false,
            Self::Logs(args) => args.is_live(),
            Self::JudgeCheck(args) => args.is_live(),
            Self::E2e(args) => args.makes_labs(),
            Self::Mutants(args) => args.makes_labs(),
            Self::Defects(args) => args.makes_labs(),
            Self::BaselineUpdate(_)
            | Self::Fault(_)
            | Self::Shrink(_)
            | Self::Test(_)
            | Self::Doctor(_)
            | Self::Setup(_)
            | Self::Up(_)
            | Self::Down(_)
            | Self::Ttl(_)
            | Self::Ps(_)
            | Self::Shell(_)
            | Self::Exec(_)
            | Self::Cp(_)
            | Self::Forward(_)
            | Self::Pcap(_)
            | Self::Clean(_)
            | Self::Image(_)
            | Self::Guard(_)
            | Self::BuildLayer(_)
            | Self::Netqueue(_)
            | Self::FaultHolder(_)
            | Self::LxcTests(_)
            | Self::HostTests(_)
            | Self::GuestOrder(_) => true,
        }
    }

    /// Tells whether this verb reads its work from a file that the engine wrote, and does the work as root.
    fn takes_orders(&self) -> bool {
        matches!(self, Self::BuildLayer(_) | Self::GuestOrder(_))
    }

    /// Tells whether this verb runs a helper process of the engine, which ignores the user's settings and does not check whether the
    /// project is trusted.
    fn is_a_helper(&self) -> bool {
        matches!(
            self,
            Self::Guard(_) | Self::BuildLayer(_) | Self::Netqueue(_) | Self::FaultHolder(_) | Self::GuestOrder(_)
        )
    }

    fn has_json(&self) -> bool {
        !matches!(
            self,
            Self::Test(_)
                | Self::LxcTests(_)
                | Self::HostTests(_)
                | Self::GuestOrder(_)
                | Self::Shell(_)
                | Self::Exec(_)
                | Self::Clean(_)
                | Self::Down(_)
                | Self::Ttl(_)
                | Self::Pcap(_)
        )
    }
}

/// Adds a hint to the error about an unknown argument of `exec` or `shell`: `--` has to precede a program and its arguments.
fn before_a_program(mut error: clap::Error, words: impl IntoIterator<Item = String>) -> clap::Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word.clone(),
        _ => return error,
    };
    let takes_program = words.into_iter().any(|word| ["exec", "shell"].contains(&word.as_str()));
    if takes_program && !word.starts_with('-') {
        let tip = format!("put `--` before the program and its arguments: -- {word}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// Environment variable that names the project's folder.
const ROOT_VARIABLE: &str = "E2E_ROOT";

/// Rejects a state folder whose path contains characters that separate or quote values in LXC's configuration or in mount options.
fn check_state_dir(folder: &Path) -> Result<(), Error> {
    let fits = |text: &str| {
        let ends_word = |c: char| c.is_whitespace() || c.is_control() || ":,\\\"'#=".contains(c);
        is_absolute_path(text) && text.len() <= 1024 && !text.contains(ends_word)
    };
    if folder.to_str().is_some_and(fits) {
        return Ok(());
    }
    let problem =
        "is not an absolute path of up to 1024 bytes, without `..`, blanks, quotation marks and any of : , = # \\";
    Err(Error::Usage(format!("the environment variable E2E_STATE_DIR: {} {problem}", folder.display())))
}

/// Returns the closest project folder at or above a folder; the folder itself if it lies in no project.
fn project_above(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.join("e2e.toml").is_file()).unwrap_or(folder).to_owned()
}
