//! What it takes to build and to create containers.

use super::diagnosis::NAMESPACES_CURE;
use super::facts::Facts;
use super::finding::{Finding, Group};
use super::trial::Trial;

/// `lxc.cgroup.dir` and cgroup v2 came with it.
const LXC_MIN: (u32, u32) = (4, 0);

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let group = Group::Containers;
    vec![
        facts.lxc(),
        facts.namespaces(),
        facts.user_namespaces(),
        facts.cgroup(),
        facts.cgroup_controllers(),
        facts.has_part(group, "overlayfs", "overlay", "overlay"),
        facts.has_part(group, "loop", "loop", "loop"),
        facts.has_tools(group, "e2fsprogs", &["mkfs.ext4", "e2fsck"]),
        facts.has_tools(group, "busybox", &["busybox"]),
        facts.has_version(group, "mmdebstrap", "mmdebstrap", (0, 0)),
        facts.has_tools(group, "debian-keyring", &["debian-archive-keyring"]),
        facts.has_tools(group, "ssh-keygen", &["ssh-keygen"]),
    ]
}

impl Facts {
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
            Trial::Fails(words) => Finding::failure(group, check, format!("tried: {words}"), NAMESPACES_CURE),
            Trial::Works => Finding::ok(group, check, format!("{}; tried: works", needed.join(", "))),
            Trial::NotTried => Finding::ok(group, check, format!("{} (not tried)", needed.join(", "))),
        }
    }

    fn user_namespaces(&self) -> Finding {
        let (group, check) = (Group::Containers, "user-namespaces");
        let allow = self.as_root("sysctl -w user.max_user_namespaces=15000");
        match (self.user_namespaces_max, self.trials.get("user-namespace")) {
            (Some(0), _) => Finding::failure(group, check, "user.max_user_namespaces is 0", allow),
            // The kernel's way to say that there are too many.
            (_, Trial::Fails(words)) if words.contains("No space left") => {
                Finding::failure(group, check, format!("tried: {words}"), allow)
            }
            (_, Trial::Fails(words)) => Finding::failure(group, check, format!("tried: {words}"), NAMESPACES_CURE),
            (None, Trial::NotTried) => {
                Finding::failure(group, check, "this kernel has none", "boot a kernel with CONFIG_USER_NS")
            }
            (max, trial) => {
                let most = max.map_or_else(String::new, |max| format!("at most {max}"));
                let tried = if *trial == Trial::Works { "; tried: works" } else { " (not tried)" };
                Finding::ok(group, check, format!("{most}{tried}"))
            }
        }
    }

    fn cgroup(&self) -> Finding {
        let (group, check) = (Group::Containers, "cgroup");
        let Some(version) = self.cgroups.version() else {
            let cure = self.as_root("mount -t cgroup2 cgroup2 /sys/fs/cgroup");
            return Finding::failure(group, check, "no cgroup hierarchy is mounted", cure);
        };
        match self.cgroups.read_only.first() {
            Some(point) => {
                let cure = self.as_root(&format!("mount -o remount,rw {point}"));
                Finding::failure(group, check, format!("{version}, but {point} is read-only"), cure)
            }
            None => Finding::ok(group, check, version),
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
        let cure = |name: &str| match (is_v2, name) {
            (_, "memory") => "boot with cgroup_enable=memory on the kernel's command line".to_owned(),
            (true, _) => format!("boot without cgroup_disable={name}, and with cgroup_no_v1=all"),
            (false, _) => {
                let point = format!("/sys/fs/cgroup/{name}");
                self.as_root(&format!("sh -c 'mkdir -p {point} && mount -t cgroup -o {name} cgroup {point}'"))
            }
        };
        let required = missing(&["cpu", "memory", "pids", "freezer"]);
        let wanted = missing(&["cpuset", io]);
        if let Some(first) = required.first() {
            Finding::failure(group, check, format!("missing: {}", required.join(", ")), cure(first))
        } else if let Some(first) = wanted.first() {
            let seen = format!("missing: {}: no faults of that kind", wanted.join(", "));
            Finding::warning(group, check, seen, cure(first))
        } else {
            Finding::ok(group, check, format!("cpu, memory, pids, freezer, cpuset, {io}"))
        }
    }
}
