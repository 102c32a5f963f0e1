//! Bytes in a JSON message.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

/// Bytes in a message: as text where that is shorter, else in base 64; a large stream is in a file.
///
/// Both sides send up to [`crate::STREAM_BYTES_MAX`] bytes inline and anything larger as a file. So two inline streams always fit into a
/// line of [`crate::LINE_BYTES_MAX`], whatever bytes they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Bytes that are UTF-8 text.
    Text(String),
    /// Other bytes, in base 64 (standard alphabet, padded).
    Base64(String),
    /// Bytes in a file of the host that the scenario may read. The side that made the file removes it: the scenario when the answer has
    /// come, the engine not before the session ends.
    File {
        /// Absolute path on the host.
        path: PathBuf,
        /// Length of the file.
        bytes: u64,
    },
}

impl Stream {
    /// Makes a stream of these bytes: as text where that loses nothing and is no longer than base 64 would be, since control characters
    /// take six bytes each in JSON.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) if json_bytes(&text) <= text.len() / 3 * 4 + 4 => Self::Text(text),
            Ok(text) => Self::Base64(STANDARD.encode(text)),
            Err(error) => Self::Base64(STANDARD.encode(error.into_bytes())),
        }
    }

    /// Returns the bytes of an inline stream; `None` for [`Stream::File`], whose file the caller reads.
    ///
    /// # Errors
    /// When the base 64 is malformed.
    pub fn inline_bytes(&self) -> Result<Option<Vec<u8>>, base64::DecodeError> {
        match self {
            Self::Text(text) => Ok(Some(text.clone().into_bytes())),
            Self::Base64(text) => STANDARD.decode(text).map(Some),
            Self::File { .. } => Ok(None),
        }
    }
}

/// Returns the length of a text in JSON, without its quotes.
fn json_bytes(text: &str) -> usize {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_way_through_json() {
        for bytes in [b"plain".to_vec(), vec![0, 159, 146, 150], Vec::new(), "zwölf\n".into()] {
            let line = serde_json::to_string(&Stream::from_bytes(bytes.clone())).unwrap();
            let back: Stream = serde_json::from_str(&line).unwrap();
            assert_eq!(back.inline_bytes().unwrap().unwrap(), bytes);
        }
    }

    #[test]
    fn no_bytes_grow_by_more_than_a_third() {
        let control: Vec<u8> = (0..30_000u32).map(|i| (i % 32) as u8).collect();
        for bytes in [control, vec![0; 30_000], vec![b'"'; 30_000], vec![b'a'; 30_000], vec![255; 30_000]] {
            let line = serde_json::to_string(&Stream::from_bytes(bytes.clone())).unwrap();
            assert!(line.len() < 40_100, "{} bytes became {}", bytes.len(), line.len());
        }
    }
}
