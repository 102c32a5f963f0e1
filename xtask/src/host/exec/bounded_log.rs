//! Log on the host that keeps only its newest bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::program_output::CHUNK_BYTES;

/// Maximum bytes of the log of a process that the guard has started, such as a build of a layer; a longer one loses its older half.
pub const LOG_BYTES_MAX: u64 = 16 << 20;

/// Maximum number of reads in one [`PipedLog::take`], so that a process which never stops writing does not hold up the reader's other work.
const READS_MAX: usize = 16;

/// Log that is filled from a pipe. A process that had the file itself as its output could extend it at will.
#[derive(Debug)]
pub struct PipedLog {
    pipe: PipeReader,
    log: BoundedLog,
}

impl PipedLog {
    /// Opens the log, to be appended to; returns the end of the pipe for the process.
    pub fn open(path: &Path) -> io::Result<(Self, File)> {
        let (pipe, writer) = io::pipe()?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let log = BoundedLog::open(path, LOG_BYTES_MAX)?;
        Ok((Self { pipe, log }, File::from(std::os::fd::OwnedFd::from(writer))))
    }

    /// Moves what has been written by now from the pipe to the log; returns false where no process can write any more. On a full disk
    /// output is lost and no error returned.
    pub fn take(&mut self) -> bool {
        let mut buffer = vec![0; CHUNK_BYTES];
        for _ in 0..READS_MAX {
            match self.pipe.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => drop(self.log.append(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

impl AsFd for PipedLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[derive(Debug)]
struct BoundedLog {
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl BoundedLog {
    fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, bytes_max })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes + bytes.len() as u64 > self.bytes_max {
            self.cut()?;
        }
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let from = length.saturating_sub(self.bytes_max / 2);
        let mut kept = vec![0; usize::try_from(length - from).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut kept, from)?;
        let said = format!("[earlier lines of this log are not kept, only the last {} MiB]\n", LOG_BYTES_MAX >> 20);
        self.file.set_len(0)?;
        self.file.write_all(said.as_bytes())?;
        self.file.write_all(&kept)?;
        self.bytes = (said.len() + kept.len()) as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::host::exec::shell::Command;

    #[test]
    fn the_newest_bytes_are_kept_and_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        std::fs::write(&path, "earlier\n").unwrap();
        let mut log = BoundedLog::open(&path, 1000).unwrap();
        for number in 0..1000 {
            log.append(format!("line {number}\n").as_bytes()).unwrap();
            assert!(path.metadata().unwrap().len() <= 1000);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("[earlier lines of this log are not kept") && text.ends_with("line 998\nline 999\n"));
        assert!(text.len() > 400, "{}", text.len());
    }

    #[test]
    fn a_process_cannot_extend_the_log_and_all_that_it_wrote_is_there_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (mut log, writer) = PipedLog::open(&path).unwrap();
        let script = "truncate -s 700M /proc/self/fd/1 || echo refused; head -c 30000000 /dev/zero; echo; echo last";
        let command = Command::new("sh").args(["-c", script]).deadline(Duration::from_secs(60));
        let program = std::thread::spawn(move || command.output_to_files(writer.try_clone().unwrap(), writer).unwrap());
        let begun = Instant::now();
        loop {
            let mut wanted = [PollFd::new(log.as_fd(), PollFlags::POLLIN)];
            poll(&mut wanted, PollTimeout::from(10_000_u16)).unwrap();
            if !log.take() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        assert_eq!(program.join().unwrap().status, 0);
        assert!(path.metadata().unwrap().len() <= LOG_BYTES_MAX);
        assert!(std::fs::read(&path).unwrap().ends_with(b"\nlast\n"));
    }
}
