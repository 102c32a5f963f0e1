//! Secrets in the texts of a record: found by what they look like and by what a project declares, and taken out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Context as _;
use regex::Regex;
use serde_json::Value;

use crate::manifest::SecretShape;

/// What stands where a secret stood.
const MARK: &str = "[redacted]";

/// Names whose values are secret, as the end of a longer name too, such as `PGPASSWORD`.
const NAMES: &str = "(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)";

/// So far after the begin of a private key without an end is looked for the rest of it, in bytes.
const KEY_BYTES_MAX: usize = 16 << 10;

/// Ends of names of files that hold text, whatever bytes they have.
const TEXT_FILES: [&str; 9] = [".log", ".json", ".jsonl", ".md", ".xml", ".html", ".txt", ".csv", ".toml"];

/// How many secrets of which kind.
pub type Counts = BTreeMap<String, u32>;

/// Takes secrets out of files.
#[derive(Debug)]
pub struct Redactor {
    rules: Vec<Rule>,
    secret_key: Regex,
    key_begin: Regex,
    key_end: Regex,
    key_text: Regex,
}

#[derive(Debug)]
struct Rule {
    kind: String,
    pattern: Regex,
}

/// What goes on from one text of a file to the next.
#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// How much of a private key that has begun may still come, in bytes.
    key_bytes_left: usize,
}

impl Redactor {
    /// One that knows what secrets look like, and what a project declares.
    ///
    /// # Errors
    /// When a declared pattern is none; the project's file was checked before.
    pub fn new(declared: &[SecretShape]) -> anyhow::Result<Self> {
        let mut rules = Vec::new();
        let mut add = |kind: &str, pattern: String| -> anyhow::Result<()> {
            let pattern = Regex::new(&pattern).with_context(|| format!("the pattern of {kind}"))?;
            rules.push(Rule { kind: kind.to_owned(), pattern });
            Ok(())
        };
        // The declared ones first: they are counted by their names.
        for secret in declared {
            match secret {
                SecretShape::Pattern(pattern) => add(&format!("/{pattern}/"), pattern.clone())?,
                SecretShape::Name(name) => {
                    assignments(&regex::escape(name), "\\b").try_for_each(|pattern| add(name, pattern))?;
                }
            }
        }
        let scheme = "(?:(?:bearer|basic|token|digest|negotiate)\\s+)?";
        add(
            "authorization",
            format!("(?i)\\bauthorization\\\\*[\"']?\\s*[=:]\\s*\\\\*[\"']?{scheme}(?<secret>[^\\s\"',\\\\]+)"),
        )?;
        add("authorization", "(?i)\\bbearer\\s+(?<secret>[a-z0-9._~+/-]{8,}=*)".into())?;
        assignments(&format!("(?i:{NAMES})"), "[A-Za-z0-9_.-]*")
            .try_for_each(|pattern| add("password or token", pattern))?;
        add(
            "password or token",
            "(?i)(?:^|\\s)--[a-z-]*(?:password|passwd|secret|token|api-key)[ \t]+(?<secret>[^\\s\"'-][^\\s\"']*)"
                .into(),
        )?;
        add("password in an address", "(?i)\\b[a-z][a-z0-9+.-]*://[^\\s/:@\"']*:(?<secret>[^\\s/@\"']+)@".into())?;
        add("AWS key", "\\b(?<secret>(?:AKIA|ASIA)[A-Z0-9]{16})\\b".into())?;
        add(
            "access token",
            "\\b(?<secret>gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}|\
             xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{8,}\\.eyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]*)"
                .into(),
        )?;
        let names = declared.iter().filter_map(|secret| match secret {
            SecretShape::Name(name) => Some(format!("|^{}$", regex::escape(name))),
            SecretShape::Pattern(_) => None,
        });
        let secret_key = format!("(?i:{NAMES}|^authorization)$|^$.{}", names.collect::<String>());
        Ok(Self {
            rules,
            secret_key: Regex::new(&secret_key)?,
            key_begin: Regex::new("-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")?,
            key_end: Regex::new("-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")?,
            key_text: Regex::new("[A-Za-z0-9+/=]{16,}")?,
        })
    }

    /// The content of a file without its secrets, and how many there were. What is no text stays as it is, and so does, byte
    /// for byte, a text without secrets.
    #[must_use]
    pub fn file<'a>(&self, name: &str, content: &'a [u8]) -> (Cow<'a, [u8]>, Counts) {
        let is_text = TEXT_FILES.iter().any(|end| name.ends_with(end));
        if !is_text && content.iter().take(8000).any(|byte| *byte == 0) {
            return (content.into(), Counts::new());
        }
        let text = String::from_utf8_lossy(content);
        let mut state = State::default();
        let redacted = match name.rsplit('.').next() {
            Some("json") => self.document(&text, &mut state),
            Some("jsonl") => {
                let lines = text.split_inclusive('\n').map(|line| self.line(line, &mut state));
                Some(lines.collect::<String>())
            }
            _ => None,
        };
        let redacted = redacted.unwrap_or_else(|| self.text(&text, &mut state));
        if state.counts.is_empty() {
            (content.into(), state.counts)
        } else {
            (redacted.into_bytes().into(), state.counts)
        }
    }

    /// A piece of text without its secrets, and how many there were.
    #[must_use]
    pub fn piece(&self, text: &str) -> (String, Counts) {
        let mut state = State::default();
        let redacted = self.text(text, &mut state);
        (redacted, state.counts)
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
            Value::Array(list) => list.iter_mut().for_each(|item| self.value(item, state)),
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    let is_plain = item.is_string() || item.is_number();
                    if is_plain && self.secret_key.is_match(key) && item != MARK {
                        *item = MARK.into();
                        *state.counts.entry(format!("value of {key}")).or_default() += 1;
                    } else {
                        self.value(item, state);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, text: &str, state: &mut State) -> String {
        let mut text = self.keys(text, state);
        for Rule { kind, pattern } in &self.rules {
            let mut redacted = String::new();
            let mut done = 0;
            for found in pattern.captures_iter(&text) {
                let Some(secret) = found.name("secret").or_else(|| found.get(0)) else { continue };
                if secret.as_str() == MARK || secret.start() < done {
                    continue;
                }
                redacted.push_str(&text[done..secret.start()]);
                redacted.push_str(MARK);
                done = secret.end();
                *state.counts.entry(kind.clone()).or_default() += 1;
            }
            if done > 0 {
                redacted.push_str(&text[done..]);
                text = redacted;
            }
        }
        text
    }

    /// Takes the text of private keys out, line by line, with what a log writes before each; also of one that is cut off, or
    /// whose lines stand in different texts of a file.
    fn keys(&self, text: &str, state: &mut State) -> String {
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

/// Values that are given to a name: in double quotes, in single ones, and bare.
fn assignments(name: &str, before: &str) -> impl Iterator<Item = String> {
    let given = format!("{before}{name}\\\\*[\"']?[ \t]*[=:][ \t]*");
    [
        format!("{given}\\\\*\"(?<secret>[^\"\\n\\\\]+)"),
        format!("{given}'(?<secret>[^'\\n]+)"),
        format!("{given}(?<secret>[^\\s\"'&;,<>()\\[\\]{{}}:=\\\\][^\\s\"'&;,<>()\\[\\]{{}}\\\\]*)"),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        check_file("x.log", text, expected);
    }

    fn check_file(name: &str, text: &str, expected: &str) {
        let declared = [SecretShape::parse("SESSION_ID").unwrap(), SecretShape::parse("/cust-[0-9]{6}/").unwrap()];
        let (redacted, counts) = Redactor::new(&declared).unwrap().file(name, text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&redacted), expected, "{counts:?}");
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
        let (word, counts) = Redactor::new(&[]).unwrap().piece("--db=redis://me:pa55@db");
        assert_eq!((word.as_str(), counts.len()), ("--db=redis://me:[redacted]@db", 1));
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
        let redactor = Redactor::new(&[]).unwrap();
        let bytes = b"\x89PNG\0\0password=hunter2".as_slice();
        let (redacted, counts) = redactor.file("page.png", bytes);
        assert_eq!((redacted.as_ref(), counts.len()), (bytes, 0));
        let (redacted, counts) = redactor.file("console.log", b"\0\xffpassword=hunter2".as_slice());
        assert!(redacted.ends_with(b"password=[redacted]") && counts.len() == 1, "{counts:?}");
    }
}
