//! Forms of a secret in texts whose escapes are decoded: unchanged, line by line, in other character sets, encoded.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use super::decoding::{decoded, shown, unquoted};
use super::view::View;

/// Minimum length of a form that is looked for, in bytes: a shorter one would match ordinary words.
pub const FORM_BYTES_MIN: usize = 6;

/// Maximum length of a secret that is looked for as a whole although its lines are looked for too, in bytes.
const WHOLE_BYTES_MAX: usize = 256;

/// Number of levels of escapes that are decoded: a text that was escaped for one language may be escaped for others.
pub const LEVELS_MAX: usize = 4;

/// Maximum number of digits of a wrapped form that are written out at a line's end, and not held back until the next line.
pub const PASSED_DIGITS: usize = 3;

/// Minimum length of the rest of a wrapped form, after digits that were written out, that is searched for by itself, in bytes.
pub const REST_BYTES_MIN: usize = 12;

/// Returns the plain forms of a secret: the whole, without blanks around it, and each of its lines.
pub fn plain(value: &str) -> BTreeSet<String> {
    let is_long = |form: &&str| form.len() >= FORM_BYTES_MIN;
    let lines: Vec<&str> = value.lines().map(str::trim).filter(is_long).collect();
    let is_whole = value.len() <= WHOLE_BYTES_MAX || lines.is_empty();
    let whole = [value, value.trim()].into_iter().filter(|form| is_whole && is_long(form));
    whole.chain(lines.iter().copied()).map(str::to_owned).collect()
}

/// Forms of secrets, by the view of a text in which they are looked for.
#[derive(Debug, Default)]
pub struct Forms {
    /// Forms looked for in the text itself.
    pub text: BTreeSet<Vec<u8>>,
    /// Forms looked for in the text without quotation marks, of secrets that have some.
    pub unquoted: BTreeSet<Vec<u8>>,
    /// Forms looked for in the text without line ends.
    pub joined: BTreeSet<Vec<u8>>,
    /// Forms of hexadecimal digits, looked for where a text has such digits.
    pub digits: BTreeSet<Vec<u8>>,
}

impl Forms {
    /// Adds all forms of a secret.
    pub fn add(&mut self, value: &str) {
        for plain in plain(value) {
            self.add_text(plain.as_bytes());
            // Backslashes before an escape are taken for a part of it.
            self.add_text(plain.replace('\\', "").as_bytes());
            if plain.contains(' ') {
                self.add_text(plain.replace(' ', "+").as_bytes());
            }
            let latin: Option<Vec<u8>> = plain.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect();
            let latin = latin.filter(|_| !plain.is_ascii());
            latin.iter().for_each(|latin| self.add_text(latin));
            let wide = |bytes: fn(u16) -> [u8; 2]| plain.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
            let wide = [wide(u16::to_le_bytes), wide(u16::to_be_bytes)];
            wide.iter().for_each(|wide| self.add_text(wide));
            let quoted = quoted(&plain);
            let texts = quoted.iter().map(String::as_bytes).chain([plain.as_bytes()]);
            for bytes in wide.iter().chain(&latin).map(Vec::as_slice).chain(texts) {
                for alphabet in [STANDARD, URL_SAFE] {
                    let inside = (0..3).flat_map(|before| base64_inside(bytes, before, &alphabet));
                    inside.for_each(|form| add_wrapped(&mut self.joined, form));
                }
                let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                add_wrapped(&mut self.digits, digits.into_bytes());
            }
        }
        let is_long = |form: &Vec<u8>| form.len() >= FORM_BYTES_MIN;
        self.joined.retain(is_long);
        self.text.extend(self.joined.iter().cloned());
        self.text.retain(is_long);
        self.unquoted.retain(is_long);
    }

    /// Adds a form as it is, and as it reads when anything in it that looks like an escape is decoded.
    fn add_text(&mut self, form: &[u8]) {
        self.text.insert(form.to_vec());
        let mut form = seen(form, shown);
        for _ in 0..=LEVELS_MAX {
            self.text.insert(form.clone());
            if let Some(view) = unquoted(&form) {
                self.unquoted.insert(view.bytes().to_vec());
            }
            form = match decoded(&form) {
                Some(view) => seen(view.bytes(), shown),
                None => return,
            };
        }
    }
}

/// Returns the forms of a secret in strings of JSON, where some of its characters are escaped: as most programs write it, for HTML, and
/// in ASCII.
fn quoted(value: &str) -> BTreeSet<String> {
    let string = serde_json::Value::from(value).to_string();
    let string = &string[1..string.len() - 1];
    let escaped = |is_escaped: fn(char) -> bool| -> String {
        let mut units = [0; 2];
        let mut escape = |letter: char| -> String {
            letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        };
        string.chars().map(|letter| if is_escaped(letter) { escape(letter) } else { letter.into() }).collect()
    };
    let for_html = escaped(|letter| matches!(letter, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'));
    let mut quoted = BTreeSet::from([string.to_owned(), for_html, escaped(|letter| !letter.is_ascii())]);
    quoted.remove(value);
    quoted
}

fn seen(text: &[u8], by: fn(&[u8]) -> Option<View>) -> Vec<u8> {
    by(text).map_or_else(|| text.to_vec(), |view| view.bytes().to_vec())
}

/// Adds an encoded form of a secret, and the form without its first one to [`PASSED_DIGITS`] digits. Where the encoding begins at the end
/// of a wrapped line, these digits may have been written out already, and the rest is found on the next line.
fn add_wrapped(forms: &mut BTreeSet<Vec<u8>>, form: Vec<u8>) {
    for passed in 1..=PASSED_DIGITS {
        if form.len() >= passed + REST_BYTES_MIN {
            forms.insert(form[passed..].to_vec());
        }
    }
    forms.insert(form);
}

/// Returns the base64 digits of a secret in an encoded text that has `before` bytes (modulo 3) before the secret: first only those that
/// depend on the secret alone; second also the last digit of a text that ends with the secret.
fn base64_inside(text: &[u8], before: usize, alphabet: &Alphabet) -> [Vec<u8>; 2] {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(text);
    let encoded = GeneralPurpose::new(alphabet, NO_PAD).encode(&bytes).into_bytes();
    let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    let first = first.min(end);
    [encoded[first..end].to_vec(), encoded[first..].to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: &str) -> Forms {
        let mut forms = Forms::default();
        forms.add(value);
        forms
    }

    #[test]
    fn base64_is_known_wherever_the_value_stands_in_the_encoded_text() {
        let value = "correct-horse";
        let forms = all(value).joined;
        for before in ["", "a", "ab", "abc", "user:"] {
            for after in ["", "\n", "xyz"] {
                let text = format!("{before}{value}{after}");
                for alphabet in [STANDARD, URL_SAFE] {
                    let encoded = GeneralPurpose::new(&alphabet, NO_PAD).encode(&text);
                    let is_known = forms.iter().any(|form| {
                        form.len() + 4 > value.len() * 4 / 3 && encoded.contains(std::str::from_utf8(form).unwrap())
                    });
                    assert!(is_known, "{text}: {encoded}");
                }
            }
        }
    }

    #[test]
    fn each_line_of_a_long_value_is_secret() {
        let forms = all("-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n").text;
        assert!(forms.contains("MIIEvQIBADANBg".as_bytes()) && !forms.contains("}".as_bytes()));
    }

    #[test]
    fn no_form_is_so_short_that_it_stands_in_ordinary_words() {
        for value in ["hunter22", "\"\"'a''", "%41%42%43", r"\\\\\\x", "äöüß12", "&lt;&gt;"] {
            let forms = all(value);
            let every = [&forms.text, &forms.unquoted, &forms.joined, &forms.digits].into_iter().flatten();
            assert!(every.clone().count() > 0 && every.clone().all(|form| form.len() >= FORM_BYTES_MIN), "{value}");
        }
    }
}
