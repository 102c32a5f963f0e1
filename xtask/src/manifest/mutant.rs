//! `scenarios/mutants/NAME.toml`: one way in which the product is broken on purpose, and the check that has to notice.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use toml::Spanned;

use super::parse::{Source, is_name, nearest};
use super::scenario::MUTANTS_FOLDER;
use super::template::{FileTable, check_file, check_run};
use super::{FileEntry, Origin, Pip, Project, RunStep, Template};
use crate::error::Error;
use crate::input;

/// Mutant, read from its file and checked.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// Name of the mutant: that of its file without `.toml`.
    pub name: String,
    pub file: PathBuf,
    /// One-line description of what the mutant breaks.
    pub breaks: String,
    /// Template whose machines have the mutant.
    pub on: String,
    /// Files copied into the mutant's layer.
    pub files: Vec<FileEntry>,
    /// Commands run in the mutant's layer after the files were copied.
    pub run: Vec<RunStep>,
    /// Functions of Python that the mutant replaces, with the packages that have them.
    pub python: Option<BrokenPython>,
    pub expected: MutantFate,
}

/// Python functions that a mutant replaces.
#[derive(Debug, Clone)]
pub struct BrokenPython {
    /// Python packages of the template that `on` names; if it has none, of the nearest template below it that has some.
    pub pip: Pip,
    /// Replaced functions, at least one.
    pub functions: Vec<BrokenFunction>,
}

/// Python function with the code that replaces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenFunction {
    /// Name of the function, as `module:function` or `module:Class.method`.
    pub function: String,
    /// Python code that defines `broken(original, ...)`.
    pub code: String,
}

#[derive(Debug, Clone)]
pub enum MutantFate {
    /// A check of a scenario fails.
    Noticed(Notice),
    /// No check can notice the mutant, for this reason.
    Equivalent(String),
}

/// Check that has to notice a mutant.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Filter that selects the cases of the check, as `category/scenario` or `category/scenario:case`.
    pub filter: String,
    /// Part of the check's condition or meaning.
    pub check: String,
    /// Regular expression that the message of the failed check matches.
    pub says: Regex,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// One-line description of what the mutant breaks.
    breaks: Spanned<String>,
    /// Template whose machines have the mutant. The mutant's layer lies on that template's layer; machines of other templates stay as they
    /// are.
    on: Spanned<String>,
    /// Files and folders to copy into the mutant's layer, in this order, relative to the folder of mutants.
    #[serde(default)]
    files: Vec<Spanned<FileTable>>,
    /// Commands to run in the mutant's layer afterwards, as in a template. A command that fails ends the build, so a command that edits a
    /// file must fail where it finds nothing to edit.
    #[serde(default)]
    run: Vec<Spanned<RunStep>>,
    /// Python functions to replace. The template `on`, or one that it is built on, has `[pip]`.
    #[serde(default)]
    python: Vec<Spanned<PythonTable>>,
    /// Check that has to fail. A mutant has either this or `equivalent`.
    noticed_by: Option<Spanned<NoticeTable>>,
    /// Regular expression that the message of that check has to match, and that names the cause. One that matches the text of `check` is
    /// refused, because each message of the check contains that text.
    says: Option<Spanned<String>>,
    /// Reason why no check can notice the mutant: the broken product does the same in all that can be seen. The mutant is not run.
    equivalent: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PythonTable {
    /// The function: `module:function`, or `module:Class.method` or `module:Class.property` of the class that defines it.
    function: Spanned<String>,
    /// Python code that defines a function `broken(original, ...)`, which is called in place of the original, with the original and all
    /// arguments.
    becomes: Spanned<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoticeTable {
    /// The scenario, `NAME` or `CATEGORY/NAME`, all of whose cases run; or `NAME:CASE` for one of its cases.
    scenario: Spanned<String>,
    /// The check, by its condition or its meaning, or a part of either.
    check: Spanned<String>,
}

impl Mutant {
    /// Reads every mutant of a project, sorted by name; none where there is no folder of them.
    pub fn read_all(project: &Project) -> anyhow::Result<Vec<Self>> {
        let folder = project.scenarios_dir.join(MUTANTS_FOLDER);
        if !input::exists(&folder)? {
            return Ok(Vec::new());
        }
        let paths = input::list(&folder)?;
        let is_one = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "toml");
        paths.iter().filter(is_one).map(|path| Self::read(project, path)).collect()
    }

    fn read(project: &Project, path: &Path) -> anyhow::Result<Self> {
        let source = Source::read(path)?;
        let file: File = source.parse()?;
        let start = Spanned::new(0..0, ());
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !is_name(&name) {
            let message = "a mutant's file is named with up to 32 of a-z, 0-9, '-' and '_', a letter first";
            return Err(source.error_at(&start, message).into());
        }
        let breaks = required_text(file.breaks, &source)?;
        let Some(template) = project.templates.get(file.on.get_ref()) else {
            let known = project.templates.keys().map(String::as_str);
            let hint =
                nearest(file.on.get_ref(), known).map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
            return Err(source
                .error_at(&file.on, format!("there is no template {:?}{hint}", file.on.get_ref()))
                .into());
        };
        let dir = path.parent().unwrap_or(path);
        let files: Vec<FileEntry> =
            file.files.into_iter().map(|entry| check_file(entry, dir, &source)).collect::<Result<_, _>>()?;
        let run: Vec<RunStep> = file.run.into_iter().map(|step| check_run(step, &source)).collect::<Result<_, _>>()?;
        let python = check_python(file.python, template, project, &source)?;
        if files.is_empty() && run.is_empty() && python.is_none() {
            let message = "this mutant changes nothing: give it [[files]], `run` or [[python]]";
            return Err(source.error_at(&start, message).into());
        }
        let expected = match (file.noticed_by, file.says, file.equivalent) {
            (Some(notice), Some(says), None) => {
                MutantFate::Noticed(check_notice(&notice, &says, &template.name, project, &source)?)
            }
            (None, None, Some(reason)) => MutantFate::Equivalent(required_text(reason, &source)?),
            (_, _, Some(reason)) => {
                let message = "an equivalent mutant is noticed by no check: leave out `noticed_by` and `says`";
                return Err(source.error_at(&reason, message).into());
            }
            _ => {
                let message = "a mutant has `noticed_by` and `says`, which name the check that has to fail and words of its message, or \
                               `equivalent` with the reason why none can";
                return Err(source.error_at(&start, message).into());
            }
        };
        Ok(Self { name, file: path.to_owned(), breaks, on: template.name.clone(), files, run, python, expected })
    }

    /// Chooses mutants by their names; an empty list of names chooses all.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that no mutant has, with the nearest one.
    pub fn choose(all: Vec<Self>, names: &[String]) -> Result<Vec<Self>, Error> {
        for name in names {
            if !all.iter().any(|mutant| mutant.name == *name) {
                let known = all.iter().map(|mutant| mutant.name.as_str());
                let hint = nearest(name, known).map_or_else(
                    || "`cargo xtask mutants --list` shows them all".to_owned(),
                    |near| format!("did you mean {near}?"),
                );
                return Err(Error::Usage(format!("there is no mutant {name:?}: {hint}")));
            }
        }
        Ok(all.into_iter().filter(|mutant| names.is_empty() || names.contains(&mutant.name)).collect())
    }

    /// Returns the check that has to notice the mutant; `None` for an equivalent mutant.
    #[must_use]
    pub fn notice(&self) -> Option<&Notice> {
        match &self.expected {
            MutantFate::Noticed(notice) => Some(notice),
            MutantFate::Equivalent(_) => None,
        }
    }
}

fn required_text(text: Spanned<String>, source: &Source) -> Result<String, Error> {
    if text.get_ref().trim().is_empty() || text.get_ref().contains('\n') {
        return Err(source.error_at(&text, "this key needs one line of text that is not empty"));
    }
    Ok(text.into_inner())
}

fn check_python(
    tables: Vec<Spanned<PythonTable>>,
    template: &Template,
    project: &Project,
    source: &Source,
) -> Result<Option<BrokenPython>, Error> {
    let Some(first) = tables.first() else { return Ok(None) };
    let mut of = Some(template);
    while let Some(Template { pip: None, from, .. }) = of {
        of = if let Origin::Template(parent) = from { project.templates.get(parent) } else { None };
    }
    let Some(pip) = of.and_then(|template| template.pip.clone()) else {
        let message = format!(
            "the template {} has no Python packages: neither it nor a template that it is built on has [pip]",
            template.name
        );
        return Err(source.error_at(first, message));
    };
    let check = |table: Spanned<PythonTable>| {
        let PythonTable { function, becomes } = table.into_inner();
        if !is_function(function.get_ref()) {
            let message =
                "a function is written module:function or module:Class.method, such as \"shop.orders:Order.total\"";
            return Err(source.error_at(&function, message));
        }
        if !becomes.get_ref().lines().any(|line| line.starts_with("def broken(")) {
            return Err(source.error_at(&becomes, "this code defines no function `broken(original, ...)`"));
        }
        Ok(BrokenFunction { function: function.into_inner(), code: becomes.into_inner() })
    };
    Ok(Some(BrokenPython { pip, functions: tables.into_iter().map(check).collect::<Result<_, _>>()? }))
}

/// Tells whether a text names a function, as in `module.submodule:Class.method`.
fn is_function(text: &str) -> bool {
    let is_identifier = |part: &str| {
        let mut characters = part.chars();
        characters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
            && characters.all(|c| c.is_alphanumeric() || c == '_')
    };
    let is_path = |path: &str| path.split('.').all(is_identifier);
    text.split_once(':').is_some_and(|(module, function)| is_path(module) && is_path(function))
}

fn check_notice(
    notice: &Spanned<NoticeTable>,
    says: &Spanned<String>,
    on: &str,
    project: &Project,
    source: &Source,
) -> Result<Notice, Error> {
    let NoticeTable { scenario: named, check } = notice.get_ref();
    let (name, case) = match named.get_ref().split_once(':') {
        Some((name, case)) => (name, Some(case)),
        None => (named.get_ref().as_str(), None),
    };
    let Some(scenario) = project.scenarios.iter().find(|one| one.name == name || one.id() == name) else {
        let hint = nearest(name, project.scenarios.iter().map(|one| one.name.as_str()))
            .map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
        return Err(source.error_at(named, format!("there is no scenario {name:?}{hint}")));
    };
    if let Some(case) = case
        && !scenario.cases.iter().any(|known| known.name == case)
    {
        let known: Vec<&str> = scenario.cases.iter().map(|known| known.name.as_str()).collect();
        return Err(source.error_at(named, format!("{name} has no case {case:?}: it has {}", known.join(", "))));
    }
    if !scenario.containers.iter().any(|container| container.template == on) {
        let message = format!("{name} has no machine of the template {on}, which this mutant breaks");
        return Err(source.error_at(named, message));
    }
    if check.get_ref().trim().is_empty() {
        return Err(source.error_at(check, "a check is named by its condition, its meaning, or a part of either"));
    }
    let pattern = Regex::new(says.get_ref()).map_err(|error| {
        let why = error.to_string();
        source.error_at(says, format!("not a regular expression: {}", why.lines().last().unwrap_or_default()))
    })?;
    if pattern.is_match("") {
        return Err(
            source.error_at(says, "this regular expression matches any message: write words that name the cause")
        );
    }
    if pattern.is_match(check.get_ref()) {
        let message = "this regular expression matches the text of `check`, which each message of the check contains: \
                       write words that name the cause";
        return Err(source.error_at(says, message));
    }
    let filter = case.map_or_else(|| scenario.id(), |case| format!("{}:{case}", scenario.id()));
    Ok(Notice { filter, check: check.get_ref().clone(), says: pattern })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Reads a project whose only mutant has this text.
    pub fn read(text: &str) -> Result<Vec<Mutant>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("e2e.toml", "name = 'x'"),
            ("containers/base/template.toml", "from = 'scratch'\ninit = ['/i']\n"),
            ("containers/web/requirements.txt", ""),
            (
                "containers/web/template.toml",
                "from = 'base'\ninit = ['/i']\n[pip]\nrequirements='requirements.txt'\ntarget='/opt'\npython='3.11'",
            ),
            ("containers/front/template.toml", "from = 'web'\ninit = ['/i']"),
            ("scenarios/shop/orders/scenario.toml", SCENARIO),
            ("scenarios/mutants/broken.py", ""),
            ("scenarios/mutants/total.toml", text),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project::read(folder.path()).map_err(|error| error.to_string())?;
        Mutant::read_all(&project)
            .map_err(|error| error.to_string().replace(&format!("{}/scenarios/mutants/", folder.path().display()), ""))
    }

    const SCENARIO: &str =
        "description='x'\n[containers.web]\n[containers.front]\n[[cases]]\nname='small'\n[[cases]]\nname='large'";
    const BEGIN: &str = "breaks = 'x'\non = 'web'\nsays = 'the total is'\nrun = ['true']\n";
    const NOTICED: &str = "noticed_by = { scenario = 'orders', check = 'total' }\n";

    fn check(text: &str, expected: &str) {
        let shown = match read(text) {
            Ok(found) => format!(
                "ok {}",
                found
                    .iter()
                    .map(|mutant| format!("{} {:?}", mutant.name, mutant.notice().map(|it| &it.filter)))
                    .collect::<String>()
            ),
            Err(error) => error,
        };
        assert!(shown.starts_with(expected), "{text}\n  gave     {shown}\n  expected {expected}");
    }

    #[test]
    fn good_mutants() {
        check(&format!("{BEGIN}{NOTICED}"), "ok total Some(\"shop/orders\")");
        check(
            &format!("{BEGIN}{}", NOTICED.replace("orders", "shop/orders:large")),
            "ok total Some(\"shop/orders:large\")",
        );
        check("breaks = 'x'\non = 'web'\nrun = ['true']\nequivalent = 'nobody reads it'", "ok total None");
        check(&format!("{BEGIN}{NOTICED}[[files]]\nsource = 'broken.py'\ntarget = '/opt/x.py'"), "ok total");
        let python = "[[python]]\nfunction = 'shop.orders:Order.total'\nbecomes = '''\ndef broken(original, self):\n    return 0\n'''";
        check(&format!("{BEGIN}{NOTICED}{python}"), "ok total");
        // [pip] of the template below.
        check(&format!("{}{NOTICED}{python}", BEGIN.replace("'web'", "'front'")), "ok total");
    }

    #[test]
    fn bad_mutants_name_the_place() {
        check("on = 'web'", "total.toml:1:1: missing field `breaks`");
        check(&format!("{BEGIN}{NOTICED}broken = 1"), "total.toml:6:1: unknown field `broken`");
        check(&format!("{}{NOTICED}", BEGIN.replace("'x'", "' '")), "total.toml:1:10: this key needs one line of text");
        check(
            &format!("{}{NOTICED}", BEGIN.replace("'web'", "'wep'")),
            "total.toml:2:6: there is no template \"wep\": did you mean \"web\"?",
        );
        check(
            &format!("{}{NOTICED}", BEGIN.replace("run = ['true']\n", "")),
            "total.toml:1:1: this mutant changes nothing",
        );
        check(BEGIN, "total.toml:1:1: a mutant has `noticed_by` and `says`");
        check(&format!("{BEGIN}equivalent = 'x'"), "total.toml:5:14: an equivalent mutant is noticed by no check");
        let noticed = |from: &str, to: &str| format!("{BEGIN}{}", NOTICED.replace(from, to));
        check(
            &noticed("'orders'", "'order'"),
            "total.toml:5:27: there is no scenario \"order\": did you mean \"orders\"?",
        );
        check(
            &noticed("'orders'", "'orders:tiny'"),
            "total.toml:5:27: orders has no case \"tiny\": it has small, large",
        );
        check(&noticed("'total'", "''"), "total.toml:5:45: a check is named by");
        check(
            &format!("{}{NOTICED}", BEGIN.replace("'web'", "'base'")),
            "total.toml:5:27: orders has no machine of the template base",
        );
        check(
            &format!("{}{NOTICED}", BEGIN.replace("'the total is'", "'('")),
            "total.toml:3:8: not a regular expression",
        );
        check(
            &format!("{}{NOTICED}", BEGIN.replace("'the total is'", "'.*'")),
            "total.toml:3:8: this regular expression matches any",
        );
        check(
            &format!("{}{NOTICED}", BEGIN.replace("'the total is'", "'tot'")),
            "total.toml:3:8: this regular expression matches the text of `check`",
        );
        check(&format!("{BEGIN}{NOTICED}[[files]]\nsource = 'no'\ntarget = '/x'"), "total.toml:7:10: there is no file");
        let python = |function: &str, code: &str| {
            format!("{BEGIN}{NOTICED}[[python]]\nfunction = '{function}'\nbecomes = '{code}'")
        };
        for bad in ["shop.orders", "shop:", ":f", "shop:a b", "shop:1", "shop:f:g"] {
            check(&python(bad, "def broken(original): pass"), "total.toml:7:12: a function is written module:function");
        }
        check(&python("shop:f", "def f(original): pass"), "total.toml:8:11: this code defines no function `broken");
        let without_pip = python("shop:f", "def broken(original): pass").replace("'web'", "'base'");
        check(&without_pip, "total.toml:6:1: the template base has no Python packages");
    }

    #[test]
    fn mutants_are_chosen_by_their_names() {
        let all = || read(&format!("{BEGIN}{NOTICED}")).unwrap();
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Mutant::choose(all(), &names).map(|found| found.len()).map_err(|error| error.to_string())
        };
        assert_eq!((names(&[]), names(&["total"])), (Ok(1), Ok(1)));
        assert_eq!(names(&["totl"]), Err("there is no mutant \"totl\": did you mean total?".into()));
    }
}
