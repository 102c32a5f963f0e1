//! Findings from facts. Pure: the same facts give the same findings. Each group of checks has a file of its own; their common parts are
//! here.

use super::facts::{Facts, Subject};
use super::finding::{Finding, Group};
use super::kernel::version;
use super::kernel_trial::KernelTrial;
use super::surroundings::Surroundings;
use super::{containers, machine, network, optional, permission, resources};
use crate::host::tools::packages::{Item, Need, WayToRoot};

/// Examines this machine and returns all findings, in the order in which they are read.
#[must_use]
pub fn examine(subject: &Subject) -> Vec<Finding> {
    diagnose(&Facts::gather(subject))
}

fn diagnose(facts: &Facts) -> Vec<Finding> {
    let groups = [
        machine::findings,
        containers::findings,
        network::findings,
        permission::findings,
        resources::findings,
        optional::findings,
    ];
    groups.iter().flat_map(|findings| findings(facts)).collect()
}

impl Facts {
    pub fn as_root(&self, command: &str) -> String {
        self.way_to_root.prefix().map_or_else(|| command.to_owned(), |sudo| format!("{sudo} {command}"))
    }

    /// Returns the help to run a command as root outside of any container: where the engine is in one, the text names the machine around
    /// it.
    pub fn on_the_machine(&self, command: &str) -> String {
        match &self.surroundings {
            Some(_) => format!("on the machine around this container: {command}"),
            None => self.as_root(command),
        }
    }

    /// Help where namespaces or mounts are refused although the kernel has them.
    pub fn help_for_rights(&self) -> String {
        self.surroundings.as_ref().map_or_else(
            || "run on the machine itself, or in a privileged container, and not in a chroot".to_owned(),
            Surroundings::help_for_rights,
        )
    }

    /// Tells whether the engine cannot run here without this item.
    pub fn requires(&self, item: &str) -> bool {
        Item::named(item).need.is_required(&self.uses)
    }

    /// Finding about items of which some are missing: a failure where one is required, a warning where only faults need them.
    pub fn lacks(&self, group: Group, check: &'static str, missing: &[&'static str]) -> Finding {
        let names = missing.join(", ");
        let needs: Vec<Need> = missing.iter().map(|name| Item::named(name).need).collect();
        let help = self.supply.help(missing, self.way_to_root);
        if needs.iter().any(|need| need.is_required(&self.uses)) {
            return Finding::failure(group, check, format!("missing: {names}"), help).installing(missing);
        }
        match needs.iter().find(|need| !matches!(need, Need::Where(_))) {
            Some(Need::Faults) => {
                Finding::warning(group, check, format!("missing: {names}: some faults need it"), help)
                    .installing(missing)
            }
            Some(_) => Finding::warning(group, check, format!("missing: {names}"), help).installing(missing),
            None => {
                let mut reasons = needs.iter().filter_map(|need| match need {
                    Need::Where(feature) => Some(feature.absence()),
                    _ => None,
                });
                let reason = reasons.next_back().unwrap_or_default();
                Finding::ok(group, check, format!("not installed and not needed: {reason}"))
            }
        }
    }

    pub fn has_tools(&self, group: Group, check: &'static str, names: &[&'static str]) -> Finding {
        let missing = self.tools.missing(names);
        if !missing.is_empty() {
            return self.lacks(group, check, &missing);
        }
        let seen = match names {
            [name] => self.tools.find(name).map(|path| path.display().to_string()).unwrap_or_default(),
            names => names.join(", "),
        };
        Finding::ok(group, check, seen)
    }

    pub fn has_version(&self, group: Group, check: &'static str, name: &'static str, least: (u32, u32)) -> Finding {
        if self.tools.find(name).is_none() {
            return self.lacks(group, check, &[name]);
        }
        let said = self.versions.get(name).cloned().unwrap_or_default();
        match version(&said) {
            None if self.requires(name) => {
                let help = self.supply.help(&[name], self.way_to_root);
                Finding::failure(group, check, format!("{name} does not say its version: {said:?}"), help)
            }
            Some(found) if found < least && self.requires(name) => {
                let seen = format!("{said}: {}.{} or newer is needed", least.0, least.1);
                let help = self.supply.help(&[name], self.way_to_root);
                Finding::failure(group, check, seen, help)
            }
            Some(_) | None => Finding::ok(group, check, said),
        }
    }

    /// Finding about a part of the kernel: by its trial where there was one, else by the kernel's own files.
    pub fn has_part(&self, group: Group, check: &'static str, part: &str, module: &str) -> Finding {
        let load = self.on_the_machine(&format!("modprobe {module}"));
        match (self.trials.get(part), self.parts.get(part).copied().flatten()) {
            (KernelTrial::Works, _) => Finding::ok(group, check, "tried: works"),
            (KernelTrial::Fails(words), _) if words.starts_with("unshare:") => {
                Finding::failure(group, check, format!("tried: {words}"), self.help_for_rights())
            }
            (KernelTrial::Fails(words), Some(false)) => {
                Finding::failure(group, check, format!("tried: {words}"), format!("boot a kernel with {module}"))
            }
            (KernelTrial::Fails(words), _) => {
                let help = format!("{load}  (where that fails: boot a kernel with {module})");
                Finding::failure(group, check, format!("tried: {words}"), help)
            }
            (KernelTrial::NotTried, Some(true)) => Finding::ok(group, check, "the kernel has it (not tried)"),
            (KernelTrial::NotTried, Some(false)) => {
                Finding::failure(group, check, "not in this kernel", format!("boot a kernel with {module}"))
            }
            (KernelTrial::NotTried, None) => self.untried(group, check),
        }
    }

    pub fn untried(&self, group: Group, check: &'static str) -> Finding {
        let help = match self.way_to_root {
            // With a fresh password doctor's own `sudo -n` gets through.
            WayToRoot::Sudo => "sudo --validate && cargo xtask doctor",
            WayToRoot::Direct => "install the tools above, then look again: cargo xtask doctor",
        };
        Finding::warning(group, check, "could not be tried", help)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::host::container::apparmor::Mediation;
    use crate::host::container::ids::IdRange;
    use crate::host::doctor::Status;
    use crate::host::doctor::accounts::Registered;
    use crate::host::doctor::facts::{Folder, Place, SlotIds};
    use crate::host::doctor::kernel::Cgroups;
    use crate::host::doctor::surroundings::Kind;
    use crate::host::doctor::tools::Tools;
    use crate::host::patience::Patience;
    use crate::host::tools::packages::{ITEMS, Manager, Supply, Use, Uses};
    use crate::host::tools::sudo::Sudo;

    const GB: u64 = 1_000_000_000;
    const MB: u64 = 1_000_000;
    const ALL_TRIALS: [&str; 11] = [
        "namespaces",
        "user-namespace",
        "network-namespace",
        "bridge",
        "veth",
        "nft",
        "port-lock",
        "netem",
        "nfqueue",
        "overlay",
        "loop",
    ];

    /// Facts of a machine on which every check passes.
    fn healthy() -> Facts {
        let place = Place { free_bytes: 50 * GB, free_inodes: Some(1_000_000), ..Place::default() };
        let versions = [
            ("lxc-start", "5.0.2"),
            ("ip", "iproute2-6.1.0"),
            ("nft", "nftables v1.0.6"),
            ("mmdebstrap", "mmdebstrap 1.3.5"),
            ("python3", "Python 3.11.2"),
        ];
        Facts {
            kernel_release: "6.1.0-28-amd64".to_owned(),
            distribution: "Debian GNU/Linux 12".to_owned(),
            supply: Supply::Packages(Manager::Apt),
            way_to_root: WayToRoot::Sudo,
            sudo: Sudo::Silent,
            user: "alice".to_owned(),
            uses: Use::OF_TEMPLATES.into_iter().chain([Use::AppArmor, Use::Guests]).collect(),
            tools: Tools::look_up(|item| Some(PathBuf::from("/usr/bin").join(item.name))),
            versions: versions.map(|(name, said)| (name, said.to_owned())).into(),
            namespaces: ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"].map(str::to_owned).into(),
            user_namespaces_max: Some(15000),
            cgroups: Cgroups { unified: Some("/sys/fs/cgroup".to_owned()), ..Cgroups::default() },
            cgroup_folders: Vec::new(),
            surroundings: None,
            apparmor: Mediation::Profiles,
            has_seccomp: true,
            unified_controllers: ["cpuset", "cpu", "io", "memory", "pids"].map(str::to_owned).into(),
            parts: [].into(),
            trials: ALL_TRIALS.into_iter().map(|name| (name, KernelTrial::Works)).collect(),
            memory_total_bytes: 8 * GB,
            memory_available_bytes: 6 * GB,
            processors: 4,
            patience: Patience { factor: 1.0, process_start: Some(std::time::Duration::from_micros(700)) },
            load: 0.3,
            inotify_instances_max: Some(128),
            layers: place.clone(),
            state: place.clone(),
            target: place,
            map_helpers: Vec::new(),
            ids: IdRange { first: 1_879_048_192, count: 16_777_216 },
            slot_ids: SlotIds::PerSlot,
            subuid: Registered { for_root: false, at_all: true },
            subgid: Registered { for_root: false, at_all: true },
            claims: Vec::new(),
            free_first_id: Some(1_895_825_408),
            has_pressure: true,
        }
    }

    /// Checks the findings on a healthy machine with one change. Each expected one has a check, a status, part of what was seen, and part
    /// of the help.
    fn check(change: impl Fn(&mut Facts), expected: &[(&str, Status, &str, &str)]) {
        let mut facts = healthy();
        change(&mut facts);
        let findings: Vec<_> = diagnose(&facts).into_iter().filter(|finding| finding.status != Status::Ok).collect();
        let names = |findings: &[Finding]| findings.iter().map(|finding| finding.check).collect::<Vec<_>>();
        assert_eq!(names(&findings), expected.iter().map(|expected| expected.0).collect::<Vec<_>>(), "{findings:#?}");
        for (finding, (_, status, seen, help)) in findings.iter().zip(expected) {
            assert_eq!(finding.status, *status, "{finding:?}");
            assert!(finding.seen.contains(seen), "{finding:?} lacks {seen:?}");
            assert!(finding.help.as_ref().is_some_and(|text| text.contains(help)), "{finding:?} lacks {help:?}");
        }
    }

    use Status::{Failure, Warning};

    #[test]
    fn a_healthy_machine_has_no_complaint() {
        check(|_| (), &[]);
    }

    #[test]
    fn every_check_has_a_name_of_its_own_and_every_complaint_help() {
        let nothing = Facts {
            tools: Tools::default(),
            versions: [].into(),
            namespaces: Vec::new(),
            user_namespaces_max: None,
            cgroups: Cgroups::default(),
            unified_controllers: Vec::new(),
            trials: [].into_iter().collect(),
            memory_total_bytes: 0,
            memory_available_bytes: 0,
            inotify_instances_max: None,
            has_pressure: false,
            layers: Place::default(),
            state: Place::default(),
            target: Place::default(),
            ..healthy()
        };
        for facts in [healthy(), nothing] {
            let findings = diagnose(&facts);
            let mut names: Vec<_> = findings.iter().map(|finding| finding.check).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), findings.len(), "a name is used twice");
            for finding in findings {
                assert_eq!(finding.status == Status::Ok, finding.help.is_none(), "{finding:?}");
                assert!(!finding.seen.is_empty(), "{finding:?}");
            }
        }
    }

    #[test]
    fn each_required_tool_that_is_missing_is_a_failure_with_help() {
        for missing in ITEMS.iter().filter(|item| matches!(item.need, Need::Required | Need::Where(_))) {
            let path = |name: &str| (name != missing.name).then(|| PathBuf::from(name));
            let facts = Facts { tools: Tools::look_up(|item| path(item.name)), ..healthy() };
            let failures: Vec<_> = diagnose(&facts).into_iter().filter(|finding| finding.status == Failure).collect();
            let [failure] = &failures[..] else { panic!("{} gives {failures:#?}", missing.name) };
            assert_eq!(failure.items, [missing.name]);
            assert!(failure.seen.contains(missing.name), "{failure:?}");
            let help = failure.help.clone().unwrap();
            assert!(help.starts_with("sudo apt-get install --no-install-recommends "), "{help}");
        }
    }

    #[test]
    fn on_an_empty_path_all_that_is_required_fails() {
        let tools = Tools::look_up(|_| None);
        let mut facts = Facts { tools, ..healthy() };
        facts.uses.insert(Use::Guests);
        let installed: Vec<_> = diagnose(&facts).into_iter().flat_map(|finding| finding.items).collect();
        for item in ITEMS {
            assert!(installed.contains(&item.name), "{} is not asked for", item.name);
        }
    }

    #[test]
    fn trouble_with_containers() {
        let fails_with = |name: &'static str, words: &'static str| {
            move |facts: &mut Facts| {
                let trial = |each| if each == name { KernelTrial::Fails(words.to_owned()) } else { KernelTrial::Works };
                facts.trials = ALL_TRIALS.into_iter().map(|each| (each, trial(each))).collect();
            }
        };
        let fails = |name| fails_with(name, "no way");
        let refused = "unshare: unshare failed: Operation not permitted";
        let too_many = "unshare: unshare failed: No space left on device";
        check(fails_with("overlay", refused), &[("overlayfs", Failure, refused, "privileged")]);
        check(fails_with("user-namespace", too_many), &[("user-namespaces", Failure, too_many, "sysctl -w user.")]);
        check(fails("overlay"), &[("overlayfs", Failure, "tried: no way", "sudo modprobe overlay")]);
        check(fails("namespaces"), &[("namespaces", Failure, "tried: no way", "privileged")]);
        check(fails("user-namespace"), &[("user-namespaces", Failure, "no way", "privileged")]);
        check(fails("network-namespace"), &[("network-namespace", Failure, "no way", "privileged")]);
        check(fails("bridge"), &[("bridge", Failure, "no way", "modprobe bridge")]);
        check(fails("nft"), &[("nft", Failure, "nftables v1.0.6; tried: no way", "modprobe nf_tables")]);
        check(
            fails("port-lock"),
            &[("port-lock", Warning, "no way: machines of a lab can take", "CONFIG_NF_TABLES_BRIDGE")],
        );
        check(|facts| facts.has_seccomp = false, &[("seccomp", Warning, "not filtered", "CONFIG_SECCOMP_FILTER")]);
        check(fails("netem"), &[("netem", Warning, "no way: delays use NFQUEUE", "modprobe sch_netem")]);
        check(
            |facts| drop(facts.versions.insert("lxc-start", "3.0.4".to_owned())),
            &[("lxc", Failure, "3.0.4: 4.0 or newer", "apt-get install --no-install-recommends lxc")],
        );
        check(|facts| facts.user_namespaces_max = Some(0), &[("user-namespaces", Failure, "is 0", "sysctl")]);
        check(
            |facts| facts.cgroups.read_only = vec!["/sys/fs/cgroup".to_owned()],
            &[("cgroup", Failure, "read-only", "sudo mount -o remount,rw /sys/fs/cgroup")],
        );
    }

    #[test]
    fn what_no_template_uses_is_not_missed() {
        let without = |names: &'static [&str], uses: &'static [Use]| {
            move |facts: &mut Facts| {
                facts.uses = uses.iter().copied().collect();
                facts.tools = Tools::look_up(|item| (!names.contains(&item.name)).then(|| item.name.into()));
            }
        };
        let builders = &[
            "mmdebstrap",
            "debian-archive-keyring",
            "slirp4netns",
            "pip",
            "python3",
            "ssh-keygen",
            "mkfs.ext4",
            "tar",
        ];
        check(without(builders, &[Use::Busybox]), &[]);
        check(without(&["apparmor_parser", "pip"], &[]), &[]);
        check(without(&["pip"], &[Use::Python]), &[("pip", Failure, "missing: pip", "python3-pip")]);
        check(without(&["slirp4netns"], &[]), &[]);
        let missing = ("slirp4netns", Failure, "missing: slirp4netns", "slirp4netns");
        check(without(&["slirp4netns"], &[Use::Download]), &[missing]);
        check(without(&["busybox"], &[Use::Busybox]), &[("busybox", Failure, "missing: busybox", "busybox-static")]);
        check(without(&["tc"], &[]), &[("iproute2", Warning, "missing: tc: some faults need it", "iproute2")]);
        check(without(&["nft"], &[]), &[("nft", Warning, "missing: nft: some faults need it", "nftables")]);
        check(
            |facts| {
                facts.uses = Uses::new();
                facts.trials = [("loop", KernelTrial::Fails("no nodes".to_owned()))].into_iter().collect();
                facts.trials.extend(ALL_TRIALS.into_iter().filter(|name| *name != "loop"));
            },
            &[("loop", Warning, "no nodes: no template has a volume of ext4", "modprobe loop")],
        );
    }

    #[test]
    fn trouble_with_apparmor() {
        let lacks_parser = |facts: &mut Facts| {
            facts.tools = Tools::look_up(|item| (item.name != "apparmor_parser").then(|| item.name.into()));
        };
        check(lacks_parser, &[("apparmor", Failure, "missing: apparmor_parser", "recommends apparmor")]);
        for mediation in [Mediation::None, Mediation::Inherited] {
            check(
                |facts| {
                    lacks_parser(facts);
                    facts.apparmor = mediation;
                    facts.uses.remove(&Use::AppArmor);
                },
                &[],
            );
        }
    }

    #[test]
    fn in_a_container_the_help_is_for_containers() {
        let inside = |kind: Kind, is_unprivileged: bool, name: &'static str, words: &'static str| {
            move |facts: &mut Facts| {
                facts.surroundings = Some(Surroundings { kind, name: "lxc".to_owned(), is_unprivileged });
                facts.trials = [(name, KernelTrial::Fails(words.to_owned()))].into_iter().collect();
                facts.trials.extend(ALL_TRIALS.into_iter().filter(|each| *each != name));
            }
        };
        let refused = "unshare: unshare failed: Operation not permitted";
        check(inside(Kind::Incus, false, "loop", "no"), &[("loop", Failure, "tried: no", "b 7:* rwm")]);
        check(
            inside(Kind::Incus, false, "loop", "no"),
            &[("loop", Failure, "tried: no", "sudo sh -c 'mknod /dev/loop-control")],
        );
        check(inside(Kind::Incus, true, "loop", "no"), &[("loop", Failure, "no", "security.privileged=true")]);
        check(inside(Kind::Docker, false, "loop", "no"), &[("loop", Failure, "no", "--privileged")]);
        check(inside(Kind::Docker, false, "overlay", refused), &[("overlayfs", Failure, refused, "--privileged")]);
        check(inside(Kind::Lxc, true, "namespaces", refused), &[("namespaces", Failure, refused, "nesting.conf")]);
        check(
            inside(Kind::Incus, false, "bridge", "Unknown device type"),
            &[("bridge", Failure, "Unknown", "on the machine around this container: modprobe bridge")],
        );
    }

    #[test]
    fn trouble_with_folders_of_cgroups() {
        let hybrid = |list: &'static str, folder: Folder| {
            move |facts: &mut Facts| {
                let v1_controllers = ["cpu", "cpuacct", "memory", "pids", "freezer", "cpuset", "blkio"];
                facts.cgroups.v1_controllers = v1_controllers.map(str::to_owned).into();
                facts.cgroup_folders = vec![("memory".to_owned(), Folder::There), (list.to_owned(), folder)];
            }
        };
        let name = "cgroup-folders";
        check(hybrid("cpu", Folder::There), &[]);
        check(hybrid("net_cls", Folder::Missing), &[]);
        let remount = "sudo sh -c 'mount -o remount,rw tmpfs /sys/fs/cgroup; ";
        let link = format!(
            "{remount}rm /sys/fs/cgroup/cpu && mkdir -p /sys/fs/cgroup/cpu && mount -t cgroup -o cpu cgroup /sys/fs/cgroup/cpu'"
        );
        check(hybrid("cpu", Folder::Link), &[(name, Failure, "/sys/fs/cgroup/cpu is a link", &link)]);
        let missing = format!("{remount}mkdir -p /sys/fs/cgroup/cpu,cpuacct && mount");
        check(
            hybrid("cpu,cpuacct", Folder::Missing),
            &[(name, Failure, "/sys/fs/cgroup/cpu,cpuacct is missing", &missing)],
        );
        // As systemd leaves them in a container whose machine has two trees.
        check(
            |facts| {
                hybrid("cpu", Folder::Link)(facts);
                facts.cgroup_folders.push(("cpuacct".to_owned(), Folder::Link));
            },
            &[(name, Failure, "/sys/fs/cgroup/cpu is a link", "; rm /sys/fs/cgroup/cpuacct && mkdir")],
        );
    }

    #[test]
    fn trouble_with_controllers() {
        let unified = |names: &'static [&str]| {
            move |facts: &mut Facts| {
                facts.unified_controllers = names.iter().map(|name| (*name).to_owned()).collect();
            }
        };
        let name = "cgroup-controllers";
        check(unified(&["cpu", "cpuset", "io", "pids"]), &[(name, Failure, "missing: memory", "cgroup_enable=memory")]);
        check(unified(&["cpu", "memory", "pids"]), &[(name, Warning, "missing: cpuset, io", "cgroup_disable=cpuset")]);
        let v1 = |names: &'static [&str]| {
            move |facts: &mut Facts| {
                let v1_controllers = names.iter().map(|name| (*name).to_owned()).collect();
                facts.cgroups = Cgroups { v1_controllers, ..Cgroups::default() };
                facts.unified_controllers.clear();
            }
        };
        check(v1(&["cpu", "memory", "pids", "freezer", "cpuset", "blkio"]), &[]);
        check(
            v1(&["cpu", "memory", "pids", "cpuset", "blkio"]),
            &[(name, Failure, "missing: freezer", "mount -t cgroup -o freezer cgroup /sys/fs/cgroup/freezer")],
        );
    }

    #[test]
    fn trouble_with_rights() {
        check(|facts| facts.sudo = Sudo::Missing, &[("root", Failure, "alice, without sudo", "as root")]);
        check(|facts| facts.sudo = Sudo::Doubtful, &[("root", Warning, "alice is in none", "--groups sudo alice")]);
        check(|facts| facts.sudo = Sudo::Asks, &[]);
        check(|facts| facts.sudo = Sudo::Refuses, &[("root", Failure, "does not let alice", "--groups sudo alice")]);
        let helper = |facts: &mut Facts| facts.map_helpers = vec![PathBuf::from("/usr/sbin/newuidmap")];
        let allow_uid = |facts: &mut Facts| {
            helper(facts);
            facts.subuid.for_root = true;
        };
        check(
            helper,
            &[
                ("subuid", Warning, "/usr/sbin/newuidmap", "cargo xtask setup"),
                ("subgid", Warning, "does not let root use the ids 1879048192-1895825407", "cargo xtask setup"),
            ],
        );
        let on_nixos = |facts: &mut Facts| {
            allow_uid(facts);
            facts.supply = Supply::Nix;
            facts.sudo = Sudo::Doubtful;
        };
        check(
            on_nixos,
            &[
                ("root", Warning, "alice", "users.users.alice.extraGroups = [ \"wheel\" ];"),
                (
                    "subgid",
                    Warning,
                    "does not let root",
                    "users.users.root.subGidRanges = [ { startGid = 1879048192; count = 16777216; } ];",
                ),
            ],
        );
        check(allow_uid, &[("subgid", Warning, "1879048192-1895825407", "cargo xtask setup")]);
        let unregistered = |facts: &mut Facts| facts.subuid = Registered::default();
        check(unregistered, &[("subuid", Warning, "are not registered in", "cargo xtask setup")]);
        let claimed = |facts: &mut Facts| facts.claims = vec!["the user bob has 1879100000".into(), "x".into()];
        check(
            claimed,
            &[("ids", Warning, "the user bob has 1879100000, and 1 more", "ids = { first = 1895825408 } in e2e.toml")],
        );
        let shared = |facts: &mut Facts| facts.slot_ids = SlotIds::Shared("the kernel lacks x".into());
        check(shared, &[("ids-of-slots", Warning, "all labs share one range", "boot Linux 5.19")]);
    }

    #[test]
    fn trouble_with_room() {
        check(|facts| facts.memory_total_bytes = 3 * GB, &[("memory", Warning, "3.0 GB in all", "4 GB")]);
        check(|facts| facts.memory_available_bytes = GB, &[("memory-available", Warning, "1.0 GB", "ps -e")]);
        check(|facts| facts.memory_available_bytes = GB / 3, &[("memory-available", Failure, "333 MB", "ps -e")]);
        check(|facts| facts.layers.free_bytes = 2 * GB, &[("disk-layers", Warning, "2.0 GB free", "image prune")]);
        check(|facts| facts.layers.free_bytes = GB / 2, &[("disk-layers", Failure, "500 MB free", "5.0 GB")]);
        check(|facts| facts.layers.free_inodes = Some(7), &[("disk-layers", Warning, "only 7 inodes", "delete files")]);
        check(|facts| facts.layers.free_inodes = None, &[]);
        let small_tmpfs = |facts: &mut Facts| {
            facts.state = Place {
                path: "/run/lock".into(),
                mount_point: "/run".into(),
                free_bytes: 10 * MB,
                used_bytes: 30 * MB,
                free_inodes: Some(9),
                is_tmpfs: true,
            };
        };
        let help = "sudo mount -o remount,size=94M /run";
        check(small_tmpfs, &[("disk-state", Warning, "10 MB free in /run/lock (tmpfs)", help)]);
        check(|facts| facts.load = 9.0, &[("processors", Warning, "4, load 9.0", "ps -e")]);
        check(|facts| facts.inotify_instances_max = Some(64), &[("inotify", Warning, "64", "sysctl -w fs.inotify")]);
    }

    #[test]
    fn without_root_the_kernels_files_decide() {
        let untried = |facts: &mut Facts, has: Option<bool>| {
            facts.trials = [].into_iter().collect();
            facts.parts = ["bridge", "veth", "overlay", "loop", "nft", "netem", "nfqueue"].map(|it| (it, has)).into();
        };
        check(|facts| untried(facts, Some(true)), &[]);
        check(
            |facts| {
                untried(facts, Some(true));
                facts.parts.insert("veth", Some(false));
                facts.parts.insert("bridge", None);
            },
            &[("bridge", Warning, "could not be tried", "sudo --validate"), ("veth", Failure, "not in this", "veth")],
        );
    }
}
