//! Expected errors and the exit codes they lead to. The codes are part of the command line's interface.

use std::path::{Path, PathBuf};

use crate::program::named;

/// All passed.
pub const EXIT_PASSED: u8 = 0;
/// A scenario failed.
pub const EXIT_FAILED: u8 = 1;
/// Bad usage, or a bad file.
pub const EXIT_USAGE: u8 = 2;
/// The infrastructure failed: never counted as the product's failure.
pub const EXIT_INFRASTRUCTURE: u8 = 3;
/// All passed, and a measured operation has become worse.
pub const EXIT_REGRESSED: u8 = 4;
/// The run was interrupted.
pub const EXIT_INTERRUPTED: u8 = 5;

/// An error whose kind decides the exit code. Everything else that reaches `main` is the infrastructure's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the project that cannot be used, with the place where it goes wrong.
    #[error("{}:{line}:{column}: {}", path.display(), named(message))]
    BadFile {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// A command line that cannot be carried out.
    #[error("{}", named(.0))]
    Usage(String),
    /// The machine lacks something that the user can mend; the message names the cure.
    #[error("{}\n  cure: {}", named(problem), named(cure))]
    Host {
        /// What is wrong.
        problem: String,
        /// The command or change that mends it.
        cure: String,
    },
    /// Ctrl-C or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A bad file, placed at a byte offset of its text.
    #[must_use]
    pub fn bad_file(path: &Path, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self::BadFile { path: path.to_owned(), line, column, message: message.into() }
    }

    /// The exit code of an error that reached `main`.
    #[must_use]
    pub fn exit_code(error: &anyhow::Error) -> u8 {
        match error.chain().find_map(|cause| cause.downcast_ref::<Self>()) {
            Some(Self::BadFile { .. } | Self::Usage(_)) => EXIT_USAGE,
            Some(Self::Interrupted) => EXIT_INTERRUPTED,
            Some(Self::Host { .. }) | None => EXIT_INFRASTRUCTURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_a_file_counts_characters_from_one() {
        let text = "a = 1\nbö = ?\n";
        let offset = text.find('?').unwrap();
        let error = Error::bad_file(Path::new("x.toml"), text, offset, "bad");
        assert_eq!(error.to_string(), "x.toml:2:6: bad");
    }

    #[test]
    fn an_error_without_a_kind_is_the_infrastructures() {
        let error = anyhow::anyhow!("disk full").context("writing");
        assert_eq!(Error::exit_code(&error), EXIT_INFRASTRUCTURE);
        let error = anyhow::Error::new(Error::Usage("x".into())).context("while");
        assert_eq!(Error::exit_code(&error), EXIT_USAGE);
    }
}
