//! Checks of memory, disk and processors.

use super::facts::{Facts, Place};
use super::finding::{Finding, Group};
use crate::host::patience::Patience;

const GB: u64 = 1_000_000_000;
const MB: u64 = 1_000_000;
/// Minimum memory of a machine: 4 GB, less what firmware and kernel keep for themselves.
const MEMORY_TOTAL_MIN_BYTES: u64 = 3_600 * MB;
/// Memory that a small lab needs.
const MEMORY_AVAILABLE_LEAST_BYTES: u64 = 500 * MB;
/// Memory that a lab of three machines with a database and a web server needs.
const MEMORY_AVAILABLE_MIN_BYTES: u64 = 1_500 * MB;
/// Minimum number of inotify instances for a user, which is the kernel's usual setting. All containers share it: their root is one user.
const INOTIFY_MIN: u64 = 128;
/// Minimum number of free inodes: layers are trees of many small files.
const INODES_MIN: u64 = 200_000;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let layers = Room { least_bytes: GB, enough_bytes: 5 * GB, what: "layers" };
    let state = Room { least_bytes: 4 * MB, enough_bytes: 64 * MB, what: "locks, ledgers and sockets" };
    let target = Room { least_bytes: GB / 2, enough_bytes: 3 * GB, what: "builds and runs" };
    vec![
        facts.memory(),
        facts.memory_available(),
        facts.processors(),
        facts.patience(),
        facts.room("disk-layers", &facts.layers, &layers),
        facts.room("disk-state", &facts.state, &state),
        facts.room("disk-target", &facts.target, &target),
        facts.inotify(),
    ]
}

/// Free space that a folder of the engine must have.
struct Room {
    /// Minimum; less is a failure.
    least_bytes: u64,
    /// Recommended amount; less is a warning.
    enough_bytes: u64,
    what: &'static str,
}

/// Formats a size for people, in decimal units.
fn size(bytes: u64) -> String {
    if bytes >= GB { format!("{}.{} GB", bytes / GB, bytes % GB / (GB / 10)) } else { format!("{} MB", bytes / MB) }
}

impl Facts {
    fn memory(&self) -> Finding {
        let (group, check, total) = (Group::Resources, "memory", self.memory_total_bytes);
        if total < MEMORY_TOTAL_MIN_BYTES {
            let help = "give the machine 4 GB of memory, or lower the limits in containers/*/template.toml";
            return Finding::warning(group, check, format!("{} in all: less than 4 GB", size(total)), help);
        }
        Finding::ok(group, check, format!("{} in all", size(total)))
    }

    fn patience(&self) -> Finding {
        let Patience { factor, process_start } = self.patience;
        let start = process_start
            .map_or_else(String::new, |start| format!("a program starts in {:.2} ms: ", start.as_secs_f64() * 1e3));
        let seen = if factor == 1.0 {
            format!("{start}no deadline is lengthened")
        } else {
            format!("{start}all deadlines are multiplied by {factor}")
        };
        Finding::ok(Group::Resources, "patience", seen)
    }

    fn memory_available(&self) -> Finding {
        let (group, check) = (Group::Resources, "memory-available");
        let seen = format!("{} available", size(self.memory_available_bytes));
        let help = "end programs that hold memory; this lists them: ps -e -o pid,rss,comm --sort -rss | head";
        if self.memory_available_bytes < MEMORY_AVAILABLE_LEAST_BYTES {
            Finding::failure(group, check, seen, help)
        } else if self.memory_available_bytes < MEMORY_AVAILABLE_MIN_BYTES {
            Finding::warning(group, check, seen, help)
        } else {
            Finding::ok(group, check, seen)
        }
    }

    fn processors(&self) -> Finding {
        let (group, check) = (Group::Resources, "processors");
        let seen = format!("{}, load {:.1}", self.processors, self.load);
        #[expect(clippy::cast_precision_loss, reason = "a count of processors is small")]
        let is_busy = self.load > 2.0 * self.processors as f64;
        if is_busy {
            let help = "end other programs that keep the processors busy; this lists them: ps -e -o pid,pcpu,comm --sort -pcpu | head";
            return Finding::warning(group, check, format!("{seen}: measured times will be too long"), help);
        }
        Finding::ok(group, check, seen)
    }

    fn room(&self, check: &'static str, place: &Place, room: &Room) -> Finding {
        let group = Group::Resources;
        let path = place.path.display();
        let kind = if place.is_tmpfs { " (tmpfs)" } else { "" };
        let seen = format!("{} free in {path}{kind} for {}", size(place.free_bytes), room.what);
        let help = if place.is_tmpfs {
            let size_megabytes = (place.used_bytes + room.enough_bytes) / MB;
            self.as_root(&format!("mount -o remount,size={size_megabytes}M {}", place.mount_point.display()))
        } else if check == "disk-layers" {
            format!("cargo xtask image prune, or free {} in {path}", size(room.enough_bytes))
        } else {
            format!("free {} in {path}", size(room.enough_bytes))
        };
        if place.free_bytes < room.least_bytes {
            Finding::failure(group, check, seen, help)
        } else if place.free_bytes < room.enough_bytes {
            Finding::warning(group, check, seen, help)
        } else if let Some(inodes) = place.free_inodes.filter(|inodes| *inodes < INODES_MIN && !place.is_tmpfs) {
            let seen = format!("only {inodes} inodes free in {path}");
            Finding::warning(group, check, seen, format!("delete files in {path}"))
        } else {
            Finding::ok(group, check, seen)
        }
    }

    fn inotify(&self) -> Finding {
        let (group, check) = (Group::Resources, "inotify");
        match self.inotify_instances_max {
            Some(max) if max < INOTIFY_MIN => {
                let seen = format!("at most {max} inotify instances per user: few containers with systemd will start");
                Finding::warning(
                    group,
                    check,
                    seen,
                    self.on_the_machine("sysctl -w fs.inotify.max_user_instances=1024"),
                )
            }
            Some(max) => Finding::ok(group, check, format!("at most {max} inotify instances per user")),
            None => Finding::warning(group, check, "not in this kernel", "boot a kernel with CONFIG_INOTIFY_USER"),
        }
    }
}
