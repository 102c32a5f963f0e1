//! Version 1: one hierarchy a controller.

use std::path::Path;

/// Lets a frozen group run again; does nothing where the hierarchy has no freezer.
pub fn thaw(group: &Path) {
    let state = group.join("freezer.state");
    if state.exists() {
        let _ = std::fs::write(state, "THAWED");
    }
}

/// Tells whether the group is frozen.
pub fn is_frozen(group: &Path) -> bool {
    std::fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
}

/// The file of a group that bounds for reading from block devices are written to.
pub const THROTTLE: &str = "blkio.throttle.read_bps_device";

/// Files of a group, each with the line to write to it for a device's bound; in the line, 0 is no bound.
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
