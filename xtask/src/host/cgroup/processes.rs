//! Bounds on the number of processes, from this process's own group up to the top of its hierarchy.

use std::path::{Path, PathBuf};

use super::version::controller;

/// Processes and threads of a group that may have no more than so many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessBound {
    /// Folder of the group.
    pub group: PathBuf,
    /// True if it is the top of the hierarchy as it is mounted here: all labs lie below it.
    pub is_top: bool,
    /// Processes and threads that it has.
    pub now: u64,
    /// Most that it may have.
    pub most: u64,
}

/// Returns the bounds that hold for this process, its own group's first; nothing where the kernel has no such controller.
#[must_use]
pub fn process_bounds() -> Vec<ProcessBound> {
    let Some((top, _)) = controller("pids") else { return Vec::new() };
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = top.join(group_in(&own).trim_start_matches('/'));
    groups.ancestors().take_while(|group| group.starts_with(&top)).filter_map(|group| bound(group, &top)).collect()
}

/// The path of the group in the hierarchy of the controller for processes, version 1 or 2.
fn group_in(own: &str) -> &str {
    let named = |wanted: &str| {
        own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|one| one == wanted).then_some(path)
        })
    };
    named("pids").or_else(|| named("")).unwrap_or_default()
}

fn bound(group: &Path, top: &Path) -> Option<ProcessBound> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse().ok();
    let (most, now) = (number("pids.max")?, number("pids.current")?);
    Some(ProcessBound { group: group.to_owned(), is_top: group == top, now, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_in_either_version() {
        assert_eq!(group_in("9:name=systemd:/x\n8:pids:/user.slice/a\n0::/y\n"), "/user.slice/a");
        assert_eq!(group_in("5:cpu,pids:/b\n"), "/b");
        assert_eq!(group_in("0::/user.slice/user-0.slice\n"), "/user.slice/user-0.slice");
        assert_eq!(group_in(""), "");
    }

    #[test]
    fn only_groups_with_a_bound_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("pids.max", "max\n");
        write("pids.current", "5\n");
        assert_eq!(bound(folder.path(), folder.path()), None);
        write("pids.max", "30\n");
        let found = bound(folder.path(), Path::new("/elsewhere")).unwrap();
        assert_eq!((found.now, found.most, found.is_top), (5, 30, false));
    }
}
