//! Limits on the rate at which a cgroup reads and writes a block device.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::group::{is_gone, read, write};
use super::tree::{Tree, groups};
use super::{Version, hierarchies, v1, v2, version};

impl Tree {
    /// Limits the rate at which the tree's processes read from a device, and write to it past the page cache; reads the limit back.
    ///
    /// # Errors
    /// Also when the kernel has no such limit, or does not keep it.
    pub fn slow_device(&self, device: (u64, u64), bytes_per_second: u64) -> anyhow::Result<()> {
        if self.throttle(device, Some(bytes_per_second))? == 0 {
            bail!("none of the cgroups {:?} can have a limit for block devices", self.folders());
        }
        Ok(())
    }

    /// Removes the limit for a device, and reads back that there is none; does nothing for a cgroup or a device that is gone.
    pub fn free_device(&self, device: (u64, u64)) -> anyhow::Result<()> {
        self.throttle(device, None)?;
        Ok(())
    }

    /// Tells whether each of the tree's cgroups that can have a limit for a device has one; false if there is no such cgroup.
    pub fn slows_device(&self, device: (u64, u64)) -> anyhow::Result<bool> {
        let mut bounds = Vec::new();
        for folder in self.folders() {
            for group in groups(&folder).into_iter().map(|group| group.join(v1::THROTTLE)).filter(|file| file.exists())
            {
                bounds.extend(v1::throttles(&read(&group)?, device));
            }
            let of_v2 = folder.join(v2::THROTTLE);
            if of_v2.exists() {
                bounds.extend(v2::throttles(&read(&of_v2)?, device));
            }
        }
        Ok(!bounds.is_empty() && bounds.iter().all(Option::is_some))
    }

    /// Returns the limit for a device on the tree's processes, in bytes per second; `None` where there is none.
    #[must_use]
    pub fn device_bound(&self, device: (u64, u64)) -> Option<u64> {
        let bound = |group: PathBuf| {
            let of = |file: &str, parse: fn(&str, (u64, u64)) -> Vec<Option<u64>>| {
                parse(&read(&group.join(file)).unwrap_or_default(), device).into_iter().flatten().next()
            };
            of(v1::THROTTLE, v1::throttles).or_else(|| of(v2::THROTTLE, v2::throttles))
        };
        self.folders().iter().flat_map(|folder| groups(folder)).find_map(bound)
    }

    /// Sets the limit in each cgroup that can have one, or removes it (`None`); returns the number of these cgroups.
    fn throttle(&self, device: (u64, u64), bytes_per_second: Option<u64>) -> anyhow::Result<usize> {
        let mut written = 0;
        for folder in self.folders() {
            // Version 1 does not hand a bound down.
            let of_v1 = groups(&folder).into_iter().filter(|group| group.join(v1::THROTTLE).exists());
            let of_v2 = std::iter::once(folder.clone()).filter(|group| group.join(v2::THROTTLE).exists());
            let all = of_v1.map(|group| (group, Version::V1)).chain(of_v2.map(|group| (group, Version::V2)));
            for (group, version) in all {
                throttle_group(&group, version, device, bytes_per_second)?;
                written += 1;
            }
        }
        Ok(written)
    }
}

fn throttle_group(
    group: &Path,
    version: Version,
    device: (u64, u64),
    bytes_per_second: Option<u64>,
) -> anyhow::Result<()> {
    let lines = match version {
        Version::V1 => v1::throttle_lines(device, bytes_per_second),
        Version::V2 => v2::throttle_lines(device, bytes_per_second),
    };
    for (file, line) in lines {
        let path = group.join(file);
        match write(&path, &line) {
            Err(error) if bytes_per_second.is_none() && is_gone(&error) => continue,
            other => other?,
        }
        let text = read(&path)?;
        let now = match version {
            Version::V1 => v1::throttles(&text, device),
            Version::V2 => v2::throttles(&text, device),
        };
        let is_kept = now.iter().all(|bound| *bound == bytes_per_second);
        anyhow::ensure!(
            is_kept,
            "the kernel did not keep a limit: {} has {now:?} after {line:?} was written to it",
            path.display()
        );
    }
    Ok(())
}

/// Reason why this machine cannot limit a cgroup's use of a block device; `None` where it can.
#[must_use]
pub fn throttle_problem() -> Option<String> {
    let tops = hierarchies();
    match version() {
        Version::V1 if tops.iter().any(|top| top.join(v1::THROTTLE).exists()) => None,
        Version::V1 => Some(format!("no cgroup hierarchy of this host has {}", v1::THROTTLE)),
        Version::V2 if tops.iter().any(|top| has_io(top)) => None,
        Version::V2 => Some("the cgroups of this host have no controller io".into()),
    }
}

fn has_io(top: &Path) -> bool {
    let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|controller| controller == "io")
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
            text(v1::throttle_lines((7, 3), Some(1_000_000))),
            "blkio.throttle.read_bps_device=7:3 1000000 blkio.throttle.write_bps_device=7:3 1000000"
        );
        assert_eq!(text(v2::throttle_lines((7, 3), Some(1_000_000))), "io.max=7:3 rbps=1000000 wbps=1000000");
        assert_eq!(text(v2::throttle_lines((7, 3), None)), "io.max=7:3 rbps=max wbps=max");
    }

    #[test]
    fn bounds_are_read_back_in_both_versions() {
        assert_eq!(v1::throttles("7:1 5\n7:3 1000000\n", (7, 3)), [Some(1_000_000)]);
        for text in ["", "7:31 1000\n", "7:3 0\n"] {
            assert_eq!(v1::throttles(text, (7, 3)), [None], "{text}");
        }
        let both = "7:1 rbps=5 wbps=5 riops=max wiops=max\n7:3 rbps=1000000 wbps=max riops=max wiops=max\n";
        assert_eq!(v2::throttles(both, (7, 3)), [Some(1_000_000), None]);
        assert_eq!(v2::throttles("", (7, 3)), [None, None]);
    }

    #[test]
    fn a_group_that_was_never_made_has_no_bound() {
        let tree = Tree::named("mancer-e2e-never-made");
        assert!(tree.slow_device((7, 0), 1000).is_err());
        assert!(!tree.slows_device((7, 0)).unwrap());
        assert_eq!(tree.device_bound((7, 0)), None);
        tree.free_device((7, 0)).unwrap();
    }
}
