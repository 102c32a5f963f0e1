//! Bounds on the cgroup of one of the engine's own processes, which the process sets for itself.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::group::write;
use super::version::controller;
use super::{Gauge, Group, Setting, Version};

/// Bounds on what all processes of a cgroup may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Maximum memory in bytes, page cache and tmpfs files included.
    pub memory_bytes: u64,
    /// Maximum number of processes and threads.
    pub processes: u32,
}

/// Controllers that enforce the bounds.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

impl Bounds {
    /// Applies the bounds to the calling process, which is in the leaf of this cgroup that [`super::Tree::make`] has made, and to all that
    /// it starts from now on. A controller that the host does not delegate is left out: doctor names it.
    ///
    /// # Errors
    /// When a controller that exists refuses a bound.
    pub fn take_on(&self, name: &str) -> anyhow::Result<()> {
        let group = Group::named(name);
        for controller_name in CONTROLLERS {
            let Some((top, version)) = controller(controller_name) else { continue };
            let folder = top.join(name);
            match version {
                Version::V1 => {
                    std::fs::create_dir_all(&folder)
                        .with_context(|| format!("making the cgroup {}", folder.display()))?;
                }
                Version::V2 if hand_out(&top, name, controller_name).is_err() => continue,
                Version::V2 => {}
            }
            match controller_name {
                "memory" => group.write(Setting::Memory, &self.memory_bytes.to_string())?,
                _ => group.write(Setting::Processes, &self.processes.to_string())?,
            }
            if version == Version::V1 {
                // Of version 2, the process is in a group below this one already.
                write(&folder.join("cgroup.procs"), "0")?;
            }
        }
        Ok(())
    }

    /// Describes the bound that the processes of the cgroup have hit; `None` where they have hit none of these bounds.
    #[must_use]
    pub fn met(&self, name: &str) -> Option<String> {
        let group = Group::named(name);
        let has = |gauge| group.gauge(gauge).is_ok_and(|count| count > 0);
        if has(Gauge::OomKills) {
            let bound = self.memory_bytes >> 20;
            return Some(format!(
                "the build used up its memory, {bound} MiB, and the kernel killed one of its programs"
            ));
        }
        has(Gauge::ProcessRefusals)
            .then(|| format!("the build wanted to have more than {} processes at once", self.processes))
    }
}

/// Enables a controller for the cgroup `name`, in each cgroup above it from the top of the hierarchy on.
fn hand_out(top: &Path, name: &str, controller_name: &str) -> anyhow::Result<()> {
    let mut folder = top.to_owned();
    for part in Path::new(name) {
        let control = folder.join("cgroup.subtree_control");
        let has = std::fs::read_to_string(&control).unwrap_or_default();
        if !has.split_whitespace().any(|name| name == controller_name) {
            write(&control, &format!("+{controller_name}"))?;
        }
        folder.push(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_was_never_made_has_met_no_bound() {
        let bounds = Bounds { memory_bytes: 1 << 30, processes: 10 };
        assert_eq!(bounds.met("mancer-e2e-never-made"), None);
    }
}
