//! Reference of a baseline: what identifies the machines that its samples were taken on, so that they can be made again.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::record::readable_json;

/// Version of the format of reference files.
pub const REFERENCE_VERSION: u32 = 1;

/// Maximum differences of packages that a sentence names.
const DIFFERENCES_SHOWN: usize = 3;

/// Content of `baselines/references/NAME.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// `REFERENCE_VERSION` of this file.
    pub format_version: u32,
    /// Commit of the project that was checked out; `None` where the project lies in no Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Files of the folder of templates that differed from the revision, so that no revision holds these machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// Packages that `--set` replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<ReplacedPackage>,
    /// Layers of the templates in use and below them, by the name that the lock file gives them.
    pub layers: BTreeMap<String, ReferenceLayer>,
    /// Lines of the pinned requirements of each template with `[pip]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requirements: BTreeMap<String, Vec<String>>,
}

/// Layer of a reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceLayer {
    /// Hash of the layer; absent where part of it comes from outside the project, so that machines get different hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// Debian packages that the layer adds to its parent or changes, as `name=version`.
    pub packages: Vec<String>,
    /// Python packages of the layer, as `name=version`.
    pub python_packages: Vec<String>,
}

/// Package that `--set` replaced by a local wheel or source tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplacedPackage {
    /// Template that pins the package.
    pub template: String,
    /// Name of the package.
    pub package: String,
    /// Hash of the content of the wheel or tree.
    pub hash: String,
    /// Commit of the tree; `None` where the tree had changes beyond it, or lies in no Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Path of the wheel or tree: relative to the project's folder where it lies there or beside it.
    pub path: String,
}

impl Reference {
    /// Parses the text of a reference file; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::BadFile`], with line and column, for text that is damaged or of another format version.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let bad = |line: usize, column: usize, message: String| {
            let (line, column) = (line.max(1), column.max(1));
            Error::BadFile { path: path.to_owned(), line, column, message }
        };
        let unreadable = |error: serde_json::Error| {
            bad(error.line(), error.column(), format!("this is no reference of a baseline: {error}"))
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(unreadable)?;
        let version = value.get("format_version").and_then(serde_json::Value::as_u64);
        if let Some(version) = version.filter(|version| *version != u64::from(REFERENCE_VERSION)) {
            let message = format!("the reference has version {version}, and this engine reads {REFERENCE_VERSION}");
            return Err(bad(1, 1, message));
        }
        serde_json::from_str(text).map_err(unreadable)
    }

    /// Returns the text of the reference's file.
    #[must_use]
    pub fn text(&self) -> String {
        readable_json(self).unwrap_or_default()
    }

    /// Returns the name of the reference's file without its ending: 16 hex digits of the hash of its text.
    #[must_use]
    pub fn name(&self) -> String {
        let hash = Sha256::digest(self.text().as_bytes());
        hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the revision that holds the machines' templates.
    ///
    /// # Errors
    /// When no revision holds them, with the reason.
    pub fn holding_revision(&self) -> Result<&str, String> {
        let Some(revision) = &self.revision else {
            return Err("the reference names no revision, because it was measured outside a Git repository".into());
        };
        if let Some(first) = self.changed.first() {
            let more = match self.changed.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            return Err(format!(
                "no revision holds the reference: {first}{more} differed from {} when it was measured",
                short(revision)
            ));
        }
        Ok(revision)
    }

    /// Returns the differences between the packages of these layers and those of the reference, as text; `None` if there are none.
    #[must_use]
    pub fn other_packages(&self, now: &BTreeMap<String, ReferenceLayer>) -> Option<String> {
        let mut all = Vec::new();
        for (name, layer) in now {
            let Some(then) = self.layers.get(name) else {
                all.push(format!("{name}: not in the reference"));
                continue;
            };
            let lists = [(&then.packages, &layer.packages), (&then.python_packages, &layer.python_packages)];
            for (then, now) in lists {
                all.extend(now.iter().filter(|one| !then.contains(one)).map(|one| format!("{name}: {one} now")));
                all.extend(then.iter().filter(|one| !now.contains(one)).map(|one| format!("{name}: {one} then")));
            }
        }
        let more = all.len().saturating_sub(DIFFERENCES_SHOWN);
        let shown = all.into_iter().take(DIFFERENCES_SHOWN).collect::<Vec<_>>().join(", ");
        let more = if more == 0 { String::new() } else { format!(", and {more} more") };
        (!shown.is_empty()).then(|| format!("{shown}{more}"))
    }

    /// Returns the text of a template's pinned requirements; `None` where the template had none.
    #[must_use]
    pub fn requirements_of(&self, template: &str) -> Option<String> {
        Some(self.requirements.get(template)?.join("\n"))
    }

    /// Describes the machines in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        let revision = match (&self.revision, self.changed.len()) {
            (None, _) => "no revision".to_owned(),
            (Some(revision), 0) => format!("revision {}", short(revision)),
            (Some(revision), count) => {
                format!("revision {} with {count} changed files, so that no revision holds them", short(revision))
            }
        };
        let replaced = self.replaced.iter().map(|one| {
            let at = one.revision.as_deref().map_or_else(|| format!("content {}", short(&one.hash)), short_revision);
            format!(", {}.{} from {} ({at})", one.template, one.package, one.path)
        });
        let python = self.requirements.len();
        let pinned = if python == 0 { String::new() } else { format!(", pinned requirements of {python} templates") };
        format!("{revision}, {} layers{pinned}{}", self.layers.len(), replaced.collect::<String>())
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

fn short_revision(revision: &str) -> String {
    format!("revision {}", short(revision))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns a reference of one layer.
    pub fn reference() -> Reference {
        let layer = ReferenceLayer {
            layer: Some("0123".into()),
            packages: vec!["a=1".into(), "b=1".into()],
            python_packages: vec!["c=1".into()],
        };
        Reference {
            format_version: REFERENCE_VERSION,
            revision: Some("0123456789abcdef".into()),
            changed: Vec::new(),
            replaced: Vec::new(),
            layers: BTreeMap::from([("app".into(), layer)]),
            requirements: BTreeMap::from([("app".into(), vec!["c==1 --hash=sha256:aa".into(), String::new()])]),
        }
    }

    #[test]
    fn a_reference_is_read_as_it_was_written_and_named_by_its_text() {
        let first = reference();
        assert_eq!(Reference::parse(Path::new("x.json"), &first.text()).unwrap(), first);
        let other = Reference { revision: None, ..reference() };
        assert!(first.name().len() == 16 && first.name() != other.name());
        assert_eq!(first.requirements_of("app").unwrap(), "c==1 --hash=sha256:aa\n");
        assert_eq!(first.requirements_of("db"), None);
        let bad = |text: &str| Reference::parse(Path::new("x.json"), text).unwrap_err().to_string();
        let newer = first.text().replace("\"format_version\": 1", "\"format_version\": 7");
        assert!(bad(&newer).contains("has version 7"), "{}", bad(&newer));
        assert!(bad("{").starts_with("x.json:1:"), "{}", bad("{"));
        assert!(bad("{}").contains("missing field"), "{}", bad("{}"));
    }

    #[test]
    fn what_no_revision_holds_says_why() {
        assert_eq!(reference().holding_revision(), Ok("0123456789abcdef"));
        let outside = Reference { revision: None, ..reference() };
        assert!(outside.holding_revision().unwrap_err().contains("outside a Git repository"));
        let changed = Reference { changed: vec!["containers/app/x".into(), "containers/y".into()], ..reference() };
        assert_eq!(
            changed.holding_revision().unwrap_err(),
            "no revision holds the reference: containers/app/x and 1 more differed from 0123456789ab when it was measured"
        );
        assert!(changed.summary().starts_with("revision 0123456789ab with 2 changed files"), "{}", changed.summary());
    }

    #[test]
    fn packages_are_compared_by_version_and_hashes_of_layers_are_not() {
        let mut now = reference().layers;
        now.get_mut("app").unwrap().layer = Some("4567".into());
        assert_eq!(reference().other_packages(&now), None);
        now.get_mut("app").unwrap().packages = vec!["a=2".into(), "b=1".into()];
        assert_eq!(reference().other_packages(&now).unwrap(), "app: a=2 now, app: a=1 then");
        now.get_mut("app").unwrap().python_packages = vec!["c=2".into()];
        assert!(reference().other_packages(&now).unwrap().ends_with("app: c=2 now, and 1 more"));
        let other = BTreeMap::from([("db".to_owned(), reference().layers["app"].clone())]);
        assert_eq!(reference().other_packages(&other).unwrap(), "db: not in the reference");
    }

    #[test]
    fn a_summary_names_what_was_replaced_by_what_identifies_it() {
        let one = ReplacedPackage {
            template: "app".into(),
            package: "c".into(),
            hash: "fedcba9876543210".into(),
            revision: None,
            path: "../c".into(),
        };
        let with = |revision: Option<&str>| {
            let replaced = vec![ReplacedPackage { revision: revision.map(str::to_owned), ..one.clone() }];
            Reference { replaced, ..reference() }.summary()
        };
        let start = "revision 0123456789ab, 1 layers, pinned requirements of 1 templates, app.c from ../c";
        assert_eq!(with(None), format!("{start} (content fedcba987654)"));
        assert_eq!(with(Some("aaaaaaaaaaaabbbb")), format!("{start} (revision aaaaaaaaaaaa)"));
    }
}
