//! Fault that blocks one TCP port of the container.

use std::borrow::Borrow;

use super::filter::{Filter, Rules, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{CLOSED_PORT, Peer, Seen, all_of, ms, present, side_by_side};
use crate::fault::effect::{FaultTarget, usage};
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, compose};

/// Minimum silence of a blocked port that counts as no answer.
const SILENCE: Deadline = Deadline::from_millis(100);

/// Deadline for an answer: the kernel repeats a lost connection request after 1 and 3 s.
const PATIENCE: Deadline = Deadline::from_secs(8);

/// Fault that loses packets to a TCP port of a container (`net.port-block`).
pub struct PortBlock {
    port: u16,
    peers: Vec<Peer>,
}

impl PortBlock {
    pub fn new(port: u16) -> Self {
        Self { port, peers: Vec::new() }
    }

    /// Returns a port that the fault does not block.
    fn other(&self) -> u16 {
        if self.port == CLOSED_PORT { CLOSED_PORT + 1 } else { CLOSED_PORT }
    }

    /// Observes whether each of `peers` gets an answer from the port.
    fn hear<P: Borrow<Peer> + Sync>(&self, target: &FaultTarget<'_>, peers: &[P]) -> anyhow::Result<Seen> {
        let took = side_by_side(peers, |peer| peer.borrow().knock_at(target, self.port, PATIENCE.scaled()))?;
        Ok(all_of(peers.iter().zip(took).map(|(peer, took)| match (peer.borrow().name(), took) {
            (name, Some(took)) => Ok(format!("{name} has an answer after {}", ms(took))),
            (name, None) => Err(format!("{name} has no answer from port {}", self.port)),
        })))
    }

    /// Observes whether each peer gets an answer from another port, and none from the blocked one.
    fn hear_others(&self, target: &FaultTarget<'_>) -> anyhow::Result<Seen> {
        let (port, other) = (self.port, self.other());
        let silence = |peer: &Peer| SILENCE.scaled().max(peer.usual() * 2);
        let knock = |peer: &Peer| {
            let blocked = peer.knock_at(target, port, silence(peer))?;
            Ok((blocked, peer.knock_at(target, other, PATIENCE.scaled())?))
        };
        let took = side_by_side(&self.peers, knock)?;
        Ok(all_of(self.peers.iter().zip(took).map(|(peer, took)| match (peer.name(), took) {
            (name, (Some(took), _)) => Err(format!("{name} still had an answer from port {port} after {}", ms(took))),
            (name, (None, None)) => {
                Err(format!("{name} had no answer from port {other} either, which the fault does not block"))
            }
            (name, (None, Some(took))) => Ok(format!(
                "{name} had no answer from port {port} for {}, from port {other} after {}",
                ms(silence(peer)),
                ms(took)
            )),
        })))
    }
}

impl LinkDamage for PortBlock {
    const GONE: &'static str = "nothing blocks its port any more";

    fn name(&self) -> &'static str {
        "net.port-block"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::on_bridge(self.name()))]
    }

    fn rules(&self, port: &DeviceName) -> Rules {
        let rule = compose!(
            Nft,
            "oifname {port} meta l4proto tcp th dport {number} counter drop\n",
            port = *port,
            number = self.port,
        );
        chain("postrouting", &rule).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.peers = Peer::of(target)?;
        self.hear(target, &self.peers)?.map_err(|problem| {
            usage(format!("net.port-block: {problem} even without the fault, so its effect could not be observed"))
        })
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        means.drops(target, || self.hear_others(target)?.map_err(anyhow::Error::msg))
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        self.hear(target, &present(target, &self.peers)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_is_blocked_and_another_one_is_compared() {
        let rules = PortBlock::new(80).rules(&DeviceName::port(12)).nft;
        assert!(rules.contains("oifname \"port12\" meta l4proto tcp th dport 80 counter drop"), "{rules}");
        assert_ne!(PortBlock::new(CLOSED_PORT).other(), CLOSED_PORT);
    }
}
