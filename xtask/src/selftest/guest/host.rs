//! Description of the host that the tests run on.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::cgroup;
use crate::host::machine::hardware;

/// Facts about a host that let a reader compare it with another host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Kind of the host, such as `User-Mode Linux`.
    pub machine: String,
    /// Distribution, as it calls itself.
    pub distribution: String,
    /// Release of the kernel, such as `6.1.0-37-amd64`.
    pub kernel: String,
    /// Layout of the control groups, with the controllers of version 2: `v2 (cpu io memory pids)`.
    pub cgroup: String,
    /// Version of LXC on the host.
    pub lxc: String,
    /// State of AppArmor in the kernel: `on`, `off` or `none`.
    pub apparmor: String,
    /// First process (PID 1) of the host: `systemd`, `sh`, or `another one`.
    pub init: String,
    /// Number of processors of the host.
    pub processors: u32,
}

impl Host {
    /// Describes the host that this process runs on; `machine` is its kind.
    #[must_use]
    pub fn of_this_machine(machine: &str) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            machine: machine.to_owned(),
            distribution: pretty_name(&read("/etc/os-release")),
            kernel: hardware::kernel(),
            cgroup: cgroup(),
            lxc: hardware::lxc_version(),
            apparmor: match read("/sys/module/apparmor/parameters/enabled").trim() {
                "Y" => "on",
                "" => "none",
                _ => "off",
            }
            .to_owned(),
            init: match read("/proc/1/comm").trim() {
                known @ ("systemd" | "sh") => known.to_owned(),
                _ => "another one".to_owned(),
            },
            processors: hardware::cores(),
        }
    }
}

fn cgroup() -> String {
    let layout = cgroup::layout();
    let file = cgroup::hierarchies().into_iter().map(|top| top.join("cgroup.controllers")).find(|file| file.is_file());
    let controllers = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    match (layout, controllers.trim()) {
        ("v2", controllers) => format!("v2 ({controllers})"),
        (layout, _) => layout.to_owned(),
    }
}

fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map_or_else(|| hardware::UNKNOWN.to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Returns the kind of this host as far as it can be detected; used if the tests run without a guest.
#[must_use]
pub fn machine_itself() -> String {
    let vendor = std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    let is_container = Path::new("/run/systemd/container").exists() || Path::new("/.dockerenv").exists();
    match (is_container, vendor.trim()) {
        (true, _) => "a container".to_owned(),
        (false, "") => "this machine".to_owned(),
        (false, vendor) => format!("this machine ({vendor})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_says_its_name() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(pretty_name(""), hardware::UNKNOWN);
    }

    #[test]
    fn this_machine_is_described_whole() {
        let host = Host::of_this_machine("test");
        for text in [&host.distribution, &host.kernel, &host.cgroup, &host.apparmor, &host.init] {
            assert!(!text.is_empty(), "{host:?}");
        }
        assert!(host.processors > 0);
    }
}
