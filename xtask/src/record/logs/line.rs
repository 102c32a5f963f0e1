//! One line of a log: its text, made safe to show, and the level that its words state.

use serde::{Deserialize, Serialize};

use crate::record::plain_text;

/// One line of a log, safe to show in a terminal or page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Time of the line on the run's clock; null where it is not known.
    pub at_ms: Option<f64>,
    /// Name of the container in its lab, or `scenario` or `host`.
    pub machine: String,
    /// Name of the log file, such as `journal.log`; `log` for messages that the scenario sends to the engine.
    pub source: String,
    /// Level of the line.
    pub level: LogLevel,
    /// Text in valid UTF-8 of bounded length, without escape codes and control characters. A time at the line's start is left out where
    /// it became [`LogLine::at_ms`].
    pub text: String,
}

impl LogLine {
    /// Name of the machine in lines of the scenario itself.
    pub const SCENARIO: &str = "scenario";

    /// Name of the machine in lines of the host's kernel.
    pub const HOST: &str = "host";
}

/// Importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Detail for finding a defect.
    Debug,
    /// Normal activity.
    Info,
    /// Possible problem.
    Warning,
    /// Error or failure.
    Error,
}

/// Number of bytes at a line's start in which a level is looked for.
const BYTES_MAX: usize = 256;

impl LogLevel {
    /// Returns the level as a word, such as `warning`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// Returns the level of a syslog priority, from 0 (emergency) to 7 (debug).
    #[must_use]
    pub fn of_priority(priority: u32) -> Self {
        match priority & 7 {
            0..=3 => Self::Error,
            4 => Self::Warning,
            5 | 6 => Self::Info,
            _ => Self::Debug,
        }
    }

    /// Returns the level that a line's own words state; `None` where they state none.
    pub(super) fn said_in(line: &str) -> Option<Self> {
        let bytes = &line.as_bytes()[..line.len().min(BYTES_MAX)];
        let mut start = 0;
        while start < bytes.len() {
            if !bytes[start].is_ascii_alphabetic() {
                start += 1;
                continue;
            }
            let length = bytes[start..].iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
            let end = length.map_or(bytes.len(), |length| start + length);
            let before = if start == 0 { b' ' } else { bytes[start - 1] };
            let found = of_word(&bytes[start..end], before, &bytes[end..]);
            if found.is_some() {
                return found;
            }
            start = end;
        }
        of_request(line)
    }
}

impl std::str::FromStr for LogLevel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Debug, Self::Info, Self::Warning, Self::Error];
        let found = all.into_iter().find(|level| level.name() == name);
        found.ok_or_else(|| format!("{name:?} is not a level: the levels are {}", all.map(Self::name).join(", ")))
    }
}

impl std::fmt::Display for LogLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Returns the level that a word states, with the byte before and the bytes after the word. A word in capitals is enough; another word
/// counts only where programs put a level: `error:`, `[error]`, `level=error`, `"level": "error"`.
fn of_word(word: &[u8], before: u8, after: &[u8]) -> Option<LogLevel> {
    let next = after.first().copied().unwrap_or(b' ');
    let is_alone = !matches!(before, b'-' | b'/' | b'.' | b'_') && !matches!(next, b'-' | b'/' | b'.' | b'=');
    let is_capital = word.iter().all(u8::is_ascii_uppercase);
    let is_marked = next == b':' || (before == b'[' && next == b']') || matches!(before, b'=' | b'"');
    match word {
        b"Traceback" if after.starts_with(b" (most recent call last)") => return Some(LogLevel::Error),
        b"panicked" | b"segfault" if after.starts_with(b" at ") => return Some(LogLevel::Error),
        _ if next == b':' && (word.ends_with(b"Error") || word.ends_with(b"Exception")) => {
            return Some(LogLevel::Error);
        }
        _ => {}
    }
    if !is_alone || !(is_capital || is_marked) || !(3..=9).contains(&word.len()) {
        return None;
    }
    let mut lower = [0; 9];
    let lower = &mut lower[..word.len()];
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    Some(match &*lower {
        b"error" | b"err" | b"fatal" | b"panic" | b"critical" | b"crit" | b"emerg" | b"alert" | b"severe"
        | b"emergency" | b"failed" => LogLevel::Error,
        b"warn" | b"warning" => LogLevel::Warning,
        b"info" | b"notice" => LogLevel::Info,
        b"log" if next == b':' => LogLevel::Info,
        b"debug" | b"trace" => LogLevel::Debug,
        _ => return None,
    })
}

/// Returns the level `error` for a web server's line about a request that it failed to answer: `"GET / HTTP/1.1" 502 157`.
fn of_request(line: &str) -> Option<LogLevel> {
    let (_, rest) = line.split_once(" HTTP/")?;
    let status = rest.split_once("\" ")?.1;
    let is_failure = status.starts_with('5') && status.as_bytes().get(1..3)?.iter().all(u8::is_ascii_digit);
    is_failure.then_some(LogLevel::Error)
}

/// Maximum number of bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 4000;

/// Converts a line to text that is safe to show. A long line is cut, with the number of missing bytes at its end.
pub(super) fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let kept = &line[..cut(line)];
    let is_plain = kept.iter().all(|byte| (0x20..0x7f).contains(byte));
    let decoded = String::from_utf8_lossy(kept);
    let mut text = if is_plain { decoded.into_owned() } else { plain_text(&decoded) };
    text.truncate(text.trim_end().len());
    if kept.len() < line.len() {
        text.push_str(&format!("… ({} more bytes)", line.len() - kept.len()));
    }
    text
}

/// Returns the length to which a line is cut, which is not within a character.
fn cut(line: &[u8]) -> usize {
    if line.len() <= LINE_BYTES_MAX {
        return line.len();
    }
    let is_inside = |at: &usize| line[*at] & 0b1100_0000 == 0b1000_0000;
    (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(|at| !is_inside(at)).unwrap_or(LINE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        assert_eq!("warning".parse(), Ok(LogLevel::Warning));
        let error = "warn".parse::<LogLevel>().unwrap_err();
        assert_eq!(error, "\"warn\" is not a level: the levels are debug, info, warning, error");
    }

    #[test]
    fn programs_say_levels_in_many_ways() {
        let check = |line: &str, expected: Option<LogLevel>| assert_eq!(LogLevel::said_in(line), expected, "{line}");
        let (error, warning, info) = (Some(LogLevel::Error), Some(LogLevel::Warning), Some(LogLevel::Info));
        check("[123] ERROR:  relation \"x\" does not exist", error);
        check("LOG:  statement: select 'ERROR'", info);
        check("FATAL:  terminating connection", error);
        check("sshd[41]: error: kex_exchange_identification: Connection closed", error);
        check("2026/11/26 07:20:25 [error] 12#12: *1 connect() failed", error);
        check("[warn] 12#12: low address bits", warning);
        check("lxc-start WARN     conf - newuidmap binary is missing", warning);
        check("# WARNING Memory overcommit must be enabled", warning);
        check("time=x level=error msg=\"no\"", error);
        check(r#"{"level": "warning", "message": "x"}"#, warning);
        check("Traceback (most recent call last):", error);
        check("ValueError: invalid literal", error);
        check("java.lang.IllegalStateException: no", error);
        check("thread 'main' panicked at src/main.rs:3:5:", error);
        check("worker[331]: segfault at 0 ip 0", error);
        check("[FAILED] Failed to start x.service", error);
        check("INFO started", info);
        check("DEBUG x", Some(LogLevel::Debug));
        check(r#"::1 - - [26/Nov/2026:07:19:02 +0000] "GET / HTTP/1.1" 502 157 "-" "x""#, error);
        for nothing in [
            "0 errors, 3 warnings found",
            "error handling is on",
            "GET /error/page",
            "/var/log/ERROR.log opened",
            "no-error-here",
            r#"::1 - - [x] "GET / HTTP/1.1" 200 615"#,
            "",
            "ÄÖÜ ✓",
        ] {
            check(nothing, None);
        }
    }

    #[test]
    fn bytes_of_all_kinds_become_plain_text() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(clean(bytes), expected, "{bytes:?}");
        check(b"plain", "plain");
        check(b"\x1b[0;1;31mred\x1b[0m and \x1b]0;title\x07more\r", "red and more");
        check(b"bell\x07 null\0 delete\x7f \t ", "bell null delete");
        check(b"latin \xe9\xff", "latin \u{fffd}\u{fffd}");
        check(b"<script>alert(1)</script>", "<script>alert(1)</script>"); // a page escapes; here it is text
        check("\u{202e}ünï ✓".as_bytes(), "ünï ✓");
    }

    #[test]
    fn a_megabyte_without_an_end_is_cut_between_characters() {
        let text = clean(&vec![b'x'; 1 << 20]);
        assert_eq!(text.len(), LINE_BYTES_MAX + "… (1044576 more bytes)".len());
        assert!(text.ends_with("x… (1044576 more bytes)"), "{}", &text[3990..]);
        for offset in 0..4 {
            let text = clean(format!("{}{}", "x".repeat(offset), "✓".repeat(2000)).as_bytes());
            assert!(!text.contains('\u{fffd}') && text.contains("✓… ("), "{offset}");
        }
        assert!(clean(&vec![0x80; 1 << 20]).ends_with("more bytes)"));
        assert!(clean(&vec![0x1b; 1 << 20]).ends_with("more bytes)"));
    }
}
