//! The project's files, as Git lists them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xtask::host::exec::shell::Command;

/// A text file of the project.
pub struct Source {
    /// Path from the project's root.
    pub path: String,
    /// Content.
    pub text: String,
}

impl Source {
    pub fn at(&self, line: usize, problem: &str, help: &str) -> String {
        format!("{}:{line}: {problem}\n    help: {help}", self.path)
    }

    /// Returns its module in the engine, outermost first; the programs' own files and lib.rs are in none.
    pub fn module(&self) -> Option<Vec<String>> {
        let path = self.path.strip_prefix("xtask/src/")?.strip_suffix(".rs")?;
        let path = path.strip_suffix("/mod").unwrap_or(path);
        (!["lib", "main"].contains(&path)).then(|| path.split('/').map(str::to_owned).collect())
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the project's root").to_owned()
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("reading {path}: {error}"))
}

/// The files that Git has, or would take, below any of these paths. Those that are no text are left out.
pub fn text_files(below: &[&str]) -> Vec<Source> {
    // Where the tests run as root in a user's checkout, Git wants to be told that this is meant.
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .dir(root())
        .run()
        .unwrap_or_else(|error| panic!("{error}"));
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let wanted: BTreeSet<&str> = listed
        .split('\0')
        .filter(|path| !path.is_empty() && below.iter().any(|folder| path.starts_with(folder)))
        .collect();
    let source = |path: &str| {
        Some(Source { path: path.to_owned(), text: String::from_utf8(std::fs::read(root().join(path)).ok()?).ok()? })
    };
    let sources: Vec<Source> = wanted.into_iter().filter_map(source).collect();
    assert!(!sources.is_empty(), "Git knows no file below {below:?}");
    sources
}

pub fn rust_files(below: &[&str]) -> Vec<Source> {
    text_files(below).into_iter().filter(|source| source.path.ends_with(".rs")).collect()
}

pub fn engine() -> Vec<Source> {
    rust_files(&["xtask/src/"])
}

/// The folders below this one that hold a file of this name, relative to it.
pub fn folders_with(folder: &str, file: &str) -> Vec<String> {
    let inside = |source: &Source| {
        let path = source.path.strip_prefix(folder)?.strip_prefix('/')?.strip_suffix(file)?.strip_suffix('/')?;
        Some(path.to_owned())
    };
    text_files(&[folder]).iter().filter_map(inside).collect()
}
