//! Expected files of a release on a machine, computed from the fixtures alone: no code here reads the product's output, and the templates
//! are filled in a second time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Name, permission bits and owner of a file.
type File = (&'static str, &'static str, &'static str);

const SERVICE: &[File] = &[
    ("greeter.json", "640", "root:www-data"),
    ("greeter.py", "755", "root:root"),
    ("greeter.service", "644", "root:root"),
    ("logo.png", "644", "root:root"),
];
const SITE: &[File] = &[("site.conf", "644", "root:root")];

/// Returns the folder of the releases on a machine.
pub fn root(machine: &str) -> &'static str {
    if machine == "app" { "/srv/site" } else { "/srv/greeter" }
}

fn files(machine: &str) -> &'static [File] {
    if machine == "app" { SITE } else { SERVICE }
}

/// Releases of `releases.json`.
#[derive(Debug)]
pub struct Releases {
    fixtures: PathBuf,
    settings: BTreeMap<String, Map<String, Value>>,
}

impl Releases {
    /// Reads the releases from the scenario's `fixtures` folder.
    pub fn read(fixtures: &Path) -> anyhow::Result<Self> {
        let path = fixtures.join("releases.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let settings = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { fixtures: fixtures.to_owned(), settings })
    }

    /// Returns the lines that [`LOOK`] prints on a machine with these releases, in this order, of which `current` is in use.
    pub fn lines(&self, machine: &str, current: u32, releases: &[u32]) -> anyhow::Result<Vec<String>> {
        let mut lines = vec![format!("current -> releases/{current}")];
        for version in releases {
            lines.push(format!("releases/{version} 755 root:root"));
            for (name, mode, owner) in files(machine) {
                let sum = self.sum(machine, *version, name)?;
                lines.push(format!("releases/{version}/{name} {mode} {owner} {sum}"));
            }
        }
        Ok(lines)
    }

    /// Returns the checksum of each file of a release on a machine, by path.
    pub fn sums(&self, machine: &str, version: u32) -> anyhow::Result<BTreeMap<String, String>> {
        let folder = format!("{}/releases/{version}", root(machine));
        let sum = |(name, ..): &File| Ok((format!("{folder}/{name}"), self.sum(machine, version, name)?));
        files(machine).iter().map(sum).collect()
    }

    fn sum(&self, machine: &str, version: u32, name: &str) -> anyhow::Result<String> {
        let digest = Sha256::digest(self.content(machine, version, name)?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn content(&self, machine: &str, version: u32, name: &str) -> anyhow::Result<Vec<u8>> {
        let template = self.fixtures.join(format!("{name}.template"));
        if !template.exists() {
            let path = self.fixtures.join(name);
            return std::fs::read(&path).with_context(|| format!("reading {}", path.display()));
        }
        let mut text = std::fs::read_to_string(&template).with_context(|| format!("reading {}", template.display()))?;
        let settings = self.settings.get(&version.to_string()).with_context(|| format!("no release {version}"))?;
        for (key, value) in settings {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text = text.replace(&format!("{{{{%{key}%}}}}"), &value);
        }
        Ok(text.replace("{{%version%}}", &version.to_string()).replace("{{%host%}}", machine).into_bytes())
    }
}

/// Shell script that prints the content of the folder `$0`: the current release, then every folder and file with mode, owner and
/// checksum.
pub const LOOK: &str = r#"
cd "$0" && echo "current -> $(readlink current)" && find releases -mindepth 1 | LC_ALL=C sort | while read -r path; do
  echo "$path $(stat -c '%a %U:%G' "$path")$(test -d "$path" || { printf ' '; sha256sum < "$path" | cut -c 1-64; })"
done
"#;
