//! Files that a person names, or that lie in a project: opened with the rights of the user who called sudo, where the engine is root
//! for one, and without waiting for anybody. What cannot be read, and what is no file, is bad usage (exit code 2) with its path and the
//! reason; a named pipe, a socket or a device is refused before it is opened, and so is all of /proc.

use std::fs::{self, File, FileType, Metadata};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use crate::error::Error;
use crate::host::invoker::{Invoker, open_regular};

/// Largest file that is read as a whole, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Opens a file for reading.
///
/// # Errors
/// [`Error::Usage`] with the path: when it cannot be opened, or is no file.
pub fn open(path: &Path) -> Result<File, Error> {
    as_user(path, || {
        // Looked at before it is opened: opening a device alone may do something.
        require_file(fs::metadata(path)?.file_type()).map_err(anyhow::Error::msg)?;
        Ok(open_regular(path)?.0)
    })
}

/// Reads a file as a whole.
///
/// # Errors
/// [`Error::Usage`] with the path, as [`open`]; when it is larger than 64 MiB.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes);
    let fails = |reason: String| Error::Usage(format!("{}: {reason}", path.display()));
    match read {
        Ok(length) if length as u64 > BYTES_MAX => Err(fails(format!("it is larger than {} MiB", BYTES_MAX >> 20))),
        Ok(_) => Ok(bytes),
        Err(error) => Err(fails(error.to_string())),
    }
}

/// Reads a file of text.
///
/// # Errors
/// [`Error::Usage`] with the path, as [`read`]; when it is no UTF-8.
pub fn read_text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read(path)?).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        Error::Usage(format!("{}: byte {place} is no UTF-8 text", path.display()))
    })
}

/// Tells whether something has a name; a link that leads nowhere has one, too.
///
/// # Errors
/// [`Error::Usage`] with the path, when that cannot be told.
pub fn exists(path: &Path) -> Result<bool, Error> {
    as_user(path, || or_nothing(fs::symlink_metadata(path)).map(|found| found.is_some()))
}

/// Looks at what a path leads to; `None` where there is nothing.
///
/// # Errors
/// [`Error::Usage`] with the path, when the user may not look.
pub fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    as_user(path, || or_nothing(fs::metadata(path)))
}

fn or_nothing(looked: std::io::Result<Metadata>) -> anyhow::Result<Option<Metadata>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Lists a folder, in the order of names.
///
/// # Errors
/// [`Error::Usage`] with the path, when it cannot be listed.
pub fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut paths = as_user(folder, || {
        let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        Ok(entries.collect::<Result<Vec<_>, _>>()?)
    })?;
    paths.sort();
    Ok(paths)
}

/// Does something with the rights of the user of this process; an error is bad usage, with the path.
fn as_user<T: Send>(path: &Path, action: impl FnOnce() -> anyhow::Result<T> + Send) -> Result<T, Error> {
    let invoker = Invoker::of_process();
    invoker.act(action).map_err(|error| {
        let is_denied =
            error.downcast_ref().is_some_and(|io: &std::io::Error| io.kind() == ErrorKind::PermissionDenied)
                || error.downcast_ref() == Some(&nix::errno::Errno::EACCES);
        let whose = if is_denied && invoker.is_other() {
            format!("; it is read with the rights of {}, who called sudo", invoker.name)
        } else {
            String::new()
        };
        Error::Usage(format!("{}: {error:#}{whose}", path.display()))
    })
}

/// Refuses everything but a file, by the name of what it is.
///
/// # Errors
/// What it is instead.
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
            (at("binary"), "byte 2 is no UTF-8 text"),
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
}
