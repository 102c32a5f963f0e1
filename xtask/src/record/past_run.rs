//! A past run, read from its folder even where parts are missing. Every report but the live one is made from it.

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;

use super::event_reader::EVENTS_FILE;
use super::{EventReader, FORMAT_VERSION, Fold, Performance, RunRecord};
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;

/// Folder of runs, relative to the project's folder.
pub const RUNS_FOLDER: &str = "target/e2e";

/// Name of the file with a run's record in the run's folder.
pub const RECORD_FILE: &str = "run.json";

/// A run's folder with its record.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// Path of the folder, with links resolved.
    pub folder: PathBuf,
    /// Record from `run.json`, or the fold of the run's events.
    pub record: RunRecord,
}

impl PastRun {
    /// Finds the folder of a run of this project: by the run's name, `latest`, or its own path.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such run.
    pub fn folder(root: &Path, run: &str) -> Result<PathBuf, Error> {
        let (given, named) = (PathBuf::from(run), root.join(RUNS_FOLDER).join(run));
        // The link to the latest run is followed, so that it stays the same run whatever begins meanwhile; with the rights of the user who
        // called sudo, who may have put it there.
        let find = || {
            let folder = [named, given].into_iter().find(|folder| folder.is_dir());
            Ok(folder.and_then(|folder| folder.canonicalize().ok()))
        };
        Invoker::of_process().act(find).ok().flatten().ok_or_else(|| {
            let (runs, hint) = (root.join(RUNS_FOLDER), "name one of its folders, `latest`, or a path");
            Error::Usage(format!("{run} is no run: there is no such folder in {}; {hint}", runs.display()))
        })
    }

    /// Tells whether a folder is that of a run: it holds the run's record or events.
    #[must_use]
    pub fn is_one(folder: &Path) -> bool {
        let is_file = |name: &&str| input::look_below(folder, name).is_ok_and(|found| found.is_file());
        [RECORD_FILE, EVENTS_FILE].iter().any(is_file)
    }

    /// Reads a run of this project, named as in [`PastRun::folder`].
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such run, and the errors of [`PastRun::read`].
    pub fn find(root: &Path, run: &str) -> anyhow::Result<Self> {
        Self::read(Self::folder(root, run)?)
    }

    /// Reads the run in this folder: its `run.json`, or where that is missing or damaged, the fold of its events. The record then says
    /// what is missing. Files are read with the rights of the user who called sudo, and without following links.
    ///
    /// # Errors
    /// [`Error::Usage`] when the folder holds no run, or its `run.json` is no file that can be read; [`Error::BadFile`] when its `run.json`
    /// is from another version, or is damaged and there are no events.
    pub fn read(folder: PathBuf) -> anyhow::Result<Self> {
        let path = folder.join(RECORD_FILE);
        let text = match input::read_below(&folder, RECORD_FILE, input::RECORD_BYTES_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(Error::Usage(format!("{}: {error}", path.display())).into()),
            // What is no text is damaged.
            Ok(bytes) => Some(String::from_utf8(bytes).unwrap_or_default()),
        };
        let damage = match text.map(|text| parse(&path, &text)) {
            Some(Ok(record)) => return Ok(Self { folder, record }),
            Some(Err(Unread::OtherVersion(error))) => return Err(error.into()),
            Some(Err(Unread::Damaged(error))) => Some(error),
            None => None,
        };
        match (Self::folded(&folder)?, damage) {
            (Some(mut record), damage) => {
                let why = damage.map(|error| {
                    format!("{RECORD_FILE} is damaged, and this record was made from the events instead ({error})")
                });
                record.gaps.splice(0..0, why);
                Ok(Self { folder, record })
            }
            (None, Some(damage)) => Err(damage.into()),
            (None, None) => {
                let message = format!(
                    "{} is no run: it holds neither {RECORD_FILE} nor the events of a run, or its run was killed before the first event",
                    folder.display()
                );
                Err(Error::Usage(message).into())
            }
        }
    }

    /// Folds the events in a folder into a record; `None` where the folder is not that of a run. For a run that has ended, the result
    /// equals its `run.json`.
    ///
    /// # Errors
    /// [`Error::BadFile`] when the events are from another version.
    pub fn folded(folder: &Path) -> anyhow::Result<Option<RunRecord>> {
        let mut reader = EventReader::open(folder)?;
        let mut fold = Fold::default();
        let mut count = 0_usize;
        while let Some(stamped) = reader.next_event()? {
            fold.apply(&stamped);
            count += 1;
        }
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let began = began(&name);
        // A run that was cut before its first event has its folder's name; what `shrink` leaves has events and no such begin.
        if !fold.has_begun() && (count > 0 || reader.is_missing() || began.is_none()) {
            return Ok(None);
        }
        let mut record = fold.record(!fold.has_ended() && is_running(folder));
        if record.format_version != FORMAT_VERSION {
            let version = record.format_version;
            let message = format!(
                "these events have version {version}, and this engine reads {FORMAT_VERSION}: use the engine that wrote them"
            );
            return Err(bad(&folder.join(EVENTS_FILE), 1, 1, message).into());
        }
        if !fold.has_begun() {
            record.run_id = name;
            record.started_at = began.map(|at| humantime::format_rfc3339_millis(at).to_string()).unwrap_or_default();
        }
        record.gaps = reader.gaps().sentences();
        Ok(Some(record))
    }

    /// Reads the measurements of one attempt at a case, by the attempt's folder; `None` where the attempt was not measured.
    pub fn performance(&self, attempt_folder: &str) -> anyhow::Result<Option<Performance>> {
        let below = Path::new(attempt_folder).join("performance.json");
        let path = self.folder.join(&below);
        match input::read_below(&self.folder, below, input::RECORD_BYTES_MAX) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            bytes => {
                let bytes = bytes.with_context(|| format!("reading {}", path.display()))?;
                let text = String::from_utf8(bytes).with_context(|| format!("reading {}", path.display()))?;
                Ok(Some(Performance::parse(&text).map_err(|message| bad(&path, 1, 1, message))?))
            }
        }
    }
}

/// Reason why a `run.json` is not read.
enum Unread {
    OtherVersion(Error),
    Damaged(Error),
}

fn parse(path: &Path, text: &str) -> Result<RunRecord, Unread> {
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let unreadable =
        |error: serde_json::Error| Unread::Damaged(bad(path, error.line(), error.column(), error.to_string()));
    let Version { format_version } = serde_json::from_str(text).map_err(unreadable)?;
    if format_version != FORMAT_VERSION {
        let message = format!(
            "this record has version {format_version}, and this engine reads {FORMAT_VERSION}: use the engine that wrote it"
        );
        return Err(Unread::OtherVersion(bad(path, 1, 1, message)));
    }
    serde_json::from_str(text).map_err(unreadable)
}

fn bad(path: &Path, line: usize, column: usize, message: String) -> Error {
    Error::BadFile { path: path.to_owned(), line: line.max(1), column: column.max(1), message }
}

/// Tells whether a process still writes a run's events, which it holds a lock on: see [`super::Recorder::write_to`].
pub(super) fn is_running(folder: &Path) -> bool {
    input::open_below(folder, EVENTS_FILE).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Returns the time at which a run began, from a name such as `20261126-073412-4422`; `None` for a name that is not a run's.
pub(super) fn began(name: &str) -> Option<SystemTime> {
    let mut parts = name.splitn(3, '-');
    let (day, time, process) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if day.len() != 8 || time.len() != 6 || !digits(day) || !digits(time) || !digits(process) {
        return None;
    }
    let text = format!("{}-{}-{}T{}:{}:{}Z", &day[..4], &day[4..6], &day[6..], &time[..2], &time[2..4], &time[4..]);
    humantime::parse_rfc3339(&text).ok()
}

/// Maximum number of runs that are read for durations, the latest first.
const RUNS_MAX: usize = 8;

/// Returns the duration in milliseconds of each case when it last passed in a run that `is_of_kind` accepts; `None` unless the durations of
/// all `cases` are known. A repetition (`#2`) takes as long as its case.
#[must_use]
pub fn expected_durations(
    root: &Path,
    cases: &[String],
    is_of_kind: impl Fn(&RunRecord) -> bool,
) -> Option<BTreeMap<String, f64>> {
    let folder = root.join(RUNS_FOLDER);
    // Their names begin with the time of their start; `latest` is one of them once more.
    let mut runs = input::list(&folder).ok()?;
    // A run without a record of its own was killed, or goes on.
    runs.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        input::look_below(&folder, Path::new(name).join(RECORD_FILE)).is_ok_and(|found| found.is_file())
    });
    let records = runs.into_iter().rev().take(RUNS_MAX).filter_map(|run| Some(PastRun::read(run).ok()?.record));
    durations(records.filter(is_of_kind), cases)
}

fn durations(records: impl Iterator<Item = RunRecord>, cases: &[String]) -> Option<BTreeMap<String, f64>> {
    let base = |case: &str| case.split('#').next().unwrap_or_default().to_owned();
    let mut known: BTreeMap<String, f64> = BTreeMap::new();
    let all = |known: &BTreeMap<String, f64>| cases.iter().all(|case| known.contains_key(&base(case)));
    for record in records {
        for (case, took_ms) in record.passed_durations() {
            known.entry(case).or_insert(took_ms);
        }
        if all(&known) {
            return Some(cases.iter().map(|case| (case.clone(), known[&base(case)])).collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::outcome::tests::record;
    use crate::record::{Attempt, CaseId, CaseResult, Outcome, Verdict};

    #[test]
    fn a_record_that_is_no_file_is_told_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let name = "20260101-000000-1";
        let folder = root.path().join(RUNS_FOLDER).join(name);
        std::fs::create_dir_all(folder.join("case")).unwrap();
        let at = |file: &str| folder.join(file);
        let secret = root.path().join("secret");
        std::fs::write(&secret, "{\n\"format_version\": hunter22").unwrap();
        let refused = |expected: &str| {
            let error = PastRun::find(root.path(), name).unwrap_err();
            assert_eq!(Error::exit_code(&error), crate::error::EXIT_USAGE);
            assert_eq!(format!("{error:#}"), format!("{}: {expected}", at(RECORD_FILE).display()));
        };
        nix::unistd::mkfifo(&at(RECORD_FILE), nix::sys::stat::Mode::S_IRWXU).unwrap();
        refused("it is a named pipe: a file is needed here");
        for target in [Path::new("/dev/zero"), &secret] {
            std::fs::remove_file(at(RECORD_FILE)).unwrap();
            std::os::unix::fs::symlink(target, at(RECORD_FILE)).unwrap();
            refused("the path has a symbolic link, and the engine follows none in a record");
        }
        std::fs::remove_file(at(RECORD_FILE)).unwrap();
        let large = std::fs::File::create(at(RECORD_FILE)).unwrap();
        large.set_len(input::RECORD_BYTES_MAX + 1).unwrap();
        refused("the file is larger than 512 MiB");
        let run = PastRun { folder: folder.clone(), record: RunRecord::default() };
        nix::unistd::mkfifo(&at("case/performance.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink(root.path(), at("case/out")).unwrap();
        std::fs::write(root.path().join("performance.json"), "{}").unwrap();
        for (attempt, expected) in [
            ("case", "it is a named pipe: a file is needed here"),
            ("case/out", "the path has a symbolic link, and the engine follows none in a record"),
            ("../../..", "the path leads out of the record's folder"),
        ] {
            let error = format!("{:#}", run.performance(attempt).unwrap_err());
            assert!(error.starts_with("reading ") && error.ends_with(expected), "{error}");
        }
        assert_eq!(run.performance("none").unwrap(), None);
    }

    #[test]
    fn what_is_no_run_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error = PastRun::find(root.path(), "nothing").unwrap_err().to_string();
        assert!(error.starts_with("nothing is no run"), "{error}");
        let folder = root.path().join(RUNS_FOLDER).join("20260101-000000-1");
        std::fs::create_dir_all(&folder).unwrap();
        let find = || PastRun::find(root.path(), "20260101-000000-1");
        let error = || find().unwrap_err().to_string();
        assert!(error().contains("is no run: it holds neither run.json nor the events"), "{}", error());
        std::fs::write(folder.join("run.json"), r#"{"format_version": 99}"#).unwrap();
        assert!(error().contains("run.json:1:1: this record has version 99"), "{}", error());
        std::fs::write(folder.join("run.json"), "{\n\"format_version\": 1, ?}").unwrap();
        assert!(error().contains("run.json:2:"), "{}", error());
        // Another version is told, whatever the events say.
        std::fs::write(folder.join("events.jsonl"), "").unwrap();
        let record = find().unwrap().record;
        assert_eq!(record.started_at, "2026-01-01T00:00:00.000Z");
        assert_eq!(record.unfinished.as_ref().map(|end| end.still_runs), Some(false));
        let gaps = record.gaps.join("; ");
        assert!(gaps.contains("run.json is damaged") && gaps.contains("events.jsonl is empty"), "{gaps}");
        // What `shrink` leaves is no run.
        std::fs::remove_file(folder.join("run.json")).unwrap();
        std::fs::write(folder.join("events.jsonl"), "{\"at_ms\":1.0,\"event\":\"warning\",\"message\":\"m\"}\n")
            .unwrap();
        assert!(error().contains("is no run"), "{}", error());
        let of_other = r#"{"at_ms":0,"event":"run_started","format_version":99,"run_id":"r","started_at":"","cases":0,"shuffle_seed":null,"user":"u"}"#;
        std::fs::write(folder.join("events.jsonl"), format!("{of_other}\n")).unwrap();
        assert!(error().contains("events.jsonl:1:1: these events have version 99"), "{}", error());
    }

    #[test]
    fn a_case_takes_as_long_as_when_it_last_passed() {
        let run = |cases: &[(&str, Verdict, f64)]| {
            let case = |(case, verdict, duration_ms): &(&str, Verdict, f64)| CaseResult {
                case: CaseId((*case).to_owned()),
                verdict: *verdict,
                attempts: vec![Attempt {
                    outcome: Outcome::Passed,
                    duration_ms: *duration_ms,
                    folder: String::new(),
                    faults: None,
                }],
            };
            RunRecord { cases: cases.iter().map(case).collect(), ..record() }
        };
        let runs = [
            run(&[("a/b:c", Verdict::Passed, 20.0), ("a/d:e", Verdict::Failed, 1.0)]),
            run(&[("a/b:c", Verdict::Passed, 30.0), ("a/d:e#2", Verdict::Passed, 5.0)]),
        ];
        let cases = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = |names: &[&str]| durations(runs.iter().cloned(), &cases(names));
        assert_eq!(expected(&["a/b:c"]), Some(BTreeMap::from([("a/b:c".into(), 20.0)])));
        let both = BTreeMap::from([("a/b:c#2".into(), 20.0), ("a/d:e".into(), 5.0)]);
        assert_eq!(expected(&["a/b:c#2", "a/d:e"]), Some(both));
        assert_eq!(expected(&["a/b:c", "a/new:x"]), None);
    }
}
