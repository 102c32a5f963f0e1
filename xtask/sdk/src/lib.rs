//! Library for authors of scenarios. An example of a scenario:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use std::time::Duration;
//!
//! use e2e::{Lab, Port, Result, check};
//!
//! fn main() -> ExitCode {
//!     e2e::run(scenario)
//! }
//!
//! fn scenario(lab: &Lab) -> Result {
//!     let db = lab.container("db")?;
//!     let app = lab.container("app")?;
//!     db.wait_for(Port(5432))?;
//!     app.wait_for_within(e2e::Http("/status"), Duration::from_secs(10))?;
//!
//!     lab.step("load", || {
//!         db.put(lab.fixture("rows.csv"), "/tmp/rows.csv")?;
//!         db.sh("psql -f /tmp/load.sql")?.success()?;
//!         Ok(())
//!     })?;
//!     let rows: u64 = lab.measure("data_setup", || {
//!         let counted = db.command(["psql", "-Atc", "select count(*) from rows"]).user("postgres").run()?;
//!         Ok(counted.success()?.stdout_text()?.trim().parse()?)
//!     })?;
//!     lab.measure_n("query", 30, || {
//!         app.exec(["query-all"])?.success()?;
//!         Ok(())
//!     })?;
//!
//!     let expected: u64 = lab.param("rows")?;
//!     check!(rows == expected, "every row of the fixture was loaded");
//!     if lab.case() == "large" {
//!         lab.log(format!("{rows} rows"));
//!     }
//!     lab.artifact("rows.csv", db.get("/tmp/rows.csv")?)?;
//!     lab.screenshot("status", "http://app/status")?;
//!     Ok(())
//! }
//! ```
//!
//! One process has one connection to the engine, found through `E2E_SOCKET`. Everything here may be used from several threads at once
//! (`std::thread::scope`): their requests overlap. The engine ends every request at its deadline. When the connection is lost, the
//! process ends.

mod bytes;
mod chaos;
mod check;
mod condition;
mod connection;
mod container;
mod defect;
mod error;
mod exec;
mod fault;
mod history;
mod lab;
mod patience;
#[cfg(test)]
mod peer;
mod picture;
mod run;

pub use anyhow::Error;
pub use chaos::Chaos;
pub use check::CheckFailed;
pub use condition::{Command, File, Http, Port, Unit};
pub use container::{Access, Container};
pub use defect::{DefectMark, FailingWith, failing_with};
pub use e2e_contract::{Better, Condition, Direction, Fault, Level, Partition};
pub use error::RequestError;
pub use exec::{Exec, ExecFailed, Finished};
pub use fault::InjectedFault;
pub use history::Invocation;
pub use lab::Lab;
pub use patience::scaled;
pub use picture::{Likeness, Picture, Tolerance};
pub use run::{Scenario, run};

/// Result of a scenario and its parts: `?` passes up any error.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Helpers for this crate's macros.
#[doc(hidden)]
pub mod __private {
    pub use crate::check::{holds, record, values};
}

/// Guides whose examples of scenarios have to compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/first-scenario.md")]
#[doc = include_str!("../../../docs/writing.md")]
#[doc = include_str!("../../../docs/chaos.md")]
struct Guides;
