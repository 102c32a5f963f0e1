//! Lines of one log file, read up to a maximum size, with the times by which they are sorted.

use std::collections::HashMap;
use std::path::Path;

use super::clock::Clock;
use super::line::clean;
use super::stamp::Stamp;
use super::{LogLevel, LogLine};
use crate::input;

/// Maximum number of bytes that are read from the end of a file, where all of its lines may be needed.
pub(super) const FILE_BYTES_MAX: u64 = 32 << 20;

/// Words of LXC's errors and warnings about settings that its build, or the host, does not support. They mean nothing for the lab, and
/// LXC goes on after each.
const OF_EVERY_CONTAINER: [&str; 5] = [
    "get_config_unsupported_key",
    "newuidmap binary is missing",
    "newgidmap binary is missing",
    "cgfsng.c:fchowmodat",
    "Could not enable \"",
];

/// A log line, with the time in ms by which it is sorted among the lines of all files.
#[derive(Debug)]
pub(super) struct Placed {
    pub key_ms: f64,
    pub line: LogLine,
}

/// Clock of the times in a file, and further facts about the file's lines.
pub(super) enum Form {
    /// LXC's own log, with the host's clock.
    OfHost,
    /// Journal of a container, with the host's clock, and the level of each line by the line's bytes.
    Journal(HashMap<Vec<u8>, LogLevel>),
    /// Messages of the kernel, with the host's clock, and the name of a level behind the time.
    Kernel,
    /// Log of a program in a container, with the container's clock.
    OfProgram,
    /// Log whose times stand in a second file: pairs of a byte's offset, and the time in ms on the run's clock at which the bytes from that
    /// offset on were written.
    Beside(Vec<(u64, f64)>),
}

/// Description of a log file and how to read it.
pub(super) struct Origin<'a> {
    pub machine: &'a str,
    pub source: &'a str,
    pub form: Form,
    pub clock: &'a Clock,
    /// Time in ms by which lines are sorted where no line of the file has a time.
    pub default_ms: f64,
    /// Maximum number of bytes that are read from the file's end.
    pub bytes_max: u64,
}

/// Content of a file that was read.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub bytes: Vec<u8>,
    /// Number of bytes at the file's start that were not read.
    pub skipped: u64,
}

impl Content {
    /// Reads the end of a regular file of a run; links are not followed. `None` where the file does not exist.
    pub fn read(run: &Path, path: &Path, bytes_max: u64) -> std::io::Result<Option<Self>> {
        match input::look_below(run, path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() && !found.is_symlink() => return Ok(None),
            _ => {}
        }
        let (skipped, bytes) = input::read_end_below(run, path, bytes_max)?;
        Ok(Some(Self { bytes, skipped }))
    }

    /// Returns the lines of the content, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.split(|byte| *byte == b'\n')
    }
}

impl Origin<'_> {
    /// Reads the lines of this file in a folder of a run, in order. A file that cannot be read gives one line that says why.
    pub fn lines_of(&self, run: &Path, folder: &Path) -> Vec<Placed> {
        match Content::read(run, &folder.join(self.source), self.bytes_max) {
            Ok(None) => Vec::new(),
            Ok(Some(content)) => self.lines(&content),
            Err(error) => {
                vec![self.placed(None, LogLevel::Warning, format!("this file cannot be read: {error}"))]
            }
        }
    }

    /// Returns the lines of a file's content, in order.
    pub fn lines(&self, content: &Content) -> Vec<Placed> {
        let mut found = Vec::new();
        if content.skipped > 0 {
            let text = format!("… ({} bytes before this are not shown)", content.skipped);
            found.push(self.placed(None, LogLevel::Info, text));
        }
        let mut offset = content.skipped;
        let mut before: Option<LogLevel> = None;
        let mut last_ms = None;
        let mut first_timed = None;
        for raw in content.lines() {
            let begin = offset;
            offset += raw.len() as u64 + 1;
            let text = clean(raw);
            if text.is_empty() {
                continue;
            }
            let stamp = Stamp::of(&text, self.clock.near_epoch_ms);
            let at_ms = match &self.form {
                Form::Beside(times) => time_beside(times, begin),
                Form::OfProgram => stamp.as_ref().and_then(|it| self.clock.of_program(self.machine, it.epoch_ms)),
                _ => stamp.as_ref().and_then(|it| self.clock.of_host(it.epoch_ms)),
            };
            // An indented line without a time belongs to the one before.
            let belongs = stamp.is_none() && text.starts_with(' ') && !matches!(self.form, Form::Beside(_));
            let (level, text) = self.level_and_text(raw, text, at_ms.and(stamp));
            let level = if belongs { before.map_or(level, |before| before.max(level)) } else { level };
            before = (belongs && before.is_some() || at_ms.is_some()).then_some(level);
            if at_ms.is_some() {
                last_ms = at_ms;
                first_timed.get_or_insert(found.len());
            }
            let mut placed = self.placed(at_ms, level, text);
            placed.key_ms = last_ms.unwrap_or(self.default_ms);
            found.push(placed);
        }
        if let Some(first) = first_timed {
            let key_ms = found[first].key_ms;
            found[..first].iter_mut().for_each(|placed| placed.key_ms = key_ms);
        }
        found
    }

    fn placed(&self, at_ms: Option<f64>, level: LogLevel, text: String) -> Placed {
        let (machine, source) = (self.machine.to_owned(), self.source.to_owned());
        let key_ms = at_ms.unwrap_or(self.default_ms);
        Placed { key_ms, line: LogLine { at_ms, machine, source, level, text } }
    }

    /// Returns the level of a line, and its text without `stamp`, the part that became the line's time.
    fn level_and_text(&self, raw: &[u8], text: String, stamp: Option<Stamp>) -> (LogLevel, String) {
        let text = match stamp {
            Some(Stamp { place, .. }) if !place.is_empty() && !matches!(self.form, Form::Beside(_)) => {
                let (head, tail) = (&text[..place.start], text[place.end..].trim_start());
                format!("{head}{tail}")
            }
            _ => text,
        };
        let said = LogLevel::said_in(&text);
        match &self.form {
            Form::Journal(levels) => {
                let known = levels.get(raw).copied().unwrap_or(LogLevel::Info);
                let host = text.strip_prefix(self.machine).and_then(|rest| rest.strip_prefix(' '));
                let text = host.map_or_else(|| text.clone(), str::to_owned);
                // A program that says DEBUG of what it gives a higher priority is believed.
                (said.map_or(known, |said| if known == LogLevel::Info { said } else { said.max(known) }), text)
            }
            Form::Kernel => {
                let known = said.unwrap_or(LogLevel::Info);
                let message = text.split_once(": ").map_or(text.as_str(), |(_, message)| message);
                (LogLevel::said_in(message).map_or(known, |said| said.max(known)), message.to_owned())
            }
            _ if OF_EVERY_CONTAINER.iter().any(|words| text.contains(words)) => (LogLevel::Debug, text),
            _ => (said.unwrap_or(LogLevel::Info), text),
        }
    }
}

/// Returns the time in ms at which the byte at `offset` came.
fn time_beside(times: &[(u64, f64)], offset: u64) -> Option<f64> {
    let after = times.partition_point(|(begin, _)| *begin <= offset);
    Some(times.get(after.checked_sub(1)?)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: f64 = 1_795_677_600_000.0; // 2026-11-26T07:20:00Z

    fn lines(form: Form, bytes: &[u8]) -> Vec<(Option<f64>, LogLevel, String, f64)> {
        let clock =
            Clock { started_epoch_ms: STARTED, ended_ms: 100_000.0, near_epoch_ms: STARTED, ..Clock::default() };
        let origin =
            Origin { machine: "app", source: "x.log", form, clock: &clock, default_ms: 7.0, bytes_max: FILE_BYTES_MAX };
        let content = Content { bytes: bytes.to_vec(), skipped: 0 };
        let placed = origin.lines(&content).into_iter();
        placed.map(|it| (it.line.at_ms, it.line.level, it.line.text, it.key_ms)).collect()
    }

    #[test]
    fn a_journal_has_priorities_and_lines_that_go_on() {
        let warning = "2026-11-26T07:20:01.500000+0000 app x[1]: careful";
        let log = format!("{warning}\n                one more\n2026-11-26T07:20:02.000000+0000 app y[2]: ERROR no\n");
        let levels = HashMap::from([(warning.as_bytes().to_vec(), LogLevel::Warning)]);
        let found = lines(Form::Journal(levels), log.as_bytes());
        let expected = [
            (Some(1500.0), LogLevel::Warning, "x[1]: careful".to_owned(), 1500.0),
            (None, LogLevel::Warning, "                one more".to_owned(), 1500.0),
            (Some(2000.0), LogLevel::Error, "y[2]: ERROR no".to_owned(), 2000.0),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_without_a_time_keep_their_place() {
        let log = b"banner\n2026-11-26 07:20:05 one\nplain\n2001-01-01 00:00:00 old\n2026-11-26 07:20:06 two\n";
        let keys: Vec<_> = lines(Form::OfProgram, log).into_iter().map(|(at, _, text, key)| (at, text, key)).collect();
        let expected = [
            (None, "banner", 5000.0),
            (Some(5000.0), "one", 5000.0),
            (None, "plain", 5000.0),
            (None, "2001-01-01 00:00:00 old", 5000.0),
            (Some(6000.0), "two", 6000.0),
        ];
        assert_eq!(keys, expected.map(|(at, text, key)| (at, text.to_owned(), key)));
        let found = lines(Form::OfProgram, b"[FAILED] Failed to start x\r\n         Starting y...\r\n");
        let levels: Vec<_> = found.iter().map(|(at, level, _, key)| (*at, *level, *key)).collect();
        assert_eq!(levels, [(None, LogLevel::Error, 7.0), (None, LogLevel::Info, 7.0)]);
    }

    #[test]
    fn bytes_that_the_engine_saw_come_have_its_times() {
        let times = vec![(0, 10.0), (4, 25.5)];
        let found = lines(Form::Beside(times), b"one\ntwo\nERROR three");
        let found: Vec<_> = found.into_iter().map(|(at, level, text, _)| (at, level, text)).collect();
        let expected = [
            (Some(10.0), LogLevel::Info, "one".to_owned()),
            (Some(25.5), LogLevel::Info, "two".to_owned()),
            (Some(25.5), LogLevel::Error, "ERROR three".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_kernel_and_lxc_have_forms_of_their_own() {
        let kernel = b"2026-11-26T07:20:01.000000Z info: worker[3]: segfault at 0 ip 0\n\
                       2026-11-26T07:20:02.000000Z warning: x: y\n";
        let found = lines(Form::Kernel, kernel);
        assert_eq!((found[0].1, found[0].2.as_str()), (LogLevel::Error, "worker[3]: segfault at 0 ip 0"));
        assert_eq!((found[1].0, found[1].1, found[1].2.as_str()), (Some(2000.0), LogLevel::Warning, "x: y"));
        let lxc = b"lxc-start a 20261126072001.868 ERROR    confile - c:get_config_unsupported_key:170 - x\n\
                    lxc-start a 20261126072001.870 ERROR    start - no\n";
        let found = lines(Form::OfHost, lxc);
        assert_eq!((found[0].0, found[0].1), (Some(1868.0), LogLevel::Debug));
        assert_eq!((found[1].1, found[1].2.as_str()), (LogLevel::Error, "lxc-start ERROR    start - no"));
    }

    #[test]
    fn of_a_long_file_the_end_is_read_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.log");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX + 5).unwrap();
        let read = |name: &str| Content::read(folder.path(), Path::new(name), FILE_BYTES_MAX);
        let content = read("long.log").unwrap().unwrap();
        assert_eq!((content.skipped, content.bytes.len() as u64), (5, FILE_BYTES_MAX));
        let clock = Clock::default();
        let form = Form::OfProgram;
        let origin =
            Origin { machine: "app", source: "x", form, clock: &clock, default_ms: 0.0, bytes_max: FILE_BYTES_MAX };
        assert_eq!(origin.lines(&content)[0].line.text, "… (5 bytes before this are not shown)");
        let link = folder.path().join("link.log");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read("link.log").is_err());
        assert!(read("none.log").unwrap().is_none());
    }
}
