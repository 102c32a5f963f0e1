//! Description of a container, from which a lab creates it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guard::Lower;
use crate::host::container::idmap::IdMap;
use crate::host::container::ids::IdRange;
use crate::host::container::lxc;
use crate::host::syntax::{DeviceName, MacAddress};
use crate::manifest::{Network, Template};

/// Description of a container: its template and layers, its ids, and its place in the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Name in the lab, which the other machines can resolve.
    pub name: String,
    /// Name of the container for LXC on the host.
    pub host_name: String,
    /// Template, with the machine's limits and programs.
    pub template: Template,
    /// Layers of its root filesystem, lowest first.
    pub layers: Vec<PathBuf>,
    /// On-disk user ids of root's files in each of `layers`; empty if the layers are used without id mapping.
    #[serde(default)]
    pub first_ids: Vec<u32>,
    pub network: Network,
    /// Last octet of the machine's address; it also determines the card's hardware address and name.
    pub octet: u8,
    /// Range of host ids for the machine's users.
    pub ids: IdRange,
}

impl Machine {
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.host(self.octet)
    }

    /// Returns the hardware address of the machine's card, which stays the same after a restart so that the other machines' neighbor tables
    /// stay valid.
    #[must_use]
    pub fn mac(&self) -> MacAddress {
        MacAddress([0x02, 0xe2, 0xe0, 0, 0, self.octet])
    }

    /// Returns the name of the machine's port on the lab's bridge.
    #[must_use]
    pub fn port(&self) -> DeviceName {
        DeviceName::port(self.octet)
    }

    /// Returns the host's user and group id for a user of the container.
    #[must_use]
    pub fn host_ids(&self, uid: u32, gid: u32) -> (u32, u32) {
        if self.template.privileged { (uid, gid) } else { (self.ids.first + uid, self.ids.first + gid) }
    }

    /// Returns the layers of the machine, each with its mapping of owner ids.
    #[must_use]
    pub fn lowers(&self) -> Vec<Lower> {
        let (to, _) = self.host_ids(0, 0);
        let lower = |(place, tree): (usize, &PathBuf)| {
            let from = self.first_ids.get(place).copied().filter(|from| *from != to);
            Lower { tree: tree.clone(), ids: from.map(|from| IdMap { from, to, count: self.ids.count }) }
        };
        self.layers.iter().enumerate().map(lower).collect()
    }

    /// Returns the folder of the machine's live logs on the host.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        lxc::log_dir(&self.host_name)
    }
}
