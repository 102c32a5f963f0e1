//! Search for many forms of secrets in one pass.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use anyhow::Context as _;

use super::forms::REST_BYTES_MIN;

/// Automaton that looks for many forms at once.
#[derive(Debug)]
pub struct Finder {
    automaton: AhoCorasick,
    /// Sorted forms of secrets.
    forms: Vec<Vec<u8>>,
    /// Length of the longest form, in bytes.
    longest: usize,
}

impl Finder {
    /// Makes a finder of these forms; `None` where there are none.
    pub fn new(forms: BTreeSet<Vec<u8>>) -> anyhow::Result<Option<Self>> {
        let forms: Vec<Vec<u8>> = forms.into_iter().collect();
        if forms.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder().build(&forms).context("preparing the search for secrets")?;
        let longest = forms.iter().map(Vec::len).max().unwrap_or(0);
        Ok(Some(Self { automaton, forms, longest }))
    }

    pub fn longest(&self) -> usize {
        self.longest
    }

    pub fn count(&self) -> usize {
        self.forms.len()
    }

    /// Returns all places of forms in a text.
    pub fn places(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        self.automaton.find_overlapping_iter(text).map(|found| found.range())
    }

    /// Returns the first place from which on the rest of a text may be the start of a form; the text's length where there is none. A begin
    /// of at most `passed` bytes does not count if the rest of its form is searched for by itself.
    pub fn open_from(&self, text: &[u8], passed: usize) -> usize {
        let is_begin = |rest: &[u8]| {
            // They are sorted: those that begin like this stand together, one that is no longer first.
            let first = self.forms.partition_point(|form| form.as_slice() < rest);
            let mut alike = self.forms[first..].iter().take_while(|form| form.starts_with(rest));
            alike.any(|form| form.len() > rest.len() && (rest.len() > passed || form.len() < passed + REST_BYTES_MIN))
        };
        let from = text.len() - self.longest.saturating_sub(1).min(text.len());
        (from..text.len()).find(|from| is_begin(&text[*from..])).unwrap_or(text.len())
    }
}
