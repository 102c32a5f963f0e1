//! Override of a setting of a container's cgroup by a fault. The cgroup is created anew when the container is started
//! again.

use anyhow::Context as _;

use super::effect::FaultTarget;
use crate::host::cgroup::Setting;
use crate::host::undo::Undo;

/// Overridden setting.
#[derive(Debug)]
pub struct CgroupOverride {
    setting: Setting,
    value: String,
    /// Value that the kernel showed right after the change.
    seen: String,
    undo: Undo,
}

impl CgroupOverride {
    /// Changes a setting, with its undo step in the ledger first.
    ///
    /// # Errors
    /// When the kernel refuses the new value.
    pub fn set(target: &FaultTarget<'_>, setting: Setting, value: String) -> anyhow::Result<Self> {
        let undo = noted(target, setting)?;
        let seen = write(target, setting, &value)?;
        Ok(Self { setting, value, seen, undo })
    }

    /// Changes the setting again in the new cgroup of a container that was started again; does nothing where it still has the fault's
    /// value.
    ///
    /// # Errors
    /// Those of [`CgroupOverride::set`].
    pub fn set_again(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        if !self.is_set(target)? {
            self.undo = noted(target, self.setting)?;
            self.seen = write(target, self.setting, &self.value)?;
        }
        Ok(())
    }

    /// Tells whether the setting still has the fault's value.
    ///
    /// # Errors
    /// When the setting cannot be read.
    pub fn is_set(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        Ok(target.container.group()?.read(self.setting)? == self.seen)
    }

    /// Restores the former value; does nothing for a cgroup that is gone.
    ///
    /// # Errors
    /// When the guard cannot do it.
    pub fn put_back(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        target.undo(vec![self.undo.clone()])
    }
}

/// Notes the undo step of a setting, with its present value, in the ledger.
fn noted(target: &FaultTarget<'_>, setting: Setting) -> anyhow::Result<Undo> {
    let group = target.container.group()?;
    let undo = Undo::PutBack { group: group.name().to_owned(), setting, value: group.read(setting)? };
    target.note(vec![undo.clone()])?;
    Ok(undo)
}

fn write(target: &FaultTarget<'_>, setting: Setting, value: &str) -> anyhow::Result<String> {
    let group = target.container.group()?;
    group.write(setting, value).with_context(|| format!("changing what {} may use", target.name()))?;
    group.read(setting)
}
