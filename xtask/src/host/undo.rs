//! Steps that take back what was made on the host, as data: written to a ledger before the thing is made, executed by whichever process
//! cleans up. Executing one twice, or for a thing that was never made, does no harm.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::host::cgroup::{Group, Setting, Tree};
use crate::host::disk::marked;
use crate::host::disk::mount;
use crate::host::network::iptables;
use crate::host::network::netns::NetworkPlace;
use crate::host::network::nft::Table;
use crate::host::network::tc;
use crate::host::patience::Deadline;

/// Deadline for the processes of a cgroup to die.
const KILL_DEADLINE: Deadline = Deadline::from_secs(10);

/// Folders below which trees may be removed: a damaged ledger must not lead anywhere else.
const REMOVABLE_BELOW: [&str; 4] = [RUN_PATH, "/var/lib/lxc", "/var/lib/mancer-e2e", "/var/log/lxc"];

/// Folder of the slots' own folders, on tmpfs.
pub(super) const RUN_PATH: &str = "/run/mancer-e2e";

/// Prefix of the names of the engine's own cgroups.
pub(super) const GROUP_PREFIX: &str = "mancer-e2e-";

/// Undo step: one operation that takes back a change of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// Kill the processes of this cgroup tree, frozen ones too, and remove its folders in all hierarchies.
    KillCgroup {
        /// Name of the tree, relative to the top of a hierarchy.
        name: String,
    },
    /// Let the frozen processes of this cgroup tree run again.
    Thaw {
        /// Name of the tree, relative to the top of a hierarchy.
        name: String,
    },
    /// Detach this mount, if it is one in the mount namespace of the executing process.
    Unmount {
        /// Mount point.
        path: PathBuf,
    },
    /// Set the maximum number of files of this tmpfs back, if it is mounted in the mount namespace of the executing process.
    SetInodes {
        /// Mount point, below one of the engine's own folders.
        path: PathBuf,
        /// Maximum number of files before the change.
        inodes: u64,
    },
    /// Remove this folder or file.
    RemoveTree {
        /// Absolute path, below one of the engine's own folders or the one that `E2E_STATE_DIR` names.
        path: PathBuf,
    },
    /// Remove this folder, if it bears the engine's mark, and what its creation or removal left beside it.
    RemoveMarked {
        /// Absolute path, below one of the engine's own folders or the one that `E2E_STATE_DIR` names.
        path: PathBuf,
        /// Slot that made the folder.
        slot: String,
    },
    /// Remove this table of packet filters.
    DeleteTable {
        /// Network namespace of the table, which is gone with it.
        network: NetworkPlace,
        /// Family of the table, such as `bridge`.
        family: String,
        /// Name of the table in its family.
        table: String,
    },
    /// Remove the queueing discipline that delays or slows the packets that leave through a network device.
    DeleteQdisc {
        /// Network namespace of the device; the discipline is gone with it.
        network: NetworkPlace,
        /// Name of the device; the discipline is gone with it.
        device: String,
    },
    /// Remove the rules that hand packets to a program.
    DeleteQueueRules {
        /// Network namespace of the rules, which are gone with it.
        network: NetworkPlace,
        /// Number of the packet queue.
        queue: u16,
    },
    /// Remove this chain of iptables with the rule that jumps to it.
    DeleteChain {
        /// Network namespace of the chain, which is gone with it.
        network: NetworkPlace,
        /// Chain to remove.
        chain: iptables::Chain,
    },
    /// Set a setting of a cgroup back to its former value.
    PutBack {
        /// Name of one of the engine's own cgroups, relative to the top of a hierarchy.
        group: String,
        /// Changed setting.
        setting: Setting,
        /// Former value of the setting, as the kernel wrote it.
        value: String,
    },
}

impl Undo {
    /// Name of the step's kind, for [`crash_point`](crate::host::crash_point).
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::KillCgroup { .. } => "kill cgroup",
            Self::Thaw { .. } => "thaw",
            Self::Unmount { .. } => "unmount",
            Self::SetInodes { .. } => "set inodes",
            Self::RemoveTree { .. } => "remove tree",
            Self::RemoveMarked { .. } => "remove marked",
            Self::DeleteTable { .. } => "delete table",
            Self::DeleteQdisc { .. } => "delete qdisc",
            Self::DeleteQueueRules { .. } => "delete queue rules",
            Self::DeleteChain { .. } => "delete chain",
            Self::PutBack { .. } => "put back",
        }
    }

    /// Executes the step. `reap` is called while the step waits for processes to end.
    pub fn execute(&self, reap: impl FnMut()) -> anyhow::Result<()> {
        match self {
            Self::KillCgroup { name } => Tree::named(name).kill_and_remove(KILL_DEADLINE.scaled(), reap),
            Self::Thaw { name } => {
                Tree::named(name).thaw();
                Ok(())
            }
            Self::Unmount { path } => mount::detach(path),
            Self::SetInodes { path, inodes } => set_inodes(path, *inodes),
            Self::RemoveTree { path } => remove_tree(path),
            Self::RemoveMarked { path, slot } => remove_marked(path, slot),
            Self::DeleteTable { network, family, table } => match network.find()? {
                Some(network) => Table { family, name: table }.delete(&network),
                None => Ok(()),
            },
            Self::DeleteQdisc { network, device } => match network.find()? {
                Some(network) => tc::delete_root(&network, device),
                None => Ok(()),
            },
            Self::DeleteQueueRules { network, queue } => match network.find()? {
                Some(network) => iptables::delete_queue_rules(&network, *queue),
                None => Ok(()),
            },
            Self::DeleteChain { network, chain } => match network.find()? {
                Some(network) => chain.delete(&network),
                None => Ok(()),
            },
            Self::PutBack { group, setting, value } => put_back(group, *setting, value),
        }
    }
}

fn put_back(group: &str, setting: Setting, value: &str) -> anyhow::Result<()> {
    if !group.starts_with(GROUP_PREFIX) || group.split('/').any(|part| part == "..") {
        bail!("{group} is not one of the engine's own cgroups: left alone");
    }
    Group::named(group).put_back(setting, value)
}

/// Folder that `E2E_STATE_DIR` names; an empty variable names none.
#[must_use]
pub fn named_state_dir() -> Option<PathBuf> {
    std::env::var_os("E2E_STATE_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

fn is_ours(path: &Path) -> bool {
    let state_dir = named_state_dir();
    let mut allowed = REMOVABLE_BELOW.iter().map(Path::new).chain(state_dir.as_deref());
    let clean = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    clean && allowed.any(|top| path.starts_with(top) && path != top)
}

/// Sets the maximum number of files of a tmpfs; does nothing where it is gone, or not mounted here.
fn set_inodes(path: &Path, inodes: u64) -> anyhow::Result<()> {
    if !is_ours(path) {
        bail!("{} is not below one of the engine's own folders: not changed", path.display());
    }
    if mount::is_mount_point(path) { mount::set_inodes(path, inodes) } else { Ok(()) }
}

fn remove_marked(path: &Path, slot: &str) -> anyhow::Result<()> {
    if !is_ours(path) {
        bail!("{} is not below one of the engine's own folders: not removed", path.display());
    }
    marked::remove(path, slot).map(drop)
}

fn remove_tree(path: &Path) -> anyhow::Result<()> {
    if !is_ours(path) {
        bail!("{} is not below one of the engine's own folders: not removed", path.display());
    }
    let removed = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.with_context(|| format!("removing {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_removed_only_below_our_own_folders() {
        for path in ["/", "/etc", "/var/lib/lxc", "/run/mancer-e2e/../../etc/x", "/var/lib/lxcfs/x", "relative"] {
            let (tree, marked) = (Undo::RemoveTree { path: path.into() }, |slot: &str| Undo::RemoveMarked {
                path: path.into(),
                slot: slot.into(),
            });
            for step in [tree, marked("9")] {
                let error = step.execute(|| ()).unwrap_err();
                assert!(error.to_string().contains("not removed"), "{path}: {error}");
            }
        }
    }

    #[test]
    fn settings_are_put_back_only_in_groups_of_ours() {
        for group in ["", "system.slice", "mancer-e2e-1/../system.slice"] {
            let step = Undo::PutBack { group: group.into(), setting: Setting::Memory, value: "max".into() };
            let error = step.execute(|| ()).unwrap_err();
            assert!(error.to_string().contains("left alone"), "{group}: {error}");
        }
    }

    #[test]
    fn room_for_files_is_given_only_below_our_own_folders() {
        let error = Undo::SetInodes { path: "/tmp".into(), inodes: 1000 }.execute(|| ()).unwrap_err();
        assert!(error.to_string().contains("not changed"), "{error}");
    }

    #[test]
    fn undoing_what_was_never_made_is_fine() {
        Undo::RemoveTree { path: "/run/mancer-e2e/never-made/x".into() }.execute(|| ()).unwrap();
        let path = "/run/mancer-e2e/never-made/x".into();
        Undo::RemoveMarked { path, slot: "never-made".into() }.execute(|| ()).unwrap();
        Undo::KillCgroup { name: "mancer-e2e-never-made".into() }.execute(|| ()).unwrap();
        Undo::Thaw { name: "mancer-e2e-never-made".into() }.execute(|| ()).unwrap();
        Undo::Unmount { path: "/run/mancer-e2e/never-made".into() }.execute(|| ()).unwrap();
        let group = "mancer-e2e-never-made/a".to_owned();
        Undo::PutBack { group, setting: Setting::Processes, value: "max".into() }.execute(|| ()).unwrap();
        Undo::SetInodes { path: "/run/mancer-e2e/never-made".into(), inodes: 1000 }.execute(|| ()).unwrap();
        let network = NetworkPlace { path: "/proc/self/fd/9999".into(), inode: 1 };
        Undo::DeleteQdisc { network: network.clone(), device: "port1".into() }.execute(|| ()).unwrap();
        Undo::DeleteQueueRules { network: network.clone(), queue: 1 }.execute(|| ()).unwrap();
        let chain = iptables::Chain { table: "filter".into(), hook: "INPUT".into(), name: "x".into() };
        Undo::DeleteChain { network: network.clone(), chain }.execute(|| ()).unwrap();
        Undo::DeleteTable { network, family: "bridge".into(), table: "x".into() }.execute(|| ()).unwrap();
    }
}
