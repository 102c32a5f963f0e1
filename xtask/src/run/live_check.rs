//! Check of the judge's error rates on this machine: duets in which the candidate does as much work as the baseline, or a known percentage
//! more.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use walkdir::WalkDir;

use super::build::ScenarioBinaries;
use super::engine::execute;
use super::interrupt::Interrupt;
use super::options::{Comparing, DuetOptions, Options};
use crate::error::Error;
use crate::input;
use crate::judge::{Decision, Rate};
use crate::manifest::Project;
use crate::plan::{Order, Plan};
use crate::record::{Comparison, RUNS_FOLDER, Recorder};

const E2E: &str = include_str!("../../live/e2e.toml");
const TEMPLATE: &str = include_str!("../../live/template.toml");
const WORK: &str = include_str!("../../live/task.sh");
const SCENARIO: &str = include_str!("../../live/scenario.toml");
const PROGRAM: &str = include_str!("../../live/main.py");

/// Metrics that a duet judges, by their names in verdicts.
const METRICS: [&str; 3] = ["cpu_ms", "wall_ms", "wall_minus_wait_ms"];

/// Options of the check of the judge's error rates.
#[derive(Debug, Clone)]
pub struct LiveCheck {
    /// Amounts of additional work of the candidate, in percent; 0 means equal work.
    pub percents: Vec<u32>,
    /// Number of duets for each amount of additional work.
    pub duets: u32,
    /// Random seed of the duets.
    pub seed: u64,
}

/// Runs the duets, and counts their verdicts by metric, operation and amount of additional work.
///
/// # Errors
/// When the project has no template `mini`, the lab cannot be created, or a run fails.
pub fn live_check(
    project: &Project,
    check: &LiveCheck,
    options: &Options,
    interrupt: &Interrupt,
    observe: &dyn Fn(String),
) -> anyhow::Result<Vec<Rate>> {
    let home = project.root.join("target/e2e/judge-check");
    let mut rates: Vec<Rate> = Vec::new();
    let baseline = write_project(project, &home.join("baseline"), 0)?;
    for percent in &check.percents {
        let candidate = write_project(project, &home.join(format!("more-{percent}")), *percent)?;
        for number in 0..check.duets {
            let plan = Plan::make(&candidate, &[], Order::ONCE)?;
            let duet = DuetOptions {
                baseline: candidate.with_containers(&baseline.containers_dir)?,
                name: "the same work".into(),
                pairs: None,
                whole_cases: false,
                seed: check.seed.wrapping_add(u64::from(number)),
            };
            let options = Options { comparing: Comparing::Duet(Box::new(duet)), ..options.clone() };
            let binaries = ScenarioBinaries::build(&candidate, &plan)?;
            let recorder = Arc::new(Recorder::new(Vec::new()));
            let record = execute(&candidate, &plan, &options, &binaries, &recorder, interrupt)?;
            if interrupt.is_set() {
                return Err(Error::Interrupted.into());
            }
            let bad = record.cases.iter().find(|case| case.verdict != crate::record::Verdict::Passed);
            if let Some(bad) = bad {
                let folder = candidate.root.join(RUNS_FOLDER).join(&record.run_id);
                anyhow::bail!("{} did not pass: see {}", bad.case, folder.display());
            }
            for comparison in &record.comparisons {
                count(&mut rates, *percent, comparison);
            }
            let said: Vec<String> = record.comparisons.iter().map(shown).collect();
            observe(format!("{percent} % more, duet {} of {}: {}", number + 1, check.duets, said.join(", ")));
        }
    }
    Ok(rates)
}

fn shown(one: &Comparison) -> String {
    format!("{} {} {} ({} pairs)", one.operation, one.metric, one.verdict.decision, one.verdict.samples)
}

fn count(rates: &mut Vec<Rate>, percent: u32, comparison: &Comparison) {
    let Comparison { operation, metric, verdict, .. } = comparison;
    let Some(metric) = METRICS.into_iter().find(|known| known == metric) else { return };
    let same = |rate: &Rate| rate.effect_percent == percent && rate.workload == *operation && rate.metric == metric;
    let index = rates.iter().position(same).unwrap_or_else(|| {
        rates.push(Rate {
            rule: "duet",
            metric,
            workload: operation.clone(),
            effect_percent: percent,
            comparisons: 0,
            regressed: 0,
            improved: 0,
            unchanged: 0,
            inconclusive: 0,
            pairs_mean: 0.0,
        });
        rates.len() - 1
    });
    let rate = &mut rates[index];
    let pairs = rate.pairs_mean * rate.comparisons as f64 + verdict.samples as f64;
    rate.comparisons += 1;
    rate.pairs_mean = pairs / rate.comparisons as f64;
    *match verdict.decision {
        Decision::Regressed => &mut rate.regressed,
        Decision::Improved => &mut rate.improved,
        Decision::Unchanged => &mut rate.unchanged,
        Decision::Inconclusive => &mut rate.inconclusive,
    } += 1;
}

/// Writes and reads a project with one scenario on one machine, whose work is increased by `percent` percent.
fn write_project(project: &Project, root: &Path, percent: u32) -> anyhow::Result<Project> {
    let mini = project.containers_dir.join("mini");
    if !input::is_folder(&mini) {
        let problem = format!("there is no template mini in {}", project.containers_dir.display());
        return Err(Error::Usage(format!("--live needs the template `mini`: {problem}")).into());
    }
    let mut files: Vec<(PathBuf, Vec<u8>)> = vec![
        ("e2e.toml".into(), E2E.into()),
        ("containers/task/template.toml".into(), TEMPLATE.into()),
        ("containers/task/files/task.sh".into(), WORK.into()),
        ("containers/task/files/percent".into(), format!("{percent}\n").into()),
        ("scenarios/judge/task/scenario.toml".into(), SCENARIO.into()),
        ("scenarios/judge/task/main.py".into(), PROGRAM.into()),
    ];
    let owner = crate::host::invoker::Invoker::find();
    for entry in WalkDir::new(&mini).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        let relative = entry.path().strip_prefix(&mini).context("a file of the template mini is outside its folder")?;
        files.push((Path::new("containers/mini").join(relative), owner.read(entry.path())?));
    }
    for (relative, content) in &files {
        let path = root.join(relative);
        let write = || -> anyhow::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(root))?;
            Ok(std::fs::write(&path, content)?)
        };
        owner.act(write).with_context(|| format!("writing {}", path.display()))?;
    }
    Project::read(root)
}
