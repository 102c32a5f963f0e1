//! Peers that send packets to a container, and their observations.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::probe_packets::Lane;
use crate::fault::effect::FaultTarget;
use crate::fault::effect::usage;
use crate::host::network::iptables::{STAGES, queue_rules};
use crate::host::network::netns::NetworkNamespace;
use crate::host::network::nft;
use crate::host::network::tc;
use crate::host::patience::Deadline;
use crate::host::syntax::DeviceName;
use crate::lab::Container;

/// Port on which nothing listens: the kernel itself answers that it is closed, whatever the machine's processes do.
pub const CLOSED_PORT: u16 = 1;

/// Deadline for the answer of a machine that is not cut off, perhaps over another slow link.
const PATIENCE: Deadline = Deadline::from_secs(1);

/// Minimum silence after which missing packets count as lost.
const QUIET: Deadline = Deadline::from_millis(200);

/// Deadline for a healed link to be as before the fault.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(20);

/// Time after healing from which an effect that is still observed may be another fault's.
const OTHERS_AFTER: Deadline = Deadline::from_secs(3);

/// Deadline for an answer that is delayed on purpose.
const PATIENCE_LONG: Deadline = Deadline::from_secs(12);

/// Time after which the kernel repeats a connection request without an answer: of a knock that took longer, the first packet may have been
/// lost.
const SENT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Number of further knocks after a slow one: if a fifth of the packets is lost, all of five knocks are lost once in 3000 times.
const SECOND_KNOCKS: usize = 4;

/// Result of one observation: a text on what was expected and seen, or on what was seen instead.
pub type Seen = Result<String, String>;

/// Sender of packets to the container: another container, or the bridge itself.
#[derive(Debug)]
pub struct Peer {
    /// Other container; `None` for the bridge itself.
    container: Option<Container>,
    usual: Duration,
}

impl Peer {
    /// Returns the bridge itself, whose packets the engine sends, and the first other running container that gets an answer.
    ///
    /// # Errors
    /// Also when not even the bridge gets an answer from the container.
    pub fn of(target: &FaultTarget<'_>) -> anyhow::Result<Vec<Self>> {
        let mut bridge = Self { container: None, usual: Duration::ZERO };
        bridge.usual =
            usual(PATIENCE_LONG.scaled(), |patience| bridge.knock(target, patience))?.ok_or_else(|| cut_off(target))?;
        let other = target.lab.containers().iter().find(|it| it.machine().name != target.name() && !is_down(it));
        let mut other = other.map(|other| Self { container: Some(other.clone()), usual: Duration::ZERO });
        if let Some(peer) = &mut other {
            match usual(PATIENCE.scaled().max(bridge.usual * 3), |patience| peer.knock(target, patience))? {
                Some(usual) => peer.usual = usual,
                None => other = None, // cut off itself
            }
        }
        Ok([Some(bridge), other].into_iter().flatten().collect())
    }

    /// Returns another container as a peer; fails where it gets no answer from the target's container.
    pub fn at(target: &FaultTarget<'_>, other: &Container) -> anyhow::Result<Self> {
        let mut peer = Self { container: Some(other.clone()), usual: Duration::ZERO };
        peer.usual = usual(PATIENCE_LONG.scaled(), |patience| peer.knock(target, patience))?.ok_or_else(|| {
            usage(format!(
                "{} has no answer from {} even without the fault, so its effect could not be observed",
                peer.name(),
                target.name()
            ))
        })?;
        Ok(peer)
    }

    /// Tells whether the peer was taken down on purpose, and so has no processes and no network.
    pub fn is_gone(&self) -> bool {
        self.container.as_ref().is_some_and(is_down)
    }

    pub fn name(&self) -> &str {
        self.container.as_ref().map_or("the bridge", |container| &container.machine().name)
    }

    /// Returns how long an answer to the peer took before the fault.
    pub fn usual(&self) -> Duration {
        self.usual
    }

    /// Tells whether the peer can observe now. A container that is down or cut off itself cannot.
    pub fn is_there(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        match &self.container {
            None => Ok(true),
            Some(container) if is_down(container) => Ok(false),
            Some(container) => Ok(knock(target.lab.network(), container, PATIENCE.scaled())?.is_some()),
        }
    }

    /// Tries to connect to a closed port of the target's container (a knock); returns the time until the answer, or `None` if none came in
    /// time.
    pub fn knock(&self, target: &FaultTarget<'_>, patience: Duration) -> anyhow::Result<Option<Duration>> {
        match &self.container {
            None => knock(target.lab.network(), target.container, patience),
            Some(container) if is_down(container) => Ok(None),
            Some(container) => knock(&network_of(container)?, target.container, patience),
        }
        .with_context(|| format!("sending from {} to {}", self.name(), target.name()))
    }

    /// Knocks at any port, as [`Peer::knock`] does at a closed one; a process that listens at the port sees a connection that ends at once.
    pub fn knock_at(
        &self,
        target: &FaultTarget<'_>,
        port: u16,
        patience: Duration,
    ) -> anyhow::Result<Option<Duration>> {
        knock_at(&*self.network(target)?, target.container, port, patience)
            .with_context(|| format!("sending from {} to port {port} of {}", self.name(), target.name()))
    }

    /// Returns the peer's network namespace; fails where it has none now.
    pub fn network<'a>(&self, target: &FaultTarget<'a>) -> anyhow::Result<Network<'a>> {
        match &self.container {
            None => Ok(Network::Lab(target.lab.network())),
            Some(container) => Ok(Network::Container(network_of(container)?)),
        }
    }

    pub fn address(&self, target: &FaultTarget<'_>) -> Ipv4Addr {
        match &self.container {
            None => target.container.machine().network.gateway(),
            Some(container) => container.machine().address(),
        }
    }

    /// Returns the peer's port on the bridge; `None` for the bridge itself.
    pub fn port(&self) -> Option<DeviceName> {
        self.container.as_ref().map(|container| container.machine().port())
    }

    /// Opens sockets that carry numbered packets from the peer to the target's container. `mark` is their firewall mark if the peer is the
    /// bridge, and ignored otherwise.
    pub fn lane(&self, target: &FaultTarget<'_>, mark: Option<u32>) -> anyhow::Result<Lane> {
        let mark = mark.filter(|_| self.container.is_none());
        Lane::between(
            &*self.network(target)?,
            mark,
            &network_of(target.container)?,
            target.container.machine().address(),
        )
    }

    /// Opens sockets that carry numbered packets from the target's container to the peer.
    pub fn lane_back(&self, target: &FaultTarget<'_>) -> anyhow::Result<Lane> {
        Lane::between(&network_of(target.container)?, None, &*self.network(target)?, self.address(target))
    }

    /// Returns the silence after which no more packets from the peer are expected.
    pub fn quiet(&self) -> Duration {
        QUIET.scaled().max(self.usual * 3)
    }

    /// Knocks several times at once; returns the times until the answers, shortest first.
    pub fn knock_times(
        &self,
        target: &FaultTarget<'_>,
        count: usize,
        patience: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut took: Vec<_> = side_by_side(&vec![self; count], |peer| peer.knock(target, patience))?;
        took.sort();
        Ok(took.into_iter().flatten().collect())
    }
}

/// Network namespace that packets are sent from.
pub enum Network<'a> {
    /// The lab's own network, with the bridge.
    Lab(&'a NetworkNamespace),
    Container(NetworkNamespace),
}

impl std::ops::Deref for Network<'_> {
    type Target = NetworkNamespace;

    fn deref(&self) -> &NetworkNamespace {
        match self {
            Self::Lab(network) => network,
            Self::Container(network) => network,
        }
    }
}

/// Opens the network namespace of a container, which may be frozen; fails where it is down.
pub fn network_of(container: &Container) -> anyhow::Result<NetworkNamespace> {
    NetworkNamespace::open(&PathBuf::from(format!("/proc/{}/ns/net", container.init_pid()?)))
}

/// Waits until `look` observes that the link is as before, for as long as a healed link may take. `gone` describes the recovery of a
/// container that is down, or cut off by another fault; `is_left` tells whether this fault is still there.
///
/// # Errors
/// The last observation, when the time has passed.
pub fn until_healed(
    target: &FaultTarget<'_>,
    gone: &str,
    is_left: impl Fn() -> anyhow::Result<bool>,
    mut look: impl FnMut() -> anyhow::Result<Seen>,
) -> anyhow::Result<String> {
    let begun = Instant::now();
    loop {
        if let Some(outage) = target.container.outage().filter(|_| is_down(target.container)) {
            return Ok(format!("{outage}; {gone}"));
        }
        match look()? {
            Ok(evidence) => return Ok(evidence),
            // What cuts it off, or does the same to it, is another fault's affair.
            Err(_) if is_cut_off(target)? && !is_left()? => {
                return Ok(format!("the container is cut off by another fault; {gone}"));
            }
            Err(problem) if begun.elapsed() > OTHERS_AFTER.scaled() && !is_left()? && others_are_left(target)? => {
                return Ok(format!("{problem}, by another fault; {gone}"));
            }
            Err(problem) if begun.elapsed() > HEAL_DEADLINE.scaled() => bail!(problem),
            Err(_) => {}
        }
    }
}

/// Tells whether another fault acts on the lab's links.
fn others_are_left(target: &FaultTarget<'_>) -> anyhow::Result<bool> {
    let (network, machine) = (target.lab.network(), target.container.machine());
    Ok(nft::has_tables(network)?
        || tc::root_kind(network, &machine.port())?.is_some()
        || STAGES.iter().try_fold(false, |found, stage| {
            Ok::<bool, anyhow::Error>(found || !queue_rules(network, stage.queue(machine.octet))?.is_empty())
        })?)
}

/// Fails with [`crate::lab::Outage`] where the container is down.
pub fn expect_up(target: &FaultTarget<'_>) -> anyhow::Result<()> {
    match target.container.outage().filter(|_| is_down(target.container)) {
        Some(outage) => Err(outage.into()),
        None => Ok(()),
    }
}

/// Tells whether a container was taken down on purpose, and so has no processes and no network.
pub fn is_down(container: &Container) -> bool {
    container.outage().is_some_and(|outage| !outage.frozen)
}

/// Tells whether not even the bridge gets an answer from the container.
pub fn is_cut_off(target: &FaultTarget<'_>) -> anyhow::Result<bool> {
    Ok(knock(target.lab.network(), target.container, PATIENCE.scaled())?.is_none())
}

/// Returns the error for a container that is cut off already, so that no effect of a further fault could be observed.
pub fn cut_off(target: &FaultTarget<'_>) -> anyhow::Error {
    usage(format!(
        "{} answers no peer: it is cut off already, so the fault's effect could not be observed",
        target.name()
    ))
}

/// Returns the time until an answer where no packet is lost on the way; `None` if none came within `patience`. A link that loses packets
/// must not seem slow: later deadlines are multiples of this time.
pub fn usual(
    patience: Duration,
    knock: impl Fn(Duration) -> anyhow::Result<Option<Duration>>,
) -> anyhow::Result<Option<Duration>> {
    let Some(mut shortest) = knock(patience)? else { return Ok(None) };
    for _ in 0..SECOND_KNOCKS {
        if shortest < SENT_AGAIN_AFTER {
            break;
        }
        shortest = knock(shortest)?.map_or(shortest, |took| took.min(shortest));
    }
    Ok(Some(shortest))
}

/// Knocks at a container's closed port; returns the time until the answer, or `None` if none came in time.
pub fn knock(from: &NetworkNamespace, at: &Container, patience: Duration) -> anyhow::Result<Option<Duration>> {
    knock_at(from, at, CLOSED_PORT, patience)
}

fn knock_at(
    from: &NetworkNamespace,
    at: &Container,
    port: u16,
    patience: Duration,
) -> anyhow::Result<Option<Duration>> {
    let address = SocketAddr::from((at.machine().address(), port));
    let knock = || {
        let begun = Instant::now();
        (TcpStream::connect_timeout(&address, patience), begun.elapsed())
    };
    let (answer, took) = from.inside(knock)?;
    match answer {
        Ok(_) => Ok(Some(took)),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Ok(Some(took)),
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Ok(None),
            _ => Err(error).with_context(|| format!("connecting to {address}")),
        },
    }
}

/// Does the same work for all peers in parallel; returns the error of the first peer that failed.
pub fn side_by_side<P: Sync, T: Send>(
    peers: &[P],
    work: impl Fn(&P) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = peers.iter().map(|peer| scope.spawn(|| work(peer))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<T>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a thread that looked at the network panicked")))
        };
        threads.into_iter().map(join).collect()
    })
}

/// Joins the observations of several peers; the first unexpected one is the result.
pub fn all_of(seen: impl IntoIterator<Item = Seen>) -> Seen {
    Ok(seen.into_iter().collect::<Result<Vec<_>, _>>()?.join(", "))
}

/// Observes by `look`, up to `rounds` times, until the observation is as expected; the error is the last observation.
pub fn in_rounds(rounds: usize, mut look: impl FnMut() -> anyhow::Result<Seen>) -> anyhow::Result<String> {
    let mut last = String::new();
    for _ in 0..rounds {
        match look()? {
            Ok(evidence) => return Ok(evidence),
            Err(problem) => last = problem,
        }
    }
    bail!(last)
}

/// Returns the peers that can observe now.
pub fn present<'a>(target: &FaultTarget<'_>, peers: &'a [Peer]) -> anyhow::Result<Vec<&'a Peer>> {
    let mut present = Vec::new();
    for peer in peers {
        if peer.is_there(target)? {
            present.push(peer);
        }
    }
    Ok(present)
}

/// Returns a text with the time until an answer to each peer before the fault.
pub fn answers(peers: &[Peer]) -> String {
    let one = |peer: &Peer| format!("{} has an answer after {}", peer.name(), ms(peer.usual()));
    peers.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Formats a duration in milliseconds, with fewer decimals the longer it is.
pub fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    let digits = if ms < 1.0 { 2 } else { usize::from(ms < 10.0) };
    format!("{ms:.digits$} ms")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Returns the result of `usual` for such answers, and the time that it was ready to wait for each.
    fn usual_of(answers: &[Option<u64>]) -> (Option<Duration>, Vec<Duration>) {
        let waits = RefCell::new(Vec::new());
        let seen = usual(PATIENCE_LONG.scaled(), |patience| {
            let answer = answers[waits.borrow().len()];
            waits.borrow_mut().push(patience);
            Ok(answer.map(Duration::from_millis))
        });
        (seen.unwrap(), waits.into_inner())
    }

    #[test]
    fn a_link_that_loses_packets_is_not_slow() {
        let ms = Duration::from_millis;
        assert_eq!(usual_of(&[Some(30)]), (Some(ms(30)), vec![PATIENCE_LONG.scaled()]));
        assert_eq!(usual_of(&[None]), (None, vec![PATIENCE_LONG.scaled()]));
        // Lost three times, then twice, then not at all.
        let lossy = usual_of(&[Some(7030), Some(3030), Some(30)]);
        assert_eq!(lossy, (Some(ms(30)), vec![PATIENCE_LONG.scaled(), ms(7030), ms(3030)]));
        // Lost once, then no answer in the time of the first.
        assert_eq!(
            usual_of(&[Some(1030), None, Some(30)]),
            (Some(ms(30)), vec![PATIENCE_LONG.scaled(), ms(1030), ms(1030)])
        );
    }

    #[test]
    fn a_slow_link_is_slow() {
        let slow = [Some(1500), Some(1510), None, Some(1490), Some(1495), Some(1)];
        let (usual, waits) = usual_of(&slow);
        assert_eq!((usual, waits.len()), (Some(Duration::from_millis(1490)), 1 + SECOND_KNOCKS));
    }
}
