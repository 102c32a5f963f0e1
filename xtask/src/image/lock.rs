//! `containers/lock.json`: layer and packages of each template's last build, so that a review shows each change of a package.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::ensure::LayerStatus;
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;
use crate::manifest::Project;

/// Version of the lock file's format.
const FORMAT_VERSION: u32 = 1;

/// Content of `containers/lock.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    format_version: u32,
    templates: BTreeMap<String, Locked>,
}

/// Entry of a template in the lock file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// Hash of the layer; absent if part of the layer comes from outside the project, such as a program of the host, so that machines get
    /// different hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Debian packages that the layer adds to its parent or changes, as `name=version`.
    pub packages: Vec<String>,
    /// Python packages of the layer, as `name=version`.
    pub python_packages: Vec<String>,
}

/// One difference between the lock file and the store: a layer's hash, or a package's version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub template: String,
    /// Hash or version in the lock file; `None` if the file has none.
    pub locked: Option<String>,
    /// Hash or version in the store; `None` if the store has none.
    pub found: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { template, locked, found } = self;
        match (locked, found) {
            (Some(locked), Some(found)) => write!(f, "{template}: locked {locked}, found {found}"),
            (Some(locked), None) => write!(f, "{template}: locked {locked}, found none"),
            (None, Some(found)) => write!(f, "{template}: found {found}, which is not locked"),
            (None, None) => write!(f, "{template}: no difference"),
        }
    }
}

impl LockFile {
    #[must_use]
    pub fn path(project: &Project) -> PathBuf {
        project.containers_dir.join("lock.json")
    }

    /// Creates a lock file from the states of layers.
    #[must_use]
    pub fn of(layers: &[LayerStatus]) -> Self {
        let locked = layers.iter().map(|status| (status.template.clone(), Locked::of(status)));
        Self { format_version: FORMAT_VERSION, templates: locked.collect() }
    }

    /// Returns the entries by template.
    #[must_use]
    pub fn templates(&self) -> &BTreeMap<String, Locked> {
        &self.templates
    }

    /// Reads a lock file; a missing file counts as an empty one.
    ///
    /// # Errors
    /// [`Error::BadFile`] when the file cannot be parsed.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        if !input::exists(path)? {
            return Ok(Self { format_version: FORMAT_VERSION, templates: BTreeMap::new() });
        }
        let text = input::read_text(path)?;
        let bad = |line, column, message| Error::BadFile { path: path.to_owned(), line, column, message };
        let file: Self = serde_json::from_str(&text).map_err(|error| {
            bad(
                error.line(),
                error.column(),
                format!("{error}; remove the file: `cargo xtask image build` writes it anew"),
            )
        })?;
        if file.format_version != FORMAT_VERSION {
            let message = format!(
                "the lock file has format version {}, and this engine reads {FORMAT_VERSION}: remove the \
                 file: `cargo xtask image build` writes it anew",
                file.format_version
            );
            return Err(bad(1, 1, message).into());
        }
        Ok(file)
    }

    /// Replaces the entries of layers that were built, and removes those of templates that the project no longer has.
    pub fn update(&mut self, project: &Project, built: &[LayerStatus]) {
        for status in built {
            if status.stored.is_some() {
                self.templates.insert(status.template.clone(), Locked::of(status));
            }
        }
        self.templates.retain(|name, _| project.templates.contains_key(name));
    }

    /// Returns the differences between layers and the lock file. Layers that have not been built yet are compared by hash only.
    #[must_use]
    pub fn compare(&self, layers: &[LayerStatus]) -> Vec<Difference> {
        layers.iter().flat_map(|status| self.compare_one(status)).collect()
    }

    /// Writes the lock file by one rename, with the rights of the user who called sudo. If root itself writes it, the folder's owner gets
    /// the file.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let failed = || format!("writing {}", path.display());
        let text = serde_json::to_string_pretty(self)? + "\n";
        let invoker = Invoker::of_process();
        if invoker.is_other() {
            return invoker.replace(path, text.as_bytes());
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).with_context(failed)?;
        file.write_all(text.as_bytes()).with_context(failed)?;
        let owner = fs::metadata(folder).with_context(failed)?;
        // By the file itself: its name lies in a folder of somebody else's.
        fchown(file.as_file(), Some(owner.uid()), Some(owner.gid())).with_context(failed)?;
        file.as_file().set_permissions(Permissions::from_mode(0o644)).with_context(failed)?;
        file.persist(path).with_context(failed)?;
        Ok(())
    }

    fn compare_one(&self, status: &LayerStatus) -> Vec<Difference> {
        let difference = |locked: Option<String>, found: Option<String>| Difference {
            template: status.template.clone(),
            locked,
            found,
        };
        let found = Locked::of(status);
        let Some(locked) = self.templates.get(&status.template) else {
            return vec![difference(None, Some(format!("layer {}", status.hash)))];
        };
        let mut differences = Vec::new();
        if locked.layer != found.layer {
            let name = |hash: &Option<String>| hash.as_ref().map(|hash| format!("layer {hash}"));
            differences.push(difference(name(&locked.layer), name(&found.layer)));
        }
        if status.stored.is_some() {
            for (locked, found) in
                [(&locked.packages, &found.packages), (&locked.python_packages, &found.python_packages)]
            {
                let changes = compare_versions(locked, found);
                differences.extend(changes.into_iter().map(|(locked, found)| difference(locked, found)));
            }
        }
        differences
    }
}

impl Locked {
    fn of(status: &LayerStatus) -> Self {
        let record = status.stored.as_ref();
        Self {
            layer: status.is_portable.then(|| status.hash.clone()),
            packages: record.map_or_else(Vec::new, |record| record.packages.clone()),
            python_packages: record.map_or_else(Vec::new, |record| record.python_packages.clone()),
        }
    }
}

fn compare_versions(locked: &[String], found: &[String]) -> Vec<(Option<String>, Option<String>)> {
    let by_name = |list: &[String]| -> BTreeMap<String, String> {
        list.iter().map(|package| (package.split('=').next().unwrap_or_default().to_owned(), package.clone())).collect()
    };
    let (locked, found) = (by_name(locked), by_name(found));
    let mut names: Vec<&String> = locked.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    let pairs = names.into_iter().map(|name| (locked.get(name).cloned(), found.get(name).cloned()));
    pairs.filter(|(locked, found)| locked != found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::store::LayerRecord;

    fn status(hash: &str, is_portable: bool, packages: &[&str]) -> LayerStatus {
        let record = LayerRecord {
            format_version: 1,
            template: "t".into(),
            hash: hash.into(),
            parent: None,
            size_bytes: 0,
            created_unix_s: 0,
            duration_ms: 0,
            packages: packages.iter().map(|&package| package.to_owned()).collect(),
            python_packages: Vec::new(),
            first_id: 0,
        };
        LayerStatus {
            template: "t".into(),
            hash: hash.into(),
            is_portable,
            stored: Some(record),
            damage: None,
            hidden: false,
        }
    }

    fn locked(status: &LayerStatus) -> LockFile {
        let templates = BTreeMap::from([("t".to_owned(), Locked::of(status))]);
        LockFile { format_version: FORMAT_VERSION, templates }
    }

    fn check(locked_as: &LayerStatus, found: &LayerStatus, expected: &[&str]) {
        let shown: Vec<String> =
            locked(locked_as).compare(std::slice::from_ref(found)).iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn differences_are_named() {
        let first = status("1", true, &["a=1", "b=1"]);
        check(&first, &first, &[]);
        check(
            &first,
            &status("2", true, &["a=2", "c=1"]),
            &[
                "t: locked layer 1, found layer 2",
                "t: locked a=1, found a=2",
                "t: locked b=1, found none",
                "t: found c=1, which is not locked",
            ],
        );
        let unbuilt = LayerStatus { stored: None, ..first.clone() };
        check(&first, &unbuilt, &[]);
        check(
            &first,
            &LayerStatus { template: "u".into(), ..first.clone() },
            &["u: found layer 1, which is not locked"],
        );
    }

    #[test]
    fn a_layer_of_this_machine_is_locked_by_its_versions_alone() {
        check(&status("1", false, &["a=1"]), &status("2", false, &["a=1"]), &[]);
        check(&status("1", false, &["a=1"]), &status("2", false, &["a=2"]), &["t: locked a=1, found a=2"]);
    }

    #[test]
    fn the_first_version_is_read_and_a_later_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock.json");
        let text = r#"{"format_version":1,"templates":{"t":{"layer":"1","packages":["a=1"],"python_packages":[]}}}"#;
        fs::write(&path, text).unwrap();
        let first = LockFile::read(&path).unwrap();
        assert_eq!(first, locked(&status("1", true, &["a=1"])));
        first.write(&path).unwrap();
        assert_eq!(LockFile::read(&path).unwrap(), first);
        fs::write(&path, text.replace(":1,", ":2,")).unwrap();
        assert!(LockFile::read(&path).unwrap_err().to_string().contains("format version 2"));
        fs::write(&path, "{").unwrap();
        assert!(LockFile::read(&path).unwrap_err().to_string().contains("lock.json:1:1"));
    }
}
