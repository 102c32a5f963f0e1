//! The records of a suite's shards, joined into one: found, proven to be the whole suite once, and laid on one clock.

mod clock;
mod joined;
mod shards;

pub use shards::Shards;
