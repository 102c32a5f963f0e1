//! Version 1: one hierarchy a controller.

use std::path::Path;

use super::Limits;

pub const PERIOD_US: u32 = 100_000;

pub fn limit_lines(limits: &Limits) -> Vec<(&'static str, String)> {
    vec![
        ("lxc.cgroup.memory.limit_in_bytes", limits.memory_bytes.to_string()),
        ("lxc.cgroup.cpu.cfs_period_us", PERIOD_US.to_string()),
        ("lxc.cgroup.cpu.cfs_quota_us", format!("{:.0}", limits.cpus * f64::from(PERIOD_US))),
        ("lxc.cgroup.pids.max", limits.pids.to_string()),
    ]
}

/// Processors that groups below this one may be granted at most, in fractions of one: the kernel refuses a larger bound.
/// `None` where this group has none, as the root of all does.
pub fn cpus_at_most(group: &Path) -> Option<f64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<f64>().ok();
    let (quota_us, period_us) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    (quota_us > 0.0 && period_us > 0.0).then(|| quota_us / period_us)
}

/// Lets a frozen group run again; does nothing where the hierarchy has no freezer.
pub fn thaw(group: &Path) {
    let state = group.join("freezer.state");
    if state.exists() {
        let _ = std::fs::write(state, "THAWED");
    }
}

/// Whether the group stands still.
pub fn is_frozen(group: &Path) -> bool {
    std::fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
}

/// The file that a bound for reading is written to.
pub const THROTTLE: &str = "blkio.throttle.read_bps_device";

/// Files and what to write to them; 0 is no bound.
pub fn throttle_lines((major, minor): (u64, u64), bytes_per_second: Option<u64>) -> Vec<(&'static str, String)> {
    let line = format!("{major}:{minor} {}", bytes_per_second.unwrap_or(0));
    vec![(THROTTLE, line.clone()), ("blkio.throttle.write_bps_device", line)]
}

/// The bound of a device in what the kernel says of one of these files, each direction in its own.
pub fn throttles(text: &str, (major, minor): (u64, u64)) -> Vec<Option<u64>> {
    let device = format!("{major}:{minor}");
    let bound = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == device);
    vec![bound.and_then(|(_, bytes)| bytes.trim().parse().ok()).filter(|bytes| *bytes > 0)]
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
            cpus_at_most(group.path())
        };
        assert_eq!([bounded("20000\n"), bounded("250000\n"), bounded("-1\n")], [Some(0.2), Some(2.5), None]);
        assert_eq!(cpus_at_most(Path::new("/nonexistent")), None, "the root of all has no such file");
    }
}
