//! Limits of a cgroup, and the largest ones that this host grants.

use std::path::{Path, PathBuf};

use super::version::{Version, controller};

/// Period of the limit of processor time, in microseconds.
const PERIOD_US: u32 = 100_000;

/// Limits that LXC sets on a container's cgroup.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    pub memory_bytes: u64,
    /// Maximum processor time, as a number of processors; 0.5 is half the time of one.
    pub cpus: f64,
    /// Maximum number of processes and threads.
    pub pids: u32,
}

/// Returns the maximum number of processors that this host grants to a cgroup, such as 1.5: the host may be a container with a limit of its
/// own. Infinite where the kernel accepts any limit, as with cgroup version 2.
#[must_use]
pub fn cpus_at_most() -> f64 {
    match controller("cpu") {
        Some((root, Version::V1)) => granted(&root).unwrap_or(f64::INFINITY),
        _ => f64::INFINITY,
    }
}

/// Returns the limits as keys and values of an LXC configuration.
#[must_use]
pub fn limit_lines(version: Version, limits: &Limits) -> Vec<(&'static str, String)> {
    let quota_us = format!("{:.0}", limits.cpus * f64::from(PERIOD_US));
    match version {
        Version::V1 => vec![
            ("lxc.cgroup.memory.limit_in_bytes", limits.memory_bytes.to_string()),
            ("lxc.cgroup.cpu.cfs_period_us", PERIOD_US.to_string()),
            ("lxc.cgroup.cpu.cfs_quota_us", quota_us),
            ("lxc.cgroup.pids.max", limits.pids.to_string()),
        ],
        Version::V2 => vec![
            ("lxc.cgroup2.memory.max", limits.memory_bytes.to_string()),
            ("lxc.cgroup2.cpu.max", format!("{quota_us} {PERIOD_US}")),
            ("lxc.cgroup2.pids.max", limits.pids.to_string()),
        ],
    }
}

/// Returns the maximum number of processors of the cgroups below this one, such as 1.5: the kernel refuses a larger limit. `None` where
/// this cgroup has no limit, as the root of all has none.
fn granted(group: &Path) -> Option<f64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<f64>().ok();
    let (quota_us, period_us) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    (quota_us > 0.0 && period_us > 0.0).then(|| quota_us / period_us)
}

/// Limit on the processes and threads of a cgroup, and their present number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessBound {
    pub group: PathBuf,
    /// True for the top cgroup of the hierarchy that is mounted here; all labs are below it.
    pub is_top: bool,
    /// Present number of processes and threads of the cgroup.
    pub now: u64,
    /// Maximum number of processes and threads of the cgroup.
    pub most: u64,
}

/// Returns the process limits that hold for this process, its own cgroup's first; empty where the kernel has no such controller.
#[must_use]
pub fn process_bounds() -> Vec<ProcessBound> {
    let Some((top, _)) = controller("pids") else { return Vec::new() };
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = top.join(group_in(&own).trim_start_matches('/'));
    groups.ancestors().take_while(|group| group.starts_with(&top)).filter_map(|group| bound(group, &top)).collect()
}

/// Returns the path of a process's cgroup in the hierarchy of the pids controller, version 1 or 2, from the text of its `/proc/PID/cgroup`.
fn group_in(own: &str) -> &str {
    let named = |wanted: &str| {
        own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|one| one == wanted).then_some(path)
        })
    };
    named("pids").or_else(|| named("")).unwrap_or_default()
}

fn bound(group: &Path, top: &Path) -> Option<ProcessBound> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok();
    let (most, now) = (number("pids.max")?, number("pids.current")?);
    Some(ProcessBound { group: group.to_owned(), is_top: group == top, now, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_the_group_above_is_the_most_that_can_be_granted() {
        let group = tempfile::tempdir().unwrap();
        let bounded = |quota_us: &str| {
            std::fs::write(group.path().join("cpu.cfs_quota_us"), quota_us).unwrap();
            std::fs::write(group.path().join("cpu.cfs_period_us"), "100000\n").unwrap();
            granted(group.path())
        };
        assert_eq!([bounded("20000\n"), bounded("250000\n"), bounded("-1\n")], [Some(0.2), Some(2.5), None]);
        assert_eq!(granted(Path::new("/nonexistent")), None, "the root of all has no such file");
    }

    #[test]
    fn limits_in_both_versions() {
        let limits = Limits { memory_bytes: 64 << 20, cpus: 0.5, pids: 30 };
        let text = |version| {
            limit_lines(version, &limits)
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            text(Version::V1),
            "lxc.cgroup.memory.limit_in_bytes=67108864 lxc.cgroup.cpu.cfs_period_us=100000 \
             lxc.cgroup.cpu.cfs_quota_us=50000 lxc.cgroup.pids.max=30"
        );
        assert_eq!(
            text(Version::V2),
            "lxc.cgroup2.memory.max=67108864 lxc.cgroup2.cpu.max=50000 100000 lxc.cgroup2.pids.max=30"
        );
    }

    #[test]
    fn the_group_is_found_in_either_version() {
        assert_eq!(group_in("9:name=systemd:/x\n8:pids:/user.slice/a\n0::/y\n"), "/user.slice/a");
        assert_eq!(group_in("5:cpu,pids:/b\n"), "/b");
        assert_eq!(group_in("0::/user.slice/user-0.slice\n"), "/user.slice/user-0.slice");
        assert_eq!(group_in(""), "");
    }

    #[test]
    fn only_groups_with_a_bound_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("pids.max", "max\n");
        write("pids.current", "5\n");
        assert_eq!(bound(folder.path(), folder.path()), None);
        write("pids.max", "30\n");
        let found = bound(folder.path(), Path::new("/elsewhere")).unwrap();
        assert_eq!((found.now, found.most, found.is_top), (5, 30, false));
    }
}
