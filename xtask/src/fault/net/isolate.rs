//! No packet goes to the container or comes from it.

use std::time::Instant;

use anyhow::bail;

use super::filter::chain;
use super::peer::{Peer, answers, is_down, ms, side_by_side};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::nft::Table;
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::host::undo::Undo;

const FAMILY: &str = "bridge";

/// Minimum silence that counts as no answer.
const SILENCE: Deadline = Deadline::from_millis(50);

/// Minimum silence as a multiple of an answer's time before: the slower the machine, the longer one listens.
const SILENCE_TIMES: u32 = 2;

/// Deadline for a healed link to carry packets: a peer that found nobody asks for the hardware address again once a
/// second.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(20);

/// Waits of the first and the longest knock at a healed link: each waits twice as long as the one before.
const KNOCK_FIRST: Deadline = Deadline::from_millis(100);
const KNOCK_LONGEST: Deadline = Deadline::from_secs(2);

/// A cut link: its packets are dropped on the bridge, so that a restart of the container does not mend it.
#[derive(Default)]
pub struct Isolate {
    peers: Vec<Peer>,
    undo: Vec<Undo>,
}

impl Effect for Isolate {
    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if let Some(outage) = site.container.outage().filter(|_| is_down(site.container)) {
            return Err(outage.into());
        }
        let (network, name) = (site.lab.network(), table_name(site));
        let table = Table { family: FAMILY, name: &name };
        if table.exists(network)? {
            return Err(usage(format!("net.isolate: {} is isolated already", site.name())));
        }
        self.peers = Peer::of(site)?;
        Ok(answers(&self.peers))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let (network, name) = (site.lab.network(), table_name(site));
        let undo = vec![Undo::DeleteTable { network: network.place()?, family: FAMILY.into(), table: name.clone() }];
        site.note(undo.clone())?;
        self.undo = undo;
        Table { family: FAMILY, name: &name }.make(network, &rules(&site.container.machine().port()))
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let patience = |peer: &Peer| SILENCE.scaled().max(peer.usual() * SILENCE_TIMES);
        let answers = side_by_side(&self.peers, |peer| peer.knock(site, patience(peer)))?;
        if let Some((peer, took)) = self.peers.iter().zip(answers).find_map(|(peer, took)| Some((peer, took?))) {
            bail!("{} still had an answer from {} after {}", peer.name(), site.name(), ms(took));
        }
        let dropped = Table { family: FAMILY, name: &table_name(site) }.packets(site.lab.network())?;
        if dropped == 0 {
            bail!("nobody had an answer from {}, but no packet was dropped either", site.name());
        }
        let silence = |peer| format!("{} had no answer for {}", Peer::name(peer), ms(patience(peer)));
        let silences: Vec<String> = self.peers.iter().map(silence).collect();
        Ok(format!("{}; {dropped} packets dropped", silences.join(", ")))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        let (network, name) = (site.lab.network(), table_name(site));
        let proof = self.bites(site);
        Lasted::proved(proof, Keeper::Host, || Table { family: FAMILY, name: &name }.exists(network))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        site.undo(self.undo.clone())
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let (begun, mut patience) = (Instant::now(), KNOCK_FIRST.scaled());
        loop {
            if let Some(outage) = site.container.outage().filter(|_| is_down(site.container)) {
                return Ok(format!("{outage}; nothing cuts its link any more"));
            }
            let answers =
                side_by_side(&self.peers, |peer| peer.knock(site, patience.max(peer.usual() * SILENCE_TIMES)))?;
            let (answered, silent): (Vec<_>, Vec<_>) =
                self.peers.iter().zip(&answers).partition(|(_, took)| took.is_some());
            // Whoever is cut off itself hears nothing, and that is another fault's affair.
            let silent = silent.into_iter().map(|(peer, _)| peer).find(|peer| peer.is_there(site).unwrap_or(true));
            let Some(silent) = silent else {
                let names: Vec<&str> = answered.iter().map(|(peer, _)| peer.name()).collect();
                return Ok(format!("it answers {}", names.join(" and ")));
            };
            if begun.elapsed() > HEAL_DEADLINE.scaled() {
                bail!("{} has no answer from {} after {}", silent.name(), site.name(), ms(HEAL_DEADLINE.scaled()));
            }
            patience = (patience * 2).min(KNOCK_LONGEST.scaled());
        }
    }

    fn outlives_container(&self) -> bool {
        true
    }
}

fn table_name(site: &Site<'_>) -> String {
    format!("isolate_{}", site.container.machine().port())
}

/// Returns rules for all that passes the port, from other ports and from the bridge's own machine.
fn rules(port: &DeviceName) -> Text<Nft> {
    let from = compose!(Nft, "iifname {port} counter drop\n", port = *port);
    let to = compose!(Nft, "oifname {port} counter drop\n", port = *port);
    chain("input", &from) + chain("output", &to) + chain("forward", &(from + to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_through_the_port_is_shut() {
        let rules = rules(&DeviceName::port(12));
        assert_eq!(rules.matches("iifname \"port12\" counter drop").count(), 2, "{rules}");
        assert_eq!(rules.matches("oifname \"port12\" counter drop").count(), 2, "{rules}");
        // Behind br_netfilter, which is at 0, it would be passed over.
        assert_eq!(rules.matches(" priority -200\n").count(), 3, "{rules}");
        assert!(rules.lines().all(|line| !line.contains('}') || line == "}"), "nft 1.0.6 wants it on its own: {rules}");
    }
}
