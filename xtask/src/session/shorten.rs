//! Text of a scenario's requests, cut to what a line of a report can hold.

/// Returns a text, cut after this many characters with a mark.
pub fn shorten(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{} [...]", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns a text, cut before this many bytes with a mark that says how many are missing.
pub fn shorten_bytes(text: &str, bytes_max: usize) -> String {
    let kept = &text[..text.floor_char_boundary(bytes_max)];
    if kept.len() == text.len() {
        return text.to_owned();
    }
    format!("{kept} [... {} bytes are not kept]", text.len() - kept.len())
}

#[test]
fn a_long_text_is_cut_at_a_whole_character() {
    assert_eq!(shorten("zwölf", 5), "zwölf");
    assert_eq!(shorten("zwölf", 3), "zwö [...]");
    assert_eq!(shorten("", 10), "");
    assert_eq!(shorten_bytes("zwölf", 6), "zwölf");
    assert_eq!(shorten_bytes("zwölf", 3), "zw [... 4 bytes are not kept]");
}
