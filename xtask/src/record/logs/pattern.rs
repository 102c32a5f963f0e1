//! Patterns of log lines that differ only in numbers, names and addresses.

/// Maximum length of a pattern, in characters.
const PATTERN_CHARS_MAX: usize = 240;

/// Minimum length of a hexadecimal word with a digit from 0 to 9 that counts as an identifier, in characters.
const IDENTIFIER_CHARS_MIN: usize = 8;

/// Text that replaces a quoted string.
const QUOTE: &str = "\"…\"";

/// Pattern of a line: its text with all parts replaced that differ between occurrences.
pub(super) struct Pattern<'a> {
    /// Line with words in place of the replaced parts.
    pub text: String,
    /// Quoted strings that were replaced, with their quotation marks.
    pub quotes: Vec<&'a str>,
}

/// Returns the pattern of a line: numbers and times are replaced by `N`, identifiers by `ID`, addresses by `ADDRESS`, and quoted strings
/// by `"…"`.
pub(super) fn pattern_of(line: &str) -> Pattern<'_> {
    let mut quotes = Vec::new();
    let mut pattern = String::with_capacity(line.len().min(PATTERN_CHARS_MAX));
    let mut rest = line;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        if pattern.len() >= PATTERN_CHARS_MAX {
            pattern.push('…');
            break;
        }
        let (taken, replacement) = if matches!(first, '"' | '\'' | '`') && !before.is_alphanumeric() {
            quoted(rest, first)
        } else if first.is_ascii_alphanumeric() {
            word(rest)
        } else {
            (first.len_utf8(), None)
        };
        match replacement {
            Some(replacement) => {
                if replacement == QUOTE {
                    quotes.push(&rest[..taken]);
                }
                pattern.push_str(replacement);
            }
            None => pattern.push_str(&rest[..taken]),
        }
        before = rest[..taken].chars().next_back().unwrap_or(' ');
        rest = &rest[taken..];
    }
    Pattern { text: pattern, quotes }
}

/// Returns a pattern with those quoted strings put back that all its lines have in common.
pub(super) fn with_quotes(pattern: &str, quotes: &[Option<String>]) -> String {
    let mut parts = pattern.split(QUOTE);
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for (place, part) in parts.enumerate() {
        filled.push_str(quotes.get(place).and_then(Option::as_deref).unwrap_or(QUOTE));
        filled.push_str(part);
    }
    filled
}

/// Returns the length of a quoted string, and its replacement. A quotation mark without a closing one is an apostrophe, which stays.
fn quoted(rest: &str, mark: char) -> (usize, Option<&'static str>) {
    match rest[1..].find(mark) {
        Some(length) => (length + 2, Some(QUOTE)),
        None => (1, None),
    }
}

/// Returns the length of the first word with its joined parts (`10.77.0.11:45784`, `7f3a-11ee`, `2026-11-26`, `12.5ms`), or of its first
/// part alone; and the replacement of that text, if any.
fn word(rest: &str) -> (usize, Option<&'static str>) {
    let joins = |byte: u8| matches!(byte, b'.' | b':' | b'-' | b'_');
    let bytes = rest.as_bytes();
    let is_part = |at: usize| {
        let next = bytes.get(at + 1).copied().unwrap_or(b' ');
        let is_between = next.is_ascii_alphanumeric() || (bytes[at] == b':' && next == b':');
        bytes[at].is_ascii_alphanumeric() || (joins(bytes[at]) && is_between)
    };
    let length = (0..bytes.len()).find(|at| !is_part(*at)).unwrap_or(bytes.len());
    let word = &rest[..length];
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_address(word) {
        return (length, Some("ADDRESS"));
    }
    if word.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit())) {
        return (length, Some("ID"));
    }
    if digits == 0 {
        return (length, None);
    }
    if word.bytes().all(|byte| byte.is_ascii_digit() || joins(byte) || byte == b'T' || byte == b'Z') {
        return (length, Some("N"));
    }
    if is_hexadecimal && word.len() >= IDENTIFIER_CHARS_MIN {
        return (length, Some("ID"));
    }
    // A number with its unit, or a name with a number: only the number differs.
    let letters = |byte: &u8| !byte.is_ascii_digit();
    let head = word.bytes().take_while(letters).count();
    if head > 0 {
        return (head, None);
    }
    let mut number = word.bytes().take_while(u8::is_ascii_digit).count();
    let fraction =
        word[number..].strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if fraction > 0 {
        number += 1 + fraction;
    }
    (number, Some("N"))
}

/// Tells whether a word is an address: IPv4 with or without a port, IPv6, or MAC.
fn is_address(word: &str) -> bool {
    let (host, port) = word.split_once(':').unwrap_or((word, "0"));
    let is_ip = host.parse::<std::net::Ipv4Addr>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = word.split(':').collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ip || (parts.len() == 6 && parts.iter().all(is_byte)) || word.parse::<std::net::Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_one_time_to_the_next_is_replaced() {
        let check = |line: &str, pattern: &str| assert_eq!(pattern_of(line).text, pattern, "{line}");
        check(
            "sshd[248]: Received disconnect from 10.77.0.11 port 45784:11",
            "sshd[N]: Received disconnect from ADDRESS port N",
        );
        check("connect to 10.77.0.11:5432 failed", "connect to ADDRESS failed");
        check("ERROR:  relation \"orders\" does not exist", "ERROR:  relation \"…\" does not exist");
        check("can't open 'a b' and don't", "can't open \"…\" and don't");
        check(
            "postgresql@15-main[82]: 2026-11-26 07:21:07.529 UTC [82] m@m ERROR:  no",
            "postgresql@N-main[N]: N N UTC [N] m@m ERROR:  no",
        );
        check("job 7f3a9c1e-11ee-4b9a-8e2f-0242ac120002 died", "job ID died");
        check("at 0x7ffee3a0 in 12.5ms, 3kB", "at ID in Nms, NkB");
        check("worker-3 and node17 and sha256", "worker-N and nodeN and shaN");
        check("from fe80::1 and aa:bb:cc:00:11:22", "from ADDRESS and ADDRESS");
        check("ünï 5 ✓", "ünï N ✓");
        assert!(pattern_of(&"x ".repeat(4000)).text.chars().count() <= PATTERN_CHARS_MAX + 1);
    }
}
