//! Files and streams of a scenario's requests: into containers, out of them, and among the record's files.

use std::io::{Read as _, Seek as _};

use anyhow::Context as _;
use e2e_contract::{Artifact, Done, ErrorCode, Get, Put, RpcError, STREAM_BYTES_MAX, Stream};
use nix::errno::Errno;
use tempfile::NamedTempFile;

use super::requests::{Answer, Session};
use crate::record::{Event, is_file_name};

impl Session {
    pub(super) fn put(&self, put: &Put) -> Answer<Done> {
        let container = self.container(&put.container)?;
        let content = self.bytes_of(&put.content)?;
        let request = self.exec_request(put.deadline_ms);
        container
            .put(&put.path, content, put.mode, put.owner.as_deref(), request)
            .map_err(|error| self.refusal(&error))?;
        Ok(Done {})
    }

    pub(super) fn get(&self, get: &Get) -> Answer<Stream> {
        let container = self.container(&get.container)?;
        let output =
            container.get(&get.path, self.exec_request(get.deadline_ms)).map_err(|error| self.refusal(&error))?;
        self.stream(output.stdout, "get")
    }

    pub(super) fn artifact(&self, artifact: &Artifact) -> Answer<Done> {
        let name = &artifact.name;
        require_plain_name(name)?;
        let bytes = self.bytes_of(&artifact.content)?;
        let path = format!("{}/{name}", self.spec.artifacts_in_run);
        self.keep(&path, &mut bytes.as_slice())?;
        let size_bytes = bytes.len() as u64;
        self.recorder.record(Event::Artifact { case: self.spec.case.clone(), path, size_bytes });
        Ok(Done {})
    }

    pub(super) fn bytes_of(&self, stream: &Stream) -> Answer<Vec<u8>> {
        let bad = |error: String| RpcError::new(ErrorCode::InvalidParams, error);
        match stream {
            Stream::File { path, .. } => self.spec.invoker.read(path).map_err(|error| bad(format!("{error:#}"))),
            inline => Ok(inline.inline_bytes().map_err(|error| bad(error.to_string()))?.unwrap_or_default()),
        }
    }

    /// A stream for the answer: inline, or, where it is large, as a file among the artifacts that belongs to the user.
    /// It is read by its descriptor: the file's folder is root's, and another file system than the artifacts'.
    pub(super) fn stream(&self, mut file: NamedTempFile, what: &str) -> Answer<Stream> {
        let start = |file: &mut NamedTempFile| -> std::io::Result<u64> {
            file.rewind()?;
            Ok(file.as_file().metadata()?.len())
        };
        let broken = |error: std::io::Error| {
            self.infrastructure(&anyhow::Error::new(error).context("reading a program's output"))
        };
        // What it left running may still write: no more is taken than there was at its end.
        let bytes = start(&mut file).map_err(broken)?;
        let mut content = file.as_file().take(bytes);
        if bytes <= STREAM_BYTES_MAX as u64 {
            let mut inline = Vec::new();
            content.read_to_end(&mut inline).map_err(broken)?;
            return Ok(Stream::from_bytes(inline));
        }
        let number = {
            let mut state = self.state();
            state.streams_kept += 1;
            state.streams_kept
        };
        let name = format!("stream-{number}-{what}");
        let bytes = self.keep(&format!("{}/{name}", self.spec.artifacts_in_run), &mut content)?;
        Ok(Stream::File { path: self.spec.artifacts.join(name), bytes })
    }

    /// Writes a file among the artifacts, a folder that the scenario may have changed at will; returns its length.
    pub(super) fn keep(&self, path: &str, content: &mut (dyn std::io::Read + Send)) -> Answer<u64> {
        self.write(path, content).map_err(|error| self.not_written(&error))
    }

    /// Writes a file of the record, named below the run's folder, with the rights of the scenario's user; returns its length.
    pub(super) fn write(&self, path: &str, content: &mut (dyn std::io::Read + Send)) -> anyhow::Result<u64> {
        let dir = &self.spec.dir;
        let mut file = dir.file(path)?;
        let bytes = dir.act(|| Ok(std::io::copy(content, &mut file)?));
        bytes.with_context(|| format!("writing {}", dir.path().join(path).display()))
    }

    /// What was to be kept could not be written.
    pub(super) fn not_written(&self, error: &anyhow::Error) -> RpcError {
        if is_hosts(error) { self.infrastructure(error) } else { self.refusal(error) }
    }
}

/// A name that a file of the record may have: not a way out of its folder, and nothing that a terminal would obey.
pub(super) fn require_plain_name(name: &str) -> Answer<()> {
    if is_file_name(name) {
        return Ok(());
    }
    let problem = format!(
        "{name:?} is no plain file name: up to 200 bytes of visible characters without '/', a dot at the begin, and blanks at the ends"
    );
    Err(RpcError::new(ErrorCode::InvalidParams, problem))
}

/// Whether a file could not be written for the host's sake, not for what the scenario asked for or did to its folder.
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
