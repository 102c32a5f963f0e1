//! Committed baselines: what operations took on a class of machines, kept as raw samples below `baselines/`, and the comparison of
//! a run's samples with them. Knows files and samples; nothing of labs, runs or how a verdict is reached.

mod compare;
mod file;
mod store;

pub use compare::{absent, against};
pub use file::{Baseline, BaselineCase};
pub use store::Store;
