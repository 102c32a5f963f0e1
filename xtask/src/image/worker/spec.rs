//! Build request that the engine sends to the worker process.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::cgroup::Bounds;
use crate::host::container::ids::IdRange;
use crate::host::invoker::Invoker;
use crate::image::recipe::{Recipe, Sources};

/// Request of the engine to build a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// Template that the layer is built for, written into the layer's `layer.json`.
    pub template: String,
    /// Hash that names the layer.
    pub hash: String,
    /// Path of an existing empty folder; the worker puts `root/` and `layer.json` there.
    pub staging: PathBuf,
    /// Trees of the layers below, lowest first.
    pub lowers: Vec<PathBuf>,
    /// On-disk user ids of root's files in each of `lowers`.
    pub first_ids: Vec<u32>,
    /// Ids that own the layer's files on disk, while it is built and in the store.
    pub ids: IdRange,
    /// Path of an existing folder in which the layer is built, in the worker's mount namespace. Everybody may enter it and all folders
    /// above it: programs of the tree run with unprivileged host ids, which may not enter the store.
    pub workplace: PathBuf,
    /// Size of a tmpfs to build on; `None` builds in the staging folder.
    pub memory_bytes: Option<u64>,
    pub recipe: Recipe,
    /// Paths on the host of the recipe's files.
    pub sources: Sources,
    /// User who named the sources; they are read with the rights of this user.
    pub invoker: Invoker,
    /// Cgroup that the worker is started in.
    pub group: String,
    /// Resource limits of the worker and of all processes that it starts.
    pub bounds: Bounds,
}
