//! Masks for declared secrets, and the search for secrets in a text.
//!
//! Secrets are looked for in views of a text: as a terminal shows it, with its escapes decoded, without the line ends of wrapped digits.
//! Each view knows where its parts stand in the text; there the secret is masked with all that the view left out within it. So a later
//! step that leaves out the same parts (`record/plain_text.rs` does) uncovers no secret.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::decoding;
use super::finder::Finder;
use super::forms::{self, Forms, LEVELS_MAX, PASSED_DIGITS};
use super::view::View;

/// Mark that stands in place of a secret.
pub const MARK: &str = "[redacted]";

/// Texts with which programs mark a place where they have cut a text.
const CUTS: [&str; 3] = ["[...", "...", "…"];

/// Minimum length of a text before or behind a cut that counts as a part of a secret, in bytes.
const PART_BYTES_MIN: usize = 4;

/// Minimum number of bytes that are searched at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Maximum number of bytes of a text that one byte of a form is expected to take; an incomplete form that takes more is not held back.
const SPREAD_MAX: usize = 16;

/// Secrets that must not be written anywhere, and the search for them. Without secrets, all texts stay as they are.
#[derive(Default)]
pub struct Masks {
    finders: Option<Finders>,
    plain: Vec<String>,
    /// Number of bytes that were searched, in all views.
    #[cfg(test)]
    pub(super) looked: std::sync::atomic::AtomicU64,
}

/// Finders of forms, one for each view of a text.
struct Finders {
    text: Finder,
    unquoted: Option<Finder>,
    joined: Option<Finder>,
    digits: Option<Finder>,
}

/// Result of a search through a part of a text.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Places of secrets, in order; overlapping ones are joined.
    pub spans: Vec<Range<usize>>,
    /// First place from which on the rest may begin a secret; the part's length where there is none.
    pub open: usize,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let forms = self.finders.iter().map(|finders| finders.text.count()).sum::<usize>();
        f.debug_struct("Masks").field("forms", &forms).finish_non_exhaustive()
    }
}

impl Masks {
    /// Makes masks for these secrets.
    ///
    /// # Errors
    /// When there are more secrets than can be looked for.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let (mut forms, mut plain) = (Forms::default(), BTreeSet::new());
        for value in values {
            forms.add(value);
            plain.extend(forms::plain(value));
        }
        let Some(text) = Finder::new(forms.text)? else { return Ok(Self::default()) };
        let finders = Finders {
            text,
            unquoted: Finder::new(forms.unquoted)?,
            joined: Finder::new(forms.joined)?,
            digits: Finder::new(forms.digits)?,
        };
        Ok(Self {
            finders: Some(finders),
            plain: plain.into_iter().collect(),
            #[cfg(test)]
            looked: std::sync::atomic::AtomicU64::default(),
        })
    }

    /// Tells whether there are no secrets.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finders.is_none()
    }

    /// Returns a text with secrets masked, and with parts of secrets masked where the text was cut.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut spans = self.spans(text.as_bytes());
        if !self.is_empty() {
            spans.extend(self.parts_at_cuts(text));
            // A form of another character set may end inside of a character.
            spans.iter_mut().for_each(|span| {
                *span = text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end);
            });
            spans = merged(spans);
        }
        match replaced(text.as_bytes(), &spans) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Returns the bytes of a text with secrets masked.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        replaced(bytes, &self.spans(bytes))
    }

    /// Returns the places of secrets, in order; overlapping ones are joined.
    fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let (mut spans, mut from) = (Vec::new(), 0);
        loop {
            let to = bytes.len().min(from + self.window_bytes());
            let scan = self.scan(&bytes[from..to], to == bytes.len());
            spans.extend(scan.spans.into_iter().map(|span| from + span.start..from + span.end));
            if to == bytes.len() {
                return merged(spans);
            }
            from += if scan.open == 0 { (to - from) / 2 } else { scan.open };
        }
    }

    /// Returns the number of bytes that are searched at once, which is the maximum that is held back.
    pub(super) fn window_bytes(&self) -> usize {
        let Some(finders) = &self.finders else { return WINDOW_BYTES };
        let all = [Some(&finders.text), finders.joined.as_ref(), finders.digits.as_ref()];
        let longest = all.into_iter().flatten().map(Finder::longest).max().unwrap_or(0);
        WINDOW_BYTES.max(longest * SPREAD_MAX)
    }

    /// Searches a part of a text; more parts follow unless `is_last`.
    pub(super) fn scan(&self, window: &[u8], is_last: bool) -> Scan {
        let Some(finders) = &self.finders else { return Scan { spans: Vec::new(), open: window.len() } };
        let mut search = Search {
            #[cfg(test)]
            masks: self,
            finders,
            window,
            is_last,
            scan: Scan::default(),
        };
        let finished = search.finished(window, decoding::sequence_from);
        search.window = finished;
        search.scan.open = finished.len();
        let shown = decoding::shown(finished);
        if shown.is_some() {
            search.look(&finders.text, finished, &|range| range, Some(0));
        }
        search.levels(shown);
        if let Some(with_strings) = decoding::shown_with_strings(finished) {
            search.levels(Some(with_strings));
        }
        if let Some(overstruck) = decoding::overstruck(finished) {
            search.levels(Some(overstruck));
        }
        // A backslash that is left would escape what stands behind it.
        let mut spans = merged(search.scan.spans);
        for span in &mut spans {
            let is_backslash = |byte: &&u8| **byte == b'\\';
            span.start -= finished[..span.start].iter().rev().take_while(is_backslash).count();
            if finished[span.clone()].ends_with(b"\\") {
                span.end += finished[span.end..].iter().take_while(is_backslash).count();
            }
        }
        Scan { spans: merged(spans), open: search.scan.open }
    }

    /// Finds begins of secrets before a mark of a cut, and ends of secrets behind one: the program that cut the text had the whole
    /// secret.
    fn parts_at_cuts(&self, text: &str) -> Vec<Range<usize>> {
        let mut spans = Vec::new();
        for cut in CUTS {
            for (at, _) in text.match_indices(cut) {
                let before = text[..at].trim_end();
                let behind = text[at + cut.len()..].trim_start_matches([']', ' ', '\n']);
                let behind_at = text.len() - behind.len();
                for value in &self.plain {
                    let borders = || value.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
                    let begin = borders().rev().find(|end| before.ends_with(&value[..*end]));
                    let end = borders().find(|begin| behind.starts_with(&value[*begin..]));
                    spans.extend(
                        begin.filter(|begin| *begin >= PART_BYTES_MIN).map(|len| before.len() - len..before.len()),
                    );
                    spans.extend(
                        end.map(|begin| value.len() - begin)
                            .filter(|len| *len >= PART_BYTES_MIN)
                            .map(|len| behind_at..behind_at + len),
                    );
                }
            }
        }
        spans
    }
}

/// Search through one part of a text, with the results so far.
struct Search<'a> {
    #[cfg(test)]
    masks: &'a Masks,
    finders: &'a Finders,
    window: &'a [u8],
    is_last: bool,
    scan: Scan,
}

impl Search<'_> {
    /// Searches a view of the part, and then the view with its escapes decoded, up to `LEVELS_MAX` times.
    fn levels(&mut self, first: Option<View>) {
        let finders = self.finders;
        let mut views: Vec<View> = first.into_iter().collect();
        for level in 0..=LEVELS_MAX {
            let text = self.finished(views.last().map_or(self.window, View::bytes), decoding::escape_from);
            self.look(&finders.text, text, &|range| origin(&views, range), Some(0));
            let passed_digits = passed_digits(self.window);
            let mut look_through = |finder: Option<&Finder>, by: fn(&[u8]) -> Option<View>, passed: usize| {
                if let Some((finder, view)) = finder.and_then(|finder| Some((finder, by(text)?))) {
                    self.look(finder, view.bytes(), &|range| origin(&views, view.origin(range)), Some(passed));
                }
            };
            look_through(finders.unquoted.as_ref(), decoding::unquoted, 0);
            look_through(finders.joined.as_ref(), decoding::joined, passed_digits);
            self.look_at_digits(text, &views);
            let Some(mut decoded) = decoding::decoded(text).filter(|_| level < LEVELS_MAX) else { return };
            decoded.cut(self.finished(decoded.bytes(), decoding::sequence_from).len());
            let shown = decoding::shown(decoded.bytes());
            views.push(decoded);
            views.extend(shown);
        }
    }

    fn look_at_digits(&mut self, text: &[u8], views: &[View]) {
        let Some(finder) = &self.finders.digits else { return };
        for run in decoding::hexadecimal(text) {
            let goes_on = !self.is_last && run.end == text.len();
            let digits = decoding::digits(&text[run.clone()], goes_on);
            let lower = digits.as_ref().map_or(&text[run.clone()], View::bytes).to_ascii_lowercase();
            let place = |range: Range<usize>| {
                let range = digits.as_ref().map_or(range.clone(), |digits| digits.origin(range));
                origin(views, run.start + range.start..run.start + range.end)
            };
            if run.end < text.len() {
                self.look(finder, &lower, &place, None);
                continue;
            }
            let passed = passed_digits(self.window);
            self.look(finder, &lower, &place, Some(passed));
            if goes_on && decoding::ends_open(&text[run.clone()]) {
                let before = &lower[..lower.len() - 1];
                self.open_at(&place, finder.open_from(before, passed)..before.len());
            }
        }
    }

    /// Searches a text for secrets, and with `passed` also its end for the start of a secret, as [`Finder::open_from`] does; `place` maps a
    /// range of the text to a range of the part.
    fn look(
        &mut self,
        finder: &Finder,
        text: &[u8],
        place: &dyn Fn(Range<usize>) -> Range<usize>,
        passed: Option<usize>,
    ) {
        #[cfg(test)]
        self.masks.looked.fetch_add(text.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.scan.spans.extend(finder.places(text).map(place));
        if let Some(passed) = passed.filter(|_| !self.is_last) {
            self.open_at(place, finder.open_from(text, passed)..text.len());
        }
    }

    /// Notes that the range `open` of a view may become a secret with the bytes that follow; `place` maps it to a range of the part.
    fn open_at(&mut self, place: &dyn Fn(Range<usize>) -> Range<usize>, open: Range<usize>) {
        self.scan.open = self.scan.open.min(place(open).start);
    }

    /// Returns a text without an unfinished escape or sequence at its end, whose offset `unfinished_from` finds; the last part of a text
    /// stays whole.
    fn finished<'t>(&self, text: &'t [u8], unfinished_from: fn(&[u8]) -> usize) -> &'t [u8] {
        if self.is_last { text } else { &text[..unfinished_from(text)] }
    }
}

/// Returns the number of digits at the end of a text that are not held back: a whole line is written out although a secret may begin with
/// its last letters.
fn passed_digits(text: &[u8]) -> usize {
    if text.ends_with(b"\n") { PASSED_DIGITS } else { 0 }
}

/// Converts a range of the last view to a range of the text of the first view.
fn origin(views: &[View], range: Range<usize>) -> Range<usize> {
    views.iter().rev().fold(range, |range, view| view.origin(range))
}

fn merged(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

fn replaced<'a>(bytes: &'a [u8], spans: &[Range<usize>]) -> Cow<'a, [u8]> {
    if spans.is_empty() {
        return bytes.into();
    }
    let mut masked = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for span in spans {
        masked.extend_from_slice(&bytes[done..span.start]);
        masked.extend_from_slice(MARK.as_bytes());
        done = span.end;
    }
    masked.extend_from_slice(&bytes[done..]);
    masked.into()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    use super::super::MaskedStream;
    use super::*;
    use crate::record::plain_text::{plain_text, visible_text};

    fn check(values: &[&str], text: &str, expected: &str) {
        assert_eq!(Masks::new(values.iter().copied()).unwrap().text(text), expected, "{values:?}");
    }

    #[test]
    fn a_value_goes_wherever_it_stands() {
        check(&["hunter22"], "a hunter22, Ahunter22b \\ hunter2", "a [redacted], A[redacted]b \\ hunter2");
        check(&["hunter22"], "aHVudGVyMjI= 68756e7465723232", "[redacted]= [redacted]");
        check(&[], "hunter22", "hunter22");
        check(&["short"], "short", "short");
        check(&["zwölf Öfen"], "sind zwölf Öfen da", "sind [redacted] da");
    }

    #[test]
    fn values_that_overlap_leave_no_rest() {
        check(&["abcdef", "cdefgh"], "xabcdefghy", "x[redacted]y");
        check(&["abcdef", "bcdefghi"], "xabcdefghiy", "x[redacted]y");
        check(&["aaaaaa"], "aaaaaaaaaa!", "[redacted]!");
        check(&["abcdef"], "abcdefabcdef", "[redacted][redacted]");
    }

    #[test]
    fn a_part_that_a_cut_has_left_goes_too() {
        check(&["correct-horse"], "sh -c correct-ho [...]", "sh -c [redacted] [...]");
        check(
            &["correct-horse"],
            "correct-ho [... cut after 300 characters]",
            "[redacted] [... cut after 300 characters]",
        );
        check(&["correct-horse"], "[...] t-horse and on", "[...] [redacted] and on");
        check(&["correct-horse"], "loading... done; cor...", "loading... done; cor...");
    }

    const VALUE: &str = "pä\"ss' <&w/d\\9z+22";

    /// Returns the value in many languages and encodings, each with its description. Each stands between the start and the end of a line.
    fn shapes(value: &str) -> Vec<(&'static str, Vec<u8>)> {
        let each = |by: &dyn Fn(char) -> String| value.chars().map(by).collect::<String>().into_bytes();
        let bytes = |by: &dyn Fn(u8) -> String, between: &str| {
            value.bytes().map(by).collect::<Vec<_>>().join(between).into_bytes()
        };
        let html = |text: &str| {
            let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
            escaped.replace('\'', "&#x27;").into_bytes()
        };
        let json = |text: &str| serde_json::Value::from(text).to_string();
        let ascii = |text: &str| {
            let one =
                |c: char| c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
            json(text).chars().map(|c| if c.is_ascii() { c.to_string() } else { one(c) }).collect::<String>()
        };
        let percent = bytes(&|byte| format!("%{byte:02X}"), "");
        let percent_text = String::from_utf8(percent.clone()).unwrap();
        let wrapped = |text: &[u8], columns: usize, end: &str| {
            let lines: Vec<&str> = text.chunks(columns).map(|line| std::str::from_utf8(line).unwrap()).collect();
            lines.join(end).into_bytes()
        };
        let in_letter = format!("{}{value}{}", "x".repeat(50), "y".repeat(80));
        let encoded = STANDARD.encode(&in_letter).into_bytes();
        let wide_le: Vec<u8> = value.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide_be: Vec<u8> = value.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let latin: Vec<u8> = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        let in_json = |text: &str| STANDARD.encode(format!("{{\"key\":{text}}}")).into_bytes();
        let html_safe = json(value).replace('&', "\\u0026").replace('<', "\\u003c");
        vec![
            ("as it is", value.as_bytes().to_vec()),
            ("colors", each(&|c| format!("\u{1b}[1;31m{c}\u{1b}[0m"))),
            ("colors of 24 bits", each(&|c| format!("\u{1b}[38;2;1;2;3m{c}"))),
            ("other sequences", each(&|c| format!("{c}\u{1b}[K\u{1b}(B\u{9b}2C\u{1b}7"))),
            ("titles", each(&|c| format!("{c}\u{1b}]0;title\u{7}\u{1b}]8;;http://a\u{1b}\\"))),
            ("in a title", [b"\x1b]0;", value.as_bytes(), b"\x07"].concat()),
            ("in a link", [b"\x1b]8;;http://a/?", percent.as_slice(), b"\x1b\\link"].concat()),
            ("NUL bytes", each(&|c| format!("{c}\0"))),
            ("UTF-16 LE", wide_le.clone()),
            ("UTF-16 BE", wide_be.clone()),
            ("Latin-1", latin.clone()),
            ("carriage returns", each(&|c| format!("{c}\r"))),
            ("backspaces", each(&|c| format!("{c}\u{8}"))),
            ("typed over", each(&|c| format!("{c}\u{8}{c}"))),
            ("mistyped", each(&|c| format!("xy\u{8}\u{8}{c}"))),
            ("zero width", each(&|c| format!("{c}\u{200b}\u{feff}\u{ad}"))),
            ("variation selectors", each(&|c| format!("{c}\u{fe0f}\u{e0100}\u{180e}"))),
            ("joiners and fillers", each(&|c| format!("{c}\u{34f}\u{115f}\u{3164}\u{ffa0}"))),
            ("variation selectors in JSON", each(&|c| format!("{c}\\ufe0f\\udb40\\udd00"))),
            ("JSON", json(value).into_bytes()),
            ("JSON in ASCII", ascii(value).into_bytes()),
            ("JSON in JSON", json(&ascii(value)).into_bytes()),
            ("JSON in JSON in JSON", json(&json(&ascii(value))).into_bytes()),
            (
                "JSON with colored letters",
                json(&value.chars().map(|c| format!("\u{1b}[1m{c}")).collect::<String>()).into(),
            ),
            ("JSON of bytes with zeros", json(&value.chars().map(|c| format!("{c}\0")).collect::<String>()).into()),
            ("every letter for JSON", each(&|c| format!("\\u{:04X}", u32::from(c)))),
            ("Rust", format!("{value:?}").into_bytes()),
            ("every letter for Rust", each(&|c| format!("\\u{{{:x}}}", u32::from(c)))),
            ("bytes of Python", bytes(&|byte| format!("\\x{byte:02x}"), "")),
            ("bytes of C", bytes(&|byte| format!("\\{byte:03o}"), "")),
            ("bytes of C without zeros", bytes(&|byte| format!("\\{byte:o}"), "")),
            ("bytes of Rust", value.as_bytes().escape_ascii().to_string().into_bytes()),
            ("shell", value.replace('\'', "'\\''").into_bytes()),
            ("shell with other marks", value.replace('\'', "'\"'\"'").into_bytes()),
            ("table", value.replace('"', "\"\"").into_bytes()),
            ("SQL", value.replace('\'', "''").into_bytes()),
            ("percent", percent.clone()),
            ("percent in lower case", percent_text.to_lowercase().into_bytes()),
            ("percent twice", percent_text.replace('%', "%25").into_bytes()),
            ("percent thrice", percent_text.replace('%', "%2525").into_bytes()),
            ("HTML", html(value)),
            ("HTML twice", html(&String::from_utf8(html(value)).unwrap())),
            ("decimal entities", each(&|c| format!("&#{};", u32::from(c)))),
            ("hexadecimal entities", each(&|c| format!("&#x{:X};", u32::from(c)))),
            ("hexadecimal entities of 8 digits", each(&|c| format!("&#x{:08x};", u32::from(c)))),
            ("decimal entities of 10 digits", each(&|c| format!("&#{:010};", u32::from(c)))),
            ("entities twice", each(&|c| format!("&amp;#{};", u32::from(c)))),
            ("JSON in HTML", html(&ascii(value))),
            ("JSON in an address", ascii(value).bytes().map(|byte| format!("%{byte:02x}")).collect::<String>().into()),
            ("base64", STANDARD.encode(value).into_bytes()),
            ("base64 behind one", STANDARD.encode(format!("a{value}")).into_bytes()),
            ("base64 behind two", STANDARD.encode(format!("ab{value}")).into_bytes()),
            ("base64 for addresses", URL_SAFE.encode(format!("??>>{value}")).into_bytes()),
            ("base64 of UTF-16", STANDARD.encode(&wide_le).into_bytes()),
            ("base64 of Latin-1", STANDARD.encode(&latin).into_bytes()),
            ("base64 of JSON", in_json(&json(value))),
            ("base64 of JSON in ASCII", in_json(&ascii(value))),
            ("base64 of JSON for HTML", in_json(&html_safe)),
            ("base64 of 76 columns", wrapped(&encoded, 76, "\n")),
            ("base64 of 64 columns", wrapped(&encoded, 64, "\r\n")),
            ("base64 of 60 columns, indented", wrapped(&encoded, 60, "\n    ")),
            ("base64 of 70 columns in JSON", json(&String::from_utf8(wrapped(&encoded, 70, "\n")).unwrap()).into()),
            ("base64 of 76 columns in HTML", wrapped(&encoded, 76, "&#10;")),
            ("hexadecimal", bytes(&|byte| format!("{byte:02x}"), "")),
            ("HEXADECIMAL", bytes(&|byte| format!("{byte:02X}"), "")),
            ("hexadecimal with :", bytes(&|byte| format!("{byte:02X}"), ":")),
            ("hexadecimal with -", bytes(&|byte| format!("{byte:02x}"), "-")),
            ("hexadecimal with blanks", bytes(&|byte| format!("{byte:02x}"), " ")),
            ("hexadecimal with |", bytes(&|byte| format!("{byte:02x}"), "|")),
            ("hexadecimal with /", bytes(&|byte| format!("{byte:02x}"), "/")),
            ("hexadecimal with quotation marks", bytes(&|byte| format!("\"{byte:02x}\""), ", ")),
            ("hexadecimal with =>", bytes(&|byte| format!("{byte:02x}"), " => ")),
            ("hexadecimal numbers without zeros", bytes(&|byte| format!("{byte:#x}"), ", ")),
            ("hexadecimal of Latin-1", latin.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
            ("hexadecimal of JSON", json(value).bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
            ("hexadecimal numbers", bytes(&|byte| format!("0x{byte:02x}"), ", ")),
            ("hexadecimal of 10 columns", wrapped(&bytes(&|byte| format!("{byte:02x}"), ""), 10, "\n")),
            ("hexadecimal in pairs", wrapped(&bytes(&|byte| format!("{byte:02x}"), ""), 4, " ")),
            ("hexadecimal of UTF-16", wide_be.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()),
        ]
    }

    #[test]
    fn a_value_is_found_in_every_shape() {
        let mut problems = Vec::new();
        for value in [VALUE, "hunter22", "correct horse/battery", "müßig\tgröße\t77", "%41%42&lt;\\x41bcdefg\\n\\\\"]
        {
            let masks = std::sync::Arc::new(Masks::new([value]).unwrap());
            for (name, shape) in shapes(value) {
                let line = [b">", shape.as_slice(), b"<\n"].concat();
                let masked = masks.bytes(&line);
                let shown = String::from_utf8_lossy(&masked);
                if !shown.contains(MARK) {
                    problems.push(format!("{value}, {name}, not found: {}", String::from_utf8_lossy(&line)));
                    continue;
                }
                // Nothing of it is left.
                let bytes = match name {
                    "Latin-1" => value.chars().count(),
                    "base64 of Latin-1" => value.chars().count() * 4 / 3 - 2,
                    "hexadecimal of Latin-1" => value.chars().count() * 2,
                    "hexadecimal numbers without zeros" => value.len() * 3,
                    "base64 of UTF-16" => value.encode_utf16().count() * 8 / 3 - 2,
                    "hexadecimal of UTF-16" => value.encode_utf16().count() * 4,
                    name if name.starts_with("base64") => value.len() * 4 / 3 - 2,
                    name if name.to_lowercase().starts_with("hexadecimal") => value.len() * 2,
                    _ => value.len(),
                };
                let gone = line.len() + shown.matches(MARK).count() * MARK.len() - masked.len();
                if gone < bytes {
                    problems.push(format!("{value}, {name}: {shown}"));
                }
                if let Ok(text) = std::str::from_utf8(&line) {
                    let masked = masks.text(text);
                    for view in [plain_text(&masked), visible_text(&masked)] {
                        assert!(!view.contains(value), "{value}, {name}: {view}");
                    }
                }
                let mut same = MaskedStream::of_same_length(std::sync::Arc::clone(&masks));
                let (begin, end) = (same.push(&line), same.finish());
                assert_eq!(begin.len() + end.len(), line.len(), "{value}, {name}");
                // In pieces that end anywhere.
                for piece in [1, 2, 3, 7, line.len() / 2 + 1] {
                    let mut stream = MaskedStream::new(std::sync::Arc::clone(&masks));
                    let mut passed: Vec<u8> = line.chunks(piece).flat_map(|piece| stream.push(piece)).collect();
                    passed.extend(stream.finish());
                    let is_late = ["typed over", "mistyped"].contains(&name);
                    let (whole, pieces) = (String::from_utf8_lossy(&masked), String::from_utf8_lossy(&passed));
                    // A line end is not waited with, so some digits before it may have passed.
                    let more_max = PASSED_DIGITS + "\\n    ".len();
                    let is_masked = pieces.contains(MARK) && pieces.len() <= whole.len() + more_max;
                    if !is_late && !is_masked {
                        problems.push(format!("{value}, {name} by {piece}: {pieces} for {whole}"));
                    }
                }
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn what_a_writer_leaves_out_hides_no_value() {
        let masks = Masks::new(["hunter22"]).unwrap();
        let characters = (0..=0x0010_ffff).filter_map(char::from_u32);
        let hidden: Vec<char> = characters.filter(|c| plain_text(&format!("a{c}b")) == "ab").collect();
        assert!(hidden.len() > 200, "{}", hidden.len());
        let kept: Vec<char> = hidden.into_iter().filter(|c| masks.text(&format!("hun{c}ter22")) != MARK).collect();
        assert!(kept.is_empty(), "{kept:?}");
    }

    #[test]
    fn no_character_that_shows_nothing_hides_a_value() {
        // Unicode's property Default_Ignorable_Code_Point, spelled out, and some format characters.
        let ranges = [
            0xad..=0xad,
            0x34f..=0x34f,
            0x61c..=0x61c,
            0x115f..=0x1160,
            0x17b4..=0x17b5,
            0x180b..=0x180f,
            0x200b..=0x200f,
            0x202a..=0x202e,
            0x2060..=0x206f,
            0x3164..=0x3164,
            0xfe00..=0xfe0f,
            0xfeff..=0xfeff,
            0xffa0..=0xffa0,
            0xfff0..=0xfffb,
            0x13430..=0x1343f,
            0x1_bca0..=0x1_bca3,
            0x1_d173..=0x1_d17a,
            0xe_0000..=0xe_0fff,
        ];
        let masks = std::sync::Arc::new(Masks::new(["hunter22"]).unwrap());
        let mut kept = Vec::new();
        for character in ranges.into_iter().flatten().filter_map(char::from_u32) {
            let text = format!("hun{character}ter22");
            let in_bytes = || {
                let mut stream = MaskedStream::new(std::sync::Arc::clone(&masks));
                let mut passed: Vec<u8> = text.bytes().flat_map(|byte| stream.push(&[byte])).collect();
                passed.extend(stream.finish());
                passed == MARK.as_bytes()
            };
            if masks.text(&text) != MARK || !in_bytes() {
                kept.push(character);
            }
        }
        assert!(kept.is_empty(), "{kept:?}");
        let pictures = "it is \u{2764}\u{fe0f}, \u{1f469}\u{200d}\u{1f680} \u{8fbb}\u{e0100}\n";
        assert_eq!(masks.text(pictures), pictures);
    }

    #[test]
    fn a_document_stays_one_when_its_text_is_masked() {
        for value in
            ["\"quoted\" 1", "/path/of/it", "\\9abcdef", "abcdef\\", "\\\\share\\dir\\", "\nline\n123456", "'a\"b'c\"d"]
        {
            let masks = Masks::new([value]).unwrap();
            for text in [value.to_owned(), format!("{value}{value}"), format!("\\{value}\\"), format!("\n{value}\n\t")]
            {
                let written = serde_json::json!({"a": text, "b": [text, 1], text.as_str(): "c"}).to_string();
                for line in [written.clone(), written.replace('/', "\\/")] {
                    let masked = masks.text(&line).into_owned();
                    assert!(masked.contains(MARK), "{value:?}: {line}");
                    assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{value:?}: {line} {masked}");
                }
            }
        }
    }

    #[test]
    fn ordinary_texts_stay_as_they_are() {
        let masks = Masks::new(["123456", "foobar", "hunter22", "pass\"word\"1"]).unwrap();
        for text in [
            "123\n456 and 123 456, 12:34:56, 12-34-56, 0x12 0x34 0x56",
            "foo bar, foo\nbar, foo-bar, foo\\nbar, \"foo\" \"bar\", foo'bar, foo, bar",
            "2026-11-30 11:14:43.123 31 32 33 34 35",
            "hunter 22 hunter\n22 hunter-22 hunter%3a22 &amp; hunter",
            "\u{1b}[31mfoo\u{1b}[0m bar\u{1b}]0;title\u{7} \0\r\n",
            r"C:\users\new\temp \x41\u00e4 %41 &lt; 'a' 68:75:6e:74:65:72 SGVsbG8gd29ybGQh",
        ] {
            assert!(matches!(masks.bytes(text.as_bytes()), Cow::Borrowed(_)), "{text}: {}", masks.text(text));
            assert_eq!(masks.text(text), text);
        }
    }

    #[test]
    fn the_search_takes_steps_in_proportion_to_the_text() {
        const BYTES: usize = 10 << 20;
        let values: Vec<String> =
            (0..20).map(|number| format!("secret \"{number}\" of {}", "many ".repeat(10))).collect();
        for part in [
            "a line of a log, 12:34:56\n",
            "h\0",
            "%25",
            "\\\\",
            "&amp;",
            "\u{1b}]0;",
            "c2Vj\n",
            "73:65:63:",
            "secret \"1",
            "a",
        ] {
            let steps = |bytes: usize, piece: usize| {
                let masks = std::sync::Arc::new(Masks::new(values.iter().map(String::as_str)).unwrap());
                let text = part.repeat(bytes / part.len()).into_bytes();
                let mut stream = MaskedStream::new(std::sync::Arc::clone(&masks));
                text.chunks(piece).for_each(|piece| drop(stream.push(piece)));
                stream.finish();
                drop(masks.bytes(&text));
                masks.looked.load(std::sync::atomic::Ordering::Relaxed)
            };
            let whole = steps(BYTES / 10, 64 << 10);
            assert!(whole < 30 * BYTES as u64 / 10, "{part:?}: {whole}");
            let small = steps(20_000, 1);
            assert!(small < 20_000 * 5000, "{part:?}: {small}");
        }
    }
}
