//! A run that is over, read again from its folder: what every report but the live one is made from.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{FORMAT_VERSION, Performance, RunRecord, Stamped};
use crate::error::Error;

/// Where runs lie, below a project's folder.
pub const RUNS_FOLDER: &str = "target/e2e";

/// A run's folder and what its `run.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct PastRun {
    /// The folder, without links.
    pub folder: PathBuf,
    /// Its `run.json`.
    pub record: RunRecord,
}

impl PastRun {
    /// Finds the folder of a run of this project: by the run's name, `latest`, or its own path.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none.
    pub fn folder(root: &Path, run: &str) -> Result<PathBuf, Error> {
        let (given, named) = (PathBuf::from(run), root.join(RUNS_FOLDER).join(run));
        let folder = [named, given].into_iter().find(|folder| folder.is_dir());
        // The link to the latest run is followed, so that it stays the same run whatever begins meanwhile.
        folder.and_then(|folder| folder.canonicalize().ok()).ok_or_else(|| {
            let (runs, hint) = (root.join(RUNS_FOLDER), "name one of its folders, `latest`, or a path");
            Error::Usage(format!("{run} is no run: there is no such folder in {}; {hint}", runs.display()))
        })
    }

    /// Reads a run of this project, named as in [`PastRun::folder`].
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none, or it has not ended; [`Error::BadFile`] when its `run.json` is damaged or from
    /// another version.
    pub fn find(root: &Path, run: &str) -> anyhow::Result<Self> {
        Self::read(Self::folder(root, run)?)
    }

    /// Reads the run in this folder.
    ///
    /// # Errors
    /// As [`PastRun::find`].
    pub fn read(folder: PathBuf) -> anyhow::Result<Self> {
        let path = folder.join("run.json");
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let why = "it has not ended, or was killed";
                return Err(Error::Usage(format!("{} has no run.json: {why}", folder.display())).into());
            }
            text => text.with_context(|| format!("reading {}", path.display()))?,
        };
        Ok(Self { record: parse(&path, &text)?, folder })
    }

    /// Every event of the run, in order. A last line that a killed engine wrote half is left out.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a line that is no event.
    pub fn events(&self) -> anyhow::Result<Vec<Stamped>> {
        let path = self.folder.join("events.jsonl");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let event = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|error| bad(&path, number + 1, error.column(), error.to_string()).into())
        };
        whole.lines().enumerate().map(event).collect()
    }

    /// What was measured in one attempt at a case, by the attempt's folder; nothing where it did not come so far.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged or from another version.
    pub fn performance(&self, attempt_folder: &str) -> anyhow::Result<Option<Performance>> {
        let path = self.folder.join(attempt_folder).join("performance.json");
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            text => {
                let text = text.with_context(|| format!("reading {}", path.display()))?;
                Ok(Some(Performance::parse(&text).map_err(|message| bad(&path, 1, 1, message))?))
            }
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<RunRecord, Error> {
    #[derive(serde::Deserialize)]
    struct Version {
        format_version: u32,
    }
    let unreadable = |error: serde_json::Error| bad(path, error.line(), error.column(), error.to_string());
    let Version { format_version } = serde_json::from_str(text).map_err(unreadable)?;
    if format_version != FORMAT_VERSION {
        let message = format!(
            "this record has version {format_version}, and this engine reads {FORMAT_VERSION}: use the engine that wrote it"
        );
        return Err(bad(path, 1, 1, message));
    }
    serde_json::from_str(text).map_err(unreadable)
}

fn bad(path: &Path, line: usize, column: usize, message: String) -> Error {
    Error::BadFile { path: path.to_owned(), line: line.max(1), column: column.max(1), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_run_is_told() {
        let root = tempfile::tempdir().unwrap();
        let error = PastRun::find(root.path(), "nothing").unwrap_err().to_string();
        assert!(error.starts_with("nothing is no run"), "{error}");
        let folder = root.path().join(RUNS_FOLDER).join("one");
        std::fs::create_dir_all(&folder).unwrap();
        let error = PastRun::find(root.path(), "one").unwrap_err().to_string();
        assert!(error.contains("has not ended"), "{error}");
        std::fs::write(folder.join("run.json"), r#"{"format_version": 99}"#).unwrap();
        let error = PastRun::find(root.path(), "one").unwrap_err().to_string();
        assert!(error.contains("run.json:1:1: this record has version 99"), "{error}");
        std::fs::write(folder.join("run.json"), "{\n\"format_version\": 1, ?}").unwrap();
        let error = PastRun::find(root.path(), "one").unwrap_err().to_string();
        assert!(error.contains("run.json:2:"), "{error}");
    }

    #[test]
    fn half_a_line_of_a_killed_engine_is_no_event() {
        let folder = tempfile::tempdir().unwrap();
        let line = r#"{"at_ms":1.0,"event":"warning","message":"m"}"#;
        std::fs::write(folder.path().join("events.jsonl"), format!("{line}\n{{\"at_ms\":2.0,\"ev")).unwrap();
        let run = PastRun { folder: folder.path().to_owned(), record: crate::record::outcome::tests::record() };
        assert_eq!(run.events().unwrap().len(), 1);
        std::fs::write(folder.path().join("events.jsonl"), format!("{line}\n{{\"at_ms\":2.0}}\n")).unwrap();
        let error = run.events().unwrap_err().to_string();
        assert!(error.contains("events.jsonl:2:"), "{error}");
    }
}
