//! AppArmor: the kernel's part in the confinement of containers, and the profile that they run under.
//!
//! One profile for all containers is loaded once and then used by each start. LXC can generate one for each container instead, which is
//! compiled anew at each start: that took 1.1 to 1.3 s on a machine where this one takes 0.2 s, once.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, HostCause};
use crate::host::exec::shell::{Command, which};
use crate::host::patience::Deadline;
use crate::host::tools::packages::{Supply, WayToRoot};

/// Folder in which the kernel lists its profiles and takes new ones.
const KERNEL_DIR: &str = "/sys/kernel/security/apparmor";

/// Program that compiles and loads profiles.
const PARSER: &str = "apparmor_parser";

/// Deadline for the compilation of the profile.
const LOAD_DEADLINE: Deadline = Deadline::from_secs(120);

/// Prefix of the profile's name. Distributions confine `lxc-start` itself, and let it change only to profiles of `lxc-`.
const NAME_PREFIX: &str = "lxc-mancer-e2e-";

/// Use that the engine can make of the kernel's AppArmor to confine containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mediation {
    /// No AppArmor in the kernel, or switched off.
    None,
    /// AppArmor that takes no profiles from this process: containers are confined as this process is.
    Inherited,
    /// AppArmor that takes profiles from this process.
    Profiles,
}

/// Confinement of a lab's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Confinement {
    /// No profile: AppArmor does not confine the containers.
    None,
    /// The profile of the process that starts the containers.
    Inherited,
    /// The loaded profile of this name.
    Profile(String),
}

/// Returns the confinement by AppArmor that this kernel offers, as its own files show it.
#[must_use]
pub fn mediation() -> Mediation {
    mediation_below(Path::new("/"))
}

fn mediation_below(root: &Path) -> Mediation {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let enabled = fs::read_to_string(below("/sys/module/apparmor/parameters/enabled")).unwrap_or_default();
    if enabled.trim() != "Y" {
        Mediation::None
    } else if below(KERNEL_DIR).join(".load").exists() {
        Mediation::Profiles
    } else {
        Mediation::Inherited
    }
}

/// Returns the confinement for containers that are started now; loads the profile where the kernel does not have it yet.
///
/// # Errors
/// [`Error::EveryCase`] where the program that compiles the profile is missing.
pub fn confinement() -> anyhow::Result<Confinement> {
    match mediation() {
        Mediation::None => Ok(Confinement::None),
        Mediation::Inherited => Ok(Confinement::Inherited),
        Mediation::Profiles => load(),
    }
}

fn load() -> anyhow::Result<Confinement> {
    let newer = newer_rules(&Path::new(KERNEL_DIR).join("features"));
    let name = profile_name(&newer);
    if loaded().contains(&name) {
        return Ok(Confinement::Profile(name));
    }
    if which(PARSER).is_none() {
        return Err(Error::EveryCase {
            cause: HostCause::ApparmorParser,
            detail: "no AppArmor profile for containers is loaded".to_owned(),
            help: Supply::of_this_machine().help(&[PARSER], WayToRoot::of_this_process()),
        }
        .into());
    }
    // A rule that the parser does not know is one that it does not have the kernel enforce either.
    let known: Vec<&str> = newer.into_iter().filter(|rule| knows(rule)).collect();
    let parser = Command::new(PARSER).args(["--replace", "--skip-cache"]).deadline(LOAD_DEADLINE.scaled());
    match parser.stdin(profile(&name, &known)).run() {
        Ok(_) => Ok(Confinement::Profile(name)),
        // Root of a container has the kernel's files, and may not always write to them.
        Err(_) if is_inside() => Ok(Confinement::Inherited),
        Err(error) => Err(error).context("loading the AppArmor profile of containers"),
    }
}

/// Rules for operations that newer kernels mediate and older ones let pass. Each has the file among the kernel's features that shows the
/// mediation, and the word in this file; with an empty word, the existence of the file is enough.
const NEWER_RULES: [(&str, &str, &str); 3] = [
    ("userns", "namespaces/mask", "userns_create"),
    ("io_uring", "io_uring/mask", ""),
    ("mqueue", "ipc/posix_mqueue", ""),
];

/// Returns those of [`NEWER_RULES`] whose operations this kernel mediates.
fn newer_rules(features: &Path) -> Vec<&'static str> {
    let is_mediated = |file: &str, word: &str| {
        let text = fs::read_to_string(features.join(file));
        text.is_ok_and(|text| word.is_empty() || text.split_whitespace().any(|one| one == word))
    };
    NEWER_RULES.iter().filter(|(_, file, word)| is_mediated(file, word)).map(|(rule, ..)| *rule).collect()
}

/// Tells whether the installed parser accepts a rule.
fn knows(rule: &str) -> bool {
    let parser = Command::new(PARSER).args(["--skip-kernel-load", "--skip-cache"]).deadline(LOAD_DEADLINE.scaled());
    parser.stdin(format!("profile {NAME_PREFIX}rule {{\n  {rule},\n}}\n")).run().is_ok()
}

/// Tells whether this process is confined itself, or root of a user namespace only.
fn is_inside() -> bool {
    let label = fs::read_to_string("/proc/self/attr/current").unwrap_or_default();
    let ids = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !matches!(label.trim(), "" | "unconfined") || ids.split_whitespace().nth(1) != Some("0")
}

/// Returns the names of the engine's profiles that the kernel has, of all versions of the engine.
fn loaded() -> BTreeSet<String> {
    ours(&fs::read_to_string(Path::new(KERNEL_DIR).join("profiles")).unwrap_or_default())
}

/// Picks the engine's own profiles from the kernel's list, each line of which is a name and a mode.
fn ours(profiles: &str) -> BTreeSet<String> {
    let names = profiles.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name);
    names.filter(|name| name.starts_with(NAME_PREFIX)).map(str::to_owned).collect()
}

/// Unloads the engine's profiles from the kernel, and returns their names. A program that still runs under one is unconfined from then on:
/// only for a host without labs.
pub fn unload() -> anyhow::Result<BTreeSet<String>> {
    let names = loaded();
    for name in &names {
        fs::write(Path::new(KERNEL_DIR).join(".remove"), name)
            .with_context(|| format!("unloading the profile {name}"))?;
    }
    Ok(names)
}

/// Files of `/proc/sys` that belong to a container's own namespaces, which it may write.
const OWN_SETTINGS: [&str; 6] =
    ["kernel/domainname", "kernel/hostname", "kernel/msg*", "kernel/sem*", "kernel/shm*", "net/"];

/// Folders of `/sys` that show a container's own devices and cgroups.
const OWN_DEVICES: [&str; 3] = ["class/net/", "devices/virtual/net/", "fs/cgroup/"];

/// Returns the rules of the profile: a container may do anything within itself, and does not reach the host through `/proc` and `/sys`.
/// They grant no more than LXC's own with `lxc.apparmor.allow_nesting`: the container may mount (systemd does, for its units), and neither
/// signals nor traces processes under another profile.
fn rules(newer: &[&str]) -> String {
    let mut text: String = newer.iter().map(|rule| format!("  {rule},\n")).collect();
    text.push_str(
        "  capability,
  dbus,
  file,
  mount,
  network,
  pivot_root,
  umount,
  ptrace (readby, tracedby),
  ptrace peer=@{profile_name},
  signal (receive),
  signal peer=@{profile_name},
  unix (receive),
  unix peer=(label=@{profile_name}),
  deny mount options=(ro, remount) -> /,
  deny mount options=(ro, remount, silent) -> /,
  deny /proc/acpi/** rwklx,
  deny /proc/bus/** wklx,
  deny /proc/kcore rwklx,
  deny /proc/sysrq-trigger rwklx,
  deny /sys/firmware/efi/efivars/** rwklx,
  deny /sys/kernel/debug/{,**} rwklx,
",
    );
    for (top, own) in [("/proc/sys", &OWN_SETTINGS[..]), ("/sys", &OWN_DEVICES)] {
        for pattern in all_but(top, own) {
            let _ = writeln!(text, "  deny {pattern} wklx,");
        }
    }
    text
}

/// Returns patterns that match all paths below a folder except the kept ones: files by their names, files by the prefix of their names
/// (`*`), and folders with all they hold (`/`). AppArmor has no exceptions to a denial, so there is one pattern for each character at which
/// a path can differ from a kept one.
fn all_but(top: &str, kept: &[&str]) -> BTreeSet<String> {
    let names: Vec<&str> = kept.iter().map(|kept| kept.trim_end_matches(['*', '/'])).collect();
    let mut patterns = BTreeSet::new();
    for (kept, name) in kept.iter().zip(&names) {
        for way in (0..name.len()).map(|length| &name[..length]) {
            let on = names.iter().filter_map(|name| name.strip_prefix(way)?.chars().next());
            let on: String = on.collect::<BTreeSet<char>>().into_iter().collect();
            let off = if on == "/" { "?".to_owned() } else { format!("[^{on}]") };
            patterns.insert(format!("{top}/{way}{off}*{{,/**}}"));
        }
        let beyond = if kept.ends_with('*') { "*/**" } else { "?*{,/**}" };
        patterns.insert(format!("{top}/{name}{beyond}"));
    }
    patterns
}

/// Returns the profile's name, with the hash of its rules: an engine with other rules has another profile.
fn profile_name(newer: &[&str]) -> String {
    let hash = Sha256::digest(rules(newer));
    let short = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{NAME_PREFIX}{short}")
}

fn profile(name: &str, newer: &[&str]) -> String {
    format!("profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{}}}\n", rules(newer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells whether one of the patterns matches, as AppArmor reads them: `*` and `?` stop at a slash, `**` does not.
    fn matches(patterns: &BTreeSet<String>, path: &str) -> bool {
        patterns.iter().any(|pattern| {
            let mut expression = regex::escape(pattern);
            for (glob, meaning) in [
                (r"\{,/\*\*\}", "(|/.+)"),
                (r"/\*\*", "/.+"),
                (r"\*", "[^/]*"),
                (r"\?", "[^/]"),
                (r"\[\^", "[^/"),
                (r"\]", "]"),
            ] {
                expression = expression.replace(glob, meaning);
            }
            regex::Regex::new(&format!("^{expression}$")).unwrap().is_match(path)
        })
    }

    #[test]
    fn containers_write_to_settings_of_their_own_and_to_no_others() {
        let settings = all_but("/proc/sys", &OWN_SETTINGS);
        let check = |patterns: &BTreeSet<String>, path: &str, denied: bool| {
            assert_eq!(matches(patterns, path), denied, "{path}: {patterns:#?}");
        };
        for own in [
            "kernel/hostname",
            "kernel/domainname",
            "kernel/shmmax",
            "kernel/sem",
            "kernel/msgmnb",
            "net/ipv4/ip_forward",
        ] {
            check(&settings, &format!("/proc/sys/{own}"), false);
        }
        for foreign in [
            "kernel/panic",
            "kernel/hostname2",
            "kernel/core_pattern",
            "kernel/host",
            "kernel/keys/maxkeys",
            "kernel/shm/x",
            "kernel/modprobe",
            "kernel2",
            "fs/file-max",
            "fs/binfmt_misc/register",
            "vm/drop_caches",
            "net2/x",
            "netfilter",
            "user/max_user_namespaces",
        ] {
            // A file that is named like the start of a kept one is no setting of any kernel.
            check(&settings, &format!("/proc/sys/{foreign}"), foreign != "kernel/host");
        }
        let devices = all_but("/sys", &OWN_DEVICES);
        for own in ["fs/cgroup/a/cgroup.procs", "class/net/eth0/mtu", "devices/virtual/net/eth0/mtu"] {
            check(&devices, &format!("/sys/{own}"), false);
        }
        for foreign in
            ["power/state", "kernel/debug/x", "fs/ext4/x", "class/block/x", "devices/virtual/tty/x", "module/x"]
        {
            check(&devices, &format!("/sys/{foreign}"), true);
        }
    }

    #[test]
    fn the_profile_has_a_name_that_lxc_start_may_change_to_and_that_follows_its_rules() {
        let name = profile_name(&["userns"]);
        assert!(name.starts_with("lxc-") && name.len() == NAME_PREFIX.len() + 8, "{name}");
        assert_ne!(name, profile_name(&[]));
        let text = profile(&name, &["userns"]);
        assert!(text.contains("\n  userns,\n"), "{text}");
        assert!(text.starts_with(&format!("profile {name} flags=")) && text.ends_with("}\n"), "{text}");
        let rules = text.lines().skip(1).filter(|line| *line != "}");
        assert!(rules.into_iter().all(|line| line.starts_with("  ") && line.ends_with(',')), "{text}");
    }

    #[test]
    fn what_only_newer_kernels_mediate_is_granted_where_they_do() {
        let features = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = features.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("namespaces/mask", "pivot_root\n");
        assert!(newer_rules(features.path()).is_empty());
        write("namespaces/mask", "userns_create pivot_root\n");
        write("io_uring/mask", "sqpoll override_creds\n");
        assert_eq!(newer_rules(features.path()), ["userns", "io_uring"]);
    }

    #[test]
    fn the_engines_own_profiles_are_told_from_others() {
        let list = "/usr/bin/lxc-start (enforce)\nlxc-container-default (enforce)\nlxc-mancer-e2e-01ab23cd (enforce)\n";
        assert_eq!(ours(list), ["lxc-mancer-e2e-01ab23cd".to_owned()].into());
        assert_eq!(ours(""), BTreeSet::new());
    }

    #[test]
    fn the_kernels_files_say_what_it_does() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(mediation_below(root.path()), Mediation::None);
        write("sys/module/apparmor/parameters/enabled", "N\n");
        assert_eq!(mediation_below(root.path()), Mediation::None);
        write("sys/module/apparmor/parameters/enabled", "Y\n");
        assert_eq!(mediation_below(root.path()), Mediation::Inherited);
        write("sys/kernel/security/apparmor/.load", "");
        assert_eq!(mediation_below(root.path()), Mediation::Profiles);
    }
}
