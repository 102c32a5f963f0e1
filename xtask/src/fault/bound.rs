//! A setting of a container's group that a fault has changed. The group is made anew when the container is started
//! again.

use anyhow::Context as _;

use super::effect::Site;
use crate::host::cgroup::Setting;
use crate::host::undo::Undo;

/// Changed setting.
#[derive(Debug)]
pub struct Bound {
    setting: Setting,
    value: String,
    /// Value that the kernel shows once it was set.
    seen: String,
    undo: Undo,
}

impl Bound {
    /// Changes it, with its undo step in the ledger first.
    ///
    /// # Errors
    /// What the kernel said to the new value.
    pub fn set(site: &Site<'_>, setting: Setting, value: String) -> anyhow::Result<Self> {
        let undo = noted(site, setting)?;
        let seen = write(site, setting, &value)?;
        Ok(Self { setting, value, seen, undo })
    }

    /// Changes it again in the group of a container that was started again; nothing happens where it is changed still.
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

    /// Returns true while it is as it was set.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn is_set(&self, site: &Site<'_>) -> anyhow::Result<bool> {
        Ok(site.container.group()?.read(self.setting)? == self.seen)
    }

    /// Puts back what was there; a group that is gone needs nothing.
    ///
    /// # Errors
    /// When the guard cannot do it.
    pub fn put_back(&self, site: &Site<'_>) -> anyhow::Result<()> {
        site.undo(vec![self.undo.clone()])
    }
}

/// The undo step of a setting as it is now, in the ledger.
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
