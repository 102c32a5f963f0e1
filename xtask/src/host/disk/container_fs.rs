//! Files below a container's root: paths are resolved inside it, so that a symbolic link there never leads out.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};

/// Maximum size of a file that [`read`] takes, in bytes: it is for configuration, not for data.
const READ_BYTES_MAX: u64 = 4 << 20;

/// Reads a small file below `root`, such as `/etc/passwd`.
///
/// # Errors
/// When it is no regular file or is larger than 4 MiB.
pub fn read(root: &Path, path: &str) -> anyhow::Result<String> {
    let context = || format!("reading {path} in {}", root.display());
    let top = File::open(root).with_context(context)?;
    // Without waiting: the container may have put a pipe there that nobody writes to.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = File::from(openat2(&top, path, how).with_context(context)?);
    let metadata = file.metadata().with_context(context)?;
    if !metadata.is_file() || metadata.len() > READ_BYTES_MAX {
        return Err(anyhow!("the file is not a regular one, or is larger than {} MiB", READ_BYTES_MAX >> 20))
            .with_context(context);
    }
    let mut text = String::new();
    file.take(READ_BYTES_MAX).read_to_string(&mut text).with_context(context)?;
    Ok(text)
}

/// Tells whether a file, folder or other entry exists at a path below `root`.
#[must_use]
pub fn exists(root: &Path, path: &str) -> bool {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    File::open(root).is_ok_and(|top| openat2(&top, path, how).is_ok())
}

/// Opens a folder below `root`; `None` where the path does not exist, or is not a folder.
pub fn folder(root: &Path, path: &str) -> anyhow::Result<Option<OwnedFd>> {
    let context = || format!("opening {path} in {}", root.display());
    let top = File::open(root).with_context(context)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match openat2(&top, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT)) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error).with_context(context),
    }
}

/// Entry of a tree: a file, a folder or a link itself.
#[derive(Debug)]
pub struct Named {
    /// Metadata of the entry itself, not of a link's target.
    pub metadata: Metadata,
    /// Target, where the entry is a symbolic link.
    pub leads_to: Option<PathBuf>,
}

/// Returns the entry at a path below `root`, following no symbolic link; `None` where there is no entry, or a link on the way.
#[must_use]
pub fn look(root: &Path, path: &Path) -> Option<Named> {
    let top = File::open(root).ok()?;
    let named = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let found = File::from(openat2(&top, named, OpenHow::new().flags(flags).resolve(resolve)).ok()?);
    let metadata = found.metadata().ok()?;
    let leads_to = if metadata.is_symlink() { Some(PathBuf::from(readlinkat(&found, "").ok()?)) } else { None };
    Some(Named { metadata, leads_to })
}

/// Opens a regular file below `root` for reading, following no symbolic link and without waiting for a pipe that has taken its place.
pub fn open_in_place(root: &Path, path: &Path) -> io::Result<File> {
    let top = File::open(root)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let file = File::from(openat2(&top, path, OpenHow::new().flags(flags).resolve(resolve))?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("the file is no regular file")) }
}

/// Opens a regular file below `root` to read and change it.
pub fn open_to_change(root: &Path, path: &str) -> anyhow::Result<File> {
    let context = || format!("opening {path} in {}", root.display());
    let top = File::open(root).with_context(context)?;
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let file = File::from(openat2(&top, path, how).with_context(context)?);
    if !file.metadata().with_context(context)?.is_file() {
        return Err(anyhow!("the file is no regular file")).with_context(context);
    }
    Ok(file)
}

/// Writes a file below `root`, in place of an older one. The file's folder is made where it is missing, but not the folder's parent.
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

/// Opens a folder; if only the last part of its path is missing, the folder is made for the owner alone.
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
    fn a_folder_is_that_of_the_root_wherever_a_link_says_it_lies() {
        let home = tempfile::tempdir().unwrap();
        let (root, outside) = (home.path().join("root"), home.path().join("outside"));
        std::fs::create_dir_all(root.join("srv")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "x").unwrap();
        std::fs::write(root.join("file"), "x").unwrap();
        for (target, link) in [(outside.to_str().unwrap(), "out"), ("../outside", "up"), ("/srv", "inside")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        for path in ["/out", "/up", "/out/secret", "/none", "/file"] {
            assert!(folder(&root, path).unwrap().is_none(), "{path}");
        }
        assert!(folder(&root, "/inside").unwrap().is_some());
        assert!(look(&root, Path::new("out/secret")).is_none(), "a link on the way is not passed");
        assert_eq!(look(&root, Path::new("out")).unwrap().leads_to, Some(outside.clone()));
        assert!(look(&root, Path::new("")).unwrap().metadata.is_dir());
        assert!(look(&root, Path::new("../outside")).is_none());
        assert!(open_in_place(&root, Path::new("file")).is_ok());
        for path in ["out/secret", "out", "srv", "../outside/secret"] {
            assert!(open_in_place(&root, Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("passwd"), Mode::S_IRWXU).unwrap();
        let error = format!("{:#}", read(folder.path(), "/passwd").unwrap_err());
        assert!(error.contains("not a regular one"), "{error}");
        let error = open_in_place(folder.path(), Path::new("passwd")).unwrap_err().to_string();
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
