//! Files and folders of the host that become part of a layer: read with the rights of the user who names them, and identified by one hash
//! of names, contents, link targets, and executable bits.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::{Context as _, bail};
use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;

/// Names of folders that tools leave in a working tree: skipped wherever a source is read.
const IGNORED: [&str; 7] = [".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox"];

/// Maximum bytes of one source, so that a file that never ends is refused.
const BYTES_MAX: u64 = 32 << 30;

/// Maximum number of files, folders and links in one source.
const ENTRIES_MAX: u64 = 2_000_000;

/// Maximum depth of nested folders in a source: all folders above an entry are open while it is read.
const DEPTH_MAX: usize = 200;

/// Number of entries that the walk opens ahead of the one being read.
const ENTRIES_AHEAD: usize = 16;

/// Flags that open a file or folder without blocking, and without making a terminal the controlling one.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// File, folder or link of a source, as [`read`] passes it to the closure `take`.
pub enum Part<'a> {
    /// Folder, passed before its entries.
    Folder,
    Link(&'a Path),
    File {
        /// True if user, group or others may execute the file.
        is_executable: bool,
        /// Content of the file; the part that the closure leaves unread is hashed as well.
        content: &'a mut dyn Read,
    },
}

pub fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Returns the hash of a file, or of a folder with everything in it except the leftovers of tools.
pub fn hash_path(path: &Path, invoker: &Invoker) -> anyhow::Result<String> {
    read(path, invoker, &mut |_, _| Ok(()))
}

/// Passes a file, or a folder with all entries except the leftovers of tools, to `take`, in a fixed order and with paths relative to the
/// source; returns the hash of all that was passed. Everything is opened with the rights of the user; `take` is called with those of the
/// caller. If the source is a link, its target is read.
///
/// # Errors
/// When a part of the source cannot be read by the user, is no file, folder or link, lies in /proc, or is too large: the error has the
/// path. Errors of `take`.
pub fn read(
    source: &Path,
    invoker: &Invoker,
    take: &mut dyn FnMut(&Path, Part<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let (sender, opened) = sync_channel(ENTRIES_AHEAD);
    let (walked, taken) = std::thread::scope(|scope| {
        let walk = Walk { source, sender, entries: 0, bytes: 0 };
        let walking = scope.spawn(move || invoker.act(move || walk.run()));
        let mut hasher = Sha256::new();
        let taken = { &opened }.iter().try_for_each(|part| take_one(&mut hasher, source, part, take));
        drop(opened); // a walk that has more to say ends here
        let walked = walking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (walked, taken.map(|()| hex(&hasher.finalize())))
    });
    let hash = taken?;
    walked?;
    Ok(hash)
}

fn take_one(
    hasher: &mut Sha256,
    source: &Path,
    part: Opened,
    take: &mut dyn FnMut(&Path, Part<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let below = part.below;
    let (letter, content) = match part.kind {
        Kind::Folder => {
            take(&below, Part::Folder)?;
            ('d', String::new())
        }
        Kind::Link(target) => {
            take(&below, Part::Link(&target))?;
            ('l', target.to_string_lossy().into_owned())
        }
        Kind::File { file, length, is_executable } => {
            // No more than there was when it was opened: a file that grows as it is read would never end.
            let mut content = Hashed { content: file.take(length), hasher: Sha256::new() };
            take(&below, Part::File { is_executable, content: &mut content })?;
            let rest = io::copy(&mut content, &mut io::sink());
            rest.with_context(|| format!("reading {}", joined(source, &below).display()))?;
            (if is_executable { 'x' } else { 'f' }, hex(&content.hasher.finalize()))
        }
    };
    let name = below.to_string_lossy();
    // Lengths keep two trees apart whose names and contents run together.
    hasher.update(format!("{letter} {} {name} {} {content}\n", name.len(), content.len()));
    Ok(())
}

/// Entry of a source, opened by the walk and not yet read.
struct Opened {
    below: PathBuf,
    kind: Kind,
}

enum Kind {
    Folder,
    Link(PathBuf),
    File { file: File, length: u64, is_executable: bool },
}

/// Reader that hashes all bytes read through it.
struct Hashed<R> {
    content: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)?;
        self.hasher.update(&buffer[..length]);
        Ok(length)
    }
}

/// Walk through a source. Each folder is opened relative to the open one above it, so that a link that replaces a folder meanwhile is not
/// followed.
struct Walk<'a> {
    source: &'a Path,
    sender: SyncSender<Opened>,
    entries: u64,
    bytes: u64,
}

impl Walk<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        let reading = || format!("reading {}", self.source.display());
        // Looked at before it is opened: opening a device alone may do something.
        let kind = fs::metadata(self.source).with_context(reading)?.file_type();
        require_source(kind, self.source)?;
        let how = OpenHow::new().flags(READ).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let top = openat2(AT_FDCWD, self.source, how).map_err(io::Error::from).with_context(reading)?;
        self.opened(top.into(), PathBuf::new(), 0)
    }

    fn opened(&mut self, opened: File, below: PathBuf, depth: usize) -> anyhow::Result<()> {
        let path = joined(self.source, &below);
        let reading = || format!("reading {}", path.display());
        let metadata = opened.metadata().with_context(reading)?;
        require_source(metadata.file_type(), &path)?;
        if fstatfs(&opened).map_err(io::Error::from).with_context(reading)?.filesystem_type() == PROC_SUPER_MAGIC {
            let problem = "it lies in /proc, which looks different for each process: copy what it shows into a file";
            return Err(Error::Usage(format!("{}: {problem}", path.display())).into());
        }
        if metadata.is_dir() {
            self.send(below.clone(), Kind::Folder)?;
            return self.folder(&opened, &below, depth);
        }
        self.bytes += metadata.len();
        if self.bytes > BYTES_MAX {
            let problem = format!("it is too large: a source holds at most {} GiB", BYTES_MAX >> 30);
            return Err(Error::Usage(format!("{}: {problem}", path.display())).into());
        }
        let is_executable = metadata.permissions().mode() & 0o111 != 0;
        self.send(below, Kind::File { file: opened, length: metadata.len(), is_executable })
    }

    fn folder(&mut self, folder: &File, below: &Path, depth: usize) -> anyhow::Result<()> {
        let path = joined(self.source, below);
        let reading = || format!("reading {}", path.display());
        if depth >= DEPTH_MAX {
            bail!(Error::Usage(format!("{}: more than {DEPTH_MAX} folders lie inside each other", path.display())));
        }
        for name in names(folder).with_context(reading)? {
            let below = below.join(&name);
            let path = joined(self.source, &below);
            let reading = || format!("reading {}", path.display());
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let seen = openat(folder, name.as_os_str(), flags, Mode::empty()).map_err(io::Error::from);
            let seen = File::from(seen.with_context(reading)?);
            let kind = seen.metadata().with_context(reading)?.file_type();
            if kind.is_symlink() {
                let target = readlinkat(&seen, "").map_err(io::Error::from).with_context(reading)?;
                self.send(below, Kind::Link(target.into()))?;
            } else {
                require_source(kind, &path)?;
                let opened = openat(folder, name.as_os_str(), READ | OFlag::O_NOFOLLOW, Mode::empty());
                let opened = opened.map_err(io::Error::from).with_context(reading)?;
                self.opened(opened.into(), below, depth + 1)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, below: PathBuf, kind: Kind) -> anyhow::Result<()> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            let problem = format!("it is too large: a source holds at most {ENTRIES_MAX} files");
            bail!(Error::Usage(format!("{}: {problem}", self.source.display())));
        }
        self.sender.send(Opened { below, kind }).context("the thread that reads the source has ended early")
    }
}

/// Names in a folder, sorted, without the leftovers of tools.
fn names(folder: &File) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::from_fd(OwnedFd::from(folder.try_clone()?))?.iter() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let is_wanted = name != "." && name != ".." && !name.to_str().is_some_and(|name| IGNORED.contains(&name));
        if is_wanted {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Refuses a source that is neither a file nor a folder.
fn require_source(kind: FileType, path: &Path) -> Result<(), Error> {
    if kind.is_dir() {
        return Ok(());
    }
    input::require_file(kind).map_err(|problem| Error::Usage(format!("{}: {problem}", path.display())))
}

fn joined(source: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { source.to_owned() } else { source.join(below) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn hash(path: &Path) -> anyhow::Result<String> {
        hash_path(path, &Invoker::find())
    }

    #[test]
    fn every_change_of_a_tree_changes_its_hash_and_leftovers_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("a"), "1").unwrap();
        let first = hash(root).unwrap();
        fs::create_dir(root.join("__pycache__")).unwrap();
        fs::write(root.join("__pycache__/x.pyc"), "1").unwrap();
        assert_eq!(hash(root).unwrap(), first);

        let mut seen = vec![first];
        let mut changed = |what: &str| {
            let hash = hash(root).unwrap();
            assert!(!seen.contains(&hash), "{what} changed nothing");
            seen.push(hash);
        };
        fs::write(root.join("a"), "2").unwrap();
        changed("a content");
        fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        changed("the right to execute");
        fs::rename(root.join("a"), root.join("b")).unwrap();
        changed("a name");
        symlink("b", root.join("c")).unwrap();
        changed("a link");
        fs::create_dir(root.join("d")).unwrap();
        changed("an empty folder");
    }

    /// Pins the hash of a known tree, because committed lock files contain hashes of layers made from such trees.
    #[test]
    fn the_hash_of_a_tree_stays_what_it_was() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/c")).unwrap();
        for (name, mode) in [("b/c/d", 0o644), ("a", 0o755), ("b-", 0o600)] {
            fs::write(folder.path().join(name), name).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("../a", folder.path().join("b/link")).unwrap();
        let expected = [
            ("d", "", String::new()),
            ("x", "a", hash_bytes(b"a")),
            ("d", "b", String::new()),
            ("d", "b/c", String::new()),
            ("f", "b/c/d", hash_bytes(b"b/c/d")),
            ("l", "b/link", "../a".into()),
            ("f", "b-", hash_bytes(b"b-")),
        ];
        let text: String = expected
            .iter()
            .map(|(letter, name, content)| format!("{letter} {} {name} {} {content}\n", name.len(), content.len()))
            .collect();
        assert_eq!(hash(folder.path()).unwrap(), hash_bytes(text.as_bytes()));
    }

    #[test]
    fn a_file_and_a_link_to_it_are_the_same_source() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "1").unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert_eq!(hash(&folder.path().join("a")).unwrap(), hash(&folder.path().join("b")).unwrap());
    }

    #[test]
    fn what_is_handed_out_is_what_the_hash_is_of_however_much_of_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "12345").unwrap();
        let mut parts = Vec::new();
        let first = read(folder.path(), &Invoker::find(), &mut |below, part| {
            if let Part::File { content, .. } = part {
                let mut start = [0; 2];
                content.read_exact(&mut start)?;
                parts.push((below.to_owned(), start));
            }
            Ok(())
        });
        assert_eq!(first.unwrap(), hash(folder.path()).unwrap());
        assert_eq!(parts, [("a".into(), *b"12")]);
        let refused = read(folder.path(), &Invoker::find(), &mut |_, _| bail!("no room"));
        assert_eq!(refused.unwrap_err().to_string(), "no room");
    }

    #[test]
    fn what_is_no_file_and_what_is_endless_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["pipes", "sockets", "huge"] {
            fs::create_dir(at(name)).unwrap();
        }
        nix::unistd::mkfifo(&at("pipes/pipe"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("sockets/socket")).unwrap();
        File::create(at("huge/file")).unwrap().set_len(BYTES_MAX + 1).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("/proc/self", at("process")).unwrap();
        for (path, expected) in [
            (at("pipes"), "pipe: it is a named pipe"),
            (at("pipes/pipe"), "pipe: it is a named pipe"),
            (at("sockets"), "socket: it is a socket"),
            (at("huge"), "file: it is too large"),
            (at("zero"), "zero: it is a device"),
            ("/dev/zero".into(), "it is a device"),
            ("/proc/self/environ".into(), "it lies in /proc"),
            (at("process"), "it lies in /proc"),
            ("/proc".into(), "it lies in /proc"),
            ("/proc/self/fd".into(), "it lies in /proc"),
            ("/proc/self/cwd".into(), "reading /proc/self/cwd"),
            (at("none"), "No such file"),
        ] {
            let error = format!("{:#}", hash(&path).unwrap_err());
            assert!(error.contains(expected), "{}: {error}", path.display());
        }
        let mut deep = at("deep");
        for _ in 0..=DEPTH_MAX {
            deep.push("d");
        }
        fs::create_dir_all(deep).unwrap();
        let error = hash(&at("deep")).unwrap_err().to_string();
        assert!(error.contains("lie inside each other"), "{error}");
    }

    #[test]
    fn a_source_is_read_with_the_rights_of_its_user() {
        if !crate::host::invoker::is_root() {
            return; // only root can take another user's rights; CI runs as root
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("tree/closed")).unwrap();
        for name in ["secret", "tree/closed/file", "open"] {
            fs::write(at(name), "x").unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(at("tree/closed"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink(at("secret"), at("link")).unwrap();
        for name in ["secret", "link", "tree"] {
            let error = format!("{:#}", hash_path(&at(name), &Invoker::nobody()).unwrap_err());
            assert!(error.contains("Permission denied"), "{name}: {error}");
            assert!(hash_path(&at(name), &Invoker::root()).is_ok(), "{name}");
        }
        let mut taker = None;
        read(&at("open"), &Invoker::nobody(), &mut |_, _| {
            taker = Some(nix::unistd::geteuid().as_raw());
            Ok(())
        })
        .unwrap();
        assert_eq!(taker, Some(0), "what is read is taken with the caller's rights");
    }
}
