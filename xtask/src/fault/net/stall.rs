//! Fault that holds all packets to the container until it is healed.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::helper::Helper;
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, all_of, answers, is_down, ms, present, side_by_side, until_healed};
use super::probe_packets::{Arrivals, Lane, PAYLOAD_BYTES_MIN};
use crate::fault::effect::FaultTarget;
use crate::host::patience::Deadline;

/// Number of packets that each peer sends after the injection, to see that they are held.
const WATCHED: usize = 20;

/// Deadline for the arrival of held packets after the healing.
const ARRIVE_DEADLINE: Deadline = Deadline::from_secs(10);

/// Fault that holds all packets to a container until it is healed (`net.stall`).
#[derive(Default)]
pub struct Stall {
    peers: Vec<Peer>,
    /// Held packets, with the lanes that they were sent through.
    held: Vec<(Lane, Arrivals)>,
    init_pid: Option<i32>,
}

impl Stall {
    /// Returns the number of held packets that have arrived by now.
    fn held_that_arrived(&mut self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        for (lane, arrivals) in &mut self.held {
            let patience = ARRIVE_DEADLINE.scaled().saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            lane.listen(arrivals, patience).context("waiting for packets")?;
        }
        Ok(self.held.iter().map(|(_, arrivals)| arrivals.arrived()).sum())
    }

    fn waiting(target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<u64> {
        let state = means.helper().map_or(Ok(None), |helper| helper.state(target))?;
        Ok(state.map_or(0, |state| state.waiting))
    }
}

impl LinkDamage for Stall {
    const GONE: &'static str = "nothing holds its packets any more";

    fn name(&self) -> &'static str {
        "net.stall"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Helper(Helper::that_holds("stall", &[]))]
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.peers = Peer::of(target)?;
        Ok(answers(&self.peers))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        self.init_pid = Some(target.container.init_pid()?);
        let send = |peer: &Peer| {
            let mut lane = peer.lane(target, None)?;
            let sent = lane.send(WATCHED, PAYLOAD_BYTES_MIN, peer.quiet());
            let arrivals = sent.with_context(|| format!("sending packets from {}", peer.name()))?;
            Ok((lane, arrivals))
        };
        let sent = side_by_side(&self.peers, send)?;
        let seen = all_of(self.peers.iter().zip(&sent).map(|(peer, (_, arrivals))| match arrivals.arrived() {
            0 => Ok(format!("none of {WATCHED} packets from {} arrived", peer.name())),
            arrived => Err(format!("{arrived} of {WATCHED} packets from {} arrived", peer.name())),
        }));
        let (seen, waiting) = (seen.map_err(anyhow::Error::msg)?, Self::waiting(target, means)?);
        if usize::try_from(waiting)? < WATCHED * sent.len() {
            bail!("{seen}, but only {waiting} wait in the fault's queue: something else has lost the others");
        }
        self.held = sent;
        Ok(format!("{seen}; {waiting} wait in the fault's queue"))
    }

    /// Verifies the effect by a knock, which is held like all other packets; the packets held since the injection stay held.
    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let took = side_by_side(&self.peers, |peer| peer.knock(target, peer.quiet()))?;
        let answered = self.peers.iter().zip(&took).find_map(|(peer, took)| Some((peer, (*took)?)));
        match (answered, Self::waiting(target, means)?) {
            (Some((peer, took)), _) => bail!("{} still got an answer, within {}", peer.name(), ms(took)),
            (None, 0) => bail!(
                "no peer got an answer, but the fault's queue holds no packet: something else than the stall blocks the traffic"
            ),
            (None, waiting) => Ok(format!("no peer got an answer; {waiting} packets wait in the fault's queue")),
        }
    }

    /// Drops the lanes of held packets where the machine has ended since: the packets are gone with the machine, and a lane would keep its
    /// network namespace alive.
    fn taken_back(&mut self, target: &FaultTarget<'_>) {
        if is_down(target.container) || target.container.init_pid().ok() != self.init_pid {
            self.held.clear();
        }
    }

    fn restarted(&mut self) {
        self.held.clear();
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let present = present(target, &self.peers)?;
        let took = side_by_side(&present, |peer| peer.knock(target, peer.quiet()))?;
        Ok(all_of(present.iter().zip(took).map(|(peer, took)| match (peer.name(), took) {
            (name, Some(took)) => Ok(format!("{name} has an answer after {}", ms(took))),
            (name, None) => Err(format!("{name} still has no answer")),
        })))
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        let seen = until_healed(target, Self::GONE, || means.exists(target), || self.is_as_before(target, means))?;
        if self.held.is_empty() {
            return Ok(seen);
        }
        let (arrived, sent) = (self.held_that_arrived()?, WATCHED * self.held.len());
        self.held.clear();
        Ok(format!("{arrived} of {sent} packets that were held arrived; {seen}"))
    }
}
