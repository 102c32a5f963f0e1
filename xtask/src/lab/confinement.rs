//! Confinement of a machine's programs: system call filters, capabilities that they never get, and files of the kernel that are hidden from
//! them. A privileged machine is only denied a few capabilities.

use std::fs;

use super::machine::Machine;
use crate::host::network::port_lock;
use crate::host::seccomp::{self, Filter, Occasion, Part};

/// Capabilities that no machine has, not even a privileged one, by LXC's names.
const DROPPED_BY_ALL: &str = "sys_module mac_admin mac_override sys_time";

/// Capabilities that only privileged machines have. Most have no effect in a user namespace, but programs test for them: without them, for
/// example, systemd skips units that would fail.
const DROPPED: &str = "sys_rawio sys_pacct syslog wake_alarm block_suspend audit_control audit_read linux_immutable";

/// Files of the kernel, hidden because they show facts of the host and of its other labs.
const HIDDEN_FILES: [&str; 8] = [
    "proc/config.gz",
    "proc/kallsyms",
    "proc/kcore",
    "proc/key-users",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/timer_list",
];

/// Folders of the kernel, hidden because they show facts of the host.
const HIDDEN_FOLDERS: [&str; 9] = [
    "proc/acpi",
    "proc/scsi",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/kernel/btf",
    "sys/kernel/debug",
    "sys/kernel/security",
    "sys/kernel/slab",
    "sys/kernel/tracing",
];

/// Returns a line for each isolation feature that this host lacks; machines run without these features.
#[must_use]
pub fn isolation_problems() -> Vec<String> {
    let seccomp = (!seccomp::is_supported())
        .then(|| "system calls of machines are not filtered: this kernel has no seccomp filters".to_owned());
    let ports = port_lock::problem().map(|problem| {
        format!("machines of a lab can take each other's addresses: the ports of the bridge are not locked: {problem}")
    });
    seccomp.into_iter().chain(ports).collect()
}

/// Returns the parts of the kernel that a machine's system call filter allows in addition to those of every machine; `None` for a machine
/// without a filter.
pub fn parts(machine: &Machine) -> Option<Vec<Part>> {
    let template = &machine.template;
    (!template.privileged && seccomp::is_supported()).then(|| template.allow.clone())
}

/// Returns the system call filter for a program that enters a machine; `None` for a machine without a filter.
pub fn entry_filter(machine: &Machine, occasion: Occasion) -> Option<Filter> {
    Filter::of(&parts(machine)?, occasion)
}

/// Returns the LXC configuration keys and values that confine a machine, except the path of the seccomp policy.
pub fn lines(machine: &Machine) -> Vec<(&'static str, String)> {
    let mut lines = vec![("lxc.cap.drop", DROPPED_BY_ALL.to_owned())];
    if machine.template.privileged {
        return lines;
    }
    lines.push(("lxc.cap.drop", DROPPED.to_owned()));
    let keys = machine.template.allow.contains(&Part::Keyring);
    let files = HIDDEN_FILES.iter().filter(|file| !(keys && file.starts_with("proc/key")));
    let entry = |words: [&str; 3]| ("lxc.mount.entry", words.concat());
    lines.extend(files.map(|file| entry(["/dev/null ", file, " none bind,optional 0 0"])));
    let empty = " tmpfs ro,nosuid,nodev,noexec,size=4k,nr_inodes=1,optional 0 0";
    lines.extend(HIDDEN_FOLDERS.iter().map(|folder| entry(["none ", folder, empty])));
    lines
}

/// Names the system call filters that process 1 of a machine lacks; `None` if all are installed, or the machine needs none. `init_pid` is
/// its pid on the host.
pub(super) fn missing_filters(machine: &Machine, init_pid: i32) -> Option<String> {
    parts(machine)?;
    let of = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).ok();
    let status = of(&init_pid.to_string())?;
    let surrounding = of("self").map_or(0, |status| filters(&status).unwrap_or(0));
    missing(&status, surrounding)
}

/// Returns the number of seccomp filters on a process, from its status file; `None` before Linux 5.9.
fn filters(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"))?.trim().parse().ok()
}

/// Names the filters that a process lacks, from its status file. The engine's own `surrounding` filters apply to every process and are not
/// counted.
fn missing(status: &str, surrounding: u32) -> Option<String> {
    let is_filtered = status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
    match filters(status).map(|count| count.saturating_sub(surrounding)) {
        _ if !is_filtered => Some("its system calls are not filtered".to_owned()),
        Some(0) => Some("its system calls pass only the filters that apply to this engine too".to_owned()),
        Some(1) => {
            Some("this host's LXC installs no policy for its system calls: it was built without libseccomp".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_counted_beyond_the_engines_own() {
        let status = |mode: u32, count: &str| format!("Name:\tsh\nSeccomp:\t{mode}\n{count}Speculation: x\n");
        let of = |mode, count, surrounding| missing(&status(mode, count), surrounding);
        assert_eq!(of(2, "Seccomp_filters:\t2\n", 0), None);
        assert_eq!(of(2, "", 0), None, "an old kernel does not count them");
        assert!(of(0, "Seccomp_filters:\t0\n", 0).unwrap().contains("not filtered"));
        assert!(of(2, "Seccomp_filters:\t1\n", 0).unwrap().contains("without libseccomp"));
        assert!(of(2, "Seccomp_filters:\t2\n", 2).unwrap().contains("only the filters that apply to this engine"));
        assert_eq!(of(2, "Seccomp_filters:\t4\n", 2), None);
        assert!(missing("Name:\tsh\n", 0).unwrap().contains("not filtered"), "a kernel without seccomp");
    }
}
