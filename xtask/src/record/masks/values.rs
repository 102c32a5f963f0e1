//! Declared values, and where they stand in a text.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use anyhow::Context as _;

use super::forms;

/// Mark that stands in place of a secret.
pub const MARK: &str = "[redacted]";

/// Marks that programs put where they have cut a text.
const CUTS: [&str; 3] = ["[...", "...", "…"];

/// Shortest part of a value at a cut that is taken for a part of it, in bytes.
const PART_BYTES_MIN: usize = 4;

/// Values that must not be written anywhere. Without any, everything stays as it is.
#[derive(Default)]
pub struct Masks {
    finder: Option<AhoCorasick>,
    /// Forms that are looked for, sorted.
    forms: Vec<Vec<u8>>,
    /// Length of the longest of them.
    longest: usize,
    plain: Vec<String>,
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Masks {
    /// Returns masks for these values.
    ///
    /// # Errors
    /// When there are too many of them to be looked for.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Self> {
        let (mut found, mut plain) = (BTreeSet::new(), BTreeSet::new());
        for value in values {
            found.extend(forms::all(value));
            plain.extend(forms::plain(value));
        }
        let forms: Vec<Vec<u8>> = found.into_iter().collect();
        if forms.is_empty() {
            return Ok(Self::default());
        }
        let finder = AhoCorasick::new(&forms).context("preparing the search for secrets")?;
        let longest = forms.iter().map(Vec::len).max().unwrap_or(0);
        Ok(Self { finder: Some(finder), forms, longest, plain: plain.into_iter().collect() })
    }

    /// Returns true if nothing is secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.finder.is_none()
    }

    /// Returns a text without the values, nor parts of them where the text was cut.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut spans = self.spans(text.as_bytes());
        if !self.is_empty() {
            spans.extend(self.parts_at_cuts(text));
            spans = merged(spans);
        }
        // Forms are whole characters, so their places are borders of characters.
        match replaced(text.as_bytes(), &spans) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Returns bytes of a text without the values.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        replaced(bytes, &self.spans(bytes))
    }

    /// Returns the places of values, in order, those that overlap as one.
    pub(super) fn spans(&self, bytes: &[u8]) -> Vec<Range<usize>> {
        let Some(finder) = &self.finder else { return Vec::new() };
        merged(finder.find_overlapping_iter(bytes).map(|found| found.range()).collect())
    }

    /// Returns the first place from which on the rest of these bytes may be the begin of a value; their length where there is none.
    pub(super) fn open_from(&self, bytes: &[u8]) -> usize {
        let is_begin = |rest: &[u8]| {
            // They are sorted: those that begin like this stand together, one that is no longer first.
            let first = self.forms.partition_point(|form| form.as_slice() < rest);
            self.forms[first..].iter().take(2).any(|form| form.len() > rest.len() && form.starts_with(rest))
        };
        let from = bytes.len() - self.longest.saturating_sub(1).min(bytes.len());
        (from..bytes.len()).find(|from| is_begin(&bytes[*from..])).unwrap_or(bytes.len())
    }

    /// Begins of values before a mark of a cut, and ends behind one: who cut the text had the whole value.
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
    use super::*;

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
}
