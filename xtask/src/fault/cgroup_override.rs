//! Override of a setting of a container's cgroup by a fault. Each start of the container makes a new cgroup, without the override.

use anyhow::Context as _;

use super::effect::FaultTarget;
use crate::host::cgroup::Setting;
use crate::host::undo::Undo;

/// Setting of a container's cgroup that a fault has changed.
#[derive(Debug)]
pub struct CgroupOverride {
    setting: Setting,
    value: String,
    /// Value that the kernel reported right after the change.
    seen: String,
    undo: Undo,
}

impl CgroupOverride {
    /// Changes a setting of the target's cgroup to `value`, after the undo step was written to the ledger.
    pub fn set(target: &FaultTarget<'_>, setting: Setting, value: String) -> anyhow::Result<Self> {
        let undo = noted(target, setting)?;
        let seen = write(target, setting, &value)?;
        Ok(Self { setting, value, seen, undo })
    }

    /// Changes the setting again in the new cgroup of a restarted container; does nothing where it still has the fault's value.
    pub fn set_again(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if !self.is_set(target)? {
            self.undo = noted(target, self.setting)?;
            self.seen = write(target, self.setting, &self.value)?;
        }
        Ok(())
    }

    pub fn is_set(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        Ok(target.container.group()?.read(self.setting)? == self.seen)
    }

    /// Restores the setting's former value; does nothing for a cgroup that is gone.
    pub fn put_back(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        target.lab.guard().undo(vec![self.undo.clone()])
    }
}

/// Writes the undo step, which restores a setting's present value, to the ledger; returns the step.
fn noted(target: &FaultTarget<'_>, setting: Setting) -> anyhow::Result<Undo> {
    let group = target.container.group()?;
    let undo = Undo::PutBack { group: group.name().to_owned(), setting, value: group.read(setting)? };
    target.lab.guard().note(vec![undo.clone()])?;
    Ok(undo)
}

fn write(target: &FaultTarget<'_>, setting: Setting, value: &str) -> anyhow::Result<String> {
    let group = target.container.group()?;
    group.write(setting, value).with_context(|| format!("changing a resource limit of {}", target.name()))?;
    group.read(setting)
}
