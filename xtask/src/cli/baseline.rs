//! `cargo xtask baseline`: lists, shows, compares and prunes the committed baselines; `cargo xtask baseline-update` makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use e2e_stats::median;
use serde_json::json;

use super::{Context, Format};
use crate::baseline::{self, Baseline, Reference, Store};
use crate::error::{EXIT_PASSED, EXIT_USAGE, Error};
use crate::host::invoker::Invoker;
use crate::manifest::Project;
use crate::record::{CaseId, Comparison};
use crate::report::terminal::println;

/// Show the committed baselines.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List every baseline file with its cases, operations and samples
    List,
    /// Show the samples of a scenario's baselines, and the machines that they were measured on
    Show {
        /// Scenario, as category/scenario.
        scenario: String,
    },
    /// Judge one baseline file against another, such as an earlier one from version control
    Diff {
        /// The older file.
        old: PathBuf,
        /// The newer file.
        new: PathBuf,
    },
    /// Remove the baselines of scenarios and cases that the project no longer has, and references that no baseline names
    Prune {
        /// Show what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let store = Store::of(&context.root, Invoker::find());
    match &args.verb {
        Verb::List => Ok(list(&store, context)),
        Verb::Show { scenario } => show(&store, scenario, context),
        Verb::Diff { old, new } => diff(&store, old, new, context),
        Verb::Prune { dry_run } => prune(&store, &Project::read(&context.root)?, *dry_run, context),
    }
}

fn list(store: &Store, context: &Context) -> u8 {
    let mut code = EXIT_PASSED;
    let mut rows = Vec::new();
    for (path, baseline) in store.all() {
        let shown = path.strip_prefix(&context.root).unwrap_or(&path).display().to_string();
        match baseline {
            Ok(baseline) => {
                for (case, operation, one) in baseline.operations() {
                    rows.push(json!({
                        "file": shown,
                        "machine_class": baseline.machine_class,
                        "scenario": baseline.scenario,
                        "case": case,
                        "operation": operation,
                        "samples": one.count(),
                        "recorded_at": baseline.cases[case].recorded_at,
                    }));
                }
                if context.format == Format::Human {
                    let operations = baseline.operations().count();
                    let samples: usize = baseline.operations().map(|(_, _, one)| one.count()).sum();
                    println!("{shown}: {operations} operations, {samples} samples");
                }
            }
            Err(error) => {
                code = EXIT_USAGE;
                eprintln_error(&error);
            }
        }
    }
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "operations": rows }));
    }
    code
}

#[expect(clippy::print_stderr, reason = "what cannot be read is no result")]
fn eprintln_error(error: &anyhow::Error) {
    eprintln!("{error:#}");
}

fn show(store: &Store, scenario: &str, context: &Context) -> anyhow::Result<u8> {
    let classes = store.classes_of(scenario);
    if classes.is_empty() {
        let message =
            format!("there is no baseline of {scenario}: `cargo xtask baseline list` lists the existing ones");
        return Err(Error::Usage(message).into());
    }
    let mut baselines = Vec::new();
    for class in classes {
        baselines.extend(store.read(&class, scenario)?);
    }
    let named: BTreeSet<&String> = baselines.iter().flat_map(references).collect();
    let mut found = BTreeMap::new();
    for name in named {
        // A lost one is told, and hides no samples.
        match store.reference(name) {
            Ok(reference) => drop(found.insert(name, reference)),
            Err(error) => eprintln_error(&error),
        }
    }
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "baselines": baselines, "references": found }));
        return Ok(EXIT_PASSED);
    }
    for baseline in &baselines {
        let machine = &baseline.machine;
        println!(
            "{} on {} ({}, {} cores, {} MiB, kernel {})",
            baseline.scenario,
            baseline.machine_class,
            machine.cpu_model,
            machine.cores,
            machine.memory_bytes >> 20,
            machine.kernel
        );
        for (name, case) in &baseline.cases {
            let machines = match &case.reference {
                None => "not known, because an older engine wrote it".to_owned(),
                Some(reference) => found.get(reference).map_or_else(|| "not known".into(), Reference::summary),
            };
            println!("  {name}: machines of {machines}");
        }
        for (case, operation, one) in baseline.operations() {
            let middle = |values: &[f64]| median(values).unwrap_or(f64::NAN);
            let least = one.wall_ms.iter().copied().fold(f64::INFINITY, f64::min);
            println!(
                "  {case} {operation}: {} samples, median {:.1} ms of time and {:.1} ms of processor time, least {least:.1} ms; \
                 taken {}",
                one.count(),
                middle(&one.wall_ms),
                middle(&one.cpu_ms),
                baseline.cases[case].recorded_at
            );
        }
    }
    Ok(EXIT_PASSED)
}

fn diff(store: &Store, old: &Path, new: &Path, context: &Context) -> anyhow::Result<u8> {
    let (old, new) = (store.read_file(old)?, store.read_file(new)?);
    if old.machine_class != new.machine_class {
        let message = format!(
            "the baselines are of different machine classes, {} and {}: their times cannot be compared",
            old.machine_class, new.machine_class
        );
        return Err(Error::Usage(message).into());
    }
    let comparisons = compare(&old, &new);
    if context.format == Format::Json {
        let references = |baseline: &Baseline| references(baseline).cloned().collect::<BTreeSet<String>>();
        let (old, new) = (references(&old), references(&new));
        println!(
            "{:#}",
            json!({ "format_version": 1, "comparisons": comparisons, "old_references": old, "new_references": new })
        );
    } else {
        let (before, after) = (machines(store, &old), machines(store, &new));
        if before != after {
            println!("measured on other machines: {before}; now {after}");
        }
        print_comparisons(&comparisons);
    }
    Ok(EXIT_PASSED)
}

/// Returns the names of the references of a baseline's cases.
fn references(baseline: &Baseline) -> impl Iterator<Item = &String> {
    baseline.cases.values().filter_map(|case| case.reference.as_ref())
}

/// Describes the machines of a baseline's cases; a reference whose file is not in this project by its name alone.
fn machines(store: &Store, baseline: &Baseline) -> String {
    let names: BTreeSet<&String> = references(baseline).collect();
    let described = names.into_iter().map(|name| match store.reference(name) {
        Ok(reference) => reference.summary(),
        Err(_) => format!("reference {name}"),
    });
    let all = described.collect::<Vec<_>>().join("; ");
    if all.is_empty() { "not known".into() } else { all }
}

fn compare(old: &Baseline, new: &Baseline) -> Vec<Comparison> {
    let cases = old.cases.iter().filter_map(|(name, before)| Some((name, before, new.cases.get(name)?)));
    let judged = cases.flat_map(|(name, before, after)| {
        let case = CaseId(format!("{}:{name}", new.scenario));
        baseline::against(&case, &before.operations, &after.operations, &BTreeMap::new())
    });
    judged.collect()
}

/// Prints a line for each comparison with its verdict and the reason.
pub(super) fn print_comparisons(comparisons: &[Comparison]) {
    for line in comparisons.iter().map(crate::record::human::comparison) {
        println!("{line}");
    }
}

fn prune(store: &Store, project: &Project, dry_run: bool, context: &Context) -> anyhow::Result<u8> {
    let word = if dry_run { "would remove" } else { "removed" };
    let (mut removed, mut named) = (Vec::new(), BTreeSet::new());
    let shown = |path: &Path| path.strip_prefix(&context.root).unwrap_or(path).display().to_string();
    for (path, baseline) in store.all() {
        let shown = shown(&path);
        let mut baseline = baseline?;
        let scenario = project.scenarios.iter().find(|scenario| scenario.id() == baseline.scenario);
        let before: Vec<String> = baseline.cases.keys().cloned().collect();
        let known =
            |name: &String| scenario.is_some_and(|scenario| scenario.cases.iter().any(|case| case.name == *name));
        baseline.cases.retain(|name, _| known(name));
        let gone = before.into_iter().filter(|name| !baseline.cases.contains_key(name));
        let gone: Vec<String> = gone.map(|case| format!("{shown}: case {case}")).collect();
        named.extend(references(&baseline).cloned());
        if baseline.cases.is_empty() {
            removed.push(shown);
            if !dry_run {
                store.remove(&path)?;
            }
        } else if !gone.is_empty() {
            removed.extend(gone);
            if !dry_run {
                store.write(&baseline)?;
            }
        }
    }
    for path in store.references_besides(&named) {
        removed.push(shown(&path));
        if !dry_run {
            store.remove(&path)?;
        }
    }
    if context.format == Format::Json {
        println!("{:#}", json!({ "format_version": 1, "dry_run": dry_run, "removed": removed }));
    } else if removed.is_empty() {
        println!("every baseline belongs to a scenario and a case of the project");
    } else {
        removed.iter().for_each(|what| println!("{word} {what}"));
    }
    Ok(EXIT_PASSED)
}
