//! Programs in a container, and their results.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use e2e_contract as contract;

use crate::Result;
use crate::bytes::{incoming, outgoing};
use crate::connection::{Connection, shown};
use crate::patience::{milliseconds, scaled};

/// Default deadline: long enough for a program that does not wait for anything.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);

/// Program to run in a container; [`Exec::run`] runs it.
///
/// ```no_run
/// # use e2e::{Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// # use std::time::Duration;
/// let db = lab.container("db")?;
/// db.command(["psql", "-v", "ON_ERROR_STOP=1", "-f", "-"])
///     .user("postgres")
///     .env("PGDATABASE", "mancer")
///     .stdin("create table orders (id int);")
///     .deadline(Duration::from_secs(10))
///     .run()?
///     .success()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before run()"]
pub struct Exec<'a> {
    connection: &'a Connection,
    container: &'a str,
    argv: Vec<String>,
    stdin: Option<Vec<u8>>,
    environment: Vec<(String, String)>,
    user: Option<String>,
    deadline: Duration,
}

impl<'a> Exec<'a> {
    pub(crate) fn new(connection: &'a Connection, container: &'a str, argv: Vec<String>) -> Self {
        let (stdin, environment, user) = (None, Vec::new(), None);
        Self { connection, container, argv, stdin, environment, user, deadline: DEADLINE_DEFAULT }
    }

    /// Sets the user of the container that the program runs as; root otherwise.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the content of the program's stdin, of any size; empty otherwise.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Sets the deadline, 60 s otherwise. Past it, the program is killed in the container with all its children. The engine multiplies the
    /// deadline, as every deadline of a scenario, by the patience factor of a slow machine.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the program and waits for its end. A status other than 0 is no error here: see [`Finished::success`].
    ///
    /// # Errors
    /// [`RequestError`](crate::RequestError) when the program could not be run.
    #[track_caller]
    pub fn run(self) -> Result<Finished> {
        let stdin = self.stdin.as_deref().map(outgoing).transpose()?;
        let request = contract::Exec {
            container: self.container.to_owned(),
            argv: self.argv,
            stdin: stdin.as_ref().map(|stdin| stdin.stream.clone()),
            environment: self.environment,
            user: self.user,
            deadline_ms: milliseconds(self.deadline),
        };
        let result = self.connection.call(&request).map_err(|error| error.in_container(self.container))?;
        Ok(Finished {
            status: result.status,
            duration: Duration::try_from_secs_f64(result.duration_ms / 1e3).unwrap_or_default(),
            timed_out: result.timed_out,
            container: request.container,
            argv: request.argv,
            deadline: scaled(self.deadline),
            stdout: incoming(&result.stdout)?,
            stderr: incoming(&result.stderr)?,
        })
    }
}

/// Result of a program in a container.
///
/// ```no_run
/// # use e2e::{Lab, Result, check};
/// # fn scenario(lab: &Lab) -> Result {
/// let listed = lab.container("app")?.exec(["ls", "/srv"])?;
/// check!(listed.status == 0 && !listed.timed_out);
/// lab.log(format!("{} after {:?}", listed.stdout_text()?, listed.duration));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit status, or 128 + the number of the signal that ended the program, as a shell gives it.
    pub status: i32,
    /// Time from the program's start to its end.
    pub duration: Duration,
    /// True if the program was killed at its deadline.
    pub timed_out: bool,
    container: String,
    argv: Vec<String>,
    deadline: Duration,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Finished {
    /// Returns the bytes that the program wrote to stdout.
    #[must_use]
    pub fn stdout(&self) -> &[u8] {
        &self.stdout
    }

    /// Returns the bytes that the program wrote to stderr.
    #[must_use]
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }

    /// Returns stdout as text, not trimmed.
    ///
    /// # Errors
    /// When stdout is not UTF-8.
    pub fn stdout_text(&self) -> Result<&str> {
        self.text("stdout", &self.stdout)
    }

    /// Returns stderr as text, not trimmed.
    ///
    /// # Errors
    /// When stderr is not UTF-8.
    pub fn stderr_text(&self) -> Result<&str> {
        self.text("stderr", &self.stderr)
    }

    /// Returns the result unchanged if the program ended in time and with status 0.
    ///
    /// # Errors
    /// [`ExecFailed`], with the command line, the status and the end of both streams.
    #[track_caller]
    pub fn success(self) -> Result<Self> {
        if self.status == 0 && !self.timed_out {
            return Ok(self);
        }
        Err(ExecFailed { finished: Box::new(self), location: shown(Location::caller()) }.into())
    }

    fn text<'a>(&self, name: &str, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|error| {
            anyhow::anyhow!("{name} of `{}` in {} is not text: {error}", command_line(&self.argv), self.container)
        })
    }
}

/// Error of a program that was expected to succeed and did not.
///
/// ```no_run
/// # use e2e::{ExecFailed, Lab, Result, check};
/// # fn scenario(lab: &Lab) -> Result {
/// let failed = lab.container("app")?.exec(["false"])?.success().unwrap_err();
/// check!(failed.downcast_ref::<ExecFailed>().is_some_and(|failed| failed.finished().status == 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ExecFailed {
    finished: Box<Finished>,
    /// Place in the scenario that expected the success.
    location: String,
}

impl ExecFailed {
    /// Returns the result of the program, with its status and output.
    #[must_use]
    pub fn finished(&self) -> &Finished {
        &self.finished
    }

    /// Returns the place in the scenario that expected the success, `file:line`.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }
}

impl fmt::Display for ExecFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finished { argv, container, status, deadline, timed_out, .. } = &*self.finished;
        write!(f, "exec in {container} ")?;
        if *timed_out {
            write!(f, "did not end within {deadline:?} and was killed")?;
        } else {
            write!(f, "ended with status {status}")?;
        }
        let streams = [("stdout", tail(&self.finished.stdout)), ("stderr", tail(&self.finished.stderr))];
        // Its own last words come first: they say more than the command line.
        match streams.iter().rev().find_map(|(_, text)| text.lines().next_back()) {
            Some(words) => write!(f, ": {}\n  command: `{}`", words.trim(), command_line(argv))?,
            None => write!(f, " and said nothing: `{}`", command_line(argv))?,
        }
        for (name, text) in streams.iter().filter(|(_, text)| !text.is_empty()) {
            write!(f, "\n  {name}: {}", text.replace('\n', "\n          "))?;
        }
        Ok(())
    }
}

impl std::error::Error for ExecFailed {}

fn tail(bytes: &[u8]) -> String {
    const TAIL_BYTES: usize = 2000;
    let cut = bytes.len().saturating_sub(TAIL_BYTES);
    let text = String::from_utf8_lossy(&bytes[cut..]);
    let text = text.trim_end();
    if cut > 0 { format!("[...] {text}") } else { text.to_owned() }
}

/// Formats the command line as one would type it in a POSIX shell.
fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}
