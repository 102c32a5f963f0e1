//! Programs of the scenarios: commands of any language as they are; the others are built by Cargo while images and the first lab are
//! created.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::error::Error;
use crate::host::exec::shell::which;
use crate::host::invoker::Invoker;
use crate::host::tools::cargo::{self, BuildLog};
use crate::manifest::{Project, Scenario};
use crate::plan::Plan;

/// Interval at which the wait for a build checks for an interrupt.
const BUILD_POLL: Duration = Duration::from_millis(5);

/// Interval at which the progress of a build is reported to a waiting caller.
const PULSE: Duration = Duration::from_millis(1500);

/// Paths of the scenarios' programs, by scenario name.
pub type Binaries = BTreeMap<String, PathBuf>;

/// Programs of a plan's scenarios; Cargo's build of some may still be running.
#[derive(Debug)]
pub struct ScenarioBinaries {
    /// Command lines by scenario name; each begins with the program's absolute path.
    commands: BTreeMap<String, Vec<String>>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Building(JoinHandle<anyhow::Result<Binaries>>, Arc<BuildLog>),
    Ready(Binaries),
    Failed,
}

impl ScenarioBinaries {
    /// Starts Cargo's build of the plan's scenarios, unless every scenario has a command.
    ///
    /// # Errors
    /// [`Error::Host`] when a command's program is not in `PATH`.
    pub fn build(project: &Project, plan: &Plan) -> anyhow::Result<Self> {
        let commands = commands(project, plan)?;
        let state = if plan.scenarios(project).all(|scenario| scenario.command.is_some()) {
            State::Ready(Binaries::new())
        } else {
            let (root, package) = (project.root.clone(), project.scenarios_package.clone());
            let log = Arc::new(BuildLog::new()?);
            let said = Arc::clone(&log);
            State::Building(std::thread::spawn(move || build(&root, &package, &said)), log)
        };
        Ok(Self { commands, state: Mutex::new(state) })
    }

    /// Returns the scenarios' programs in the folder `dir`, built before; without a folder, starts their build like
    /// [`ScenarioBinaries::build`].
    pub fn found(project: &Project, plan: &Plan, dir: Option<&Path>) -> anyhow::Result<Self> {
        dir.map_or_else(|| Self::build(project, plan), |dir| Ok(Self::in_folder(project, plan, dir)?))
    }

    /// Returns the scenarios' programs in the folder `dir`, built before.
    ///
    /// # Errors
    /// [`Error::Host`] when a command's program is not in `PATH`.
    pub fn in_folder(project: &Project, plan: &Plan, dir: &Path) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let programs = plan.scenarios(project).map(|scenario| (scenario.name.clone(), dir.join(&scenario.name)));
        Ok(Self { commands: commands(project, plan)?, state: Mutex::new(State::Ready(programs.collect())) })
    }

    /// Returns the command line that starts a scenario. Waits for Cargo's build if it still runs, and reports its progress to `waiting`.
    ///
    /// # Errors
    /// [`Error::Usage`] when the build failed, or the scenario has no program; [`Error::Interrupted`].
    pub fn get(
        &self,
        scenario: &str,
        waiting: &dyn Fn(String),
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<Vec<String>> {
        match self.commands.get(scenario) {
            Some(words) => Ok(words.clone()),
            None => Ok(vec![self.built(scenario, waiting, interrupted)?.display().to_string()]),
        }
    }

    /// Returns the program of a scenario that Cargo builds; waits and fails like [`ScenarioBinaries::get`].
    pub fn built(
        &self,
        scenario: &str,
        waiting: &dyn Fn(String),
        interrupted: &dyn Fn() -> bool,
    ) -> anyhow::Result<PathBuf> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Instant::now();
        while let State::Building(thread, log) = &*state
            && !thread.is_finished()
        {
            if interrupted() {
                return Err(Error::Interrupted.into());
            }
            if told.elapsed() >= PULSE {
                waiting(log.progress()?);
                told = Instant::now();
            }
            std::thread::sleep(BUILD_POLL); // a thread gives no sign that could be waited for with a deadline
        }
        if matches!(*state, State::Building(..))
            && let State::Building(thread, _) = std::mem::replace(&mut *state, State::Failed)
        {
            let built =
                thread.join().map_err(|_| anyhow::anyhow!("the thread that builds the scenarios panicked"))??;
            *state = State::Ready(built);
        }
        let State::Ready(programs) = &*state else { bail!("the scenarios could not be built") };
        match programs.get(scenario) {
            Some(program) if program.is_file() => Ok(program.clone()),
            _ => Err(Error::Usage(format!(
                "the scenario {scenario} has no program{}: list it in the scenarios' Cargo.toml, \
                 [[bin]] name = \"{scenario}\", path = \"CATEGORY/{scenario}/main.rs\", and build it; or write a `command` \
                 into its scenario.toml",
                programs.get(scenario).map_or_else(String::new, |program| format!(" {}", program.display()))
            ))
            .into()),
        }
    }
}

/// Returns the command lines of those scenarios of a plan that have a `command`, by scenario name; each program exists.
fn commands(project: &Project, plan: &Plan) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut commands = BTreeMap::new();
    for scenario in plan.scenarios(project) {
        if let Some(words) = &scenario.command {
            commands.insert(scenario.name.clone(), with_program(scenario, words)?);
        }
    }
    Ok(commands)
}

/// Replaces the program's name in a command line by its path.
fn with_program(scenario: &Scenario, words: &[String]) -> Result<Vec<String>, Error> {
    let mut words = words.to_vec();
    if let Some(program) = words.first_mut().filter(|program| !program.contains('/')) {
        let found = which(program).ok_or_else(|| Error::Host {
            problem: format!(
                "{}: its `command` starts {program:?}, which is not in PATH",
                scenario.dir.join("scenario.toml").display()
            ),
            help: format!("install {program}, or correct the command"),
        })?;
        *program = found.display().to_string();
    }
    Ok(words)
}

fn build(root: &Path, package: &str, log: &BuildLog) -> anyhow::Result<Binaries> {
    let words = ["build", "--package", package, "--bins"];
    let built = cargo::build_as(Invoker::of_process(), root, &words, log).context("building the scenarios")?;
    Ok(built.into_iter().map(|program| (program.name, program.path)).collect())
}
