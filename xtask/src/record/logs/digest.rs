//! Digest of an attempt's log lines: groups of errors and warnings, the first error of each machine, restarts, bottlenecks.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::bottleneck::{self, Bottleneck};
use super::pattern::{Pattern, pattern_of, with_quotes};
use super::restart::{self, Restart};
use super::{LogLevel, LogLine};
use crate::record::{Event, Performance, Stamped};

/// Maximum number of groups of lines in a digest.
const GROUPS_MAX: usize = 200;

/// Digest of an attempt's logs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogDigest {
    /// Groups of similar errors and warnings: errors first, then the most frequent.
    pub groups: Vec<LogGroup>,
    /// Number of groups that were left out, which are the rarest.
    pub groups_left_out: u64,
    /// First error of each machine, in order of time. Errors before the lab was ready do not count, where it became ready.
    pub first_errors: Vec<FirstError>,
    /// Restarts of containers and units.
    pub restarts: Vec<Restart>,
    /// Resources that slowed machines down, or were exhausted.
    pub bottlenecks: Vec<Bottleneck>,
}

/// Group of lines that are equal except for numbers, names and addresses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogGroup {
    /// Level of the lines: error or warning.
    pub level: LogLevel,
    /// Pattern of the lines, in which numbers, identifiers, addresses, and quoted strings that differ between lines are replaced.
    pub pattern: String,
    /// First line of the group, unchanged.
    pub example: String,
    /// Number of lines.
    pub count: u64,
    /// Number of lines by machine.
    pub machines: BTreeMap<String, u64>,
    /// Time of the first line that has a time, on the run's clock.
    pub first_ms: Option<f64>,
    /// Time of the last line that has a time, on the run's clock.
    pub last_ms: Option<f64>,
}

/// First error that a machine logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstError {
    /// Name of the machine.
    pub machine: String,
    /// Name of the log file.
    pub source: String,
    /// Time of the line on the run's clock, where it is known.
    pub at_ms: Option<f64>,
    /// Text of the line.
    pub text: String,
}

impl LogDigest {
    /// Makes the digest of an attempt from its log lines, events and measurements.
    #[must_use]
    pub fn of(lines: &[LogLine], events: &[Stamped], performance: Option<&Performance>) -> Self {
        let (groups, groups_left_out) = groups(lines);
        Self {
            groups,
            groups_left_out,
            first_errors: first_errors(lines, events),
            restarts: restart::restarts(lines, events),
            bottlenecks: bottleneck::bottlenecks(lines, events, performance),
        }
    }
}

/// Quoted strings of a group of lines, by their places; `None` where the lines have different strings.
type CommonQuotes = Vec<Option<String>>;

fn groups(lines: &[LogLine]) -> (Vec<LogGroup>, u64) {
    let mut found: HashMap<(LogLevel, String), (LogGroup, CommonQuotes)> = HashMap::new();
    for line in lines.iter().filter(|line| line.level >= LogLevel::Warning) {
        let Pattern { text, quotes } = pattern_of(&line.text);
        let (group, common) = found.entry((line.level, text)).or_insert_with_key(|(level, pattern)| {
            let group = LogGroup {
                level: *level,
                pattern: pattern.clone(),
                example: line.text.clone(),
                count: 0,
                machines: BTreeMap::new(),
                first_ms: line.at_ms,
                last_ms: None,
            };
            (group, quotes.iter().map(|quote| Some((*quote).to_owned())).collect())
        });
        for (common, quote) in common.iter_mut().zip(&quotes) {
            common.take_if(|common| common != quote);
        }
        group.count += 1;
        match group.machines.get_mut(&line.machine) {
            Some(count) => *count += 1,
            None => drop(group.machines.insert(line.machine.clone(), 1)),
        }
        group.first_ms = group.first_ms.or(line.at_ms);
        group.last_ms = line.at_ms.or(group.last_ms);
    }
    // A quoted string that never differs tells more than its place: `invalid value "abc"`.
    let told =
        |(group, common): (LogGroup, CommonQuotes)| LogGroup { pattern: with_quotes(&group.pattern, &common), ..group };
    let mut groups: Vec<LogGroup> = found.into_values().map(told).collect();
    groups.sort_by(|a, b| (b.level, b.count).cmp(&(a.level, a.count)).then_with(|| a.pattern.cmp(&b.pattern)));
    let left_out = groups.len().saturating_sub(GROUPS_MAX) as u64;
    groups.truncate(GROUPS_MAX);
    (groups, left_out)
}

fn first_errors(lines: &[LogLine], events: &[Stamped]) -> Vec<FirstError> {
    let ready = events.iter().find(|stamped| matches!(stamped.event, Event::LabReady { .. }));
    let counts = |line: &&LogLine| {
        // Probes knock until a service answers: what that leaves in logs is no error of the case.
        line.level == LogLevel::Error && ready.is_none_or(|ready| line.at_ms.is_some_and(|at| at >= ready.at_ms))
    };
    let mut found: Vec<FirstError> = Vec::new();
    for line in lines.iter().filter(counts) {
        if !found.iter().any(|first| first.machine == line.machine) {
            let (machine, source) = (line.machine.clone(), line.source.clone());
            found.push(FirstError { machine, source, at_ms: line.at_ms, text: line.text.clone() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CaseId;

    fn line(at_ms: f64, machine: &str, level: LogLevel, text: &str) -> LogLine {
        LogLine { at_ms: Some(at_ms), machine: machine.into(), source: "journal.log".into(), level, text: text.into() }
    }

    #[test]
    fn lines_that_say_the_same_are_one_group() {
        let lines = [
            line(1.0, "app", LogLevel::Warning, "slow 1"),
            line(2.0, "app", LogLevel::Error, "no file \"a\" in 10 ms"),
            line(3.0, "db", LogLevel::Error, "no file \"b\" in 2 ms"),
            line(4.0, "db", LogLevel::Error, "other"),
            line(5.0, "db", LogLevel::Info, "fine"),
        ];
        let groups = LogDigest::of(&lines, &[], None).groups;
        let shown: Vec<_> = groups.iter().map(|it| (it.level, it.pattern.as_str(), it.count)).collect();
        let expected = [
            (LogLevel::Error, "no file \"…\" in N ms", 2),
            (LogLevel::Error, "other", 1),
            (LogLevel::Warning, "slow N", 1),
        ];
        assert_eq!(shown, expected);
        assert_eq!((groups[0].first_ms, groups[0].last_ms), (Some(2.0), Some(3.0)));
        assert_eq!(groups[0].example, "no file \"a\" in 10 ms");
        assert_eq!(groups[0].machines, BTreeMap::from([("app".to_owned(), 1), ("db".to_owned(), 1)]));
        let same = [
            line(1.0, "app", LogLevel::Error, "invalid value \"abc\" for 'jobs' after 3 s"),
            line(2.0, "db", LogLevel::Error, "invalid value \"abc\" for 'size' after 40 s"),
        ];
        let groups = LogDigest::of(&same, &[], None).groups;
        let shown: Vec<_> = groups.iter().map(|it| (it.pattern.as_str(), it.count)).collect();
        assert_eq!(shown, [("invalid value \"abc\" for \"…\" after N s", 2)]);
        let many: Vec<_> = (0..GROUPS_MAX + 3)
            .map(|number| {
                let letter = |digit: usize| char::from(b'a' + digit as u8 % 26);
                let name: String = [number / 676, number / 26, number].map(letter).iter().collect();
                line(1.0, "app", LogLevel::Error, &name)
            })
            .collect();
        let digest = LogDigest::of(&many, &[], None);
        assert_eq!((digest.groups.len(), digest.groups_left_out), (GROUPS_MAX, 3));
    }

    #[test]
    fn the_first_error_is_that_of_a_lab_that_was_ready() {
        let lines = [
            line(1.0, "app", LogLevel::Error, "probe"),
            line(20.0, "app", LogLevel::Error, "first"),
            line(30.0, "app", LogLevel::Error, "second"),
            line(25.0, "db", LogLevel::Warning, "careful"),
        ];
        let ready = Event::LabReady { case: CaseId("a".into()), after_ms: 1.0 };
        let first = |events: &[Stamped]| LogDigest::of(&lines, events, None).first_errors;
        let found = first(&[Stamped { at_ms: 10.0, event: ready }]);
        assert_eq!((found.len(), found[0].text.as_str(), found[0].machine.as_str()), (1, "first", "app"));
        assert_eq!(first(&[])[0].text, "probe");
    }
}
