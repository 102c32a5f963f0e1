//! Bounds of a group of the engine's own, which the calling process takes on.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::group::write;
use super::version::controller;
use super::{Gauge, Group, Setting, Version};

/// Bounds of what all processes of a group may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Bytes of memory, with the files that lie in memory.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
}

/// Controllers that hold the bounds.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

impl Bounds {
    /// Bounds the calling process, which is in the leaf of this group that [`super::Tree::make`] has made, and all that it starts from now
    /// on. Where the host hands out none of these controllers there is no bound: doctor names what is missing.
    ///
    /// # Errors
    /// When a bound is refused by a controller that is there.
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

    /// Returns a text about the bound that a group has met; `None` where it has met none of these bounds.
    #[must_use]
    pub fn met(&self, name: &str) -> Option<String> {
        let group = Group::named(name);
        let has = |gauge| group.gauge(gauge).is_ok_and(|count| count > 0);
        if has(Gauge::OomKills) {
            let bound = self.memory_bytes >> 20;
            return Some(format!("it used up its memory, {bound} MiB, and the kernel killed a program of it"));
        }
        has(Gauge::ProcessRefusals).then(|| format!("it wanted to have more than {} processes at once", self.processes))
    }
}

/// Has each group from the top of the hierarchy to this one hand a controller out to those below it.
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
