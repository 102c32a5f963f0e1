//! Fault that slows reads and writes of a volume past the page cache.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::statvfs::statvfs;

use super::volume::Volume;
use crate::error::Error;
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, FaultTarget, Keeper, Lasted};
use crate::host::cgroup::throttle_problem;
use crate::host::patience::Deadline;
use crate::host::syntax::compose;

/// Duration of each measurement, of writing and of reading, at the fault's rate.
const WATCH: Duration = Duration::from_millis(400);

/// Size of one write or read past the page cache, in bytes.
const BLOCK_BYTES: u64 = 16 << 10;

/// Maximum number of measurements until one is as expected: a busy host has slow moments.
const ROUNDS: usize = 3;

/// Deadline for the disk to be fast again after the fault is healed.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(20);

/// Time that one measurement may take beyond the time that the rate demands.
const PATIENCE: Deadline = Deadline::from_secs(20);

/// Fault that limits the rate of a volume's device in the container's cgroup (`disk.slow`).
pub struct Slow {
    path: String,
    kilobytes_per_second: u32,
    done: Option<(Volume, (u64, u64))>,
}

/// Times that a program took to write and to read some bytes past the page cache.
#[derive(Debug, Clone, Copy)]
struct Passage {
    bytes: u64,
    writing: Duration,
    reading: Duration,
}

impl std::fmt::Display for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_millis();
        write!(f, "{} bytes were written in {} ms and read in {} ms", self.bytes, ms(self.writing), ms(self.reading))
    }
}

impl Slow {
    pub fn new(path: &str, kilobytes_per_second: u32) -> Self {
        Self { path: path.to_owned(), kilobytes_per_second, done: None }
    }

    fn bytes_per_second(&self) -> u64 {
        u64::from(self.kilobytes_per_second) * 1000
    }

    /// Returns the number of bytes to write and to read, and the shortest time that the rate allows for each of the two.
    fn watched(&self) -> (u64, Duration) {
        let bytes = self.bytes_per_second() * WATCH.as_millis() as u64 / 1000;
        let bytes = bytes.next_multiple_of(BLOCK_BYTES).max(4 * BLOCK_BYTES);
        (bytes, Duration::from_secs_f64(bytes as f64 / self.bytes_per_second() as f64))
    }

    /// Has a program in the container write and read past the page cache, and returns both times. They are measured in the container:
    /// on a host with slow system calls, entering it takes longer than the access to the disk.
    fn pass(&self, target: &FaultTarget<'_>, volume: &Volume) -> anyhow::Result<Passage> {
        let (bytes, shortest) = self.watched();
        let deadline = shortest * 2 + PATIENCE.scaled();
        // What must be allocated and written down beside the data is done before the clock starts.
        self.timed(target, volume, r#"rm -f "$1"; dd if=/dev/zero of="$1" bs="$2" count="$3" conv=fsync"#)?;
        let writing =
            self.timed(target, volume, r#"dd if=/dev/zero of="$1" bs="$2" count="$3" conv=notrunc oflag=direct"#)?;
        let reading = self.timed(target, volume, r#"dd if="$1" of=/dev/null bs="$2" count="$3" iflag=direct"#)?;
        target.exec_within(&["rm", "-f", &volume.probe()], deadline)?;
        Ok(Passage { bytes, writing, reading })
    }

    /// Runs a script in the container, and returns the time that it took. The script's arguments are the path of the file to write and
    /// read, the size of a block in bytes, and the number of blocks.
    fn timed(&self, target: &FaultTarget<'_>, volume: &Volume, script: &'static str) -> anyhow::Result<Duration> {
        let (bytes, shortest) = self.watched();
        let script = compose!(
            Shell,
            "read -r begin rest < /proc/uptime; {script}; read -r end rest < /proc/uptime; echo $begin $end",
            script = script,
        );
        let (block, blocks) = (BLOCK_BYTES.to_string(), (bytes / BLOCK_BYTES).to_string());
        let argv = ["/bin/sh", "-ec", script.as_script(), "probe", &volume.probe(), &block, &blocks];
        let output = target.exec_within(&argv, shortest * 2 + PATIENCE.scaled())?;
        let took = output.stdout.text().ok().and_then(|text| time_between(&text));
        match took {
            Some(took) if !output.timed_out && output.status == 0 => Ok(took),
            _ => {
                let failure = output.failure().unwrap_or_else(|| "did not say how long it took".to_owned());
                bail!(
                    "the program in the container that times accesses to {} past the page cache {failure}",
                    volume.inside
                )
            }
        }
    }

    fn is_fast(&self, passage: &Passage) -> bool {
        let (_, shortest) = self.watched();
        passage.writing.max(passage.reading) * 2 <= shortest
    }

    /// Tells whether a measurement shows the limit: 70 % of the time that the rate demands, because some bytes pass at once after a pause.
    fn is_slow(&self, passage: &Passage) -> bool {
        let (_, shortest) = self.watched();
        passage.writing.min(passage.reading) * 10 >= shortest * 7
    }
}

/// Returns the time between two readings of `/proc/uptime`, which are in seconds with two decimals.
fn time_between(text: &str) -> Option<Duration> {
    let (begin, end) = text.trim().split_once(' ')?;
    let (begin, end): (f64, f64) = (begin.parse().ok()?, end.parse().ok()?);
    Duration::try_from_secs_f64(end - begin).ok()
}

impl Effect for Slow {
    fn supported(&self) -> anyhow::Result<()> {
        let Some(problem) = throttle_problem() else { return Ok(()) };
        let help = "boot a kernel with CONFIG_BLK_DEV_THROTTLING, whose controller io (blkio in cgroup v1) is not switched \
                    off by cgroup_disable on the kernel's command line";
        Err(Error::Host { problem: format!("disk.slow: {problem}"), help: help.into() }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let volume = Volume::on_device("disk.slow", &self.path, target)?;
        if let Some(outage) = target.container.outage() {
            return Err(outage.into());
        }
        if let Some(bound) = target.container.cgroup().device_bound(volume.device()?.number) {
            let message = format!(
                "disk.slow: {} is slowed to {} kilobytes a second already: heal that fault first",
                volume.inside,
                bound / 1000
            );
            return Err(usage(message));
        }
        let (bytes, _) = self.watched();
        let state = statvfs(&volume.top()).with_context(|| format!("looking at {}", volume.dir.display()))?;
        let room = state.blocks_available() * state.fragment_size();
        if room < bytes {
            let message = format!(
                "disk.slow: {} has room for {room} bytes, and {bytes} are needed to see this rate: choose a lower rate",
                volume.inside
            );
            return Err(usage(message));
        }
        let mut last = self.pass(target, &volume)?;
        for _ in 1..ROUNDS {
            if self.is_fast(&last) {
                break;
            }
            last = self.pass(target, &volume)?;
        }
        if !self.is_fast(&last) {
            let problem = format!(
                "disk.slow: {} is not even twice as fast without the fault as with it, so its effect could not be seen: {last}",
                volume.inside
            );
            let help =
                "choose a lower rate, heal the fault that slows the volume already, or use a host with less to do";
            return Err(Error::Host { problem, help: help.into() }.into());
        }
        Ok(last.to_string())
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let volume = Volume::on_device("disk.slow", &self.path, target)?;
        let device = volume.device()?.number;
        // The bound goes with the slot's control groups, which the guard has in its ledger.
        self.done = Some((volume, device));
        target.container.cgroup().slow_device(device, self.bytes_per_second())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some((volume, _)) = &self.done else { bail!("the fault was not injected") };
        let mut passage = self.pass(target, volume)?;
        // A group that has just got its bound may still have a rest of what it had saved up.
        for _ in 1..ROUNDS {
            if self.is_slow(&passage) {
                break;
            }
            passage = self.pass(target, volume)?;
        }
        if !self.is_slow(&passage) {
            let (_, shortest) = self.watched();
            bail!(
                "{passage}, faster than the fault allows: at its rate of {} kilobytes a second, writing and reading each \
                 take at least {} ms",
                self.kilobytes_per_second,
                shortest.as_millis()
            );
        }
        Ok(passage.to_string())
    }

    /// Verifies the effect again before healing, by writing alone. Metadata is written beside the data, which only adds to the time on a
    /// slow disk.
    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let Some((volume, device)) = &self.done else { bail!("the fault was not injected") };
        if volume.device().is_ok_and(|now| now.number != *device) {
            return Ok(Lasted::over(format!("{} was mounted on another device", volume.inside)));
        }
        let (bytes, shortest) = self.watched();
        let script = r#"rm -f "$1"; dd if=/dev/zero of="$1" bs="$2" count="$3" oflag=direct; rm -f "$1""#;
        let took = self.timed(target, volume, script)?;
        let seen = format!("{bytes} bytes were written to {} in {} ms", volume.inside, took.as_millis());
        let is_slow = took * 10 >= shortest * 7;
        let proof = if is_slow { Ok(seen) } else { Err(anyhow::anyhow!("{seen}, faster than the fault allows")) };
        Lasted::proved(proof, Keeper::Host, || target.container.cgroup().slows_device(*device))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let Some((volume, device)) = &self.done else { return Ok(()) };
        target.container.cgroup().free_device(*device)?;
        // Another fault may have mounted the volume anew, on another device.
        match volume.device() {
            Ok(now) if now.number != *device => target.container.cgroup().free_device(now.number),
            _ => Ok(()),
        }
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let Some((volume, _)) = &self.done else { bail!("the fault was not injected") };
        let begun = Instant::now();
        loop {
            if let Some(outage) = target.container.outage() {
                return Ok(format!("{outage}; nothing slows {} any more", volume.inside));
            }
            let passage = self.pass(target, volume)?;
            if self.is_fast(&passage) {
                return Ok(passage.to_string());
            }
            if begun.elapsed() > HEAL_DEADLINE.scaled() {
                bail!("{passage}: the disk is not yet twice as fast as with the fault");
            }
        }
    }

    /// Limits the device again after a start of the container, which makes a new cgroup.
    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let Some((volume, device)) = &mut self.done else { return Ok(()) };
        *device = volume.device()?.number;
        target.container.cgroup().slow_device(*device, u64::from(self.kilobytes_per_second) * 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_takes_its_time_at_any_rate() {
        for kilobytes_per_second in [100, 1000, 20_000] {
            let (bytes, shortest) = Slow::new("/data", kilobytes_per_second).watched();
            assert_eq!(bytes % BLOCK_BYTES, 0);
            assert!(shortest >= WATCH && shortest < WATCH * 2, "{kilobytes_per_second}: {shortest:?}");
            assert!(bytes <= 9 << 20, "a volume of 16 MiB has room for it");
        }
    }

    #[test]
    fn a_time_is_that_between_two_looks() {
        let near = |text, ms: u64| {
            let time = time_between(text).unwrap();
            assert!(time.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(1), "{text}: {time:?}");
        };
        near("12.34 12.75\n", 410);
        near("99.99 99.99", 0);
        for text in ["", "12.34", "x 12.34", "12.34 12.30"] {
            assert_eq!(time_between(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_disk_is_slow_or_fast_or_neither() {
        let slow = Slow::new("/data", 1000);
        let check = |writing, reading, is_slow: bool, is_fast: bool| {
            let ms = Duration::from_millis;
            let passage = Passage { bytes: 1, writing: ms(writing), reading: ms(reading) };
            assert_eq!((slow.is_slow(&passage), slow.is_fast(&passage)), (is_slow, is_fast), "{passage}");
        };
        check(400, 400, true, false);
        check(20, 10, false, true);
        check(400, 20, false, false);
        check(250, 250, false, false);
    }
}
