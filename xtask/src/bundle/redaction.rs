//! Removal of secrets from the texts of a record: secrets are found by their shapes, and declared values are known.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use anyhow::Context as _;
use regex::{Captures, Regex};
use serde_json::Value;

use super::shapes::{self, NAMES};
use crate::manifest::SecretShape;
use crate::record::{MARK, Masks, is_binary};

/// Maximum bytes that are taken for a private key after its first line, if its last line is missing.
const KEY_BYTES_MAX: usize = 16 << 10;

/// Minimum characters of a secret that, once found in one place, is looked for in the whole record.
const FOUND_CHARS_MIN: usize = 8;

/// Maximum number of found secrets that are looked for in the whole record.
const FOUND_MAX: usize = 2000;

/// Suffixes of files that are searched as text, even if they contain binary data.
const TEXT_FILES: [&str; 9] = [".log", ".json", ".jsonl", ".md", ".xml", ".html", ".txt", ".csv", ".toml"];

/// Suffixes of compressed files, which are not searched.
const PACKED_FILES: [&str; 14] =
    [".gz", ".tgz", ".xz", ".zst", ".bz2", ".zip", ".7z", ".lz4", ".jar", ".whl", ".deb", ".rpm", ".pdf", ".docx"];

/// Numbers of secrets by kind.
pub type Counts = BTreeMap<String, u32>;

/// Searcher that removes secrets from files.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    /// Searcher for the keywords of all rules, so that a rule is tried only on lines with its keywords.
    keywords: AhoCorasick,
    of_keyword: Vec<Vec<usize>>,
    secret_key: Regex,
    key_begin: Regex,
    key_end: Regex,
    key_text: Regex,
    /// Secrets that the project or the user declared.
    declared: Arc<Masks>,
    /// Secrets that were found by their shapes anywhere in the record.
    found: Arc<Masks>,
}

struct Rule {
    kind: String,
    pattern: Regex,
    /// True for a rule whose match may extend over several lines.
    spans_lines: bool,
    /// Word without which the rule cannot match, if there is such a word.
    keyword: Option<&'static str>,
    holds: fn(&Captures<'_>) -> bool,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule").field("kind", &self.kind).field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

/// State of the redaction that is carried from one string or line of a file to the next.
#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// Remaining bytes that may still belong to a private key; 0 outside of a key.
    key_bytes_left: usize,
    /// Secrets that were removed and are distinctive enough to be looked for elsewhere.
    found: BTreeSet<String>,
}

/// Result of removing the secrets from a file.
#[derive(Debug)]
pub struct Redacted<'a> {
    /// Content of the file without secrets; a file in which none is found is unchanged, byte for byte.
    pub content: Cow<'a, [u8]>,
    /// Numbers of secrets that were removed from this file, by kind.
    pub counts: Counts,
    /// Removed secrets that may be in other files too.
    pub found: BTreeSet<String>,
}

impl Redactor {
    /// Returns a redactor for known shapes, the shapes that a project declares, and declared values.
    pub fn new(shapes: &[SecretShape], declared: Arc<Masks>) -> anyhow::Result<Self> {
        let (mut rules, mut keywords) = (Vec::new(), BTreeMap::<String, Vec<usize>>::new());
        let mut add = |kind: &str, words: &[&str], pattern: &str, spans_lines: bool, holds| -> anyhow::Result<()> {
            let pattern = Regex::new(pattern).with_context(|| format!("compiling the pattern of {kind}"))?;
            for word in words {
                keywords.entry(word.to_lowercase()).or_default().push(rules.len());
            }
            let keyword = (kind == "netrc").then_some("login");
            rules.push(Rule { kind: kind.to_owned(), pattern, spans_lines, keyword, holds });
            Ok(())
        };
        // The project's first: they are counted by their names.
        for shape in shapes {
            match shape {
                // It may match anything anywhere.
                SecretShape::Pattern(pattern) => add(&format!("/{pattern}/"), &[], pattern, true, |_| true)?,
                SecretShape::Name(name) => shapes::assignments(&regex::escape(name), "\\b")
                    .iter()
                    .try_for_each(|pattern| add(name, &[name], pattern, false, |_| true))?,
            }
        }
        for shape in shapes::all() {
            let words: Vec<&str> = shape.keywords.split(' ').collect();
            add(shape.kind, &words, &shape.pattern, shape.spans_lines, shape.holds)?;
        }
        let (words, of_keyword): (Vec<String>, Vec<Vec<usize>>) = keywords.into_iter().unzip();
        let keywords = AhoCorasick::builder().ascii_case_insensitive(true).build(words)?;
        let names = shapes.iter().filter_map(|shape| match shape {
            SecretShape::Name(name) => Some(format!("|^{}$", regex::escape(name))),
            SecretShape::Pattern(_) => None,
        });
        let secret_key =
            format!("(?i:{NAMES}|^(?:proxy-)?authorization|^(?:set-)?cookie)$|^$.{}", names.collect::<String>());
        Ok(Self {
            rules,
            keywords,
            of_keyword,
            secret_key: Regex::new(&secret_key)?,
            key_begin: Regex::new("-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")?,
            key_end: Regex::new("-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")?,
            key_text: Regex::new("[A-Za-z0-9+/=]{16,}")?,
            declared,
            found: Arc::default(),
        })
    }

    /// Returns a redactor that also removes these values wherever they are; beyond [`FOUND_MAX`], values are ignored.
    pub fn knowing(self, found: &BTreeSet<String>) -> anyhow::Result<Self> {
        let found = Masks::new(found.iter().take(FOUND_MAX).map(String::as_str))?;
        Ok(Self { found: Arc::new(found), ..self })
    }

    /// Tells whether a file is compressed, so that its content cannot be searched.
    #[must_use]
    pub fn is_packed(name: &str, content: &[u8]) -> bool {
        const BEGINS: [&[u8]; 6] =
            [b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c"];
        PACKED_FILES.iter().any(|end| name.ends_with(end)) || BEGINS.iter().any(|begin| content.starts_with(begin))
    }

    /// Removes the secrets from a file of a record. In binary content, only declared values and values that were found elsewhere are looked
    /// for.
    #[must_use]
    pub fn file<'a>(&self, name: &str, content: &'a [u8]) -> Redacted<'a> {
        let mut state = State::default();
        let is_text = TEXT_FILES.iter().any(|end| name.ends_with(end)) || !is_binary(content);
        let shaped: Cow<'a, [u8]> = if is_text { self.shaped(name, content, &mut state) } else { content.into() };
        let mut known = shaped;
        for (kind, masks) in [("declared secret", &self.declared), ("secret of another place", &self.found)] {
            let masked = if is_text { masks.own_content(name, &known) } else { masks.content(name, &known) };
            if let Cow::Owned(masked) = masked {
                *state.counts.entry(kind.to_owned()).or_default() += 1;
                known = masked.into();
            }
        }
        Redacted { content: known, counts: state.counts, found: state.found }
    }

    fn shaped<'a>(&self, name: &str, content: &'a [u8], state: &mut State) -> Cow<'a, [u8]> {
        let text = String::from_utf8_lossy(content);
        let redacted = match name.rsplit('.').next() {
            Some("json") => self.document(&text, state),
            Some("jsonl") => {
                let lines = text.split_inclusive('\n').map(|line| self.line(line, state));
                Some(lines.collect::<String>())
            }
            _ => None,
        };
        let redacted = redacted.unwrap_or_else(|| self.text(&text, state));
        if state.counts.is_empty() { content.into() } else { redacted.into_bytes().into() }
    }

    /// Removes the secrets from a piece of text; returns it with the numbers of removed secrets by kind.
    #[must_use]
    pub fn piece(&self, text: &str) -> (String, Counts) {
        let mut state = State::default();
        let redacted = self.text(text, &mut state);
        let redacted = self.declared.text(&redacted).into_owned();
        (self.found.text(&redacted).into_owned(), state.counts)
    }

    /// Removes the secrets from the words of a command line; returns them with the numbers of removed secrets by kind.
    #[must_use]
    pub fn words(&self, words: &[String]) -> (Vec<String>, Counts) {
        let mut state = State::default();
        let mut list = words.iter().map(|word| Value::from(word.as_str())).collect::<Vec<_>>();
        self.list(&mut list, &mut state);
        let known = |word: &Value| {
            let word = self.declared.text(word.as_str().unwrap_or_default()).into_owned();
            self.found.text(&word).into_owned()
        };
        (list.iter().map(known).collect(), state.counts)
    }

    fn document(&self, text: &str, state: &mut State) -> Option<String> {
        let mut value: Value = serde_json::from_str(text).ok()?;
        self.value(&mut value, state);
        serde_json::to_string_pretty(&value).ok()
    }

    fn line(&self, line: &str, state: &mut State) -> String {
        let Ok(mut value) = serde_json::from_str::<Value>(line) else { return self.text(line, state) };
        self.value(&mut value, state);
        format!("{value}\n")
    }

    fn value(&self, value: &mut Value, state: &mut State) {
        match value {
            Value::String(text) => *text = self.text(text, state),
            Value::Array(list) => self.list(list, state),
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    let is_plain = item.is_string() || item.is_number();
                    if is_plain && self.secret_key.is_match(key) && item != MARK {
                        state.note(item.as_str().unwrap_or_default());
                        *item = MARK.into();
                        *state.counts.entry(format!("value of {key}")).or_default() += 1;
                    } else {
                        self.value(item, state);
                    }
                }
                let has_secret = |key: &String| self.text(key, &mut State::default()) != *key;
                if map.keys().any(has_secret) {
                    let items = std::mem::take(map);
                    map.extend(items.into_iter().map(|(key, item)| (self.text(&key, state), item)));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Redacts the items of a list, which may be a command line: each item is also searched together with the first item and the previous
    /// one.
    fn list(&self, list: &mut [Value], state: &mut State) {
        let words: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
        for (place, item) in list.iter_mut().enumerate() {
            self.value(item, state);
            let (Some(words), Value::String(redacted)) = (&words, &mut *item) else { continue };
            if place < 1 || *redacted != words[place] {
                continue;
            }
            let context =
                if place > 1 { format!("{} {} ", words[0], words[place - 1]) } else { format!("{} ", words[0]) };
            let mut seen = State::default();
            let line = self.text(&format!("{context}{redacted}"), &mut seen);
            if let Some(word) = line.strip_prefix(&context).filter(|word| word != redacted) {
                *redacted = word.to_owned();
                state.found.extend(seen.found);
                seen.counts.into_iter().for_each(|(kind, count)| *state.counts.entry(kind).or_default() += count);
            }
        }
    }

    fn text(&self, text: &str, state: &mut State) -> String {
        let mut text = self.keys(text, state);
        let spans_lines = |rule: &&Rule| rule.spans_lines && rule.keyword.is_none_or(|word| text.contains(word));
        let rules: Vec<&Rule> = self.rules.iter().filter(spans_lines).collect();
        for rule in rules {
            if let Some(redacted) = rule.apply(&text, state) {
                text = redacted;
            }
        }
        let mut redacted = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            match self.line_of_text(line, state) {
                Some(line) => redacted.push_str(&line),
                None => redacted.push_str(line),
            }
        }
        redacted
    }

    /// Removes the secrets from a line; `None` if it has none.
    fn line_of_text(&self, line: &str, state: &mut State) -> Option<String> {
        let found = self.keywords.find_overlapping_iter(line);
        let rules: BTreeSet<usize> =
            found.flat_map(|found| &self.of_keyword[found.pattern().as_usize()]).copied().collect();
        let mut redacted: Option<String> = None;
        for rule in rules.into_iter().map(|rule| &self.rules[rule]).filter(|rule| !rule.spans_lines) {
            redacted = rule.apply(redacted.as_deref().unwrap_or(line), state).or(redacted);
        }
        redacted
    }

    /// Removes private keys from a text, line by line. A key is found even if a log puts something before each line, the key is truncated,
    /// or its lines are in different strings of a file.
    fn keys(&self, text: &str, state: &mut State) -> String {
        if state.key_bytes_left == 0 && !text.contains("PRIVATE KEY") {
            return text.to_owned();
        }
        let mut redacted = String::with_capacity(text.len());
        let mut rest = text;
        loop {
            if state.key_bytes_left == 0 {
                let Some(begin) = self.key_begin.find(rest) else { break };
                redacted.push_str(&rest[..begin.end()]);
                rest = &rest[begin.end()..];
                state.key_bytes_left = KEY_BYTES_MAX;
                *state.counts.entry("private key".into()).or_default() += 1;
            }
            let end = self.key_end.find(rest).map(|end| end.start()).filter(|end| *end <= state.key_bytes_left);
            let inside = end.unwrap_or_else(|| rest.floor_char_boundary(state.key_bytes_left.min(rest.len())));
            redacted.push_str(&self.key_text.replace_all(&rest[..inside], MARK));
            rest = &rest[inside..];
            state.key_bytes_left = if end.is_some() { 0 } else { state.key_bytes_left.saturating_sub(inside.max(1)) };
            if rest.is_empty() {
                break;
            }
        }
        redacted.push_str(rest);
        redacted
    }
}

impl Rule {
    /// Removes the secrets that the rule finds in a text; `None` if it finds none.
    fn apply(&self, text: &str, state: &mut State) -> Option<String> {
        let mut redacted = String::new();
        let mut done = 0;
        for found in self.pattern.captures_iter(text) {
            let Some(secret) = found.name("secret").or_else(|| found.get(0)) else { continue };
            let value = secret.as_str().trim_end_matches([')', ']', '}', '>']);
            let is_masked = secret.as_str().starts_with(MARK);
            if value.is_empty() || is_masked || secret.start() < done || !(self.holds)(&found) {
                continue;
            }
            redacted.push_str(&text[done..secret.start()]);
            redacted.push_str(MARK);
            done = secret.start() + value.len();
            state.note(value);
            *state.counts.entry(self.kind.clone()).or_default() += 1;
        }
        if done == 0 {
            return None;
        }
        redacted.push_str(&text[done..]);
        Some(redacted)
    }
}

impl State {
    /// Remembers a secret, so that it is looked for elsewhere, unless it could be an ordinary word.
    fn note(&mut self, value: &str) {
        let has = |test: fn(char) -> bool| value.chars().any(test);
        let is_distinct = has(|c| c.is_ascii_digit()) && has(|c| c.is_ascii_alphabetic());
        let is_one = !value.contains(char::is_whitespace) && !value.contains(MARK);
        if is_one && is_distinct && value.chars().count() >= FOUND_CHARS_MIN && self.found.len() < FOUND_MAX {
            self.found.insert(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::quote;

    fn redactor() -> Redactor {
        let shapes = ["SESSION_ID", "/cust-[0-9]{6}/"].map(|text| SecretShape::parse(text).unwrap());
        Redactor::new(&shapes, Arc::default()).unwrap()
    }

    fn check(text: &str, expected: &str) {
        check_file("x.log", text, expected);
    }

    fn check_file(name: &str, text: &str, expected: &str) {
        let Redacted { content, counts, .. } = redactor().file(name, text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&content), expected, "{counts:?}");
        assert_eq!(counts.is_empty(), text == expected, "{counts:?}");
    }

    #[test]
    fn what_looks_like_a_secret_goes() {
        check("psql password=hunter2 host=db", "psql password=[redacted] host=db");
        check("PGPASSWORD='two words' x", "PGPASSWORD='[redacted]' x");
        check(r#"{"api_key": "abc def", "n": 1}"#, r#"{"api_key": "[redacted]", "n": 1}"#);
        check(r#"said \"token\":\"abc\" there"#, r#"said \"token\":\"[redacted]\" there"#);
        check("tool --db-password hunter2 --verbose", "tool --db-password [redacted] --verbose");
        check("Authorization: Bearer abc.def.ghi", "Authorization: Bearer [redacted]");
        check("authorization=Basic dXNlcjpwYXNz", "authorization=Basic [redacted]");
        check("sent bearer abcdefgh123 on", "sent bearer [redacted] on");
        check("redis://me:pa55@db:6379/0", "redis://me:[redacted]@db:6379/0");
        check("id AKIAABCDEFGHIJKLMNOP!", "id [redacted]!");
        check(&format!("ghp_{}", "a1".repeat(18)), "[redacted]");
        check("SESSION_ID=12 cust-123456 x", "SESSION_ID=[redacted] [redacted] x");
        check("nothing here: tokens 5, Token::new, 12:30, a=b", "nothing here: tokens 5, Token::new, 12:30, a=b");
    }

    #[test]
    fn the_words_of_a_command_are_redacted_one_by_one() {
        let check = |words: &[&str], expected: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (redacted, counts) = redactor().words(&words);
            assert_eq!(
                (redacted, counts.is_empty()),
                (expected.iter().map(|word| (*word).to_owned()).collect(), false)
            );
        };
        check(&["e2e", "--db=redis://me:pa55@db"], &["e2e", "--db=redis://me:[redacted]@db"]);
        check(&["tool", "--token", "hunter2", "x"], &["tool", "--token", "[redacted]", "x"]);
        check(&["curl", "-u", "me:hunter2", "https://a"], &["curl", "-u", "me:[redacted]", "https://a"]);
        check(&["mysql", "-phunter2"], &["mysql", "-p[redacted]"]);
    }

    #[test]
    fn private_keys_go_whole_or_cut_off() {
        let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
        check(
            &format!(
                "app[1]: -----BEGIN PRIVATE KEY-----\napp[1]: {line}\napp[1]: -----END PRIVATE KEY-----\n{line}\n"
            ),
            &format!(
                "app[1]: -----BEGIN PRIVATE KEY-----\napp[1]: [redacted]\napp[1]: -----END PRIVATE KEY-----\n{line}\n"
            ),
        );
        check(
            &format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{line}\n{line}"),
            "-----BEGIN OPENSSH PRIVATE KEY-----\n[redacted]\n[redacted]",
        );
        check_file(
            "events.jsonl",
            &format!(
                "{{\"m\":\"-----BEGIN RSA PRIVATE KEY-----\"}}\n{{\"m\":\"{line}\"}}\n{{\"m\":\"-----END RSA PRIVATE KEY-----\"}}\n{{\"m\":\"{line}\"}}\n"
            ),
            &format!(
                "{{\"m\":\"-----BEGIN RSA PRIVATE KEY-----\"}}\n{{\"m\":\"[redacted]\"}}\n{{\"m\":\"-----END RSA PRIVATE KEY-----\"}}\n{{\"m\":\"{line}\"}}\n"
            ),
        );
    }

    #[test]
    fn json_stays_json() {
        check_file(
            "run.json",
            r#"{"password": 12, "a": ["x", "token=\"q\" r"], "SESSION_ID": "s", "secret": {"n": 1.50}, "session": "t"}"#,
            "{\n  \"password\": \"[redacted]\",\n  \"a\": [\n    \"x\",\n    \"token=\\\"[redacted]\\\" r\"\n  ],\n  \
             \"SESSION_ID\": \"[redacted]\",\n  \"secret\": {\n    \"n\": 1.5\n  },\n  \"session\": \"t\"\n}",
        );
        let untouched = "{\"at_ms\": 1.50,   \"event\":\"log\"}\n{\"half";
        check_file("events.jsonl", untouched, untouched);
    }

    #[test]
    fn what_is_no_text_stays_and_a_log_is_text_whatever_it_holds() {
        let bytes = b"\x89PNG\0\0password=hunter2".as_slice();
        let Redacted { content, counts, .. } = redactor().file("page.png", bytes);
        assert_eq!((content.as_ref(), counts.len()), (bytes, 0));
        let Redacted { content, counts, .. } = redactor().file("console.log", b"\0\xffpassword=hunter2".as_slice());
        assert!(content.ends_with(b"password=[redacted]") && counts.len() == 1, "{counts:?}");
    }

    #[test]
    fn each_shape_is_found_in_each_kind_of_file() {
        let redactor = redactor();
        for shape in shapes::all() {
            let (example, secret) = (&shape.example, shape.secret.as_str());
            assert!(example.contains(secret), "{example}");
            let json = serde_json::to_string(&serde_json::json!({ "event": "log", "message": example })).unwrap();
            for (name, text) in [
                ("a.log", example.clone()),
                ("a.log", format!("Nov 30 07:00:01 app[12]: {example} and more")),
                ("a.log", format!("line\n{example}\nline")),
                ("a.log", format!("in quotes: sh -c {}", quote(example))),
                ("a.json", json.clone()),
                ("a.jsonl", format!("{json}\n")),
            ] {
                // Some shapes are those of a whole line.
                let is_of_a_line = shape.kind == "netrc" || shape.kind == "password of a configuration";
                if is_of_a_line && (text.ends_with("more") || text.starts_with("in quotes")) {
                    continue;
                }
                let Redacted { content, counts, .. } = redactor.file(name, text.as_bytes());
                let redacted = String::from_utf8_lossy(&content);
                assert!(!redacted.contains(secret), "{}: {text}\n  became {redacted}", shape.kind);
                assert!(redacted.contains(MARK) && !counts.is_empty(), "{}: {redacted}", shape.kind);
            }
        }
        assert!(shapes::all().len() >= 50);
    }

    #[test]
    fn the_pattern_of_each_shape_finds_its_own_example() {
        for shape in shapes::all() {
            let pattern = Regex::new(&shape.pattern).unwrap_or_else(|error| panic!("{}: {error}", shape.kind));
            let found = pattern.captures_iter(&shape.example).find(|found| (shape.holds)(found));
            let found = found.unwrap_or_else(|| panic!("{}: {}", shape.kind, shape.example));
            let secret = found.name("secret").unwrap().as_str();
            assert_eq!(secret, shape.secret, "{}: {}", shape.kind, shape.example);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "commit 4f2a1c9e8b7d6f5a4c3b2a1908f7e6d5c4b3a291 by me",
            "aws-sdk at 4f2a1c9e8b7d6f5a4c3b2a1908f7e6d5c4b3a291",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "job 7f3a9c1e-11ee-4b9a-8e2f-0242ac120002 died",
            "invalid value \"abc\" for --jobs",
            "Access denied for user 'me'@'db' (using password: YES)",
            "password: required, token is missing, secret: none",
            "PWD=/home/me OLDPWD=/tmp",
            "card aa:1234:bc:de:f0:11 at fe80:1234:abcd:ef01:2:3",
            "12:30:45 GET /a?page=2&sort=asc 200",
            "at src/main.rs:120:7: expected token",
            "https://example.org/a:b/c@d http://db:5432/x",
            "tokens 5, Token::new, a=b, secrets/ and passwords.txt",
            "ssh -p 22 me@host; curl -o out https://a; mysql -P 3306",
            "registry:5000/image:tag@sha256:abcd",
            "password == expected",
            "-----BEGIN CERTIFICATE-----",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn a_value_that_was_found_in_one_place_goes_everywhere() {
        let first = redactor();
        let Redacted { found, .. } = first.file("scenario.log", b"token=a1b2c3d4e5 password=short1 secret=postgres");
        assert_eq!(found.iter().collect::<Vec<_>>(), ["a1b2c3d4e5"]);
        let redactor = redactor().knowing(&found).unwrap();
        let check = |name: &str, text: &[u8], expected: &[u8]| {
            let Redacted { content, counts, .. } = redactor.file(name, text);
            assert_eq!(String::from_utf8_lossy(&content), String::from_utf8_lossy(expected));
            assert_eq!(counts.keys().collect::<Vec<_>>(), ["secret of another place"]);
        };
        check("check.log", b"left = a1b2c3d4e5", b"left = [redacted]");
        check("a.db", b"\0a1b2c3d4e5", b"\0**********");
        assert_eq!(redactor.piece("a1b2c3d4e5.txt").0, "[redacted].txt");
    }

    #[test]
    fn a_declared_value_goes_from_what_is_no_text_too() {
        let declared = Arc::new(Masks::new(["hunter22"]).unwrap());
        let redactor = Redactor::new(&[], declared).unwrap();
        assert_eq!(redactor.file("a.bin", b"\0hunter22").content.as_ref(), b"\0********");
        assert_eq!(redactor.file("a.log", b"x hunter22").content.as_ref(), b"x [redacted]");
        assert_eq!(redactor.piece("hunter22.txt").0, "[redacted].txt");
    }

    #[test]
    fn the_work_grows_with_the_text_alone() {
        let redactor = redactor();
        // Time of a processor that this thread has had, whatever else the machine does.
        let used = || std::time::Duration::from(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
        let time = |text: &str| {
            let begun = used();
            let _ = redactor.file("a.log", text.as_bytes());
            used() - begun
        };
        for part in [
            "a",
            "password",
            "curl -u ",
            "mysql --x ",
            "ldapsearch ",
            "aws ",
            "a:1234:",
            "'",
            "\"",
            "\\",
            "://a:",
            "token=",
            "echo 'a:b' ",
        ] {
            let text = |bytes: usize| part.repeat(bytes / part.len());
            let (small, large) = (time(&text(20_000)), time(&text(160_000)));
            assert!(large < 40 * small + std::time::Duration::from_millis(200), "{part}: {small:?}, {large:?}");
        }
    }
}
