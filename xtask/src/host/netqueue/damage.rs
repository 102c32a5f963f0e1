//! Choice of packets that are changed on their way, and of the changed byte.

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;

const UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;

/// Damage to the packets of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Percentage of packets with a changed byte.
    pub percent: u8,
    /// Seed of the draws.
    pub seed: u64,
}

/// The draws.
#[derive(Debug)]
pub(super) struct Dice {
    damage: Damage,
    draws: Pcg64,
}

impl Dice {
    pub fn new(damage: Damage) -> Self {
        Self { damage, draws: Pcg64::seed_from_u64(damage.seed) }
    }

    /// An IPv4 packet with one byte changed after its IP header, if its turn has come and it has such a byte. No change of
    /// one byte leaves the checksum right that covers it.
    pub fn roll(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if self.draws.random_range(0..100) >= self.damage.percent {
            return None;
        }
        let first = first_byte(packet)?;
        let place = self.draws.random_range(first..packet.len());
        let mut changed = packet.to_vec();
        *changed.get_mut(place)? ^= self.draws.random_range(1..=255);
        Some(changed)
    }
}

/// The first byte that may be changed: of UDP one of what it carries, because its checksum may say that there is none.
fn first_byte(packet: &[u8]) -> Option<usize> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    let carried = header + UDP_HEADER_BYTES;
    let first = if packet.get(9) == Some(&UDP) && packet.len() > carried { carried } else { header };
    (first < packet.len()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with a header of 20 bytes.
    fn packet(protocol: u8, carried: usize) -> Vec<u8> {
        let mut bytes = vec![0; 20 + carried];
        (bytes[0], bytes[9]) = (0x45, protocol);
        bytes
    }

    #[test]
    fn one_byte_after_the_header_is_changed() {
        let mut dice = Dice::new(Damage { percent: 100, seed: 1 });
        for (protocol, carried, first) in [(6, 20, 20), (UDP, 30, 28), (UDP, 8, 20), (1, 1, 20)] {
            for _ in 0..200 {
                let packet = packet(protocol, carried);
                let changed = dice.roll(&packet).unwrap();
                let places: Vec<usize> = (0..packet.len()).filter(|place| changed[*place] != packet[*place]).collect();
                assert!(places.len() == 1 && places[0] >= first, "{protocol}: {places:?}");
            }
        }
    }

    #[test]
    fn a_share_of_them_is_changed_and_a_seed_repeats_it() {
        let changed = |seed| {
            let mut dice = Dice::new(Damage { percent: 30, seed });
            (0..1000).map(|_| dice.roll(&packet(6, 20)).is_some()).collect::<Vec<bool>>()
        };
        assert!(changed(1) == changed(1) && changed(1) != changed(2));
        let count = changed(1).into_iter().filter(|changed| *changed).count();
        assert!((250..350).contains(&count), "{count}");
    }

    #[test]
    fn what_carries_nothing_is_left_as_it_is() {
        let mut dice = Dice::new(Damage { percent: 100, seed: 1 });
        for packet in [packet(6, 0), Vec::new(), vec![0x4f; 20]] {
            assert_eq!(dice.roll(&packet), None, "{packet:?}");
        }
    }
}
