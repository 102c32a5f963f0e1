//! Setting of a container's cgroup that a fault has changed. A new start of the container makes the cgroup anew.

use anyhow::Context as _;

use super::effect::Site;
use crate::host::cgroup::Setting;
use crate::host::undo::Undo;

/// Changed setting.
#[derive(Debug)]
pub struct Bound {
    setting: Setting,
    value: String,
    /// Value that the kernel showed right after the change.
    seen: String,
    undo: Undo,
}

impl Bound {
    /// Changes a setting, with its undo step in the ledger first.
    ///
    /// # Errors
    /// When the kernel refuses the new value.
    pub fn set(site: &Site<'_>, setting: Setting, value: String) -> anyhow::Result<Self> {
        let undo = noted(site, setting)?;
        let seen = write(site, setting, &value)?;
        Ok(Self { setting, value, seen, undo })
    }

    /// Changes the setting again in the new cgroup of a container that was started again; does nothing where it still has the fault's
    /// value.
    ///
    /// # Errors
    /// Those of [`Bound::set`].
    pub fn set_again(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        if !self.is_set(site)? {
            self.undo = noted(site, self.setting)?;
            self.seen = write(site, self.setting, &self.value)?;
        }
        Ok(())
    }

    /// Tells whether the setting still has the fault's value.
    ///
    /// # Errors
    /// When the setting cannot be read.
    pub fn is_set(&self, site: &Site<'_>) -> anyhow::Result<bool> {
        Ok(site.container.group()?.read(self.setting)? == self.seen)
    }

    /// Restores the former value; does nothing for a cgroup that is gone.
    ///
    /// # Errors
    /// When the guard cannot do it.
    pub fn put_back(&self, site: &Site<'_>) -> anyhow::Result<()> {
        site.undo(vec![self.undo.clone()])
    }
}

/// Notes the undo step of a setting, with its present value, in the ledger.
fn noted(site: &Site<'_>, setting: Setting) -> anyhow::Result<Undo> {
    let group = site.container.group()?;
    let undo = Undo::PutBack { group: group.name().to_owned(), setting, value: group.read(setting)? };
    site.note(vec![undo.clone()])?;
    Ok(undo)
}

fn write(site: &Site<'_>, setting: Setting, value: &str) -> anyhow::Result<String> {
    let group = site.container.group()?;
    group.write(setting, value).with_context(|| format!("changing what {} may use", site.name()))?;
    group.read(setting)
}
