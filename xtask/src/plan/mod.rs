//! Plan of a run: filters and manifests in, a plan out. Pure: nothing is touched.

mod cases;
mod shard;

pub use cases::{Order, Part, Plan, PlannedCase};
pub use shard::Shard;
