//! Streams of a program, read through pipes and kept up to a bound.
//!
//! A program can extend and truncate a file of the host that is its stdout (`truncate /proc/self/fd/1`), and the file grows for as long as
//! any process left behind writes. With a pipe neither happens: bytes past the bound are read, counted and dropped, so that the program
//! goes on as if they had been kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, PipeReader, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Maximum bytes that are kept of a stream of an `exec`, or of a file that `get` reads, from its start.
pub const OUTPUT_BYTES_MAX: u64 = 256 << 20;

/// Number of bytes that are read from a pipe at once: as many as a pipe holds.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Maximum bytes of a stream that are held in memory; a longer one goes to a file.
const MEMORY_BYTES_MAX: usize = 1 << 20;

/// Part of a stream that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptPart {
    /// Maximum number of bytes kept from the start.
    First(u64),
    /// Maximum number of bytes kept before the end, in memory.
    Last(usize),
}

impl Default for KeptPart {
    fn default() -> Self {
        Self::First(OUTPUT_BYTES_MAX)
    }
}

/// Kept part of a stream.
#[derive(Debug, Default)]
pub struct KeptStream {
    memory: VecDeque<u8>,
    /// Unnamed file with the whole kept part where it is too long for memory; deleted with this value.
    file: Option<File>,
    kept_bytes: u64,
    lost_bytes: u64,
}

impl KeptStream {
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Number of bytes past the bound, which were dropped.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }

    /// Returns the kept bytes, from an offset on.
    pub fn bytes_from(&self, offset: u64) -> io::Result<Vec<u8>> {
        let offset = offset.min(self.kept_bytes);
        let Some(file) = &self.file else {
            return Ok(self.memory.range(usize::try_from(offset).unwrap_or(usize::MAX)..).copied().collect());
        };
        let mut bytes = vec![0; usize::try_from(self.kept_bytes - offset).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    pub fn bytes(&self) -> io::Result<Vec<u8>> {
        self.bytes_from(0)
    }

    /// Returns the kept bytes as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> io::Result<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Returns the last of the kept bytes as text, for messages; empty where they cannot be read.
    #[must_use]
    pub fn end(&self, bytes_max: u64) -> String {
        let bytes = self.bytes_from(self.kept_bytes.saturating_sub(bytes_max)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    pub fn reader(&mut self) -> io::Result<Box<dyn io::Read + Send + '_>> {
        match &mut self.file {
            Some(file) => {
                file.rewind()?;
                Ok(Box::new(file))
            }
            None => Ok(Box::new(&mut self.memory)),
        }
    }

    fn take(&mut self, bytes: &[u8], part: KeptPart, folder: &Path) -> io::Result<()> {
        match part {
            KeptPart::Last(most) => {
                self.memory.extend(bytes);
                let surplus = self.memory.len().saturating_sub(most);
                self.memory.drain(..surplus);
                self.lost_bytes += surplus as u64;
            }
            KeptPart::First(most) => {
                let room = usize::try_from(most.saturating_sub(self.kept_bytes)).unwrap_or(usize::MAX);
                let (kept, lost) = bytes.split_at(room.min(bytes.len()));
                self.lost_bytes += lost.len() as u64;
                if self.file.is_none() && self.memory.len() + kept.len() > MEMORY_BYTES_MAX {
                    let mut file = tempfile::tempfile_in(folder)?;
                    file.write_all(self.memory.make_contiguous())?;
                    (self.file, self.memory) = (Some(file), VecDeque::new());
                }
                match &mut self.file {
                    Some(file) => file.write_all(kept)?,
                    None => self.memory.extend(kept),
                }
                self.kept_bytes += kept.len() as u64;
                return Ok(());
            }
        }
        self.kept_bytes = self.memory.len() as u64;
        Ok(())
    }
}

/// Output streams of a running program.
#[derive(Debug)]
pub struct ProgramOutput {
    reading: Arc<Reading>,
}

impl ProgramOutput {
    /// Starts reading. Returns the ends for the program's stdout and stderr, which belong to a user of the host, so that the program may
    /// open `/dev/stdout` again. Streams that are too long for memory go to unnamed files in the folder.
    pub fn start(part: KeptPart, folder: &Path, owner: (u32, u32)) -> anyhow::Result<(Self, File, File)> {
        let pipe = || -> anyhow::Result<(PipeReader, File)> {
            let (reader, writer) = io::pipe().context("making a pipe for a program's output")?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("preparing a pipe for a program's output")?;
            fchown(&writer, Some(owner.0), Some(owner.1)).context("setting the owner of a pipe")?;
            Ok((reader, File::from(OwnedFd::from(writer))))
        };
        let ((stdout, for_stdout), (stderr, for_stderr)) = (pipe()?, pipe()?);
        let (pipes, folder) = ([stdout, stderr], folder.to_owned());
        let reading = Arc::new(Reading { pipes, part, folder, state: Mutex::default() });
        let thread = std::thread::Builder::new().name("program output".into());
        let by_thread = Arc::clone(&reading);
        thread.spawn(move || by_thread.run()).context("starting a thread for a program's output")?;
        Ok((Self { reading }, for_stdout, for_stderr))
    }

    /// Returns what was written until now. What processes left behind write from now on is read and dropped.
    pub fn end(self) -> anyhow::Result<[KeptStream; 2]> {
        self.reading.end().context("keeping a program's output")
    }
}

/// State of the reading, which the reading thread shares with the thread that waits for the program's end: the latter reads the rest
/// itself, which saves a switch of threads.
#[derive(Debug)]
struct Reading {
    pipes: [PipeReader; 2],
    part: KeptPart,
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: [KeptStream; 2],
    failure: Option<io::Error>,
    /// True once further bytes of the streams are dropped.
    is_over: bool,
}

/// Result of one read.
enum Read {
    Bytes(usize),
    NothingNow,
    NeverAgain,
}

impl Reading {
    /// Reads until no process can write any more.
    fn run(&self) {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut open: Vec<usize> = (0..self.pipes.len()).collect();
        while !open.is_empty() {
            let pipes = open.iter().map(|place| self.pipes[*place].as_fd());
            let mut wanted: Vec<PollFd<'_>> = pipes.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)).collect();
            let _ = poll(&mut wanted, PollTimeout::NONE); // an interrupted one is asked again
            open.retain(|place| !matches!(self.read(*place, &mut self.state(), &mut buffer), Read::NeverAgain));
        }
    }

    fn end(&self) -> io::Result<[KeptStream; 2]> {
        let mut state = self.state();
        let mut buffer = vec![0; CHUNK_BYTES];
        for place in 0..self.pipes.len() {
            // What was written before the end is in the pipe by now: no more than that, or a writer could go on for ever.
            let mut left = waiting_bytes(&self.pipes[place]);
            while left > 0 {
                let most = left.min(buffer.len());
                let Read::Bytes(count) = self.read(place, &mut state, &mut buffer[..most]) else { break };
                left -= count;
            }
        }
        state.is_over = true;
        let kept = std::mem::take(&mut state.kept);
        state.failure.take().map_or(Ok(kept), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads once, under the lock, so that bytes are kept in their order whichever thread reads them.
    fn read(&self, place: usize, state: &mut State, buffer: &mut [u8]) -> Read {
        let count = match (&self.pipes[place]).read(buffer) {
            Ok(0) => return Read::NeverAgain,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Read::NothingNow;
            }
            Err(_) => return Read::NeverAgain,
        };
        if !state.is_over && state.failure.is_none() {
            state.failure = state.kept[place].take(&buffer[..count], self.part, &self.folder).err();
        }
        Read::Bytes(count)
    }
}

/// Returns the number of bytes that wait in a pipe.
pub(super) fn waiting_bytes(pipe: &PipeReader) -> usize {
    let mut count: libc::c_int = 0;
    // SAFETY: the call writes one number, which lives as long as it does.
    let asked = unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if asked == 0 { usize::try_from(count).unwrap_or_default() } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::host::exec::shell::Command;

    fn run(script: &str, part: KeptPart) -> [KeptStream; 2] {
        let folder = tempfile::tempdir().unwrap();
        let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let (output, stdout, stderr) = ProgramOutput::start(part, folder.path(), me).unwrap();
        let command = Command::new("sh").args(["-c", script]).deadline(Duration::from_secs(60));
        command.output_to_files(stdout, stderr).unwrap();
        output.end().unwrap()
    }

    #[test]
    fn both_streams_are_kept_as_they_are() {
        let [stdout, stderr] = run("printf 'one\\n'; printf '\\377' >&2; echo two > /dev/stdout", KeptPart::default());
        assert_eq!(stdout.bytes().unwrap(), b"one\ntwo\n");
        assert_eq!((stderr.bytes().unwrap(), stderr.lost_bytes()), (vec![255], 0));
        assert_eq!((stdout.end(4), stdout.bytes_from(99).unwrap()), ("two".to_owned(), Vec::new()));
    }

    #[test]
    fn past_the_bound_bytes_are_counted_and_the_program_goes_on() {
        let most = 3 * MEMORY_BYTES_MAX as u64;
        let [mut stdout, stderr] = run("head -c 9000000 /dev/zero; echo ended >&2", KeptPart::First(most));
        assert_eq!((stdout.kept_bytes(), stdout.lost_bytes()), (most, 9_000_000 - most));
        assert_eq!(stderr.text().unwrap(), "ended\n");
        assert!(stdout.file.as_ref().unwrap().metadata().unwrap().blocks() * 512 <= most + 65_536);
        let mut read = Vec::new();
        stdout.reader().unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, vec![0; usize::try_from(most).unwrap()]);
        let [stdout, _] = run("head -c 5000000 /dev/zero; echo last", KeptPart::Last(5));
        assert_eq!((stdout.text().unwrap().as_str(), stdout.lost_bytes()), ("last\n", 5_000_000));
    }

    /// Checks that `ftruncate` on stdout is refused: on a file of the host it would allocate blocks.
    #[test]
    fn a_program_cannot_extend_its_own_stdout() {
        let [stdout, stderr] = run("truncate -s 700M /proc/self/fd/1 || echo refused; echo after", KeptPart::default());
        assert_eq!(stdout.text().unwrap(), "refused\nafter\n", "{}", stderr.end(2000));
    }

    #[test]
    fn what_was_left_behind_is_not_waited_for_and_not_stopped_by_a_closed_pipe() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let begun = Instant::now();
        // It goes on when this test has looked, and writes more than a pipe holds.
        let script = format!(
            "echo before; (while [ ! -e {0} ]; do sleep 0.05; done; head -c 1000000 /dev/zero && : > {0}.ended) &",
            mark.display()
        );
        let [stdout, _] = run(&script, KeptPart::default());
        assert_eq!(stdout.text().unwrap(), "before\n");
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::fs::write(&mark, "").unwrap();
        while !folder.path().join("mark.ended").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the program that was left behind did not end");
            std::thread::sleep(Duration::from_millis(20)); // a file that appears gives no sign
        }
    }
}
