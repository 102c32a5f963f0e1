//! Logs of a container of a live lab, read piece by piece as they grow.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::live::LiveMachine;
use super::logs::{LIST, listed_in};
use crate::host::container::lxc::{self, Attach};
use crate::host::patience::Deadline;

/// Deadline for one program that reads logs in a container.
const DEADLINE: Deadline = Deadline::from_secs(10);

/// Maximum bytes read from one log at once; of a longer new part, only the end is read.
const BYTES_MAX: u64 = 8 << 20;

/// Maximum journal entries read at once; of more new entries, only the last are read.
const ENTRIES_MAX: u32 = 20_000;

/// File names of the logs that LXC and the engine write on the host.
const OF_HOST: [&str; 3] = ["lxc.log", "start.log", "console.log"];

/// Shell script that prints journal entries, if the machine has journalctl.
const JOURNAL: &str = "command -v journalctl >/dev/null || exit 0; exec journalctl \"$@\"";

/// Shell script that prints path, size, and the bytes from an offset on, for each file. Arguments: path and offset, alternating.
const FILES: &str = "while [ $# -gt 0 ]; do \
                     size=$(wc -c < \"$1\") && from=$2 && { [ $size -ge $from ] || from=0; } && \
                     { [ $((size - from)) -le 8388608 ] || from=$((size - 8388608)); } && \
                     echo \"$size $from $1\" && tail -c +$((from + 1)) \"$1\" | head -c $((size - from)); \
                     shift 2; done";

/// Part that a log has grown by since the last read.
#[derive(Debug, Clone, PartialEq)]
pub enum LogPiece {
    /// New bytes of a log file.
    File {
        source: String,
        /// Bytes as they are in the file.
        bytes: Vec<u8>,
    },
    /// New entries of the journal.
    Journal(Vec<JournalEntry>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Time of the entry in milliseconds since 1970, UTC.
    pub epoch_ms: f64,
    /// Priority from 0 (emergency) to 7 (debug).
    pub priority: u32,
    /// Program and pid, such as `sshd[41]`.
    pub from: String,
    /// Message text of one or more lines.
    pub message: Vec<u8>,
}

/// Reader of a container's logs that remembers the positions read so far.
#[derive(Debug)]
pub struct LiveLogs {
    pub machine: LiveMachine,
    /// Patterns for log files in the container, as its template names them.
    patterns: Vec<String>,
    offsets: BTreeMap<String, u64>,
    /// Inodes of the host's log files at the last read, because a full console log is replaced by a new file of the same name.
    inodes: BTreeMap<String, u64>,
    cursor: Option<String>,
}

impl LiveLogs {
    /// Creates a reader at the beginning of all logs.
    #[must_use]
    pub fn new(machine: LiveMachine, patterns: Vec<String>) -> Self {
        Self { machine, patterns, offsets: BTreeMap::new(), inodes: BTreeMap::new(), cursor: None }
    }

    /// Appends the new parts of the logs on the host, LXC's and the console's, to `pieces`.
    pub fn read_host(&mut self, pieces: &mut Vec<LogPiece>) -> anyhow::Result<()> {
        for name in OF_HOST {
            let path = lxc::log_dir(&self.machine.host_name).join(name);
            let offset = self.offsets.entry(name.to_owned()).or_default();
            let inode = self.inodes.entry(name.to_owned()).or_default();
            let bytes = grown(&path, offset, inode).with_context(|| format!("reading {}", path.display()))?;
            if !bytes.is_empty() {
                pieces.push(LogPiece::File { source: name.to_owned(), bytes });
            }
        }
        Ok(())
    }

    /// Appends the new parts of the logs in the container, its journal and its template's files, to `pieces`.
    ///
    /// # Errors
    /// When no program can run in the container, because it is down or frozen.
    pub fn read_inside(&mut self, pieces: &mut Vec<LogPiece>) -> anyhow::Result<()> {
        let journal = self.journal()?;
        if !journal.is_empty() {
            pieces.push(LogPiece::Journal(journal));
        }
        pieces.extend(self.files()?);
        Ok(())
    }

    fn journal(&mut self) -> anyhow::Result<Vec<JournalEntry>> {
        let mut words = owned(&["/bin/sh", "-c", JOURNAL, "sh", "--no-pager", "--quiet", "--output=json", "--all"]);
        words.push(match &self.cursor {
            Some(cursor) => format!("--after-cursor={cursor}"),
            None => format!("--lines={ENTRIES_MAX}"),
        });
        let text = self.said(&words)?;
        let mut entries = Vec::new();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let (cursor, entry) =
                entry_of(line).context("journalctl printed a line that cannot be parsed as an entry")?;
            self.cursor = Some(cursor);
            entries.push(entry);
        }
        Ok(entries)
    }

    fn files(&mut self) -> anyhow::Result<Vec<LogPiece>> {
        if self.patterns.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = owned(&["/bin/sh", "-c", LIST, "list"]);
        list.extend(self.patterns.iter().cloned());
        let listed = self.said(&list)?;
        let mut words = owned(&["/bin/sh", "-c", FILES, "sh"]);
        let none = words.len();
        for path in listed_in(&listed) {
            words.push(path.clone());
            words.push(self.offsets.get(&path).copied().unwrap_or_default().to_string());
        }
        if words.len() == none {
            return Ok(Vec::new());
        }
        let said = self.said(&words)?;
        let mut pieces = Vec::new();
        for (path, size, bytes) in files_in(&said) {
            self.offsets.insert(path.to_owned(), size);
            if !bytes.is_empty() {
                let source = path.trim_start_matches('/').replace('/', "-");
                pieces.push(LogPiece::File { source, bytes: bytes.to_vec() });
            }
        }
        Ok(pieces)
    }

    fn said(&self, argv: &[String]) -> anyhow::Result<Vec<u8>> {
        let environment = [("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())];
        let attach = Attach {
            name: &self.machine.host_name,
            argv,
            environment: &environment,
            user: None,
            filter: self.machine.entry_filter(),
        };
        let output = attach.command().deadline(DEADLINE.scaled()).run();
        Ok(output.with_context(|| format!("reading the logs of {}", self.machine.host_name))?.stdout)
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Reads a file from `offset` on, and moves `offset` to the end. A file that became shorter or was replaced by another one is read from its
/// beginning.
fn grown(path: &Path, offset: &mut u64, inode: &mut u64) -> std::io::Result<Vec<u8>> {
    let mut file = match File::options().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let metadata = file.metadata()?;
    let size = metadata.len();
    let is_other = std::mem::replace(inode, metadata.ino()) != metadata.ino();
    let from = if is_other || *offset > size { 0 } else { *offset };
    file.seek(SeekFrom::Start(from.max(size.saturating_sub(BYTES_MAX))))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    *offset = size;
    Ok(bytes)
}

/// Parses the output of [`FILES`]: path, size, and bytes of each file. Files with truncated bytes are left out.
fn files_in(mut said: &[u8]) -> Vec<(&str, u64, &[u8])> {
    let mut found = Vec::new();
    while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
        let Ok(head) = std::str::from_utf8(&said[..end]) else { break };
        let mut words = head.splitn(3, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (Some(size), Some(from)) = (number(), number()) else { break };
        let Some(path) = words.next() else { break };
        let Some(length) = size.checked_sub(from).and_then(|length| usize::try_from(length).ok()) else { break };
        let Some(bytes) = said.get(end + 1..end + 1 + length) else { break };
        found.push((path, size, bytes));
        said = &said[end + 1 + length..];
    }
    found
}

/// Parses a line of `journalctl --output=json` into its cursor and its entry.
fn entry_of(line: &[u8]) -> Option<(String, JournalEntry)> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    let cursor = text("__CURSOR")?.to_owned();
    let epoch_ms = text("__REALTIME_TIMESTAMP")?.parse::<f64>().ok()? / 1e3;
    let priority = text("PRIORITY").and_then(|priority| priority.parse().ok()).unwrap_or(6);
    let name = text("SYSLOG_IDENTIFIER").or_else(|| text("_COMM")).unwrap_or("unknown");
    let pid = text("_PID").or_else(|| text("SYSLOG_PID"));
    let from = pid.map_or_else(|| name.to_owned(), |pid| format!("{name}[{pid}]"));
    // What is no UTF-8 is written as a list of numbers.
    let message = match value.get("MESSAGE") {
        Some(serde_json::Value::String(text)) => text.clone().into_bytes(),
        Some(serde_json::Value::Array(bytes)) => {
            bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect()
        }
        _ => Vec::new(),
    };
    Some((cursor, JournalEntry { epoch_ms, priority, from, message }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::Command;

    #[test]
    fn a_file_is_read_on_from_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let (mut offset, mut inode) = (0, 0);
        assert_eq!(grown(&path, &mut offset, &mut inode).unwrap(), b"");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(grown(&path, &mut offset, &mut inode).unwrap(), b"one\n");
        assert_eq!(grown(&path, &mut offset, &mut inode).unwrap(), b"");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(grown(&path, &mut offset, &mut inode).unwrap(), b"two\n");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(grown(&path, &mut offset, &mut inode).unwrap(), b"new\n", "it was begun anew");
        std::fs::rename(&path, folder.path().join("x.log.1")).unwrap();
        std::fs::write(&path, "another, longer\n").unwrap();
        assert_eq!(grown(&path, &mut offset, &mut inode).unwrap(), b"another, longer\n", "it is another file");
    }

    #[test]
    fn the_script_prints_what_is_read_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("a b.log"), folder.path().join("two.log"));
        std::fs::write(&one, b"0123\xff\n9 9 9\n").unwrap();
        std::fs::write(&two, b"short").unwrap();
        let (one, two) = (one.display().to_string(), two.display().to_string());
        let output = Command::new("/bin/sh").args(["-c", FILES, "sh", &one, "3", &two, "99"]).run().unwrap();
        let expected: [(&str, u64, &[u8]); 2] = [(&one, 12, b"3\xff\n9 9 9\n"), (&two, 5, b"short")];
        assert_eq!(files_in(&output.stdout), expected);
        assert_eq!(files_in(&output.stdout[..output.stdout.len() - 1]).len(), 1, "what broke off is left out");
    }

    #[test]
    fn an_entry_of_the_journal_is_read() {
        let line = br#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1795677625117625","PRIORITY":"3","SYSLOG_IDENTIFIER":"sshd","_PID":"41","MESSAGE":"no"}"#;
        let entry = JournalEntry {
            epoch_ms: 1_795_677_625_117.625,
            priority: 3,
            from: "sshd[41]".into(),
            message: b"no".to_vec(),
        };
        assert_eq!(entry_of(line), Some(("s=1".to_owned(), entry)));
        let bytes = br#"{"__CURSOR":"s=2","__REALTIME_TIMESTAMP":"1000","_COMM":"x","MESSAGE":[255,27,300]}"#;
        let (_, entry) = entry_of(bytes).unwrap();
        assert_eq!((entry.from.as_str(), entry.priority, entry.message), ("x", 6, vec![255, 27]));
        assert_eq!(entry_of(b"no journal files were found"), None);
    }
}
