//! Reads and writes of the loop devices behind a container's volumes. The counters of cgroups do not suffice: version 1 counts a write for
//! the cgroup that made it only where the write was not delayed, and kernels since 6.10 count only on devices that were throttled once.

use std::fs::File;
use std::path::Path;

use crate::host::cgroup::{DiskCounted, text_of};

/// Bytes of a sector, the unit that the kernel counts in, whatever the size of the device's own blocks.
const SECTOR_BYTES: u64 = 512;

/// Loop devices of one container's volumes, with their counters in files that are kept open.
#[derive(Debug)]
pub struct VolumeDisks {
    init_pid: i32,
    volumes: Vec<(String, Seat)>,
    total: DiskCounted,
}

/// Storage of a volume.
#[derive(Debug)]
enum Seat {
    /// Unknown: not mounted yet, or its device was taken away.
    Unknown,
    /// Memory: the volume is a tmpfs.
    NoDisk,
    Loop(LoopDevice),
}

#[derive(Debug)]
struct LoopDevice {
    /// The device's `backing_file`, which can be read only as long as the device has the file that it had when this was opened: after that,
    /// its number may be another container's.
    backing: File,
    stat: File,
    last: DiskCounted,
}

impl VolumeDisks {
    /// Opens the counters of the volumes that are mounted at these paths in the container whose first process is `init_pid`. Counts begin
    /// now.
    #[must_use]
    pub fn open(init_pid: i32, paths: &[&str]) -> Self {
        let volumes = paths.iter().map(|path| ((*path).to_owned(), Seat::Unknown)).collect();
        let mut disks = Self { init_pid, volumes, total: DiskCounted::default() };
        disks.read();
        disks
    }

    /// Returns the reads and writes of all these devices since they were opened. A volume that moved to another device is counted there
    /// from then on.
    pub fn read(&mut self) -> DiskCounted {
        for (_, seat) in &mut self.volumes {
            let Seat::Loop(device) = seat else { continue };
            match device.counted() {
                Some(now) => {
                    self.total = plus(self.total, now, device.last);
                    device.last = now;
                }
                None => *seat = Seat::Unknown,
            }
        }
        if self.volumes.iter().any(|(_, seat)| matches!(seat, Seat::Unknown)) {
            let mountinfo = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.init_pid)).unwrap_or_default();
            for (path, seat) in self.volumes.iter_mut().filter(|(_, seat)| matches!(seat, Seat::Unknown)) {
                *seat = Seat::of(&mountinfo, path);
            }
        }
        self.total
    }
}

impl Seat {
    fn of(mountinfo: &str, path: &str) -> Self {
        match device_at(mountinfo, path) {
            None => Self::Unknown,
            Some(device) if !device.starts_with("7:") => Self::NoDisk,
            Some(device) => LoopDevice::open(&device).map_or(Self::Unknown, Self::Loop),
        }
    }
}

impl LoopDevice {
    fn open(device: &str) -> Option<Self> {
        let folder = Path::new("/sys/dev/block").join(device);
        let open = |name: &str| File::open(folder.join(name)).ok();
        let mut device =
            Self { backing: open("loop/backing_file")?, stat: open("stat")?, last: DiskCounted::default() };
        device.last = device.counted()?;
        Some(device)
    }

    fn counted(&self) -> Option<DiskCounted> {
        let counted = parse_stat(&text_of(&self.stat).ok()?)?;
        // After it: the device was this one's all along.
        text_of(&self.backing).ok()?;
        Some(counted)
    }
}

fn plus(total: DiskCounted, now: DiskCounted, last: DiskCounted) -> DiskCounted {
    DiskCounted {
        read_bytes: total.read_bytes + now.read_bytes.saturating_sub(last.read_bytes),
        written_bytes: total.written_bytes + now.written_bytes.saturating_sub(last.written_bytes),
        read_ops: total.read_ops + now.read_ops.saturating_sub(last.read_ops),
        write_ops: total.write_ops + now.write_ops.saturating_sub(last.write_ops),
    }
}

/// Returns the device number of what is mounted at a path, such as `7:3`: the last of several mounts hides the others.
fn device_at(mountinfo: &str, path: &str) -> Option<String> {
    let mut mounts = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.rfind(|words| words.get(4) == Some(&path)).and_then(|words| words.get(2).map(ToString::to_string))
}

/// Parses `stat` of a block device: requests, merged ones, sectors and time for reading, then the same for writing.
fn parse_stat(text: &str) -> Option<DiskCounted> {
    let numbers: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [read_ops, _, read_sectors, _, write_ops, _, written_sectors, ..] = numbers[..] else { return None };
    Some(DiskCounted {
        read_bytes: read_sectors.saturating_mul(SECTOR_BYTES),
        written_bytes: written_sectors.saturating_mul(SECTOR_BYTES),
        read_ops,
        write_ops,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counters_of_a_device() {
        let text =
            "    6046      488    75254     2006   167275   257303 20823142   180915        0    39296   194337\n";
        let expected = DiskCounted {
            read_bytes: 75_254 * 512,
            written_bytes: 20_823_142 * 512,
            read_ops: 6046,
            write_ops: 167_275,
        };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("1 2 3"), None);
    }

    #[test]
    fn a_volume_is_what_was_mounted_last_at_its_place() {
        let mountinfo = "20 1 0:50 / / rw - overlay none rw\n\
                         21 20 7:3 / /data rw - ext4 /dev/loop3 rw\n\
                         22 20 0:51 / /data/below rw - tmpfs none rw\n\
                         23 20 7:5 / /data rw - ext4 /dev/loop5 rw\n";
        assert_eq!(device_at(mountinfo, "/data").as_deref(), Some("7:5"));
        assert_eq!(device_at(mountinfo, "/data/below").as_deref(), Some("0:51"));
        assert_eq!(device_at(mountinfo, "/srv"), None);
        assert!(matches!(Seat::of(mountinfo, "/data/below"), Seat::NoDisk));
        assert!(matches!(Seat::of(mountinfo, "/srv"), Seat::Unknown));
        assert!(matches!(Seat::of("1 1 7:9999 / /data rw - ext4 /dev/x rw", "/data"), Seat::Unknown));
    }

    #[test]
    fn another_device_never_makes_the_total_less() {
        let counted = |written_bytes| DiskCounted { written_bytes, ..DiskCounted::default() };
        assert_eq!(plus(counted(100), counted(70), counted(50)), counted(120));
        assert_eq!(plus(counted(100), counted(20), counted(50)), counted(100));
    }

    #[test]
    fn a_container_without_volumes_has_nothing_to_write_to() {
        let mut disks = VolumeDisks::open(i32::try_from(std::process::id()).unwrap(), &[]);
        assert_eq!(disks.read(), DiskCounted::default());
    }
}
