//! A new scenario, which passes as it is; its author replaces its content piece by piece.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Project;
use super::parse::{Source, is_name};
use super::scenario::MUTANTS_FOLDER;
use crate::error::Error;

const MANIFEST: &str = include_str!("../../skeleton/scenario.toml");
const RUST: &str = include_str!("../../skeleton/main.rs");
const PYTHON: &str = include_str!("../../skeleton/main.py");
const GREETING: &str = include_str!("../../skeleton/fixtures/greeting.txt");

/// Names that Cargo reserves for folders of its own.
const CARGOS_OWN: [&str; 4] = ["build", "deps", "examples", "incremental"];

/// Language of a new scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Rust: a binary of the scenarios' Cargo package.
    Rust,
    /// Python: a program that `command` in scenario.toml starts.
    Python,
}

/// A new scenario that is planned, and not yet written.
#[derive(Debug)]
pub struct Skeleton {
    category: String,
    name: String,
    dir: PathBuf,
    language: Language,
    containers: Vec<String>,
    /// The Cargo.toml that gets the scenario's binary, as it is now; `None` for a scenario in Python.
    package: Option<Source>,
}

impl Skeleton {
    /// Plans a new scenario, and writes nothing. Its containers are named after their templates; without given templates, it has one
    /// container, of the project's first template.
    ///
    /// # Errors
    /// [`Error::Usage`] or [`Error::BadFile`] with the help: a bad name, one that is taken, a template or a Cargo package
    /// that does not exist.
    pub fn plan(project: &Project, id: &str, language: Language, containers: &[String]) -> anyhow::Result<Self> {
        let usage = |problem: String| anyhow::Error::from(Error::Usage(problem));
        let (category, name) = id.split_once('/').unwrap_or((id, ""));
        if !is_name(category) || !is_name(name) {
            return Err(usage(format!(
                "{id:?}: a scenario is named CATEGORY/NAME, both made of a-z, 0-9, '-' and '_', a letter first, at most 32 \
                 of them: data_pipeline/first_query"
            )));
        }
        if category == MUTANTS_FOLDER {
            return Err(usage("scenarios/mutants is the folder of mutants, and no category: take another name".into()));
        }
        if language == Language::Rust && CARGOS_OWN.contains(&name) {
            return Err(usage(format!("Cargo allows no binary with the name {name}: take another name")));
        }
        let dir = project.scenarios_dir.join(category).join(name);
        let twin = project.scenarios.iter().find(|scenario| scenario.name == name);
        if let Some(taken) = twin.map(|scenario| &scenario.dir).or(dir.exists().then_some(&dir)) {
            let taken = taken.display();
            return Err(usage(format!(
                "{taken} exists already: take another name, which no scenario of the project has"
            )));
        }
        let package = match language {
            Language::Rust => Some(read_package(project)?),
            Language::Python => None,
        };
        let (category, name) = (category.to_owned(), name.to_owned());
        Ok(Self { category, name, dir, language, containers: choose(project, containers)?, package })
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the names of the scenario's containers, which are those of their templates.
    #[must_use]
    pub fn containers(&self) -> &[String] {
        &self.containers
    }

    /// Writes the scenario's files, and returns the paths of all that was written.
    pub fn make(&self) -> anyhow::Result<Vec<PathBuf>> {
        let (command, program, text) = match self.language {
            Language::Rust => ("", "main.rs", RUST),
            Language::Python => (
                "\n# The words that run it, in this folder: a program of the PATH, or a path with a '/' in it.\n\
                 command = [\"python3\", \"main.py\"]\n",
                "main.py",
                PYTHON,
            ),
        };
        let containers: String = self.containers.iter().map(|name| format!("[containers.{name}]\n")).collect();
        let first = self.containers.first().map_or("", String::as_str);
        let manifest = MANIFEST.replace("{command}", command).replace("{containers}", &containers);
        let mut written = Vec::new();
        for (name, text) in [
            ("scenario.toml", manifest.as_str()),
            (program, &text.replace("{container}", first)),
            ("fixtures/greeting.txt", GREETING),
        ] {
            let path = self.dir.join(name);
            let folder = path.parent().unwrap_or(&self.dir);
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            written.push(path);
        }
        if let Some(package) = &self.package {
            let listed = with_binary(&package.text, &self.category, &self.name);
            std::fs::write(&package.path, listed).with_context(|| format!("writing {}", package.path.display()))?;
            written.push(package.path.clone());
        }
        Ok(written)
    }
}

/// Reads the Cargo.toml of the scenarios' package, and checks that it can build a scenario.
fn read_package(project: &Project) -> anyhow::Result<Source> {
    let path = project.scenarios_dir.join("Cargo.toml");
    let (shown, package) = (path.display(), &project.scenarios_package);
    let other = "or take --language python, which needs no Cargo package";
    if !path.is_file() {
        let problem = format!("{shown} does not exist: make the Cargo package {package} there, {other}");
        return Err(Error::Usage(problem).into());
    }
    let source = Source::read(&path)?;
    let document: toml::Table = source.parse()?;
    let name = document.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
    if name != Some(package) {
        let problem = format!(
            "{shown} is not the package {package}: give its name in e2e.toml, scenarios_package = \"...\", {other}"
        );
        return Err(Error::Usage(problem).into());
    }
    if document.get("dependencies").is_none_or(|dependencies| dependencies.get("e2e").is_none()) {
        let problem = format!("{shown} does not depend on e2e: add the SDK under [dependencies], {other}");
        return Err(Error::Usage(problem).into());
    }
    Ok(source)
}

/// Returns the text of a Cargo.toml with the binary of a scenario added at its end.
fn with_binary(text: &str, category: &str, name: &str) -> String {
    let text = text.trim_end();
    format!("{text}\n\n[[bin]]\nname = \"{name}\"\npath = \"{category}/{name}/main.rs\"\n")
}

/// Returns the containers of a new scenario: the given ones; otherwise the first in `containers` of e2e.toml that has a template;
/// otherwise the project's first template by name.
fn choose(project: &Project, given: &[String]) -> anyhow::Result<Vec<String>> {
    for (place, name) in given.iter().enumerate() {
        project.template(name)?;
        if given[..place].contains(name) {
            return Err(Error::Usage(format!("--container {name} is given twice")).into());
        }
    }
    if !given.is_empty() {
        return Ok(given.to_vec());
    }
    let known = |name: &&String| project.templates.contains_key(*name);
    let first = project.container_order.iter().find(known).or_else(|| project.templates.keys().next());
    let problem = || Error::Usage(format!("{} has no template: make one first", project.containers_dir.display()));
    Ok(vec![first.ok_or_else(problem)?.clone()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Scenario;

    const PACKAGE: &str = "[package]\nname = \"scenarios\"\n\n[dependencies]\ne2e.workspace = true\n";

    struct Made(tempfile::TempDir);

    impl Made {
        fn new(e2e_toml: &str, templates: &[&str], cargo_toml: Option<&str>) -> Self {
            let made = Self(tempfile::tempdir().unwrap());
            made.write("e2e.toml", e2e_toml);
            made.write("scenarios/category/taken/scenario.toml", "description='x'\n[containers.mini]\n");
            for name in ["mini", "app"].iter().chain(templates) {
                made.write(&format!("containers/{name}/template.toml"), "from = 'scratch'\ninit = ['/init']");
            }
            if let Some(text) = cargo_toml {
                made.write("scenarios/Cargo.toml", text);
            }
            made
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn project(&self) -> Project {
            Project::read(self.0.path()).unwrap()
        }

        fn plan(&self, id: &str, language: Language, containers: &[&str]) -> anyhow::Result<Skeleton> {
            let containers: Vec<String> = containers.iter().map(|name| (*name).to_owned()).collect();
            Skeleton::plan(&self.project(), id, language, &containers)
        }

        fn refuses(&self, id: &str, language: Language, containers: &[&str], expected: &str) {
            let error = self.plan(id, language, containers).unwrap_err();
            assert_eq!(Error::exit_code(&error), crate::error::EXIT_USAGE);
            assert!(error.to_string().contains(expected), "{id}: {error}");
        }
    }

    #[test]
    fn what_is_made_is_read_back() {
        let made = Made::new("name = 'x'\ncontainers = ['db', 'app']", &[], Some(PACKAGE));
        let skeleton = made.plan("new_category/first", Language::Rust, &[]).unwrap();
        assert_eq!(skeleton.containers(), ["app"], "db has no template");
        assert_eq!(skeleton.make().unwrap().len(), 4);
        made.plan("category/second", Language::Python, &["mini", "app"]).unwrap().make().unwrap();
        made.plan("category/third", Language::Rust, &["mini"]).unwrap().make().unwrap();

        let project = made.project();
        let scenario = |name: &str| -> &Scenario { project.scenarios.iter().find(|it| it.name == name).unwrap() };
        let containers = |name: &str| scenario(name).containers.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            (containers("first"), containers("second")),
            (vec!["app".into()], vec!["mini".into(), "app".into()])
        );
        assert_eq!(scenario("first").command, None);
        assert_eq!(scenario("second").command, Some(vec!["python3".into(), "main.py".into()]));
        let read = |path: &str| std::fs::read_to_string(made.0.path().join("scenarios").join(path)).unwrap();
        assert!(read("new_category/first/main.rs").contains("lab.container(\"app\")"));
        assert!(read("category/second/main.py").contains("lab.container(\"mini\")"));
        for path in ["new_category/first/scenario.toml", "category/second/scenario.toml"] {
            assert!(!read(path).contains(['{', '}']), "a place was not filled:\n{}", read(path));
        }
        let bins = "\n[[bin]]\nname = \"first\"\npath = \"new_category/first/main.rs\"\n\n[[bin]]\nname = \"third\"\npath = \
                    \"category/third/main.rs\"\n";
        assert_eq!(read("Cargo.toml"), format!("{PACKAGE}{bins}"));
    }

    #[test]
    fn what_cannot_be_made_names_the_help() {
        let made = Made::new("name = 'x'", &[], Some(PACKAGE));
        for id in ["first", "a/b/c", "A/b", "a/b c", "/b", "a/", "../a/b"] {
            made.refuses(id, Language::Python, &[], "a scenario is named CATEGORY/NAME");
        }
        made.refuses("other/taken", Language::Python, &[], "category/taken exists already: take another name");
        std::fs::create_dir(made.0.path().join("scenarios/category/folder")).unwrap();
        made.refuses("category/folder", Language::Python, &[], "category/folder exists already");
        made.refuses("a/deps", Language::Rust, &[], "Cargo allows no binary with the name deps");
        made.refuses("a/b", Language::Python, &["mnii"], "did you mean mini?");
        made.refuses("a/b", Language::Python, &["mini", "mini"], "twice");
        assert_eq!(made.plan("a/b", Language::Python, &[]).unwrap().containers(), ["app"], "the first template");

        let made = Made::new("name = 'x'", &[], None);
        made.refuses(
            "a/b",
            Language::Rust,
            &[],
            "scenarios/Cargo.toml does not exist: make the Cargo package scenarios",
        );
        made.write("scenarios/Cargo.toml", "[package]\nname = 'other'\n");
        made.refuses("a/b", Language::Rust, &[], "is not the package scenarios");
        made.write("scenarios/Cargo.toml", "[package]\nname = 'scenarios'\n");
        made.refuses("a/b", Language::Rust, &[], "does not depend on e2e");
        made.write("scenarios/Cargo.toml", "[package]\nname = scenarios\n");
        made.refuses("a/b", Language::Rust, &[], "Cargo.toml:2:8: ");
        assert!(!made.0.path().join("scenarios/a").exists());
    }
}
