//! `cargo xtask image`: builds, lists and removes the layers of the templates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::unistd::Uid;
use serde_json::json;

use super::{Context, Format, sudo};
use crate::error::Error;
use crate::image::{
    Difference, LayerStatus, LockFile, Removal, Replacement, Store, StoredLayer, ensure, ids_of, status,
};
use crate::manifest::Project;
use crate::program;
use crate::record::Recorder;
use crate::report::terminal::{Terminal, println};
use crate::run::{Interrupt, layer_event};

/// Version of the JSON that the verb prints; raised whenever its meaning changes.
const FORMAT_VERSION: u32 = 1;

/// Build, list and remove the layers of templates.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask image list
  cargo xtask image build --locked                 # as containers/lock.json has it
  cargo xtask image build app --set app.mancer=../mancer
  cargo xtask image prune                          # unused layers")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the templates with their layers, and whether they are built.
    List,
    /// Build missing layers, and write containers/lock.json.
    Build(BuildArgs),
    /// Remove the layers of templates, and of templates built on them.
    Rm {
        /// Templates whose layers are removed.
        #[arg(required = true, value_name = "TEMPLATE")]
        names: Vec<String>,
    },
    /// Remove damaged layers, and layers that neither a template of the project nor a lab uses.
    Prune,
}

#[derive(Debug, clap::Args)]
struct BuildArgs {
    /// Templates to build [default: all].
    #[arg(value_name = "TEMPLATE")]
    names: Vec<String>,
    /// Fail if layers or versions differ from containers/lock.json, and leave it unchanged.
    #[arg(long, conflicts_with = "set")]
    locked: bool,
    /// Install a local wheel or working tree in place of a pinned Python package.
    #[arg(long, value_name = "TEMPLATE.PACKAGE=PATH")]
    set: Vec<String>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    if !Uid::effective().is_root() {
        return sudo::again(); // even to list: nobody else may look into the store
    }
    match &args.verb {
        Verb::List => list(&project, context.format, &context.terminal),
        Verb::Build(args) => build(&project, args, context),
        Verb::Rm { names } => remove(&project, names, &context.terminal),
        Verb::Prune => prune(&project, &context.terminal),
    }
}

fn list(project: &Project, format: Format, terminal: &Terminal) -> anyhow::Result<u8> {
    let layers = status(project, &all(project), &[])?;
    show(&layers, format)?;
    for (hash, why) in Store::of_this_machine().with_ids(&ids_of(project)).damaged()? {
        terminal.warn(&format!("layer {hash} is damaged: {why}; `{} image prune` removes it", program::name()));
    }
    Ok(0)
}

fn build(project: &Project, args: &BuildArgs, context: &Context) -> anyhow::Result<u8> {
    let names = if args.names.is_empty() { all(project) } else { args.names.clone() };
    let replacements = Replacement::parse_all(&args.set, project, &names)?;
    let path = LockFile::path(project);
    let mut lock = match LockFile::read(&path) {
        // It is written anew as a whole, so that nothing of the old one is needed.
        Err(_) if !args.locked && args.names.is_empty() && replacements.is_empty() => LockFile::of(&[]),
        read => read?,
    };
    if args.locked {
        refuse(&lock.compare(&status(project, &names, &replacements)?))?; // before minutes are spent on the wrong layers
    }
    let interrupt = Interrupt::listen()?;
    let stops = interrupt.clone();
    context.terminal.stops_when(move || stops.is_set());
    let recorder = Recorder::new(vec![context.terminal.listener()]);
    let observe = |progress| recorder.record(layer_event(progress));
    let built = ensure(project, &names, &replacements, &observe, &|| interrupt.is_set());
    context.terminal.end();
    built?;
    let layers = status(project, &names, &replacements)?;
    if args.locked {
        refuse(&lock.compare(&layers))?;
    } else if replacements.is_empty() {
        let before = lock.clone();
        lock.update(project, &layers);
        if lock != before {
            lock.write(&path)?;
        }
    }
    show(&layers, context.format)?;
    Ok(0)
}

fn remove(project: &Project, names: &[String], terminal: &Terminal) -> anyhow::Result<u8> {
    for name in names {
        project.template(name)?;
    }
    let store = Store::of_this_machine();
    let layers = status(project, names, &[])?;
    let wanted = layers
        .iter()
        .filter(|layer| names.contains(&layer.template) && (layer.stored.is_some() || layer.damage.is_some()));
    remove_layers(&store, wanted.map(|layer| (layer.hash.as_str(), layer.template.as_str())), terminal)
}

fn prune(project: &Project, terminal: &Terminal) -> anyhow::Result<u8> {
    let store = Store::of_this_machine();
    store.finish_removals()?;
    let used = status(project, &all(project), &[])?;
    let stored = store.list()?;
    let unused = stored.iter().filter(|layer| !used.iter().any(|status| status.hash == layer.record.hash));
    let unused = unused.map(|StoredLayer { record, .. }| (record.hash.as_str(), record.template.as_str()));
    let damaged = store.damaged()?;
    let damaged = damaged.iter().map(|(hash, _)| (hash.as_str(), "damaged"));
    remove_layers(&store, unused.chain(damaged), terminal)
}

fn remove_layers<'a>(
    store: &Store,
    layers: impl Iterator<Item = (&'a str, &'a str)>,
    terminal: &Terminal,
) -> anyhow::Result<u8> {
    let mut in_use = Vec::new();
    for (hash, template) in layers {
        match store.remove(hash)? {
            Removal::Removed => terminal.say(&format!("removed {hash} ({template})")),
            Removal::InUse => in_use.push(format!("{hash} ({template})")),
        }
    }
    if in_use.is_empty() {
        return Ok(0);
    }
    let problem = format!("layers in use by a lab or a build were not removed: {}", in_use.join(", "));
    Err(Error::Host {
        problem,
        help: "`cargo xtask ps` lists the labs, `cargo xtask down --slot N` takes a kept one down".into(),
    }
    .into())
}

fn all(project: &Project) -> Vec<String> {
    project.templates.keys().cloned().collect()
}

fn refuse(differences: &[Difference]) -> anyhow::Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let help = "to accept the present layers, run `cargo xtask image build` without --locked: it writes containers/lock.json anew";
    let problem = format!("containers/lock.json does not match the present layers:\n  {}", lines.join("\n  "));
    Err(Error::Usage(format!("{problem}\n  help: {help}")).into())
}

fn show(layers: &[LayerStatus], format: Format) -> anyhow::Result<()> {
    if format == Format::Json {
        println!("{}", serde_json::to_string(&json!({ "format_version": FORMAT_VERSION, "layers": layers }))?);
        return Ok(());
    }
    println!("{:<16} {:<16} {:<7} {:>9} {:>9}", "TEMPLATE", "LAYER", "CACHED", "SIZE", "AGE");
    for LayerStatus { template, hash, stored, damage, .. } in layers {
        let (cached, size, age) = match stored {
            Some(record) => ("yes", mebibytes(record.size_bytes), age(record.created_unix_s)),
            None => (if damage.is_some() { "damaged" } else { "no" }, "-".to_owned(), "-".to_owned()),
        };
        println!("{template:<16} {hash:<16} {cached:<7} {size:>9} {age:>9}");
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Formats the age of a layer in its largest unit: `3days`, `5h`, `12m`.
fn age(created_unix_s: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = Duration::from_secs(now.saturating_sub(created_unix_s));
    humantime::format_duration(age).to_string().split(' ').next().unwrap_or("0s").to_owned()
}
