//! A running container.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::config::Places;
use super::exec::tail_of;
use super::machine::Machine;
use crate::guard::Process;
use crate::host::lxc;

/// A container of a lab that was started.
#[derive(Debug, Clone)]
pub struct Container {
    machine: Machine,
    places: Places,
    process: Process,
}

impl Container {
    pub(super) fn new(machine: Machine, places: Places, process: Process) -> Self {
        Self { machine, places, process }
    }

    /// What it was made from.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.process.exited().is_some()
    }

    /// Fails with LXC's own error lines and the end of the console when the container has ended.
    ///
    /// # Errors
    /// When it has.
    pub fn fail_if_dead(&self) -> anyhow::Result<()> {
        let Some(status) = self.process.exited() else { return Ok(()) };
        bail!("container {} has ended (lxc-start's status {status}){}", self.machine.host_name, self.last_words())
    }

    /// Its root on the host, through its first process.
    ///
    /// # Errors
    /// When it has not come so far as to have one.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root", self.init_pid()?)))
    }

    /// The number of its first process on the host.
    ///
    /// # Errors
    /// When it has not come so far as to have one.
    pub fn init_pid(&self) -> anyhow::Result<i32> {
        let path = self.places.init_pid();
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{} holds no process number", path.display()))
    }

    /// Its cgroup, relative to the top of each hierarchy.
    #[must_use]
    pub fn cgroup_name(&self) -> String {
        format!("{}/{}", self.places.slot_cgroup, self.machine.name)
    }

    /// The ends of its logs on the host, for an error message.
    #[must_use]
    pub fn last_words(&self) -> String {
        let logs = self.machine.log_dir();
        let mut words = String::new();
        for name in ["start.log", "lxc.log", "console.log"] {
            let text = tail_of(&logs.join(name), 4000);
            let lines = lxc::error_lines(&text, 12);
            if !lines.is_empty() {
                words.push_str(&format!("\n  {name}:\n    {}", lines.join("\n    ")));
            }
        }
        words
    }
}
