//! Resource usage of operations and machines: counters at a moment, a sampler, a fixed piece of work that measures the host's speed, and
//! the host's class. Knows labs and the record's types; nothing of scenarios, verdicts or sessions.

mod calibration;
mod machine;
mod sampler;
mod usage;

pub use calibration::calibrate;
pub use machine::{KnownMachine, this_machine};
pub use sampler::Sampler;
pub use usage::{Meters, Totals};
