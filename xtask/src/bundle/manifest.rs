//! `bundle.json`: what a bundle holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of `bundle.json` and of the layout of a bundle.
pub const BUNDLE_VERSION: u32 = 1;

/// The file's name in the archive, at its top.
pub const BUNDLE_FILE: &str = "bundle.json";

/// Returns the maximum bytes that a bundle of this size may hold: content that compresses better than any record does is meant to
/// fill a disk.
#[must_use]
pub const fn bytes_allowed(packed_bytes: u64) -> u64 {
    const BASE: u64 = 128 << 20;
    const TIMES: u64 = 100;
    const MOST: u64 = 8 << 30;
    let allowed = BASE.saturating_add(packed_bytes.saturating_mul(TIMES));
    if allowed < MOST { allowed } else { MOST }
}

/// Content of `bundle.json`: what the bundle was made from, and its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`BUNDLE_VERSION`].
    pub format_version: u32,
    /// Identifier of the run.
    pub run_id: String,
    /// The engine that made the run.
    pub engine_version: String,
    /// The folder of the project, the one with `e2e.toml`, in the archive. The run's record lies below it, where runs lie.
    pub project: String,
    /// The words after `cargo xtask` that the run was started with.
    pub command: Vec<String>,
    /// Hashes of the layers that the run used, by template.
    pub layers: BTreeMap<String, String>,
    /// Secrets that were taken out of the record and its logs.
    pub redactions: Vec<Redaction>,
    /// Files that were left out, with the reasons.
    pub left_out: Vec<String>,
    /// Every file of the archive but this one.
    pub files: Vec<BundledFile>,
}

/// Number of secrets of one kind that were taken out of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// Path of the file in the archive.
    pub path: String,
    /// Kind of the secrets: their shape, or the name that they were declared by.
    pub kind: String,
    /// Number of secrets.
    pub count: u32,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledFile {
    /// Its path in the archive.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of the content, or of a link's target: hexadecimal.
    pub sha256: String,
    /// Target of a symbolic link; absent for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// True if the file's owner may run it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}
