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
    /// "http://app/status")` keeps `screenshots/status.png` with the record, 1024 x 768 pixels. Where the host has no
    /// browser, the record says that the picture was skipped, and why.
    ///
    /// The page is loaded twice: first by the engine, for the answer's status, then by the browser. It is drawn when the
    /// browser has loaded it with its images, style sheets and scripts; what a script fetches after that is not on it,
    /// nor is what did not load (only the page itself is checked). The names of the lab's containers resolve, and no
    /// others.
    ///
    /// # Errors
    /// [`RequestError`](crate::RequestError) when the page is answered with another status than 200 to 399, or not at
    /// all; when it leads to a page that cannot be loaded; when it has not loaded after 30 s; when the browser fails.
    pub fn screenshot(&self, name: impl Into<String>, url: impl Into<String>) -> Result<Picture> {
        self.screenshot_within(name, url, DEADLINE)
    }

    /// Like [`Lab::screenshot`], with a deadline. A browser takes some seconds by itself.
    ///
    /// # Errors
    /// Those of [`Lab::screenshot`].
    pub fn screenshot_within(
        &self,
        name: impl Into<String>,
        url: impl Into<String>,
        deadline: Duration,
    ) -> Result<Picture> {
        let request = Screenshot { name: name.into(), url: url.into(), deadline_ms: milliseconds(deadline) };
        Ok(self.connection().call(&request)?)
    }
}
