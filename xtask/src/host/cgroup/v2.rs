//! Version 2: one hierarchy for all.

use std::path::Path;

use super::Limits;
use super::v1::PERIOD_US;

pub fn limit_lines(limits: &Limits) -> Vec<(&'static str, String)> {
    vec![
        ("lxc.cgroup2.memory.max", limits.memory_bytes.to_string()),
        ("lxc.cgroup2.cpu.max", format!("{:.0} {PERIOD_US}", limits.cpus * f64::from(PERIOD_US))),
        ("lxc.cgroup2.pids.max", limits.pids.to_string()),
    ]
}

/// Lets a frozen group run again; does nothing in a hierarchy of version 1.
pub fn thaw(group: &Path) {
    let freeze = group.join("cgroup.freeze");
    if freeze.exists() {
        let _ = std::fs::write(freeze, "0");
    }
}

/// Whether the group stands still.
pub fn is_frozen(group: &Path) -> bool {
    let events = std::fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

/// The file that bounds for block devices are written to.
pub const THROTTLE: &str = "io.max";

/// Files and what to write to them.
pub fn throttle_lines((major, minor): (u64, u64), bytes_per_second: u64) -> Vec<(&'static str, String)> {
    vec![(THROTTLE, format!("{major}:{minor} rbps={bytes_per_second} wbps={bytes_per_second}"))]
}

/// The same without a bound.
pub fn free_lines((major, minor): (u64, u64)) -> Vec<(&'static str, String)> {
    vec![(THROTTLE, format!("{major}:{minor} rbps=max wbps=max"))]
}
