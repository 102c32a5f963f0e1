//! Damage on purpose: what can be broken, how its effect is observed, how it is taken back. One file a family.
//! Knows labs; nothing of scenarios, plans or reports.

mod bound;
mod catalogue;
mod cpu;
mod crashloop;
mod disk;
mod effect;
mod fd;
mod file;
mod hog;
mod injection;
mod memory;
mod net;
mod node;
mod pids;
mod process;
mod service;

pub use catalogue::{Entry, Needs, catalogue};
pub use injection::{Injection, Observed};
