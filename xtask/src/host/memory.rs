//! The machine's memory.

use std::fs::File;

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use super::cgroup::{text_of, value};

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Memory of the machine.
    pub total_bytes: u64,
    /// Memory that programs can still take without others losing theirs.
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

/// Tells whether the machine moves memory to a disk when it gets short.
#[must_use]
pub fn has_swap() -> bool {
    let memory = MemoryRefreshKind::nothing().with_swap();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    system.is_ok_and(|system| system.total_swap() > 0)
}

/// Number of processes that the kernel has killed for want of memory since its start, in a file that is kept open.
#[derive(Debug)]
pub struct OomKills {
    file: File,
}

impl OomKills {
    /// Opens it; nothing where there is no such file.
    #[must_use]
    pub fn open() -> Option<Self> {
        File::open("/proc/vmstat").ok().map(|file| Self { file })
    }

    /// The number now; nothing in kernels that do not count it.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        value(&text_of(&self.file).ok()?, "oom_kill")
    }
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
