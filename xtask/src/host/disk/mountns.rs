//! Mount namespaces of other processes, and changes of the mounts in them from outside.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

/// Flag of open_tree(2) that creates a new mount of the path.
const OPEN_TREE_CLONE: libc::c_long = 1;

/// Flag of move_mount(2) by which the descriptor itself names the mount.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_long = 4;

#[derive(Debug)]
pub struct MountNamespace {
    file: File,
}

impl MountNamespace {
    /// Opens the namespace of a process in a container.
    ///
    /// # Errors
    /// When the process has the caller's own mounts or the host's, which must not be changed. A program that is just being let into a
    /// container has them until it is inside.
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let it = Self::of_process(pid)?;
        ensure!(
            !it.is_that_of("self"),
            "process {pid} is in the engine's own mount namespace, which must not be changed"
        );
        ensure!(!it.is_that_of("1"), "process {pid} is in the host's own mount namespace, which must not be changed");
        Ok(it)
    }

    /// Opens the namespace of a lab's guard, or of a process that the guard has started; never the host's.
    pub fn of_guard(pid: i32) -> anyhow::Result<Self> {
        let it = Self::of_process(pid)?;
        ensure!(!it.is_that_of("1"), "process {pid} is in the host's own mount namespace, which must not be changed");
        Ok(it)
    }

    fn of_process(pid: i32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/ns/mnt");
        Ok(Self { file: File::open(&path).with_context(|| format!("opening {path}"))? })
    }

    fn is_that_of(&self, process: &str) -> bool {
        let number = |metadata: io::Result<Metadata>| metadata.map(|metadata| metadata.ino()).ok();
        let other = number(std::fs::metadata(format!("/proc/{process}/ns/mnt")));
        other.is_some() && other == number(self.file.metadata())
    }

    /// Opens the namespaces of processes in a container, each once, in their order. Processes that are gone, or have the host's or the
    /// caller's namespace, are left out.
    #[must_use]
    pub fn all_of(pids: &[i32]) -> Vec<Self> {
        let mut known = HashSet::new();
        let found = pids.iter().filter_map(|pid| Self::of(*pid).ok());
        found.filter(|it| it.file.metadata().is_ok_and(|metadata| known.insert(metadata.ino()))).collect()
    }

    /// Runs work in a thread whose root and mounts are those of this namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("inside".into()).spawn_scoped(scope, || {
                // Root and working folder belong to all threads of a process until one has its own.
                unshare(CloneFlags::CLONE_FS).context("unsharing the working folder from other threads")?;
                self.enter()?;
                work()
            })?;
            thread.join().unwrap_or_else(|_| Err(anyhow!("a thread in a mount namespace panicked")))
        })
    }

    fn enter(&self) -> anyhow::Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNS).context("entering a mount namespace")
    }

    /// Returns the number of the device that a path of this namespace lies on.
    pub fn device_of(&self, path: &Path) -> anyhow::Result<u64> {
        self.inside(|| Ok(std::fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?.dev()))
    }

    /// Forbids writing below this mount point. Other mounts of the same file system are not touched.
    ///
    /// # Errors
    /// `EBUSY` while a file there is open for writing.
    pub fn forbid_writing(&self, path: &Path) -> anyhow::Result<()> {
        self.inside(|| remount(path, |flags| flags | MsFlags::MS_RDONLY))
    }

    /// Allows writing below this mount point.
    pub fn allow_writing(&self, path: &Path) -> anyhow::Result<()> {
        self.inside(|| remount(path, |flags| flags - MsFlags::MS_RDONLY))
    }

    /// Limits the number of files of a tmpfs.
    ///
    /// # Errors
    /// When the tmpfs has more files already, or the path is no mount point of a tmpfs.
    pub fn set_inodes(&self, path: &Path, inodes: u64) -> anyhow::Result<()> {
        self.inside(|| super::mount::set_inodes(path, inodes))
    }

    /// Shows what is mounted at `source` in this namespace at `target` in the other one. An older mount at `target` is covered, not
    /// removed: a program that starts after the removal would find the empty folder, or the files of a mount below.
    pub fn show_in(&self, source: &Path, other: &Self, target: &Path) -> anyhow::Result<()> {
        self.inside(|| {
            let tree = cloned(source).with_context(|| format!("cloning the mount of {}", source.display()))?;
            other.enter()?;
            attach(&tree, target).with_context(|| format!("mounting at {}", target.display()))
        })
    }
}

/// Changes some flags of a mount and keeps its other flags: the kernel refuses to drop those that a namespace with fewer rights inherited.
fn remount(path: &Path, change: impl FnOnce(MsFlags) -> MsFlags) -> anyhow::Result<()> {
    let now = statvfs(path).with_context(|| format!("looking at {}", path.display()))?.flags();
    let pairs = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept = pairs.iter().filter(|(seen, _)| now.contains(*seen)).fold(MsFlags::empty(), |all, (_, it)| all | *it);
    let flags = change(kept) | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("changing the mount at {}", path.display()))
}

/// Returns a new mount of a folder, which is attached nowhere yet.
pub fn cloned(source: &Path) -> io::Result<OwnedFd> {
    let source = CString::new(source.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::c_long::from(libc::O_CLOEXEC);
    // SAFETY: the path is a string that ends with a zero byte and lives until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a mount that [`cloned`] has returned.
pub fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    let flags = MOVE_MOUNT_F_EMPTY_PATH;
    // SAFETY: both paths are strings that end with a zero byte and live until the call returns.
    let moved = unsafe {
        libc::syscall(libc::SYS_move_mount, tree.as_raw_fd(), c"".as_ptr(), libc::AT_FDCWD, target.as_ptr(), flags)
    };
    if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs work in a thread that has entered the mount namespace of another process: paths begin at the root of that namespace.
///
/// # Errors
/// When the process has the caller's own mounts, which must not be changed.
pub fn inside<T: Send>(pid: i32, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    MountNamespace::of(pid)?.inside(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_mounts_are_left_alone() {
        let own = std::process::id().cast_signed();
        assert!(MountNamespace::of(own).unwrap_err().to_string().contains("the engine's own mount namespace"));
        assert!(MountNamespace::all_of(&[own, i32::MAX]).is_empty(), "a process that is gone has none either");
    }
}
