//! Last screen of a console, as text.

use std::num::NonZero;

/// Lines of the terminal that a console is shown on.
const LINES: NonZero<u16> = NonZero::new(25).expect("it is not zero");

/// Columns of that terminal.
const COLUMNS: NonZero<u16> = NonZero::new(80).expect("it is not zero");

/// Maximum bytes of a console, from the end, that are shown: they fill a screen many times over.
const BYTES_MAX: usize = 256 << 10;

/// The last screen of what a console has printed, without blanks at the ends of lines; `None` for an empty screen.
#[must_use]
pub fn last_screen(printed: &[u8]) -> Option<String> {
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
    use super::*;

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
