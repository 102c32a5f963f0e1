//! Layers of a machine's image: whether they contain a program, and whether a layer was changed after its build.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::container::Container;
use super::exec::environment_of;
use crate::error::Error;
use crate::host::disk::container_fs::{self, Named};

/// Name of the file that describes a layer, in the layer's folder; a build writes this file last.
const RECORD: &str = "layer.json";

/// Maximum symbolic links on the way to a file, as in the kernel.
const LINKS_MAX: usize = 40;

/// Folders that programs fill at run time: a file that is missing there may still be created.
const RUNTIME_FOLDERS: [&str; 5] = ["/run/", "/tmp/", "/var/", "/srv/", "/dev/"];

/// Reason why a machine lacks a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// The image never had the program.
    InImage,
    /// The image has the program, but the machine has removed it.
    InMachine,
    /// A layer of the image was changed after its build.
    InLayer(DamagedLayer),
}

/// Layer in the store that was changed after it was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedLayer {
    pub template: String,
    /// File or folder of the layer that was modified after the layer's `layer.json` was written.
    pub changed: PathBuf,
}

impl DamagedLayer {
    /// Returns the error of the host for a `program` that is missing because this layer was changed.
    #[must_use]
    pub fn error(&self, program: &str) -> Error {
        let Self { template, changed } = self;
        Error::Host {
            problem: format!(
                "{program:?} is missing because a layer was changed after it was built: {} of template {template}",
                changed.display()
            ),
            help: format!("`cargo xtask image rm {template}` removes the layer, and the next run builds it again"),
        }
    }
}

impl Container {
    /// Tells whether the running machine lacks a program whose path is not in a folder that is filled at run time.
    pub(super) fn lacks(&self, program: &str) -> bool {
        let Ok(root) = self.root() else { return false };
        let is_made_later = RUNTIME_FOLDERS.iter().any(|folder| program.starts_with(folder));
        !is_made_later && !self.places_of(program).iter().any(|place| container_fs::exists(&root, place))
    }

    /// Returns the reason why the running machine lacks a program; `None` if it has the program.
    pub(super) fn missing(&self, program: &str) -> Option<Missing> {
        self.lacks(program).then(|| self.missing_in_layers(program).unwrap_or(Missing::InMachine))
    }

    /// Returns the reason why the machine's image lacks a program; `None` if the layers have it.
    #[must_use]
    pub fn missing_in_layers(&self, program: &str) -> Option<Missing> {
        let layers = &self.machine().layers;
        if let Some(layer) = layers.iter().find_map(|tree| damage_of(tree)) {
            return Some(Missing::InLayer(layer));
        }
        let places = self.places_of(program);
        (!places.iter().any(|place| has(layers, place))).then_some(Missing::InImage)
    }

    /// Returns the absolute paths at which the machine would look for a program.
    fn places_of(&self, program: &str) -> Vec<String> {
        if program.contains('/') {
            return vec![program.to_owned()];
        }
        let environment = environment_of(self.machine(), None, &[]);
        let path = environment.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str());
        path.unwrap_or_default().split(':').map(|folder| format!("{folder}/{program}")).collect()
    }
}

/// Returns the damage of a layer, given by its tree; `None` if nothing in it was modified after its `layer.json` was written.
fn damage_of(tree: &Path) -> Option<DamagedLayer> {
    let record = tree.parent()?.join(RECORD);
    let built = fs::metadata(&record).and_then(|metadata| metadata.modified()).ok()?;
    let is_newer = |entry: &walkdir::DirEntry| {
        entry.metadata().is_ok_and(|metadata| metadata.modified().is_ok_and(|modified| modified > built))
    };
    let changed = WalkDir::new(tree).into_iter().filter_map(Result::ok).find(is_newer)?.into_path();
    let record: Option<serde_json::Value> = serde_json::from_slice(&fs::read(record).ok()?).ok();
    let template = record.and_then(|record| Some(record["template"].as_str()?.to_owned())).unwrap_or_default();
    Some(DamagedLayer { template, changed })
}

/// Tells whether a path exists in layers, given lowest first; links are followed.
fn has(layers: &[PathBuf], path: &str) -> bool {
    let parts = |path: &Path| -> VecDeque<PathBuf> {
        path.iter().filter(|part| *part != "/" && *part != ".").map(PathBuf::from).collect()
    };
    let (mut left, mut at, mut links) = (parts(Path::new(path)), PathBuf::new(), 0);
    while let Some(part) = left.pop_front() {
        if part.as_os_str() == ".." {
            at.pop();
            continue;
        }
        let here = at.join(&part);
        let Some(found) = topmost(layers, &here) else { return false };
        let Some(target) = found.leads_to else {
            at = here;
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return false;
        }
        if target.as_os_str().as_bytes().starts_with(b"/") {
            at = PathBuf::new();
        }
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    true
}

/// Returns the entry of the topmost layer that has the path; `None` if that layer marks the path as removed.
fn topmost(layers: &[PathBuf], path: &Path) -> Option<Named> {
    let found = layers.iter().rev().find_map(|tree| container_fs::look(tree, path))?;
    let is_whiteout = found.metadata.file_type().is_char_device() && found.metadata.rdev() == 0;
    (!is_whiteout).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// Creates a layer with these files; entries with a target are links.
    fn layer(folder: &Path, name: &str, files: &[(&str, Option<&str>)]) -> PathBuf {
        let tree = folder.join(name).join("root");
        for (path, target) in files {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match target {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, "").unwrap(),
            }
        }
        fs::write(folder.join(name).join(RECORD), r#"{"template":"mini"}"#).unwrap();
        tree
    }

    #[test]
    fn a_file_is_found_through_links_that_lead_from_layer_to_layer() {
        let folder = tempfile::tempdir().unwrap();
        let low = layer(
            folder.path(),
            "low",
            &[("bin", Some("usr/bin")), ("usr/bin/busybox", None), ("usr/bin/sh", Some("/bin/busybox"))],
        );
        let top = layer(
            folder.path(),
            "top",
            &[("usr/bin/app", None), ("opt/app", Some("../usr/bin/app")), ("turn", Some("turn"))],
        );
        let layers = [low, top];
        for path in ["/bin/app", "/bin/sh", "/usr/bin/busybox", "/opt/app"] {
            assert!(has(&layers, path), "{path}");
        }
        for path in ["/bin/gone", "/sbin/init", "/turn", "/opt/other"] {
            assert!(!has(&layers, path), "{path}");
        }
        assert!(!has(&layers[1..], "/bin/app"), "the link lies in the lower layer");
    }

    #[test]
    fn a_link_of_one_layer_leads_to_nothing_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let low = layer(folder.path(), "low", &[("opt", Some("/usr"))]);
        let top = layer(folder.path(), "top", &[("opt/app", None)]);
        assert!(Path::new("/usr/bin/env").exists() && low.join("opt/bin/env").exists(), "by its path it is the host's");
        assert!(has(&[low.clone(), top.clone()], "/opt/app"));
        assert!(!has(&[low, top], "/opt/bin/env"));
    }

    #[test]
    fn a_layer_that_was_changed_after_it_was_built_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let tree = layer(folder.path(), "low", &[("bin/busybox", None), ("bin/sh", Some("busybox"))]);
        let record = fs::File::options().write(true).open(folder.path().join("low").join(RECORD)).unwrap();
        record.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(damage_of(&tree), None);
        record.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        let damage = damage_of(&tree).unwrap();
        assert_eq!(damage.template, "mini");
        assert!(damage.error("/bin/true").to_string().contains("image rm mini"), "{damage:?}");
    }
}
