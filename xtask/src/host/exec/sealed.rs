//! Files in memory that no process can change: input of programs, and copies of programs.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc::MFD_EXEC;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// First bytes of a program that can start from memory: the interpreter of a script would look for a file that is closed by then.
const ELF: &[u8] = b"\x7fELF";

/// Maximum size of a program that is copied.
const COPY_BYTES_MAX: u64 = 8 << 20;

/// Returns a file in memory that holds these bytes and that no process can write, extend or shorten, however it is opened again.
pub fn sealed_file(bytes: &[u8]) -> io::Result<File> {
    sealed(c"standard input", MFdFlags::empty(), bytes)
}

fn sealed(name: &CStr, more: MFdFlags, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING | more)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// Version of a program's file that a copy was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

/// Returns the copy in memory of a program that is started often; made once for this process, and anew when the file was replaced. `None`
/// where the program cannot be run from memory: it is a script, or the kernel's settings forbid it.
#[must_use]
pub fn copy_of(program: &Path) -> Option<Arc<File>> {
    static COPIES: Mutex<BTreeMap<PathBuf, (Version, Arc<File>)>> = Mutex::new(BTreeMap::new());
    let facts = std::fs::metadata(program).ok().filter(|facts| facts.len() <= COPY_BYTES_MAX)?;
    let changed = (facts.ctime(), facts.ctime_nsec());
    let version = Version { device: facts.dev(), inode: facts.ino(), bytes: facts.len(), changed };
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, copy)) = copies.get(program).filter(|(known, _)| *known == version) {
        return Some(Arc::clone(copy));
    }
    let bytes = std::fs::read(program).ok().filter(|bytes| bytes.starts_with(ELF))?;
    let copy = Arc::new(executable(&bytes).ok()?);
    copies.insert(program.to_owned(), (version, Arc::clone(&copy)));
    Some(copy)
}

/// Returns a file in memory that may be executed. Kernels before 6.3 do not know the flag for that, and do not need it.
fn executable(bytes: &[u8]) -> io::Result<File> {
    let name = c"program";
    match sealed(name, MFdFlags::from_bits_retain(MFD_EXEC), bytes) {
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => sealed(name, MFdFlags::empty(), bytes),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::host::exec::shell::{Command, which};

    #[test]
    fn a_copy_runs_under_its_own_name_and_cannot_be_changed() {
        let shell = which("dash").or_else(|| which("bash")).unwrap();
        let copy = copy_of(&shell).unwrap();
        assert!(Arc::ptr_eq(&copy, &copy_of(&shell).unwrap()), "one for all starts");
        let command = Command::new(&shell).copy(Some(copy));
        let output = command.args(["-c", "echo $0 $(readlink /proc/$$/exe); exec 3>>/proc/$$/exe"]).output().unwrap();
        let expected = format!("{} /memfd:program (deleted)", shell.display());
        assert_eq!((output.text(), output.status != 0), (expected, true), "{output:?}");
    }

    #[test]
    fn a_replaced_program_is_copied_anew_and_a_script_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        let put = |from: &Path| {
            let new = folder.path().join("new");
            std::fs::copy(from, &new).unwrap();
            std::fs::rename(new, &path).unwrap();
        };
        put(&which("true").unwrap());
        let copy = copy_of(&path).unwrap();
        assert_eq!(Command::new(&path).copy(Some(copy)).output().unwrap().status, 0);
        put(&which("false").unwrap());
        assert_eq!(Command::new(&path).copy(copy_of(&path)).output().unwrap().status, 1);
        std::fs::write(&path, "#!/bin/sh\nexit 7\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(copy_of(&path).is_none());
        assert_eq!(Command::new(&path).copy(copy_of(&path)).output().unwrap().status, 7, "it is run as it lies there");
    }
}
