//! What a project declares to be secret: `secrets` in e2e.toml. A bundle of a run shows none of it.

use regex::Regex;

/// A secret, by the name that it goes under or by what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A variable, a key or a field: its value is secret.
    Name(String),
    /// A regular expression: what it matches is secret, or its group `secret`, where it has one.
    Pattern(String),
}

impl Secret {
    /// `SESSION_ID`, or `/cust-[0-9]{6}/`.
    ///
    /// # Errors
    /// What is wrong with the text, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            let compiled = Regex::new(pattern).map_err(|error| {
                let why = error.to_string();
                format!("no regular expression: {}", why.lines().last().unwrap_or_default())
            })?;
            if compiled.is_match("") {
                return Err("this regular expression matches where there is nothing: everything would be secret".into());
            }
            return Ok(Self::Pattern(pattern.to_owned()));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if text.is_empty() || !text.chars().all(good) {
            return Err("a secret is the name of a variable or field (a-z, A-Z, 0-9, '_', '.', '-'), or a regular \
                        expression between slashes: \"/cust-[0-9]{6}/\""
                .into());
        }
        Ok(Self::Name(text.to_owned()))
    }
}
