//! The bytes of a line as text that does no harm: bounded, valid UTF-8, nothing that a terminal or a page obeys.

/// So many bytes of a line are kept.
pub(super) const LINE_BYTES_MAX: usize = 4096;

const ESCAPE: char = '\u{1b}';

/// A line as text.
pub(super) fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let kept = &line[..cut(line)];
    let plain = kept.iter().all(|byte| (0x20..0x7f).contains(byte));
    let decoded = String::from_utf8_lossy(kept);
    let mut text = if plain { decoded.into_owned() } else { without_codes(&decoded) };
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

fn without_codes(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ESCAPE => skip_code(&mut characters),
            '\t' | '\r' => text.push(' '),
            // Controls, what changes the direction of writing, and what ends a line in some programs.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {}
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {}
            other => text.push(other),
        }
    }
    text
}

/// Skips the rest of an escape code as ECMA-48 has them.
fn skip_code(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            let _ = characters.find(|character| ('@'..='~').contains(character));
        }
        // A string, such as a window's title: to its bell or to the code that ends it.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(character) = characters.next() {
                if character == '\u{7}' || (character == ESCAPE && characters.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        Some(' '..='/') => {
            let _ = characters.find(|character| ('0'..='~').contains(character));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_or_a_page_would_obey_is_taken_out() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(clean(bytes), expected, "{bytes:?}");
        check(b"plain", "plain");
        check(b"\x1b[0;1;31mred\x1b[0m and \x1b]0;title\x07more\x1b]8;;http://x\x1b\\link", "red and morelink");
        check(b"\x1b(Bset \x1bcreset", "set reset");
        check(b"a\tb\rc\r", "a b c");
        check(b"bell\x07 null\0 delete\x7f", "bell null delete");
        check("\u{202e}gnp.exe\u{2028}\u{9b}31m".as_bytes(), "gnp.exe31m");
        check(b"latin \xe9\xff", "latin \u{fffd}\u{fffd}");
        check(b"<script>alert(1)</script>", "<script>alert(1)</script>"); // a page escapes; here it is text
        check("ünï ✓".as_bytes(), "ünï ✓");
        check(b"unfinished \x1b[31", "unfinished");
        check(b"unfinished \x1b", "unfinished");
    }

    #[test]
    fn a_megabyte_without_an_end_is_cut_between_characters() {
        let line = vec![b'x'; 1 << 20];
        let text = clean(&line);
        assert_eq!(text.len(), LINE_BYTES_MAX + "… (1044480 more bytes)".len());
        assert!(text.ends_with("x… (1044480 more bytes)"), "{}", &text[4000..]);
        for offset in 0..4 {
            let text = clean(format!("{}{}", "x".repeat(offset), "✓".repeat(2000)).as_bytes());
            assert!(!text.contains('\u{fffd}') && text.contains("✓… ("), "{offset}");
        }
        let broken = clean(&vec![0x80; 1 << 20]);
        assert!(broken.ends_with("more bytes)"));
    }
}
