//! Slot: the name of a set of host resources, with a folder and a file lock whose holder owns them. Folders on the host's disks have a mark
//! of their slot, which survives a reset of the host.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::holder::{Holder, Owner};
use crate::host::container::lxc::{LOG_PATH, LXC_PATH};
use crate::host::crash_point;
use crate::host::disk::marked::{self, Found};
use crate::host::undo::named_state_dir;

/// File name of the ledger in a slot's folder.
pub(super) const LEDGER: &str = "ledger.jsonl";

/// Slot, identified by its name: `1`, `2` ... for labs, `build-HASH` for builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    name: String,
}

/// Lock of a slot, released when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: Flock<File>,
}

/// Returns the parent of all slots' folders; in unit tests, a temporary folder, which needs no root.
fn run_dir() -> PathBuf {
    if cfg!(test) {
        return std::env::temp_dir().join(format!("mancer-e2e-{}", std::process::id()));
    }
    PathBuf::from("/run/mancer-e2e")
}

/// Lists every slot that has a folder, or whose mark is on a folder on disk.
#[must_use]
pub fn slots() -> Vec<Slot> {
    let entries = std::fs::read_dir(run_dir()).into_iter().flatten().filter_map(Result::ok);
    let mut names = marked_slots();
    names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    names.iter().map(|name| Slot::named(name)).collect()
}

impl Slot {
    /// Returns the slot of this name, without creating anything.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn dir(&self) -> PathBuf {
        run_dir().join(&self.name)
    }

    /// Returns the slot's cgroup, relative to the top of each cgroup hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("mancer-e2e-{}", self.name)
    }

    /// Returns the slot's recorded owner, if there is a record.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        serde_json::from_str(&std::fs::read_to_string(self.dir().join("owner.json")).ok()?).ok()
    }

    /// Tells whether a process holds the slot now.
    pub fn is_held(&self) -> anyhow::Result<bool> {
        let path = self.lock_path();
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.with_context(|| format!("opening {}", path.display()))?,
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(false),
            Err((_, Errno::EWOULDBLOCK)) => Ok(true),
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Returns the process that holds the slot now.
    pub fn holder(&self) -> anyhow::Result<Option<Holder>> {
        Ok(self.is_held()?.then(|| Holder::of(&self.lock_path(), self.owner())))
    }

    /// Tells whether the slot has a folder, or a folder on disk has its mark.
    #[must_use]
    pub fn has_traces(&self) -> bool {
        self.dir().exists() || marked_slots().contains(&self.name)
    }

    /// Writes a file, readable by root alone, into the slot's folder, which others may enter. An existing file is replaced.
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<PathBuf> {
        let path = self.dir().join(name);
        let write = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?.write_all(content)
        };
        write().with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    pub(super) fn ledger_path(&self) -> PathBuf {
        self.dir().join(LEDGER)
    }

    /// Returns the path of the socket of a kept lab's guard, which only root may use.
    pub(super) fn guard_socket(&self) -> PathBuf {
        self.dir().join("guard.socket")
    }

    fn lock_path(&self) -> PathBuf {
        self.dir().join("lock")
    }

    /// Takes the lock if it is free. A holder removes the folder when it releases the lock, so the locked file may no longer be the one at
    /// the path: then the lock is tried once more.
    pub(super) fn try_lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.lock_path();
        loop {
            // Passed through by the ids of containers on the way to their roots, and listed by root alone.
            let made = DirBuilder::new().recursive(true).mode(0o711).create(self.dir());
            made.with_context(|| format!("making {}", self.dir().display()))?;
            // Whoever may open it may hold the lock for ever.
            let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
            let file = match opened {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue, // its holder has just removed the folder
                other => other.with_context(|| format!("opening {}", path.display()))?,
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => {
                    let ours = file.metadata()?.ino();
                    if std::fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                        return Ok(Some(Lock { _file: file }));
                    }
                }
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(error).with_context(|| format!("locking {}", path.display())),
            }
        }
    }

    /// Removes all leftovers of an earlier holder from the folder, such as its socket, except the lock and the files in `kept`. Nothing may
    /// be mounted below the folder.
    pub(super) fn clear(&self, kept: &[&str]) -> anyhow::Result<()> {
        let dir = self.dir();
        for entry in std::fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            let entry = entry?;
            let path = entry.path();
            if path == self.lock_path() || kept.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes the folder while the lock is held, the lock's file last, after which another process may create it again.
    pub(super) fn remove(&self, lock: Lock) -> anyhow::Result<()> {
        self.clear(&[])?;
        crash_point::reach("slot emptied", "");
        let dir = self.dir();
        std::fs::remove_file(self.lock_path()).with_context(|| format!("removing {}", self.lock_path().display()))?;
        crash_point::reach("lock removed", "");
        let _ = std::fs::remove_dir(&dir); // stays where the next holder has come already
        let _ = std::fs::remove_dir(run_dir()); // stays while another slot is in use
        drop(lock);
        Ok(())
    }
}

/// Returns the folder on disk for layers and logs of builds: `/var/lib/mancer-e2e`, or the value of `E2E_STATE_DIR`.
#[must_use]
pub fn state_dir() -> PathBuf {
    named_state_dir().unwrap_or_else(|| PathBuf::from("/var/lib/mancer-e2e"))
}

/// Removes folders with the slot's mark, except finished logs. The caller holds the slot and has no lab in it. Returns the removed folders,
/// and a line for each failure.
pub(super) fn remove_marked(slot: &str) -> (Vec<PathBuf>, Vec<String>) {
    let (mut removed, mut failures) = (Vec::new(), Vec::new());
    for found in everywhere() {
        // A mark that cannot be read was cut off by a reset: in this boot it was whole before it stood there.
        let is_cut_off = found.slot.is_empty() && !found.is_aside;
        if found.slot != slot && !is_cut_off {
            continue;
        }
        match marked::remove(&found.folder, &found.slot) {
            Ok(_) => removed.push(found.folder),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    (removed, failures)
}

/// Lists the slots whose marks are on folders on disk.
fn marked_slots() -> BTreeSet<String> {
    everywhere().into_iter().map(|found| found.slot).filter(|slot| !slot.is_empty()).collect()
}

fn everywhere() -> Vec<Found> {
    let state = state_dir();
    let mut all = marked::found(Path::new(LXC_PATH));
    all.extend(marked::found(&state.join("streams")));
    // A finished layer is no leftover, whatever lies in it.
    let is_unfinished = |found: &Found| {
        found.is_aside || found.folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
    };
    all.extend(marked::found(&state.join("layers")).into_iter().filter(is_unfinished));
    all.extend(marked::found(Path::new(LOG_PATH)).into_iter().filter(|found| found.is_aside));
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_slot_has_one_holder_and_leaves_nothing() {
        let slot = Slot::named("test-one-holder");
        let lock = slot.try_lock().unwrap().expect("nobody else uses this name");
        assert!(slot.try_lock().unwrap().is_none());
        assert!(slot.is_held().unwrap());
        // Others may pass through the folder, and read nothing in it.
        drop(super::super::ledger::Ledger::open(&slot).unwrap());
        std::fs::write(slot.dir().join("left"), "of an earlier holder, for all to read").unwrap();
        slot.write("left", b"x").unwrap();
        for entry in std::fs::read_dir(slot.dir()).unwrap().map(Result::unwrap) {
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{}", entry.path().display());
        }
        slot.remove(lock).unwrap();
        assert!(!slot.dir().exists());
        assert!(!slot.is_held().unwrap());
    }
}
