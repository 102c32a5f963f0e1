//! Faults of the container's link: cut, narrow, slow, lossy. Each acts at the container's port on the lab's bridge where that is possible,
//! and is observed by senders of packets to it: the bridge itself, and another container where there is one.

mod contact;
mod corrupt;
mod delay;
mod duplicate;
mod filter;
mod flap;
pub mod flood;
mod helper;
mod isolate;
mod link;
pub mod listeners;
mod loss;
mod means;
mod mtu;
pub mod netqueue;
mod oneway;
mod partition;
mod peer;
mod port;
pub mod probe_packets;
mod rate;
mod reset;
mod stall;
mod tally;

pub use corrupt::Corrupt;
pub use delay::Delay;
pub use duplicate::Duplicate;
pub use filter::{Filter, IptablesRules, Rules, chain};
pub use flap::Flap;
pub use isolate::Isolate;
pub use link::{LinkDamage, effect};
pub use loss::Loss;
pub use means::Means;
pub use mtu::MtuHole;
pub use oneway::Oneway;
pub use partition::Partition;
pub use peer::{CLOSED_PORT, Seen, ms, network_of};
pub use port::PortBlock;
pub use rate::Rate;
pub use reset::Reset;
pub use stall::Stall;
