//! Delays, holds, slows and damages packets where the kernel cannot: they wait in a queue of the kernel, and a process of the
//! engine says of each when it may go on, and as what. Knows netlink and clocks; nothing of containers.

mod held;
mod rate;
mod serve;
mod socket;

pub use held::Delay;
pub use rate::Rate;
pub use serve::Damage;
pub use serve::{Treatment, serve};
pub use socket::{QueueState, state};
