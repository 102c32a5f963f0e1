//! Fault injection: the catalogue, how an effect is verified, how it is healed. One file a family. Knows labs; nothing of scenarios, plans
//! or reports.

mod active;
mod catalogue;
mod cgroup_override;
mod clock;
mod cpu;
mod crashloop;
mod disk;
mod dns;
mod effect;
mod failure;
mod fd;
mod file;
mod hog;
mod holder;
mod injection;
mod io;
mod memory;
mod name_server;
mod nemesis;
mod net;
mod node;
mod pids;
mod process;
mod reboots;
pub mod remote_syscall;
mod sampling;
mod schedule;
mod service;
mod shrink;
pub mod strace;

pub use active::{ActiveFaults, RecoveryTime};
pub use catalogue::{Entry, Needs, catalogue};
pub use effect::{Keeper, Lasted};
pub use failure::{FaultError, FaultFailure};
pub use holder::{HeldFaults, LiveFault, LiveFaults, RebootSeen, serve as serve_holder};
pub use injection::Observed;
pub use nemesis::{CHAOS_FILE, ChaosFile};
pub use nemesis::{Fate, Nemesis, Played, Stage};
pub use net::netqueue;
pub use schedule::{Planned, Profile, SCHEDULE_VERSION, Schedule};
pub use shrink::Shrink;
