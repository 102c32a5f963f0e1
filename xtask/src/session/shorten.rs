//! Text of a scenario's requests, cut to what a line of a report can hold.

/// Returns a text, cut after this many characters with a mark.
pub fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{} [...]", &text[..end]),
        None => text.to_owned(),
    }
}

#[test]
fn a_long_text_is_cut_at_a_whole_character() {
    assert_eq!(shorten("zwölf", 5), "zwölf");
    assert_eq!(shorten("zwölf", 3), "zwö [...]");
    assert_eq!(shorten("", 10), "");
}
