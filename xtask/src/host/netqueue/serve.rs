//! The process that delays packets. It is one of its own so that it dies with the lab.

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

use super::held::{Delay, Held};
use super::socket::PacketQueue;
use crate::host::netns::NetworkNamespace;

/// So many buffers of news are read before the clock is looked at again.
const READS_AT_ONCE: usize = 64;

/// Delays the packets of a queue until SIGTERM; those that wait then go on at once, in the order of their times.
///
/// # Errors
/// When the namespace cannot be entered, or another program reads the queue.
pub fn serve(namespace: &Path, number: u16, delay: Delay) -> anyhow::Result<()> {
    let (mut told_to_end, writer) = UnixStream::pair().context("making a socket pair")?;
    told_to_end.set_nonblocking(true)?;
    low_level::pipe::register(SIGTERM, writer).context("listening to signals")?;
    NetworkNamespace::open(namespace)?.enter()?;
    let mut queue = PacketQueue::open(number).with_context(|| format!("reading packet queue {number}"))?;
    let mut held = Held::new(delay);
    loop {
        take_in(&mut queue, &mut held)?;
        let now = Instant::now();
        let due: Vec<u32> = std::iter::from_fn(|| held.due(now)).collect();
        queue.accept(&due).context("letting packets go on")?;
        if told_to_end.read(&mut [0; 16]).is_ok_and(|count| count > 0) {
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
        if !queue.read(|packet| held.hold(packet, Instant::now())).context("reading a packet queue")? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn wait(queue: &PacketQueue, told_to_end: &UnixStream, longest: Option<Duration>) -> anyhow::Result<()> {
    let look = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = [look(queue.as_fd()), look(told_to_end.as_fd())];
    match ppoll(&mut fds, longest.map(TimeSpec::from_duration), None::<SigSet>) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).context("waiting for packets"),
    }
}
