//! Results of system calls, observed and changed by strace.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use crate::host::exec::shell::{Command, path_of};
use crate::host::tools::packages::Item;

/// Change that strace makes to a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// No change: the call is only watched.
    Nothing,
    /// Error, by its name, that the process gets; the call is not made.
    Error(String),
    /// Delay: the process waits this long before the call is made.
    Delay(Duration),
}

/// Finished system call, as strace reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Process that made the call; `None` where only one is watched.
    pub pid: Option<i32>,
    /// Result that the process got, such as `-1 EIO (Input/output error)`.
    pub result: String,
    /// Time from the call until it returned.
    pub took: Duration,
    /// True if strace, not the kernel, gave the result.
    pub is_injected: bool,
    /// True if strace delayed the call.
    pub is_delayed: bool,
}

/// Reason why strace cannot change system calls on this host, tried on a program that does nothing; `None` where it can.
#[must_use]
pub fn strace_problem() -> Option<String> {
    let Some(strace) = Item::named("strace").program() else {
        return Some("strace is not installed on this host".into());
    };
    let inject = ["-qq", "-e", "trace=sync", "-e", "inject=sync:error=EIO", "true"];
    if let Err(error) = Command::new(strace).args(inject).run() {
        return Some(error.to_string());
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    (scope.trim() == "3")
        .then(|| "kernel.yama.ptrace_scope is 3: no process may be traced until the host boots again".into())
}

/// Returns the strace command that changes a system call of these processes, of their threads, and of all processes that they start.
#[must_use]
pub fn command(call: &str, change: &Change, pids: &[i32]) -> Vec<String> {
    let strace = path_of("strace");
    let trace = format!("trace={call}");
    let mut words = vec![strace];
    words.extend(["-f", "-qq", "-T", "-s", "0", "-e", "signal=none", "-e", &trace].map(str::to_owned));
    match change {
        Change::Nothing => {}
        Change::Error(error) => words.extend(["-e".to_owned(), format!("inject={call}:error={error}")]),
        Change::Delay(delay) => {
            words.extend(["-e".to_owned(), format!("inject={call}:delay_enter={}", delay.as_micros())]);
        }
    }
    words.extend(pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]));
    words
}

/// Option of strace for the system calls that return the time, as far as the host's architecture has them.
const TIME_CALLS: &str = "trace=?clock_gettime,?gettimeofday,?time";

/// Returns the first call, within the time `watch`, by which one of these processes asks the kernel itself for the time of day. `None`
/// where none was seen, and where even the C library makes such calls, because the vDSO does not have the time. strace writes to `log`,
/// which is removed.
pub fn asks_for_time(pids: &[i32], watch: Duration, log: &Path) -> anyhow::Result<Option<String>> {
    let by_library = Command::new(path_of("strace")).args(["-qq", "-e", TIME_CALLS, "date"]).run()?;
    if time_call(&String::from_utf8_lossy(&by_library.stderr)).is_some() {
        return Ok(None);
    }
    let words = ["-f", "-qq", "-e", "signal=none", "-e", TIME_CALLS].map(str::to_owned);
    let of_pids = pids.iter().flat_map(|pid| ["-p".to_owned(), pid.to_string()]);
    let command = Command::new(path_of("strace")).args(words.into_iter().chain(of_pids)).deadline(watch);
    let context = || format!("writing {}", log.display());
    let (nowhere, file) = (File::options().write(true).open("/dev/null")?, File::create(log).with_context(context)?);
    // It is killed then, and the kernel lets the processes go on.
    let watched = command.output_to_files(nowhere, file);
    let said = std::fs::read(log).with_context(context);
    let _ = std::fs::remove_file(log); // it goes with the lab
    watched?;
    Ok(time_call(&String::from_utf8_lossy(&said?)))
}

/// Returns the first line of strace that is a call for the time of day.
fn time_call(said: &str) -> Option<String> {
    let call = |line: &str| line.rsplit_once("] ").map_or(line, |(_, call)| call).to_owned();
    let asks = |call: &String| {
        call.starts_with("clock_gettime(CLOCK_REALTIME")
            || call.starts_with("gettimeofday(")
            || call.starts_with("time(")
    };
    said.lines().map(call).find(asks)
}

/// Parses the finished calls in what strace has written so far, whose last line may be half written.
#[must_use]
pub fn calls(log: &str, call: &str) -> Vec<Call> {
    let (begun, resumed) = (format!("{call}("), format!("<... {call} resumed>"));
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let of_call = whole.lines().filter_map(|line| {
        let (pid, rest) = match line.strip_prefix("[pid ").and_then(|rest| rest.split_once("] ")) {
            Some((pid, rest)) => (pid.trim().parse().ok(), rest),
            None => (None, line),
        };
        (rest.starts_with(&begun) || rest.starts_with(&resumed)).then_some((pid, rest))
    });
    of_call.filter_map(|(pid, rest)| came_back(pid, rest)).collect()
}

/// Parses a line such as `fsync(1) = -1 EIO (Input/output error) (INJECTED) <0.000036>`.
fn came_back(pid: Option<i32>, line: &str) -> Option<Call> {
    let (_, end) = line.rsplit_once(" = ")?;
    let (result, took) = end.rsplit_once(" <")?;
    let took = Duration::try_from_secs_f64(took.strip_suffix('>')?.parse().ok()?).ok()?;
    let (is_injected, is_delayed) = (result.contains("(INJECTED)"), result.contains("(DELAYED)"));
    let result = result.replace(" (INJECTED)", "").replace(" (DELAYED)", "");
    Some(Call { pid, result, took, is_injected, is_delayed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_came_back_are_read() {
        let log = "[pid  7212] fsync(1)                    = 0 (DELAYED) <0.050485>\n\
                   fsync(3)   = -1 EIO (Input/output error) (INJECTED) <0.000036>\n\
                   [pid  7358] fsync(1 <unfinished ...>\n\
                   [pid  7360] openat(AT_FDCWD, \"\"..., O_RDONLY) = 3 <0.1>\n\
                   [pid  7358] <... fsync resumed>)        = 0 <0.000257>\n\
                   [pid  7358] fsync(1)     = 0 <0.0";
        let call = |pid, result: &str, micros, is_injected, is_delayed| Call {
            pid,
            result: result.into(),
            took: Duration::from_micros(micros),
            is_injected,
            is_delayed,
        };
        let expected = [
            call(Some(7212), "0", 50_485, false, true),
            call(None, "-1 EIO (Input/output error)", 36, true, false),
            call(Some(7358), "0", 257, false, false),
        ];
        assert_eq!(calls(log, "fsync"), expected);
        assert_eq!(calls(log, "sync"), [], "another call");
    }

    #[test]
    fn a_change_is_one_word_of_the_command() {
        let words = |change| command("fsync", &change, &[12, 13])[10..].join(" ");
        assert_eq!(words(Change::Nothing), "-p 12 -p 13");
        assert_eq!(words(Change::Error("EIO".into())), "-e inject=fsync:error=EIO -p 12 -p 13");
        let delay = Change::Delay(Duration::from_millis(50));
        assert_eq!(words(delay), "-e inject=fsync:delay_enter=50000 -p 12 -p 13");
    }

    #[test]
    fn only_the_time_of_day_is_asked_for() {
        let call = "clock_gettime(CLOCK_REALTIME, {tv_sec=1, tv_nsec=2}) = 0";
        let said = format!("clock_gettime(CLOCK_MONOTONIC, {{tv_sec=1, tv_nsec=2}}) = 0\n[pid  4711] {call}\n");
        assert_eq!(time_call(&said).as_deref(), Some(call));
        assert_eq!(time_call("clock_gettime(CLOCK_PROCESS_CPUTIME_ID, {tv_sec=0, tv_nsec=2}) = 0\n"), None);
    }
}
