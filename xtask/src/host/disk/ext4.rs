//! ext4 file systems on loop images: mounts, the loop device below one, damage to it, and repair.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{major, minor};

use crate::host::exec::shell::Command;

/// Device by which the kernel hands out loop devices.
const LOOP_CONTROL: &str = "/dev/loop-control";

/// Flag of a loop device that is freed once no process uses it any more, whatever has become of the process that set it up.
const LOOP_AUTOCLEAR: u32 = 4;

/// Maximum number of requests for a free loop device, as another process may take each first.
const LOOP_TRIES: usize = 16;

/// Bits of e2fsck's status that mean that the file system was repaired.
const FSCK_MENDED: i32 = 1 | 2;

/// Mode of a file system's shutdown in which data that was not written to the device yet is lost.
const SHUTDOWN_WITHOUT_FLUSH: u32 = 2;

nix::ioctl_none_bad!(loop_get_free, 0x4c82);
nix::ioctl_write_ptr_bad!(loop_configure, 0x4c0a, LoopConfig);
nix::ioctl_write_ptr_bad!(ext4_shutdown, 0x8004_587d, u32);

/// `struct loop_config` of the kernel; its unnamed fields stay 0.
#[derive(Debug)]
#[repr(C)]
pub struct LoopConfig {
    file: u32,
    block_size_and_numbers: [u32; 14],
    flags: u32,
    names_and_keys: [u32; 60],
}

/// Loop device of an image, below a mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopDevice {
    /// Major and minor number of the device.
    pub number: (u64, u64),
    name: String,
}

impl LoopDevice {
    /// Returns the device below the file system mounted at a path. Any other than a loop device of this image is refused, as it is not the
    /// engine's to damage.
    pub fn below(path: &Path, image: &Path) -> anyhow::Result<Self> {
        let device = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?.dev();
        let number = (major(device), minor(device));
        let place = PathBuf::from(format!("/sys/dev/block/{}:{}", number.0, number.1));
        let backing = fs::read_to_string(place.join("loop/backing_file")).unwrap_or_default();
        ensure!(
            Path::new(backing.trim_end()) == image,
            "{} does not lie on the image {}, but on device {}:{} ({:?}): left alone",
            path.display(),
            image.display(),
            number.0,
            number.1,
            backing.trim_end()
        );
        let place = fs::canonicalize(&place).with_context(|| format!("resolving {}", place.display()))?;
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { number, name })
    }

    /// Makes the kernel report an error of the file system on this device, on purpose.
    pub fn trigger_error(&self) -> anyhow::Result<()> {
        let path = format!("/sys/fs/ext4/{}/trigger_fs_error", self.name);
        let mut file = File::options().write(true).open(&path).with_context(|| format!("opening {path}"))?;
        file.write_all(b"fault on purpose\n").with_context(|| format!("writing {path}"))
    }

    /// Writes out the kernel's cached data of this device. Errors are ignored: a damaged device is expected to have some.
    pub fn flush(&self) {
        if let Ok(device) = File::open(Path::new("/dev").join(&self.name)) {
            let _ = device.sync_all();
        }
    }
}

/// Shuts down the file system mounted at `top`, without writing out cached data: from now on each access to it fails.
pub fn shut_down(top: &Path) -> anyhow::Result<()> {
    let context = || format!("shutting down the file system of {}", top.display());
    let folder = File::open(top).with_context(context)?;
    // SAFETY: the kernel reads a number of 4 bytes, which is what is behind the pointer.
    unsafe { ext4_shutdown(folder.as_raw_fd(), &SHUTDOWN_WITHOUT_FLUSH) }.with_context(context)?;
    Ok(())
}

/// Checks the file system of an image that is not in use, and repairs it.
///
/// # Errors
/// With the output of e2fsck, when the file system could not be repaired.
pub fn check(image: &Path) -> anyhow::Result<()> {
    let output = Command::new("e2fsck").arg("-y").arg(image).output()?;
    if output.status & !FSCK_MENDED != 0 {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("e2fsck could not repair {} (status {}): {}\n{said}", image.display(), output.status, output.text());
    }
    Ok(())
}

/// Mounts the file system of an image on a new loop device. Unlike mount(8), it does not reuse a device that an earlier mount of the image
/// still holds, with the damage it has.
pub fn mount_image(image: &Path, path: &Path) -> anyhow::Result<()> {
    let context = || format!("mounting {} at {}", image.display(), path.display());
    let file = File::options().read(true).write(true).open(image).with_context(context)?;
    // Held open until the mount holds it.
    let (_device, name) = attach(&file).with_context(context)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(&name), path, Some("ext4"), flags, None::<&str>).with_context(context)
}

/// Reason why no ext4 image can be mounted on this host; `None` where none is known. Nothing is mounted.
#[must_use]
pub fn problem() -> Option<String> {
    // Without a source the kernel gets as far as looking for one, if it has this file system and gives it to this root.
    match mount(Some(""), "/", Some("ext4"), MsFlags::MS_RDONLY, None::<&str>) {
        Err(Errno::EPERM) => return Some("an unprivileged container cannot mount ext4".into()),
        Err(Errno::ENODEV) => return Some("the kernel has no ext4".into()),
        _ => {}
    }
    free_device().err().map(|error| format!("no loop device is available: {error:#}"))
}

fn free_device() -> anyhow::Result<(File, PathBuf)> {
    let control = File::options().read(true).write(true).open(LOOP_CONTROL);
    let control = control.with_context(|| format!("opening {LOOP_CONTROL}"))?;
    // SAFETY: it takes no argument.
    let number = unsafe { loop_get_free(control.as_raw_fd()) }.context("asking for a free loop device")?;
    let name = PathBuf::from(format!("/dev/loop{number}"));
    let device = File::options().read(true).write(true).open(&name);
    Ok((device.with_context(|| format!("opening {}", name.display()))?, name))
}

fn attach(file: &File) -> anyhow::Result<(File, PathBuf)> {
    let config = LoopConfig {
        file: file.as_raw_fd().cast_unsigned(),
        block_size_and_numbers: [0; 14],
        flags: LOOP_AUTOCLEAR,
        names_and_keys: [0; 60],
    };
    for _ in 0..LOOP_TRIES {
        let (device, name) = free_device()?;
        // SAFETY: the kernel reads a `struct loop_config`, which is what is behind the pointer.
        match unsafe { loop_configure(device.as_raw_fd(), &raw const config) } {
            Ok(_) => return Ok((device, name)),
            Err(Errno::EBUSY) => {} // another process was faster
            Err(error) => return Err(error).with_context(|| format!("setting up {}", name.display())),
        }
    }
    bail!("each of {LOOP_TRIES} free loop devices was taken by another process before it could be attached")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_loop_device_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(size_of::<LoopConfig>(), 304);
        // After the file and the block size: five numbers of 8 bytes, then three of 4.
        assert_eq!(std::mem::offset_of!(LoopConfig, flags), 8 + 5 * 8 + 3 * 4);
    }

    #[test]
    fn a_file_system_of_the_host_is_refused() {
        for path in ["/", "/proc", "/tmp"] {
            let error = LoopDevice::below(Path::new(path), Path::new("/run/mancer-e2e/x/0.img")).unwrap_err();
            assert!(error.to_string().contains("left alone"), "{error}");
        }
        assert!(LoopDevice::below(Path::new("/proc"), Path::new("")).is_err());
    }

    #[test]
    fn what_is_no_file_system_is_not_mended() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("x.img");
        fs::write(&image, vec![0; 1 << 16]).unwrap();
        let error = check(&image).unwrap_err().to_string();
        assert!(error.contains("could not repair"), "{error}");
    }
}
