//! Secrets of a project: `[secrets]` in e2e.toml. Records mask the declared values, and bundles leave out values of the listed shapes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::parse::Source;
use crate::error::Error;

/// Maximum length of a variable's name, in characters.
const NAME_CHARS_MAX: usize = 100;

/// Reserved prefixes of variables' names: they have a meaning to the loader, the engine, sudo or Python.
const TAKEN_BEGINS: [&str; 4] = ["LD_", "E2E_", "SUDO_", "PYTHON"];

/// Reserved names of variables: they have a meaning to every program.
const TAKEN: [&str; 12] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "PWD", "IFS", "ENV", "BASH_ENV", "TMPDIR"];

/// Shape of a secret: the name of its variable or field, or a pattern of its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretShape {
    /// Name of a variable, a key or a field whose value is secret.
    Name(String),
    /// Regular expression: the text that it matches is secret, or only the group `secret` where it has one.
    Pattern(String),
}

impl SecretShape {
    /// Parses a name such as `SESSION_ID`, or a regular expression such as `/cust-[0-9]{6}/`.
    ///
    /// # Errors
    /// The problem with the text, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(pattern) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            let compiled = Regex::new(pattern).map_err(|error| {
                let why = error.to_string();
                format!("not a regular expression: {}", why.lines().last().unwrap_or_default())
            })?;
            if compiled.is_match("") {
                return Err("this regular expression matches the empty text: everything would be secret".into());
            }
            return Ok(Self::Pattern(pattern.to_owned()));
        }
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if text.is_empty() || !text.chars().all(good) {
            return Err("a shape is the name of a variable or field (a-z, A-Z, 0-9, '_', '.', '-'), or a regular \
                        expression between slashes: \"/cust-[0-9]{6}/\""
                .into());
        }
        Ok(Self::Name(text.to_owned()))
    }
}

/// Secrets that a project declares in `[secrets]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredSecrets {
    /// Environment variables of the user who starts a run.
    pub variables: Vec<String>,
    /// Files, by the names of the variables in which scenarios get their content.
    pub files: BTreeMap<String, PathBuf>,
    /// Shapes of secret values, which bundles leave out.
    pub shapes: Vec<SecretShape>,
}

/// `[secrets]` as it is read from TOML.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SecretsTable {
    /// Environment variables of the user who starts a run: each is given to scenarios, and its value is masked in everything that is
    /// written of the run. `--secret NAME` adds one. A variable that is not set is not given.
    variables: Vec<Spanned<String>>,
    /// Files, relative to that of `e2e.toml`: `{ SIGNING_KEY = "keys/signing.pem" }` gives scenarios the content as the variable
    /// `SIGNING_KEY`, and masks it too. A file that does not exist is not given; none is packed into a bundle.
    files: BTreeMap<String, Spanned<String>>,
    /// Values that are taken out of bundles, beside those that look like secrets anyway: the name of a variable or field, or a
    /// regular expression between slashes.
    shapes: Vec<Spanned<String>>,
}

impl SecretsTable {
    /// Checks the section and returns the secrets that it declares.
    pub fn declared(&self, source: &Source, root: &Path) -> Result<DeclaredSecrets, Error> {
        let mut declared = DeclaredSecrets::default();
        for variable in &self.variables {
            let name = secret_name(variable.get_ref()).map_err(|message| source.error_at(variable, message))?;
            if declared.variables.contains(&name) {
                return Err(source.error_at(variable, format!("{name:?} is listed twice")));
            }
            declared.variables.push(name);
        }
        for (name, file) in &self.files {
            let name = secret_name(name).map_err(|message| source.error_at(file, message))?;
            if declared.variables.contains(&name) {
                let message = format!("{name:?} is listed in `variables` too: each secret has one value");
                return Err(source.error_at(file, message));
            }
            let path = file.get_ref();
            if path.is_empty() || path.contains('\0') {
                return Err(source.error_at(file, format!("{path:?} is not the path of a file")));
            }
            declared.files.insert(name, root.join(path));
        }
        for shape in &self.shapes {
            let shape = SecretShape::parse(shape.get_ref()).map_err(|message| source.error_at(shape, message))?;
            declared.shapes.push(shape);
        }
        Ok(declared)
    }
}

/// Checks the name of a variable that holds a secret.
///
/// # Errors
/// A text that says which names are valid.
pub fn secret_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.is_empty()
        || text.len() > NAME_CHARS_MAX
        || !text.chars().all(good)
        || text.starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!(
            "{text:?} is not the name of an environment variable: up to {NAME_CHARS_MAX} of A-Z, a-z, 0-9 and '_', no digit first; \
             give the name alone, the value stays in the environment"
        ));
    }
    if TAKEN.contains(&text) || TAKEN_BEGINS.iter().any(|begin| text.starts_with(begin)) {
        return Err(format!("{text} means something to other programs: put the secret into a variable of its own"));
    }
    Ok(text.to_owned())
}

/// Reads `[secrets]`. For a list, the earlier form of this key, the error says how to write `[secrets]` now.
pub(super) fn secrets_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretsTable, D::Error> {
    struct Table;
    impl<'de> Visitor<'de> for Table {
        type Value = SecretsTable;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table: [secrets]")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SecretsTable, A::Error> {
            SecretsTable::deserialize(MapAccessDeserializer::new(map))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, _list: A) -> Result<SecretsTable, A::Error> {
            let message = "secrets is a table: write this list as `shapes = [...]` below a line `[secrets]`";
            Err(serde::de::Error::custom(message))
        }
    }
    deserializer.deserialize_any(Table)
}
