//! Fault that cuts and mends the link in turns.

use std::time::Duration;

use anyhow::Context as _;

use super::contact::Contact;
use super::filter::{Filter, Rules, TRAVELS, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, all_of, answers, ms, present, side_by_side};
use super::probe_packets::Arrivals;
use crate::fault::effect::FaultTarget;
use crate::host::network::iptables::UNDELAYED;
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, compose};

/// Number of packets sent during one cut, and the bounds of the interval between two.
const PACKETS_IN_CUT: u32 = 50;
const PACE_MIN: Duration = Duration::from_millis(1);
const PACE_MAX: Duration = Duration::from_millis(20);

/// Time that a busy machine may need beyond the phases of the fault themselves.
const SLACK: Deadline = Deadline::from_secs(5);

/// Bounds of the time for which a healed link is watched, longer than the fault would leave the link uncut.
const WATCH_MIN: Duration = Duration::from_millis(200);
const WATCH_MAX: Duration = Duration::from_secs(3);

/// Fault that cuts a container's link for `down` and leaves it whole for `up`, in turns (`net.flap`).
pub struct Flap {
    down: Duration,
    up: Duration,
    peers: Vec<Peer>,
}

impl Flap {
    pub fn new(down_ms: u32, up_ms: u32) -> Self {
        let phase = |ms: u32| Duration::from_millis(ms.into());
        Self { down: phase(down_ms), up: phase(up_ms), peers: Vec::new() }
    }

    fn pace(&self) -> Duration {
        (self.down / PACKETS_IN_CUT).clamp(PACE_MIN, PACE_MAX)
    }

    /// Tells whether a silence of this length is a cut.
    fn is_cut(&self, silence: Duration) -> bool {
        silence >= self.down / 2
    }

    fn watch(
        &self,
        target: &FaultTarget<'_>,
        peer: &Peer,
        deadline: Duration,
        enough: impl FnMut(&Arrivals) -> bool,
    ) -> anyhow::Result<Arrivals> {
        let mut lane = peer.lane(target, Some(UNDELAYED))?;
        let mut seen = lane.watch(self.pace(), deadline, enough).context("watching packets")?;
        lane.listen(&mut seen, peer.quiet()).context("watching packets")?;
        Ok(seen)
    }
}

impl LinkDamage for Flap {
    const GONE: &'static str = "nothing cuts its link any more";

    fn name(&self) -> &'static str {
        "net.flap"
    }

    fn means(&self) -> Vec<Means> {
        let filter = Filter::on_bridge(self.name());
        vec![Means::Contact(Contact::new(filter, self.down, self.up))]
    }

    /// Rules for all packets that pass the port, from other ports and from the bridge itself.
    fn rules(&self, port: &DeviceName) -> Rules {
        let from = compose!(Nft, "iifname {port} {travels} counter drop\n", port = *port, travels = TRAVELS);
        let to = compose!(Nft, "oifname {port} {travels} counter drop\n", port = *port, travels = TRAVELS);
        (chain("prerouting", &from) + chain("postrouting", &to)).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.peers = Peer::of(target)?;
        Ok(answers(&self.peers))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        let deadline = target.within(self.down * 2 + self.up + SLACK.scaled());
        // A cut, and the end of it.
        let enough = |seen: &Arrivals| self.is_cut(seen.longest_cut());
        let seen = side_by_side(&self.peers, |peer| self.watch(target, peer, deadline, enough))?;
        let seen = all_of(self.peers.iter().zip(seen).map(|(peer, seen)| {
            let (name, cut) = (peer.name(), seen.longest_cut());
            if self.is_cut(cut) {
                return Ok(format!("{name} was cut off for {} and heard again", ms(cut)));
            }
            let (arrived, sent) = (seen.arrived(), seen.sent());
            Err(format!(
                "{arrived} of {sent} packets from {name} arrived, and the longest gap between two took {}: no cut was seen",
                ms(cut)
            ))
        }));
        seen.map_err(anyhow::Error::msg)
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let watched = (self.up + WATCH_MIN).min(WATCH_MAX);
        let present = present(target, &self.peers)?;
        let seen = side_by_side(&present, |peer| self.watch(target, peer, watched, |_| false))?;
        Ok(all_of(present.iter().zip(seen).map(|(peer, seen)| {
            let (name, silence) = (peer.name(), seen.longest_silence());
            if self.is_cut(silence) {
                return Err(format!("{name} is still cut off for {}", ms(silence)));
            }
            Ok(format!("{} of {} packets from {name} arrived within {}", seen.arrived(), seen.sent(), ms(watched)))
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_has_many_packets() {
        assert_eq!(Flap::new(50, 50).pace(), Duration::from_millis(1));
        assert_eq!(Flap::new(60_000, 50).pace(), Duration::from_millis(20));
        assert!(Flap::new(100, 50).is_cut(Duration::from_millis(50)));
    }

    #[test]
    fn both_directions_are_cut() {
        let rules = Flap::new(100, 50).rules(&DeviceName::port(12)).nft;
        assert!(rules.contains("iifname \"port12\"") && rules.contains("oifname \"port12\""), "{rules}");
    }
}
