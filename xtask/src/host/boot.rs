//! Identity of the host's current boot.

/// The kernel's random id of this boot; empty where the kernel shows none.
#[must_use]
pub fn id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
