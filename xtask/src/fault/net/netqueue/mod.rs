//! Delays, holds, slows and damages packets where the kernel cannot: they wait in a queue of the kernel, and a process of the engine
//! decides when each may go on, and with which bytes. Knows netlink and clocks; nothing of containers.

mod held;
mod rate;
mod serve;
mod socket;

pub use held::Delay;
pub use rate::Rate;
pub use serve::Damage;
pub use serve::{Treatment, serve};
pub use socket::{QueueState, state};
