//! Masking of secrets in bytes that come in pieces, also of a secret that stands in two pieces.

use std::sync::Arc;

use super::values::{MARK, Masks, Scan};

/// Bytes of a piece that are looked through at once.
const PIECE_BYTES: usize = 256 << 10;

/// Most held bytes that are searched again with every piece that comes, however small it is; more bytes are searched again once they have
/// grown by a quarter.
const SMALL_BYTES: usize = 4 << 10;

/// A stream in which secrets are masked. What may be the begin of a secret is held back until more comes.
#[derive(Debug)]
pub struct MaskedStream {
    masks: Arc<Masks>,
    /// Bytes that were pushed and may belong to a value whose end has not come.
    held: Vec<u8>,
    /// Bytes of `held` that belong to a value which stands masked in the output already.
    covered: usize,
    /// Length of `held` from which on it is searched again.
    next_look: usize,
    keeps_length: bool,
    has_found: bool,
}

impl MaskedStream {
    /// Returns a stream of text.
    #[must_use]
    pub fn new(masks: Arc<Masks>) -> Self {
        Self { masks, held: Vec::new(), covered: 0, next_look: 0, keeps_length: false, has_found: false }
    }

    /// Returns a stream whose output is as long as its input, for files that are no text.
    #[must_use]
    pub fn of_same_length(masks: Arc<Masks>) -> Self {
        Self { keeps_length: true, ..Self::new(masks) }
    }

    /// Returns what can be written once these bytes have come.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.masks.is_empty() {
            return bytes.to_vec();
        }
        let mut passed = Vec::new();
        for piece in bytes.chunks(PIECE_BYTES) {
            self.held.extend_from_slice(piece);
            if self.held.len() < self.next_look {
                continue;
            }
            let mut scan = self.masks.scan(&self.held, false);
            if self.held.len() - scan.open > self.masks.window_bytes() {
                scan.open = self.held.len() / 2;
            }
            passed.extend(self.pass(scan));
            let held = self.held.len();
            self.next_look = if held > SMALL_BYTES { held + held / 4 } else { 0 };
        }
        passed
    }

    /// Returns what was held back, at the stream's end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.pass(self.masks.scan(&self.held, true))
    }

    /// Returns true if a secret's value was found so far.
    #[must_use]
    pub fn has_found(&self) -> bool {
        self.has_found
    }

    /// Passes on what stands before the first place at which a value may begin that is not whole yet.
    fn pass(&mut self, Scan { spans, open }: Scan) -> Vec<u8> {
        let mut passed = Vec::with_capacity(self.held.len());
        let mut done = self.covered;
        for span in spans.into_iter().take_while(|span| span.start < open) {
            self.has_found = true;
            if span.start >= done {
                passed.extend_from_slice(&self.held[done..span.start]);
                if !self.keeps_length {
                    passed.extend_from_slice(MARK.as_bytes());
                }
            }
            let first = span.start.max(done);
            if self.keeps_length && span.end > first {
                passed.resize(passed.len() + span.end - first, b'*');
            }
            done = done.max(span.end);
        }
        if done < open {
            passed.extend_from_slice(&self.held[done..open]);
            done = open;
        }
        self.held.drain(..open);
        self.covered = done - open;
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(mut stream: MaskedStream, text: &[u8], piece: usize) -> String {
        let mut passed: Vec<u8> = text.chunks(piece).flat_map(|piece| stream.push(piece)).collect();
        passed.extend(stream.finish());
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn a_value_in_pieces_of_any_length_is_found() {
        let masks = Arc::new(Masks::new(["hunter22", "abcdef", "cdefghij", "aaaaaa", "two\nlines"]).unwrap());
        for (text, expected) in [
            ("x hunter22 y hunter2 hunter", "x [redacted] y hunter2 hunter"),
            ("abcdefghij.abcdefgh", "[redacted].[redacted]gh"),
            ("aaaaaaaaaaaaaaaaab", "[redacted]b"),
            ("abcdefabcdef", "[redacted][redacted]"),
            ("say two\nlines now", "say [redacted] now"),
            ("hunthunter22er22", "hunt[redacted]er22"),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(through(MaskedStream::new(Arc::clone(&masks)), text.as_bytes(), piece), expected, "{piece}");
                let same = through(MaskedStream::of_same_length(Arc::clone(&masks)), text.as_bytes(), piece);
                assert_eq!(same.len(), text.len(), "{same}");
                assert_eq!(same.replace('*', ""), expected.replace("[redacted]", ""), "{piece}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_value_is_not_held_back_and_little_is_held() {
        let mut stream = MaskedStream::new(Arc::new(Masks::new(["aaaaaaaa"]).unwrap()));
        assert_eq!(stream.push(b"line\n"), b"line\n");
        for _ in 0..1000 {
            stream.push(&[b'a'; 100]);
            assert!(stream.held.len() < 16, "{}", stream.held.len());
        }
        assert!(stream.has_found());
        let mut none = MaskedStream::new(Arc::default());
        assert_eq!(none.push(b"hunter22"), b"hunter22");
    }
}
