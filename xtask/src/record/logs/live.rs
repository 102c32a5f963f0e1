//! Log lines of machines that run now, for which no record exists yet.

use super::clock::Clock;
use super::file::{Content, FILE_BYTES_MAX, Form, Origin, Placed};
use super::line::clean;
use super::{LogLevel, LogLine};

/// Collector of the lines of several logs, which sorts them. Times are milliseconds since 1970.
#[derive(Debug)]
pub struct LiveLines {
    now_epoch_ms: f64,
    found: Vec<Placed>,
}

impl LiveLines {
    /// Makes an empty collector; a time without a year gets the year in which it is nearest to `now_epoch_ms`.
    #[must_use]
    pub fn new(now_epoch_ms: f64) -> Self {
        Self { now_epoch_ms, found: Vec::new() }
    }

    /// Adds all lines of a log file that has these bytes; `source` is its name.
    pub fn add_file(&mut self, machine: &str, source: &str, bytes: Vec<u8>) {
        let clock = Clock::of_now(self.now_epoch_ms);
        let form = Form::OfProgram;
        let origin = Origin { machine, source, form, clock: &clock, default_ms: 0.0, bytes_max: FILE_BYTES_MAX };
        self.found.extend(origin.lines(&Content { bytes, skipped: 0 }));
    }

    /// Adds an entry of a journal, with the name of the program that logged it (`from`) and its priority, from 0 to 7 as in syslog.
    pub fn add_entry(&mut self, machine: &str, epoch_ms: f64, priority: u32, from: &str, message: &[u8]) {
        let known = LogLevel::of_priority(priority);
        for line in message.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let said = clean(line);
            let level = LogLevel::said_in(&said).map_or(known, |said| said.max(known));
            let line = LogLine {
                at_ms: Some(epoch_ms),
                machine: machine.to_owned(),
                source: "journal.log".into(),
                level,
                text: format!("{from}: {said}"),
            };
            self.found.push(Placed { key_ms: epoch_ms, line });
        }
    }

    /// Returns all lines in order of time; a line without a time stays at its place in its file.
    #[must_use]
    pub fn in_order(mut self) -> Vec<LogLine> {
        self.found.sort_by(|a, b| a.key_ms.total_cmp(&b.key_ms));
        self.found.into_iter().map(|placed| placed.line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_now_stand_in_one_order() {
        let now = 1_795_677_625_000.0; // 2026-11-26T07:20:25Z
        let mut lines = LiveLines::new(now);
        lines.add_file("db", "x.log", b"banner\n2026-11-26 07:20:20 ERROR no\n".to_vec());
        lines.add_file("db", "console.log", b"Welcome\n".to_vec());
        lines.add_entry("app", now - 6000.0, 4, "a[1]", b"careful\nstill");
        let shown = |line: &LogLine| {
            let at = line.at_ms.map(|at_ms| at_ms - now);
            format!("{at:?} {} {} {}", line.machine, line.level, line.text)
        };
        let found: Vec<String> = lines.in_order().iter().map(shown).collect();
        let expected = [
            "None db info Welcome",
            "Some(-6000.0) app warning a[1]: careful",
            "Some(-6000.0) app warning a[1]: still",
            "None db info banner",
            "Some(-5000.0) db error ERROR no",
        ];
        assert_eq!(found, expected);
    }
}
