//! Folder of a container's live logs. It stays after the lab is gone, and the next lab with a container of that name replaces it.
//! The folder gets its name only when it has its mark ([`crate::host::disk::marked`]). But a program that enters a container while its lab is
//! taken down may create the folder again for its log, without a mark: `is_remains` recognizes such a folder by its content.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;

use crate::error::Error;
use crate::host::container::lxc::{ATTACH, LOG_PATH, container_dir};
use crate::host::disk::marked::{self, Mark, Standing};
use crate::host::patience::Deadline;

/// File name of the log that [`crate::host::container::lxc::Attach`] writes.
const ATTACH_LOG: &str = "attach.log";

/// Size in bytes at which the log of `lxc-attach` is emptied: LXC writes some hundred bytes for each program that it cannot execute.
pub const ATTACH_LOG_BYTES_MAX: u64 = 1 << 20;

/// Time during which programs that were about to enter a removed container may still create its log folder again.
const RENEW_DEADLINE: Deadline = Deadline::from_secs(5);

/// Creates an empty log folder, replacing that of an earlier lab. The caller holds the slot.
///
/// # Errors
/// When a folder that does not belong to this slot is there.
pub fn renew(folder: &Path, slot: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        require_ours(folder, slot)?;
        let make = || {
            marked::remove(folder, slot)?;
            remove_remains(folder)?;
            marked::make(folder, &Mark::of_slot(slot), 0o755, (0, 0))
        };
        match make() {
            // A program on its way into the last lab's container was in between.
            Err(error) if is_of_company(&error) && begun.elapsed() < RENEW_DEADLINE.scaled() => {}
            made => return made,
        }
    }
}

/// Empties the log of `lxc-attach` if it is too long; it only serves people who look for the reason of a failure.
pub fn cut_attach_log(folder: &Path) {
    let log = folder.join(ATTACH_LOG);
    if fs::symlink_metadata(&log).is_ok_and(|it| it.is_file() && it.len() > ATTACH_LOG_BYTES_MAX) {
        let _ = fs::File::options().write(true).open(&log).and_then(|log| log.set_len(0)); // LXC appends to it
    }
}

/// Tells whether an error was caused by another process that put a file into the folder in the meantime.
fn is_of_company(error: &anyhow::Error) -> bool {
    let kinds = [ErrorKind::DirectoryNotEmpty, ErrorKind::AlreadyExists];
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|error| kinds.contains(&error.kind()))
}

fn require_ours(folder: &Path, slot: &str) -> Result<(), Error> {
    // In this order: the folder may be made anew in between, and is never removed by anybody else.
    let Err(error) = marked::require_free(folder, slot) else { return Ok(()) };
    if is_remains(folder) {
        return Ok(());
    }
    Err(Error::Host {
        problem: format!("{error}; the folder holds logs of another container with the same name"),
        help: match marked::standing(folder) {
            Standing::Marked(mark) => format!("`cargo xtask clean --slot {}`, or choose another --slot N", mark.slot),
            _ => format!(
                "move it away (`mv {} {}.old`), or choose other names with --e2e-containers",
                folder.display(),
                folder.display()
            ),
        },
    })
}

/// Selection of log folders to remove.
#[derive(Debug, Clone, Copy)]
pub enum Chosen<'a> {
    /// Folders of all labs that are gone, whatever their slot was.
    All,
    /// Folders of this slot, which has no lab now. A folder without a mark belongs to it if its name has the slot's number or is in the
    /// list.
    Slot(&'a str, &'a [String]),
}

/// Removes the folders below `home` that labs made, except those of `live` containers. Returns the number of removed folders.
pub fn remove_all(home: &Path, chosen: Chosen<'_>, live: &[String]) -> anyhow::Result<usize> {
    let is_live = |folder: &Path| folder.file_name().is_some_and(|name| live.iter().any(|used| **used == *name));
    let mut count = 0;
    for found in marked::found(home) {
        let is_chosen = match chosen {
            Chosen::All => true,
            Chosen::Slot(slot, _) => found.slot == slot,
        };
        if is_chosen && !is_live(&found.folder) {
            count += usize::from(marked::remove(&found.folder, &found.slot)?);
        }
    }
    for entry in fs::read_dir(home).into_iter().flatten().filter_map(Result::ok) {
        let (folder, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_chosen = match chosen {
            Chosen::All => true,
            Chosen::Slot(slot, names) => names.contains(&name) || name.contains(&format!("-{slot}-")),
        };
        // A container of that name, whoever has it, is a reason to keep its logs.
        if is_chosen && !is_live(&folder) && !container_dir(&name).exists() {
            count += usize::from(remove_remains(&folder)?);
        }
    }
    Ok(count)
}

/// Composes the message about this number of removed log folders.
#[must_use]
pub fn removed(count: usize) -> String {
    format!("logs of {count} container{} removed from {LOG_PATH}", if count == 1 { "" } else { "s" })
}

fn remove_remains(folder: &Path) -> anyhow::Result<bool> {
    if !is_remains(folder) {
        return Ok(false);
    }
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(true)
}

/// Tells whether a folder was created by a program that entered a container whose lab was gone: root owns it, and it has only the log of
/// `lxc-attach`.
fn is_remains(folder: &Path) -> bool {
    let is_roots = |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| it.uid() == nix::unistd::geteuid().as_raw());
    let Ok(metadata) = fs::symlink_metadata(folder) else { return false };
    let Ok(entries) = fs::read_dir(folder) else { return false };
    let names: Vec<_> = entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect();
    let log = folder.join(ATTACH_LOG);
    let is_log = || {
        let is_file = fs::symlink_metadata(&log).is_ok_and(|it| it.is_file());
        let text = if is_file { fs::read(&log).unwrap_or_default() } else { return false };
        text.is_empty() || text.starts_with(ATTACH.as_bytes())
    };
    metadata.is_dir() && is_roots(folder) && names == [ATTACH_LOG] && is_roots(&log) && is_log()
}

/// Returns the last bytes of a file as text; empty if it cannot be read.
pub(super) fn tail_of(path: &Path, bytes_max: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(std::io::SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn names(home: &Path) -> Vec<String> {
        fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    fn home() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("e2e-app");
        (home, folder)
    }

    fn remains(folder: &Path, text: &str) {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join(ATTACH_LOG), text).unwrap();
    }

    const LINE: &str = "lxc-attach e2e-app 20261129213724.461 ERROR    attach - Failed to get init pid\n";

    /// Tests all states that an engine killed while creating or removing a folder can leave, and late programs.
    #[test]
    fn wherever_an_engine_was_killed_the_next_one_gets_an_empty_folder() {
        if !is_root() {
            return; // a log folder is root's
        }
        let (home, folder) = home();
        let with_mark = |path: &Path, mark: &str| {
            fs::create_dir(path).unwrap();
            fs::write(path.join(marked::MARK), mark).unwrap();
            fs::write(path.join("lxc.log"), "old").unwrap();
        };
        let aside = home.path().join(".mancer-e2e.7.e2e-app");
        let earlier = home.path().join(".mancer-e2e.e2e-app");
        let moments: [&dyn Fn(); 7] = [
            &|| (),
            &|| with_mark(&folder, ""),
            &|| with_mark(&folder, &serde_json::to_string(&Mark::of_slot("7")).unwrap()),
            &|| fs::create_dir(&aside).unwrap(),
            &|| {
                fs::create_dir(&aside).unwrap();
                with_mark(&folder, "");
            },
            &|| remains(&folder, LINE),
            &|| remains(&folder, ""),
        ];
        for moment in moments {
            moment();
            renew(&folder, "7").unwrap();
            assert_eq!(names(&folder), [marked::MARK]);
            assert!(!aside.exists());
            let live = ["e2e-app".to_owned()];
            assert_eq!(remove_all(home.path(), Chosen::All, &live).unwrap(), 0);
            assert_eq!(remove_all(home.path(), Chosen::Slot("8", &live), &[]).unwrap(), 0);
            assert_eq!(remove_all(home.path(), Chosen::Slot("7", &[]), &[]).unwrap(), 1);
            assert_eq!(names(home.path()), [""; 0]);
            with_mark(&earlier, "");
            assert_eq!(remove_all(home.path(), Chosen::All, &[]).unwrap(), 0);
            assert_eq!(names(home.path()), [""; 0]);
        }
    }

    #[test]
    fn the_log_of_programs_that_fail_begins_anew_when_it_is_long() {
        let (_home, folder) = home();
        let size = || folder.join(ATTACH_LOG).metadata().unwrap().len();
        remains(&folder, LINE);
        cut_attach_log(&folder);
        assert_eq!(size(), LINE.len() as u64);
        fs::write(folder.join(ATTACH_LOG), LINE.repeat(20_000)).unwrap();
        assert!(size() > ATTACH_LOG_BYTES_MAX);
        cut_attach_log(&folder);
        assert_eq!(size(), 0);
    }

    #[test]
    fn what_a_late_program_has_made_is_removed() {
        let (home, folder) = home();
        remains(&folder, LINE);
        assert_eq!(remove_all(home.path(), Chosen::Slot("7", &[]), &[]).unwrap(), 0);
        assert_eq!(remove_all(home.path(), Chosen::Slot("7", &["e2e-app".to_owned()]), &[]).unwrap(), 1);
        remains(&folder, LINE);
        assert_eq!(remove_all(home.path(), Chosen::All, &["e2e-app".to_owned()]).unwrap(), 0);
        assert_eq!(remove_all(home.path(), Chosen::All, &[]).unwrap(), 1);
        assert_eq!(names(home.path()), [""; 0]);
    }

    #[test]
    fn programs_that_make_the_folder_anew_keep_no_lab_from_its_own() {
        if !is_root() {
            return; // a log folder is root's
        }
        let (_home, folder) = home();
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::SeqCst) {
                    let _ = fs::create_dir(&folder); // as LXC does, whatever stands there
                    let _ = fs::write(folder.join(ATTACH_LOG), LINE);
                }
            });
            let renewed: Vec<_> = (0..300).map(|_| (renew(&folder, "7"), marked::standing(&folder))).collect();
            ended.store(true, std::sync::atomic::Ordering::SeqCst);
            for (renewed, standing) in renewed {
                renewed.unwrap();
                assert!(matches!(standing, Standing::Marked(_)), "{standing:?}");
            }
        });
    }

    #[test]
    fn the_logs_of_somebody_else_stay() {
        for (file, text) in [("mine.log", "mine"), (ATTACH_LOG, "no words of LXC's")] {
            let (home, folder) = home();
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), text).unwrap();
            let error = renew(&folder, "7").unwrap_err();
            assert!(error.to_string().contains("not made by this engine"), "{error:#}");
            assert!(error.to_string().contains(&format!("mv {}", folder.display())), "{error:#}");
            assert_eq!(remove_all(home.path(), Chosen::All, &[]).unwrap(), 0);
            assert_eq!(fs::read_to_string(folder.join(file)).unwrap(), text);
        }
    }
}
