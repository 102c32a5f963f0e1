//! The bytes of a line as text that does no harm: bounded, valid UTF-8, nothing that a terminal or a page obeys.

use crate::record::plain_text;

/// So many bytes of a line are looked at.
const LINE_BYTES_MAX: usize = 4000;

/// A line as text. Of a long one the begin is kept, and how many bytes are missing is said.
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

/// Where a line is cut off: not inside of a character.
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
