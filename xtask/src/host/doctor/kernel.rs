//! Parsers of the text files in which the kernel describes itself. Pure.

use std::collections::BTreeSet;

/// Returns the first `MAJOR.MINOR` in a text.
pub fn version(text: &str) -> Option<(u32, u32)> {
    let mut words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.find_map(|word| {
        let mut numbers = word.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}

/// Tells whether `/proc/filesystems` lists a file system.
pub fn lists_filesystem(filesystems: &str, name: &str) -> bool {
    filesystems.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// Tells whether `modules.dep` or `modules.builtin` lists a module.
pub fn lists_module(modules: &str, name: &str) -> bool {
    let paths = modules.lines().map(|line| line.split(':').next().unwrap_or(line));
    let mut names = paths.filter_map(|path| path.rsplit('/').next()?.split(".ko").next());
    names.any(|listed| listed.replace('-', "_") == name.replace('-', "_"))
}

/// Tells whether the kernel's configuration has this option built in or as a module.
pub fn configures(config: &str, option: &str) -> bool {
    let value = |line: &str| line.strip_prefix(option)?.strip_prefix('=').map(|value| value == "y" || value == "m");
    config.lines().find_map(value).unwrap_or(false)
}

/// Returns the lists of controllers in `/proc/self/cgroup` that have a tree of version 1, such as `cpu,cpuacct`.
pub fn v1_lists(proc_cgroup: &str) -> Vec<String> {
    let lists = proc_cgroup.lines().filter_map(|line| line.split(':').nth(1));
    lists.filter(|list| !list.is_empty() && !list.starts_with("name=")).map(str::to_owned).collect()
}

/// Mounted cgroup hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Mount point of cgroup v2.
    pub unified: Option<String>,
    /// Controllers with a v1 hierarchy.
    pub v1_controllers: BTreeSet<String>,
    /// Mount points that are read-only.
    pub read_only: Vec<String>,
}

impl Cgroups {
    pub fn parse(mountinfo: &str) -> Self {
        let mut cgroups = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, superblock)) = line.split_once(" - ") else { continue };
            let mount: Vec<_> = mount.split(' ').collect();
            let superblock: Vec<_> = superblock.split(' ').collect();
            let (&[_, _, _, _, point, options, ..], &[kind, _, details]) = (&mount[..], &superblock[..]) else {
                continue;
            };
            match kind {
                "cgroup2" => cgroups.unified = Some(point.to_owned()),
                "cgroup" => {
                    let names = details.split(',').filter(|name| !matches!(*name, "rw" | "ro") && !name.contains('='));
                    cgroups.v1_controllers.extend(names.map(str::to_owned));
                }
                _ => continue,
            }
            let is_read_only = |options: &str| options.split(',').any(|option| option == "ro");
            if is_read_only(options) || is_read_only(details) {
                cgroups.read_only.push(point.to_owned());
            }
        }
        cgroups
    }

    /// Returns the common name of the mounted hierarchies; `None` where none is.
    pub fn version(&self) -> Option<&'static str> {
        match (&self.unified, self.v1_controllers.is_empty()) {
            (Some(_), true) => Some("v2"),
            (Some(_), false) => Some("hybrid (v1 controllers beside v2)"),
            (None, false) => Some("v1"),
            (None, true) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let check = |text: &str, expected: Option<(u32, u32)>| assert_eq!(version(text), expected, "{text}");
        check("5.0.2", Some((5, 0)));
        check("6.18.44-fc-v595", Some((6, 18)));
        check("nftables v1.0.6 (Lester Gooch #5)", Some((1, 0)));
        check("ip utility, iproute2-6.1.0, libbpf 1.1.2", Some((6, 1)));
        check("Python 3.11.2", Some((3, 11)));
        check("version 7", None);
        check("", None);
    }

    #[test]
    fn file_systems_are_listed_by_whole_names() {
        let text = "nodev\tsysfs\n\text4\nnodev\toverlay\n";
        let check = |name: &str, expected: bool| assert_eq!(lists_filesystem(text, name), expected, "{name}");
        check("overlay", true);
        check("ext4", true);
        check("ext", false);
        check("nodev", false);
    }

    #[test]
    fn modules_are_listed_whatever_their_compression() {
        let text = "kernel/net/bridge/bridge.ko.xz: kernel/net/802/stp.ko.xz\nkernel/drivers/net/veth.ko:\n\
                    kernel/net/sched/sch-netem.ko.zst:\nkernel/fs/overlayfs/overlay.ko\n";
        let check = |name: &str, expected: bool| assert_eq!(lists_module(text, name), expected, "{name}");
        check("bridge", true);
        check("veth", true);
        check("overlay", true);
        check("sch_netem", true);
        check("stp", false);
    }

    #[test]
    fn the_configuration_says_yes_or_module() {
        let text = "CONFIG_BRIDGE=y\nCONFIG_VETH=m\n# CONFIG_NET_SCH_NETEM is not set\nCONFIG_BRIDGE_VLAN=n\n";
        let check = |option: &str, expected: bool| assert_eq!(configures(text, option), expected, "{option}");
        check("CONFIG_BRIDGE", true);
        check("CONFIG_VETH", true);
        check("CONFIG_NET_SCH_NETEM", false);
        check("CONFIG_BRIDGE_VLAN", false);
    }

    #[test]
    fn lists_of_controllers_are_those_of_version_1() {
        let text = "9:name=systemd:/\n4:cpu,cpuacct:/a:b\n2:memory:/\n0::/init.scope\n";
        assert_eq!(v1_lists(text), ["cpu,cpuacct", "memory"]);
        assert_eq!(v1_lists("0::/\n"), Vec::<String>::new());
    }

    #[test]
    fn cgroup_mounts_tell_the_version() {
        let check = |mountinfo: &str, version: Option<&str>, controllers: &[&str], read_only: &[&str]| {
            let cgroups = Cgroups::parse(mountinfo);
            assert_eq!(cgroups.version(), version, "{mountinfo}");
            assert_eq!(cgroups.v1_controllers.iter().map(String::as_str).collect::<Vec<_>>(), controllers);
            assert_eq!(cgroups.read_only, read_only);
        };
        check("29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", Some("v2"), &[], &[]);
        check(
            "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
             32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,name=systemd\n\
             33 30 0:29 / /sys/fs/cgroup/unified rw master:3 shared:9 - cgroup2 cgroup2 rw\n",
            Some("hybrid (v1 controllers beside v2)"),
            &["cpu", "cpuacct"],
            &[],
        );
        check("31 30 0:27 / /c/memory rw,relatime - cgroup cgroup rw,memory\n", Some("v1"), &["memory"], &[]);
        check("29 22 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n", Some("v2"), &[], &["/sys/fs/cgroup"]);
        check("36 35 98:0 / / rw,noatime - ext4 /dev/root rw\ngarbage\n", None, &[], &[]);
    }
}
