//! Store of baselines: `baselines/CLASS/CATEGORY/SCENARIO.json` in the project, and `baselines/references/NAME.json`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use walkdir::WalkDir;

use super::file::Baseline;
use super::reference::Reference;
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;

/// Folder below the baselines with the references that they name; a machine's class has more parts to its name.
const REFERENCES: &str = "references";

/// Baselines of a project. Their folder belongs to the user, so the engine, which is root, reads and writes it with the user's rights.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    owner: Invoker,
}

impl Store {
    /// Returns the store of the project in this folder.
    #[must_use]
    pub fn of(root: &Path, owner: Invoker) -> Self {
        Self { folder: root.join("baselines"), owner }
    }

    /// Returns the path of the baseline of a scenario on a class of machines, whether or not it exists.
    #[must_use]
    pub fn path(&self, machine_class: &str, scenario: &str) -> PathBuf {
        self.folder.join(machine_class).join(format!("{scenario}.json"))
    }

    /// Returns the classes of machines that have a baseline of this scenario.
    #[must_use]
    pub fn classes_of(&self, scenario: &str) -> Vec<String> {
        let folders = input::list(&self.folder).unwrap_or_default().into_iter();
        let names = folders.filter_map(|folder| Some(folder.file_name()?.to_string_lossy().into_owned()));
        // What is no file there is told when it is read.
        names.filter(|class| input::exists(&self.path(class, scenario)).unwrap_or(true)).collect()
    }

    /// Reads a scenario's baseline on a class of machines; `None` where there is none.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a file that cannot be used, or that is the baseline of another scenario or class.
    pub fn read(&self, machine_class: &str, scenario: &str) -> anyhow::Result<Option<Baseline>> {
        let path = self.path(machine_class, scenario);
        if !input::exists(&path)? {
            return Ok(None);
        }
        let baseline = self.read_file(&path)?;
        if baseline.machine_class != machine_class || baseline.scenario != scenario {
            let message = format!(
                "this is the baseline of {} on {}, which its path does not say: move or remove the file",
                baseline.scenario, baseline.machine_class
            );
            return Err(Error::BadFile { path, line: 1, column: 1, message }.into());
        }
        Ok(Some(baseline))
    }

    /// Reads every baseline file, in the order of paths; an unreadable one gives its error.
    #[must_use]
    pub fn all(&self) -> Vec<(PathBuf, anyhow::Result<Baseline>)> {
        let find = || {
            let walk = WalkDir::new(&self.folder).sort_by_file_name().into_iter().filter_map(Result::ok);
            let walk = walk.filter(|entry| !entry.path().starts_with(self.folder.join(REFERENCES)));
            let files = walk.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"));
            Ok(files.map(walkdir::DirEntry::into_path).collect::<Vec<_>>())
        };
        let files = self.owner.act(find).unwrap_or_default().into_iter();
        files.map(|path| (path.clone(), self.read_file(&path))).collect()
    }

    /// Writes a baseline to its path, which it returns. An older file stays until the new one is whole on the disk.
    pub fn write(&self, baseline: &Baseline) -> anyhow::Result<PathBuf> {
        let path = self.path(&baseline.machine_class, &baseline.scenario);
        self.write_file(&path, &baseline.text())?;
        Ok(path)
    }

    /// Writes a reference to the path that its name gives.
    pub fn write_reference(&self, reference: &Reference) -> anyhow::Result<()> {
        self.write_file(&self.reference_path(&reference.name()), &reference.text())
    }

    /// Reads the reference of this name.
    ///
    /// # Errors
    /// [`Error::BadFile`] for a file that cannot be used or is missing.
    pub fn reference(&self, name: &str) -> anyhow::Result<Reference> {
        let path = self.reference_path(name);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let message = format!("a baseline names the reference {name:?}, which is no name of one");
            return Err(Error::BadFile { path: self.folder.clone(), line: 1, column: 1, message }.into());
        }
        if !input::exists(&path)? {
            let message =
                "a baseline names this reference, and the file is missing: take it from version control".into();
            return Err(Error::BadFile { path, line: 1, column: 1, message }.into());
        }
        Ok(Reference::parse(&path, &input::read_text(&path)?)?)
    }

    /// Returns the paths of the references that none of these names means.
    #[must_use]
    pub fn references_besides(&self, names: &BTreeSet<String>) -> Vec<PathBuf> {
        let all = input::list(&self.folder.join(REFERENCES)).unwrap_or_default().into_iter();
        let is_other = |path: &PathBuf| {
            let is_json = path.extension().is_some_and(|extension| extension == "json");
            is_json && !path.file_stem().is_some_and(|stem| names.contains(&*stem.to_string_lossy()))
        };
        all.filter(is_other).collect()
    }

    fn reference_path(&self, name: &str) -> PathBuf {
        self.folder.join(REFERENCES).join(format!("{name}.json"))
    }

    fn write_file(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let folder = path.parent().unwrap_or(path);
        self.owner
            .act(|| Ok(std::fs::create_dir_all(folder)?))
            .with_context(|| format!("making {}", folder.display()))?;
        self.owner.replace(path, text.as_bytes())
    }

    /// Removes a file, and the folders above it that are then empty.
    pub fn remove(&self, path: &Path) -> anyhow::Result<()> {
        let remove = || -> anyhow::Result<()> {
            std::fs::remove_file(path)?;
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.folder) {
                if std::fs::remove_dir(folder).is_err() {
                    break; // something else lies there
                }
            }
            Ok(())
        };
        self.owner.act(remove).with_context(|| format!("removing {}", path.display()))
    }

    /// Reads a baseline from any path.
    ///
    /// # Errors
    /// [`Error::BadFile`] for one that cannot be used.
    pub fn read_file(&self, path: &Path) -> anyhow::Result<Baseline> {
        let bytes = input::read(path)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::BadFile {
            path: path.to_owned(),
            line: 1,
            column: 1,
            message: "this baseline is not UTF-8 text: take it from version control, or make it anew".into(),
        })?;
        Ok(Baseline::parse(path, &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::baseline;
    use super::super::reference::tests::reference;
    use super::*;

    #[test]
    fn references_lie_beside_the_baselines_and_are_none_themselves() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::of(home.path(), Invoker::find());
        store.write(&baseline(&[1.0, 2.0])).unwrap();
        store.write_reference(&reference()).unwrap();
        let name = reference().name();
        assert_eq!(store.reference(&name).unwrap(), reference());
        assert_eq!(store.all().len(), 1);
        assert_eq!(store.references_besides(&BTreeSet::from([name.clone()])), Vec::<PathBuf>::new());
        let unused = store.references_besides(&BTreeSet::new());
        assert_eq!(unused, [home.path().join(format!("baselines/references/{name}.json"))]);
        store.remove(&unused[0]).unwrap();
        let missing = store.reference(&name).unwrap_err().to_string();
        assert!(missing.contains("the file is missing: take it from version control"), "{missing}");
        for bad in ["", "../x", "12 "] {
            let error = store.reference(bad).unwrap_err().to_string();
            assert!(error.contains("which is no name of one"), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_found_again_and_a_wrong_place_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::of(home.path(), Invoker::find());
        assert_eq!(store.read("x86_64-2c", "pipeline/load").unwrap(), None);
        let path = store.write(&baseline(&[1.0, 2.0])).unwrap();
        assert_eq!(store.read("x86_64-2c", "pipeline/load").unwrap(), Some(baseline(&[1.0, 2.0])));
        assert_eq!(store.classes_of("pipeline/load"), ["x86_64-2c"]);
        assert_eq!(store.all().len(), 1);
        let other = store.path("arm", "pipeline/load");
        std::fs::create_dir_all(other.parent().unwrap()).unwrap();
        std::fs::copy(&path, &other).unwrap();
        let error = store.read("arm", "pipeline/load").unwrap_err().to_string();
        assert!(error.contains("which its path does not say"), "{error}");
        store.remove(&other).unwrap();
        assert!(!home.path().join("baselines/arm").exists());
        assert!(path.exists());
    }

    #[test]
    fn an_older_one_stays_when_the_new_one_cannot_be_written() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::of(home.path(), Invoker::find());
        let path = store.write(&baseline(&[1.0, 2.0])).unwrap();
        std::fs::create_dir(path.with_extension("json.new")).unwrap(); // in the way of the new one
        store.write(&baseline(&[3.0, 4.0])).unwrap_err();
        assert_eq!(store.read("x86_64-2c", "pipeline/load").unwrap(), Some(baseline(&[1.0, 2.0])));
    }
}
