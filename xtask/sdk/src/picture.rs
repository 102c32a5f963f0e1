//! Screenshots of web pages.

use std::time::Duration;

use std::panic::Location;
use std::path::Path;

pub use e2e_contract::{Likeness, Picture};
use e2e_contract::{PictureSize, Screenshot, ScreenshotCompare};

use crate::patience::milliseconds;
use crate::{Lab, Result, check};

/// Default deadline: long enough for a browser to start on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Tolerance for differences between a screenshot and the expected one.
///
/// ```no_run
/// # use e2e::{Lab, Result, Tolerance};
/// # fn scenario(lab: &Lab) -> Result {
/// let few = Tolerance { pixels_off_percent_max: 0.5, ..Tolerance::default() };
/// lab.screenshot_like("status", "http://app/status", lab.fixture("status.png"), few)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Maximum difference in each color channel, 0 to 255, up to which a pixel counts as equal.
    pub channel_off_max: u8,
    /// Maximum percentage of pixels that differ.
    pub pixels_off_percent_max: f64,
}

impl Tolerance {
    /// Tolerance for no difference.
    pub const NONE: Self = Self { channel_off_max: 0, pixels_off_percent_max: 0.0 };
}

impl Default for Tolerance {
    /// Returns a tolerance for invisible differences: 8 of 255 in a color, and one pixel of ten thousand. A changed short word exceeds
    /// it.
    fn default() -> Self {
        Self { channel_off_max: 8, pixels_off_percent_max: 0.01 }
    }
}

impl Lab {
    /// Takes a screenshot of a web page with a browser inside the lab's network: `lab.screenshot("status", "http://app/status")` keeps
    /// `screenshots/status.png` with the record, 1024 x 768 pixels. Where the host has no browser, the record says that the screenshot
    /// was skipped, and why.
    ///
    /// The page is loaded twice: first by the engine, for the answer's status, then by the browser. The screenshot is taken when the
    /// browser has loaded the page with its images, style sheets and scripts. It does not show what a script fetches later, nor images or
    /// scripts that did not load: only the page itself is checked. The names of the lab's containers resolve, and no others.
    ///
    /// ```no_run
    /// # use e2e::{Lab, Picture, Result};
    /// # fn scenario(lab: &Lab) -> Result {
    /// if let Picture::Taken { path, .. } = lab.screenshot("status", "http://app/status")? {
    ///     lab.log(format!("{}", path.display()));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RequestError`](crate::RequestError) when the page is answered with another status than 200 to 399, or not at
    /// all; when it leads to a page that cannot be loaded; when it has not loaded after 30 s; when the browser fails.
    #[track_caller]
    pub fn screenshot(&self, name: impl Into<String>, url: impl Into<String>) -> Result<Picture> {
        self.screenshot_within(name, url, DEADLINE)
    }

    /// Takes a screenshot as [`Lab::screenshot`] does, with the given deadline. A browser alone needs some seconds.
    ///
    /// # Errors
    /// The errors of [`Lab::screenshot`].
    #[track_caller]
    pub fn screenshot_within(
        &self,
        name: impl Into<String>,
        url: impl Into<String>,
        deadline: Duration,
    ) -> Result<Picture> {
        let request = Screenshot { name: name.into(), url: url.into(), deadline_ms: milliseconds(deadline) };
        Ok(self.connection().call(&request)?)
    }

    /// Takes a screenshot as [`Lab::screenshot`] does, and checks that it looks like an expected one: `lab.screenshot_like("status",
    /// "http://app/status", lab.fixture("status.png"), Tolerance::default())`. The check fails where more pixels differ than `tolerance`
    /// allows, or where the sizes differ; `screenshots/status-difference.png` shows the differing pixels. Where the host has no browser,
    /// nothing is checked, and the record says so.
    ///
    /// Take the expected screenshot from the record of an earlier run. Another version of the browser, and other fonts, draw a page
    /// differently.
    ///
    /// # Errors
    /// The errors of [`Lab::screenshot`]; a check that does not hold; an expected screenshot that does not exist or is not a PNG.
    #[track_caller]
    pub fn screenshot_like(
        &self,
        name: impl Into<String>,
        url: impl Into<String>,
        expected: impl AsRef<Path>,
        tolerance: Tolerance,
    ) -> Result<Likeness> {
        let (place, url) = (Location::caller(), url.into());
        let Tolerance { channel_off_max, pixels_off_percent_max } = tolerance;
        let expected = std::path::absolute(expected)?;
        let condition = format!("{url} looks like {}", expected.file_name().unwrap_or_default().display());
        let deadline_ms = milliseconds(DEADLINE);
        let request = ScreenshotCompare { name: name.into(), url, deadline_ms, expected, channel_off_max };
        let likeness = self.connection().call(&request)?;
        let (passed, values) = match &likeness {
            Likeness::Skipped { .. } => return Ok(likeness),
            Likeness::OtherSize { taken, expected, .. } => {
                let size = |size: &PictureSize| format!("{} x {}", size.width_pixels, size.height_pixels);
                (false, format!("taken = {}, expected = {}", size(taken), size(expected)))
            }
            Likeness::Compared { pixels_off, pixels, .. } => {
                let percent = 100.0 * *pixels_off as f64 / (*pixels).max(1) as f64;
                let values = format!(
                    "pixels_off = {pixels_off} of {pixels}, {percent:.3} %, pixels_off_percent_max = \
                     {pixels_off_percent_max}, channel_off_max = {channel_off_max}"
                );
                (percent <= pixels_off_percent_max, values)
            }
        };
        check::record(passed, &condition, values, None, place.file(), place.line())?;
        Ok(likeness)
    }
}
