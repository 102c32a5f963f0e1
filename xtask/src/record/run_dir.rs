//! A run's folder: `target/e2e/<run-id>/`, with the link `target/e2e/latest`. All of it belongs to one owner.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::masks::MaskedStream;
use super::names::is_harmless_name;
use super::run_dir_help::help;
use super::{Masks, PastRun, is_binary};
use crate::error::Error;
use crate::host::invoker::Invoker;

/// Flags for opening a path below a folder: a path that leads out of that folder, or through a link, is refused.
const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_SYMLINKS);

/// Maximum size of the artifacts, long streams and screenshots of one run, in bytes.
pub const KEPT_BYTES_MAX: u64 = 16 << 30;

/// Number of bytes at a file's start that tell whether the file is text.
const HEAD_BYTES: u64 = 8000;

/// Number of bytes of a file that are copied at a time.
const COPY_BYTES: usize = 64 << 10;

/// Folder of one run. It is the user's, who may plant anything there, while the engine is root. So all files in it are written with the
/// user's rights, below a descriptor of the folder that was opened when it was made, and no link is followed.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    run_id: String,
    owner: Invoker,
    /// Descriptor of the folder, which stays valid when something else takes the folder's path.
    top: Arc<OwnedFd>,
    /// Bytes in the folder that scenarios have asked to keep.
    kept_bytes: Arc<AtomicU64>,
    masks: Arc<Masks>,
}

impl RunDir {
    /// Makes a new folder below `root/target/e2e`, and the link `latest` to it.
    ///
    /// # Errors
    /// [`Error::Host`] with the help when the owner cannot make the folder or write to it.
    pub fn create(root: &Path, owner: Invoker) -> anyhow::Result<Self> {
        let runs = root.join(super::RUNS_FOLDER);
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let stamp: String = now.chars().filter(char::is_ascii_digit).collect();
        let run_id = format!("{}-{}-{}", &stamp[..8], &stamp[8..14], std::process::id());
        let path = runs.join(&run_id);
        let make = || -> anyhow::Result<OwnedFd> {
            std::fs::create_dir_all(&runs)?;
            let above = open_folder(AT_FDCWD, &runs, ResolveFlag::empty()).map_err(std::io::Error::from)?;
            match mkdirat(&above, run_id.as_str(), Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
            Ok(open_folder(&above, Path::new(&run_id), BENEATH).map_err(std::io::Error::from)?)
        };
        let top = owner.act(make).map_err(|error| Error::Host {
            problem: format!("{} cannot be made by the user {}: {error:#}", path.display(), owner.name),
            help: help(root, &owner),
        })?;
        let dir = Self { path, run_id, owner, top: Arc::new(top), kept_bytes: Arc::default(), masks: Arc::default() };
        dir.link(&runs.join("latest"), Path::new(&dir.run_id))?;
        Ok(dir)
    }

    /// Makes the folder of another run below this one. The name of that run is its path below the folder of runs, and `latest` stays
    /// unchanged.
    pub fn below(&self, relative: &str) -> anyhow::Result<Self> {
        let top = self.owner.act(|| self.beneath(relative)).map_err(|error| self.explained(error))?;
        Ok(Self {
            path: self.path.join(relative),
            run_id: format!("{}/{relative}", self.run_id),
            owner: self.owner.clone(),
            top: Arc::new(top),
            kept_bytes: Arc::default(),
            masks: Arc::clone(&self.masks),
        })
    }

    /// Opens the folder of a past run, to add files to it.
    pub fn of(run: &PastRun, owner: Invoker) -> anyhow::Result<Self> {
        let path = run.folder.clone();
        let top = owner.act(|| Ok(open_folder(AT_FDCWD, &path, ResolveFlag::empty())?));
        let top = top.with_context(|| format!("opening {}", path.display()))?;
        let run_id = run.record.run_id.clone();
        Ok(Self { path, run_id, owner, top: Arc::new(top), kept_bytes: Arc::default(), masks: Arc::default() })
    }

    /// Masks secrets in the names and contents of files that are written from now on. The caller of [`RunDir::file`] masks what it
    /// writes.
    #[must_use]
    pub fn masked_by(self, masks: Arc<Masks>) -> Self {
        Self { masks, ..self }
    }

    /// Returns the masks of the secrets that no file may hold.
    #[must_use]
    pub fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }

    /// Returns a path below the folder with the secrets in it masked, as it is written.
    #[must_use]
    pub fn name_of(&self, relative: &str) -> String {
        let names: Vec<_> = relative.split('/').map(|name| self.masks.text(name)).collect();
        names.join("/")
    }

    /// Runs an action with the owner's rights and none of root's.
    pub fn act<T: Send>(&self, action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.owner.act(action)
    }

    /// Returns the name of the run.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Returns the path of the folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the folder still stands at its path, where a person can find its files.
    ///
    /// # Errors
    /// [`Error::Host`] when it was removed, moved or replaced.
    pub fn require(&self) -> Result<(), Error> {
        let ours = fstat(&self.top).ok();
        let there = std::fs::symlink_metadata(&self.path).ok();
        let is_ours = ours
            .zip(there)
            .is_some_and(|(ours, there)| (ours.st_dev, ours.st_ino) == (there.dev(), there.ino()) && ours.st_nlink > 0);
        if is_ours {
            return Ok(());
        }
        Err(Error::Host {
            problem: format!("the run's folder {} was removed or replaced during the run", self.path.display()),
            help:
                "run again, and find the program that removes it: a scenario may write only to its folder of artifacts"
                    .into(),
        })
    }

    /// Reserves room for bytes that a scenario asks to keep; returns false where the run has too little room left.
    #[must_use]
    pub fn take_room(&self, bytes: u64) -> bool {
        let taken = |used: u64| used.checked_add(bytes).filter(|used| *used <= KEPT_BYTES_MAX);
        self.kept_bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken).is_ok()
    }

    /// Gives back reserved room for bytes that could not be kept.
    pub fn give_back_room(&self, bytes: u64) {
        self.kept_bytes.fetch_sub(bytes, Ordering::SeqCst);
    }

    /// Makes a folder below this one, and returns its path.
    pub fn folder(&self, relative: &str) -> anyhow::Result<PathBuf> {
        require_names(relative)?;
        let relative = self.name_of(relative);
        self.owner.act(|| self.beneath(&relative).map(drop)).map_err(|error| self.explained(error))?;
        Ok(self.path.join(relative))
    }

    /// Makes an empty file below this folder, in place of an older one. Writing appends to the file.
    pub fn file(&self, relative: &str) -> anyhow::Result<File> {
        require_names(relative)?;
        let relative = &self.name_of(relative);
        let (parent, name) = relative.rsplit_once('/').unwrap_or(("", relative));
        let made = self.owner.act(|| new_file(&self.beneath(parent)?, name));
        made.with_context(|| self.making("file", relative)).map_err(|error| self.explained(error))
    }

    /// Writes a whole file below this folder: at each moment the old or the new file is there, never a part.
    pub fn write(&self, relative: &str, content: &[u8]) -> anyhow::Result<()> {
        require_names(relative)?;
        let content = self.masks.own_content(relative, content);
        self.write_by(&self.name_of(relative), |file| Ok(file.write_all(&content)?))
    }

    /// Writes a whole file below this folder with the function `fill`, which has only the owner's rights.
    fn write_by(
        &self,
        relative: &str,
        fill: impl FnOnce(&mut File) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<()> {
        let (parent, name) = relative.rsplit_once('/').unwrap_or(("", relative));
        let new = format!("{name}.new");
        let write = || -> anyhow::Result<()> {
            let folder = self.beneath(parent)?;
            let written = new_file(&folder, &new)
                .and_then(|mut file| fill(&mut file))
                .and_then(|()| Ok(renameat(&folder, new.as_str(), &folder, name).map_err(std::io::Error::from)?));
            // Half a file would take room that what comes next may need.
            written.inspect_err(|_| {
                let _ = unlinkat(&folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
            })
        };
        let written = self.owner.act(write).with_context(|| format!("writing {}", self.path.join(relative).display()));
        written.map_err(|error| self.explained(error))
    }

    /// Masks secrets in files below a folder that another program has written: in the content of regular files, and in all names. Links
    /// are not followed.
    pub fn mask_below(&self, relative: &str) -> anyhow::Result<()> {
        if self.masks.is_empty() {
            return Ok(());
        }
        let top = self.path.join(relative);
        let entries = || -> anyhow::Result<Vec<walkdir::DirEntry>> {
            let walk = walkdir::WalkDir::new(&top).min_depth(1).contents_first(true).sort_by_file_name();
            Ok(walk.into_iter().collect::<Result<_, _>>()?)
        };
        for entry in self.owner.act(entries).with_context(|| format!("listing the files below {}", top.display()))? {
            let Ok(below) = entry.path().strip_prefix(&self.path) else { continue };
            let Some(below) = below.to_str() else { continue }; // declared values are UTF-8
            if entry.file_type().is_file() {
                self.mask_file(below).with_context(|| format!("masking secrets in {}", entry.path().display()))?;
            }
            self.mask_name(below)
                .with_context(|| format!("masking secrets in the name of {}", entry.path().display()))?;
        }
        Ok(())
    }

    fn mask_file(&self, relative: &str) -> anyhow::Result<()> {
        let open = || -> anyhow::Result<File> {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            let opened = openat2(&self.top, Path::new(relative), OpenHow::new().flags(flags).resolve(BENEATH));
            let file = File::from(opened.map_err(std::io::Error::from)?);
            anyhow::ensure!(file.metadata()?.is_file(), "the file was replaced by something that is no file");
            Ok(file)
        };
        let mut file = self.owner.act(open)?;
        let mut head = Vec::new();
        (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
        let stream = || match is_binary(&head) {
            true => MaskedStream::of_same_length(Arc::clone(&self.masks)),
            false => MaskedStream::new(Arc::clone(&self.masks)),
        };
        file.rewind()?;
        if !copy_masked(&mut file, &mut std::io::sink(), stream())? {
            return Ok(());
        }
        file.rewind()?;
        self.write_by(relative, |new| copy_masked(&mut file, new, stream()).map(drop))
    }

    fn mask_name(&self, relative: &str) -> anyhow::Result<()> {
        let (parent, name) = relative.rsplit_once('/').unwrap_or(("", relative));
        let masked = self.masks.text(name);
        if masked == name {
            return Ok(());
        }
        let rename = || -> anyhow::Result<()> {
            let folder = openat2(
                &self.top,
                Path::new(if parent.is_empty() { "." } else { parent }),
                OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(BENEATH),
            )
            .map_err(std::io::Error::from)?;
            // Two names may be the same without their values.
            let free = (1_u32..)
                .map(|number| if number == 1 { masked.to_string() } else { format!("{masked}-{number}") })
                .find(|name| fstatat(&folder, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT));
            let free = free.context("finding a file name that is not taken")?;
            Ok(renameat(&folder, name, &folder, free.as_str()).map_err(std::io::Error::from)?)
        };
        self.owner.act(rename)
    }

    /// Returns the status of a name in the folder; a link is not followed.
    pub(super) fn status(&self, name: &str) -> nix::Result<FileStat> {
        fstatat(&self.top, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Opens a folder below this one, and makes missing folders. The caller must have the owner's rights.
    fn beneath(&self, relative: &str) -> anyhow::Result<OwnedFd> {
        let open = || -> nix::Result<OwnedFd> {
            let mut folder = open_folder(&self.top, Path::new("."), BENEATH)?;
            for part in relative.split('/').filter(|part| !part.is_empty()) {
                match mkdirat(&folder, part, Mode::from_bits_truncate(0o777)) {
                    Ok(()) | Err(Errno::EEXIST) => folder = open_folder(&folder, Path::new(part), BENEATH)?,
                    Err(error) => return Err(error),
                }
            }
            Ok(folder)
        };
        open().map_err(|errno| {
            // The number stays in the chain: it tells whose affair the error is.
            let error = anyhow::Error::new(std::io::Error::from(errno));
            let error = match errno {
                Errno::ELOOP => error.context("the path has a symbolic link, which the engine does not follow"),
                _ => error,
            };
            error.context(self.making("folder", relative))
        })
    }

    /// Returns the error that the run's folder was removed or replaced, where that is so; otherwise the given error.
    fn explained(&self, error: anyhow::Error) -> anyhow::Error {
        self.require().err().map_or(error, anyhow::Error::from)
    }

    fn making(&self, what: &str, relative: &str) -> String {
        format!("making the {what} {} as {}", self.path.join(relative).display(), self.owner.name)
    }

    /// Puts a link at `at` that leads to `to`, in place of an older one.
    ///
    /// # Errors
    /// When `at` exists and is not a link.
    pub fn link(&self, at: &Path, to: &Path) -> anyhow::Result<()> {
        let link = || -> anyhow::Result<()> {
            if std::fs::symlink_metadata(at).is_ok_and(|metadata| !metadata.is_symlink()) {
                anyhow::bail!("{} exists and is not a symbolic link: move it away", at.display());
            }
            // Under another name first: two runs may put theirs there at the same time.
            let mut new = at.as_os_str().to_owned();
            new.push(format!(".{}", self.run_id));
            std::os::unix::fs::symlink(to, &new)?;
            Ok(std::fs::rename(&new, at)?)
        };
        self.owner.act(link).with_context(|| format!("linking {} to {}", at.display(), to.display()))
    }
}

/// Refuses names in a path that a terminal would obey or not show; callers have to make such names harmless before.
fn require_names(relative: &str) -> anyhow::Result<()> {
    let bad = relative.split('/').find(|name| !is_harmless_name(name));
    bad.map_or(Ok(()), |name| Err(anyhow::anyhow!("{name:?} cannot be the name of a file in a record")))
}

/// Copies a file with its secrets masked; returns true if it holds a secret.
fn copy_masked(from: &mut File, to: &mut impl std::io::Write, mut stream: MaskedStream) -> anyhow::Result<bool> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            to.write_all(&stream.finish())?;
            return Ok(stream.has_found());
        }
        to.write_all(&stream.push(&buffer[..count]))?;
    }
}

fn open_folder(at: impl AsFd, path: &Path, resolve: ResolveFlag) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat2(at, path, OpenHow::new().flags(flags).resolve(resolve))
}

/// Makes a file in a folder in place of an older one, with the rights of the calling thread. An exclusive open follows no link, and opens
/// only a regular file that did not exist.
fn new_file(folder: &OwnedFd, name: &str) -> anyhow::Result<File> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => return Err(std::io::Error::from(error).into()),
    }
    let flags =
        OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = openat(folder, name, flags, Mode::from_bits_truncate(0o666));
    Ok(File::from(made.map_err(std::io::Error::from)?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn made() -> (tempfile::TempDir, RunDir) {
        let root = tempfile::tempdir().unwrap();
        let dir = RunDir::create(root.path(), Invoker::find()).unwrap();
        (root, dir)
    }

    #[test]
    fn a_link_leads_no_write_out_of_the_folder() {
        let (root, dir) = made();
        let outside = root.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("kernel.log"), "untouched").unwrap();
        dir.folder("case/artifacts").unwrap();
        dir.write("case/kernel.log", b"one").unwrap();
        let case = dir.path().join("case");
        std::fs::rename(&case, dir.path().join("aside")).unwrap();
        symlink(&outside, &case).unwrap();
        let problems = [
            dir.write("case/kernel.log", b"two").unwrap_err(),
            dir.file("case/history.jsonl").unwrap_err(),
            dir.folder("case/containers/app").unwrap_err(),
        ];
        for error in problems {
            let text = format!("{error:#}");
            assert!(text.contains("the path has a symbolic link"), "{text}");
        }
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(outside.join("kernel.log")).unwrap(), "untouched");
        // In place of a file a link is replaced, under the name that is written first, too.
        for name in ["summary.md", "summary.md.new"] {
            symlink(outside.join("kernel.log"), dir.path().join(name)).unwrap();
        }
        dir.write("summary.md", b"text").unwrap();
        assert!(std::fs::symlink_metadata(dir.path().join("summary.md")).unwrap().is_file());
        assert_eq!(std::fs::read_to_string(outside.join("kernel.log")).unwrap(), "untouched");
        assert!(dir.file("../escaped").is_err() && !root.path().join("target/e2e/escaped").exists());
    }

    #[test]
    fn a_run_has_so_much_room_for_what_scenarios_keep() {
        let (_root, dir) = made();
        let of_another_case = dir.clone();
        assert!(dir.take_room(KEPT_BYTES_MAX - 1) && !of_another_case.take_room(2) && of_another_case.take_room(1));
        assert!(!dir.take_room(1) && !dir.take_room(u64::MAX));
        of_another_case.give_back_room(1);
        assert!(dir.take_room(1));
    }

    #[test]
    fn a_run_below_another_is_found_by_its_name_and_is_not_the_latest() {
        let (root, dir) = made();
        let below = dir.below("mutants/one").unwrap();
        below.write("events.jsonl", b"").unwrap();
        assert_eq!(below.run_id(), format!("{}/mutants/one", dir.run_id()));
        assert_eq!(PastRun::folder(root.path(), below.run_id()).unwrap(), below.path().canonicalize().unwrap());
        assert_eq!(PastRun::folder(root.path(), "latest").unwrap(), dir.path().canonicalize().unwrap());
        symlink(root.path(), dir.path().join("aside")).unwrap();
        assert!(format!("{:#}", dir.below("aside/two").unwrap_err()).contains("the path has a symbolic link"));
    }

    #[test]
    fn a_folder_that_was_removed_or_replaced_is_told_and_not_made_anew() {
        let (_root, dir) = made();
        dir.require().unwrap();
        std::fs::remove_dir_all(dir.path()).unwrap();
        for error in
            [dir.write("a/b", b"x").unwrap_err(), dir.file("c").unwrap_err(), dir.require().unwrap_err().into()]
        {
            let text = format!("{error:#}");
            assert!(text.contains("was removed or replaced during the run"), "{text}");
        }
        assert!(!dir.path().exists());
        std::fs::create_dir(dir.path()).unwrap();
        assert!(dir.require().is_err() && dir.write("a", b"x").is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_others_wrote_is_masked_in_content_and_names() {
        let (root, dir) = made();
        let dir = dir.masked_by(Arc::new(Masks::new(["hunter22"]).unwrap()));
        let folder = dir.folder("case/artifacts/of hunter22").unwrap();
        assert!(folder.ends_with("of [redacted]"));
        std::fs::create_dir(dir.path().join("case/artifacts/hunter22")).unwrap();
        let write = |path: &str, content: &[u8]| std::fs::write(dir.path().join("case/artifacts").join(path), content);
        write("a-hunter22.txt", b"one hunter22\n").unwrap();
        write("a-[redacted].txt", b"two\n").unwrap();
        let mut large = vec![b'x'; COPY_BYTES - 3];
        large.extend(b"hunter22");
        write("hunter22/large", &large).unwrap();
        write("binary", b"\0hunter22\0").unwrap();
        let outside = root.path().join("outside");
        std::fs::write(&outside, "hunter22").unwrap();
        symlink(&outside, dir.path().join("case/artifacts/link")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("case/artifacts/pipe"), Mode::S_IRWXU).unwrap();
        dir.mask_below("case/artifacts").unwrap();
        let read = |path: &str| std::fs::read(dir.path().join("case/artifacts").join(path)).unwrap();
        assert_eq!(read("a-[redacted].txt-2"), b"one [redacted]\n");
        assert_eq!(read("a-[redacted].txt"), b"two\n");
        assert_eq!(read("[redacted]/large")[COPY_BYTES - 3..], *b"[redacted]");
        assert_eq!(read("binary"), b"\0********\0");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "hunter22");
        dir.write("case/x-hunter22.json", br#"{"a":"hunter22"}"#).unwrap();
        let text = std::fs::read_to_string(dir.path().join("case/x-[redacted].json")).unwrap();
        assert_eq!(text, "{\n  \"a\": \"[redacted]\"\n}");
    }
}
