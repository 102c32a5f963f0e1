//! The link is cut and whole in turns.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::filter::{Filter, TRAVELS, chain};
use super::peer::{Peer, answers, expect_up, ms, side_by_side, until_healed};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::iptables::UNDELAYED;
use crate::host::netns::NetworkNamespace;
use crate::host::nft::Table;
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::host::volley::Arrivals;

const FAMILY: &str = "bridge";

/// Number of packets in the time of a cut, and the bounds of their distance.
const PACKETS_IN_CUT: u32 = 50;
const PACE_MIN: Duration = Duration::from_millis(1);
const PACE_MAX: Duration = Duration::from_millis(20);

/// Time that a busy machine may need beside the phases themselves.
const SLACK: Deadline = Deadline::from_secs(5);

/// Bounds of the time for which a healed link is watched, past the time in which it would be cut again.
const WATCH_MIN: Duration = Duration::from_millis(200);
const WATCH_MAX: Duration = Duration::from_secs(3);

/// A bad contact.
pub struct Flap {
    down: Duration,
    up: Duration,
    filter: Filter,
    flapper: Option<Flapper>,
    peers: Vec<Peer>,
}

/// The thread that cuts and mends. Without its owner it ends by itself, and leaves the link whole.
struct Flapper {
    stop: Sender<()>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Flapper {
    fn start(work: Work) -> anyhow::Result<Self> {
        let (stop, stopped) = channel();
        let until_told = move |phase: Duration| stopped.recv_timeout(phase) == Err(RecvTimeoutError::Timeout);
        let thread = std::thread::Builder::new().name("flap".into()).spawn(move || work.run(until_told))?;
        Ok(Self { stop, thread })
    }

    /// Ends it; the error is why it had ended before.
    fn stop(self) -> anyhow::Result<()> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| bail!("the thread that cuts the link panicked"))
    }
}

/// Work of the thread.
struct Work {
    network: NetworkNamespace,
    table: String,
    rules: Text<Nft>,
    down: Duration,
    up: Duration,
}

impl Work {
    /// `goes_on` waits for so long, and says whether it was not told to end.
    fn run(&self, goes_on: impl Fn(Duration) -> bool) -> anyhow::Result<()> {
        let table = Table { family: FAMILY, name: &self.table };
        loop {
            table.make(&self.network, &self.rules)?;
            let ends = !goes_on(self.down);
            table.delete(&self.network)?;
            if ends || !goes_on(self.up) {
                return Ok(());
            }
        }
    }
}

impl Flap {
    pub fn new(down_ms: u32, up_ms: u32) -> Self {
        let phase = |ms: u32| Duration::from_millis(ms.into());
        let filter = Filter::on_bridge("net.flap");
        Self { down: phase(down_ms), up: phase(up_ms), filter, flapper: None, peers: Vec::new() }
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
        site: &Site<'_>,
        peer: &Peer,
        deadline: Duration,
        enough: impl FnMut(&Arrivals) -> bool,
    ) -> anyhow::Result<Arrivals> {
        let mut lane = peer.lane(site, Some(UNDELAYED))?;
        let mut seen = lane.watch(self.pace(), deadline, enough).context("watching packets")?;
        lane.listen(&mut seen, peer.quiet()).context("watching packets")?;
        Ok(seen)
    }
}

/// Returns rules for all that passes the port, whoever sends it.
fn rules(port: &DeviceName) -> Text<Nft> {
    let from = compose!(Nft, "iifname {port} {travels} counter drop\n", port = *port, travels = TRAVELS);
    let to = compose!(Nft, "oifname {port} {travels} counter drop\n", port = *port, travels = TRAVELS);
    chain("prerouting", &from) + chain("postrouting", &to)
}

impl Effect for Flap {
    fn supported(&self) -> anyhow::Result<()> {
        self.filter.supported(&rules(&DeviceName::port(0)), "`modprobe nf_tables_bridge`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        if self.filter.exists(site)? {
            return Err(usage(format!("net.flap is done to {} already: heal that first", site.name())));
        }
        self.peers = Peer::of(site)?;
        Ok(answers(&self.peers))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.note(site)?;
        let (rules, table) = (rules(&site.container.machine().port()), self.filter.name(site));
        let network = NetworkNamespace::open(&site.lab.network().path())?;
        self.flapper = Some(Flapper::start(Work { network, table, rules, down: self.down, up: self.up })?);
        Ok(())
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let deadline = site.within(self.down * 2 + self.up + SLACK.scaled());
        // A cut, and the end of it.
        let enough = |seen: &Arrivals| self.is_cut(seen.longest_cut());
        let seen = side_by_side(&self.peers, |peer| self.watch(site, peer, deadline, enough))?;
        let mut said = Vec::new();
        for (peer, seen) in self.peers.iter().zip(seen) {
            let (name, cut) = (peer.name(), seen.longest_cut());
            if !self.is_cut(cut) {
                let (arrived, sent) = (seen.arrived(), seen.sent());
                bail!("{arrived} of {sent} packets from {name} arrived, and were cut off for {} at most", ms(cut));
            }
            said.push(format!("{name} was cut off for {} and heard again", ms(cut)));
        }
        Ok(said.join(", "))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        if let Some(ended) = self.flapper.take_if(|flapper| flapper.thread.is_finished()) {
            let why =
                ended.stop().err().map_or_else(String::new, |error| format!(", because that had failed: {error:#}"));
            return Ok(Lasted::lost(Keeper::Host, format!("the link was not cut any more{why}")));
        }
        let proof = self.bites(site);
        Lasted::proved(proof, Keeper::Host, || Ok(self.flapper.is_some()))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        if let Some(flapper) = self.flapper.take() {
            let _ = flapper.stop(); // one that had ended before was told by then
        }
        self.filter.take_back(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let watched = (self.up + WATCH_MIN).min(WATCH_MAX);
        let is_left = || self.filter.exists(site);
        until_healed(site, "nothing cuts its link any more", is_left, || {
            let mut present = Vec::new();
            for peer in &self.peers {
                if peer.is_there(site)? {
                    present.push(peer);
                }
            }
            let seen = side_by_side(&present, |peer| self.watch(site, peer, watched, |_| false))?;
            let mut said = Vec::new();
            for (peer, seen) in present.iter().zip(seen) {
                let silence = seen.longest_silence();
                if self.is_cut(silence) {
                    return Ok(Err(format!("{} is still cut off for {}", peer.name(), ms(silence))));
                }
                said.push(format!(
                    "{} of {} packets from {} came in {}",
                    seen.arrived(),
                    seen.sent(),
                    peer.name(),
                    ms(watched)
                ));
            }
            Ok(Ok(said.join(", ")))
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
    fn a_cut_has_many_packets() {
        assert_eq!(Flap::new(50, 50).pace(), Duration::from_millis(1));
        assert_eq!(Flap::new(60_000, 50).pace(), Duration::from_millis(20));
        assert!(Flap::new(100, 50).is_cut(Duration::from_millis(50)));
    }

    #[test]
    fn both_directions_are_cut() {
        let rules = rules(&DeviceName::port(12));
        assert!(rules.contains("iifname \"port12\"") && rules.contains("oifname \"port12\""), "{rules}");
    }
}
