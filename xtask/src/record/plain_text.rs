//! Text of programs under test, made harmless for a terminal: they may write anything.

use std::iter::Peekable;
use std::str::Chars;
use std::sync::LazyLock;

use regex::bytes::Regex;

/// Maximum length of a line that is shown whole, in characters.
const LINE_CHARS_MAX: usize = 4000;

/// Pattern of escape sequences that hold a text, such as titles and links, which a terminal does not print. A sequence without an end
/// does not match, so that it cannot swallow a line.
pub(super) const STRINGS: &str = r"(?x-u) \x1b[\]PX^_] [^\x07\x1b\n]*? (?: \x07 | \x1b\\ | \xc2\x9c )";

/// Pattern of all else that a terminal obeys: other escape sequences, and control characters except tabs and line ends.
pub(super) const CONTROLS: &str = r"(?x)
    (?: \x1b\[ | \u{9b} ) [\x20-\x3f]* [@-~]?
    | \x1b (?: [\x20-\x2f] [0-~]? | [0-OQ-WYZ\\`a-~] )?
    | [\x00-\x08\x0b-\x1f\x7f\u{80}-\u{9f}]";

/// Pattern of invisible characters: Unicode's `Default_Ignorable_Code_Point`, and format characters such as annotation marks.
pub(super) const INVISIBLE: &str = r"[\p{DI}\p{Cf}]";

/// Pattern of invisible characters, without variation selectors, and without format characters that are visible as signs.
const HIDDEN: &str = r"[\p{DI}\u{fff9}-\u{fffb}--\p{VS}]";

/// Returns the pattern of all that [`plain_text`] leaves out. The search for secrets leaves out this and more: otherwise a line could
/// show a secret that was not found in its event.
fn not_shown() -> &'static Regex {
    static PARTS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(&format!("(?:{STRINGS})|(?:{CONTROLS})|(?:{HIDDEN})")).expect("a fixed expression")
    });
    &PARTS
}

/// Returns a line without anything that a terminal would obey or hide: escape codes, control characters, and marks that turn the
/// direction of writing or have no width. Tabs and line ends become blanks. A line that is too long is cut.
#[must_use]
pub fn plain_text(line: &str) -> String {
    let line = line.trim_end_matches('\n');
    let mut plain = String::with_capacity(line.len().min(LINE_CHARS_MAX));
    let (mut shown, mut left_out) = (0_usize, 0_usize);
    let mut show = |text: &str| {
        for character in text.chars() {
            let visible = match character {
                '\n' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
                visible => visible,
            };
            if shown < LINE_CHARS_MAX {
                plain.push(visible);
                shown += 1;
            } else {
                left_out += 1;
            }
        }
    };
    if line.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        show(line);
    } else {
        let mut done = 0;
        for found in not_shown().find_iter(line.as_bytes()) {
            show(&line[done..found.start()]);
            done = found.end();
        }
        show(&line[done..]);
    }
    if left_out > 0 {
        plain.push_str(&format!(" ... ({left_out} more characters)"));
    }
    plain
}

/// Returns the whole text of another program for a report: colors are left out, and every other control character or mark that hides or
/// reorders its neighbors is shown as a symbol or by its code point. Tabs and line ends stay.
#[must_use]
pub fn visible_text(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\n' | '\t' => visible.push(character),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\u{1b}' => match after_color(&rest) {
                Some(after) => rest = after,
                None => visible.push('\u{241b}'),
            },
            '\u{7f}' => visible.push('\u{2421}'),
            '\0'..='\u{1f}' => visible.push(char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}')),
            // They join letters and pictures of many languages.
            '\u{200c}' | '\u{200d}' => visible.push(character),
            hidden if hidden.is_control() || is_hidden(hidden) => {
                visible.push_str(&format!("[U+{:04X}]", u32::from(hidden)));
            }
            shown => visible.push(shown),
        }
    }
    visible
}

/// Tells whether [`visible_text`] leaves a text unchanged.
#[must_use]
pub fn is_visible(text: &str) -> bool {
    let joins = |character| matches!(character, '\n' | '\t' | '\u{200c}' | '\u{200d}');
    text.chars().all(|character| joins(character) || !(character.is_control() || is_hidden(character)))
}

/// Returns the characters behind an escape sequence that sets a color; `rest` begins behind its ESC. `None` for another sequence.
fn after_color<'a>(rest: &Peekable<Chars<'a>>) -> Option<Peekable<Chars<'a>>> {
    let mut ahead = rest.clone();
    ahead.next_if_eq(&'[')?;
    while ahead.next_if(|next| next.is_ascii_digit() || matches!(next, ';' | ':')).is_some() {}
    ahead.next_if_eq(&'m')?;
    Some(ahead)
}

/// Tells whether a character is invisible: one that Unicode calls default-ignorable (zero-width characters, controls of the writing
/// direction) or an annotation mark, but no variation selector. Combining marks are not hidden.
fn is_hidden(character: char) -> bool {
    static MARK: LazyLock<Regex> = LazyLock::new(|| Regex::new(HIDDEN).expect("a fixed expression"));
    !character.is_ascii() && MARK.is_match(character.encode_utf8(&mut [0; 4]).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        assert_eq!(plain_text(line), expected, "{line:?}");
    }

    #[test]
    fn nothing_is_left_that_a_terminal_would_obey() {
        check("a\u{1b}[31;1mred\u{1b}[0m \u{1b}[2J\u{1b}[?25lend", "ared end");
        check("\u{1b}]0;a title\u{7}x\u{1b}]8;;http://a\u{1b}\\link\u{1b}]8;;\u{1b}\\", "xlink");
        check("\u{1b}]0;no end", "]0;no end");
        check("\u{1b}(0x\u{1b}7y\u{1b}cz\u{1b}", "xyz");
        check("\u{9b}5Ax\u{9d}y", "xy");
        check("back\rover\u{8}\u{7f}\0 a\tb", "backover a b");
        check("\u{202e}dcba\u{200b}\u{feff}", "dcba");
        check("a\u{34f}\u{115f}\u{17b4}\u{180e}\u{3164}\u{ffa0}\u{fff8}\u{fffb}\u{1bca0}\u{1d17a}\u{e01f0}b", "ab");
        check("\u{2764}\u{fe0f} \u{8fbb}\u{e0100} \u{600}", "\u{2764}\u{fe0f} \u{8fbb}\u{e0100} \u{600}");
        check("ordinary: 20 °C, 日本語, ✓", "ordinary: 20 °C, 日本語, ✓");
    }

    #[test]
    fn what_is_hidden_in_a_report_is_shown() {
        let check = |text: &str, expected: &str| {
            assert_eq!(visible_text(text), expected, "{text:?}");
            assert!(is_visible(expected), "{expected:?}");
            assert_eq!(is_visible(text), text == expected, "{text:?}");
        };
        check("a\u{1b}[31;1mred\u{1b}[0m\r\nb\tc", "ared\nb\tc");
        check("\u{1b}[2J\u{1b}]0;title\u{7}\0\rx\u{7f}", "␛[2J␛]0;title␇␀␍x␡");
        check("\u{1b}[31", "␛[31");
        check("\u{9b}5A\u{202e}dcba\u{feff}", "[U+009B]5A[U+202E]dcba[U+FEFF]");
        check("a\u{3164}b\u{180e}\u{e0fff}", "a[U+3164]b[U+180E][U+E0FFF]");
        check("20 °C, 日本語, 👩\u{200d}🚀, \u{2764}\u{fe0f}", "20 °C, 日本語, 👩\u{200d}🚀, \u{2764}\u{fe0f}");
    }

    #[test]
    fn a_line_is_of_bounded_length() {
        let plain = plain_text(&"x".repeat(1 << 20));
        assert_eq!(plain, format!("{} ... ({} more characters)", "x".repeat(4000), (1 << 20) - 4000));
    }
}
