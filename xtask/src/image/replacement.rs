//! `--set app.mancer=PATH`: a pinned Python package replaced by a local wheel or working tree.

use std::path::{Path, PathBuf};

use super::{content, requirements};
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;
use crate::manifest::{Pip, Project};

/// A Python package of a template, replaced by a local wheel or source tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    pub template: String,
    /// Package name, as written in the template's requirements.
    pub package: String,
    /// Absolute path of a wheel, or of a folder with a pyproject.toml or setup.py.
    pub path: PathBuf,
}

impl Replacement {
    /// Tells whether this is the replaced package, however its name is written.
    #[must_use]
    pub fn replaces(&self, package: &str) -> bool {
        requirements::same_package(&self.package, package)
    }

    /// Parses the values of all `--set` options of a command that uses the wanted templates.
    ///
    /// # Errors
    /// As [`Self::parse`]; and [`Error::Usage`] when a package is replaced twice, or when none of the wanted templates has the package.
    pub fn parse_all(texts: &[String], project: &Project, wanted: &[String]) -> anyhow::Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        for text in texts {
            let one = Self::parse(text, project)?;
            if all.iter().any(|other| (&other.template, &other.package) == (&one.template, &one.package)) {
                return Err(usage(format!("--set {text}: {}.{} is replaced twice", one.template, one.package)));
            }
            let mut is_used = false;
            for name in wanted {
                is_used |= project.chain(name)?.iter().any(|template| template.name == one.template);
            }
            if !is_used {
                return Err(usage(format!(
                    "--set {text}: it changes no layer, because the template {} is used by none of the chosen: {}",
                    one.template,
                    wanted.join(", ")
                )));
            }
            all.push(one);
        }
        Ok(all)
    }

    /// Returns the hash of the wheel's or tree's content.
    pub fn hash(&self) -> anyhow::Result<String> {
        content::hash_path(&self.path, Invoker::of_process())
    }

    /// Reads `TEMPLATE.PACKAGE=PATH`; the path is relative to the working directory.
    ///
    /// # Errors
    /// [`Error::Usage`] when the text, the template, the package or the path is not valid; the message lists the valid ones.
    pub fn parse(text: &str, project: &Project) -> anyhow::Result<Self> {
        let Some(((template, package), path)) =
            text.split_once('=').and_then(|(left, path)| Some((left.split_once('.')?, path)))
        else {
            return Err(usage(format!(
                "--set {text}: write --set TEMPLATE.PACKAGE=PATH, for example --set app.mancer=../mancer"
            )));
        };
        let (_, name) = pinned_package(&format!("--set {text}"), template, package, project)?;
        let path = std::path::absolute(path)?;
        check_installable(text, &path)?;
        Ok(Self { template: template.to_owned(), package: name, path })
    }
}

/// Finds a package that a template pins, whichever way its name is written; returns the template's Python packages, and the name as its
/// requirements have it. `option` begins the message of an error.
///
/// # Errors
/// [`Error::Usage`] when the template or the package does not exist; the message lists the existing ones.
pub fn pinned_package(option: &str, template: &str, package: &str, project: &Project) -> anyhow::Result<(Pip, String)> {
    let Some(pip) = &project.template(template)?.pip else {
        return Err(usage(format!("{option}: the template {template} installs no Python packages")));
    };
    let pinned = input::read_text(&pip.requirements)?;
    let names = requirements::names(&pinned);
    let Some(name) = names.iter().find(|name| requirements::same_package(name, package)) else {
        return Err(usage(format!(
            "{option}: {} pins no package {package}: it has {}",
            pip.requirements.display(),
            names.join(", ")
        )));
    };
    Ok((pip.clone(), (*name).to_owned()))
}

fn check_installable(text: &str, path: &Path) -> anyhow::Result<()> {
    let is_file = |path: &Path| input::look(path).map(|found| found.is_some_and(|found| found.is_file()));
    let is_wheel = path.extension().is_some_and(|extension| extension == "whl") && is_file(path)?;
    let is_tree = is_file(&path.join("pyproject.toml"))? || is_file(&path.join("setup.py"))?;
    if is_wheel || is_tree {
        return Ok(());
    }
    let problem = if input::exists(path)? {
        "is no wheel and no folder with a pyproject.toml or setup.py"
    } else {
        "does not exist"
    };
    Err(usage(format!("--set {text}: {} {problem}", path.display())))
}

fn usage(message: String) -> anyhow::Error {
    Error::Usage(message).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_replaced_and_what_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, text) in [
            ("e2e.toml", "name = 'x'"),
            ("containers/base/template.toml", "from = 'scratch'\ninit = ['/i']"),
            (
                "containers/app/template.toml",
                "from = 'base'\ninit = ['/i']\n[pip]\nrequirements='r.txt'\ntarget='/opt'\npython='3.11'",
            ),
            ("containers/above/template.toml", "from = 'app'\ninit = ['/i']"),
            ("containers/app/r.txt", "mancer==0.1.4 \\\n  --hash=sha256:aa\n"),
            ("tree/pyproject.toml", ""),
            ("plain/file", ""),
            ("scenarios/.keep", ""),
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project::read(root).unwrap();
        let parse = |left: &str, path: &str| {
            let text = format!("{left}{}", root.join(path).display());
            Replacement::parse(&text, &project).map_err(|error| error.to_string())
        };
        let parse_all = |left: &[&str], wanted: &str| {
            let texts: Vec<String> = left.iter().map(|left| format!("{left}{}", root.join("tree").display())).collect();
            Replacement::parse_all(&texts, &project, &[wanted.to_owned()]).map_err(|error| error.to_string())
        };
        assert_eq!(parse_all(&["app.mancer="], "app").unwrap().len(), 1);
        assert_eq!(parse_all(&["app.mancer="], "above").unwrap().len(), 1, "the template above has the package too");
        assert!(parse_all(&["app.mancer=", "app.Mancer="], "app").unwrap_err().contains("is replaced twice"));
        let unused = parse_all(&["app.mancer="], "base").unwrap_err();
        assert!(unused.contains("it changes no layer") && unused.ends_with("chosen: base"), "{unused}");
        let good = parse("app.Mancer=", "tree").unwrap();
        assert_eq!((good.template.as_str(), good.package.as_str()), ("app", "mancer"));
        for (left, path, expected) in [
            ("app", "", "write --set TEMPLATE.PACKAGE=PATH"),
            ("ap.mancer=", "tree", "did you mean app?"),
            ("base.mancer=", "tree", "installs no Python packages"),
            ("app.flask=", "tree", "it has mancer"),
            ("app.mancer=", "none", "does not exist"),
            ("app.mancer=", "plain", "is no wheel and no folder"),
        ] {
            let error = parse(left, path).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
