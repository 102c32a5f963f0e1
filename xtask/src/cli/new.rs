//! `cargo xtask new`: creates a scenario that passes without changes.

use std::path::Path;

use serde_json::json;

use super::{Context, Format};
use crate::error::EXIT_PASSED;
use crate::manifest::{Language, Project, Skeleton};
use crate::program;
use crate::report::terminal::println;

/// Create a scenario that passes.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask new data_pipeline/first_query
  cargo xtask new data_pipeline/first_query --language python --container db")]
pub struct Args {
    /// Folder of the scenario below scenarios/, such as data_pipeline/first_query.
    #[arg(value_name = "CATEGORY/NAME")]
    scenario: String,
    /// Language of the scenario.
    #[arg(long, value_enum, default_value_t = Written::Rust)]
    language: Written,
    /// Templates of its machines [default: the project's first one].
    #[arg(long = "container", value_name = "NAME", value_delimiter = ',')]
    containers: Vec<String>,
}

/// Language of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Written {
    Rust,
    Python,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let language = match args.language {
        Written::Rust => Language::Rust,
        Written::Python => Language::Python,
    };
    let skeleton = Skeleton::plan(&project, &args.scenario, language, &args.containers)?;
    let written = skeleton.make()?;
    let shown = |path: &Path| path.strip_prefix(&project.root).unwrap_or(path).display().to_string();
    let files: Vec<String> = written.iter().map(|path| shown(path)).collect();
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "scenario": args.scenario, "files": files }));
        return Ok(EXIT_PASSED);
    }
    let name = skeleton.dir().file_name().unwrap_or_default().to_string_lossy();
    let container = skeleton.containers().first().map_or("", String::as_str);
    println!("written: {}", files.join("\n         "));
    let program = program::name();
    println!("run it:  {program} e2e {name}");
    println!("look in: {program} e2e {name} --keep-containers=always, then {program} shell {container}");
    Ok(EXIT_PASSED)
}
