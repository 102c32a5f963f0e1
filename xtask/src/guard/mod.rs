//! Guard: a small process that owns everything that one lab, or one build of a layer, makes on the host, and removes all of this when told
//! to, or when the engine ends for whatever reason. If the guard itself was killed, the next holder of the slot removes what is left. Knows
//! mounts, processes, cgroups and undo steps; nothing of templates, containers or scenarios.

mod client;
mod holder;
mod ledger;
mod link;
mod process;
mod protocol;
mod reclaim;
mod shown;
mod signals;
mod slot;

pub use client::{Guard, Process};
pub use holder::{Holder, Owner};
pub use process::serve;
pub use protocol::{Lower, Make, ProcessEnd, Spawn, Stay, Wait};
pub use reclaim::{Reclaimed, lasting_holder, reclaim_dead, take_down};
pub use slot::state_dir;
pub use slot::{Slot, slots};
