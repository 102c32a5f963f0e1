//! Run of the known defects alone: each scenario that lists some tries them in a lab of its own, and the marks are the answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use e2e_contract::{Defect, DefectOutcome};

use super::build::ScenarioBinaries;
use super::engine::execute;
use super::interrupt::Interrupt;
use super::options::Options;
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::image::Replacement;
use crate::manifest::{Project, Scenario, nearest};
use crate::plan::{Order, Plan};
use crate::record::{
    CaseResult, DEFECTS_FILE, DefectReport, DefectResult, DefectVerdict, Event, Outcome, PastRun, ProductPackage,
    Recorder, RunDir, RunEvents, RunRecord, mark_outcome, mark_seen,
};

/// Known defects to try: a case of each scenario that lists some of them.
#[derive(Debug, Clone, PartialEq)]
pub struct DefectPlan {
    /// Cases to run.
    pub plan: Plan,
    /// Names of the defects to answer for, with the case that tries each.
    pub defects: Vec<(String, String)>,
}

impl DefectPlan {
    /// Plans the first case of each scenario with defects that a name chooses: a scenario, a defect, or a part of a defect's name. Without
    /// names, all defects are chosen.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that chooses nothing, with the nearest one.
    pub fn make(project: &Project, names: &[String]) -> Result<Self, Error> {
        let is_of = |name: &String, scenario: &Scenario| *name == scenario.name || *name == scenario.id();
        let chooses = |name: &String, scenario: &Scenario, defect: &str| is_of(name, scenario) || defect.contains(name);
        let all = || project.scenarios.iter().flat_map(|one| one.defects.iter().map(move |defect| (one, defect)));
        if let Some(name) = names.iter().find(|name| !all().any(|(scenario, defect)| chooses(name, scenario, defect))) {
            return Err(unknown(name, all()));
        }
        let (mut filters, mut defects) = (Vec::new(), Vec::new());
        for scenario in &project.scenarios {
            let is_chosen =
                |defect: &&String| names.is_empty() || names.iter().any(|name| chooses(name, scenario, defect));
            let chosen: Vec<&String> = scenario.defects.iter().filter(is_chosen).collect();
            let case = scenario.cases.iter().find(|case| !case.on_request).or_else(|| scenario.cases.first());
            let (Some(case), false) = (case, chosen.is_empty()) else { continue };
            let id = format!("{}:{}", scenario.id(), case.name);
            defects.extend(chosen.into_iter().map(|defect| (defect.clone(), id.clone())));
            filters.push(id);
        }
        // Without filters, all cases match.
        let none = Plan { cases: Vec::new(), shuffle_seed: None, part: None };
        let plan = if filters.is_empty() { none } else { Plan::make(project, &filters, Order::ONCE)? };
        Ok(Self { plan, defects })
    }
}

fn unknown<'a>(name: &str, all: impl Iterator<Item = (&'a Scenario, &'a String)>) -> Error {
    let known: Vec<String> = all.flat_map(|(scenario, defect)| [defect.clone(), scenario.name.clone()]).collect();
    let near = nearest(name, known.iter().map(String::as_str));
    let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
    Error::Usage(format!(
        "no known defect has {name:?} in its name, and no scenario of that name has known defects{near} \
         (`cargo xtask defects --list` shows them all)"
    ))
}

/// Tries the planned defects, and writes the report into the run's folder.
///
/// # Errors
/// When the run cannot begin or be recorded. A package that is refused is no error: the report says why.
pub fn run_defects(
    project: &Project,
    chosen: &DefectPlan,
    options: &Options,
    binaries: &ScenarioBinaries,
    recorder: &Arc<Recorder>,
    interrupt: &Interrupt,
) -> anyhow::Result<DefectReport> {
    let options = Options { defects_only: true, ..options.clone() };
    let ended = execute(project, &chosen.plan, &options, binaries, recorder, interrupt);
    let report = match ended {
        Ok(ended) => {
            let run = PastRun::find(&project.root, &ended.record.run_id)?;
            let packages = products(project, &run.record, &chosen.defects, &options.replacements)?;
            answer(&run.record, &run.events()?, &chosen.defects, packages)
        }
        Err(error) => match (Error::of(&error), options.replacements.is_empty()) {
            (Some(Error::Usage(why)), false) if why.starts_with("--set") => refused(&recorder.run_record(), why),
            _ => return Err(error),
        },
    };
    let run = PastRun::find(&project.root, &report.run)?;
    let dir = RunDir::of(&run, Invoker::find())?.masked_by(Arc::clone(options.secrets.masks()));
    dir.write(DEFECTS_FILE, (serde_json::to_string_pretty(&report)? + "\n").as_bytes())?;
    Ok(report)
}

fn refused(record: &RunRecord, why: &str) -> DefectReport {
    let report = DefectReport::new(record.run_id.clone(), Vec::new(), Vec::new(), record.exit_code);
    DefectReport { refused: Some(why.to_owned()), exit_code: record.exit_code, ..report }
}

/// Answers for each defect by the marks that its case has told in its last attempt.
fn answer(
    record: &RunRecord,
    events: &RunEvents,
    defects: &[(String, String)],
    packages: Vec<ProductPackage>,
) -> DefectReport {
    let results = defects.iter().map(|(name, id)| {
        let case = record.cases.iter().find(|case| case.case.0 == *id);
        let attempts = events.attempts().iter().filter(|attempt| attempt.case.0 == *id);
        let last = attempts.max_by_key(|attempt| attempt.number);
        let marks = last.iter().flat_map(|attempt| attempt.events()).filter_map(|stamped| match &stamped.event {
            Event::Defect { defect, .. } if defect.defect == *name => Some(defect),
            _ => None,
        });
        judge(name, id, &marks.collect::<Vec<_>>(), case)
    });
    let results = results.collect();
    DefectReport::new(record.run_id.clone(), packages, results, record.exit_code)
}

fn judge(name: &str, id: &str, marks: &[&Defect], case: Option<&CaseResult>) -> DefectResult {
    let result = |verdict, seen, place| DefectResult { name: name.into(), case: id.into(), verdict, seen, place };
    let verdict = |mark: &Defect| match mark_outcome(mark) {
        DefectOutcome::Known => DefectVerdict::Present,
        DefectOutcome::Fixed => DefectVerdict::Gone,
        DefectOutcome::Different => DefectVerdict::CannotTell,
    };
    let Some(first) = marks.first() else {
        return result(DefectVerdict::CannotTell, format!("it was not reached: {}", ending(case)), None);
    };
    let place = Some(format!("{}:{}", first.file, first.line));
    if marks.iter().all(|mark| verdict(mark) == verdict(first)) {
        return result(verdict(first), mark_seen(first), place);
    }
    let each: Vec<String> =
        marks.iter().map(|mark| format!("{}:{}: {}", mark.file, mark.line, mark_seen(mark))).collect();
    result(DefectVerdict::CannotTell, format!("its marks do not agree: {}", each.join("; ")), place)
}

/// Describes how a case ended.
fn ending(case: Option<&CaseResult>) -> String {
    match case.and_then(|case| case.attempts.last()).map(|attempt| &attempt.outcome) {
        None => "its case was not run".to_owned(),
        Some(Outcome::Passed) => "its case ended without trying it".to_owned(),
        Some(Outcome::Failed { cause }) => cause.to_string(),
        Some(Outcome::Infrastructure { message, .. }) => format!("infrastructure error: {message}"),
        Some(Outcome::Interrupted) => "the run was interrupted".to_owned(),
    }
}

/// Returns the packages that are the product: those that a defect's name begins with, and those that were replaced.
fn products(
    project: &Project,
    record: &RunRecord,
    defects: &[(String, String)],
    replacements: &[Replacement],
) -> anyhow::Result<Vec<ProductPackage>> {
    let product = |(defect, _): &(String, String)| {
        let (product, _) = defect.split_once('/')?;
        Some(product.rsplit_once('-')?.0.to_owned())
    };
    let named: BTreeSet<String> = defects.iter().filter_map(product).collect();
    let mut products = Vec::new();
    for (template, packages) in &record.packages {
        let chain = project.chain(template)?;
        for (package, version) in packages.iter().filter_map(|text| text.split_once('=')) {
            let replaced = replacements
                .iter()
                .find(|one| one.replaces(package) && chain.iter().any(|below| below.name == one.template));
            if replaced.is_some() || named.contains(package) {
                products.push(ProductPackage {
                    template: template.clone(),
                    package: package.to_owned(),
                    version: version.to_owned(),
                    path: replaced.map(|one| one.path.display().to_string()),
                });
            }
        }
    }
    Ok(products)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Attempt, CaseId, Cause};

    fn mark(line: u32, outcome: DefectOutcome, failure: Option<&str>, observed: Option<&str>) -> Defect {
        Defect {
            defect: "p-1/bug".into(),
            failing_with: "no table".into(),
            outcome,
            failure: failure.map(str::to_owned),
            observed: observed.map(str::to_owned),
            file: "main.rs".into(),
            line,
        }
    }

    #[test]
    fn a_mark_is_the_answer_and_marks_that_disagree_are_none() {
        let known = mark(3, DefectOutcome::Known, Some("df has no table"), None);
        let fixed = mark(4, DefectOutcome::Fixed, None, Some("3 rows"));
        let unseen = mark(5, DefectOutcome::Fixed, None, None);
        let other = mark(6, DefectOutcome::Different, Some("disk full"), Some("3 rows"));
        let check = |marks: &[&Defect], verdict, seen: &str| {
            let result = judge("p-1/bug", "a/b:c", marks, None);
            assert_eq!((result.verdict, result.seen.as_str()), (verdict, seen));
            let first = marks.first().map(|mark| format!("main.rs:{}", mark.line));
            assert_eq!(result.place, first);
        };
        check(&[&known], DefectVerdict::Present, "it failed: df has no table");
        check(&[&known, &known], DefectVerdict::Present, "it failed: df has no table");
        check(&[&fixed], DefectVerdict::Gone, "observed: 3 rows");
        check(&[&unseen], DefectVerdict::CannotTell, "it did not fail, and nothing was observed of the effect");
        check(&[&other], DefectVerdict::CannotTell, "it failed: disk full");
        let both =
            "its marks do not agree: main.rs:3: it failed: df has no table; main.rs:4: observed: 3 rows".to_owned();
        check(&[&known, &fixed], DefectVerdict::CannotTell, &both);
        check(&[], DefectVerdict::CannotTell, "it was not reached: its case was not run");
    }

    #[test]
    fn a_mark_that_was_not_reached_has_the_end_of_its_case() {
        let check = |outcome, expected: &str| {
            let attempt = Attempt { outcome, duration_ms: 1.0, folder: String::new(), faults: None };
            let case = CaseResult::judge(CaseId("a/b:c".into()), vec![attempt]);
            assert_eq!(judge("p-1/bug", "a/b:c", &[], Some(&case)).seen, format!("it was not reached: {expected}"));
        };
        check(Outcome::Passed, "its case ended without trying it");
        check(Outcome::Interrupted, "the run was interrupted");
        check(Outcome::infrastructure("no memory"), "infrastructure error: no memory");
        check(Outcome::Failed { cause: Cause::Check { message: "x".into() } }, "check failed: x");
    }

    #[test]
    fn defects_are_chosen_by_their_names_and_their_scenarios() {
        let folder = tempfile::tempdir().unwrap();
        let scenario = |defects: &str, cases: &str| {
            format!("description = 'x'\ndefects = [{defects}]\n[containers.mini]\n{cases}")
        };
        for (name, text) in [
            ("e2e.toml", "name = 'x'".to_owned()),
            ("containers/mini/template.toml", "from = 'scratch'\ninit = ['/i']".to_owned()),
            ("scenarios/c/one/scenario.toml", scenario("'p-1/pipe', 'p-1/quote'", "")),
            (
                "scenarios/c/two/scenario.toml",
                scenario("'p-1/pipe'", "[[cases]]\nname = 'small'\n[[cases]]\nname = 'large'"),
            ),
            ("scenarios/c/three/scenario.toml", scenario("", "")),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Project::read(folder.path()).unwrap();
        let chosen = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            DefectPlan::make(&project, &names).map(|chosen| {
                let cases: Vec<&str> = chosen.plan.cases.iter().map(|case| case.id.as_str()).collect();
                let defects: Vec<String> = chosen.defects.iter().map(|(name, id)| format!("{name} {id}")).collect();
                format!("{} | {}", cases.join(" "), defects.join(" "))
            })
        };
        let all = "c/one:default c/two:small | p-1/pipe c/one:default p-1/quote c/one:default p-1/pipe c/two:small";
        assert_eq!(chosen(&[]).unwrap(), all);
        assert_eq!(chosen(&["quot"]).unwrap(), "c/one:default | p-1/quote c/one:default");
        assert_eq!(chosen(&["two"]).unwrap(), "c/two:small | p-1/pipe c/two:small");
        assert_eq!(chosen(&["c/one", "pipe"]).unwrap(), all);
        let error = chosen(&["quot", "p-1/qoute"]).unwrap_err().to_string();
        assert!(
            error.contains("has \"p-1/qoute\" in its name") && error.contains("did you mean p-1/quote?"),
            "{error}"
        );
        assert!(chosen(&["three"]).is_err(), "it has no known defects");
    }
}
