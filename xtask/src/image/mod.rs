//! Templates become layers: directory trees, cached by the hash of everything that went into them, used read-only. Contains how a tree is
//! built, stored, shared and removed, and the lock file. Knows nothing of labs, scenarios or runs.

mod build;
mod content;
mod ensure;
mod lock;
mod metadata;
mod needs;
mod recipe;
mod replacement;
mod requirements;
mod store;
mod tree;
mod worker;

pub use build::Progress;
pub use ensure::{Image, LayerStatus, ensure, hashes, status};
pub use lock::{Difference, LockFile, Locked};
pub use needs::{uses, uses_to_run};
pub use replacement::{Replacement, pinned_package};
pub use store::{LayerLocks, LayerRecord, Removal, Store, StoredLayer, ids_of, lock_shared};
pub use worker::{BuildSpec, build_layer};
