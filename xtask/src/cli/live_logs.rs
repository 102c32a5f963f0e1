//! `cargo xtask logs --live`: shows the logs of labs that exist now.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use regex::Regex;

use super::lab_selector::LabSelector;
use super::{Context, Format, sudo};
use crate::error::{EXIT_PASSED, Error};
use crate::host::invoker::is_root;
use crate::lab::{LiveLab, LiveLogs, LogPiece};
use crate::manifest::Project;
use crate::record::logs::{LiveLines, LogLevel, LogLine};
use crate::report::terminal::{LogClock, Terminal};

/// Conditions that a log line must meet to be shown.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub name: Option<&'a str>,
    pub since_ms: Option<f64>,
    pub grep: Option<&'a Regex>,
    pub level: LogLevel,
}

impl Filter<'_> {
    /// Returns the lines that match the filter. A line without a time is treated as having the time of the line before it.
    pub fn wanted<'l>(&self, lines: &'l [LogLine]) -> impl Iterator<Item = &'l LogLine> {
        let mut at_ms = f64::NEG_INFINITY;
        lines.iter().filter(move |line| {
            at_ms = line.at_ms.unwrap_or(at_ms);
            self.since_ms.is_none_or(|since_ms| at_ms >= since_ms)
                && line.level >= self.level
                && self.name.is_none_or(|name| line.machine == name)
                && self.grep.is_none_or(|grep| grep.is_match(&line.text))
        })
    }
}

/// Interval at which followed logs are read.
const POLL: Duration = Duration::from_millis(500);

/// Behavior of the verb after all present lines were shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Shows new lines as they are logged.
    Yes,
    /// Ends the verb once all present lines were shown.
    No,
}

/// Prints the log lines of all machines of the chosen live labs, or only of the machine that the filter names.
pub(super) fn show(filter: &Filter<'_>, lab: &LabSelector, follow: Follow, context: &Context) -> anyhow::Result<u8> {
    if !is_root() {
        return sudo::again();
    }
    let machines = match filter.name {
        Some(name) => vec![lab.machine(name, context)?.1],
        None => lab.labs()?.into_iter().flat_map(|lab| lab.machines).collect(),
    };
    if machines.is_empty() {
        let message = "there is no live lab: `cargo xtask up TEMPLATE` starts one, and `cargo xtask e2e --keep-containers=always` keeps one";
        return Err(Error::Usage(message.into()).into());
    }
    // Without the project that the lab is of, its templates' files are not known.
    let templates = Project::read(&context.root).map(|project| project.templates).unwrap_or_default();
    let mut logs: Vec<LiveLogs> = machines
        .into_iter()
        .map(|machine| {
            let patterns = templates.get(&machine.template).map(|template| template.logs.clone());
            LiveLogs::new(machine, patterns.unwrap_or_default())
        })
        .collect();
    // A machine is chosen already, by either of its names.
    let filter = Filter { name: None, ..*filter };
    if context.format == Format::Json {
        writeln!(std::io::stdout(), "{}", serde_json::json!({ "format_version": 1, "live": true }))?;
    }
    let mut told = BTreeMap::new();
    loop {
        show_lines(&read(&mut logs, &mut told, &context.terminal), &filter, context)?;
        logs.retain(|logs| is_live(&logs.machine.host_name));
        if follow == Follow::No || logs.is_empty() {
            return Ok(EXIT_PASSED);
        }
        std::thread::sleep(POLL); // a log in a container gives no sign
    }
}

fn is_live(host_name: &str) -> bool {
    LiveLab::all().iter().flat_map(|lab| &lab.machines).any(|machine| machine.host_name == host_name)
}

/// Returns the new lines of all logs. If a log cannot be read, a warning is printed once, and the next call tries again; `told` has the
/// warnings so far.
fn read(logs: &mut [LiveLogs], told: &mut BTreeMap<String, String>, terminal: &Terminal) -> Vec<LogLine> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut lines = LiveLines::new(now.as_secs_f64() * 1e3);
    for logs in logs {
        let machine = logs.machine.name.clone();
        let mut pieces = Vec::new();
        if let Err(error) = logs.read_host(&mut pieces).and_then(|()| logs.read_inside(&mut pieces)) {
            let message = format!("{machine}: {error:#}");
            if told.insert(machine.clone(), message.clone()).as_ref() != Some(&message) {
                terminal.warn(&message);
            }
        }
        for piece in pieces {
            match piece {
                LogPiece::File { source, bytes } => lines.add_file(&machine, &source, bytes),
                LogPiece::Journal(entries) => {
                    for entry in entries {
                        lines.add_entry(&machine, entry.epoch_ms, entry.priority, &entry.from, &entry.message);
                    }
                }
            }
        }
    }
    lines.in_order()
}

fn show_lines(lines: &[LogLine], filter: &Filter<'_>, context: &Context) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in filter.wanted(lines) {
        match context.format {
            Format::Human => writeln!(out, "{}", context.terminal.log_line(line, LogClock::Wall))?,
            Format::Json => writeln!(out, "{}", serde_json::to_string(line)?)?,
        }
    }
    Ok(out.flush()?)
}
