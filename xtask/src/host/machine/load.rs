//! Load of the machine, and its memory.

use std::fs::File;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, RefreshKind, System};

use crate::host::cgroup::{text_of, value};

/// Load of the machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Use of all processors since the previous measurement, 100 where all of them were busy.
    pub cpu_percent: f64,
    /// Memory that programs could still take without others losing theirs.
    pub memory_available_bytes: u64,
    /// Mean number of running processes over the last minute.
    pub load_1min: f64,
}

/// Repeated measurement of the machine's [`Load`]: the use of its processors is that since the previous measurement.
#[derive(Debug)]
pub struct LoadGauge {
    /// Source of the measurements; `None` where /proc cannot be read.
    system: Option<System>,
    last: Option<(Instant, Load)>,
}

impl LoadGauge {
    /// Makes a gauge; in its first measurement the processors count as idle.
    #[must_use]
    pub fn new() -> Self {
        Self { system: System::new().ok(), last: None }
    }

    /// Measures the present load. Returns the last measurement again where it is too recent for another one to tell the use of processors.
    pub fn look(&mut self) -> Load {
        if let Some((at, load)) = self.last
            && at.elapsed() < MINIMUM_CPU_UPDATE_INTERVAL
        {
            return load;
        }
        let mut load = Load { cpu_percent: 0.0, memory_available_bytes: 0, load_1min: 0.0 };
        if let Some(system) = &mut self.system {
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
            system.refresh_cpu_usage();
            load.cpu_percent = f64::from(system.global_cpu_usage());
            load.memory_available_bytes = system.available_memory();
            load.load_1min = System::load_average().map_or(0.0, |average| average.one);
        }
        self.last = Some((Instant::now(), load));
        load
    }
}

impl Default for LoadGauge {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the processor time that the calling thread has used.
#[must_use]
pub fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub total_bytes: u64,
    /// Memory that programs can still take without others losing theirs.
    pub available_bytes: u64,
}

impl Memory {
    /// Measures the memory now; both fields are 0 where /proc cannot be read.
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

/// Tells whether the machine can swap memory out to a disk.
#[must_use]
pub fn has_swap() -> bool {
    let memory = MemoryRefreshKind::nothing().with_swap();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    system.is_ok_and(|system| system.total_swap() > 0)
}

/// Counter of the processes that the kernel has killed for want of memory since the boot, in a file that is kept open.
#[derive(Debug)]
pub struct OomKills {
    file: File,
}

impl OomKills {
    /// Opens the counter's file; `None` where there is none.
    #[must_use]
    pub fn open() -> Option<Self> {
        File::open("/proc/vmstat").ok().map(|file| Self { file })
    }

    /// Returns the number of kills until now; `None` in kernels that do not count them.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        value(&text_of(&self.file).ok()?, "oom_kill")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_come_too_fast_show_the_same() {
        let mut gauge = LoadGauge::new();
        let first = gauge.look();
        assert!(first.memory_available_bytes > 0 && first.cpu_percent >= 0.0, "{first:?}");
        assert_eq!(gauge.look(), first);
    }

    #[test]
    fn a_thread_that_works_has_used_processor_time() {
        let before = own_cpu_time();
        let mut sum = 0_u64;
        while own_cpu_time() < before + Duration::from_millis(2) {
            sum = std::hint::black_box(sum + 1); // until the clock has moved so far, which takes work
        }
        assert!(sum > 0, "2 ms went by without any work");
    }

    #[test]
    fn there_is_memory_and_no_more_is_available_than_there_is() {
        let memory = Memory::now();
        assert!(memory.available_bytes > 0 && memory.available_bytes <= memory.total_bytes, "{memory:?}");
    }
}
