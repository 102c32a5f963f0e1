//! Facts of this machine: gathered here, judged elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Group, geteuid, getgroups};

use super::accounts::{Accounts, Registered};
use super::kernel::{Cgroups, configures, lists_filesystem, lists_module, v1_lists};
use super::kernel_trial::KernelTrials;
use super::surroundings::Surroundings;
use super::tools::Tools;
use crate::host::container::apparmor::{self, Mediation};
use crate::host::container::ids::{IdRange, Ids, Region};
use crate::host::container::lxc;
use crate::host::exec::shell::Command;
use crate::host::invoker::{is_root, user_name};
use crate::host::machine::load::Memory;
use crate::host::patience::{self, Deadline, Patience};
use crate::host::seccomp;
use crate::host::tools::packages::{Supply, Use, Uses, WayToRoot};
use crate::host::tools::sudo::Sudo;

/// Parts of a project that doctor's checks depend on.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Folder to which a run writes: the project's target folder.
    pub target_dir: PathBuf,
    /// Folder of the store of layers.
    pub state_dir: PathBuf,
    /// Ids that the project's labs and layers take.
    pub region: Region,
    /// Features that the project's templates use.
    pub uses: Uses,
}

/// Facts of this machine that doctor's findings are based on.
#[derive(Debug, Clone)]
pub struct Facts {
    pub kernel_release: String,
    pub distribution: String,
    pub supply: Supply,
    pub way_to_root: WayToRoot,
    pub sudo: Sudo,
    pub user: String,
    /// Features of the project's templates and of the kernel that need tools of their own.
    pub uses: Uses,
    pub tools: Tools,
    /// Version that each program prints; empty where it prints none.
    pub versions: BTreeMap<&'static str, String>,
    /// Names of the files in `/proc/self/ns`, the kernel's kinds of namespaces.
    pub namespaces: Vec<String>,
    pub user_namespaces_max: Option<u64>,
    pub cgroups: Cgroups,
    /// States of the entries of `/sys/fs/cgroup` that LXC opens, one for each hierarchy of version 1, by its list of controllers.
    pub cgroup_folders: Vec<(String, Folder)>,
    /// Container around the engine, if any.
    pub surroundings: Option<Surroundings>,
    pub apparmor: Mediation,
    /// True where system calls of machines can be filtered.
    pub has_seccomp: bool,
    pub unified_controllers: Vec<String>,
    /// Presence of the kernel's parts, as its files say; `None` where they say nothing.
    pub parts: BTreeMap<&'static str, Option<bool>>,
    pub trials: KernelTrials,
    pub memory_total_bytes: u64,
    pub memory_available_bytes: u64,
    pub processors: usize,
    pub patience: Patience,
    /// Mean number of running processes over the last minute.
    pub load: f64,
    pub inotify_instances_max: Option<u64>,
    pub layers: Place,
    pub state: Place,
    pub target: Place,
    /// Paths of `newuidmap` and `newgidmap` where `lxc-start` would find them.
    pub map_helpers: Vec<PathBuf>,
    /// Ids that labs and layers take on this host.
    pub ids: IdRange,
    /// Assignment of id ranges to slots.
    pub slot_ids: SlotIds,
    pub subuid: Registered,
    pub subgid: Registered,
    /// Texts that each name a user, group or file which has some of the labs' ids, too.
    pub claims: Vec<String>,
    /// First id of a region in which no user, group or container of this host has an id.
    pub free_first_id: Option<u32>,
    pub has_pressure: bool,
}

/// Assignment of id ranges to slots, as far as this user can find it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotIds {
    /// Own range for each slot.
    PerSlot,
    /// Shared range for all slots, for this reason.
    Shared(String),
    /// Unknown: only root can try.
    Unknown,
}

/// State of an entry where LXC expects a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    There,
    /// A link, which LXC does not follow.
    Link,
    /// No entry.
    Missing,
}

/// Folder that the engine writes to, and the free space there.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// The folder, or the nearest one above it that exists.
    pub path: PathBuf,
    /// Mount point of the folder's file system.
    pub mount_point: PathBuf,
    pub free_bytes: u64,
    pub used_bytes: u64,
    /// Number of free inodes; `None` where the file system counts none.
    pub free_inodes: Option<u64>,
    pub is_tmpfs: bool,
}

/// Kernel parts that LXC and the lab need: name, module, option of the kernel's configuration.
const PARTS: &[(&str, &str, &str)] = &[
    ("bridge", "bridge", "CONFIG_BRIDGE"),
    ("veth", "veth", "CONFIG_VETH"),
    ("overlay", "overlay", "CONFIG_OVERLAY_FS"),
    ("loop", "loop", "CONFIG_BLK_DEV_LOOP"),
    ("nft", "nf_tables", "CONFIG_NF_TABLES"),
    ("netem", "sch_netem", "CONFIG_NET_SCH_NETEM"),
    ("nfqueue", "xt_NFQUEUE", "CONFIG_NETFILTER_XT_TARGET_NFQUEUE"),
];

/// Folder in which LXC looks for the trees of cgroup v1.
const CGROUP_DIR: &str = "/sys/fs/cgroup";

const VERSION_DEADLINE: Deadline = Deadline::from_secs(5);

impl Facts {
    /// Gathers all facts, and tries the parts of the kernel that can be tried. Changes nothing on the machine, and takes at most a minute.
    pub fn gather(subject: &Subject) -> Self {
        let way_to_root = WayToRoot::of_this_process();
        let sudo = sudo_of(way_to_root);
        let os_release = text("/etc/os-release");
        let kernel_release = text("/proc/sys/kernel/osrelease").trim().to_owned();
        let cgroups = Cgroups::parse(&text("/proc/self/mountinfo"));
        let cgroup_folders = v1_lists(&text("/proc/self/cgroup")).into_iter().map(|list| {
            let folder = Folder::at(&Path::new(CGROUP_DIR).join(&list));
            (list, folder)
        });
        let mediation = apparmor::mediation();
        let unified = cgroups.unified.as_ref().map(|point| text(format!("{point}/cgroup.controllers")));
        let memory = Memory::now();
        let load = text("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok());
        let (ids, slot_ids) = ids_of(subject);
        let accounts = Accounts::of_this_machine();
        let tools = Tools::of_this_machine();
        let helpers = lxc::START_PATH
            .iter()
            .flat_map(|folder| ["newuidmap", "newgidmap"].map(|name| Path::new(folder).join(name)));
        Self {
            distribution: pretty_name(&os_release),
            supply: Supply::of_this_machine(),
            way_to_root,
            trials: KernelTrials::run(way_to_root, sudo == Sudo::Silent),
            sudo,
            user: user_name(geteuid().as_raw()),
            uses: subject
                .uses
                .iter()
                .copied()
                .chain((mediation == Mediation::Profiles).then_some(Use::AppArmor))
                .collect(),
            versions: versions(&tools),
            tools,
            namespaces: names_in("/proc/self/ns"),
            user_namespaces_max: number("/proc/sys/user/max_user_namespaces"),
            unified_controllers: unified.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            cgroups,
            cgroup_folders: cgroup_folders.collect(),
            surroundings: Surroundings::find(),
            apparmor: mediation,
            has_seccomp: seccomp::is_supported(),
            parts: parts(&kernel_release),
            kernel_release,
            memory_total_bytes: memory.total_bytes,
            memory_available_bytes: memory.available_bytes,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            patience: patience::patience(),
            load: load.unwrap_or(0.0),
            inotify_instances_max: number("/proc/sys/fs/inotify/max_user_instances"),
            layers: Place::of(&subject.state_dir),
            state: Place::of(Path::new("/run/mancer-e2e")),
            target: Place::of(&subject.target_dir),
            map_helpers: helpers.filter(|path| path.is_file()).collect(),
            subuid: Registered::of(&accounts.subuid, ids),
            subgid: Registered::of(&accounts.subgid, ids),
            claims: accounts.claims(ids),
            free_first_id: accounts.free_region(),
            ids,
            slot_ids,
            // A kernel booted with psi=0 has the files and refuses to read them.
            has_pressure: fs::read("/proc/pressure/cpu").is_ok(),
        }
    }
}

fn ids_of(subject: &Subject) -> (IdRange, SlotIds) {
    let whole = IdRange { first: subject.region.first, count: Region::COUNT };
    if !is_root() {
        return (whole, SlotIds::Unknown);
    }
    match Ids::of_this_host(subject.region, &subject.state_dir.join("layers")) {
        Ids::PerSlot(_) => (whole, SlotIds::PerSlot),
        Ids::Shared { range, reason } => (range, SlotIds::Shared(reason)),
    }
}

impl Folder {
    fn at(path: &Path) -> Self {
        match fs::symlink_metadata(path) {
            Ok(data) if data.is_dir() => Self::There,
            Ok(_) => Self::Link,
            Err(_) => Self::Missing,
        }
    }
}

/// Finds out whether the user may use sudo; where sudo does not tell before a password, the user's groups decide.
fn sudo_of(way_to_root: WayToRoot) -> Sudo {
    if way_to_root == WayToRoot::Direct {
        return Sudo::Silent;
    }
    let groups = getgroups().unwrap_or_default().into_iter().filter_map(|group| Group::from_gid(group).ok()?);
    let may = groups.into_iter().any(|group| matches!(group.name.as_str(), "sudo" | "wheel" | "admin"));
    match Sudo::of_this_user() {
        Sudo::Doubtful if may => Sudo::Asks,
        sudo => sudo,
    }
}

impl Place {
    fn of(path: &Path) -> Self {
        let path = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
        let Ok(counts) = statvfs(&path) else { return Self { path, ..Self::default() } };
        Self {
            free_bytes: counts.blocks_available() * counts.fragment_size(),
            used_bytes: counts.blocks().saturating_sub(counts.blocks_free()) * counts.fragment_size(),
            free_inodes: (counts.files() > 0).then(|| counts.files_available()),
            is_tmpfs: statfs(&path).is_ok_and(|kind| kind.filesystem_type() == TMPFS_MAGIC),
            mount_point: mount_point(&path),
            path,
        }
    }
}

/// Returns the highest parent folder that lies on the same file system.
fn mount_point(path: &Path) -> PathBuf {
    let device = |path: &Path| fs::metadata(path).ok().map(|data| data.dev());
    let own = device(path);
    path.ancestors().take_while(|above| device(above) == own).last().unwrap_or(path).to_owned()
}

/// Reads a file's text; empty where it cannot be read.
fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    text(path).trim().parse().ok()
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn pretty_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "an unnamed Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn versions(tools: &Tools) -> BTreeMap<&'static str, String> {
    let asks = [
        ("lxc-start", "--version"),
        ("ip", "-V"),
        ("nft", "--version"),
        ("mmdebstrap", "--version"),
        ("python3", "--version"),
    ];
    let answer = |(name, flag): (&'static str, &str)| {
        let output = Command::new(tools.find(name)?).arg(flag).deadline(VERSION_DEADLINE.scaled()).run().ok()?;
        Some((name, output.text().lines().next().unwrap_or_default().to_owned()))
    };
    asks.into_iter().filter_map(answer).collect()
}

fn parts(kernel_release: &str) -> BTreeMap<&'static str, Option<bool>> {
    let filesystems = text("/proc/filesystems");
    let folder = Path::new("/lib/modules").join(kernel_release);
    let modules = text(folder.join("modules.dep")) + &text(folder.join("modules.builtin"));
    let config = kernel_config(kernel_release);
    let part = |&(name, module, option): &(&'static str, &str, &str)| {
        let is_there = lists_filesystem(&filesystems, name)
            || Path::new("/sys/module").join(module).exists()
            || lists_module(&modules, module)
            || configures(&config, option);
        let is_known = !modules.is_empty() || !config.is_empty();
        (name, if is_there { Some(true) } else { is_known.then_some(false) })
    };
    PARTS.iter().map(part).collect()
}

fn kernel_config(kernel_release: &str) -> String {
    let beside_the_kernel = text(Path::new("/boot").join(format!("config-{kernel_release}")));
    if !beside_the_kernel.is_empty() || !Path::new("/proc/config.gz").exists() {
        return beside_the_kernel;
    }
    let unpack =
        Command::new("gzip").args(["--decompress", "--stdout", "/proc/config.gz"]).deadline(VERSION_DEADLINE.scaled());
    unpack.run().map(|output| output.text()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_does_not_exist_yet_is_judged_by_what_is_above_it() {
        let place = Place::of(Path::new("/proc/nothing/here"));
        assert_eq!((place.path.as_path(), place.mount_point.as_path()), (Path::new("/proc"), Path::new("/proc")));
        let folder = tempfile::tempdir().unwrap();
        let place = Place::of(&folder.path().join("a/b"));
        assert_eq!(place.path, folder.path());
        assert!(place.free_bytes > 0);
        assert!(folder.path().starts_with(&place.mount_point), "{place:?}");
    }
}
