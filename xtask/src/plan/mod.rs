//! Plan of a run: filters and manifests in, a plan out. Pure: reads and writes no file.

mod cases;
mod shard;

pub use cases::{Order, Part, Plan, PlannedCase};
pub use shard::Shard;
