//! Paths inside the root filesystem of a container: links are resolved inside the tree and never lead out of it.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Component, Path, PathBuf};

/// Maximum links in one path; a path with more counts as a loop.
const LINKS_MAX: usize = 40;

/// Resolves a path inside the tree to a path on the host. All links, the last one too, are followed as a program inside the tree would
/// follow them. Parts that do not exist yet are taken as written.
pub fn resolve(root: &Path, inside: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    let mut rest: VecDeque<PathBuf> = parts(inside).collect();
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part.as_os_str() == ".." {
            resolved.pop();
            continue;
        }
        let candidate = root.join(&resolved).join(&part);
        match fs::symlink_metadata(&candidate) {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::other(format!(
                        "too many links in a row at {}: they may form a loop",
                        candidate.display()
                    )));
                }
                let target = fs::read_link(&candidate)?;
                if target.is_absolute() {
                    resolved = PathBuf::new();
                }
                for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Ok(_) => resolved.push(part),
            Err(error) if error.kind() == io::ErrorKind::NotFound => resolved.push(part),
            Err(error) => return Err(error),
        }
    }
    Ok(root.join(resolved))
}

/// Resolves a path like [`resolve`], but does not follow a link in its last part: for replacing or removing that link.
pub fn resolve_parent(root: &Path, inside: &Path) -> io::Result<PathBuf> {
    let parent = resolve(root, inside.parent().unwrap_or(Path::new("/")))?;
    Ok(inside.file_name().map_or(parent.clone(), |name| parent.join(name)))
}

/// Makes a folder and its missing parents in a tree, each with mode 0755 and owned by the host's user `owner`.
pub fn make_dirs(root: &Path, folder: &Path, owner: u32) -> io::Result<()> {
    if folder == root || folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_dirs(root, parent, owner)?;
    }
    fs::DirBuilder::new().mode(0o755).create(folder)?;
    fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    chown(folder, Some(owner), Some(owner))
}

/// Removes a file, link or folder with its content, if it exists.
pub fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn parts(path: &Path) -> impl Iterator<Item = PathBuf> {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(PathBuf::from(part)),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        for (target, link) in [("usr/bin", "bin"), ("/etc", "abs"), ("../../../..", "up"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let check = |inside: &str, expected: &str| {
            assert_eq!(resolve(root, Path::new(inside)).unwrap(), root.join(expected), "{inside}");
        };
        check("/bin/sh", "usr/bin/sh");
        check("/abs/passwd", "etc/passwd");
        check("/up/x", "x");
        check("/../../x", "x");
        check("/new/deep", "new/deep");
        assert!(resolve(root, Path::new("/loop/x")).unwrap_err().to_string().contains("loop"));
        assert_eq!(resolve_parent(root, Path::new("/bin")).unwrap(), root.join("bin"));
    }
}
