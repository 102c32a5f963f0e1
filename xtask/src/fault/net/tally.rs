//! Share of packets that is lost or duplicated before a fault, during it, and after it.

use anyhow::Context as _;

use super::peer::{Peer, Seen, in_rounds};
use super::probe_packets::{Arrivals, PAYLOAD_BYTES_MIN};
use crate::fault::effect::{FaultTarget, usage};

/// Expected number of affected packets: so large that a count below half of it is not due to chance.
const EXPECTED: f64 = 30.0;

/// Maximum number of counts that are made until one is as expected.
const ROUNDS: usize = 4;

/// Minimum number of packets of a count.
const PACKETS_MIN: usize = 200;

/// Kind of damage that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happens {
    Lost,
    /// Packets that arrived more than once.
    Doubled,
}

impl Happens {
    fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
        }
    }
}

/// Counts of affected packets, as each peer observes them, against an expected share.
pub struct Tally {
    happens: Happens,
    /// Expected share of affected packets during the fault.
    share: f64,
    /// Mark of packets that the bridge itself sends, by which they skip the packet helper; `None` where the helper does the damage.
    mark: Option<u32>,
    before: Vec<(Peer, f64)>,
}

/// Count of affected packets of one peer.
struct Count {
    sent: usize,
    count: usize,
}

impl Count {
    fn share(&self) -> f64 {
        self.count as f64 / self.sent as f64
    }
}

impl Tally {
    /// Returns a tally for a share of all packets, more than 0 and at most 1.
    pub fn new(happens: Happens, share: f64, mark: Option<u32>) -> Self {
        Self { happens, share, mark, before: Vec::new() }
    }

    fn packets(&self) -> usize {
        ((EXPECTED / self.share).ceil() as usize).max(PACKETS_MIN)
    }

    fn send(&self, target: &FaultTarget<'_>, peer: &Peer) -> anyhow::Result<Count> {
        let packets = self.packets();
        let sent = peer.lane(target, self.mark)?.send(packets, PAYLOAD_BYTES_MIN, peer.quiet());
        let arrivals = sent.with_context(|| format!("sending packets from {}", peer.name()))?;
        Ok(Count { sent: packets, count: self.count(&arrivals) })
    }

    fn count(&self, arrivals: &Arrivals) -> usize {
        match self.happens {
            Happens::Lost => arrivals.lost(),
            Happens::Doubled => arrivals.copies(),
        }
    }

    /// Counts packets before the fault; returns the counts in words. An error if most packets are affected already, or no peer gets an
    /// answer.
    pub fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let mut said = Vec::new();
        for peer in Peer::of(target)? {
            let seen = self.send(target, &peer)?;
            let text = self.say(&peer, &seen);
            if seen.share() > 0.5 {
                return Err(usage(format!(
                    "{text} even without the fault, so its effect could not be observed: heal the cause first"
                )));
            }
            said.push(text);
            self.before.push((peer, seen.share()));
        }
        Ok(said.join(", "))
    }

    fn say(&self, peer: &Peer, seen: &Count) -> String {
        format!("{} of {} packets from {} are {}", seen.count, seen.sent, peer.name(), self.happens.word())
    }

    /// Counts during the fault; fails where the share of affected packets is not about the expected one.
    pub fn verify_effect(&self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        in_rounds(ROUNDS, || self.look_once(target))
    }

    /// Like [`Tally::verify_effect`], by a single count, in the check before healing.
    pub fn verify_effect_once(&self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        self.look_once(target)?.map_err(anyhow::Error::msg)
    }

    fn look_once(&self, target: &FaultTarget<'_>) -> anyhow::Result<Seen> {
        let is_as_meant = |added| (self.share * 0.5..=self.share * 2.0).contains(&added);
        self.look(target, is_as_meant, |_| Ok(false))
    }

    /// Counts after the fault, and expects no more affected packets than before; peers that are cut off are left out.
    pub fn verify_recovery(&self, target: &FaultTarget<'_>) -> anyhow::Result<Seen> {
        self.look(target, |added| added < self.share * 0.25, |peer| Ok(!peer.is_there(target)?))
    }

    /// Counts now, and expects that some packets pass; peers that are cut off are left out.
    pub fn passes(&self, target: &FaultTarget<'_>) -> anyhow::Result<Seen> {
        self.look(target, |added| added < 1.0, |peer| Ok(!peer.is_there(target)?))
    }

    fn look(
        &self,
        target: &FaultTarget<'_>,
        is_as_meant: impl Fn(f64) -> bool,
        is_excused: impl Fn(&Peer) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Seen> {
        let mut said = Vec::new();
        for (peer, before) in &self.before {
            if is_excused(peer)? {
                continue;
            }
            // In turn: every other packet of two who send at once may be all of one and none of the other.
            let seen = self.send(target, peer)?;
            let text = self.say(peer, &seen);
            if !is_as_meant(self.added(*before, seen.share())) {
                return Ok(Err(text));
            }
            said.push(text);
        }
        Ok(Ok(said.join(", ")))
    }

    /// Returns the share that the fault adds, from the affected shares `before` the fault and `now`.
    fn added(&self, before: f64, now: f64) -> f64 {
        1.0 - (1.0 - now) / (1.0 - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_the_share_the_more_packets() {
        let packets = |share| Tally::new(Happens::Lost, share, None).packets();
        assert_eq!([packets(1.0), packets(0.3), packets(0.01)], [200, 200, 3000]);
    }

    #[test]
    fn what_happened_before_is_told_apart() {
        let tally = Tally::new(Happens::Lost, 0.3, None);
        for (before, now, added) in [(0.0, 0.3, 0.3), (0.5, 0.65, 0.3), (0.5, 0.5, 0.0), (0.0, 1.0, 1.0)] {
            assert!((tally.added(before, now) - added).abs() < 1e-9, "{before} {now}");
        }
    }
}
