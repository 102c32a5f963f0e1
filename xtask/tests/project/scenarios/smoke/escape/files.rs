//! Attempts to escape by files: the host's disks, its /proc and /sys, and paths that lead out of the root.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::libc;
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::world::{Attempt, MARK, Seen, World, held, refused};

macro_rules! attempts {
    ($($name:literal, $gain:literal, $make:expr;)*) => {
        &[$(Attempt { name: $name, gain: $gain, make: $make }),*]
    };
}

pub const ATTEMPTS: &[Attempt] = attempts! {
    "marker-by-path", "a file of the host", |w| read_mark(Path::new(&w.marker));
    "marker-by-proc-1-root", "a file of the host", |w| read_mark(&below("/proc/1/root", &w.marker));
    "marker-by-own-root", "a file of the host", |w| read_mark(&below("/proc/self/root", &format!("../../../..{}", w.marker)));
    "marker-by-parent-folders", "a file of the host", |w| read_mark(&below("/proc/self/cwd/../../../../../..", &w.marker));
    "marker-by-hosts-pid", "a file of the host", |w| read_mark(&below(&format!("/proc/{}/root", w.pid), &w.marker));
    "marker-by-descriptor", "a folder of the host by an open descriptor", by_descriptor;
    "marker-by-init-descriptor", "a folder of the host by a descriptor of process 1", by_init_descriptor;
    "chroot-and-back", "the host's root by leaving a chroot with an open folder", chroot_and_back;
    "file-handle", "any file of the host's file system by its number", file_handle;
    "pivot-root", "the root below the machine's own", pivot_back;
    "disk-node", "the host's disks, block by block", disk_node;
    "memory-node", "the host's memory", |_| node(SFlag::S_IFCHR, 1, 1);
    "port-node", "the host's input and output ports", |_| node(SFlag::S_IFCHR, 1, 4);
    "kernel-log-node", "the host's kernel log", |_| node(SFlag::S_IFCHR, 1, 11);
    "loop-control", "loop devices of the host", |_| node(SFlag::S_IFCHR, 10, 237);
    "virtual-machines-node", "the host's virtual machines", |_| node(SFlag::S_IFCHR, 10, 232);
    "kernel-memory", "the kernel's memory", |_| open_read("/proc/kcore");
    "kernel-keys", "key rings of other users, by their numbers", |_| open_read("/proc/keys");
    "kernel-configuration", "the kernel's configuration, to choose an attack by", |_| open_read("/proc/config.gz");
    "kernel-addresses", "addresses of the kernel's functions", kernel_addresses;
    "timers", "programs of the host by their timers", |_| open_read("/proc/timer_list");
    "slab", "the kernel's objects", |_| held(fs::read_dir("/sys/kernel/slab").and_then(|mut all| all.next().ok_or_else(empty)), |_| "it is listed".into());
    "slab-counts", "the kernel's objects by their counts", |_| open_read("/proc/slabinfo");
    "debug-files", "the kernel's debug files", |_| mount_of("debugfs");
    "trace-files", "the kernel's traces", |_| mount_of("tracefs");
    "firmware", "the host's firmware", |_| held(fs::read_dir("/sys/firmware").and_then(|mut all| all.next().ok_or_else(empty)), |_| "it is listed".into());
    "sysrq", "the host's emergency keys", |_| open_write("/proc/sysrq-trigger");
    "core-pattern", "a program of one's own as the host's root, at the next crash", |_| same_value("/proc/sys/kernel/core_pattern");
    "core-pattern-remounted", "the same after /proc/sys is mounted anew", |_| remounted("/proc/sys", "/proc/sys/kernel/core_pattern");
    "modprobe-path", "a program of one's own as the host's root, at the next module", |_| same_value("/proc/sys/kernel/modprobe");
    "printk", "the host's kernel log", |_| same_value("/proc/sys/kernel/printk");
    "host-memory-policy", "the memory settings of the host", |_| same_value("/proc/sys/vm/overcommit_memory");
    "uevent-helper", "a program of one's own as the host's root, at the next event", |_| remounted("/sys", "/sys/kernel/uevent_helper");
    "huge-pages", "the memory settings of the host", |_| same_value("/sys/kernel/mm/transparent_hugepage/enabled");
    "release-agent", "a program of one's own as the host's root, when a group empties", release_agent;
    "own-limits", "more memory than the template allows", own_limits;
    "host-groups", "no limits at all, by a move into the host's top group", host_groups;
    "binfmt", "a program of one's own that the host's root starts", binfmt;
    "fuse-node", "a file system of one's own", |_| node(SFlag::S_IFCHR, 10, 229);
    "own-oom-score", "others are killed first when memory is short", |_| held(fs::write("/proc/self/oom_score_adj", "-1000"), |()| "-1000".into());
};

fn empty() -> io::Error {
    io::Error::other("empty")
}

fn below(root: &str, path: &str) -> std::path::PathBuf {
    Path::new(root).join(path.trim_start_matches('/'))
}

fn read_mark(path: &Path) -> Seen {
    match fs::read_to_string(path) {
        Ok(text) if text == MARK => Ok(format!("{} was read", path.display())),
        Ok(_) => Err("another file".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens the marker relative to each folder that a process has open.
fn through_descriptors(process: &str, marker: &str) -> Seen {
    let folder = format!("/proc/{process}/fd");
    let entries = fs::read_dir(&folder).map_err(|error| error.to_string())?;
    let mut held = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        match read_mark(&path.join("../../../../../../../..").join(marker.trim_start_matches('/'))) {
            Ok(_) => return Ok(format!("by {}", path.display())),
            Err(_) => held.push(entry.file_name().to_string_lossy().into_owned()),
        }
    }
    Err(format!("none of the descriptors {} leads there", held.join(" ")))
}

fn by_descriptor(world: &World) -> Seen {
    through_descriptors("self", &world.marker)
}

fn by_init_descriptor(world: &World) -> Seen {
    through_descriptors("1", &world.marker)
}

fn chroot_and_back(world: &World) -> Seen {
    let leave = || -> io::Result<()> {
        let _ = fs::create_dir("/tmp/cell");
        let top = File::open("/")?;
        nix::unistd::chroot("/tmp/cell")?;
        nix::unistd::fchdir(&top)?;
        for _ in 0..32 {
            nix::unistd::chdir("..")?;
        }
        Ok(nix::unistd::chroot(".")?)
    };
    leave().map_err(|error| error.to_string())?;
    read_mark(Path::new(&world.marker))
}

/// Reads the marker by a guessed file handle, with `open_by_handle_at`.
fn file_handle(_: &World) -> Seen {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        number: [u8; 8],
    }
    let top = File::open("/proc").map_err(|error| error.to_string())?;
    let mut handle = Handle { bytes: 8, kind: 1, number: [2, 0, 0, 0, 0, 0, 0, 0] };
    // SAFETY: the kernel reads a handle of the length that it names.
    refused(unsafe { libc::syscall(libc::SYS_open_by_handle_at, top.as_raw_fd(), &raw mut handle, libc::O_RDONLY) })
}

fn pivot_back(world: &World) -> Seen {
    let pivot = || -> nix::Result<()> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let _ = fs::create_dir_all("/tmp/new");
        mount(Some("tmpfs"), "/tmp/new", Some("tmpfs"), MsFlags::empty(), none)?;
        let _ = fs::create_dir_all("/tmp/new/old");
        nix::unistd::pivot_root("/tmp/new", "/tmp/new/old")?;
        nix::unistd::chdir("/")?;
        // What is below the machine's own root shows when that is taken away.
        nix::mount::umount2("/old", nix::mount::MntFlags::MNT_DETACH)
    };
    pivot().map_err(|error| error.to_string())?;
    read_mark(Path::new(&world.marker)).or_else(|_| read_mark(&below("/..", &world.marker)))
}

/// Makes a device node and opens it for reading.
fn node(kind: SFlag, major: u64, minor: u64) -> Seen {
    let path = format!("/tmp/node-{major}-{minor}");
    mknod(path.as_str(), kind, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor))
        .map_err(|error| format!("mknod: {error}"))?;
    let opened = File::open(&path);
    let _ = fs::remove_file(&path);
    held(opened, |_| format!("device {major}:{minor} was opened"))
}

fn disk_node(_: &World) -> Seen {
    let partitions = fs::read_to_string("/proc/partitions").map_err(|error| error.to_string())?;
    let disk = partitions
        .lines()
        .skip(2)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.len() == 4);
    let disk = disk.ok_or("the kernel names no disk")?;
    let number = |index: usize| disk[index].parse::<u64>().map_err(|error| error.to_string());
    let (path, major, minor) = ("/tmp/disk", number(0)?, number(1)?);
    mknod(path, SFlag::S_IFBLK, Mode::S_IRUSR, makedev(major, minor)).map_err(|error| format!("mknod: {error}"))?;
    let read = File::open(path).and_then(|mut disk| disk.read_exact(&mut [0; 512]));
    let _ = fs::remove_file(path);
    held(read, |()| format!("the first block of {} was read", disk[3]))
}

fn open_read(path: &str) -> Seen {
    let mut first = [0; 1];
    match File::open(path).and_then(|mut file| file.read(&mut first)) {
        Ok(0) => Err("it is empty".into()),
        Ok(_) => Ok(format!("{path} was read")),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a file for writing and writes nothing, since a write would have an effect on the host.
fn open_write(path: &str) -> Seen {
    let file = OpenOptions::new().write(true).open(path).map_err(|error| error.to_string())?;
    let is_null = file.metadata().is_ok_and(|metadata| {
        use std::os::unix::fs::MetadataExt as _;
        metadata.rdev() == makedev(1, 3)
    });
    if is_null { Err("/dev/null stands there".into()) } else { Ok(format!("{path} was opened for writing")) }
}

/// Writes the present value of a setting to the setting again.
fn same_value(path: &str) -> Seen {
    let value = fs::read_to_string(path).map_err(|error| error.to_string())?;
    // Some settings mark the chosen word among others.
    let value =
        value.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or(value.as_str(), |(chosen, _)| chosen);
    held(OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes())), |()| {
        format!("{path} was written")
    })
}

fn remounted(top: &str, path: &str) -> Seen {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
    mount(none, top, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none).map_err(|error| format!("mount: {error}"))?;
    same_value(path)
}

fn mount_of(kind: &str) -> Seen {
    let none: Option<&str> = None;
    let place = format!("/tmp/{kind}");
    let _ = fs::create_dir_all(&place);
    mount(Some(kind), place.as_str(), Some(kind), MsFlags::MS_RDONLY, none).map_err(|error| error.to_string())?;
    let _ = umount(place.as_str());
    Ok(format!("{kind} was mounted"))
}

fn kernel_addresses(_: &World) -> Seen {
    let symbols = fs::read_to_string("/proc/kallsyms").map_err(|error| error.to_string())?;
    let shown = symbols.lines().take(500).find(|line| !line.starts_with("0000000000000000"));
    shown.map(str::to_owned).ok_or_else(|| "all of them are shown as 0".into())
}

fn release_agent(_: &World) -> Seen {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
    let _ = fs::create_dir_all("/tmp/groups");
    let mounted = ["memory", "pids", "cpu,cpuacct", "devices", "freezer"].into_iter().find(|controllers| {
        mount(Some("cgroup"), "/tmp/groups", Some("cgroup"), MsFlags::empty(), Some(*controllers)).is_ok()
    });
    let mounted = mounted.ok_or("no controller can be mounted")?;
    same_value("/tmp/groups/release_agent").map(|_| format!("the release agent of {mounted} was written"))
}

/// Returns the cgroup folders of this process, the machine's own first and then its parents.
fn group_folders() -> Vec<std::path::PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut folders = Vec::new();
    for line in groups.lines() {
        let words: Vec<&str> = line.splitn(3, ':').collect();
        if let [_, controllers, path] = words[..] {
            let name = controllers.trim_start_matches("name=");
            let mut own =
                Path::new("/sys/fs/cgroup").join(name).join(path.trim_start_matches("/..").trim_start_matches('/'));
            folders.push(own.clone());
            while own.pop() && own.starts_with("/sys/fs/cgroup") {
                folders.push(own.clone());
            }
        }
    }
    folders
}

fn own_limits(_: &World) -> Seen {
    let bounds = ["memory.limit_in_bytes", "memory.max", "pids.max"];
    let mut held = "no bound is shown".to_owned();
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare: {error}"))?;
    let _ = fs::create_dir_all("/tmp/limits");
    for (kind, controllers) in [("cgroup2", None), ("cgroup", Some("memory"))] {
        let _ = mount(Some(kind), "/tmp/limits", Some(kind), MsFlags::empty(), controllers);
    }
    for folder in group_folders().into_iter().chain(["/tmp/limits".into()]) {
        for name in bounds {
            let path = folder.join(name);
            let Ok(bound) = fs::read_to_string(&path) else { continue };
            // A bound that is less by far than the machine's memory is one of the template's.
            if bound.trim().parse::<u64>().is_ok_and(|bound| bound < 1 << 40) {
                match OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(bound.as_bytes())) {
                    Ok(()) => return Ok(format!("{} was written", path.display())),
                    Err(error) => held = format!("{name}: {error}"),
                }
            }
        }
    }
    Err(held)
}

fn host_groups(_: &World) -> Seen {
    let mut held = "no group is shown".to_owned();
    for top in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let path = top.path().join("cgroup.procs");
        if path.exists() && top.path().join("mancer-e2e").exists() {
            return Ok(format!("{} shows the engine's groups", top.path().display()));
        }
    }
    for folder in ["/sys/fs/cgroup/memory/../..", "/sys/fs/cgroup/.."] {
        match fs::metadata(Path::new(folder).join("mancer-e2e")) {
            Ok(_) => return Ok(format!("{folder} shows the engine's groups")),
            Err(error) => held = error.to_string(),
        }
    }
    Err(held)
}

fn binfmt(_: &World) -> Seen {
    let none: Option<&str> = None;
    let place = "/tmp/binfmt";
    let _ = fs::create_dir_all(place);
    mount(Some("binfmt_misc"), place, Some("binfmt_misc"), MsFlags::empty(), none)
        .map_err(|error| error.to_string())?;
    let opened = OpenOptions::new().write(true).open(Path::new(place).join("register"));
    let _ = umount(place);
    // Since Linux 6.7 each user namespace has a table of its own, which the host does not use.
    let own_table =
        fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.trim_start().starts_with("0          0"));
    match opened {
        Ok(_) if own_table => Err("a table of the machine's own".into()),
        other => held(other, |_| "the host's table was opened".into()),
    }
}
