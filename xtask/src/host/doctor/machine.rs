//! Check of the kernel and the programs around it.

use super::facts::Facts;
use super::finding::{Finding, Group};
use super::kernel::version;

/// Oldest kernel without a warning: cgroup v2's freezer came with 5.2, and 5.4 is the next release with long-term support.
const KERNEL_MIN: (u32, u32) = (5, 4);
const PYTHON_MIN: (u32, u32) = (3, 8);

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let group = Group::Machine;
    let around = facts.surroundings.as_ref().map(|around| format!(", {}", around.described())).unwrap_or_default();
    let seen = format!("Linux {} on {}{around}", facts.kernel_release, facts.distribution);
    let kernel = match version(&facts.kernel_release) {
        Some(found) if found < KERNEL_MIN => {
            Finding::warning(group, "kernel", format!("{seen}: older than 5.4"), "install a kernel of 5.4 or newer")
        }
        _ => Finding::ok(group, "kernel", seen),
    };
    vec![
        kernel,
        facts.has_tools(group, "util-linux", &["unshare", "nsenter", "setpriv", "mount", "umount", "losetup"]),
        facts.has_tools(group, "tar", &["tar"]),
        facts.has_version(group, "python", "python3", PYTHON_MIN),
        facts.has_tools(group, "pip", &["pip"]),
    ]
}
