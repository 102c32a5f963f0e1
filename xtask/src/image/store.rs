//! Store of layers: `/var/lib/mancer-e2e/layers/HASH/{root,layer.json}`, shared by all checkouts. A layer appears by one rename and is
//! never changed. A user of the layer holds a shared lock on its folder; a removal takes an exclusive lock, renames the folder to a hidden
//! name, and then deletes it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::tree;
use crate::error::Error;
use crate::guard;
use crate::host::container::ids::{Ids, Region};
use crate::host::disk::marked::MARK;
use crate::manifest::Project;

const CLOSED: u32 = 0o700;

/// Version of the format of `layer.json`.
pub const FORMAT_VERSION: u32 = 1;

/// Content of `layer.json`: description of a built layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Version of the format of `layer.json`.
    pub format_version: u32,
    pub template: String,
    pub hash: String,
    /// Hash of the layer below.
    pub parent: Option<String>,
    /// Size of the layer's files on disk, without those of its parent.
    pub size_bytes: u64,
    pub created_unix_s: u64,
    /// Duration of the build in milliseconds.
    pub duration_ms: u64,
    /// Debian packages that the layer adds to its parent or changes, as `name=version`, sorted.
    pub packages: Vec<String>,
    /// Python packages installed by the template, as `name=version`, sorted.
    pub python_packages: Vec<String>,
    /// On-disk user id of root's files in the layer.
    #[serde(default = "first_id_of_old")]
    pub first_id: u32,
}

/// On-disk user id of root's files in old layers, whose `layer.json` does not have it.
fn first_id_of_old() -> u32 {
    100_000
}

#[derive(Debug, Clone)]
pub struct StoredLayer {
    pub dir: PathBuf,
    pub record: LayerRecord,
}

impl StoredLayer {
    /// Returns the folder of the layer's root filesystem.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
}

/// State of the folder that a layer's hash names in the store.
#[derive(Debug, Clone)]
pub enum LayerPlace {
    Empty,
    /// Usable layer.
    Sound(StoredLayer),
    /// Unusable layer, with the reason; the next build replaces it.
    Damaged(String),
    /// Unknown, because only root may read the store.
    Hidden,
}

impl LayerPlace {
    /// Returns the layer if it is usable.
    #[must_use]
    pub fn sound(self) -> Option<StoredLayer> {
        match self {
            Self::Sound(layer) => Some(layer),
            Self::Empty | Self::Damaged(_) | Self::Hidden => None,
        }
    }
}

/// Locks that keep layers from being removed until they are dropped.
#[derive(Debug)]
pub struct LayerLocks {
    _folders: Vec<Flock<File>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    Removed,
    InUse,
}

/// Folder with layers and logs of builds.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    /// First on-disk id that a layer must have to be usable; set if all labs share one range of ids.
    shared_first_id: Option<u32>,
}

/// Returns the ids that labs and layers of a project use on this host.
#[must_use]
pub fn ids_of(project: &Project) -> Ids {
    Ids::of_this_host(Region { first: project.first_id }, &Store::of_this_machine().layers())
}

impl Store {
    /// Returns the store of this machine, or the store in the folder that `E2E_STATE_DIR` names.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::at(&guard::state_dir())
    }

    /// Returns the store in this folder, without creating folders.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), shared_first_id: None }
    }

    /// Limits the store to layers that labs with these ids can use.
    #[must_use]
    pub fn with_ids(mut self, ids: &Ids) -> Self {
        self.shared_first_id = ids.are_shared().then_some(ids.of_store().first);
        self
    }

    pub fn create(&self) -> anyhow::Result<()> {
        for (folder, mode) in [(self.dir.clone(), 0o711), (self.layers(), CLOSED), (self.logs(), CLOSED)] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&folder)
                .map_err(|error| unwritable(&folder, &error))?;
        }
        self.close()
    }

    /// Makes the existing folders of the store accessible to root alone: layers contain set-id programs, which give the rights of the
    /// containers' users. Earlier versions of the engine let every user enter them.
    pub fn close(&self) -> anyhow::Result<()> {
        for folder in [self.layers(), self.logs()] {
            let Ok(metadata) = fs::symlink_metadata(&folder) else { continue };
            if metadata.is_dir() && metadata.permissions().mode() & 0o7777 != CLOSED {
                fs::set_permissions(&folder, fs::Permissions::from_mode(CLOSED))
                    .with_context(|| format!("removing the access of other users to {}", folder.display()))?;
            }
        }
        Ok(())
    }

    /// Returns the folder of all layers.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        self.dir.join("layers")
    }

    /// Returns the path of the log of a template's last build.
    #[must_use]
    pub fn log(&self, template: &str) -> PathBuf {
        self.logs().join(format!("{template}.log"))
    }

    #[must_use]
    pub fn layer_dir(&self, hash: &str) -> PathBuf {
        self.layers().join(hash)
    }

    #[must_use]
    pub fn staging_dir(&self, hash: &str) -> PathBuf {
        self.layers().join(format!(".building-{hash}"))
    }

    /// Finds a usable layer.
    pub fn find(&self, hash: &str) -> anyhow::Result<Option<StoredLayer>> {
        Ok(self.look(hash)?.sound())
    }

    /// Looks up the state of a layer.
    pub fn look(&self, hash: &str) -> anyhow::Result<LayerPlace> {
        let dir = self.layer_dir(hash);
        match fs::exists(&dir) {
            Ok(true) => {}
            Ok(false) => return Ok(LayerPlace::Empty),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(LayerPlace::Hidden),
            Err(error) => return Err(error).with_context(|| format!("looking for {}", dir.display())),
        }
        let path = dir.join("layer.json");
        let text = match fs::read(&path) {
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory) =>
            {
                return Ok(LayerPlace::Damaged("it has no layer.json".into()));
            }
            other => other.with_context(|| format!("reading {}", path.display()))?,
        };
        Ok(match serde_json::from_slice::<LayerRecord>(&text) {
            Err(error) => LayerPlace::Damaged(format!("its layer.json cannot be read: {error}")),
            Ok(record) if record.format_version != FORMAT_VERSION => LayerPlace::Damaged(format!(
                "its layer.json has version {}, and this engine reads {FORMAT_VERSION}",
                record.format_version
            )),
            Ok(record) if self.shared_first_id.is_some_and(|first| first != record.first_id) => {
                LayerPlace::Damaged(format!(
                    "the ids of its files begin at {}, and this host cannot map them to the ids of labs",
                    record.first_id
                ))
            }
            Ok(_) if !dir.join("root").is_dir() => LayerPlace::Damaged("it has no tree".into()),
            Ok(record) => LayerPlace::Sound(StoredLayer { dir, record }),
        })
    }

    /// Lists the usable layers of the store, newest first.
    pub fn list(&self) -> anyhow::Result<Vec<StoredLayer>> {
        let mut found = Vec::new();
        for name in self.names()? {
            found.extend(self.find(&name)?);
        }
        found.sort_by_key(|layer| (std::cmp::Reverse(layer.record.created_unix_s), layer.record.hash.clone()));
        Ok(found)
    }

    /// Lists the unusable layers of the store: the name of each, and the reason why it is unusable.
    pub fn damaged(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for name in self.names()? {
            if let LayerPlace::Damaged(why) = self.look(&name)? {
                found.push((name, why));
            }
        }
        Ok(found)
    }

    fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        let entries = match fs::read_dir(self.layers()) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(BTreeSet::new());
            }
            other => other.with_context(|| format!("reading {}", self.layers().display()))?,
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Such as `lost+found`: strangers are left alone.
            if name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    /// Removes an unusable layer from the place where a new one is to be built. The caller holds the slot of the layer's hash.
    ///
    /// # Errors
    /// [`Error::Host`] when a lab uses the layer.
    pub fn clear_place(&self, hash: &str, template: &str) -> anyhow::Result<()> {
        let LayerPlace::Damaged(why) = self.look(hash)? else { return Ok(()) };
        if self.remove(hash)? == Removal::InUse {
            let dir = self.layer_dir(hash);
            let problem = format!("the layer {} of template {template} is damaged and in use: {why}", dir.display());
            let help = "`cargo xtask ps` shows the labs: end those that use the layer, then build it again".to_owned();
            return Err(Error::Host { problem, help }.into());
        }
        Ok(())
    }

    /// Renames a finished staging folder to the layer's folder, which must not exist yet. The caller holds the slot of the layer's hash.
    pub fn publish(&self, hash: &str) -> anyhow::Result<()> {
        let (from, to) = (self.staging_dir(hash), self.layer_dir(hash));
        fs::rename(&from, &to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))?;
        // The mark is that of a build: where it stays, because this process ends here, it says nothing.
        let _ = fs::remove_file(to.join(MARK));
        Ok(())
    }

    /// Removes a layer and all layers built on it, unless one of them is in use. A missing layer counts as removed.
    pub fn remove(&self, hash: &str) -> anyhow::Result<Removal> {
        if self.remove_children(hash)? == Removal::InUse {
            return Ok(Removal::InUse);
        }
        let dir = self.layer_dir(hash);
        let Some(folder) = open_folder(&dir)? else { return Ok(Removal::Removed) };
        match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(_lock) => {
                let hidden = self.layers().join(format!(".removing-{hash}"));
                tree::remove(&hidden).with_context(|| format!("removing {}", hidden.display()))?;
                fs::rename(&dir, &hidden).with_context(|| format!("renaming {}", dir.display()))?;
                tree::remove(&hidden).with_context(|| format!("removing {}", hidden.display()))?;
                Ok(Removal::Removed)
            }
            Err((_, Errno::EWOULDBLOCK)) => Ok(Removal::InUse),
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", dir.display())),
        }
    }

    /// Removes the layers built on a layer. They do not fit a rebuilt tree of that layer, even one of the same recipe.
    pub fn remove_children(&self, hash: &str) -> anyhow::Result<Removal> {
        for layer in self.list()? {
            if layer.record.parent.as_deref() == Some(hash) && self.remove(&layer.record.hash)? == Removal::InUse {
                return Ok(Removal::InUse);
            }
        }
        Ok(Removal::Removed)
    }

    /// Deletes the layers whose removal a killed engine has left unfinished.
    pub fn finish_removals(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.layers()).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(".removing-") {
                tree::remove(&entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }
}

/// Returns the packages of an image, from its layers' trees, lowest first. Unreadable layer records are skipped.
pub(super) fn packages(roots: &[PathBuf]) -> Vec<String> {
    let mut versions = std::collections::BTreeMap::new();
    for dir in roots.iter().filter_map(|root| root.parent()) {
        let text = fs::read_to_string(dir.join("layer.json")).unwrap_or_default();
        let Ok(record) = serde_json::from_str::<LayerRecord>(&text) else { continue };
        for package in record.packages.iter().chain(&record.python_packages) {
            let (name, version) = package.split_once('=').unwrap_or((package, ""));
            versions.insert(name.to_owned(), version.to_owned());
        }
    }
    versions.into_iter().map(|(name, version)| format!("{name}={version}")).collect()
}

/// Takes shared locks on the layers of these trees, which keep them from being removed.
///
/// # Errors
/// When a layer was removed in the meantime.
pub fn lock_shared(roots: &[PathBuf]) -> anyhow::Result<LayerLocks> {
    let mut folders = Vec::new();
    for dir in roots.iter().filter_map(|root| root.parent()) {
        let gone = || format!("the layer {} was removed in the meantime: run the command again", dir.display());
        let folder = open_folder(dir)?.with_context(gone)?;
        let locked = Flock::lock(folder, FlockArg::LockShared)
            .map_err(|(_, error)| error)
            .with_context(|| format!("locking {}", dir.display()))?;
        let ours = locked.metadata()?.ino();
        if !fs::metadata(dir).is_ok_and(|there| there.ino() == ours) {
            anyhow::bail!(gone());
        }
        folders.push(locked);
    }
    Ok(LayerLocks { _folders: folders })
}

fn open_folder(dir: &Path) -> anyhow::Result<Option<File>> {
    match File::open(dir) {
        Ok(folder) => Ok(Some(folder)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("opening {}", dir.display())),
    }
}

fn unwritable(folder: &Path, error: &std::io::Error) -> Error {
    let help = match error.kind() {
        ErrorKind::PermissionDenied => "run it as root: sudo",
        ErrorKind::StorageFull => "free space there: `cargo xtask image prune` removes layers that nothing uses",
        _ => "name another folder with E2E_STATE_DIR",
    };
    Error::Host { problem: format!("the folder {} cannot be made: {error}", folder.display()), help: help.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_with(hash: &str) -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        store.create().unwrap();
        fs::create_dir_all(store.staging_dir(hash).join("root")).unwrap();
        let record = LayerRecord {
            format_version: FORMAT_VERSION,
            template: "t".into(),
            hash: hash.into(),
            parent: None,
            size_bytes: 1,
            created_unix_s: 2,
            duration_ms: 3,
            packages: vec!["a=1".into()],
            python_packages: Vec::new(),
            first_id: 1_879_048_192,
        };
        fs::write(store.staging_dir(hash).join("layer.json"), serde_json::to_string(&record).unwrap()).unwrap();
        (folder, store)
    }

    #[test]
    fn a_layer_is_there_only_once_it_is_published() {
        let (_folder, store) = store_with("0123");
        assert!(store.find("0123").unwrap().is_none());
        assert!(store.list().unwrap().is_empty());
        store.publish("0123").unwrap();
        assert_eq!(store.find("0123").unwrap().unwrap().record.packages, ["a=1"]);
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn nobody_else_enters_the_store_not_even_one_that_was_open() {
        let (_folder, store) = store_with("0123");
        let modes =
            || [store.layers(), store.logs()].map(|path| fs::metadata(path).unwrap().permissions().mode() & 0o7777);
        assert_eq!(modes(), [0o700; 2]);
        fs::set_permissions(store.layers(), fs::Permissions::from_mode(0o711)).unwrap();
        store.close().unwrap();
        assert_eq!(modes(), [0o700; 2]);
        Store::at(Path::new("/nowhere")).close().unwrap();
    }

    #[test]
    fn where_ids_are_shared_a_layer_with_others_is_built_again() {
        let (_folder, store) = store_with("0123");
        store.publish("0123").unwrap();
        let shared = |first| Ids::Shared {
            range: crate::host::container::ids::IdRange { first, count: 65_536 },
            reason: "x".into(),
        };
        let other = store.clone().with_ids(&shared(100_000));
        assert!(other.find("0123").unwrap().is_none());
        assert!(matches!(other.look("0123").unwrap(), LayerPlace::Damaged(why) if why.contains("begin at 1879048192")));
        assert!(store.clone().with_ids(&shared(1_879_048_192)).find("0123").unwrap().is_some());
        let own = Ids::PerSlot(Region { first: 2_000_027_648 });
        assert!(store.with_ids(&own).find("0123").unwrap().is_some(), "it is shown to them");
    }

    #[test]
    fn a_layer_in_use_stays() {
        let (_folder, store) = store_with("0123");
        store.publish("0123").unwrap();
        let roots = [store.layer_dir("0123").join("root")];
        let (one, two) = (lock_shared(&roots).unwrap(), lock_shared(&roots).unwrap());
        assert_eq!(store.remove("0123").unwrap(), Removal::InUse);
        drop(one);
        assert_eq!(store.remove("0123").unwrap(), Removal::InUse);
        drop(two);
        assert_eq!(store.remove("0123").unwrap(), Removal::Removed);
        assert!(lock_shared(&roots).unwrap_err().to_string().contains("removed in the meantime"));
        assert_eq!(fs::read_dir(store.layers()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_layer_is_told_replaced_and_removed_but_for_one_in_use() {
        type Damage = (&'static str, fn(&Path));
        let damages: [Damage; 5] = [
            ("it has no layer.json", |dir| fs::remove_file(dir.join("layer.json")).unwrap()),
            ("its layer.json cannot be read", |dir| fs::write(dir.join("layer.json"), "").unwrap()),
            ("its layer.json cannot be read", |dir| fs::write(dir.join("layer.json"), [0xff, 0]).unwrap()),
            ("its layer.json has version 9", |dir| {
                let text = fs::read_to_string(dir.join("layer.json")).unwrap();
                fs::write(dir.join("layer.json"), text.replace("\"format_version\":1", "\"format_version\":9"))
                    .unwrap();
            }),
            ("it has no tree", |dir| fs::remove_dir_all(dir.join("root")).unwrap()),
        ];
        for (expected, damage) in damages {
            let (_folder, store) = store_with("0123");
            store.publish("0123").unwrap();
            assert!(store.damaged().unwrap().is_empty());
            let roots = [store.layer_dir("0123").join("root")];
            let used = lock_shared(&roots).unwrap();
            damage(&store.layer_dir("0123"));
            let damaged = store.damaged().unwrap();
            assert!(damaged.len() == 1 && damaged[0].0 == "0123" && damaged[0].1.contains(expected), "{damaged:?}");
            assert!(store.find("0123").unwrap().is_none() && store.list().unwrap().is_empty());
            let error = store.clear_place("0123", "t").unwrap_err().to_string();
            assert!(error.contains("damaged and in use") && store.layer_dir("0123").exists(), "{error}");
            drop(used);
            store.clear_place("0123", "t").unwrap();
            assert!(!store.layer_dir("0123").exists() && store.damaged().unwrap().is_empty());
        }
    }

    #[test]
    fn the_record_of_the_first_version_is_read() {
        let text = r#"{"format_version":1,"template":"app","hash":"00","parent":"11","size_bytes":5,
            "created_unix_s":6,"duration_ms":7,"packages":["a=1"],"python_packages":["b=2"]}"#;
        let record: LayerRecord = serde_json::from_str(text).unwrap();
        assert_eq!((record.parent.as_deref(), record.size_bytes, record.first_id), (Some("11"), 5, 100_000));
    }
}
