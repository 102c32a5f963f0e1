//! Fault that loses long packets to the container, without an error to their sender.

use std::borrow::Borrow;

use anyhow::Context as _;

use super::filter::{Filter, Rules, TRAVELS, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, all_of, answers, present, side_by_side};
use super::probe_packets::HEADER_BYTES;
use crate::fault::effect::{FaultTarget, usage};
use crate::host::network::iptables::UNDELAYED;
use crate::host::syntax::{DeviceName, compose};

/// Number of packets of each length.
const PACKETS: usize = 20;

/// Fault that drops packets longer than `bytes` and tells no sender, as a router with a smaller MTU may (`net.mtu-hole`).
pub struct MtuHole {
    bytes: u32,
    peers: Vec<Peer>,
}

impl MtuHole {
    pub fn new(bytes: u32) -> Self {
        Self { bytes, peers: Vec::new() }
    }

    /// Sends packets of the longest length that passes, and of the next longer one; returns how many of each arrived.
    fn send(&self, target: &FaultTarget<'_>, peer: &Peer) -> anyhow::Result<(usize, usize)> {
        let mut lane = peer.lane(target, Some(UNDELAYED))?;
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
        format!(
            "{short} of {PACKETS} packets of {bytes} bytes from {name} arrive, and {long} of as many of {} bytes",
            bytes + 1
        )
    }

    fn look<P: Borrow<Peer> + Sync>(
        &self,
        target: &FaultTarget<'_>,
        peers: &[P],
        is_as_meant: impl Fn(usize, usize) -> bool,
    ) -> anyhow::Result<Seen> {
        let seen = side_by_side(peers, |peer| self.send(target, peer.borrow()))?;
        Ok(all_of(peers.iter().zip(seen).map(|(peer, (short, long))| {
            let text = self.say(peer.borrow(), (short, long));
            if is_as_meant(short, long) { Ok(text) } else { Err(text) }
        })))
    }
}

impl LinkDamage for MtuHole {
    const GONE: &'static str = "nothing swallows its long packets any more";

    fn name(&self) -> &'static str {
        "net.mtu-hole"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::on_bridge(self.name()))]
    }

    fn rules(&self, port: &DeviceName) -> Rules {
        // The length of a packet on a bridge is that of what its frame carries.
        let rule = compose!(
            Nft,
            "oifname {port} {travels} meta length > {bytes} counter drop\n",
            port = *port,
            travels = TRAVELS,
            bytes = self.bytes,
        );
        chain("postrouting", &rule).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.peers = Peer::of(target)?;
        match self.look(target, &self.peers, |short, long| short > 0 && long > 0)? {
            Ok(seen) => Ok(format!("{}; {seen}", answers(&self.peers))),
            Err(seen) => {
                Err(usage(format!("net.mtu-hole: {seen} even without the fault, so its effect could not be observed")))
            }
        }
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let look = || self.look(target, &self.peers, |short, long| short > 0 && long == 0);
        means.drops(target, || look()?.map_err(anyhow::Error::msg))
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        self.look(target, &present(target, &self.peers)?, |_, long| long > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_longer_is_dropped() {
        let rules = MtuHole::new(1000).rules(&DeviceName::port(12)).nft;
        assert!(rules.contains("oifname \"port12\" ether type { ip, ip6 } meta length > 1000 counter drop"), "{rules}");
    }
}
