//! Expected errors, and the exit codes to which they lead. The exit codes are part of the command line's interface.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::program::named;

/// Exit code if everything passed.
pub const EXIT_PASSED: u8 = 0;
/// Exit code if a scenario failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code for bad usage, or a file of the project that cannot be used.
pub const EXIT_USAGE: u8 = 2;
/// Exit code if the infrastructure failed, which is never counted as a failure of the product.
pub const EXIT_INFRASTRUCTURE: u8 = 3;
/// Exit code if everything passed, and a measured operation regressed.
pub const EXIT_REGRESSED: u8 = 4;
/// Exit code if the run was interrupted.
pub const EXIT_INTERRUPTED: u8 = 5;

/// Cause on this host that prevents a lab from being made. The case is not tried again; if every case would meet the cause, no further case
/// is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostCause {
    /// LXC is not installed.
    Lxc,
    /// The kernel confines programs with AppArmor, and the program that loads profiles is not installed.
    ApparmorParser,
    /// The host does not allow user namespaces.
    UserNamespaces,
    /// The host does not allow control groups to be created.
    Cgroup,
    /// The host does not allow a network to be created for a lab.
    Network,
    /// The kernel has no overlay file system.
    Overlay,
    /// A file system with files of the engine is full.
    Space,
    /// A budget that all labs of this host share, such as memory, has less left than this lab needs. A smaller lab may still be possible.
    Budget,
    /// Not even the smallest lab can be made, for a reason that no other variant names.
    Lab,
}

impl HostCause {
    /// All causes, in order.
    pub const ALL: [Self; 9] = [
        Self::Lxc,
        Self::ApparmorParser,
        Self::UserNamespaces,
        Self::Cgroup,
        Self::Network,
        Self::Overlay,
        Self::Space,
        Self::Budget,
        Self::Lab,
    ];

    /// Tells whether every case would meet this cause, so that no further case is tried.
    #[must_use]
    pub const fn meets_every_case(self) -> bool {
        !matches!(self, Self::Budget)
    }

    /// Returns a sentence about the cause, for people.
    #[must_use]
    pub const fn problem(self) -> &'static str {
        match self {
            Self::Lxc => "LXC is not installed",
            Self::ApparmorParser => {
                "this kernel confines containers with AppArmor, and apparmor_parser is not installed"
            }
            Self::UserNamespaces => "this host allows no user namespaces",
            Self::Cgroup => "no cgroup can be created on this host",
            Self::Network => "no network for a lab can be created on this host",
            Self::Overlay => "this kernel does not support overlay file systems",
            Self::Space => "a file system of this host is full",
            Self::Budget => "a limit that all labs of this host share leaves too little for another lab",
            Self::Lab => "not even the smallest lab can be made on this host",
        }
    }

    /// Returns the help for this cause: a command, or a change to the host.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::Lxc | Self::ApparmorParser => "`cargo xtask setup` installs it",
            Self::UserNamespaces => "sysctl -w user.max_user_namespaces=15000",
            Self::Cgroup => "`cargo xtask doctor` says what the cgroups of this host lack",
            Self::Network => "`cargo xtask doctor` says what the network of this host lacks",
            Self::Lab => "`cargo xtask doctor` says what this host lacks",
            Self::Budget => "end other labs: `cargo xtask ps` shows them",
            Self::Overlay => "load it with `modprobe overlay`, or use another kernel",
            Self::Space => {
                "make room there: `cargo xtask doctor` shows how much is left, `cargo xtask image prune` and \
                            `cargo xtask runs prune --keep 20` free what nothing needs"
            }
        }
    }

    #[must_use]
    pub fn error(self, detail: &anyhow::Error) -> anyhow::Error {
        Error::EveryCase { cause: self, detail: format!("{detail:#}"), help: self.help().to_owned() }.into()
    }

    /// Returns the host's cause in the chain of an error; `None` if there is none.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Option<Self> {
        match Error::of(error)? {
            Error::EveryCase { cause, .. } => Some(*cause),
            _ => None,
        }
    }
}

/// Error whose kind decides the exit code. Any other error that reaches `main` counts as a failure of the infrastructure.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// File of the project that cannot be used, with the place of the problem.
    #[error("{}:{line}:{column}: {}", path.display(), named(message))]
    BadFile {
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Column number, from 1, in characters.
        column: usize,
        /// Problem, and what to write instead.
        message: String,
    },
    /// Bad usage of the command line, as a text for the user.
    #[error("{}", named(.0))]
    Usage(String),
    /// The host lacks something that the user can provide.
    #[error("{}\n  help: {}", named(problem), named(help))]
    Host {
        /// Text that says what the host lacks.
        problem: String,
        /// Command or change that solves the problem.
        help: String,
    },
    /// The host lacks something that every case needs.
    #[error("{}: {}\n  help: {}", cause.problem(), named(detail), named(help))]
    EveryCase {
        cause: HostCause,
        /// Text of the underlying error.
        detail: String,
        /// Command or change that solves the problem.
        help: String,
    },
    /// A template cannot be built.
    #[error("{0}")]
    Build(String),
    /// A fault keeps a machine down or frozen: nothing can be done in it.
    #[error("{0}")]
    Outage(String),
    /// A machine has ended by itself.
    #[error("{0}")]
    MachineEnded(String),
    /// The run was interrupted by Ctrl-C, TERM, HUP or QUIT.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Returns the kind of an error, if it has one of these, from below its contexts. Only here is an [`anyhow::Error`] asked for its type to
    /// decide an exit code, an outcome or an answer: whoever decides matches on this enum, or on one made from it.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Option<&Self> {
        error.chain().find_map(|cause| cause.downcast_ref())
    }

    /// Returns an [`Error::BadFile`] for a problem at this byte offset of the file's text.
    #[must_use]
    pub fn bad_file(path: &Path, text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Self::BadFile { path: path.to_owned(), line, column, message: message.into() }
    }

    /// Returns the exit code for an error that reached `main`.
    #[must_use]
    pub fn exit_code(error: &anyhow::Error) -> u8 {
        match Self::of(error) {
            Some(Self::BadFile { .. } | Self::Usage(_)) => EXIT_USAGE,
            Some(Self::Interrupted) => EXIT_INTERRUPTED,
            Some(_) | None => EXIT_INFRASTRUCTURE,
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
    fn a_host_cause_is_found_below_its_contexts_and_tells_what_mends_it() {
        for cause in HostCause::ALL {
            let error = cause.error(&anyhow::anyhow!("seen")).context("making container a");
            assert_eq!(HostCause::of(&error), Some(cause));
            assert_eq!(Error::exit_code(&error), EXIT_INFRASTRUCTURE);
            let text = format!("{error:#}");
            let expected = format!("making container a: {}: seen\n  help: {}", cause.problem(), cause.help());
            assert_eq!(text, expected);
        }
        assert_eq!(HostCause::of(&anyhow::anyhow!("disk full")), None);
    }

    #[test]
    fn an_error_without_a_kind_is_the_infrastructures() {
        let error = anyhow::anyhow!("disk full").context("writing");
        assert_eq!(Error::exit_code(&error), EXIT_INFRASTRUCTURE);
        let error = anyhow::Error::new(Error::Usage("x".into())).context("while");
        assert_eq!(Error::exit_code(&error), EXIT_USAGE);
    }
}
