//! Plan of a run, made from filters and manifests. Pure: reads and writes no file.

mod cases;
mod shard;

pub use cases::{Order, Part, Plan, PlannedCase};
pub use shard::Shard;
