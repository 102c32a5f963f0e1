//! Log lines of an attempt as one block of text: shown as it is without a script, and searched by the page's script.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::story::Story;
use super::timeline::Alarms;
use super::words::{Moment, count, moment, plain};
use crate::record::logs::{LogLevel, LogLine};

/// Maximum bytes of log lines in one page.
pub const BYTES_MAX: usize = 14 << 20;

/// Maximum characters shown of a log line.
const CHARACTERS_MAX: usize = 4000;

/// Times before and after a failure, in milliseconds, within which log lines are shown beside the failure.
const AROUND_MS: (f64, f64) = (10_000.0, 3_000.0);

/// Maximum log lines shown beside a failure.
const AROUND_MAX: usize = 40;

/// Maximum marks for errors and warnings of a machine on the timeline.
const ALARMS_MAX: usize = 2000;

/// View of the log lines of one attempt.
#[derive(Debug, Clone, Serialize)]
pub struct Log {
    /// Numbers of lines and machines in words.
    pub summary: String,
    /// Rows of the log lines; the fields of a row are separated by tabs: seconds, machine, level, file, text.
    pub text: String,
    pub lines: usize,
    /// Reason why log lines are missing; `None` if none are.
    pub left_out: Option<String>,
    /// Name of each machine, and the number of its lines.
    pub machines: Vec<(String, usize)>,
}

/// Log line that is shown beside a failure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub at: Moment,
    /// Name of the container, `scenario` or `host`.
    pub machine: String,
    /// Name of the log file from which the line comes.
    pub source: String,
    /// Level of the line: `debug`, `info`, `warning` or `error`.
    pub level: &'static str,
    pub text: String,
}

/// Divides `most` bytes of the page among the attempts, by the sizes of their logs: smaller logs get their whole size, and larger ones
/// share the rest.
pub fn shares(sizes: &[usize], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|place| sizes[*place]);
    let mut shares = vec![0; sizes.len()];
    let mut left = most;
    for (done, place) in order.into_iter().enumerate() {
        shares[place] = sizes[place].min(left / (sizes.len() - done));
        left -= shares[place];
    }
    shares
}

/// Returns the number of bytes that log lines take in a page.
pub fn size(lines: &[LogLine]) -> usize {
    lines.iter().map(line_size).sum()
}

/// Returns the view of a log in at most `bytes_max`. If not all lines fit, the lines close to the failure are chosen first, then errors,
/// then warnings, then the last lines.
pub fn log(lines: &[LogLine], failed_ms: Option<f64>, bytes_max: usize) -> Log {
    let is_close = |line: &LogLine| {
        let close = |failed: f64, at: f64| (failed - AROUND_MS.0..=failed + AROUND_MS.1).contains(&at);
        failed_ms.zip(line.at_ms).is_some_and(|(failed, at)| close(failed, at))
    };
    let rank = |line: &LogLine| match line.level {
        _ if is_close(line) => 0,
        LogLevel::Error => 1,
        LogLevel::Warning => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
    };
    let mut keep = vec![true; lines.len()];
    if size(lines) > bytes_max {
        let mut order: Vec<usize> = (0..lines.len()).collect();
        order.sort_by_key(|place| (rank(&lines[*place]), std::cmp::Reverse(*place)));
        let mut left = bytes_max;
        for place in order {
            let size = line_size(&lines[place]);
            keep[place] = size <= left;
            left = left.saturating_sub(size);
        }
    }
    let mut text = String::with_capacity(size(lines).min(bytes_max));
    let mut machines: BTreeMap<&str, usize> = BTreeMap::new();
    for (line, _) in lines.iter().zip(&keep).filter(|(_, keep)| **keep) {
        *machines.entry(&line.machine).or_default() += 1;
        let at = line.at_ms.map(|at| moment(at).text).unwrap_or_default();
        let fields = [&at, &line.machine, name(line.level), &line.source].map(|field| field.replace(['\t', '\n'], " "));
        text.push_str(&fields.join("\t"));
        text.push('\t');
        text.push_str(&plain(&line.text, CHARACTERS_MAX).replace('\n', " "));
        text.push('\n');
    }
    let shown: usize = machines.values().sum();
    let left_out = (shown < lines.len()).then(|| {
        let missing = count(lines.len() - shown, "line is", "lines are");
        format!("{missing} not here, for want of room: the lines around the failure, errors and warnings came first")
    });
    let logged = lines.iter().map(|line| line.machine.as_str()).collect::<BTreeSet<_>>().len();
    let summary = format!("{} of {}", count(lines.len(), "line", "lines"), count(logged, "machine", "machines"));
    let machines = machines.into_iter().map(|(name, lines)| (name.to_owned(), lines)).collect();
    Log { summary, text, lines: shown, left_out, machines }
}

/// Log lines that are shown beside a failure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rows {
    pub rows: Vec<Row>,
    /// Number of log lines that are not shown.
    pub left_out: usize,
}

/// Returns the log lines close to a moment, in order, without those of level `debug`. If there are too many, errors and warnings are
/// preferred, then the lines closest to the moment.
pub fn around(lines: &[LogLine], at_ms: f64) -> Rows {
    let close = |line: &&LogLine| {
        line.level > LogLevel::Debug
            && line.at_ms.is_some_and(|at| (at_ms - AROUND_MS.0..=at_ms + AROUND_MS.1).contains(&at))
    };
    let distance = |line: &LogLine| (line.at_ms.unwrap_or(at_ms) - at_ms).abs();
    let mut found: Vec<(usize, &LogLine)> = lines.iter().filter(close).enumerate().collect();
    found.sort_by(|(_, one), (_, two)| {
        let unimportant = |line: &LogLine| line.level < LogLevel::Warning;
        unimportant(one).cmp(&unimportant(two)).then(distance(one).total_cmp(&distance(two)))
    });
    let left_out = found.len().saturating_sub(AROUND_MAX);
    found.truncate(AROUND_MAX);
    found.sort_by_key(|(place, _)| *place);
    Rows { rows: found.into_iter().filter_map(|(_, line)| row(line)).collect(), left_out }
}

/// Returns the errors and warnings that were logged while a fault was active or soon afterwards, and too early before a moment for
/// [`around`].
pub fn while_faults(lines: &[LogLine], story: &Story, at_ms: f64) -> Rows {
    let in_fault = |at: f64| {
        let near = |end: Option<f64>| end.is_none_or(|end| at <= end + 1000.0);
        story.faults.iter().any(|broken| broken.asked_ms <= at && near(broken.healed_ms))
    };
    let wanted = |line: &&LogLine| {
        line.level >= LogLevel::Warning && line.at_ms.is_some_and(|at| at < at_ms - AROUND_MS.0 && in_fault(at))
    };
    let count = lines.iter().filter(wanted).count();
    let rows = lines.iter().filter(wanted).filter_map(row).take(AROUND_MAX).collect();
    Rows { rows, left_out: count.saturating_sub(AROUND_MAX) }
}

fn row(line: &LogLine) -> Option<Row> {
    Some(Row {
        at: moment(line.at_ms?),
        machine: line.machine.clone(),
        source: line.source.clone(),
        level: name(line.level),
        text: plain(&line.text, 600),
    })
}

/// Returns the errors and warnings of each machine, as marks of the timeline.
pub fn alarms(lines: &[LogLine]) -> Alarms {
    let mut alarms = Alarms::new();
    for line in lines.iter().filter(|line| line.level >= LogLevel::Warning) {
        let Some(at_ms) = line.at_ms else { continue };
        let of_machine = alarms.entry(line.machine.clone()).or_default();
        if of_machine.marks.len() < ALARMS_MAX {
            of_machine.marks.push((at_ms, name(line.level), line.text.clone()));
        } else {
            of_machine.left_out += 1;
        }
    }
    alarms
}

/// Returns the number of errors that a machine logged close to a moment.
pub fn errors_around(lines: &[LogLine], machine: &str, at_ms: f64) -> usize {
    let is_close = |at: f64| (at_ms - AROUND_MS.0..=at_ms + AROUND_MS.1).contains(&at);
    let counts =
        |line: &&LogLine| line.machine == machine && line.level >= LogLevel::Error && line.at_ms.is_some_and(is_close);
    lines.iter().filter(counts).count()
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
}

/// Returns the maximum bytes that a log line takes in a page, in which characters such as `<` are escaped.
fn line_size(line: &LogLine) -> usize {
    let marked = line.text.bytes().filter(|byte| matches!(byte, b'<' | b'>' | b'&' | b'"' | b'\'' | b'/')).count();
    line.text.len().min(4 * CHARACTERS_MAX)
        + 5 * marked.min(CHARACTERS_MAX)
        + line.machine.len()
        + line.source.len()
        + 24
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at_ms: f64, level: LogLevel, text: &str) -> LogLine {
        LogLine { at_ms: Some(at_ms), machine: "app".into(), source: "journal.log".into(), level, text: text.into() }
    }

    #[test]
    fn a_line_is_five_fields_whatever_it_says() {
        let hostile = [
            line(1500.0, LogLevel::Error, "<script>alert(1)</script>\u{1b}[2J\ttab\nnew"),
            LogLine { at_ms: None, source: "a\tb".into(), ..line(0.0, LogLevel::Info, &"x".repeat(1 << 20)) },
        ];
        let log = log(&hostile, None, BYTES_MAX);
        let lines: Vec<&str> = log.text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "1.500\tapp\terror\tjournal.log\t<script>alert(1)</script>\u{241b}[2J\ttab new");
        assert!(lines[1].starts_with("\tapp\tinfo\ta b\txxx") && lines[1].ends_with("x … (cut)"));
        assert!(lines[1].len() < 5000, "{}", lines[1].len());
        assert_eq!((log.summary.as_str(), log.left_out), ("2 lines of 1 machine", None));
    }

    #[test]
    fn what_matters_stays_where_room_is_short() {
        let mut lines: Vec<LogLine> =
            (0..1000).map(|number| line(f64::from(number) * 1000.0, LogLevel::Info, "nothing to see")).collect();
        lines[3] = line(3000.0, LogLevel::Error, "broken");
        lines[7].machine = "silent".into();
        let log = log(&lines, Some(500_000.0), 2000);
        assert!(log.text.len() <= 2000 && log.text.contains("broken"), "{}", log.text);
        assert!(log.text.contains("\n500.000\t") && log.text.contains("\n999.000\t"), "{}", log.text);
        assert_eq!((log.summary.as_str(), log.machines.len()), ("1,000 lines of 2 machines", 1));
        let times: Vec<f64> = log.text.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect();
        assert!(times.is_sorted(), "{times:?}");
        assert!(log.left_out.unwrap().ends_with("came first"));
    }

    #[test]
    fn small_logs_are_whole_and_large_ones_share_the_rest() {
        assert_eq!(shares(&[10, 1000, 20, 1000], 430), [10, 200, 20, 200]);
        assert_eq!(shares(&[1, 2], 100), [1, 2]);
        assert!(shares(&[], 100).is_empty());
    }

    #[test]
    fn errors_come_first_beside_a_failure() {
        let mut lines: Vec<LogLine> =
            (0..200).map(|number| line(f64::from(number) * 10.0, LogLevel::Info, "calm")).collect();
        lines[0] = line(0.0, LogLevel::Error, "first");
        let Rows { rows, left_out } = around(&lines, 1990.0);
        assert_eq!(left_out, 200 - AROUND_MAX);
        assert_eq!((rows.len(), rows[0].text.as_str(), rows[1].at.text.as_str()), (AROUND_MAX, "first", "1.610"));
        assert_eq!((errors_around(&lines, "app", 1990.0), errors_around(&lines, "db", 1990.0)), (1, 0));
        assert_eq!(alarms(&lines)["app"].marks.len(), 1);
    }
}
