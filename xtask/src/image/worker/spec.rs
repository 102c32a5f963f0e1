//! Orders of the engine to the worker.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::cgroup::Bounds;
use crate::host::container::ids::IdRange;
use crate::host::invoker::Invoker;
use crate::image::recipe::{Recipe, Sources};

/// Orders to the worker that builds a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// Template, for the record.
    pub template: String,
    /// The layer's name.
    pub hash: String,
    /// An existing empty folder; `root/` and `layer.json` are put there.
    pub staging: PathBuf,
    /// Trees of the layers below, lowest first.
    pub lowers: Vec<PathBuf>,
    /// Id on disk of the root user of each of these layers.
    pub first_ids: Vec<u32>,
    /// Ids that the layer is built and stored with.
    pub ids: IdRange,
    /// An existing folder, and all above it, that everybody may enter: programs of the tree run as an ordinary user of the host, and the
    /// store is closed to those. In the worker's own mount namespace the work is done there.
    pub workplace: PathBuf,
    /// Size of a tmpfs to work on; without one the work is done in the staging folder.
    pub memory_bytes: Option<u64>,
    /// Recipe to build.
    pub recipe: Recipe,
    /// Paths of its parts.
    pub sources: Sources,
    /// User who named the sources: they are read with the rights of this user.
    pub invoker: Invoker,
    /// The cgroup that the worker is started in.
    pub group: String,
    /// Bounds of the worker and all that it starts.
    pub bounds: Bounds,
}
