//! Faults on a kept lab: a process of the lab's guard holds them, so that what an effect knows of its own changes is there when another
//! process asks for the healing. The process goes with the lab.

mod client;
mod protocol;
mod server;

pub use client::{HeldFaults, LiveFaults};
pub use protocol::{LiveFault, RebootSeen};
pub use server::serve;
