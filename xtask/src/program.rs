//! Name of this program, as its users type it: `cargo xtask` in its own checkout, else the name of its file, such as `mancer-e2e`. Source
//! code writes `cargo xtask`, and [`named`] substitutes the actual name.
//!
//! The substitution takes place when a [`crate::error::Error`] is shown, in every finding of doctor, and in the whole help. Any other text
//! that names a command calls [`name`] or [`named`] when it is made, so that reports and records name the program that wrote them.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Name of the program in its own checkout, and if [`called`] was not called, as in tests.
const IN_CHECKOUT: &str = "cargo xtask";

/// Name of the file that Cargo builds.
const BUILT: &str = "xtask";

static NAME: OnceLock<String> = OnceLock::new();

/// Sets the program's name from `by`, the first word of the command line that started this process. Only the first call has an effect.
pub fn called(by: Option<&OsStr>) {
    let file = std::env::current_exe().ok();
    NAME.get_or_init(|| name_of(by, file.as_deref()));
}

/// Returns the name by which people start this program.
#[must_use]
pub fn name() -> &'static str {
    NAME.get().map_or(IN_CHECKOUT, String::as_str)
}

/// Replaces `cargo xtask` in a text by the name of this program.
#[must_use]
pub fn named(text: &str) -> String {
    text.replace(IN_CHECKOUT, name())
}

/// Returns the path by which to start this program as another user: the path by which it was called, if that leads to this program, because
/// the name of a symbolic link matters; else the path of the program's file.
pub fn file() -> std::io::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let called = std::env::args_os().next().and_then(|by| found(&by, std::env::var_os("PATH").as_deref()));
    Ok(called.filter(|path| path.canonicalize().is_ok_and(|path| path == this)).unwrap_or(this))
}

/// Returns the path to which the first word of a command line leads; a word without a slash is looked up in `PATH`.
fn found(by: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if by.as_encoded_bytes().contains(&b'/') {
        return std::path::absolute(by).ok();
    }
    std::env::split_paths(path?).map(|folder| folder.join(by)).find(|candidate| candidate.is_file())
}

fn name_of(by: Option<&OsStr>, file: Option<&Path>) -> String {
    let own = |path: &Path| path.file_name().map(OsStr::to_os_string);
    // The engine's helpers are started by the kernel's name for it, which says nothing.
    let by = by.map(Path::new).filter(|by| !by.starts_with("/proc"));
    let name = by.and_then(own).or_else(|| file.and_then(own)).unwrap_or_else(|| OsString::from(BUILT));
    let name = name.to_string_lossy();
    // Of a file that was built anew meanwhile, and of one behind a wrapper of Nix.
    let name = name.trim_end_matches(" (deleted)");
    let name = name.strip_prefix('.').and_then(|name| name.strip_suffix("-wrapped")).unwrap_or(name);
    if name == BUILT { IN_CHECKOUT.to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_called_by_its_file() {
        let check = |by: Option<&str>, file: &str, expected: &str| {
            assert_eq!(name_of(by.map(OsStr::new), Some(Path::new(file))), expected, "{by:?} {file}");
        };
        check(Some("target/debug/xtask"), "/p/target/debug/xtask", "cargo xtask");
        check(Some("mancer-e2e"), "/usr/bin/mancer-e2e", "mancer-e2e");
        check(Some("/opt/link/mancer-e2e"), "/p/target/debug/xtask", "mancer-e2e");
        check(Some("/nix/store/x/bin/.mancer-e2e-wrapped"), "/nix/store/x/bin/.mancer-e2e-wrapped", "mancer-e2e");
        check(Some("/proc/self/exe"), "/usr/bin/mancer-e2e", "mancer-e2e");
        check(Some("/proc/self/exe"), "/p/target/debug/xtask (deleted)", "cargo xtask");
        check(None, "/usr/bin/mancer-e2e", "mancer-e2e");
        assert_eq!(name_of(None, None), "cargo xtask");
    }

    #[test]
    fn in_tests_texts_stay_as_they_are() {
        assert_eq!(named("`cargo xtask setup` installs it"), "`cargo xtask setup` installs it");
    }

    #[test]
    fn what_was_called_is_found_as_a_shell_does() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mancer-e2e");
        std::fs::write(&file, "").unwrap();
        assert_eq!(found(OsStr::new("mancer-e2e"), Some(folder.path().as_os_str())), Some(file.clone()));
        assert_eq!(found(file.as_os_str(), None), Some(file));
        assert_eq!(found(OsStr::new("mancer-e2e"), None), None);
    }
}
