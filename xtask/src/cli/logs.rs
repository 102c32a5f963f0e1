//! `cargo xtask logs`: shows the logs of a run or of live labs, merged by time over all machines.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;

use regex::Regex;
use serde_json::json;

use super::lab_selector::LabSelector;
use super::live_logs::{self, Filter, Follow};
use super::log_since::Since;
use super::settings::slot_word;
use super::{Context, Format};
use crate::error::{EXIT_PASSED, Error};
use crate::manifest::nearest;
use crate::record::logs::{LogDigest, LogLevel, LogLine};
use crate::record::{PastRun, Stamped};
use crate::report::terminal::LogClock;

/// Show the logs of all machines, merged by time.
///
/// Reads the logs of a run or of a live lab.
#[derive(Debug, clap::Args)]
#[command(
    before_long_help = "\
Examples:
  cargo xtask logs                                  # of the latest run
  cargo xtask logs latest db --level warning
  cargo xtask logs --digest                         # a summary
  cargo xtask logs --live --follow --grep time.?out",
    after_long_help = "RUN is a run's name, `latest`, or its path. NAME is a container, `scenario` or `host`. A single word \
                        that is not a run is a NAME in the latest run.\n\n\
                        Times count from the start of the run, as in its other reports; with --live they are times of day \
                        in UTC. A line without a time keeps its position in its file."
)]
pub struct Args {
    /// Run, or, if the word is the name of a machine, that machine [default: latest].
    run: Option<String>,
    /// Machine whose lines are shown [default: all].
    name: Option<String>,
    /// Show the logs of the labs that exist now.
    #[arg(long, conflicts_with_all = ["case", "digest"])]
    live: bool,
    /// With --live: follow the logs until Ctrl-C or the lab's end.
    #[arg(long, requires = "live")]
    follow: bool,
    /// With --live: slot of the lab, needed if several labs have such a container.
    #[arg(long, requires = "live", value_name = "N", value_parser = slot_word)]
    slot: Option<String>,
    /// Show only lines since a time, such as 90s after the run's start, or 07:20:25.
    ///
    /// TIME is a time since the run's start (90s, 2m) or a time of day (2026-11-26T07:20:25Z, 07:20:25). With --live a
    /// duration counts back from now.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Show only lines that match a regular expression.
    #[arg(long, value_name = "REGEX", value_parser = expression)]
    grep: Option<Regex>,
    /// Minimum level of the lines: debug, info, warning or error.
    ///
    /// `debug` includes LXC's own log of every container.
    #[arg(long, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    level: LogLevel,
    /// Show only cases whose name contains this text.
    #[arg(long, value_name = "CASE")]
    case: Option<String>,
    /// Show a summary instead of all lines.
    ///
    /// The summary has errors by kind, the first error of each machine, restarts and bottlenecks.
    #[arg(long)]
    digest: bool,
}

impl Args {
    /// Tells whether `--live` asks for the logs of labs that exist now.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }
}

fn expression(text: &str) -> Result<Regex, String> {
    // clap shows the argument itself; the expression's own message has the place in it.
    Regex::new(text).map_err(|error| format!("this is not a regular expression\n{error}"))
}

pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    let is_over = |error: &anyhow::Error| {
        let cause = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        cause == Some(std::io::ErrorKind::BrokenPipe)
    };
    match show(args, context) {
        // Whoever reads has seen enough: `cargo xtask logs | head`.
        Err(error) if is_over(&error) => Ok(EXIT_PASSED),
        shown => shown,
    }
}

fn show(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if args.live {
        if let Some(second) = &args.name {
            let message = format!("--live takes at most one name, that of a machine: leave out {second}");
            return Err(Error::Usage(message).into());
        }
        let filter = filter(args, args.run.as_deref(), args.since.map(Since::before_now));
        let follow = if args.follow { Follow::Yes } else { Follow::No };
        return live_logs::show(&filter, &LabSelector { slot: args.slot.clone() }, follow, context);
    }
    let (run, name) = find(args.run.as_deref(), args.name.as_deref(), context)?;
    let attempts = attempts(&run, args.case.as_deref())?;
    let since_ms = args.since.map(|since| since.on_clock_of(&run.record.started_at)).transpose()?;
    let filter = filter(args, name, since_ms);
    if let Some(name) = name {
        let known: BTreeSet<String> = attempts.iter().flat_map(|attempt| run.log_machines(attempt.folder)).collect();
        if !known.contains(name) {
            let near = nearest(name, known.iter().map(String::as_str)).map(|near| format!("did you mean {near}?"));
            let there = known.iter().cloned().collect::<Vec<_>>().join(", ");
            let hint = near.unwrap_or_else(|| format!("there are {there}"));
            return Err(Error::Usage(format!("run {} has no logs of {name:?}: {hint}", run.record.run_id)).into());
        }
    }
    run.record.remarks().iter().for_each(|remark| context.terminal.warn(remark));
    let what = if args.digest { What::Digest } else { What::Lines };
    let mut out = std::io::stdout().lock();
    Shown { run: &run, attempts, filter: &filter, what, context, rows: Vec::new() }.write(&mut out)?;
    Ok(EXIT_PASSED)
}

fn filter<'a>(args: &'a Args, name: Option<&'a str>, since_ms: Option<f64>) -> Filter<'a> {
    Filter { name, since_ms, grep: args.grep.as_ref(), level: args.level }
}

/// Returns the run, and the machine's name if one is given. If the only argument names no run, it is a machine of the latest run.
fn find<'a>(
    run: Option<&'a str>,
    name: Option<&'a str>,
    context: &Context,
) -> anyhow::Result<(PastRun, Option<&'a str>)> {
    let is_machine = |word: &&str| name.is_none() && PastRun::folder(&context.root, word).is_err();
    let machine = run.filter(is_machine);
    let run = if machine.is_some() { None } else { run };
    Ok((PastRun::find(&context.root, run.unwrap_or("latest"))?, machine.or(name)))
}

/// Attempt at a case whose logs are shown.
#[derive(Debug, Clone, Copy)]
struct Attempt<'a> {
    case: &'a str,
    number: usize,
    folder: &'a str,
}

impl Attempt<'_> {
    fn title(&self) -> String {
        if self.number == 1 { self.case.to_owned() } else { format!("{} (attempt {})", self.case, self.number) }
    }
}

fn attempts<'a>(run: &'a PastRun, case: Option<&str>) -> Result<Vec<Attempt<'a>>, Error> {
    let cases = &run.record.cases;
    let wanted = cases.iter().filter(|one| case.is_none_or(|case| one.case.0.contains(case)));
    let attempts: Vec<Attempt<'_>> = wanted
        .flat_map(|one| {
            let numbered = one.attempts.iter().enumerate();
            numbered.map(|(index, attempt)| Attempt { case: &one.case.0, number: index + 1, folder: &attempt.folder })
        })
        .collect();
    match case {
        Some(case) if attempts.is_empty() => {
            let names = cases.iter().map(|one| one.case.0.as_str());
            let near = nearest(case, names.clone()).map(|near| format!("did you mean {near}?"));
            let hint = near.unwrap_or_else(|| format!("there are {}", names.collect::<Vec<_>>().join(", ")));
            Err(Error::Usage(format!("--case {case}: run {} has no such case: {hint}", run.record.run_id)))
        }
        _ => Ok(attempts),
    }
}

/// Content to show of the logs: all lines, or only a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Lines,
    Digest,
}

/// Printer of a run's logs, which holds the lines of one attempt in memory at a time.
struct Shown<'a> {
    run: &'a PastRun,
    attempts: Vec<Attempt<'a>>,
    filter: &'a Filter<'a>,
    what: What,
    context: &'a Context,
    /// Digests of the attempts so far; `--format json` prints all of them in one document.
    rows: Vec<serde_json::Value>,
}

impl Shown<'_> {
    fn write(mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        let record = &self.run.record;
        let json = self.context.format == Format::Json;
        if json && self.what == What::Lines {
            let head = json!({ "format_version": 1, "run_id": record.run_id, "started_at": record.started_at });
            writeln!(out, "{head}")?;
        }
        let mut wanted: HashMap<&str, Attempt<'_>> =
            self.attempts.iter().map(|attempt| (attempt.folder, *attempt)).collect();
        let run = self.run;
        let gaps = run.each_attempt(|told| {
            let attempt = wanted.remove(told.folder.as_deref().unwrap_or_default());
            self.attempt(attempt, told.events(), out)
        })?;
        // Their events are missing; what was logged may be there all the same.
        for attempt in self.attempts.clone() {
            self.attempt(wanted.remove(attempt.folder), &[], out)?;
        }
        for gap in gaps.iter().filter(|gap| !run.record.gaps.contains(gap)) {
            self.context.terminal.warn(gap);
        }
        if json && self.what == What::Digest {
            let run_id = &self.run.record.run_id;
            writeln!(out, "{:#}", json!({ "format_version": 1, "run_id": run_id, "attempts": self.rows }))?;
        }
        Ok(())
    }

    fn attempt(&mut self, attempt: Option<Attempt<'_>>, events: &[Stamped], out: &mut dyn Write) -> anyhow::Result<()> {
        let Some(attempt) = attempt else { return Ok(()) };
        let lines = self.run.log_lines(attempt.folder, events);
        match self.what {
            What::Lines => self.lines(attempt, &lines, out),
            What::Digest => self.digest(attempt, &lines, events, out),
        }
    }

    fn lines(&self, attempt: Attempt<'_>, lines: &[LogLine], out: &mut dyn Write) -> anyhow::Result<()> {
        if self.context.format == Format::Human && self.attempts.len() > 1 {
            writeln!(out, "==> {} <==", attempt.title())?;
        }
        for line in self.filter.wanted(lines) {
            match self.context.format {
                Format::Human => writeln!(out, "{}", self.context.terminal.log_line(line, LogClock::Run))?,
                Format::Json => writeln!(out, "{}", line_as_json(line, Some(&attempt))?)?,
            }
        }
        Ok(())
    }

    fn digest(
        &mut self,
        attempt: Attempt<'_>,
        lines: &[LogLine],
        events: &[Stamped],
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        let lines: Vec<LogLine> = self.filter.wanted(lines).cloned().collect();
        let performance = self.run.performance(attempt.folder).unwrap_or_else(|error| {
            self.context.terminal.warn(&format!("{}: no bottlenecks are counted: {error:#}", attempt.title()));
            None
        });
        let digest = LogDigest::of(&lines, events, performance.as_ref());
        match self.context.format {
            Format::Human => {
                for line in self.context.terminal.log_digest(&attempt.title(), &digest) {
                    writeln!(out, "{line}")?;
                }
            }
            Format::Json => {
                self.rows.push(json!({ "case": attempt.case, "attempt": attempt.number, "digest": digest }));
            }
        }
        Ok(())
    }
}

fn line_as_json(line: &LogLine, attempt: Option<&Attempt<'_>>) -> serde_json::Result<serde_json::Value> {
    let mut value = serde_json::to_value(line)?;
    if let (Some(object), Some(attempt)) = (value.as_object_mut(), attempt) {
        object.insert("case".into(), attempt.case.into());
        object.insert("attempt".into(), attempt.number.into());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_ms: Option<f64>, machine: &str, level: LogLevel, text: &str) -> LogLine {
        LogLine { at_ms, machine: machine.into(), source: "x.log".into(), level, text: text.into() }
    }

    #[test]
    fn each_filter_takes_away_what_it_says() {
        let lines = [
            line(Some(1000.0), "app", LogLevel::Info, "one"),
            line(None, "app", LogLevel::Error, "two"),
            line(Some(2000.0), "db", LogLevel::Warning, "three"),
            line(None, "app", LogLevel::Info, "four"),
        ];
        let all = Filter { name: None, since_ms: None, grep: None, level: LogLevel::Debug };
        let check = |filter: Filter<'_>, expected: &[&str]| {
            let wanted: Vec<&str> = filter.wanted(&lines).map(|line| line.text.as_str()).collect();
            assert_eq!(wanted, expected, "{filter:?}");
        };
        let grep = Regex::new("^(one|four)$").unwrap();
        check(Filter { since_ms: Some(1500.0), ..all }, &["three", "four"]);
        check(Filter { name: Some("db"), ..all }, &["three"]);
        check(Filter { level: LogLevel::Warning, ..all }, &["two", "three"]);
        check(Filter { grep: Some(&grep), ..all }, &["one", "four"]);
        check(all, &["one", "two", "three", "four"]);
    }

    #[test]
    fn a_bad_expression_is_told_with_its_place() {
        let error = expression("a(b").unwrap_err();
        assert!(error.contains("not a regular expression") && error.contains("unclosed group"), "{error}");
    }
}
