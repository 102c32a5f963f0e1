//! Marked folders on the host's disks without an owner: of a killed guard, or of the time before a reset of the host.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::host::lxc::{LOG_PATH, LXC_PATH};
use crate::host::marked::{self, Found};
use crate::host::undo::named_state_dir;

/// Returns the folder of layers and logs of builds: `/var/lib/mancer-e2e`, or `E2E_STATE_DIR`.
#[must_use]
pub fn state_dir() -> PathBuf {
    named_state_dir().unwrap_or_else(|| PathBuf::from("/var/lib/mancer-e2e"))
}

/// Removes marked folders of the slot, but for finished logs. The caller holds the slot, and has no lab. Returns the removed folders, and a
/// line for each failure.
pub(super) fn remove(slot: &str) -> (Vec<PathBuf>, Vec<String>) {
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

/// The slots that are named by the marks of folders.
pub(super) fn slots() -> BTreeSet<String> {
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
