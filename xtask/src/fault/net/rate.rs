//! Fault that limits the rate of a link: packets to the container wait at its port until the rate allows them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::flood::{Flood, HEADER_BYTES};
use super::helper::Helper;
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{CLOSED_PORT, Seen, cut_off, ms};
use crate::error::Error;
use crate::fault::effect::FaultTarget;
use crate::host::network::iptables::UNDELAYED;
use crate::host::network::netns::received_bytes;
use crate::host::network::tc::Qdisc;

/// Time for which a link at the fault's rate is watched.
const WATCH: Duration = Duration::from_millis(250);

/// Minimum number of watched bytes: a few packets.
const WATCH_BYTES_MIN: u64 = 1000;

/// Burst of the token bucket: the bytes of this time at the fault's rate may pass at once after a pause, at least one packet of full size.
const BURST: Duration = Duration::from_millis(10);
const BURST_BYTES_MIN: u64 = 1600;

/// Queue of the token bucket: the bytes of this time at the fault's rate may wait, at least some packets of full size; more is dropped.
const QUEUE: Duration = Duration::from_millis(400);
const QUEUE_BYTES_MIN: u64 = 16 << 10;

/// Sizes of the packets that are sent to measure the rate: the smaller, the slower the link.
const FRAME_BYTES: std::ops::RangeInclusive<u64> = 100..=1514;
const FRAMES: u64 = 16;

/// Fault that limits the rate of packets to a container by a token bucket at its port (`net.rate`).
pub struct Rate {
    kilobits_per_second: u32,
}

/// Number of sent bytes that arrived, and the time that they took.
struct Flow {
    bytes: u64,
    is_whole: bool,
    took: Duration,
}

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = if self.is_whole { "" } else { "no more than " };
        write!(f, "{part}{} bytes arrived within {}", self.bytes, ms(self.took))
    }
}

impl Rate {
    pub fn new(kilobits_per_second: u32) -> Self {
        Self { kilobits_per_second }
    }

    fn bytes_in(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.kilobits_per_second) * 125 * time.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn burst_bytes(&self) -> u64 {
        self.bytes_in(BURST).max(BURST_BYTES_MIN)
    }

    fn limit_bytes(&self) -> u64 {
        self.burst_bytes() + self.bytes_in(QUEUE).max(QUEUE_BYTES_MIN)
    }

    /// Returns the number of bytes to send, and the shortest time in which the rate lets them through.
    fn watched(&self) -> (u64, Duration) {
        let bytes = self.bytes_in(WATCH).max(WATCH_BYTES_MIN);
        let shortest = Duration::from_secs_f64(bytes as f64 / (f64::from(self.kilobits_per_second) * 125.0));
        (self.burst_bytes() + bytes, shortest)
    }

    /// Sends the bytes of [`Rate::watched`] to the container and measures their arrival there.
    fn send(&self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<Flow> {
        let (bytes, shortest) = self.watched();
        let patience = target.within(shortest * 3 + Duration::from_secs(1));
        let frame = (bytes / FRAMES).clamp(*FRAME_BYTES.start(), *FRAME_BYTES.end());
        let mark = means.helper().is_none().then_some(UNDELAYED); // with it, packets pass each queue by
        let flood = Flood { packets: bytes.div_ceil(frame), payload_bytes: frame - HEADER_BYTES, mark };
        let address = SocketAddr::from((target.container.machine().address(), CLOSED_PORT));
        let init = target.container.init_pid()?;
        let arrived = || received_bytes(init, "eth0");
        let before = arrived()?;
        let begun = Instant::now();
        let sent = target.lab.network().inside(|| flood.send(address, patience));
        sent.and_then(|sent| sent).context("sending packets to the container")?;
        loop {
            let (bytes, took) = (arrived()?.saturating_sub(before), begun.elapsed());
            let is_whole = bytes >= flood.counted_bytes();
            if is_whole || took > patience {
                return Ok(Flow { bytes, is_whole, took });
            }
            std::thread::sleep(Duration::from_millis(1)); // until the kernel has counted more
        }
    }

    /// Returns the rate of a flow in kilobits per second, without the burst.
    fn kilobits(&self, flow: &Flow) -> f64 {
        flow.bytes.saturating_sub(self.burst_bytes()) as f64 / 125.0 / flow.took.as_secs_f64()
    }
}

impl LinkDamage for Rate {
    const GONE: &'static str = "nothing slows its link any more";

    fn name(&self) -> &'static str {
        "net.rate"
    }

    /// Token bucket of the kernel, else the packet helper, where the kernel has none.
    fn means(&self) -> Vec<Means> {
        let bits_per_second = u64::from(self.kilobits_per_second) * 1000;
        let (burst_bytes, limit_bytes) = (self.burst_bytes(), self.limit_bytes());
        let numbers =
            [("--bits-per-second", bits_per_second), ("--burst-bytes", burst_bytes), ("--limit-bytes", limit_bytes)];
        let bucket = Qdisc::Rate { bits_per_second, burst_bytes, limit_bytes };
        vec![Means::queue(bucket), Means::Helper(Helper::that_holds("rate", &numbers))]
    }

    fn before(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let (_, shortest) = self.watched();
        let flow = self.send(target, means)?;
        if !flow.is_whole {
            return Err(cut_off(target));
        }
        if flow.took * 2 > shortest {
            let rate = self.kilobits(&flow);
            let problem = format!(
                "net.rate: {} receives at most {rate:.0} kilobits per second even without the fault",
                target.name()
            );
            let help = "choose a lower rate, or a host with less to do";
            return Err(Error::Host { problem, help: help.into() }.into());
        }
        Ok(flow.to_string())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let (_, shortest) = self.watched();
        let flow = self.send(target, means)?;
        // A bucket lets no more through than it holds; a little is lost to the clock's grain.
        if self.kilobits(&flow) > f64::from(self.kilobits_per_second) * 1.2 {
            bail!("{flow}, faster than the fault allows: at its rate these bytes take at least {}", ms(shortest));
        }
        if !flow.is_whole {
            bail!("{flow}, less than the fault lets through: something else keeps packets back");
        }
        Ok(format!("{flow}: {:.0} kilobits per second", self.kilobits(&flow)))
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<Seen> {
        let (_, shortest) = self.watched();
        let flow = self.send(target, means)?;
        let is_fast = flow.is_whole && flow.took * 2 <= shortest;
        Ok(if is_fast { Ok(flow.to_string()) } else { Err(format!("{flow}: this is as slow as with the fault")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_takes_a_moment_at_each_rate_and_finds_room_to_wait() {
        for kilobits in [8, 64, 1000, 100_000, 1_000_000] {
            let rate = Rate::new(kilobits);
            let (bytes, shortest) = rate.watched();
            let (limit_bytes, burst_bytes) = (rate.limit_bytes(), rate.burst_bytes());
            assert!(bytes <= limit_bytes && bytes > burst_bytes, "{kilobits}: {bytes} of {limit_bytes}");
            assert!(shortest >= Duration::from_millis(249) && shortest <= Duration::from_secs(1), "{shortest:?}");
        }
    }

    #[test]
    fn the_rate_is_told_without_what_passes_at_once() {
        let rate = Rate::new(1000);
        let flow = Flow { bytes: 1600 + 31_250, is_whole: true, took: Duration::from_millis(250) };
        assert!((rate.kilobits(&flow) - 1000.0).abs() < 1e-6);
    }
}
