//! Random streams that a seed repeats on every machine.

use rand::SeedableRng as _;
use rand_pcg::Pcg64;

/// The random stream of this seed; `purpose` tells apart the streams that one seed is used for.
#[must_use]
pub fn stream(seed: u64, purpose: u64) -> Pcg64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&purpose.to_le_bytes());
    Pcg64::from_seed(bytes)
}
