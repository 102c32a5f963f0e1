//! Cgroups version 1: one hierarchy for each controller.

use std::path::Path;

/// Thaws a cgroup; does nothing where the hierarchy has no freezer.
pub fn thaw(group: &Path) {
    let state = group.join("freezer.state");
    if state.exists() {
        let _ = std::fs::write(state, "THAWED");
    }
}

pub fn is_frozen(group: &Path) -> bool {
    std::fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
}

/// Name of a cgroup's file for limits on reading from block devices.
pub const THROTTLE: &str = "blkio.throttle.read_bps_device";

/// Returns the names of a cgroup's files, each with the line that sets a device's limit; 0 means no limit.
pub fn throttle_lines((major, minor): (u64, u64), bytes_per_second: Option<u64>) -> Vec<(&'static str, String)> {
    let line = format!("{major}:{minor} {}", bytes_per_second.unwrap_or(0));
    vec![(THROTTLE, line.clone()), ("blkio.throttle.write_bps_device", line)]
}

/// Parses the read or the write limit of a device from the text of the cgroup file for reading or writing: one element, `None` where there
/// is no limit.
pub fn throttles(text: &str, (major, minor): (u64, u64)) -> Vec<Option<u64>> {
    let device = format!("{major}:{minor}");
    let bound = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == device);
    vec![bound.and_then(|(_, bytes)| bytes.trim().parse().ok()).filter(|bytes| *bytes > 0)]
}
