//! What `ps`, `shell` and `logs` need to know of a lab that another process holds: `lab.json` in the slot's folder.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::guard::{Owner, Slot, slots};

/// A lab that exists now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LiveLab {
    /// Who holds it.
    pub owner: Owner,
    /// Its slot.
    pub slot: String,
    /// Its containers.
    pub machines: Vec<LiveMachine>,
}

/// A container of a live lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveMachine {
    /// Name in the lab.
    pub name: String,
    /// LXC's name on the host.
    pub host_name: String,
    /// Address in the lab's network.
    pub address: Ipv4Addr,
    /// Its template.
    pub template: String,
}

impl LiveLab {
    /// Every lab on this host that has a holder.
    #[must_use]
    pub fn all() -> Vec<Self> {
        slots().iter().filter(|slot| slot.is_held().unwrap_or(false)).filter_map(Self::in_slot).collect()
    }

    fn in_slot(slot: &Slot) -> Option<Self> {
        let text = std::fs::read_to_string(slot.dir().join("lab.json")).ok()?;
        let machines = serde_json::from_str(&text).ok()?;
        Some(Self { owner: slot.owner()?, slot: slot.name().to_owned(), machines })
    }
}
