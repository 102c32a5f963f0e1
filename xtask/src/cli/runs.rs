//! `cargo xtask runs`: lists, shows and removes the recorded runs of this project.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use super::{Context, Format};
use crate::error::{EXIT_PASSED, Error};
use crate::host::invoker::Invoker;
use crate::manifest::{Durations, Project, RunAge, word_within};
use crate::program;
use crate::record::human::summary;
use crate::record::{PastRun, RunFolder, RunList, RunState};
use crate::report::terminal::println;

/// List, show and remove the runs in target/e2e
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask runs
  cargo xtask runs show latest
  cargo xtask runs prune --keep 20 --older 14d     # neither newest nor young",
    after_long_help = "RUN is a run's name, its folder, or `latest`. A killed run is shown as far as its events go, and can \
                        be removed like any other."
)]
pub struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List runs, newest first (the default)
    List,
    /// Show the final summary of a run
    Show {
        /// Run to show.
        #[arg(value_name = "RUN", default_value = "latest")]
        run: String,
    },
    /// Remove runs
    Rm {
        /// Runs to remove.
        #[arg(value_name = "RUN", required = true)]
        runs: Vec<String>,
    },
    /// Remove old runs
    Prune(Prune),
    /// Record the durations of a run's cases in scenarios/durations.toml, for `e2e --shard`
    Durations {
        /// Run whose durations are recorded; cases that did not pass keep their old ones.
        #[arg(value_name = "RUN", default_value = "latest")]
        run: String,
    },
}

/// Choice of the runs to remove; with both options, a run is removed only if both choose it.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Prune {
    /// Keep the N newest runs.
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(0..=1_000_000))]
    keep: Option<usize>,
    /// Remove runs older than this, such as 14d or 12h.
    #[arg(long, value_name = "TIME", value_parser = word_within::<RunAge>)]
    older: Option<Duration>,
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    match &args.verb {
        None | Some(Verb::List) => list(context),
        Some(Verb::Show { run }) => show(run, context),
        Some(Verb::Rm { runs }) => {
            let list = RunList::read(&context.root)?;
            // Each name is looked at before anything is removed.
            let found = runs.iter().map(|given| list.find(given)).collect::<Result<Vec<_>, _>>()?;
            if let Some(running) = found.iter().find(|run| run.state == RunState::Running) {
                return Err(Error::Usage(format!("run {} is still running: end it first", running.name)).into());
            }
            remove(context, list.clone(), found)
        }
        Some(Verb::Durations { run }) => durations(run, context),
        Some(Verb::Prune(Prune { keep, older })) => {
            let list = RunList::read(&context.root)?;
            let outdated = list.outdated(keep.unwrap_or(0), older.unwrap_or(Duration::ZERO));
            remove(context, list.clone(), outdated)
        }
    }
}

fn list(context: &Context) -> anyhow::Result<u8> {
    let list = RunList::read(&context.root)?;
    if context.format == Format::Json {
        let runs: Vec<Value> = list.runs.iter().map(as_json).collect();
        println!("{:#}", json!({ "format_version": 1, "runs": runs }));
        return Ok(EXIT_PASSED);
    }
    if list.runs.is_empty() {
        println!("no run has left a record here");
        return Ok(EXIT_PASSED);
    }
    println!("{:<24} {:<20} {:>9}  {:<12} RESULT", "RUN", "BEGAN (UTC)", "SIZE", "CHAOS SEED");
    for run in &list.runs {
        println!("{}", line(run));
    }
    Ok(EXIT_PASSED)
}

fn line(run: &RunFolder) -> String {
    let began = humantime::format_rfc3339_seconds(run.began).to_string().replace('T', " ").replace('Z', "");
    let size = format!("{:.1} MiB", run.size_bytes as f64 / f64::from(1 << 20));
    let (seed, result) = match &run.state {
        RunState::Ended(record) => {
            let seed = record.chaos_seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
            (seed, summary(&record.counts, record.duration_ms))
        }
        RunState::Killed(Some(record)) => {
            let seed = record.chaos_seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
            (seed, format!("killed: {}", summary(&record.counts, record.duration_ms)))
        }
        RunState::Running => ("-".into(), "goes on".into()),
        RunState::Killed(None) => ("-".into(), "killed before it wrote anything".into()),
        RunState::Shrinking => ("-".into(), "of `shrink`".into()),
        RunState::Unreadable(why) => ("-".into(), format!("cannot be read: {why}")),
    };
    format!("{:<24} {began:<20} {size:>9}  {seed:<12} {result}", run.name)
}

fn as_json(run: &RunFolder) -> Value {
    let mut value = json!({
        "run": run.name,
        "began": humantime::format_rfc3339_seconds(run.began).to_string(),
        "size_bytes": run.size_bytes,
        "state": match run.state {
            RunState::Ended(_) => "ended",
            RunState::Running => "running",
            RunState::Killed(_) => "killed",
            RunState::Shrinking => "shrinking",
            RunState::Unreadable(_) => "unreadable",
        },
    });
    match &run.state {
        RunState::Ended(record) | RunState::Killed(Some(record)) => {
            value["duration_ms"] = json!(record.duration_ms);
            value["counts"] = json!(record.counts);
            value["chaos_seed"] = json!(record.chaos_seed);
            value["exit_code"] = json!(record.exit_code);
            if record.unfinished.is_some() {
                value["unfinished"] = json!(record.unfinished);
            }
            if !record.gaps.is_empty() {
                value["gaps"] = json!(record.gaps);
            }
        }
        RunState::Unreadable(why) => value["problem"] = json!(why),
        RunState::Running | RunState::Killed(None) | RunState::Shrinking => {}
    }
    value
}

fn show(run: &str, context: &Context) -> anyhow::Result<u8> {
    let run = PastRun::find(&context.root, run)?;
    match context.format {
        Format::Human => {
            let record = &run.record;
            println!("{}: {}, scenarios ran as {}", record.run_id, record.started_at, record.user);
            if !record.command.is_empty() {
                println!("{} {}", program::name(), record.command.join(" "));
            }
            run.record.remarks().iter().for_each(|remark| println!("incomplete: {remark}"));
            context.terminal.show_past_run(&run)?;
        }
        Format::Json => println!("{:#}", serde_json::to_value(&run.record)?),
    }
    Ok(EXIT_PASSED)
}

fn durations(run: &str, context: &Context) -> anyhow::Result<u8> {
    let project = Project::read(&context.root)?;
    let record = PastRun::find(&context.root, run)?.record;
    if record.had_faults() || record.compared_with.is_some() {
        let message = format!(
            "run {} had faults or comparisons, which change durations: choose a run without them",
            record.run_id
        );
        return Err(Error::Usage(message).into());
    }
    let found = Durations::from_seconds(record.passed_durations().map(|(case, ms)| (case, ms / 1e3)).collect());
    let count = found.cases().count();
    if count == 0 {
        return Err(Error::Usage(format!(
            "no case of run {} has passed: there are no durations to record",
            record.run_id
        ))
        .into());
    }
    let renewed = Durations::read(&project)?.renewed(found, &project);
    let path = Durations::path(&project);
    Invoker::find().replace(&path, renewed.text().as_bytes())?;
    let shown = path.strip_prefix(&project.root).unwrap_or(&path).display().to_string();
    if context.format == Format::Json {
        println!(
            "{:#}",
            json!({ "format_version": 1, "file": shown, "cases_recorded": count, "cases": renewed.cases().count() })
        );
    } else {
        println!("{shown}: {count} cases recorded, {} in all", renewed.cases().count());
    }
    Ok(EXIT_PASSED)
}

fn remove(context: &Context, mut list: RunList, runs: Vec<&RunFolder>) -> anyhow::Result<u8> {
    let owner = Invoker::find();
    let mut removed: Vec<&RunFolder> = Vec::new();
    for run in runs {
        if !removed.iter().any(|other| other.name == run.name) {
            list.remove(&run.name, &owner)?;
            removed.push(run);
        }
    }
    let freed_bytes: u64 = removed.iter().map(|run| run.size_bytes).sum();
    if context.format == Format::Json {
        let names: Vec<&str> = removed.iter().map(|run| run.name.as_str()).collect();
        println!("{:#}", json!({ "format_version": 1, "removed": names, "freed_bytes": freed_bytes }));
        return Ok(EXIT_PASSED);
    }
    removed.iter().for_each(|run| println!("removed {}", run.name));
    let plural = if removed.len() == 1 { "run" } else { "runs" };
    println!("{} {plural} removed, {:.1} MiB", removed.len(), freed_bytes as f64 / f64::from(1 << 20));
    Ok(EXIT_PASSED)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_run_is_a_line() {
        let run = |state| RunFolder {
            name: "20260101-000000-4422".into(),
            began: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600),
            size_bytes: 3 << 19,
            state,
        };
        assert_eq!(
            line(&run(RunState::Killed(None))),
            "20260101-000000-4422     2026-01-01 00:00:00    1.5 MiB  -            killed before it wrote anything"
        );
        assert_eq!(as_json(&run(RunState::Running))["state"], "running");
    }
}
