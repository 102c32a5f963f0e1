//! Items that are held, such as packets, each until the time at which it may go on.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

/// Delay of the packets of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Time that each packet waits.
    pub delay: Duration,
    /// Largest deviation from `delay`, drawn for each packet, so that packets may overtake others.
    pub jitter: Duration,
    /// Percentage of packets that do not wait at all.
    pub reorder_percent: u8,
    /// Seed of the random draws of jitter and reordering.
    pub seed: u64,
}

impl Delay {
    /// Delay that is longer than any lab exists.
    pub(super) const FOR_EVER: Self =
        Self { delay: Duration::from_secs(10 * 365 * 86_400), jitter: Duration::ZERO, reorder_percent: 0, seed: 0 };
}

/// Held items, each with the time at which it may go on.
#[derive(Debug)]
pub(super) struct Held<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    delay: Delay,
    draws: Pcg64,
    count: u64,
}

/// Held item, ordered by its time; of two with the same time, the one that came first is the smaller.
#[derive(Debug)]
struct Entry<T> {
    due: Instant,
    number: u64,
    thing: T,
}

impl<T> Held<T> {
    pub fn new(delay: Delay) -> Self {
        Self { heap: BinaryHeap::new(), delay, draws: Pcg64::seed_from_u64(delay.seed), count: 0 }
    }

    pub fn hold(&mut self, thing: T, now: Instant) {
        let due = now + self.draw();
        self.heap.push(Reverse(Entry { due, number: self.count, thing }));
        self.count += 1;
    }

    fn draw(&mut self) -> Duration {
        let Delay { delay, jitter, reorder_percent, .. } = self.delay;
        if reorder_percent > 0 && self.draws.random_range(0..100) < reorder_percent {
            return Duration::ZERO;
        }
        if jitter.is_zero() {
            return delay;
        }
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (shortest, longest) = (delay.saturating_sub(jitter), delay.saturating_add(jitter));
        Duration::from_nanos(self.draws.random_range(nanos(shortest)..=nanos(longest)))
    }

    /// Takes out the next item if its time has come.
    pub fn due(&mut self, now: Instant) -> Option<T> {
        if self.heap.peek()?.0.due <= now { self.next() } else { None }
    }

    /// Takes out the next item, whatever its time.
    pub fn next(&mut self) -> Option<T> {
        self.heap.pop().map(|Reverse(entry)| entry.thing)
    }

    /// Returns the time for which the next item is still to be held; `None` where none is held.
    pub fn until_next(&self, now: Instant) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.due.saturating_duration_since(now))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn held(delay: u64, jitter: u64, seed: u64) -> Held<u32> {
        Held::new(Delay { delay: ms(delay), jitter: ms(jitter), reorder_percent: 0, seed })
    }

    #[test]
    fn without_jitter_things_leave_in_order_at_their_time() {
        let (mut held, start) = (held(50, 0, 1), Instant::now());
        held.hold(1, start);
        held.hold(2, start);
        held.hold(3, start + ms(10));
        assert_eq!(held.until_next(start + ms(20)), Some(ms(30)));
        assert_eq!(held.due(start + ms(49)), None);
        assert_eq!(
            [held.due(start + ms(50)), held.due(start + ms(50)), held.due(start + ms(50))],
            [Some(1), Some(2), None]
        );
        assert_eq!(held.until_next(start + ms(70)), Some(ms(0)), "late already");
        assert_eq!(held.next(), Some(3));
        assert_eq!((held.next(), held.until_next(start)), (None, None));
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_a_seed_repeats_it() {
        let draws = |seed| {
            let mut held = held(50, 5, seed);
            (0..1000).map(|_| held.draw()).collect::<Vec<_>>()
        };
        let (first, again, other) = (draws(7), draws(7), draws(8));
        assert!(first == again && first != other);
        let (shortest, longest) = (*first.iter().min().unwrap(), *first.iter().max().unwrap());
        assert!(shortest >= ms(45) && shortest < ms(46), "{shortest:?}");
        assert!(longest <= ms(55) && longest > ms(54), "{longest:?}");
    }

    #[test]
    fn jitter_beyond_the_delay_never_means_the_past() {
        let mut held = held(5, 50, 1);
        let draws: Vec<Duration> = (0..1000).map(|_| held.draw()).collect();
        assert!(draws.iter().all(|draw| *draw <= ms(55)));
    }

    #[test]
    fn a_share_of_them_does_not_wait() {
        let mut held: Held<u32> = Held::new(Delay { delay: ms(50), jitter: ms(5), reorder_percent: 25, seed: 1 });
        let draws: Vec<Duration> = (0..1000).map(|_| held.draw()).collect();
        let at_once = draws.iter().filter(|draw| draw.is_zero()).count();
        assert!((200..300).contains(&at_once), "{at_once}");
        assert!(draws.iter().all(|draw| draw.is_zero() || *draw >= ms(45)));
        let mut held: Held<u32> = Held::new(Delay::FOR_EVER);
        held.hold(1, Instant::now());
        assert_eq!((held.due(Instant::now() + ms(1_000_000_000)), held.next()), (None, Some(1)));
    }
}
