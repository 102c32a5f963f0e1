//! Long packets to the container get lost, without a word.

use anyhow::{Context as _, bail};

use super::filter::{Filter, TRAVELS, chain};
use super::peer::{Peer, answers, expect_up, present, side_by_side, until_healed};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Lasted, Site};
use crate::host::iptables::UNDELAYED;
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::host::volley::HEADER_BYTES;

/// Number of packets of each length.
const PACKETS: usize = 20;

/// A way that is too narrow somewhere, where nobody says so.
pub struct MtuHole {
    bytes: u32,
    filter: Filter,
    peers: Vec<Peer>,
}

impl MtuHole {
    pub fn new(bytes: u32) -> Self {
        Self { bytes, filter: Filter::on_bridge("net.mtu-hole"), peers: Vec::new() }
    }

    fn rules(&self, port: &DeviceName) -> Text<Nft> {
        // The length of a packet on a bridge is that of what its frame carries.
        let rule = compose!(
            Nft,
            "oifname {port} {travels} meta length > {bytes} counter drop\n",
            port = *port,
            travels = TRAVELS,
            bytes = self.bytes,
        );
        chain("postrouting", &rule)
    }

    /// Returns the number of arrived packets of the longest length that passes, and of the next longer one.
    fn send(&self, site: &Site<'_>, peer: &Peer) -> anyhow::Result<(usize, usize)> {
        let mut lane = peer.lane(site, Some(UNDELAYED))?;
        let short = usize::try_from(self.bytes)?.saturating_sub(HEADER_BYTES);
        let mut send = |bytes| {
            let sent = lane.send(PACKETS, bytes, peer.quiet());
            sent.map(|seen| seen.arrived()).with_context(|| format!("sending packets from {}", peer.name()))
        };
        Ok((send(short)?, send(short + 1)?))
    }

    fn say(&self, peer: &Peer, (short, long): (usize, usize)) -> String {
        let bytes = self.bytes;
        let name = peer.name();
        format!("{short} of {PACKETS} packets of {bytes} bytes from {name} arrive, {long} of {} bytes", bytes + 1)
    }

    fn look(
        &self,
        site: &Site<'_>,
        peers: &[&Peer],
        is_as_meant: impl Fn(usize, usize) -> bool,
    ) -> anyhow::Result<Result<String, String>> {
        let seen = side_by_side(peers, |peer| self.send(site, peer))?;
        let mut said = Vec::new();
        for (peer, (short, long)) in peers.iter().zip(seen) {
            let text = self.say(peer, (short, long));
            if !is_as_meant(short, long) {
                return Ok(Err(text));
            }
            said.push(text);
        }
        Ok(Ok(said.join(", ")))
    }
}

impl Effect for MtuHole {
    fn supported(&self) -> anyhow::Result<()> {
        self.filter.supported(&self.rules(&DeviceName::port(0)), "`modprobe nf_tables_bridge`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        self.filter.expect_none(site)?;
        self.peers = Peer::of(site)?;
        let peers: Vec<&Peer> = self.peers.iter().collect();
        match self.look(site, &peers, |short, long| short > 0 && long > 0)? {
            Ok(seen) => Ok(format!("{}; {seen}", answers(&self.peers))),
            Err(seen) => Err(usage(format!("net.mtu-hole: {seen} as it is: nothing more could be seen"))),
        }
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let rules = self.rules(&site.container.machine().port());
        self.filter.make(site, &rules)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let peers: Vec<&Peer> = self.peers.iter().collect();
        self.filter.drops(site, || match self.look(site, &peers, |short, long| short > 0 && long == 0)? {
            Ok(evidence) => Ok(evidence),
            Err(problem) => bail!(problem),
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
        until_healed(site, "nothing swallows its long packets any more", is_left, || {
            let present = present(site, &self.peers)?;
            self.look(site, &present, |_, long| long > 0)
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
    fn only_what_is_longer_is_dropped() {
        let rules = MtuHole::new(1000).rules(&DeviceName::port(12));
        assert!(rules.contains("oifname \"port12\" ether type { ip, ip6 } meta length > 1000 counter drop"), "{rules}");
    }
}
