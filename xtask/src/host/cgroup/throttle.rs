//! How fast a group reads from a block device and writes to it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::tree::{Tree, groups};
use super::{Version, hierarchies, v1, v2, version};

impl Tree {
    /// Bounds how fast the group and all below it read from a device, and write to it past the page cache.
    ///
    /// # Errors
    /// When the group is not there, or the kernel has no such bound.
    pub fn slow_device(&self, device: (u64, u64), bytes_per_second: u64) -> anyhow::Result<()> {
        let lines = |version| match version {
            Version::V1 => v1::throttle_lines(device, bytes_per_second),
            Version::V2 => v2::throttle_lines(device, bytes_per_second),
        };
        if self.write_throttles(lines)? == 0 {
            bail!("no group of {:?} has a bound for block devices", self.folders());
        }
        Ok(())
    }

    /// Takes the bound away again. A group or a device that is gone has none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn free_device(&self, device: (u64, u64)) -> anyhow::Result<()> {
        self.write_throttles(|version| match version {
            Version::V1 => v1::throttle_lines(device, 0),
            Version::V2 => v2::free_lines(device),
        })?;
        Ok(())
    }

    /// Writes these lines wherever they can be written; the answer is how many groups have them.
    fn write_throttles(&self, lines: impl Fn(Version) -> Vec<(&'static str, String)>) -> anyhow::Result<usize> {
        let mut written = 0;
        for folder in self.folders() {
            // Version 1 does not hand a bound down.
            let of_v1 = groups(&folder).into_iter().filter(|group| group.join(v1::THROTTLE).exists());
            let of_v2 = std::iter::once(folder.clone()).filter(|group| group.join(v2::THROTTLE).exists());
            let all = of_v1.map(|group| (group, Version::V1)).chain(of_v2.map(|group| (group, Version::V2)));
            for (group, version) in all {
                for (file, line) in lines(version) {
                    write_once(&group.join(file), &line)?;
                }
                written += 1;
            }
        }
        Ok(written)
    }
}

/// What keeps this machine from bounding how fast a group uses a block device; `None` when nothing does.
#[must_use]
pub fn throttle_problem() -> Option<String> {
    let tops = hierarchies();
    match version() {
        Version::V1 if tops.iter().any(|top| top.join(v1::THROTTLE).exists()) => None,
        Version::V1 => Some(format!("no hierarchy of control groups has {}", v1::THROTTLE)),
        Version::V2 if tops.iter().any(|top| has_io(top)) => None,
        Version::V2 => Some("the control groups have no controller io".into()),
    }
}

fn has_io(top: &Path) -> bool {
    let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "io")
}

/// The kernel takes a line as a whole: in one write, whose error counts.
fn write_once(path: &PathBuf, line: &str) -> anyhow::Result<()> {
    let context = || format!("writing {line:?} to {}", path.display());
    let mut file = std::fs::File::options().write(true).open(path).with_context(context)?;
    file.write_all(line.as_bytes()).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_in_both_versions() {
        let text = |lines: Vec<(&str, String)>| {
            lines.iter().map(|(file, line)| format!("{file}={line}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            text(v1::throttle_lines((7, 3), 1_000_000)),
            "blkio.throttle.read_bps_device=7:3 1000000 blkio.throttle.write_bps_device=7:3 1000000"
        );
        assert_eq!(text(v2::throttle_lines((7, 3), 1_000_000)), "io.max=7:3 rbps=1000000 wbps=1000000");
        assert_eq!(text(v2::free_lines((7, 3))), "io.max=7:3 rbps=max wbps=max");
    }

    #[test]
    fn a_group_that_was_never_made_has_no_bound() {
        let tree = Tree::named("mancer-e2e-never-made");
        assert!(tree.slow_device((7, 0), 1000).is_err());
        tree.free_device((7, 0)).unwrap();
    }
}
