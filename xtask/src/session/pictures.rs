//! Screenshots of a scenario: taken in the lab and kept in the record, or skipped if the host has no browser. The scenario requests some;
//! the engine takes others of the scenario's pages after a failure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e_contract::{ErrorCode, Likeness, Picture, RpcError, Screenshot, ScreenshotCompare};

use super::bounds::shorten;
use super::content::{NotWritten, require_plain_name};
use super::image_diff::{Compared, compare};
use super::requests::asked;
use super::state::{Answer, Session};
use crate::host::invoker::Invoker;
use crate::host::patience::Deadline;
use crate::host::tools::chromium::Browser;
use crate::lab::{Page, PictureError};
use crate::record::Event;

/// Maximum screenshots of a case that the engine takes unrequested, after a failure.
const UNASKED_MAX: u32 = 3;

/// Maximum time that each unrequested screenshot may delay the scenario.
const UNASKED_DEADLINE: Deadline = Deadline::from_secs(20);

/// Maximum length of a URL in the record, in characters.
const URL_CHARS_MAX: usize = 2000;

/// Result of asking the browser for a screenshot.
enum Shot {
    Png(Vec<u8>),
    /// The host has no browser that can be used, for this reason.
    Skipped(String),
}

impl Session {
    /// Answers the request `screenshot`. The engine first loads the page itself, so that a page with an error status fails even without a
    /// browser.
    pub(super) fn screenshot(&self, request: &Screenshot) -> Answer<Picture> {
        require_plain_name(&request.name)?;
        let deadline = asked(request.deadline_ms);
        let picture = match self.shoot(&request.url, deadline).map_err(|error| self.answer_to(error))? {
            Shot::Skipped(reason) => Picture::Skipped { reason },
            Shot::Png(bytes) => {
                let kept = self.keep_picture(&request.name, &bytes);
                let path = kept.map_err(|error| self.answer_to(error))?;
                Picture::Taken { path, size_bytes: bytes.len() as u64 }
            }
        };
        self.record_picture(&request.name, &request.url, &picture);
        Ok(picture)
    }

    /// Takes a screenshot and compares it with an expected picture.
    pub(super) fn screenshot_compare(&self, request: &ScreenshotCompare) -> Answer<Likeness> {
        let ScreenshotCompare { name, url, deadline_ms, expected, channel_off_max } = request;
        let picture =
            self.screenshot(&Screenshot { name: name.clone(), url: url.clone(), deadline_ms: *deadline_ms })?;
        let path = match picture {
            Picture::Skipped { reason } => return Ok(Likeness::Skipped { reason }),
            Picture::Taken { path, .. } => path,
        };
        let (taken, known) = (self.spec.invoker.read(&path), self.spec.invoker.read(expected));
        let known = known.map_err(|error| {
            let help = format!("to accept the new image: cp {} {}", path.display(), expected.display());
            RpcError::new(ErrorCode::InvalidParams, format!("the expected image cannot be read: {error:#}: {help}"))
        })?;
        let compared = taken.and_then(|taken| compare(&taken, &known, *channel_off_max));
        let compared = compared
            .map_err(|error| RpcError::new(ErrorCode::InvalidParams, format!("{}: {error:#}", expected.display())))?;
        let likeness = match compared {
            Compared::OtherSize { taken, expected } => Likeness::OtherSize { path, taken, expected },
            Compared::SameSize { pixels_off, pixels, difference } => {
                let keep = |bytes: Vec<u8>| self.keep_picture(&format!("{name}-difference"), &bytes);
                let difference = difference.map(keep).transpose().map_err(|error| self.answer_to(error))?;
                Likeness::Compared { path, difference, pixels_off, pixels }
            }
        };
        self.recorder.record(Event::ScreenshotCompared {
            case: self.spec.case.clone(),
            name: name.clone(),
            expected: expected.display().to_string(),
            likeness: self.likeness_in_run(&likeness),
        });
        Ok(likeness)
    }

    /// Takes screenshots of the scenario's pages after a failure. A screenshot that fails is only a warning.
    pub(super) fn picture_failure(&self) {
        for page in &self.spec.pages {
            let Some(number) = self.number_of_unasked(UNASKED_MAX).filter(|_| !self.shall_stop()) else { return };
            let name = format!("failed-{number}-{}", page.name);
            if let Err(error) = self.excuse(|| self.picture_unasked(&name, &page.url)) {
                let message = format!("{}: screenshot {name} failed: {error:#}", self.spec.case);
                self.recorder.record(Event::Warning { message });
            }
        }
    }

    fn picture_unasked(&self, name: &str, url: &str) -> anyhow::Result<()> {
        let page = self.lab.page(url, UNASKED_DEADLINE.scaled())?;
        // Whatever it shows now is worth a look, a server's error message too.
        self.lab.status(&page)?;
        let picture = match self.browse(&page)? {
            Shot::Skipped(reason) => Picture::Skipped { reason },
            Shot::Png(bytes) => {
                let size_bytes = bytes.len() as u64;
                Picture::Taken { path: self.keep_picture(name, &bytes)?, size_bytes }
            }
        };
        self.record_picture(name, url, &picture);
        Ok(())
    }

    fn shoot(&self, url: &str, deadline: Duration) -> Result<Shot, PictureError> {
        let page = self.lab.page(url, deadline)?;
        self.lab.load(&page)?;
        self.browse(&page)
    }

    fn browse(&self, page: &Page<'_>) -> Result<Shot, PictureError> {
        let browser = match Browser::find() {
            Err(reason) => return Ok(Shot::Skipped(reason)),
            Ok(browser) => browser,
        };
        let invoker = &self.spec.invoker;
        let user = if invoker.is_root() { Invoker::nobody() } else { invoker.clone() };
        self.lab.picture(&browser, page, &user, &|| self.shall_stop()).map(Shot::Png)
    }

    /// Writes a screenshot and returns its path. The first screenshot creates the folder, so a case without screenshots has none.
    fn keep_picture(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, NotWritten> {
        let path = format!("{}/{name}.png", self.spec.screenshots_in_run);
        self.write(&format!("screenshot {name:?}"), &path, bytes.len() as u64, &mut &*bytes)?;
        Ok(self.spec.dir.path().join(path))
    }

    fn record_picture(&self, name: &str, url: &str, picture: &Picture) {
        let picture = match picture {
            Picture::Taken { path, size_bytes } => {
                Picture::Taken { path: self.path_in_run(path), size_bytes: *size_bytes }
            }
            skipped @ Picture::Skipped { .. } => skipped.clone(),
        };
        let (name, url) = (name.to_owned(), shorten(&self.recorder.masks().text(url), URL_CHARS_MAX));
        self.recorder.record(Event::Screenshot { case: self.spec.case.clone(), name, url, picture });
    }

    /// Returns the path of a screenshot relative to the run's folder.
    fn path_in_run(&self, path: &Path) -> PathBuf {
        Path::new(&self.spec.screenshots_in_run).join(path.file_name().unwrap_or_default())
    }

    fn likeness_in_run(&self, likeness: &Likeness) -> Likeness {
        let mut likeness = likeness.clone();
        match &mut likeness {
            Likeness::Compared { path, difference, .. } => {
                *path = self.path_in_run(path);
                *difference = difference.take().map(|path| self.path_in_run(&path));
            }
            Likeness::OtherSize { path, .. } => *path = self.path_in_run(path),
            Likeness::Skipped { .. } => {}
        }
        likeness
    }
}
