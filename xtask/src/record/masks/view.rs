//! Views of a text: parts are left out or replaced, and ranges of the view can be mapped back to the text.

use std::ops::Range;

/// Text made of another text by replacing some of its parts.
#[derive(Debug)]
pub struct View {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// Replaced part of the text.
#[derive(Debug)]
struct Part {
    /// Offset of the part in the view.
    at: usize,
    /// Length of the part in the view.
    len: usize,
    /// Range of the part in the text.
    from: Range<usize>,
}

impl View {
    /// Makes the view of a text with these parts replaced, which are in order and do not overlap; `None` where there are none.
    pub fn new<'a>(text: &[u8], parts: impl Iterator<Item = (Range<usize>, &'a [u8])>) -> Option<Self> {
        let mut parts = parts.peekable();
        parts.peek()?;
        let mut view = Self { bytes: Vec::with_capacity(text.len()), parts: Vec::new() };
        let mut done = 0;
        for (from, new) in parts {
            view.bytes.extend_from_slice(&text[done..from.start]);
            done = from.end;
            view.parts.push(Part { at: view.bytes.len(), len: new.len(), from });
            view.bytes.extend_from_slice(new);
        }
        view.bytes.extend_from_slice(&text[done..]);
        Some(view)
    }

    /// Returns the text of the view.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Cuts the view to a length.
    pub fn cut(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Maps a range of the view to the text: without parts that are left out at its ends, and with the whole of each part that it
    /// overlaps.
    pub fn origin(&self, range: Range<usize>) -> Range<usize> {
        if range.is_empty() {
            let at = self.place(range.start, |part| part.from.start);
            return at..at;
        }
        let start = self.place(range.start, |part| part.from.start);
        let end = self.place(range.end - 1, |part| part.from.end - 1) + 1;
        start..end
    }

    fn place(&self, at: usize, inside: fn(&Part) -> usize) -> usize {
        let before = self.parts.partition_point(|part| part.at <= at);
        match before.checked_sub(1).map(|last| &self.parts[last]) {
            None => at,
            Some(part) if at < part.at + part.len => inside(part),
            Some(part) => part.from.end + (at - part.at - part.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_leads_back() {
        // "ab<>c%41d" without "<>" and with "A" for "%41"; "!" at the end is left out.
        let text = b"ab<>c%41d!";
        let parts: [(Range<usize>, &[u8]); 3] = [(2..4, b""), (5..8, b"A"), (9..10, b"")];
        let view = View::new(text, parts.into_iter()).unwrap();
        assert_eq!(view.bytes(), b"abcAd");
        for (range, origin) in [
            (0..2, 0..2),
            (0..3, 0..5),
            (2..3, 4..5),
            (3..4, 5..8),
            (2..5, 4..9),
            (4..5, 8..9),
            (0..5, 0..9),
            (5..5, 10..10),
            (3..3, 5..5),
        ] {
            assert_eq!(view.origin(range.clone()), origin, "{range:?}");
        }
        assert!(View::new(text, std::iter::empty()).is_none());
    }
}
