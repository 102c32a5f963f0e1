//! The machine's memory.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What the machine has.
    pub total_bytes: u64,
    /// What programs can still take without others losing theirs.
    pub available_bytes: u64,
}

impl Memory {
    /// Looks at it now; nothing at all where /proc cannot be read.
    #[must_use]
    pub fn now() -> Self {
        let memory = MemoryRefreshKind::nothing().with_ram();
        let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
        system.map_or(Self { total_bytes: 0, available_bytes: 0 }, |system| Self {
            total_bytes: system.total_memory(),
            available_bytes: system.available_memory(),
        })
    }
}

/// Whether the machine moves memory to a disk when it gets short.
#[must_use]
pub fn has_swap() -> bool {
    let memory = MemoryRefreshKind::nothing().with_swap();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    system.is_ok_and(|system| system.total_swap() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_memory_and_no_more_is_available_than_there_is() {
        let memory = Memory::now();
        assert!(memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes, "{memory:?}");
    }
}
