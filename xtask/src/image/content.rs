//! What a file or folder of the host is, as one hash: names, contents, link targets, and who may execute what.

use std::fs::{self, FileType};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use walkdir::{DirEntry, WalkDir};

use crate::error::Error;
use crate::input;

/// Folders that tools leave in a working tree, and that are no part of what it means.
const IGNORED: [&str; 7] = [".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox"];

/// The hash of bytes, in hex.
pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The hash of a file, or of a folder with everything in it but the leftovers of tools.
///
/// # Errors
/// When something of it cannot be read, with its path.
pub fn hash_path(path: &Path) -> anyhow::Result<String> {
    let mut hasher = Sha256::new();
    for entry in walk(path) {
        let entry = entry.with_context(|| format!("reading {}", path.display()))?;
        let kind = if entry.depth() == 0 { follow(path)? } else { entry.file_type() };
        let (letter, content) = if kind.is_dir() {
            ('d', String::new())
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
            ('l', target.to_string_lossy().into_owned())
        } else {
            input::require_file(kind)
                .map_err(|problem| Error::Usage(format!("{}: {problem}", entry.path().display())))?;
            let letter = if is_executable(&fs::metadata(entry.path())?.permissions()) { 'x' } else { 'f' };
            (letter, hash_file(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?)
        };
        let name = entry.path().strip_prefix(path).unwrap_or(entry.path()).to_string_lossy().into_owned();
        // Lengths keep two trees apart whose names and contents run together.
        hasher.update(format!("{letter} {} {name} {} {content}\n", name.len(), content.len()));
    }
    Ok(hex(&hasher.finalize()))
}

/// What a path holds in a fixed order, without the leftovers of tools; a link given as the path itself is followed.
pub fn walk(path: &Path) -> impl Iterator<Item = walkdir::Result<DirEntry>> {
    let wanted = |entry: &DirEntry| {
        entry.depth() == 0 || !entry.file_name().to_str().is_some_and(|name| IGNORED.contains(&name))
    };
    WalkDir::new(path).follow_root_links(true).sort_by_file_name().into_iter().filter_entry(wanted)
}

/// What a path is, or what it leads to.
///
/// # Errors
/// When there is nothing, with the path.
pub fn follow(path: &Path) -> anyhow::Result<FileType> {
    Ok(fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.file_type())
}

/// Whether anybody may execute a file.
pub fn is_executable(permissions: &fs::Permissions) -> bool {
    permissions.mode() & 0o111 != 0
}

fn hash_file(path: &Path) -> anyhow::Result<String> {
    let mut file = input::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_tree_changes_its_hash_and_leftovers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("a"), "1").unwrap();
        let first = hash_path(root).unwrap();
        fs::create_dir(root.join("__pycache__")).unwrap();
        fs::write(root.join("__pycache__/x.pyc"), "1").unwrap();
        assert_eq!(hash_path(root).unwrap(), first);

        let mut seen = vec![first];
        let mut changed = |what: &str| {
            let hash = hash_path(root).unwrap();
            assert!(!seen.contains(&hash), "{what} changed nothing");
            seen.push(hash);
        };
        fs::write(root.join("a"), "2").unwrap();
        changed("a content");
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        changed("the right to execute");
        fs::rename(root.join("a"), root.join("b")).unwrap();
        changed("a name");
        std::os::unix::fs::symlink("b", root.join("c")).unwrap();
        changed("a link");
        fs::create_dir(root.join("d")).unwrap();
        changed("an empty folder");
    }

    #[test]
    fn a_file_and_a_link_to_it_are_the_same_source() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        std::os::unix::fs::symlink("a", folder.path().join("b")).unwrap();
        assert_eq!(hash_path(&folder.path().join("a")).unwrap(), hash_path(&folder.path().join("b")).unwrap());
    }
}
