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
