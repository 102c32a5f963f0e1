//! Entries of tar archives from a machine or another untrusted source, with bounds on everything that such an archive makes its reader
//! keep.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::libc::PATH_MAX;
use tar::{Archive, Entry};

/// Maximum bytes between the contents of two files: headers, long names, attributes, maps of sparse files, and content of entries that are
/// no files.
pub const BETWEEN_BYTES_MAX: u64 = 1 << 20;

/// Maximum bytes of a path and of a link's target, as for the kernel.
pub const PATH_BYTES_MAX: usize = PATH_MAX as usize - 1;

/// Maximum number of parts of a path and of a link's target.
pub const PATH_PARTS_MAX: usize = 256;

/// Maximum bytes of the names that are kept until the end of an archive.
pub const NAMES_BYTES_MAX: usize = 128 << 20;

/// Maximum number of characters of a name that an error shows.
const SHOWN_CHARS_MAX: usize = 200;

/// Input of an archive's reader, which fails where too many bytes precede an entry.
#[derive(Debug)]
pub struct Metered<'a, R> {
    input: R,
    /// Number of bytes that may be read until the next entry; `None` while the content of an entry is read, which has no bound.
    left: &'a Cell<Option<u64>>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.get() else { return self.input.read(into) };
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        if room == 0 && !into.is_empty() {
            return Err(io::Error::other(format!(
                "names, attributes or stray content of the archive take more than {} MiB before an entry",
                BETWEEN_BYTES_MAX >> 20
            )));
        }
        let count = self.input.read(&mut into[..room])?;
        self.left.set(Some(left - count as u64));
        Ok(count)
    }
}

/// Entry of an archive whose input is metered.
pub type MeteredEntry<'a, 'b, R> = Entry<'a, Metered<'b, R>>;

/// Reads an archive: hands each entry with its path to `take`, until `take` fails. The content of a file has no bound here: `take` reads it
/// to its end.
///
/// # Errors
/// When names, attributes or maps of an entry have more bytes than any tar program writes; and the errors of `take`.
#[expect(clippy::disallowed_methods, reason = "this is where archives are read")]
pub fn read_entries<R: Read>(
    input: R,
    take: &mut dyn FnMut(&mut MeteredEntry<'_, '_, R>, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let left = Cell::new(None);
    let mut archive = Archive::new(Metered { input, left: &left });
    let mut entries = archive.entries().context("reading the archive")?;
    loop {
        left.set(Some(BETWEEN_BYTES_MAX));
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.context("reading the archive")?;
        left.set(None);
        let path = entry.path().context("reading the archive")?.into_owned();
        let link = entry.link_name().context("reading the archive")?;
        for name in std::iter::once(path.as_path()).chain(link.as_deref()) {
            require_bounded(name)?;
        }
        drop(link);
        take(&mut entry, &path)?;
    }
}

/// Refuses a path with too many bytes or parts: no file system takes it, or the folders that it makes could not be removed.
pub fn require_bounded(path: &Path) -> anyhow::Result<()> {
    let bytes = path.as_os_str().len();
    ensure!(bytes <= PATH_BYTES_MAX, "{}: a path of more than {PATH_BYTES_MAX} bytes", shown(path));
    let parts = path.components().count();
    ensure!(parts <= PATH_PARTS_MAX, "{}: a path of more than {PATH_PARTS_MAX} parts", shown(path));
    Ok(())
}

/// Counters of the names that are kept of an archive, and of the folders that are made for it, against their bounds.
#[derive(Debug)]
pub struct Room {
    names_bytes: usize,
    folders: u64,
    folders_max: u64,
}

impl Room {
    /// Returns counters for an archive that may make this many folders.
    #[must_use]
    pub const fn new(folders_max: u64) -> Self {
        Self { names_bytes: NAMES_BYTES_MAX, folders: 0, folders_max }
    }

    /// Counts a name that is kept until the archive's end; fails beyond [`NAMES_BYTES_MAX`].
    pub fn keep(&mut self, name: &Path) -> anyhow::Result<()> {
        let left = self.names_bytes.checked_sub(name.as_os_str().len());
        self.names_bytes =
            left.with_context(|| format!("the archive's names take more than {} MiB", NAMES_BYTES_MAX >> 20))?;
        Ok(())
    }

    /// Makes a folder and its missing parents; fails beyond the archive's number of folders.
    pub fn make_folder(&mut self, folder: &Path) -> anyhow::Result<()> {
        let missing = folder.ancestors().take_while(|above| fs::symlink_metadata(above).is_err()).count();
        self.folders += missing as u64;
        ensure!(self.folders <= self.folders_max, "the archive holds more than {} folders", self.folders_max);
        fs::create_dir_all(folder).with_context(|| format!("making {}", shown(folder)))
    }
}

/// Returns the beginning of a name from an archive for an error, without control characters and invisible ones.
#[must_use]
pub fn shown(name: &Path) -> String {
    let text = name.to_string_lossy();
    let mut shown = String::new();
    for character in text.chars().take(SHOWN_CHARS_MAX) {
        match character {
            '\'' | '"' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    let more = text.chars().count().saturating_sub(SHOWN_CHARS_MAX);
    if more > 0 {
        shown.push_str(&format!(" [... {more} more characters]"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tar::{EntryType, Header};

    use super::*;

    /// Input that counts the bytes which its reader took.
    struct Counted<R> {
        input: R,
        bytes: u64,
    }

    impl<R: Read> Read for Counted<R> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.input.read(into)?;
            self.bytes += count as u64;
            Ok(count)
        }
    }

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        header
    }

    /// Returns a header of a sparse file of 1 TiB, whose map goes on in endless blocks.
    fn endless_map() -> impl Read {
        let mut first = header(EntryType::GNUSparse, "top", 1 << 40);
        first.as_gnu_mut().unwrap().isextended[0] = 1;
        first.set_cksum();
        let mut block = [0_u8; 512];
        block[504] = 1;
        let blocks = std::iter::repeat_n(block, 100_000).flatten().collect::<Vec<u8>>();
        io::Cursor::new(first.as_bytes().to_vec()).chain(io::Cursor::new(blocks))
    }

    #[test]
    fn nothing_before_an_entry_makes_its_reader_take_more_than_a_mebibyte() {
        const HUGE: u64 = 64 << 20;
        let long = |kind: EntryType| -> Box<dyn Read> {
            let first = io::Cursor::new(header(kind, "long", HUGE).as_bytes().to_vec());
            Box::new(first.chain(io::repeat(b'a').take(HUGE)))
        };
        let kinds = [
            EntryType::GNULongName,
            EntryType::GNULongLink,
            EntryType::XHeader,
            EntryType::XGlobalHeader,
            EntryType::Directory,
            EntryType::Symlink,
            EntryType::Fifo,
        ];
        let attacks = kinds.into_iter().map(|kind| (format!("{kind:?}"), long(kind)));
        let sparse: (String, Box<dyn Read>) = ("a sparse file".to_owned(), Box::new(endless_map()));
        for (what, input) in attacks.chain([sparse]) {
            let mut input = Counted { input, bytes: 0 };
            let error = read_entries(&mut input, &mut |_, _| Ok(())).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains("take more than 1 MiB before an entry"), "{what}: {error}");
            assert!(input.bytes <= BETWEEN_BYTES_MAX + 512, "{what}: {} bytes", input.bytes);
            assert!(error.len() < 300, "{what}: {error}");
        }
    }

    #[test]
    fn content_of_files_has_no_bound_and_each_entry_has_its_own_allowance() {
        const FILES: u64 = 3;
        let content = 3 << 20;
        let attributes = 700 << 10;
        let mut archive = Vec::new();
        for place in 0..FILES {
            archive.extend(header(EntryType::XGlobalHeader, "global", attributes).as_bytes());
            archive.extend(vec![b'\n'; usize::try_from(attributes).unwrap()]);
            archive.extend(header(EntryType::Regular, &format!("file-{place}"), content).as_bytes());
            archive.extend(vec![b'x'; usize::try_from(content).unwrap()]);
        }
        let mut seen = Vec::new();
        let read = read_entries(archive.as_slice(), &mut |entry, path| {
            if entry.header().entry_type() == EntryType::Regular {
                seen.push((path.to_owned(), io::copy(entry, &mut io::sink())?));
            }
            Ok(())
        });
        read.unwrap();
        let expected: Vec<_> = (0..FILES).map(|place| (PathBuf::from(format!("file-{place}")), content)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn names_that_no_file_has_are_refused_and_shown_in_part() {
        let named = |kind: EntryType, name: &str| {
            let mut archive = header(kind, "long", name.len() as u64).as_bytes().to_vec();
            archive.extend(name.as_bytes());
            archive.resize(archive.len().next_multiple_of(512), 0);
            archive.extend(header(EntryType::Symlink, "short", 0).as_bytes());
            read_entries(archive.as_slice(), &mut |_, _| Ok(())).map_err(|error| format!("{error:#}"))
        };
        let cases = [
            ("a".repeat(PATH_BYTES_MAX + 1), "a path of more than 4095 bytes"),
            ("a/".repeat(PATH_PARTS_MAX + 1), "a path of more than 256 parts"),
            ("\u{1b}[2J\u{202e}\n".repeat(1000), r"\u{1b}[2J\u{202e}\n"),
        ];
        for kind in [EntryType::GNULongName, EntryType::GNULongLink] {
            for (name, expected) in &cases {
                let error = named(kind, name).unwrap_err();
                assert!(error.contains(expected), "{kind:?}: {error}");
                assert!(error.len() < 2000 && !error.contains(char::is_control), "{kind:?}: {error:?}");
            }
            assert_eq!(named(kind, &"a/".repeat(PATH_PARTS_MAX)), Ok(()));
        }
        assert_eq!(shown(Path::new("it's/ü \"x\"")), "it's/ü \"x\"");
        assert_eq!(shown(Path::new(&"a".repeat(300))), format!("{} [... 100 more characters]", "a".repeat(200)));
    }

    #[test]
    fn what_is_kept_of_an_archive_has_a_bound() {
        let home = tempfile::tempdir().unwrap();
        let mut room = Room::new(3);
        room.make_folder(&home.path().join("a/b")).unwrap();
        room.make_folder(&home.path().join("a/b")).unwrap();
        room.make_folder(&home.path().join("a/c")).unwrap();
        let error = room.make_folder(&home.path().join("d")).unwrap_err().to_string();
        assert!(error.contains("more than 3 folders"), "{error}");
        assert!(!home.path().join("d").exists());
        let name = "a".repeat(1 << 20);
        let kept = (0..1000).take_while(|_| room.keep(Path::new(&name)).is_ok()).count();
        assert_eq!(kept, NAMES_BYTES_MAX >> 20);
        assert!(
            room.keep(Path::new(&name)).unwrap_err().to_string().contains("the archive's names take more than 128 MiB")
        );
    }
}
