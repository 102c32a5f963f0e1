//! Pipes between a program and those of this process's streams that are files: the program gets the pipes, and never the files.
//!
//! A program that holds a file of the host itself may extend it, shorten it, and read what is in it, whichever way it got the file:
//! `/proc/self/fd/1` opens it again.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::isatty;

use super::program_output::{CHUNK_BYTES, waiting_bytes};

/// Type of the file system that unnamed pipes lie on.
const PIPEFS_MAGIC: nix::libc::c_long = 0x5049_5045;

/// Transport of a program's streams from and to files of this process.
#[derive(Debug, Default)]
pub(super) struct Relay {
    outputs: Vec<Output>,
}

#[derive(Debug)]
struct Output {
    name: &'static str,
    /// End of a second pipe, closed when the program has ended, so that the copying ends even where processes left behind keep the output
    /// open.
    program: PipeWriter,
    thread: JoinHandle<io::Result<()>>,
}

impl Relay {
    /// Gives the command a pipe in place of each of this process's streams that is neither a terminal nor a pipe itself.
    pub(super) fn begin(command: &mut Command) -> io::Result<Self> {
        if let Some(file) = to_relay(0)? {
            command.stdin(reader_of(file)?);
        }
        let mut outputs = Vec::new();
        if let Some(file) = to_relay(1)? {
            let (output, writer) = Output::begin("standard output", file)?;
            command.stdout(writer);
            outputs.push(output);
        }
        if let Some(file) = to_relay(2)? {
            let (output, writer) = Output::begin("standard error", file)?;
            command.stderr(writer);
            outputs.push(output);
        }
        Ok(Self { outputs })
    }

    /// Waits until all that the program wrote before its end is in the files. What processes left behind write later is not read.
    pub(super) fn end(self) -> anyhow::Result<()> {
        for Output { name, program, thread } in self.outputs {
            drop(program);
            let written = thread.join().map_err(|_| anyhow!("the thread that copies a stream panicked"))?;
            written.with_context(|| format!("writing the program's {name}"))?;
        }
        Ok(())
    }
}

impl Output {
    fn begin(name: &'static str, file: File) -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let (ended, program) = io::pipe()?;
        let thread = std::thread::Builder::new().name("relay".into());
        let thread = thread.spawn(move || write_all(reader, &ended, file))?;
        Ok((Self { name, program, thread }, writer))
    }
}

/// Returns a handle of one of this process's streams that is a file; `None` where it is a terminal or an unnamed pipe, or is closed.
fn to_relay(stream: RawFd) -> io::Result<Option<File>> {
    // SAFETY: nobody closes the streams of this process.
    let stream = unsafe { BorrowedFd::borrow_raw(stream) };
    let Ok(file) = stream.try_clone_to_owned().map(File::from) else { return Ok(None) };
    // One with a name in a folder could be opened again, for writing too, by whoever is handed it.
    let is_pipe = file.metadata()?.file_type().is_fifo() && fstatfs(&file)?.filesystem_type() == FsType(PIPEFS_MAGIC);
    Ok((!is_pipe && !isatty(&file).unwrap_or(false)).then_some(file))
}

/// Returns a pipe that a file is read into. The reading thread ends with this process, because the file may never end.
fn reader_of(mut file: File) -> io::Result<Stdio> {
    let (reader, mut writer) = io::pipe()?;
    let thread = std::thread::Builder::new().name("relay".into());
    thread.spawn(move || {
        // A program that has ended, or has closed its input, reads no further; a file that cannot be read ends here.
        let _ = io::copy(&mut file, &mut writer);
    })?;
    Ok(reader.into())
}

/// Copies a pipe to a file, until no process can write to the pipe, or the program has ended and all that it wrote is in the file.
fn write_all(mut reader: PipeReader, ended: &PipeReader, mut file: File) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let mut wanted = [&reader, ended].map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        match poll(&mut wanted, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            asked => asked?,
        };
        if wanted[1].any().unwrap_or(false) {
            // No more than stands in the pipe now, or whatever the program left behind could go on for ever.
            let count = waiting_bytes(&reader) as u64;
            return io::copy(&mut reader.take(count), &mut file).map(drop);
        }
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => file.write_all(&buffer[..count])?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn all_that_a_program_wrote_is_in_the_file_and_whatever_it_left_behind_keeps_nobody() {
        let mut file = tempfile::tempfile().unwrap();
        let (output, writer) = Output::begin("standard output", file.try_clone().unwrap()).unwrap();
        let endless = std::thread::spawn(move || {
            let mut writer = writer;
            while writer.write_all(&[b'x'; 1000]).is_ok() {}
        });
        let begun = Instant::now();
        while file.metadata().unwrap().len() < 1 << 20 && begun.elapsed() < Duration::from_secs(60) {
            std::thread::yield_now();
        }
        Relay { outputs: vec![output] }.end().unwrap();
        endless.join().unwrap(); // it writes where nobody reads

        let (output, mut writer) = Output::begin("standard output", file.try_clone().unwrap()).unwrap();
        writer.write_all(b"the last line").unwrap();
        Relay { outputs: vec![output] }.end().unwrap();
        drop(writer);
        file.seek(io::SeekFrom::End(-14)).unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "xthe last line");
    }

    #[test]
    fn a_file_that_is_full_is_told() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (output, mut writer) = Output::begin("standard output", full).unwrap();
        writer.write_all(b"x").unwrap();
        let failure = Relay { outputs: vec![output] }.end().unwrap_err();
        assert!(
            format!("{failure:#}").starts_with("writing the program's standard output: No space left"),
            "{failure:#}"
        );
    }
}
