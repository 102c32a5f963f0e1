//! This machine: its hardware, load, kernel parts and kernel log, and what it still has to give.

pub mod budget;
pub mod hardware;
pub mod kernel_part;
pub mod kmsg;
pub mod load;
