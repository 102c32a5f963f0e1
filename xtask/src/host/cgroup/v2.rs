//! Cgroups version 2: one hierarchy for all controllers.

use std::path::Path;

/// Thaws a cgroup; does nothing in a hierarchy of version 1.
pub fn thaw(group: &Path) {
    let freeze = group.join("cgroup.freeze");
    if freeze.exists() {
        let _ = std::fs::write(freeze, "0");
    }
}

pub fn is_frozen(group: &Path) -> bool {
    let events = std::fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

/// Name of a cgroup's file for limits on block devices.
pub const THROTTLE: &str = "io.max";

/// Returns the names of a cgroup's files, each with the line that sets a device's limit.
pub fn throttle_lines((major, minor): (u64, u64), bytes_per_second: Option<u64>) -> Vec<(&'static str, String)> {
    let bound = bytes_per_second.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
    vec![(THROTTLE, format!("{major}:{minor} rbps={bound} wbps={bound}"))]
}

/// Parses the limits of a device from `io.max`: for reading and for writing. A device without limits has no line.
pub fn throttles(text: &str, (major, minor): (u64, u64)) -> Vec<Option<u64>> {
    let device = format!("{major}:{minor}");
    let line = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == device);
    let words: Vec<&str> = line.map_or_else(Vec::new, |(_, bounds)| bounds.split_whitespace().collect());
    let bound = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).and_then(|bytes| bytes.parse().ok());
    vec![bound("rbps="), bound("wbps=")]
}
