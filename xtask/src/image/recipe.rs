//! Recipe of a layer: all inputs that determine its tree. The recipe's hash names the layer.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::replacement::Replacement;
use super::{content, requirements};
use crate::error::Error;
use crate::host::doctor::static_busybox;
use crate::host::exec::shell;
use crate::host::invoker::Invoker;
use crate::input;
use crate::manifest::{FileEntry, FileSource, Origin, Project, RunStep, Template, UserEntry};

/// Version of the builder, raised with every change after which the same recipe gives another tree.
const BUILDER_VERSION: u32 = 3;

/// Version of unpacking, raised with every change after which the same tar file gives another tree. Separate from [`BUILDER_VERSION`],
/// so that layers without a tar file keep their hashes.
const UNPACK_VERSION: u32 = 2;

/// Inputs that determine a layer's tree; their hash names the layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Version of the builder's code.
    pub builder_version: u32,
    /// Tree that the layer starts from.
    pub base: Base,
    /// Debian packages to install.
    pub packages: Vec<String>,
    /// Python packages to install.
    pub python: Option<Python>,
    /// Users to add.
    pub users: Vec<UserEntry>,
    /// Files and folders to copy from the host.
    pub files: Vec<CopiedFile>,
    /// Commands to run in the tree, in this order.
    pub run: Vec<RunStep>,
    /// systemd units to enable.
    pub enable: Vec<String>,
    /// systemd units to mask.
    pub mask: Vec<String>,
}

/// Tree that a layer starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    Nothing,
    /// Layer below, by its hash.
    Layer(String),
    /// Root filesystem in a tar file.
    Tar {
        /// Hash of the tar file's content.
        hash: String,
        /// Version of the code that unpacks the tar file.
        unpack_version: u32,
    },
    /// Debian release, bootstrapped from a mirror.
    Debian(String),
}

/// Python packages of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// Text of pip's requirements file with hashes; empty in the thin layer of `--set`.
    pub requirements: String,
    /// Folder in the container that the packages are installed in.
    pub target: String,
    /// Version of the container's Python that wheels must fit.
    pub version: String,
    /// Local wheels and source trees that replace packages of the layer below; empty except in the thin layer of `--set`.
    pub replacements: Vec<ReplacedPackage>,
}

/// Python package that a local wheel or source tree replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedPackage {
    /// Name of the package, as the requirements file has it.
    pub package: String,
    /// Hash of the wheel's or tree's content.
    pub hash: String,
}

/// File or folder that is copied from the host into a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedFile {
    /// Hash of the file's or folder's content.
    pub hash: String,
    /// Absolute path in the container.
    pub target: String,
    /// Permission bits of every copied file; `None` for 755 if the source is executable, else 644.
    pub mode: Option<u32>,
    /// Owner, as `user:group`.
    pub owner: Option<String>,
}

/// Paths on the host of the files and folders whose hashes a recipe has, in the recipe's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Tar file of the base.
    pub tar: Option<PathBuf>,
    /// Files and folders to copy.
    pub files: Vec<PathBuf>,
    /// Local wheels and source trees.
    pub replacements: Vec<PathBuf>,
}

impl Recipe {
    /// Returns the recipe of a template on a parent layer, and the paths of its sources. Reads every file that goes into the layer.
    pub fn of(template: &Template, parent_hash: Option<&str>) -> anyhow::Result<(Self, Sources)> {
        let (mut sources, invoker) = (Sources::default(), Invoker::of_process());
        let base = match (&template.from, parent_hash) {
            (Origin::Template(_), Some(hash)) => Base::Layer(hash.to_owned()),
            (Origin::Template(parent), None) => {
                anyhow::bail!("template {} needs the layer of template {parent} first", template.name)
            }
            (Origin::Scratch, _) => Base::Nothing,
            (Origin::Debian(release), _) => Base::Debian(release.clone()),
            (Origin::Tar(path), _) => {
                sources.tar = Some(path.clone());
                Base::Tar { hash: content::hash_path(path, invoker)?, unpack_version: UNPACK_VERSION }
            }
        };
        let mut files = Vec::new();
        for entry in &template.files {
            let source = locate(template, entry)?;
            let hash = content::hash_path(&source, invoker);
            files.push(CopiedFile {
                hash: hash.map_err(|error| unreadable(template, entry, invoker, &error))?,
                target: entry.target.clone(),
                mode: entry.mode,
                owner: entry.owner.clone(),
            });
            sources.files.push(source);
        }
        let recipe = Self {
            builder_version: BUILDER_VERSION,
            base,
            packages: template.packages.clone(),
            python: python(template)?,
            users: template.users.clone(),
            files,
            run: template.run.clone(),
            enable: template.enable.clone(),
            mask: template.mask.clone(),
        };
        Ok((recipe, sources))
    }

    /// Returns the recipe of the thin layer that replaces Python packages of a template, on the template's own layer. Files of the template
    /// are copied again and its `run` steps are repeated, as they follow the installation of packages: bytecode is made anew, for example.
    pub fn replacing(
        template: &Template,
        own_hash: &str,
        replacements: &[&Replacement],
    ) -> anyhow::Result<(Self, Sources)> {
        let pip = template.pip.as_ref().with_context(|| format!("template {} has no [pip]", template.name))?;
        let thin = Template {
            from: Origin::Template(template.name.clone()),
            packages: Vec::new(),
            pip: None,
            users: Vec::new(),
            enable: Vec::new(),
            mask: Vec::new(),
            ..template.clone()
        };
        let (mut recipe, mut sources) = Self::of(&thin, Some(own_hash))?;
        let mut replaced = Vec::new();
        for replacement in replacements {
            replaced.push(ReplacedPackage { package: replacement.package.clone(), hash: replacement.hash()? });
            sources.replacements.push(replacement.path.clone());
        }
        recipe.python = Some(Python {
            requirements: String::new(),
            target: pip.target.clone(),
            version: pip.python.clone(),
            replacements: replaced,
        });
        Ok((recipe, sources))
    }

    /// Returns the layer's name: 16 hex digits.
    #[must_use]
    pub fn hash(&self) -> String {
        // A struct of strings and numbers in declaration order: it always serializes, and always the same way.
        let text = serde_json::to_string(self).unwrap_or_default();
        content::hash_bytes(text.as_bytes())[..16].to_owned()
    }

    /// Tells whether the layer has the same hash in every checkout, because all its sources lie in the project.
    #[must_use]
    pub fn is_portable(project: &Project, sources: &Sources) -> bool {
        let inside = |path: &PathBuf| path.starts_with(&project.root);
        sources.replacements.is_empty() && sources.tar.iter().chain(&sources.files).all(inside)
    }
}

fn locate(template: &Template, entry: &FileEntry) -> anyhow::Result<PathBuf> {
    let missing = |what: String| Error::Host {
        problem: format!("the template {} copies {what}, which this machine does not have", template.name),
        help: "`cargo xtask doctor` names the missing package, `cargo xtask setup` installs it".into(),
    };
    match &entry.source {
        FileSource::Path(path) => match input::look(path) {
            Ok(Some(_)) => Ok(path.clone()),
            Ok(None) => Err(missing(path.display().to_string()).into()),
            Err(error) => Err(entry.place.error(&template.file, error.to_string()).into()),
        },
        // A busybox may be there twice, and only one without libraries runs where there are none.
        FileSource::Program(name) if name == "busybox" => {
            static_busybox().ok_or_else(|| missing("a static busybox".into()).into())
        }
        FileSource::Program(name) => shell::which(name).ok_or_else(|| missing(format!("the program {name}")).into()),
    }
}

/// Returns the error for a source that exists and cannot be read, with the place in the template's file that names it.
fn unreadable(template: &Template, entry: &FileEntry, invoker: &Invoker, error: &anyhow::Error) -> Error {
    let whose = if invoker.is_other() {
        format!("; a source is read with the rights of {}, who called sudo", invoker.name)
    } else {
        String::new()
    };
    entry.place.error(&template.file, format!("{error:#}{whose}"))
}

fn python(template: &Template) -> anyhow::Result<Option<Python>> {
    let Some(pip) = &template.pip else { return Ok(None) };
    let text = input::read_text(&pip.requirements)?;
    if let Some((line, why)) = requirements::problem(&text) {
        let message = format!(
            "{why}; the installer runs as root: it takes only pinned packages with hashes, and options of the package index"
        );
        return Err(Error::BadFile { path: pip.requirements.clone(), line, column: 1, message }.into());
    }
    Ok(Some(Python {
        requirements: text,
        target: pip.target.clone(),
        version: pip.python.clone(),
        replacements: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const TEMPLATE: &str = "
from = 'scratch'
packages = ['a']
run = ['true']
init = ['/i']
users = [{ name = 'u', uid = 1000 }]
services = { enable = ['a'], mask = ['b'] }
limits = { memory = '1G' }
pip = { requirements = 'r.txt', target = '/opt', python = '3.11' }
files = [{ source = 'f', target = '/f', mode = '0600', owner = 'u:u' }]
";

    fn project(root: &Path, template: &str) -> Project {
        for (name, text) in [
            ("e2e.toml", "name = 'x'"),
            ("containers/t/f", "c==1"),
            ("containers/t/r.txt", "a==1 \\\n  --hash=sha256:aa\nb==2 \\\n  --hash=sha256:bb\n"),
            ("containers/t/template.toml", template),
            ("scenarios/.keep", ""),
            ("local/pyproject.toml", "1"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Project::read(root).unwrap()
    }

    fn hash(project: &Project, parent: Option<&str>) -> String {
        Recipe::of(&project.templates["t"], parent).unwrap().0.hash()
    }

    #[test]
    fn every_input_of_the_tree_changes_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut seen = vec![hash(&project(root, TEMPLATE), None)];
        assert_eq!(seen[0].len(), 16);
        let mut changed = |what: &str, hash: String| {
            assert!(!seen.contains(&hash), "{what} changed nothing");
            seen.push(hash);
        };
        for (from, to) in [
            ("'scratch'", "{ debian = 'bookworm' }"),
            ("'scratch'", "{ debian = 'trixie' }"),
            ("'scratch'", "{ tar = 'f' }"),
            ("['a']\nrun", "['a', 'b']\nrun"),
            ("run = ['true']", "run = ['false']"),
            ("run = ['true']", "run = [['/bin/true']]"),
            ("uid = 1000", "uid = 1001"),
            ("uid = 1000", "uid = 1000, shell = '/bin/bash'"),
            ("enable = ['a']", "enable = []"),
            ("mask = ['b']", "mask = ['c']"),
            ("'/opt'", "'/usr/local'"),
            ("'3.11'", "'3.12'"),
            ("'r.txt'", "'f'"),
            ("target = '/f'", "target = '/g'"),
            ("'0600'", "'0644'"),
            ("'u:u'", "'root:u'"),
        ] {
            assert!(TEMPLATE.contains(from), "{from}");
            changed(to, hash(&project(root, &TEMPLATE.replace(from, to)), None));
        }
        let same = project(root, TEMPLATE);
        let replaced = |package: &str, own: &str| {
            let one = Replacement { template: "t".into(), package: package.into(), path: root.join("local") };
            Recipe::replacing(&same.templates["t"], own, &[&one]).unwrap().0.hash()
        };
        changed("a replacement", replaced("a", "1"));
        changed("another package", replaced("b", "1"));
        changed("another layer below", replaced("a", "2"));
        fs::write(root.join("local/pyproject.toml"), "2").unwrap();
        changed("a replacement's content", replaced("a", "1"));
        fs::write(root.join("containers/t/f"), "2").unwrap();
        changed("a file's content", hash(&same, None));
        changed("a file's content below a replacement", replaced("a", "1"));
    }

    #[test]
    fn a_replacement_is_a_thin_layer_that_repeats_what_follows_the_packages() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path(), TEMPLATE);
        let path = folder.path().join("local");
        let one = Replacement { template: "t".into(), package: "a".into(), path: path.clone() };
        let whole = Recipe::of(&project.templates["t"], None).unwrap().0;
        let (thin, sources) = Recipe::replacing(&project.templates["t"], &whole.hash(), &[&one]).unwrap();
        assert_eq!(thin.base, Base::Layer(whole.hash()));
        assert!(thin.packages.is_empty() && thin.users.is_empty() && thin.enable.is_empty() && thin.mask.is_empty());
        assert_eq!((&thin.files, &thin.run), (&whole.files, &whole.run));
        let python = thin.python.unwrap();
        assert_eq!((python.requirements.as_str(), python.replacements.len()), ("", 1));
        assert_eq!((python.target, python.version), ("/opt".into(), "3.11".into()));
        assert_eq!(sources.replacements, [path]);
        assert!(!Recipe::is_portable(&project, &sources));
    }

    /// Pins the hash of a plain recipe with Python packages, because committed lock files contain such hashes.
    #[test]
    fn the_thin_layers_do_not_change_the_hashes_of_others() {
        let python =
            Python { requirements: "a".into(), target: "/o".into(), version: "3".into(), replacements: vec![] };
        let text = r#"{"requirements":"a","target":"/o","version":"3","replacements":[]}"#;
        assert_eq!(serde_json::to_string(&python).unwrap(), text);
    }

    #[test]
    fn the_parent_changes_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = project(folder.path(), TEMPLATE);
        project.templates.get_mut("t").unwrap().from = Origin::Template("p".into());
        assert_ne!(hash(&project, Some("1")), hash(&project, Some("2")));
    }

    #[test]
    fn how_a_container_runs_does_not_change_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let expected = hash(&project(folder.path(), TEMPLATE), None);
        for (from, to) in [("'1G'", "'2G'"), ("['/i']", "'systemd'")] {
            assert_eq!(hash(&project(folder.path(), &TEMPLATE.replace(from, to)), None), expected, "{to}");
        }
        let more = format!(
            "{TEMPLATE}\nlogs = ['/x']\nprivileged = true\n[environment]\nA = 'b'\n[ssh]\nclients = ['u']\n[[volumes]]\n\
             path = '/v'\nsize = '1M'\n[[probes]]\ntcp = 1\n"
        );
        assert_eq!(hash(&project(folder.path(), &more), None), expected);
    }

    #[test]
    fn the_hosts_ids_do_not_change_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = project(folder.path(), TEMPLATE);
        let expected = hash(&project, None);
        project.first_id += 65_536;
        assert_eq!(hash(&project, None), expected);
    }

    #[test]
    fn a_layer_with_something_of_this_machine_is_not_portable() {
        let folder = tempfile::tempdir().unwrap();
        let check = |from: &str, to: &str, expected: bool| {
            let project = project(folder.path(), &TEMPLATE.replace(from, to));
            let (_, sources) = Recipe::of(&project.templates["t"], None).unwrap();
            assert_eq!(Recipe::is_portable(&project, &sources), expected, "{to}");
        };
        check("", "", true);
        check("source = 'f'", "program = 'sh'", false);
        check("source = 'f'", "source = '/etc/passwd'", false);
    }
}
