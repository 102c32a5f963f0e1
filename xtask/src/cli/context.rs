//! Context that every verb is given, and options that all verbs have.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;

use clap::ValueEnum;

use super::help::EVERYWHERE;
use super::look::LookArgs;
use super::settings::{Origin, Settings};
use crate::manifest::PatienceFactor;
use crate::report::terminal::Terminal;

/// Format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    Human,
    /// Versioned, stable JSON for programs.
    Json,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
pub(super) struct GlobalArgs {
    /// Folder of the project, the one with e2e.toml.
    ///
    /// Without this and E2E_ROOT: the first such folder from the working folder upwards.
    #[arg(long, global = true, value_name = "DIR", help_heading = EVERYWHERE)]
    pub root: Option<PathBuf>,
    /// Format of results on stdout.
    #[arg(long, global = true, value_enum, default_value_t = Format::Human, help_heading = EVERYWHERE)]
    pub format: Format,
    #[command(flatten)]
    pub look: LookArgs,
    /// Factor for all deadlines, 0.1 to 100, or `auto`.
    ///
    /// `auto`, the default, is 1 on a quick machine and more on a slow one, measured by the time that a program takes
    /// to start. Times given on the command line are not multiplied.
    #[arg(long, global = true, value_name = "FACTOR", value_parser = PatienceFactor::from_str, help_heading = EVERYWHERE)]
    pub patience: Option<PatienceFactor>,
}

#[derive(Debug, Clone)]
pub struct Context {
    /// Folder of the project, absolute.
    pub root: PathBuf,
    /// Place where `root` was set.
    pub(super) root_origin: Origin,
    /// Settings before the verb's own flags are applied.
    pub(super) settings: Settings,
    /// Format of the verb's results on stdout.
    pub format: Format,
    /// Terminal that shows progress.
    pub terminal: Arc<Terminal>,
    /// Function that returns clap's description of all verbs, from which manual pages and completions are made.
    pub(super) command_line: fn() -> clap::Command,
}
