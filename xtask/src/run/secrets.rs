//! Secrets of a run, which are given to its scenarios and masked in its record.

use std::sync::Arc;

use crate::error::Error;
use crate::record::Masks;

/// Minimum length of a secret in characters: masking a shorter one would also mask parts of ordinary words.
const SECRET_CHARS_MIN: usize = 6;

/// Maximum length of a secret in bytes: longer ones may not fit into a program's environment.
const SECRET_BYTES_MAX: usize = 64 << 10;

/// Secrets by name. Debug output shows only the names.
#[derive(Clone, Default)]
pub struct Secrets {
    values: Vec<(String, String)>,
    masks: Arc<Masks>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl Secrets {
    /// Creates the secrets from names and values.
    ///
    /// # Errors
    /// [`Error::Usage`] when a value is too short to be masked, too long for an environment, or has a zero byte.
    pub fn new(values: Vec<(String, String)>) -> anyhow::Result<Self> {
        for (name, value) in &values {
            let problem = if value.trim().chars().count() < SECRET_CHARS_MIN {
                format!(
                    "the secret {name} has fewer than {SECRET_CHARS_MIN} characters: it would be masked in ordinary words\n  \
                     help: give it a longer value, or do not declare it as a secret"
                )
            } else if value.len() > SECRET_BYTES_MAX {
                format!(
                    "the secret {name} has {} bytes, and at most {SECRET_BYTES_MAX} fit into the environment of a program\n  \
                     help: keep the long value in an encrypted file, and declare the file's key as the secret",
                    value.len()
                )
            } else if value.contains('\0') {
                format!(
                    "the secret {name} has a zero byte, which no environment can hold\n  help: encode it, such as by base64"
                )
            } else {
                continue;
            };
            return Err(Error::Usage(problem).into());
        }
        let masks = Arc::new(Masks::new(values.iter().map(|(_, value)| value.as_str()))?);
        Ok(Self { values, masks })
    }

    /// Returns the environment variables with the secrets for a scenario's program.
    #[must_use]
    pub fn variables(&self) -> &[(String, String)] {
        &self.values
    }

    /// Returns the masks that remove the secrets from a record.
    #[must_use]
    pub fn masks(&self) -> &Arc<Masks> {
        &self.masks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(value: &str) -> anyhow::Result<Secrets> {
        Secrets::new(vec![("API_TOKEN".to_owned(), value.to_owned())])
    }

    #[test]
    fn what_cannot_be_masked_or_given_is_refused_with_help() {
        for (value, expected) in [
            ("12345", "the secret API_TOKEN has fewer than 6 characters"),
            ("  1234  ", "the secret API_TOKEN has fewer than 6 characters"),
            (&"x".repeat(SECRET_BYTES_MAX + 1), "the secret API_TOKEN has 65537 bytes, and at most 65536"),
            ("1234567\0", "the secret API_TOKEN has a zero byte"),
        ] {
            let error = made(value).unwrap_err().to_string();
            assert!(error.starts_with(expected) && error.contains("\n  help: "), "{error}");
            assert!(!error.contains("1234"), "{error}");
        }
    }

    #[test]
    fn its_debug_output_shows_no_value() {
        let secrets = made("hunter22").unwrap();
        assert_eq!(format!("{secrets:?}"), "[\"API_TOKEN\"]");
        assert_eq!(secrets.masks().text("hunter22"), "[redacted]");
        assert!(!format!("{:?}", secrets.masks()).contains("hunter22"));
    }
}
