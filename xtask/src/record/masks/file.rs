//! Masking of declared secrets in the files of a record.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::MaskedStream;
use super::values::Masks;

/// Number of bytes at a file's start that tell whether the file is text.
const HEAD_BYTES: usize = 8000;

/// Tells whether a file with this content is not text.
#[must_use]
pub fn is_binary(content: &[u8]) -> bool {
    content.iter().take(HEAD_BYTES).any(|byte| *byte == 0)
}

impl Masks {
    /// Returns the content of a file with secrets masked. JSON stays valid JSON. Content that is not text keeps its length.
    #[must_use]
    pub fn content<'a>(self: &Arc<Self>, name: &str, content: &'a [u8]) -> Cow<'a, [u8]> {
        self.masked(name, content, Self::value)
    }

    /// Returns the content of one of the engine's own files with secrets masked: as [`Masks::content`], but numbers in JSON stay.
    #[must_use]
    pub fn own_content<'a>(self: &Arc<Self>, name: &str, content: &'a [u8]) -> Cow<'a, [u8]> {
        self.masked(name, content, Self::words)
    }

    fn masked<'a>(
        self: &Arc<Self>,
        name: &str,
        content: &'a [u8],
        of_document: fn(&Self, &Value) -> Value,
    ) -> Cow<'a, [u8]> {
        if self.is_empty() {
            return content.into();
        }
        if is_binary(content) {
            let mut stream = MaskedStream::of_same_length(Arc::clone(self));
            let mut masked = stream.push(content);
            masked.extend(stream.finish());
            return if stream.has_found() { masked.into() } else { content.into() };
        }
        if name.ends_with(".json")
            && let Ok(document) = serde_json::from_slice::<Value>(content)
        {
            let masked = of_document(self, &document);
            return match serde_json::to_vec_pretty(&masked) {
                Ok(written) if masked != document => written.into(),
                _ => content.into(),
            };
        }
        match std::str::from_utf8(content).map(|text| self.text(text)) {
            Ok(Cow::Owned(masked)) => masked.into_bytes().into(),
            Ok(Cow::Borrowed(_)) => content.into(),
            Err(_) => self.bytes(content),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_stays_what_it_is() {
        let masks = Arc::new(Masks::new(["hunter22", "12345678"]).unwrap());
        let check = |name: &str, content: &[u8], expected: &[u8]| {
            let masked = masks.content(name, content);
            assert_eq!(String::from_utf8_lossy(&masked), String::from_utf8_lossy(expected), "{name}");
        };
        check("a.log", b"x hunter22\n", b"x [redacted]\n");
        check("a.log", b"\xff hunter22\n", b"\xff [redacted]\n");
        check("a.db", b"\0hunter22\0", b"\0********\0");
        check(
            "a.json",
            b"{\"n\":12345678,\"s\":\"hunter22\"}",
            b"{\n  \"n\": \"[redacted]\",\n  \"s\": \"[redacted]\"\n}",
        );
        check("a.json", b"{\"n\":   1}", b"{\"n\":   1}");
        let own = masks.own_content("a.json", b"{\"n\":12345678,\"s\":\"hunter22\"}");
        assert_eq!(own.as_ref(), b"{\n  \"n\": 12345678,\n  \"s\": \"[redacted]\"\n}");
        check("half.json", b"{\"n\":\"hunter22", b"{\"n\":\"[redacted]");
        let none: Arc<Masks> = Arc::default();
        assert!(matches!(none.content("a", b"hunter22"), Cow::Borrowed(_)));
    }
}
