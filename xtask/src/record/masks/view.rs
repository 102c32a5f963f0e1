//! Bytes in which parts are left out or replaced, with the way back to where each of them stood.

use std::ops::Range;

/// Text made of another one by replacing some of its parts.
#[derive(Debug)]
pub struct View {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// Part of the text that is replaced in the view.
#[derive(Debug)]
struct Part {
    /// Place in the view.
    at: usize,
    /// Length in the view.
    len: usize,
    /// Place in the text.
    from: Range<usize>,
}

impl View {
    /// Returns a text with these parts, which are in order and apart from each other, replaced; nothing where there are none.
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

    /// Returns the range of the text that a range of the view stands for: without parts that are left out before and behind it, and with
    /// the whole of each part that it touches.
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
