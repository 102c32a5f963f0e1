//! Presence of the engine's tools: look-ups of files only, no process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::elf;
use crate::error::Error;
use crate::host::apparmor::{Mediation, mediation};
use crate::host::packages::{BUSYBOX_PROGRAMS, ITEMS, Item, Supply, Use, Uses, WayToRoot, debian_keyring};
use crate::host::shell::which;

/// A tool that the engine cannot do without and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTool {
    /// Name in [`ITEMS`].
    pub tool: &'static str,
    /// The command that installs it.
    pub help: String,
}

/// Tools without which nothing runs on this kernel while these features are in use, and that are not there. Takes well under 3 ms: files are
/// looked up, nothing is run.
#[must_use]
pub fn required_tools_missing(uses: &Uses) -> Vec<MissingTool> {
    let kernel = (mediation() == Mediation::Profiles).then_some(Use::AppArmor);
    let uses = uses.iter().copied().chain(kernel).collect();
    let tools = Tools::of_this_machine();
    let missing = ITEMS.iter().filter(|item| item.need.is_required(&uses) && tools.find(item.name).is_none());
    let missing: Vec<_> = missing.map(|item| item.name).collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let (supply, way_to_root) = (Supply::of_this_machine(), WayToRoot::of_this_process());
    missing.into_iter().map(|tool| MissingTool { tool, help: supply.help(&[tool], way_to_root) }).collect()
}

/// Stops a run that would fail later for want of a tool.
///
/// # Errors
/// [`Error::Host`] that names all that is missing and the help.
pub fn require_tools(uses: &Uses) -> Result<(), Error> {
    let missing = required_tools_missing(uses);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|missing| missing.tool).collect();
    Err(Error::Host {
        problem: format!("this machine lacks {}", names.join(", ")),
        help: "`cargo xtask setup` installs what is missing; `cargo xtask doctor` says more".to_owned(),
    })
}

/// A busybox that runs without any library, for containers that have nothing else.
#[must_use]
pub fn static_busybox() -> Option<PathBuf> {
    BUSYBOX_PROGRAMS.iter().find_map(|name| static_program(&which(name)?))
}

fn static_program(path: &Path) -> Option<PathBuf> {
    elf::is_static(path).unwrap_or(false).then(|| path.to_owned())
}

/// Paths of the table's items; a missing item is not in the map.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    found: BTreeMap<&'static str, PathBuf>,
}

impl Tools {
    /// Returns the tools that a look-up finds.
    pub fn look_up(find: impl Fn(&Item) -> Option<PathBuf>) -> Self {
        Self { found: ITEMS.iter().filter_map(|item| Some((item.name, find(item)?))).collect() }
    }

    /// Returns the tools of this machine.
    pub fn of_this_machine() -> Self {
        Self::look_up(|item| match item.name {
            "busybox" => static_busybox(),
            "debian-archive-keyring" => debian_keyring(),
            _ => item.program(),
        })
    }

    /// Returns the path of an item.
    pub fn find(&self, name: &str) -> Option<&Path> {
        debug_assert_eq!(Item::named(name).name, name);
        self.found.get(name).map(PathBuf::as_path)
    }

    /// Returns the missing ones of these items.
    pub fn missing(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.find(name).is_none()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn looking_for_the_required_tools_is_quick() {
        let uses = Use::OF_TEMPLATES.into();
        let quickest = (0..5).map(|_| {
            let started = Instant::now();
            let _ = required_tools_missing(&uses);
            started.elapsed()
        });
        let quickest = quickest.min().unwrap();
        assert!(quickest < Duration::from_millis(3), "{quickest:?}");
    }

    #[test]
    fn a_busybox_with_a_loader_does_not_count() {
        let dynamic = std::env::current_exe().unwrap();
        assert_eq!(static_program(&dynamic).is_some(), cfg!(target_feature = "crt-static"));
        assert_eq!(static_program(Path::new("/nonexistent")), None);
    }
}
