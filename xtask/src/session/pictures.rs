//! A scenario's pictures: taken in the lab and kept with the record, or skipped where the host has no browser.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use e2e_contract::{ErrorCode, Picture, RpcError, Screenshot};

use super::requests::{Answer, Session, require_plain_name};
use crate::host::chromium::Browser;
use crate::host::invoker::Invoker;
use crate::lab::PictureError;
use crate::record::Event;

impl Session {
    /// Takes a picture. That the page answers as it should is asked before, so that this fails without a browser, too.
    pub(super) fn screenshot(&self, request: &Screenshot) -> Answer<Picture> {
        require_plain_name(&request.name)?;
        let deadline = Duration::from_millis(request.deadline_ms);
        let page = self.lab.page(&request.url, deadline).map_err(|error| self.of_picture(error))?;
        self.lab.load(&page).map_err(|error| self.of_picture(error))?;
        let (picture, recorded) = match Browser::find() {
            Err(reason) => (Picture::Skipped { reason: reason.clone() }, Picture::Skipped { reason }),
            Ok(browser) => {
                let invoker = &self.spec.invoker;
                let user = if invoker.is_root() { Invoker::nobody() } else { invoker.clone() };
                let taken = self.lab.picture(&browser, &page, &user, &|| self.shall_stop());
                let bytes = taken.map_err(|error| self.of_picture(error))?;
                let file = format!("{}.png", request.name);
                let path = self.spec.screenshots.join(&file);
                self.make_folder_of_pictures()?;
                let size_bytes = self.keep(&path, &mut bytes.as_slice())?;
                let below_run = PathBuf::from(format!("{}/{file}", self.spec.screenshots_in_run));
                (Picture::Taken { path, size_bytes }, Picture::Taken { path: below_run, size_bytes })
            }
        };
        self.recorder.record(Event::Screenshot {
            case: self.spec.case.clone(),
            name: request.name.clone(),
            url: request.url.clone(),
            picture: recorded,
        });
        Ok(picture)
    }

    /// Made for the first picture: a case without any has no such folder.
    fn make_folder_of_pictures(&self) -> Answer<()> {
        let folder = &self.spec.screenshots;
        let made = self.spec.invoker.act(|| Ok(std::fs::create_dir_all(folder)?));
        made.with_context(|| format!("making {}", folder.display())).map_err(|error| self.not_written(&error))
    }

    fn of_picture(&self, error: PictureError) -> RpcError {
        match error {
            PictureError::Deadline { .. } => RpcError::new(ErrorCode::Deadline, error.to_string()),
            PictureError::Interrupted => RpcError::new(ErrorCode::Interrupted, error.to_string()),
            PictureError::Url { .. } | PictureError::Page { .. } => self.refusal(&error.into()),
            PictureError::Host(error) => self.of_outage(&error),
        }
    }
}
