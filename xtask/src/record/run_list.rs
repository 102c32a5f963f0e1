//! Runs of a project on the disk: their state, their size, and their removal.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use super::event_reader::EVENTS_FILE;
use super::past_run::{RECORD_FILE, began, is_running};
use super::{Event, EventReader, PastRun, RUNS_FOLDER, RunRecord};
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;

/// Name of the link to the latest run.
const LATEST: &str = "latest";

/// Folder of a run, with the run's state.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFolder {
    /// Name of the run and of the folder.
    pub name: String,
    pub began: SystemTime,
    /// Size of all files in the folder.
    pub size_bytes: u64,
    pub state: RunState,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// The run has ended, with this record.
    Ended(Box<RunRecord>),
    /// A process still writes the run's events.
    Running,
    /// No process writes the run's events any more, and they have no end; with the record of these events, where there are any.
    Killed(Option<Box<RunRecord>>),
    /// The folder was left by `shrink`, and is no run.
    Shrinking,
    /// The run has a record that cannot be read, such as one of another version; with the error.
    Unreadable(String),
}

/// All runs of a project, the newest first.
#[derive(Debug, Clone)]
pub struct RunList {
    /// Folder of the runs, with links resolved.
    top: PathBuf,
    pub runs: Vec<RunFolder>,
}

impl RunList {
    /// Lists the runs of the project in this folder. Links, other files, and folders whose name is not a run's are left out.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        Invoker::of_process().act(|| Self::look_in(root))
    }

    fn look_in(root: &Path) -> anyhow::Result<Self> {
        let named = root.join(RUNS_FOLDER);
        let top = match named.canonicalize() {
            Ok(top) => top,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { top: named, runs: Vec::new() });
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", named.display())),
        };
        let mut runs = Vec::new();
        for entry in std::fs::read_dir(&top).with_context(|| format!("reading {}", top.display()))? {
            let entry = entry.with_context(|| format!("reading {}", top.display()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(began) = began(&name)
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                runs.push(look(entry.path(), name, began));
            }
        }
        runs.sort_by(|one, other| (other.began, &other.name).cmp(&(one.began, &one.name)));
        Ok(Self { top, runs })
    }

    /// Finds a run of the list by its name, `latest`, or its path.
    ///
    /// # Errors
    /// [`Error::Usage`] when the list has no such run.
    pub fn find(&self, given: &str) -> Result<&RunFolder, Error> {
        let path = Path::new(given);
        let name = if given == LATEST {
            std::fs::read_link(self.top.join(LATEST))
                .ok()
                .and_then(|to| Some(to.file_name()?.to_string_lossy().into_owned()))
        } else if given.contains('/') {
            // The folder above is looked at without links, the run itself with none: a link to a run is no run.
            let above = path.parent().and_then(|above| above.canonicalize().ok());
            path.file_name()
                .filter(|_| above.as_ref() == Some(&self.top))
                .map(|name| name.to_string_lossy().into_owned())
        } else {
            Some(given.to_owned())
        };
        self.runs.iter().find(|run| Some(&run.name) == name.as_ref()).ok_or_else(|| {
            let top = self.top.display();
            Error::Usage(format!(
                "{given} is no run in {top}: `cargo xtask runs` lists the runs; a link to a run does not count"
            ))
        })
    }

    /// Returns the runs that are over, began at least `older` ago, and are not among the `keep` newest.
    #[must_use]
    pub fn outdated(&self, keep: usize, older: Duration) -> Vec<&RunFolder> {
        let now = SystemTime::now();
        let is_old = |run: &&RunFolder| now.duration_since(run.began).unwrap_or_default() >= older;
        let is_over = |run: &&RunFolder| run.state != RunState::Running;
        self.runs.iter().skip(keep).filter(is_old).filter(is_over).collect()
    }

    /// Removes the folder of a run with the rights of a user, and points `latest` to the newest run that is left. Links in the folder are
    /// removed, not followed.
    ///
    /// # Errors
    /// [`Error::Usage`] for a run whose events a process still writes.
    pub fn remove(&mut self, name: &str, owner: &Invoker) -> anyhow::Result<()> {
        let folder = self.top.join(name);
        let remove = || {
            if began(name).is_none() || !std::fs::symlink_metadata(&folder)?.is_dir() {
                bail!("this is not the folder of a run");
            }
            if is_running(&folder) {
                return Err(
                    Error::Usage("a process still writes the run's events: end that process first".into()).into()
                );
            }
            Ok(std::fs::remove_dir_all(&folder)?)
        };
        owner.act(remove).with_context(|| format!("removing {} as the user {}", folder.display(), owner.name))?;
        self.runs.retain(|run| run.name != name);
        owner.act(|| self.lead_latest()).context("pointing `latest` to the newest run that is left")
    }

    fn lead_latest(&self) -> anyhow::Result<()> {
        let latest = self.top.join(LATEST);
        if !std::fs::symlink_metadata(&latest).is_ok_and(|metadata| metadata.is_symlink()) || latest.exists() {
            return Ok(());
        }
        std::fs::remove_file(&latest)?;
        match self.runs.iter().find(|run| run.state != RunState::Shrinking) {
            Some(newest) => Ok(std::os::unix::fs::symlink(&newest.name, &latest)?),
            None => Ok(()),
        }
    }
}

fn look(folder: PathBuf, name: String, began: SystemTime) -> RunFolder {
    let files = walkdir::WalkDir::new(&folder).into_iter().filter_map(Result::ok);
    let files = files.filter(|entry| entry.file_type().is_file());
    let size_bytes = files.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
    let has = |name: &str| input::look_below(&folder, name).is_ok();
    let has_record = has(RECORD_FILE);
    let state = if !has_record && is_running(&folder) {
        RunState::Running
    } else if !has_record && is_shrinking(&folder) {
        RunState::Shrinking
    } else if !has_record && !has(EVENTS_FILE) {
        RunState::Killed(None)
    } else {
        match PastRun::read(folder) {
            Ok(PastRun { record, .. }) if record.unfinished.is_some() => RunState::Killed(Some(Box::new(record))),
            Ok(run) => RunState::Ended(Box::new(run.record)),
            Err(error) => RunState::Unreadable(format!("{error:#}")),
        }
    };
    RunFolder { name, began, size_bytes, state }
}

/// Tells whether a folder was left by `shrink`: its first event is not the start of a run.
fn is_shrinking(folder: &Path) -> bool {
    let first = EventReader::open(folder).and_then(|mut reader| reader.next_event());
    first.is_ok_and(|first| first.is_some_and(|first| !matches!(first.event, Event::RunStarted { .. })))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::record::outcome::tests::record;

    const NAMES: [&str; 3] = ["20260101-000000-1", "20260102-000000-22", "20260103-000000-3"];

    /// Makes a project with three runs, the second one killed, and with entries of many kinds that are no runs.
    fn project() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join(RUNS_FOLDER);
        for name in NAMES.into_iter().chain(["refs", "bundles", "20260101-000000-x", "2026-01"]) {
            std::fs::create_dir_all(top.join(name).join("a/b")).unwrap();
            std::fs::write(top.join(name).join("a/b/scenario.log"), "12345").unwrap();
        }
        for name in [NAMES[0], NAMES[2]] {
            std::fs::write(top.join(name).join("run.json"), serde_json::to_vec(&record()).unwrap()).unwrap();
        }
        symlink(NAMES[2], top.join(LATEST)).unwrap();
        root
    }

    fn names(list: &RunList) -> Vec<&str> {
        list.runs.iter().map(|run| run.name.as_str()).collect()
    }

    #[test]
    fn runs_are_told_from_what_else_lies_there() {
        let root = project();
        let list = RunList::read(root.path()).unwrap();
        assert_eq!(names(&list), [NAMES[2], NAMES[1], NAMES[0]]);
        assert_eq!((&list.runs[1].state, list.runs[1].size_bytes), (&RunState::Killed(None), 5));
        assert!(matches!(list.runs[0].state, RunState::Ended(_)));
        assert_eq!(humantime::format_rfc3339_seconds(list.runs[2].began).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(names(&RunList::read(Path::new("/nowhere")).unwrap()), [""; 0]);
    }

    #[test]
    fn a_record_that_is_no_file_costs_its_own_line_alone() {
        let root = project();
        let at = root.path().join(RUNS_FOLDER).join(NAMES[0]).join(RECORD_FILE);
        std::fs::remove_file(&at).unwrap();
        nix::unistd::mkfifo(&at, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let told = |what: &str| {
            let list = RunList::read(root.path()).unwrap();
            assert!(matches!(list.runs[0].state, RunState::Ended(_)));
            let RunState::Unreadable(why) = &list.runs[2].state else { panic!("{:?}", list.runs[2].state) };
            assert!(why.contains("run.json: ") && why.contains(what), "{why}");
        };
        told("it is a named pipe");
        std::fs::remove_file(&at).unwrap();
        symlink("/dev/zero", &at).unwrap();
        told("the path has a symbolic link");
    }

    #[test]
    fn a_run_is_named_in_three_ways_and_a_link_to_one_is_none() {
        let root = project();
        let top = root.path().join(RUNS_FOLDER);
        let list = RunList::read(root.path()).unwrap();
        let found = |given: &str| list.find(given).map(|run| run.name.clone()).map_err(|error| error.to_string());
        assert_eq!(found("latest").unwrap(), NAMES[2]);
        assert_eq!(found(NAMES[0]).unwrap(), NAMES[0]);
        assert_eq!(found(&top.join(NAMES[1]).display().to_string()).unwrap(), NAMES[1]);
        assert_eq!(found(&format!("{}/", top.join(NAMES[1]).display())).unwrap(), NAMES[1]);
        let elsewhere = root.path().join(NAMES[0]);
        std::fs::create_dir(&elsewhere).unwrap();
        for wrong in ["refs", "nothing", "..", "/", elsewhere.to_str().unwrap()] {
            assert!(found(wrong).unwrap_err().contains("is no run in"), "{wrong}");
        }
    }

    #[test]
    fn nothing_outside_is_removed() {
        let root = project();
        let top = root.path().join(RUNS_FOLDER);
        let prey = root.path().join("prey");
        std::fs::create_dir(&prey).unwrap();
        std::fs::write(prey.join("file"), "x").unwrap();
        symlink(&prey, top.join(NAMES[0]).join("a/link")).unwrap();
        symlink(&prey, top.join("20260104-000000-4")).unwrap();
        let me = Invoker::find();
        let mut list = RunList::read(root.path()).unwrap();
        assert_eq!(names(&list), [NAMES[2], NAMES[1], NAMES[0]], "a link is no run");
        list.remove(NAMES[0], &me).unwrap();
        for wrong in ["20260104-000000-4", "refs", "..", "", NAMES[0]] {
            assert!(list.remove(wrong, &me).is_err(), "{wrong}");
        }
        assert!(prey.join("file").is_file() && top.join("refs/a/b").is_dir());
        assert!(!top.join(NAMES[0]).exists());
    }

    #[test]
    fn latest_leads_to_the_newest_that_is_left() {
        let root = project();
        let top = root.path().join(RUNS_FOLDER);
        let me = Invoker::find();
        let mut list = RunList::read(root.path()).unwrap();
        let latest = || std::fs::read_link(top.join(LATEST)).ok().map(|to| to.display().to_string());
        list.remove(NAMES[0], &me).unwrap();
        assert_eq!(latest().as_deref(), Some(NAMES[2]));
        list.remove(NAMES[2], &me).unwrap();
        assert_eq!(latest().as_deref(), Some(NAMES[1]));
        list.remove(NAMES[1], &me).unwrap();
        assert_eq!(latest(), None);
    }

    #[test]
    fn what_a_process_is_at_stays() {
        let root = project();
        let folder = root.path().join(RUNS_FOLDER).join(NAMES[1]);
        let held = std::fs::File::create(folder.join("events.jsonl")).unwrap();
        held.lock().unwrap();
        let mut list = RunList::read(root.path()).unwrap();
        assert_eq!(list.runs[1].state, RunState::Running);
        let outdated: Vec<&str> = list.outdated(0, Duration::ZERO).iter().map(|run| run.name.as_str()).collect();
        assert_eq!(outdated, [NAMES[2], NAMES[0]]);
        assert!(list.remove(NAMES[1], &Invoker::find()).unwrap_err().to_string().contains("removing"));
        assert!(folder.is_dir());
        drop(held);
        list.remove(NAMES[1], &Invoker::find()).unwrap();
    }

    #[test]
    fn outdated_is_what_is_old_and_not_among_the_newest() {
        let root = project();
        let list = RunList::read(root.path()).unwrap();
        let outdated = |keep, days: u64| list.outdated(keep, Duration::from_secs(days * 86_400)).len();
        assert_eq!((outdated(0, 0), outdated(1, 0), outdated(5, 0), outdated(0, 100_000)), (3, 2, 0, 0));
    }
}
