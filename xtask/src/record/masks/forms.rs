//! Forms in which a value turns up in texts: as it is, by its lines, escaped for other languages, encoded.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

/// Shortest form that is looked for, in bytes: a shorter one would stand in ordinary words.
pub const FORM_BYTES_MIN: usize = 6;

/// Unreserved marks of an address (RFC 3986).
const UNRESERVED: &[u8] = b"-._~";

/// Escapes of HTML and XML, by the program that writes them: Python, Rust's templates, XML writers, JavaScript.
const ENTITIES: [&[(&str, &str)]; 4] = [
    &[("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#x27;")],
    &[("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#x27;"), ("/", "&#x2f;")],
    &[("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&apos;")],
    &[("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")],
];

/// Longest value that is looked for as a whole although it has lines that are looked for, in bytes.
const WHOLE_BYTES_MAX: usize = 256;

/// Returns the plain forms of a value: whole, without blanks around it, and each of its lines.
pub fn plain(value: &str) -> BTreeSet<String> {
    let is_long = |form: &&str| form.len() >= FORM_BYTES_MIN;
    let lines: Vec<&str> = value.lines().map(str::trim).filter(is_long).collect();
    let is_whole = value.len() <= WHOLE_BYTES_MAX || lines.is_empty();
    let whole = [value, value.trim()].into_iter().filter(|form| is_whole && is_long(form));
    whole.chain(lines.iter().copied()).map(str::to_owned).collect()
}

/// Returns every form of a value that is looked for.
pub fn all(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms: BTreeSet<Vec<u8>> = BTreeSet::new();
    for plain in plain(value) {
        let json = json(&plain, false);
        let texts = [
            json.replace('/', "\\/"),
            self::json(&json, false),
            self::json(&plain, true),
            json,
            plain.replace('\\', "\\\\").replace('\'', "\\'"),
            plain.replace('\'', "'\\''"),
            plain.replace('\'', "'\"'\"'"),
        ];
        forms.extend(texts.map(String::into_bytes));
        forms.extend(ENTITIES.map(|entities| html(&plain, entities).into_bytes()));
        for kept in ["", "/", "!'()*", "!*'();:@&=+$,/?#[]"] {
            for blank in ["%20", "+"] {
                let upper = percent(&plain, kept, blank);
                forms.insert(lower_escapes(&upper).into_bytes());
                forms.insert(upper.into_bytes());
            }
        }
        for alphabet in [STANDARD, URL_SAFE] {
            forms.extend((0..3).flat_map(|before| base64_inside(&plain, before, &alphabet)));
        }
        let hexadecimal: String = plain.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.insert(hexadecimal.to_uppercase().into_bytes());
        forms.insert(hexadecimal.into_bytes());
        forms.insert(plain.into_bytes());
    }
    forms.retain(|form| form.len() >= FORM_BYTES_MIN);
    forms
}

/// A text inside of a JSON string.
fn json(text: &str, is_ascii: bool) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inside = &quoted[1..quoted.len() - 1];
    if !is_ascii {
        return inside.to_owned();
    }
    let mut ascii = String::with_capacity(inside.len());
    for character in inside.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().for_each(|unit| ascii.push_str(&format!("\\u{unit:04x}")));
        }
    }
    ascii
}

fn html(text: &str, entities: &[(&str, &str)]) -> String {
    entities.iter().fold(text.to_owned(), |text, (plain, escaped)| text.replace(plain, escaped))
}

fn percent(text: &str, kept: &str, blank: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push_str(blank),
            byte if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) || kept.as_bytes().contains(&byte) => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The same with the digits of escapes in lower case.
fn lower_escapes(percent: &str) -> String {
    let mut lower = String::with_capacity(percent.len());
    let mut left = 0;
    for character in percent.chars() {
        left = if character == '%' { 3_u8 } else { left };
        lower.push(if left > 0 { character.to_ascii_lowercase() } else { character });
        left = left.saturating_sub(1);
    }
    lower
}

/// Digits that base64 of a longer text has of a value in it, whose begin is so many bytes (modulo 3) behind that of the text: those
/// that depend on nothing else; and these with the last one, as it is at the text's end.
fn base64_inside(text: &str, before: usize, alphabet: &Alphabet) -> [Vec<u8>; 2] {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(text.as_bytes());
    let encoded = GeneralPurpose::new(alphabet, NO_PAD).encode(&bytes).into_bytes();
    let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
    let first = first.min(end);
    [encoded[first..end].to_vec(), encoded[first..].to_vec()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_in_other_languages() {
        let forms: BTreeSet<String> =
            all("pä\"ss'<&w/d 1").into_iter().map(|form| String::from_utf8(form).unwrap()).collect();
        for form in [
            "pä\"ss'<&w/d 1",
            "pä\\\"ss'<&w/d 1",
            "pä\\\"ss'<&w\\/d 1",
            "pä\\\\\\\"ss'<&w/d 1",
            "p\\u00e4\\\"ss'<&w/d 1",
            "pä&quot;ss&#x27;&lt;&amp;w&#x2f;d 1",
            "pä&#34;ss&#39;&lt;&amp;w/d 1",
            "p%C3%A4%22ss%27%3C%26w%2Fd%201",
            "p%c3%a4%22ss%27%3c%26w/d+1",
            "pä\"ss'\\''<&w/d 1",
            "70c3a42273",
        ] {
            assert!(forms.iter().any(|known| known.starts_with(form)), "{form}: {forms:#?}");
        }
    }

    #[test]
    fn base64_is_known_wherever_the_value_stands_in_the_encoded_text() {
        let value = "correct-horse";
        let forms = all(value);
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
        let forms = all("-----BEGIN KEY-----\nMIIEvQIBADANBg\n}\n");
        assert!(forms.contains("MIIEvQIBADANBg".as_bytes()) && !forms.contains("}".as_bytes()));
    }
}
