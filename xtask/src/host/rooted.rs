//! Files below a container's root: paths are resolved inside it, so that a symbolic link there never leads out.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

/// The longest file that [`read`] takes, in bytes: it is for configuration, not for data.
const READ_BYTES_MAX: u64 = 4 << 20;

/// Reads a small file below `root`, such as `/etc/passwd`.
///
/// # Errors
/// When it does not exist, is no regular file or is larger than 4 MiB.
pub fn read(root: &Path, path: &str) -> anyhow::Result<String> {
    let context = || format!("reading {path} in {}", root.display());
    let top = File::open(root).with_context(context)?;
    // Without waiting: the container may have put a pipe there that nobody writes to.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = File::from(openat2(&top, path, how).with_context(context)?);
    let metadata = file.metadata().with_context(context)?;
    if !metadata.is_file() || metadata.len() > READ_BYTES_MAX {
        return Err(anyhow!("it is no regular file of at most {} MiB", READ_BYTES_MAX >> 20)).with_context(context);
    }
    let mut text = String::new();
    file.take(READ_BYTES_MAX).read_to_string(&mut text).with_context(context)?;
    Ok(text)
}

/// Whether there is something at a path below `root`.
#[must_use]
pub fn exists(root: &Path, path: &str) -> bool {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    File::open(root).is_ok_and(|top| openat2(&top, path, how).is_ok())
}

/// Opens a regular file below `root` to read and change it.
///
/// # Errors
/// When it does not exist, or is no regular file.
pub fn open_to_change(root: &Path, path: &str) -> anyhow::Result<File> {
    let context = || format!("opening {path} in {}", root.display());
    let top = File::open(root).with_context(context)?;
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = File::from(openat2(&top, path, how).with_context(context)?);
    if !file.metadata().with_context(context)?.is_file() {
        return Err(anyhow!("it is no regular file")).with_context(context);
    }
    Ok(file)
}

/// Writes a file below `root` in a folder that exists there, or whose parent does; an older file goes first.
///
/// # Errors
/// When the folder's parent does not exist, or the disk is full.
pub fn write(root: &Path, path: &str, content: &[u8], mode: u32, owner: (u32, u32)) -> anyhow::Result<()> {
    let context = || format!("writing {path} in {}", root.display());
    let top = File::open(root).with_context(context)?;
    let (folder, name) = path.rsplit_once('/').with_context(context)?;
    let folder = open_folder(&top, folder, owner).with_context(context)?;
    match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error).with_context(context),
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(&folder, name, flags, Mode::from_bits_truncate(0o600)).with_context(context)?);
    file.write_all(content).with_context(context)?;
    fchown(&file, Some(owner.0), Some(owner.1)).with_context(context)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode)).with_context(context)
}

/// Opens a folder; if only its last part is missing, it is made for the owner alone.
fn open_folder(top: &File, folder: &str, owner: (u32, u32)) -> nix::Result<OwnedFd> {
    let open = |path: &str| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat2(top, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT))
    };
    let folder = if folder.is_empty() { "/" } else { folder };
    match open(folder) {
        Err(nix::errno::Errno::ENOENT) => {
            let (parent, name) = folder.rsplit_once('/').unwrap_or(("/", folder));
            let parent = open(if parent.is_empty() { "/" } else { parent })?;
            mkdirat(&parent, name, Mode::from_bits_truncate(0o700))?;
            let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            fchownat(&parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            open(folder)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_never_leads_out_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
        for path in [&root, &outside] {
            std::fs::create_dir_all(path.join("etc")).unwrap();
        }
        std::fs::write(outside.join("etc/hosts"), "untouched").unwrap();
        std::os::unix::fs::symlink(outside.join("etc/hosts"), root.join("etc/hosts")).unwrap();
        std::os::unix::fs::symlink(outside.join("etc"), root.join("link")).unwrap();
        let me = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        write(&root, "/etc/hosts", b"new", 0o644, me).unwrap();
        assert!(
            write(&root, "/link/hosts", b"bad", 0o644, me).is_err() || !outside.join("etc/hosts").exists() || {
                std::fs::read_to_string(outside.join("etc/hosts")).unwrap() == "untouched"
            }
        );
        assert_eq!(read(&root, "/etc/hosts").unwrap(), "new");
        assert_eq!(std::fs::read_to_string(outside.join("etc/hosts")).unwrap(), "untouched");
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("passwd"), Mode::S_IRWXU).unwrap();
        let error = format!("{:#}", read(folder.path(), "/passwd").unwrap_err());
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn a_missing_folder_is_made_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let me = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        write(folder.path(), "/.ssh/key", b"x", 0o600, me).unwrap();
        let mode = std::fs::metadata(folder.path().join(".ssh")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert!(write(folder.path(), "/no/such/file", b"x", 0o600, me).is_err());
    }
}
