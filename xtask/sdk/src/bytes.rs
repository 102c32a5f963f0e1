//! Bytes that are sent to the engine and received from it: inline, or through a file where they are many.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use e2e_contract::{STREAM_BYTES_MAX, Stream};
use tempfile::NamedTempFile;

use crate::Result;

/// Stream to send, with the temporary file that must exist until the answer has come.
#[derive(Debug)]
pub struct Outgoing {
    pub stream: Stream,
    _file: Option<NamedTempFile>,
}

/// Makes a stream of bytes; many bytes go through a temporary file.
pub fn outgoing(bytes: &[u8]) -> Result<Outgoing> {
    if bytes.len() <= STREAM_BYTES_MAX {
        return Ok(Outgoing { stream: Stream::from_bytes(bytes.to_vec()), _file: None });
    }
    let mut file = NamedTempFile::with_prefix("e2e-").context("making a temporary file for a large stream")?;
    file.write_all(bytes).with_context(|| format!("writing {} bytes to {}", bytes.len(), file.path().display()))?;
    let stream = Stream::File { path: file.path().to_owned(), bytes: bytes.len() as u64 };
    Ok(Outgoing { stream, _file: Some(file) })
}

/// Makes a stream that names a file of the host, which the engine reads itself.
pub fn host_file(path: &Path) -> Result<Stream> {
    let metadata = path.metadata().with_context(|| format!("reading {}", path.display()))?;
    ensure!(metadata.is_file(), "{} is not a file", path.display());
    let path = std::path::absolute(path).with_context(|| format!("resolving the path {}", path.display()))?;
    Ok(Stream::File { path, bytes: metadata.len() })
}

/// Returns the bytes of a received stream, from its file if it names one.
pub fn incoming(stream: &Stream) -> Result<Vec<u8>> {
    if let Stream::File { path, .. } = stream {
        return std::fs::read(path)
            .with_context(|| format!("reading {}, the file of a stream from the engine", path.display()));
    }
    let inline = stream.inline_bytes().context("decoding a base64 stream from the engine")?;
    Ok(inline.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_bytes_go_inline_and_many_through_a_file_that_goes_away() {
        let few = outgoing(b"few").unwrap();
        assert_eq!(few.stream, Stream::Text("few".into()));
        let many = vec![7; STREAM_BYTES_MAX + 1];
        let sent = outgoing(&many).unwrap();
        let Stream::File { path, bytes } = sent.stream.clone() else { panic!("{:?} is inline", sent.stream) };
        assert_eq!(bytes, many.len() as u64);
        assert!(incoming(&sent.stream).unwrap() == many);
        drop(sent);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_the_host_that_is_none_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(host_file(folder.path()).unwrap_err().to_string().ends_with("is not a file"));
        let missing = folder.path().join("missing.csv");
        assert!(host_file(&missing).unwrap_err().to_string().contains("missing.csv"));
    }
}
