//! Mounts, made with mount(2) in the caller's mount namespace.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::error::HostCause;

/// Puts the calling process in a mount namespace of its own, whose mounts never show on the host. Needs root.
pub fn leave_the_hosts_namespace() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("making a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)
        .context("making the mounts private")
}

/// Mounts a tmpfs of limited size. Needs root.
pub fn tmpfs(path: &Path, size_bytes: u64, mode: u32, owner: (u32, u32)) -> anyhow::Result<()> {
    let options = format!("size={size_bytes},mode={mode:o},uid={},gid={}", owner.0, owner.1);
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .with_context(|| format!("mounting a tmpfs of {size_bytes} bytes at {}", path.display()))
}

/// Mounts an overlay; `lowers` lists the lower layers, the lowest first. Needs root.
///
/// # Errors
/// Also when a path has a ':', ',' or '\', which the kernel's options cannot express.
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
    mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(options.as_str())).map_err(|errno| {
        let error = anyhow::Error::new(errno).context(format!("mounting an overlay at {} ({options})", path.display()));
        if errno == Errno::ENODEV { HostCause::Overlay.error(&error) } else { error }
    })
}

/// Tells whether mounts cover parts of this `/proc`, as a container manager or a test may make them: the kernel then refuses a container a
/// `/proc` of its own, which would show these parts. A mount on a folder that is always empty does not count.
#[must_use]
pub fn is_proc_covered() -> bool {
    covers_proc(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn covers_proc(mountinfo: &str) -> bool {
    const HARMLESS: [&str; 2] = ["/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd"];
    let mut points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.any(|point| point.starts_with("/proc/") && !HARMLESS.contains(&point))
}

/// Mounts a `/proc` of the caller's pid namespace that nothing covers. Where the host forbids it, nothing is mounted and no error is
/// returned: the program that needs `/proc` will report its lack.
pub fn proc(path: &Path) -> anyhow::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(Some("proc"), path, Some("proc"), flags, None::<&str>);
    if mounted == Err(Errno::EPERM) {
        return Ok(());
    }
    mounted.with_context(|| format!("mounting proc at {}", path.display()))
}

/// Detaches a mount; does nothing for a path that is no mount point, or does not exist.
pub fn detach(path: &Path) -> anyhow::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("unmounting {}", path.display())),
    }
}

/// Tells whether something is mounted at a path in the caller's mount namespace, on another device than the parent folder.
#[must_use]
pub fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
    device(path).is_some_and(|own| path.parent().and_then(device).is_some_and(|above| above != own))
}

/// Limits the number of files of a tmpfs that is mounted at a path in the caller's mount namespace.
///
/// # Errors
/// When the tmpfs has more files already, or the path is no mount point of a tmpfs.
pub fn set_inodes(path: &Path, inodes: u64) -> anyhow::Result<()> {
    let context = || format!("giving {} room for {inodes} files", path.display());
    if statfs(path).with_context(context)?.filesystem_type() != TMPFS_MAGIC {
        return Err(anyhow!("no tmpfs is mounted at this path")).with_context(context);
    }
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("nr_inodes={inodes}");
    mount(None::<&str>, path, None::<&str>, flags, Some(options.as_str())).with_context(context)
}

/// Shows a file or folder at another path too, by a bind mount. Needs root.
pub fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("binding {} to {}", source.display(), target.display()))
}

/// Returns what is mounted at a path for a process: for each mount the path within its file system, the lowest mount first.
pub fn roots_at(pid: i32, path: &Path) -> anyhow::Result<Vec<String>> {
    let table = format!("/proc/{pid}/mountinfo");
    let text = std::fs::read_to_string(&table).with_context(|| format!("reading {table}"))?;
    Ok(roots_in(&text, path))
}

fn roots_in(mountinfo: &str, path: &Path) -> Vec<String> {
    let plain =
        |field: &str| field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((plain(fields.next()?), plain(fields.next()?)))
    });
    mounts.filter(|(_, at)| Path::new(at) == path).map(|(root, _)| root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_at_a_path_are_found_with_what_they_show() {
        let table = "1 0 0:1 / / rw - overlay overlay rw\n\
                     2 1 0:1 /bin/.cover//deleted /opt/a\\040b rw shared:1 - overlay overlay rw\n";
        assert_eq!(roots_in(table, Path::new("/opt/a b")), ["/bin/.cover//deleted"]);
        assert_eq!(roots_in(table, Path::new("/opt/a")), Vec::<String>::new());
    }

    #[test]
    fn a_covered_proc_is_told_from_an_ordinary_one() {
        let line = |point: &str| format!("2 1 0:1 / {point} rw - proc proc rw\n");
        let ordinary = [line("/"), line("/proc"), line("/proc/sys/fs/binfmt_misc"), line("/procs/x")].concat();
        assert!(!covers_proc(&ordinary));
        assert!(covers_proc(&[ordinary, line("/proc/meminfo")].concat()));
    }
}
