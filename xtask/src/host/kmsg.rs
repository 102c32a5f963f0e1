//! What the kernel says, from a moment on.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc::O_NONBLOCK;

/// The longest record that the kernel writes, in bytes.
const RECORD_BYTES_MAX: usize = 8192;

/// The kernel's messages.
#[derive(Debug)]
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// Those that come from now on.
    ///
    /// # Errors
    /// Where the kernel does not let its messages be read.
    pub fn from_now() -> anyhow::Result<Self> {
        let open = || -> std::io::Result<File> {
            let mut file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        Ok(Self { file: open().context("reading the kernel's messages in /dev/kmsg")? })
    }

    /// What has come since the last look.
    ///
    /// # Errors
    /// When they can no longer be read.
    pub fn read(&mut self) -> anyhow::Result<Vec<String>> {
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

/// The text of a record `priority,sequence,time,flags;text`, without the lines of properties that follow.
fn message_of(record: &str) -> Option<String> {
    Some(record.split_once(';')?.1.lines().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_record_the_text_is_kept() {
        let record = "6,114217,25931864210,-;port13: entered promiscuous mode\n SUBSYSTEM=net\n";
        assert_eq!(message_of(record).as_deref(), Some("port13: entered promiscuous mode"));
        assert_eq!(message_of("odd"), None);
    }

    #[test]
    fn what_was_said_before_is_not_read() {
        if let Ok(mut log) = KernelLog::from_now() {
            assert!(log.read().unwrap().len() < 1000, "not the whole of it");
        }
    }
}
