//! Reference of new baselines: the revision, the layers, the replaced packages and the pinned requirements of their machines.

use std::collections::BTreeMap;
use std::path::Path;

use crate::baseline::{REFERENCE_VERSION, Reference, ReferenceLayer, ReplacedPackage};
use crate::host::invoker::Invoker;
use crate::host::tools::git;
use crate::image::{self, LayerStatus, LockFile, Replacement};
use crate::input;
use crate::manifest::{Project, Scenario};

/// File of the folder of templates that no machine is made from.
const LOCK_FILE: &str = "lock.json";

/// What identifies the machines of a run beside their layers, looked up before the run begins: meanwhile files may change.
#[derive(Debug, Clone)]
pub struct ReferenceSource {
    revision: Option<String>,
    changed: Vec<String>,
    replaced: Vec<ReplacedPackage>,
    requirements: BTreeMap<String, Vec<String>>,
}

impl ReferenceSource {
    /// Looks up the revision of a project and of the trees that replace packages, and reads the pinned requirements.
    pub fn find(project: &Project, replacements: &[Replacement]) -> anyhow::Result<Self> {
        let invoker = Invoker::find();
        let folder = project.containers_dir.strip_prefix(&project.root).unwrap_or(&project.containers_dir);
        let (revision, changed) = match git::checked_out(&project.root, folder, &invoker)? {
            Some(found) => (Some(found.commit), found.changed),
            None => (None, Vec::new()),
        };
        let is_lock = |path: &String| Path::new(path).file_name().is_some_and(|name| name == LOCK_FILE);
        let changed = changed.into_iter().filter(|path| !is_lock(path)).collect();
        let mut replaced = Vec::new();
        for one in replacements {
            let tree = if input::is_folder(&one.path) {
                git::checked_out(&one.path, Path::new("."), &invoker)?.filter(|found| found.changed.is_empty())
            } else {
                None
            };
            replaced.push(ReplacedPackage {
                template: one.template.clone(),
                package: one.package.clone(),
                hash: one.hash()?,
                revision: tree.map(|found| found.commit),
                path: relative(&project.root, &one.path),
            });
        }
        let mut requirements = BTreeMap::new();
        for template in project.templates.values() {
            if let Some(pip) = &template.pip {
                let text = input::read_text(&pip.requirements)?;
                requirements.insert(template.name.clone(), text.split('\n').map(str::to_owned).collect());
            }
        }
        Ok(Self { revision, changed, replaced, requirements })
    }

    /// Returns the reference to the machines of a scenario, whose layers are in the store.
    pub fn of(
        &self,
        project: &Project,
        scenario: &Scenario,
        replacements: &[Replacement],
    ) -> anyhow::Result<Reference> {
        let wanted = templates(scenario);
        let mut chain = Vec::new();
        for name in &wanted {
            chain.extend(project.chain(name)?.into_iter().map(|template| template.name.clone()));
        }
        let requirements = self.requirements.iter().filter(|(name, _)| chain.contains(name));
        Ok(Reference {
            format_version: REFERENCE_VERSION,
            revision: self.revision.clone(),
            changed: self.changed.clone(),
            replaced: self.replaced.iter().filter(|one| chain.contains(&one.template)).cloned().collect(),
            layers: layers(&image::status(project, &wanted, replacements)?),
            requirements: requirements.map(|(name, lines)| (name.clone(), lines.clone())).collect(),
        })
    }

    /// Returns what is to be said of machines that no revision holds; `None` where one does.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let without = Reference {
            format_version: REFERENCE_VERSION,
            revision: self.revision.clone(),
            changed: self.changed.clone(),
            replaced: Vec::new(),
            layers: BTreeMap::new(),
            requirements: BTreeMap::new(),
        };
        let reason = without.holding_revision().err()?;
        Some(format!("{reason}: `--settle` can compare with its pinned packages, and not with its templates"))
    }
}

/// Returns the templates of a scenario's containers, each once.
pub(super) fn templates(scenario: &Scenario) -> Vec<String> {
    let mut names: Vec<String> = scenario.containers.iter().map(|used| used.template.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Returns layers in the form that a reference has them.
pub(super) fn layers(statuses: &[LayerStatus]) -> BTreeMap<String, ReferenceLayer> {
    let lock = LockFile::of(statuses);
    let one = |(name, locked): (&String, &image::Locked)| {
        let image::Locked { layer, packages, python_packages } = locked.clone();
        (name.clone(), ReferenceLayer { layer, packages, python_packages })
    };
    lock.templates().iter().map(one).collect()
}

/// Returns a path relative to a project's folder, where it lies there or beside it.
fn relative(root: &Path, path: &Path) -> String {
    let beside = |root: &Path| Some(format!("../{}", path.strip_prefix(root.parent()?).ok()?.display()));
    let shown = path.strip_prefix(root).ok().map(|below| below.display().to_string());
    shown.or_else(|| beside(root)).unwrap_or_else(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::Command;
    use crate::plan::{Order, Plan};

    fn git(root: &Path, words: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        Command::new("git").args(identity).args(words).dir(root).run().unwrap();
    }

    #[test]
    fn a_reference_says_what_its_machines_are_made_from() {
        let folder = tempfile::tempdir().unwrap();
        let (root, tree) = (folder.path().join("project"), folder.path().join("tree"));
        let pip = "[pip]\nrequirements = 'r.txt'\ntarget = '/opt'\npython = '3.11'\n";
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(&root.join("e2e.toml"), "name = 'x'\n");
        write(&root.join("containers/base/template.toml"), &format!("from = 'scratch'\ninit = ['/i']\n{pip}"));
        write(&root.join("containers/base/r.txt"), "a==1 --hash=sha256:aa\n");
        write(&root.join("containers/app/template.toml"), "from = 'base'\ninit = ['/i']\n");
        write(&root.join("containers/db/template.toml"), &format!("from = 'scratch'\ninit = ['/i']\n{pip}"));
        write(&root.join("containers/db/r.txt"), "b==1 --hash=sha256:bb\n");
        write(&root.join("scenarios/c/one/scenario.toml"), "description = 'x'\n[containers.app]\n");
        write(&tree.join("pyproject.toml"), "");
        let project = Project::read(&root).unwrap();
        let plan = Plan::make(&project, &[], Order::ONCE).unwrap();
        let scenario = plan.scenarios(&project).next().unwrap();
        let one = [Replacement { template: "base".into(), package: "a".into(), path: tree.clone() }];
        let reference = || {
            let source = ReferenceSource::find(&project, &one).unwrap();
            (source.of(&project, scenario, &one).unwrap(), source.remark())
        };

        let (outside, remark) = reference();
        assert_eq!((outside.revision, outside.changed.len()), (None, 0));
        assert!(remark.unwrap().contains("outside a Git repository"));
        assert_eq!(outside.layers.keys().collect::<Vec<_>>(), ["app", "base", "base+a"]);
        assert_eq!(outside.requirements.keys().collect::<Vec<_>>(), ["base"]);
        assert_eq!(outside.requirements["base"], ["a==1 --hash=sha256:aa", ""]);
        let replaced = &outside.replaced[0];
        assert_eq!((replaced.path.as_str(), &replaced.revision), ("../tree", &None));
        assert_eq!(replaced.hash, one[0].hash().unwrap());

        for repository in [&root, &tree] {
            git(repository, &["init", "--quiet"]);
            git(repository, &["add", "."]);
            git(repository, &["commit", "--quiet", "-m", "one"]);
        }
        write(&root.join("containers/lock.json"), "{}");
        let (clean, remark) = reference();
        assert!(clean.revision.is_some() && clean.changed.is_empty() && remark.is_none(), "{remark:?}");
        assert!(clean.replaced[0].revision.is_some());

        write(&root.join("containers/app/new"), "");
        write(&tree.join("new"), "");
        let (changed, remark) = reference();
        assert_eq!((&changed.changed[..], changed.revision), (&["containers/app/new".to_owned()][..], clean.revision));
        assert!(remark.unwrap().starts_with("no revision holds the reference: containers/app/new differed from "));
        assert_eq!(changed.replaced[0].revision, None);
    }

    #[test]
    fn a_path_is_written_as_it_is_seen_from_the_project() {
        for (path, expected) in [("/a/b/c", "c"), ("/a/d/e", "../d/e"), ("/x/y", "/x/y")] {
            assert_eq!(relative(Path::new("/a/b"), Path::new(path)), expected);
        }
    }
}
