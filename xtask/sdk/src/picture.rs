//! Pictures of web pages.

use std::time::Duration;

pub use e2e_contract::Picture;
use e2e_contract::Screenshot;

use crate::exec::milliseconds;
use crate::{Lab, Result};

/// Long enough for a browser to start on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

impl Lab {
    /// Takes a picture of a web page with a browser inside the lab's network: `lab.screenshot("status",
    /// "http://app/status")` keeps `screenshots/status.png` with the record. Where the host has no browser, the record
    /// says that the picture was skipped, and why.
    ///
    /// # Errors
    /// When the browser fails, or the page cannot be loaded.
    pub fn screenshot(&self, name: impl Into<String>, url: impl Into<String>) -> Result<Picture> {
        let request = Screenshot { name: name.into(), url: url.into(), deadline_ms: milliseconds(DEADLINE) };
        Ok(self.connection().call(&request)?)
    }
}
