//! Git: files of a repository, and folders as they were in another revision.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::error::Error;
use crate::host::exec::shell::{Command, Output, which};
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;

const DEADLINE: Deadline = Deadline::from_secs(120);

/// Folder of a revision, extracted to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Full hash of the commit.
    pub commit: String,
    /// Path of the extracted folder.
    pub path: PathBuf,
}

/// Revision that is checked out, and what differs from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedOut {
    /// Full hash of the commit.
    pub commit: String,
    /// Files below the looked at folder that differ from the commit, untracked ones too, by their paths in the repository.
    pub changed: Vec<String>,
}

/// Returns the revision that is checked out in the repository of `root`, and the files below `folder` that differ from it. `None` where
/// there is no repository, no commit, or no git.
pub fn checked_out(root: &Path, folder: &Path, invoker: &Invoker) -> anyhow::Result<Option<CheckedOut>> {
    if which("git").is_none() {
        return Ok(None);
    }
    let head = git(root, invoker, &["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?;
    let commit = head.text().trim().to_owned();
    if head.status != 0 || commit.is_empty() {
        return Ok(None);
    }
    let below = folder.display().to_string();
    let status = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", &below];
    let status = git(root, invoker, &status)?;
    if status.status != 0 {
        let said = String::from_utf8_lossy(&status.stderr).trim().to_owned();
        return Err(Error::Usage(format!("git could not compare {} with its commit: {said}", root.display())).into());
    }
    let lines = status.stdout.split(|byte| *byte == 0).filter_map(|line| line.get(3..));
    let changed = lines.map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    Ok(Some(CheckedOut { commit, changed }))
}

/// Extracts a folder of the repository as it was in `revision`, to a folder below `into` named by the commit. Git runs as the user, who
/// owns the repository. An older extraction is used again.
///
/// # Errors
/// [`Error::Usage`] with git's output when there is no such revision, or the revision has no such folder.
pub fn export(root: &Path, revision: &str, folder: &Path, into: &Path, invoker: &Invoker) -> anyhow::Result<Exported> {
    let shown = folder.display().to_string();
    let asked = format!("{revision}^{{commit}}");
    let found = git(root, invoker, &["rev-parse", "--verify", "--quiet", "--end-of-options", &asked])?;
    let commit = found.text().trim().to_owned();
    if found.status != 0 || commit.is_empty() {
        let said = String::from_utf8_lossy(&found.stderr).trim().to_owned();
        let message = format!("there is no revision {revision:?} in {}{}", root.display(), after_colon(&said));
        return Err(Error::Usage(message).into());
    }
    let top = into.join(&commit[..commit.len().min(12)]);
    let path = top.join(folder);
    if path.is_dir() {
        return Ok(Exported { commit, path });
    }
    let archive = git(root, invoker, &["archive", "--format=tar", &commit, "--", &shown])?;
    if archive.status != 0 {
        let said = String::from_utf8_lossy(&archive.stderr).trim().to_owned();
        return Err(Error::Usage(format!("{revision} has no folder {shown}{}", after_colon(&said))).into());
    }
    // Under another name first: a run that is killed in between leaves nothing that looks whole.
    let new = into.join(format!(".{}-{}", commit, std::process::id()));
    invoker.act(|| Ok(std::fs::create_dir_all(&new)?)).with_context(|| format!("making {}", new.display()))?;
    let tar = Command::new("tar").args(["-x", "-C"]).arg(&new).stdin(archive.stdout);
    tar.as_user(invoker).deadline(DEADLINE.scaled()).run()?;
    let placed = invoker.act(|| match std::fs::rename(&new, &top) {
        Err(_) if path.is_dir() => Ok(std::fs::remove_dir_all(&new)?), // another run was quicker
        other => Ok(other?),
    });
    placed.with_context(|| format!("making {}", top.display()))?;
    Ok(Exported { commit, path })
}

/// Returns the files of a folder that git tracks, by their paths below it, and the untracked ones in the folders `new_in`, except for those
/// that git ignores. `None` where the folder lies in no repository, or git is not installed.
pub fn files(root: &Path, new_in: &[PathBuf], invoker: &Invoker) -> anyhow::Result<Option<Vec<PathBuf>>> {
    if which("git").is_none() {
        return Ok(None);
    }
    let kept = git(root, invoker, &["ls-files", "-z", "--cached"])?;
    let said = String::from_utf8_lossy(&kept.stderr).trim().to_owned();
    if said.contains("not a git repository") {
        return Ok(None);
    }
    if kept.status != 0 {
        return Err(Error::Usage(format!("git could not list the files of {}: {said}", root.display())).into());
    }
    let mut words: Vec<String> = ["ls-files", "-z", "--others", "--exclude-standard", "--"].map(String::from).to_vec();
    words.extend(new_in.iter().map(|folder| folder.display().to_string()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let new = if new_in.is_empty() { Vec::new() } else { git(root, invoker, &words)?.stdout };
    let names =
        kept.stdout.split(|byte| *byte == 0).chain(new.split(|byte| *byte == 0)).filter(|name| !name.is_empty());
    let mut files: Vec<PathBuf> = names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect();
    files.sort();
    files.dedup();
    Ok(Some(files))
}

fn git(root: &Path, invoker: &Invoker, words: &[&str]) -> anyhow::Result<Output> {
    let git = Command::new("git").args(words).dir(root).deadline(DEADLINE.scaled());
    Ok(git.as_user(invoker).output()?)
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(root: &Path, words: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        Command::new("git").args(identity).args(words).dir(root).run().unwrap();
    }

    #[test]
    fn files_are_those_that_git_keeps_and_new_ones_of_some_folders() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("project");
        std::fs::create_dir_all(root.join("scenarios")).unwrap();
        let files = || files(&root, &["scenarios".into()], &Invoker::find()).unwrap();
        assert_eq!(files(), None, "no repository");
        run(&root, &["init", "--quiet"]);
        for name in ["kept", "new", "scenarios/kept", "scenarios/new", "scenarios/no.tmp"] {
            std::fs::write(root.join(name), "x").unwrap();
        }
        std::fs::write(root.join(".gitignore"), "*.tmp\n").unwrap();
        run(&root, &["add", ".gitignore", "kept", "scenarios/kept"]);
        let expected = [".gitignore", "kept", "scenarios/kept", "scenarios/new"].map(PathBuf::from);
        assert_eq!(files().unwrap(), expected);
    }

    #[test]
    fn what_differs_from_the_commit_is_named() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("project");
        std::fs::create_dir_all(root.join("containers")).unwrap();
        let look = |folder: &str| checked_out(&root, Path::new(folder), &Invoker::find()).unwrap();
        assert_eq!(look("containers"), None, "no repository");
        run(&root, &["init", "--quiet"]);
        assert_eq!(look("containers"), None, "no commit");
        for name in ["containers/kept", "containers/gone", "elsewhere"] {
            std::fs::write(root.join(name), "x").unwrap();
        }
        run(&root, &["add", "."]);
        run(&root, &["commit", "--quiet", "-m", "one"]);
        let clean = look("containers").unwrap();
        assert!(clean.commit.len() >= 40 && clean.changed.is_empty(), "{clean:?}");
        std::fs::write(root.join("containers/kept"), "y").unwrap();
        std::fs::write(root.join("containers/a new one"), "y").unwrap();
        std::fs::write(root.join("elsewhere"), "y").unwrap();
        std::fs::remove_file(root.join("containers/gone")).unwrap();
        let mut changed = look("containers").unwrap().changed;
        changed.sort();
        assert_eq!(changed, ["containers/a new one", "containers/gone", "containers/kept"]);
    }

    #[test]
    fn a_folder_is_laid_out_as_it_was() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("project");
        std::fs::create_dir_all(root.join("containers/app")).unwrap();
        let file = root.join("containers/app/template.toml");
        run(&root, &["init", "--quiet"]);
        std::fs::write(&file, "old").unwrap();
        run(&root, &["add", "."]);
        run(&root, &["commit", "--quiet", "-m", "one"]);
        std::fs::write(&file, "new").unwrap();
        run(&root, &["commit", "--quiet", "-am", "two"]);
        let into = root.join("target/e2e/refs");
        let export = |revision: &str| export(&root, revision, Path::new("containers"), &into, &Invoker::find());
        for _ in 0..2 {
            let exported = export("HEAD~1").unwrap();
            assert_eq!(std::fs::read_to_string(exported.path.join("app/template.toml")).unwrap(), "old");
        }
        assert_eq!(std::fs::read_to_string(export("HEAD").unwrap().path.join("app/template.toml")).unwrap(), "new");
        let error = export("nowhere").unwrap_err().to_string();
        assert!(error.contains("there is no revision \"nowhere\""), "{error}");
        let error = export("--output=x").unwrap_err().to_string();
        assert!(error.contains("there is no revision"), "{error}");
        run(&root, &["rm", "--quiet", "-r", "containers"]);
        run(&root, &["commit", "--quiet", "-m", "three"]);
        let error = export("HEAD").unwrap_err().to_string();
        assert!(error.contains("has no folder containers"), "{error}");
    }
}
