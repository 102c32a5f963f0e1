//! Lines and digests of logs, as text for people.

use super::style::{Line, Style};
use crate::record::logs::{LogDigest, LogGroup, LogLevel, LogLine};

/// Clock by which the times of log lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogClock {
    /// Times are seconds since the run's start.
    Run,
    /// Times are times of day (UTC).
    Wall,
}

/// Maximum characters of the example of a group of log lines in a digest.
const EXAMPLE_CHARS_MAX: usize = 200;

const DAY_MS: f64 = 86_400_000.0;

/// Formats a log line: time, machine, file, the level's first letter (none for information), text.
pub(super) fn line(line: &LogLine, clock: LogClock) -> Line {
    let time = line.at_ms.map_or_else(String::new, |at_ms| time(at_ms, clock));
    let width = match clock {
        LogClock::Run => 9,
        LogClock::Wall => 12,
    };
    let head = format!("{time:>width$} {:<9} {:<12} ", line.machine, line.source);
    let letter = match line.level {
        LogLevel::Error => "E",
        LogLevel::Warning => "W",
        LogLevel::Info => " ",
        LogLevel::Debug => "D",
    };
    Line::of(Style::Faint, &head).with(style(line.level), &format!("{letter} {}", line.text))
}

fn style(level: LogLevel) -> Style {
    match level {
        LogLevel::Error => Style::Bad,
        LogLevel::Warning => Style::Caution,
        LogLevel::Info => Style::Plain,
        LogLevel::Debug => Style::Faint,
    }
}

fn time(at_ms: f64, clock: LogClock) -> String {
    match clock {
        LogClock::Run => format!("{:.3}", at_ms / 1e3),
        LogClock::Wall => {
            let of_day = at_ms.rem_euclid(DAY_MS) as u64;
            let (seconds, milliseconds) = (of_day / 1000, of_day % 1000);
            format!("{:02}:{:02}:{:02}.{milliseconds:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
    }
}

/// Formats the digest of an attempt's logs, with a title as the first line.
pub(super) fn digest(title: &str, digest: &LogDigest) -> Vec<Line> {
    let mut lines = vec![Line::of(Style::Strong, title)];
    let mut section = |name: &str, found: Vec<Line>| {
        if !found.is_empty() {
            lines.push(Line::of(Style::Strong, &format!("  {name}")));
            lines.extend(found);
        }
    };
    let plain = |text: &str| Line::of(Style::Plain, &format!("    {text}"));
    let first = digest.first_errors.iter().map(|first| {
        let at = first.at_ms.map_or_else(|| "at an unknown time".to_owned(), |at| format!("at {:.3} s", at / 1e3));
        plain(&format!("{} {at}, {}: ", first.machine, first.source)).with(Style::Bad, &shortened(&first.text))
    });
    section("first error of each machine, once the lab was ready", first.collect());
    let mut groups: Vec<Line> = digest.groups.iter().map(group).collect();
    if digest.groups_left_out > 0 {
        groups.push(plain(&format!("and {} rarer ones", digest.groups_left_out)));
    }
    section("errors and warnings", groups);
    section("restarts", digest.restarts.iter().map(|restart| plain(&restart.sentence)).collect());
    section("bottlenecks", digest.bottlenecks.iter().map(|bottleneck| plain(&bottleneck.sentence)).collect());
    if lines.len() == 1 {
        lines.push(Line::of(Style::Plain, "  nothing went wrong by these logs"));
    }
    lines
}

fn group(group: &LogGroup) -> Line {
    let machines: Vec<&str> = group.machines.keys().map(String::as_str).collect();
    let when = match (group.first_ms, group.last_ms) {
        (Some(first), Some(last)) if group.count > 1 => format!(", {:.1} to {:.1} s", first / 1e3, last / 1e3),
        (Some(first), _) => format!(", {:.1} s", first / 1e3),
        _ => String::new(),
    };
    // Of one line there is no pattern to see.
    let said = if group.count == 1 { &group.example } else { &group.pattern };
    Line::of(Style::Plain, &format!("    {:>5}x {}{when}  ", group.count, machines.join(" ")))
        .with(style(group.level), &format!("{}: {}", group.level, shortened(said)))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(EXAMPLE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::style::Paint;
    use super::*;
    use crate::record::logs::{Bottleneck, FirstError, Restart};

    fn example(at_ms: Option<f64>, level: LogLevel) -> LogLine {
        LogLine { at_ms, machine: "app".into(), source: "journal.log".into(), level, text: "x[1]: <b>no".into() }
    }

    #[test]
    fn a_line_has_its_time_its_place_and_its_level() {
        let plain = |at_ms, level, clock| line(&example(at_ms, level), clock).text(Paint::Plain);
        assert_eq!(
            plain(Some(12_345.6), LogLevel::Error, LogClock::Run),
            "   12.346 app       journal.log  E x[1]: <b>no"
        );
        assert_eq!(plain(None, LogLevel::Info, LogClock::Run), "          app       journal.log    x[1]: <b>no");
        assert_eq!(
            plain(Some(1_795_677_625_500.0), LogLevel::Warning, LogClock::Wall),
            "07:20:25.500 app       journal.log  W x[1]: <b>no"
        );
        let colors = line(&example(Some(1.0), LogLevel::Error), LogClock::Run).text(Paint::Colors);
        assert!(colors.contains("\u{1b}[") && colors.contains("E x[1]: <b>no"), "{colors:?}");
    }

    #[test]
    fn a_digest_is_read_from_top_to_bottom() {
        let machine = || "app".to_owned();
        let group = |level, count, pattern: &str, last_ms| LogGroup {
            level,
            pattern: pattern.into(),
            example: "no file \"a\"".into(),
            count,
            machines: BTreeMap::from([("app".to_owned(), count), ("db".to_owned(), 1)]),
            first_ms: Some(1500.0),
            last_ms,
        };
        let full = LogDigest {
            groups: vec![
                group(LogLevel::Error, 12, "no file \"…\"", Some(9000.0)),
                group(LogLevel::Warning, 1, "p", Some(1500.0)),
            ],
            groups_left_out: 3,
            first_errors: vec![FirstError {
                machine: machine(),
                source: "journal.log".into(),
                at_ms: Some(1500.0),
                text: "x".repeat(EXAMPLE_CHARS_MAX + 1),
            }],
            restarts: vec![Restart {
                machine: machine(),
                unit: None,
                count: 1,
                first_ms: None,
                sentence: "app was started again".into(),
            }],
            bottlenecks: vec![Bottleneck {
                machine: machine(),
                kind: "memory".into(),
                sentence: "app was out of memory".into(),
            }],
        };
        let shown = |found: &LogDigest| {
            digest("a/b:c", found).iter().map(|line| line.text(Paint::Plain) + "\n").collect::<String>()
        };
        let long = "x".repeat(EXAMPLE_CHARS_MAX);
        let expected = format!(
            "a/b:c\n  first error of each machine, once the lab was ready\n    app at 1.500 s, journal.log: {long}…\n  \
             errors and warnings\n       12x app db, 1.5 to 9.0 s  error: no file \"…\"\n        1x app db, 1.5 s  \
             warning: no file \"a\"\n    and 3 rarer ones\n  restarts\n    app was started again\n  bottlenecks\n    \
             app was out of memory\n"
        );
        assert_eq!(shown(&full), expected);
        assert_eq!(shown(&LogDigest::default()), "a/b:c\n  nothing went wrong by these logs\n");
    }
}
