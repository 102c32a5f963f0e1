//! Budgets of this host, such as memory and open files: the least that a lab needs of each, and what is left of it. Labs share them with
//! each other and with other programs. Budgets that the kernel counts only for an id, such as keys, are a lab's own where each slot has its
//! own ids; those that it also counts for the owner of a user namespace, such as inotify instances, all labs share, as root owns their
//! namespaces.

use std::fmt;
use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{InitFlags, Inotify};
use nix::sys::resource::{Resource, getrlimit};

use super::load::Memory;
use crate::host::cgroup::process_bounds;

/// inotify instances of a machine with systemd, as measured on Debian 12 with nothing but SSH: its init takes five, D-Bus and logind one
/// each. With fewer, units fail.
const INOTIFY_INSTANCES: u64 = 7;
/// inotify watches of a machine with systemd, as measured.
const INOTIFY_WATCHES: u64 = 24;
/// Keys of a machine: LXC makes a keyring for it. systemd makes one for each service, 12 in all, and goes on without keys where none are
/// left.
const KEYS: u64 = 1;
/// Processes and threads of a machine with systemd while it boots, with `lxc-start`.
const SYSTEMD_PROCESSES: u64 = 16;
/// Processes and threads of a machine without systemd, with `lxc-start` and a program that is run in it.
const PROCESSES: u64 = 4;
/// Processes and threads of the engine and its helpers, for a whole lab.
const ENGINE_PROCESSES: u64 = 24;
/// Files that the engine has open for each machine, and (`ENGINE_FILES_OF_ALL`) once for a whole lab, as measured.
const ENGINE_FILES: u64 = 7;
const ENGINE_FILES_OF_ALL: u64 = 40;
/// Files that the kernel has open for a machine.
const KERNEL_FILES: u64 = 100;

/// Amounts that a lab needs of the host's budgets, or from which they are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    pub machines: u64,
    /// Number of machines that boot systemd.
    pub systemd_machines: u64,
    /// Number of volumes on images, each of which takes a loop device.
    pub images: u64,
    /// Sum of the machines' memory limits, in bytes.
    pub memory_bytes: u64,
    /// Id on the host of root in the lab's containers.
    pub root_id: u32,
}

/// Budget that has less left than a lab needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Name of the budget, with its unit.
    pub budget: &'static str,
    /// Least amount that the lab needs.
    pub needed: u64,
    /// Amount that is left, as far as the kernel tells.
    pub left: u64,
    /// Total amount of the budget, used and left.
    pub most: u64,
    /// Setting or file that the total amount comes from.
    pub bound: String,
    /// Command or change by which more is left.
    pub help: String,
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { budget, needed, left, most, bound, .. } = self;
        write!(f, "{budget}: the lab needs at least {needed}, and {left} of {most} are left ({bound})")
    }
}

/// Returns the first budget of this host that has less left than a lab needs at least; `None` where each has enough.
#[must_use]
pub fn shortage(need: &Need) -> Option<Shortage> {
    memory(need)
        .or_else(|| inotify_instances(need))
        .or_else(|| inotify_watches(need))
        .or_else(|| keys(need))
        .or_else(|| processes(need))
        .or_else(|| processes_of_groups(need))
        .or_else(|| open_files(need))
        .or_else(|| loop_devices(need))
}

/// Checks the memory. Containers may use less than their limits, so a quarter of the limits' sum is taken to be enough.
fn memory(need: &Need) -> Option<Shortage> {
    let memory = Memory::now();
    let (needed, left) = (need.memory_bytes / 4, memory.available_bytes);
    (left < needed).then(|| Shortage {
        budget: "MiB of memory",
        needed: needed >> 20,
        left: left >> 20,
        most: memory.total_bytes >> 20,
        bound: format!("the limits of its containers add up to {} MiB", need.memory_bytes >> 20),
        help: "end other programs, or lower `memory` under [limits] in the templates".to_owned(),
    })
}

/// Checks the inotify instances by taking as many as the lab needs for a moment, because no file tells how many are in use: those of a
/// container count for the engine's own user too, who has made its user namespace, and so do those of other programs.
fn inotify_instances(need: &Need) -> Option<Shortage> {
    let needed = need.systemd_machines * INOTIFY_INSTANCES;
    let mut taken = Vec::new();
    while (taken.len() as u64) < needed {
        match Inotify::init(InitFlags::IN_CLOEXEC) {
            Ok(instance) => taken.push(instance),
            // This process may open no more files: that is another budget.
            Err(Errno::EMFILE) if fs::File::open("/dev/null").is_ok() => {
                let left = taken.len() as u64;
                let (bound, name, most) = lesser("fs/inotify/max_user_instances", "user/max_inotify_instances");
                let help = raise(&name, most.saturating_add(needed - left).max(1024));
                return Some(Shortage { budget: "inotify instances", needed, left, most, bound, help });
            }
            Err(_) => break, // the kernel has none, or no more files
        }
    }
    None
}

fn inotify_watches(need: &Need) -> Option<Shortage> {
    /// Number of labs of this size for which the bound has to have room, so that the watches in use need not be counted.
    const PLENTY: u64 = 16;
    let needed = need.systemd_machines * INOTIFY_WATCHES;
    let (bound, name, most) = lesser("fs/inotify/max_user_watches", "user/max_inotify_watches");
    if needed.saturating_mul(PLENTY) <= most {
        return None;
    }
    let left = most.saturating_sub(watches_in_use());
    (left < needed).then(|| Shortage {
        budget: "inotify watches",
        needed,
        left,
        most,
        bound,
        help: raise(&name, most.saturating_add(needed - left).max(8192)),
    })
}

/// Returns the number of watches of all programs that this process can examine: those of the engine's user, and of all containers that it
/// made.
fn watches_in_use() -> u64 {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut count = 0;
    for process in entries(Path::new("/proc")).map(|entry| entry.path()) {
        for file in entries(&process.join("fd")) {
            if fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify") {
                let about = fs::read_to_string(process.join("fdinfo").join(file.file_name())).unwrap_or_default();
                count += about.lines().filter(|line| line.starts_with("inotify ")).count() as u64;
            }
        }
    }
    count
}

fn keys(need: &Need) -> Option<Shortage> {
    let needed = need.machines * KEYS;
    let name = if need.root_id == 0 { "kernel/keys/root_maxkeys" } else { "kernel/keys/maxkeys" };
    let most = number(name)?; // a kernel without keys
    let used = keys_of(&fs::read_to_string("/proc/key-users").unwrap_or_default(), need.root_id);
    let left = most.saturating_sub(used);
    (left < needed).then(|| Shortage {
        budget: "keys of the kernel",
        needed,
        left,
        most,
        bound: format!("{} of user {}, who is root in the containers", dotted(name), need.root_id),
        // Other labs have other ids, where they have ids of their own.
        help: format!("`sysctl -w {}={}`", dotted(name), most.saturating_add(needed - left).max(2000)),
    })
}

/// Parses the number of keys that count for a user from the text of `/proc/key-users`.
fn keys_of(key_users: &str, user: u32) -> u64 {
    let of_user = key_users.lines().filter_map(|line| line.trim_start().split_once(':'));
    let line = of_user.filter(|(id, _)| id.parse() == Ok(user)).map(|(_, rest)| rest).next();
    let quota = line.and_then(|rest| rest.split_whitespace().nth(2));
    quota.and_then(|quota| quota.split('/').next()?.parse().ok()).unwrap_or(0)
}

fn processes_needed(need: &Need) -> u64 {
    need.systemd_machines * SYSTEMD_PROCESSES + (need.machines - need.systemd_machines) * PROCESSES + ENGINE_PROCESSES
}

fn processes(need: &Need) -> Option<Shortage> {
    let needed = processes_needed(need);
    let used = tasks_in(&fs::read_to_string("/proc/loadavg").unwrap_or_default());
    ["kernel/pid_max", "kernel/threads-max"].into_iter().find_map(|name| {
        let most = number(name)?;
        let left = most.saturating_sub(used);
        (left < needed).then(|| Shortage {
            budget: "processes and threads",
            needed,
            left,
            most,
            bound: dotted(name),
            help: raise(name, most.saturating_add(needed - left).saturating_mul(2)),
        })
    })
}

/// Parses the number of processes and threads of the whole machine from the text of `/proc/loadavg`.
fn tasks_in(loadavg: &str) -> u64 {
    let tasks = loadavg.split_whitespace().nth(3).and_then(|tasks| tasks.split('/').nth(1));
    tasks.and_then(|tasks| tasks.parse().ok()).unwrap_or(0)
}

fn processes_of_groups(need: &Need) -> Option<Shortage> {
    process_bounds().into_iter().find_map(|bound| {
        // What runs in a machine is in a group of its own; the engine and `lxc-start` are not.
        let needed = if bound.is_top { processes_needed(need) } else { need.machines + ENGINE_PROCESSES };
        let left = bound.most.saturating_sub(bound.now);
        let file = bound.group.join("pids.max");
        (left < needed).then(|| Shortage {
            budget: "processes and threads of a control group",
            needed,
            left,
            most: bound.most,
            bound: file.display().to_string(),
            help: format!("write a larger number to {}, or start the engine in another cgroup", file.display()),
        })
    })
}

fn open_files(need: &Need) -> Option<Shortage> {
    let shortage = |needed: u64, used: u64, most: u64, bound: &str, help: String| {
        let left = most.saturating_sub(used);
        let bound = bound.to_owned();
        (left < needed).then_some(Shortage { budget: "open files", needed, left, most, bound, help })
    };
    let own = getrlimit(Resource::RLIMIT_NOFILE).ok().and_then(|(most, _)| {
        let needed = need.machines * ENGINE_FILES + ENGINE_FILES_OF_ALL;
        let help = format!("ulimit -n {}", needed.next_power_of_two().max(4096));
        shortage(needed, 0, most, "ulimit -n of the engine", help)
    });
    own.or_else(|| {
        let text = fs::read_to_string("/proc/sys/fs/file-nr").ok()?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [used, _, most] = numbers[..] else { return None };
        let needed = need.machines * KERNEL_FILES;
        shortage(needed, used, most, "fs.file-max", raise("fs/file-max", most.saturating_add(needed)))
    })
}

fn loop_devices(need: &Need) -> Option<Shortage> {
    /// Number of minor device numbers that the kernel has for loop devices and their partitions together.
    const MINORS: u64 = 1 << 20;
    if need.images == 0 {
        return None;
    }
    let parameter = fs::read_to_string("/sys/module/loop/parameters/max_part").unwrap_or_default();
    let parts: u64 = parameter.trim().parse().unwrap_or(0);
    let most = MINORS / (parts + 1).next_power_of_two();
    let devices = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let used = devices.filter(|device| device.join("loop/backing_file").exists()).count() as u64;
    let left = most.saturating_sub(used);
    (left < need.images).then(|| Shortage {
        budget: "loop devices",
        needed: need.images,
        left,
        most,
        bound: "max_part of the kernel's module loop".to_owned(),
        help: "`losetup -l` lists the loop devices: detach unused ones, or load the module loop with max_part=0"
            .to_owned(),
    })
}

/// Returns the smaller of two bounds on one budget, that of the whole machine and that of this user namespace: its name for `sysctl`, its
/// path below `/proc/sys`, and its value, which is the largest number where the kernel has neither.
fn lesser(machine: &str, namespace: &str) -> (String, String, u64) {
    let bounds = [machine, namespace].into_iter().filter_map(|name| Some((number(name)?, name)));
    // Both are one where the engine is in no user namespace of its own; then the machine's name is the known one.
    let (most, name) = bounds.min_by_key(|(most, _)| *most).unwrap_or((u64::MAX, machine));
    (dotted(name), name.to_owned(), most)
}

fn number(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

/// Returns the name that `sysctl` has for a path below `/proc/sys`.
fn dotted(name: &str) -> String {
    name.replace('/', ".")
}

fn raise(name: &str, to: u64) -> String {
    format!("`sysctl -w {}={to}`, or end other labs: `cargo xtask ps` shows them", dotted(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_lab_finds_room_in_no_time() {
        let need = Need { machines: 3, systemd_machines: 2, images: 1, memory_bytes: 1 << 20, root_id: 4_000_000_000 };
        let begun = std::time::Instant::now();
        assert_eq!(shortage(&need), None);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn each_budget_says_what_is_missing_and_what_gives_more() {
        let check = |shortage: Option<Shortage>, budget: &str, help: &str| {
            let shortage = shortage.unwrap();
            assert_eq!(shortage.budget, budget);
            assert!(shortage.needed > shortage.left && shortage.left <= shortage.most, "{shortage}");
            assert!(shortage.help.contains(help), "{}", shortage.help);
        };
        let many = Need { machines: 1 << 40, memory_bytes: 1 << 60, ..Need::default() };
        check(memory(&many), "MiB of memory", "lower `memory` under [limits]");
        check(keys(&many), "keys of the kernel", "sysctl -w kernel.keys.root_maxkeys=");
        let user = Need { root_id: 4_000_000_000, ..many };
        check(keys(&user), "keys of the kernel", "sysctl -w kernel.keys.maxkeys=");
        check(processes(&many), "processes and threads", "sysctl -w kernel.pid_max=");
        check(open_files(&many), "open files", "ulimit -n ");
        check(loop_devices(&Need { images: 1 << 40, ..Need::default() }), "loop devices", "losetup -l");
        let systemd = Need { machines: 1 << 40, systemd_machines: 1 << 40, ..Need::default() };
        check(inotify_watches(&systemd), "inotify watches", "sysctl -w ");
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let users = "    0:     9 8/8 3/1000000 48/25000000\n100000:    12 12/12 11/200 188/20000\n";
        assert_eq!([0, 100_000, 7].map(|user| keys_of(users, user)), [3, 11, 0]);
        assert_eq!(tasks_in("9.34 8.33 5.83 11/156 9384\n"), 156);
        assert_eq!((tasks_in(""), keys_of("", 0)), (0, 0));
    }
}
