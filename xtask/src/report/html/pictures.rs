//! Pictures, in the page itself where they are small enough.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e_contract::Picture;
use serde::Serialize;

use super::story::Shot;
use super::words::{Moment, moment, size};

/// A larger picture is a link to its file.
const BYTES_MAX: u64 = 600 << 10;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A picture of the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PictureView {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub url: String,
    /// When it was taken.
    pub at: Moment,
    /// The picture itself, where it is small enough.
    pub data: Option<String>,
    /// Its file below the run's folder.
    pub path: Option<String>,
    /// Its size, or why there is none.
    pub note: String,
}

/// How many bytes of pictures a page still takes.
#[derive(Debug, Clone, Copy)]
pub struct Room(u64);

impl Room {
    /// That of an empty page.
    pub const ALL: Self = Self(2 << 20);

    /// A picture that was taken at this moment of a run in this folder.
    pub fn picture(&mut self, folder: &Path, at_ms: f64, shot: &Shot) -> PictureView {
        let view = |data, path, note| {
            let Shot { name, url, .. } = shot.clone();
            PictureView { name, url, at: moment(at_ms), data, path, note }
        };
        match &shot.picture {
            Picture::Skipped { reason } => view(None, None, reason.clone()),
            Picture::Taken { path, size_bytes } => {
                let shown = size(*size_bytes as f64);
                let bytes = (*size_bytes <= BYTES_MAX.min(self.0)).then(|| std::fs::read(folder.join(path)).ok());
                let bytes =
                    bytes.flatten().filter(|bytes| bytes.starts_with(SIGNATURE) && bytes.len() as u64 <= BYTES_MAX);
                let data = bytes.map(|bytes| {
                    self.0 = self.0.saturating_sub(bytes.len() as u64);
                    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
                });
                view(data, Some(path.display().to_string()), shown)
            }
        }
    }
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
        assert_eq!([data("bad.png", 21), data("none.png", 5), data("good.png", 700 << 10)], [None, None, None]);
        let mut none = Room(3);
        let shot = Shot {
            name: "n".into(),
            url: String::new(),
            picture: Picture::Taken { path: "good.png".into(), size_bytes: 12 },
        };
        let view = none.picture(folder.path(), 5.0, &shot);
        assert_eq!((view.data, view.path.as_deref(), view.note.as_str()), (None, Some("good.png"), "12 B"));
    }
}
