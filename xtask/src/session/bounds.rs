//! Bounds on what the requests of a scenario may add to the record of an attempt.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::record::Masks;

/// Maximum total bytes of artifacts, long streams and screenshots that one attempt may keep.
pub const ATTEMPT_BYTES_MAX: u64 = 1 << 30;

/// Maximum number of artifacts, long streams and screenshots that one attempt may keep.
pub const ATTEMPT_FILES_MAX: u64 = 10_000;

/// Maximum total bytes that requests may add to the record of one attempt: notes, steps, checks, metrics, operations of a history.
pub const STATEMENT_BYTES_MAX: u64 = 256 << 20;

/// Maximum bytes of one text in a scenario's request; a longer text is cut in the record and marked.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Minimum bytes that any request counts for: its event has a time, a name and a case.
const REQUEST_BYTES: u64 = 256;

/// Refusal of a request because the record has no room for the request's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum OverBound {
    #[error(
        "{what} ({bytes} bytes) is too much: artifacts, long streams and screenshots of one attempt may be {} MiB in \
         {ATTEMPT_FILES_MAX} files, of which {used_bytes} bytes in {used_files} files are used\nhelp: keep less, or keep it in the container",
        ATTEMPT_BYTES_MAX >> 20
    )]
    Attempt { what: String, bytes: u64, used_bytes: u64, used_files: u64 },
    #[error(
        "{what} ({bytes} bytes) is too much: artifacts, long streams and screenshots of one run may be {} GiB in all\n\
         help: keep less, or run fewer cases at once",
        most >> 30
    )]
    Run { what: String, bytes: u64, most: u64 },
    #[error(
        "the record of this attempt is full: its requests have put {} MiB into it, the most it takes\n\
         help: record fewer or shorter values, or write them into a file and keep that as an artifact",
        STATEMENT_BYTES_MAX >> 20
    )]
    Statements,
}

/// Amounts that the requests of an attempt have added to its record so far.
#[derive(Debug, Default)]
pub(super) struct Used {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file_bytes: u64,
    files: u64,
    statement_bytes: u64,
    /// True once a warning about a cut stream was recorded.
    told_of_cut: bool,
}

impl Used {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves room in the record for a file.
    pub fn take_file(&self, what: &str, bytes: u64) -> Result<(), OverBound> {
        let mut state = self.state();
        if state.files >= ATTEMPT_FILES_MAX || bytes > ATTEMPT_BYTES_MAX.saturating_sub(state.file_bytes) {
            let (used_bytes, used_files) = (state.file_bytes, state.files);
            return Err(OverBound::Attempt { what: what.to_owned(), bytes, used_bytes, used_files });
        }
        state.files += 1;
        state.file_bytes += bytes;
        Ok(())
    }

    /// Releases the room in the record that was reserved for a file which could not be written.
    pub fn give_back_file(&self, bytes: u64) {
        let mut state = self.state();
        state.files = state.files.saturating_sub(1);
        state.file_bytes = state.file_bytes.saturating_sub(bytes);
    }

    /// Reserves room in the record for a request and the data that it states.
    pub fn take_request(&self, stated: Option<&Value>) -> Result<(), OverBound> {
        let bytes = REQUEST_BYTES + stated.map_or(0, size_of_value);
        let mut state = self.state();
        if bytes > STATEMENT_BYTES_MAX.saturating_sub(state.statement_bytes) {
            state.statement_bytes = STATEMENT_BYTES_MAX; // nothing smaller slips in behind it
            return Err(OverBound::Statements);
        }
        state.statement_bytes += bytes;
        Ok(())
    }

    /// Tells whether to warn about a cut stream: true only at the first call in an attempt.
    pub fn tells_of_cut(&self) -> bool {
        !std::mem::replace(&mut self.state().told_of_cut, true)
    }
}

/// Cuts every text in a value that is too long for the record. Secrets are masked first, because a cut one would no longer be recognized.
pub(super) fn cut_texts(value: &mut Value, masks: &Masks) {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES_MAX => {
            let cut = shorten_bytes(&masks.text(text), TEXT_BYTES_MAX);
            *text = cut;
        }
        Value::Array(values) => values.iter_mut().for_each(|value| cut_texts(value, masks)),
        Value::Object(fields) => fields.values_mut().for_each(|value| cut_texts(value, masks)),
        _ => {}
    }
}

/// Estimates the length of a value as JSON, in bytes.
fn size_of_value(value: &Value) -> u64 {
    const SCALAR_BYTES: u64 = 8;
    match value {
        Value::String(text) => text.len() as u64 + SCALAR_BYTES,
        Value::Array(values) => SCALAR_BYTES + values.iter().map(size_of_value).sum::<u64>(),
        Value::Object(fields) => {
            let one = |(name, value): (&String, &Value)| name.len() as u64 + SCALAR_BYTES + size_of_value(value);
            SCALAR_BYTES + fields.iter().map(one).sum::<u64>()
        }
        _ => SCALAR_BYTES,
    }
}

/// Cuts a text after this many characters, and marks the cut.
pub fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{} [...]", &text[..end]),
        None => text.to_owned(),
    }
}

/// Cuts a text before this many bytes, and marks the cut with the number of missing bytes.
pub fn shorten_bytes(text: &str, bytes_max: usize) -> String {
    let kept = &text[..text.floor_char_boundary(bytes_max)];
    if kept.len() == text.len() {
        return text.to_owned();
    }
    format!("{kept} [... {} bytes are not kept]", text.len() - kept.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_of_an_attempt_are_bounded_by_number_and_bytes() {
        let used = Used::default();
        used.take_file("a", ATTEMPT_BYTES_MAX - 10).unwrap();
        used.take_file("b", 10).unwrap();
        let error = used.take_file("artifact \"c\"", 1).unwrap_err().to_string();
        assert!(
            error.contains("artifact \"c\" (1 bytes) is too much") && error.contains("may be 1024 MiB in 10000 files"),
            "{error}"
        );
        used.give_back_file(10);
        used.take_file("c", 10).unwrap();
        let used = Used::default();
        (0..ATTEMPT_FILES_MAX).for_each(|_| used.take_file("x", 0).unwrap());
        assert!(used.take_file("x", 0).is_err());
        assert!(used.take_file("x", u64::MAX).is_err(), "no overflow");
    }

    #[test]
    fn no_part_of_a_secret_is_left_where_a_text_is_cut() {
        let masks = Masks::new(["hunter22"]).unwrap();
        let mut value = json!({"message": format!("{}hunter22 and more", "x".repeat(TEXT_BYTES_MAX - 4))});
        cut_texts(&mut value, &masks);
        let message = value["message"].as_str().unwrap();
        assert!(message.contains("bytes are not kept") && !message.contains("hunt"), "{}", &message[65_500..]);
    }

    #[test]
    fn ten_million_notes_do_not_fit_into_a_record() {
        let used = Used::default();
        let note = json!({"level": "info", "message": "x"});
        let taken = (0..10_000_000).take_while(|_| used.take_request(Some(&note)).is_ok()).count();
        assert!((500_000..2_000_000).contains(&taken), "{taken}");
        assert!(used.take_request(None).unwrap_err().to_string().contains("put 256 MiB into it"));
    }

    #[test]
    fn a_long_text_is_cut_wherever_it_stands_and_says_so() {
        let long = "ü".repeat(TEXT_BYTES_MAX);
        let mut value = json!({"message": long, "values": [{"deep": long}, 1, "short"]});
        cut_texts(&mut value, &Masks::default());
        let message = value["message"].as_str().unwrap();
        assert!(message.ends_with(&format!(" [... {TEXT_BYTES_MAX} bytes are not kept]")), "{}", &message[65_000..]);
        assert_eq!(value["values"][0]["deep"], value["message"]);
        assert_eq!((&value["values"][1], &value["values"][2]), (&json!(1), &json!("short")));
        assert!(size_of_value(&value) < 2 * TEXT_BYTES_MAX as u64 + 300);
    }

    #[test]
    fn a_long_text_is_cut_at_a_whole_character() {
        assert_eq!(shorten("zwölf", 5), "zwölf");
        assert_eq!(shorten("zwölf", 3), "zwö [...]");
        assert_eq!(shorten("", 10), "");
        assert_eq!(shorten_bytes("zwölf", 6), "zwölf");
        assert_eq!(shorten_bytes("zwölf", 3), "zw [... 4 bytes are not kept]");
    }
}
