//! Error rates of the rules of verdicts on this host: duets in which the candidate does as much work as the baseline, or a known percentage
//! more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use walkdir::WalkDir;

use super::replay::{Rate, Said};
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::input;
use crate::manifest::Project;
use crate::plan::{Order, Plan};
use crate::record::{Comparison, RUNS_FOLDER, Recorder, Sample, Verdict};
use crate::run::{Comparing, DuetOptions, Interrupt, Options, ScenarioBinaries, execute};

const E2E: &str = include_str!("task/e2e.toml");
const TEMPLATE: &str = include_str!("task/template.toml");
const WORK: &str = include_str!("task/task.sh");
const SCENARIO: &str = include_str!("task/scenario.toml");
const PROGRAM: &str = include_str!("task/main.py");

/// Options of a measurement of error rates in duets.
#[derive(Debug, Clone)]
pub struct LiveCheck {
    /// Amounts of additional work of the candidate, in percent; 0 means equal work.
    pub percents: Vec<u32>,
    /// Number of duets for each amount of additional work.
    pub duets: u32,
    pub seed: u64,
}

/// Runs the duets, and counts their verdicts by metric, operation and amount of additional work.
///
/// # Errors
/// When the project has no template `mini`.
pub fn live_check(
    project: &Project,
    check: &LiveCheck,
    options: &Options,
    interrupt: &Interrupt,
    observe: &dyn Fn(String),
) -> anyhow::Result<Vec<Rate>> {
    let home = project.root.join("target/e2e/judge-check");
    let mut said: BTreeMap<(u32, String, &'static str), Vec<Said>> = BTreeMap::new();
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
                measures_same_sides: true,
            };
            let options = Options { comparing: Comparing::Duet(Box::new(duet)), ..options.clone() };
            let binaries = ScenarioBinaries::build(&candidate, &plan)?;
            let recorder = Arc::new(Recorder::new(Vec::new()));
            let record = execute(&candidate, &plan, &options, &binaries, &recorder, interrupt)?.record;
            if interrupt.is_set() {
                return Err(Error::Interrupted.into());
            }
            let bad = record.cases.iter().find(|case| case.verdict != Verdict::Passed);
            if let Some(bad) = bad {
                let folder = candidate.root.join(RUNS_FOLDER).join(&record.run_id);
                anyhow::bail!("{} did not pass: see {}", bad.case, folder.display());
            }
            for Comparison { operation, metric, verdict, .. } in &record.comparisons {
                let Some(metric) = Sample::METRICS.into_iter().find(|known| known == metric) else { continue };
                let of_metric = said.entry((*percent, operation.clone(), metric)).or_default();
                of_metric.push((verdict.decision, verdict.samples));
            }
            let shown: Vec<String> = record.comparisons.iter().map(shown).collect();
            observe(format!("{percent} % more, duet {} of {}: {}", number + 1, check.duets, shown.join(", ")));
        }
    }
    let rate = |((percent, operation, metric), said): ((u32, String, &'static str), Vec<Said>)| {
        Rate::of("duet", metric, &operation, percent, &said)
    };
    Ok(said.into_iter().map(rate).collect())
}

fn shown(one: &Comparison) -> String {
    format!("{} {} {} ({} pairs)", one.operation, one.metric, one.verdict.decision, one.verdict.samples)
}

/// Writes a project with one scenario on one machine, which does `percent` percent more work than the baseline, and reads the project.
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
    let owner = Invoker::find();
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
