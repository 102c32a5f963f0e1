//! Block of one TCP port of the container.

use anyhow::bail;

use super::filter::{Filter, chain};
use super::peer::{CLOSED_PORT, Peer, expect_up, ms, present, side_by_side, until_healed};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Lasted, Site};
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, Nft, Text, compose};

/// Minimum silence of a blocked port that counts as no answer.
const SILENCE: Deadline = Deadline::from_millis(100);

/// Deadline for an answer: on a link that loses packets the first ones are sent again after 1 and 3 s.
const PATIENCE: Deadline = Deadline::from_secs(8);

/// A port whose packets get lost.
pub struct PortBlock {
    port: u16,
    filter: Filter,
    peers: Vec<Peer>,
}

impl PortBlock {
    pub fn new(port: u16) -> Self {
        Self { port, filter: Filter::on_bridge("net.port-block"), peers: Vec::new() }
    }

    fn rules(&self, port: &DeviceName) -> Text<Nft> {
        let rule = compose!(
            Nft,
            "oifname {port} meta l4proto tcp th dport {number} counter drop\n",
            port = *port,
            number = self.port,
        );
        chain("postrouting", &rule)
    }

    /// Another port, which is not blocked.
    fn other(&self) -> u16 {
        if self.port == CLOSED_PORT { CLOSED_PORT + 1 } else { CLOSED_PORT }
    }

    /// Tells whether each of them has an answer from the port.
    fn hear(&self, site: &Site<'_>, peers: &[&Peer]) -> anyhow::Result<Result<String, String>> {
        let took = side_by_side(peers, |peer| peer.knock_at(site, self.port, PATIENCE.scaled()))?;
        let mut said = Vec::new();
        for (peer, took) in peers.iter().zip(took) {
            match took {
                Some(took) => said.push(format!("{} has an answer after {}", peer.name(), ms(took))),
                None => return Ok(Err(format!("{} has no answer from port {}", peer.name(), self.port))),
            }
        }
        Ok(Ok(said.join(", ")))
    }

    /// Sees that each of them has an answer from another port, and none from this one.
    fn hear_others(&self, site: &Site<'_>) -> anyhow::Result<String> {
        let silence = |peer: &Peer| SILENCE.scaled().max(peer.usual() * 2);
        let knock = |peer: &Peer| {
            let blocked = peer.knock_at(site, self.port, silence(peer))?;
            Ok((blocked, peer.knock_at(site, self.other(), PATIENCE.scaled())?))
        };
        let mut said = Vec::new();
        for (peer, (blocked, other)) in self.peers.iter().zip(side_by_side(&self.peers, knock)?) {
            let name = peer.name();
            if let Some(took) = blocked {
                bail!("{name} still had an answer from port {} after {}", self.port, ms(took));
            }
            let Some(took) = other else {
                bail!("{name} had no answer from port {} either", self.other());
            };
            said.push(format!(
                "{name} had no answer from port {} for {}, from port {} after {}",
                self.port,
                ms(silence(peer)),
                self.other(),
                ms(took)
            ));
        }
        Ok(said.join(", "))
    }
}

impl Effect for PortBlock {
    fn supported(&self) -> anyhow::Result<()> {
        self.filter.supported(&self.rules(&DeviceName::port(0)), "`modprobe nf_tables_bridge`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        self.filter.expect_none(site)?;
        self.peers = Peer::of(site)?;
        let peers: Vec<&Peer> = self.peers.iter().collect();
        self.hear(site, &peers)?.map_err(|problem| usage(format!("net.port-block: {problem} as it is")))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let rules = self.rules(&site.container.machine().port());
        self.filter.make(site, &rules)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        self.filter.drops(site, || self.hear_others(site))
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
        until_healed(site, "nothing blocks its port any more", is_left, || {
            let present = present(site, &self.peers)?;
            self.hear(site, &present)
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
    fn one_port_is_blocked_and_another_one_is_compared() {
        let rules = PortBlock::new(80).rules(&DeviceName::port(12));
        assert!(rules.contains("oifname \"port12\" meta l4proto tcp th dport 80 counter drop"), "{rules}");
        assert_ne!(PortBlock::new(CLOSED_PORT).other(), CLOSED_PORT);
    }
}
