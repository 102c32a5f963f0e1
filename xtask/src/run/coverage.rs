//! Coverage of a Python product: a thin layer with a hook that writes down the calls of its functions, and their collection after the run.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use anyhow::Context as _;

use super::thin_layer::{self, EngineFiles};
use crate::error::Error;
use crate::host::disk::container_fs;
use crate::image::{Image, pinned_package};
use crate::input;
use crate::manifest::{Pip, Project};
use crate::record::{COVERAGE_FILE, Coverage, RecordedCoverage, RunDir, RunRecord, as_file_name};

/// Folder in a machine for the files of the hook.
const FOLDER: &str = "/e2e-coverage";

/// Path of the file to which the hook adds a line for each function that is called. Every user may write to it.
const CALLS: &str = "/e2e-coverage/calls";

/// Name, among a machine's collected logs, of the file with the calls.
pub(super) const CALLS_LOG: &str = "e2e-coverage-calls";

/// Path of the list of the package's functions, which the build of the layer makes.
const LIST: &str = "e2e-coverage/functions.json";

/// Bytes from which on the hook adds nothing to the file with the calls: `BYTES_MAX` in its source.
const CALLS_BYTES_MAX: u64 = 4 << 20;

/// Source of the hook.
const HOOK: &str = include_str!("../../hooks/coverage.py");

/// Python package whose called functions are collected.
#[derive(Debug, Clone)]
pub struct CoveredPackage {
    /// Template that pins the package.
    pub template: String,
    /// Name of the package.
    pub package: String,
    /// Python packages of the template.
    pub pip: Pip,
    /// Names of the programs that are probes of known defects.
    pub probes: Vec<String>,
}

impl CoveredPackage {
    /// Finds the package `TEMPLATE.PACKAGE`; `None` stands for the one of `[coverage]` in `e2e.toml`.
    ///
    /// # Errors
    /// [`Error::Usage`] when no package is named, or no template pins it.
    pub fn find(project: &Project, given: Option<&str>) -> anyhow::Result<Self> {
        let Some(text) = given.or(project.coverage.of.as_deref()) else {
            let message = "no package is named whose coverage is collected: write `of` in [coverage] of e2e.toml, or \
                           --coverage=TEMPLATE.PACKAGE, for example --coverage=app.mancer";
            return Err(Error::Usage(message.into()).into());
        };
        let option = format!("--coverage={text}");
        let Some((template, package)) = text.split_once('.') else {
            let message = format!("{option}: write --coverage=TEMPLATE.PACKAGE, for example --coverage=app.mancer");
            return Err(Error::Usage(message).into());
        };
        let (pip, package) = pinned_package(&option, template, package, project)?;
        Ok(Self { template: template.to_owned(), package, pip, probes: project.coverage.probes.clone() })
    }
}

/// Returns the path, below the folder of the run, of the file with the calls on a machine during an attempt.
pub(super) fn calls_file(attempt: &str, machine: &str) -> String {
    format!("{attempt}/coverage/{}", as_file_name(&format!("{machine}.tsv")))
}

/// Returns the project in which each template with the package has the hook, and so have the machines of all scenarios.
pub(super) fn covered_project(project: &Project, of: &CoveredPackage, dir: &RunDir) -> anyhow::Result<Project> {
    let engine = EngineFiles { dir, name: "coverage", folder: FOLDER };
    let mut covered = project.clone();
    for template in project.templates.values() {
        if !has_package(project, &template.name, of)? {
            continue;
        }
        let mut thin = thin_layer::on(template, &covered_name(&template.name));
        thin.files.push(engine.file("calls", "", Some(0o666))?);
        let (files, install) = engine.hook(HOOK, &of.pip, &[&of.package])?;
        thin.files.extend(files);
        thin.run.push(install);
        // The first one: it is collected, however many logs the product has.
        thin.logs.insert(0, CALLS.to_owned());
        thin_layer::replace(&mut covered, &template.name, thin);
    }
    Ok(covered)
}

fn covered_name(template: &str) -> String {
    format!("{template}+coverage")
}

/// Tells whether a template, or one that it is built on, is the one that pins the package.
pub(super) fn has_package(project: &Project, template: &str, of: &CoveredPackage) -> anyhow::Result<bool> {
    Ok(project.chain(template)?.iter().any(|template| template.name == of.template))
}

/// Collects the calls of a run from the folders of its attempts, and writes the run's `coverage.json`. `images` are the images of the
/// covered project, by template; `None` where no scenario of the run has a machine with the package.
pub(super) fn collect(
    of: &CoveredPackage,
    project: &Project,
    images: &BTreeMap<String, Image>,
    record: &RunRecord,
    dir: &RunDir,
) -> anyhow::Result<Option<RecordedCoverage>> {
    let mut with_hook = images.iter().filter(|(name, _)| name.ends_with(&covered_name("")));
    let Some(layer) = with_hook.find_map(|(_, image)| image.layers.last()) else { return Ok(None) };
    let listed = container_fs::read(layer, LIST)?;
    let listed = serde_json::from_str(&listed).context("reading the list of the package's functions")?;
    let mut coverage = Coverage::new(&of.template, listed);
    for case in &record.cases {
        let id = &case.case.0;
        let name = id.split([':']).next().unwrap_or_default();
        let scenario = project.scenarios.iter().find(|scenario| scenario.id() == name);
        for attempt in &case.attempts {
            for used in scenario.iter().flat_map(|scenario| &scenario.containers) {
                if !used.template.ends_with(&covered_name("")) {
                    continue;
                }
                let file = calls_file(&attempt.folder, &used.name);
                match input::read_below(dir.path(), &file, CALLS_BYTES_MAX * 2) {
                    Ok(bytes) => {
                        if bytes.len() as u64 >= CALLS_BYTES_MAX {
                            let reason = format!("its file is full, at {} MiB", CALLS_BYTES_MAX >> 20);
                            coverage.gaps.push(format!("{id}: calls on {} are missing: {reason}", used.name));
                        }
                        coverage.add(id, &String::from_utf8_lossy(&bytes));
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        let reason = "the machine was not running at the end of the case";
                        coverage.gaps.push(format!("{id}: the calls on {} are missing: {reason}", used.name));
                    }
                    Err(error) => return Err(error).with_context(|| format!("reading {file}")),
                }
            }
        }
    }
    coverage.count(&of.probes);
    dir.write(COVERAGE_FILE, coverage.text()?.as_bytes())?;
    Ok(Some(coverage.recorded()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::host::exec::shell::Command;
    use crate::host::invoker::Invoker;
    use crate::run::thin_layer::{SITECUSTOMIZE, SOURCE};

    const PACKAGE: &str = "
import contextlib, functools, typing

@typing.overload
def f(x: int): ...

def f(x):
    return x

def nothing():
    pass

def fails():
    raise ValueError()

def outer():
    def inner():
        return b'x'
    return inner()

def never():
    return [(lambda: 1)() for _ in range(2)]

@functools.lru_cache
@functools.wraps(f)
def decorated(x):
    return {x}

@contextlib.contextmanager
def managed():
    yield 1

async def later():
    return 1

class C:
    class Inner:
        def method(self):
            return (1,)
    def __init__(self):
        self.x = 0
    @classmethod
    def of_class(cls):
        return cls()
    @staticmethod
    def of_nobody():
        return 1.5
    @property
    def value(self):
        return True
    @value.setter
    def value(self, x):
        pass
";

    /// Python environment of a test, with a package and the hook installed beside it.
    struct Site(tempfile::TempDir);

    impl Site {
        fn new() -> Self {
            let site = Self(tempfile::tempdir().unwrap());
            let hook = HOOK.replace(CALLS, &site.at("calls").display().to_string());
            for (name, text) in [
                ("coverage/sitecustomize.py", SITECUSTOMIZE),
                ("coverage/e2e_hook.py", &hook),
                ("coverage/e2e_source.py", SOURCE),
                ("site/shop/__init__.py", ""),
                ("site/shop/m.py", PACKAGE),
                ("site/shop/broken.py", "def ("),
                ("site/other.py", "def not_of_the_package():\n    pass\n"),
                ("site/shop_x-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: shop-x\nVersion: 1.2\n"),
                (
                    "site/shop_x-1.2.dist-info/RECORD",
                    "shop/__init__.py,,\nshop/m.py,,\nshop/broken.py,,\nshop/gone.py,,\n../../bin/shop.py,,\nshop/x.txt,,\n",
                ),
                ("site/sitecustomize.py", "import builtins\nbuiltins.own = 'own'"),
                ("calls", ""),
            ] {
                let path = site.at(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            site
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn install(&self, package: &str) -> (i32, String) {
            let command = Command::new("python3").arg(self.at("coverage/sitecustomize.py")).arg(self.at("site"));
            let output = command.arg(package).output().unwrap();
            (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
        }

        /// Runs a program of this name; returns what it printed.
        fn run(&self, name: &str, program: &str) -> String {
            std::fs::write(self.at(name), program).unwrap();
            let output =
                Command::new("python3").arg(self.at(name)).env("PYTHONPATH", self.at("site")).output().unwrap();
            assert_eq!(output.status, 0, "{program}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }

        /// Returns the lines that were written since, without the module's name, and empties the file.
        fn calls(&self) -> BTreeSet<String> {
            let text = std::fs::read_to_string(self.at("calls")).unwrap();
            std::fs::write(self.at("calls"), "").unwrap();
            let lines: Vec<String> = text.lines().map(|line| line.replace("shop.m:", "").replace('\t', " ")).collect();
            let distinct: BTreeSet<String> = lines.iter().cloned().collect();
            assert_eq!(lines.len(), distinct.len(), "each line stands there once: {text}");
            distinct
        }

        fn called(&self, program: &str) -> Vec<String> {
            self.run("run.py", program);
            let called = |line: &String| Some(line.strip_prefix("call ")?.strip_suffix(" run.py")?.to_owned());
            self.calls().iter().filter_map(called).collect()
        }
    }

    #[test]
    fn functions_of_every_kind_are_listed_and_noticed() {
        let site = Site::new();
        let (status, error) = site.install("Shop.X");
        assert_eq!(status, 0, "{error}");
        let listed: serde_json::Value =
            serde_json::from_slice(&std::fs::read(site.at("coverage/functions.json")).unwrap()).unwrap();
        assert_eq!((&listed["package"], &listed["version"]), (&"shop-x".into(), &"1.2".into()));
        let names: Vec<&str> =
            listed["functions"].as_array().unwrap().iter().map(|one| one["function"].as_str().unwrap()).collect();
        let expected = [
            "f",
            "nothing",
            "fails",
            "outer",
            "outer.<locals>.inner",
            "never",
            "decorated",
            "managed",
            "later",
            "C.Inner.method",
            "C.__init__",
            "C.of_class",
            "C.of_nobody",
            "C.value",
            "C.value.setter",
        ];
        assert_eq!(names, expected.map(|name| format!("shop.m:{name}")), "overloads and lambdas are none");
        let said = site.run(
            "run.py",
            "import asyncio, other, shop.m\nm = shop.m\nother.not_of_the_package()\nm.f(None); m.f('x'); m.f(1)\nm.nothing()\n\
             try: m.fails()\nexcept ValueError: pass\nm.outer(); m.decorated(1)\nwith m.managed(): pass\nasyncio.run(m.later())\n\
             c = m.C.of_class(); c.value = c.value; m.C.of_nobody(); m.C.Inner().method()\nprint(own)\n",
        );
        assert_eq!(said, "own", "a sitecustomize that was there before still runs");
        let calls = site.calls();
        let of = |kind: &str| -> Vec<String> {
            calls.iter().filter_map(|line| Some(line.strip_prefix(kind)?.replace(" run.py", ""))).collect()
        };
        let mut called: Vec<&str> = expected.into_iter().filter(|name| *name != "never").collect();
        called.sort_unstable();
        assert_eq!(of("call "), called);
        assert_eq!(
            of("value "),
            [
                "C.Inner.method tuple",
                "C.of_class shop.m.C",
                "C.of_nobody float",
                "C.value bool",
                "decorated set",
                "f str",
                "outer bytes",
                "outer.<locals>.inner bytes",
            ],
            "of generators and coroutines no value is told, and None is none"
        );
    }

    #[test]
    fn no_process_escapes_and_none_tells_again_what_is_known() {
        let site = Site::new();
        assert_eq!(site.install("shop-x").0, 0);
        for (program, expected) in [
            ("import shop.m, os, signal\nshop.m.f(1)\nos.kill(os.getpid(), signal.SIGCONT)\nos._exit(0)", vec!["f"]),
            (
                "import shop.m, os\npid = os.fork()\nif pid == 0:\n    shop.m.f(1)\n    os._exit(0)\nos.waitpid(pid, 0)",
                vec!["f"],
            ),
            (
                "import threading, shop.m\nt = threading.Thread(target=shop.m.f, args=[1])\nt.start(); t.join()",
                vec!["f"],
            ),
            (
                "import sys, shop.m\nsys.setprofile(lambda *_: None)\nshop.m.f(1)\nassert sys.getprofile()\nsys.setprofile(None)\n\
                 assert sys.getprofile() is None\nshop.m.nothing()",
                vec!["f", "nothing"],
            ),
            (
                "import multiprocessing, shop.m\nif __name__ == '__main__':\n    context = multiprocessing.get_context('spawn')\n    \
                 p = context.Process(target=shop.m.f, args=[1])\n    p.start(); p.join()",
                vec!["f"],
            ),
            ("import sys, subprocess\nsubprocess.run([sys.executable, '-E', '-c', 'import sys; sys.path'])", vec![]),
            (
                "import os, shop.m\nos.closerange(3, 64)\nfor _ in range(3): shop.m.f('x')\nfile = os.open('/dev/null', 0)\n\
                 assert file == 3, file",
                vec!["f"],
            ),
        ] {
            assert_eq!(site.called(program), expected, "{program}");
        }
        site.run("run.py", "import shop.m\nshop.m.f(1)");
        site.run("run.py", "import shop.m\nshop.m.f(1)");
        site.run("other.py", "import shop.m\nshop.m.f(1)");
        let expected = ["call f other.py", "call f run.py", "value f other.py int", "value f run.py int"];
        assert_eq!(site.calls().into_iter().collect::<Vec<_>>(), expected, "each program tells once");
    }

    #[test]
    fn the_file_has_a_bound_and_a_program_goes_on_without_it() {
        let site = Site::new();
        assert_eq!(site.install("shop-x").0, 0);
        let full = usize::try_from(CALLS_BYTES_MAX).unwrap();
        std::fs::write(site.at("calls"), "\n".repeat(full)).unwrap();
        site.run("run.py", "import shop.m\nshop.m.f(1)");
        assert_eq!(std::fs::metadata(site.at("calls")).unwrap().len(), CALLS_BYTES_MAX);
        std::fs::remove_file(site.at("calls")).unwrap();
        assert_eq!(site.run("run.py", "import shop.m\nprint(shop.m.f(1))"), "1");
    }

    #[test]
    fn a_package_that_is_not_there_fails_the_build() {
        let site = Site::new();
        let (status, error) = site.install("shop");
        assert!(status != 0 && error.contains("has no installed package shop with a list of its files"), "{error}");
        std::fs::write(site.at("site/shop_x-1.2.dist-info/RECORD"), "shop/__init__.py,,\n").unwrap();
        let (status, error) = site.install("shop-x");
        assert!(status != 0 && error.contains("has no functions"), "{error}");
        assert!(site.at("site/sitecustomize.py").exists() && !site.at("site/e2e_hook.py").exists());
    }

    fn project(root: &Path) -> Project {
        for (name, text) in [
            ("e2e.toml", "name = 'x'\n[coverage]\nof = 'app.shop'\nprobes = ['probes.py']"),
            ("containers/app/requirements.txt", "shop-x==1.2 --hash=sha256:aa\nshop==1 --hash=sha256:aa\n"),
            (
                "containers/app/template.toml",
                "from = 'scratch'\ninit = ['/i']\n\
                 [pip]\nrequirements = 'requirements.txt'\ntarget = '/opt/p'\npython = '3.11'\n",
            ),
            ("containers/above/template.toml", "from = 'app'\ninit = ['/i']\nlogs = ['/l']\n"),
            ("containers/db/template.toml", "from = 'scratch'\ninit = ['/i']\n"),
            (
                "scenarios/c/one/scenario.toml",
                "description = 'x'\n[containers.app]\n[containers.above]\n[containers.db]",
            ),
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Project::read(root).unwrap()
    }

    #[test]
    fn every_template_with_the_package_has_the_hook_and_stays_else_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let dir = RunDir::create(folder.path(), Invoker::find()).unwrap();
        let of = CoveredPackage::find(&project, None).unwrap();
        assert_eq!(
            (of.template.as_str(), of.package.as_str(), &of.probes[..]),
            ("app", "shop", &["probes.py".into()][..])
        );
        let covered = covered_project(&project, &of, &dir).unwrap();
        let used: Vec<&str> = covered.scenarios[0].containers.iter().map(|used| used.template.as_str()).collect();
        assert_eq!(used, ["app+coverage", "above+coverage", "db"]);
        let thin = &covered.templates["above+coverage"];
        assert_eq!((&thin.logs[..], thin.run.len()), (&[CALLS.to_owned(), "/l".to_owned()][..], 1));
        assert_eq!(as_file_name(CALLS.trim_start_matches('/').replace('/', "-").as_str()), CALLS_LOG);
        assert!(HOOK.contains(&format!("CALLS = \"{CALLS}\"")) && HOOK.contains("BYTES_MAX = 4 << 20"));
    }

    #[test]
    fn a_package_is_named_by_the_flag_or_the_project() {
        let folder = tempfile::tempdir().unwrap();
        let mut project = project(folder.path());
        let find = |project: &Project, given| {
            CoveredPackage::find(project, given).map(|of| of.package).map_err(|error| error.to_string())
        };
        assert_eq!(find(&project, Some("app.Shop_X")), Ok("shop-x".to_owned()));
        for (given, expected) in [
            ("app", "--coverage=app: write --coverage=TEMPLATE.PACKAGE"),
            ("ap.shop", "did you mean app?"),
            ("db.shop", "--coverage=db.shop: the template db installs no Python packages"),
            ("app.flask", "pins no package flask: it has shop-x, shop"),
        ] {
            let error = find(&project, Some(given)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        project.coverage.of = None;
        assert!(find(&project, None).unwrap_err().contains("`of` in [coverage] of e2e.toml"));
    }
}
