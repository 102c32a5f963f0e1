//! The process that treats packets. It is one of its own so that it dies with the lab.

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
use signal_hook::consts::SIGTERM;
use signal_hook::low_level;

use super::damage::{Damage, Dice};
use super::held::{Delay, Held};
use super::rate::{Bucket, Rate};
use super::socket::{Copy, PacketQueue};
use crate::host::netns::NetworkNamespace;

/// Number of buffers read before the clock is looked at again.
const READS_AT_ONCE: usize = 64;

/// Treatment of the packets of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Delay of each packet.
    Delay(Delay),
    /// Rate of all packets together.
    Rate(Rate),
    /// Stall: none goes on before the end.
    Stall,
    /// Some go on changed.
    Damage(Damage),
}

/// Treats the packets of a queue until SIGTERM; those that wait then go on at once, in the order of their times.
///
/// # Errors
/// When the namespace cannot be entered, or another program reads the queue.
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

/// Takes in what has come; `true` if there may be more.
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
    let mut dice = Dice::new(damage);
    loop {
        let ends = is_told_to_end(&mut told_to_end);
        let (mut left_alone, mut changed) = (Vec::new(), Vec::new());
        let mut sort = |number, packet: &[u8]| match dice.roll(packet) {
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
