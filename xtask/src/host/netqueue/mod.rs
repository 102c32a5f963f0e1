//! Delays packets where the kernel has no discipline for that: they wait in a queue of the kernel, and a process of
//! the engine says of each when it may go on. Knows netlink and clocks; nothing of containers.

mod held;
mod serve;
mod socket;
mod state;

pub use held::Delay;
pub use serve::serve;
pub use state::{QueueState, state};
