//! Files and streams in a scenario's requests: copied into containers, out of them, and to the record.

use std::io::Read as _;

use anyhow::Context as _;
use e2e_contract::{Artifact, Done, ErrorCode, Get, Put, RpcError, STREAM_BYTES_MAX, Stream};
use nix::errno::Errno;

use super::bounds::OverBound;
use super::failure::RequestFailure;
use super::state::{Answer, Session};
use crate::host::exec::program_output::KeptStream;
use crate::record::{Event, KEPT_BYTES_MAX, is_file_name};

impl Session {
    pub(super) fn put(&self, put: &Put) -> Answer<Done> {
        let container = self.container(&put.container)?;
        let content = self.bytes_of(&put.content)?;
        let request = self.exec_request(put.deadline_ms);
        let written = container.put(&put.path, content, put.mode, put.owner.as_deref(), request);
        written.map(|()| Done {}).map_err(|error| self.answer_to(RequestFailure::of_file(error)))
    }

    pub(super) fn get(&self, get: &Get) -> Answer<Stream> {
        let container = self.container(&get.container)?;
        let read = container.get(&get.path, self.exec_request(get.deadline_ms));
        let mut output = read.map_err(|error| self.answer_to(RequestFailure::of_file(error)))?;
        self.stream(&mut output.stdout, "get")?.map_err(|full| bad(full.to_string()))
    }

    pub(super) fn artifact(&self, artifact: &Artifact) -> Answer<Done> {
        let name = &artifact.name;
        require_plain_name(name)?;
        let path = self.spec.dir.name_of(&format!("{}/{name}", self.spec.artifacts_in_run));
        let what = format!("artifact {name:?}");
        let masks = self.spec.dir.masks();
        let size_bytes = match &artifact.content {
            // Nothing of it is to be masked: it need not be held in memory.
            Stream::File { path: from, .. } if masks.is_empty() => {
                let (mut file, bytes) = self.spec.invoker.open(from).map_err(|error| bad(format!("{error:#}")))?;
                self.keep(&what, &path, bytes, &mut file)?
            }
            content => {
                let bytes = self.bytes_of(content)?;
                let kept = masks.content(name, &bytes);
                self.keep(&what, &path, kept.len() as u64, &mut kept.as_ref())?
            }
        };
        self.recorder.record(Event::Artifact { case: self.spec.case.clone(), path, size_bytes });
        Ok(Done {})
    }

    pub(super) fn bytes_of(&self, stream: &Stream) -> Answer<Vec<u8>> {
        match stream {
            Stream::File { path, .. } => self.spec.invoker.read(path).map_err(|error| bad(format!("{error:#}"))),
            inline => Ok(inline.inline_bytes().map_err(|error| bad(error.to_string()))?.unwrap_or_default()),
        }
    }

    /// Returns an output stream for an answer: inline, or, if it is large, as a file in the artifacts' folder. The inner error says that
    /// the record has no room for that file.
    pub(super) fn stream(&self, stream: &mut KeptStream, what: &str) -> Answer<Result<Stream, OverBound>> {
        let bytes = stream.kept_bytes();
        if bytes <= STREAM_BYTES_MAX as u64 {
            return Ok(Ok(Stream::from_bytes(stream.bytes().map_err(|error| self.unreadable(error))?)));
        }
        let number = {
            let mut state = self.state();
            state.streams_kept += 1;
            state.streams_kept
        };
        let name = format!("stream-{number}-{what}");
        let path = format!("{}/{name}", self.spec.artifacts_in_run);
        let mut reader = stream.reader().map_err(|error| self.unreadable(error))?;
        match self.write(&format!("the stream {name}"), &path, bytes, &mut reader) {
            Ok(bytes) => Ok(Ok(Stream::File { path: self.spec.artifacts.join(name), bytes })),
            Err(NotWritten::Full(full)) => Ok(Err(full)),
            Err(error) => Err(self.answer_to(error)),
        }
    }

    /// Returns an output stream like [`Session::stream`], but only its beginning if the record has no room for all; also returns the number
    /// of dropped bytes.
    pub(super) fn stream_or_begin(&self, stream: &mut KeptStream, what: &str) -> Answer<(Stream, u64)> {
        if let Ok(whole) = self.stream(stream, what)? {
            return Ok((whole, stream.lost_bytes()));
        }
        let mut begin = Vec::new();
        let reader = stream.reader().and_then(|reader| reader.take(STREAM_BYTES_MAX as u64).read_to_end(&mut begin));
        reader.map_err(|error| self.unreadable(error))?;
        let lost_bytes = stream.lost_bytes() + stream.kept_bytes() - begin.len() as u64;
        Ok((Stream::from_bytes(begin), lost_bytes))
    }

    fn unreadable(&self, error: std::io::Error) -> RpcError {
        self.answer_to(anyhow::Error::new(error).context("reading a program's output"))
    }

    /// Writes a file to the artifacts' folder, which the scenario may have changed in any way; returns the file's length.
    fn keep(&self, what: &str, path: &str, bytes: u64, content: &mut (dyn std::io::Read + Send)) -> Answer<u64> {
        self.write(what, path, bytes, content).map_err(|error| self.answer_to(error))
    }

    /// Writes a file of `bytes` bytes to the record, at a path below the run's folder, with the rights of the scenario's user; returns its
    /// length.
    ///
    /// # Errors
    /// [`OverBound`] when the attempt or the run may not keep that much.
    pub(super) fn write(
        &self,
        what: &str,
        path: &str,
        bytes: u64,
        content: &mut (dyn std::io::Read + Send),
    ) -> Result<u64, NotWritten> {
        let dir = &self.spec.dir;
        self.used.take_file(what, bytes)?;
        if !dir.take_room(bytes) {
            self.used.give_back_file(bytes);
            return Err(OverBound::Run { what: what.to_owned(), bytes, most: KEPT_BYTES_MAX }.into());
        }
        let mut write = || -> anyhow::Result<u64> {
            let mut file = dir.file(path)?;
            // A file of the user's may grow meanwhile.
            dir.act(|| Ok(std::io::copy(&mut content.take(bytes), &mut file)?))
        };
        let written = write().with_context(|| format!("writing {}", dir.path().join(path).display()));
        written.map_err(|error| {
            self.used.give_back_file(bytes);
            dir.give_back_room(bytes);
            error.into()
        })
    }
}

/// Failure to write a file of the record.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotWritten {
    /// The attempt or the run may not keep as much.
    #[error(transparent)]
    Full(#[from] OverBound),
    /// The system could not write it.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<NotWritten> for RequestFailure {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::Failed(error) if is_hosts(&error) => error.into(),
            error => Self::Refused(format!("{:#}", anyhow::Error::from(error))),
        }
    }
}

fn bad(message: String) -> RpcError {
    RpcError::new(ErrorCode::InvalidParams, message)
}

/// Refuses a file name that leads out of its folder or has characters that a terminal would interpret.
pub(super) fn require_plain_name(name: &str) -> Answer<()> {
    if is_file_name(name) {
        return Ok(());
    }
    let problem = format!(
        "{name:?} is no plain file name: use up to 200 bytes of visible characters, without '/', a dot at the beginning, or blanks at the ends"
    );
    Err(RpcError::new(ErrorCode::InvalidParams, problem))
}

/// Tells whether the host is the reason that a file could not be written, rather than the requested name or the scenario's changes to the
/// folder.
fn is_hosts(error: &anyhow::Error) -> bool {
    let number = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
    let number = number.map(Errno::from_raw);
    matches!(
        number,
        None | Some(
            Errno::ENOSPC | Errno::EDQUOT | Errno::EIO | Errno::EROFS | Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_the_hosts_and_a_bad_name_the_scenarios() {
        let error = |errno: Errno| anyhow::Error::new(std::io::Error::from(errno)).context("making a file");
        for errno in [Errno::ENAMETOOLONG, Errno::EISDIR, Errno::ENOENT, Errno::EACCES, Errno::EEXIST, Errno::ELOOP] {
            assert!(!is_hosts(&error(errno)), "{errno}");
        }
        for errno in [Errno::ENOSPC, Errno::EIO] {
            assert!(is_hosts(&error(errno)), "{errno}");
        }
        assert!(is_hosts(&anyhow::anyhow!("no system call failed")));
    }
}
