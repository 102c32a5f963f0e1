//! Description of a container, before it is made.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::guard::Lower;
use crate::host::container::idmap::IdMap;
use crate::host::container::ids::IdRange;
use crate::host::container::lxc;
use crate::host::syntax::{DeviceName, MacAddress};
use crate::manifest::{Network, Template};

/// Parts that a container is made from, and its place in the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// Name in the lab: peers resolve it.
    pub name: String,
    /// LXC's name on the host.
    pub host_name: String,
    /// Template, which has its limits and programs.
    pub template: Template,
    /// Layers of its root filesystem, lowest first.
    pub layers: Vec<PathBuf>,
    /// Id on disk, in each layer, of the user that is root in the container; empty where layers are used without mapped ids.
    #[serde(default)]
    pub first_ids: Vec<u32>,
    /// The lab's network.
    pub network: Network,
    /// Last octet of its address; it fixes the card's name and address too.
    pub octet: u8,
    /// Range of its ids on the host.
    pub ids: IdRange,
}

impl Machine {
    /// Returns the machine's address in the lab's network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.network.host(self.octet)
    }

    /// Returns the hardware address of the machine's card: fixed, so that peers know it again after a restart.
    #[must_use]
    pub fn mac(&self) -> MacAddress {
        MacAddress([0x02, 0xe2, 0xe0, 0, 0, self.octet])
    }

    /// The name of the machine's port on the lab's bridge.
    #[must_use]
    pub fn port(&self) -> DeviceName {
        DeviceName::port(self.octet)
    }

    /// The host's ids of a user in the container.
    #[must_use]
    pub fn host_ids(&self, uid: u32, gid: u32) -> (u32, u32) {
        if self.template.privileged { (uid, gid) } else { (self.ids.first + uid, self.ids.first + gid) }
    }

    /// Returns the layers of the machine, each with the mapping of owners that it is shown with.
    #[must_use]
    pub fn lowers(&self) -> Vec<Lower> {
        let (to, _) = self.host_ids(0, 0);
        let lower = |(place, tree): (usize, &PathBuf)| {
            let from = self.first_ids.get(place).copied().filter(|from| *from != to);
            Lower { tree: tree.clone(), ids: from.map(|from| IdMap { from, to, count: self.ids.count }) }
        };
        self.layers.iter().enumerate().map(lower).collect()
    }

    /// The folder of the machine's logs on the host.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        lxc::log_dir(&self.host_name)
    }
}
