//! Mutants that nobody wrote: functions of a Python product, drawn at random among those that the scenarios' programs call, each emptied so
//! that it returns at once. The share that the suite notices says how much of what runs is checked.

use std::collections::BTreeSet;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64;

use super::coverage::{CoveredPackage, has_package};
use super::engine::execute;
use super::mutant_verdict::MutantEvidence;
use super::mutants::{self, MutantStage, MutantSuite, MutantWatch, REACHED, REACHED_LOG, unbroken_run};
use super::options::{Options, RunPart};
use super::thin_layer::{self, EngineFiles};
use crate::error::{EXIT_INTERRUPTED, Error};
use crate::manifest::{Project, nearest};
use crate::plan::{Order, Plan};
use crate::record::{
    CalledBy, Coverage, CoveredFunction, EmptiedDraw, MutantReport, MutantResult, MutantVerdict, PastRun, RunDir,
    RunRecord, Verdict,
};

/// Beginning of the name of a mutant that is an emptied function, before the name of the function.
pub const EMPTIED: &str = "empty:";

/// Choice of the functions that are emptied.
#[derive(Debug, Clone)]
pub enum EmptiedChoice {
    /// Number of functions drawn at random, and the random seed.
    Drawn(u32, u64),
    /// Names of functions, as `module:Class.method`.
    Named(Vec<String>),
}

/// Emptied function: a mutant that returns at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Emptied {
    function: String,
    /// Expression of the returned value in Python.
    value: &'static str,
    /// Cases whose drivers called the function.
    cases: BTreeSet<String>,
}

/// Plans the run on the unbroken product: all cases, because any of them may call a function.
///
/// # Errors
/// [`Error::Usage`] when the project has no case.
pub fn plan_emptied(project: &Project) -> Result<Plan, Error> {
    let plan = Plan::make(project, &[], Order::ONCE)?;
    if plan.cases.is_empty() {
        return Err(Error::Usage(format!("there is no scenario in {}", project.scenarios_dir.display())));
    }
    Ok(plan)
}

/// Runs the unbroken product with coverage, and, if it passed, each chosen function of `of` emptied. The report is written after each one.
pub fn run_emptied(
    suite: &MutantSuite<'_>,
    of: &CoveredPackage,
    choice: &EmptiedChoice,
    watch: &dyn MutantWatch,
) -> anyhow::Result<MutantReport> {
    let mut report = MutantReport::new(match choice {
        EmptiedChoice::Drawn(_, seed) => Some(*seed),
        EmptiedChoice::Named(_) => None,
    });
    let plan = plan_emptied(suite.project)?;
    let options = Options { coverage: Some(of.clone()), ..suite.options.clone() };
    let (record, dir) = unbroken_run(suite, &plan, &options, &mut report, watch)?;
    if !report.unbroken_passed {
        mutants::write(&dir, &report)?;
        return Ok(report);
    }
    let coverage = Coverage::read(dir.path()).context("reading the coverage of the unbroken product")?;
    let (chosen, draw) = choose(&coverage, of, choice)?;
    report.emptied = Some(draw);
    mutants::write(&dir, &report)?;
    for (place, emptied) in chosen.iter().enumerate() {
        if suite.interrupt.is_set() {
            break;
        }
        let Some(result) = try_one(suite, of, emptied, (place, chosen.len()), (&record, &dir), watch)? else { break };
        watch.judged(&result);
        report.add(result);
        mutants::write(&dir, &report)?;
    }
    if suite.interrupt.is_set() {
        report.exit_code = EXIT_INTERRUPTED;
        mutants::write(&dir, &report)?;
    }
    Ok(report)
}

/// Chooses among the functions that drivers called and that do something, in the order of the coverage.
///
/// # Errors
/// [`Error::Usage`] for a name that is no such function, with the reason.
fn choose(
    coverage: &Coverage,
    of: &CoveredPackage,
    choice: &EmptiedChoice,
) -> Result<(Vec<Emptied>, EmptiedDraw), Error> {
    let called = || coverage.functions.iter().filter(|one| one.called == CalledBy::Drivers);
    let can_be_emptied: Vec<&CoveredFunction> = called().filter(|one| !one.does_nothing).collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let draw = EmptiedDraw {
        package: coverage.package.clone(),
        version: coverage.version.clone(),
        candidates: count(can_be_emptied.len()),
        do_nothing: count(called().count() - can_be_emptied.len()),
    };
    let places: Vec<usize> = match choice {
        EmptiedChoice::Drawn(number, seed) => {
            let mut places: Vec<usize> = (0..can_be_emptied.len()).collect();
            places.shuffle(&mut Pcg64::seed_from_u64(*seed));
            places.truncate(*number as usize);
            places.sort_unstable();
            places
        }
        EmptiedChoice::Named(names) => {
            let place = |name: &String| {
                let found = can_be_emptied.iter().position(|one| one.function == *name);
                found.ok_or_else(|| Error::Usage(why_not(coverage, name)))
            };
            names.iter().map(place).collect::<Result<_, _>>()?
        }
    };
    let emptied = |place: usize| {
        let one = can_be_emptied[place];
        let drivers = one.programs.iter().filter(|(program, _)| !of.probes.contains(program));
        Emptied {
            function: one.function.clone(),
            value: empty_value(one.returns.as_deref()),
            cases: drivers.flat_map(|(_, cases)| cases.clone()).collect(),
        }
    };
    Ok((places.into_iter().map(emptied).collect(), draw))
}

/// Returns the reason why a named function is not emptied.
fn why_not(coverage: &Coverage, name: &str) -> String {
    let (package, known) = (&coverage.package, coverage.functions.iter().find(|one| one.function == name));
    match known {
        Some(one) if one.does_nothing => format!("{name} does nothing that could be left out"),
        Some(_) => format!("no driver calls {name}, so no case could notice that it is empty"),
        None => {
            let hint = nearest(name, coverage.functions.iter().map(|one| one.function.as_str()));
            let hint = hint.map_or_else(String::new, |near| format!(": did you mean {near}?"));
            format!("{package} has no function {name}{hint}")
        }
    }
}

/// Returns the empty value of a type, as an expression in Python; None for a type that is not built in.
fn empty_value(returns: Option<&str>) -> &'static str {
    match returns {
        Some("str") => "''",
        Some("int") => "0",
        Some("bool") => "False",
        Some("list") => "[]",
        Some("dict") => "{}",
        Some("tuple") => "()",
        Some("set") => "set()",
        Some("bytes") => "b''",
        Some("float") => "0.0",
        _ => "None",
    }
}

/// Runs the cases that call a function, the quickest first, until one fails because the function is empty. Returns `None` if the run was
/// interrupted.
fn try_one(
    suite: &MutantSuite<'_>,
    of: &CoveredPackage,
    emptied: &Emptied,
    (place, among): (usize, usize),
    (unbroken, above): (&RunRecord, &RunDir),
    watch: &dyn MutantWatch,
) -> anyhow::Result<Option<MutantResult>> {
    // A colon would end a path in PYTHONPATH.
    let folder = format!("empty-{}", place + 1);
    let dir = above.below(&format!("mutants/{folder}"))?;
    let project = emptied_project(suite.project, of, emptied, &folder, &dir)?;
    let plan = plan_cases(&project, emptied, unbroken)?;
    let (name, breaks) = (format!("{EMPTIED}{}", emptied.function), format!("it returns {} at once", emptied.value));
    let note = format!("the product is broken on purpose: {} returns {} at once", emptied.function, emptied.value);
    let options = Options {
        part: Some(RunPart { dir: dir.clone(), note }),
        retries: 0,
        failures_max: Some(1),
        ..suite.options.clone()
    };
    let stage = MutantStage::Mutant { name: &name, breaks: &breaks, place, among };
    let recorder = watch.begins(stage);
    let ended = execute(&project, &plan, &options, suite.binaries, &recorder, suite.interrupt).map(|run| run.record);
    watch.ended(stage, ended.as_ref().ok());
    let result = |verdict, reason, reached, record: Option<&RunRecord>| MutantResult {
        name: name.clone(),
        breaks: breaks.clone(),
        verdict,
        scenario: record.and_then(|record| {
            let failed = record.cases.iter().find(|case| case.verdict == Verdict::Failed)?;
            Some(failed.case.0.clone())
        }),
        reason,
        reached,
        run: Some(dir.run_id().to_owned()),
        duration_ms: record.map(|record| record.duration_ms),
    };
    let Some(record) = mutants::record_of(suite, ended, &name)? else { return Ok(None) };
    let record = match record {
        Ok(record) => record,
        Err(unbuilt) => return Ok(Some(result(MutantVerdict::Misread, unbuilt, Vec::new(), None))),
    };
    let run = PastRun { folder: dir.path().to_owned(), record };
    let evidence = MutantEvidence::read(&run, REACHED_LOG)?;
    let (verdict, reason) = evidence.judge_emptied();
    Ok(Some(result(verdict, reason, evidence.into_reached(), Some(&run.record))))
}

/// Plans the cases that call a function, the quickest of the unbroken run first.
fn plan_cases(project: &Project, emptied: &Emptied, unbroken: &RunRecord) -> Result<Plan, Error> {
    let filters: Vec<String> = emptied.cases.iter().cloned().collect();
    let mut plan = Plan::make(project, &filters, Order::ONCE)?;
    let took = |id: &str| {
        let case = unbroken.cases.iter().find(|case| case.case.0 == id);
        case.and_then(|case| case.attempts.last()).map_or(f64::INFINITY, |attempt| attempt.duration_ms)
    };
    plan.cases.sort_by(|one, other| took(&one.id).total_cmp(&took(&other.id)));
    Ok(plan)
}

/// Returns the project in which the function is empty on each machine that has its package.
fn emptied_project(
    project: &Project,
    of: &CoveredPackage,
    emptied: &Emptied,
    name: &str,
    dir: &RunDir,
) -> anyhow::Result<Project> {
    let engine = EngineFiles { dir, name: "mutant", folder: mutants::FOLDER };
    // A list of texts in JSON is one in Python.
    let functions = serde_json::to_string(&[[emptied.function.as_str(), emptied.value]])?;
    let mut broken = project.clone();
    for template in project.templates.values() {
        if !has_package(project, &template.name, of)? {
            continue;
        }
        let mut thin = thin_layer::on(template, &format!("{}+{name}", template.name));
        let (files, install) = engine.hook(mutants::HOOK, &of.pip, &[])?;
        thin.files.push(engine.file("reached", "", Some(0o666))?);
        thin.files.extend(files);
        let mutations = format!("MUTATIONS = []\nEMPTIED = {functions}\n");
        thin.files.push(engine.file("e2e_mutations.py", &mutations, None)?);
        thin.run.push(install);
        thin.logs.push(REACHED.to_owned());
        thin_layer::replace(&mut broken, &template.name, thin);
    }
    Ok(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Pip;

    /// Makes a package whose functions f0 to f9 drivers call, besides one that a probe calls, one that nobody calls and one that is empty.
    fn coverage() -> Coverage {
        let function = |name: &str, does_nothing: bool| serde_json::json!({ "function": format!("m:{name}"), "file": "m.py", "line": 1, "does_nothing": does_nothing });
        let mut functions: Vec<_> = (0..10).map(|number| function(&format!("f{number}"), false)).collect();
        functions.extend([function("probed", false), function("never", false), function("empty", true)]);
        let listed = serde_json::json!({ "package": "shop", "version": "1.2", "functions": functions });
        let mut coverage = Coverage::new("app", serde_json::from_value(listed).unwrap());
        for number in 0..10 {
            coverage.add("a/b:c", &format!("call\tm:f{number}\trun.py\ncall\tm:f{number}\tprobes.py\n"));
        }
        coverage.add("a/b:d", "call\tm:f3\tprobes.py\nvalue\tm:f3\trun.py\tdict\ncall\tm:probed\tprobes.py\n");
        coverage.add("a/b:e", "call\tm:f3\tother.py\ncall\tm:empty\trun.py\n");
        coverage.count(&["probes.py".into()]);
        coverage
    }

    fn of() -> CoveredPackage {
        let pip = Pip { requirements: "r".into(), target: "/opt/p".into(), python: "3.11".into() };
        CoveredPackage { template: "app".into(), package: "shop".into(), pip, probes: vec!["probes.py".into()] }
    }

    fn names(choice: &EmptiedChoice) -> Result<Vec<String>, String> {
        let chosen = choose(&coverage(), &of(), choice).map_err(|error| error.to_string())?;
        Ok(chosen.0.into_iter().map(|one| one.function).collect())
    }

    #[test]
    fn a_draw_is_the_same_for_its_seed_and_has_what_drivers_call() {
        let draw = |number, seed| names(&EmptiedChoice::Drawn(number, seed)).unwrap();
        let drawn: BTreeSet<Vec<String>> = (0..10).map(|seed| draw(4, seed)).collect();
        assert!(drawn.len() > 5 && drawn.iter().all(|names| names.len() == 4 && names.is_sorted()), "{drawn:?}");
        assert_eq!(draw(4, 3), draw(4, 3));
        let all: Vec<String> = (0..10).map(|number| format!("m:f{number}")).collect();
        assert_eq!(draw(100, 3), all, "neither what probes alone call, nor what does nothing");
        let (_, draw) = choose(&coverage(), &of(), &EmptiedChoice::Drawn(1, 1)).unwrap();
        assert_eq!((draw.candidates, draw.do_nothing), (10, 1));
    }

    #[test]
    fn a_function_returns_the_empty_value_of_its_type_in_the_cases_of_its_drivers() {
        let named = EmptiedChoice::Named(vec!["m:f3".into(), "m:f1".into()]);
        let (chosen, _) = choose(&coverage(), &of(), &named).unwrap();
        let of_drivers = ["a/b:c", "a/b:e"].map(str::to_owned);
        assert_eq!((chosen[0].value, &chosen[0].cases), ("{}", &BTreeSet::from(of_drivers)));
        assert_eq!((chosen[1].value, chosen[1].cases.len()), ("None", 1));
        for (returns, value) in [("str", "''"), ("shop.str", "None"), ("bool", "False"), ("NoneType", "None")] {
            assert_eq!(empty_value(Some(returns)), value);
        }
        for (name, expected) in [
            ("m:probed", "no driver calls m:probed"),
            ("m:never", "no driver calls m:never"),
            ("m:empty", "m:empty does nothing that could be left out"),
            ("m:f33", "shop has no function m:f33: did you mean m:f3?"),
        ] {
            let error = names(&EmptiedChoice::Named(vec![name.into()])).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
