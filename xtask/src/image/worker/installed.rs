//! Python packages that are installed in a folder of a tree: their metadata, and the removal of a package with all its files. The content
//! of the tree is not trusted: no link in the tree is followed out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use crate::host::disk::container_fs;
use crate::image::metadata::Metadata;
use crate::image::tree;

/// Folder in which Python keeps the bytecode of the modules beside it.
const BYTECODE: &str = "__pycache__";

/// Installed packages, by their normal names.
#[derive(Debug, Default)]
pub struct Installed {
    pub packages: BTreeMap<String, Metadata>,
    /// Name of each package's folder with its metadata.
    infos: BTreeMap<String, PathBuf>,
}

impl Installed {
    /// Finds the packages in a folder of a tree.
    pub fn find(root: &Path, target: &Path) -> anyhow::Result<Self> {
        let mut found = Self::default();
        let folder = tree::resolve(root, target).with_context(|| format!("looking for {}", target.display()))?;
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let info = PathBuf::from(entry.file_name());
            let path = target.join(&info).join("METADATA");
            let is_info = info.extension() == Some(OsStr::new("dist-info"));
            let text = path.to_str().filter(|_| is_info).and_then(|path| container_fs::read(root, path).ok());
            if let Some(metadata) = text.and_then(|text| Metadata::parse(&text)) {
                found.infos.insert(metadata.name.clone(), info);
                found.packages.insert(metadata.name.clone(), metadata);
            }
        }
        Ok(found)
    }

    /// Removes a package: the files in its `RECORD` that no other package has too, their bytecode, and folders that are empty afterwards.
    pub fn uninstall(&self, name: &str, root: &Path, target: &Path) -> anyhow::Result<()> {
        let Some(info) = self.infos.get(name) else { return Ok(()) };
        let others = self.infos.values().filter(|other| *other != info);
        let shared: BTreeSet<PathBuf> =
            others.flat_map(|other| recorded(root, &target.join(other)).unwrap_or_default()).collect();
        let mut folders = BTreeSet::new();
        for file in recorded(root, &target.join(info))?.iter().filter(|file| !shared.contains(*file)) {
            remove(root, &target.join(file))?;
            let folder = file.parent().unwrap_or(Path::new(""));
            if file.extension() == Some(OsStr::new("py")) {
                remove_bytecode(root, &target.join(folder).join(BYTECODE), file)?;
                folders.insert(folder.join(BYTECODE));
            }
            folders.extend(folder.ancestors().map(Path::to_owned));
        }
        remove(root, &target.join(info))?;
        for folder in folders.iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            let path = tree::resolve_parent(root, &target.join(folder))?;
            match fs::remove_dir(&path) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound | ErrorKind::NotADirectory
                    ) =>
                {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn remove(root: &Path, inside: &Path) -> anyhow::Result<()> {
    let path = tree::resolve_parent(root, inside)?;
    tree::remove(&path).with_context(|| format!("removing {}", path.display()))
}

/// Removes the bytecode of a module, of all versions of Python and all levels of optimization.
fn remove_bytecode(root: &Path, folder: &Path, module: &Path) -> anyhow::Result<()> {
    let start = format!("{}.", module.file_stem().unwrap_or_default().to_string_lossy());
    for entry in fs::read_dir(tree::resolve(root, folder)?).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(&start) {
            remove(root, &folder.join(name))?;
        }
    }
    Ok(())
}

/// Returns the files of a package from its `RECORD`, relative to the folder of packages.
fn recorded(root: &Path, info: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let path = info.join("RECORD");
    let text =
        container_fs::read(root, &path.to_string_lossy()).context("finding the files of an installed package")?;
    Ok(text.lines().filter_map(file_of_line).collect())
}

/// Returns the path in a line of `RECORD`: path, hash and size. pip installs programs into `bin` of the folder, and writes `../../bin`.
fn file_of_line(line: &str) -> Option<PathBuf> {
    let path = line.rsplitn(3, ',').nth(2)?;
    let quoted = path.strip_prefix('"').and_then(|path| path.strip_suffix('"'));
    let path = quoted.map_or_else(|| path.to_owned(), |path| path.replace("\"\"", "\""));
    let parts = Path::new(&path).components().skip_while(|part| *part == Component::ParentDir);
    let file: Option<PathBuf> =
        parts.map(|part| if let Component::Normal(part) = part { Some(part) } else { None }).collect();
    file.filter(|file| !file.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn files(root: &Path) -> Vec<String> {
        let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
        let files =
            entries.filter(|entry| entry.path() != root && (!entry.file_type().is_dir() || is_empty(entry.path())));
        files.map(|entry| entry.path().strip_prefix(root).unwrap().display().to_string()).collect()
    }

    fn is_empty(folder: &Path) -> bool {
        fs::read_dir(folder).unwrap().next().is_none()
    }

    #[test]
    fn a_package_goes_with_its_bytecode_and_leaves_what_is_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(
            root,
            &[
                ("opt/a_b-1.dist-info/METADATA", "Name: A.b\nVersion: 1\n"),
                (
                    "opt/a_b-1.dist-info/RECORD",
                    "a/x.py,sha256=1,2\n\"a/with,comma.txt\",,\n../../bin/a,,\nns/__init__.py,,\nns/a/deep/y.py,,\n\
                     a_b-1.dist-info/RECORD,,\n/etc/passwd,,\n../../../etc/../etc/passwd,,\nno line\n",
                ),
                ("opt/c-2.dist-info/METADATA", "Name: c\nVersion: 2\n"),
                ("opt/c-2.dist-info/RECORD", "ns/__init__.py,,\nns/c.py,,\n"),
                ("opt/plain/METADATA", "Name: d\nVersion: 2\n"),
                ("opt/a/x.py", ""),
                ("opt/a/with,comma.txt", ""),
                ("opt/a/__pycache__/x.cpython-311.pyc", ""),
                ("opt/a/__pycache__/x.cpython-311.opt-1.pyc", ""),
                ("opt/bin/a", ""),
                ("opt/bin/c", ""),
                ("opt/ns/__init__.py", ""),
                ("opt/ns/__pycache__/__init__.cpython-311.pyc", ""),
                ("opt/ns/a/deep/y.py", ""),
                ("opt/ns/a/deep/__pycache__/y.cpython-311.pyc", ""),
                ("opt/ns/c.py", ""),
                ("etc/passwd", ""),
            ],
        );
        let found = Installed::find(root, Path::new("/opt")).unwrap();
        let names: Vec<(&str, &str)> =
            found.packages.values().map(|one| (one.name.as_str(), one.version.as_str())).collect();
        assert_eq!(names, [("a-b", "1"), ("c", "2")]);
        found.uninstall("none", root, Path::new("/opt")).unwrap();
        found.uninstall("a-b", root, Path::new("/opt")).unwrap();
        assert_eq!(
            files(root),
            [
                "etc/passwd",
                "opt/bin/c",
                "opt/c-2.dist-info/METADATA",
                "opt/c-2.dist-info/RECORD",
                "opt/ns/__init__.py",
                "opt/ns/__pycache__/__init__.cpython-311.pyc",
                "opt/ns/c.py",
                "opt/plain/METADATA",
            ]
        );
    }

    #[test]
    fn links_in_a_package_do_not_lead_out_of_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        write(folder.path(), &[("secret", "Name: b\nVersion: 1\n"), ("kept/file.py", "")]);
        write(
            &root,
            &[("opt/a.dist-info/METADATA", "Name: a\nVersion: 1\n"), ("opt/a.dist-info/RECORD", "out/file.py,,\n")],
        );
        fs::create_dir(root.join("opt/b.dist-info")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), root.join("opt/b.dist-info/METADATA")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("kept"), root.join("opt/out")).unwrap();
        let found = Installed::find(&root, Path::new("/opt")).unwrap();
        assert_eq!(found.packages.len(), 1, "{found:?}");
        found.uninstall("a", &root, Path::new("/opt")).unwrap();
        assert!(folder.path().join("kept/file.py").exists());
    }
}
