//! The user who started the engine: scenarios run as that user, and files written for people belong to that user.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

/// Maximum size of a file that [`Invoker::read`] takes, in bytes: the file is held in memory.
pub const READ_BYTES_MAX: u64 = 1 << 30;

/// Environment variables in which sudo names its caller.
pub const SUDO_VARIABLES: [&str; 4] = ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"];

/// True in a process that sudo started as root, and that has given up root's rights.
static ROOT_IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// User of the host, with the rights that files are read and programs run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoker {
    pub uid: u32,
    /// Id of the primary group.
    pub gid: u32,
    /// Ids of all groups, the primary one among them.
    pub groups: Vec<u32>,
    /// Login name, or the user id where there is none.
    pub name: String,
    /// Home folder, where the user has one.
    pub home: Option<String>,
}

impl Invoker {
    /// Returns the user who called sudo, if sudo started this process as root; else this process's own user.
    #[must_use]
    pub fn find() -> Self {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        let sudo = if geteuid().is_root() { number("SUDO_UID").zip(number("SUDO_GID")) } else { None };
        let (uid, gid) = sudo.unwrap_or((geteuid().as_raw(), nix::unistd::getegid().as_raw()));
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let groups = user
            .as_ref()
            .and_then(|user| CString::new(user.name.as_str()).ok())
            .and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok())
            .map_or_else(|| vec![gid], |groups| groups.into_iter().map(Gid::as_raw).collect());
        let name = user.as_ref().map_or_else(|| uid.to_string(), |user| user.name.clone());
        Self { uid, gid, groups, name, home: user.map(|user| user.dir.display().to_string()) }
    }

    /// Returns the user of this process as [`Invoker::find`] does, looked up once.
    #[must_use]
    pub fn of_process() -> &'static Self {
        static FOUND: LazyLock<Invoker> = LazyLock::new(Invoker::find);
        &FOUND
    }

    /// Returns root, for whom [`Self::act`] changes no rights.
    #[must_use]
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: vec![0], name: "root".into(), home: None }
    }

    /// Tells whether this process acts for another user than its own.
    #[must_use]
    pub fn is_other(&self) -> bool {
        !self.is_root() && geteuid().is_root()
    }

    /// Tells whether this user called sudo for this process, which acts with the user's rights or no longer has root's.
    #[must_use]
    pub fn called_sudo(&self) -> bool {
        self.is_other() || ROOT_IS_GIVEN_UP.load(Ordering::Relaxed)
    }

    /// Returns the user nobody, who owns no files.
    #[must_use]
    pub fn nobody() -> Self {
        const ID: u32 = 65534;
        Self { uid: ID, gid: ID, groups: vec![ID], name: "nobody".into(), home: None }
    }

    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Makes the user the owner of a file or folder; of a link itself, not of its target.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        if geteuid().as_raw() == self.uid {
            return Ok(());
        }
        lchown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("changing the owner of {} to {}", path.display(), self.name))
    }

    /// Runs an action with the user's rights and none of root's: what the action makes is the user's, and a link that the user has planted
    /// leads no further than the user could go. For root the action is run as it is.
    ///
    /// # Errors
    /// When the rights cannot be taken, the action was not run.
    pub fn act<T: Send>(&self, action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        if !self.is_other() {
            return action();
        }
        // Rights belong to a thread; this one ends with the action, so none of them ever comes back.
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                self.take_rights().with_context(|| format!("switching to the user and groups of {}", self.name))?;
                action()
            });
            acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Gives up the rights of root for good, in all threads, where this process has them for the user; programs that it starts are the
    /// user's, and find the user's home. To be called while the process has one thread.
    ///
    /// # Errors
    /// When the kernel refuses, the process must not go on.
    pub fn give_up_root(&self) -> anyhow::Result<()> {
        if !self.is_other() {
            return Ok(());
        }
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let give_up = || -> nix::Result<()> {
            setgroups(&groups)?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)
        };
        give_up().with_context(|| format!("giving up root for {}", self.name))?;
        ROOT_IS_GIVEN_UP.store(true, Ordering::Relaxed);
        // SAFETY: no other thread reads the environment, because there is none.
        unsafe {
            self.environment().for_each(|(name, value)| std::env::set_var(name, value));
            for name in SUDO_VARIABLES {
                std::env::remove_var(name);
            }
        }
        Ok(())
    }

    /// Returns the environment variables that tell a program whom it runs as. Programs get them in place of [`SUDO_VARIABLES`].
    pub fn environment(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names = ["USER", "LOGNAME"].map(|name| (name, self.name.as_str()));
        names.into_iter().chain(self.home.as_deref().map(|home| ("HOME", home)))
    }

    /// Makes a new file with the user's rights, in place of an older one; a link is replaced, not followed.
    pub fn create(&self, path: &Path) -> anyhow::Result<File> {
        let make = || {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            // An exclusive open follows no link, and whatever it opens is a regular file that was not there before.
            Ok(File::options().write(true).create_new(true).custom_flags(libc::O_NOFOLLOW).open(path)?)
        };
        self.act(make).with_context(|| format!("making {} as {}", path.display(), self.name))
    }

    /// Writes a file with the user's rights in place of an older one, which stays until the new one is completely on the disk.
    pub fn replace(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let write = || -> anyhow::Result<()> {
            let mut file = self.create(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            self.act(|| Ok(std::fs::rename(&new, path)?))
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a regular file with the user's rights to files, whatever this process may do.
    ///
    /// # Errors
    /// When the file is no regular one (a device, a pipe), one of /proc (where the engine's own state is visible), or larger than 1 GiB.
    pub fn read(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        self.act(|| read_regular(path)).with_context(|| format!("reading {} as {}", path.display(), self.name))
    }

    /// Opens a regular file with the user's rights; returns its length too.
    ///
    /// # Errors
    /// As [`Invoker::read`], but for any length.
    pub fn open(&self, path: &Path) -> anyhow::Result<(File, u64)> {
        self.act(|| open_regular(path)).with_context(|| format!("reading {} as {}", path.display(), self.name))
    }

    /// Reads the end of a regular file with the user's rights, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// As [`Invoker::read`], but for any length.
    pub fn read_end(&self, path: &Path, bytes_max: u64) -> anyhow::Result<Vec<u8>> {
        let read = || -> anyhow::Result<Vec<u8>> {
            let (mut file, length) = open_regular(path)?;
            file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
            let mut bytes = Vec::new();
            file.take(bytes_max).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        self.act(read).with_context(|| format!("reading {} as {}", path.display(), self.name))
    }

    /// Takes the user's rights only for the calling thread, by the system calls themselves: the functions of libc and nix would change all
    /// threads of the process.
    ///
    /// It changes the effective user, although `setfsuid` seems to be enough: /proc/sys checks the effective user, and would let a thread
    /// of root's write there. The change drops all effective capabilities too. The real user stays root, so that the user can neither trace
    /// nor signal the thread.
    fn take_rights(&self) -> nix::Result<()> {
        const KEEP: libc::uid_t = libc::uid_t::MAX;
        // SAFETY: three system calls on numbers; the first reads as many groups as it is told, and the vector has them.
        unsafe {
            Errno::result(libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr()))?;
            Errno::result(libc::syscall(libc::SYS_setresgid, KEEP, self.gid, KEEP))?;
            Errno::result(libc::syscall(libc::SYS_setresuid, KEEP, self.uid, KEEP))?;
        }
        Ok(())
    }
}

/// Opens a regular file with the rights of the calling thread, without waiting for a pipe's writer; returns its length, too.
///
/// # Errors
/// When the file is no regular one, or one of /proc, where the engine's own state is visible.
pub fn open_regular(path: &Path) -> anyhow::Result<(File, u64)> {
    // Without waiting: a pipe that nobody writes to would hold the engine. Without links such as /proc/self/fd/3: they
    // lead to what the engine has open, past the folders on the way there.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat2(AT_FDCWD, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS))?;
    if fstatfs(&file)?.filesystem_type() == PROC_SUPER_MAGIC {
        bail!("it lies in /proc, which looks different for each process: copy what it shows into a file");
    }
    let file = File::from(file);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!("the file is no regular file");
    }
    Ok((file, metadata.len()))
}

fn read_regular(path: &Path) -> anyhow::Result<Vec<u8>> {
    let (file, length) = open_regular(path)?;
    let mut bytes = Vec::new();
    if length <= READ_BYTES_MAX {
        file.take(READ_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > READ_BYTES_MAX {
        bail!("the file is larger than {} MiB, the most that is read into memory", READ_BYTES_MAX >> 20);
    }
    Ok(bytes)
}

/// Returns a user's login name; the user id as text where there is none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Tells whether this process is root, as the engine has to be for labs.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

    use super::*;

    fn user(uid: u32, groups: &[u32]) -> Invoker {
        Invoker { uid, gid: uid, groups: groups.to_vec(), name: format!("user {uid}"), home: None }
    }

    fn file(path: &Path, mode: u32, group: u32) {
        std::fs::write(path, "x").unwrap();
        lchown(path, None, Some(group)).unwrap();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Returns a folder where everybody may write, as /tmp but without its sticky bit.
    fn open_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        folder
    }

    #[test]
    fn a_file_is_read_with_the_users_rights() {
        if !is_root() {
            return; // only root can take another user's rights; CI runs as root
        }
        let folder = open_folder();
        let path = folder.path().join("secret");
        file(&path, 0o600, 0);
        assert!(Invoker::nobody().read(&path).is_err(), "root's file, by root's right to pass over permissions");
        file(&path, 0o440, 0);
        assert!(Invoker::nobody().read(&path).is_err(), "root's file, by root's group");
        assert_eq!(user(0, &[0]).read(&path).unwrap(), b"x");
        file(&path, 0o440, 4321);
        assert!(Invoker::nobody().read(&path).is_err());
        assert_eq!(user(65534, &[65534, 4321]).read(&path).unwrap(), b"x", "by a further group of the user's");
    }

    #[test]
    fn the_rights_are_the_threads_and_go_with_it() {
        if !is_root() {
            return;
        }
        let seen = Invoker::nobody().act(|| Ok(std::fs::read_to_string("/proc/thread-self/status")?)).unwrap();
        let line = |name: &str| seen.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(line("Uid:"), "0\t65534\t0\t65534");
        assert_eq!(line("CapEff:"), "0000000000000000", "no right to pass over permissions is left");
        assert_eq!(line("Groups:"), "65534");
        // The kernel lets the effective user root write there, whatever the file system user is.
        let kernel = Path::new("/proc/sys/kernel/core_pattern");
        assert!(Invoker::nobody().act(|| Ok(File::options().write(true).open(kernel)?)).is_err());
        assert!(geteuid().is_root());
        let other = std::thread::spawn(|| geteuid().is_root());
        assert!(other.join().unwrap());
    }

    #[test]
    fn only_regular_files_are_read_and_no_pipe_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let huge = folder.path().join("huge");
        File::create(&huge).unwrap().set_len(READ_BYTES_MAX + 1).unwrap();
        let me = Invoker::find();
        for (path, reason) in [
            (Path::new("/dev/zero"), "no regular file"),
            (&pipe, "no regular file"),
            (folder.path(), "no regular file"),
            (&huge, "larger than 1024 MiB"),
            (Path::new("/proc/self/environ"), "/proc"),
            (Path::new("/proc/self/fd/0"), "/proc/self/fd/0"),
        ] {
            let error = format!("{:#}", me.read(path).unwrap_err());
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(me.read_end(&huge, 5).unwrap(), [0; 5], "of any length");
        std::fs::write(folder.path().join("short"), "abc").unwrap();
        assert_eq!(me.read_end(&folder.path().join("short"), 5).unwrap(), b"abc");
        assert!(me.read_end(&pipe, 5).is_err());
    }

    #[test]
    fn a_new_file_is_the_users_and_no_link_is_followed() {
        if !is_root() {
            return;
        }
        let folder = open_folder();
        let (prey, planted, roots) =
            (folder.path().join("prey"), folder.path().join("planted"), folder.path().join("roots"));
        file(&prey, 0o644, 0);
        symlink(&prey, &planted).unwrap();
        Invoker::nobody().create(&planted).unwrap();
        assert_eq!(std::fs::read(&prey).unwrap(), b"x");
        assert_eq!(std::fs::symlink_metadata(&planted).unwrap().uid(), 65534);
        assert!(planted.symlink_metadata().unwrap().is_file());
        std::fs::create_dir(&roots).unwrap();
        assert!(Invoker::nobody().create(&roots.join("new")).is_err(), "root's folder");
        assert!(Invoker::nobody().create(&roots).is_err(), "a folder stands there");
    }
}
