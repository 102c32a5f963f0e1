//! Cleaning of a tree before it is stored: removes files that differ between two builds, belong to this machine, or only take space.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use walkdir::WalkDir;

use crate::image::tree;

/// Paths of files and folders to remove. Host keys and certificates are secrets: each container makes its own.
const REMOVED: [&str; 14] = [
    "/etc/passwd-",
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/var/cache/debconf/config.dat-old",
    "/var/cache/debconf/templates.dat-old",
    "/var/cache/ldconfig/aux-cache",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/status-old",
    "/var/lib/systemd/random-seed",
];

/// Folders whose content is removed.
const EMPTIED: [&str; 5] = ["/var/log", "/var/cache/apt", "/var/lib/apt/lists", "/var/tmp", "/root/.cache"];

/// Folders, each with the prefix of the names in it that are removed.
const REMOVED_BY_PREFIX: [(&str, &str); 1] = [("/etc/ssh", "ssh_host_")];

/// Files that are truncated, because they have content of the host or the build. systemd makes a machine id at each first start.
const TRUNCATED: [&str; 3] = ["/etc/machine-id", "/etc/hostname", "/etc/resolv.conf"];

/// Removes, empties and truncates the listed files and folders in a tree.
pub fn clean(root: &Path) -> anyhow::Result<()> {
    let changed = |path: &Path| format!("cleaning {}", path.display());
    for inside in REMOVED {
        let path = tree::resolve_parent(root, Path::new(inside))?;
        tree::remove(&path).with_context(|| changed(&path))?;
    }
    for inside in EMPTIED {
        let path = tree::resolve(root, Path::new(inside))?;
        empty(&path).with_context(|| changed(&path))?;
    }
    for (inside, prefix) in REMOVED_BY_PREFIX {
        for path in children(&tree::resolve(root, Path::new(inside))?) {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
                tree::remove(&path).with_context(|| changed(&path))?;
            }
        }
    }
    for path in children(&tree::resolve(root, Path::new("/etc/ssl/certs"))?) {
        let leads_nowhere = fs::read_link(&path).is_ok_and(|target| target == Path::new("ssl-cert-snakeoil.pem"));
        if leads_nowhere {
            tree::remove(&path).with_context(|| changed(&path))?;
        }
    }
    for inside in TRUNCATED {
        let path = tree::resolve_parent(root, Path::new(inside))?;
        if path.is_file() && !path.is_symlink() && fs::metadata(&path)?.len() > 0 {
            fs::write(&path, "").with_context(|| changed(&path))?;
        }
    }
    Ok(())
}

fn empty(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in WalkDir::new(folder) {
        let entry = entry?;
        if !entry.file_type().is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_logs_and_what_names_the_machine_go() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in [
            "etc/machine-id",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/sshd_config",
            "etc/ssl/private/ssl-cert-snakeoil.key",
            "var/log/apt/history.log",
            "var/lib/apt/lists/x",
        ] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "1").unwrap();
        }
        std::fs::create_dir_all(root.join("etc/ssl/certs")).unwrap();
        std::os::unix::fs::symlink("ssl-cert-snakeoil.pem", root.join("etc/ssl/certs/00.0")).unwrap();
        clean(root).unwrap();
        let files = WalkDir::new(root).sort_by_file_name().into_iter().filter_map(Result::ok);
        let left: Vec<String> = files
            .filter(|entry| !entry.file_type().is_dir())
            .map(|entry| entry.path().strip_prefix(root).unwrap().display().to_string())
            .collect();
        assert_eq!(left, ["etc/machine-id", "etc/ssh/sshd_config"]);
        assert_eq!(fs::read(root.join("etc/machine-id")).unwrap(), b"");
        assert!(root.join("var/log/apt").is_dir());
    }
}
