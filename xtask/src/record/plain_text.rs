//! Foreign text for a terminal: names, values and logs come from programs under test, which may write anything.

use std::iter::Peekable;
use std::str::Chars;

/// The longest line that is shown whole, in characters.
const LINE_CHARS_MAX: usize = 4000;

/// The longest escape sequence that is taken out as one, in characters: one without an end must not swallow a line.
const ESCAPE_CHARS_MAX: usize = 2000;

/// A line without anything that a terminal would obey or hide: escape codes, control characters, marks that turn the
/// direction of writing or have no width. A tab is a blank. Of a line that is too long, the begin.
#[must_use]
pub fn plain_text(line: &str) -> String {
    let mut plain = String::with_capacity(line.len().min(LINE_CHARS_MAX));
    let (mut shown, mut left_out) = (0_usize, 0_usize);
    let mut rest = line.chars().peekable();
    while let Some(character) = rest.next() {
        let visible = match character {
            '\u{1b}' => {
                skip_escape(&mut rest);
                continue;
            }
            '\u{9b}' => {
                skip_control_sequence(&mut rest);
                continue;
            }
            '\t' | '\u{2028}' | '\u{2029}' => ' ',
            hidden if hidden.is_control() || is_hidden(hidden) => continue,
            visible => visible,
        };
        if shown < LINE_CHARS_MAX {
            plain.push(visible);
            shown += 1;
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        plain.push_str(&format!(" ... ({left_out} more characters)"));
    }
    plain
}

/// Text of another program for a report, whole: colours are left out, and every other control character or mark that would hide
/// or turn what stands beside it is shown by a sign or its number. Tabs and line ends stay.
#[must_use]
pub fn visible_text(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\n' | '\t' => visible.push(character),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\u{1b}' => match after_colour(&rest) {
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

/// Tells whether a text has nothing that [`visible_text`] would change.
#[must_use]
pub fn is_visible(text: &str) -> bool {
    let joins = |character| matches!(character, '\n' | '\t' | '\u{200c}' | '\u{200d}');
    text.chars().all(|character| joins(character) || !(character.is_control() || is_hidden(character)))
}

/// Finds what follows an ESC that sets a colour.
fn after_colour<'a>(rest: &Peekable<Chars<'a>>) -> Option<Peekable<Chars<'a>>> {
    let mut ahead = rest.clone();
    ahead.next_if_eq(&'[')?;
    while ahead.next_if(|next| next.is_ascii_digit() || matches!(next, ';' | ':')).is_some() {}
    ahead.next_if_eq(&'m')?;
    Some(ahead)
}

/// Marks without a width of their own, and those that change the order in which others are shown.
fn is_hidden(character: char) -> bool {
    matches!(character, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Passes over what follows an ESC and belongs to it.
fn skip_escape(rest: &mut Peekable<Chars<'_>>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => skip_string(rest),
        // Two characters, or three with a blank to a slash between.
        Some(' '..='/') => {
            rest.next();
            rest.next_if(|next| ('0'..='~').contains(next));
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

/// Passes over parameters and the letter that ends them.
fn skip_control_sequence(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|next| (' '..='?').contains(next)).is_some() {}
    rest.next_if(|next| ('@'..='~').contains(next));
}

/// Passes over a title, a link or the like, where it ends as it should.
fn skip_string(rest: &mut Peekable<Chars<'_>>) {
    let mut ahead = rest.clone();
    ahead.next();
    for _ in 0..ESCAPE_CHARS_MAX {
        match ahead.next() {
            Some('\u{7}' | '\u{9c}') => {
                *rest = ahead;
                return;
            }
            Some('\u{1b}') if ahead.next_if_eq(&'\\').is_some() => {
                *rest = ahead;
                return;
            }
            Some(_) => {}
            None => return,
        }
    }
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
        check("20 °C, 日本語, 👩\u{200d}🚀", "20 °C, 日本語, 👩\u{200d}🚀");
    }

    #[test]
    fn a_line_is_of_bounded_length() {
        let plain = plain_text(&"x".repeat(1 << 20));
        assert_eq!(plain, format!("{} ... ({} more characters)", "x".repeat(4000), (1 << 20) - 4000));
    }
}
