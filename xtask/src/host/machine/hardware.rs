//! Hardware and versions of the machine, for reports.

use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

use crate::host::exec::shell::Command;

/// Text for a property that cannot be found out.
pub const UNKNOWN: &str = "unknown";

/// Returns the model name of this machine's processors.
#[must_use]
pub fn cpu_model() -> String {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()));
    let model = system.ok().and_then(|system| system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()));
    model.filter(|model| !model.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Returns the number of processors that this process may use, within the limit of its processor time.
#[must_use]
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// Returns the number of processors on which this process may run, however little time it is granted on them.
#[must_use]
pub fn processors() -> usize {
    let set = sched_getaffinity(Pid::from_raw(0));
    set.map_or(1, |set| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count().max(1))
}

/// Returns the kernel's release, such as `6.1.0-18-amd64`.
#[must_use]
pub fn kernel() -> String {
    System::kernel_version().unwrap_or_else(|_| UNKNOWN.to_owned())
}

#[must_use]
pub fn lxc_version() -> String {
    let output = Command::new("lxc-start").arg("--version").run();
    output.map_or_else(|_| UNKNOWN.to_owned(), |output| output.text())
}

/// Describes the storage of a folder: kind of file system, device, and kind of disk, such as `ext4 on vda (solid state)`.
#[must_use]
pub fn storage(folder: &Path) -> String {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some((kind, device, name)) = mount_of(&mountinfo, folder) else { return UNKNOWN.to_owned() };
    // A partition has the queue of its disk.
    let block = Path::new("/sys/dev/block").join(&device);
    let rotational = ["queue/rotational", "../queue/rotational"];
    let rotational = rotational.iter().find_map(|file| std::fs::read_to_string(block.join(file)).ok());
    match rotational.as_deref().map(str::trim) {
        Some("0") => format!("{kind} on {name} (solid state)"),
        Some(_) => format!("{kind} on {name} (rotating)"),
        None => kind,
    }
}

/// Returns the kind of file system, the device numbers and the device name of the mount that a folder lies on.
fn mount_of(mountinfo: &str, folder: &Path) -> Option<(String, String, String)> {
    let mut found: Option<(usize, (String, String, String))> = None;
    for line in mountinfo.lines() {
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let (mount, kind): (Vec<&str>, Vec<&str>) = (mount.split(' ').collect(), kind.split(' ').collect());
        let (&[_, _, device, _, point, ..], &[kind, source, ..]) = (&mount[..], &kind[..]) else { continue };
        // The last of those mounted at one place is the one that is seen.
        if folder.starts_with(point) && found.as_ref().is_none_or(|(length, _)| point.len() >= *length) {
            let name = source.rsplit('/').next().unwrap_or(source);
            found = Some((point.len(), (kind.to_owned(), device.to_owned(), name.to_owned())));
        }
    }
    found.map(|(_, mount)| mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lies_on_the_deepest_and_last_mount() {
        let mountinfo = "20 1 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                         21 20 0:5 / /var/lib rw - tmpfs tmpfs rw\n\
                         22 20 8:1 / /var/lib rw - xfs /dev/sda1 rw\n\
                         23 20 0:6 / /var/library rw - tmpfs tmpfs rw\n";
        let found = |path: &str| mount_of(mountinfo, Path::new(path)).map(|(kind, device, name)| [kind, device, name]);
        assert_eq!(found("/var/lib/mancer-e2e"), Some(["xfs", "8:1", "sda1"].map(String::from)));
        assert_eq!(found("/home"), Some(["ext4", "254:0", "vda"].map(String::from)));
        assert_eq!(mount_of("", Path::new("/")), None);
    }

    #[test]
    fn this_machine_says_what_it_is() {
        assert!(cores() > 0 && processors() >= cores() as usize);
        assert_ne!(kernel(), UNKNOWN);
        assert!(!cpu_model().is_empty() && !storage(Path::new("/")).is_empty());
    }
}
