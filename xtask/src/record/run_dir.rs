//! A run's folder: `target/e2e/<run-id>/`, with the link `target/e2e/latest`. All of it belongs to one owner.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::PastRun;
use crate::host::invoker::Invoker;

/// The folder of one run. It is the user's, who may plant anything there, while the engine is root: so all that is done
/// in it is done with the user's rights.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
    run_id: String,
    owner: Invoker,
}

impl RunDir {
    /// Makes a fresh folder below `root/target/e2e`, and the link to it.
    ///
    /// # Errors
    /// When the owner cannot make or write it.
    pub fn create(root: &Path, owner: Invoker) -> anyhow::Result<Self> {
        let top = root.join(super::RUNS_FOLDER);
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let stamp: String = now.chars().filter(char::is_ascii_digit).collect();
        let run_id = format!("{}-{}-{}", &stamp[..8], &stamp[8..14], std::process::id());
        let dir = Self { path: top.join(&run_id), run_id, owner };
        let made = dir.folder("").and_then(|_| dir.link(&top.join("latest"), Path::new(&dir.run_id)));
        made.with_context(|| {
            let name = &dir.owner.name;
            format!("{} must be {name}'s; if root made it: sudo chown -R {name} {0}", root.join("target").display())
        })?;
        Ok(dir)
    }

    /// The folder of a run that is over, to add to it.
    #[must_use]
    pub fn of(run: &PastRun, owner: Invoker) -> Self {
        Self { path: run.folder.clone(), run_id: run.record.run_id.clone(), owner }
    }

    /// Does something with the owner's rights and none of root's.
    ///
    /// # Errors
    /// Those of the action.
    pub fn act<T: Send>(&self, action: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        self.owner.act(action)
    }

    /// The run's name.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder below it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, relative: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(relative);
        let made = self.owner.act(|| Ok(std::fs::create_dir_all(&path)?));
        made.with_context(|| format!("making the folder {} as {}", path.display(), self.owner.name))?;
        Ok(path)
    }

    /// Makes an empty file below it, in place of an older one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(&self, relative: &str) -> anyhow::Result<File> {
        if let Some((parent, _)) = relative.rsplit_once('/') {
            self.folder(parent)?;
        }
        self.owner.create(&self.path.join(relative))
    }

    /// Writes a whole file below it: the old one or the new one is there, never a part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, relative: &str, content: &[u8]) -> anyhow::Result<()> {
        let (new, path) = (format!("{relative}.new"), self.path.join(relative));
        let write = || -> anyhow::Result<()> {
            self.file(&new)?.write_all(content)?;
            self.owner.act(|| Ok(std::fs::rename(self.path.join(&new), &path)?))
        };
        write().with_context(|| format!("writing {}", path.display())).inspect_err(|_| {
            // Half a file would take room that what comes next may need.
            let _ = self.owner.act(|| Ok(std::fs::remove_file(self.path.join(&new))?));
        })
    }

    /// Puts a link at `at` that leads to `to`, in place of an older one.
    ///
    /// # Errors
    /// When something that is no link stands there.
    pub fn link(&self, at: &Path, to: &Path) -> anyhow::Result<()> {
        let link = || -> anyhow::Result<()> {
            if std::fs::symlink_metadata(at).is_ok_and(|metadata| !metadata.is_symlink()) {
                anyhow::bail!("something that is no link stands there");
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
