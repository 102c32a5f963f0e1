//! Stages of the repository's tests, ordered so that the quickest to fail comes first.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::libtest::TestProgram;
use super::lxc::Show;
use crate::error::{EXIT_FAILED, EXIT_PASSED, Error};
use crate::host::exec::shell::{self, Command};
use crate::host::invoker::is_root;
use crate::host::patience::Deadline;
use crate::host::tools::cargo::{self, Program};
use crate::host::tools::sudo;

/// Cargo's name for the integration tests on real LXC.
const ON_LXC: &str = "lxc";

/// Deadline for building the templates of Mancer's machines, including downloads of packages.
const TEMPLATES_DEADLINE: Deadline = Deadline::from_secs(1800);

/// Deadline for one integration test program without containers.
const RULES_DEADLINE: Deadline = Deadline::from_secs(600);

/// Deadline for the guests of one kind, which run beside other stages.
const GUESTS_DEADLINE: Deadline = Deadline::from_secs(4 * 3600);

/// Stage with which the guests start, once formatting and lints have passed; the guests run beside it and later stages.
const BESIDE_GUESTS: Stage = Stage::Unit;

/// Part of the repository's tests that can be run on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Check of the source text's formatting.
    Formatting,
    /// Clippy, with warnings as errors.
    Lints,
    /// Rustdoc, with warnings as errors.
    Documentation,
    /// Unit tests of all crates and of the Python client.
    Unit,
    /// Integration tests without containers: rules of the repository, formats of reports, the command line, verdicts.
    Rules,
    /// Checks of the workflows for CI.
    Workflows,
    /// Examples in documentation, compiled and run.
    Examples,
    /// Integration tests on real LXC.
    Lxc,
    /// Engine on another host, such as a guest with another kernel.
    Host,
    /// Scenarios of Mancer on the real templates.
    Scenarios,
}

impl Stage {
    /// All stages in the order in which they run.
    pub const ALL: [Self; 10] = [
        Self::Formatting,
        Self::Lints,
        Self::Unit,
        Self::Rules,
        Self::Workflows,
        Self::Documentation,
        Self::Examples,
        Self::Host,
        Self::Lxc,
        Self::Scenarios,
    ];

    /// Stages that need neither root nor containers and answer within minutes.
    pub const QUICK: [Self; 5] = [Self::Formatting, Self::Lints, Self::Unit, Self::Rules, Self::Workflows];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Formatting => "formatting",
            Self::Lints => "lints",
            Self::Documentation => "documentation",
            Self::Unit => "unit tests",
            Self::Rules => "rules, formats, command line",
            Self::Workflows => "workflows",
            Self::Examples => "documentation's examples",
            Self::Lxc => "tests on real LXC",
            Self::Host => "engine on another host",
            Self::Scenarios => "scenarios",
        }
    }
}

/// Checkout of the repository whose tests are run.
#[derive(Debug)]
pub struct Repository {
    root: PathBuf,
    cargo: OsString,
    /// Environment variables that no test must see.
    unset: Vec<String>,
    verbs: Verbs,
    /// Substrings of test names that choose tests; all tests if empty.
    filters: Vec<String>,
}

/// Arguments of the engine's own program for stages that run as root.
#[derive(Debug)]
pub struct Verbs {
    /// Verb that runs the tests on LXC.
    pub lxc: Vec<String>,
    /// Verb that runs the engine's tests in guests.
    pub host: Vec<String>,
}

/// Stages that were run, with their times.
#[derive(Debug, Default)]
pub struct Summary {
    times: Vec<(Stage, Duration)>,
    /// Stage that failed; `None` if all passed.
    pub failed: Option<Stage>,
}

impl Repository {
    #[must_use]
    pub fn at(root: &Path, unset: Vec<String>, verbs: Verbs, filters: Vec<String>) -> Self {
        Self { root: root.to_owned(), cargo: cargo::program(), unset, verbs, filters }
    }

    /// Runs stages until one fails. Templates that later stages need are built beside the earlier stages. Guests run beside other stages,
    /// but only as root, because sudo could ask for a password.
    pub fn run(&self, stages: &[Stage], show: Show<'_>) -> anyhow::Result<Summary> {
        let mut summary = Summary::default();
        std::thread::scope(|scope| {
            let needs_templates = |stage: &Stage| matches!(stage, Stage::Lxc | Stage::Scenarios);
            let first_user = stages.iter().position(needs_templates).filter(|place| *place > 0 && is_root());
            let mut templates = first_user.map(|_| scope.spawn(|| self.build_templates()));
            let has_host = stages.contains(&Stage::Host) && is_root();
            let mut guests = None;
            for stage in stages {
                if *stage == BESIDE_GUESTS && has_host {
                    guests = Some(scope.spawn(|| {
                        let begun = Instant::now();
                        self.host_unseen().map(|(passed, said)| (passed, said, begun.elapsed()))
                    }));
                }
                if needs_templates(stage)
                    && let Some(building) = templates.take()
                {
                    joined(building)?;
                }
                show(&format!("==> {}", stage.name()));
                let started = Instant::now();
                let (passed, time) = match guests.take_if(|_| *stage == Stage::Host) {
                    Some(running) => {
                        let (passed, said, time) = joined(running)?;
                        show(said.trim_end());
                        (passed, time)
                    }
                    None => (self.carry_out(*stage, show)?, started.elapsed()),
                };
                summary.times.push((*stage, time));
                if !passed {
                    summary.failed = Some(*stage);
                    break;
                }
            }
            if let Some(running) = guests {
                show("    waiting for the guests, which run beside the other stages");
                joined(running)?;
            }
            templates.map_or(Ok(()), joined)
        })?;
        Ok(summary)
    }

    /// Returns the stages that have a test whose name contains one of the filters; all stages if there are no filters. Examples in
    /// documentation are left out, because they have no names to choose by.
    ///
    /// # Errors
    /// [`Error::Usage`] if no test matches.
    pub fn with_matches(&self, stages: &[Stage]) -> anyhow::Result<Vec<Stage>> {
        if self.filters.is_empty() {
            return Ok(stages.to_vec());
        }
        let mut found = Vec::new();
        for stage in stages {
            let programs = match stage {
                Stage::Unit => self.built_tests(&["--lib", "--bins"])?,
                Stage::Rules | Stage::Lxc => self.integration_tests()?,
                _ => continue,
            };
            let programs = programs
                .into_iter()
                .filter(|it| *stage == Stage::Unit || (it.name == ON_LXC) == (*stage == Stage::Lxc));
            for program in programs {
                let program = TestProgram { path: program.path, package_dir: program.package_dir };
                if program.tests()?.iter().any(|test| test.is_chosen(&self.filters)) {
                    found.push(*stage);
                    break;
                }
            }
        }
        if found.is_empty() {
            return Err(Error::Usage(format!("no test has {} in its name", self.filters.join(" or "))).into());
        }
        Ok(found)
    }

    fn carry_out(&self, stage: Stage, show: Show<'_>) -> anyhow::Result<bool> {
        match stage {
            Stage::Formatting => self.cargo(&["fmt", "--all", "--check"]),
            Stage::Lints => self.cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
            Stage::Documentation => {
                let warnings = "build.rustdocflags=['-Dwarnings']";
                self.cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--config", warnings])
            }
            Stage::Unit => Ok(self.cargo_tests(&["--lib", "--bins"])? && self.python()?),
            Stage::Rules => self.rules(show),
            Stage::Workflows => self.interactive(self.root.join(".ci/workflows"), &[]),
            Stage::Examples => self.cargo_tests(&["--doc"]),
            Stage::Lxc => self.lxc(),
            Stage::Host => self.host(),
            Stage::Scenarios => {
                let words = ["--root".to_owned(), self.root.display().to_string(), "e2e".into()];
                self.interactive(own_program()?, &[&words, self.filters.as_slice()].concat())
            }
        }
    }

    fn interactive(&self, program: impl Into<OsString>, words: &[String]) -> anyhow::Result<bool> {
        let program = program.into();
        Ok(shell::run_interactive_in(&self.root, &program.to_string_lossy(), words)? == 0)
    }

    fn cargo(&self, words: &[&str]) -> anyhow::Result<bool> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.interactive(&self.cargo, &words)
    }

    fn cargo_tests(&self, targets: &[&str]) -> anyhow::Result<bool> {
        let filters: Vec<&str> = self.filters.iter().map(String::as_str).collect();
        let words = [&["test", "--quiet", "--workspace"], targets, &["--"], &filters].concat();
        self.cargo(&words)
    }

    /// Runs the tests of the Python client; skipped if there are filters, because these tests cannot be chosen by name.
    fn python(&self) -> anyhow::Result<bool> {
        if !self.filters.is_empty() {
            return Ok(true);
        }
        let words = ["-B", "-m", "unittest", "discover", "--start-directory", "xtask/sdk/python"].map(str::to_owned);
        self.interactive("python3", &words)
    }

    /// Builds the integration tests without containers, and runs all their programs at once, without root.
    fn rules(&self, show: Show<'_>) -> anyhow::Result<bool> {
        let mut programs = self.integration_tests()?;
        programs.retain(|program| program.name != ON_LXC);
        let words = [&["--quiet".to_owned()], self.filters.as_slice()].concat();
        let run = |program: &Program| {
            let command = Command::new(&program.path).args(&words).dir(&program.package_dir);
            command.deadline(RULES_DEADLINE.scaled()).output()
        };
        let mut passed = true;
        std::thread::scope(|scope| {
            let running: Vec<_> = programs.iter().map(|program| (program, scope.spawn(|| run(program)))).collect();
            for (program, thread) in running {
                let output = thread.join().map_err(|_| anyhow!("the thread of {} panicked", program.name))??;
                let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
                show(&format!("{}\n{}", program.name, said.concat().trim()));
                passed &= output.status == 0;
            }
            anyhow::Ok(passed)
        })
    }

    /// Builds the test program for LXC and all programs that it starts; returns the test program.
    ///
    /// # Errors
    /// [`Error::Usage`] if the engine or the scenarios do not build.
    pub fn lxc_program(&self) -> anyhow::Result<TestProgram> {
        if !self.cargo(&["build", "--quiet", "--workspace", "--bins"])? {
            return Err(Error::Usage("the engine and the scenarios do not build".into()).into());
        }
        let program = self.integration_tests()?.into_iter().find(|program| program.name == ON_LXC);
        let program = program.ok_or_else(|| anyhow!("no package has the tests `{ON_LXC}`"))?;
        Ok(TestProgram { path: program.path, package_dir: program.package_dir })
    }

    /// Builds the tests on LXC as the invoking user, and runs them as root, which they need for labs.
    fn lxc(&self) -> anyhow::Result<bool> {
        let program = self.lxc_program()?;
        let mut words = vec!["env".to_owned(), format!("CARGO={}", self.cargo.display())];
        // A test that builds something does so with the user's own Cargo.
        let of_tests = ["E2E_TEST_CASES", "E2E_TEST_CRASHES", "E2E_TEST_KILLS", "E2E_TEST_SEED"];
        let kept = ["CARGO_HOME", "RUSTUP_HOME"].into_iter().chain(of_tests).map(|name| (name, std::env::var(name)));
        words.extend(kept.filter_map(|(name, value)| Some(format!("{name}={}", value.ok()?))));
        words.push(own_program()?.display().to_string());
        let own = words.len();
        words.extend(["--root".into(), self.root.display().to_string()]);
        words.extend(self.verbs.lxc.iter().cloned());
        words.extend(["--program".into(), program.path.display().to_string()]);
        words.extend(["--package-dir".into(), program.package_dir.display().to_string()]);
        words.extend(self.filters.iter().cloned());
        by_sudo(&mut words, own)?;
        self.interactive(&words[0], &words[1..])
    }

    /// Builds the engine for guests as the invoking user, and runs the tests there as root, which owns the guests' disks.
    fn host(&self) -> anyhow::Result<bool> {
        let words = self.host_words()?;
        self.interactive(&words[0], &words[1..])
    }

    /// Does the work of [`Self::host`] without showing the output; returns true if the tests passed, and the output.
    fn host_unseen(&self) -> anyhow::Result<(bool, String)> {
        let words = self.host_words()?;
        let command = Command::new(&words[0]).args(&words[1..]).dir(&self.root).deadline(GUESTS_DEADLINE.scaled());
        let output = command.output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok((output.status == 0, said))
    }

    fn host_words(&self) -> anyhow::Result<Vec<String>> {
        let packages = ["build", "--package", "selftest-scenarios", "--package", "scenarios", "--bins"];
        let built = cargo::build(&self.root, &packages).context("building the scenarios")?;
        let folder = built.first().and_then(|program| program.path.parent()).context("Cargo built no scenario")?;
        let mut words = vec!["env".to_owned()];
        words.extend(self.unset.iter().flat_map(|name| ["-u".to_owned(), name.clone()]));
        words.push(own_program()?.display().to_string());
        let own = words.len();
        words.extend(["--root".into(), self.root.display().to_string()]);
        words.extend(self.verbs.host.iter().cloned());
        words.extend(["--programs".to_owned(), folder.display().to_string()]);
        by_sudo(&mut words, own)?;
        Ok(words)
    }

    fn built_tests(&self, targets: &[&str]) -> anyhow::Result<Vec<Program>> {
        let words = [&["test", "--workspace", "--no-run"], targets].concat();
        let mut programs = cargo::build(&self.root, &words).context("building tests")?;
        programs.retain(|program| program.is_test);
        Ok(programs)
    }

    fn integration_tests(&self) -> anyhow::Result<Vec<Program>> {
        let programs = self.built_tests(&["--test", "*"])?;
        if programs.is_empty() {
            return Err(Error::Usage(format!("there are no integration tests in {}", self.root.display())).into());
        }
        Ok(programs)
    }

    fn build_templates(&self) -> anyhow::Result<()> {
        let command = Command::new(own_program()?).arg("--root").arg(&self.root).args(["image", "build"]);
        let command = self.unset.iter().fold(command, Command::env_remove);
        command.dir(&self.root).deadline(TEMPLATES_DEADLINE.scaled()).run()?;
        Ok(())
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().unwrap_or_else(|_| Err(anyhow!("a thread beside the stages panicked")))
}

/// Puts sudo before a command if this process is not root. Fails if sudo does not allow the program at the end of the first `own` words.
fn by_sudo(words: &mut Vec<String>, own: usize) -> anyhow::Result<()> {
    if is_root() {
        return Ok(());
    }
    words.insert(0, "--".to_owned());
    let asked: Vec<OsString> = words[..=own].iter().map(OsString::from).collect();
    sudo::require(&asked)?;
    words.insert(0, "sudo".to_owned());
    Ok(())
}

/// Returns the path of this program; if Cargo has rebuilt it in the meantime, the path leads to the new file.
fn own_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?.display().to_string();
    Ok(PathBuf::from(program.trim_end_matches(" (deleted)")))
}

impl Summary {
    /// Returns the exit code of all stages together.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.failed.is_none() { EXIT_PASSED } else { EXIT_FAILED }
    }

    /// Returns a line for each stage that was run, with its time in seconds, and a line with the result. The times of stages that ran
    /// beside each other overlap.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |(stage, time): &(Stage, Duration)| {
            let failed = if self.failed == Some(*stage) { "  FAILED" } else { "" };
            format!("    {:<34} {:>8.1} s{failed}", stage.name(), time.as_secs_f64())
        };
        let mut lines: Vec<String> = self.times.iter().map(line).collect();
        lines.push(match self.failed {
            Some(stage) => format!("==> {}: FAILED", stage.name()),
            None => "==> all stages passed".to_owned(),
        });
        lines
    }
}
