//! `scenarios/CATEGORY/NAME/scenario.toml`: the containers that a scenario needs, its cases and its limits.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e_stats::Thresholds;
use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use super::Template;
use super::chaos::{Chaos, ChaosTable};
use super::expects::{Expected, ExpectedTable};
use super::limits::{self, LimitTables, UsageLimit};
use super::network::{CONTAINER_NAME_MAX, MACHINES_MAX, too_many_machines};
use super::pages::{self, WebPage};
use super::parse::{Entries, Source, is_name, nearest};
use super::range::{CaseTime, Within, WorsePercent};
use crate::error::Error;
use crate::input;

/// Folder of the mutants, which lies among the categories of scenarios; no category has this name.
pub const MUTANTS_FOLDER: &str = "mutants";

/// Scenario, read from its file and checked.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name of the folder above the scenario's own.
    pub category: String,
    /// Name, unique in the project: that of the scenario's folder, and of its binary if the scenario has one.
    pub name: String,
    pub dir: PathBuf,
    /// One-line description.
    pub description: String,
    /// Words by which filters choose the scenario, such as `slow` for `tag:slow`.
    pub tags: Vec<String>,
    /// Known defects of the product that every case is expected to meet, such as `mancer-0.1.4/df-table`, each once.
    pub defects: Vec<String>,
    /// Command that starts the scenario's program, run in the scenario's folder; without one, the program is the binary with the scenario's
    /// name in the scenarios' Cargo package. A program with a '/' in its name is an absolute path of a file that can be executed here, any
    /// other is looked for in `PATH`.
    pub command: Option<Vec<String>>,
    /// Deadline of one case, from the lab's readiness to the program's end.
    pub timeout: Duration,
    /// Containers, in the order of the file.
    pub containers: Vec<ContainerUse>,
    /// Cases, at least one; each gets a new lab.
    pub cases: Vec<Case>,
    /// Findings of a lab that are expected, because the scenario itself causes them.
    pub expects: Vec<Expected>,
    /// Limits of the containers' usage in a case.
    pub limits: Vec<UsageLimit>,
    /// Tolerance for faults; `None` where the scenario declares none.
    pub chaos: Option<Chaos>,
    /// Rules for the comparison of measured operations, by the operation's name.
    pub operations: BTreeMap<String, Thresholds>,
    /// Web pages of which screenshots are taken after a failure.
    pub pages: Vec<WebPage>,
}

/// A container that a scenario asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUse {
    /// Name of the container in the lab.
    pub name: String,
    /// Name of the template that the container is made from.
    pub template: String,
}

/// Parameter set of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Name of the case; `default` where the scenario lists no cases.
    pub name: String,
    /// Parameters that the scenario gets in the answer to `hello`.
    pub params: Map<String, Value>,
    /// True if the case runs only when a filter names it.
    pub on_request: bool,
}

impl Scenario {
    /// Returns the scenario as `category/name`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.category, self.name)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// One-line description, shown by `cargo xtask e2e --list`.
    description: String,
    /// Words by which filters choose the scenario, such as `slow` for `tag:slow`.
    #[serde(default)]
    tags: Vec<Spanned<String>>,
    /// Known defects of the product that every case is expected to meet, each as `PRODUCT/NAME`: a case that leaves one unchecked fails.
    #[serde(default)]
    defects: Vec<Spanned<String>>,
    /// Command that starts the scenario's program, run in the scenario's folder: the program and its arguments. A program with a `/` in its
    /// name is a path relative to that folder; any other is found by `PATH`. Without this key, the program is the binary with the
    /// scenario's name in the project's Cargo package of scenarios.
    command: Option<Spanned<Vec<Spanned<String>>>>,
    /// Deadline of one case, from the lab's readiness to the program's end; that of `e2e.toml` if not given.
    timeout: Option<Within<CaseTime>>,
    /// Containers, 1 to 155, in the order in which the scenario gets them.
    containers: Spanned<ContainerTables>,
    /// Cases. Without any there is a single one, `default`.
    #[serde(default)]
    cases: Vec<CaseTable>,
    /// Findings of a lab that are expected, because the scenario itself causes them.
    #[serde(default)]
    expects: Vec<ExpectedTable>,
    /// Limits of the containers' usage in a case.
    #[serde(default)]
    limits: LimitTables,
    /// Faults that the scenario tolerates, with `--chaos`. Without this table none is injected.
    chaos: Option<Spanned<ChaosTable>>,
    /// Rules for the comparison of measured operations, by the operation's name.
    #[serde(default)]
    operations: BTreeMap<String, OperationTable>,
    /// Web pages of containers, each with a name and a URL: screenshots of them are taken after a failure.
    #[serde(default)]
    pages: BTreeMap<String, Spanned<String>>,
}

/// Containers of a scenario, by their names in the lab.
type ContainerTables = Entries<Spanned<String>, ContainerTable>;

#[derive(Debug, Deserialize)]
struct CaseTable {
    /// Name in filters and in the record; unique in the scenario.
    name: Spanned<String>,
    /// True if the case runs only when a filter names it: `SCENARIO:CASE`.
    #[serde(default)]
    on_request: bool,
    /// Any other keys: the case's parameters, which the scenario reads with `lab.param`.
    #[serde(flatten)]
    params: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContainerTable {
    /// The template that the container is made from; the one with the container's name if not given.
    template: Option<Spanned<String>>,
}

impl Scenario {
    /// Reads every scenario below `dir`, sorted by category and name.
    pub fn read_all(
        dir: &Path,
        templates: &BTreeMap<String, Template>,
        timeout: Duration,
    ) -> anyhow::Result<Vec<Self>> {
        let mut found: Vec<Self> = Vec::new();
        for category in folders(dir)? {
            for folder in folders(&category)? {
                let path = folder.join("scenario.toml");
                if input::exists(&path)? {
                    let scenario = Self::read(&category, &folder, &path, templates, timeout)?;
                    if let Some(twin) = found.iter().find(|other| other.name == scenario.name) {
                        let message = format!("{} has the same name: a scenario's name is unique", twin.dir.display());
                        return Err(Error::BadFile { path, line: 1, column: 1, message }.into());
                    }
                    found.push(scenario);
                }
            }
        }
        Ok(found)
    }

    fn read(
        category: &Path,
        dir: &Path,
        path: &Path,
        templates: &BTreeMap<String, Template>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let source = Source::read(path)?;
        let file: File = source.parse()?;
        let start = Spanned::new(0..0, ());
        let name_of = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (category, name) = (name_of(category), name_of(dir));
        if !is_name(&category) || !is_name(&name) {
            return Err(source.error_at(&start, "category and scenario are named with a-z, 0-9, '-' and '_'").into());
        }
        if category == MUTANTS_FOLDER {
            let message =
                "scenarios/mutants is the folder of mutants, and no category: move this scenario to another one";
            return Err(source.error_at(&start, message).into());
        }
        for tag in &file.tags {
            if !is_name(tag.get_ref()) {
                return Err(source.error_at(tag, "a tag is made of a-z, 0-9, '-' and '_'").into());
            }
        }
        for (place, defect) in file.defects.iter().enumerate() {
            if !is_defect(defect.get_ref()) {
                let message = "a defect is named PRODUCT/NAME with a-z, 0-9, '-' and '.': mancer-0.1.4/df-table";
                return Err(source.error_at(defect, message).into());
            }
            if file.defects[..place].iter().any(|other| other.get_ref() == defect.get_ref()) {
                return Err(source.error_at(defect, "this defect is listed twice").into());
            }
        }
        let command = file.command.as_ref().map(|words| read_command(&source, dir, words)).transpose()?;
        let mut containers = Vec::new();
        let place = Spanned::new(file.containers.span(), ());
        for (key, table) in file.containers.into_inner().0 {
            let container = key.get_ref();
            if !is_name(container) || container.len() > CONTAINER_NAME_MAX {
                let message = format!(
                    "{container:?} is not the name of a container: up to {CONTAINER_NAME_MAX} of a-z, 0-9, '-' and '_', a letter \
                     first, so that it fits into names of the host"
                );
                return Err(source.error_at(&key, message).into());
            }
            if containers.len() >= MACHINES_MAX {
                return Err(source.error_at(&key, too_many_machines()).into());
            }
            let (named, template) = match &table.template {
                Some(template) => (Spanned::new(template.span(), ()), template.get_ref()),
                None => (Spanned::new(key.span(), ()), container),
            };
            if !templates.contains_key(template) {
                let hint = nearest(template, templates.keys().map(String::as_str))
                    .map_or_else(String::new, |near| format!(": did you mean {near:?}?"));
                return Err(source
                    .error_at(&named, format!("{container}: there is no template {template:?}{hint}"))
                    .into());
            }
            containers.push(ContainerUse { name: container.clone(), template: template.clone() });
        }
        if containers.is_empty() {
            return Err(source.error_at(&place, "a scenario has at least one container").into());
        }
        let mut cases: Vec<Case> = Vec::new();
        for case in file.cases {
            let known = cases.iter().any(|other| other.name == *case.name.get_ref());
            if !is_name(case.name.get_ref()) || known {
                return Err(source
                    .error_at(&case.name, "a case's name is made of a-z, 0-9, '-' and '_', and unique")
                    .into());
            }
            cases.push(Case { name: case.name.into_inner(), params: case.params, on_request: case.on_request });
        }
        if cases.is_empty() {
            cases.push(Case { name: "default".into(), params: Map::new(), on_request: false });
        }
        let names: Vec<&str> = containers.iter().map(|used| used.name.as_str()).collect();
        let expects = file.expects.into_iter().map(|table| table.check(&source, &names)).collect::<Result<_, _>>()?;
        let limits = limits::check(file.limits, &source, &names)?;
        let pages = pages::check(file.pages, &source, &names)?;
        let chaos = match file.chaos {
            None => None,
            Some(table) => {
                let place = Spanned::new(table.span(), ());
                Some(table.into_inner().check(&source, &place, &names)?)
            }
        };
        Ok(Self {
            category,
            name,
            dir: dir.to_owned(),
            description: file.description,
            tags: file.tags.into_iter().map(Spanned::into_inner).collect(),
            defects: file.defects.into_iter().map(Spanned::into_inner).collect(),
            command,
            timeout: file.timeout.map_or(timeout, |own| own.0),
            containers,
            cases,
            expects,
            limits,
            chaos,
            operations: thresholds(file.operations),
            pages,
        })
    }
}

/// Tells whether a text names a defect, as `product/name`.
fn is_defect(text: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let part = |part: &str| !part.is_empty() && part.chars().all(good);
    text.split_once('/').is_some_and(|(product, name)| part(product) && part(name))
}

/// Reads a command, and checks that its program can be executed if it is named by a path.
fn read_command(source: &Source, dir: &Path, words: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, Error> {
    let Some(program) = words.get_ref().first() else {
        return Err(source.error_at(words, "the command is empty: write for example [\"python3\", \"main.py\"]"));
    };
    if let Some(bad) = words.get_ref().iter().find(|word| word.get_ref().contains('\0')) {
        return Err(source.error_at(bad, "a word of the command has a zero byte in it"));
    }
    if dir.join("main.rs").exists() {
        let message = "this scenario has a command and a main.rs, and only one of them can be run: remove the other";
        return Err(source.error_at(words, message));
    }
    let mut argv: Vec<String> = words.get_ref().iter().map(|word| word.get_ref().clone()).collect();
    let name = program.get_ref();
    if name.is_empty() {
        return Err(
            source.error_at(program, "the program's name is empty: write for example \"python3\" or \"./main.py\"")
        );
    }
    if name.contains('/') {
        let fail = |message: String| source.error_at(program, message);
        let path = dir.join(name.strip_prefix("./").unwrap_or(name));
        let shown = path.display();
        let found = input::look(&path).map_err(|error| fail(error.to_string()))?;
        let metadata = found.ok_or_else(|| {
            let error = std::io::Error::from_raw_os_error(nix::libc::ENOENT);
            fail(format!(
                "{shown}: {error}: create this file, or name a program without a '/' to have it found in PATH"
            ))
        })?;
        if !metadata.is_file() {
            return Err(fail(format!("{shown} is not a file: name the program in it")));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(fail(format!("{shown} cannot be executed: chmod +x {shown}")));
        }
        argv[0] = shown.to_string();
    }
    Ok(argv)
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok(input::list(dir)?.into_iter().filter(|path| input::is_folder(path)).collect())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationTable {
    /// The smallest change that counts as worse, in percent.
    worse_percent: Within<WorsePercent>,
}

fn thresholds(tables: BTreeMap<String, OperationTable>) -> BTreeMap<String, Thresholds> {
    let one = |(name, table): (String, OperationTable)| Some((name, Thresholds::smallest(table.worse_percent.0).ok()?));
    tables.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        check_with(text, &[], expected);
    }

    /// Checks a scenario.toml with files beside it, each given by name and mode.
    fn check_with(text: &str, files: &[(&str, u32)], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let template = folder.path().join("containers/mini");
        let scenario = folder.path().join("scenarios/cat/one");
        std::fs::create_dir_all(&template).unwrap();
        std::fs::create_dir_all(&scenario).unwrap();
        std::fs::write(template.join("template.toml"), "from = 'scratch'\ninit = ['/init']").unwrap();
        std::fs::write(scenario.join("scenario.toml"), text).unwrap();
        for (name, mode) in files {
            std::fs::write(scenario.join(name), "").unwrap();
            std::fs::set_permissions(scenario.join(name), std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        let templates = Template::read_all(&folder.path().join("containers")).unwrap();
        let shown = match Scenario::read_all(&folder.path().join("scenarios"), &templates, Duration::from_secs(9)) {
            Ok(found) => {
                let names = |s: &Scenario| s.cases.iter().map(|case| case.name.clone()).collect::<Vec<_>>().join(" ");
                let command = |s: &Scenario| s.command.clone().map_or_else(String::new, |words| format!(" {words:?}"));
                found.iter().map(|s| format!("ok {} {:?} {}{}", s.id(), s.timeout, names(s), command(s))).collect()
            }
            Err(error) => error.to_string(),
        };
        let shown: String = shown.replace(&format!("{}/scenarios/cat/one/", folder.path().display()), "");
        assert!(shown.starts_with(expected), "{text}\n  gave     {shown}\n  expected {expected}");
    }

    #[test]
    fn scenario_files() {
        check("description='x'\n[containers.a]\ntemplate='mini'", "ok cat/one 9s default");
        check(
            "description='x'\ntimeout='1m'\n[containers.mini]\n[[cases]]\nname='small'\nrows=3\n[[cases]]\nname='big'",
            "ok cat/one 60s small big",
        );
        check("description='x'", "scenario.toml:1:1: missing field `containers`");
        check("description='x'\n[containers]", "scenario.toml:2:1: a scenario has at least one container");
        check(
            "description='x'\n[containers.mni]",
            "scenario.toml:2:13: mni: there is no template \"mni\": did you mean \"mini\"?",
        );
        check("description='x'\n[containers.a]\ntemplat='mini'", "scenario.toml:3:1: unknown field `templat`");
        check(
            "description='x'\n[containers.mini]\n[[cases]]\nname='a'\n[[cases]]\nname='a'",
            "scenario.toml:6:6: a case's name",
        );
        let defects = |list: &str| format!("description='x'\ndefects={list}\n[containers.mini]");
        check(&defects("['mancer-0.1.4/df-table', 'x/y']"), "ok cat/one 9s default");
        for bad in ["df-table", "x/y/z", "/y", "x/", "X/y", "x/y_z", "x/y z", ""] {
            check(&defects(&format!("['a/b', '{bad}']")), "scenario.toml:2:17: a defect is named PRODUCT/NAME");
        }
        check(&defects("['x/y', 'x/z', 'x/y']"), "scenario.toml:2:24: this defect is listed twice");
        let chaos = |text: &str| format!("description='x'\n[containers.mini]\n[chaos]\n{text}");
        check(&chaos("nothing_because='it is a test'"), "ok cat/one 9s default");
        check(&chaos("length='5s'\n[[chaos.faults]]\nfault='net.delay'\ndelay_ms=[5,50]"), "ok cat/one 9s default");
        check(&chaos("length='5s'"), "scenario.toml:3:1: list tolerated faults as [[chaos.faults]]");
        check(
            &chaos("[[chaos.faults]]\nfault='net.dely'"),
            "scenario.toml:5:7: there is no fault and no family \"net.dely\": did you mean \"net.delay\"?",
        );
        check(
            &chaos("[[chaos.faults]]\nfault='net'\ndelay_ms=5"),
            "scenario.toml:5:7: the faults of a family have different",
        );
        check(
            &chaos("[[chaos.faults]]\nfault='net.delay'\ndelay=5"),
            "scenario.toml:5:7: net.delay: unknown field `delay`",
        );
        check(
            &chaos("[[chaos.faults]]\nfault='net.delay'\ndelay_ms=[9,5]"),
            "scenario.toml:6:10: net.delay: delay_ms: a range",
        );
        check(
            &chaos("[[chaos.faults]]\nfault='net.delay'\non=['x']"),
            "scenario.toml:6:5: there is no container \"x\": the scenario has mini",
        );
        check(
            &chaos("nothing_because='x'\n[[chaos.faults]]\nfault='net'"),
            "scenario.toml:4:17: `nothing_because` contradicts [[chaos.faults]]",
        );
        let operation = |text: &str| format!("description='x'\n[containers.mini]\n[operations.query]\n{text}");
        check(&operation("worse_percent=10"), "ok cat/one 9s default");
        check(&operation("worse_percent=0"), "scenario.toml:4:15: 0 is not a number from 1 to 1000");
        check(&operation("worse=3"), "scenario.toml:4:1: unknown field `worse`");
        let expects = |text: &str| format!("description='x'\n[containers.mini]\n[[expects]]\n{text}");
        check(&expects("finding='left_over'\non=['mini']\nabout='httpd*'"), "ok cat/one 9s default");
        check(
            &expects("finding='leftover'"),
            "scenario.toml:4:9: there is no finding \"leftover\": did you mean \"left_over\"?",
        );
        check(&expects("finding='crash'\non=['x']"), "scenario.toml:5:5: there is no container \"x\"");
        let limits = |text: &str| format!("description='x'\n[containers.mini]\n[limits.{text}");
        check(&limits("mini]\nmemory_peak_bytes='64M'\ncpu_seconds=2.5\nsent_bytes='1k'"), "ok cat/one 9s default");
        check(
            &limits("mni]\ncpu_seconds=1"),
            "scenario.toml:3:9: there is no container \"mni\": did you mean \"mini\"?",
        );
        check(&limits("mini]"), "scenario.toml:3:9: nothing of mini is limited here");
        check(&limits("mini]\ncpu_seconds=0"), "scenario.toml:4:13: 0 is not a number from 0.001 to 864000");
        check(&limits("mini]\ncpu_seconds=nan"), "scenario.toml:4:13: nan is not a number from 0.001 to 864000");
        check(&limits("mini]\nsent_bytes=5"), "scenario.toml:4:12: 5 is not a size from \"1\" to \"16T\"");
        check(&limits("mini]\nsent_bytes='5X'"), "scenario.toml:4:12: \"5X\" is not a size from");
        check(&limits("mini]\nmemory='5M'"), "scenario.toml:4:1: unknown field `memory`");
        let pages = |text: &str| format!("description='x'\n[containers.mini]\n[pages]\n{text}");
        check(&pages("status='http://mini:8080/status?all'"), "ok cat/one 9s default");
        check(
            &pages("status='http://min/'"),
            "scenario.toml:4:8: there is no container \"min\": did you mean \"mini\"?",
        );
        check(&pages("status='https://mini/'"), "scenario.toml:4:8: the URL is not of the form http://CONTAINER/PATH");
        check(
            &pages("status='http://mini:x/'"),
            "scenario.toml:4:8: the URL's port is not a whole number from 1 to 65535",
        );
        check(&pages("'A b'='http://mini/'"), "scenario.toml:4:7: \"A b\": a page is named");
        check(&pages("status=5"), "scenario.toml:4:8: invalid type: integer");
        check("description='x'\ntag=[]\n[containers.mini]", "scenario.toml:2:1: unknown field `tag`");
    }
    #[test]
    fn commands() {
        let head = "description='x'\n[containers.mini]\n";
        let with = |command: &str| format!("command={command}\n{head}");
        check(
            &with("['python3', 'main.py', '--fast']"),
            "ok cat/one 9s default [\"python3\", \"main.py\", \"--fast\"]",
        );
        check_with(&with("['./main.py']"), &[("main.py", 0o755)], "ok cat/one 9s default [\"main.py\"]");
        check(&with("[]"), "scenario.toml:1:9: the command is empty");
        check(&with("['']"), "scenario.toml:1:10: the program's name is empty");
        check(&with("['sh', \"a\\u0000b\"]"), "scenario.toml:1:16: a word of the command has a zero byte");
        check(&with("'python3 main.py'"), "scenario.toml:1:9: invalid type: string");
        check(
            &with("['./main.py']"),
            "scenario.toml:1:10: main.py: No such file or directory (os error 2): create this file",
        );
        check_with(
            &with("['./main.py']"),
            &[("main.py", 0o644)],
            "scenario.toml:1:10: main.py cannot be executed: chmod +x main.py",
        );
        check(&with("['../one']"), "scenario.toml:1:10: ../one is not a file");
        check_with(
            &with("['python3', 'main.py']"),
            &[("main.rs", 0o644)],
            "scenario.toml:1:9: this scenario has a command and a main.rs",
        );
    }
}
