//! Resources that the workers use, measured from outside, and their remains after the workers have ended.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::Container;

/// Unit of the times in `/proc/PID/stat`.
const TICK: Duration = Duration::from_millis(10);
const KIBIBYTE: u64 = 1024;

/// Sums over all processes of a machine at one moment.
pub struct Machine {
    /// Number of processes of the user that the workers run as.
    pub mancers_processes: usize,
    /// Memory of the processes that is not mapped from files.
    pub anonymous_bytes: u64,
    /// Sum of each process's largest resident memory so far. Shared memory counts for each process.
    pub peak_bytes: u64,
}

impl Machine {
    pub fn of(container: &Container) -> anyhow::Result<Self> {
        // A process may be gone before it is read.
        let answer = container.sh("cat /proc/[0-9]*/status 2>/dev/null; true")?.success()?;
        let text = answer.stdout_text()?;
        let mut machine = Self { mancers_processes: 0, anonymous_bytes: 0, peak_bytes: 0 };
        for line in text.lines() {
            let (name, value) =
                line.split_once(':').with_context(|| format!("a line of /proc/PID/status has no ':': {line:?}"))?;
            let first = value.split_whitespace().next().unwrap_or_default();
            match name {
                "Uid" if first == "1000" => machine.mancers_processes += 1,
                "RssAnon" => machine.anonymous_bytes += first.parse::<u64>()? * KIBIBYTE,
                "VmHWM" => machine.peak_bytes += first.parse::<u64>()? * KIBIBYTE,
                _ => {}
            }
        }
        ensure!(machine.peak_bytes > 0, "no process in {} has memory: {text:?}", container.name());
        Ok(machine)
    }
}

/// Returns the processor time of all running workers, each since its start.
pub fn processor_time(worker: &Container) -> anyhow::Result<Duration> {
    let stat = worker.sh("pgrep -u mancer -f batch_worker.py | sed 's:.*:/proc/&/stat:' | xargs -r cat")?.success()?;
    let mut ticks = 0;
    for line in stat.stdout_text()?.lines() {
        // The second field is the program's name in parentheses, which may hold anything; 14 and 15 are the times.
        let (_, from_third) = line.rsplit_once(')').with_context(|| format!("/proc/PID/stat has no ')': {line:?}"))?;
        let times: Vec<&str> = from_third.split_whitespace().skip(11).take(2).collect();
        ensure!(times.len() == 2, "/proc/PID/stat has no times: {line:?}");
        for time in times {
            ticks += time.parse::<u32>().with_context(|| format!("parsing /proc/PID/stat: {line:?}"))?;
        }
    }
    Ok(TICK * ticks)
}

/// Returns the number of times that systemd has restarted each worker.
pub fn restarts(worker: &Container, workers: u32) -> anyhow::Result<Vec<u32>> {
    let ask = ["systemctl", "show", "--property=NRestarts", "--value"].map(str::to_owned);
    let units = (1..=workers).map(|number| format!("batch-worker@{number}"));
    let answer = worker.exec(ask.into_iter().chain(units))?.success()?;
    let text = answer.stdout_text()?;
    text.split_whitespace()
        .map(|count| count.parse().with_context(|| format!("parsing NRestarts of the workers: {text:?}")))
        .collect()
}
