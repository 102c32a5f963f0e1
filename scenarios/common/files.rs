//! Copies a scenario's fixtures to machines.

use anyhow::Context as _;
use e2e::{Container, Lab, Result};

/// Copies every file of the scenario's `fixtures/` into this folder of a container.
pub fn install(lab: &Lab, container: &Container, folder: &str) -> Result {
    let fixtures = lab.fixture("");
    for entry in fixtures.read_dir().with_context(|| format!("reading {}", fixtures.display()))? {
        let path = entry?.path();
        if path.is_file() {
            container.put(&path, format!("{folder}/{}", path.file_name().unwrap_or_default().to_string_lossy()))?;
        }
    }
    Ok(())
}
