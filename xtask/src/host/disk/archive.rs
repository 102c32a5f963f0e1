//! Trees of files as tar archives. An archive from a container may hold anything that the container wants: it is unpacked so that nothing
//! is written outside of a fresh folder.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use tar::{Builder, Entry, EntryType, Header};
use walkdir::WalkDir;

use super::tar_entries::{Room, read_entries, shown};
use crate::error::Error;
use crate::host::invoker::open_regular;

/// Mode bits that a file keeps on the host: without set-id bits, a program out of a container gets no other user's rights.
const MODE_ON_HOST: u32 = 0o777;

/// Maximum bytes of one copy out of a container; holes of sparse files count with their whole length.
pub const COPY_BYTES_MAX: u64 = 64 << 30;

/// Maximum number of files and folders of one copy out of a container.
pub const COPY_FILES_MAX: u64 = 1_000_000;

/// Number of bytes that are written, or left as a hole, at once.
const BLOCK_BYTES: usize = 64 << 10;

/// Mode bits that a file keeps on its way into a container.
const MODE_INSIDE: u32 = 0o7777;

/// Counts of what was packed or unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// Number of files and links.
    pub files: u64,
    /// Number of folders.
    pub folders: u64,
    /// Number of bytes of all files.
    pub bytes: u64,
    /// Paths of devices, pipes and sockets, which were left out.
    pub left_out: Vec<PathBuf>,
}

/// Packs a file, or a folder with all that it holds, under a name and as owned by root. Links stay links, except that a link `from` itself
/// is followed. Stops when `interrupted` returns true.
pub fn pack(from: &Path, name: &Path, output: impl Write, interrupted: &dyn Fn() -> bool) -> anyhow::Result<Moved> {
    let mut moved = Moved::default();
    let mut builder = Builder::new(output);
    let top = fs::canonicalize(from).with_context(|| format!("reading {}", from.display()))?;
    for entry in WalkDir::new(&top).sort_by_file_name() {
        ensure!(!interrupted(), Error::Interrupted);
        let entry = entry.with_context(|| format!("reading {}", from.display()))?;
        let below = entry.path().strip_prefix(&top).unwrap_or(Path::new(""));
        let target = if below.as_os_str().is_empty() { name.to_owned() } else { name.join(below) };
        add(&mut builder, entry.path(), &target, &mut moved).with_context(|| entry.path().display().to_string())?;
    }
    let mut output = builder.into_inner().context("finishing the archive")?;
    output.flush().context("writing the archive")?;
    Ok(moved)
}

fn add(builder: &mut Builder<impl Write>, path: &Path, target: &Path, moved: &mut Moved) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & MODE_INSIDE);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        moved.folders += 1;
        Ok(builder.append_data(&mut header, target, io::empty())?)
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        moved.files += 1;
        Ok(builder.append_link(&mut header, target, fs::read_link(path)?)?)
    } else if kind.is_file() {
        let (file, length) = open_regular(path)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(length);
        moved.files += 1;
        moved.bytes += length;
        // As long as the header says, whatever becomes of the file meanwhile.
        let whole = file.take(length).chain(io::repeat(0)).take(length);
        Ok(builder.append_data(&mut header, target, whole)?)
    } else {
        moved.left_out.push(path.to_owned());
        Ok(())
    }
}

/// Unpacks an archive of one file or folder, whose name in it is `name`, as `folder/name`; `folder` is empty, and no other process writes
/// there. Stops when `interrupted` returns true.
///
/// # Errors
/// When the archive has a path that leads out of `folder`, a second name at its top, or more files or bytes than a copy may have.
pub fn unpack(input: impl Read, name: &str, folder: &Path, interrupted: &dyn Fn() -> bool) -> anyhow::Result<Moved> {
    let mut unpacking = Unpacking {
        folder,
        name,
        moved: Moved::default(),
        entries: 0,
        room: Room::new(COPY_FILES_MAX),
        links: BTreeMap::new(),
        folders: Vec::new(),
    };
    read_entries(input, &mut |entry, path| {
        ensure!(!interrupted(), Error::Interrupted);
        unpacking.take(entry, path, interrupted).with_context(|| format!("unpacking {}", shown(path)))
    })?;
    ensure!(
        unpacking.moved.files + unpacking.moved.folders > 0 || !unpacking.moved.left_out.is_empty(),
        "the archive is empty"
    );
    unpacking.end()
}

struct Unpacking<'a> {
    folder: &'a Path,
    name: &'a str,
    moved: Moved,
    /// Number of entries so far, of any kind.
    entries: u64,
    room: Room,
    /// Links with their targets: they are made last, so that nothing is ever written through one.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Folders with their modes, which are set last: a mode may forbid writing.
    folders: Vec<(PathBuf, u32)>,
}

impl Unpacking<'_> {
    fn take(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        path: &Path,
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<()> {
        let target = self.place(path)?;
        self.entries += 1;
        if self.entries > COPY_FILES_MAX {
            bail!(Error::Usage(format!(
                "there are more than {COPY_FILES_MAX} files, the most that one copy out of a container takes\n\
                 help: copy parts of it, or pack it in the container and copy the archive"
            )));
        }
        let mode = entry.header().mode()? & MODE_ON_HOST;
        match entry.header().entry_type() {
            EntryType::Directory => {
                self.room.make_folder(&target)?;
                self.room.keep(&target)?;
                self.folders.push((target, mode));
                self.moved.folders += 1;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.make_parent(&target)?;
                let room = COPY_BYTES_MAX.saturating_sub(self.moved.bytes);
                ensure!(entry.size() <= room, too_large());
                let file = File::create_new(&target)?;
                self.moved.bytes += copy_with_holes(entry, &file, room, interrupted)?;
                file.set_permissions(Permissions::from_mode(mode))?;
                let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.header().mtime().unwrap_or_default());
                let _ = file.set_modified(modified); // a time beyond what the file system knows is no reason to fail
                self.moved.files += 1;
            }
            EntryType::Symlink => {
                let leads_to = entry.link_name()?.context("the symbolic link has no target")?.into_owned();
                self.add_link(target, leads_to)?;
                self.moved.files += 1;
            }
            EntryType::Link => {
                let other = entry.link_name()?.context("the hard link has no target")?.into_owned();
                let other = self.place(&other)?;
                self.make_parent(&target)?;
                match self.links.get(&other).cloned() {
                    Some(leads_to) => self.add_link(target, leads_to)?,
                    None => fs::hard_link(other, target)?,
                }
                self.moved.files += 1;
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                self.room.keep(path)?;
                self.moved.left_out.push(path.to_owned());
            }
            EntryType::XGlobalHeader => {}
            other => bail!("the entry has the unexpected type {other:?}"),
        }
        Ok(())
    }

    /// Returns the path to unpack an entry to, from the names in the entry's path alone. An entry outside of the archive's one top is an
    /// error.
    fn place(&self, path: &Path) -> anyhow::Result<PathBuf> {
        let mut place = self.folder.to_owned();
        for part in path.components() {
            match part {
                Component::Normal(part) => place.push(part),
                Component::CurDir => {}
                _ => bail!("the entry's path leads out of the folder that the archive is unpacked to"),
            }
        }
        ensure!(
            place.starts_with(self.folder.join(self.name)),
            "the entry lies outside of {}, the one top of the archive",
            self.name
        );
        Ok(place)
    }

    fn add_link(&mut self, link: PathBuf, leads_to: PathBuf) -> anyhow::Result<()> {
        self.room.keep(&link)?;
        self.room.keep(&leads_to)?;
        ensure!(self.links.insert(link, leads_to).is_none(), "the link is in the archive twice");
        Ok(())
    }

    /// Makes the folder above an entry, for archives that, unlike those of any tar program, do not list a folder before what it holds.
    fn make_parent(&mut self, target: &Path) -> anyhow::Result<()> {
        let parent = target.parent().filter(|parent| *parent != self.folder);
        parent.map_or(Ok(()), |parent| self.room.make_folder(parent))
    }

    fn end(mut self) -> anyhow::Result<Moved> {
        for (link, leads_to) in std::mem::take(&mut self.links) {
            let made = self.make_parent(&link).and_then(|()| Ok(symlink(leads_to, &link)?));
            made.with_context(|| format!("unpacking {}", shown(&link)))?;
        }
        // The deepest first: once a folder is not for writing, nothing below it is changed any more.
        self.folders.sort_by_cached_key(|(path, _)| std::cmp::Reverse(path.components().count()));
        for (path, mode) in &self.folders {
            let set = fs::set_permissions(path, Permissions::from_mode(*mode));
            set.with_context(|| format!("unpacking {}", shown(path)))?;
        }
        Ok(self.moved)
    }
}

fn too_large() -> Error {
    Error::Usage(format!(
        "the copy has more than {} GiB, the most that one copy out of a container takes; holes count with their whole length\n\
         help: copy parts of it, or pack it in the container (`tar -cSf`) and copy the archive",
        COPY_BYTES_MAX >> 30
    ))
}

/// Writes a new file in which blocks of zeros are holes; returns its length.
fn copy_with_holes(
    from: &mut impl Read,
    to: &File,
    bytes_max: u64,
    interrupted: &dyn Fn() -> bool,
) -> anyhow::Result<u64> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut length = 0;
    loop {
        ensure!(!interrupted(), Error::Interrupted);
        block.clear();
        from.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            to.set_len(length)?;
            return Ok(length);
        }
        ensure!(block.len() as u64 <= bytes_max - length, too_large());
        if block.iter().any(|byte| *byte != 0) {
            to.write_all_at(&block, length)?;
        }
        length += block.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        builder: Builder<Vec<u8>>,
    }

    impl Made {
        fn new() -> Self {
            Self { builder: Builder::new(Vec::new()) }
        }

        /// Adds an entry with exactly this path: the builder itself refuses bad ones.
        fn entry(mut self, kind: EntryType, path: &str, link: &str, content: &[u8]) -> Self {
            let mut header = Header::new_gnu();
            let old = header.as_old_mut();
            old.name[..path.len()].copy_from_slice(path.as_bytes());
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o4755);
            header.set_size(content.len() as u64);
            header.set_cksum();
            self.builder.append(&header, content).unwrap();
            self
        }

        fn unpack(self, folder: &Path) -> anyhow::Result<Moved> {
            unpack(self.builder.into_inner().unwrap().as_slice(), "top", folder, &|| false)
        }
    }

    #[test]
    fn a_tree_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("closed")).unwrap();
        fs::write(from.join("closed/file"), "x").unwrap();
        fs::write(from.join("program"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(from.join("program"), Permissions::from_mode(0o4750)).unwrap();
        fs::set_permissions(from.join("closed"), Permissions::from_mode(0o555)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        nix::unistd::mkfifo(&from.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut archive = Vec::new();
        let packed = pack(&from, Path::new("top"), &mut archive, &|| false).unwrap();
        assert_eq!((packed.files, packed.folders, packed.bytes, packed.left_out.len()), (3, 2, 11, 1));
        let to = folder.path().join("to");
        fs::create_dir(&to).unwrap();
        let unpacked = unpack(archive.as_slice(), "top", &to, &|| false).unwrap();
        assert_eq!((unpacked.files, unpacked.folders, unpacked.bytes), (3, 2, 11));
        let mode = |path: &str| fs::symlink_metadata(to.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("top/closed"), mode("top/program")), (0o555, 0o750), "no right of its owner comes along");
        assert_eq!(fs::read_link(to.join("top/link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read(to.join("top/closed/file")).unwrap(), b"x");
        assert!(unpack(archive.as_slice(), "top", &to, &|| true).unwrap_err().to_string().contains("interrupted"));
    }

    #[test]
    fn zeros_take_no_room_and_a_huge_file_is_refused_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let content = [vec![0; 40 << 20], b"end".to_vec(), vec![0; 5]].concat();
        Made::new().entry(EntryType::Regular, "top", "", &content).unpack(folder.path()).unwrap();
        let there = fs::metadata(folder.path().join("top")).unwrap();
        assert_eq!(there.len(), content.len() as u64);
        assert!(there.blocks() * 512 < 1 << 20, "{} blocks", there.blocks());
        assert_eq!(fs::read(folder.path().join("top")).unwrap(), content);

        let folder = tempfile::tempdir().unwrap();
        let mut header = Header::new_gnu();
        header.set_path("top").unwrap();
        header.set_mode(0o644);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(0));
        let error = unpack(endless, "top", folder.path(), &|| false).unwrap_err();
        assert!(format!("{error:#}").contains("the copy has more than 64 GiB, the most that one copy"), "{error:#}");
        assert!(matches!(Error::of(&error), Some(Error::Usage(_))));
        let file = tempfile::tempfile().unwrap();
        let error = copy_with_holes(&mut io::repeat(0), &file, 10 << 20, &|| false).unwrap_err();
        assert!(error.to_string().contains("more than 64 GiB"), "whatever its header said: {error}");
    }

    #[test]
    fn nothing_is_written_outside() {
        let home = tempfile::tempdir().unwrap();
        let prey = home.path().join("prey");
        fs::create_dir(&prey).unwrap();
        fs::write(prey.join("file"), "mine").unwrap();
        let to_prey = prey.display().to_string();
        let to_file = prey.join("file").display().to_string();
        let attacks: Vec<(&str, Made)> = vec![
            ("leads out", Made::new().entry(EntryType::Regular, "top/../../prey/file", "", b"theirs")),
            ("leads out", Made::new().entry(EntryType::Regular, &to_file, "", b"theirs")),
            ("lies outside of top", Made::new().entry(EntryType::Regular, "other", "", b"theirs")),
            ("lies outside of top", Made::new().entry(EntryType::Regular, "topping", "", b"theirs")),
            ("leads out", Made::new().entry(EntryType::Link, "top/a", &to_file, b"")),
            (
                // The link would be there already, and what comes after it would be written where it leads.
                "top/a/file",
                Made::new()
                    .entry(EntryType::Directory, "top/", "", b"")
                    .entry(EntryType::Symlink, "top/a", &to_prey, b"")
                    .entry(EntryType::Regular, "top/a/file", "", b"theirs")
                    .entry(EntryType::Regular, "top/a/file", "", b"twice"),
            ),
            (
                "top",
                Made::new().entry(EntryType::Symlink, "top", &to_prey, b"").entry(
                    EntryType::Regular,
                    "top/file",
                    "",
                    b"theirs",
                ),
            ),
        ];
        for (place, (expected, attack)) in attacks.into_iter().enumerate() {
            let folder = home.path().join(place.to_string());
            fs::create_dir(&folder).unwrap();
            let error = format!("{:#}", attack.unpack(&folder).unwrap_err());
            assert!(error.contains(expected), "{place}: {error}");
            assert_eq!(fs::read(prey.join("file")).unwrap(), b"mine", "{place}");
            assert_eq!(fs::read_dir(&prey).unwrap().count(), 1, "{place}");
        }
    }

    #[test]
    fn a_name_without_an_end_is_refused_and_shown_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let mut header = Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(400 << 20);
        header.set_cksum();
        let long = header.as_bytes().chain(io::repeat(b'a').take(2 << 20));
        let error = unpack(long, "top", folder.path(), &|| false).unwrap_err();
        assert!(format!("{error:#}").contains("take more than 1 MiB before an entry"), "{error:#}");

        let name = format!("top/{}", "\u{1b}[2Jx".repeat(500));
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty()).unwrap();
        let error = unpack(builder.into_inner().unwrap().as_slice(), "top", folder.path(), &|| false).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with("unpacking top/\\u{1b}[2Jx") && error.contains("more characters]"), "{error}");
        assert!(error.len() < 1500 && !error.contains('\u{1b}'), "{error:?}");
    }

    #[test]
    fn a_hard_link_to_a_link_is_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let linked =
            Made::new().entry(EntryType::Directory, "top", "", b"").entry(EntryType::Symlink, "top/a", "to", b"");
        linked.entry(EntryType::Link, "top/b", "top/a", b"").unpack(folder.path()).unwrap();
        assert_eq!(fs::read_link(folder.path().join("top/b")).unwrap(), Path::new("to"));
        let twice =
            Made::new().entry(EntryType::Symlink, "top/a", "x", b"").entry(EntryType::Symlink, "top/a", "y", b"");
        let error = format!("{:#}", twice.unpack(folder.path()).unwrap_err());
        assert!(error.contains("the link is in the archive twice"), "{error}");
    }

    #[test]
    fn devices_are_left_out_and_an_empty_archive_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let moved = Made::new().entry(EntryType::Char, "top", "", b"").unpack(folder.path()).unwrap();
        assert_eq!(moved.left_out, [PathBuf::from("top")]);
        assert!(Made::new().unpack(folder.path()).unwrap_err().to_string().contains("the archive is empty"));
    }
}
