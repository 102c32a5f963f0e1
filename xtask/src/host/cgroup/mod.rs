//! Control groups, version 1 and 2 (and both at once), behind one set of names. Knows folders, processes and limits; nothing of containers.

mod bounds;
mod counters;
mod group;
mod limits;
mod throttle;
mod tree;
mod v1;
mod v2;
mod version;

pub use bounds::Bounds;
pub use counters::text_of;
pub(in crate::host) use counters::value;
pub use counters::{Counted, Counters, DiskCounted, Present};
pub use group::{CpuShare, Gauge, Group, Setting, parse_cpus};
pub use limits::{Limits, cpus_at_most, limit_lines};
pub use limits::{ProcessBound, process_bounds};
pub use throttle::throttle_problem;
pub use tree::Tree;
pub use version::{Version, hierarchies, layout, version};
