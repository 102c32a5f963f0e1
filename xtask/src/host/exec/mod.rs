//! Programs: started with deadlines, their streams kept within bounds, their processes and signals.

pub mod bounded_log;
pub mod descriptors;
pub mod held_clock;
pub mod process;
pub mod program_output;
pub mod program_time;
mod relay;
pub mod sealed;
pub mod shell;
pub mod signals;
