//! This machine: its hardware, load, kernel parts, kernel log, and budgets.

pub mod budget;
pub mod hardware;
pub mod kernel_part;
pub mod kmsg;
pub mod load;
