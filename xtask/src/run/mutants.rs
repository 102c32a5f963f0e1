//! Runs of the suite on a product that is broken on purpose: first on the unbroken product, then on each mutant. A mutant is a thin layer
//! on the layer of its template, so that it is built in seconds and changes nothing else.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64;

use super::build::ScenarioBinaries;
use super::engine::execute;
use super::interrupt::Interrupt;
use super::mutant_verdict::{MutantEvidence, equivalent};
use super::options::{Options, RunPart};
use super::thin_layer::{self, EngineFiles};
use crate::error::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PASSED, Error};
use crate::host::invoker::Invoker;
use crate::manifest::{Mutant, Notice, Project};
use crate::plan::{Order, Plan};
use crate::record::{
    MUTANTS_FILE, MutantReport, MutantResult, MutantVerdict, PastRun, Recorder, RunDir, RunRecord, Verdict,
};

/// Folder in a machine for files that belong to the mutant and not to the product.
pub(super) const FOLDER: &str = "/e2e-mutant";

/// Path of the file to which the broken code adds a line when it is executed. Every user may write to it.
pub(super) const REACHED: &str = "/e2e-mutant/reached";

/// Name, among a machine's collected logs, of the file to which the broken code adds lines.
pub(super) const REACHED_LOG: &str = "e2e-mutant-reached";

/// Source of the hook that replaces functions of a Python product by mutated ones.
pub(super) const HOOK: &str = include_str!("../../hooks/mutants.py");

/// Mutants to run, with everything needed for their runs.
#[derive(Debug)]
pub struct MutantSuite<'a> {
    pub project: &'a Project,
    pub mutants: &'a [Mutant],
    /// Random seed by which the mutants were sampled; `None` for all mutants.
    pub sample_seed: Option<u64>,
    pub options: &'a Options,
    pub binaries: &'a ScenarioBinaries,
    pub interrupt: &'a Interrupt,
}

/// Stage of a mutation test: the unbroken product, or one mutant.
#[derive(Debug, Clone, Copy)]
pub enum MutantStage<'a> {
    /// Run on the unbroken product.
    Unbroken,
    /// Run on a mutant.
    Mutant {
        name: &'a str,
        breaks: &'a str,
        /// Index in the list of mutants, from 0.
        place: usize,
        /// Length of the list.
        among: usize,
    },
}

/// Observer of a mutation test's progress.
pub trait MutantWatch {
    /// Returns the recorder for the run that begins now.
    fn begins(&self, stage: MutantStage<'_>) -> Arc<Recorder>;
    /// Reports that a run has ended, with its record if it has one.
    fn ended(&self, stage: MutantStage<'_>, record: Option<&RunRecord>);
    /// Reports the verdict on a mutant.
    fn judged(&self, result: &MutantResult);
}

/// Draws `count` mutants at random; the drawn mutants keep their order.
#[must_use]
pub fn sample(mut mutants: Vec<Mutant>, count: usize, seed: u64) -> Vec<Mutant> {
    let mut places: Vec<usize> = (0..mutants.len()).collect();
    places.shuffle(&mut Pcg64::seed_from_u64(seed));
    places.truncate(count);
    let mut place = 0;
    mutants.retain(|_| {
        place += 1;
        places.contains(&(place - 1))
    });
    mutants
}

/// Plans the run on the unbroken product: all cases that are expected to notice some mutant.
///
/// # Errors
/// [`Error::Usage`] when a case does not exist.
pub fn plan_mutants(project: &Project, mutants: &[Mutant]) -> Result<Plan, Error> {
    plan(project, mutants.iter().filter_map(Mutant::notice))
}

fn plan<'a>(project: &Project, notices: impl Iterator<Item = &'a Notice>) -> Result<Plan, Error> {
    let filters: Vec<String> = notices.map(|notice| notice.filter.clone()).collect();
    if filters.is_empty() {
        return Ok(Plan { cases: Vec::new(), shuffle_seed: None, part: None }); // without filters, all match
    }
    Plan::make(project, &filters, Order::ONCE)
}

/// Runs the unbroken product, and, if it passed, each mutant. The report is written after each mutant.
pub fn run_mutants(suite: &MutantSuite<'_>, watch: &dyn MutantWatch) -> anyhow::Result<MutantReport> {
    let mut report = MutantReport::new(suite.sample_seed);
    let plan = plan_mutants(suite.project, suite.mutants)?;
    let mut dir = None;
    if !plan.cases.is_empty() {
        let (_, folder) = unbroken_run(suite, &plan, suite.options, &mut report, watch)?;
        if !report.unbroken_passed {
            write(&folder, &report)?;
            return Ok(report);
        }
        dir = Some(folder);
    }
    for (place, mutant) in suite.mutants.iter().enumerate() {
        if suite.interrupt.is_set() {
            break;
        }
        let result = match (equivalent(mutant), mutant.notice(), &dir) {
            (None, Some(notice), Some(dir)) => try_one(suite, mutant, notice, place, dir, watch)?,
            (result, _, _) => result,
        };
        let Some(result) = result else { break };
        watch.judged(&result);
        report.add(result);
        dir.iter().try_for_each(|dir| write(dir, &report))?;
    }
    if suite.interrupt.is_set() {
        report.exit_code = EXIT_INTERRUPTED;
        dir.iter().try_for_each(|dir| write(dir, &report))?;
    }
    Ok(report)
}

/// Runs the unbroken product; returns the record and the folder of the run. The report says whether all cases passed, and has the exit
/// code if they did not.
pub(super) fn unbroken_run(
    suite: &MutantSuite<'_>,
    plan: &Plan,
    options: &Options,
    report: &mut MutantReport,
    watch: &dyn MutantWatch,
) -> anyhow::Result<(RunRecord, RunDir)> {
    let recorder = watch.begins(MutantStage::Unbroken);
    let ended = execute(suite.project, plan, options, suite.binaries, &recorder, suite.interrupt);
    let ended = ended.map(|run| run.record);
    watch.ended(MutantStage::Unbroken, ended.as_ref().ok());
    let record = ended?;
    report.unbroken_passed =
        record.exit_code == EXIT_PASSED && record.cases.iter().all(|case| case.verdict == Verdict::Passed);
    report.run = Some(record.run_id.clone());
    if !report.unbroken_passed {
        report.exit_code = if record.exit_code == EXIT_PASSED { EXIT_FAILED } else { record.exit_code };
    }
    let run = PastRun::find(&suite.project.root, &record.run_id)?;
    let masks = Arc::clone(suite.options.secrets.masks());
    Ok((record, RunDir::of(&run, Invoker::find())?.masked_by(masks)))
}

/// Returns the record of a mutant's run, or the reason why its layer does not build; `None` if the run was interrupted.
///
/// # Errors
/// The error of the run, or a cause on the host that every run would meet.
pub(super) fn record_of(
    suite: &MutantSuite<'_>,
    ended: anyhow::Result<RunRecord>,
    name: &str,
) -> anyhow::Result<Option<Result<RunRecord, String>>> {
    let record = match ended {
        Ok(record) => record,
        Err(_) if suite.interrupt.is_set() => return Ok(None),
        Err(error) if matches!(Error::of(&error), Some(Error::Build(_))) => return Ok(Some(Err(format!("{error:#}")))),
        Err(error) => return Err(error),
    };
    if suite.interrupt.is_set() {
        return Ok(None);
    }
    match record.host_cause().filter(|cause| cause.meets_every_case()) {
        Some(cause) => Err(cause.error(&anyhow::anyhow!("running the mutant {name}"))),
        None => Ok(Some(Ok(record))),
    }
}

pub(super) fn write(dir: &RunDir, report: &MutantReport) -> anyhow::Result<()> {
    dir.write(MUTANTS_FILE, (serde_json::to_string_pretty(report)? + "\n").as_bytes())
}

/// Runs one mutant and judges it; `None` if the run was interrupted.
fn try_one(
    suite: &MutantSuite<'_>,
    mutant: &Mutant,
    notice: &Notice,
    place: usize,
    above: &RunDir,
    watch: &dyn MutantWatch,
) -> anyhow::Result<Option<MutantResult>> {
    let dir = above.below(&format!("mutants/{}", mutant.name))?;
    let project = broken_project(suite.project, mutant, &dir)?;
    let plan = plan(&project, std::iter::once(notice))?;
    let note = format!("the product is broken on purpose, by the mutant {}: {}", mutant.name, mutant.breaks);
    let options = Options { part: Some(RunPart { dir: dir.clone(), note }), retries: 0, ..suite.options.clone() };
    let stage = MutantStage::Mutant { name: &mutant.name, breaks: &mutant.breaks, place, among: suite.mutants.len() };
    let recorder = watch.begins(stage);
    let ended = execute(&project, &plan, &options, suite.binaries, &recorder, suite.interrupt).map(|run| run.record);
    watch.ended(stage, ended.as_ref().ok());
    let result = |verdict, reason, reached, record: Option<&RunRecord>| MutantResult {
        name: mutant.name.clone(),
        breaks: mutant.breaks.clone(),
        verdict,
        scenario: Some(notice.filter.clone()),
        reason,
        reached,
        run: Some(dir.run_id().to_owned()),
        duration_ms: record.map(|record| record.duration_ms),
    };
    let Some(record) = record_of(suite, ended, &mutant.name)? else { return Ok(None) };
    let record = match record {
        Ok(record) => record,
        Err(unbuilt) => return Ok(Some(result(MutantVerdict::Misread, unbuilt, Vec::new(), None))),
    };
    let run = PastRun { folder: dir.path().to_owned(), record };
    let evidence = MutantEvidence::read(&run, REACHED_LOG)?;
    let (verdict, reason) = evidence.judge(notice);
    Ok(Some(result(verdict, reason, evidence.into_reached(), Some(&run.record))))
}

/// Returns the project in which the mutant's template, built on the template that it breaks, replaces that template in every scenario.
/// Files added by the engine are in the run's folder, so that the record contains them.
fn broken_project(project: &Project, mutant: &Mutant, dir: &RunDir) -> anyhow::Result<Project> {
    let original = project.template(&mutant.on)?;
    let engine = EngineFiles { dir, name: "mutant", folder: FOLDER };
    let mut thin = thin_layer::on(original, &format!("{}+{}", original.name, mutant.name));
    thin.file.clone_from(&mutant.file);
    thin.files = mutant.files.clone();
    thin.run.clone_from(&mutant.run);
    thin.files.insert(0, engine.file("reached", "", Some(0o666))?);
    if let Some(python) = &mutant.python {
        let mutations: Vec<_> = python.functions.iter().map(|one| (&one.function, &one.code)).collect();
        // A list of texts in JSON is one in Python.
        let mutations = format!("MUTATIONS = {}\nEMPTIED = []\n", serde_json::to_string_pretty(&mutations)?);
        let (files, install) = engine.hook(HOOK, &python.pip, &[])?;
        thin.files.extend(files);
        thin.files.push(engine.file("e2e_mutations.py", &mutations, None)?);
        thin.run.push(install);
    }
    thin.logs.push(REACHED.to_owned());
    let mut broken = project.clone();
    thin_layer::replace(&mut broken, &mutant.on, thin);
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::exec::shell::Command;
    use crate::manifest::{MutantFate, Origin};
    use crate::run::thin_layer::{SITECUSTOMIZE, SOURCE};

    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let mutant = "breaks = 'x'\non = 'app'\nsays = 'x'\nrun = ['true']\nnoticed_by = { scenario = 'one', check = 'the total' }\n\
                      [[python]]\nfunction = 'm:f'\nbecomes = \"\"\"\ndef broken(original):\n    return \"no\"\n\"\"\"\n";
        for (name, text) in [
            ("e2e.toml", "name = 'x'"),
            ("containers/app/requirements.txt", ""),
            (
                "containers/app/template.toml",
                "from = 'scratch'\ninit = ['/i']\npackages = ['p']\nlogs = ['/l']\nrun = ['r']\n[limits]\nmemory = '8M'\n\
                 [pip]\nrequirements = 'requirements.txt'\ntarget = '/opt/p'\npython = '3.11'\n",
            ),
            ("containers/db/template.toml", "from = 'app'\ninit = ['/i']\n"),
            (
                "scenarios/c/one/scenario.toml",
                "description = 'x'\n[containers.app]\n[containers.other]\ntemplate = 'app'\n[containers.db]",
            ),
            ("scenarios/c/two/scenario.toml", "description = 'x'\n[containers.db]"),
            ("scenarios/mutants/a.toml", mutant),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project::read(folder.path()).unwrap();
        (folder, project)
    }

    #[test]
    fn a_mutant_is_a_thin_layer_on_an_unchanged_template() {
        let (folder, project) = project();
        let mutants = Mutant::read_all(&project).unwrap();
        let dir = RunDir::create(folder.path(), Invoker::find()).unwrap();
        let broken = broken_project(&project, &mutants[0], &dir).unwrap();
        let thin = &broken.templates["app+a"];
        assert_eq!(thin.from, Origin::Template("app".into()));
        assert!(thin.packages.is_empty() && thin.pip.is_none(), "what the template has is not built again");
        assert_eq!(thin.limits, project.templates["app"].limits, "it runs as the template's machines do");
        assert_eq!(thin.logs, ["/l", REACHED]);
        let targets: Vec<&str> = thin.files.iter().map(|file| file.target.as_str()).collect();
        let of_hook = ["sitecustomize.py", "e2e_hook.py", "e2e_source.py", "e2e_mutations.py"];
        let of_hook = of_hook.map(|name| format!("/e2e-mutant/{name}"));
        assert_eq!(targets, [&[REACHED.to_owned()], &of_hook[..]].concat());
        assert_eq!((thin.files[0].mode, thin.run.len()), (Some(0o666), 2));
        let used: Vec<&str> = broken.scenarios[0].containers.iter().map(|used| used.template.as_str()).collect();
        assert_eq!(used, ["app+a", "app+a", "db"], "machines of other templates stay as they are");
        assert_eq!(format!("{:?}", broken.templates["app"]), format!("{:?}", project.templates["app"]));
        let cases: Vec<String> =
            plan_mutants(&project, &mutants).unwrap().cases.into_iter().map(|case| case.id).collect();
        assert_eq!(cases, ["c/one:default"], "only what has to notice runs");
        assert!(plan_mutants(&project, &[]).unwrap().cases.is_empty());
        let text = std::fs::read_to_string(dir.path().join("mutant/e2e_mutations.py")).unwrap();
        assert!(text.starts_with("MUTATIONS = [") && text.contains(r#"return \"no\"\n"#), "{text}");
    }

    #[test]
    fn a_sample_is_the_same_for_its_seed_and_keeps_the_order() {
        let (_folder, project) = project();
        let one = Mutant::read_all(&project).unwrap().remove(0);
        let all: Vec<Mutant> = (0..20).map(|number| Mutant { name: format!("m{number:02}"), ..one.clone() }).collect();
        let draw = |count, seed| -> Vec<String> {
            sample(all.clone(), count, seed).into_iter().map(|mutant| mutant.name).collect()
        };
        let drawn: BTreeSet<Vec<String>> = (0..10).map(|seed| draw(5, seed)).collect();
        assert!(drawn.len() > 5, "{drawn:?}");
        for names in &drawn {
            assert!(names.len() == 5 && names.is_sorted(), "{names:?}");
        }
        assert_eq!((draw(5, 3), draw(100, 3).len()), (draw(5, 3), 20));
    }

    /// Watcher that fails the test when a run begins or ends.
    struct NoRun;

    impl MutantWatch for NoRun {
        fn begins(&self, stage: MutantStage<'_>) -> Arc<Recorder> {
            panic!("a run begins: {stage:?}")
        }

        fn ended(&self, stage: MutantStage<'_>, _: Option<&RunRecord>) {
            panic!("a run has ended: {stage:?}")
        }

        fn judged(&self, _: &MutantResult) {}
    }

    #[test]
    fn equivalent_mutants_take_no_run_and_an_interrupt_is_no_success() {
        let (folder, project) = project();
        let one = Mutant::read_all(&project).unwrap().remove(0);
        let mutants = [Mutant { expected: MutantFate::Equivalent("nobody sees it".into()), ..one }];
        let options = Options::plain(1).unwrap();
        let plan = plan_mutants(&project, &mutants).unwrap();
        let binaries = ScenarioBinaries::in_folder(&project, &plan, folder.path()).unwrap();
        let report = |interrupt| {
            let suite = MutantSuite {
                project: &project,
                mutants: &mutants,
                sample_seed: None,
                options: &options,
                binaries: &binaries,
                interrupt: &interrupt,
            };
            let report = run_mutants(&suite, &NoRun).unwrap();
            (report.exit_code, report.run, report.mutants.into_iter().map(|it| it.verdict).collect::<Vec<_>>())
        };
        assert_eq!(report(Interrupt::default()), (EXIT_PASSED, None, vec![MutantVerdict::Equivalent]));
        assert_eq!(report(Interrupt::already_come()), (EXIT_INTERRUPTED, None, Vec::new()));
    }

    /// Python environment of a test, with mutations installed beside a package.
    struct Site(tempfile::TempDir);

    const PACKAGE: &str = "
def f(x):
    return x

class Base:
    def inherited(self):
        return 'base'

class C(Base):
    def method(self, x):
        return x
    @classmethod
    def of_class(cls, x):
        return (cls.__name__, x)
    @staticmethod
    def of_nobody(x):
        return x
    @property
    def value(self):
        return 1
";

    impl Site {
        fn new(mutations: &[(&str, &str)]) -> Self {
            Self::with(mutations, &[])
        }

        fn with(mutations: &[(&str, &str)], emptied: &[(&str, &str)]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            for name in ["mutant", "site/shop", "below"] {
                std::fs::create_dir_all(at(name)).unwrap();
            }
            let json = |list: &[(&str, &str)]| serde_json::to_string(list).unwrap();
            let mutations = format!("MUTATIONS = {}\nEMPTIED = {}", json(mutations), json(emptied));
            for (name, text) in [
                ("mutant/sitecustomize.py", SITECUSTOMIZE),
                ("mutant/e2e_hook.py", HOOK),
                ("mutant/e2e_source.py", SOURCE),
                ("mutant/e2e_mutations.py", &mutations),
                ("site/shop/__init__.py", ""),
                ("site/shop/m.py", PACKAGE),
                ("site/shop/user.py", "from shop.m import f"),
                ("below/sitecustomize.py", "import builtins\nbuiltins.below = 'below'"),
            ] {
                std::fs::write(at(name), text).unwrap();
            }
            Self(folder)
        }

        fn install(&self) -> (i32, String) {
            let at = |name: &str| self.0.path().join(name);
            let command = Command::new("python3").arg(at("mutant/sitecustomize.py")).arg(at("site"));
            let output = command.output().unwrap();
            (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
        }

        fn says(&self, line: &str) -> String {
            let path = ["site", "below"].map(|name| self.0.path().join(name).display().to_string()).join(":");
            let output = Command::new("python3").args(["-c", line]).env("PYTHONPATH", path).output().unwrap();
            assert_eq!(output.status, 0, "{line}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
    }

    #[test]
    fn python_functions_of_every_kind_are_replaced_before_anybody_imports_them() {
        let twice = "import json\ndef broken(original, *args):\n    return json.dumps([original(*args), '\\\\ \\\"ü'])";
        let functions = ["shop.m:f", "shop.m:C.method", "shop.m:C.of_class", "shop.m:C.of_nobody", "shop.m:C.value"];
        let site = Site::new(&functions.map(|function| (function, twice)));
        assert_eq!(site.says("from shop.user import f; print(f(7))"), "7");
        let (status, error) = site.install();
        assert_eq!(status, 0, "{error}");
        for (call, original) in [
            ("shop.user.f(7)", "7"),
            ("shop.m.C().method(7)", "7"),
            ("shop.m.C.of_class(7)", r#"["C", 7]"#),
            ("shop.m.C.of_nobody(7)", "7"),
            ("shop.m.C().value", "1"),
        ] {
            let said = site.says(&format!("import shop.m, shop.user, json; print(json.loads({call}))"));
            let expected = site.says(&format!("import json; print([json.loads('{original}'), '\\\\ \\\"ü'])"));
            assert_eq!(said, expected, "{call}");
        }
        assert_eq!(site.says("import shop.m; print(shop.m.C().inherited(), shop.m.f.__name__)"), "base f");
        let loader =
            "import shop.m, inspect; print(type(shop.m.__loader__).__name__, len(inspect.getsource(shop.m.Base)) > 9)";
        assert_eq!(site.says(loader), "SourceFileLoader True");
    }

    #[test]
    fn a_sitecustomize_that_is_there_still_runs() {
        let mutation = [("shop.m:f", "def broken(original, x):\n    return 0")];
        let site = Site::new(&mutation);
        assert_eq!(site.install().0, 0);
        assert_eq!(site.says("import shop.m; print(below, shop.m.f(7))"), "below 0");
        let site = Site::new(&mutation);
        std::fs::write(site.0.path().join("site/sitecustomize.py"), "import builtins\nbuiltins.own = 'own'").unwrap();
        assert_eq!(site.install().0, 0);
        assert_eq!(site.says("import shop.m; print(own, shop.m.f(7))"), "own 0");
    }

    #[test]
    fn the_build_leaves_no_mark() {
        let code = "def broken(original, *args):\n    return 0";
        let site = Site::new(&[("shop.m:f", code), ("shop.other:g", code)]);
        let at = |name: &str| site.0.path().join(name);
        // It calls a broken function when it is imported, and the build imports it.
        std::fs::write(at("site/shop/other.py"), "import shop.m\nshop.m.f(7)\ndef g():\n    return 1\n").unwrap();
        let marks = at("reached");
        std::fs::write(&marks, "").unwrap();
        let hook = HOOK.replace(REACHED, &marks.display().to_string());
        std::fs::write(at("mutant/e2e_hook.py"), hook).unwrap();
        let (status, error) = site.install();
        assert_eq!((status, std::fs::read_to_string(&marks).unwrap()), (0, String::new()), "{error}");
        assert_eq!(site.says("import shop.other"), "");
        assert_eq!(std::fs::read_to_string(&marks).unwrap(), "shop.m:f\n", "a scenario's import leaves it");
    }

    const EMPTIED: &str = "
import asyncio, contextlib
SEEN = []

def f(x):
    'Adds.'
    return g(x)

def g(x):
    SEEN.append(x)
    return x

def outer(x):
    def inner():
        return x
    return [inner(), 1]

def numbers(x):
    yield g(x)

async def later(x):
    return g(x)

async def stream(x):
    yield g(x)

@contextlib.contextmanager
def managed(x):
    yield g(x)

class C:
    @classmethod
    def of_class(cls, x):
        return g(x)
    @staticmethod
    def of_nobody(x):
        return g(x)
    @property
    def value(self):
        return g(1)
    @value.setter
    def value(self, x):
        g(x)
    class Inner:
        def method(self, x):
            return g(x)

async def all_of(x):
    return [one async for one in stream(x)]
";

    #[test]
    fn functions_of_every_kind_are_emptied_and_nothing_else() {
        for (function, value, program, expected) in [
            ("f", "''", "m.f(7), m.f.__doc__, m.SEEN", "('', 'Adds.', [])"),
            ("outer", "[]", "m.outer(7)", "[]"),
            ("outer.<locals>.inner", "b''", "m.outer(7)", "[b'', 1]"),
            ("numbers", "None", "list(m.numbers(7)), m.SEEN", "([], [])"),
            ("later", "False", "m.asyncio.run(m.later(7)), m.SEEN", "(False, [])"),
            ("stream", "None", "m.asyncio.run(m.all_of(7)), m.SEEN", "([], [])"),
            ("C.of_class", "0", "m.C.of_class(7), m.C().of_class(7), m.SEEN", "(0, 0, [])"),
            ("C.of_nobody", "()", "m.C.of_nobody(7), m.C().of_nobody(7), m.SEEN", "((), (), [])"),
            ("C.value", "{}", "m.C().value, setattr(m.C(), 'value', 7), m.SEEN", "({}, None, [7])"),
            ("C.value.setter", "None", "m.C().value, setattr(m.C(), 'value', 7), m.SEEN", "(1, None, [1])"),
            ("C.Inner.method", "set()", "m.C.Inner().method(7)", "set()"),
        ] {
            let name = format!("shop.e:{function}");
            let site = Site::with(&[], &[(&name, value)]);
            let at = |name: &str| site.0.path().join(name);
            std::fs::write(at("site/shop/e.py"), EMPTIED).unwrap();
            std::fs::write(at("reached"), "").unwrap();
            let hook = HOOK.replace(REACHED, &at("reached").display().to_string());
            std::fs::write(at("mutant/e2e_hook.py"), hook).unwrap();
            let (status, error) = site.install();
            assert_eq!(status, 0, "{error}");
            assert_eq!(site.says(&format!("import shop.e as m; print(({program}))")), expected, "{function}");
            assert_eq!(std::fs::read_to_string(at("reached")).unwrap(), format!("{name}\n"), "a mark a process");
            let place =
                "import shop.e as m, inspect; print(m.__file__.endswith('shop/e.py'), len(inspect.getsource(m.g)) > 9)";
            assert_eq!(site.says(place), "True True");
        }
        // A decorator stays: what it makes of the emptied function is what a caller gets.
        let site = Site::with(&[], &[("shop.e:managed", "None")]);
        std::fs::write(site.0.path().join("site/shop/e.py"), EMPTIED).unwrap();
        assert_eq!(site.install().0, 0);
        let program =
            "import shop.e\ntry:\n    shop.e.managed(7).__enter__()\nexcept RuntimeError as error: print(error)";
        assert_eq!(site.says(program), "generator didn't yield");
        for (function, expected) in
            [("shop.e:h", "shop.e:h: there is no function of this name"), ("shop.none:f", "shop.none has no source")]
        {
            let site = Site::with(&[], &[(function, "None")]);
            std::fs::write(site.0.path().join("site/shop/e.py"), EMPTIED).unwrap();
            let (status, error) = site.install();
            assert!(status != 0 && error.contains(expected), "{function}: {error}");
        }
    }

    #[test]
    fn a_function_that_is_not_there_fails_the_build() {
        let code = "def broken(original, *args):\n    return 0";
        for (function, code, expected) in [
            ("shop.m:g", code, "shop.m:g: there is no function of this name"),
            ("shop.m:C.inherited", code, "or a base class has it"),
            ("shop.m:D.method", code, "shop.m has no class D"),
            ("shop.m:C", code, "this is no function"),
            ("shop.none:f", code, "the module shop.none cannot be imported"),
            ("shop.m:f", "def broken(original):\n  return (", "cannot be imported: SyntaxError"),
            ("shop.m:f", "def broken(original): pass\nbroken = None", "defines no function `broken`"),
        ] {
            let (status, error) = Site::new(&[(function, code)]).install();
            assert!(status != 0 && error.contains(expected), "{function}: {error}");
        }
    }
}
