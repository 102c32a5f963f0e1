//! Files that a person names, or that lie in a project or a record. They are opened without blocking, and with the rights of the user who
//! called sudo if the engine is root for a user. A path that cannot be read, or is no file, is bad usage (exit code 2), reported with path
//! and reason. A named pipe, a socket or a device is rejected before it is opened, and so is everything in /proc. Files of a record
//! ([`open_below`]) are opened below its folder, without following a symbolic link.

use std::fs::{self, File, FileType, Metadata};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::Error;
use crate::host::invoker::{Invoker, open_regular};

/// Maximum bytes of a file that is read as a whole.
const BYTES_MAX: u64 = 64 << 20;

/// Maximum bytes of a file of a record that is read as a whole.
pub const RECORD_BYTES_MAX: u64 = 512 << 20;

/// Flags of `openat2` by which a path is resolved below a folder, without following symbolic links.
const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

/// Opens a file for reading.
///
/// # Errors
/// [`Error::Usage`] with the path, if the file cannot be opened or is no regular file.
pub fn open(path: &Path) -> Result<File, Error> {
    as_user(path, || {
        // Looked at before it is opened: opening a device alone may do something.
        require_file(fs::metadata(path)?.file_type()).map_err(anyhow::Error::msg)?;
        Ok(open_regular(path)?.0)
    })
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::Usage`] with the path, if the file cannot be opened, is no regular file, or is larger than 64 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    let fails = |reason: String| Error::Usage(format!("{}: {reason}", path.display()));
    match read {
        Ok(length) if length as u64 > BYTES_MAX => {
            Err(fails(format!("the file is larger than {} MiB", BYTES_MAX >> 20)))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(fails(error.to_string())),
    }
}

/// Reads a whole file as text.
///
/// # Errors
/// [`Error::Usage`] with the path, if the file cannot be opened, is no regular file, is larger than 64 MiB, or is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read(path)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::Usage(format!("{}: byte {place} is not UTF-8 text", path.display()))
    })
}

/// Tells whether a path exists; a dangling symbolic link exists.
///
/// # Errors
/// [`Error::Usage`] with the path, if the user may not access its folder.
pub fn exists(path: &Path) -> Result<bool, Error> {
    as_user(path, || or_nothing(fs::symlink_metadata(path)).map(|found| found.is_some()))
}

/// Returns the metadata of the file or folder to which a path leads; `None` if it leads to nothing.
///
/// # Errors
/// [`Error::Usage`] with the path, if the user may not access its folder.
pub fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    as_user(path, || or_nothing(fs::metadata(path)))
}

/// Tells whether a path leads to a folder that the user may access.
#[must_use]
pub fn is_folder(path: &Path) -> bool {
    look(path).is_ok_and(|found| found.is_some_and(|found| found.is_dir()))
}

/// Tells whether a path leads to a regular file that the user may access.
#[must_use]
pub fn is_file(path: &Path) -> bool {
    look(path).is_ok_and(|found| found.is_some_and(|found| found.is_file()))
}

fn or_nothing(looked: std::io::Result<Metadata>) -> anyhow::Result<Option<Metadata>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the paths of a folder's entries, sorted.
///
/// # Errors
/// [`Error::Usage`] with the path, if the folder cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut paths = as_user(folder, || {
        let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        Ok(entries.collect::<Result<Vec<_>, _>>()?)
    })?;
    paths.sort();
    Ok(paths)
}

/// Opens a regular file below a folder to which other users write, such as a run's: without following a symbolic link, and without
/// blocking.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nothing exists there. Another kind if the path has a symbolic link, leads out of the folder, or leads to
/// something other than a regular file.
pub fn open_below(folder: &Path, path: impl AsRef<Path>) -> io::Result<File> {
    beneath(folder, path.as_ref(), |top, path| {
        // Looked at before it is opened: opening a device alone may do something.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let found = File::from(openat2(top, path, OpenHow::new().flags(flags).resolve(BENEATH))?);
        require_file(found.metadata()?.file_type()).map_err(io::Error::other)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = File::from(openat2(top, path, OpenHow::new().flags(flags).resolve(BENEATH))?);
        require_file(file.metadata()?.file_type()).map_err(io::Error::other)?;
        Ok(file)
    })
}

/// Reads a whole file, opened as by [`open_below`].
///
/// # Errors
/// The errors of [`open_below`], and one for a file that is larger than `bytes_max`.
pub fn read_below(folder: &Path, path: impl AsRef<Path>, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = open_below(folder, path)?;
    let mut bytes = Vec::new();
    // Its length is known before it is read: of one that is too large, nothing is held in memory.
    if file.metadata()?.len() <= bytes_max {
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 <= bytes_max {
            return Ok(bytes);
        }
    }
    Err(io::Error::other(format!("the file is larger than {} MiB", bytes_max >> 20)))
}

/// Reads the last `bytes_max` bytes of a file, opened as by [`open_below`]; returns the number of skipped bytes, and the bytes.
pub fn read_end_below(folder: &Path, path: impl AsRef<Path>, bytes_max: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut file = open_below(folder, path)?;
    let skipped = file.metadata()?.len().saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok((skipped, bytes))
}

/// Returns the metadata of a path below a folder. Symbolic links on the way are not followed; for a link at the end of the path, the
/// metadata are the link's own.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nothing exists there. Another kind if a symbolic link is on the way, or the path leads out of the folder.
pub fn look_below(folder: &Path, path: impl AsRef<Path>) -> io::Result<Metadata> {
    beneath(folder, path.as_ref(), |top, path| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        File::from(openat2(top, path, OpenHow::new().flags(flags).resolve(BENEATH))?).metadata()
    })
}

/// Returns the sorted names in a folder below another one; empty if there is no such folder, or a symbolic link is on the way.
#[must_use]
pub fn names_below(folder: &Path, path: impl AsRef<Path>) -> Vec<String> {
    let listed = beneath(folder, path.as_ref(), |top, path| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = openat2(top, path, OpenHow::new().flags(flags).resolve(BENEATH))?;
        let entries = nix::dir::Dir::from_fd(opened)?.into_iter().filter_map(Result::ok);
        Ok(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>())
    });
    let mut names = listed.unwrap_or_default();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// Runs an action on an opened folder and a path below it, with the rights of the user who called sudo, or of this process.
fn beneath<T: Send>(
    folder: &Path,
    path: &Path,
    action: impl FnOnce(&File, &Path) -> io::Result<T> + Send,
) -> io::Result<T> {
    let act = || {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let opened = openat2(AT_FDCWD, folder, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS));
        Ok(opened.map_err(io::Error::from).and_then(|top| action(&File::from(top), path)))
    };
    let done = Invoker::of_process().act(act).map_err(|error| io::Error::other(format!("{error:#}")))?;
    done.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => io::Error::other("the path has a symbolic link, and the engine follows none in a record"),
        Some(Errno::EXDEV) => io::Error::other("the path leads out of the record's folder"),
        _ => error,
    })
}

/// Runs an action with the rights of the user who called sudo, or of this process; an error becomes [`Error::Usage`] with the path.
fn as_user<T: Send>(path: &Path, action: impl FnOnce() -> anyhow::Result<T> + Send) -> Result<T, Error> {
    let invoker = Invoker::of_process();
    invoker.act(action).map_err(|error| {
        let is_denied =
            error.downcast_ref().is_some_and(|io: &std::io::Error| io.kind() == ErrorKind::PermissionDenied)
                || error.downcast_ref() == Some(&nix::errno::Errno::EACCES);
        let whose = if is_denied && invoker.called_sudo() {
            format!("; it is read with the rights of {}, who called sudo", invoker.name)
        } else {
            String::new()
        };
        Error::Usage(format!("{}: {error:#}{whose}", path.display()))
    })
}

/// Rejects everything except a regular file; the error says what the file is instead.
pub fn require_file(kind: FileType) -> Result<(), String> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "something else"
    };
    Err(format!("it is {what}: a file is needed here"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("pipe", at("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("lost")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("binary"), b"ab\xff").unwrap();
        fs::write(at("file"), "text").unwrap();
        for (path, expected) in [
            (at("pipe"), "it is a named pipe: a file is needed here"),
            (at("link"), "it is a named pipe: a file is needed here"),
            (at("socket"), "it is a socket: a file is needed here"),
            (at("folder"), "it is a folder: a file is needed here"),
            (Path::new("/dev/null").to_owned(), "it is a device: a file is needed here"),
            (at("lost"), "No such file or directory (os error 2)"),
            (at("file/x"), "Not a directory (os error 20)"),
            (at("binary"), "byte 2 is not UTF-8 text"),
        ] {
            let Err(Error::Usage(problem)) = read_text(&path) else { panic!("{} is read", path.display()) };
            assert_eq!(problem, format!("{}: {expected}", path.display()));
        }
        assert_eq!(read_text(&at("file")).unwrap(), "text");
        let refused = read(Path::new("/proc/self/environ")).unwrap_err().to_string();
        assert!(refused.contains("it lies in /proc"), "{refused}");
        assert!(look(&at("lost")).unwrap().is_none() && look(&at("link")).unwrap().is_some());
        let there = |name: &str| exists(&at(name)).unwrap();
        assert!(there("lost") && there("file") && !there("none") && !there("file/x"));
    }

    #[test]
    fn a_record_is_read_past_no_link_and_not_outside_of_its_folder() {
        let home = tempfile::tempdir().unwrap();
        let top = home.path().join("run");
        let at = |name: &str| top.join(name);
        fs::create_dir_all(at("case")).unwrap();
        fs::write(home.path().join("outside"), "secret").unwrap();
        fs::write(at("case/file"), "12345").unwrap();
        nix::unistd::mkfifo(&at("case/pipe"), Mode::S_IRWXU).unwrap();
        for (link, to) in [("case/link", "file"), ("case/zero", "/dev/zero"), ("above", "case"), ("out", "../outside")]
        {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        let link = "the path has a symbolic link, and the engine follows none in a record";
        for (path, expected) in [
            ("case/link", link),
            ("case/zero", link),
            ("above/file", link),
            ("out", link),
            ("../outside", "the path leads out of the record's folder"),
            ("case/../../outside", "the path leads out of the record's folder"),
            ("case/pipe", "it is a named pipe: a file is needed here"),
            ("case", "it is a folder: a file is needed here"),
        ] {
            assert_eq!(read_below(&top, path, 5).unwrap_err().to_string(), expected, "{path}");
            assert_eq!(read_end_below(&top, path, 5).unwrap_err().to_string(), expected, "{path}");
        }
        assert!(open_below(&top, home.path().join("outside")).is_err(), "an absolute path");
        for path in ["none", "none/file"] {
            assert_eq!(read_below(&top, path, 5).unwrap_err().kind(), ErrorKind::NotFound, "{path}");
        }
        assert_eq!(read_below(&top, "case/file", 5).unwrap(), b"12345");
        assert_eq!(read_below(&top, "case/file", 4).unwrap_err().to_string(), "the file is larger than 0 MiB");
        assert_eq!(read_end_below(&top, "case/file", 2).unwrap(), (3, b"45".to_vec()));
        assert_eq!(names_below(&top, "case"), ["file", "link", "pipe", "zero"]);
        assert!(names_below(&top, "above").is_empty() && names_below(&top, "..").is_empty());
        assert!(look_below(&top, "case/link").unwrap().is_symlink() && look_below(&top, "above/file").is_err());
    }
}
