//! Delay of each packet to the container.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::helper::{HELP, Helper};
use super::peer::{Peer, is_cut_off, is_down, ms, side_by_side};
use crate::error::Error;
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::iptables::queue_problem;
use crate::host::patience::Deadline;
use crate::host::tc::{self, Qdisc};
use crate::host::undo::Undo;
use crate::host::volley::{Arrivals, PAYLOAD_BYTES_MIN};

/// Number of packets that are timed at once: enough for a mean that jitter does not spoil.
const KNOCKS: usize = 8;

/// Number of rounds.
const ROUNDS: usize = 3;

/// Deadline for an answer, beside the delay itself.
const PATIENCE: Deadline = Deadline::from_secs(2);

/// Number of packets among which reordering is counted, enough for some of each kind.
const REORDERED: usize = 400;

/// Deadline for a healed link to be fast again.
const HEAL_DEADLINE: Deadline = Deadline::from_secs(20);

/// A longer way to the container.
pub struct Delay {
    delay_ms: u32,
    jitter_ms: u32,
    reorder_percent: u8,
    means: Option<Means>,
    before: Vec<(Peer, Trips)>,
    helper: Helper,
    undo: Vec<Undo>,
}

/// Means of holding packets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// A process of the engine, which can be seeded, outlives the container's restart, and stands beside `net.rate`.
    Queue,
    /// The kernel, where packets cannot be handed to a process.
    Netem,
}

/// Some round trips: how long the fastest took, one in the middle, and all of them on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trips {
    shortest: Duration,
    middle: Duration,
    mean: Duration,
}

impl Trips {
    /// Returns the times in order; `None` when more than half of them are missing.
    fn of(times: &[Duration]) -> Option<Self> {
        if times.len() * 2 <= KNOCKS {
            return None;
        }
        let sum: Duration = times.iter().sum();
        let count = u32::try_from(times.len()).ok()?;
        Some(Self { shortest: *times.first()?, middle: times[times.len() / 2], mean: sum / count })
    }
}

impl Means {
    fn of_this_host() -> anyhow::Result<Self> {
        let Some(queue) = queue_problem() else { return Ok(Self::Queue) };
        let (delay, jitter) = (Duration::from_millis(1), Duration::ZERO);
        let netem = Qdisc::Delay { delay, jitter, reorder_percent: 0 };
        let Some(netem) = netem.problem() else { return Ok(Self::Netem) };
        let problem = format!("net.delay: no packets can be handed to a process: {queue}; {netem}");
        let help = format!("{HELP} or `modprobe sch_netem`");
        Err(Error::Host { problem, help }.into())
    }
}

impl Delay {
    pub fn new(delay_ms: u32, jitter_ms: u32, reorder_percent: u8) -> Self {
        let (means, before, undo) = (None, Vec::new(), Vec::new());
        let helper = Helper::that_holds("delay");
        Self { delay_ms, jitter_ms, reorder_percent, means, before, helper, undo }
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(u64::from(self.delay_ms))
    }

    fn jitter(&self) -> Duration {
        Duration::from_millis(u64::from(self.jitter_ms))
    }

    fn qdisc(&self) -> Qdisc {
        Qdisc::Delay { delay: self.delay(), jitter: self.jitter(), reorder_percent: self.reorder_percent }
    }

    fn patience(&self) -> Duration {
        self.delay() + self.jitter() + PATIENCE.scaled()
    }

    fn hold_by_kernel(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let (network, port) = (site.lab.network(), site.container.machine().port());
        if let Some(kind) = tc::root_kind(network, &port)? {
            let message = format!(
                "net.delay: something slows {} already, by {kind}: heal that first, or have both by installing iptables \
                 (`cargo xtask setup --optional`)",
                site.name()
            );
            return Err(usage(message));
        }
        let undo = vec![Undo::DeleteQdisc { network: network.place()?, device: port.to_string() }];
        site.note(undo.clone())?;
        self.undo = undo;
        self.qdisc().set(network, &port)
    }

    fn hold_by_process(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        if self.helper.exists(site)? {
            return Err(usage(format!("net.delay: {} is delayed or stalled already: heal that first", site.name())));
        }
        let numbers = [
            ("--delay-ms", self.delay_ms.into()),
            ("--jitter-ms", self.jitter_ms.into()),
            ("--reorder-percent", self.reorder_percent.into()),
            ("--seed", self.helper.seed(site)),
        ];
        let mut words = vec!["delay".to_owned()];
        words.extend(numbers.into_iter().flat_map(|(flag, number): (&str, u64)| [flag.to_owned(), number.to_string()]));
        self.helper.start(site, &words)
    }

    /// Packets that the helper has ever held back.
    fn queued(&self, site: &Site<'_>) -> anyhow::Result<u64> {
        Ok(self.helper.state(site)?.map_or(0, |state| state.seen))
    }

    /// The round trips of each peer, compared with those before; the error says which one did not become longer.
    fn compare(&self, site: &Site<'_>) -> anyhow::Result<Result<String, String>> {
        let measured =
            side_by_side(&self.before, |(peer, _)| peer.knock_times(site, KNOCKS, site.within(self.patience())))?;
        let mut seen = Vec::new();
        for ((peer, before), times) in self.before.iter().zip(measured) {
            let Some(after) = Trips::of(&times) else {
                return Ok(Err(format!("only {} of {KNOCKS} packets from {} were answered", times.len(), peer.name())));
            };
            let trip =
                format!("a round trip from {} takes {} instead of {}", peer.name(), ms(after.mean), ms(before.middle));
            if !self.is_longer(*before, after) {
                return Ok(Err(format!("{trip}, the shortest {}", ms(after.shortest))));
            }
            seen.push(trip);
        }
        Ok(Ok(seen.join(", ")))
    }

    /// Packets that wait and packets that overtake them, from each peer; the error says where they are not seen.
    fn overtakers(&self, site: &Site<'_>) -> anyhow::Result<Result<String, String>> {
        let send = |(peer, _): &(Peer, Trips)| {
            let sent = peer.lane(site, None)?.send(REORDERED, PAYLOAD_BYTES_MIN, site.within(self.patience()));
            sent.with_context(|| format!("sending packets from {}", peer.name()))
        };
        let mut seen = Vec::new();
        for ((peer, _), arrivals) in self.before.iter().zip(side_by_side(&self.before, send)?) {
            let (overtook, waited) = self.kinds(&arrivals);
            let kinds = format!("{overtook} of {REORDERED} packets from {} overtook {waited}", peer.name());
            if !self.is_reordered(overtook, waited) {
                return Ok(Err(kinds));
            }
            seen.push(kinds);
        }
        Ok(Ok(seen.join(", ")))
    }

    /// Observes packets once; the inner error names the deviation.
    fn look(&self, site: &Site<'_>) -> anyhow::Result<Result<String, String>> {
        let before = self.queued(site)?;
        let seen = if self.reorder_percent > 0 { self.overtakers(site)? } else { self.compare(site)? };
        Ok(match seen {
            // A slow machine answers late as well.
            Ok(seen) if self.means == Some(Means::Queue) && self.queued(site)? == before => {
                Err(format!("{seen}, but no packet was held back"))
            }
            seen => seen,
        })
    }

    /// Returns the number of packets that did not wait, and of those that did.
    fn kinds(&self, arrivals: &Arrivals) -> (usize, usize) {
        let shortest = self.delay().saturating_sub(self.jitter());
        let (overtook, waited): (Vec<_>, Vec<_>) = arrivals.times().partition(|took| *took < shortest / 2);
        (overtook.len(), waited.iter().filter(|took| **took >= shortest).count())
    }

    fn is_reordered(&self, overtook: usize, waited: usize) -> bool {
        let percent = usize::from(self.reorder_percent);
        let (expected, others) = (REORDERED * percent / 100, REORDERED * (100 - percent) / 100);
        overtook * 2 >= expected && overtook <= expected * 2 && overtook > 0 && waited * 2 >= others && waited > 0
    }

    /// Tells whether most trips are again about as short as before, or shorter than that of any delayed packet: the
    /// machine may have more to do than it had before.
    fn is_as_before(&self, before: Trips, after: Trips) -> bool {
        let least = if self.reorder_percent > 0 { Duration::ZERO } else { self.delay().saturating_sub(self.jitter()) };
        after.middle < least.max(before.middle + self.delay() / 2)
    }

    /// No packet is faster than the delay, and on average they are slower than before by much of it.
    fn is_longer(&self, before: Trips, after: Trips) -> bool {
        after.shortest >= self.delay().saturating_sub(self.jitter()) && after.mean >= before.shortest + self.delay() / 2
    }
}

impl Effect for Delay {
    fn supported(&self) -> anyhow::Result<()> {
        Means::of_this_host().map(drop)
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        if let Some(outage) = site.container.outage().filter(|_| is_down(site.container)) {
            return Err(outage.into());
        }
        for peer in Peer::of(site)? {
            let times = peer.knock_times(site, KNOCKS, PATIENCE.scaled())?;
            let trips = Trips::of(&times).with_context(|| format!("{} does not answer reliably", site.name()))?;
            self.before.push((peer, trips));
        }
        let trip =
            |(peer, trips): &(Peer, Trips)| format!("a round trip from {} takes {}", peer.name(), ms(trips.middle));
        Ok(self.before.iter().map(trip).collect::<Vec<_>>().join(", "))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let means = Means::of_this_host()?;
        self.means = Some(means);
        match means {
            Means::Queue => self.hold_by_process(site),
            Means::Netem => self.hold_by_kernel(site),
        }
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let mut last = None;
        for _ in 0..ROUNDS {
            match self.look(site)? {
                Ok(evidence) => return Ok(evidence),
                Err(problem) => last = Some(problem),
            }
        }
        bail!(last.unwrap_or_default())
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        if let Some(lost) = self.helper.lost() {
            return Ok(lost);
        }
        let proof = self.look(site).and_then(|seen| seen.map_err(anyhow::Error::msg));
        Lasted::proved(proof, Keeper::Host, || match self.means {
            Some(Means::Netem) => Ok(tc::root_kind(site.lab.network(), &site.container.machine().port())?.is_some()),
            _ => self.helper.is_at_work(site),
        })
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.helper.stop(site)?;
        site.undo(self.undo.clone())
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            if let Some(outage) = site.container.outage().filter(|_| is_down(site.container)) {
                return Ok(format!("{outage}; nothing delays its packets any more"));
            }
            let measured = side_by_side(&self.before, |(peer, _)| peer.knock_times(site, KNOCKS, self.patience()))?;
            let mut seen = Vec::new();
            let mut slow = None;
            for ((peer, before), times) in self.before.iter().zip(measured) {
                match Trips::of(&times) {
                    Some(after) if self.is_as_before(*before, after) => {
                        seen.push(format!("a round trip from {} takes {}", peer.name(), ms(after.middle)));
                    }
                    // Whoever is cut off itself hears nothing, and that is another fault's affair.
                    None if !peer.is_there(site)? => {}
                    after => {
                        let took =
                            after.map_or_else(|| "has no end".to_owned(), |it| format!("takes {}", ms(it.middle)));
                        slow = Some(format!("a round trip from {} still {took}", peer.name()));
                    }
                }
            }
            let Some(slow) = slow else { return Ok(seen.join(", ") + &self.helper.passed()) };
            // What cuts it off, or holds packets back behind others, is another fault's affair.
            if is_cut_off(site)? {
                return Ok("it is cut off; nothing delays its packets any more".into());
            }
            if let Some(kind) = tc::root_kind(site.lab.network(), &site.container.machine().port())? {
                return Ok(format!("{slow}, in its port's queue ({kind}); nothing else delays its packets any more"));
            }
            if begun.elapsed() > HEAL_DEADLINE.scaled() {
                bail!(slow);
            }
        }
    }

    fn restore(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let port = site.container.machine().port();
        match self.means {
            Some(Means::Netem) if tc::root_kind(site.lab.network(), &port)?.is_none() => {
                self.qdisc().set(site.lab.network(), &port)
            }
            _ => Ok(()),
        }
    }

    fn outlives_container(&self) -> bool {
        self.means == Some(Means::Queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trips(times: &[u64]) -> Trips {
        let times: Vec<Duration> = times.iter().map(|time| Duration::from_millis(*time)).collect();
        Trips::of(&times).unwrap()
    }

    #[test]
    fn trips_are_told_from_most_of_them() {
        let five = trips(&[1, 2, 3, 4, 90]);
        let expected = [five.shortest, five.middle, five.mean].map(|time| time.as_millis());
        assert_eq!(expected, [1, 3, 20]);
        assert_eq!(Trips::of(&[Duration::from_millis(1); 4]), None, "half of them went missing");
    }

    #[test]
    fn a_trip_is_longer_only_by_the_delay() {
        let before = trips(&[0, 0, 0, 0, 9]);
        let check = |delay, jitter, after: &[u64], longer: bool| {
            assert_eq!(Delay::new(delay, jitter, 0).is_longer(before, trips(after)), longer, "{after:?}");
        };
        check(50, 0, &[50, 50, 50, 51, 60], true);
        check(50, 0, &[49, 90, 90, 90, 90], false);
        check(50, 5, &[45, 46, 50, 54, 55], true);
        check(50, 50, &[1, 2, 3, 4, 5], false);
        check(50, 50, &[1, 20, 50, 80, 99], true);
    }

    #[test]
    fn a_trip_is_as_before_where_no_delayed_packet_could_be_as_fast() {
        let before = trips(&[0, 0, 0, 0, 9]);
        let check = |delay, jitter, reorder, after: &[u64], is_as_before: bool| {
            let delay = Delay::new(delay, jitter, reorder);
            assert_eq!(delay.is_as_before(before, trips(after)), is_as_before, "{after:?}");
        };
        check(50, 0, 0, &[1, 1, 24, 30, 30], true);
        check(50, 0, 0, &[30, 40, 49, 60, 70], true); // slower than before, and faster than delayed
        check(50, 0, 0, &[30, 40, 50, 60, 70], false);
        check(50, 25, 0, &[20, 20, 25, 60, 70], false);
        check(50, 0, 50, &[1, 1, 30, 60, 70], false); // those may be the half that does not wait
    }

    #[test]
    fn overtaking_needs_both_who_waits_and_who_does_not() {
        let delay = Delay::new(50, 5, 25);
        for (overtook, waited, expected) in
            [(100, 300, true), (60, 200, true), (0, 400, false), (400, 0, false), (100, 100, false), (250, 150, false)]
        {
            assert_eq!(delay.is_reordered(overtook, waited), expected, "{overtook} and {waited}");
        }
    }
}
