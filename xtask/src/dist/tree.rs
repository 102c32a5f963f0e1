//! Tree of files in memory, which is always packed to the same bytes: sorted, owned by root, with one fixed time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// Modification time of every file in a release, in seconds since 1970; constant, so that equal content gives equal bytes.
pub const MADE_UNIX_S: u64 = 1_700_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    mode: u32,
    content: Vec<u8>,
}

/// Files by path; paths have no leading slash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<String, File>,
}

impl Tree {
    /// Adds a file with mode 644 (not executable).
    pub fn add(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), File { mode: 0o644, content: content.into() });
    }

    /// Adds a program, a file of mode 755.
    pub fn add_program(&mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.files.insert(path.into(), File { mode: 0o755, content: content.into() });
    }

    /// Returns the size of all files in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.files.values().map(|file| file.content.len()).sum()
    }

    /// Returns the tree as a tar archive, compressed by gzip, with every path below `folder`, which is `.` or a name.
    ///
    /// # Errors
    /// If a path is too long for tar.
    pub fn tar_gz(&self, folder: &str, compression: Compression) -> anyhow::Result<Vec<u8>> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), compression));
        let mut paths: BTreeMap<String, Option<&File>> =
            self.files.iter().map(|(path, file)| (format!("{folder}/{path}"), Some(file))).collect();
        let folders: BTreeSet<String> = paths.keys().flat_map(|path| folders_above(path)).collect();
        paths.extend(folders.into_iter().map(|path| (path, None)));
        for (path, file) in paths {
            let mut header = Header::new_gnu();
            header.set_entry_type(if file.is_some() { EntryType::Regular } else { EntryType::Directory });
            header.set_mode(file.map_or(0o755, |file| file.mode));
            header.set_mtime(MADE_UNIX_S);
            header.set_uid(0);
            header.set_gid(0);
            header
                .set_username("root")
                .and_then(|()| header.set_groupname("root"))
                .context("setting root as the owner of an archive entry")?;
            let content = file.map_or(&[][..], |file| &file.content);
            header.set_size(content.len() as u64);
            // A folder's path ends with a slash, and `.` stays in front, as dpkg has both.
            set_path(&mut header, &path).with_context(|| format!("setting the path of {path} in an archive"))?;
            header.set_cksum();
            archive.append(&header, content).with_context(|| format!("packing {path}"))?;
        }
        archive.into_inner().and_then(GzEncoder::finish).context("compressing the archive")
    }
}

/// Returns the folders above a path: `a/` and `a/b/` for `a/b/c`.
fn folders_above(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..=at].to_owned()).collect()
}

/// Sets the path of an entry unchanged; the library's own method would drop a leading `.`.
fn set_path(header: &mut Header, path: &str) -> anyhow::Result<()> {
    let place = &mut header.as_old_mut().name;
    let bytes = path.as_bytes();
    anyhow::ensure!(bytes.len() < place.len(), "the path is longer than {} characters", place.len() - 1);
    place.fill(0);
    place[..bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// Compresses bytes by gzip, without a name or a time.
pub fn gz(content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::host::disk::tar_entries::read_entries;

    fn tree() -> Tree {
        let mut tree = Tree::default();
        tree.add("share/b", "text");
        tree.add_program("bin/a", "program");
        tree
    }

    #[test]
    fn an_archive_is_sorted_roots_and_of_one_time() {
        let packed = tree().tar_gz(".", Compression::best()).unwrap();
        let mut seen = Vec::new();
        let read = read_entries(flate2::read::GzDecoder::new(packed.as_slice()), &mut |entry, path| {
            let mut content = String::new();
            entry.read_to_string(&mut content)?;
            let header = entry.header();
            assert_eq!((header.uid()?, header.gid()?, header.mtime()?), (0, 0, MADE_UNIX_S));
            seen.push(format!("{} {:o} {content}", path.display(), header.mode()?));
            Ok(())
        });
        read.unwrap();
        assert_eq!(seen, ["./ 755 ", "./bin/ 755 ", "./bin/a 755 program", "./share/ 755 ", "./share/b 644 text"]);
    }

    #[test]
    fn equal_trees_are_equal_bytes() {
        let packed = || tree().tar_gz("x-1", Compression::fast()).unwrap();
        assert_eq!(packed(), packed());
        assert_eq!(gz(b"a").unwrap(), gz(b"a").unwrap());
        let long = "a/".repeat(60);
        let mut tree = tree();
        tree.add(long, "");
        assert!(format!("{:#}", tree.tar_gz(".", Compression::fast()).unwrap_err()).contains("longer than 99"));
    }
}
