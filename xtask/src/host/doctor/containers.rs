//! Checks of the requirements of builds and containers.

use super::facts::{Facts, Folder, SlotIds};
use super::finding::{Finding, Group, Status};
use super::kernel_trial::KernelTrial;
use super::surroundings::Surroundings;
use crate::host::container::apparmor::Mediation;
use crate::host::tools::packages::Use;

/// Oldest supported version of LXC: `lxc.cgroup.dir` and cgroup v2 came with it.
const LXC_MIN: (u32, u32) = (4, 0);

/// Controllers whose limits are set for each container.
const LIMITED: [&str; 4] = ["cpu", "memory", "pids", "freezer"];

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let group = Group::Containers;
    vec![
        facts.lxc(),
        facts.namespaces(),
        facts.user_namespaces(),
        facts.cgroup(),
        facts.cgroup_controllers(),
        facts.cgroup_folders(),
        facts.apparmor(),
        facts.seccomp(),
        facts.has_part(group, "overlayfs", "overlay", "overlay"),
        facts.ids_of_slots(),
        facts.loop_devices(),
        facts.has_tools(group, "e2fsprogs", &["mkfs.ext4", "e2fsck"]),
        facts.has_tools(group, "busybox", &["busybox"]),
        facts.has_version(group, "mmdebstrap", "mmdebstrap", (0, 0)),
        facts.has_tools(group, "debian-keyring", &["debian-archive-keyring"]),
        facts.has_tools(group, "slirp4netns", &["slirp4netns"]),
        facts.has_tools(group, "ssh-keygen", &["ssh-keygen"]),
    ]
}

impl Facts {
    fn ids_of_slots(&self) -> Finding {
        let (group, check) = (Group::Containers, "ids-of-slots");
        match &self.slot_ids {
            SlotIds::PerSlot => Finding::ok(group, check, "tried: each slot has a range of ids of its own"),
            SlotIds::Unknown => Finding::ok(group, check, "each slot has a range of ids of its own (not tried)"),
            SlotIds::Shared(reason) => {
                let seen = format!(
                    "all labs share one range of ids, and so the kernel's limits on one user's keys, pipes and signals: {reason}"
                );
                let help = match &self.surroundings {
                    Some(around) if around.is_unprivileged => around.help_for_rights(),
                    _ => "boot Linux 5.19 or newer, and keep layers on ext4, xfs or btrfs: E2E_STATE_DIR names their place"
                        .to_owned(),
                };
                Finding::warning(group, check, seen, help)
            }
        }
    }

    fn lxc(&self) -> Finding {
        let programs = ["lxc-start", "lxc-attach", "lxc-stop", "lxc-info", "lxc-freeze", "lxc-unfreeze"];
        let missing = self.tools.missing(&programs);
        if missing.is_empty() {
            self.has_version(Group::Containers, "lxc", "lxc-start", LXC_MIN)
        } else {
            self.lacks(Group::Containers, "lxc", &missing)
        }
    }

    fn namespaces(&self) -> Finding {
        let (group, check) = (Group::Containers, "namespaces");
        let needed = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
        let missing: Vec<_> =
            needed.into_iter().filter(|kind| !self.namespaces.iter().any(|name| name == kind)).collect();
        if !missing.is_empty() {
            let seen = format!("this kernel has no {} namespaces", missing.join(", "));
            return Finding::failure(group, check, seen, "boot a kernel with all kinds of namespaces");
        }
        match self.trials.get("namespaces") {
            KernelTrial::Fails(words) => {
                Finding::failure(group, check, format!("tried: {words}"), self.help_for_rights())
            }
            KernelTrial::Works => Finding::ok(group, check, format!("{}; tried: works", needed.join(", "))),
            KernelTrial::NotTried => Finding::ok(group, check, format!("{} (not tried)", needed.join(", "))),
        }
    }

    fn user_namespaces(&self) -> Finding {
        let (group, check) = (Group::Containers, "user-namespaces");
        let allow = self.on_the_machine("sysctl -w user.max_user_namespaces=15000");
        match (self.user_namespaces_max, self.trials.get("user-namespace")) {
            (Some(0), _) => Finding::failure(group, check, "user.max_user_namespaces is 0", allow),
            // The kernel's way to say that there are too many.
            (_, KernelTrial::Fails(words)) if words.contains("No space left") => {
                Finding::failure(group, check, format!("tried: {words}"), allow)
            }
            (_, KernelTrial::Fails(words)) => {
                Finding::failure(group, check, format!("tried: {words}"), self.help_for_rights())
            }
            (None, KernelTrial::NotTried) => {
                Finding::failure(group, check, "not in this kernel", "boot a kernel with CONFIG_USER_NS")
            }
            (max, trial) => {
                let most = max.map_or_else(String::new, |max| format!("at most {max}"));
                let tried = if *trial == KernelTrial::Works { "; tried: works" } else { " (not tried)" };
                Finding::ok(group, check, format!("{most}{tried}"))
            }
        }
    }

    fn cgroup(&self) -> Finding {
        let (group, check) = (Group::Containers, "cgroup");
        let Some(version) = self.cgroups.version() else {
            let help = self.as_root("mount -t cgroup2 cgroup2 /sys/fs/cgroup");
            return Finding::failure(group, check, "no cgroup hierarchy is mounted", help);
        };
        match self.cgroups.read_only.first() {
            Some(point) => {
                let remount = || self.as_root(&format!("mount -o remount,rw {point}"));
                let help = self.surroundings.as_ref().map_or_else(remount, Surroundings::help_for_cgroups);
                Finding::failure(group, check, format!("{version}, but {point} is read-only"), help)
            }
            None => Finding::ok(group, check, version),
        }
    }

    /// Finding about the folders of cgroup v1: LXC opens each hierarchy below `/sys/fs/cgroup` by its list of controllers, such as
    /// `cpu,cpuacct`, and follows no links.
    fn cgroup_folders(&self) -> Finding {
        let (group, check) = (Group::Containers, "cgroup-folders");
        let limits = |list: &str| list.split(',').any(|name| LIMITED.contains(&name));
        // What is not mounted at all is missing as a controller, if anything needs it.
        let is_mounted = |list: &str| list.split(',').any(|name| self.cgroups.v1_controllers.contains(name));
        let broken = self.cgroup_folders.iter().filter(|(list, folder)| match folder {
            Folder::There => false,
            Folder::Link => true,
            Folder::Missing => limits(list) && is_mounted(list),
        });
        let broken: Vec<_> = broken.collect();
        let Some((list, folder)) = broken.first() else {
            let seen =
                if self.cgroup_folders.is_empty() { "one tree of cgroup v2" } else { "each where LXC looks for it" };
            return Finding::ok(group, check, seen);
        };
        let what = match folder {
            Folder::Link => "a link, which LXC does not follow",
            _ => "missing, and LXC looks for it",
        };
        let lists: Vec<&str> = broken.iter().map(|(list, _)| list.as_str()).collect();
        Finding::failure(group, check, format!("/sys/fs/cgroup/{list} is {what}"), self.mount_v1(&lists))
    }

    /// Returns the command that mounts these trees of version 1 where LXC looks for them. systemd leaves links there inside a container, in
    /// a folder that is read-only.
    fn mount_v1(&self, lists: &[&str]) -> String {
        let is_link =
            |list: &str| self.cgroup_folders.iter().any(|(name, folder)| name == list && *folder == Folder::Link);
        let mut script = "mount -o remount,rw tmpfs /sys/fs/cgroup".to_owned();
        for list in lists {
            let point = format!("/sys/fs/cgroup/{list}");
            let remove = if is_link(list) { format!("rm {point} && ") } else { String::new() };
            script += &format!("; {remove}mkdir -p {point} && mount -t cgroup -o {list} cgroup {point}");
        }
        self.as_root(&format!("sh -c '{script}'"))
    }

    fn apparmor(&self) -> Finding {
        let (group, check) = (Group::Containers, "apparmor");
        match self.apparmor {
            Mediation::None => Finding::ok(group, check, "not in this kernel: containers are not confined by it"),
            Mediation::Inherited => {
                let seen =
                    "in this kernel, and profiles cannot be loaded here: containers are confined as this engine is";
                Finding::ok(group, check, seen)
            }
            Mediation::Profiles => self.has_tools(group, check, &["apparmor_parser"]),
        }
    }

    fn seccomp(&self) -> Finding {
        let (group, check) = (Group::Containers, "seccomp");
        if self.has_seccomp {
            return Finding::ok(group, check, "filters on system calls of machines");
        }
        let seen = "not in this kernel: system calls of machines are not filtered";
        Finding::warning(group, check, seen, "boot a kernel with CONFIG_SECCOMP_FILTER")
    }

    fn loop_devices(&self) -> Finding {
        let (group, check) = (Group::Containers, "loop");
        let found = self.has_part(group, check, "loop", "loop");
        let Some(help) = found.help.clone() else { return found };
        let help = match &self.surroundings {
            Some(surroundings) => surroundings.help_for_loop(|command| self.as_root(command)),
            None => help,
        };
        if self.uses.contains(&Use::Ext4) && found.status == Status::Failure {
            Finding::failure(group, check, found.seen, help)
        } else {
            let lost =
                if self.uses.contains(&Use::Ext4) { String::new() } else { format!(": {}", Use::Ext4.absence()) };
            Finding::warning(group, check, format!("{}{lost}", found.seen), help)
        }
    }

    fn cgroup_controllers(&self) -> Finding {
        let (group, check) = (Group::Containers, "cgroup-controllers");
        let is_v2 = self.cgroups.version() == Some("v2");
        let io = if is_v2 { "io" } else { "blkio" };
        let has = |name: &str| {
            self.cgroups.v1_controllers.contains(name)
                || self.unified_controllers.iter().any(|controller| controller == name)
                // cgroup v2 freezes without a controller.
                || (is_v2 && name == "freezer")
        };
        let missing = |names: &[&'static str]| names.iter().copied().filter(|name| !has(name)).collect::<Vec<_>>();
        let help = |name: &str| match (is_v2, name) {
            (_, "memory") => "boot with cgroup_enable=memory on the kernel's command line".to_owned(),
            (true, _) => format!("boot without cgroup_disable={name}, and with cgroup_no_v1=all"),
            (false, _) => self.mount_v1(&[name]),
        };
        let required = missing(&["cpu", "memory", "pids", "freezer"]);
        let wanted = missing(&["cpuset", io]);
        if let Some(first) = required.first() {
            Finding::failure(group, check, format!("missing: {}", required.join(", ")), help(first))
        } else if let Some(first) = wanted.first() {
            let seen = format!("missing: {}: the faults that need it cannot be injected", wanted.join(", "));
            Finding::warning(group, check, seen, help(first))
        } else {
            Finding::ok(group, check, format!("cpu, memory, pids, freezer, cpuset, {io}"))
        }
    }
}
