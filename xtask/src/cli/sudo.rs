//! Becoming root: the program starts itself again under sudo.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args as _;

use super::context::GlobalArgs;
use super::secrets::SecretFlags;
use super::settings::Settings;
use crate::host::exec::shell;
use crate::host::tools::sudo;
use crate::manifest::Project;
use crate::plan::Plan;
use crate::program;
use crate::report::terminal::Terminal;
use crate::run::ScenarioBinaries;

/// Environment variables that sudo must keep for the engine, its terminal display or its tests, beside those of the settings.
const KEPT: [&str; 11] = [
    "E2E_ROOT",
    "E2E_TRUST",
    "E2E_STATE_DIR",
    "CI",
    "NO_COLOR",
    "CLICOLOR_FORCE",
    "TERM",
    "COLORTERM",
    "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY",
    "GITHUB_WORKSPACE",
];

/// Folders that come first in root's PATH, so that a program in a user's folder cannot replace a system program.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process by the same program under sudo, with the same arguments. Returns only on failure.
///
/// # Errors
/// If sudo is missing or refuses. This is checked before the start, because sudo's own exit status would be 1, as for a failed scenario.
pub fn again() -> anyhow::Result<u8> {
    again_with(Vec::new(), &[])
}

/// Starts this program again as [`again`] does, with additional arguments for the verb, and environment variables that sudo must keep.
pub fn again_with(more: Vec<OsString>, variables: &[String]) -> anyhow::Result<u8> {
    let program = program::file().context("finding the engine's own program")?;
    let mut words: Vec<OsString> = vec![kept(variables).into(), "--".into(), "env".into()];
    words.push(path_setting(std::env::var_os("PATH").as_deref()));
    words.push(program.into());
    sudo::require(&words)?;
    words.extend(after_verb(std::env::args_os().skip(1).collect(), more));
    Err(shell::replace_process("sudo".as_ref(), &words)).context("running this program again under sudo")
}

/// Builds a plan's scenarios as the user, then starts this program again as root, so that sudo asks for a password once.
pub fn again_with_scenarios(
    project: &Project,
    plan: &Plan,
    programs: &ProgramsArgs,
    secrets: &SecretFlags,
    terminal: &Terminal,
) -> anyhow::Result<u8> {
    secrets.given(project)?; // what is wrong with them is said before sudo asks for a password
    let variables = secrets.variables(project);
    let to_build = plan.scenarios(project).find(|scenario| scenario.command.is_none());
    let Some(scenario) = to_build.filter(|_| programs.folder().is_none()) else {
        return again_with(Vec::new(), &variables);
    };
    let builds = |progress: String| terminal.say(&format!("building the scenarios: {progress}"));
    let program = ScenarioBinaries::build(project, plan)?.built(&scenario.name, &builds, &|| false)?;
    let folder = program.parent().map(PathBuf::from).context("finding the folder of the scenarios' programs")?;
    again_with(vec![BUILT.into(), folder.into()], &variables)
}

/// Returns sudo's option `--preserve-env` with the variables that sudo must keep: `KEPT`, those of the settings, and `more`.
fn kept(more: &[String]) -> String {
    let names = KEPT.map(str::to_owned).into_iter().chain(Settings::variables());
    let names: Vec<String> = names.chain(more.iter().cloned()).collect();
    format!("--preserve-env={}", names.join(","))
}

/// Returns the setting of PATH for root: the system's folders, then the folders of the user's PATH, where pip or uv may be.
fn path_setting(of_user: Option<&OsStr>) -> OsString {
    let mut setting = OsString::from("PATH=");
    setting.push(SYSTEM_PATH);
    if let Some(path) = of_user.filter(|path| !path.is_empty()) {
        setting.push(":");
        setting.push(path);
    }
    setting
}

/// Inserts arguments directly after the verb: at the end, after a `--`, they would be read as filters.
pub(super) fn after_verb<S: AsRef<OsStr>>(mut args: Vec<S>, more: Vec<S>) -> Vec<S> {
    let options = GlobalArgs::augment_args(clap::Command::new(""));
    let with_value: Vec<String> = options
        .get_arguments()
        .filter(|argument| argument.get_action().takes_values())
        .filter_map(|argument| argument.get_long().map(|name| format!("--{name}")))
        .collect();
    let mut verb = 0;
    while args.get(verb).is_some_and(|word| word.as_ref().as_encoded_bytes().starts_with(b"-")) {
        verb += 1 + usize::from(with_value.iter().any(|name| args[verb].as_ref() == name.as_str()));
    }
    let after = (verb + 1).min(args.len());
    args.splice(after..after, more);
    args
}

/// Flag by which the engine, when it becomes root, passes the folder of the scenarios' programs that it built as the user.
pub const BUILT: &str = "--built";

/// Options with the folder of the scenarios' programs.
#[derive(Debug, clap::Args)]
pub struct ProgramsArgs {
    /// Folder with the scenarios' built programs, for machines without Cargo. `cargo build --release --bins` puts them
    /// into target/release. A scenario with a command needs none.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// Folder as in `--binaries`, passed by the engine itself when it becomes root.
    #[arg(long, hide = true, value_name = "DIR", conflicts_with = "binaries")]
    built: Option<PathBuf>,
}

/// Returns this program's arguments without those that the engine adds itself when it becomes root.
pub fn own_words() -> Vec<String> {
    let mut words = std::env::args().skip(1);
    let mut own = Vec::new();
    while let Some(word) = words.next() {
        if word == BUILT {
            words.next();
        } else {
            own.push(word);
        }
    }
    own
}

impl ProgramsArgs {
    /// Returns the folder of programs that are already built, if an option names it.
    pub fn folder(&self) -> Option<&Path> {
        self.binaries.as_deref().or(self.built.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(after_verb(words(line), words("--binaries DIR")), words(expected), "{line}");
    }

    #[test]
    fn more_arguments_stand_right_after_the_verb() {
        check("e2e", "e2e --binaries DIR");
        check("e2e -- x", "e2e --binaries DIR -- x");
        check("--root e2e e2e --slot 2", "--root e2e e2e --binaries DIR --slot 2");
        check("--color always -q e2e x", "--color always -q e2e --binaries DIR x");
        check("--root=p --format json e2e x", "--root=p --format json e2e --binaries DIR x");
    }

    #[test]
    fn what_is_set_in_the_environment_is_set_for_root() {
        let kept = kept(&["API_TOKEN".to_owned()]);
        let names: Vec<&str> = kept.strip_prefix("--preserve-env=").unwrap().split(',').collect();
        for name in [
            "E2E_ROOT",
            "E2E_TRUST",
            "E2E_STATE_DIR",
            "E2E_RETRIES",
            "E2E_KEEP_CONTAINERS",
            "E2E_PROGRESS",
            "NO_COLOR",
            "API_TOKEN",
        ] {
            assert!(names.contains(&name), "{kept}");
        }
    }

    #[test]
    fn root_finds_the_systems_programs_first() {
        let path = path_setting(Some("/home/me/bin:/usr/bin".as_ref()));
        assert_eq!(path, OsString::from(format!("PATH={SYSTEM_PATH}:/home/me/bin:/usr/bin")));
        assert_eq!(path_setting(Some("".as_ref())), path_setting(None), "an empty part would be the working folder");
    }
}
