//! Streams of random numbers that are the same on every machine for the same seed.

use rand::SeedableRng as _;
use rand_pcg::Pcg64;

/// Makes the random stream of a seed; `purpose` separates several streams of the same seed.
#[must_use]
pub fn stream(seed: u64, purpose: u64) -> Pcg64 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&purpose.to_le_bytes());
    Pcg64::from_seed(bytes)
}
