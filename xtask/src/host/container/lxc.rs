//! Paths and commands of LXC's own programs, and what their logs tell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::error::HostCause;
use crate::host::exec::process::signal_name;
use crate::host::exec::sealed::copy_of;
use crate::host::exec::shell::{Command, path_of, which};
use crate::host::patience::Deadline;
use crate::host::seccomp::Filter;

/// Default lxcpath, where `lxc-attach -n NAME` finds a container without further options.
pub const LXC_PATH: &str = "/var/lib/lxc";

/// Program that runs another one in a container.
pub const ATTACH: &str = "lxc-attach";

/// Time that `lxc-stop` may take beyond the time that the container is given to shut down.
const STOP_SLACK: Deadline = Deadline::from_secs(20);

/// Folder of the live logs of containers.
pub const LOG_PATH: &str = "/var/log/lxc";

/// Returns the folder of a container's configuration.
#[must_use]
pub fn container_dir(name: &str) -> PathBuf {
    Path::new(LXC_PATH).join(name)
}

/// Returns the folder of a container's logs.
#[must_use]
pub fn log_dir(name: &str) -> PathBuf {
    Path::new(LOG_PATH).join(name)
}

#[must_use]
pub fn is_installed() -> bool {
    which("lxc-start").is_some()
}

/// Returns the command that runs a container in the foreground and ends with it.
#[must_use]
pub fn start_command(name: &str) -> Vec<String> {
    // By its own path: in the PATH of `start_environment` it does not stand.
    let mut words = vec![path_of("lxc-start"), "-F".into(), "-n".into(), name.into()];
    // LXC 6 passes over these two in a container's configuration. At this level, and no lower one, it says how process 1 ended.
    words.push(format!("--logfile={}", log_dir(name).join("lxc.log").display()));
    words.push("--logpriority=INFO".into());
    words
}

/// Folders of the `PATH` that `lxc-start` runs with.
pub const START_PATH: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Returns the environment for [`start_command`]. Without newuidmap in its PATH, LXC as root writes the id map itself and does not check
/// /etc/subuid.
#[must_use]
pub fn start_environment() -> Vec<(String, String)> {
    vec![("PATH".into(), START_PATH.join(":")), ("HOME".into(), "/".into())]
}

/// Maximum bytes of each output stream of a program in a container, where the engine itself parses the output.
pub const OUTPUT_MAX: u64 = 64 << 20;

/// Run of a program in a container.
#[derive(Debug, Clone)]
pub struct Attach<'a> {
    /// Name of the container.
    pub name: &'a str,
    /// Program and its arguments.
    pub argv: &'a [String],
    /// Complete environment of the program.
    pub environment: &'a [(String, String)],
    /// User and group ids in the container; root's if `None`.
    pub user: Option<(u32, u32)>,
    /// Filter on the program's system calls.
    pub filter: Option<Filter>,
}

impl Attach<'_> {
    /// Returns the host's command that runs the program. Its exit status is the program's own.
    #[must_use]
    pub fn command(&self) -> Command {
        entrance(self.words(), self.filter.clone())
    }

    /// Returns the arguments with which [`ATTACH`] runs the program.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let log = format!("--logfile={}", log_dir(self.name).join("attach.log").display());
        let mut words = ["--quiet", &log, "-n", self.name, "--clear-env"].map(str::to_owned).to_vec();
        words.extend(self.environment.iter().map(|(name, value)| format!("--set-var={name}={value}")));
        if let Some((uid, gid)) = self.user {
            words.extend([format!("--uid={uid}"), format!("--gid={gid}")]);
        }
        words.push("--".to_owned());
        words.extend(self.argv.iter().cloned());
        words
    }
}

/// Returns the command that runs a program in a container, from the arguments that [`Attach::words`] returns. Its output is bounded.
///
/// lxc-attach copies its own program file into sealed memory at each start, so that nothing in a container can write to that file, and
/// starts again from the copy. Started from such a copy in the first place, it skips both, which shortens each start by a third.
#[must_use]
pub fn entrance(words: Vec<String>, filter: Option<Filter>) -> Command {
    Command::new(ATTACH)
        .copy(which(ATTACH).and_then(|path| copy_of(&path)))
        .args(words)
        .dir("/")
        .filter(filter)
        .output_max(OUTPUT_MAX)
}

/// Shuts a container down by `lxc-stop`, which kills what has not ended within `grace` (whole seconds, rounded up).
pub fn stop(name: &str, grace: Duration) -> anyhow::Result<()> {
    let seconds = grace.as_millis().div_ceil(1000).max(1).to_string();
    let command = Command::new("lxc-stop").args(["-n", name, "-t", &seconds]).dir("/");
    command.deadline(grace + STOP_SLACK.scaled()).run().with_context(|| format!("stopping {name}"))?;
    Ok(())
}

pub fn freeze(name: &str) -> anyhow::Result<()> {
    Command::new("lxc-freeze").args(["-n", name]).dir("/").run().with_context(|| format!("freezing {name}"))?;
    Ok(())
}

/// Thaws the processes of a container by LXC's own program, so that LXC knows that they run.
pub fn unfreeze(name: &str) -> anyhow::Result<()> {
    Command::new("lxc-unfreeze").args(["-n", name]).dir("/").run().with_context(|| format!("thawing {name}"))?;
    Ok(())
}

/// Reason why LXC cannot start any container on this host, as far as the kernel's settings show one.
#[must_use]
pub fn host_cause() -> Option<HostCause> {
    let namespaces = std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    host_cause_of(&namespaces.unwrap_or_default())
}

fn host_cause_of(user_namespaces_max: &str) -> Option<HostCause> {
    (user_namespaces_max.trim() == "0").then_some(HostCause::UserNamespaces)
}

/// End of the first process of a container, as LXC's log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitEnd {
    /// LXC failed before it started the process.
    NotStarted,
    /// LXC could not execute the program.
    NotExecutable {
        /// Path of the program in the container.
        program: String,
        /// Kernel's error for the start of the program.
        reason: String,
    },
    /// The process exited with this status, 0 to 255.
    Exited(i32),
    /// The process was killed by the signal of this number. A container that powers itself off is ended by SIGINT.
    Signaled(i32),
    /// The log does not tell how the process ended.
    Unknown,
}

impl std::fmt::Display for InitEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted => f.write_str("LXC could not start its process 1"),
            Self::NotExecutable { program, reason } => {
                write!(f, "its process 1 {program:?} cannot be executed: {reason}")
            }
            Self::Exited(status) => write!(f, "its process 1 exited with status {status}"),
            Self::Signaled(signal) if *signal == Signal::SIGINT as i32 => f.write_str("it powered itself off"),
            Self::Signaled(signal) => write!(f, "its process 1 was ended by {}", signal_name(*signal)),
            Self::Unknown => f.write_str("the status of its process 1 is unknown"),
        }
    }
}

/// Finds the end of the container's first process, at its last start, in one of LXC's logs, which has to be of level INFO.
#[must_use]
pub fn init_end(log: &str) -> InitEnd {
    let last = log.rfind("\" is initialized").map_or(log, |place| &log[place..]);
    let message_of = |line: &'_ str, mark: &str| line.split_once(mark).map(|(_, rest)| rest.to_owned());
    if let Some((line, program)) = last.lines().find_map(|line| Some((line, message_of(line, "Failed to exec \"")?))) {
        let reason = line.rsplit(" - ").nth(1).unwrap_or_default();
        return InitEnd::NotExecutable { program: program.trim_end_matches('"').to_owned(), reason: reason.to_owned() };
    }
    let Some(started) = last.find("Started \"") else {
        return if last.contains(" ERROR ") { InitEnd::NotStarted } else { InitEnd::Unknown };
    };
    let number = |line: &str| line.rsplit_once('(')?.1.trim_end().trim_end_matches(')').parse::<i32>().ok();
    let ended = last[started..].lines().find_map(|line| {
        let is_signal = line.contains("> ended on signal ");
        let told = is_signal || line.contains("> ended on error ");
        told.then(|| {
            number(line).map(|number| if is_signal { InitEnd::Signaled(number) } else { InitEnd::Exited(number) })
        })
    });
    // LXC says nothing of a process 1 that exits with status 0.
    ended.unwrap_or(Some(InitEnd::Exited(0))).unwrap_or(InitEnd::Unknown)
}

/// Parts of messages that LXC logs as errors without failing: it was asked for a setting that this build of it does not have, or it tried
/// to delegate controllers in a cgroup that has processes.
const HARMLESS_ERRORS: [&str; 2] = ["get_config_unsupported_key", "Could not enable \""];

/// Returns the last `most` lines of one of LXC's logs that say what went wrong: no warnings, and none of `HARMLESS_ERRORS`.
#[must_use]
pub fn error_lines(log: &str, most: usize) -> Vec<&str> {
    let severe = |line: &&str| {
        let minor = [" WARN ", " INFO ", " NOTICE ", " DEBUG ", " TRACE "];
        !line.trim().is_empty() && !minor.iter().chain(&HARMLESS_ERRORS).any(|word| line.contains(word))
    };
    let lines: Vec<&str> = log.lines().filter(severe).collect();
    lines[lines.len().saturating_sub(most)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_user_namespaces_starts_no_container() {
        assert_eq!(host_cause_of("0\n"), Some(HostCause::UserNamespaces));
        assert_eq!(host_cause_of("15000\n"), None);
        assert_eq!(host_cause_of(""), None, "the kernel does not say");
    }

    #[test]
    fn the_end_of_process_1_is_that_of_the_last_start() {
        let begun = "lxc-start a 1 INFO start - ../src/lxc/start.c:lxc_init:881 - Container \"a\" is initialized\n";
        let ran =
            format!("{begun}lxc-start a 1 NOTICE start - start.c:post_start:2205 - Started \"/x\" with pid \"71\"\n");
        let error =
            |text: &str| format!("lxc-start a 1 INFO error - ../src/lxc/error.c:lxc_error_set_and_log:31 - {text}\n");
        let check = |log: String, expected: InitEnd| assert_eq!(init_end(&log), expected, "{log}");
        check(ran.clone(), InitEnd::Exited(0));
        check(format!("{ran}{}", error("Child <71> ended on error (7)")), InitEnd::Exited(7));
        check(format!("{ran}{}", error("Child <71> ended on signal Segmentation fault(11)")), InitEnd::Signaled(11));
        check(format!("{ran}{}", error("Child <71> ended on signal (9)")), InitEnd::Signaled(9));
        check(format!("{ran}{}{ran}", error("Child <71> ended on signal Hangup(1)")), InitEnd::Exited(0));
        let missing =
            "lxc-start a 1 ERROR start - start.c:start:2197 - No such file or directory - Failed to exec \"/x\"\n";
        let (program, reason) = ("/x".to_owned(), "No such file or directory".to_owned());
        check(format!("{begun}{missing}"), InitEnd::NotExecutable { program, reason });
        check(format!("{ran}{begun}lxc-start a 1 ERROR conf - no mount\n"), InitEnd::NotStarted);
        check(String::new(), InitEnd::Unknown);
        check("lxc-start a 1 ERROR conf - Failed to parse config\n".to_owned(), InitEnd::NotStarted);
    }

    #[test]
    fn only_errors_are_shown() {
        let log = "lxc-start a 20261122 WARN conf - no newuidmap\n\
                   lxc-start a 20261122 ERROR confile - get_config_unsupported_key:170 - lxc.seccomp\n\
                   lxc-start a 20261122 ERROR cgfsng - Device or resource busy - Could not enable \"+cpu\" controllers\n\
                   lxc-start a 20261122 ERROR start - Failed to spawn\n\n";
        assert_eq!(error_lines(log, 9), ["lxc-start a 20261122 ERROR start - Failed to spawn"]);
        assert_eq!(error_lines("a\nb\nc", 2), ["b", "c"]);
    }
}
