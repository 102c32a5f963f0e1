//! Limits of a group, and what this host grants at most.

use std::path::Path;

use super::version::{Version, controller};

/// Period that a group's processor time is counted in, in microseconds.
const PERIOD_US: u32 = 100_000;

/// Limits of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// CPUs, in fractions of one.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: u32,
}

/// Processors that this host grants to groups at most, in fractions of one: it may be a container with a bound of its own.
/// Infinite where nothing is refused, which holds of all version 2.
#[must_use]
pub fn cpus_at_most() -> f64 {
    match controller("cpu") {
        Some((root, Version::V1)) => granted(&root).unwrap_or(f64::INFINITY),
        _ => f64::INFINITY,
    }
}

/// The limits as lines of an LXC configuration, key and value.
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

/// Processors that groups below this one may be granted at most, in fractions of one: the kernel refuses a larger bound.
/// `None` where this group has none, as the root of all does.
fn granted(group: &Path) -> Option<f64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<f64>().ok();
    let (quota_us, period_us) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    (quota_us > 0.0 && period_us > 0.0).then(|| quota_us / period_us)
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
}
