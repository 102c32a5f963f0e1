//! Fault that lets no packet go to the container or come from it.

use std::time::{Duration, Instant};

use anyhow::bail;

use super::filter::{Filter, Rules, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, all_of, answers, is_down, ms, side_by_side};
use crate::fault::effect::FaultTarget;
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, compose};

/// Minimum silence that counts as no answer.
const SILENCE: Deadline = Deadline::from_millis(50);

/// Minimum silence as a multiple of the time of an answer before: the slower the machine, the longer the wait.
const SILENCE_TIMES: u32 = 2;

/// Deadline for a healed link to carry packets: a peer that had no answer asks for the hardware address again once a second.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(20);

/// First and longest deadline for an answer over a healed link: each attempt waits twice as long as the one before.
const KNOCK_FIRST: Deadline = Deadline::from_millis(100);
const KNOCK_LONGEST: Deadline = Deadline::from_secs(2);

/// Fault that cuts a container's link (`net.isolate`). Its packets are dropped on the bridge, so that a restart of the container does not
/// mend the link.
#[derive(Default)]
pub struct Isolate {
    peers: Vec<Peer>,
    /// Deadline for the next answer over the healed link.
    patience: Duration,
}

impl LinkDamage for Isolate {
    const GONE: &'static str = "nothing cuts its link any more";

    fn name(&self) -> &'static str {
        "net.isolate"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::on_bridge(self.name()))]
    }

    /// Rules for all packets that pass the port, from other ports and from the bridge itself.
    fn rules(&self, port: &DeviceName) -> Rules {
        let from = compose!(Nft, "iifname {port} counter drop\n", port = *port);
        let to = compose!(Nft, "oifname {port} counter drop\n", port = *port);
        (chain("input", &from) + chain("output", &to) + chain("forward", &(from + to))).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.peers = Peer::of(target)?;
        self.patience = KNOCK_FIRST.scaled();
        Ok(answers(&self.peers))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let patience = |peer: &Peer| SILENCE.scaled().max(peer.usual() * SILENCE_TIMES);
        means.drops(target, || {
            let took = side_by_side(&self.peers, |peer| peer.knock(target, patience(peer)))?;
            let seen = all_of(self.peers.iter().zip(took).map(|(peer, took)| match (peer.name(), took) {
                (name, Some(took)) => {
                    Err(format!("{name} still had an answer from {} after {}", target.name(), ms(took)))
                }
                (name, None) => Ok(format!("{name} had no answer for {}", ms(patience(peer)))),
            }));
            seen.map_err(anyhow::Error::msg)
        })
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let patience = self.patience;
        self.patience = (patience * 2).min(KNOCK_LONGEST.scaled());
        let answers = side_by_side(&self.peers, |peer| peer.knock(target, patience.max(peer.usual() * SILENCE_TIMES)))?;
        let (answered, silent): (Vec<_>, Vec<_>) =
            self.peers.iter().zip(&answers).partition(|(_, took)| took.is_some());
        // Whoever is cut off itself hears nothing, and that is another fault's affair.
        let silent = silent.into_iter().map(|(peer, _)| peer).find(|peer| peer.is_there(target).unwrap_or(true));
        Ok(match silent {
            Some(silent) => Err(format!("{} still has no answer from {}", silent.name(), target.name())),
            None => {
                let names: Vec<&str> = answered.iter().map(|(peer, _)| peer.name()).collect();
                Ok(format!("the container answers {}", names.join(" and ")))
            }
        })
    }

    /// Waits for answers. [`until_healed`](super::peer::until_healed) does not fit: it takes a container that answers nobody for one that
    /// another fault has cut off.
    fn verify_recovery(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            if let Some(outage) = target.container.outage().filter(|_| is_down(target.container)) {
                return Ok(format!("{outage}; {}", Self::GONE));
            }
            match self.is_as_before(target, means)? {
                Ok(evidence) => return Ok(evidence),
                Err(problem) if begun.elapsed() > HEAL_DEADLINE.scaled() => {
                    bail!("{problem} after {}", ms(HEAL_DEADLINE.scaled()));
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_through_the_port_is_shut() {
        let rules = Isolate::default().rules(&DeviceName::port(12)).nft;
        assert_eq!(rules.matches("iifname \"port12\" counter drop").count(), 2, "{rules}");
        assert_eq!(rules.matches("oifname \"port12\" counter drop").count(), 2, "{rules}");
        // Behind br_netfilter, which is at 0, it would be passed over.
        assert_eq!(rules.matches(" priority -200\n").count(), 3, "{rules}");
        assert!(rules.lines().all(|line| !line.contains('}') || line == "}"), "nft 1.0.6 wants it on its own: {rules}");
    }
}
