//! What a scenario's program writes: kept byte by byte in `scenario.log`, and beside it when it came.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::record::{Event, Recorder, milliseconds};

/// So many bytes are taken at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Times closer together than this are one: a program that writes byte by byte does not fill the record with times.
const TIME_APART_MS: f64 = 1.0;

/// Bytes of its end that are kept in memory, for its last words.
const END_BYTES: usize = 16 << 10;

/// The files that it goes to.
#[derive(Debug)]
pub struct OutputFiles {
    /// The bytes.
    pub log: File,
    /// `OFFSET AT_MS` a line: from this byte on they came then, on the run's clock.
    pub times: File,
}

/// Writes down what comes out of a pipe, until nobody can write into it any more.
#[derive(Debug)]
pub(super) struct Output {
    ended: Receiver<()>,
    end: Arc<Mutex<VecDeque<u8>>>,
}

impl Output {
    /// Begins; the file is for the program.
    pub fn keep(files: Arc<OutputFiles>, recorder: Arc<Recorder>) -> anyhow::Result<(Self, File)> {
        let (reader, writer) = std::io::pipe().context("making a pipe for the scenario's output")?;
        let (done, ended) = channel();
        let end = Arc::<Mutex<VecDeque<u8>>>::default();
        let kept_end = Arc::clone(&end);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            if let Err(error) = copy(reader, &files, &kept_end, || milliseconds(recorder.elapsed())) {
                let message = format!("what the scenario wrote could not be kept: {error}");
                recorder.record(Event::Warning { message });
            }
            drop(done);
        })?;
        Ok((Self { ended, end }, File::from(OwnedFd::from(writer))))
    }

    /// The last of what was written so far, as text.
    pub fn end(&self) -> String {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(end.make_contiguous()).into_owned()
    }

    /// Waits until all of it is kept. Somebody may hold the pipe open for ever: what comes later is kept as it comes.
    pub fn wait(&self, deadline: Duration) {
        let _ = self.ended.recv_timeout(deadline); // the only message is that the sender is gone
    }
}

fn copy(
    mut from: PipeReader,
    files: &OutputFiles,
    end: &Mutex<VecDeque<u8>>,
    now_ms: impl Fn() -> f64,
) -> std::io::Result<()> {
    let (mut log, mut times) = (&files.log, &files.times);
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    let mut last_ms = f64::NEG_INFINITY;
    let mut failure = Ok(());
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        if count == 0 {
            return failure;
        }
        {
            let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
            end.extend(&buffer[..count]);
            let surplus = end.len().saturating_sub(END_BYTES);
            end.drain(..surplus);
        }
        // A full disk must not stop the scenario: it is read on.
        if failure.is_ok() {
            let at_ms = now_ms();
            let is_apart = at_ms - last_ms >= TIME_APART_MS;
            let mut time = || if is_apart { writeln!(times, "{offset} {at_ms}") } else { Ok(()) };
            failure = time().and_then(|()| log.write_all(&buffer[..count]));
            if is_apart {
                last_ms = at_ms;
            }
        }
        offset += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Seek as _, SeekFrom};

    use super::*;

    #[test]
    fn bytes_are_kept_as_they_are_and_times_beside_them() {
        let files = OutputFiles { log: tempfile::tempfile().unwrap(), times: tempfile::tempfile().unwrap() };
        let (reader, mut writer) = std::io::pipe().unwrap();
        let parts: [(&[u8], f64); 4] = [(b"one\n", 10.0), (b"\xff\x1b[1m\0", 10.5), (b"two\n", 12.25), (b"end", 400.0)];
        let part = Cell::new(0);
        // Each look at the clock belongs to the part that was read just before; then the next one comes.
        writer.write_all(parts[0].0).unwrap();
        let writer = Cell::new(Some(writer));
        let now_ms = || {
            let (_, at_ms) = parts[part.replace(part.get() + 1)];
            match (parts.get(part.get()), writer.take()) {
                (Some((bytes, _)), Some(mut pipe)) => {
                    pipe.write_all(bytes).unwrap();
                    writer.set(Some(pipe));
                }
                (None, Some(pipe)) => drop(pipe),
                (_, None) => {}
            }
            at_ms
        };
        let end = Mutex::default();
        copy(reader, &files, &end, now_ms).unwrap();
        assert_eq!(end.lock().unwrap().make_contiguous(), b"one\n\xff\x1b[1m\0two\nend");
        let text = |mut file: &File| {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(text(&files.log), b"one\n\xff\x1b[1m\0two\nend");
        assert_eq!(String::from_utf8(text(&files.times)).unwrap(), "0 10\n10 12.25\n14 400\n");
    }

    #[test]
    fn a_program_goes_on_where_nothing_can_be_kept() {
        let read_only = || File::open("/dev/null").unwrap();
        let files = OutputFiles { log: read_only(), times: read_only() };
        let recorder = Arc::new(Recorder::new(Vec::new()));
        let (output, mut writer) = Output::keep(Arc::new(files), recorder).unwrap();
        writer.write_all(&vec![b'x'; 4 * CHUNK_BYTES]).unwrap(); // more than a pipe holds
        drop(writer);
        output.wait(Duration::from_secs(10));
        assert_eq!(output.end(), "x".repeat(END_BYTES));
    }
}
