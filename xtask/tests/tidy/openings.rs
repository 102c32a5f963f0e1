//! Openings of doc comments: a noun phrase or a third-person verb tells a reader the subject at once.

/// First words that put a pronoun, a question, a preposition or a conjunction in place of the noun.
const PUT_OFF: &str = "what how why who whom whose which where when whether it its they their those these that this so such since if \
    unless while until after before with without within for from in into on onto at to of by as beside besides between among amid \
    beyond behind below above under over through during instead nor and or but because one ones none nothing nobody somebody \
    something someone everything everybody all both either neither each not only also else again then here there may might must can";

/// Openings of the doc comments of a Rust text.
#[derive(Debug, PartialEq, Eq)]
pub struct Openings {
    /// Number of doc comments that begin with a word.
    pub count: usize,
    /// Lines of those that begin with one of [`PUT_OFF`], each with its text.
    pub put_off: Vec<(usize, String)>,
}

/// Reads the openings of a Rust text. Neighboring lines of documentation are one comment.
pub fn openings(text: &str) -> Openings {
    let mut found = Openings { count: 0, put_off: Vec::new() };
    let mut is_inside = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let Some(words) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            is_inside = false;
            continue;
        };
        if std::mem::replace(&mut is_inside, true) {
            continue;
        }
        let words = words.trim();
        let first = words.split(|letter: char| !letter.is_ascii_alphabetic() && letter != '\'').next();
        let first = first.unwrap_or_default().to_lowercase();
        found.count += usize::from(!first.is_empty());
        if PUT_OFF.split_whitespace().any(|word| word == first) {
            found.put_off.push((at + 1, words.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_read_by_its_first_word() {
        let text = "//! What it is.\n//! Why so.\n\n/// Returns it.\nfn a() {}\n    /// `x`: if so.\n    /// Those.\n    b: u8,\n    /// those, too.\n    // which\n/// Its.\n";
        let put_off =
            [(1, "What it is."), (9, "those, too."), (11, "Its.")].map(|(line, text)| (line, text.to_owned()));
        assert_eq!(openings(text), Openings { count: 4, put_off: put_off.to_vec() });
    }
}
