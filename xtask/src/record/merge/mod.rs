//! Join of the records of a suite's shards: finds them, checks that they cover the suite once, and moves them to one clock.

mod clock;
mod joined;
mod shards;

pub use shards::Shards;
