//! Faults of the volumes of a container's template: full, slow, broken. A container's other files lie in the host's memory: no fault
//! touches them, and none touches the host's own file systems.

mod broken;
pub mod fill_disk;
mod full;
mod inodes;
pub mod open_watch;
mod readonly;
mod slow;
mod volume;

pub use broken::Broken;
pub use full::Full;
pub use inodes::Inodes;
pub use readonly::Readonly;
pub use slow::Slow;
