//! Packets pass in one direction only.

use anyhow::{Context as _, bail};
use e2e_contract::Direction;

use super::filter::{Filter, TRAVELS, chain};
use super::peer::{Peer, expect_up, is_down, side_by_side, until_healed};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Lasted, Site};
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::host::volley::PAYLOAD_BYTES_MIN;
use crate::lab::Container;

/// Number of packets each way.
const PACKETS: usize = 20;

/// A link that is deaf or dumb, to all or to one other container.
pub struct Oneway {
    lost: Direction,
    peer: Option<String>,
    filter: Filter,
    /// Peers that meet it.
    met: Vec<Peer>,
    /// Peers that do not.
    spared: Vec<Peer>,
}

/// Number of packets that arrived each way.
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
        let filter = Filter::on_bridge("net.oneway");
        Self { lost, peer: peer.map(str::to_owned), filter, met: Vec::new(), spared: Vec::new() }
    }

    fn passed(&self) -> Direction {
        match self.lost {
            Direction::Inbound => Direction::Outbound,
            Direction::Outbound => Direction::Inbound,
        }
    }

    fn other<'a>(&self, site: &Site<'a>) -> anyhow::Result<Option<&'a Container>> {
        let Some(name) = &self.peer else { return Ok(None) };
        let others: Vec<&Container> =
            site.lab.containers().iter().filter(|it| it.machine().name != site.name()).collect();
        match others.iter().find(|other| other.machine().name == *name) {
            Some(other) => Ok(Some(other)),
            None => {
                let known: Vec<&str> = others.iter().map(|other| other.machine().name.as_str()).collect();
                let message = format!("net.oneway: {name} is no other container of the lab: {}", known.join(", "));
                Err(usage(message))
            }
        }
    }

    fn look(
        &self,
        site: &Site<'_>,
        peers: &[&Peer],
        is_as_meant: impl Fn(&Came) -> bool,
    ) -> anyhow::Result<Result<String, String>> {
        let mut said = Vec::new();
        for (peer, came) in peers.iter().zip(side_by_side(peers, |peer| came(site, peer))?) {
            let Came { inbound, outbound } = came;
            let text = format!("{inbound} of {PACKETS} packets came from {}, {outbound} to it", peer.name());
            if !is_as_meant(&came) {
                return Ok(Err(text));
            }
            said.push(text);
        }
        Ok(Ok(said.join("; ")))
    }
}

fn came(site: &Site<'_>, peer: &Peer) -> anyhow::Result<Came> {
    let mut ways = [peer.lane(site, None)?, peer.lane_back(site)?];
    let [inbound, outbound] = ways.each_mut().map(|lane| lane.send(PACKETS, PAYLOAD_BYTES_MIN, peer.quiet()));
    let failed = || format!("sending packets between {} and {}", peer.name(), site.name());
    Ok(Came { inbound: inbound.with_context(failed)?.arrived(), outbound: outbound.with_context(failed)?.arrived() })
}

/// Returns rules for packets through the container's port, from or to everybody, or the port of one other.
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

impl Effect for Oneway {
    fn supported(&self) -> anyhow::Result<()> {
        self.filter.supported(&rules(self.lost, &DeviceName::port(0), None), "`modprobe nf_tables_bridge`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let other = self.other(site)?;
        expect_up(site)?;
        if let Some(outage) = other.and_then(|other| other.outage().filter(|_| is_down(other))) {
            return Err(outage.into());
        }
        self.filter.expect_none(site)?;
        let mut peers = Peer::of(site)?;
        if let Some(other) = other {
            self.spared = peers.into_iter().filter(|peer| peer.port().is_none()).collect();
            peers = vec![Peer::at(site, other)?];
        }
        self.met = peers;
        let all: Vec<&Peer> = self.met.iter().chain(&self.spared).collect();
        match self.look(site, &all, |came| came.inbound > 0 && came.outbound > 0)? {
            Ok(seen) => Ok(seen),
            Err(seen) => Err(usage(format!("net.oneway: {seen} as it is: nothing more could be seen"))),
        }
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let other = self.other(site)?.map(|other| other.machine().port());
        let rules = rules(self.lost, &site.container.machine().port(), other.as_ref());
        self.filter.make(site, &rules)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_one_way = |came: &Came| came.in_direction(self.lost) == 0 && came.in_direction(self.passed()) > 0;
        let met: Vec<&Peer> = self.met.iter().collect();
        let spared: Vec<&Peer> = self.spared.iter().collect();
        self.filter.drops(site, || {
            let seen = self.look(site, &met, is_one_way)?;
            let others = self.look(site, &spared, |came| came.inbound > 0 && came.outbound > 0)?;
            match (seen, others) {
                (Ok(seen), Ok(others)) if others.is_empty() => Ok(seen),
                (Ok(seen), Ok(others)) => Ok(format!("{seen}; {others}")),
                (Err(problem), _) | (_, Err(problem)) => bail!(problem),
            }
        })
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        let proof = self.bites(site);
        self.filter.lasts(site, proof)
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.take_back(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.filter.exists(site);
        until_healed(site, "nothing keeps its packets back any more", is_left, || {
            // Whoever is down or cut off is not asked: that is another fault's affair.
            let mut present = Vec::new();
            for peer in &self.met {
                if !peer.is_gone() && (is_left()? || peer.is_there(site)?) {
                    present.push(peer);
                }
            }
            if present.is_empty() {
                return Ok(Ok("nobody is there to be heard".into()));
            }
            self.look(site, &present, |came| came.in_direction(self.lost) > 0)
        })
    }

    fn outlives_container(&self) -> bool {
        true
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
