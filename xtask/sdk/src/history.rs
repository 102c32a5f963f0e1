//! History of operations on the system under test, with their known or unknown results.

use std::panic::Location;
use std::sync::Arc;

use e2e_contract::{History, Phase};
use serde_json::Value;

use crate::connection::{Connection, shown};
use crate::{Lab, Result};

/// Operation on the system that has begun. When it is dropped without an end, its result is recorded as unknown.
///
/// ```no_run
/// # use e2e::{Lab, Result};
/// # fn scenario(lab: &Lab) -> Result {
/// # fn transfer() -> Result<u64> { Ok(1) }
/// let transfer_of_one = lab.invoke("client-1", "transfer", 100)?;
/// match transfer() {
///     Ok(number) => transfer_of_one.ok(number)?,
///     Err(error) => transfer_of_one.unknown(format!("{error:#}"))?, // it may have taken place
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropped, its end is unknown"]
pub struct Invocation {
    connection: Arc<Connection>,
    process: String,
    operation: String,
    /// Place in the scenario that began the operation.
    location: String,
    ended: bool,
}

impl Lab {
    /// Writes into the case's history (`history.jsonl`) that an operation of the client `process` begins; a client does one operation at a
    /// time. One of [`Invocation::ok`], [`Invocation::fail`] and [`Invocation::unknown`] ends it.
    ///
    /// # Errors
    /// When the process has begun another operation that has not ended.
    #[track_caller]
    pub fn invoke(&self, process: &str, operation: &str, input: impl Into<Value>) -> Result<Invocation> {
        let connection = self.connection();
        let (process, operation) = (process.to_owned(), operation.to_owned());
        let location = shown(Location::caller());
        let mut invocation = Invocation { connection, process, operation, location, ended: true };
        invocation.tell(&invocation.location, Phase::Invoke, input.into())?;
        invocation.ended = false;
        Ok(invocation)
    }
}

impl Invocation {
    /// Records that the operation took place, with its result.
    ///
    /// # Errors
    /// When the connection to the engine is lost.
    #[track_caller]
    pub fn ok(self, result: impl Into<Value>) -> Result {
        self.end(Phase::Ok, result.into())
    }

    /// Records that the operation did not take place and never will, as the system has said.
    ///
    /// # Errors
    /// When the connection to the engine is lost.
    #[track_caller]
    pub fn fail(self, error: impl Into<Value>) -> Result {
        self.end(Phase::Fail, error.into())
    }

    /// Records an unknown result: the answer did not come in time, or was lost. The operation may still take place.
    ///
    /// # Errors
    /// When the connection to the engine is lost.
    #[track_caller]
    pub fn unknown(self, error: impl Into<Value>) -> Result {
        self.end(Phase::Unknown, error.into())
    }

    #[track_caller]
    fn end(mut self, phase: Phase, value: Value) -> Result {
        self.ended = true;
        self.tell(&shown(Location::caller()), phase, value)
    }

    fn tell(&self, location: &str, phase: Phase, value: Value) -> Result {
        let Self { process, operation, .. } = self;
        let told = History { process: process.clone(), operation: operation.clone(), phase, value };
        self.connection.call_from(location, &told)?;
        Ok(())
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        if !self.ended {
            // The engine ends it as unknown by itself when this cannot be told.
            let _ = self.tell(&self.location, Phase::Unknown, "the scenario reported no end".into());
        }
    }
}
