//! Faults on a lab that stays: a process of its lab's guard holds them, so that what an effect knows of what it has done
//! is there when another process asks for it to be healed. It goes with the lab.

mod client;
mod protocol;
mod server;

pub use client::{HeldFaults, LiveFaults};
pub use protocol::{LiveFault, RebootSeen};
pub use server::serve;
