//! Rate limit: packets to the container wait at its port until the rate allows them.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::helper::{HELP, Helper};
use super::peer::{cut_off, is_cut_off, is_down, ms};
use crate::error::Error;
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::flood::{Flood, HEADER_BYTES};
use crate::host::iptables::{UNDELAYED, queue_problem};
use crate::host::netns::received_bytes;
use crate::host::patience::Deadline;
use crate::host::tc::{self, Qdisc};
use crate::host::undo::Undo;

/// Time for which the rate alone is watched.
const WATCH: Duration = Duration::from_millis(250);

/// Minimum number of watched bytes: a few packets.
const WATCH_BYTES_MIN: u64 = 1000;

/// Time whose bytes may pass at once after a pause, at least one packet of full size.
const BURST: Duration = Duration::from_millis(10);
const BURST_BYTES_MIN: u64 = 1600;

/// Time whose bytes may wait, at least some packets of full size; more is dropped.
const QUEUE: Duration = Duration::from_millis(400);
const QUEUE_BYTES_MIN: u64 = 16 << 10;

/// Packets that are sent to watch: the smaller, the slower the link.
const FRAME_BYTES: std::ops::RangeInclusive<u64> = 100..=1514;
const FRAMES: u64 = 16;

/// Port at which nothing listens; the container's kernel answers some packets with an error that nobody reads.
const CLOSED_PORT: u16 = 1;

/// Deadline for a healed link to be fast again.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(20);

/// A token bucket at the container's port.
pub struct Rate {
    kilobits_per_second: u32,
    means: OnceLock<Means>,
    helper: Helper,
    undo: Vec<Undo>,
}

/// Means of holding packets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// The kernel's token bucket.
    Tbf,
    /// A process of the engine, where the kernel has no token bucket.
    Queue,
}

/// Speed at which sent packets arrived.
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
        let helper = Helper::that_holds("rate");
        Self { kilobits_per_second, means: OnceLock::new(), helper, undo: Vec::new() }
    }

    /// The means of this host.
    fn means(&self) -> anyhow::Result<Means> {
        if let Some(means) = self.means.get() {
            return Ok(*means);
        }
        let tbf = Qdisc::Rate { bits_per_second: 1_000_000, burst_bytes: 10_000, limit_bytes: 10_000 }.problem();
        let means = match tbf {
            None => Means::Tbf,
            Some(tbf) => match queue_problem() {
                None => Means::Queue,
                Some(queue) => {
                    let problem = format!("net.rate: {tbf}, and no packets can be handed to a process: {queue}");
                    let help =
                        format!("`cargo xtask setup` installs tc; for the kernel, `modprobe sch_tbf`; or {HELP}");
                    return Err(Error::Host { problem, help }.into());
                }
            },
        };
        Ok(*self.means.get_or_init(|| means))
    }

    /// Returns the name of whatever slows the container's link.
    fn slowed_by(&self, site: &Site<'_>) -> anyhow::Result<Option<String>> {
        match self.means()? {
            Means::Tbf => tc::root_kind(site.lab.network(), &site.container.machine().port()),
            Means::Queue => Ok(self.helper.exists(site)?.then(|| "a process that holds packets back".to_owned())),
        }
    }

    fn bytes_in(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.kilobits_per_second) * 125 * time.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn burst_bytes(&self) -> u64 {
        self.bytes_in(BURST).max(BURST_BYTES_MIN)
    }

    fn qdisc(&self) -> Qdisc {
        Qdisc::Rate {
            bits_per_second: u64::from(self.kilobits_per_second) * 1000,
            burst_bytes: self.burst_bytes(),
            limit_bytes: self.burst_bytes() + self.bytes_in(QUEUE).max(QUEUE_BYTES_MIN),
        }
    }

    /// Bytes to send, and the shortest time in which the rate lets them through.
    fn watched(&self) -> (u64, Duration) {
        let bytes = self.bytes_in(WATCH).max(WATCH_BYTES_MIN);
        let shortest = Duration::from_secs_f64(bytes as f64 / (f64::from(self.kilobits_per_second) * 125.0));
        (self.burst_bytes() + bytes, shortest)
    }

    /// Sends so many bytes to the container and watches them arrive there.
    fn send(&self, site: &Site<'_>) -> anyhow::Result<Flow> {
        let (bytes, shortest) = self.watched();
        let patience = site.within(shortest * 3 + Duration::from_secs(1));
        let frame = (bytes / FRAMES).clamp(*FRAME_BYTES.start(), *FRAME_BYTES.end());
        let mark = (self.means()? == Means::Tbf).then_some(UNDELAYED); // with it, packets pass each queue by
        let flood = Flood { packets: bytes.div_ceil(frame), payload_bytes: frame - HEADER_BYTES, mark };
        let target = SocketAddr::from((site.container.machine().address(), CLOSED_PORT));
        let init = site.container.init_pid()?;
        let arrived = || received_bytes(init, "eth0");
        let before = arrived()?;
        let begun = Instant::now();
        let sent = site.lab.network().inside(|| flood.send(target, patience));
        sent.and_then(|sent| sent).context("sending packets to it")?;
        loop {
            let (bytes, took) = (arrived()?.saturating_sub(before), begun.elapsed());
            let is_whole = bytes >= flood.counted_bytes();
            if is_whole || took > patience {
                return Ok(Flow { bytes, is_whole, took });
            }
            std::thread::sleep(Duration::from_millis(1)); // until the kernel has counted more
        }
    }

    /// Returns the rate of a flow in kilobits per second, without the bytes that pass at once.
    fn kilobits(&self, flow: &Flow) -> f64 {
        flow.bytes.saturating_sub(self.burst_bytes()) as f64 / 125.0 / flow.took.as_secs_f64()
    }
}

impl Effect for Rate {
    fn supported(&self) -> anyhow::Result<()> {
        self.means().map(drop)
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if let Some(outage) = site.container.outage().filter(|_| is_down(site.container)) {
            return Err(outage.into());
        }
        if let Some(kind) = self.slowed_by(site)? {
            let message = format!("net.rate: something slows {} already, by {kind}: heal that first", site.name());
            return Err(usage(message));
        }
        let (_, shortest) = self.watched();
        let flow = self.send(site)?;
        if !flow.is_whole {
            return Err(cut_off(site));
        }
        if flow.took * 2 > shortest {
            let rate = self.kilobits(&flow);
            let problem = format!("net.rate: {} takes in {rate:.0} kilobits per second at best now", site.name());
            let help = "choose less, or a machine with less to do";
            return Err(Error::Host { problem, help: help.into() }.into());
        }
        Ok(flow.to_string())
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        if self.means()? == Means::Queue {
            let Qdisc::Rate { bits_per_second, burst_bytes, limit_bytes } = self.qdisc() else {
                bail!("a rate is no other discipline");
            };
            let numbers = [
                ("--bits-per-second", bits_per_second),
                ("--burst-bytes", burst_bytes),
                ("--limit-bytes", limit_bytes),
            ];
            let mut words = vec!["rate".to_owned()];
            words.extend(numbers.into_iter().flat_map(|(flag, number)| [flag.to_owned(), number.to_string()]));
            return self.helper.start(site, &words);
        }
        let (network, port) = (site.lab.network(), site.container.machine().port());
        let undo = vec![Undo::DeleteQdisc { network: network.place()?, device: port.to_string() }];
        site.note(undo.clone())?;
        self.undo = undo;
        self.qdisc().set(network, &port)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let (_, shortest) = self.watched();
        let flow = self.send(site)?;
        // A bucket lets no more through than it holds; a little is lost to the clock's grain.
        if self.kilobits(&flow) > f64::from(self.kilobits_per_second) * 1.2 {
            bail!("{flow}: that takes {} at this rate", ms(shortest));
        }
        if !flow.is_whole {
            bail!("{flow}: something else keeps packets back");
        }
        Ok(format!("{flow}: {:.0} kilobits per second", self.kilobits(&flow)))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        if let Some(lost) = self.helper.lost() {
            return Ok(lost);
        }
        let proof = self.bites(site);
        Lasted::proved(proof, Keeper::Host, || Ok(self.slowed_by(site)?.is_some()))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.helper.stop(site)?;
        site.undo(self.undo.clone())
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let (begun, (_, shortest)) = (Instant::now(), self.watched());
        loop {
            if let Some(outage) = site.container.outage().filter(|_| is_down(site.container)) {
                return Ok(format!("{outage}; nothing slows its link any more"));
            }
            let flow = self.send(site)?;
            if flow.is_whole && flow.took * 2 <= shortest {
                return Ok(flow.to_string());
            }
            // What cuts it off is another fault's affair.
            if is_cut_off(site)? && self.slowed_by(site)?.is_none() {
                return Ok("it is cut off; nothing slows its link any more".into());
            }
            if begun.elapsed() > HEAL_DEADLINE.scaled() {
                bail!("{flow}: that is as slow as before");
            }
        }
    }

    fn restore(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let port = site.container.machine().port();
        match (self.means()?, tc::root_kind(site.lab.network(), &port)?) {
            (Means::Queue, _) | (_, Some(_)) => Ok(()), // a queue outlives the port
            (Means::Tbf, None) => self.qdisc().set(site.lab.network(), &port),
        }
    }

    fn outlives_container(&self) -> bool {
        self.means.get() == Some(&Means::Queue)
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
            let Qdisc::Rate { limit_bytes, burst_bytes, .. } = rate.qdisc() else { panic!("a rate") };
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
