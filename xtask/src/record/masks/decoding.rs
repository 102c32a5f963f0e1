//! Decoding of other languages' escapes, and removal of the characters between the digits of encodings.

use std::ops::Range;
use std::sync::LazyLock;

use regex::bytes::Regex;

use super::view::View;
use crate::record::plain_text::{CONTROLS, INVISIBLE, STRINGS};

/// Pattern of escapes: those of URLs, of HTML and XML, and those with a backslash: JSON, Python, Rust, C, shells. Escapes that were
/// escaped again have several `amp;` or backslashes, and match as one.
const ESCAPES: &str = r"(?x-u)
    %u[0-9A-Fa-f]{4} | %[0-9A-Fa-f]{2}
    | &(?:amp;)*(?: \#0{0,16}[0-9]{1,7};? | \#[Xx]0{0,16}[0-9A-Fa-f]{1,6};? | (?:amp|lt|gt|quot|apos|nbsp); )
    | \\+u[Dd][89ABab][0-9A-Fa-f]{2} \\+u[Dd][C-Fc-f][0-9A-Fa-f]{2}
    | \\+(?:
        x[0-9A-Fa-f]{2} | u[0-9A-Fa-f]{4} | u\{0{0,16}[0-9A-Fa-f]{1,6}\} | U[0-9A-Fa-f]{8}
        | [0-3][0-7]{2} | [1-7][0-7]? | [0abefnrtv]
      )
    | \\+";

/// Pattern of the start of an escape at the end of a text.
const ESCAPE_BEGIN: &str = r"(?x-u)(?:
    %(?:u[0-9A-Fa-f]{0,3} | [0-9A-Fa-f]?)
    | &(?:amp;)*(?: \#[Xx]?[0-9A-Fa-f]{0,23} | [a-z]{0,4} )
    | \\+u[Dd][89ABab][0-9A-Fa-f]{2} (?: \\+ (?: u[0-9A-Fa-f]{0,3} )? )?
    | \\+(?: x[0-9A-Fa-f]? | u[0-9A-Fa-f]{0,3} | u\{[0-9A-Fa-f]{0,22} | U[0-9A-Fa-f]{0,7} | [0-3][0-7]? | [4-7] )?
    )\z";

/// Pattern of the start of a terminal's escape sequence, or of a character of several bytes, at the end of a text.
const SEQUENCE_BEGIN: &str = r"(?x-u)(?:
    \x1b(?: \[[\x20-\x3f]* | [\]PX^_][^\x07\x1b\n]*\x1b? | [\x20-\x2f] )?
    | \xc2\x9b[\x20-\x3f]*
    | [\xc2-\xdf] | [\xe0-\xef][\x80-\xbf]? | [\xf0-\xf4][\x80-\xbf]{0,2}
    )\z";

/// Pattern of line ends in an encoded text that was wrapped, with the blanks around them.
const LINE_ENDS: &str = r"(?-u)[ \t]*\n[ \t\n]*";

/// Pattern of quotation marks, which shells, SQL and CSV double or mix.
const QUOTES: &str = r#"(?-u)["']+"#;

/// Pattern of hexadecimal digits of at least six bytes, with up to eight separators between two bytes; at the end of a text, of any number
/// of bytes. A byte may have a single digit behind `0x`.
const HEXADECIMAL: &str = r"(?xi-u)
    (?:(?:(?:0x)?[0-9a-f]{2}|0x[0-9a-f][^0-9a-z])[^0-9a-z]{0,8}){6,}(?:0x[0-9a-f]?|[0-9a-f])?
    | (?:(?:0x)?[0-9a-f]{1,2}[^0-9a-z]{0,8})+(?:0x?)?\z";

/// Pattern of the characters between hexadecimal digits.
const SEPARATORS: &str = r"(?i-u)[^0-9a-z]+|0x";

/// Number of bytes at the end of a text in which an unfinished escape, escape sequence or character of several bytes is looked for.
const UNFINISHED_BYTES: usize = 256;

macro_rules! expression {
    ($name:ident, $pattern:expr) => {
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a fixed expression"));
    };
}

expression!(HIDDEN, &format!("(?:{STRINGS})|(?:{CONTROLS})|(?:{INVISIBLE})"));
expression!(HIDDEN_BUT_STRINGS, &format!("(?:{CONTROLS})|(?:{INVISIBLE})"));
expression!(ESCAPE, ESCAPES);
expression!(UNFINISHED_ESCAPE, ESCAPE_BEGIN);
expression!(UNFINISHED_SEQUENCE, SEQUENCE_BEGIN);
expression!(LINE_END, LINE_ENDS);
expression!(QUOTE, QUOTES);
expression!(HEXADECIMAL_RUN, HEXADECIMAL);
expression!(SEPARATOR, SEPARATORS);
expression!(OPEN_NUMBER, r"(?i-u)(?:0|0x[0-9a-f])\z");
expression!(STRING, STRINGS);

fn without(text: &[u8], pattern: &Regex) -> Option<View> {
    View::new(text, pattern.find_iter(text).map(|found| (found.range(), b"".as_slice())))
}

/// Returns a text as a terminal shows it: without escape sequences, control characters and invisible characters. `None` where it has none
/// of these.
pub fn shown(text: &[u8]) -> Option<View> {
    without(text, &HIDDEN)
}

/// Returns a text as [`shown`] does, but keeps the texts in escape sequences, such as titles and links; `None` where it has no such text.
pub fn shown_with_strings(text: &[u8]) -> Option<View> {
    if STRING.is_match(text) { without(text, &HIDDEN_BUT_STRINGS) } else { None }
}

/// Returns a text in which each backspace has removed the character before it; `None` where it has no backspace.
pub fn overstruck(text: &[u8]) -> Option<View> {
    const BACKSPACE: u8 = 8;
    if !text.contains(&BACKSPACE) {
        return None;
    }
    let mut gone: Vec<Range<usize>> = Vec::new();
    // Characters that are left: one that may be taken away yet is at the end.
    let mut left: Vec<usize> = Vec::new();
    for (at, byte) in text.iter().enumerate() {
        match *byte {
            BACKSPACE => {
                let start = left.pop().unwrap_or(at);
                while gone.last().is_some_and(|last| last.start >= start) {
                    gone.pop();
                }
                match gone.last_mut().filter(|last| last.end == start) {
                    Some(last) => last.end = at + 1,
                    None => gone.push(start..at + 1),
                }
            }
            b'\n' => left.clear(),
            0x80..=0xbf => {} // it goes on with a character
            _ => left.push(at),
        }
    }
    View::new(text, gone.into_iter().map(|range| (range, b"".as_slice())))
}

/// Returns a text with its escapes decoded once; `None` where it has none.
pub fn decoded(text: &[u8]) -> Option<View> {
    let tokens: Vec<(Range<usize>, Vec<u8>)> =
        ESCAPE.find_iter(text).map(|found| (found.range(), meaning(found.as_bytes()))).collect();
    View::new(text, tokens.iter().map(|(range, bytes)| (range.clone(), bytes.as_slice())))
}

/// Returns a text without its line ends; `None` where it has none.
pub fn joined(text: &[u8]) -> Option<View> {
    without(text, &LINE_END)
}

/// Returns a text without quotation marks; `None` where it has none.
pub fn unquoted(text: &[u8]) -> Option<View> {
    without(text, &QUOTE)
}

/// Finds the places in a text that may hold hexadecimal digits of a secret.
pub fn hexadecimal(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    HEXADECIMAL_RUN.find_iter(text).map(|found| found.range())
}

/// Returns the digits of a place from [`hexadecimal`], without the characters between them. A number such as `0x7` gets a leading zero,
/// unless it is the last of a text that goes on.
pub fn digits(text: &[u8], goes_on: bool) -> Option<View> {
    let is_digit = |at: usize| text.get(at).map_or(goes_on, u8::is_ascii_hexdigit);
    let parts = SEPARATOR.find_iter(text).map(|found| {
        let is_alone =
            found.as_bytes().eq_ignore_ascii_case(b"0x") && is_digit(found.end()) && !is_digit(found.end() + 1);
        (found.range(), if is_alone { b"0".as_slice() } else { b"" })
    });
    View::new(text, parts)
}

/// Tells whether the last digit may change its meaning when another one follows: "0" may begin a "0x", "0x6" a "0x68".
pub fn ends_open(text: &[u8]) -> bool {
    OPEN_NUMBER.is_match(text)
}

/// Returns the offset of an unfinished escape at the end of a text; the length of the text where there is none.
pub fn escape_from(text: &[u8]) -> usize {
    unfinished_from(text, &UNFINISHED_ESCAPE)
}

/// Returns the offset of an unfinished escape sequence of a terminal, or of an unfinished character of several bytes, at the end of a
/// text; the length of the text where there is none.
pub fn sequence_from(text: &[u8]) -> usize {
    unfinished_from(text, &UNFINISHED_SEQUENCE)
}

fn unfinished_from(text: &[u8], begin: &Regex) -> usize {
    let from = text.len().saturating_sub(UNFINISHED_BYTES);
    begin.find(&text[from..]).map_or(text.len(), |found| from + found.start())
}

/// Returns the bytes that an escape stands for.
fn meaning(escape: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(escape).unwrap_or_default();
    let byte = |digits: &str, radix: u32| u8::from_str_radix(digits, radix).into_iter().collect();
    let character = |digits: &str, radix: u32| -> Vec<u8> {
        let number = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        number.unwrap_or(char::REPLACEMENT_CHARACTER).to_string().into_bytes()
    };
    if let Some(unit) = text.strip_prefix("%u") {
        return character(unit, 16);
    }
    if let Some(digits) = text.strip_prefix('%') {
        return byte(digits, 16);
    }
    if let Some(entity) = text.strip_prefix('&') {
        let entity = entity.trim_end_matches(';');
        return match entity.rsplit(';').next().unwrap_or_default() {
            "lt" => b"<".to_vec(),
            "gt" => b">".to_vec(),
            "quot" => b"\"".to_vec(),
            "apos" => b"'".to_vec(),
            "nbsp" => b" ".to_vec(),
            number => match number.strip_prefix('#') {
                Some(number) => match number.strip_prefix(['x', 'X']) {
                    Some(digits) => character(digits, 16),
                    None => character(number, 10),
                },
                None => b"&".to_vec(),
            },
        };
    }
    let escaped = text.trim_start_matches('\\');
    let (kind, digits) = escaped.split_at(escaped.len().min(1));
    match (kind, digits) {
        ("x", digits) => byte(digits, 16),
        ("u", digits) if digits.contains('\\') => {
            let (first, second) = (&digits[..4], &digits[digits.len() - 4..]);
            let units = [first, second].map(|unit| u16::from_str_radix(unit, 16).unwrap_or_default());
            String::from_utf16_lossy(&units).into_bytes()
        }
        ("u" | "U", digits) => character(digits.trim_matches(['{', '}']), 16),
        ("n", "") => b"\n".to_vec(),
        ("t", "") => b"\t".to_vec(),
        // Only what begins an escape sequence has a meaning beside it: other control characters are left out anyway.
        ("e", "") => b"\x1b".to_vec(),
        ("b", "") => b"\x08".to_vec(),
        (_, "") => Vec::new(),
        _ => byte(escaped, 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(view: Option<View>) -> String {
        String::from_utf8_lossy(view.unwrap().bytes()).into_owned()
    }

    #[test]
    fn escapes_of_many_languages_are_decoded() {
        for (escaped, expected) in [
            ("p%C3%A4%20x%u20ac", "pä x€"),
            ("&lt;&#60;&#x3c;&amp;lt;&amp;amp;#60;&#60x&amp;&amp;amp;&apos;&quot;", "<<<<<<x&&'\""),
            (r"\u00e4\xc3\xa4\U000000e4\u{e4}\ud83d\ude80\\ud83d\\ude80", "ääää🚀🚀"),
            (r#"a\"b\\\"c\\d\/\ne\tf\101\0g\q"#, "a\"b\"cd/\ne\tfAgq"),
            (r"\62\608\419\1017", "208!9A7"),
            (r"&#x0000006d;&#0000000109;\u{0000006d}", "mmm"),
            (r"r\02\0", "r2"),
        ] {
            assert_eq!(text(decoded(escaped.as_bytes())), expected, "{escaped}");
        }
        assert!(decoded(b"nothing 100 % of & it").is_none());
    }

    #[test]
    fn what_was_typed_over_is_gone() {
        for (typed, expected) in [
            ("hunx\x08ter", "hunter"),
            ("hunxyz\x08\x08\x08ter", "hunter"),
            ("h\x08hu\x08u", "hu"),
            ("xä\x08\x08y", "y"),
            ("\x08\x08a\n\x08b", "a\nb"),
            ("abc\x08\x08d\x08\x08e", "e"),
        ] {
            assert_eq!(text(overstruck(typed.as_bytes())), expected, "{typed:?}");
        }
    }

    #[test]
    fn an_escape_without_an_end_is_seen_wherever_it_is_cut() {
        for escape in [
            "%41",
            "%u20ac",
            "&#x41;",
            "&#x0000000041;",
            "&#0000000065;",
            "&amp;amp;lt;",
            "&quot;",
            r"\u00e4",
            r"\\\x41",
            r"\ud83d\ude80",
            r"\U000000e4",
            r"\u{e4}",
            r"\u{000000e4}",
            r"\101",
            r"\62",
            r"\n",
            "\x1b[31;1m",
            "\x1b]0;title\x07",
            "\x1b]8;;x\x1b\\",
            "\x1b(0",
            "\u{9b}5A",
            "\u{200b}",
            "\u{feff}",
            "\u{ad}",
            "\u{61c}",
            "\u{2066}",
            "\u{e0041}",
            "\u{e0fff}",
            "\u{fe0f}",
            "\u{34f}",
            "\u{115f}",
            "\u{1d173}",
            "\u{fff9}",
        ] {
            for end in 1..escape.len() {
                let cut = [b"word ", &escape.as_bytes()[..end]].concat();
                assert_eq!(escape_from(&cut).min(sequence_from(&cut)), 5, "{escape:?} cut at {end}");
            }
        }
        for finished in ["a line\n", "word", "x\x1b[0m", "50 %  ", "a & b", "x\x1b]0;title\x07"] {
            let begins = [escape_from, sequence_from].map(|from| from(finished.as_bytes()));
            assert_eq!(begins, [finished.len(); 2], "{finished:?}");
        }
    }
}
