//! Mounts, made with mount(2) in the caller's mount namespace.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// Puts the calling process in a mount namespace of its own, whose mounts never show on the host.
///
/// # Errors
/// Without root.
pub fn leave_the_hosts_namespace() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
        .context("making the mounts private")
}

/// Mounts a tmpfs of bounded size.
///
/// # Errors
/// When the folder does not exist, or without root.
pub fn tmpfs(path: &Path, size_bytes: u64, mode: u32, owner: (u32, u32)) -> anyhow::Result<()> {
    let options = format!("size={size_bytes},mode={mode:o},uid={},gid={}", owner.0, owner.1);
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .with_context(|| format!("mounting a tmpfs of {size_bytes} bytes at {}", path.display()))
}

/// Mounts an overlay; `lowers` lowest first.
///
/// # Errors
/// When a folder does not exist, a path has a ':' or ',', or without root.
pub fn overlay(path: &Path, lowers: &[PathBuf], upper: &Path, work: &Path) -> anyhow::Result<()> {
    let mut options = String::from("lowerdir=");
    for (place, lower) in lowers.iter().rev().enumerate() {
        let _ = write!(options, "{}{}", if place == 0 { "" } else { ":" }, lower.display());
    }
    let _ = write!(options, ",upperdir={},workdir={}", upper.display(), work.display());
    let unusable = |path: &&Path| path.to_string_lossy().contains([':', ',', '\\']);
    if let Some(path) = lowers.iter().map(PathBuf::as_path).chain([upper, work]).find(unusable) {
        bail!("{}: an overlay cannot use a path with ':', ',' or '\\'", path.display());
    }
    mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("mounting an overlay at {} ({options})", path.display()))
}

/// Detaches a mount; a path that is no mount point, or does not exist, is fine.
///
/// # Errors
/// Without root.
pub fn detach(path: &Path) -> anyhow::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
}

/// Whether something is mounted at a path in the caller's mount namespace, on another device than the folder it is in.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    device(path).is_some_and(|own| path.parent().and_then(device).is_some_and(|above| above != own))
}

/// Bounds how many files a tmpfs takes that is mounted at a path in the caller's mount namespace.
///
/// # Errors
/// When it has more already, or another file system is mounted there, or none.
pub fn set_inodes(path: &Path, inodes: u64) -> anyhow::Result<()> {
    let context = || format!("giving {} room for {inodes} files", path.display());
    if statfs(path).with_context(context)?.filesystem_type() != TMPFS_MAGIC {
        return Err(anyhow!("it is no tmpfs")).with_context(context);
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("nr_inodes={inodes}");
    mount(None::<&str>, path, None::<&str>, flags, Some(options.as_str())).with_context(context)
}

/// Shows a file or folder at another place too.
///
/// # Errors
/// When one of the two does not exist, or without root.
pub fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("binding {} to {}", source.display(), target.display()))
}
