//! Messages of the kernel's log, from a moment on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Maximum length of an entry of the kernel's log, in bytes.
const RECORD_BYTES_MAX: usize = 8192;

/// Maximum number of the kernel's messages that are kept of an attempt, from its start.
pub const WATCHED_MAX: usize = 10_000;

/// Message of the kernel's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelMessage {
    /// Priority from 0 (emergency) to 7 (debug).
    pub priority: u32,
    /// Text of the message, one line.
    pub text: String,
}

/// Reader of the kernel's log.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// Opens the log for the messages that come from now on.
    pub fn from_now() -> anyhow::Result<Self> {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        Ok(Self { file: open().context("reading the kernel's messages in /dev/kmsg")? })
    }

    /// Opens the log for all messages that the kernel still has.
    pub fn whole() -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg");
        Ok(Self { file: file.context("reading the kernel's messages in /dev/kmsg")? })
    }

    /// Returns the messages since the last call.
    pub fn read(&mut self) -> anyhow::Result<Vec<KernelMessage>> {
        let mut messages = Vec::new();
        let mut buffer = [0; RECORD_BYTES_MAX];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(messages),
                Ok(count) => messages.extend(message_of(&String::from_utf8_lossy(&buffer[..count]))),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(messages),
                    // More came than the kernel keeps: the next ones follow.
                    Some(Errno::EPIPE | Errno::EINTR) => {}
                    _ => return Err(error).context("reading the kernel's messages"),
                },
            }
        }
    }
}

/// Message with the time at which it was noted.
pub type Noted = (SystemTime, KernelMessage);

/// Watch that notes the time at which each message comes, until it is dropped. The kernel's own times are no wall clock's: they drift by
/// seconds a day.
#[derive(Debug)]
pub struct KernelWatch {
    seen: Arc<Mutex<Seen>>,
    /// Socket that is closed to end the watching thread.
    stop: UnixStream,
    thread: std::thread::JoinHandle<()>,
}

#[derive(Debug)]
struct Seen {
    log: KernelLog,
    messages: Vec<Noted>,
}

impl Seen {
    /// Takes the messages that have come; returns false once no further ones can be read or kept.
    fn look(&mut self) -> bool {
        let Ok(messages) = self.log.read() else { return false };
        let now = SystemTime::now();
        self.messages.extend(messages.into_iter().map(|message| (now, message)));
        let has_room = self.messages.len() < WATCHED_MAX;
        self.messages.truncate(WATCHED_MAX);
        has_room
    }
}

impl KernelWatch {
    /// Starts to watch the messages that come from now on.
    pub fn start() -> anyhow::Result<Self> {
        let log = KernelLog::from_now()?;
        let (stop, stopped) = UnixStream::pair()?;
        let file = log.file.try_clone()?;
        let seen = Arc::new(Mutex::new(Seen { log, messages: Vec::new() }));
        let noted = Arc::clone(&seen);
        let watch = move || watch(&file, &noted, &stopped);
        let thread = std::thread::Builder::new().name("kernel".into()).spawn(watch)?;
        Ok(Self { seen, stop, thread })
    }

    /// Ends the watch and returns its messages, at most the first [`WATCHED_MAX`].
    #[must_use]
    pub fn end(self) -> Vec<Noted> {
        drop(self.stop);
        let _ = self.thread.join();
        std::mem::take(&mut lock(&self.seen).messages)
    }

    /// Returns the messages that have come so far, up to this moment.
    #[must_use]
    pub fn so_far(&self) -> Vec<Noted> {
        let mut seen = lock(&self.seen);
        if seen.messages.len() < WATCHED_MAX {
            seen.look();
        }
        seen.messages.clone()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(file: &File, seen: &Mutex<Seen>, stopped: &UnixStream) {
    loop {
        let mut wanted = [file.as_fd(), stopped.as_fd()].map(|file| PollFd::new(file, PollFlags::POLLIN));
        let waited = poll(&mut wanted, PollTimeout::NONE);
        let is_over = wanted[1].any().unwrap_or(true);
        let goes_on = lock(seen).look();
        let is_interrupted = waited == Err(Errno::EINTR);
        if !goes_on || is_over || (waited.is_err() && !is_interrupted) {
            return;
        }
    }
}

/// Parses an entry `priority,sequence,time,flags;text`, without the lines of properties that follow.
fn message_of(record: &str) -> Option<KernelMessage> {
    let (head, text) = record.split_once(';')?;
    let priority = head.split(',').next()?.parse::<u32>().ok()? & 7;
    Some(KernelMessage { priority, text: text.lines().next()?.to_owned() })
}

/// Returns a field of the kernel's message that it killed a process for want of memory; `None` in other messages.
#[must_use]
pub fn oom_kill_field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let rest = message.strip_prefix("oom-kill:")?;
    rest.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_record_priority_and_text_are_kept() {
        let record = "6,114217,25931864210,-;port13: entered promiscuous mode\n SUBSYSTEM=net\n";
        let text = "port13: entered promiscuous mode".to_owned();
        assert_eq!(message_of(record), Some(KernelMessage { priority: 6, text }));
        assert_eq!(
            message_of("12,1,2,-;x").map(|message| message.priority),
            Some(4),
            "a user's message has a facility"
        );
        assert_eq!(message_of("odd"), None);
        assert_eq!(message_of("odd;text"), None);
    }

    #[test]
    fn what_was_said_before_is_not_read() {
        if let Ok(mut log) = KernelLog::from_now() {
            assert!(log.read().unwrap().len() < 1000, "not the whole of it");
        }
    }

    #[test]
    fn a_watch_ends_when_it_is_told_to() {
        if let Ok(watch) = KernelWatch::start() {
            assert!(watch.so_far().len() < 1000);
            assert!(watch.end().len() < 1000);
        }
    }
}
