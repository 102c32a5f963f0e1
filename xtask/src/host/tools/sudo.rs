//! sudo, checked before any work is left to it, so that its own refusal differs from the status of the program that it starts.

use std::ffi::OsString;

use nix::unistd::geteuid;

use crate::error::Error;
use crate::host::exec::shell::{self, Command, which};
use crate::host::invoker::user_name;
use crate::host::patience::Deadline;

/// Deadline for sudo's answer where it may ask no question.
const ANSWER_DEADLINE: Deadline = Deadline::from_secs(5);

/// Ability of a user to become root by sudo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sudo {
    /// sudo starts any program without a question.
    Silent,
    /// sudo asks for a password; by its rules (`sudo --list`) it then starts the engine.
    Asks,
    /// sudo asks for a password before it shows its rules, so that it may still refuse.
    Doubtful,
    /// sudo's rules do not let this user start any program.
    Refuses,
    /// sudo is not installed.
    Missing,
}

impl Sudo {
    /// Finds out whether this process's user can become root, as sudo tells it without asking for a password.
    #[must_use]
    pub fn of_this_user() -> Self {
        if which("sudo").is_none() {
            return Self::Missing;
        }
        // The engine is started by way of `env`: a rule for another program does not help it.
        let ask = |words: &[&str]| {
            let words = ["--non-interactive"].iter().chain(words).chain(&["--", "env", "true"]);
            Command::new("sudo").env("LC_ALL", "C").args(words).deadline(ANSWER_DEADLINE.scaled()).output()
        };
        let Ok(started) = ask(&[]) else { return Self::Doubtful };
        if started.status == 0 {
            return Self::Silent;
        }
        match ask(&["--list"]) {
            Ok(listed) if listed.status == 0 => Self::Asks,
            // It needs no password to list its rules, and no rule fits.
            Ok(listed) if listed.stdout.is_empty() && listed.stderr.is_empty() => Self::Refuses,
            _ => Self::Doubtful,
        }
    }
}

/// Requires that sudo starts the program at the end of these words as root. sudo asks for a password where it wants one, and remembers it
/// for later commands.
///
/// # Errors
/// [`Error::Host`] when sudo is missing or does not start it: sudo's own words are on standard error by then.
pub fn require(words: &[OsString]) -> anyhow::Result<()> {
    if which("sudo").is_none() {
        return Err(Error::Host {
            problem: "containers need root, this is an ordinary user, and sudo is not installed".into(),
            help: "run the command as root, or install sudo".into(),
        }
        .into());
    }
    let words: Vec<OsString> = words.iter().cloned().chain(["--version".into()]).collect();
    let status = shell::status_at_terminal("sudo".as_ref(), &words)?;
    if status == 0 {
        return Ok(());
    }
    let user = user_name(geteuid().as_raw());
    Err(Error::Host {
        problem: format!(
            "the command needs root, and sudo did not start it for {user} (status {status}): nothing was run"
        ),
        help: format!(
            "`sudo -v` at a terminal asks for {user}'s password first; without a terminal sudo needs a rule such as \
             `{user} ALL=(ALL) NOPASSWD: ALL`; or run it as root"
        ),
    }
    .into())
}
