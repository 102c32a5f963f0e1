//! Id-mapped mounts: a tree shown with other owners than it has on the disk.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::Context as _;
use nix::libc;
use serde::{Deserialize, Serialize};

use super::userns::UserNamespace;
use crate::host::disk::mountns;

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Range of owners of a tree on the disk, and the range that they are shown as. Any other owner is shown as the user nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdMap {
    /// First id on the disk.
    pub from: u32,
    /// First id that is shown.
    pub to: u32,
    pub count: u32,
}

impl IdMap {
    /// Makes the user namespace that a mount takes its map from.
    pub fn namespace(self) -> anyhow::Result<UserNamespace> {
        UserNamespace::mapping(self.from, self.to, self.count)
            .with_context(|| format!("mapping {} ids from {} to {}", self.count, self.from, self.to))
    }
}

/// Read-only view of a tree with other owners, mounted nowhere yet. Set-id bits and devices have no effect in the view; they do in an
/// overlay on it, unless the overlay's own mount forbids it.
#[derive(Debug)]
pub struct IdMappedTree {
    mount: OwnedFd,
}

impl IdMappedTree {
    /// Creates a view of a folder, in which owners are shown by the map of `ids`.
    ///
    /// # Errors
    /// Also when the kernel or the folder's file system has no id-mapped mounts, or without root.
    pub fn of(folder: &Path, ids: &UserNamespace) -> anyhow::Result<Self> {
        let context = || format!("making an ID-mapped mount of {}", folder.display());
        let mount = mountns::cloned(folder).with_context(context)?;
        set_map(&mount, ids).with_context(context)?;
        Ok(Self { mount })
    }

    /// Mounts the view at an existing folder.
    pub fn attach(self, target: &Path) -> anyhow::Result<()> {
        mountns::attach(&self.mount, target).with_context(|| format!("mounting at {}", target.display()))
    }
}

fn set_map(mount: &OwnedFd, ids: &UserNamespace) -> io::Result<()> {
    // As `struct mount_attr`: what is set, what is cleared, the propagation, and the map.
    let attributes: [u64; 4] = [
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP,
        0,
        0,
        u64::try_from(ids.raw_fd()).map_err(io::Error::other)?,
    ];
    let size = size_of_val(&attributes);
    // SAFETY: the path is empty and ends with a zero byte; the attributes have the size that is said, and live until the call returns.
    let set = unsafe {
        let (fd, path) = (mount.as_raw_fd(), c"".as_ptr());
        libc::syscall(libc::SYS_mount_setattr, fd, path, libc::AT_EMPTY_PATH, attributes.as_ptr(), size)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
