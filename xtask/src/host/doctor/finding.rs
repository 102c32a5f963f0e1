//! Finding of one check.

use serde::Serialize;

use crate::program::named;

/// Status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The check passed.
    Ok,
    /// The engine works, but something is lost or at risk.
    Warning,
    /// The engine does not work until this is fixed.
    Failure,
}

/// Subject of a check: where to look when something of that kind goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The kernel and the programs around it.
    Machine,
    /// Requirements for containers to be built and created.
    Containers,
    /// Requirements for containers to reach each other.
    Network,
    /// Rights and ids that the engine needs.
    Permission,
    /// Memory, disk and processors.
    Resources,
    /// Abilities that the engine can do without.
    Optional,
    /// Trial of a small lab, which is made, used and taken down here, and soundness of the stored layers.
    Lab,
}

impl Group {
    /// The word for the group in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Containers => "containers",
            Self::Network => "network",
            Self::Permission => "permission",
            Self::Resources => "resources",
            Self::Optional => "optional",
            Self::Lab => "lab",
        }
    }
}

/// Finding of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check: stable, part of the JSON format.
    pub check: &'static str,
    /// Subject of the check.
    pub group: Group,
    /// Status of the check.
    pub status: Status,
    /// Observation that the status follows from.
    pub seen: String,
    /// Command or change that fixes the problem; `None` where the check passed.
    pub help: Option<String>,
    /// Names in [`crate::host::tools::packages::ITEMS`] that setup installs to fix the problem.
    #[serde(skip)]
    pub items: Vec<&'static str>,
    /// Shell command that setup runs as root to fix the problem.
    #[serde(skip)]
    pub command: Option<String>,
}

impl Finding {
    /// Returns the finding of a passed check.
    pub fn ok(group: Group, check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, group, status: Status::Ok, seen: seen.into(), help: None, items: Vec::new(), command: None }
    }

    /// Returns a warning: something is lost or at risk.
    pub fn warning(group: Group, check: &'static str, seen: impl Into<String>, help: impl Into<String>) -> Self {
        let help: String = help.into();
        Self { status: Status::Warning, help: Some(named(&help)), ..Self::ok(group, check, seen) }
    }

    /// Returns a failure: the engine does not work until it is fixed.
    pub fn failure(group: Group, check: &'static str, seen: impl Into<String>, help: impl Into<String>) -> Self {
        Self { status: Status::Failure, ..Self::warning(group, check, seen, help) }
    }

    pub(super) fn installing(self, items: &[&'static str]) -> Self {
        Self { items: items.to_vec(), ..self }
    }

    pub(super) fn running(self, command: Option<String>) -> Self {
        Self { command, ..self }
    }
}
