//! Fault that lets packets pass in one direction only.

use std::borrow::Borrow;

use anyhow::Context as _;
use e2e_contract::Direction;

use super::filter::{Filter, Rules, TRAVELS, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, all_of, is_down, side_by_side};
use super::probe_packets::PAYLOAD_BYTES_MIN;
use crate::fault::effect::{FaultTarget, usage};
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::lab::Container;

/// Number of packets sent each way.
const PACKETS: usize = 20;

/// Fault that loses all packets to or from a container, or only those of one other container (`net.oneway`).
pub struct Oneway {
    lost: Direction,
    peer: Option<String>,
    /// Port of the other container; `None` where the fault acts on all senders, and until the lab is known.
    other: Option<DeviceName>,
    /// Peers whose packets the fault loses.
    met: Vec<Peer>,
    /// Peers whose packets the fault leaves alone.
    spared: Vec<Peer>,
}

/// Number of packets that arrived each way between a peer and the container.
struct Came {
    inbound: usize,
    outbound: usize,
}

impl Came {
    fn in_direction(&self, direction: Direction) -> usize {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }
}

impl Oneway {
    pub fn new(lost: Direction, peer: Option<&str>) -> Self {
        Self { lost, peer: peer.map(str::to_owned), other: None, met: Vec::new(), spared: Vec::new() }
    }

    fn passed(&self) -> Direction {
        match self.lost {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        }
    }

    fn other<'a>(&self, target: &FaultTarget<'a>) -> anyhow::Result<Option<&'a Container>> {
        let Some(name) = &self.peer else { return Ok(None) };
        let others: Vec<&Container> =
            target.lab.containers().iter().filter(|it| it.machine().name != target.name()).collect();
        match others.iter().find(|other| other.machine().name == *name) {
            Some(other) => Ok(Some(other)),
            None => {
                let known: Vec<&str> = others.iter().map(|other| other.machine().name.as_str()).collect();
                let message = format!(
                    "net.oneway: {name} is no other container of the lab; the others are: {}",
                    known.join(", ")
                );
                Err(usage(message))
            }
        }
    }

    fn look<P: Borrow<Peer> + Sync>(
        &self,
        target: &FaultTarget<'_>,
        peers: &[P],
        is_as_meant: impl Fn(&Came) -> bool,
    ) -> anyhow::Result<Seen> {
        let came = side_by_side(peers, |peer| came(target, peer.borrow()))?;
        Ok(all_of(peers.iter().zip(came).map(|(peer, came)| {
            let (Came { inbound, outbound }, name) = (&came, peer.borrow().name());
            let text =
                format!("{inbound} of {PACKETS} packets from {name} arrived, and {outbound} of {PACKETS} to {name}");
            if is_as_meant(&came) { Ok(text) } else { Err(text) }
        })))
    }
}

fn came(target: &FaultTarget<'_>, peer: &Peer) -> anyhow::Result<Came> {
    let mut ways = [peer.lane(target, None)?, peer.lane_back(target)?];
    let [inbound, outbound] = ways.each_mut().map(|lane| lane.send(PACKETS, PAYLOAD_BYTES_MIN, peer.quiet()));
    let failed = || format!("sending packets between {} and {}", peer.name(), target.name());
    Ok(Came { inbound: inbound.with_context(failed)?.arrived(), outbound: outbound.with_context(failed)?.arrived() })
}

/// Returns rules that drop packets through the container's port in one direction, of all senders or only of the port `other`.
fn rules(lost: Direction, port: &DeviceName, other: Option<&DeviceName>) -> Text<Nft> {
    let (hook, own, others) = match lost {
        Direction::Inbound => ("postrouting", "oifname", "iifname"),
        Direction::Outbound => ("prerouting", "iifname", "oifname"),
    };
    let own = compose!(Nft, "{own} {port}", own = own, port = *port);
    match other {
        None => chain(hook, &compose!(Nft, "{own} {travels} counter drop\n", own = own, travels = TRAVELS)),
        Some(other) => {
            let rule = compose!(
                Nft,
                "{own} {others} {other} {travels} counter drop\n",
                own = own,
                others = others,
                other = *other,
                travels = TRAVELS,
            );
            chain("forward", &rule)
        }
    }
}

impl LinkDamage for Oneway {
    const GONE: &'static str = "nothing keeps its packets back any more";

    fn name(&self) -> &'static str {
        "net.oneway"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::on_bridge(self.name()))]
    }

    fn rules(&self, port: &DeviceName) -> Rules {
        rules(self.lost, port, self.other.as_ref()).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        let other = self.other(target)?;
        if let Some(outage) = other.and_then(|other| other.outage().filter(|_| is_down(other))) {
            return Err(outage.into());
        }
        self.met = Peer::of(target)?;
        if let Some(other) = other {
            self.other = Some(other.machine().port());
            let peers = std::mem::replace(&mut self.met, vec![Peer::at(target, other)?]);
            self.spared = peers.into_iter().filter(|peer| peer.port().is_none()).collect();
        }
        let all: Vec<&Peer> = self.met.iter().chain(&self.spared).collect();
        let seen = self.look(target, &all, |came| came.inbound > 0 && came.outbound > 0)?;
        seen.map_err(|seen| {
            usage(format!("net.oneway: {seen} even without the fault, so its effect could not be observed"))
        })
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let is_one_way = |came: &Came| came.in_direction(self.lost) == 0 && came.in_direction(self.passed()) > 0;
        means.drops(target, || {
            let seen = self.look(target, &self.met, is_one_way)?;
            let others = self.look(target, &self.spared, |came| came.inbound > 0 && came.outbound > 0)?;
            let seen = all_of([seen, others].into_iter().filter(|seen| *seen != Ok(String::new())));
            seen.map_err(anyhow::Error::msg)
        })
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<Seen> {
        // Whoever is down or cut off is not asked: that is another fault's affair.
        let mut present = Vec::new();
        for peer in &self.met {
            if !peer.is_gone() && (means.exists(target)? || peer.is_there(target)?) {
                present.push(peer);
            }
        }
        if present.is_empty() {
            return Ok(Ok("no peer is up and reachable, so nobody can be heard".into()));
        }
        self.look(target, &present, |came| came.in_direction(self.lost) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_direction_alone_is_cut() {
        let check = |lost, other: Option<DeviceName>, expected: &str| {
            let rules = rules(lost, &DeviceName::port(12), other.as_ref());
            assert!(rules.contains(expected) && rules.matches("drop").count() == 1, "{rules}");
        };
        check(Direction::Inbound, None, "hook postrouting priority -200\noifname \"port12\" ether");
        check(Direction::Outbound, None, "hook prerouting priority -200\niifname \"port12\" ether");
        check(
            Direction::Inbound,
            Some(DeviceName::port(13)),
            "hook forward priority -200\noifname \"port12\" iifname \"port13\" ether",
        );
        check(
            Direction::Outbound,
            Some(DeviceName::port(13)),
            "hook forward priority -200\niifname \"port12\" oifname \"port13\" ether",
        );
    }
}
