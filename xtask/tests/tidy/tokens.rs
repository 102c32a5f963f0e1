//! Rust as words and signs: enough to see paths, macros and attributes, and to see past comments and literals.

/// A word or a sign of Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub line: usize,
    pub text: &'a str,
}

/// Kind of a piece of Rust text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Word,
    Text,
    Nothing,
}

/// The words and signs of a Rust text, without comments and literals.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    pieces(text, Piece::Word)
}

/// The literal texts of a Rust text, with their quotes.
pub fn literals(text: &str) -> Vec<Token<'_>> {
    pieces(text, Piece::Text)
}

/// The words, signs and literal texts of a Rust text, in their order.
pub fn tokens_and_literals(text: &str) -> Vec<Token<'_>> {
    pieces_of(text, &[Piece::Word, Piece::Text])
}

fn pieces(text: &str, wanted: Piece) -> Vec<Token<'_>> {
    pieces_of(text, &[wanted])
}

fn pieces_of<'t>(text: &'t str, wanted: &[Piece]) -> Vec<Token<'t>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        // The two that most of a text consists of come first; a word with one of these letters may be the prefix of a literal.
        let (length, piece) = if next.is_whitespace() {
            (rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len()), Piece::Nothing)
        } else if is_word(next) && !matches!(next, 'b' | 'c' | 'r') {
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), Piece::Word)
        } else if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), Piece::Nothing)
        } else if rest.starts_with("/*") {
            (block_comment(rest), Piece::Nothing)
        } else if let Some(length) = string(rest) {
            (length, Piece::Text)
        } else if let Some(length) = character(rest) {
            (length, Piece::Nothing)
        } else if is_word(next) {
            (rest.find(|c| !is_word(c)).unwrap_or(rest.len()), Piece::Word)
        } else if rest.starts_with("::") {
            (2, Piece::Word)
        } else {
            (next.len_utf8(), Piece::Word)
        };
        if wanted.contains(&piece) {
            tokens.push(Token { line, text: &rest[..length] });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        let Some(next) = rest.chars().next() else { return at };
        let step = if rest.starts_with("/*") || rest.starts_with("*/") { 2 } else { next.len_utf8() };
        depth += i32::from(rest.starts_with("/*")) - i32::from(rest.starts_with("*/"));
        at += step;
        if depth == 0 {
            return at;
        }
    }
}

/// The length of a string literal of whatever kind.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let rest = text.strip_prefix(prefix).unwrap_or("");
        rest.starts_with('"')
            || (prefix.ends_with('r') && rest.trim_start_matches('#').starts_with('"') && rest.starts_with('#'))
    })?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let found = body[hashes + 1..].find(&end).map_or(body.len(), |found| hashes + 1 + found + end.len());
        return Some(prefix.len() + found);
    }
    let mut escaped = false;
    let end = body.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    Some(prefix.len() + end.map_or(body.len(), |(at, _)| at + 1))
}

/// The length of a character literal; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let body = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let prefix = text.len() - body.len();
    let mut chars = body.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        return Some(prefix + 2 + body[2..].find('\'')? + 1);
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(prefix + at + 1)
}
