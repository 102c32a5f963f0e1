//! Reading a TOML file into a type, with errors that point into the file.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Spanned;

use crate::error::Error;
use crate::input;

/// Text of a manifest with its path, from which errors get their line and column.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), text: input::read_text(path)? })
    }

    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Error> {
        toml::from_str(&self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            Error::bad_file(&self.path, &self.text, offset, error.message().trim_end())
        })
    }

    /// Returns the line of a value, from 1.
    pub fn line_of<T>(&self, value: &Spanned<T>) -> u32 {
        let before = &self.text[..self.text.floor_char_boundary(value.span().start)];
        u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX)
    }

    /// Returns the line and column of a value.
    pub fn place_of<T>(&self, value: &Spanned<T>) -> Place {
        match self.error_at(value, "") {
            Error::BadFile { line, column, .. } => Place { line, column },
            _ => Place::default(),
        }
    }

    /// Makes an error that names the file, and the line and column of a value.
    pub fn error_at<T>(&self, value: &Spanned<T>, message: impl Into<String>) -> Error {
        Error::bad_file(&self.path, &self.text, value.span().start, message)
    }
}

/// Serializes a number of bytes as a text that [`parse_bytes`] reads.
pub fn bytes_as_text<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(bytes)
}

/// Line and column in a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Place {
    /// Line, from 1; 0 in the default value, which stands for no place.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

impl Place {
    /// Makes an error that names a file and this place in it.
    #[must_use]
    pub fn error(self, file: &Path, message: String) -> Error {
        let Self { line, column } = self;
        Error::BadFile { path: file.to_owned(), line, column, message }
    }
}

/// Parses a size such as `"512M"`, `"1.5G"` or `"64k"`, in binary multiples, into bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].trim_end_matches("iB").to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let number: f64 =
        digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))?;
    let bytes = number * 2_f64.powi(shift);
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "checked to be positive and in range")]
    (bytes >= 1.0 && bytes < 2_f64.powi(60)).then_some(bytes as u64)
}

/// Reads permission bits in octal, such as `"0644"`.
pub fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    match u32::from_str_radix(&text, 8) {
        Ok(bits) if bits <= 0o7777 => Ok(bits),
        _ => Err(D::Error::custom(format!("{text:?} is not a mode from \"0000\" to \"7777\", such as \"0644\""))),
    }
}

/// Tells whether a text is a valid name in a project; names become parts of host names, paths and interface names.
pub fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && text.len() <= 32
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// Returns the known name that `text` was most likely meant to be; `None` if no known name is similar.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 3)
        .min()
        .map(|(_, name)| name)
}

/// Keys and values of a table, in the order of the file.
#[derive(Debug)]
pub struct Entries<K, V>(pub Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys(PhantomData))
    }
}

struct Keys<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Keys<K, V> {
    type Value = Entries<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = table.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("512M", Some(512 << 20)),
            ("1.5G", Some(3 << 29)),
            ("64k", Some(64 << 10)),
            ("10", Some(10)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("M", None),
            ("0M", None),
            ("-1M", None),
            ("5X", None),
            ("inf", None),
            ("2T", Some(2 << 40)),
            ("1e3", None),
            ("0.1", None),
            ("99999999999G", None),
        ] {
            assert_eq!(parse_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn names() {
        for good in ["app", "data_ingestion", "db-2"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "2a", "A", "a/b", "a b", "../x", &"a".repeat(33)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_suggested_only_when_it_is_near() {
        assert_eq!(nearest("data_ingesion", ["data_ingestion", "backup"]), Some("data_ingestion"));
        assert_eq!(nearest("zebra", ["data_ingestion", "backup"]), None);
    }
}
