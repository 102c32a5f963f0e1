//! Read-only trees, mounted with owners of the lab's own range of ids: one id-mapped mount of each, however many machines use it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::ledger::Ledger;
use super::protocol::Lower;
use crate::host::container::idmap::{IdMap, IdMappedTree};
use crate::host::container::userns::UserNamespace;
use crate::host::crash_point;
use crate::host::undo::Undo;

/// Trees that are mounted with mapped owner ids, so that machines share one mount of each tree and mapping.
#[derive(Debug, Default)]
pub(super) struct ShownTrees {
    places: BTreeMap<(PathBuf, IdMap), PathBuf>,
    /// User namespaces for the slot's mappings of ids; they stay from one lab to the next.
    namespaces: BTreeMap<IdMap, UserNamespace>,
}

impl ShownTrees {
    /// Mounts a tree with mapped owners below `folder`, unless it is mounted already, and returns the mount point. Its undo steps are in
    /// the ledger first; the mount is read-only, so that removing the folder cannot damage the tree.
    pub(super) fn place_of(&mut self, lower: &Lower, folder: &Path, ledger: &mut Ledger) -> anyhow::Result<PathBuf> {
        let Some(map) = lower.ids else { return Ok(lower.tree.clone()) };
        let key = (lower.tree.clone(), map);
        if let Some(place) = self.places.get(&key) {
            return Ok(place.clone());
        }
        let namespace = match self.namespaces.remove(&map) {
            Some(known) => known,
            None => map.namespace()?,
        };
        let namespace = self.namespaces.entry(map).or_insert(namespace);
        let tree = IdMappedTree::of(&lower.tree, namespace)?;
        let place = folder.join(self.places.len().to_string());
        ledger.write(Undo::RemoveTree { path: place.clone() })?;
        std::fs::create_dir_all(&place).with_context(|| format!("making {}", place.display()))?;
        ledger.write(Undo::Unmount { path: place.clone() })?;
        tree.attach(&place)?;
        crash_point::reach("made shown tree", "");
        self.places.insert(key, place.clone());
        Ok(place)
    }

    /// Forgets the mounted trees, after the ledger's steps have unmounted them.
    pub(super) fn forget(&mut self) {
        self.places.clear();
    }
}
