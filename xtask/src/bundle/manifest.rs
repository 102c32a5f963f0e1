//! `bundle.json`: the content of a bundle.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of `bundle.json` and of the layout of a bundle.
pub const BUNDLE_VERSION: u32 = 1;

/// Name of the file in the archive, at the top.
pub const BUNDLE_FILE: &str = "bundle.json";

/// Returns the maximum bytes that a bundle of this compressed size may hold. Content that compresses better than any record does is
/// rejected, because it is probably made to fill a disk.
#[must_use]
pub const fn bytes_allowed(packed_bytes: u64) -> u64 {
    const BASE: u64 = 128 << 20;
    const TIMES: u64 = 100;
    const MOST: u64 = 8 << 30;
    let allowed = BASE.saturating_add(packed_bytes.saturating_mul(TIMES));
    if allowed < MOST { allowed } else { MOST }
}

/// Content of `bundle.json`: the origin of the bundle, and its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// [`BUNDLE_VERSION`] of the engine that made the bundle.
    pub format_version: u32,
    /// Name of the run.
    pub run_id: String,
    /// Version of the engine that made the run.
    pub engine_version: String,
    /// Path in the archive of the project's folder, the one with `e2e.toml`. The run's record lies below it, in the folder of runs.
    pub project: String,
    /// Command line of the run: the words after `cargo xtask`.
    pub command: Vec<String>,
    /// Hashes of the layers that the run used, by template.
    pub layers: BTreeMap<String, String>,
    /// Secrets that were removed from the record and its logs.
    pub redactions: Vec<Redaction>,
    /// Files that were left out, with the reasons.
    pub left_out: Vec<String>,
    /// Every file of the archive except `bundle.json`.
    pub files: Vec<BundledFile>,
}

/// Number of secrets of one kind that were removed from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redaction {
    /// Path of the file in the archive.
    pub path: String,
    /// Kind of the secrets: their shape, or the name under which they were declared.
    pub kind: String,
    /// Number of removed secrets.
    pub count: u32,
}

/// File or symbolic link in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledFile {
    /// Path of the file in the archive.
    pub path: String,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// SHA-256 hash, in hexadecimal digits, of the file's content or the link's target.
    pub sha256: String,
    /// Target of a symbolic link; absent for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// True if the file's owner may execute it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}
