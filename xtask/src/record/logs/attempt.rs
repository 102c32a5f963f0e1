//! Log lines of one attempt at a case, from all its files.

use std::collections::HashMap;
use std::path::Path;

use super::clock::Clock;
use super::file::{Content, FILE_BYTES_MAX, Form, Origin, Placed};
use super::{LogLevel, LogLine, epoch_ms};
use crate::input;
use crate::record::{Event, PastRun, Stamped};

/// Files of a container that repeat lines of `journal.log`, with the level of the repeated lines.
const OF_JOURNAL: [(&str, LogLevel); 2] =
    [("journal-warnings.log", LogLevel::Warning), ("journal-errors.log", LogLevel::Error)];

/// File with the last screen of a console. It is made from `console.log`, and has no lines of its own.
const SCREEN: &str = "screen.txt";

impl PastRun {
    /// Returns the log lines of one attempt at a case, by the attempt's folder below the run's, in order of time. A line without a time
    /// stays at its place in its file.
    ///
    /// The journal's times are the host's clock. Times that a container's programs wrote are ignored where they lie outside of the
    /// attempt, or where a fault had changed a clock of that container. Files are read with the rights of the user who called sudo, and
    /// no link is followed.
    ///
    /// `events` are those of the attempt; without them, times are not compared with its start and end. A file that cannot be read gives
    /// one line that says so.
    #[must_use]
    pub fn log_lines(&self, attempt_folder: &str, events: &[Stamped]) -> Vec<LogLine> {
        self.last_log_lines(attempt_folder, events, FILE_BYTES_MAX)
    }

    /// Returns the same lines as [`PastRun::log_lines`], but only those in the last `bytes_max` bytes of each file. A line tells the
    /// number of bytes that are left out before them.
    #[must_use]
    pub fn last_log_lines(&self, attempt_folder: &str, events: &[Stamped], bytes_max: u64) -> Vec<LogLine> {
        let clock = Clock::of(epoch_ms(&self.record.started_at).unwrap_or_default(), events);
        let (run, folder) = (self.folder.as_path(), Path::new(attempt_folder));
        let mut found: Vec<Placed> = events.iter().flat_map(said_by_scenario).collect();
        let form = match Content::read(run, &folder.join("scenario.log.times"), FILE_BYTES_MAX) {
            Ok(Some(beside)) => Form::Beside(times(&beside)),
            Ok(None) | Err(_) => Form::OfHost,
        };
        let started = begin(events, |event| matches!(event, Event::ScenarioStarted { .. }), &clock);
        let scenario = Origin {
            machine: LogLine::SCENARIO,
            source: "scenario.log",
            form,
            clock: &clock,
            default_ms: started,
            bytes_max,
        };
        found.extend(scenario.lines_of(run, folder));
        let (form, default_ms) = (Form::Kernel, clock.begun_ms);
        let kernel =
            Origin { machine: LogLine::HOST, source: "kernel.log", form, clock: &clock, default_ms, bytes_max };
        found.extend(kernel.lines_of(run, folder));
        for machine in input::names_below(run, folder.join("containers")) {
            let folder = folder.join("containers").join(&machine);
            found.extend(of_container((run, &folder), &machine, &clock, events, bytes_max));
        }
        found.sort_by(|a, b| a.key_ms.total_cmp(&b.key_ms));
        found.into_iter().map(|placed| placed.line).collect()
    }

    /// Returns the names of the machines that may have logged in an attempt: its containers, `scenario`, and `host` if the kernel logged.
    #[must_use]
    pub fn log_machines(&self, attempt_folder: &str) -> Vec<String> {
        let folder = Path::new(attempt_folder);
        let mut machines = input::names_below(&self.folder, folder.join("containers"));
        machines.push(LogLine::SCENARIO.to_owned());
        if input::look_below(&self.folder, folder.join("kernel.log")).is_ok_and(|found| found.is_file()) {
            machines.push(LogLine::HOST.to_owned());
        }
        machines
    }
}

/// Returns the log lines of a container, by the run's folder and the container's folder below it.
fn of_container(
    (run, folder): (&Path, &Path),
    machine: &str,
    clock: &Clock,
    events: &[Stamped],
    bytes_max: u64,
) -> Vec<Placed> {
    let is_start = |event: &Event| matches!(event, Event::ContainerStarted { container, .. } if container == machine);
    let default_ms = begin(events, is_start, clock);
    let mut found = Vec::new();
    for source in input::names_below(run, folder) {
        if source == SCREEN || OF_JOURNAL.iter().any(|(name, _)| *name == source) {
            continue;
        }
        let form = match source.as_str() {
            "journal.log" => Form::Journal(priorities(run, folder)),
            "lxc.log" => Form::OfHost,
            _ => Form::OfProgram,
        };
        found.extend(Origin { machine, source: &source, form, clock, default_ms, bytes_max }.lines_of(run, folder));
    }
    found
}

/// Returns the levels of the journal's lines, by line, from the files that repeat them.
fn priorities(run: &Path, folder: &Path) -> HashMap<Vec<u8>, LogLevel> {
    let mut levels = HashMap::new();
    for (name, level) in OF_JOURNAL {
        let content = Content::read(run, &folder.join(name), FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
        levels.extend(content.lines().map(|line| (line.to_vec(), level)));
    }
    levels
}

/// Returns the time of the first event that `is` accepts, in ms on the run's clock; without such an event, the time of the attempt's
/// begin.
fn begin(events: &[Stamped], is: impl Fn(&Event) -> bool, clock: &Clock) -> f64 {
    events.iter().find(|stamped| is(&stamped.event)).map_or(clock.begun_ms, |stamped| stamped.at_ms)
}

fn said_by_scenario(stamped: &Stamped) -> Vec<Placed> {
    let Event::Log { level, message, .. } = &stamped.event else { return Vec::new() };
    let line = |text: &str| LogLine {
        at_ms: Some(stamped.at_ms),
        machine: LogLine::SCENARIO.into(),
        source: "log".into(),
        level: match level {
            e2e_contract::Level::Debug => LogLevel::Debug,
            e2e_contract::Level::Info => LogLevel::Info,
            e2e_contract::Level::Warning => LogLevel::Warning,
            e2e_contract::Level::Error => LogLevel::Error,
        },
        text: super::line::clean(text.as_bytes()),
    };
    message.lines().map(|text| Placed { key_ms: stamped.at_ms, line: line(text) }).collect()
}

/// Reads `scenario.log.times`, whose lines hold the offset of a byte in the log and the time in ms at which the byte came. A last line
/// that a killed engine left incomplete is ignored.
fn times(content: &Content) -> Vec<(u64, f64)> {
    let text = String::from_utf8_lossy(&content.bytes);
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let pair = |line: &str| {
        let (offset, at_ms) = line.split_once(' ')?;
        Some((offset.parse().ok()?, at_ms.parse().ok()?))
    };
    whole.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::CaseId;
    use crate::record::outcome::tests::record;

    const FOLDER: &str = "smoke/one";

    fn run(root: &Path, files: &[(&str, &[u8])]) -> PastRun {
        let case = || CaseId("smoke/one:default".into());
        let ended = r#"{"at_ms":9000,"event":"case_ended","case":"smoke/one:default","attempt":1,"outcome":{"outcome":"passed"},"duration_ms":1,"last_words":[],"folder":"smoke/one"}"#;
        let other = r#"{"at_ms":4000,"event":"log","case":"smoke/other:default","level":"info","message":"not mine"}"#;
        let mut events = String::new();
        for (at_ms, event) in [
            (500.0, Event::CaseStarted { case: case(), attempt: 1, folder: None }),
            (1000.0, Event::ContainerStarted { case: case(), container: "app".into() }),
            (2000.0, Event::ScenarioStarted { case: case(), pid: 1, user: "u".into() }),
            (
                3000.0,
                Event::Log { case: case(), level: e2e_contract::Level::Warning, message: "two\nlines\x1b[1m".into() },
            ),
        ] {
            events.push_str(&(serde_json::to_string(&Stamped { at_ms, event }).unwrap() + "\n"));
        }
        std::fs::write(root.join("events.jsonl"), format!("{events}{other}\n{ended}\n")).unwrap();
        for (name, bytes) in files {
            let path = root.join(FOLDER).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let mut record = record();
        record.started_at = "2026-11-26T07:20:00.000Z".into();
        PastRun { folder: root.to_owned(), record }
    }

    fn lines_of(run: &PastRun) -> Vec<LogLine> {
        let events = run.events().unwrap();
        run.log_lines(FOLDER, events.in_folder(FOLDER).unwrap().events())
    }

    #[test]
    fn all_machines_stand_in_one_order() {
        let root = tempfile::tempdir().unwrap();
        let warning = "2026-11-26T07:20:02.500000+0000 app x[1]: careful\n";
        let journal = format!("2026-11-26T07:20:01.500000+0000 app systemd[1]: Started\n{warning}");
        let files: &[(&str, &[u8])] = &[
            ("scenario.log", b"hello\nbye\n"),
            ("scenario.log.times", b"0 2100.5\n6 8000\n9 "),
            ("kernel.log", b"2026-11-26T07:20:04.000000Z error: Out of memory\n"),
            ("containers/app/journal.log", journal.as_bytes()),
            ("containers/app/journal-warnings.log", warning.as_bytes()),
            ("containers/app/console.log", b"\x1b[32mWelcome\x1b[0m\r\n"),
            ("containers/app/screen.txt", b"Welcome\n"),
            ("containers/app/var-log-x.log", b"2026-11-26 07:20:05 ERROR <b>no</b> \xff\n"),
        ];
        let run = run(root.path(), files);
        let shown = |line: &LogLine| {
            let at = line.at_ms.map_or("-".to_owned(), |at| at.to_string());
            format!("{at} {} {} {}: {}", line.machine, line.source, line.level, line.text)
        };
        let lines: Vec<String> = lines_of(&run).iter().map(shown).collect();
        let expected = [
            "- app console.log info: Welcome",
            "1500 app journal.log info: systemd[1]: Started",
            "2100.5 scenario scenario.log info: hello",
            "2500 app journal.log warning: x[1]: careful",
            "3000 scenario log warning: two",
            "3000 scenario log warning: lines",
            "4000 host kernel.log error: Out of memory",
            "5000 app var-log-x.log error: ERROR <b>no</b> \u{fffd}",
            "8000 scenario scenario.log info: bye",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_log_without_events_is_shown_all_the_same_and_one_that_cannot_be_read_says_so() {
        let root = tempfile::tempdir().unwrap();
        let run = run(root.path(), &[("scenario.log", b"hello\n"), ("kernel.log", b"")]);
        std::fs::remove_file(root.path().join(FOLDER).join("kernel.log")).unwrap();
        std::os::unix::fs::symlink("scenario.log", root.path().join(FOLDER).join("kernel.log")).unwrap();
        let lines = run.log_lines(FOLDER, &[]);
        let shown: Vec<(&str, &str)> = lines.iter().map(|line| (line.machine.as_str(), line.text.as_str())).collect();
        assert!(shown.contains(&("scenario", "hello")), "{shown:?}");
        let unread = shown.iter().find(|(machine, _)| *machine == "host").unwrap().1;
        assert!(unread.starts_with("this file cannot be read: "), "{unread}");
        assert!(run.log_lines("smoke/none", &[]).is_empty());
    }

    #[test]
    fn a_hundred_thousand_lines_are_read_in_one_go() {
        let root = tempfile::tempdir().unwrap();
        let mut log = String::new();
        for number in 0..100_000 {
            let (seconds, milliseconds) = (number / 20_000, number % 1000);
            log.push_str(&format!(
                "2026-11-26T07:20:0{seconds}.{milliseconds:03}000+0000 app x[1]: request {number}\n"
            ));
        }
        let run = run(root.path(), &[("containers/app/journal.log", log.as_bytes())]);
        let begun = std::time::Instant::now();
        let lines = lines_of(&run);
        assert_eq!(lines.len(), 100_002);
        // Without optimisation, on a busy machine: 20 times what it takes otherwise.
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}
