//! `cargo xtask init`: makes a project for another product, with a scenario that passes.

use std::path::PathBuf;

use serde_json::json;

use super::{Context, Format};
use crate::error::EXIT_PASSED;
use crate::host::exec::shell::quote;
use crate::manifest::Starter;
use crate::program;
use crate::report::terminal::println;

/// Make a project for another product.
///
/// The project has machines, a scenario that passes, and a CI workflow.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Project's folder, which must be empty or not exist yet.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Project's name, the prefix of its machines' names on the host [default: the folder's name, made valid].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let starter = Starter::plan(&args.dir, args.name.as_deref())?;
    let written = starter.make()?;
    let files: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    let dir = starter.dir().display().to_string();
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "name": starter.name(), "dir": dir, "files": files }));
        return Ok(EXIT_PASSED);
    }
    let root = quote(&dir);
    println!("{} in {dir}", starter.name());
    println!("written: {}", files.join("\n         "));
    let name = program::name();
    println!("look:    {name} doctor says what this machine lacks, {name} setup installs it");
    println!("run it:  {name} --root {root} e2e");
    println!("break:   {name} --root {root} e2e --chaos --seed 1");
    println!("read:    {}", starter.dir().join("README.md").display());
    Ok(EXIT_PASSED)
}
