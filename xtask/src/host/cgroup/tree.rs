//! Tree of a cgroup and all below it, in every hierarchy.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use walkdir::WalkDir;

use super::{hierarchies, v1, v2};
use crate::error::HostCause;

/// Name of the child cgroup in which the processes of a tree start. LXC delegates controllers in the tree's own cgroup, and version 2 lets
/// no process into a cgroup that delegates: at its next start, a container could not join the tree's own.
pub(super) const ENTRY: &str = "entry";

/// Cgroups of one name, relative to the top of each hierarchy, such as `mancer-e2e-1/app`.
#[derive(Debug, Clone)]
pub struct Tree {
    name: String,
    hierarchies: Vec<PathBuf>,
}

impl Tree {
    /// Names a tree, which need not exist.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), hierarchies: hierarchies() }
    }

    /// Returns the folders of this tree that exist, one for each hierarchy.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|top| top.join(&self.name)).filter(|path| path.is_dir()).collect()
    }

    /// Makes the cgroup in the hierarchy through which processes are found and killed, with a leaf below it. Returns the file to which a
    /// process writes its PID to join the leaf; the cgroup itself never holds a process.
    ///
    /// # Errors
    /// Also without root, or when the cgroup file system is read-only.
    pub fn make(&self) -> anyhow::Result<PathBuf> {
        let unified = |top: &&PathBuf| top.join("cgroup.controllers").exists();
        let freezer = |top: &&PathBuf| top.ends_with("freezer");
        let top = self.hierarchies.iter().find(unified).or_else(|| self.hierarchies.iter().find(freezer));
        let Some(top) = top.or(self.hierarchies.first()) else {
            return Err(HostCause::Cgroup.error(&anyhow!("no cgroup file system is mounted")));
        };
        let folder = top.join(&self.name).join(ENTRY);
        let made = std::fs::create_dir_all(&folder).with_context(|| format!("making the cgroup {}", folder.display()));
        made.map_err(|error| HostCause::Cgroup.error(&error))?;
        Ok(folder.join("cgroup.procs"))
    }

    /// Returns the PIDs of all processes of the tree, in any hierarchy, each once.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = Vec::new();
        for folder in self.folders() {
            for group in groups(&folder) {
                let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
            }
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Thaws every frozen cgroup of the tree.
    pub fn thaw(&self) {
        for folder in self.folders() {
            for group in groups(&folder) {
                v1::thaw(&group);
                v2::thaw(&group);
            }
        }
    }

    /// Tells whether any cgroup of the tree is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let frozen = |group: PathBuf| v1::is_frozen(&group) || v2::is_frozen(&group);
        self.folders().iter().any(|folder| groups(folder).into_iter().any(frozen))
    }

    /// Tells whether the tree's own cgroup is frozen, and with it all below.
    #[must_use]
    pub fn is_frozen_itself(&self) -> bool {
        self.folders().iter().any(|folder| v1::is_frozen(folder) || v2::is_frozen(folder))
    }

    /// Thaws the tree, kills every process in it and removes its folders, deepest first. `reap` is called until the processes are gone, for
    /// a parent to collect its dead children.
    ///
    /// # Errors
    /// When processes or folders are left after the deadline; the message names them.
    pub fn kill_and_remove(&self, deadline: Duration, mut reap: impl FnMut()) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            self.thaw();
            let pids = self.pids();
            for pid in &pids {
                match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => bail!("killing process {pid} of cgroup {}: {error}", self.name),
                }
            }
            reap();
            if pids.is_empty() && self.remove_folders() {
                return Ok(());
            }
            if started.elapsed() > deadline {
                let folders = self.folders();
                bail!(
                    "cgroup {} is still there after {deadline:?}: processes {pids:?}, folders {folders:?}",
                    self.name
                );
            }
            std::thread::sleep(Duration::from_millis(2)); // the kernel has no event for a process that is gone from a v1 group
        }
    }

    fn remove_folders(&self) -> bool {
        for folder in self.folders() {
            for group in groups(&folder) {
                let _ = std::fs::remove_dir(group); // busy while a process of it is still dying: the caller comes again
            }
        }
        self.folders().is_empty()
    }
}

/// Returns a cgroup's folder and all below it, deepest first.
pub(super) fn groups(folder: &Path) -> Vec<PathBuf> {
    let walk = WalkDir::new(folder).contents_first(true).into_iter().filter_map(Result::ok);
    walk.filter(|entry| entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
}
