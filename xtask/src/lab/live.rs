//! Facts of a lab that another process holds: `lab.json` in the slot's folder.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use super::config::Places;
use super::confinement::entry_filter;
use super::container::{has_its_root, init_pid};
use super::exec::environment_of;
use super::machine::Machine;
use super::ssh::Passwd;
use crate::error::Error;
use crate::guard::{Owner, Slot, slots};
use crate::host::cgroup::{Gauge, Group, Setting, Tree};
use crate::host::container::lxc::Attach;
use crate::host::disk::container_fs;
use crate::host::exec::process::has_ended;
use crate::host::network::netns::{NetworkNamespace, NetworkPlace};
use crate::host::seccomp::{Filter, Occasion};

/// The file's name in the slot's folder.
pub(super) const LAB_FILE: &str = "lab.json";

/// Content of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LabFile {
    pub network: NetworkPlace,
    pub machines: Vec<Machine>,
}

/// A lab that exists now.
#[derive(Debug, Clone)]
pub struct LiveLab {
    /// Owner.
    pub owner: Owner,
    /// Slot.
    pub slot: String,
    /// Containers.
    pub machines: Vec<LiveMachine>,
    network: NetworkPlace,
}

/// A container of a live lab.
#[derive(Debug, Clone)]
pub struct LiveMachine {
    /// Name in the lab.
    pub name: String,
    /// LXC's name on the host.
    pub host_name: String,
    /// Address in the lab's network.
    pub address: Ipv4Addr,
    /// Template.
    pub template: String,
    slot: String,
    machine: Machine,
    places: Places,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Running programs.
    Running,
    /// Frozen processes.
    Frozen,
    /// No processes.
    Down,
}

/// Usage of a container since its last start, and now.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// Memory, files that are kept in memory included.
    pub memory_bytes: u64,
    /// The most memory that it may have.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: u64,
}

impl std::fmt::Display for MachineState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Frozen => "frozen",
            Self::Down => "down",
        })
    }
}

impl LiveLab {
    /// Every lab on this host that has a holder.
    #[must_use]
    pub fn all() -> Vec<Self> {
        slots().iter().filter_map(Self::in_slot).collect()
    }

    /// The lab of a slot, if there is one and it has a holder.
    #[must_use]
    pub fn in_slot(slot: &Slot) -> Option<Self> {
        if !slot.is_held().unwrap_or(false) {
            return None;
        }
        let text = std::fs::read_to_string(slot.dir().join(LAB_FILE)).ok()?;
        let LabFile { network, machines } = serde_json::from_str(&text).ok()?;
        let machine = |machine: Machine| LiveMachine {
            name: machine.name.clone(),
            host_name: machine.host_name.clone(),
            address: machine.address(),
            template: machine.template.name.clone(),
            slot: slot.name().to_owned(),
            places: Places::of(slot, &machine),
            machine,
        };
        let machines = machines.into_iter().map(machine).collect();
        Some(Self { owner: slot.owner()?, slot: slot.name().to_owned(), machines, network })
    }

    /// The names on the host of the containers of a slot's lab, also where it has no holder any more.
    #[must_use]
    pub fn last_names(slot: &Slot) -> Vec<String> {
        let text = std::fs::read_to_string(slot.dir().join(LAB_FILE)).unwrap_or_default();
        let file = serde_json::from_str::<LabFile>(&text);
        file.map_or_else(|_| Vec::new(), |file| file.machines.into_iter().map(|machine| machine.host_name).collect())
    }

    /// Tells whether the lab still has the guard that it had when it was found.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let slot = Slot::named(&self.slot);
        slot.owner().is_some_and(|owner| owner.guard_pid == self.owner.guard_pid) && slot.is_held().unwrap_or(false)
    }

    /// Returns the network namespace of the lab.
    ///
    /// # Errors
    /// When the lab is gone.
    pub fn network(&self) -> anyhow::Result<NetworkNamespace> {
        self.network.find()?.with_context(|| format!("the lab of slot {} is gone", self.slot))
    }

    /// The container of this name, in the lab or on the host.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&LiveMachine> {
        self.machines.iter().find(|machine| machine.name == name || machine.host_name == name)
    }
}

impl LiveMachine {
    /// Returns the description that the container was made from.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Returns the present state of the container.
    #[must_use]
    pub fn state(&self) -> MachineState {
        self.look().unwrap_or(MachineState::Down)
    }

    /// Returns whether the container's processes run or are frozen, or the reason for which it counts as down.
    fn look(&self) -> Result<MachineState, String> {
        let init = init_pid(&self.places).map_err(|error| format!("{error:#}"))?;
        if has_ended(init) {
            return Err(format!("its process 1, {init} on this host, has ended"));
        }
        let tree = Tree::named(&self.cgroup_name());
        if !tree.pids().contains(&init) {
            return Err(format!("its process 1, {init} on this host, is not in its cgroup any more"));
        }
        if !has_its_root(init) {
            return Err("it has just been started, and has no root filesystem of its own yet".into());
        }
        Ok(if tree.is_frozen() { MachineState::Frozen } else { MachineState::Running })
    }

    /// Returns the usage of the container; none where it is down.
    #[must_use]
    pub fn used(&self) -> Option<Used> {
        let group = Group::named(&self.cgroup_name()).child_with(init_pid(&self.places).ok()?)?;
        Some(Used {
            cpu: group.cpu_time().ok()?,
            memory_bytes: group.gauge(Gauge::MemoryBytes).ok()?,
            memory_limit_bytes: group.bound(Setting::Memory).ok()?,
            processes: group.gauge(Gauge::Processes).ok()?,
        })
    }

    /// Fails where the container cannot run programs: it is down, frozen, or has no root filesystem of its own yet.
    ///
    /// # Errors
    /// [`Error::Host`] with the help.
    pub fn require_running(&self) -> Result<(), Error> {
        let state = match self.look() {
            Ok(MachineState::Running) => return Ok(()),
            Ok(state) => state.to_string(),
            Err(reason) => format!("{} ({reason})", MachineState::Down),
        };
        Err(Error::Host {
            problem: format!("{} is {state}: no program can run in it", self.name),
            help: format!(
                "`cargo xtask ps` shows the faults that are on it, \
                 `cargo xtask fault heal --all --slot {}` takes them back",
                self.slot
            ),
        })
    }

    /// The arguments of [`crate::host::container::lxc::ATTACH`] that run a program in the container as a user, by name, or as root.
    ///
    /// # Errors
    /// When the container is down, or has no such user.
    pub fn attach_words(
        &self,
        argv: &[String],
        user: Option<&str>,
        environment: &[(String, String)],
    ) -> anyhow::Result<Vec<String>> {
        self.require_running()?;
        let entry = user.map(|name| self.user(name)).transpose()?;
        let environment = environment_of(&self.machine, entry.as_ref().zip(user), environment);
        let user = entry.map(|entry| (entry.uid, entry.gid));
        Ok(Attach { name: &self.host_name, argv, environment: &environment, user, filter: None }.words())
    }

    /// System call filter for an `lxc-attach` to this container; absent for a container without one.
    #[must_use]
    pub fn entry_filter(&self) -> Option<Filter> {
        entry_filter(&self.machine, Occasion::Lxc)
    }

    fn user(&self, name: &str) -> anyhow::Result<Passwd> {
        let root = format!("/proc/{}/root", init_pid(&self.places)?);
        let passwd = container_fs::read(root.as_ref(), "/etc/passwd")?;
        let Some(entry) = Passwd::find(&passwd, name) else {
            bail!(Error::Usage(format!("there is no user {name:?} in {}", self.name)));
        };
        Ok(entry)
    }

    fn cgroup_name(&self) -> String {
        format!("{}/{}", self.places.slot_cgroup, self.name)
    }
}
