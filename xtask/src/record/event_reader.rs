//! Reader of the events in a run's folder, line by line, which tolerates damage by a killed engine, a full disk or a bad block.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::path::Path;

use anyhow::Context as _;

use super::Stamped;
use crate::input;

/// Name of the events' file in a run's folder.
pub const EVENTS_FILE: &str = "events.jsonl";

/// Maximum length of a line that is read as an event, in bytes. Engines write no longer lines; a longer one is damaged.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Reader of one event after another, which counts lines that are no events.
#[derive(Debug)]
pub struct EventReader {
    file: Option<BufReader<File>>,
    line: Vec<u8>,
    number: usize,
    gaps: EventGaps,
}

/// Gaps in a file of events: parts that cannot be read as events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventGaps {
    /// True if the file does not exist.
    is_missing: bool,
    /// True if the file has no line.
    is_empty: bool,
    /// True if the last line has no line end.
    is_cut: bool,
    damaged: usize,
    /// Number of the first line that cannot be read, and the reason.
    first_damaged: Option<(usize, String)>,
    /// Number of events of kinds that this engine does not know.
    unknown: usize,
}

impl EventGaps {
    /// Describes the gaps, a sentence for each kind.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.is_missing {
            sentences.push(format!("there is no {EVENTS_FILE}: what happened in the cases is not known"));
        }
        if self.is_empty {
            sentences.push(format!(
                "{EVENTS_FILE} is empty: the engine ended, or its disk was full, before the first event"
            ));
        }
        if let Some((number, why)) = &self.first_damaged {
            let lines = if self.damaged == 1 { "1 line".to_owned() } else { format!("{} lines", self.damaged) };
            let first =
                if self.damaged == 1 { format!("line {number}") } else { format!("the first is line {number}") };
            sentences.push(format!(
                "{lines} of {EVENTS_FILE} cannot be read, and the events in them are missing ({first}: {why})"
            ));
        }
        if self.is_cut {
            sentences.push(format!("the last line of {EVENTS_FILE} was written only in part, and is left out"));
        }
        if self.unknown > 0 {
            let events =
                if self.unknown == 1 { "1 event is".to_owned() } else { format!("{} events are", self.unknown) };
            sentences.push(format!("{events} of a kind that this engine does not know, and left out"));
        }
        sentences
    }
}

impl EventReader {
    /// Opens the events of the run in this folder. A missing file is a gap, and no error. Links are not followed.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(EVENTS_FILE);
        let reader = |file| Self { file, line: Vec::new(), number: 0, gaps: EventGaps::default() };
        let file = match input::open_below(folder, EVENTS_FILE) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let gaps = EventGaps { is_missing: true, ..EventGaps::default() };
                return Ok(Self { gaps, ..reader(None) });
            }
            file => file.with_context(|| format!("reading {}", path.display()))?,
        };
        let metadata = file.metadata().with_context(|| format!("reading {}", path.display()))?;
        let gaps = EventGaps { is_empty: metadata.len() == 0, ..EventGaps::default() };
        Ok(Self { gaps, ..reader(Some(BufReader::new(file))) })
    }

    /// Returns the next event; `None` at the end. Lines that are no events are counted and passed over.
    pub fn next_event(&mut self) -> anyhow::Result<Option<Stamped>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        loop {
            self.line.clear();
            let mut bounded = file.by_ref().take(LINE_BYTES_MAX);
            bounded.read_until(b'\n', &mut self.line).with_context(|| format!("reading {EVENTS_FILE}"))?;
            if self.line.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let is_whole = self.line.pop_if(|last| *last == b'\n').is_some();
            if !is_whole && (self.line.len() as u64) < LINE_BYTES_MAX {
                self.gaps.is_cut = true;
                return Ok(None);
            }
            #[cfg(test)]
            work::count(1);
            match serde_json::from_slice(&self.line) {
                Ok(stamped) => return Ok(Some(stamped)),
                // An event of a later engine: readers pass over what they do not know.
                Err(error) if error.to_string().starts_with("unknown variant") => self.gaps.unknown += 1,
                Err(error) => {
                    self.gaps.damaged += 1;
                    self.gaps.first_damaged.get_or_insert_with(|| (self.number, error.to_string()));
                }
            }
        }
    }

    /// Tells whether the file of events does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.gaps.is_missing
    }

    /// Returns the gaps that were met so far.
    #[must_use]
    pub fn gaps(&self) -> &EventGaps {
        &self.gaps
    }
}

/// Work that readers of events do, counted for tests: the number of parsed lines and of returned events.
#[cfg(test)]
pub mod work {
    use std::cell::Cell;

    thread_local! {
        static DONE: Cell<usize> = const { Cell::new(0) };
    }

    /// Adds `more` to the amount of work that this thread has done.
    pub fn count(more: usize) {
        DONE.set(DONE.get() + more);
    }

    /// Returns the amount of work that this thread does during an action.
    pub fn of(action: impl FnOnce()) -> usize {
        let before = DONE.get();
        action();
        DONE.get() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: Option<&[u8]>) -> (usize, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        if let Some(content) = content {
            std::fs::write(folder.path().join(EVENTS_FILE), content).unwrap();
        }
        let mut reader = EventReader::open(folder.path()).unwrap();
        let count = std::iter::from_fn(|| reader.next_event().unwrap()).count();
        (count, reader.gaps().sentences())
    }

    #[test]
    fn whatever_is_left_of_events_is_read_and_the_rest_is_said() {
        const LINE: &str = r#"{"at_ms":1.0,"event":"warning","message":"m"}"#;
        let check = |content: Option<&[u8]>, count: usize, expected: &[&str]| {
            let (found, sentences) = read(content);
            assert_eq!((found, sentences.len()), (count, expected.len()), "{sentences:?}");
            for (sentence, part) in sentences.iter().zip(expected) {
                assert!(sentence.contains(part), "{sentence}");
            }
        };
        check(Some(format!("{LINE}\n{LINE}\n").as_bytes()), 2, &[]);
        check(None, 0, &["there is no events.jsonl"]);
        check(Some(b""), 0, &["events.jsonl is empty"]);
        check(Some(format!("{LINE}\n{{\"at_ms\":2.0,\"ev").as_bytes()), 1, &["was written only in part"]);
        // Whole, but for its end: nobody knows whether the last number is.
        check(Some(LINE.as_bytes()), 0, &["was written only in part"]);
        let torn = format!("{LINE}\n{{\"at_ms\":2.0,\"ev{LINE}\n\0\0\0\n{LINE}\n");
        check(
            Some(torn.as_bytes()),
            2,
            &["2 lines of events.jsonl cannot be read, and the events in them are missing (the first is line 2"],
        );
        let mut bytes = LINE.as_bytes().to_vec();
        bytes.extend_from_slice(b"\n\xff\xfe\n");
        check(
            Some(&bytes),
            1,
            &["1 line of events.jsonl cannot be read, and the events in them are missing (line 2: "],
        );
        let later = r#"{"at_ms":1.0,"event":"of_a_later_engine","x":1}"#;
        check(
            Some(format!("{later}\n{LINE}\n").as_bytes()),
            1,
            &["1 event is of a kind that this engine does not know"],
        );
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join(EVENTS_FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = format!("{:#}", EventReader::open(folder.path()).unwrap_err());
        assert!(error.ends_with("events.jsonl: it is a named pipe: a file is needed here"), "{error}");
    }
}
