//! Faults on a kept lab. A process of the lab's guard holds them, because the state of their effects has to outlive the command that
//! injects them until another command heals them. The process ends with the lab.

mod client;
mod protocol;
mod server;

pub use client::{HeldFaults, LiveFaults};
pub use protocol::{LiveFault, RebootSeen};
pub use server::serve;
