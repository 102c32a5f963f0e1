//! Bottlenecks: resources that slowed machines down, found by counters during the case and by messages of programs about exhausted
//! resources.

use serde::{Deserialize, Serialize};

use super::LogLine;
use crate::record::{Event, Performance, Stamped};

/// Resource that slowed a machine down, or was exhausted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// Name of the container, or `host`.
    pub machine: String,
    /// Kind of resource: `processor_bound`, `processor_wait`, `memory`, `disk_space`, `files`, `processes` or `network`.
    pub kind: String,
    /// Sentence with figures for the report.
    pub sentence: String,
}

/// Smallest share of a case's time in which a container was throttled, or waited, that is reported.
const SHARE_MIN: f64 = 0.1;

/// Smallest time in which a container was throttled, or waited, that is reported, in milliseconds: a case of half a second is too short
/// to judge.
const TIME_MS_MIN: f64 = 500.0;

/// Smallest average use of the host's processors that counts as busy, in percent.
const BUSY_PERCENT: f64 = 90.0;

/// Messages that programs log when a resource is exhausted: their words in lower case, the kind of resource, and the start of the sentence
/// for the report.
const USED_UP: [(&[&str], &str, &str); 4] = [
    (&["no space left on device", "disk quota exceeded"], "disk_space", "had no space left on a disk"),
    (&["out of memory", "cannot allocate memory", "memoryerror"], "memory", "had no memory left for a program"),
    (&["too many open files"], "files", "had a program with too many open files"),
    (
        &["resource temporarily unavailable - fork", "cannot fork", "can't start new thread"],
        "processes",
        "could start no more processes",
    ),
];

/// Finds the bottlenecks of an attempt.
pub(super) fn bottlenecks(lines: &[LogLine], events: &[Stamped], performance: Option<&Performance>) -> Vec<Bottleneck> {
    let mut found = performance.map(counted).unwrap_or_default();
    // Of each kind, the machines with the number of lines and the time of the first.
    let mut said: [Vec<(&str, u64, Option<f64>)>; USED_UP.len()] = Default::default();
    for line in lines.iter().filter(|line| line.machine != LogLine::SCENARIO) {
        let text = line.text.to_ascii_lowercase();
        for ((words, ..), machines) in USED_UP.iter().zip(&mut said) {
            if !words.iter().any(|word| text.contains(word)) {
                continue;
            }
            match machines.iter_mut().find(|(machine, ..)| *machine == line.machine) {
                Some((_, count, _)) => *count += 1,
                None => machines.push((&line.machine, 1, line.at_ms)),
            }
        }
    }
    for ((_, kind, begin), machines) in USED_UP.into_iter().zip(said) {
        for (machine, count, first_ms) in machines {
            let lines = if count == 1 { "1 log line says so".to_owned() } else { format!("{count} log lines say so") };
            let at = first_ms.map_or_else(String::new, |at_ms| format!(", the first at {:.1} s", at_ms / 1000.0));
            let sentence = format!("{machine} {begin}: {lines}{at}");
            found.push(Bottleneck { machine: machine.to_owned(), kind: kind.to_owned(), sentence });
        }
    }
    let is_killed = |machine: &str| found.iter().any(|it| it.machine == machine && it.kind == "memory");
    let killed: Vec<Bottleneck> = events
        .iter()
        .filter_map(|stamped| match &stamped.event {
            Event::Finding { kind, container: Some(machine), about, .. }
                if kind == "oom_kill" && !is_killed(machine) =>
            {
                let sentence = format!("{machine} was out of memory: the kernel killed {about}");
                Some(Bottleneck { machine: machine.clone(), kind: "memory".into(), sentence })
            }
            _ => None,
        })
        .collect();
    found.extend(killed);
    found
}

fn counted(performance: &Performance) -> Vec<Bottleneck> {
    let Some(sampling) = &performance.sampling else { return Vec::new() };
    let all_ms = sampling.duration_ms;
    let mut found = Vec::new();
    for (machine, series) in &sampling.series {
        let last = |name: &str| series.get(name).and_then(|values| values.iter().rev().flatten().next().copied());
        let mut add = |kind: &str, sentence: String| {
            found.push(Bottleneck { machine: machine.clone(), kind: kind.to_owned(), sentence });
        };
        let share = |name: &str| {
            let spent_ms = last(name).filter(|spent| *spent >= TIME_MS_MIN && *spent >= SHARE_MIN * all_ms)?;
            let of = format!("{:.1} s of {:.1} s", spent_ms / 1000.0, all_ms / 1000.0);
            Some(format!("{of} ({:.0} %)", 100.0 * spent_ms / all_ms))
        };
        if let Some(share) = share("throttled_ms") {
            add("processor_bound", format!("{machine} was throttled by its limit of processor time for {share}"));
        }
        if let Some(share) = share("wait_ms") {
            add("processor_wait", format!("{machine} had a task that waited for a processor for {share}"));
        }
        if let Some(kills) = last("oom_kills").filter(|kills| *kills >= 1.0) {
            let processes = if kills == 1.0 { "a process".to_owned() } else { format!("{kills:.0} processes") };
            add("memory", format!("{machine} was out of memory: the kernel killed {processes}"));
        }
    }
    let busy: Vec<f64> = sampling.host.get("cpu_percent").into_iter().flatten().flatten().copied().collect();
    let average = busy.iter().sum::<f64>() / busy.len().max(1) as f64;
    if average >= BUSY_PERCENT {
        let cores = performance.machine.cores;
        let processors = if cores == 1 { "processor was".to_owned() } else { format!("{cores} processors were") };
        let sentence = format!("the host's {processors} {average:.0} % busy on average during the case");
        found.push(Bottleneck { machine: LogLine::HOST.into(), kind: "processor_wait".into(), sentence });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::logs::LogLevel;
    use crate::record::{CaseId, Machine, Sampling};

    fn performance(series: &[(&str, f64)], cpu_percent: f64) -> Performance {
        let machine = Machine {
            cpu_model: "x".into(),
            cores: 2,
            memory_bytes: 1,
            kernel: "x".into(),
            lxc: "x".into(),
            storage: "x".into(),
            cgroup: "v2".into(),
        };
        let mut performance = Performance::new("a".into(), machine, "x".into());
        let series = series.iter().map(|(name, value)| ((*name).to_owned(), vec![Some(0.0), Some(*value), None]));
        performance.sampling = Some(Sampling {
            rate_hz: 10,
            thinned: 1,
            ticks: 3,
            own_cpu_ms: 1.0,
            duration_ms: 10_000.0,
            at_ms: vec![0.0, 5000.0, 10_000.0],
            series: BTreeMap::from([("app".to_owned(), series.collect())]),
            host: BTreeMap::from([("cpu_percent".to_owned(), vec![None, Some(cpu_percent)])]),
        });
        performance
    }

    fn sentences(lines: &[LogLine], events: &[Stamped], performance: Option<&Performance>) -> Vec<String> {
        bottlenecks(lines, events, performance).into_iter().map(|it| it.sentence).collect()
    }

    #[test]
    fn what_was_counted_is_told_with_its_figures() {
        let held = performance(&[("throttled_ms", 3200.0), ("wait_ms", 900.0), ("oom_kills", 2.0)], 97.4);
        let expected = [
            "app was throttled by its limit of processor time for 3.2 s of 10.0 s (32 %)",
            "app was out of memory: the kernel killed 2 processes",
            "the host's 2 processors were 97 % busy on average during the case",
        ];
        assert_eq!(sentences(&[], &[], Some(&held)), expected);
        let waiting = performance(&[("throttled_ms", 0.0), ("wait_ms", 4000.0), ("oom_kills", 0.0)], 50.0);
        assert_eq!(
            sentences(&[], &[], Some(&waiting)),
            ["app had a task that waited for a processor for 4.0 s of 10.0 s (40 %)"]
        );
    }

    #[test]
    fn what_programs_say_is_used_up_is_told() {
        let line = |at_ms: f64, machine: &str, text: &str| LogLine {
            at_ms: Some(at_ms),
            machine: machine.into(),
            source: "journal.log".into(),
            level: LogLevel::Error,
            text: text.into(),
        };
        let lines = [
            line(1500.0, "db", "could not extend file: No space left on device"),
            line(1600.0, "db", "could not extend file: No space left on device"),
            line(1700.0, "app", "accept: Too many open files"),
            line(1800.0, "scenario", "as wanted: No space left on device"),
        ];
        let finding = Event::Finding {
            case: CaseId("a".into()),
            kind: "oom_kill".into(),
            container: Some("app".into()),
            about: "tail".into(),
            detail: "x".into(),
            happened_at_ms: None,
            expected: true,
        };
        let expected = [
            "db had no space left on a disk: 2 log lines say so, the first at 1.5 s",
            "app had a program with too many open files: 1 log line says so, the first at 1.7 s",
            "app was out of memory: the kernel killed tail",
        ];
        assert_eq!(sentences(&lines, &[Stamped { at_ms: 1.0, event: finding }], None), expected);
    }
}
