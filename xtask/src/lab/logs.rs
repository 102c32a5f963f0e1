//! What a container logged, brought to the host after a case.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::container::Container;
use super::exec::ExecRequest;
use super::screen::last_screen;
use crate::host::patience::Deadline;
use crate::manifest::Init;

/// Lists the files that the patterns in its arguments match, each ended by a zero byte. Without separators of words, a shell
/// takes nothing of a pattern for anything but a pattern.
pub const LIST: &str =
    r#"IFS=; for pattern do for file in $pattern; do [ ! -f "$file" ] || printf '%s\0' "$file"; done; done"#;

/// How long one file may take.
const DEADLINE: Deadline = Deadline::from_secs(20);

/// How much of one file is kept, from its end, in bytes.
const BYTES_MAX: u64 = 8 << 20;

/// Lines of a journal that are kept, from its end.
const LINES_MAX: usize = 20_000;

/// What a container's console has printed.
const CONSOLE: &str = "console.log";

/// The last screen of it, as a terminal of 80 columns and 25 lines shows it.
const SCREEN: &str = "screen.txt";

/// What of the journal is a warning or worse, and what is an error or worse: its own lines do not say so.
const JOURNAL_PARTS: [(&str, &str); 2] =
    [("journal-warnings.log", "--priority=warning"), ("journal-errors.log", "--priority=err")];

/// One log of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedLog {
    /// File name in the record.
    pub name: String,
    /// What it holds, or why it could not be had.
    pub content: Result<Vec<u8>, String>,
}

impl Container {
    /// Collects the host's logs of this container, its journal where it has one, and the files its template names.
    #[must_use]
    pub fn collect_logs(&self, streams_dir: &Path) -> Vec<CollectedLog> {
        let mut found = Vec::new();
        for name in ["lxc.log", CONSOLE, "start.log"] {
            let path = self.machine().log_dir().join(name);
            if path.metadata().is_ok_and(|metadata| metadata.len() > 0) {
                let content = File::open(&path).and_then(|file| end_of(&file));
                let content = content.map_err(|error| format!("reading {}: {error}", path.display()));
                let shown = content.as_ref().ok().filter(|_| name == CONSOLE).and_then(|bytes| last_screen(bytes));
                found.push(CollectedLog { name: name.into(), content });
                found.extend(shown.map(|text| CollectedLog { name: SCREEN.into(), content: Ok(text.into_bytes()) }));
            }
        }
        let template = &self.machine().template;
        if self.is_dead() {
            return found;
        }
        if template.init == Init::Systemd {
            let lines = format!("--lines={}", LINES_MAX + 1);
            let journal = ["journalctl", "--no-pager", "--quiet", "--output=short-iso-precise", &lines];
            found.push(last_lines(self.log_by_exec("journal.log", &journal, streams_dir)));
            for (name, priority) in JOURNAL_PARTS {
                let part = self.log_by_exec(name, &[&journal[..], &[priority]].concat(), streams_dir);
                found.push(last_lines(part));
            }
        }
        for pattern in &template.logs {
            let listed = self.log_by_exec(pattern, &["/bin/sh", "-c", LIST, "list", pattern], streams_dir);
            match listed.content {
                Ok(names) => {
                    for path in listed_in(&names) {
                        let bytes = (BYTES_MAX + 1).to_string(); // one more, by which a longer one is known
                        let name = path.trim_start_matches('/').replace('/', "-");
                        found.push(self.log_by_exec(&name, &["tail", "-c", &bytes, &path], streams_dir));
                    }
                }
                Err(_) => found.push(CollectedLog { name: "collect.log".into(), content: listed.content }),
            }
        }
        found
    }

    fn log_by_exec(&self, name: &str, argv: &[&str], streams_dir: &Path) -> CollectedLog {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let request = ExecRequest {
            argv,
            deadline: DEADLINE.scaled(),
            streams_dir: streams_dir.to_owned(),
            ..ExecRequest::default()
        };
        let content = self.exec(&request).and_then(|output| match output.failure() {
            None => Ok(end_of(output.stdout.as_file())?),
            Some(failure) => anyhow::bail!("`{}` {failure}", request.argv.join(" ")),
        });
        CollectedLog { name: name.to_owned(), content: content.map_err(|error| format!("{error:#}")) }
    }
}

/// Paths in the answer of [`LIST`].
pub fn listed_in(answer: &[u8]) -> Vec<String> {
    let paths = answer.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

/// The last bytes of a file, whatever its length, with a line that says so where it is longer: a console's log may fill a disk.
fn end_of(mut file: &File) -> std::io::Result<Vec<u8>> {
    let left_out = file.metadata()?.len().saturating_sub(BYTES_MAX);
    let mut bytes = Vec::new();
    if left_out > 0 {
        bytes.extend_from_slice(format!("[only the last {} MiB of this log are kept]\n", BYTES_MAX >> 20).as_bytes());
    }
    file.seek(SeekFrom::Start(left_out))?;
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The last lines of a journal, with a line that says so where it is longer.
fn last_lines(log: CollectedLog) -> CollectedLog {
    let cut = |bytes: Vec<u8>| {
        let mut ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        match ends.nth(LINES_MAX) {
            Some(end) => [
                format!("[only the last {LINES_MAX} lines of this log are kept]\n").as_bytes(),
                bytes.get(end + 1..).unwrap_or_default(),
            ]
            .concat(),
            None => bytes,
        }
    };
    CollectedLog { content: log.content.map(cut), ..log }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept_and_it_says_so() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(3 * BYTES_MAX).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"last words").unwrap();
        let kept = end_of(&file).unwrap();
        let said = b"[only the last 8 MiB of this log are kept]\n";
        assert_eq!(kept.len() as u64, BYTES_MAX + said.len() as u64);
        assert!(kept.starts_with(said) && kept.ends_with(b"last words"));
        let mut short = tempfile::tempfile().unwrap();
        short.write_all(b"short").unwrap();
        assert_eq!(end_of(&short).unwrap(), b"short");
    }

    #[test]
    fn of_a_long_journal_the_last_lines_are_kept_and_it_says_so() {
        let kept = |lines: usize| {
            let content = (0..lines).map(|line| format!("line {line}\n")).collect::<String>().into_bytes();
            let log = last_lines(CollectedLog { name: "journal.log".into(), content: Ok(content.clone()) });
            (content, String::from_utf8(log.content.unwrap()).unwrap())
        };
        let (whole, log) = kept(LINES_MAX);
        assert_eq!(log.as_bytes(), whole);
        let (_, log) = kept(LINES_MAX + 1);
        assert!(log.starts_with("[only the last 20000 lines of this log are kept]\nline 1\nline 2\n"));
        assert!(log.ends_with("\nline 20000\n"));
        assert_eq!(log.lines().count(), LINES_MAX + 1);
    }
}
