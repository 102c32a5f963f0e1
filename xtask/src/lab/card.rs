//! Network card as the machine itself sees it. A change that the product has made to it can explain why the machine cannot be reached.

use std::path::PathBuf;

use e2e_contract::Condition;
use serde::Deserialize;

use super::container::Container;
use super::machine::Machine;
use crate::host::network::netns::NetworkNamespace;
use crate::manifest::Network;

/// Name that a machine's network card has from the start.
const CARD: &str = "eth0";

/// Network device in the output of `ip -json address`.
#[derive(Debug, Deserialize)]
struct Device {
    #[serde(rename = "ifname")]
    name: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default, rename = "address")]
    hardware: String,
    #[serde(default, rename = "addr_info")]
    addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    #[serde(default)]
    local: String,
    #[serde(default, rename = "prefixlen")]
    prefix_bits: u8,
}

impl Device {
    fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }
}

impl Container {
    /// Returns the problem of the network card as seen from inside the machine; `None` if the card is as it was set up, or if testing the
    /// condition needs no network. The lab sets up the card before init runs, so every later change was made in the machine.
    pub(super) fn card_problem(&self, condition: &Condition) -> Option<String> {
        if !matches!(condition, Condition::Tcp(_) | Condition::Http(_)) {
            return None;
        }
        let inside = PathBuf::from(format!("/proc/{}/ns/net", self.init_pid().ok()?));
        let inside = NetworkNamespace::open(&inside).ok()?;
        let answer = inside.command("ip").args(["-json", "address", "show"]).run().ok()?;
        let devices: Vec<Device> = serde_json::from_slice(&answer.stdout).ok()?;
        let problem = problem(&devices, self.machine())?;
        Some(format!(
            "the network of {}, seen from inside, has changed since the machine's start: {problem}",
            self.machine().name
        ))
    }
}

/// Returns the first difference between a machine's devices and the network card that the lab gave it.
fn problem(devices: &[Device], machine: &Machine) -> Option<String> {
    let given = machine.mac().to_string();
    let card = devices.iter().find(|device| device.hardware == given);
    let Some(card) = card.or_else(|| devices.iter().find(|device| device.name == CARD)) else {
        return Some(format!("its network card {CARD} is gone"));
    };
    let Device { name, hardware, .. } = card;
    if !card.is_up() {
        return Some(format!("its network card {name} is down"));
    }
    if *hardware != given {
        return Some(format!("its network card {name} has the hardware address {hardware} instead of {given}"));
    }
    let wanted = machine.address().to_string();
    // A bridge or a bond of its own may bear the address.
    let mut addresses = devices.iter().filter(|device| device.is_up()).flat_map(|device| &device.addresses);
    if addresses.any(|address| address.local == wanted && address.prefix_bits == Network::PREFIX_BITS) {
        return None;
    }
    let there: Vec<String> =
        card.addresses.iter().map(|address| format!("{}/{}", address.local, address.prefix_bits)).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    Some(format!("its network card {name} has no address {wanted}/{} (it has {there})", Network::PREFIX_BITS))
}
