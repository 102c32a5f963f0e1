//! Screenshots of pages that the lab serves, taken by the host's browser inside the lab's network. The guard starts the browser in the
//! slot's cgroup, so it ends with the lab at the latest.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::capture_lock::STOP_POLL;
use super::container::{Container, Outage};
use super::log_folder::tail_of;
use super::readiness::{http_status, is_timeout};
use super::up::Lab;
use crate::guard::{Make, ProcessEnd, Spawn};
use crate::host::invoker::Invoker;
use crate::host::tools::chromium::{self, Browser, Shot};
use crate::host::undo::Undo;
use crate::manifest::split_url;

/// Name of the browser's cgroup below the slot's cgroup; no container can have this name.
const CGROUP: &str = "_browser";

#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The URL does not lead to a page of the lab.
    #[error("{url:?} is no page of this lab: {problem}")]
    Url {
        /// URL as given by the scenario.
        url: String,
        problem: String,
    },
    /// The page could not be loaded.
    #[error("{url} cannot be loaded: {problem}")]
    Page {
        /// URL as given by the scenario.
        url: String,
        /// Status of the HTTP answer, or the reason why there was none.
        problem: String,
    },
    /// The deadline passed.
    #[error("screenshot of {url} timed out after {}: {reached}", humantime::format_duration(*.deadline))]
    Deadline {
        /// URL as given by the scenario.
        url: String,
        deadline: Duration,
        /// Description of what had not happened when the deadline passed.
        reached: &'static str,
    },
    /// The run was interrupted, or the scenario ended.
    #[error("the screenshot was interrupted")]
    Interrupted,
    /// A fault has taken down or frozen the page's container.
    #[error("{0}")]
    Outage(Outage),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] anyhow::Error),
}

/// Page that a container of the lab serves by HTTP, with the deadline for its screenshot.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    url: &'a str,
    container: &'a Container,
    port: u16,
    /// Path and query of the URL, without the fragment.
    path: String,
    asked: Instant,
    deadline: Duration,
}

impl Page<'_> {
    /// Returns the time that remains until the deadline.
    fn left(&self) -> Duration {
        self.deadline.saturating_sub(self.asked.elapsed())
    }

    fn problem(&self, problem: impl Into<String>) -> PictureError {
        PictureError::Page { url: self.url.to_owned(), problem: problem.into() }
    }

    fn late(&self, reached: &'static str) -> PictureError {
        PictureError::Deadline { url: self.url.to_owned(), deadline: self.deadline, reached }
    }
}

impl Lab {
    /// Parses a URL of the lab, such as `http://app/status` or `http://10.77.0.11:8080/?all`. The deadline starts now; nothing is loaded
    /// yet.
    ///
    /// # Errors
    /// [`PictureError::Url`] when the URL does not lead to a container of this lab.
    pub fn page<'a>(&'a self, url: &'a str, deadline: Duration) -> Result<Page<'a>, PictureError> {
        let bad = |problem: String| PictureError::Url { url: url.to_owned(), problem };
        let (host, port, path) = split_url(url).map_err(|problem| bad(problem.to_owned()))?;
        let is_meant = |it: &&Container| it.machine().name == host || it.machine().address().to_string() == host;
        let container = self.containers().iter().find(is_meant).ok_or_else(|| {
            let known: Vec<&str> = self.containers().iter().map(|it| it.machine().name.as_str()).collect();
            bad(format!("there is no container {host:?} in this lab: it has {}", known.join(", ")))
        })?;
        Ok(Page { url, container, port, path, asked: Instant::now(), deadline })
    }

    /// Loads a page once and checks its HTTP status, because the browser would take a picture of its own error message.
    ///
    /// # Errors
    /// Errors of [`Lab::status`]; [`PictureError::Page`] when the status is not within 200 to 399.
    pub fn load(&self, page: &Page<'_>) -> Result<(), PictureError> {
        match self.status(page)? {
            200..400 => Ok(()),
            status => Err(page.problem(format!("the answer's HTTP status is {status}"))),
        }
    }

    /// Loads a page and returns its HTTP status.
    ///
    /// # Errors
    /// [`PictureError::Page`] when there is no answer, [`PictureError::Deadline`], [`PictureError::Outage`] when a fault has taken down or
    /// frozen the page's container.
    pub fn status(&self, page: &Page<'_>) -> Result<u16, PictureError> {
        if let Some(outage) = page.container.outage() {
            return Err(PictureError::Outage(outage));
        }
        let machine = page.container.machine();
        let address = SocketAddr::new(IpAddr::V4(machine.address()), page.port);
        match http_status(self.network(), address, &machine.name, &page.path, page.left()) {
            Ok(status) => Ok(status),
            Err(error) if is_timeout(&error) => Err(page.late("it did not answer")),
            Err(error) => Err(page.problem(error.to_string())),
        }
    }

    /// Takes a screenshot of a page: a PNG of [`chromium::SIZE`]. Only one is taken at a time. `stop` is polled and ends the wait. The
    /// browser runs as `user`, and its processes and files are removed afterwards.
    ///
    /// # Errors
    /// [`PictureError::Page`] when the browser reports that it cannot load the page, [`PictureError::Deadline`] when the page has not
    /// loaded in time (an image that never arrives, a script that does not end), [`PictureError::Host`] when the browser fails.
    pub fn picture(
        &self,
        browser: &Browser,
        page: &Page<'_>,
        user: &Invoker,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, PictureError> {
        let left = || page.left();
        let held = match self.capture_lock.take(&left, stop) {
            None if stop() => return Err(PictureError::Interrupted),
            None => return Err(page.late("other pictures were taken before it")),
            Some(held) => held,
        };
        let machines = self.containers().iter().map(Container::machine);
        let hosts: Vec<_> = machines.map(|machine| (machine.name.clone(), machine.address())).collect();
        let dir = self.guard().slot().dir().join("picture");
        let shot = Shot { network: &self.network().path(), hosts: &hosts, url: page.url, user, dir: &dir };
        let taken = self.run_browser(browser, &shot, &left, stop).and_then(|ended| match ended {
            Some(status) => read_picture(&shot, page, status),
            None if stop() => Err(PictureError::Interrupted),
            None => Err(page.late("the browser has not loaded the page with all its parts")),
        });
        let name = format!("{}/{CGROUP}", self.guard().slot().cgroup());
        // What it started itself ends with it; then nobody writes to the folder any more.
        let undone = self.guard().undo(vec![Undo::KillCgroup { name }, Undo::RemoveTree { path: dir }]);
        drop(held);
        let bytes = taken?;
        undone.context("stopping the browser and removing its files")?;
        Ok(bytes)
    }

    /// Waits until no screenshot is being taken. The caller has already told running ones to stop.
    pub fn wait_for_pictures(&self, deadline: Duration) {
        let started = Instant::now();
        drop(self.capture_lock.take(&|| deadline.saturating_sub(started.elapsed()), &|| false));
    }

    /// Runs the browser and returns its exit status; `None` when the time was over or `stop` returned true.
    fn run_browser(
        &self,
        browser: &Browser,
        shot: &Shot<'_>,
        left: &dyn Fn() -> Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<i32>, PictureError> {
        let argv = browser.command(shot)?;
        let root = |path| Make::Dir { path, mode: 0o755, owner: (0, 0) };
        let mut things: Vec<Make> = shot.folders().into_iter().map(root).collect();
        let files = shot.policy_files().into_iter();
        things.extend(files.map(|(path, content)| Make::File { path, content, mode: 0o644, owner: (0, 0) }));
        things.push(Make::Dir { path: shot.home(), mode: 0o700, owner: (shot.user.uid, shot.user.gid) });
        self.guard().make(things).context("making a folder for the browser")?;
        let spawn =
            Spawn { name: CGROUP.into(), argv, environment: shot.environment(), log: shot.log(), filtered: None };
        let process = self.guard().spawn(spawn)?;
        loop {
            let ended = process.wait(left().min(STOP_POLL));
            if ended.is_some() || left().is_zero() || stop() {
                return Ok(ended.map(ProcessEnd::shell_status));
            }
        }
    }
}

/// Reads the screenshot with the rights of the user, who owns the folder and may have put anything there.
fn read_picture(shot: &Shot<'_>, page: &Page<'_>, status: i32) -> Result<Vec<u8>, PictureError> {
    let log = tail_of(&shot.log(), 16_000);
    match shot.user.read(&shot.picture()) {
        Ok(bytes) => {
            chromium::check_picture(&bytes).with_context(|| format!("the browser's picture of {}", page.url))?;
            Ok(bytes)
        }
        Err(error) => match chromium::page_error(&log) {
            Some(problem) => Err(page.problem(format!("the browser says {problem}"))),
            None => {
                let help = chromium::help(&log).map(|help| format!("help: {help}"));
                let said: String =
                    chromium::words(&log).lines().chain(help.as_deref()).map(|it| format!("\n  {it}")).collect();
                let message = format!("the browser ended with status {status} and without a picture: {error:#}{said}");
                Err(PictureError::Host(anyhow::anyhow!(message)))
            }
        },
    }
}
