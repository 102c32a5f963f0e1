//! Package managers: which package provides which tool, and the commands that install it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::host::exec::shell::{quote, which};

/// Package manager that the engine can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// Debian, Ubuntu and their derivatives.
    Apt,
    /// Fedora, RHEL and their derivatives.
    Dnf,
    /// Arch Linux and its derivatives.
    Pacman,
    /// openSUSE and SLES.
    Zypper,
}

/// Source of this machine's tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// Package manager that installs tools into the system.
    Packages(Manager),
    /// Nix: the project's flake has all tools, and nothing is installed into the system.
    Nix,
    Unknown,
}

/// Way in which a tool or file gets onto a machine with a certain package manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Package of this name.
    Package(&'static str),
    /// No package; the instruction for a person.
    ByHand(&'static str),
}

/// Condition under which the engine needs an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Required: the engine cannot run without the item.
    Required,
    /// Required only where this feature is in use.
    Where(Use),
    /// Some faults need the item: setup installs it, and runs go on without it.
    Faults,
    /// Optional: one ability is lost without the item.
    Optional,
    /// The engine's own tests, and runs by an ordinary user, need the item.
    Tests,
    /// Only the tests of the engine's own repository need the item.
    Repository,
}

/// Feature of templates, or of the kernel, that needs tools of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Templates that start from a Debian release.
    Debian,
    /// Templates that start from a tar file.
    Tar,
    /// Python packages in templates.
    Python,
    /// Templates whose layers download packages.
    Download,
    /// SSH keys that labs hand out.
    Ssh,
    /// Volumes of ext4.
    Ext4,
    /// The host's busybox, copied into templates.
    Busybox,
    /// A kernel that confines containers with AppArmor.
    AppArmor,
    /// The engine's own repository, whose tests make guests.
    Guests,
}

pub type Uses = BTreeSet<Use>;

impl Use {
    /// Features that templates can use.
    pub const OF_TEMPLATES: [Self; 7] =
        [Self::Debian, Self::Tar, Self::Python, Self::Download, Self::Ssh, Self::Ext4, Self::Busybox];

    /// Returns the sentence that says that this feature is not in use, for a missing tool that only this feature needs.
    #[must_use]
    pub const fn absence(self) -> &'static str {
        match self {
            Self::Debian => "no template starts from a Debian release",
            Self::Tar => "no template starts from a tar file",
            Self::Python => "no template has Python packages",
            Self::Download => "no template has packages",
            Self::Ssh => "no template has [ssh]",
            Self::Ext4 => "no template has a volume of ext4",
            Self::Busybox => "no template copies the host's busybox",
            Self::AppArmor => "this kernel has no AppArmor",
            Self::Guests => "this is not the engine's repository",
        }
    }
}

impl Need {
    /// Tells whether the engine cannot run without the item while these features are in use.
    #[must_use]
    pub fn is_required(self, uses: &Uses) -> bool {
        match self {
            Self::Required => true,
            Self::Where(feature) => uses.contains(&feature),
            Self::Faults | Self::Optional | Self::Tests | Self::Repository => false,
        }
    }
}

/// Program or file that the engine uses on the host.
#[derive(Debug)]
pub struct Item {
    /// Name of the program or of the file.
    pub name: &'static str,
    /// Programs of which one is enough, the best first.
    pub programs: &'static [&'static str],
    /// Condition under which the engine needs the item.
    pub need: Need,
    apt: Offer,
    dnf: Offer,
    pacman: Offer,
    zypper: Offer,
}

use Need::{Faults, Optional, Required, Tests, Where};
use Use::{AppArmor, Debian, Download, Ext4, Python, Ssh, Tar};

const fn item(name: &'static str, need: Need, programs: &'static [&'static str], names: [&'static str; 4]) -> Item {
    let [apt, dnf, pacman, zypper] = names;
    Item {
        name,
        programs,
        need,
        apt: Offer::Package(apt),
        dnf: Offer::Package(dnf),
        pacman: Offer::Package(pacman),
        zypper: Offer::Package(zypper),
    }
}

const MMDEBSTRAP: Item = Item {
    pacman: Offer::ByHand("build the AUR package mmdebstrap with makepkg and install it"),
    zypper: Offer::ByHand("install apt, and put the script mmdebstrap of its source into /usr/local/bin"),
    ..item("mmdebstrap", Where(Debian), &["mmdebstrap"], ["mmdebstrap"; 4])
};

/// Kernel that runs as an ordinary process: the guest of `cargo xtask test host`.
const USER_MODE_LINUX: Item = Item {
    dnf: Offer::ByHand(BUILD_USER_MODE_LINUX),
    pacman: Offer::ByHand(BUILD_USER_MODE_LINUX),
    zypper: Offer::ByHand(BUILD_USER_MODE_LINUX),
    ..item("linux.uml", Need::Repository, &["linux.uml"], ["user-mode-linux", "", "", ""])
};
const BUILD_USER_MODE_LINUX: &str =
    "build Linux with ARCH=um, and install it as bin/linux.uml with its modules in lib/uml";

/// Debian's archive keyring, a file without a program: doctor looks for it itself.
const KEYRING: Item = Item {
    zypper: Offer::ByHand("copy /usr/share/keyrings/debian-archive-keyring.gpg from a Debian machine"),
    ..item(
        "debian-archive-keyring",
        Where(Debian),
        &[],
        ["debian-archive-keyring", "debian-keyring", "debian-archive-keyring", ""],
    )
};

const UTIL_LINUX: [&str; 4] = ["util-linux"; 4];
/// Packages of mount, umount and losetup, which Debian keeps apart from the rest of util-linux.
const MOUNT: [&str; 4] = ["mount", "util-linux", "util-linux", "util-linux"];
const LXC: [&str; 4] = ["lxc"; 4];
const IP: [&str; 4] = ["iproute2", "iproute", "iproute2", "iproute2"];
const TC: [&str; 4] = ["iproute2", "iproute-tc", "iproute2", "iproute2"];
const SSH: [&str; 4] = ["openssh-client", "openssh", "openssh", "openssh-common"];
const PYTHON: [&str; 4] = ["python3", "python3", "python", "python3"];
const PIP: [&str; 4] = ["python3-pip", "python3-pip", "python-pip", "python3-pip"];
const BUSYBOX: [&str; 4] = ["busybox-static", "busybox", "busybox", "busybox-static"];
const IPTABLES: [&str; 4] = ["iptables", "iptables-nft", "iptables", "iptables"];
const APPARMOR: [&str; 4] = ["apparmor", "apparmor-parser", "apparmor", "apparmor-parser"];
const CHROMIUM: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Items that the engine uses on the host. Package names by manager: apt, dnf, pacman, zypper.
pub const ITEMS: &[Item] = &[
    item("lxc-start", Required, &["lxc-start"], LXC),
    item("lxc-attach", Required, &["lxc-attach"], LXC),
    item("lxc-stop", Required, &["lxc-stop"], LXC),
    item("lxc-info", Required, &["lxc-info"], LXC),
    item("lxc-freeze", Required, &["lxc-freeze"], LXC),
    item("lxc-unfreeze", Required, &["lxc-unfreeze"], LXC),
    item("unshare", Required, &["unshare"], UTIL_LINUX),
    item("nsenter", Required, &["nsenter"], UTIL_LINUX),
    item("setpriv", Required, &["setpriv"], UTIL_LINUX),
    item("mount", Required, &["mount"], MOUNT),
    item("umount", Required, &["umount"], MOUNT),
    item("losetup", Required, &["losetup"], MOUNT),
    item("mkfs.ext4", Where(Ext4), &["mkfs.ext4"], ["e2fsprogs"; 4]),
    item("e2fsck", Where(Ext4), &["e2fsck"], ["e2fsprogs"; 4]),
    item("busybox", Where(Use::Busybox), BUSYBOX_PROGRAMS, BUSYBOX),
    MMDEBSTRAP,
    KEYRING,
    item("tar", Where(Tar), &["tar"], ["tar"; 4]),
    item("python3", Where(Python), &["python3"], PYTHON),
    item("pip", Where(Python), &["uv", "pip3", "pip"], PIP),
    item("slirp4netns", Where(Download), &["slirp4netns"], ["slirp4netns"; 4]),
    item("ssh-keygen", Where(Ssh), &["ssh-keygen"], SSH),
    item("ip", Required, &["ip"], IP),
    item("tc", Faults, &["tc"], TC),
    item("nft", Faults, &["nft"], ["nftables"; 4]),
    item("apparmor_parser", Where(AppArmor), &["apparmor_parser"], APPARMOR),
    item("sudo", Tests, &["sudo"], ["sudo"; 4]),
    item("iptables", Optional, &["iptables"], IPTABLES),
    item("strace", Optional, &["strace"], ["strace"; 4]),
    item("chromium", Optional, CHROMIUM, ["chromium"; 4]),
    USER_MODE_LINUX,
];

/// Names under which distributions install a busybox; only a static one is used.
pub const BUSYBOX_PROGRAMS: &[&str] = &["busybox", "busybox-static", "busybox.static"];

/// Folder in which distributions put Debian's archive keyring; mmdebstrap looks there by itself.
pub const SYSTEM_KEYRINGS: &str = "/usr/share/keyrings";

const KEYRING_NAMES: &[&str] = &["debian-archive-keyring.gpg", "debian-archive-keyring.pgp"];

/// Finds Debian's archive keyring: in the system's folder, else in the same folder beside a folder of `PATH`, as Nix lays packages out.
#[must_use]
pub fn debian_keyring() -> Option<PathBuf> {
    keyring_beside(&std::env::var_os("PATH").unwrap_or_default(), Path::new(SYSTEM_KEYRINGS))
}

fn keyring_beside(path: &OsStr, system: &Path) -> Option<PathBuf> {
    let beside = std::env::split_paths(path).filter_map(|folder| Some(folder.parent()?.join("share/keyrings")));
    let mut folders = std::iter::once(system.to_owned()).chain(beside);
    folders.find_map(|folder| KEYRING_NAMES.iter().map(|name| folder.join(name)).find(|file| file.is_file()))
}

impl Item {
    /// Returns the item of this name.
    ///
    /// # Panics
    /// When the table has none: names are written in this crate's own code.
    #[must_use]
    pub fn named(name: &str) -> &'static Self {
        ITEMS.iter().find(|item| item.name == name).unwrap_or_else(|| panic!("no item {name} in the table of packages"))
    }

    /// Returns the path of the best of the item's programs on this machine.
    #[must_use]
    pub fn program(&self) -> Option<PathBuf> {
        self.programs.iter().find_map(|program| which(program))
    }

    /// Returns the way in which this package manager provides the item.
    #[must_use]
    pub const fn offer(&self, manager: Manager) -> Offer {
        match manager {
            Manager::Apt => self.apt,
            Manager::Dnf => self.dnf,
            Manager::Pacman => self.pacman,
            Manager::Zypper => self.zypper,
        }
    }
}

impl Manager {
    const fn program(self) -> &'static str {
        match self {
            Self::Apt => "apt-get",
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Zypper => "zypper",
        }
    }

    /// Returns the commands that install these packages, in order, without the way to root.
    #[must_use]
    pub fn install(self, packages: &[&str]) -> Vec<Vec<String>> {
        const APT: &[&str] = &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"];
        let commands: Vec<Vec<&str>> = match self {
            Self::Apt => vec![
                [APT, &["update"]].concat(),
                [APT, &["install", "--yes", "--no-install-recommends"], packages].concat(),
            ],
            Self::Dnf => {
                vec![[&["dnf", "install", "--assumeyes", "--setopt=install_weak_deps=False"], packages].concat()]
            }
            Self::Pacman => vec![[&["pacman", "-S", "--needed", "--noconfirm"], packages].concat()],
            Self::Zypper => vec![[&["zypper", "--non-interactive", "install", "--no-recommends"], packages].concat()],
        };
        commands.into_iter().map(|words| words.into_iter().map(str::to_owned).collect()).collect()
    }

    /// Returns the one command that a person types to install these packages.
    #[must_use]
    pub fn install_line(self, packages: &[&str]) -> String {
        let verb = match self {
            Self::Apt => "apt-get install --no-install-recommends",
            Self::Dnf => "dnf install",
            Self::Pacman => "pacman -S --needed",
            Self::Zypper => "zypper install --no-recommends",
        };
        format!("{verb} {}", packages.join(" "))
    }
}

impl Supply {
    #[must_use]
    pub fn of_this_machine() -> Self {
        if std::env::var_os("IN_NIX_SHELL").is_some() || Path::new("/etc/NIXOS").exists() {
            return Self::Nix;
        }
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let present = |manager: &Manager| which(manager.program()).is_some();
        // A distribution's own manager goes first: mmdebstrap brings apt to Fedora and Arch too.
        let own = Self::manager_of(&os_release).filter(present);
        let any = || [Manager::Dnf, Manager::Zypper, Manager::Pacman, Manager::Apt].into_iter().find(present);
        own.or_else(any).map_or(Self::Unknown, Self::Packages)
    }

    fn manager_of(os_release: &str) -> Option<Manager> {
        distribution_ids(os_release).into_iter().find_map(|id| match id.as_str() {
            "debian" | "ubuntu" => Some(Manager::Apt),
            "fedora" | "rhel" | "centos" => Some(Manager::Dnf),
            "arch" => Some(Manager::Pacman),
            "suse" | "opensuse" | "sles" | "opensuse-tumbleweed" | "opensuse-leap" => Some(Manager::Zypper),
            _ => None,
        })
    }

    /// Returns the command that installs these items, as root or with sudo.
    #[must_use]
    pub fn help(self, items: &[&str], way_to_root: WayToRoot) -> String {
        match self {
            Self::Nix => "nix develop".to_owned(),
            Self::Unknown => format!("install {} with the system's package manager", items.join(", ")),
            Self::Packages(manager) => {
                let Order { packages, by_hand } = Order::new(manager, items);
                let line = (!packages.is_empty()).then(|| {
                    let sudo = way_to_root.prefix().map(|sudo| format!("{sudo} ")).unwrap_or_default();
                    format!("{sudo}{}", manager.install_line(&packages))
                });
                line.into_iter().chain(by_hand.into_iter().map(str::to_owned)).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// Way in which a command gets root's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayToRoot {
    /// This process is root.
    Direct,
    /// sudo, before the command.
    Sudo,
}

impl WayToRoot {
    #[must_use]
    pub fn of_this_process() -> Self {
        if nix::unistd::geteuid().is_root() { Self::Direct } else { Self::Sudo }
    }

    /// Returns the word to put before a command, such as `sudo`; `None` where it needs none.
    #[must_use]
    pub const fn prefix(self) -> Option<&'static str> {
        match self {
            Self::Direct => None,
            Self::Sudo => Some("sudo"),
        }
    }

    /// Returns the command with its way to root, as a person types it.
    #[must_use]
    pub fn line(self, command: &[String]) -> String {
        let words = self.prefix().into_iter().chain(command.iter().map(String::as_str));
        words.map(quote).collect::<Vec<_>>().join(" ")
    }
}

/// Packages to install by a package manager, and steps for the items that it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Package names, each once, in the table's order.
    pub packages: Vec<&'static str>,
    /// Steps for a person, for items that this manager lacks.
    pub by_hand: Vec<&'static str>,
}

impl Order {
    /// Collects the packages of these items.
    #[must_use]
    pub fn new(manager: Manager, items: &[&str]) -> Self {
        let mut order = Self { packages: Vec::new(), by_hand: Vec::new() };
        for item in ITEMS.iter().filter(|item| items.contains(&item.name)) {
            let (list, entry) = match item.offer(manager) {
                Offer::Package(name) => (&mut order.packages, name),
                Offer::ByHand(what) => (&mut order.by_hand, what),
            };
            if !list.contains(&entry) {
                list.push(entry);
            }
        }
        order
    }
}

/// Parses `ID` and `ID_LIKE` of an os-release file, the closest first.
fn distribution_ids(os_release: &str) -> Vec<String> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim().trim_matches(['"', '\'']).to_owned())
    };
    let ids = [value("ID"), value("ID_LIKE")];
    ids.iter().flatten().flat_map(|ids| ids.split_whitespace()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_a_package_or_a_way_by_hand_for_each_manager() {
        for item in ITEMS {
            for manager in [Manager::Apt, Manager::Dnf, Manager::Pacman, Manager::Zypper] {
                let (Offer::Package(text) | Offer::ByHand(text)) = item.offer(manager);
                assert!(!text.is_empty(), "{} has nothing for {manager:?}", item.name);
                if let Offer::Package(name) = item.offer(manager) {
                    assert!(!name.contains(char::is_whitespace), "{name:?} is no package name");
                }
            }
        }
        let mut names: Vec<_> = ITEMS.iter().map(|item| item.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ITEMS.len(), "an item is listed twice");
    }

    #[test]
    fn the_keyring_lies_in_the_systems_folder_or_beside_a_folder_of_programs() {
        let store = tempfile::tempdir().unwrap();
        let file = |folder: &str| {
            let folder = store.path().join(folder);
            std::fs::create_dir_all(&folder).unwrap();
            let file = folder.join("debian-archive-keyring.gpg");
            std::fs::write(&file, "").unwrap();
            file
        };
        let path = std::env::join_paths([Path::new("/nonexistent/bin"), &store.path().join("bin")]).unwrap();
        let system = store.path().join("system");
        assert_eq!(keyring_beside(&path, &system), None);
        let beside = file("share/keyrings");
        assert_eq!(keyring_beside(&path, &system), Some(beside));
        let of_system = file("system");
        assert_eq!(keyring_beside(&path, &system), Some(of_system));
    }

    #[test]
    fn apt_is_asked_once_for_each_package_and_never_asks_back() {
        let order = Order::new(Manager::Apt, &["nft", "lxc-start", "lxc-stop", "mkfs.ext4", "losetup"]);
        assert_eq!(order.by_hand, Vec::<&str>::new());
        let lines: Vec<_> =
            Manager::Apt.install(&order.packages).iter().map(|command| WayToRoot::Sudo.line(command)).collect();
        assert_eq!(
            lines,
            [
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update",
                "sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install --yes \
                 --no-install-recommends lxc mount e2fsprogs nftables",
            ]
        );
    }

    #[test]
    fn the_other_managers_never_ask_back_either() {
        let line = |manager: Manager| {
            let commands = manager.install(&["a", "b"]);
            commands.iter().map(|command| WayToRoot::Direct.line(command)).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(line(Manager::Dnf), "dnf install --assumeyes --setopt=install_weak_deps=False a b");
        assert_eq!(line(Manager::Pacman), "pacman -S --needed --noconfirm a b");
        assert_eq!(line(Manager::Zypper), "zypper --non-interactive install --no-recommends a b");
    }

    #[test]
    fn help_is_a_line_to_type() {
        let help = |supply: Supply, items: &[&str]| supply.help(items, WayToRoot::Sudo);
        assert_eq!(
            help(Supply::Packages(Manager::Apt), &["ip", "tc"]),
            "sudo apt-get install --no-install-recommends iproute2"
        );
        assert_eq!(help(Supply::Packages(Manager::Dnf), &["ip", "tc"]), "sudo dnf install iproute iproute-tc");
        assert_eq!(
            help(Supply::Packages(Manager::Pacman), &["tar", "mmdebstrap"]),
            "sudo pacman -S --needed tar; build the AUR package mmdebstrap with makepkg and install it"
        );
        assert_eq!(help(Supply::Nix, &["ip"]), "nix develop");
    }

    #[test]
    fn the_distribution_decides_the_manager() {
        let check = |os_release: &str, expected: Option<Manager>| {
            assert_eq!(Supply::manager_of(os_release), expected, "{os_release}");
        };
        check("NAME=\"Debian GNU/Linux\"\nID=debian\n", Some(Manager::Apt));
        check("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(Manager::Apt));
        check("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(Manager::Dnf));
        check("VARIANT_ID=x\nID=manjaro\nID_LIKE=arch\n", Some(Manager::Pacman));
        check("ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n", Some(Manager::Zypper));
        check("ID=gentoo\n", None);
        check("", None);
    }
}
