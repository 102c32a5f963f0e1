//! Folders of the engine on the host's disks. Each bears a mark, and has its name only while the mark is in it.
//!
//! A disk outlives a reset of the host; processes, mounts and, on tmpfs, the ledger do not. So each folder itself has to say whose it is.
//! It is made and removed under another name in the same parent folder, and one rename gives and takes its own name: file systems keep the
//! order of such changes, so no `fsync` is needed for the mark to be there whenever the name is.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::host::crash_point;

/// Name of the file in a folder that names the folder's owner.
pub const MARK: &str = ".mancer-e2e";

/// Value of a mark's field `engine`.
const ENGINE: &str = "mancer-e2e";

/// Format version of marks.
const FORMAT_VERSION: u32 = 1;

/// Content of a mark. Slot and boot are empty where it cannot be read: earlier builds wrote empty ones, and a reset may cut off what a file
/// holds, but not the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    format_version: u32,
    engine: String,
    /// Slot whose guard or engine made the folder.
    pub slot: String,
    boot_id: String,
}

/// State of a path at which the engine may make a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No folder, or an empty one without a mark.
    Nothing,
    /// A folder of the engine.
    Marked(Mark),
    /// A folder without the engine's mark, which is not the engine's.
    Foreign,
}

impl Mark {
    /// Returns the mark of a folder that is made now for a slot.
    #[must_use]
    pub fn of_slot(slot: &str) -> Self {
        Self { format_version: FORMAT_VERSION, engine: ENGINE.into(), slot: slot.into(), boot_id: boot_id() }
    }

    /// Tells whether the folder was made since the host's last boot: no lab outlives a boot.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        self.boot_id == boot_id()
    }

    fn unreadable() -> Self {
        Self { format_version: FORMAT_VERSION, engine: ENGINE.into(), slot: String::new(), boot_id: String::new() }
    }

    fn parse(text: &str) -> Self {
        let mark: Option<Self> = serde_json::from_str(text).ok();
        // It becomes the name of a folder.
        let is_name = |slot: &str| slot.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        mark.filter(|mark| mark.engine == ENGINE && is_name(&mark.slot)).unwrap_or_else(Self::unreadable)
    }
}

#[must_use]
pub fn standing(folder: &Path) -> Standing {
    let Ok(metadata) = fs::symlink_metadata(folder) else { return Standing::Nothing };
    if !metadata.is_dir() {
        return Standing::Foreign;
    }
    let mark = folder.join(MARK);
    if fs::symlink_metadata(&mark).is_ok_and(|mark| mark.is_file()) {
        return Standing::Marked(Mark::parse(&fs::read_to_string(&mark).unwrap_or_default()));
    }
    let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty { Standing::Nothing } else { Standing::Foreign }
}

/// Makes a folder with its mark, where the path is free or an empty folder.
pub fn make(folder: &Path, mark: &Mark, mode: u32, owner: (u32, u32)) -> anyhow::Result<()> {
    let aside = aside(folder, &mark.slot);
    remove_tree(&aside)?;
    let make = || -> anyhow::Result<()> {
        fs::create_dir_all(&aside)?;
        fs::write(aside.join(MARK), serde_json::to_string(mark)?)?;
        chown(&aside, Some(owner.0), Some(owner.1))?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(mode))?;
        crash_point::reach("marked aside", "");
        fs::rename(&aside, folder)?;
        Ok(())
    };
    make().with_context(|| format!("making {}", folder.display()))?;
    crash_point::reach("marked in place", "");
    Ok(())
}

/// Removes a marked folder, and what an earlier creation or removal of it has left beside it. Returns true if there was a marked folder.
/// The caller holds the slot, or knows that no process does.
pub fn remove(folder: &Path, slot: &str) -> anyhow::Result<bool> {
    let aside = aside(folder, slot);
    remove_tree(&aside)?;
    if !matches!(standing(folder), Standing::Marked(_)) {
        return Ok(false);
    }
    match fs::rename(folder, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| format!("removing {}", folder.display()))?,
    }
    crash_point::reach("set aside", "");
    remove_tree(&aside)?;
    Ok(true)
}

/// Folder that bears a mark, or that was being made or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path that the folder has, or would have, under its own name.
    pub folder: PathBuf,
    /// Slot that the mark or the folder's name gives; empty where neither does.
    pub slot: String,
    /// True if the folder was found under the name that it has while it is made or removed.
    pub is_aside: bool,
}

/// Lists the marked folders below `home`.
#[must_use]
pub fn found(home: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(rest) = name.strip_prefix(MARK).and_then(|rest| rest.strip_prefix('.')) {
            // Earlier builds named no slot.
            let (slot, own) = rest.split_once('.').unwrap_or(("", rest));
            found.push(Found { folder: home.join(own), slot: slot.to_owned(), is_aside: true });
        } else if let Standing::Marked(mark) = standing(&entry.path()) {
            found.push(Found { folder: entry.path(), slot: mark.slot, is_aside: false });
        }
    }
    found.sort_by(|one, other| one.folder.cmp(&other.folder));
    found
}

/// Fails where the engine may not make a folder at this path: it has another owner, or belongs to another slot's lab.
///
/// # Errors
/// The reason, without help.
pub fn require_free(folder: &Path, slot: &str) -> anyhow::Result<()> {
    match standing(folder) {
        Standing::Foreign => bail!("{} was not made by this engine: left alone", folder.display()),
        Standing::Marked(mark) if mark.slot != slot && mark.is_of_this_boot() => {
            bail!("{} belongs to slot {}: left alone", folder.display(), mark.slot)
        }
        Standing::Marked(_) | Standing::Nothing => Ok(()),
    }
}

/// Returns the path under which a folder is made and removed: in the same parent folder, under a name that no container and no slot can
/// have.
fn aside(folder: &Path, slot: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let slot = if slot.is_empty() { String::new() } else { format!("{slot}.") };
    folder.with_file_name(format!("{MARK}.{slot}{name}"))
}

fn remove_tree(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("removing {}", path.display())),
    }
}

/// The kernel's random id of this boot; empty where the kernel shows none.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(home: &Path) -> Vec<String> {
        let entries =
            fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        entries.collect()
    }

    fn own() -> (u32, u32) {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    /// Tries every state that a kill or a reset during creation or removal can leave.
    #[test]
    fn a_folder_stands_under_its_name_only_with_its_mark() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("e2e-9-a");
        let mark = Mark::of_slot("9");
        let aside = aside(&folder, "9");
        let half: [&dyn Fn(); 5] = [
            &|| (),
            &|| fs::create_dir(&aside).unwrap(),
            &|| {
                fs::create_dir(&aside).unwrap();
                fs::write(aside.join(MARK), "").unwrap();
            },
            &|| {
                make(&folder, &mark, 0o755, own()).unwrap();
                fs::write(folder.join("config"), "half").unwrap();
                fs::create_dir(&aside).unwrap();
                fs::write(aside.join("config"), "of one that is removed").unwrap();
            },
            &|| {
                make(&folder, &mark, 0o755, own()).unwrap();
                fs::write(folder.join(MARK), "").unwrap(); // a reset cut it off
            },
        ];
        for moment in half {
            moment();
            let there = !names(home.path()).is_empty();
            let all = found(home.path());
            assert_eq!(!all.is_empty(), there, "whatever is left is found: {all:?}");
            for found in all {
                assert!(found.slot == "9" || found.slot.is_empty(), "{found:?}");
                remove(&found.folder, &found.slot).unwrap();
            }
            remove(&folder, "9").unwrap();
            assert_eq!(names(home.path()), [""; 0]);
        }
    }

    #[test]
    fn a_folder_of_somebody_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("mine");
        fs::create_dir(&folder).unwrap();
        require_free(&folder, "9").unwrap();
        fs::write(folder.join("config"), "mine").unwrap();
        assert_eq!(standing(&folder), Standing::Foreign);
        assert!(require_free(&folder, "9").unwrap_err().to_string().contains("not made by this engine"));
        assert!(!remove(&folder, "9").unwrap());
        assert_eq!(found(home.path()), []);
        assert_eq!(fs::read_to_string(folder.join("config")).unwrap(), "mine");
    }

    #[test]
    fn a_folder_of_another_slot_is_taken_only_after_a_reset() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("app");
        let mut mark = Mark::of_slot("8");
        make(&folder, &mark, 0o700, own()).unwrap();
        assert!(require_free(&folder, "9").unwrap_err().to_string().contains("belongs to slot 8"));
        require_free(&folder, "8").unwrap();
        remove(&folder, "8").unwrap();
        mark.boot_id = "of another boot".into();
        make(&folder, &mark, 0o700, own()).unwrap();
        require_free(&folder, "9").unwrap();
    }

    #[test]
    fn a_mark_that_leads_elsewhere_names_no_slot() {
        for text in ["", "{", r#"{"format_version":1,"engine":"mancer-e2e","slot":"../x","boot_id":"b"}"#] {
            assert_eq!(Mark::parse(text), Mark::unreadable(), "{text}");
        }
        let mark = Mark::of_slot("build-0123");
        assert_eq!(Mark::parse(&serde_json::to_string(&mark).unwrap()), mark);
        assert!(mark.is_of_this_boot());
    }

    #[test]
    fn the_aside_of_an_earlier_build_is_found() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".mancer-e2e.e2e-app")).unwrap();
        let all = found(home.path());
        assert_eq!((all[0].slot.as_str(), all[0].is_aside), ("", true));
        assert!(!remove(&all[0].folder, "").unwrap());
        assert_eq!(names(home.path()), [""; 0]);
    }
}
