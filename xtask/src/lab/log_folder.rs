//! The folder of a container's live logs. It stays after the lab is gone, and the next lab of that name replaces it.
//!
//! A folder stands under its name only with the mark in it: it is made, and removed, under another name beside it. An
//! engine killed at any moment leaves nothing that the next one would take for somebody else's.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Error;

/// The file in a log folder that says a lab made it: no other is replaced or removed.
const MARK: &str = ".mancer-e2e";

/// Makes an empty folder, in the place of an earlier lab's.
///
/// # Errors
/// A folder without the mark is there, or the file system's.
pub fn renew(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() && !is_ours(folder) {
        return Err(Error::Host {
            problem: format!("{} holds logs that are not of this engine's making", folder.display()),
            cure: "move them away, or choose other names with --e2e-containers".into(),
        }
        .into());
    }
    remove(folder)?;
    let aside = aside(folder);
    std::fs::create_dir_all(&aside).with_context(|| format!("making {}", aside.display()))?;
    let mark = aside.join(MARK);
    std::fs::write(&mark, "").with_context(|| format!("writing {}", mark.display()))?;
    std::fs::rename(&aside, folder).with_context(|| format!("making {}", folder.display()))
}

/// Says whether there was one.
fn remove(folder: &Path) -> anyhow::Result<bool> {
    let aside = aside(folder);
    let removed = |path: &Path| match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("removing {}", path.display())),
    };
    removed(&aside)?; // a lab killed in between left it
    if !is_ours(folder) {
        return Ok(false);
    }
    std::fs::rename(folder, &aside).with_context(|| format!("removing {}", folder.display()))?;
    removed(&aside)?;
    Ok(true)
}

/// Removes the folders below `home` that labs made, all but those of `live` containers. Returns how many there were.
///
/// # Errors
/// The file system's.
pub fn remove_all(home: &Path, live: &[String]) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(home).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        // What stands aside goes with the folder it belongs to.
        let name = name.strip_prefix(&format!("{MARK}.")).unwrap_or(&name);
        if !live.iter().any(|used| used == name) {
            count += usize::from(remove(&home.join(name))?);
        }
    }
    Ok(count)
}

/// Whether a lab made this folder.
fn is_ours(folder: &Path) -> bool {
    folder.join(MARK).exists()
}

/// Where a folder is made and removed: beside it, under a name that no container can have.
fn aside(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{MARK}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an engine killed in the middle of making or of removing a folder can leave.
    #[test]
    fn wherever_an_engine_was_killed_the_next_one_gets_an_empty_folder() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("e2e-app");
        let aside = aside(&folder);
        let with_mark = |path: &Path| {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join(MARK), "").unwrap();
            std::fs::write(path.join("lxc.log"), "old").unwrap();
        };
        let moments: [&dyn Fn(); 5] = [
            &|| (),
            &|| with_mark(&folder),
            &|| std::fs::create_dir(&aside).unwrap(),
            &|| {
                with_mark(&aside);
                std::fs::remove_file(aside.join(MARK)).unwrap();
            },
            &|| {
                with_mark(&aside);
                with_mark(&folder);
            },
        ];
        for moment in moments {
            moment();
            renew(&folder).unwrap();
            let found: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(found, [MARK]);
            assert!(!aside.exists());
            assert_eq!(remove_all(home.path(), &["e2e-app".to_owned()]).unwrap(), 0);
            assert_eq!(remove_all(home.path(), &[]).unwrap(), 1);
            assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
            with_mark(&aside);
            assert_eq!(remove_all(home.path(), &[]).unwrap(), 0);
            assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn the_logs_of_somebody_else_stay() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("e2e-app");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("mine.log"), "mine").unwrap();
        let error = renew(&folder).unwrap_err();
        assert!(error.to_string().contains("not of this engine's making"), "{error:#}");
        assert!(!remove(&folder).unwrap());
        assert_eq!(std::fs::read_to_string(folder.join("mine.log")).unwrap(), "mine");
    }
}
