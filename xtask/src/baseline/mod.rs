//! Committed baselines: times of operations on a class of machines, kept as raw samples below `baselines/`; whether a case has become
//! slower since, and new baselines; what identifies the machines that they were measured on. Knows files and times; nothing of labs, runs or how a verdict is reached.

mod compare;
mod file;
mod reference;
mod store;

pub use compare::{Baselines, Update, against};
pub use file::{Baseline, BaselineCase};
pub use reference::{REFERENCE_VERSION, Reference, ReferenceLayer, ReplacedPackage};
pub use store::Store;
