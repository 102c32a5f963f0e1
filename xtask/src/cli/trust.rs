//! Trust in the project that is found from the working folder upwards: the project's author decides what the engine runs as root.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{geteuid, getuid};

use crate::error::Error;
use crate::host::invoker::user_name;

/// Environment variable that lists folders whose projects are trusted, whoever owns them.
pub const TRUST_VARIABLE: &str = "E2E_TRUST";

/// Folders whose projects are trusted, as `E2E_TRUST` lists them.
#[derive(Debug, PartialEq, Eq)]
enum Trust {
    /// The listed folders and all folders below them.
    Below(Vec<PathBuf>),
    /// Every folder of this host.
    Everything,
}

impl Trust {
    fn read(variable: Option<&OsStr>) -> Result<Self, Error> {
        let Some(value) = variable.filter(|value| !value.is_empty()) else { return Ok(Self::Below(Vec::new())) };
        if value == "*" {
            return Ok(Self::Everything);
        }
        let folders: Vec<PathBuf> = std::env::split_paths(value).filter(|path| !path.as_os_str().is_empty()).collect();
        if let Some(bad) = folders.iter().find(|folder| !folder.is_absolute()) {
            let problem = format!(
                "the environment variable {TRUST_VARIABLE}: {:?} is not an absolute path; write folders with ':' between them, or `*` for all",
                bad.display().to_string()
            );
            return Err(Error::Usage(problem));
        }
        Ok(Self::Below(folders))
    }

    /// Tells whether a folder is listed or lies below a listed one, with symbolic links resolved.
    fn has(&self, folder: &Path) -> bool {
        match self {
            Self::Everything => true,
            Self::Below(trusted) => {
                let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
                trusted.iter().any(|trusted| real(folder).starts_with(real(trusted)))
            }
        }
    }
}

/// Checks that the project in a folder may be trusted: it belongs to the user or root and not every user may change it, or `E2E_TRUST` or
/// the user names the folder. A folder without a project passes.
///
/// # Errors
/// [`Error::Usage`] with the file, its owner, and what to do.
pub fn require(folder: &Path, is_named: bool, variable: Option<&OsStr>) -> Result<(), Error> {
    let trust = Trust::read(variable)?;
    if is_named {
        return Ok(());
    }
    let sudo = std::env::var("SUDO_UID").ok().filter(|_| geteuid().is_root()).and_then(|uid| uid.parse::<u32>().ok());
    let mut users = vec![0, geteuid().as_raw(), getuid().as_raw()];
    users.extend(sudo);
    match problem(folder, &users).filter(|_| !trust.has(folder)) {
        Some(problem) => Err(Error::Usage(format!("{problem}; {}", help(folder)))),
        None => Ok(()),
    }
}

/// Returns the reason not to trust a project: its file or folder belongs to none of `users`, or every user may change it.
fn problem(folder: &Path, users: &[u32]) -> Option<String> {
    let file = folder.join("e2e.toml");
    file.symlink_metadata().ok()?;
    // The link and what it leads to: whoever owns either decides what is read.
    for (path, found) in [(&*file, file.symlink_metadata()), (&file, file.metadata()), (folder, folder.metadata())] {
        let Ok(found) = found else { continue };
        let path = path.display();
        if !users.contains(&found.uid()) {
            let owner = user_name(found.uid());
            return Some(format!(
                "{path} belongs to {owner}, and the engine would execute it with your rights and root's"
            ));
        }
        if is_open(&found) {
            return Some(format!(
                "{path} may be changed by every user of this machine (mode {:o})",
                found.mode() & 0o7777
            ));
        }
    }
    None
}

/// Tells whether every user may write to a file or folder. A folder's sticky bit is ignored, because it does not prevent other users from
/// adding files.
fn is_open(found: &Metadata) -> bool {
    !found.is_symlink() && found.mode() & 0o002 != 0
}

fn help(folder: &Path) -> String {
    format!(
        "where you trust it, say so with {TRUST_VARIABLE}={} (folders with ':' between them, or `*`), or name it with --root; else go to \
         another folder",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Creates a project whose folder and file belong to the user of the test.
    fn project() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("e2e.toml"), "name = 'x'").unwrap();
        folder
    }

    #[test]
    fn a_project_is_its_owners_and_roots() {
        let folder = project();
        let owner = folder.path().metadata().unwrap().uid();
        assert_eq!(problem(folder.path(), &[0, owner]), None);
        let foreign = problem(folder.path(), &[owner + 1]).unwrap();
        assert!(foreign.contains("e2e.toml belongs to "), "{foreign}");
        assert_eq!(problem(Path::new("/nonexistent"), &[0]), None);
    }

    #[test]
    fn what_anybody_may_change_is_nobodys() {
        let owner = tempfile::tempdir().unwrap().path().metadata().unwrap().uid();
        for (name, mode, fits) in [
            ("", 0o777, false),
            ("", 0o1777, false),
            ("", 0o775, true),
            ("e2e.toml", 0o666, false),
            ("e2e.toml", 0o664, true),
        ] {
            let folder = project();
            fs::set_permissions(folder.path().join(name), Permissions::from_mode(mode)).unwrap();
            assert_eq!(problem(folder.path(), &[owner]).is_none(), fits, "{name:?} {mode:o}");
        }
        let (folder, other) = (tempfile::tempdir().unwrap(), project());
        symlink(other.path().join("e2e.toml"), folder.path().join("e2e.toml")).unwrap();
        assert_eq!(problem(folder.path(), &[owner]), None);
        fs::set_permissions(other.path().join("e2e.toml"), Permissions::from_mode(0o666)).unwrap();
        assert!(problem(folder.path(), &[owner]).is_some(), "what a link leads to counts");
    }

    #[test]
    fn folders_are_trusted_with_all_below_them() {
        let top = tempfile::tempdir().unwrap();
        let below = top.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        symlink(&below, top.path().join("link")).unwrap();
        let trusts = |value: &str, folder: &Path| Trust::read(Some(OsStr::new(value))).unwrap().has(folder);
        let shown = |path: &str| top.path().join(path).display().to_string();
        assert!(trusts(&shown("a"), &below) && trusts(&format!("/nonexistent:{}", shown("a/b")), &below));
        assert!(trusts("*", &below) && trusts(&shown("a"), &top.path().join("link")));
        assert!(
            !trusts(&shown("a/b"), &top.path().join("a")) && !trusts(&shown("a/bb"), &below) && !trusts("", &below)
        );
        assert!(
            Trust::read(Some(OsStr::new("a:/b"))).unwrap_err().to_string().contains("\"a\" is not an absolute path")
        );
    }

    #[test]
    fn a_project_of_somebody_else_is_refused_until_it_is_trusted() {
        let folder = project();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let error = require(folder.path(), false, None).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Usage(_)) && text.contains("mode 777") && text.contains("E2E_TRUST="), "{text}");
        require(folder.path(), false, Some(folder.path().as_os_str())).unwrap();
        require(folder.path(), false, Some(OsStr::new("*"))).unwrap();
        require(folder.path(), true, None).unwrap();
        assert!(require(folder.path(), true, Some(OsStr::new("a"))).is_err(), "a bad value is told anyway");
    }
}
