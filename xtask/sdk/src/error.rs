//! Error of a request to the engine.

use std::fmt;

use e2e_contract::{ErrorCode, RpcError};

/// Error of a request that the engine could not fulfil, or that never reached the engine.
///
/// A program that ends with another status than 0 gives no such error: see [`Finished::success`](crate::Finished::success).
///
/// ```no_run
/// # use e2e::{Fault, Lab, RequestError, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// let db = lab.container("db")?;
/// let stopped = db.inject(Fault::NodeKill)?;
/// let refused = db.exec(["true"]).unwrap_err();
/// assert!(refused.downcast_ref::<RequestError>().is_some_and(RequestError::is_unavailable));
/// stopped.heal()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    method: &'static str,
    container: Option<String>,
    code: Option<i64>,
    message: String,
    /// Place of the request in the scenario.
    location: Option<String>,
}

impl RequestError {
    pub(crate) fn new(method: &'static str, message: String) -> Self {
        Self { method, container: None, code: None, message, location: None }
    }

    pub(crate) fn answered(method: &'static str, error: RpcError) -> Self {
        Self { method, container: None, code: Some(error.code), message: error.message, location: None }
    }

    pub(crate) fn in_container(self, container: &str) -> Self {
        Self { container: Some(container.to_owned()), ..self }
    }

    pub(crate) fn at(self, location: &str) -> Self {
        Self { location: Some(location.to_owned()), ..self }
    }

    /// Returns the place in the scenario that made the request, `file:line`.
    pub(crate) fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// Returns the contract's name of the method, such as `wait`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method
    }

    /// Returns the container that the request was about, if any.
    #[must_use]
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// Tells whether a deadline passed, or the condition of a wait could not come true any more, so that a scenario that expects this can
    /// distinguish it from other errors.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        self.code == Some(ErrorCode::Deadline as i64)
    }

    /// Tells whether the session is over or its host has failed, so that nothing which follows says anything about the product.
    pub(crate) fn is_of_the_engine(&self) -> bool {
        let codes = [ErrorCode::Infrastructure, ErrorCode::Interrupted].map(|code| code as i64);
        self.code.is_none_or(|code| codes.contains(&code))
    }

    /// Tells whether a fault has taken the container down or frozen it.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.code == Some(ErrorCode::Unavailable as i64)
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            Some(container) => write!(f, "{} in {container}: {}", self.method, self.message),
            None => write!(f, "{}: {}", self.method, self.message),
        }
    }
}

impl std::error::Error for RequestError {}

/// Formats the error and its causes, one per line.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  caused by: ")
}
