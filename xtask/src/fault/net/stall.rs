//! Packets to the container wait until the end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::helper::Helper;
use super::peer::{Peer, answers, expect_up, ms, side_by_side, until_healed};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::patience::Deadline;
use crate::host::volley::{Arrivals, Lane, PAYLOAD_BYTES_MIN};

/// Number of watched packets of each peer.
const WATCHED: usize = 20;

/// Deadline for the arrival of held packets.
const ARRIVE_DEADLINE: Deadline = Deadline::from_secs(10);

/// A link that holds all it is given.
pub struct Stall {
    helper: Helper,
    peers: Vec<Peer>,
    /// Held packets, and the processes that sent them.
    held: Vec<(Lane, Arrivals)>,
    init_pid: Option<i32>,
}

impl Stall {
    pub fn new() -> Self {
        Self { helper: Helper::that_holds("stall"), peers: Vec::new(), held: Vec::new(), init_pid: None }
    }

    /// Returns the number of held packets that have arrived by now.
    fn held_that_arrived(&mut self) -> anyhow::Result<usize> {
        let begun = Instant::now();
        for (lane, arrivals) in &mut self.held {
            let patience = ARRIVE_DEADLINE.scaled().saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            lane.listen(arrivals, patience).context("waiting for packets")?;
        }
        Ok(self.held.iter().map(|(_, arrivals)| arrivals.arrived()).sum())
    }

    fn look(&self, site: &Site<'_>) -> anyhow::Result<Result<String, String>> {
        let mut present = Vec::new();
        for peer in &self.peers {
            if peer.is_there(site)? {
                present.push(peer);
            }
        }
        let took = side_by_side(&present, |peer| peer.knock(site, peer.quiet()))?;
        let mut said = Vec::new();
        for (peer, took) in present.into_iter().zip(took) {
            let Some(took) = took else { return Ok(Err(format!("{} has no answer", peer.name()))) };
            said.push(format!("{} has an answer after {}", peer.name(), ms(took)));
        }
        Ok(Ok(said.join(", ")))
    }
}

impl Effect for Stall {
    fn supported(&self) -> anyhow::Result<()> {
        Helper::supported("net.stall")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        if self.helper.exists(site)? {
            return Err(usage(format!("net.stall: {} is delayed or stalled already: heal that first", site.name())));
        }
        self.peers = Peer::of(site)?;
        Ok(answers(&self.peers))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.helper.start(site, &["stall".to_owned()])
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        self.init_pid = Some(site.container.init_pid()?);
        let send = |peer: &Peer| {
            let mut lane = peer.lane(site, None)?;
            let sent = lane.send(WATCHED, PAYLOAD_BYTES_MIN, peer.quiet());
            let arrivals = sent.with_context(|| format!("sending packets from {}", peer.name()))?;
            Ok((lane, arrivals))
        };
        let sent = side_by_side(&self.peers, send)?;
        let mut said = Vec::new();
        for (peer, (_, arrivals)) in self.peers.iter().zip(&sent) {
            if arrivals.arrived() > 0 {
                bail!("{} of {WATCHED} packets from {} arrived", arrivals.arrived(), peer.name());
            }
            said.push(format!("none of {WATCHED} packets from {} arrived", peer.name()));
        }
        let waiting = self.helper.state(site)?.map_or(0, |state| state.waiting);
        let sent_packets = WATCHED * sent.len();
        if usize::try_from(waiting)? < sent_packets {
            bail!("{}, but only {waiting} wait", said.join(", "));
        }
        self.held = sent;
        Ok(format!("{}; {waiting} wait", said.join(", ")))
    }

    /// A knock is held like all else; what is held since the begin stays so.
    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        if let Some(lost) = self.helper.lost() {
            return Ok(lost);
        }
        let took = side_by_side(&self.peers, |peer| peer.knock(site, peer.quiet()))?;
        let answered = self.peers.iter().zip(&took).find_map(|(peer, took)| Some((peer, (*took)?)));
        let waiting = self.helper.state(site)?.map_or(0, |state| state.waiting);
        let proof = match answered {
            Some((peer, took)) => Err(anyhow::anyhow!("{} has an answer after {}", peer.name(), ms(took))),
            None if waiting == 0 => Err(anyhow::anyhow!("nobody has an answer, but no packet waits either")),
            None => Ok(format!("nobody has an answer; {waiting} packets wait")),
        };
        Lasted::proved(proof, Keeper::Host, || self.helper.is_at_work(site))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        // What was held for a machine that has ended since ended with it, and its network must not live on.
        if site.container.outage().is_some_and(|outage| !outage.frozen)
            || site.container.init_pid().ok() != self.init_pid
        {
            self.held.clear();
        }
        self.helper.stop(site)
    }

    fn restore(&mut self, _site: &Site<'_>) -> anyhow::Result<()> {
        self.held.clear();
        Ok(())
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.helper.exists(site);
        let seen = until_healed(site, "nothing holds its packets any more", is_left, || self.look(site))?;
        let seen = seen + &self.helper.passed();
        if self.held.is_empty() {
            return Ok(seen);
        }
        let (arrived, sent) = (self.held_that_arrived()?, WATCHED * self.held.len());
        self.held.clear();
        Ok(format!("{arrived} of {sent} packets that were held arrived; {seen}"))
    }

    fn outlives_container(&self) -> bool {
        true
    }
}
