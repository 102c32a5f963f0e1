//! Damage on purpose: what can be broken, how its effect is observed, how it is taken back. One file a family.
//! Knows labs; nothing of scenarios, plans or reports.

mod catalogue;
mod disk;
mod dns;
mod effect;
mod file;
mod injection;
mod net;
mod node;
mod process;
mod service;

pub use catalogue::{Entry, Needs, catalogue};
pub use injection::{Injection, Observed};
