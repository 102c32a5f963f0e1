//! Container of the lab: programs, files, waits.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use e2e_contract::{Condition, ContainerInfo, Get, Method, Put, Wait};

use crate::bytes::{host_file, incoming, outgoing};
use crate::connection::Connection;
use crate::patience::milliseconds;
use crate::{Exec, Finished, RequestError, Result};

/// Default deadline: long enough to copy a file of some hundred megabytes, and to start a service on a busy machine.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(60);

/// Container of the lab. Clones are cheap, and any thread may use them.
///
/// ```no_run
/// # use e2e::{Lab, Port, Result, check};
/// # fn scenario(lab: &Lab) -> Result {
/// # use std::time::Duration;
/// let db = lab.container("db")?;
/// db.wait_for_within(Port(5432), Duration::from_secs(10))?;
/// db.put(lab.fixture("rows.csv"), "/tmp/rows.csv")?;
/// let status = db.exec(["test", "-s", "/tmp/rows.csv"])?.status; // another one than 0 is no error
/// db.sh("wc -l < /tmp/rows.csv > /tmp/count")?.success()?; // here it is
/// check!(status == 0 && db.get("/tmp/count")? == b"20000\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Container {
    connection: Arc<Connection>,
    info: Arc<ContainerInfo>,
}

/// Owner and permission bits of a file that is put into a container.
///
/// ```no_run
/// # use e2e::{Access, Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// let access = Access::mode(0o600).owner("postgres:postgres");
/// lab.container("db")?.write_with("/etc/secret", "hunter2\n", access)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    mode: u32,
    owner: Option<String>,
}

impl Access {
    /// Makes an access with root as the owner and these permission bits, such as `0o600`.
    #[must_use]
    pub fn mode(mode: u32) -> Self {
        Self { mode, owner: None }
    }

    /// Sets the owner, a `user` or `user:group` of the container; the permission bits stay.
    #[must_use]
    pub fn owner(self, owner: impl Into<String>) -> Self {
        Self { owner: Some(owner.into()), ..self }
    }
}

/// Access with root as the owner, readable by all: `0o644`.
impl Default for Access {
    fn default() -> Self {
        Self::mode(0o644)
    }
}

impl Container {
    pub(crate) fn new(connection: Arc<Connection>, info: ContainerInfo) -> Self {
        Self { connection, info: Arc::new(info) }
    }

    /// Returns the container's name in the lab, such as `db`; the other containers resolve it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Returns the container's name on the host, such as `mancer-e2e-db`.
    #[must_use]
    pub fn host_name(&self) -> &str {
        &self.info.host_name
    }

    /// Returns the container's address in the lab's network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.info.address
    }

    /// Returns the name of the template that the container was made from.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.info.template
    }

    /// Runs a program as root with the default deadline of 60 s: `db.exec(["psql", "-c", "select 1"])?`.
    ///
    /// # Errors
    /// [`RequestError`] when the program could not be run. A status other than 0 is no error: see [`Finished::success`].
    #[track_caller]
    pub fn exec(&self, argv: impl IntoIterator<Item: Into<String>>) -> Result<Finished> {
        self.command(argv).run()
    }

    /// Runs a line of POSIX shell: `/bin/sh -c LINE`.
    ///
    /// # Errors
    /// The errors of [`Container::exec`].
    #[track_caller]
    pub fn sh(&self, line: impl Into<String>) -> Result<Finished> {
        self.command(["/bin/sh".to_owned(), "-c".to_owned(), line.into()]).run()
    }

    /// Makes a program to run with a user, an environment, a stdin or a deadline of its own: see [`Exec::run`].
    pub fn command(&self, argv: impl IntoIterator<Item: Into<String>>) -> Exec<'_> {
        Exec::new(&self.connection, self.name(), argv.into_iter().map(Into::into).collect())
    }

    /// Copies a file of the host to an absolute path in the container, owned by root and readable by all.
    ///
    /// # Errors
    /// When the file cannot be read on the host, or not written in the container.
    #[track_caller]
    pub fn put(&self, host_path: impl AsRef<Path>, path: impl Into<String>) -> Result {
        self.put_with(host_path, path, Access::default())
    }

    /// Copies a file as [`Container::put`] does, with the given permissions and owner.
    ///
    /// # Errors
    /// The errors of [`Container::put`].
    #[track_caller]
    pub fn put_with(&self, host_path: impl AsRef<Path>, path: impl Into<String>, access: Access) -> Result {
        self.send_file(host_file(host_path.as_ref())?, path.into(), access)
    }

    /// Writes bytes to a file at an absolute path in the container, owned by root and readable by all.
    /// Readers see the old file or the new one, never a part.
    ///
    /// # Errors
    /// When the file cannot be written.
    #[track_caller]
    pub fn write(&self, path: impl Into<String>, bytes: impl AsRef<[u8]>) -> Result {
        self.write_with(path, bytes, Access::default())
    }

    /// Writes bytes as [`Container::write`] does, with the given permissions and owner.
    ///
    /// # Errors
    /// The errors of [`Container::write`].
    #[track_caller]
    pub fn write_with(&self, path: impl Into<String>, bytes: impl AsRef<[u8]>, access: Access) -> Result {
        let sent = outgoing(bytes.as_ref())?;
        self.send_file(sent.stream.clone(), path.into(), access)
    }

    /// Reads a file of the container, whatever its size.
    ///
    /// # Errors
    /// When the file does not exist or cannot be read.
    #[track_caller]
    pub fn get(&self, path: impl Into<String>) -> Result<Vec<u8>> {
        let deadline_ms = milliseconds(DEADLINE_DEFAULT);
        let stream = self.ask(&Get { container: self.name().to_owned(), path: path.into(), deadline_ms })?;
        incoming(&stream)
    }

    /// Waits until a condition holds, at most 60 s; returns how long that took. See [`Port`](crate::Port),
    /// [`Http`](crate::Http), [`Unit`](crate::Unit), [`File`](crate::File), [`Command`](crate::Command).
    ///
    /// # Errors
    /// [`RequestError`] with the last observation when the deadline passed; at once, with the reason, when the container died or the
    /// condition cannot come true any more: a unit that does not exist, a path that leads through a file, a program that does not exist.
    #[track_caller]
    pub fn wait_for(&self, condition: impl Into<Condition>) -> Result<Duration> {
        self.wait_for_within(condition, DEADLINE_DEFAULT)
    }

    /// Waits as [`Container::wait_for`] does, with the given deadline, which the engine multiplies by the machine's patience factor.
    ///
    /// # Errors
    /// The errors of [`Container::wait_for`].
    #[track_caller]
    pub fn wait_for_within(&self, condition: impl Into<Condition>, deadline: Duration) -> Result<Duration> {
        let deadline_ms = milliseconds(deadline);
        let wait = Wait { container: self.name().to_owned(), condition: condition.into(), deadline_ms };
        let waited = self.ask(&wait)?;
        Ok(Duration::try_from_secs_f64(waited.duration_ms / 1e3).unwrap_or_default())
    }

    pub(crate) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    #[track_caller]
    pub(crate) fn ask<M: Method>(&self, params: &M) -> Result<M::Answer, RequestError> {
        self.connection.call(params).map_err(|error| error.in_container(self.name()))
    }

    #[track_caller]
    fn send_file(&self, content: e2e_contract::Stream, path: String, access: Access) -> Result {
        let deadline_ms = milliseconds(DEADLINE_DEFAULT);
        let Access { mode, owner } = access;
        self.ask(&Put { container: self.name().to_owned(), path, content, mode, owner, deadline_ms })?;
        Ok(())
    }
}
