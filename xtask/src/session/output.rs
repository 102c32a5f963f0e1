//! Output of a scenario's program: `scenario.log` has its bytes, with declared secrets masked, and a second file has the times at which
//! they came. Of long output, the beginning and the end are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::host::exec::program_output::CHUNK_BYTES;
use crate::record::{Event, MaskedStream, Recorder, milliseconds};

/// Minimum time between two recorded times, so that a program that writes byte by byte does not fill the record with times.
const TIME_APART_MS: f64 = 1.0;

/// Number of recorded times after which the minimum time between them doubles. It doubles again after each further such number, because a
/// program may write for days.
const TIMES_BEFORE_THINNING: u64 = 100_000;

/// Maximum bytes kept from the beginning of the output in `scenario.log`; after them, only the end of the output is kept.
pub const SCENARIO_LOG_BYTES_MAX: u64 = 64 << 20;

/// Bytes at the end of the output that are kept in memory: the reason of a failure is found there, and a cut log ends with them.
const END_BYTES: usize = 64 << 10;

/// Files for a scenario's output.
#[derive(Debug)]
pub struct OutputFiles {
    pub log: File,
    /// File with lines of `OFFSET AT_MS`: the bytes from this offset on came at this time on the run's clock.
    pub times: File,
}

/// Copy of a program's output from a pipe to files, until no process can write to the pipe any more.
#[derive(Debug)]
pub(super) struct Output {
    ended: Receiver<()>,
    end: Arc<Mutex<VecDeque<u8>>>,
}

impl Output {
    /// Starts to copy output to files; returns the end of the pipe for the program to write to.
    pub fn keep(files: Arc<OutputFiles>, recorder: Arc<Recorder>) -> anyhow::Result<(Self, File)> {
        let (reader, writer) = std::io::pipe().context("making a pipe for the scenario's output")?;
        let (done, ended) = channel();
        let end = Arc::<Mutex<VecDeque<u8>>>::default();
        let kept_end = Arc::clone(&end);
        std::thread::Builder::new().name("output".into()).spawn(move || {
            let masked = MaskedStream::new(Arc::clone(recorder.masks()));
            let now_ms = || milliseconds(recorder.elapsed());
            let message = match copy(reader, &files, &kept_end, masked, SCENARIO_LOG_BYTES_MAX, now_ms) {
                Ok(0) => None,
                Ok(lost_bytes) => Some(format!(
                    "the scenario has written more than is kept: {lost_bytes} bytes are missing in scenario.log"
                )),
                Err(error) => Some(format!("the output of the scenario could not be kept: {error}")),
            };
            message.into_iter().for_each(|message| recorder.record(Event::Warning { message }));
            drop(done);
        })?;
        Ok((Self { ended, end }, File::from(OwnedFd::from(writer))))
    }

    /// Returns the end of the output so far, as text.
    pub fn end(&self) -> String {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(end.make_contiguous()).into_owned()
    }

    /// Waits until all output is in the files, or until the deadline, because a leftover process may hold the pipe open forever. Later
    /// output is still copied.
    pub fn wait(&self, deadline: Duration) {
        let _ = self.ended.recv_timeout(deadline); // the only message is that the sender is gone
    }
}

/// Copies all bytes from a pipe to files; returns the number of dropped bytes.
fn copy(
    mut from: PipeReader,
    files: &OutputFiles,
    end: &Mutex<VecDeque<u8>>,
    mut masked: MaskedStream,
    bytes_max: u64,
    now_ms: impl Fn() -> f64,
) -> std::io::Result<u64> {
    let (mut log, mut times) = (&files.log, &files.times);
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut offset, mut past_bound) = (0, 0_u64);
    let (mut last_ms, mut times_kept) = (f64::NEG_INFINITY, 0);
    let mut failure = Ok(());
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            count => count?,
        };
        let bytes = if count == 0 { masked.finish() } else { masked.push(&buffer[..count]) };
        if !bytes.is_empty() {
            let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
            end.extend(&bytes);
            let surplus = end.len().saturating_sub(END_BYTES);
            end.drain(..surplus);
        }
        // A full disk must not stop the scenario: it is read on.
        let room = usize::try_from(bytes_max.saturating_sub(offset)).unwrap_or(usize::MAX);
        let kept = &bytes[..room.min(bytes.len())];
        if failure.is_ok() && !kept.is_empty() {
            let at_ms = now_ms();
            let is_apart = at_ms - last_ms >= time_apart_ms(times_kept);
            let mut time = || if is_apart { writeln!(times, "{offset} {at_ms}") } else { Ok(()) };
            failure = time().and_then(|()| log.write_all(kept));
            if is_apart {
                last_ms = at_ms;
                times_kept += 1;
            }
        }
        offset += kept.len() as u64;
        past_bound += (bytes.len() - kept.len()) as u64;
        if count == 0 {
            failure?;
            let mut end = end.lock().unwrap_or_else(PoisonError::into_inner);
            let surplus = end.len().saturating_sub(usize::try_from(past_bound).unwrap_or(usize::MAX));
            let end = &end.make_contiguous()[surplus..];
            let lost_bytes = past_bound - end.len() as u64;
            if past_bound > 0 {
                writeln!(times, "{offset} {}", now_ms())?;
                if lost_bytes > 0 {
                    writeln!(log, "\n[{lost_bytes} bytes are not kept here]")?;
                }
                log.write_all(end)?;
            }
            return Ok(lost_bytes);
        }
    }
}

/// Returns the minimum time in ms between two recorded times, once `times` times have been recorded.
fn time_apart_ms(times: u64) -> f64 {
    let doublings = i32::try_from(times / TIMES_BEFORE_THINNING).unwrap_or(i32::MAX);
    TIME_APART_MS * 2_f64.powi(doublings)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Seek as _, SeekFrom};

    use super::*;
    use crate::record::Masks;

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
        let masked = MaskedStream::new(Arc::default());
        assert_eq!(copy(reader, &files, &end, masked, SCENARIO_LOG_BYTES_MAX, now_ms).unwrap(), 0);
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
    fn of_a_long_output_the_begin_and_the_end_are_kept_and_it_says_so() {
        let kept = |written: usize, bytes_max: u64| {
            let files = OutputFiles { log: tempfile::tempfile().unwrap(), times: tempfile::tempfile().unwrap() };
            let (reader, mut writer) = std::io::pipe().unwrap();
            let text: Vec<u8> = (0..written).map(|place| b'a' + u8::try_from(place % 26).unwrap()).collect();
            let writing = std::thread::spawn({
                let text = text.clone();
                move || writer.write_all(&text).unwrap()
            });
            let lost =
                copy(reader, &files, &Mutex::default(), MaskedStream::new(Arc::default()), bytes_max, || 1.0).unwrap();
            writing.join().unwrap();
            let mut log = Vec::new();
            (&files.log).seek(SeekFrom::Start(0)).unwrap();
            (&files.log).read_to_end(&mut log).unwrap();
            (lost, log, text)
        };
        let (lost, log, text) = kept(1_000_000, 300_000);
        assert_eq!(lost, 700_000 - END_BYTES as u64);
        let said = format!("\n[{lost} bytes are not kept here]\n");
        assert_eq!(log, [&text[..300_000], said.as_bytes(), &text[1_000_000 - END_BYTES..]].concat());
        let (lost, log, text) = kept(1000, 300);
        assert_eq!((lost, log), (0, text), "the end that is in memory closes the gap");
    }

    #[test]
    fn times_of_a_log_that_is_written_for_days_are_few() {
        let (mut times, mut passed_ms) = (0, 0.0);
        while passed_ms < 7.0 * 24.0 * 3600.0 * 1000.0 {
            passed_ms += time_apart_ms(times);
            times += 1;
        }
        assert!(times < 1_400_000, "{times}");
    }

    #[test]
    fn a_secret_that_comes_in_two_reads_is_not_kept() {
        let files = OutputFiles { log: tempfile::tempfile().unwrap(), times: tempfile::tempfile().unwrap() };
        let (reader, mut writer) = std::io::pipe().unwrap();
        // More than a pipe holds, and the value where one read ends.
        let text = format!("{}hunter22", "x".repeat(CHUNK_BYTES - 3));
        let writing = std::thread::spawn(move || writer.write_all(text.repeat(4).as_bytes()).unwrap());
        let end = Mutex::default();
        let stream = MaskedStream::new(Arc::new(Masks::new(["hunter22"]).unwrap()));
        copy(reader, &files, &end, stream, SCENARIO_LOG_BYTES_MAX, || 0.0).unwrap();
        writing.join().unwrap();
        let mut log = &files.log;
        log.seek(SeekFrom::Start(0)).unwrap();
        let mut kept = String::new();
        log.read_to_string(&mut kept).unwrap();
        assert_eq!(kept, format!("{}[redacted]", "x".repeat(CHUNK_BYTES - 3)).repeat(4));
        assert!(end.lock().unwrap().make_contiguous().ends_with(b"x[redacted]"));
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
