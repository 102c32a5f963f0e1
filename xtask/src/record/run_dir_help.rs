//! Help for a run's folder that cannot be made: the command or change that lets it be made.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::host::invoker::Invoker;

/// Returns the help for a project in which the folder of runs cannot be made, by the first part of its path that is in the way.
pub(super) fn help(root: &Path, owner: &Invoker) -> String {
    let mut way = PathBuf::from(root);
    let mut last = way.clone();
    for part in Path::new(super::RUNS_FOLDER) {
        way.push(part);
        let shown = way.display();
        let is_link = std::fs::symlink_metadata(&way).is_ok_and(|metadata| metadata.is_symlink());
        match std::fs::metadata(&way) {
            Ok(metadata) if metadata.is_dir() => last.clone_from(&way),
            Ok(_) if is_link => return format!("{shown} is a link to something that is no folder: rm {shown}"),
            Ok(_) => return format!("{shown} is no folder: mv {shown} {shown}.old"),
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                return format!("{shown} is a link that leads in a circle: rm {shown}");
            }
            Err(error) if error.kind() == ErrorKind::NotFound && is_link => {
                return format!("{shown} is a link that leads nowhere: rm {shown}, or make what it leads to");
            }
            Err(_) => break,
        }
    }
    of_folder(&last, owner)
}

/// Returns the help for a folder that exists, and in which nothing can be made.
fn of_folder(folder: &Path, owner: &Invoker) -> String {
    let (shown, name) = (folder.display(), &owner.name);
    let counts = statvfs(folder);
    if counts.is_ok_and(|counts| counts.flags().contains(FsFlags::ST_RDONLY)) {
        return format!("{shown} lies on a read-only file system: copy the project to one that can be written");
    }
    if counts
        .is_ok_and(|counts| counts.blocks_available() == 0 || (counts.files() > 0 && counts.files_available() == 0))
    {
        return format!("free space on the file system of {shown}");
    }
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.uid() != owner.uid && !owner.is_root() => {
            format!("give the folder to {name}: sudo chown -R {name} {shown}")
        }
        Ok(metadata) if metadata.mode() & 0o300 != 0o300 && !owner.is_root() => {
            format!("let {name} write to it: chmod u+rwx {shown}")
        }
        _ => format!("let {name} make folders in {shown}: `ls -ld` and `lsattr -d` show its rights and attributes"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn check(prepare: impl FnOnce(&Path), expected: &str) {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let owner = Invoker { uid: 12345, gid: 12345, groups: vec![12345], name: "me".into(), home: None };
        let found = help(root.path(), &owner).replace(&root.path().display().to_string(), "ROOT");
        assert_eq!(found, expected);
    }

    #[test]
    fn each_obstacle_has_its_own_help() {
        check(
            |root| std::fs::write(root.join("target"), "").unwrap(),
            "ROOT/target is no folder: mv ROOT/target ROOT/target.old",
        );
        check(
            |root| nix::unistd::mkfifo(&root.join("target"), nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "ROOT/target is no folder: mv ROOT/target ROOT/target.old",
        );
        check(
            |root| symlink("target", root.join("target")).unwrap(),
            "ROOT/target is a link that leads in a circle: rm ROOT/target",
        );
        check(
            |root| symlink("nowhere", root.join("target")).unwrap(),
            "ROOT/target is a link that leads nowhere: rm ROOT/target, or make what it leads to",
        );
        check(
            |root| symlink("/dev/null", root.join("target")).unwrap(),
            "ROOT/target is a link to something that is no folder: rm ROOT/target",
        );
        check(
            |root| {
                std::fs::create_dir(root.join("target")).unwrap();
                std::fs::write(root.join("target/e2e"), "").unwrap();
            },
            "ROOT/target/e2e is no folder: mv ROOT/target/e2e ROOT/target/e2e.old",
        );
        check(
            |root| std::fs::create_dir(root.join("target")).unwrap(),
            "give the folder to me: sudo chown -R me ROOT/target",
        );
    }
}
