//! Choice of the lab and container that a command means.

use super::Context;
use super::settings::slot_word;
use crate::error::Error;
use crate::guard::Slot;
use crate::lab::{LiveLab, LiveMachine};
use crate::manifest::nearest;

/// Flag that chooses the lab in which a container's name is looked up.
#[derive(Debug, clap::Args)]
pub struct LabSelector {
    /// Slot of the lab, needed if several labs have a container of that name.
    #[arg(long, value_name = "N", value_parser = slot_word)]
    pub slot: Option<String>,
}

impl LabSelector {
    /// Returns the container of this name, with its lab.
    ///
    /// # Errors
    /// [`Error::Usage`] if no lab has such a container, or several labs have one and neither is in the default slot.
    pub fn machine(&self, name: &str, context: &Context) -> Result<(LiveLab, LiveMachine), Error> {
        choose(&self.labs()?, name, self.slot.as_deref(), &context.settings.slot.value.to_string())
    }

    /// Returns the lab of the given slot, or all live labs if no slot is given.
    ///
    /// # Errors
    /// [`Error::Usage`] if the given slot has no lab.
    pub fn labs(&self) -> Result<Vec<LiveLab>, Error> {
        match &self.slot {
            Some(slot) => Ok(vec![lab_in(slot)?]),
            None => Ok(LiveLab::all()),
        }
    }
}

/// Returns the lab of a slot.
///
/// # Errors
/// [`Error::Usage`] if the slot has no lab.
pub fn lab_in(slot: &str) -> Result<LiveLab, Error> {
    LiveLab::in_slot(&Slot::named(slot)).ok_or_else(|| {
        let labs = LiveLab::all();
        let slots: Vec<&str> = labs.iter().map(|lab| lab.slot.as_str()).collect();
        let hint = if slots.is_empty() {
            "there is no live lab: `cargo xtask up TEMPLATE` starts one".to_owned()
        } else {
            format!("live labs are in the slots {}", slots.join(", "))
        };
        Error::Usage(format!("there is no lab in slot {slot}: {hint}"))
    })
}

fn choose(labs: &[LiveLab], name: &str, slot: Option<&str>, usual: &str) -> Result<(LiveLab, LiveMachine), Error> {
    let mut found: Vec<(&LiveLab, &LiveMachine)> =
        labs.iter().filter_map(|lab| Some((lab, lab.machine(name)?))).collect();
    // A short name means the one in the usual slot; elsewhere it is written with its slot, or as it is on the host.
    found.sort_by_key(|(lab, machine)| (machine.host_name != name, lab.slot != usual));
    match found[..] {
        [(lab, machine)] => Ok((lab.clone(), machine.clone())),
        [(lab, machine), ..] if machine.host_name == name || lab.slot == usual => Ok((lab.clone(), machine.clone())),
        [_, ..] => {
            let slots: Vec<&str> = found.iter().map(|(lab, _)| lab.slot.as_str()).collect();
            Err(Error::Usage(format!(
                "the labs of slots {} have a container {name}: choose one with --slot N",
                slots.join(", ")
            )))
        }
        [] => Err(unknown(labs, name, slot)),
    }
}

fn unknown(labs: &[LiveLab], name: &str, slot: Option<&str>) -> Error {
    let machines = || labs.iter().flat_map(|lab| &lab.machines);
    let names = machines().flat_map(|machine| [machine.name.as_str(), machine.host_name.as_str()]);
    let hint = match nearest(name, names) {
        Some(near) => format!("did you mean {near}?"),
        None if labs.is_empty() => {
            "there is no live lab: `cargo xtask up TEMPLATE` starts one, and `cargo xtask e2e --keep-containers=always` keeps one"
                .into()
        }
        None => "`cargo xtask ps` lists the containers of all live labs".into(),
    };
    let place =
        slot.map_or_else(|| "no live lab has".to_owned(), |slot| format!("the lab of slot {slot} does not have"));
    Error::Usage(format!("{place} a container {name:?}: {hint}"))
}
