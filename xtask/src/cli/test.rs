//! `cargo xtask test`: everything that must hold, in the order in which it fails fastest.

#![expect(clippy::print_stdout, reason = "results go to stdout")]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;

use super::settings::Settings;
use super::{Context, doctor};
use crate::error::{EXIT_FAILED, EXIT_PASSED, Error};
use crate::host::cargo::{self, Program};
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::host::setup;
use crate::host::shell;
use crate::record::human::seconds;

/// The integration tests that make labs: one at a time, because they share one host.
const ON_LXC: &str = "lxc";

/// Run all tests of this repository.
///
/// Formatting, lints, unit tests, workflows, integration tests on real LXC, and the scenarios.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Install what the machine lacks first, what is optional too, without asking.
    #[arg(long)]
    setup: bool,
}

/// Carries the verb out: 1 at the first stage that fails.
///
/// # Errors
/// When a stage cannot even be started.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if args.setup {
        setup::install_missing(&doctor::subject(&context.root), |line| context.terminal.say(line))?;
    }
    require_tools(&doctor::subject(&context.root).uses)?;
    let tests = Tests { root: context.root.clone(), cargo: cargo::program().to_string_lossy().into_owned() };
    let stages: [(&str, Stage); 9] = [
        ("formatting", |it| it.cargo(&["fmt", "--all", "--check"])),
        ("lints", |it| it.cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])),
        ("documentation", |it| {
            it.cargo(&["doc", "--quiet", "--workspace", "--no-deps", "--config", "build.rustdocflags=['-Dwarnings']"])
        }),
        ("unit tests", |it| it.cargo(&["test", "--quiet", "--workspace", "--lib", "--bins"])),
        ("the Python client", Tests::python),
        ("workflows", Tests::workflows),
        ("documentation's examples", |it| it.cargo(&["test", "--quiet", "--workspace", "--doc"])),
        ("integration tests, on real LXC", Tests::integration),
        ("scenarios, on the real templates", Tests::scenarios),
    ];
    let mut times = Vec::new();
    for (name, stage) in stages {
        println!("==> {name}");
        let begun = Instant::now();
        let passed = stage(&tests)?;
        let time = seconds(begun.elapsed().as_secs_f64() * 1e3);
        if !passed {
            println!("==> {name}: FAILED after {time}");
            return Ok(EXIT_FAILED);
        }
        times.push(format!("    {name:<34} {time:>12}"));
    }
    println!("==> all stages passed\n{}", times.join("\n"));
    Ok(EXIT_PASSED)
}

/// A part of the tests: whether it passed.
type Stage = fn(&Tests) -> anyhow::Result<bool>;

struct Tests {
    root: PathBuf,
    cargo: String,
}

impl Tests {
    fn cargo(&self, args: &[&str]) -> anyhow::Result<bool> {
        let words: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        Ok(shell::run_interactive_in(&self.root, &self.cargo, &words)? == 0)
    }

    fn python(&self) -> anyhow::Result<bool> {
        let words = ["-B", "-m", "unittest", "discover", "--start-directory", "xtask/sdk/python"].map(str::to_owned);
        Ok(shell::run_interactive_in(&self.root, "python3", &words)? == 0)
    }

    fn workflows(&self) -> anyhow::Result<bool> {
        Ok(shell::run_interactive_in(&self.root, &self.root.join(".ci/workflows").display().to_string(), &[])? == 0)
    }

    /// Builds as the invoking user, runs as root: the tests make labs.
    fn integration(&self) -> anyhow::Result<bool> {
        if !self.cargo(&["build", "--quiet", "--workspace", "--bins"])? {
            return Ok(false);
        }
        for program in self.integration_tests()? {
            println!("--> {}", program.name);
            let mut words = vec!["E2E_TEST_BUILT=1".to_owned(), format!("CARGO={}", self.cargo)];
            // A test that builds something does so with the user's own Cargo.
            let kept = ["CARGO_HOME", "RUSTUP_HOME"].map(|name| (name, std::env::var(name)));
            words.extend(kept.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value.ok()?))));
            words.push(program.path.display().to_string());
            if program.name == ON_LXC {
                words.push("--test-threads=1".into());
            }
            // What somebody has set for runs of their own would change those of the tests.
            let unset = Settings::variables().flat_map(|name| ["-u".to_owned(), name]);
            words.splice(0..0, std::iter::once("env".to_owned()).chain(unset));
            if !is_root() {
                words.splice(0..0, ["sudo".to_owned(), "--".into()]);
            }
            if shell::run_interactive_in(&program.package_dir, &words[0], &words[1..])? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn integration_tests(&self) -> anyhow::Result<Vec<Program>> {
        let built = cargo::build(&self.root, &["test", "--workspace", "--test", "*", "--no-run"]);
        let mut programs = built.context("building the integration tests")?;
        programs.retain(|program| program.is_test);
        if programs.is_empty() {
            return Err(Error::Usage(format!("there are no integration tests in {}", self.root.display())).into());
        }
        Ok(programs)
    }

    fn scenarios(&self) -> anyhow::Result<bool> {
        let program = std::env::current_exe().context("finding this program")?.display().to_string();
        let program = program.trim_end_matches(" (deleted)"); // Cargo has built it anew in the meantime
        let words = ["--root".to_owned(), self.root.display().to_string(), "e2e".into()];
        Ok(shell::run_interactive_in(&self.root, program, &words)? == 0)
    }
}
