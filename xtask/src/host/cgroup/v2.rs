//! Version 2: one hierarchy for all.

use std::path::Path;

/// Lets a frozen group run again; does nothing in a hierarchy of version 1.
pub fn thaw(group: &Path) {
    let freeze = group.join("cgroup.freeze");
    if freeze.exists() {
        let _ = std::fs::write(freeze, "0");
    }
}

/// Tells whether the group is frozen.
pub fn is_frozen(group: &Path) -> bool {
    let events = std::fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "frozen 1")
}

/// The file of a group that bounds for block devices are written to.
pub const THROTTLE: &str = "io.max";

/// Files of a group, each with the line to write to it for a device's bound.
pub fn throttle_lines((major, minor): (u64, u64), bytes_per_second: Option<u64>) -> Vec<(&'static str, String)> {
    let bound = bytes_per_second.map_or_else(|| "max".to_owned(), |bytes| bytes.to_string());
    vec![(THROTTLE, format!("{major}:{minor} rbps={bound} wbps={bound}"))]
}

/// The bounds of a device in what the kernel says of this file: for reading and for writing. A device without any has no
/// line.
pub fn throttles(text: &str, (major, minor): (u64, u64)) -> Vec<Option<u64>> {
    let device = format!("{major}:{minor}");
    let line = text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == device);
    let words: Vec<&str> = line.map_or_else(Vec::new, |(_, bounds)| bounds.split_whitespace().collect());
    let bound = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).and_then(|bytes| bytes.parse().ok());
    vec![bound("rbps="), bound("wbps=")]
}
