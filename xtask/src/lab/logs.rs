//! Collection of a container's logs, brought to the host after a case.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::config::CONSOLE;
use super::container::Container;
use super::exec::ExecRequest;
use crate::host::exec::program_output::KeptPart;
use crate::host::patience::Deadline;
use crate::manifest::Init;

/// Shell script that lists the files matching the patterns in its arguments, each ended by a zero byte. The empty IFS keeps the shell from
/// splitting a pattern into words.
pub const LIST: &str =
    r#"IFS=; for pattern do for file in $pattern; do [ ! -f "$file" ] || printf '%s\0' "$file"; done; done"#;

/// Deadline for reading one log file in a container.
const DEADLINE: Deadline = Deadline::from_secs(20);

/// Maximum bytes kept of one log file; a longer file loses its beginning.
pub const LOG_BYTES_MAX: u64 = 8 << 20;

/// Maximum number of log files kept of one container, among those that its template names.
pub const LOG_FILES_MAX: usize = 200;

/// Maximum total bytes of the log files kept of one container, among those that its template names.
pub const LOG_FILES_BYTES_MAX: u64 = 128 << 20;

/// Maximum lines kept of a journal; a longer journal loses its beginning.
const LINES_MAX: usize = 20_000;

/// Name that LXC gives to the earlier part of a console's log when the log is full.
const CONSOLE_BEFORE: &str = "console.log.1";

/// Name of the log that shows the console's last screen, as on a terminal of 80 columns and 25 lines.
const SCREEN: &str = "screen.txt";

/// Additional logs with only the journal's warnings and worse, or errors and worse, because lines of the full journal do not show their
/// priority.
const JOURNAL_PARTS: [(&str, &str); 2] =
    [("journal-warnings.log", "--priority=warning"), ("journal-errors.log", "--priority=err")];

/// Log file of a container, as collected for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedLog {
    /// File name in the record.
    pub name: String,
    /// Content, or the reason why the log could not be read.
    pub content: Result<Vec<u8>, String>,
}

impl Container {
    /// Collects the container's logs on the host, its journal if it has one, and the log files that its template names.
    #[must_use]
    pub fn collect_logs(&self, streams_dir: &Path) -> Vec<CollectedLog> {
        let mut found = Vec::new();
        for name in ["lxc.log", CONSOLE, "start.log"] {
            let path = self.machine().log_dir().join(name);
            let before = if name == CONSOLE { path.with_file_name(CONSOLE_BEFORE) } else { PathBuf::new() };
            let has_bytes = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.len() > 0);
            if has_bytes(&path) || has_bytes(&before) {
                // How often it was full is not known: once, or its start is lost.
                let was_full = has_bytes(&before);
                let content = end_of_files(&[before, path.clone()], was_full);
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
        let (mut files, mut bytes_left, mut left_out) = (0, LOG_FILES_BYTES_MAX, Vec::new());
        for pattern in &template.logs {
            let listed = self.log_by_exec(pattern, &["/bin/sh", "-c", LIST, "list", pattern], streams_dir);
            match listed.content {
                Ok(names) => {
                    for path in listed_in(&names) {
                        if files == LOG_FILES_MAX || bytes_left == 0 {
                            left_out.push(path);
                            continue;
                        }
                        let bytes = (LOG_BYTES_MAX + 1).to_string(); // one more, by which a longer one is known
                        let name = path.trim_start_matches('/').replace('/', "-");
                        let log = self.log_by_exec(&name, &["tail", "-c", &bytes, &path], streams_dir);
                        files += 1;
                        bytes_left =
                            bytes_left.saturating_sub(log.content.as_ref().map_or(0, |bytes| bytes.len() as u64));
                        found.push(log);
                    }
                }
                Err(_) => found.push(CollectedLog { name: "collect.log".into(), content: listed.content }),
            }
        }
        found.extend(told_of(&left_out));
        found
    }

    fn log_by_exec(&self, name: &str, argv: &[&str], streams_dir: &Path) -> CollectedLog {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let request = ExecRequest {
            argv,
            deadline: DEADLINE.scaled(),
            streams_dir: streams_dir.to_owned(),
            kept: KeptPart::Last(usize::try_from(LOG_BYTES_MAX).unwrap_or(usize::MAX)),
            ..ExecRequest::default()
        };
        let content = self.exec(&request).map_err(anyhow::Error::from).and_then(|output| match output.failure() {
            None => Ok(with_begin_told(output.stdout.bytes()?, output.stdout.lost_bytes() > 0)),
            Some(failure) => anyhow::bail!("`{}` {failure}", request.argv.join(" ")),
        });
        CollectedLog { name: name.to_owned(), content: content.map_err(|error| format!("{error:#}")) }
    }
}

/// Parses the paths in the output of [`LIST`].
pub fn listed_in(answer: &[u8]) -> Vec<String> {
    let paths = answer.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

/// Returns a file that lists the logs that were left out; `None` if there are none.
fn told_of(left_out: &[String]) -> Option<CollectedLog> {
    const NAMES_MAX: usize = 20;
    let names = left_out.iter().take(NAMES_MAX).map(|path| format!("  {path}\n")).collect::<String>();
    let more = if left_out.len() > NAMES_MAX { "  ...\n" } else { "" };
    let text = format!(
        "[{} logs are not kept: the limit for one machine is {LOG_FILES_MAX} files of {} MiB in all]\n{names}{more}",
        left_out.len(),
        LOG_FILES_BYTES_MAX >> 20
    );
    (!left_out.is_empty()).then(|| CollectedLog { name: "left-out.log".into(), content: Ok(text.into_bytes()) })
}

/// Returns the end of a log that continues from one file to the next; `is_cut` tells whether its beginning is already lost. Missing files
/// are skipped.
fn end_of_files(paths: &[PathBuf], mut is_cut: bool) -> std::io::Result<Vec<u8>> {
    let mut end = Vec::new();
    for path in paths {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file?,
        };
        let left_out = file.metadata()?.len().saturating_sub(LOG_BYTES_MAX);
        is_cut |= left_out > 0;
        file.seek(SeekFrom::Start(left_out))?;
        file.take(LOG_BYTES_MAX).read_to_end(&mut end)?;
    }
    let surplus = end.len().saturating_sub(usize::try_from(LOG_BYTES_MAX).unwrap_or(usize::MAX));
    Ok(with_begin_told(end.split_off(surplus), is_cut || surplus > 0))
}

/// Adds a first line about the cut to a log whose beginning is missing.
fn with_begin_told(bytes: Vec<u8>, is_cut: bool) -> Vec<u8> {
    if !is_cut {
        return bytes;
    }
    [format!("[only the last {} MiB of this log are kept]\n", LOG_BYTES_MAX >> 20).as_bytes(), &bytes].concat()
}

/// Keeps the last lines of a journal, and adds a first line that says so if lines were dropped.
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

/// Height in lines of the terminal that the console is shown on.
const LINES: NonZero<u16> = NonZero::new(25).expect("it is not zero");

/// Width in columns of the terminal that the console is shown on.
const COLUMNS: NonZero<u16> = NonZero::new(80).expect("it is not zero");

/// Maximum bytes at the end of a console's log that are interpreted: they fill a screen many times over.
const BYTES_MAX: usize = 256 << 10;

/// Returns the last screen that a console showed, without trailing blanks; `None` for an empty screen.
#[must_use]
fn last_screen(printed: &[u8]) -> Option<String> {
    let mut terminal = vt100::Parser::new(LINES, COLUMNS, 0);
    terminal.process(&printed[printed.len().saturating_sub(BYTES_MAX)..]);
    let screen = terminal.screen().contents();
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    let text = text.trim_end();
    (!text.trim().is_empty()).then(|| format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept_and_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (long, short, missing) =
            (folder.path().join("long"), folder.path().join("short"), folder.path().join("missing"));
        let mut file = File::create(&long).unwrap();
        file.set_len(3 * LOG_BYTES_MAX).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"last words").unwrap();
        std::fs::write(&short, ", and more").unwrap();
        let said = b"[only the last 8 MiB of this log are kept]\n";
        for (paths, end) in
            [(vec![long.clone()], "last words"), (vec![missing.clone(), long, short.clone()], "last words, and more")]
        {
            let kept = end_of_files(&paths, false).unwrap();
            assert_eq!(kept.len() as u64, LOG_BYTES_MAX + said.len() as u64);
            assert!(kept.starts_with(said) && kept.ends_with(end.as_bytes()));
        }
        assert_eq!(end_of_files(&[missing.clone(), short.clone()], false).unwrap(), b", and more");
        assert_eq!(end_of_files(&[missing, short], true).unwrap(), [said, &b", and more"[..]].concat());
    }

    #[test]
    fn logs_that_are_left_out_are_named() {
        assert_eq!(told_of(&[]), None);
        let many: Vec<String> = (0..5000).map(|number| format!("/var/log/{number}.log")).collect();
        let text = String::from_utf8(told_of(&many).unwrap().content.unwrap()).unwrap();
        assert!(text.starts_with(
            "[5000 logs are not kept: the limit for one machine is 200 files of 128 MiB in all]\n  /var/log/0.log\n"
        ));
        assert!(text.ends_with("/var/log/19.log\n  ...\n"), "{text}");
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

    #[test]
    fn a_console_is_shown_as_its_terminal_would() {
        let check = |printed: &[u8], expected: Option<&str>| assert_eq!(last_screen(printed).as_deref(), expected);
        check(b"", None);
        check(b"  \r\n\x1b[0m\r\n", None);
        check(b"one\r\n\x1b[32mtwo\x1b[0m  \r\n", Some("one\ntwo\n"));
        check(b"old\x1b[2J\x1b[Hnew", Some("new\n"));
        check(b"10 %\r50 %\r100 %\r\nlogin: ", Some("100 %\nlogin:\n"));
        check(b"\xff\xfe\x1b]0;title\x07bad bytes\0", Some("bad bytes\n"));
        let many: String = (0..100).map(|number| format!("line {number}\r\n")).collect();
        let screen = last_screen(many.as_bytes()).unwrap();
        assert_eq!((screen.lines().count(), screen.lines().next()), (24, Some("line 76")));
        check(&[b"x".repeat(3 * BYTES_MAX), b"\x1b[2J\x1b[Hend".to_vec()].concat(), Some("end\n"));
    }
}
