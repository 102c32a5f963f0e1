//! A new project for another product, which passes as it is; its author replaces its machines and scenarios by their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::parse::is_name;
use super::project::NAME_CHARACTERS_MAX;
use crate::error::Error;

/// Placeholder of the project's name in the files' texts.
const PLACE: &str = "@PROJECT@";

/// Path in the project, and text, of each file. A file whose name Git or GitHub would act on has another name in `starter/`.
const FILES: &[(&str, &str)] = &[
    (".github/workflows/e2e.yml", include_str!("../../starter/workflow.yml")),
    (".gitignore", include_str!("../../starter/gitignore")),
    ("README.md", include_str!("../../starter/README.md")),
    ("baselines/README.md", include_str!("../../starter/baselines.md")),
    ("containers/base/template.toml", include_str!("../../starter/containers/base/template.toml")),
    (
        "containers/cache/files/redis-server.service.conf",
        include_str!("../../starter/containers/cache/files/redis-server.service.conf"),
    ),
    ("containers/cache/template.toml", include_str!("../../starter/containers/cache/template.toml")),
    ("containers/web/files/index.html", include_str!("../../starter/containers/web/files/index.html")),
    ("containers/web/files/site.conf", include_str!("../../starter/containers/web/files/site.conf")),
    ("containers/web/files/visits", include_str!("../../starter/containers/web/files/visits")),
    ("containers/web/files/visits.socket", include_str!("../../starter/containers/web/files/visits.socket")),
    ("containers/web/files/visits@.service", include_str!("../../starter/containers/web/files/visits@.service")),
    ("containers/web/template.toml", include_str!("../../starter/containers/web/template.toml")),
    ("e2e.toml", include_str!("../../starter/e2e.toml")),
    (
        "scenarios/mutants/visit_counted_twice.toml",
        include_str!("../../starter/scenarios/mutants/visit_counted_twice.toml"),
    ),
    ("scenarios/service/visits/main.py", include_str!("../../starter/scenarios/service/visits/main.py")),
    ("scenarios/service/visits/scenario.toml", include_str!("../../starter/scenarios/service/visits/scenario.toml")),
];

/// A new project that is planned, and not yet written.
#[derive(Debug)]
pub struct Starter {
    dir: PathBuf,
    name: String,
}

impl Starter {
    /// Plans a project in a folder, and writes nothing. Without a name, it takes the folder's, with a dash for each character that a
    /// project's name cannot have.
    ///
    /// # Errors
    /// [`Error::Usage`] with the help: the folder is not empty, or is a file; a bad name.
    pub fn plan(dir: &Path, name: Option<&str>) -> anyhow::Result<Self> {
        let dir = std::path::absolute(dir).with_context(|| format!("resolving the path {}", dir.display()))?;
        let shown = dir.display();
        if dir.exists() && !dir.is_dir() {
            return Err(
                Error::Usage(format!("{shown} is a file: name a folder that is empty or does not exist yet")).into()
            );
        }
        if dir.is_dir() {
            let entries = std::fs::read_dir(&dir).with_context(|| format!("reading {shown}"))?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            // A fresh clone of an empty repository is empty enough.
            let mut found: Vec<String> = names.collect::<std::io::Result<_>>()?;
            found.retain(|name| name != ".git");
            found.sort();
            if !found.is_empty() {
                let problem = format!(
                    "{shown} is not empty, and nothing is overwritten: it has {}. Name a folder that is empty or does not exist yet",
                    listed(&found)
                );
                return Err(Error::Usage(problem).into());
            }
        }
        let name = match name {
            Some(name) => name.to_owned(),
            None => name_of(&dir).ok_or_else(|| {
                Error::Usage(format!(
                    "{shown}: the folder's name has no characters for a project's name: give one with --name NAME"
                ))
            })?,
        };
        if !is_name(&name) || name.len() > NAME_CHARACTERS_MAX {
            return Err(Error::Usage(format!(
                "--name {name:?}: a project's name is up to {NAME_CHARACTERS_MAX} of a-z, 0-9, '-' and '_', a letter first"
            ))
            .into());
        }
        Ok(Self { dir, name })
    }

    /// Returns the project's folder as an absolute path.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the project's files; returns their paths, relative to its folder.
    pub fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        for (inside, text) in FILES {
            let path = self.dir.join(inside);
            let folder = path.parent().unwrap_or(&self.dir);
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            let wrote = std::fs::write(&path, text.replace(PLACE, &self.name));
            wrote.with_context(|| format!("writing {}", path.display()))?;
            if text.starts_with("#!") {
                let mode = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755));
                mode.with_context(|| format!("making {} executable", path.display()))?;
            }
            written.push(PathBuf::from(inside));
        }
        Ok(written)
    }
}

/// Lists the first of many names, and the number of the others.
fn listed(names: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    let more = names.len().saturating_sub(SHOWN_MAX);
    let shown = names[..names.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Makes a project's name from a folder's: lowercase letters, and a dash for each character that a name cannot have; `None` if nothing is
/// left.
fn name_of(dir: &Path) -> Option<String> {
    let folder = dir.file_name()?.to_string_lossy().to_lowercase();
    let allowed = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' };
    let name: String = folder.chars().map(allowed).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase());
    let name = &name[..name.len().min(NAME_CHARACTERS_MAX)];
    let name = name.trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Mutant, Project};

    fn refused(dir: &Path, name: Option<&str>) -> String {
        let error = Starter::plan(dir, name).unwrap_err();
        assert_eq!(Error::exit_code(&error), crate::error::EXIT_USAGE);
        error.to_string()
    }

    #[test]
    fn what_is_made_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("My Shop");
        let starter = Starter::plan(&dir, None).unwrap();
        let written = starter.make().unwrap();
        assert_eq!((starter.name(), written.len()), ("my-shop", FILES.len()));
        let project = Project::read(&dir).unwrap();
        assert_eq!(project.name, "my-shop");
        assert_eq!(project.templates.keys().collect::<Vec<_>>(), ["base", "cache", "web"]);
        let [scenario] = project.scenarios.as_slice() else { panic!("{:?}", project.scenarios) };
        assert_eq!(scenario.command, Some(vec!["python3".into(), "main.py".into()]), "it needs no Cargo");
        assert!(scenario.chaos.is_some());
        let mutants = Mutant::read_all(&project).unwrap();
        assert_eq!(mutants.iter().map(|mutant| mutant.name.as_str()).collect::<Vec<_>>(), ["visit_counted_twice"]);
        for path in &written {
            let text = std::fs::read_to_string(dir.join(path)).unwrap();
            assert!(!text.contains(PLACE) && text.ends_with('\n'), "{}", path.display());
            let executable = std::fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o111 != 0;
            assert_eq!(executable, text.starts_with("#!"), "{}", path.display());
        }
    }

    #[test]
    fn every_file_of_the_starters_folder_is_written() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("starter");
        let walk = walkdir::WalkDir::new(folder).into_iter().map(Result::unwrap);
        let files: Vec<_> = walk.filter(|entry| entry.file_type().is_file()).collect();
        for entry in &files {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert!(FILES.iter().any(|(_, it)| *it == text), "{} is not in FILES", entry.path().display());
        }
        assert_eq!(files.len(), FILES.len());
    }

    #[test]
    fn the_workflow_names_actions_by_commit_and_takes_the_least_rights() {
        let workflow = FILES.iter().find(|(path, _)| path.ends_with(".yml")).unwrap().1;
        let uses: Vec<&str> = workflow.lines().filter_map(|line| line.split_once("uses: ")).map(|it| it.1).collect();
        assert_eq!(uses.len(), 3);
        for action in uses {
            let (commit, version) = action.split_once('@').unwrap().1.split_once(" # ").unwrap();
            assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{action}");
            assert!(version.starts_with('v'), "{action}");
        }
        assert!(workflow.contains("\npermissions:\n  contents: read\n\n"));
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".git")).unwrap();
        assert_eq!(Starter::plan(folder.path(), Some("shop")).unwrap().name(), "shop", "an empty clone");
        for name in ["e2e.toml", "a", "b", "c", "d", "e", "f"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let said = refused(folder.path(), Some("shop"));
        assert!(said.contains("is not empty, and nothing is overwritten: it has a, b, c, d, e and 2 more"), "{said}");
        assert!(refused(&folder.path().join("a"), None).contains("a is a file: name a folder"));
    }

    #[test]
    fn a_name_is_made_of_the_folders_or_given() {
        let name = |folder: &str| name_of(Path::new(folder));
        assert_eq!(name("/x/shop_2").as_deref(), Some("shop_2"));
        assert_eq!(name("/x/2-Große Läden!").as_deref(), Some("gro-e-l-den"));
        assert_eq!(name("/x/a-name-that-is-much-too-long").as_deref(), Some("a-name-that-is-much"));
        assert_eq!((name("/x/42"), name("/")), (None, None));
        let folder = tempfile::tempdir().unwrap();
        assert!(refused(&folder.path().join("42"), None).contains("give one with --name NAME"));
        for bad in ["", "Shop", "2shop", "a b", "a-name-that-is-much-too-long"] {
            assert!(
                refused(&folder.path().join("new"), Some(bad)).contains("a project's name is up to 20 of a-z"),
                "{bad}"
            );
        }
    }
}
