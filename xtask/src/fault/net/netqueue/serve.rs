//! The packet helper's process, which treats the packets of a queue. It is separate from the engine's process, so that it ends with the
//! lab.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::SigSet;
use nix::sys::time::TimeSpec;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use signal_hook::consts::SIGTERM;
use signal_hook::low_level;

use super::held::{Delay, Held};
use super::rate::{Bucket, Rate};
use super::socket::{Copy, PacketQueue};
use crate::host::network::netns::NetworkNamespace;

/// Number of buffers read before the clock is read again.
const READS_AT_ONCE: usize = 64;

/// Treatment of the packets of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    Delay(Delay),
    /// Limit on the rate of all packets together.
    Rate(Rate),
    /// Stall: no packet goes on before the treatment ends.
    Stall,
    /// Damage: some packets go on with a byte changed.
    Damage(Damage),
}

/// Treats the packets of a queue until SIGTERM; packets that wait then go on at once, in the order of their times.
///
/// # Errors
/// Also when another program reads the queue.
pub fn serve(namespace: &Path, number: u16, treatment: Treatment) -> anyhow::Result<()> {
    let (told_to_end, writer) = UnixStream::pair().context("making a socket pair")?;
    told_to_end.set_nonblocking(true)?;
    low_level::pipe::register(SIGTERM, writer).context("listening to signals")?;
    NetworkNamespace::open(namespace)?.enter()?;
    let open = |copy| PacketQueue::open(number, copy).with_context(|| format!("reading packet queue {number}"));
    match treatment {
        Treatment::Delay(delay) => hold(open(Copy::Nothing)?, delay, told_to_end),
        Treatment::Rate(rate) => slow(open(Copy::Whole)?, rate, told_to_end),
        Treatment::Stall => hold(open(Copy::Nothing)?, Delay::FOR_EVER, told_to_end),
        Treatment::Damage(damage) => change(open(Copy::Whole)?, damage, told_to_end),
    }
}

fn hold(mut queue: PacketQueue, delay: Delay, mut told_to_end: UnixStream) -> anyhow::Result<()> {
    let mut held = Held::new(delay);
    loop {
        take_in(&mut queue, &mut held)?;
        let now = Instant::now();
        let due: Vec<u32> = std::iter::from_fn(|| held.due(now)).collect();
        queue.accept(&due).context("letting packets go on")?;
        if is_told_to_end(&mut told_to_end) {
            while take_in(&mut queue, &mut held)? {}
            let all: Vec<u32> = std::iter::from_fn(|| held.next()).collect();
            return queue.accept(&all).context("letting packets go on");
        }
        wait(&queue, &told_to_end, held.until_next(Instant::now()))?;
    }
}

/// Reads packets that have come to the queue and holds them; returns true if there may be more.
fn take_in(queue: &mut PacketQueue, held: &mut Held<u32>) -> anyhow::Result<bool> {
    for _ in 0..READS_AT_ONCE {
        let read = queue.read(|packet, _| held.hold(packet, Instant::now()));
        if !read.context("reading a packet queue")? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn slow(mut queue: PacketQueue, rate: Rate, mut told_to_end: UnixStream) -> anyhow::Result<()> {
    let mut bucket = Bucket::new(rate, Instant::now());
    loop {
        let ends = is_told_to_end(&mut told_to_end);
        let mut dropped = Vec::new();
        for _ in 0..READS_AT_ONCE {
            let hold =
                |number, packet: &[u8]| dropped.extend(bucket.hold(number, packet.len() as u64, Instant::now()).err());
            if !queue.read(hold).context("reading a packet queue")? {
                break;
            }
        }
        queue.refuse(&dropped).context("dropping packets")?;
        let now = Instant::now();
        let next = |bucket: &mut Bucket<u32>| if ends { bucket.next() } else { bucket.due(now) };
        let due: Vec<u32> = std::iter::from_fn(|| next(&mut bucket)).collect();
        queue.accept(&due).context("letting packets go on")?;
        if ends {
            return Ok(());
        }
        wait(&queue, &told_to_end, bucket.until_next(Instant::now()))?;
    }
}

fn change(mut queue: PacketQueue, damage: Damage, mut told_to_end: UnixStream) -> anyhow::Result<()> {
    let mut sampler = PacketSampler::new(damage);
    loop {
        let ends = is_told_to_end(&mut told_to_end);
        let (mut left_alone, mut changed) = (Vec::new(), Vec::new());
        let mut sort = |number, packet: &[u8]| match sampler.damaged(packet) {
            Some(bytes) if !ends => changed.push((number, bytes)),
            _ => left_alone.push(number),
        };
        while queue.read(&mut sort).context("reading a packet queue")? {}
        queue.accept(&left_alone).context("letting packets go on")?;
        for (number, bytes) in changed {
            queue.accept_as(number, &bytes).context("letting a changed packet go on")?;
        }
        if ends {
            return Ok(());
        }
        wait(&queue, &told_to_end, None)?;
    }
}

fn is_told_to_end(told_to_end: &mut UnixStream) -> bool {
    told_to_end.read(&mut [0; 16]).is_ok_and(|count| count > 0)
}

fn wait(queue: &PacketQueue, told_to_end: &UnixStream, longest: Option<Duration>) -> anyhow::Result<()> {
    let look = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = [look(queue.as_fd()), look(told_to_end.as_fd())];
    match ppoll(&mut fds, longest.map(TimeSpec::from_duration), None::<SigSet>) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("waiting for packets"),
    }
}

const UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;

/// Parameters of damage to the packets of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Percentage of packets with a changed byte.
    pub percent: u8,
    /// Seed of the random draws of damaged packets and bytes.
    pub seed: u64,
}

/// Random draws of the packets that are damaged, and of their changed bytes.
#[derive(Debug)]
struct PacketSampler {
    damage: Damage,
    draws: Pcg64,
}

impl PacketSampler {
    pub fn new(damage: Damage) -> Self {
        Self { damage, draws: Pcg64::seed_from_u64(damage.seed) }
    }

    /// Returns an IPv4 packet with one byte changed after its IP header, if the packet was drawn and has such a byte. Any change of the
    /// byte makes the checksum that covers it wrong.
    pub fn damaged(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if self.draws.random_range(0..100) >= self.damage.percent {
            return None;
        }
        let first = first_byte(packet)?;
        let place = self.draws.random_range(first..packet.len());
        let mut changed = packet.to_vec();
        *changed.get_mut(place)? ^= self.draws.random_range(1..=255);
        Some(changed)
    }
}

/// Returns the index of the first byte that may be changed: in UDP the first of the payload, because a checksum field changed to 0 would
/// mean that the packet has no checksum.
fn first_byte(packet: &[u8]) -> Option<usize> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let carried = header + UDP_HEADER_BYTES;
    let first = if packet.get(9) == Some(&UDP) && packet.len() > carried { carried } else { header };
    (first < packet.len()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an IPv4 packet with a header of 20 bytes.
    fn packet(protocol: u8, carried: usize) -> Vec<u8> {
        let mut bytes = vec![0; 20 + carried];
        (bytes[0], bytes[9]) = (0x45, protocol);
        bytes
    }

    #[test]
    fn one_byte_after_the_header_is_changed() {
        let mut sampler = PacketSampler::new(Damage { percent: 100, seed: 1 });
        for (protocol, carried, first) in [(6, 20, 20), (UDP, 30, 28), (UDP, 8, 20), (1, 1, 20)] {
            for _ in 0..200 {
                let packet = packet(protocol, carried);
                let changed = sampler.damaged(&packet).unwrap();
                let places: Vec<usize> = (0..packet.len()).filter(|place| changed[*place] != packet[*place]).collect();
                assert!(places.len() == 1 && places[0] >= first, "{protocol}: {places:?}");
            }
        }
    }

    #[test]
    fn a_share_of_them_is_changed_and_a_seed_repeats_it() {
        let changed = |seed| {
            let mut sampler = PacketSampler::new(Damage { percent: 30, seed });
            (0..1000).map(|_| sampler.damaged(&packet(6, 20)).is_some()).collect::<Vec<bool>>()
        };
        assert!(changed(1) == changed(1) && changed(1) != changed(2));
        let count = changed(1).into_iter().filter(|changed| *changed).count();
        assert!((250..350).contains(&count), "{count}");
    }

    #[test]
    fn what_carries_nothing_is_left_as_it_is() {
        let mut sampler = PacketSampler::new(Damage { percent: 100, seed: 1 });
        for packet in [packet(6, 0), Vec::new(), vec![0x4f; 20]] {
            assert_eq!(sampler.damaged(&packet), None, "{packet:?}");
        }
    }
}
