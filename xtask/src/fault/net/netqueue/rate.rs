//! Times at which packets may go on so that all of them together keep to a rate.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes of the Ethernet header, which packets of a queue come without.
const LINK_HEADER_BYTES: u64 = 14;

/// Parameters of a token bucket, as `tc` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub bits_per_second: u64,
    /// Bytes that pass at once after a pause.
    pub burst_bytes: u64,
    /// Maximum number of bytes that wait; more are dropped.
    pub limit_bytes: u64,
}

/// Packets that wait for their turn, in the order in which they came.
#[derive(Debug)]
pub(super) struct Bucket<T> {
    rate: Rate,
    /// Time at which the bucket is full again.
    full_at: Instant,
    held: VecDeque<(Instant, u64, T)>,
    held_bytes: u64,
}

impl<T> Bucket<T> {
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now, held: VecDeque::new(), held_bytes: 0 }
    }

    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.rate.bits_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Holds a packet (`thing`) of `bytes` bytes from its IP header on, until its turn; returns the packet as the error where too many
    /// bytes wait.
    pub fn hold(&mut self, thing: T, bytes: u64, now: Instant) -> Result<(), T> {
        let bytes = bytes + LINK_HEADER_BYTES;
        if self.held_bytes + bytes > self.rate.limit_bytes {
            return Err(thing);
        }
        self.full_at = self.full_at.max(now) + self.time_of(bytes);
        let due = self.full_at.checked_sub(self.time_of(self.rate.burst_bytes)).unwrap_or(now);
        self.held.push_back((due, bytes, thing));
        self.held_bytes += bytes;
        Ok(())
    }

    /// Takes out the next packet if its turn has come.
    pub fn due(&mut self, now: Instant) -> Option<T> {
        if self.held.front()?.0 <= now { self.next() } else { None }
    }

    /// Takes out the next packet, even before its turn.
    pub fn next(&mut self) -> Option<T> {
        let (_, bytes, thing) = self.held.pop_front()?;
        self.held_bytes -= bytes;
        Some(thing)
    }

    /// Returns the time until the turn of the next packet; `None` where none waits.
    pub fn until_next(&self, now: Instant) -> Option<Duration> {
        self.held.front().map(|(due, _, _)| due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { bits_per_second: 800_000, burst_bytes: 2000, limit_bytes: 5000 };

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn passed(bucket: &mut Bucket<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| bucket.due(now)).collect()
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        // 1,000 bytes on the link take 10 ms each.
        for packet in 1..=5 {
            assert_eq!(bucket.hold(packet, 986, start), Ok(()));
        }
        assert_eq!(passed(&mut bucket, start), [1, 2]);
        assert_eq!(bucket.until_next(start), Some(ms(10)));
        assert_eq!(passed(&mut bucket, start + ms(9)), Vec::<u32>::new());
        assert_eq!(passed(&mut bucket, start + ms(20)), [3, 4]);
        assert_eq!(bucket.hold(6, 986, start + ms(25)), Ok(()));
        assert_eq!(passed(&mut bucket, start + ms(30)), [5]);
        assert_eq!(bucket.until_next(start + ms(30)), Some(ms(10)));
        assert_eq!(bucket.next(), Some(6));
        assert_eq!((bucket.next(), bucket.until_next(start)), (None, None));
    }

    #[test]
    fn a_pause_fills_the_bucket_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        let later = start + Duration::from_secs(60);
        for packet in 1..=4 {
            assert_eq!(bucket.hold(packet, 986, later), Ok(()));
        }
        assert_eq!(passed(&mut bucket, later), [1, 2], "no more than the bucket holds");
    }

    #[test]
    fn what_is_too_much_to_wait_is_given_back() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        let taken = (1..=7).filter(|packet| bucket.hold(*packet, 986, start).is_ok()).count();
        assert_eq!(taken, 5);
        assert_eq!(passed(&mut bucket, start).len(), 2);
        assert_eq!(bucket.hold(8, 986, start), Ok(()), "there is room again");
    }
}
