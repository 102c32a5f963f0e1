//! `cargo xtask test`: runs all tests of this repository, or some of their stages.

use clap::builder::RangedU64ValueParser;

use super::host_tests::HostArgs;
use super::settings::Settings;
use super::{Context, doctor};
use crate::error::{EXIT_PASSED, Error};
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::host::tools::setup;
use crate::manifest::nearest;
use crate::report::terminal::println;
use crate::selftest::{LxcTests, Repository, Stage, Verbs};

/// Run the tests of this repository.
///
/// Runs formatting, lints, unit tests, rules of the repository, workflows, documentation and its examples, integration
/// tests on real LXC, the engine on another host, and the scenarios. The name of a part chooses that part; parts of
/// test names choose the tests that contain one of them.
#[derive(Debug, clap::Args)]
#[command(before_long_help = "\
Examples:
  cargo xtask test quick                           # without root, within minutes
  cargo xtask test lxc                             # on real LXC, several at once
  cargo xtask test lxc runs::a_good_run            # one test
  cargo xtask test host                            # in guests of User-Mode Linux: cgroup v2, another kernel
  cargo xtask test host --kind qemu --suite trixie
  cargo xtask test --list")]
pub struct Args {
    /// Part of the tests (quick, unit, lxc, host or scenarios), then parts of test names.
    ///
    /// `quick` is formatting, lints, unit tests, rules and workflows: no root, no containers. Words after `scenarios`
    /// are filters of `e2e`. Parts of names alone choose among unit tests, rules and tests on LXC.
    #[arg(value_name = "PART|NAME")]
    words: Vec<String>,
    /// List the tests on LXC with their recorded times, without running them.
    #[arg(long)]
    list: bool,
    /// Maximum tests on LXC at once [default: three for each processor].
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=256))]
    jobs: Option<usize>,
    /// Record the times of the tests on LXC if all of them ran and passed.
    #[arg(long)]
    record_times: bool,
    /// Install missing dependencies first, optional ones too, without asking.
    #[arg(long)]
    setup: bool,
    #[command(flatten)]
    host: HostArgs,
}

/// Names of parts of the tests, each with the stages that the part consists of.
const PARTS: [(&str, &[Stage]); 5] = [
    ("quick", &Stage::QUICK),
    ("unit", &[Stage::Unit, Stage::Rules, Stage::Examples]),
    ("lxc", &[Stage::Lxc]),
    ("host", &[Stage::Host]),
    ("scenarios", &[Stage::Scenarios]),
];

/// Stages that run if only parts of test names are given.
const BY_NAME: [Stage; 3] = [Stage::Unit, Stage::Rules, Stage::Lxc];

/// Runs the chosen stages; the exit code is 1 if one fails, and later stages are not run then.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
    if args.setup {
        let say = |line: &str| context.terminal.say(line);
        setup::install_missing(&doctor::subject(&context.root), &|news| super::setup::tell(news, say))?;
    }
    let (stages, filters) = chosen(&args.words)?;
    let verbs = Verbs { lxc: lxc_verb(args), host: args.host.verb() };
    let repository = Repository::at(&context.root, unset(), verbs, filters.clone());
    if args.list {
        let program = repository.lxc_program()?;
        LxcTests::find(&context.root, &program, &filters)?.lines().for_each(|line| println!("{line}"));
        return Ok(EXIT_PASSED);
    }
    // What stands behind `scenarios` are filters of `e2e`, which looks for them itself.
    let stages = if stages == [Stage::Scenarios] {
        stages
    } else {
        repository.with_matches(&stages).map_err(|error| or_part(error, &args.words))?
    };
    if stages.iter().any(|stage| matches!(stage, Stage::Lxc | Stage::Scenarios)) {
        require_tools(&doctor::subject(&context.root).uses)?;
    }
    if stages.contains(&Stage::Host) {
        args.host.kind().require()?;
    }
    let summary = repository.run(&stages, &|line| println!("{line}"))?;
    summary.lines().iter().for_each(|line| println!("{line}"));
    let left_out: Vec<&str> =
        Stage::ALL.iter().filter(|stage| !stages.contains(stage)).map(|stage| stage.name()).collect();
    if summary.failed.is_none() && !left_out.is_empty() {
        println!("    left out: {}", left_out.join("; "));
    }
    Ok(summary.exit_code())
}

/// Divides the arguments into stages and parts of test names.
fn chosen(words: &[String]) -> Result<(Vec<Stage>, Vec<String>), Error> {
    let Some(first) = words.first() else { return Ok((Stage::ALL.to_vec(), Vec::new())) };
    let Some((name, stages)) = PARTS.iter().find(|(name, _)| name == first) else {
        return Ok((BY_NAME.to_vec(), words.to_vec()));
    };
    let filters = words[1..].to_vec();
    if ["quick", "host"].contains(name) && !filters.is_empty() {
        let problem = format!(
            "`{name}` takes no test names: `cargo xtask test {}` runs the tests of that name",
            filters.join(" ")
        );
        return Err(Error::Usage(problem));
    }
    Ok((stages.to_vec(), filters))
}

/// Adds a hint to the error that no test has a name: the subcommand of `test`, such as `lxc`, that was probably meant.
fn or_part(error: anyhow::Error, words: &[String]) -> anyhow::Error {
    let [word, ..] = words else { return error };
    match (nearest(word, PARTS.map(|(name, _)| name)), error.downcast::<Error>()) {
        (Some(part), Ok(Error::Usage(problem))) if part != word => {
            Error::Usage(format!("{problem}; did you mean the part {part}?")).into()
        }
        (_, Ok(error)) => error.into(),
        (_, Err(error)) => error,
    }
}

/// Returns the environment variables of the settings. They are unset for the tests, because a user's values would change the runs in them.
fn unset() -> Vec<String> {
    Settings::variables().collect()
}

fn lxc_verb(args: &Args) -> Vec<String> {
    let mut words = vec!["lxc-tests".to_owned()];
    words.extend(args.jobs.map(|jobs| format!("--jobs={jobs}")));
    words.extend(args.record_times.then(|| "--record-times".to_owned()));
    words
}

/// Hidden verb that runs the tests on LXC as root.
pub mod lxc {
    use std::path::PathBuf;

    use super::{Context, is_root, unset};
    use crate::error::Error;
    use crate::guard::{Slot, state_dir};
    use crate::report::terminal::println;
    use crate::selftest::{LxcTests, Run, TestProgram};

    /// Arguments of the hidden verb, which `test` passes.
    #[derive(Debug, clap::Args)]
    pub struct Args {
        #[arg(long)]
        program: PathBuf,
        #[arg(long)]
        package_dir: PathBuf,
        #[arg(long)]
        jobs: Option<usize>,
        #[arg(long)]
        record_times: bool,
        filters: Vec<String>,
    }

    /// Runs or lists the tests on LXC.
    ///
    /// # Errors
    /// [`Error::Usage`] if this process is not root.
    pub fn run(args: &Args, context: &Context) -> anyhow::Result<u8> {
        if !is_root() {
            return Err(
                Error::Usage("tests on LXC need root: run `cargo xtask test lxc`, which asks for it".into()).into()
            );
        }
        let program = TestProgram { path: args.program.clone(), package_dir: args.package_dir.clone() };
        let run =
            Run { filters: args.filters.clone(), jobs: args.jobs, record_times: args.record_times, unset: unset() };
        let tests = LxcTests::find(&context.root, &program, &args.filters)?;
        let holder = |slot: &str| {
            let holder = Slot::named(slot).holder().ok()??;
            (!holder.is_stuck()).then(|| holder.to_string())
        };
        tests.run(&context.root, &run, &state_dir(), &holder, &|line| println!("{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_part_or_names_choose_stages() {
        assert_eq!(chosen(&[]).unwrap(), (Stage::ALL.to_vec(), vec![]));
        assert_eq!(chosen(&words("lxc runs::")).unwrap(), (vec![Stage::Lxc], words("runs::")));
        assert_eq!(chosen(&words("redaction")).unwrap(), (BY_NAME.to_vec(), words("redaction")));
        assert_eq!(chosen(&words("quick")).unwrap().0, Stage::QUICK);
        let none = || anyhow::Error::from(Error::Usage("no test has lxcc in its name".into()));
        let shown = or_part(none(), &words("lxcc")).to_string();
        assert_eq!(shown, "no test has lxcc in its name; did you mean the part lxc?");
        assert_eq!(or_part(none(), &words("redaction")).to_string(), none().to_string());
        assert!(chosen(&words("quick x")).is_err() && chosen(&words("host x")).is_err());
    }
}
