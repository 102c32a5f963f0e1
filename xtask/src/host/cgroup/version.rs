//! Cgroup version of this machine, and mount points of its hierarchies.

use std::path::PathBuf;

/// Cgroup version that has the controllers for memory and CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller; a version 2 tree without controllers may be mounted beside them (hybrid).
    V1,
    /// Single hierarchy for all controllers.
    V2,
}

/// Returns the mount points of the hierarchies, each once, in the order of the mounts.
#[must_use]
pub fn hierarchies() -> Vec<PathBuf> {
    parse_mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
        .into_iter()
        .map(|(path, _)| path)
        .collect()
}

#[must_use]
pub fn version() -> Version {
    let mounts = parse_mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    if mounts.iter().any(|(_, version)| *version == Version::V1) { Version::V1 } else { Version::V2 }
}

/// Returns the common name of this machine's layout: `v1`, `v2`, or `hybrid` where controllers of version 1 are mounted beside a tree of
/// version 2.
#[must_use]
pub fn layout() -> &'static str {
    layout_in(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn layout_in(mountinfo: &str) -> &'static str {
    let mounts = parse_mounts(mountinfo);
    let has = |wanted: Version| mounts.iter().any(|(_, version)| *version == wanted);
    match (has(Version::V1), has(Version::V2)) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, _) => "v2",
    }
}

/// Returns the mount point of the version 2 tree, with controllers or without.
pub(super) fn unified() -> Option<PathBuf> {
    let mounts = parse_mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    mounts.into_iter().find(|(_, version)| *version == Version::V2).map(|(path, _)| path)
}

/// Returns the mount point and the version of a controller's hierarchy; `None` where the kernel lacks the controller.
pub(super) fn controller(name: &str) -> Option<(PathBuf, Version)> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let listed = |path: &PathBuf| std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    controller_in(&mountinfo, name, &|path| listed(path).split_whitespace().any(|listed| listed == name))
}

/// Finds a controller's hierarchy in `/proc/self/mountinfo`; `has` tells whether a hierarchy of version 2 has the controller.
fn controller_in(mountinfo: &str, name: &str, has: &dyn Fn(&PathBuf) -> bool) -> Option<(PathBuf, Version)> {
    let of_version_1 = mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - cgroup ")?;
        let options = source.split(' ').nth(1)?;
        let path = mount.split(' ').nth(4)?;
        options.split(',').any(|option| option == name).then(|| (PathBuf::from(path), Version::V1))
    });
    let of_version_2 = || parse_mounts(mountinfo).into_iter().find(|(path, kind)| *kind == Version::V2 && has(path));
    of_version_1.or_else(of_version_2)
}

fn parse_mounts(mountinfo: &str) -> Vec<(PathBuf, Version)> {
    let mut found: Vec<(PathBuf, Version)> = Vec::new();
    for line in mountinfo.lines() {
        let mut fields = line.split(' ');
        let (Some(path), Some(kind)) = (fields.nth(4), fields.skip_while(|field| *field != "-").nth(1)) else {
            continue;
        };
        let version = match kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => continue,
        };
        if !found.iter().any(|(known, _)| known.as_os_str() == path) {
            found.push((path.into(), version));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_both_versions_are_found() {
        let hybrid = "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      31 30 0:27 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = parse_mounts(hybrid);
        assert_eq!(
            found,
            [("/sys/fs/cgroup/memory".into(), Version::V1), ("/sys/fs/cgroup/unified".into(), Version::V2)]
        );
        assert_eq!(parse_mounts("30 25 0:26 / / rw - ext4 /dev/x rw\nshort"), []);
        assert_eq!(layout_in(hybrid), "hybrid");
        let line = |number: usize| hybrid.lines().nth(number).unwrap();
        assert_eq!((layout_in(line(1)), layout_in(line(2))), ("v1", "v2"));
    }

    #[test]
    fn each_controller_is_looked_for_where_it_is() {
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = |name: &str, has: bool| controller_in(hybrid, name, &|_| has);
        assert_eq!(found("cpuacct", true), Some(("/sys/fs/cgroup/cpu,cpuacct".into(), Version::V1)));
        assert_eq!(found("memory", true), Some(("/sys/fs/cgroup/unified".into(), Version::V2)));
        assert_eq!(found("memory", false), None);
    }
}
