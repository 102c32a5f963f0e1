//! Choice of a bundle's files: the files from which a project is built and run, and the record of one run.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::links::{Links, Work};
use crate::error::Error;
use crate::host::disk::tar_entries::require_bounded;
use crate::host::invoker::Invoker;
use crate::host::tools::cargo;
use crate::host::tools::git;
use crate::manifest::Project;
use crate::record::{PastRun, RUNS_FOLDER};

/// Folder of the archive that contains everything except `bundle.json`.
const TOP: &str = "project";

/// Folders that are left out of a project without git, because they hold nothing that belongs to the project.
const NOT_OWN: [&str; 4] = [".git", "target", "node_modules", "__pycache__"];

/// Files that go into a bundle.
#[derive(Debug)]
pub struct Contents {
    /// Path of the project's folder in the archive.
    pub project: String,
    /// Files of the project, which are packed unchanged.
    pub sources: Vec<Item>,
    /// Files of the run's record, from which secrets are removed before packing.
    pub record: Vec<Item>,
    /// Files that are left out, with the reasons.
    pub left_out: Vec<String>,
}

/// File or symbolic link to be packed into an archive.
#[derive(Debug)]
pub struct Item {
    /// Path of the file on the disk.
    pub from: PathBuf,
    /// Path of the file in the archive.
    pub path: String,
    /// Target of a symbolic link; `None` for a file.
    pub link: Option<PathBuf>,
}

impl Contents {
    /// Finds the files of a bundle. If Cargo builds scenarios of the project, the whole workspace is bundled, which the build needs.
    pub fn find(project: &Project, run: &PastRun, invoker: &Invoker) -> anyhow::Result<Self> {
        let root =
            project.root.canonicalize().with_context(|| format!("resolving the path {}", project.root.display()))?;
        let needs_cargo = project.scenarios.iter().any(|scenario| scenario.command.is_none());
        let workspace = if needs_cargo { cargo::workspace(&root)? } else { None };
        let workspace =
            workspace.and_then(|folder| folder.canonicalize().ok()).filter(|folder| root.starts_with(folder));
        let top = workspace.unwrap_or_else(|| root.clone());
        let inside = root.strip_prefix(&top).unwrap_or(Path::new(""));
        let mut contents =
            Self { project: name(TOP, inside)?, sources: Vec::new(), record: Vec::new(), left_out: Vec::new() };
        for folder in [&project.containers_dir, &project.scenarios_dir] {
            let real = folder.canonicalize().with_context(|| format!("resolving the path {}", folder.display()))?;
            if !real.starts_with(&top) {
                let problem =
                    format!("{} lies outside of {}, the folder that is bundled", real.display(), top.display());
                return Err(Error::Usage(problem).into());
            }
        }
        let own = [&project.containers_dir, &project.scenarios_dir].map(|folder| {
            let below_root = folder.strip_prefix(&project.root).unwrap_or(folder);
            inside.join(below_root)
        });
        let files = match git::files(&top, &own, invoker)? {
            Some(files) => files,
            None => walk(&top, &|entry| NOT_OWN.iter().any(|name| entry.file_name() == *name))?,
        };
        let secrets: Vec<PathBuf> =
            project.secrets.files.values().filter_map(|file| file.canonicalize().ok()).collect();
        let mut links = Links::default();
        for file in &files {
            if let Ok(to) = std::fs::read_link(top.join(file)) {
                links.add(file.clone(), to);
            }
        }
        let mut work = Work::of_packing();
        for file in files {
            if top.join(&file).canonicalize().is_ok_and(|real| secrets.contains(&real)) {
                contents.left_out.push(format!("{}: it is a declared secret", name(TOP, &file)?));
                continue;
            }
            contents.add_source(&top, &file, &links, &mut work)?;
        }
        let in_archive = format!("{}/{RUNS_FOLDER}/{}", contents.project, run.record.run_id);
        for file in walk(&run.folder, &|_| false)? {
            let (from, path) = (run.folder.join(&file), name(&in_archive, &file)?);
            if std::fs::symlink_metadata(&from)?.is_file() {
                contents.record.push(Item { from, path, link: None });
            } else {
                contents.left_out.push(format!("{path}: it is no file"));
            }
        }
        Ok(contents)
    }

    fn add_source(&mut self, top: &Path, file: &Path, links: &Links, work: &mut Work) -> anyhow::Result<()> {
        let (from, path) = (top.join(file), name(TOP, file)?);
        let Ok(metadata) = std::fs::symlink_metadata(&from) else {
            return Ok(()); // git keeps it, and it is gone here
        };
        if metadata.is_symlink() {
            let to = std::fs::read_link(&from).with_context(|| format!("reading {}", from.display()))?;
            match links.problem_of(file, work) {
                None => self.sources.push(Item { from, path, link: Some(to) }),
                Some(problem) => self.left_out.push(format!("{path}: it {problem}")),
            }
        } else if metadata.is_file() {
            self.sources.push(Item { from, path, link: None });
        } else {
            self.left_out.push(format!("{path}: it is no file"));
        }
        Ok(())
    }
}

/// Returns the paths, relative to the folder `top`, of every file and link in there, in order.
fn walk(top: &Path, skips: &dyn Fn(&walkdir::DirEntry) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(top).sort_by_file_name().into_iter().filter_entry(|entry| !skips(entry)) {
        let entry = entry.with_context(|| format!("reading {}", top.display()))?;
        if !entry.file_type().is_dir() {
            files.push(entry.path().strip_prefix(top).unwrap_or(entry.path()).to_owned());
        }
    }
    Ok(files)
}

fn name(top: &str, file: &Path) -> Result<String, Error> {
    let text = file.to_str().ok_or_else(|| {
        Error::Usage(format!("{}: the name of a file in a bundle must be UTF-8: rename it", file.display()))
    })?;
    let name = if text.is_empty() { top.to_owned() } else { format!("{top}/{text}") };
    // As where it is unpacked: no engine would take the bundle.
    require_bounded(Path::new(&name)).map_err(|error| Error::Usage(format!("a bundle cannot hold {error}")))?;
    Ok(name)
}
