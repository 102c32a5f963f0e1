//! Copies of files and folders between the host and a container of a live lab, through the container's own tar.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::live::LiveMachine;
use crate::error::Error;
use crate::host::container::lxc::entrance;
use crate::host::disk::archive::{Moved, pack, unpack};
use crate::host::exec::program_output::{KeptPart, ProgramOutput};
use crate::host::exec::shell::Command;
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

/// Deadline for a copy; long, because the user who waits for it can interrupt it.
const DEADLINE: Deadline = Deadline::from_secs(24 * 60 * 60);

/// Deadline for checking whether a path exists in the container.
const LOOK_DEADLINE: Deadline = Deadline::from_secs(10);

/// Maximum bytes at the end of each of tar's output streams that an error shows.
const SAID_BYTES: usize = 2000;
const SAID: KeptPart = KeptPart::Last(SAID_BYTES);

/// Exit status of a program that was killed by SIGPIPE.
const STATUS_SIGPIPE: i32 = 141;

/// Treatment of an existing file at the target of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Keep the file, and fail.
    Keep,
    /// Replace the file; a folder is never replaced.
    Replace,
}

/// Path in a container, accessed with the rights of a user of the container.
#[derive(Debug, Clone, Copy)]
pub struct Inside<'a> {
    pub machine: &'a LiveMachine,
    /// Absolute path in the container.
    pub path: &'a str,
    /// User of the container by name; root if `None`.
    pub user: Option<&'a str>,
}

impl Inside<'_> {
    /// Copies the file or folder to the host with the rights of `invoker`: into an existing folder, or under a new name. Nothing else on
    /// the host is written, whatever the container sends.
    ///
    /// # Errors
    /// [`Error::Usage`] when the target exists already; the failure of the container's tar.
    pub fn copy_out(
        &self,
        to: &Path,
        existing: Existing,
        invoker: &Invoker,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<Moved> {
        let (folder, name) = split(self.path)?;
        let target = &invoker.act(|| target_on_host(to, name, existing))?;
        let argv = ["tar", "-C", folder, "-cf", "-", "--", &format!("./{name}")].map(str::to_owned);
        let (reader, writer) = std::io::pipe().context("making a pipe")?;
        let (said, _, stderr) = ProgramOutput::start(SAID, &std::env::temp_dir(), (0, 0))?;
        let command = self.command(&argv)?;
        let parent = target.parent().unwrap_or(Path::new("/"));
        let (ended, unpacked) = std::thread::scope(|scope| {
            let tar = scope.spawn(move || command.output_to_files(File::from(OwnedFd::from(writer)), stderr));
            let unpacked = invoker.act(move || {
                let scratch = tempfile::Builder::new().prefix(".e2e-cp-").tempdir_in(parent);
                let scratch = scratch.with_context(|| format!("making a folder in {}", parent.display()))?;
                let moved = unpack(reader, name, scratch.path(), interrupted)?;
                if moved.files + moved.folders > 0 {
                    settle(&scratch.path().join(name), target, existing)?;
                }
                Ok(moved)
            });
            (tar.join(), unpacked)
        });
        let ended = ended.map_err(|_| anyhow::anyhow!("the thread that waits for tar panicked"))??;
        // What tar said comes first, because an archive that ends early is only the consequence; unless it ended because
        // nobody read on.
        if ended.status == 0 || (ended.status == STATUS_SIGPIPE && unpacked.is_err()) {
            return unpacked;
        }
        let failure = self.failure(ended.status, said)?;
        if failure.contains("Broken pipe") && unpacked.is_err() {
            return unpacked;
        }
        if failure.contains("No such file or directory") {
            bail!(Error::Usage(format!("{}:{}: {failure}", self.machine.name, self.path)));
        }
        bail!(failure)
    }

    /// Copies a file or folder of the host, which `invoker` may read, into the container: into an existing folder, or under a new name. The
    /// container's user owns the copy.
    ///
    /// # Errors
    /// [`Error::Usage`] when the target exists already; the failure of the container's tar.
    pub fn copy_in(
        &self,
        from: &Path,
        existing: Existing,
        invoker: &Invoker,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> anyhow::Result<Moved> {
        let own_name =
            invoker.act(|| Ok(from.canonicalize()?)).ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let own_name = from.file_name().and_then(|name| name.to_str()).map(str::to_owned).or(own_name);
        let (folder, name) = self.target_inside(own_name.as_deref(), existing)?;
        let argv = ["tar", "-C", &folder, "-xpf", "-"].map(str::to_owned);
        let (reader, writer) = std::io::pipe().context("making a pipe")?;
        let (said, stdout, stderr) = ProgramOutput::start(SAID, &std::env::temp_dir(), (0, 0))?;
        let command = self.command(&argv)?.stdin_file(File::from(OwnedFd::from(reader)));
        let (ended, packed) = std::thread::scope(|scope| {
            // The command goes with its thread: then nobody holds the pipe's end that a tar which has ended does not read.
            let tar = scope.spawn(move || command.output_to_files(stdout, stderr));
            let output = std::io::BufWriter::new(writer);
            let packed = invoker.act(move || pack(from, Path::new(&name), output, interrupted));
            (tar.join(), packed)
        });
        let ended = ended.map_err(|_| anyhow::anyhow!("the thread that waits for tar panicked"))??;
        match packed {
            // What cannot be read is told as it is; tar has only seen the archive end early.
            Err(error) if !is_broken_pipe(&error) => Err(error),
            _ if ended.status != 0 => bail!(self.failure(ended.status, said)?),
            packed => packed,
        }
    }

    fn command(&self, argv: &[String]) -> anyhow::Result<Command> {
        let words = self.machine.attach_words(argv, self.user, &[])?;
        Ok(entrance(words, self.machine.entry_filter()).deadline(DEADLINE.scaled()))
    }

    fn failure(&self, status: i32, said: ProgramOutput) -> anyhow::Result<String> {
        let name = &self.machine.name;
        let why = match status {
            127 => format!(": {name} has no tar"),
            _ => String::new(),
        };
        let [stdout, stderr] = said.end()?.map(|stream| stream.end(SAID_BYTES as u64));
        Ok(format!("tar in {name} ended with status {status}{why}\n{}", format!("{stdout}\n{stderr}").trim()))
    }

    /// Returns the folder and name of the copy in the container: `own_name` if the path is an existing folder, else the last part of the
    /// path.
    fn target_inside(&self, own_name: Option<&str>, existing: Existing) -> anyhow::Result<(String, String)> {
        const LOOK: &str = r#"if [ -d "$1" ]; then echo folder; elif [ -e "$1" ] || [ -L "$1" ]; then echo file; else echo nothing; fi"#;
        let look = |path: &str| -> anyhow::Result<String> {
            let argv = ["/bin/sh", "-c", LOOK, "look", path].map(str::to_owned);
            Ok(self.command(&argv)?.deadline(LOOK_DEADLINE.scaled()).run()?.text())
        };
        let is_folder = look(self.path)? == "folder";
        let (folder, name) = if is_folder {
            let name = own_name.ok_or_else(|| {
                Error::Usage("the source has no file name to copy it under: add a name to the target".into())
            })?;
            (self.path.trim_end_matches('/').to_owned(), name.to_owned())
        } else {
            let (folder, name) = split(self.path)?;
            if self.path.ends_with('/') || look(folder)? != "folder" {
                let missing = if self.path.ends_with('/') { self.path } else { folder };
                let message = format!("there is no folder {missing} in {}: make it first", self.machine.name);
                return Err(Error::Usage(message).into());
            }
            (folder.to_owned(), name.to_owned())
        };
        let folder = if folder.is_empty() { "/".to_owned() } else { folder };
        let target = format!("{}/{name}", folder.trim_end_matches('/'));
        match (look(&target)?.as_str(), existing) {
            ("nothing", _) | ("file", Existing::Replace) => Ok((folder, name)),
            ("file", Existing::Keep) => Err(in_the_way(&format!("{}:{target}", self.machine.name)).into()),
            _ => Err(folder_in_the_way(&format!("{}:{target}", self.machine.name)).into()),
        }
    }
}

fn split(path: &str) -> anyhow::Result<(&str, &str)> {
    let whole = path.trim_end_matches('/');
    let (folder, name) = whole.rsplit_once('/').unwrap_or(("", whole));
    if !path.starts_with('/') || name.is_empty() || name == "." || name == ".." {
        let message =
            format!("{path:?} names no file or folder in a container: write an absolute path, such as /etc/hosts");
        return Err(Error::Usage(message).into());
    }
    Ok((if folder.is_empty() { "/" } else { folder }, name))
}

/// Returns the path on the host of a copy of `name`: in `to` if that is a folder, else `to` itself.
fn target_on_host(to: &Path, name: &str, existing: Existing) -> anyhow::Result<PathBuf> {
    let to = std::path::absolute(to).with_context(|| format!("resolving the path {}", to.display()))?;
    let target = if to.is_dir() { to.join(name) } else { to };
    let shown = target.display().to_string();
    if target.parent().is_none_or(|parent| !parent.is_dir()) {
        return Err(Error::Usage(format!("the folder of {shown} does not exist: make it first")).into());
    }
    match fs::symlink_metadata(&target) {
        Err(_) => Ok(target),
        Ok(there) if there.is_dir() => Err(folder_in_the_way(&shown).into()),
        Ok(_) if existing == Existing::Replace => Ok(target),
        Ok(_) => Err(in_the_way(&shown).into()),
    }
}

fn in_the_way(path: &str) -> Error {
    Error::Usage(format!("{path} exists already: --force replaces it, or give another name"))
}

fn folder_in_the_way(path: &str) -> Error {
    Error::Usage(format!("a folder {path} exists already: remove it first, or give another name"))
}

/// Renames the unpacked copy to its target.
fn settle(unpacked: &Path, target: &Path, existing: Existing) -> anyhow::Result<()> {
    let flags = if existing == Existing::Keep { RenameFlags::RENAME_NOREPLACE } else { RenameFlags::empty() };
    renameat2(AT_FDCWD, unpacked, AT_FDCWD, target, flags).with_context(|| format!("making {}", target.display()))
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_container_has_a_folder_and_a_name() {
        for (path, expected) in [("/etc/hosts", ("/etc", "hosts")), ("/srv/", ("/", "srv")), ("/a/b//", ("/a", "b"))] {
            assert_eq!(split(path).unwrap(), expected);
        }
        for path in ["etc/hosts", "/", "", "/a/..", "/."] {
            assert!(split(path).unwrap_err().to_string().contains("names no file"), "{path}");
        }
    }

    #[test]
    fn nothing_is_replaced_without_being_asked_for_and_no_folder_ever() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let said = |to: &Path, existing| target_on_host(to, "name", existing).map_err(|error| error.to_string());
        assert_eq!(said(folder.path(), Existing::Keep), Ok(folder.path().join("name")));
        assert_eq!(said(&folder.path().join("new"), Existing::Keep), Ok(folder.path().join("new")));
        assert!(said(&file, Existing::Keep).unwrap_err().contains("--force replaces it"));
        assert_eq!(said(&file, Existing::Replace), Ok(file));
        fs::create_dir(folder.path().join("name")).unwrap();
        assert!(said(folder.path(), Existing::Replace).unwrap_err().contains("remove it first"));
        assert!(said(&folder.path().join("a/b"), Existing::Keep).unwrap_err().contains("make it first"));
    }
}
