//! Lock on the ports of a bridge, so that only the machine that a port was made for sends through it.
//!
//! A machine sends only with its own hardware address, and claims no address of another one or of the bridge: not as the sender of packets,
//! and not by ARP or IPv6's neighbor discovery. Addresses that no machine of the lab was given are free, so that products move virtual
//! addresses between machines. Frames are checked as they enter the bridge, before it learns from them. A frame with a VLAN tag is refused
//! whatever is in it: behind tags the rules would not see the frame's content, and a receiver takes the tags of VLAN 0 off. The rules see
//! no frame to the multicast addresses reserved for bridges: the bridge is made so that it learns nothing from such frames, and its
//! namespace takes no packet on a port from an address that is reached by another one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::thread::JoinHandle;

use anyhow::{Context as _, anyhow};

use super::netns::NetworkNamespace;
use super::nft::PORTS;
use crate::host::syntax::{DeviceName, MacAddress, Nft, Text, Word, compose};

/// Hardware address of a lab's bridge.
pub const BRIDGE_MAC: MacAddress = MacAddress([2, 0xe2, 0xe0, 0, 0, 1]);

/// Setting of a network namespace by which a device takes only packets whose source is reached through this device.
const SOURCES: &str = "/proc/sys/net/ipv4/conf/all/rp_filter";

/// Port with the identity of its machine.
#[derive(Debug, Clone)]
pub struct Port {
    /// Name of the device on the bridge.
    pub device: DeviceName,
    /// Hardware address of the machine's card.
    pub mac: MacAddress,
    pub address: Ipv4Addr,
}

impl Port {
    fn link_local(&self) -> Ipv6Addr {
        link_local(self.mac)
    }
}

/// Returns the link-local IPv6 address that a hardware address results in.
fn link_local(mac: MacAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// Lock that is being made by a thread.
#[derive(Debug)]
pub struct Making {
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Making {
    /// Begins to lock these ports of a namespace's bridge, which need not exist yet. `None` where this host cannot lock ports.
    pub fn begin(network: NetworkNamespace, ports: &[Port], bridge: Ipv4Addr) -> anyhow::Result<Option<Self>> {
        if problem().is_some() {
            return Ok(None);
        }
        let body = body(ports, bridge);
        let thread = std::thread::Builder::new().name("port lock".into());
        let make = move || {
            network.inside(|| std::fs::write(SOURCES, "1"))?.with_context(|| format!("writing {SOURCES}"))?;
            PORTS.make(&network, &body)
        };
        let thread = thread.spawn(make).context("starting the thread that locks ports")?;
        Ok(Some(Self { thread }))
    }

    /// Waits until the ports are locked.
    pub fn finish(self) -> anyhow::Result<()> {
        let made = self.thread.join().unwrap_or_else(|_| Err(anyhow!("the thread that locks ports panicked")));
        made.context("locking the ports of the lab's bridge to their machines")
    }
}

/// Reason, in one line, why this host cannot lock ports; `None` where it can. Tried once a boot.
#[must_use]
pub fn problem() -> Option<String> {
    let port = |number: u8| Port {
        device: DeviceName::port(number),
        mac: MacAddress([2, 0xe2, 0xe0, 0, 0, number]),
        address: Ipv4Addr::new(10, 0, 0, number),
    };
    PORTS.problem(&body(&[port(2), port(3)], Ipv4Addr::new(10, 0, 0, 1)))
}

/// Composes the table's chain with its rules.
fn body(ports: &[Port], bridge: Ipv4Addr) -> Text<Nft> {
    let begin = compose!(Nft, "chain identity {{\ntype filter hook prerouting priority -350; policy accept;\n");
    let tags = compose!(Nft, "ether type {{ 0x8100, 0x88a8 }} counter drop\n");
    let macs =
        compose!(Nft, "iifname . ether saddr != {{ {macs} }} counter drop\n", macs = pairs(ports, |port| port.mac));
    let addresses = || ports.iter().map(|port| compose!(Nft, "{address}", address = port.address));
    let senders = ["arp saddr ip", "ip saddr"].into_iter().map(|sender| {
        compose!(
            Nft,
            "{sender} {{ {bridge}, {all} }} iifname . {sender} != {{ {own} }} counter drop\n",
            sender = sender,
            bridge = bridge,
            all = list(addresses()),
            own = pairs(ports, |port| port.address),
        )
    });
    // Who asks for an address without one of its own says that it is about to take it.
    let probes = compose!(
        Nft,
        "arp saddr ip 0.0.0.0 arp daddr ip {{ {bridge}, {all} }} iifname . arp daddr ip != {{ {own} }} counter drop\n",
        bridge = bridge,
        all = list(addresses()),
        own = pairs(ports, |port| port.address),
    );
    let of_bridge = link_local(BRIDGE_MAC);
    let link_locals = ports.iter().map(Port::link_local).chain([of_bridge]);
    let link_local = compose!(
        Nft,
        "ip6 saddr {{ {all} }} iifname . ip6 saddr != {{ {own} }} counter drop\n",
        all = list(link_locals.map(|address| compose!(Nft, "{address}", address = address))),
        own = pairs(ports, Port::link_local),
    );
    let claims = ports
        .iter()
        .map(|port| claims(&compose!(Nft, "iifname != {device} ", device = port.device), port.link_local()));
    let all = [
        begin,
        tags,
        macs,
        senders.collect(),
        probes,
        link_local,
        claims.collect(),
        self::claims(&compose!(Nft, ""), of_bridge),
    ];
    all.into_iter().collect::<Text<Nft>>() + compose!(Nft, "}}")
}

/// Composes rules against announcing an IPv6 address from these ports, and against claiming it by duplicate address detection. They match
/// the address by its place in the packet, because nft before 1.0.8 has no word for it.
fn claims(from: &Text<Nft>, address: Ipv6Addr) -> Text<Nft> {
    let target = u128::from(address).to_be_bytes();
    let part =
        |place: usize| u32::from_be_bytes([target[place], target[place + 1], target[place + 2], target[place + 3]]);
    let kinds = ["icmpv6 type nd-neighbor-advert", "ip6 saddr :: icmpv6 type nd-neighbor-solicit"].into_iter();
    let rule = |kind| {
        compose!(
            Nft,
            "{from}{kind} @th,64,32 {a} @th,96,32 {b} @th,128,32 {c} @th,160,32 {d} counter drop\n",
            from = from.clone(),
            kind = kind,
            a = part(0),
            b = part(4),
            c = part(8),
            d = part(12),
        )
    };
    kinds.map(rule).collect()
}

/// Composes elements of a set: the device of each port, with what `value` returns for the port.
fn pairs<W: Word<Nft>>(ports: &[Port], value: impl Fn(&Port) -> W) -> Text<Nft> {
    let pair = |port: &Port| compose!(Nft, "{device} . {value}", device = port.device, value = value(port));
    list(ports.iter().map(pair))
}

fn list(parts: impl Iterator<Item = Text<Nft>>) -> Text<Nft> {
    let comma = |(place, part)| if place == 0 { part } else { compose!(Nft, ", ") + part };
    parts.enumerate().map(comma).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_has_its_machines_addresses() {
        let mac = MacAddress([2, 0xe2, 0xe0, 0, 0, 11]);
        let port = Port { device: DeviceName::port(11), mac, address: [10, 77, 0, 11].into() };
        assert_eq!(port.link_local().to_string(), "fe80::e2:e0ff:fe00:b");
        let text = body(&[port], [10, 77, 0, 1].into());
        for rule in [
            "ether type { 0x8100, 0x88a8 } counter drop",
            "iifname . ether saddr != { \"port11\" . 02:e2:e0:00:00:0b } counter drop",
            "arp saddr ip { 10.77.0.1, 10.77.0.11 } iifname . arp saddr ip != { \"port11\" . 10.77.0.11 } counter drop",
            "ip saddr { 10.77.0.1, 10.77.0.11 } iifname . ip saddr != { \"port11\" . 10.77.0.11 } counter drop",
            "arp saddr ip 0.0.0.0 arp daddr ip { 10.77.0.1, 10.77.0.11 } iifname . arp daddr ip != { \"port11\" . 10.77.0.11 } counter \
             drop",
            "ip6 saddr { fe80::e2:e0ff:fe00:b, fe80::e2:e0ff:fe00:1 } iifname . ip6 saddr != { \"port11\" . fe80::e2:e0ff:fe00:b } \
             counter drop",
            "iifname != \"port11\" icmpv6 type nd-neighbor-advert @th,64,32 4269801472 @th,96,32 0 @th,128,32 14868735 @th,160,32 \
             4261412875 counter drop",
            "iifname != \"port11\" ip6 saddr :: icmpv6 type nd-neighbor-solicit @th,64,32 4269801472 @th,96,32 0 @th,128,32 14868735 \
             @th,160,32 4261412875 counter drop",
            "icmpv6 type nd-neighbor-advert @th,64,32 4269801472 @th,96,32 0 @th,128,32 14868735 @th,160,32 4261412865 counter drop",
        ] {
            assert!(text.lines().any(|line| line == rule), "{rule}\n{text}");
        }
    }
}
