//! Fault that delays each packet to the container.

use std::time::Duration;

use anyhow::Context as _;

use super::helper::Helper;
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, all_of, in_rounds, ms, side_by_side};
use super::probe_packets::{Arrivals, PAYLOAD_BYTES_MIN};
use crate::fault::effect::FaultTarget;
use crate::host::network::tc::Qdisc;
use crate::host::patience::Deadline;

/// Number of packets whose round trips are measured at once: enough for a mean that jitter hardly changes.
const KNOCKS: usize = 8;

/// Number of measurements before the effect counts as missing.
const ROUNDS: usize = 3;

/// Deadline for an answer, beyond the delay and its jitter.
const PATIENCE: Deadline = Deadline::from_secs(2);

/// Number of packets among which overtaking ones are counted, enough for some delayed and some overtaking ones.
const REORDERED: usize = 400;

/// Fault that delays packets to the container (`net.delay`).
pub struct Delay {
    delay_ms: u32,
    jitter_ms: u32,
    reorder_percent: u8,
    before: Vec<(Peer, Trips)>,
}

/// Shortest, median and mean time of some round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trips {
    shortest: Duration,
    middle: Duration,
    mean: Duration,
}

impl Trips {
    /// Evaluates round trip times in ascending order; `None` when half of them or more are missing.
    fn of(times: &[Duration]) -> Option<Self> {
        if times.len() * 2 <= KNOCKS {
            return None;
        }
        let sum: Duration = times.iter().sum();
        let count = u32::try_from(times.len()).ok()?;
        Some(Self { shortest: *times.first()?, middle: times[times.len() / 2], mean: sum / count })
    }
}

impl Delay {
    pub fn new(delay_ms: u32, jitter_ms: u32, reorder_percent: u8) -> Self {
        Self { delay_ms, jitter_ms, reorder_percent, before: Vec::new() }
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(u64::from(self.delay_ms))
    }

    fn jitter(&self) -> Duration {
        Duration::from_millis(u64::from(self.jitter_ms))
    }

    fn patience(&self) -> Duration {
        self.delay() + self.jitter() + PATIENCE.scaled()
    }

    /// Compares the round trips of each peer with those before the fault; the inner error names a peer whose round trips did not become
    /// longer.
    fn compare(&self, target: &FaultTarget<'_>) -> anyhow::Result<Seen> {
        let measured =
            side_by_side(&self.before, |(peer, _)| peer.knock_times(target, KNOCKS, target.within(self.patience())))?;
        Ok(all_of(self.before.iter().zip(measured).map(|((peer, before), times)| {
            let Some(after) = Trips::of(&times) else {
                return Err(format!("only {} of {KNOCKS} packets from {} were answered", times.len(), peer.name()));
            };
            let trip =
                format!("a round trip from {} takes {} instead of {}", peer.name(), ms(after.mean), ms(before.middle));
            if self.is_longer(*before, after) {
                return Ok(trip);
            }
            Err(format!("{trip}, and the shortest {}: not as long as the fault demands", ms(after.shortest)))
        })))
    }

    /// Counts packets from each peer that wait, and packets that overtake them; the inner error names a peer whose counts are not as the
    /// fault demands.
    fn overtakers(&self, target: &FaultTarget<'_>) -> anyhow::Result<Seen> {
        let send = |(peer, _): &(Peer, Trips)| {
            let sent = peer.lane(target, None)?.send(REORDERED, PAYLOAD_BYTES_MIN, target.within(self.patience()));
            sent.with_context(|| format!("sending packets from {}", peer.name()))
        };
        let sent = side_by_side(&self.before, send)?;
        Ok(all_of(self.before.iter().zip(sent).map(|((peer, _), arrivals)| {
            let (overtook, waited) = self.kinds(&arrivals);
            let kinds =
                format!("{overtook} of {REORDERED} packets from {} overtook {waited} delayed ones", peer.name());
            if self.is_reordered(overtook, waited) {
                Ok(kinds)
            } else {
                Err(format!("{kinds}, not the share that the fault demands"))
            }
        })))
    }

    /// Observes once whether packets are delayed as the fault demands; the inner error says how they deviate.
    fn look(&self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<Seen> {
        // Packets that the helper has ever held back.
        let queued = || -> anyhow::Result<Option<u64>> {
            let Some(helper) = means.helper() else { return Ok(None) };
            Ok(Some(helper.state(target)?.map_or(0, |state| state.seen)))
        };
        let before = queued()?;
        let seen = if self.reorder_percent > 0 { self.overtakers(target)? } else { self.compare(target)? };
        Ok(match seen {
            // A slow machine answers late as well.
            Ok(seen) if before.is_some() && queued()? == before => {
                Err(format!("{seen}, but the fault's queue held no packet back: something else delays the traffic"))
            }
            seen => seen,
        })
    }

    /// Returns the number of packets that did not wait, and of packets that did.
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

    /// Tells whether most round trips are again about as short as before, or shorter than any delayed one: the machine may be busier than
    /// before.
    fn is_as_short(&self, before: Trips, after: Trips) -> bool {
        let least = if self.reorder_percent > 0 { Duration::ZERO } else { self.delay().saturating_sub(self.jitter()) };
        after.middle < least.max(before.middle + self.delay() / 2)
    }

    /// Tells whether no round trip is shorter than the delay, and their mean exceeds the shortest one from before the fault by half of the
    /// delay.
    fn is_longer(&self, before: Trips, after: Trips) -> bool {
        after.shortest >= self.delay().saturating_sub(self.jitter()) && after.mean >= before.shortest + self.delay() / 2
    }
}

impl LinkDamage for Delay {
    const GONE: &'static str = "nothing delays its packets any more";

    fn name(&self) -> &'static str {
        "net.delay"
    }

    /// Packet helper, which can be seeded, outlives the container's restart, and works beside `net.rate`; else netem of the kernel, where
    /// packets cannot be handed to a process.
    fn means(&self) -> Vec<Means> {
        let Self { delay_ms, jitter_ms, reorder_percent, .. } = *self;
        let numbers = [
            ("--delay-ms", delay_ms.into()),
            ("--jitter-ms", jitter_ms.into()),
            ("--reorder-percent", reorder_percent.into()),
        ];
        let netem = Qdisc::Delay { delay: self.delay(), jitter: self.jitter(), reorder_percent };
        vec![Means::Helper(Helper::that_holds("delay", &numbers)), Means::queue(netem)]
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        for peer in Peer::of(target)? {
            let times = peer.knock_times(target, KNOCKS, PATIENCE.scaled())?;
            let trips = Trips::of(&times)
                .with_context(|| format!("even without the fault, {} does not answer reliably", target.name()))?;
            self.before.push((peer, trips));
        }
        let trip =
            |(peer, trips): &(Peer, Trips)| format!("a round trip from {} takes {}", peer.name(), ms(trips.middle));
        Ok(self.before.iter().map(trip).collect::<Vec<_>>().join(", "))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        in_rounds(ROUNDS, || self.look(target, means))
    }

    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        self.look(target, means)?.map_err(anyhow::Error::msg)
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let measured = side_by_side(&self.before, |(peer, _)| peer.knock_times(target, KNOCKS, self.patience()))?;
        let mut seen = Vec::new();
        for ((peer, before), times) in self.before.iter().zip(measured) {
            let trip = format!("a round trip from {}", peer.name());
            match Trips::of(&times) {
                Some(after) if self.is_as_short(*before, after) => {
                    seen.push(format!("{trip} takes {}", ms(after.middle)));
                }
                Some(after) => return Ok(Err(format!("{trip} still takes {}", ms(after.middle)))),
                // Whoever is cut off itself hears nothing, and that is another fault's affair.
                None if !peer.is_there(target)? => {}
                None => return Ok(Err(format!("{trip} still has no answer"))),
            }
        }
        Ok(Ok(seen.join(", ")))
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
            assert_eq!(delay.is_as_short(before, trips(after)), is_as_before, "{after:?}");
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
