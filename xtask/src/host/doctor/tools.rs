//! Presence of the engine's tools: look-ups of files only, no process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::host::container::apparmor::{Mediation, mediation};
use crate::host::exec::shell::which;
use crate::host::tools::packages::{BUSYBOX_PROGRAMS, ITEMS, Item, Supply, Use, Uses, WayToRoot, debian_keyring};

/// Missing tool that the engine cannot do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingTool {
    /// Name in [`ITEMS`].
    pub tool: &'static str,
    /// Command that installs the tool.
    pub help: String,
}

/// Returns the missing tools without which the engine cannot run on this kernel while these features are in use. Takes well under 3 ms:
/// files are looked up, no program runs.
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
/// [`Error::Host`] that names all missing tools and the help.
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

/// Finds a busybox that needs no library, for containers that have no other programs.
#[must_use]
pub fn static_busybox() -> Option<PathBuf> {
    BUSYBOX_PROGRAMS.iter().find_map(|name| static_program(&which(name)?))
}

fn static_program(path: &Path) -> Option<PathBuf> {
    is_static(path).unwrap_or(false).then(|| path.to_owned())
}

/// Paths of the items in [`ITEMS`] on this machine; a missing item is not in the map.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    found: BTreeMap<&'static str, PathBuf>,
}

impl Tools {
    /// Returns the tools that a look-up finds.
    pub fn look_up(find: impl Fn(&Item) -> Option<PathBuf>) -> Self {
        Self { found: ITEMS.iter().filter_map(|item| Some((item.name, find(item)?))).collect() }
    }

    pub fn of_this_machine() -> Self {
        Self::look_up(|item| match item.name {
            "busybox" => static_busybox(),
            "debian-archive-keyring" => debian_keyring(),
            _ => item.program(),
        })
    }

    pub fn find(&self, name: &str) -> Option<&Path> {
        debug_assert_eq!(Item::named(name).name, name);
        self.found.get(name).map(PathBuf::as_path)
    }

    /// Returns those of these items that are missing.
    pub fn missing(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.find(name).is_none()).collect()
    }
}

/// Number of bytes that are read of a program: its program headers are near the start of the file.
const HEAD_BYTES: u64 = 8192;
/// Type of the program header that names the loader (ELF specification, PT_INTERP).
const PT_INTERP: u64 = 3;

/// Tells whether the file is an ELF program that needs no loader or library. A file that is not ELF is not static.
pub fn is_static(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(is_static_image(&head).unwrap_or(false))
}

/// [`is_static`] by the first bytes of a file; `None` where they end too early or are no ELF file.
fn is_static_image(head: &[u8]) -> Option<bool> {
    let ident = head.strip_prefix(b"\x7fELF")?;
    let is_64_bit = *ident.first()? == 2;
    let is_little_endian = *ident.get(1)? == 1;
    let number = |offset: usize, length: usize| {
        let bytes = head.get(offset..offset.checked_add(length)?)?;
        let append = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if is_little_endian { bytes.iter().rev().fold(0, append) } else { bytes.iter().fold(0, append) })
    };
    // Offsets of e_phoff, e_phentsize and e_phnum.
    let (table, entry_size, count) = if is_64_bit {
        (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?)
    } else {
        (number(0x1c, 4)?, number(0x2a, 2)?, number(0x2c, 2)?)
    };
    for index in 0..count {
        let offset = table.checked_add(index.checked_mul(entry_size)?)?;
        if number(usize::try_from(offset).ok()?, 4)? == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
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

    /// Returns a 64-bit little-endian ELF head with program headers of these types.
    fn image(types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[0x20] = 64;
        bytes[0x36] = 56;
        bytes[0x38] = u8::try_from(types.len()).unwrap();
        for kind in types {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_loader_makes_a_program_dynamic() {
        assert_eq!(is_static_image(&image(&[1, 1, 2])), Some(true));
        assert_eq!(is_static_image(&image(&[6, 3, 1])), Some(false));
    }

    #[test]
    fn what_is_no_whole_elf_file_is_not_static() {
        assert_eq!(is_static_image(b"#!/bin/sh\n"), None);
        assert_eq!(is_static_image(b""), None);
        let whole = image(&[1, 1]);
        assert_eq!(is_static_image(&whole[..100]), None);
    }

    #[test]
    fn this_test_itself_is_dynamic_or_static_as_it_was_built() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(is_static(&program).unwrap(), cfg!(target_feature = "crt-static"));
    }
}
