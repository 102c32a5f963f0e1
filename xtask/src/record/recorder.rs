//! Recorder of a run: takes events from all threads, adds their time on the run's clock, writes them down and hands them to listeners.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::event_reader::EVENTS_FILE;
use super::{Event, Fold, Masks, RunDir, RunRecord, Stamped, human, milliseconds};
use crate::error::Error;

/// Function that is called with every event as it happens.
type Listener = Box<dyn FnMut(&Stamped) + Send>;

/// Recorder that all events of a run pass through.
pub struct Recorder {
    begun: Instant,
    state: Mutex<State>,
    masks: Arc<Masks>,
}

struct State {
    files: Option<Files>,
    listeners: Vec<Listener>,
    fold: Fold,
    failure: Option<std::io::Error>,
    has_failed: bool,
}

struct Files {
    events: File,
    /// Bytes written to `events`.
    events_bytes: u64,
    log: File,
    /// True if the last line of the events may be incomplete.
    is_torn: bool,
}

impl Files {
    fn write(&mut self, stamped: &Stamped) -> std::io::Result<()> {
        let mut line = serde_json::to_string(stamped)?;
        line.push('\n');
        if self.is_torn {
            // What was written half stays a line of its own, and costs no other.
            self.events.write_all(b"\n")?;
            self.events_bytes += 1;
        }
        self.is_torn = true;
        self.events.write_all(line.as_bytes())?;
        self.is_torn = false;
        self.events_bytes += line.len() as u64;
        self.log.write_all(human::log_text(stamped).as_bytes())
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Recorder {
    /// Makes a recorder whose clock starts now. Events before [`Recorder::write_to`] go only to the listeners.
    #[must_use]
    pub fn new(listeners: Vec<Listener>) -> Self {
        let state = State { files: None, listeners, fold: Fold::default(), failure: None, has_failed: false };
        Self { begun: Instant::now(), state: Mutex::new(state), masks: Arc::default() }
    }

    /// Masks secrets in all events, before they reach any listener or file.
    #[must_use]
    pub fn masked_by(self, masks: Arc<Masks>) -> Self {
        Self { masks, ..self }
    }

    /// Returns the masks of the secrets that no event may hold.
    #[must_use]
    pub fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }

    /// Writes events from now on to the run's folder: `events.jsonl` for programs, `e2e_test.log` for people. This process holds a lock
    /// on `events.jsonl` as long as it lives, which distinguishes a running run from a killed one.
    pub fn write_to(&self, dir: &RunDir) -> anyhow::Result<()> {
        let (events, log) = (dir.file(EVENTS_FILE)?, dir.file("e2e_test.log")?);
        let files = Files { events, events_bytes: 0, log, is_torn: false };
        files.events.try_lock().with_context(|| format!("locking {EVENTS_FILE} in {}", dir.path().display()))?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).files = Some(files);
        Ok(())
    }

    /// Returns the time since the run's start, which is the run's clock.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn record(&self, event: Event) {
        let event = self.masks.typed(event).unwrap_or_else(|| Event::Warning {
            message: "an event was left out, because a secret in it could not be masked".into(),
        });
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamped = Stamped { at_ms: milliseconds(self.begun.elapsed()), event };
        let State { files, listeners, fold, failure, has_failed } = &mut *state;
        fold.apply(&stamped);
        if let Some(Err(error)) = files.as_mut().map(|files| files.write(&stamped))
            && !*has_failed
        {
            *has_failed = true;
            *failure = Some(error);
        }
        for listener in listeners {
            listener(&stamped);
        }
    }

    /// Returns the record of the events so far; at the run's end it is the run's record.
    #[must_use]
    pub fn run_record(&self) -> RunRecord {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fold.record(true)
    }

    /// Checks that the run's folder and its events are unchanged since they were written.
    ///
    /// # Errors
    /// [`Error::Host`] when the folder was removed or replaced, or the events were cut or changed.
    pub fn check(&self, dir: &RunDir) -> Result<(), Error> {
        dir.require()?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What could not be written is told by another error.
        let Some(files) = state.files.as_ref().filter(|_| !state.has_failed) else { return Ok(()) };
        let (ours, there) = (files.events.metadata().ok(), dir.status(EVENTS_FILE).ok());
        let damage = match ours.zip(there) {
            Some((ours, there)) if (ours.dev(), ours.ino()) != (there.st_dev, there.st_ino) => {
                "was replaced".to_owned()
            }
            Some((ours, _)) if ours.len() != files.events_bytes => {
                format!("was changed: it has {} bytes, and {} were written", ours.len(), files.events_bytes)
            }
            Some(_) => return Ok(()),
            None => "was removed".to_owned(),
        };
        Err(Error::Host {
            problem: format!(
                "{} {damage} during the run: its record is incomplete",
                dir.path().join(EVENTS_FILE).display()
            ),
            help: "run again, and find the program that changes this file: a scenario may write only to its folder of artifacts"
                .into(),
        })
    }

    /// Closes the files: events are no longer written, and the run no longer counts as running.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).files = None;
    }

    /// Tells whether an event could not be written.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).has_failed
    }

    /// Takes the first error of writing the events; a second call returns `None`.
    #[must_use]
    pub fn take_failure(&self) -> Option<std::io::Error> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failure.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::invoker::Invoker;

    fn check(change: impl FnOnce(&std::path::Path), expected: Option<&str>) {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path(), Invoker::find()).unwrap();
        let recorder = Recorder::new(Vec::new());
        let say = || recorder.record(Event::Warning { message: "m".into() });
        recorder.write_to(&dir).unwrap();
        say();
        change(&dir.path().join(EVENTS_FILE));
        say();
        let found = recorder.check(&dir).err().map(|error| error.to_string());
        assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{expected:?}");
        let left = std::fs::read(dir.path().join(EVENTS_FILE)).unwrap_or_default();
        assert!(!left.contains(&0), "a hole");
    }

    #[test]
    fn events_that_somebody_changed_are_told_and_have_no_holes() {
        check(|_| {}, None);
        check(
            |events| File::options().write(true).open(events).unwrap().set_len(0).unwrap(),
            Some("was changed: it has"),
        );
        check(|events| std::fs::remove_file(events).unwrap(), Some("was removed"));
        check(
            |events| {
                std::fs::remove_file(events).unwrap();
                std::fs::write(events, "").unwrap();
            },
            Some("was replaced"),
        );
        check(|events| std::fs::remove_dir_all(events.parent().unwrap()).unwrap(), Some("was removed or replaced"));
    }

    #[test]
    fn no_secret_comes_into_events_or_to_those_who_hear_of_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path(), Invoker::find()).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listening = Arc::clone(&heard);
        let listener = Box::new(move |stamped: &Stamped| listening.lock().unwrap().push(stamped.clone()));
        let recorder = Recorder::new(vec![listener]).masked_by(Arc::new(Masks::new(["hunter22"]).unwrap()));
        recorder.write_to(&dir).unwrap();
        recorder.record(Event::Warning { message: "it says hunter22 and aHVudGVyMjI=".into() });
        let Event::Warning { message } = heard.lock().unwrap()[0].event.clone() else { panic!("another event") };
        assert_eq!(message, "it says [redacted] and [redacted]=");
        for name in [EVENTS_FILE, "e2e_test.log"] {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(text.contains("it says [redacted]") && !text.contains("hunter22"), "{text}");
        }
    }
}
