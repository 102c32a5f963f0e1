//! Live labs: labs that another process holds, read from `lab.json` in the slot's folder.

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

/// File name of a lab's description in the slot's folder.
pub(super) const LAB_FILE: &str = "lab.json";

/// Content of `lab.json`: description of a lab for other processes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LabFile {
    pub network: NetworkPlace,
    pub machines: Vec<Machine>,
}

/// Lab that exists now, possibly started by another process.
#[derive(Debug, Clone)]
pub struct LiveLab {
    pub owner: Owner,
    pub slot: String,
    pub machines: Vec<LiveMachine>,
    network: NetworkPlace,
}

/// Container of a live lab.
#[derive(Debug, Clone)]
pub struct LiveMachine {
    pub name: String,
    /// Name of the container for LXC on the host.
    pub host_name: String,
    pub address: Ipv4Addr,
    pub template: String,
    slot: String,
    machine: Machine,
    places: Places,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Processes run.
    Running,
    /// Processes are frozen.
    Frozen,
    /// Container without processes.
    Down,
}

/// Resource usage of a container.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// Processor time since the container's last start.
    pub cpu: Duration,
    /// Memory in use now, page cache included.
    pub memory_bytes: u64,
    /// Memory limit of the container.
    pub memory_limit_bytes: Option<u64>,
    /// Number of processes and threads now.
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
    /// Lists all labs on this host whose slot has a holder.
    #[must_use]
    pub fn all() -> Vec<Self> {
        slots().iter().filter_map(Self::in_slot).collect()
    }

    /// Returns the lab of a slot, if the slot has a lab and a holder.
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

    /// Returns the host names of the containers of a slot's last lab, even if the slot has no holder any more.
    #[must_use]
    pub fn last_names(slot: &Slot) -> Vec<String> {
        let text = std::fs::read_to_string(slot.dir().join(LAB_FILE)).unwrap_or_default();
        let file = serde_json::from_str::<LabFile>(&text);
        file.map_or_else(|_| Vec::new(), |file| file.machines.into_iter().map(|machine| machine.host_name).collect())
    }

    /// Tells whether the lab still exists, with the same guard as when it was found.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let slot = Slot::named(&self.slot);
        slot.owner().is_some_and(|owner| owner.guard_pid == self.owner.guard_pid) && slot.is_held().unwrap_or(false)
    }

    pub fn network(&self) -> anyhow::Result<NetworkNamespace> {
        self.network.find()?.with_context(|| format!("the lab of slot {} is gone", self.slot))
    }

    /// Finds a container by its name in the lab or on the host.
    #[must_use]
    pub fn machine(&self, name: &str) -> Option<&LiveMachine> {
        self.machines.iter().find(|machine| machine.name == name || machine.host_name == name)
    }
}

impl LiveMachine {
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    #[must_use]
    pub fn state(&self) -> MachineState {
        self.look().unwrap_or(MachineState::Down)
    }

    /// Returns whether the container's processes run or are frozen; otherwise the reason why it counts as down.
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

    /// Returns the resource usage of the container; `None` if it is down.
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

    /// Fails if the container cannot run programs: it is down, frozen, or has no root filesystem of its own yet.
    ///
    /// # Errors
    /// [`Error::Host`] with the state and a command that helps.
    pub fn require_running(&self) -> Result<(), Error> {
        let state = match self.look() {
            Ok(MachineState::Running) => return Ok(()),
            Ok(state) => state.to_string(),
            Err(reason) => format!("{} ({reason})", MachineState::Down),
        };
        Err(Error::Host {
            problem: format!("{} is {state}: no program can run in it", self.name),
            help: format!(
                "`cargo xtask ps` shows its active faults, \
                 `cargo xtask fault heal --all --slot {}` heals them",
                self.slot
            ),
        })
    }

    /// Composes the arguments of [`crate::host::container::lxc::ATTACH`] that run a program in the container as a user, by name, or as root.
    ///
    /// # Errors
    /// When the container is down; [`Error::Usage`] if it has no such user.
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

    /// Returns the system call filter for an `lxc-attach` to this container; `None` for a container without a filter.
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
