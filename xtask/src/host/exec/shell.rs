//! Start of every process of the engine.
//!
//! A failed command's error carries the command line, the status and the end of both streams; every command has a deadline, past which its
//! whole process group is killed and reaped.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::descriptors::{hand_on_streams_only, keep_no_files_above};
use super::held_clock::{HeldClock, Stopwatch};
use super::program_output::{KeptPart, ProgramOutput};
use super::relay::Relay;
use super::sealed::sealed_file;
use crate::host::invoker::{Invoker, SUDO_VARIABLES};
use crate::host::patience::{self, Deadline};
use crate::host::seccomp::Filter;
use crate::program::named;

/// Default deadline of a command, long enough for any that talks only to the kernel.
const DEADLINE_DEFAULT: Deadline = Deadline::from_secs(30);

/// Interval at which a wait checks whether the clock of its deadline is held.
const CLOCK_POLL: Duration = Duration::from_millis(250);

/// Command to run to its end.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    removed_environment: Vec<OsString>,
    inherits_environment: bool,
    dir: Option<PathBuf>,
    stdin: Stdin,
    deadline: Option<Duration>,
    clock: Option<Arc<HeldClock>>,
    loss: Option<LossSign>,
    user: Option<(u32, u32)>,
    group: Option<PathBuf>,
    filter: Option<Filter>,
    copy: Option<Arc<File>>,
    output_max: Option<u64>,
}

/// Predicate that is called repeatedly while a command runs; true once the command waits for something that will never happen.
#[derive(Clone)]
struct LossSign(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for LossSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LossSign")
    }
}

/// Reason for which the wait for a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Ended,
    Deadline,
    Lost,
}

/// Source of a command's stdin.
#[derive(Debug, Clone)]
enum Stdin {
    Nothing,
    Bytes(Vec<u8>),
    File(Arc<File>),
}

/// Result of a command that has ended or was killed.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit status, or 128 + the signal's number.
    pub status: i32,
    /// Bytes of stdout; empty where it went to a file.
    pub stdout: Vec<u8>,
    /// Bytes of stderr; empty where it went to a file.
    pub stderr: Vec<u8>,
    pub duration: Duration,
    /// True if the deadline passed and the command was killed.
    pub timed_out: bool,
}

impl Output {
    /// Returns stdout as text, trimmed; bytes that are no UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Error of a command that could not be started, failed, or passed its deadline.
#[derive(Debug, thiserror::Error)]
pub struct CommandError {
    /// Command line as a person would type it.
    pub command_line: String,
    pub problem: Problem,
    /// The end of the command's stdout.
    pub stdout: String,
    /// The end of the command's stderr.
    pub stderr: String,
}

/// Reason for which a command failed.
#[derive(Debug)]
pub enum Problem {
    /// No program of this name or path on this host.
    Missing(String),
    /// Failed start.
    Start(io::Error),
    /// End with this exit status.
    Status(i32),
    /// Deadline that passed before the command ended.
    Deadline(Duration),
    /// More output than this number of bytes.
    Output(u64),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its name alone: in a long command line it would be the first word to be lost.
        if let Problem::Missing(program) = &self.problem {
            let help = "is not installed: `cargo xtask doctor` says what is missing, `cargo xtask setup` installs it";
            return write!(f, "`{program}` {}", named(help));
        }
        write!(f, "`{}` ", self.command_line)?;
        match &self.problem {
            Problem::Missing(_) => {}
            Problem::Start(error) => write!(f, "could not be started: {error}")?,
            Problem::Status(status) => write!(f, "ended with status {status}")?,
            Problem::Deadline(deadline) => write!(f, "did not end within {}", humantime::format_duration(*deadline))?,
            Problem::Output(most) => write!(f, "wrote more than {} MiB", most >> 20)?,
        }
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n  {name}: {}", text.replace('\n', "\n          "))?;
            }
        }
        Ok(())
    }
}

impl Command {
    /// Returns a command found by `PATH`, with nothing on stdin and the default deadline of 30 s, [scaled](Deadline::scaled) to this
    /// machine.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            environment: Vec::new(),
            removed_environment: Vec::new(),
            inherits_environment: true,
            dir: None,
            stdin: Stdin::Nothing,
            deadline: None,
            clock: None,
            loss: None,
            user: None,
            group: None,
            filter: None,
            copy: None,
            output_max: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        variables.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Gives the command none of this process's environment, only the variables that are set here.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.inherits_environment = false;
        self
    }

    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.removed_environment.push(name.as_ref().to_owned());
        self
    }

    /// Sets the folder that the command runs in.
    #[must_use]
    pub fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Sets the bytes that the command reads as stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Stdin::Bytes(bytes.into());
        self
    }

    /// Sets the file, or the end of a pipe, that the command reads as stdin. It stays open in this process as long as this value lives.
    #[must_use]
    pub fn stdin_file(mut self, file: File) -> Self {
        self.stdin = Stdin::File(Arc::new(file));
        self
    }

    /// Sets the deadline of the command without scaling: the caller scales one that was written for a quick machine.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Returns the time that the command may take. The default is scaled here, and not in [`Command::new`]: measuring the factor starts a
    /// command.
    fn time(&self) -> Duration {
        self.deadline.unwrap_or_else(|| DEADLINE_DEFAULT.scaled())
    }

    /// Sets the clock that the deadline goes by.
    #[must_use]
    pub fn clock(mut self, clock: Arc<HeldClock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Kills the command as soon as `is_lost` returns true because the command will never end; its status is that of the kill.
    #[must_use]
    pub fn kill_when(mut self, is_lost: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.loss = Some(LossSign(Arc::new(is_lost)));
        self
    }

    /// Runs the command with the rights of this user and group and no others.
    #[must_use]
    pub fn user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Runs the command with the rights, name and home of the user who called sudo, where the engine is root for such a user.
    #[must_use]
    pub fn as_user(self, invoker: &Invoker) -> Self {
        if !invoker.is_other() {
            return self;
        }
        let command = self.user(invoker.uid, invoker.gid).envs(invoker.environment());
        SUDO_VARIABLES.into_iter().fold(command, Self::env_remove)
    }

    /// Runs the command in a cgroup, given by the path of the cgroup's file `cgroup.procs`.
    #[must_use]
    pub fn group(mut self, cgroup_procs: impl AsRef<Path>) -> Self {
        self.group = Some(cgroup_procs.as_ref().to_owned());
        self
    }

    /// Installs a filter on the command's system calls, if there is one.
    #[must_use]
    pub fn filter(mut self, filter: Option<Filter>) -> Self {
        self.filter = filter;
        self
    }

    /// Starts the command from a copy of its program in memory, if there is one; the program's own file then only gives it its name.
    #[must_use]
    pub fn copy(mut self, copy: Option<Arc<File>>) -> Self {
        self.copy = copy;
        self
    }

    /// Limits the bytes of each stream of the command that [`Command::output`] and [`Command::run`] take: more of them is an error. For
    /// programs of a machine, which write what they like.
    #[must_use]
    pub fn output_max(mut self, bytes: u64) -> Self {
        self.output_max = Some(bytes);
        self
    }

    /// Runs the command to its end; a status other than 0 is an error.
    pub fn run(&self) -> Result<Output, CommandError> {
        let output = self.output()?;
        match self.problem(&output) {
            None => Ok(output),
            Some(problem) => Err(self.error(problem, &output)),
        }
    }

    /// Runs the command to its end; any status is a success, passing the deadline is an error.
    pub fn output(&self) -> Result<Output, CommandError> {
        let output = match self.output_max {
            None => self.start_and_wait(|expression| expression.stdout_capture().stderr_capture())?,
            Some(most) => self.bounded_output(most)?,
        };
        if output.timed_out {
            return Err(self.error(Problem::Deadline(self.time()), &output));
        }
        Ok(output)
    }

    fn bounded_output(&self, most: u64) -> Result<Output, CommandError> {
        let fails = |problem: Problem| CommandError {
            command_line: self.to_string(),
            problem,
            stdout: String::new(),
            stderr: String::new(),
        };
        let broken = |error: anyhow::Error| fails(Problem::Start(io::Error::other(error)));
        let kept = KeptPart::First(most);
        let (streams, stdout, stderr) = ProgramOutput::start(kept, &std::env::temp_dir(), (0, 0)).map_err(broken)?;
        let mut output = self.output_to_files(stdout, stderr)?;
        let [stdout, stderr] = streams.end().map_err(broken)?;
        if stdout.lost_bytes() + stderr.lost_bytes() > 0 {
            return Err(fails(Problem::Output(most)));
        }
        output.stdout = stdout.bytes().map_err(|error| fails(Problem::Start(error)))?;
        output.stderr = stderr.bytes().map_err(|error| fails(Problem::Start(error)))?;
        Ok(output)
    }

    /// Runs the command with both streams in files; any end is a success, also at the deadline.
    pub fn output_to_files(&self, stdout: File, stderr: File) -> Result<Output, CommandError> {
        self.start_and_wait(|expression| expression.stdout_file(stdout).stderr_file(stderr))
    }

    fn problem(&self, output: &Output) -> Option<Problem> {
        if output.timed_out {
            Some(Problem::Deadline(self.time()))
        } else {
            (output.status != 0).then_some(Problem::Status(output.status))
        }
    }

    fn error(&self, problem: Problem, output: &Output) -> CommandError {
        CommandError {
            command_line: self.to_string(),
            problem,
            stdout: tail(&output.stdout),
            stderr: tail(&output.stderr),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
    fn expression(&self) -> io::Result<duct::Expression> {
        let copy = self.copy.clone().map(|copy| (copy, self.program.clone()));
        // It is looked up after the fork, before the files that the program is not to have are closed.
        let file = copy.as_ref().map(|(copy, _)| OsString::from(format!("/proc/self/fd/{}", copy.as_raw_fd())));
        let mut expression = duct::cmd(file.unwrap_or_else(|| self.file()), &self.args).unchecked();
        for (name, value) in &self.environment {
            expression = expression.env(name, value);
        }
        if !self.inherits_environment {
            // What stands further out is applied first: the variables above survive this.
            expression = expression.full_env(std::iter::empty::<(OsString, OsString)>());
        }
        for name in &self.removed_environment {
            expression = expression.env_remove(name);
        }
        if let Some(dir) = &self.dir {
            expression = expression.dir(dir);
        }
        // By a file, not a pipe: nobody waits for a reader that is frozen.
        expression = match &self.stdin {
            Stdin::Bytes(bytes) => expression.stdin_file(sealed_file(bytes)?),
            Stdin::File(file) => expression.stdin_file(file.try_clone()?),
            Stdin::Nothing => expression.stdin_null(),
        };
        let (user, group, filter) = (self.user, self.group.clone(), self.filter.clone());
        let caller = Pid::this();
        Ok(expression.before_spawn(move |command| {
            command.process_group(0);
            if let Some((_, name)) = &copy {
                command.arg0(name);
            }
            let filter = filter.clone();
            let join = group.as_ref().map(|path| File::options().write(true).open(path)).transpose()?;
            // SAFETY: between fork and exec only system calls that are safe there.
            unsafe {
                command.pre_exec(move || {
                    die_with(caller)?;
                    keep_no_files_above(2);
                    join.as_ref().map_or(Ok(0), |join| nix::unistd::write(join, b"0"))?;
                    filter.as_ref().map_or(Ok(()), Filter::install)
                });
            }
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            Ok(())
        }))
    }

    /// Returns the file to start: a name is looked for as [`which`] does, unless this command has a `PATH` of its own.
    fn file(&self) -> OsString {
        let has_own_path = !self.inherits_environment || self.environment.iter().any(|(name, _)| name == "PATH");
        let found = self.program.to_str().filter(|name| !has_own_path && !name.contains('/')).and_then(which);
        found.map_or_else(|| self.program.clone(), PathBuf::into_os_string)
    }

    fn start_and_wait(
        &self,
        streams: impl FnOnce(duct::Expression) -> duct::Expression,
    ) -> Result<Output, CommandError> {
        let started = Instant::now();
        let handle =
            self.expression().and_then(|expression| streams(expression).start()).map_err(|error| CommandError {
                command_line: self.to_string(),
                problem: self.unstarted(error),
                stdout: String::new(),
                stderr: String::new(),
            })?;
        let waited = self.wait(&handle);
        let timed_out = waited == Wait::Deadline;
        if waited != Wait::Ended {
            for pid in handle.pids() {
                let _ = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        }
        let ended = handle.wait().map(|output| (output.status, output.stdout.clone(), output.stderr.clone()));
        let (status, stdout, stderr) = ended.map_err(|error| CommandError {
            command_line: self.to_string(),
            problem: Problem::Start(error),
            stdout: String::new(),
            stderr: String::new(),
        })?;
        Ok(Output { status: shell_status(status), stdout, stderr, duration: started.elapsed(), timed_out })
    }

    /// Tells a missing program from other things that may be missing at the start, such as the folder to start in.
    fn unstarted(&self, error: io::Error) -> Problem {
        let name = self.program.to_str().filter(|name| !name.contains('/'));
        match name.filter(|name| error.kind() == io::ErrorKind::NotFound && which(name).is_none()) {
            Some(name) => Problem::Missing(name.to_owned()),
            None => Problem::Start(error),
        }
    }

    fn wait(&self, handle: &duct::Handle) -> Wait {
        let (begun, watch) = (Instant::now(), self.clock.as_ref().map(HeldClock::watch));
        let poll = if watch.is_some() || self.loss.is_some() { CLOCK_POLL } else { Duration::MAX };
        loop {
            let elapsed = watch.as_ref().map_or_else(|| begun.elapsed(), Stopwatch::elapsed);
            let left = self.time().saturating_sub(elapsed);
            if left.is_zero() || self.clock.as_ref().is_some_and(|clock| clock.is_over()) {
                return Wait::Deadline;
            }
            match handle.wait_timeout(left.min(poll)) {
                Ok(Some(_)) => return Wait::Ended,
                Ok(None) if self.loss.as_ref().is_some_and(|loss| (loss.0)()) => return Wait::Lost,
                Ok(None) => {}
                Err(_) => return Wait::Deadline,
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(&self.program.to_string_lossy()))?;
        for arg in &self.args {
            write!(f, " {}", quote(&arg.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// Quotes a word so that a POSIX shell reads it back as it is.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns the status as a shell gives it: 128 + the signal's number for a program that was killed.
#[must_use]
pub fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn tail(bytes: &[u8]) -> String {
    const TAIL_BYTES: usize = 2000;
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    if text.len() <= TAIL_BYTES {
        return text.to_owned();
    }
    let start = text.ceil_char_boundary(text.len() - TAIL_BYTES);
    format!("[...] {}", &text[start..])
}

/// Folders in which programs are looked for after those of `PATH`: an ordinary user's `PATH` lacks those of administration.
const SYSTEM_FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// Returns the folders in which programs are looked for, the first match counting: those of `PATH`, then the system's.
fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let of_path: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    of_path.into_iter().chain(SYSTEM_FOLDERS.map(PathBuf::from))
}

/// Finds a program by its name, in the folders of `PATH`, then in the system's.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    folders().map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

/// Finds every program of this name, in the order in which [`which`] looks.
#[must_use]
pub fn which_all(program: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for candidate in folders().map(|folder| folder.join(program)).filter(|candidate| candidate.is_file()) {
        if !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    found
}

/// Returns the path of a program, for callers that start it with another `PATH`; its name where the program is not found.
#[must_use]
pub fn path_of(program: &str) -> String {
    which(program).map_or_else(|| program.to_owned(), |path| path.display().to_string())
}

/// Returns the folders of [`which`] as a value of `PATH`.
#[must_use]
pub fn search_path() -> String {
    let mut folders: Vec<String> = folders().map(|folder| folder.display().to_string()).collect();
    let all = folders.clone();
    let mut index = 0;
    folders.retain(|folder| {
        index += 1;
        !folder.contains(':') && !all[..index - 1].contains(folder)
    });
    folders.join(":")
}

/// Replaces this process by a command; returns only when that failed.
#[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
pub fn replace_process(program: &OsStr, args: &[OsString]) -> io::Error {
    let mut command = std::process::Command::new(program);
    hand_on_streams_only(&mut command);
    command.args(args).exec()
}

/// Runs a command on the caller's terminal, without a deadline, and returns its exit status.
pub fn run_interactive(program: &str, args: &[String]) -> anyhow::Result<i32> {
    run_interactive_in(Path::new("/"), program, args)
}

/// Like [`run_interactive`], with a filter on its system calls, if there is one. Of this process's streams, the command inherits only
/// terminals and pipes; bytes of a file go through a pipe.
pub fn run_interactive_filtered(program: &str, args: &[String], filter: Option<Filter>) -> anyhow::Result<i32> {
    run_at_terminal(Path::new("/"), program, args, |command| {
        install_before_start(command, filter);
        Relay::begin(command)
    })
}

/// Like [`run_interactive`], in a folder.
pub fn run_interactive_in(dir: &Path, program: &str, args: &[String]) -> anyhow::Result<i32> {
    run_at_terminal(dir, program, args, |_| Ok(Relay::default()))
}

#[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
fn run_at_terminal(
    dir: &Path,
    program: &str,
    args: &[String],
    prepare: impl FnOnce(&mut std::process::Command) -> io::Result<Relay>,
) -> anyhow::Result<i32> {
    let mut command = std::process::Command::new(program);
    hand_on_streams_only(&mut command);
    let relay = prepare(&mut command).context("making pipes for a program's streams")?;
    let status = command.args(args).current_dir(dir).status();
    drop(command); // it holds the pipes' other ends
    let status = status.map(shell_status).with_context(|| format!("starting {program} {}", args.join(" ")))?;
    relay.end()?;
    Ok(status)
}

/// Runs a command that may ask questions on the caller's terminal. Its standard input is empty, its standard output is dropped, and its
/// errors are shown. Returns its exit status.
#[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
pub fn status_at_terminal(program: &OsStr, args: &[OsString]) -> anyhow::Result<i32> {
    let mut command = std::process::Command::new(program);
    hand_on_streams_only(&mut command);
    let status = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    status.map(shell_status).with_context(|| format!("starting {}", program.display()))
}

/// Child process that runs concurrently with this process.
#[derive(Debug)]
pub struct BoundProcess {
    child: std::process::Child,
}

impl BoundProcess {
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Drops the handle: the process runs on, and is not waited for.
    pub fn let_go(self) {}
}

/// Starts this program again as a helper process, with one end of a socket at the file descriptor `socket_fd`.
#[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
pub fn spawn_engine(args: &[String], socket: OwnedFd, socket_fd: i32) -> anyhow::Result<BoundProcess> {
    let mut command = std::process::Command::new("/proc/self/exe");
    // What it says, people read as this program's words.
    command.arg0(std::env::args_os().next().unwrap_or_else(|| "/proc/self/exe".into()));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command.envs([patience::variable()]);
    command.fd_mappings(vec![FdMapping { parent_fd: socket, child_fd: socket_fd }])?;
    let last = u32::try_from(socket_fd).context("the file descriptor of the socket is negative")?;
    // SAFETY: one system call, after the socket has been put in its place.
    unsafe {
        command.pre_exec(move || {
            keep_no_files_above(last);
            Ok(())
        });
    }
    let child =
        command.spawn().with_context(|| format!("starting a helper process of the engine ({})", args.join(" ")))?;
    Ok(BoundProcess { child })
}

/// Starts a process that is killed when the calling thread ends, in a cgroup or in the caller's, with both streams in a log, and with a
/// filter on its system calls, if there is one. Returns its PID; the caller reaps it.
#[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
pub fn spawn_bound(
    argv: &[String],
    environment: &[(String, String)],
    log: File,
    cgroup_procs: Option<&Path>,
    filter: Option<Filter>,
) -> anyhow::Result<i32> {
    let (program, args) = argv.split_first().context("the command line of the process is empty")?;
    let mut command = std::process::Command::new(program);
    command.args(args).env_clear().envs(environment.iter().map(|(name, value)| (name, value))).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    bind_to_parent(&mut command, cgroup_procs)?;
    install_before_start(&mut command, filter);
    let child = command.spawn()?;
    Ok(child.id().cast_signed())
}

/// Process to start with a user's rights.
#[derive(Debug)]
pub struct UserProcess<'a> {
    /// Absolute path of the program, and its arguments.
    pub argv: &'a [String],
    /// Variables to add to this process's environment.
    pub environment: &'a [(String, String)],
    /// Folder that the process runs in.
    pub dir: &'a Path,
    /// Log that takes both streams of the process.
    pub log: File,
    /// Path of the `cgroup.procs` of the cgroup that the process joins.
    pub cgroup_procs: &'a Path,
    /// User whose rights the process has.
    pub invoker: &'a Invoker,
}

/// Starts a process as a user, in a session and a cgroup of its own. It dies with the calling thread.
///
/// It has no terminal, so nothing that the user has allowed for this terminal (a ticket of sudo) is allowed to the process, and it cannot
/// write into the terminal's input; and no program that it starts has more rights than the user, whatever the program's mode
/// (`no_new_privs`).
#[expect(clippy::disallowed_methods, reason = "this file starts programs for all others")]
pub fn spawn_as_user(process: &UserProcess<'_>) -> anyhow::Result<BoundProcess> {
    let (program, args) = process.argv.split_first().context("the command line of the process is empty")?;
    let invoker = process.invoker;
    let mut command = std::process::Command::new(program);
    command.args(args).current_dir(process.dir).envs(process.environment.iter().map(|(name, value)| (name, value)));
    if !invoker.is_root() {
        // Setting the user drops root's supplementary groups too.
        command.uid(invoker.uid).gid(invoker.gid).envs(invoker.environment());
        for name in SUDO_VARIABLES {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(process.log.try_clone()?).stderr(process.log.try_clone()?);
    // SAFETY: between fork and exec only system calls that are safe there.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            nix::sys::prctl::set_no_new_privs()?;
            Ok(())
        });
    }
    bind_to_parent(&mut command, Some(process.cgroup_procs))?;
    let child = command.spawn()?;
    Ok(BoundProcess { child })
}

/// Has the child of a command killed when the calling thread ends, and put into a cgroup before it runs its program.
fn bind_to_parent(command: &mut std::process::Command, cgroup_procs: Option<&Path>) -> anyhow::Result<()> {
    let open =
        |path: &Path| File::options().write(true).open(path).with_context(|| format!("opening {}", path.display()));
    let join = cgroup_procs.map(open).transpose()?;
    let parent = Pid::this();
    // SAFETY: between fork and exec only system calls that are safe there: prctl, getppid and write.
    unsafe {
        command.pre_exec(move || {
            die_with(parent)?;
            join.as_ref().map_or(Ok(0), |join| nix::unistd::write(join, b"0"))?;
            keep_no_files_above(2);
            Ok(())
        });
    }
    Ok(())
}

/// Installs a filter on the child's system calls, as the last step before its program starts.
fn install_before_start(command: &mut std::process::Command, filter: Option<Filter>) {
    if let Some(filter) = filter {
        // SAFETY: between fork and exec one system call.
        unsafe {
            command.pre_exec(move || filter.install());
        }
    }
}

/// Has the kernel kill the calling process when the thread that started it ends. Safe between fork and exec.
fn die_with(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if nix::unistd::getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::BrokenPipe)) // it died before the line above
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_the_command_the_status_and_both_streams() {
        let error = Command::new("sh").args(["-c", "echo out; echo 'a b' >&2; exit 3"]).run().unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh -c 'echo out;"), "{text}");
        for part in ["status 3", "stdout: out", "stderr: a b"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn the_answer_of_path_comes_before_the_systems_folders() {
        let folders: Vec<PathBuf> = folders().collect();
        let (of_path, system) = folders.split_at(folders.len() - SYSTEM_FOLDERS.len());
        assert_eq!(system, SYSTEM_FOLDERS.map(PathBuf::from));
        let first = of_path.iter().chain(system).find(|folder| folder.join("sh").is_file()).unwrap();
        assert_eq!(which("sh"), Some(first.join("sh")));
        assert_eq!(
            (which("no-such-program-here"), path_of("no-such-program-here")),
            (None, "no-such-program-here".into())
        );
        let path = search_path();
        let parts: Vec<&str> = path.split(':').collect();
        assert!(SYSTEM_FOLDERS.iter().all(|folder| parts.iter().filter(|part| *part == folder).count() == 1), "{path}");
    }

    #[test]
    fn programs_of_administration_are_found_by_their_names() {
        let sbin = SYSTEM_FOLDERS.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        let name = sbin.map(|entry| entry.file_name().to_string_lossy().into_owned()).next().unwrap();
        let command = Command::new(&name);
        assert_eq!(command.file(), which(&name).unwrap().into_os_string());
        assert_eq!(Command::new(&name).env("PATH", "/nonexistent").file(), OsString::from(&name));
        assert_eq!(Command::new("./here").file(), OsString::from("./here"));
    }

    #[test]
    fn a_missing_program_names_the_help() {
        let error = Command::new("no-such-program-here").run().unwrap_err();
        assert!(error.to_string().contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn programs_are_handed_their_streams_and_no_other_file() {
        let root = File::open("/").unwrap();
        let open = nix::fcntl::fcntl(&root, nix::fcntl::FcntlArg::F_DUPFD(50)).unwrap(); // nothing closes it at a start
        let script = format!("[ ! -e /proc/self/fd/{open} ]");
        Command::new("sh").args(["-c", &script]).run().unwrap();
        assert_eq!(run_interactive("sh", &["-c".to_owned(), script.clone()]).unwrap(), 0);
        assert_eq!(status_at_terminal("sh".as_ref(), &["-c".into(), script.into()]).unwrap(), 0);
        nix::unistd::close(open).unwrap();
    }

    #[test]
    fn more_output_than_the_bound_is_an_error_and_is_not_held() {
        let zeros = |count: &str| Command::new("head").args(["-c", count, "/dev/zero"]).output_max(1 << 20);
        assert_eq!(zeros("1048576").run().unwrap().stdout.len(), 1 << 20);
        let error = zeros("1048577").run().unwrap_err();
        assert_eq!((error.stdout.len(), error.to_string().split_once("` ").unwrap().1), (0, "wrote more than 1 MiB"));
    }

    #[test]
    fn past_the_deadline_the_whole_group_is_killed() {
        let started = Instant::now();
        let error = Command::new("sh").args(["-c", "sleep 30 & sleep 30"]).deadline(Duration::from_millis(100)).run();
        assert!(matches!(error.unwrap_err().problem, Problem::Deadline(_)));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_deadline_does_not_pass_while_its_clock_is_held() {
        let clock = Arc::new(HeldClock::default());
        clock.hold();
        let command = Command::new("sleep").arg("0.3").deadline(Duration::from_millis(50)).clock(Arc::clone(&clock));
        command.run().unwrap();
        clock.let_go();
        assert!(matches!(command.run().unwrap_err().problem, Problem::Deadline(_)));
    }

    #[test]
    fn a_command_that_will_never_end_is_killed_as_soon_as_that_is_known() {
        let asked = std::sync::atomic::AtomicU32::new(0);
        let is_lost = move || asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
        let command = Command::new("sleep").arg("600").deadline(Duration::from_secs(300)).kill_when(is_lost);
        let output = command.output().unwrap();
        assert_eq!((output.status, output.timed_out), (128 + Signal::SIGKILL as i32, false));
        let other = Command::new("sh").args(["-c", "sleep 0.4; exit 7"]).kill_when(|| false).output().unwrap();
        assert_eq!((other.status, other.timed_out), (7, false));
    }

    #[test]
    fn a_cleared_environment_has_only_what_is_set() {
        let env = which("env").unwrap(); // by its path: without an environment there is no PATH to find it in
        let output = Command::new(env).env("A", "1").clear_env().envs([("B", "2")]).run().unwrap();
        assert_eq!(output.text(), "A=1\nB=2");
    }

    #[test]
    fn words_are_quoted_as_a_shell_reads_them() {
        for word in ["", "plain", "a b", "it's", "$HOME", "*"] {
            let echoed = Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(word))).run().unwrap();
            assert_eq!(String::from_utf8(echoed.stdout).unwrap(), word);
        }
    }
}
