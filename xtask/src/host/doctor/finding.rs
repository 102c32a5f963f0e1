//! What one check found.

use serde::Serialize;

use crate::program::named;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// The engine works, but something is lost or at risk.
    Warning,
    /// The engine does not work until this is mended.
    Failure,
}

/// What a check is about: where to look when something of that kind goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The kernel and the programs around it.
    Machine,
    /// Containers cannot be built or created.
    Containers,
    /// Containers cannot reach each other.
    Network,
    /// Something may not be done.
    Permission,
    /// Memory, disk and processors.
    Resources,
    /// Abilities that the engine can do without.
    Optional,
    /// Everything together.
    Lab,
}

impl Group {
    /// The word for it in reports.
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

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name: stable, part of the JSON format.
    pub check: &'static str,
    /// What it is about.
    pub group: Group,
    /// How it ended.
    pub status: Status,
    /// What was seen.
    pub seen: String,
    /// The command or change that mends it; nothing where all is well.
    pub cure: Option<String>,
    /// Names in [`crate::host::packages::ITEMS`] that setup installs to mend it.
    #[serde(skip)]
    pub items: Vec<&'static str>,
    /// Line of a shell that setup runs as root to mend it.
    #[serde(skip)]
    pub command: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(group: Group, check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, group, status: Status::Ok, seen: seen.into(), cure: None, items: Vec::new(), command: None }
    }

    /// Something is lost or at risk.
    pub fn warning(group: Group, check: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        let cure: String = cure.into();
        Self { status: Status::Warning, cure: Some(named(&cure)), ..Self::ok(group, check, seen) }
    }

    /// The engine does not work.
    pub fn failure(group: Group, check: &'static str, seen: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { status: Status::Failure, ..Self::warning(group, check, seen, cure) }
    }

    pub(super) fn installing(self, items: &[&'static str]) -> Self {
        Self { items: items.to_vec(), ..self }
    }

    pub(super) fn running(self, command: Option<String>) -> Self {
        Self { command, ..self }
    }
}
