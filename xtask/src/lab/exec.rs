//! Running programs in a container.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};

use super::confinement::entry_filter;
use super::container::{Container, Outage};
use super::ending::MachineEnd;
use super::log_folder;
use super::machine::Machine;
use super::ssh::Passwd;
use crate::host::container::lxc::{self, Attach};
use crate::host::disk::container_fs;
use crate::host::exec::process::{Running, kill_marked};
use crate::host::exec::program_output::{KeptPart, KeptStream, OUTPUT_BYTES_MAX, ProgramOutput};
use crate::host::exec::shell::{Command, CommandError, Output};
use crate::host::patience::Deadline;
use crate::host::seccomp::Occasion;

/// Deadline for killed processes of an exec to disappear.
const KILL_DEADLINE: Deadline = Deadline::from_secs(10);

/// Deadline for lxc-attach to start its program after the container was restarted.
const ATTACH_DEADLINE: Deadline = Deadline::from_secs(3);

/// Lowest exit status that is taken for the death of a program by a signal.
const KILLED: i32 = 128;

/// Environment variable that marks the processes of one exec, so that they can be found and killed.
pub(super) const MARK_VARIABLE: &str = "E2E_EXEC";

/// Maximum bytes at the end of each output stream that a message shows.
const END_BYTES: u64 = 2000;

const PATH_INSIDE: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Request to run a program in a container.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    /// Bytes that the program gets as its stdin.
    pub stdin: Vec<u8>,
    /// Variables added to the container's environment.
    pub environment: Vec<(String, String)>,
    /// User of the container by name; root if `None`.
    pub user: Option<String>,
    /// Time after which the program and its children are killed.
    pub deadline: Duration,
    /// Folder for output streams that are too long for memory.
    pub streams_dir: PathBuf,
    /// Part of each output stream that is kept; the rest is read and dropped.
    pub kept: KeptPart,
}

/// Result of a program that was run in a container.
#[derive(Debug)]
pub struct ExecOutput {
    /// Exit status, or 128 + the number of the signal that killed the program.
    pub status: i32,
    /// Time from the start of lxc-attach to the end of the program.
    pub duration: Duration,
    pub timed_out: bool,
    /// True if the deadline passed after the program was seen running in the container.
    pub was_running: bool,
    /// Deadline of the request, for messages.
    pub deadline: Duration,
    /// Standard output, as far as it was kept.
    pub stdout: KeptStream,
    /// Standard error, as far as it was kept.
    pub stderr: KeptStream,
}

/// Failure to run a program in a container. An exit status other than 0 is not a failure.
#[derive(Debug)]
pub enum ExecError {
    /// A fault keeps the container down or frozen.
    Outage(Outage),
    /// The container has ended by itself.
    Ended(MachineEnd),
    /// lxc-attach, the host's program that runs others in a container, is missing or could not be started or read.
    Command(CommandError),
    /// Another failure of the host, or a request that cannot be met, such as a user that does not exist.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for ExecError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<ExecError> for anyhow::Error {
    fn from(error: ExecError) -> Self {
        match error {
            ExecError::Outage(outage) => outage.into(),
            ExecError::Ended(end) => end.into(),
            ExecError::Command(error) => error.into(),
            ExecError::Other(error) => error,
        }
    }
}

impl ExecOutput {
    /// Describes a failure for messages: the passed deadline or the status, and the end of both output streams; `None` for status 0.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let how = if self.timed_out {
            format!("did not end within {}", humantime::format_duration(self.deadline))
        } else if self.status == 0 {
            return None;
        } else {
            format!("ended with status {}", self.status)
        };
        let tail = self.tail();
        Some(if tail.is_empty() { how } else { format!("{how}: {tail}") })
    }

    /// Returns the end of both output streams as text, for messages.
    #[must_use]
    pub fn tail(&self) -> String {
        let lost_bytes = self.lost_bytes();
        let lost = (lost_bytes > 0).then(|| format!("[{lost_bytes} bytes of its output are not kept]"));
        let ends = [self.stdout.end(END_BYTES), self.stderr.end(END_BYTES)];
        ends.into_iter().chain(lost).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
    }

    /// Returns the number of bytes of both output streams that were dropped.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.stdout.lost_bytes() + self.stderr.lost_bytes()
    }
}

impl Container {
    /// Runs a program until it ends or its deadline passes: then the program and all its children are killed.
    ///
    /// # Errors
    /// When the container does not run ([`Outage`](super::Outage) if a fault is the reason) or was stopped from outside the run, the user
    /// does not exist, or the host fails. A status other than 0 is no error.
    pub fn exec(&self, request: &ExecRequest) -> Result<ExecOutput, ExecError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.fail_if_dead().map_err(ExecError::Ended)?;
        let _entered = self.enter().map_err(ExecError::Outage)?;
        let user = request.user.as_deref().map(|name| self.user(name)).transpose()?;
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let who = user.as_ref().zip(request.user.as_deref());
        let mut environment = environment_of(self.machine(), who, &request.environment);
        environment.push((MARK_VARIABLE.to_owned(), mark.clone()));
        let owner = self.machine().host_ids(user.as_ref().map_or(0, |u| u.uid), user.as_ref().map_or(0, |u| u.gid));
        let attach = Attach {
            name: &self.machine().host_name,
            argv: &request.argv,
            environment: &environment,
            user: user.as_ref().map(|user| (user.uid, user.gid)),
            filter: entry_filter(self.machine(), Occasion::Lxc),
        };
        // lxc-attach takes its program with it when it is killed: whether that ran is looked at before.
        let was_seen = Arc::new(AtomicBool::new(false));
        let command = attach.command().stdin(request.stdin.clone()).deadline(request.deadline);
        let command = command.clock(Arc::clone(self.clock())).kill_when(self.lost_at_a_start(&mark, &was_seen));
        let (output, stdout, stderr) = ProgramOutput::start(request.kept, &request.streams_dir, owner)?;
        let ended = command.output_to_files(stdout, stderr).map_err(ExecError::Command)?;
        // Until it is killed one that passed its deadline may write.
        let (kept, output) = if ended.timed_out { (None, Some(output)) } else { (Some(output.end()?), None) };
        let was_running = ended.timed_out && was_seen.load(Ordering::Relaxed);
        if ended.timed_out {
            let standstill = self.standstill();
            let killed = kill_marked(&self.cgroup(), &mark_of(&mark), KILL_DEADLINE.scaled(), &|| {
                self.outage().is_some() || standstill.is_some() // what is frozen dies when it thaws
            });
            if let Some(standstill) = standstill {
                return Err(ExecError::Other(standstill.into()));
            }
            killed.with_context(|| format!("killing `{}` in {}", request.argv.join(" "), self.machine().name))?;
        } else if ended.status != 0 {
            log_folder::cut_attach_log(&self.machine().log_dir());
            if self.is_claimed() {
                self.notice_end(); // the fault's outage begins with it
            }
            self.fail_if_dead().map_err(ExecError::Ended)?;
        }
        // What was killed has ended; whether another program did what it was to do nobody knows.
        if ended.status < KILLED
            && let Some(outage) = self.outage().filter(|outage| !outage.frozen)
        {
            return Err(ExecError::Outage(outage));
        }
        let Output { status, duration, timed_out, .. } = ended;
        let [stdout, stderr] = match (kept, output) {
            (Some(kept), _) => kept,
            (None, output) => output.map_or_else(|| Ok(Default::default()), ProgramOutput::end)?,
        };
        Ok(ExecOutput { status, duration, timed_out, was_running, deadline: request.deadline, stdout, stderr })
    }

    /// Returns a check that ends the lxc-attach of an exec: true if the container was restarted and has no process of the exec. The check
    /// also sets `was_seen` once the program runs. It is needed because an lxc-start whose container reboots never answers an lxc-attach.
    fn lost_at_a_start(&self, mark: &str, was_seen: &Arc<AtomicBool>) -> impl Fn() -> bool + Send + Sync + use<> {
        let (container, starts) = (self.clone(), self.starts());
        let (mark, lost_since, was_seen) = (mark_of(mark), Mutex::new(None), Arc::clone(was_seen));
        move || {
            let is_seen = || !Running::marked(&container.cgroup(), &mark).is_empty();
            if !was_seen.load(Ordering::Relaxed) {
                was_seen.store(is_seen(), Ordering::Relaxed);
            }
            let mut since = lost_since.lock().unwrap_or_else(PoisonError::into_inner);
            if container.starts() == starts || is_seen() {
                *since = None;
                return false;
            }
            since.get_or_insert_with(Instant::now).elapsed() > ATTACH_DEADLINE.scaled()
        }
    }

    /// Tells whether the container can run a program to its end. Works during an outage too.
    pub fn runs_a_program(&self, deadline: Duration) -> anyhow::Result<bool> {
        let name = &self.machine().host_name;
        let attach = Attach {
            name,
            argv: &["/bin/true".to_owned()],
            environment: &[],
            user: None,
            filter: entry_filter(self.machine(), Occasion::Lxc),
        };
        // Into files: what is frozen would hold a pipe open.
        let nowhere = || File::options().write(true).open("/dev/null").context("opening /dev/null");
        let output = attach.command().deadline(deadline).output_to_files(nowhere()?, nowhere()?)?;
        Ok(!output.timed_out && output.status == 0)
    }

    /// Returns a command that runs a program as root in the container's user, PID and mount namespaces, and in the container's cgroup of
    /// `controller` only. Unlike an exec, it works without lxc-start.
    pub fn counted_command(&self, controller: &str, argv: &[&str]) -> anyhow::Result<Command> {
        let init = self.init_pid()?;
        let mut command = Command::new("nsenter").arg("--target").arg(init.to_string()).args(["--mount", "--pid"]);
        if !self.machine().template.privileged {
            command = command.args(["--user", "--setuid", "0", "--setgid", "0"]);
        }
        let entrance = self.group()?.entrance(controller, init)?;
        Ok(command
            .arg("--")
            .args(argv)
            .output_max(lxc::OUTPUT_MAX)
            .clear_env()
            .env("PATH", PATH_INSIDE)
            .dir("/")
            .group(entrance)
            .filter(entry_filter(self.machine(), Occasion::Entry)))
    }

    /// Writes a file in the container atomically: a reader finds the old file or the new one, never a part.
    pub fn put(
        &self,
        path: &str,
        content: Vec<u8>,
        mode: u32,
        owner: Option<&str>,
        request: ExecRequest,
    ) -> Result<(), ExecError> {
        const SCRIPT: &str = r#"set -e
            umask 022
            mkdir -p "${1%/*}/"
            umask 077
            cat > "$1.e2e-new"
            chmod "$2" "$1.e2e-new"
            if [ -n "$3" ]; then chown "$3" "$1.e2e-new"; fi
            mv -f "$1.e2e-new" "$1""#;
        if !path.starts_with('/') {
            return Err(anyhow!("a file cannot be written at {path:?}: the path is not absolute").into());
        }
        let mode = format!("{mode:o}");
        let argv = ["/bin/sh", "-c", SCRIPT, "put", path, &mode, owner.unwrap_or_default()].map(String::from).to_vec();
        let output = self.exec(&ExecRequest { argv, stdin: content, ..request })?;
        if let Some(failure) = output.failure() {
            return Err(anyhow!("writing {path} in {} {failure}", self.machine().name).into());
        }
        Ok(())
    }

    /// Reads a file of the container; its content is the stdout of the result.
    ///
    /// # Errors
    /// When the file cannot be read (the message has the program's output), or is larger than the kept part of a stream.
    pub fn get(&self, path: &str, request: ExecRequest) -> Result<ExecOutput, ExecError> {
        // One byte more, by which a larger file is known: a sparse one of a terabyte is not read to its end.
        let bytes = (OUTPUT_BYTES_MAX + 1).to_string();
        let argv = ["head", "-c", &bytes, "--", path].map(String::from).to_vec();
        let output = self.exec(&ExecRequest { argv, ..request })?;
        if let Some(failure) = output.failure() {
            return Err(anyhow!("reading {path} in {} {failure}", self.machine().name).into());
        }
        if output.stdout.lost_bytes() > 0 {
            let (most, name) = (OUTPUT_BYTES_MAX >> 20, &self.machine().name);
            let message = format!("reading {path} in {name}: it is larger than {most} MiB, the most that `get` reads");
            return Err(anyhow!(message).into());
        }
        Ok(output)
    }

    fn user(&self, name: &str) -> anyhow::Result<Passwd> {
        let passwd = container_fs::read(&self.root()?, "/etc/passwd")?;
        Passwd::find(&passwd, name).with_context(|| format!("there is no user {name:?} in {}", self.machine().name))
    }
}

fn mark_of(mark: &str) -> String {
    format!("{MARK_VARIABLE}={mark}")
}

/// Returns the environment of a program in a machine. `user` is an account and its name; root if `None`.
pub(super) fn environment_of(
    machine: &Machine,
    user: Option<(&Passwd, &str)>,
    more: &[(String, String)],
) -> Vec<(String, String)> {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let (home, name) = user.map_or(("/root", "root"), |(user, name)| (user.home.as_str(), name));
    let mut environment = vec![own("PATH", PATH_INSIDE), own("HOME", home), own("USER", name), own("LOGNAME", name)];
    environment.push(own("LANG", "C.UTF-8"));
    environment.extend(machine.template.environment.iter().cloned());
    environment.extend(more.iter().cloned());
    environment
}
