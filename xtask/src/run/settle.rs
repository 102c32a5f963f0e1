//! Settling of what a comparison with committed baselines leaves in doubt: duets with the machines that the baselines were measured on.
//!
//! The machines are made from the templates of the reference's revision. Where that is not possible, or their packages are others now, both
//! sides take today's templates, and differ in the reference's pinned requirements alone; the verdict says so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use super::duet::{self, Differences, Sides, run_duet};
use super::engine::Cases;
use super::lockstep::{LockstepScope, TIME_IS_UP};
use super::options::{CaseContext, Comparing, DuetOptions, Monitoring, Options, SettleOptions};
use super::reference::{layers, templates};
use super::slot_lease::SlotLease;
use crate::baseline::{Baselines, Reference, ReplacedPackage};
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::host::tools::git;
use crate::image::{self, Image, LayerLocks, Replacement};
use crate::input;
use crate::manifest::{KeepWhen, Project, Scenario};
use crate::plan::{Plan, PlannedCase};
use crate::record::{CaseId, CaseResult, Comparison, Event, Way};
use e2e_stats::{Decision, Thresholds, Timings, Verdict, hold_together};

/// Folder below the project's for the templates, trees and requirements of references.
const FOLDER: &str = "target/e2e/refs";

/// Doubt that a committed verdict leaves, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    Regressed,
    Inconclusive,
    /// Unchanged, and the interval reaches beyond the largest change that a duet would call unchanged.
    Wide,
}

/// Urgency of a case, the smallest first: by its most urgent doubt, where metrics that fail a run come before the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Urgency {
    fails_nothing: bool,
    doubt: Doubt,
}

/// Operations of a case that are to be settled.
struct InDoubt<'a> {
    planned: &'a PlannedCase,
    urgency: Urgency,
    operations: BTreeSet<String>,
}

/// Verdicts on each operation in doubt by metric, or the reason why an operation has none.
type Verdicts = BTreeMap<String, Result<Vec<(String, Verdict)>, String>>;

/// Verdicts of a settled case.
struct Settled {
    operations: Verdicts,
    /// Remark on the machines of the reference, which belongs to each verdict; `None` where they are those of the baseline.
    remark: Option<String>,
}

/// Settles the doubts of all cases, the most urgent first, and replaces their committed comparisons. What the time budget does not reach keeps
/// its comparison, which then says so.
pub(super) fn settle(
    context: &CaseContext<'_>,
    plan: &Plan,
    lease: &mut SlotLease<'_>,
    (baselines, options): (&Baselines, &SettleOptions),
    cases: &mut Cases,
) {
    let ends = Instant::now() + options.budget;
    let monitoring = Monitoring { calibrate: false, ..context.options.monitoring };
    let keep = KeepWhen::Never; // neither lab: the two are of use side by side alone
    let own = Options { comparing: Comparing::Nothing, monitoring, retries: 0, keep, ..context.options.clone() };
    let settling = Settling { context: &CaseContext { options: &own, ..*context }, plan, baselines, options, ends };
    for in_doubt in in_doubt(context.project, plan, &cases.comparisons, &cases.measured) {
        let case = CaseId(in_doubt.planned.id.clone());
        let settled = match settling.obstacle(lease, cases) {
            Some(why) => Err(why),
            None => settling.case(&in_doubt, lease, cases),
        };
        replace(&mut cases.comparisons, &case, &in_doubt, settled, |operation| {
            thresholds(&context.project.scenarios[in_doubt.planned.scenario], operation)
        });
    }
    let settled = cases.comparisons.iter_mut().filter(|one| one.way == Way::Settled);
    hold_together(settled.map(|one| &mut one.verdict));
}

/// Returns the cases with doubts, the most urgent first, each with its operations in doubt. An operation that this run did not repeat cannot
/// be settled.
fn in_doubt<'a>(
    project: &Project,
    plan: &'a Plan,
    comparisons: &[Comparison],
    measured: &BTreeMap<CaseId, BTreeMap<String, Timings>>,
) -> Vec<InDoubt<'a>> {
    let mut all = Vec::new();
    for planned in &plan.cases {
        let scenario = &project.scenarios[planned.scenario];
        let case = CaseId(planned.id.clone());
        let Some(measured) = measured.get(&case) else { continue };
        let of_case = comparisons.iter().filter(|one| one.case == case && measured.contains_key(&one.operation));
        let doubts: Vec<(Urgency, String)> = of_case
            .filter_map(|one| {
                let doubt = doubt(one, thresholds(scenario, &one.operation))?;
                Some((Urgency { fails_nothing: !one.gates, doubt }, one.operation.clone()))
            })
            .collect();
        let Some(urgency) = doubts.iter().map(|(urgency, _)| *urgency).min() else { continue };
        let operations = doubts.into_iter().map(|(_, operation)| operation).collect();
        all.push(InDoubt { planned, urgency, operations });
    }
    all.sort_by_key(|one| one.urgency);
    all
}

fn thresholds(scenario: &Scenario, operation: &str) -> Thresholds {
    scenario.operations.get(operation).copied().unwrap_or_default()
}

/// Returns the doubt that a committed comparison leaves; `None` where its verdict stands.
fn doubt(comparison: &Comparison, thresholds: Thresholds) -> Option<Doubt> {
    let reaches = 1.0 + thresholds.same_percent() / 100.0;
    match comparison.verdict.decision {
        Decision::Regressed => Some(Doubt::Regressed),
        Decision::Inconclusive => Some(Doubt::Inconclusive),
        Decision::Unchanged => comparison.verdict.interval.filter(|(_, high)| *high > reaches).map(|_| Doubt::Wide),
        Decision::Improved => None,
    }
}

/// Replaces a case's comparisons of settled operations; the others in doubt get the reason why they were not settled. Nothing changes where no
/// machine of the case has a baseline, as the comparisons say already.
fn replace(
    comparisons: &mut Vec<Comparison>,
    case: &CaseId,
    in_doubt: &InDoubt<'_>,
    settled: Result<Option<Settled>, String>,
    thresholds: impl Fn(&str) -> Thresholds,
) {
    let settled = match settled {
        Ok(None) => return,
        Ok(Some(settled)) => settled,
        Err(why) => {
            let operations = in_doubt.operations.iter().map(|operation| (operation.clone(), Err(why.clone())));
            Settled { operations: operations.collect(), remark: None }
        }
    };
    for (operation, found) in settled.operations {
        let is_of = |one: &Comparison| one.case == *case && one.operation == operation;
        match found {
            Err(why) => {
                let of_operation = comparisons.iter_mut().filter(|one| is_of(one));
                let in_doubt = of_operation.filter(|one| doubt(one, thresholds(&operation)).is_some());
                in_doubt.for_each(|one| one.verdict.because += &format!("; not settled: {why}"));
            }
            Ok(verdicts) => {
                let place = comparisons.iter().position(is_of).unwrap_or(comparisons.len());
                let (old, mut kept): (Vec<_>, Vec<_>) = std::mem::take(comparisons).into_iter().partition(is_of);
                let new = verdicts.into_iter().map(|(metric, mut verdict)| {
                    if let Some(remark) = &settled.remark {
                        verdict.because += &format!("; {remark}");
                    }
                    let before = old.iter().find(|one| one.metric == metric);
                    Comparison {
                        case: case.clone(),
                        operation: operation.clone(),
                        metric,
                        way: Way::Settled,
                        gates: true,
                        missing: before.is_some_and(|one| one.missing),
                        baseline_samples: Vec::new(),
                        was: before.map(|one| one.verdict.clone()),
                        verdict,
                    }
                });
                kept.splice(place..place, new);
                *comparisons = kept;
            }
        }
    }
}

/// Everything that the settling of one case needs.
struct Settling<'a> {
    /// Context of the candidate: without fixed work before each repetition, as in every duet.
    context: &'a CaseContext<'a>,
    plan: &'a Plan,
    baselines: &'a Baselines,
    options: &'a SettleOptions,
    ends: Instant,
}

impl Settling<'_> {
    /// Returns the reason why no further duet can begin.
    fn obstacle(&self, lease: &SlotLease<'_>, cases: &Cases) -> Option<String> {
        if self.context.interrupt.is_set() {
            return Some("the run was interrupted".into());
        }
        if cases.has_ended() || self.context.recorder.has_failed() {
            return Some("the run ended before".into());
        }
        if lease.is_kept() {
            return Some("the kept lab holds the slot".into());
        }
        self.is_over().then(|| self.time_is_up())
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    fn time_is_up(&self) -> String {
        format!("{TIME_IS_UP} ({})", humantime::format_duration(self.options.budget))
    }

    /// Settles a case; `None` where it has no baseline on any class of machines.
    ///
    /// # Errors
    /// When its duet could not be run, with the reason.
    fn case(
        &self,
        in_doubt: &InDoubt<'_>,
        lease: &mut SlotLease<'_>,
        cases: &mut Cases,
    ) -> Result<Option<Settled>, String> {
        let planned = in_doubt.planned;
        let scenario = &self.context.project.scenarios[planned.scenario];
        let Some(reference) = self.baselines.reference(scenario, &planned.case.name)? else { return Ok(None) };
        let side = self.side(planned, scenario, &reference)?;
        let remark = side.remark.clone();
        if side.differences.are_none_for(scenario) {
            let same = |operation: &String| {
                let of_operation =
                    cases.comparisons.iter().filter(|one| one.case.0 == planned.id && one.operation == *operation);
                let verdicts = of_operation.map(|one| (one.metric.clone(), Verdict::of_same_sides()));
                (operation.clone(), Ok(verdicts.collect()))
            };
            return Ok(Some(Settled { operations: in_doubt.operations.iter().map(same).collect(), remark }));
        }
        let operations = self.duet(in_doubt, side, lease, cases)?;
        Ok(Some(Settled { operations, remark }))
    }

    /// Runs the duet of a case. Its attempts are attempts of the case: a failure in one of them is not lost.
    fn duet(
        &self,
        in_doubt: &InDoubt<'_>,
        side: Side,
        lease: &mut SlotLease<'_>,
        cases: &mut Cases,
    ) -> Result<Verdicts, String> {
        let (context, planned) = (self.context, in_doubt.planned);
        let Side { project, replacements, images, _locks: _kept, name, differences, .. } = side;
        let options = DuetOptions {
            baseline: project,
            name,
            pairs: self.options.pairs,
            whole_cases: false,
            seed: self.options.seed,
            measures_same_sides: false,
        };
        duet::announce(context.recorder, &options, &differences.lines);
        let slot = format!("{}b", context.options.slot);
        let baseline_options = Options { slot, host_names: BTreeMap::new(), replacements, ..context.options.clone() };
        let baseline =
            CaseContext { project: &options.baseline, options: &baseline_options, images: &images, ..*context };
        let scope = LockstepScope { operations: in_doubt.operations.clone(), ends: self.ends };
        let sides = Sides { candidate: context, baseline: &baseline, options: &options, scope: Some(scope) };
        let mut baseline_lease = SlotLease::new(&baseline);
        let case = CaseId(planned.id.clone());
        let Some(result) = cases.results.iter_mut().find(|result| result.case == case) else {
            return Err("the case has no result".into());
        };
        let ran = run_duet(&sides, planned, (lease, &mut baseline_lease), &mut result.attempts);
        let judged = CaseResult::judge(case, std::mem::take(&mut result.attempts));
        if judged.verdict != result.verdict {
            let (case, verdict) = (judged.case.clone(), judged.verdict);
            context.recorder.record(Event::CaseJudged { case, verdict });
        }
        *result = judged;
        cases.cleanup_failures.extend(baseline_lease.end());
        let lockstep = ran.map_err(|error| format!("{error:#}"))?;
        let found = |operation: &String| {
            let verdicts = lockstep.judged(operation);
            let verdicts = verdicts.map(|all| all.into_iter().map(|(metric, one)| (metric.to_owned(), one)).collect());
            let told = |why: String| if why == TIME_IS_UP { self.time_is_up() } else { why };
            (operation.clone(), verdicts.map_err(told))
        };
        Ok(in_doubt.operations.iter().map(found).collect())
    }

    /// Makes the machines of the reference, or of the reference's product on today's templates.
    ///
    /// # Errors
    /// When neither can be made, with the reasons.
    fn side(&self, planned: &PlannedCase, scenario: &Scenario, reference: &Reference) -> Result<Side, String> {
        let plan = Plan { cases: vec![planned.clone()], ..self.plan.clone() };
        let replacements = self.replacements(reference)?;
        let why = match self.of_revision(&plan, scenario, reference, &replacements) {
            Ok(side) => return Ok(side),
            Err(why) => why,
        };
        if self.is_over() {
            return Err(self.time_is_up());
        }
        let of_product = || -> anyhow::Result<Side> {
            let project = product_alone(self.context.project, &templates(scenario), reference, self.context.invoker)?;
            let name = format!("the pinned packages of {}'s baseline, on today's templates", scenario.id());
            let remark = format!("both sides have today's base layers, and differ in the product alone, because {why}");
            self.make(project, replacements.clone(), &plan, name, Some(remark))
        };
        of_product().map_err(|error| {
            let error = if self.is_over() { self.time_is_up() } else { format!("{error:#}") };
            format!("{why}; and with today's base layers: {error}")
        })
    }

    /// Makes the machines from the templates of the reference's revision.
    fn of_revision(
        &self,
        plan: &Plan,
        scenario: &Scenario,
        reference: &Reference,
        replacements: &[Replacement],
    ) -> Result<Side, String> {
        let (project, invoker) = (self.context.project, self.context.invoker);
        let revision = reference.holding_revision()?;
        let make = || -> anyhow::Result<Side> {
            let folder = project.containers_dir.strip_prefix(&project.root).unwrap_or(&project.containers_dir);
            let exported = git::export(&project.root, revision, folder, &project.root.join(FOLDER), invoker)?;
            let short = exported.commit.get(..12).unwrap_or(&exported.commit);
            let name = format!("the machines of {}'s baseline ({short})", scenario.id());
            self.make(project.with_containers(&exported.path)?, replacements.to_vec(), plan, name, None)
        };
        let side = make().map_err(|error| format!("{error:#}"))?;
        let wanted = templates(scenario);
        let now = image::status(&side.project, &wanted, replacements).map_err(|error| format!("{error:#}"))?;
        match reference.other_packages(&layers(&now)) {
            None => Ok(side),
            Some(others) => Err(format!("the packages of the reference are no longer to be had ({others})")),
        }
    }

    /// Builds the layers of a side, if any are missing, within the time budget.
    fn make(
        &self,
        project: Project,
        replacements: Vec<Replacement>,
        plan: &Plan,
        name: String,
        remark: Option<String>,
    ) -> anyhow::Result<Side> {
        let context = self.context;
        let observe = |progress| context.recorder.record(super::engine::layer_event(progress));
        let stops = || context.interrupt.is_set() || self.is_over();
        let wanted = plan.templates(&project);
        let images = match image::ensure(&project, &wanted, &replacements, &observe, &stops) {
            Err(error) if matches!(Error::of(&error), Some(Error::Interrupted)) && self.is_over() => {
                anyhow::bail!("{} while layers were built", self.time_is_up())
            }
            images => images?,
        };
        let locks = images.values().map(Image::lock_shared).collect::<anyhow::Result<Vec<_>>>()?;
        let both = [&replacements[..], &context.options.replacements];
        let differences = Differences::between(&project, context.project, plan, both)?;
        Ok(Side { project, replacements, images, _locks: locks, name, differences, remark })
    }

    /// Finds the trees that `--set` named when the reference was measured.
    ///
    /// # Errors
    /// When a tree is neither where it was, nor where this run's `--set` has the package, in the same state or in a repository with its
    /// revision.
    fn replacements(&self, reference: &Reference) -> Result<Vec<Replacement>, String> {
        let root = &self.context.project.root;
        let find = |one: &ReplacedPackage| {
            let own = self.context.options.replacements.iter();
            let own = own.filter(|other| other.template == one.template && other.package == one.package);
            let places: Vec<PathBuf> =
                std::iter::once(root.join(&one.path)).chain(own.map(|one| one.path.clone())).collect();
            let path = find_tree(one, &places, &root.join(FOLDER), self.context.invoker)?;
            Ok(Replacement { template: one.template.clone(), package: one.package.clone(), path })
        };
        reference.replaced.iter().map(find).collect()
    }
}

/// Returns the path of a tree in the state that the reference names, found in one of these places, or laid out from its repository there.
fn find_tree(wanted: &ReplacedPackage, places: &[PathBuf], into: &Path, invoker: &Invoker) -> Result<PathBuf, String> {
    let ReplacedPackage { template, package, .. } = wanted;
    let has_hash = |path: &PathBuf| {
        let one = Replacement { template: template.clone(), package: package.clone(), path: path.clone() };
        input::exists(path).unwrap_or(false) && one.hash().is_ok_and(|hash| hash == wanted.hash)
    };
    if let Some(path) = places.iter().find(|path| has_hash(path)) {
        return Ok(path.clone());
    }
    let into = into.join(format!("{template}.{package}"));
    let exported = wanted.revision.iter().flat_map(|revision| {
        let folders = places.iter().filter(|path| input::is_folder(path));
        folders.filter_map(|path| git::export(path, revision, Path::new("."), &into, invoker).ok())
    });
    exported.map(|exported| exported.path).next().ok_or_else(|| {
        let state = wanted.revision.as_ref().map_or_else(
            || format!("content {}", wanted.hash.get(..12).unwrap_or(&wanted.hash)),
            |revision| format!("revision {}", revision.get(..12).unwrap_or(revision)),
        );
        format!(
            "the baseline was measured with {template}.{package} from {}, and its {state} is not there",
            wanted.path
        )
    })
}

/// Returns the project with today's templates, of which those with `[pip]` have the requirements of the reference.
///
/// # Errors
/// When no wanted template, nor one below it, has pinned requirements in the reference: there is no product that could differ.
fn product_alone(
    project: &Project,
    wanted: &[String],
    reference: &Reference,
    invoker: &Invoker,
) -> anyhow::Result<Project> {
    let mut product = project.clone();
    let mut pinned = false;
    for name in wanted {
        for template in project.chain(name)? {
            let Some(text) = template.pip.as_ref().and_then(|_| reference.requirements_of(&template.name)) else {
                anyhow::ensure!(
                    template.pip.is_none(),
                    "the reference has no pinned requirements of template {}",
                    template.name
                );
                continue;
            };
            pinned = true;
            let folder = project.root.join(FOLDER).join("requirements").join(reference.name());
            let path = folder.join(format!("{}.txt", template.name));
            let make = || Ok(std::fs::create_dir_all(&folder)?);
            invoker.act(make).with_context(|| format!("making {}", folder.display()))?;
            invoker.replace(&path, text.as_bytes())?;
            let pip = product.templates.get_mut(&template.name).and_then(|template| template.pip.as_mut());
            pip.context("a template of the project is missing in its copy")?.requirements = path;
        }
    }
    anyhow::ensure!(pinned, "no template of the case pins packages, so that the product is in no requirements");
    Ok(product)
}

/// Machines of the reference, ready for a duet.
struct Side {
    project: Project,
    replacements: Vec<Replacement>,
    images: BTreeMap<String, Image>,
    _locks: Vec<LayerLocks>,
    name: String,
    differences: Differences,
    remark: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::Command;
    use crate::manifest::Case;
    use crate::plan::Order;

    const CASE: &str = "c/one:default";

    fn verdict(decision: Decision, high: Option<f64>) -> Verdict {
        let interval = high.map(|high| (0.9, high));
        Verdict { decision, interval, ..Verdict::inconclusive(30, decision.name()) }
    }

    fn comparison(operation: &str, metric: &str, verdict: Verdict) -> Comparison {
        Comparison {
            case: CaseId(CASE.into()),
            operation: operation.into(),
            metric: metric.into(),
            way: Way::Committed,
            gates: metric == "cpu_ms",
            missing: false,
            baseline_samples: vec![1.0],
            was: None,
            verdict,
        }
    }

    #[test]
    fn what_is_settled_is_what_the_samples_leave_in_doubt() {
        let table = [
            (Decision::Regressed, Some(1.2), Some(Doubt::Regressed)),
            (Decision::Regressed, None, Some(Doubt::Regressed)),
            (Decision::Inconclusive, None, Some(Doubt::Inconclusive)),
            (Decision::Inconclusive, Some(1.01), Some(Doubt::Inconclusive)),
            (Decision::Unchanged, Some(1.051), Some(Doubt::Wide)),
            (Decision::Unchanged, Some(1.05), None),
            (Decision::Unchanged, None, None),
            (Decision::Improved, Some(1.2), None),
        ];
        for (decision, high, expected) in table {
            let one = comparison("query", "cpu_ms", verdict(decision, high));
            assert_eq!(doubt(&one, Thresholds::default()), expected, "{decision} {high:?}");
        }
        // An operation of which only 9 % and more matter may reach to 15 %.
        let coarse = Thresholds::smallest(9.0).unwrap();
        let unchanged = |high| comparison("query", "cpu_ms", verdict(Decision::Unchanged, Some(high)));
        assert_eq!(doubt(&unchanged(1.14), coarse), None);
        assert_eq!(doubt(&unchanged(1.16), coarse), Some(Doubt::Wide));
    }

    fn project(root: &Path, files: &[(&str, &str)]) -> Project {
        for (name, text) in files {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Project::read(root).unwrap()
    }

    const PINNED: &str =
        "from = 'scratch'\ninit = ['/i']\n[pip]\nrequirements = 'r.txt'\ntarget = '/opt'\npython = '3.11'\n";

    const FILES: [(&str, &str); 7] = [
        ("e2e.toml", "name = 'x'\n"),
        ("containers/app/template.toml", PINNED),
        ("containers/app/r.txt", "a==2 --hash=sha256:bb\n"),
        ("containers/above/template.toml", "from = 'app'\ninit = ['/i']\n"),
        ("containers/db/template.toml", "from = 'scratch'\ninit = ['/i']\n"),
        ("scenarios/c/one/scenario.toml", "description = 'x'\n[containers.above]\n"),
        ("scenarios/c/two/scenario.toml", "description = 'x'\n[containers.db]\n"),
    ];

    #[test]
    fn the_most_urgent_case_comes_first_and_what_was_not_repeated_never() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path(), &FILES);
        let plan = Plan::make(&project, &[], Order::ONCE).unwrap();
        let timings = || Timings {
            wall_ms: vec![1.0],
            cpu_ms: vec![1.0],
            wait_ms: None,
            calibration_wall_ms: vec![1.0],
            calibration_cpu_ms: vec![1.0],
        };
        let of = |case: &str, one: Comparison| Comparison { case: CaseId(case.into()), ..one };
        let wide = || comparison("insert", "cpu_ms", verdict(Decision::Unchanged, Some(1.2)));
        let comparisons = [
            wide(),
            comparison("query", "cpu_ms", verdict(Decision::Unchanged, Some(1.01))),
            comparison("query", "wall_ms", verdict(Decision::Inconclusive, None)),
            comparison("removed", "cpu_ms", verdict(Decision::Inconclusive, None)),
            comparison("fine", "cpu_ms", verdict(Decision::Improved, None)),
            of("c/two:default", comparison("query", "wall_ms", verdict(Decision::Regressed, None))),
        ];
        let measured = BTreeMap::from([
            (CaseId(CASE.into()), ["insert", "query", "fine"].map(|name| (name.to_owned(), timings())).into()),
            (CaseId("c/two:default".into()), [("query".to_owned(), timings())].into()),
        ]);
        let found = in_doubt(&project, &plan, &comparisons, &measured);
        let shown: Vec<_> =
            found.iter().map(|one| (one.planned.id.as_str(), one.urgency, one.operations.len())).collect();
        let urgency = |fails_nothing, doubt| Urgency { fails_nothing, doubt };
        assert_eq!(
            shown,
            [(CASE, urgency(false, Doubt::Wide), 2), ("c/two:default", urgency(true, Doubt::Regressed), 1),]
        );
        assert!(found[0].operations.contains("insert") && found[0].operations.contains("query"));
        let urgent = [of("c/two:default", comparison("query", "cpu_ms", verdict(Decision::Inconclusive, None)))];
        let all = [&comparisons[..], &urgent].concat();
        let found = in_doubt(&project, &plan, &all, &measured);
        assert_eq!(found[0].urgency, urgency(false, Doubt::Inconclusive));
    }

    fn replaced(settled: Result<Option<Settled>, String>) -> Vec<Comparison> {
        let mut comparisons = vec![
            comparison("before", "cpu_ms", verdict(Decision::Improved, None)),
            comparison("query", "cpu_ms", verdict(Decision::Inconclusive, None)),
            comparison("query", "wall_ms", verdict(Decision::Unchanged, Some(1.01))),
            comparison("late", "cpu_ms", verdict(Decision::Regressed, None)),
        ];
        let case = Case { name: "default".into(), params: serde_json::Map::new(), on_request: false };
        let planned = PlannedCase { id: CASE.into(), folder: "c/one".into(), scenario: 0, case, memory_bytes: 0 };
        let operations = BTreeSet::from(["late".to_owned(), "query".to_owned()]);
        let in_doubt = InDoubt {
            planned: &planned,
            urgency: Urgency { fails_nothing: false, doubt: Doubt::Regressed },
            operations,
        };
        replace(&mut comparisons, &CaseId(CASE.into()), &in_doubt, settled, |_| Thresholds::default());
        comparisons
    }

    #[test]
    fn a_settled_verdict_takes_the_place_of_the_committed_one_and_keeps_it_visible() {
        let verdicts = ["cpu_ms", "wall_ms", "wall_minus_wait_ms"]
            .map(|metric| (metric.to_owned(), verdict(Decision::Regressed, Some(1.3))));
        let operations = BTreeMap::from([
            ("query".to_owned(), Ok(verdicts.to_vec())),
            ("late".to_owned(), Err("its time budget was used up (1s)".to_owned())),
        ]);
        let settled = Settled { operations, remark: Some("on today's base layers".into()) };
        let found = replaced(Ok(Some(settled)));
        let shown: Vec<_> =
            found.iter().map(|one| (one.operation.as_str(), one.metric.as_str(), one.way, one.fails())).collect();
        assert_eq!(
            shown,
            [
                ("before", "cpu_ms", Way::Committed, false),
                ("query", "cpu_ms", Way::Settled, true),
                ("query", "wall_ms", Way::Settled, true),
                ("query", "wall_minus_wait_ms", Way::Settled, true),
                ("late", "cpu_ms", Way::Committed, true),
            ]
        );
        let was: Vec<_> = found.iter().map(|one| one.was.as_ref().map(|was| was.decision)).collect();
        assert_eq!(was, [None, Some(Decision::Inconclusive), Some(Decision::Unchanged), None, None]);
        assert_eq!(found[1].verdict.because, "regressed; on today's base layers");
        assert_eq!(found[4].verdict.because, "regressed; not settled: its time budget was used up (1s)");
        assert_eq!(
            crate::record::human::comparison(&found[1]),
            "regressed    c/one:default query cpu_ms: [-10.0, +30.0], 30 samples: regressed; on today's base layers \
             (was inconclusive: inconclusive)"
        );
    }

    #[test]
    fn what_cannot_be_settled_stays_as_it_was_and_says_so() {
        let before = replaced(Ok(None));
        assert!(before.iter().all(|one| one.way == Way::Committed && !one.verdict.because.contains("not settled")));
        let refused = replaced(Err("no revision".into()));
        let because: Vec<&str> = refused.iter().map(|one| one.verdict.because.as_str()).collect();
        let not = "; not settled: no revision";
        assert_eq!(because, ["improved", &format!("inconclusive{not}"), "unchanged", &format!("regressed{not}")]);
        let decisions = |all: &[Comparison]| all.iter().map(|one| one.verdict.decision).collect::<Vec<_>>();
        assert_eq!(decisions(&refused), decisions(&before));
    }

    fn reference(requirements: &[(&str, &str)]) -> Reference {
        let lines = |text: &str| text.split('\n').map(str::to_owned).collect();
        Reference {
            format_version: crate::baseline::REFERENCE_VERSION,
            revision: None,
            changed: Vec::new(),
            replaced: Vec::new(),
            layers: BTreeMap::new(),
            requirements: requirements.iter().map(|(name, text)| ((*name).to_owned(), lines(text))).collect(),
        }
    }

    #[test]
    fn the_product_alone_is_todays_templates_with_the_requirements_of_the_reference() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path(), &FILES);
        let product = |wanted: &str, requirements: &[(&str, &str)]| {
            product_alone(&project, &[wanted.to_owned()], &reference(requirements), &Invoker::find())
                .map_err(|error| error.to_string())
        };
        let old = product("above", &[("app", "a==1 --hash=sha256:aa\n"), ("gone", "b==1\n")]).unwrap();
        let pinned = |project: &Project| {
            std::fs::read_to_string(&project.templates["app"].pip.as_ref().unwrap().requirements).unwrap()
        };
        assert_eq!(
            (pinned(&old).as_str(), pinned(&project).as_str()),
            ("a==1 --hash=sha256:aa\n", "a==2 --hash=sha256:bb\n")
        );
        let wanted = ["above".to_owned()];
        let hashes = |project: &Project| image::hashes(project, &wanted, &[]).unwrap();
        assert_ne!(hashes(&old), hashes(&project));
        let same = product("above", &[("app", FILES[2].1)]).unwrap();
        assert_eq!(hashes(&same), hashes(&project), "the same requirements give the same layers");
        assert!(product("above", &[]).unwrap_err().contains("no pinned requirements of template app"));
        assert!(product("db", &[("app", "a==1\n")]).unwrap_err().contains("no template of the case pins packages"));
    }

    #[test]
    fn a_tree_is_found_by_its_content_or_its_revision() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, other) = (folder.path().join("tree"), folder.path().join("other"));
        for path in [&tree, &other] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("pyproject.toml"), "1").unwrap();
        }
        let git = |words: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
            Command::new("git").args(identity).args(words).dir(&tree).run().unwrap().text().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "one"]);
        let revision = git(&["rev-parse", "HEAD"]);
        let hash = Replacement { template: "app".into(), package: "a".into(), path: tree.clone() }.hash().unwrap();
        let find = |revision: Option<&str>, places: &[&PathBuf]| {
            let wanted = ReplacedPackage {
                template: "app".into(),
                package: "a".into(),
                hash: hash.clone(),
                revision: revision.map(str::to_owned),
                path: "../tree".into(),
            };
            let places: Vec<PathBuf> = places.iter().map(|path| (*path).clone()).collect();
            find_tree(&wanted, &places, &folder.path().join("refs"), &Invoker::find())
        };
        let gone = folder.path().join("gone");
        assert_eq!(find(None, &[&gone, &tree]).unwrap(), tree);
        assert_eq!(find(None, &[&gone, &other]).unwrap(), other, "the same content, elsewhere");
        for path in [&tree, &other] {
            std::fs::write(path.join("pyproject.toml"), "2").unwrap();
        }
        let laid_out = find(Some(&revision), &[&gone, &other, &tree]).unwrap();
        assert_eq!(std::fs::read_to_string(laid_out.join("pyproject.toml")).unwrap(), "1");
        let lost = find(None, &[&gone, &tree]).unwrap_err();
        assert!(lost.starts_with("the baseline was measured with app.a from ../tree, and its content "), "{lost}");
        let lost = find(Some("0123456789abcdef"), &[&tree]).unwrap_err();
        assert!(lost.ends_with("and its revision 0123456789ab is not there"), "{lost}");
    }
}
