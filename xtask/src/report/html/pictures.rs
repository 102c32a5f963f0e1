//! Pictures of web pages that scenarios took; small ones are embedded into the report.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e_contract::{Likeness, Picture, PictureSize};
use serde::Serialize;

use super::story::Shot;
use super::words::{Moment, moment, size};
use crate::input;

/// Maximum bytes of an embedded picture; a larger picture is a link to its file.
const BYTES_MAX: u64 = 600 << 10;

/// Maximum bytes of all pictures embedded into a page.
const ROOM: u64 = 2 << 20;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// View of a picture that a scenario took, or of the comparison of such a picture with an expected one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PictureView {
    pub name: String,
    /// Address of the web page in the picture.
    pub url: String,
    pub at: Moment,
    /// The picture as a `data:` address; `None` if it is not embedded.
    pub data: Option<String>,
    /// Path of the picture's file, relative to the run's folder.
    pub path: Option<String>,
    /// Size of the picture's file, or the reason why there is no picture.
    pub note: String,
}

/// Number of bytes that a page has left for embedded pictures.
#[derive(Debug, Clone, Copy)]
pub struct Room(u64);

impl Room {
    /// Number of bytes for pictures in an empty page.
    pub const ALL: Self = Self(ROOM);

    /// Returns the view of a picture that was taken at `at_ms` on the run's clock; `folder` is the run's.
    pub fn picture(&mut self, folder: &Path, at_ms: f64, shot: &Shot) -> PictureView {
        let Shot { name, url, picture } = shot;
        match picture {
            Picture::Skipped { reason } => view(at_ms, name, url, reason.clone()),
            Picture::Taken { path, size_bytes } => {
                self.fill(folder, path, view(at_ms, name, url, size(*size_bytes as f64)))
            }
        }
    }

    /// Returns the view of a comparison with an expected picture, in which differing pixels are red. The taken picture has a view of its
    /// own.
    pub fn likeness(&mut self, folder: &Path, at_ms: f64, name: &str, likeness: &Likeness) -> PictureView {
        let name = format!("{name}, compared");
        match likeness {
            Likeness::Skipped { reason } => view(at_ms, &name, "", reason.clone()),
            Likeness::OtherSize { taken, expected, .. } => {
                let shown = |size: &PictureSize| format!("{} x {} pixels", size.width_pixels, size.height_pixels);
                view(at_ms, &name, "", format!("{}, and the expected one has {}", shown(taken), shown(expected)))
            }
            Likeness::Compared { difference, pixels_off, pixels, .. } => {
                let note = format!("{pixels_off} of {pixels} pixels are not the expected ones, here in red");
                match difference {
                    Some(path) => self.fill(folder, path, view(at_ms, &name, "", note)),
                    None => view(at_ms, &name, "", "as expected, to the pixel".into()),
                }
            }
        }
    }

    /// Embeds the picture of a file into a view; if the picture cannot be embedded, the view's note tells the reason.
    fn fill(&mut self, folder: &Path, path: &Path, view: PictureView) -> PictureView {
        let found = match input::look_below(folder, path) {
            Err(error) => Err(format!("the picture's file cannot be read: {error}")),
            Ok(metadata) if metadata.len() > BYTES_MAX => {
                Err(format!("not embedded: the picture is larger than {}", size(BYTES_MAX as f64)))
            }
            Ok(metadata) if metadata.len() > self.0 => {
                Err(format!("not embedded: the page has room for {} of pictures, which is used up", size(ROOM as f64)))
            }
            Ok(_) => input::read_below(folder, path, BYTES_MAX)
                .map_err(|error| format!("the picture's file cannot be read: {error}")),
        };
        let found = found.and_then(|bytes| {
            let is_picture = bytes.starts_with(SIGNATURE);
            if is_picture { Ok(bytes) } else { Err("not embedded: the file is no PNG picture".to_owned()) }
        });
        let (data, note) = match found {
            Err(why) => (None, format!("{}; {why}", view.note)),
            Ok(bytes) => {
                self.0 = self.0.saturating_sub(bytes.len() as u64);
                (Some(format!("data:image/png;base64,{}", STANDARD.encode(bytes))), view.note)
            }
        };
        PictureView { data, note, path: Some(path.display().to_string()), ..view }
    }
}

/// Returns the view of a picture that is not embedded yet; `note` tells the size, or why there is no picture.
fn view(at_ms: f64, name: &str, url: &str, note: String) -> PictureView {
    PictureView { name: name.to_owned(), url: url.to_owned(), at: moment(at_ms), data: None, path: None, note }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_in_the_page_where_it_is_one_and_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("good.png", &[SIGNATURE, b"rest"].concat());
        write("bad.png", b"<svg onload=alert(1)>");
        let mut room = Room::ALL;
        let mut data = |name: &str, size_bytes| {
            let picture = Picture::Taken { path: name.into(), size_bytes };
            let shot = Shot { name: "n".into(), url: "http://app/".into(), picture };
            room.picture(folder.path(), 5.0, &shot).data
        };
        assert!(data("good.png", 12).unwrap().starts_with("data:image/png;base64,iVBORw0KGgpyZXN0"));
        write("large.png", &[SIGNATURE, &[0; 700 << 10]].concat());
        let mut data = |name: &str| data(name, 1);
        std::os::unix::fs::symlink("good.png", folder.path().join("link.png")).unwrap();
        let found = ["bad.png", "none.png", "large.png", "link.png", "../good.png"].map(&mut data);
        assert_eq!(found, [const { None }; 5]);
        let mut none = Room(3);
        let shot = Shot {
            name: "n".into(),
            url: String::new(),
            picture: Picture::Taken { path: "good.png".into(), size_bytes: 12 },
        };
        let view = none.picture(folder.path(), 5.0, &shot);
        assert_eq!((view.data, view.path.as_deref()), (None, Some("good.png")));
        assert_eq!(view.note, "12 B; not embedded: the page has room for 2.00 MiB of pictures, which is used up");
        let (path, difference) = ("good.png".into(), Some("good.png".into()));
        let likeness = Likeness::Compared { path, difference, pixels_off: 3, pixels: 9 };
        let view = { Room::ALL }.likeness(folder.path(), 5.0, "n", &likeness);
        assert!(view.data.is_some(), "{view:?}");
        assert_eq!(view.note, "3 of 9 pixels are not the expected ones, here in red");
    }
}
