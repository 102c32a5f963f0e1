//! Network of a lab: its addresses, and the maximum number of machines that get one.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Maximum length of a container's name in the lab, in characters: its name on the host has those of project and slot before it.
pub(super) const CONTAINER_NAME_MAX: usize = 10;

/// Last octet of the first address of the containers that `containers` of `e2e.toml` lists.
pub(super) const ORDERED_FIRST: usize = 11;

/// Last octet of the first address of all other containers.
pub(super) const OTHERS_FIRST: usize = 100;

/// Maximum number of containers in `containers` of `e2e.toml`: the addresses from [`ORDERED_FIRST`] up to the one before
/// [`OTHERS_FIRST`] are theirs.
pub(super) const ORDERED_MAX: usize = OTHERS_FIRST - ORDERED_FIRST;

/// Maximum number of machines of a lab: each has an address by its position, up to 254 in the last octet.
pub const MACHINES_MAX: usize = 254 - OTHERS_FIRST + 1;

/// An IPv4 network of 256 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub struct Network {
    /// Address of the network, whose last octet is 0.
    pub base: Ipv4Addr,
}

impl Network {
    /// Length of the network prefix, in bits.
    pub const PREFIX_BITS: u8 = 24;

    /// Returns the address with this last octet.
    #[must_use]
    pub fn host(self, last: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.base.octets();
        Ipv4Addr::new(a, b, c, last)
    }

    /// Returns the address of the lab's bridge.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        self.host(1)
    }
}

/// Formats the error for a lab with more than [`MACHINES_MAX`] machines.
#[must_use]
pub fn too_many_machines() -> String {
    format!(
        "a lab has at most {MACHINES_MAX} machines: each has an address by its place, from {OTHERS_FIRST} to 254 in the last octet"
    )
}

/// Parses the network of a text such as `10.77.0.0/24`.
pub(super) fn parse_network(text: &str) -> Option<Network> {
    let base: Ipv4Addr = text.strip_suffix("/24")?.parse().ok()?;
    (base.is_private() && base.octets()[3] == 0).then_some(Network { base })
}
