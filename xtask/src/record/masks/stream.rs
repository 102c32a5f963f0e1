//! Masking of secrets in bytes that come in pieces, even of a secret that two pieces share.

use std::sync::Arc;

use super::values::{MARK, Masks, Scan};

/// Number of bytes of a piece that are searched at once.
const PIECE_BYTES: usize = 256 << 10;

/// Number of held bytes up to which all of them are searched again with every piece, however small it is; more bytes are searched again
/// when they have grown by a quarter.
const SMALL_BYTES: usize = 4 << 10;

/// Stream in which secrets are masked. Bytes that may begin a secret are held back until more bytes come.
#[derive(Debug)]
pub struct MaskedStream {
    masks: Arc<Masks>,
    /// Bytes that may begin a secret, and are not written yet.
    held: Vec<u8>,
    /// Number of bytes of `held` that belong to a secret whose mask is written already.
    covered: usize,
    /// Length of `held` from which on `held` is searched again.
    next_look: usize,
    keeps_length: bool,
    has_found: bool,
}

impl MaskedStream {
    /// Makes a stream of text.
    #[must_use]
    pub fn new(masks: Arc<Masks>) -> Self {
        Self { masks, held: Vec::new(), covered: 0, next_look: 0, keeps_length: false, has_found: false }
    }

    /// Makes a stream whose output is as long as its input, for files that are not text.
    #[must_use]
    pub fn of_same_length(masks: Arc<Masks>) -> Self {
        Self { keeps_length: true, ..Self::new(masks) }
    }

    /// Adds bytes, and returns the masked bytes that can be written now.
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

    /// Returns the bytes that were held back, masked, at the stream's end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.pass(self.masks.scan(&self.held, true))
    }

    /// Tells whether a secret was found so far.
    #[must_use]
    pub fn has_found(&self) -> bool {
        self.has_found
    }

    /// Returns the masked bytes before the first place where an incomplete secret may begin.
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
