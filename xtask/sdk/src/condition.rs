//! Conditions that a scenario can wait for, such as in `db.wait_for(Port(5432))`.

use e2e_contract::Condition;

/// Condition that a TCP port of the container accepts connections.
///
/// ```no_run
/// # use e2e::{Lab, Port, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// lab.container("db")?.wait_for(Port(5432))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

/// Condition that a GET of this path (`/path`, or `:8080/path`) at the container gives a status of 200 to 399.
///
/// ```no_run
/// # use e2e::{Http, Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// lab.container("app")?.wait_for(Http(":8080/health"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http<S: Into<String>>(pub S);

/// Condition that a systemd unit is active.
///
/// ```no_run
/// # use e2e::{Lab, Result, Unit};
/// # fn scenario(lab: &Lab) -> Result {
/// lab.container("app")?.wait_for(Unit("nginx.service"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit<S: Into<String>>(pub S);

/// Condition that a path exists in the container.
///
/// ```no_run
/// # use e2e::{File, Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// lab.container("app")?.wait_for(File("/run/app.pid"))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File<S: Into<String>>(pub S);

/// Condition that a command exits with 0 in the container; its program and arguments are not passed to a shell.
///
/// ```no_run
/// # use e2e::{Command, Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// lab.container("db")?.wait_for(Command(["pg_isready", "--quiet"]))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command<I: IntoIterator<Item: Into<String>>>(pub I);

impl From<Port> for Condition {
    fn from(Port(port): Port) -> Self {
        Self::Tcp(port)
    }
}

impl<S: Into<String>> From<Http<S>> for Condition {
    fn from(Http(path): Http<S>) -> Self {
        Self::Http(path.into())
    }
}

impl<S: Into<String>> From<Unit<S>> for Condition {
    fn from(Unit(unit): Unit<S>) -> Self {
        Self::Unit(unit.into())
    }
}

impl<S: Into<String>> From<File<S>> for Condition {
    fn from(File(path): File<S>) -> Self {
        Self::File(path.into())
    }
}

impl<I: IntoIterator<Item: Into<String>>> From<Command<I>> for Condition {
    fn from(Command(argv): Command<I>) -> Self {
        Self::Exec(argv.into_iter().map(Into::into).collect())
    }
}
