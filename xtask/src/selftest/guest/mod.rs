//! Tests of the engine on other hosts: makes a guest, lets it run an order, and reads its record.
//!
//! Knows hosts and the engine's command line. Does not know labs, faults or scenarios: it runs the engine as a user does.

mod console;
mod host;
mod incus;
mod kills;
mod order;
#[cfg(test)]
mod page;
mod payload;
mod qemu;
mod record;
mod run;
mod steps;
mod tree;
mod uml;

pub use order::Order;
pub use record::{FORMAT_VERSION, HostRecord};
pub use run::{Kind, Options, run};
pub use steps::carry_out;
