//! Handing packets to a queue that a program reads: what nft can do on few kernels only, iptables can on most.

use std::net::Ipv4Addr;

use anyhow::Context as _;

use super::netns::NetworkNamespace;
use super::shell::which;

/// Whether packets that pass a bridge are shown to iptables. Every network namespace has its own.
const SHOW_BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// The mark of packets that the bridge's own machine sends past every queue, to see what else the link does to them.
pub const UNDELAYED: u32 = 0xe2e;

/// The tables in which rules fill queues, in the order in which packets meet them. A packet that comes back from a queue
/// passes the rest of its table by: queues that are to see the same packets lie in different ones.
const TABLES: [&str; 2] = ["mangle", "filter"];

/// Where a queue lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Packets meet it first.
    First,
    /// They meet it after that.
    Second,
}

/// Both, in order.
pub const STAGES: [Stage; 2] = [Stage::First, Stage::Second];

impl Stage {
    /// The number of the queue that lies here, of a machine with this number.
    #[must_use]
    pub fn queue(self, machine: u8) -> u16 {
        match self {
            Self::First => u16::from(machine),
            Self::Second => u16::from(machine) + (1 << 8),
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::First => TABLES[0],
            Self::Second => TABLES[1],
        }
    }
}

/// Which packets go into a queue: all that a bridge sends out through one port.
#[derive(Debug, Clone, Copy)]
pub struct QueueRules<'a> {
    /// The queue's number: one for each set of rules in a namespace.
    pub queue: u16,
    /// Where it lies.
    pub stage: Stage,
    /// The bridge.
    pub bridge: &'a str,
    /// Its port, which need not be there yet.
    pub port: &'a str,
    /// Who is behind that port: what the bridge's own machine sends is told by address.
    pub address: Ipv4Addr,
}

impl QueueRules<'_> {
    /// Puts the rules in place. Where no program reads the queue, packets pass.
    ///
    /// # Errors
    /// With what iptables said; no rule is there then.
    pub fn insert(&self, network: &NetworkNamespace) -> anyhow::Result<()> {
        let script = self.script();
        network.command("iptables-restore").args(["--wait", "5", "--noflush"]).stdin(script).run()?;
        let shown = network.inside(|| std::fs::write(SHOW_BRIDGED, "1")).and_then(|written| written);
        shown.with_context(|| format!("writing {SHOW_BRIDGED}"))
    }

    /// What is sent from one port to another is forwarded; what the bridge's own machine sends is not.
    fn script(&self) -> String {
        let Self { queue, stage, bridge, port, address } = self;
        let table = stage.table();
        let target = format!("-j NFQUEUE --queue-num {queue} --queue-bypass");
        format!(
            "*{table}\n\
             -I FORWARD -m physdev --physdev-is-bridged --physdev-out {port} {target}\n\
             -I OUTPUT -o {bridge} -d {address} -m mark ! --mark {UNDELAYED:#x} {target}\n\
             COMMIT\n"
        )
    }
}

/// Removes the rules that fill a queue; none is fine.
///
/// # Errors
/// When one is there afterwards.
pub fn delete_queue_rules(network: &NetworkNamespace, queue: u16) -> anyhow::Result<()> {
    for table in TABLES {
        let rules = queue_rules_in(network, table, queue)?;
        if rules.is_empty() {
            continue;
        }
        let lines: String = rules.iter().map(|rule| format!("{}\n", rule.replacen("-A ", "-D ", 1))).collect();
        let script = format!("*{table}\n{lines}COMMIT\n");
        network.command("iptables-restore").args(["--wait", "5", "--noflush"]).stdin(script).run()?;
        let left = queue_rules_in(network, table, queue)?;
        anyhow::ensure!(left.is_empty(), "iptables still has the rules\n{}", left.join("\n"));
    }
    Ok(())
}

/// The rules that fill a queue, as `iptables -S` shows them. Without iptables there are none.
///
/// # Errors
/// When iptables cannot be asked.
pub fn queue_rules(network: &NetworkNamespace, queue: u16) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for table in TABLES {
        found.extend(queue_rules_in(network, table, queue)?);
    }
    Ok(found)
}

fn queue_rules_in(network: &NetworkNamespace, table: &str, queue: u16) -> anyhow::Result<Vec<String>> {
    if which("iptables").is_none() {
        return Ok(Vec::new());
    }
    let listing = network.command("iptables").args(["--wait", "5", "-t", table, "-S"]).run()?.text();
    Ok(rules_of(&listing, queue))
}

/// What keeps iptables from filling a queue; `None` when nothing does. Tried in a namespace of its own.
#[must_use]
pub fn queue_problem() -> Option<String> {
    if which("iptables-restore").is_none() {
        return Some("iptables is not installed".into());
    }
    let (port, address) = ("port0", Ipv4Addr::new(192, 0, 2, 1));
    let rules = |stage| QueueRules { queue: 1, stage, bridge: "br0", port, address };
    let tried =
        NetworkNamespace::make().and_then(|network| STAGES.iter().try_for_each(|stage| rules(*stage).insert(&network)));
    tried.err().map(|error| format!("{error:#}"))
}

fn rules_of(listing: &str, queue: u16) -> Vec<String> {
    let queue = queue.to_string();
    let fills = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&"-A") && words.windows(2).any(|pair| pair == ["--queue-num", &queue])
    };
    listing.lines().filter(fills).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_the_port_are_covered_and_a_dead_reader_lets_packets_pass() {
        let address = Ipv4Addr::new(10, 77, 0, 12);
        let rules = QueueRules { queue: 12, stage: Stage::Second, bridge: "br0", port: "port12", address }.script();
        assert!(rules.starts_with("*filter\n"), "{rules}");
        let lines: Vec<&str> = rules.lines().filter(|line| line.starts_with("-I")).collect();
        assert!(lines[0].starts_with("-I FORWARD ") && lines[0].contains("--physdev-out port12 "), "{rules}");
        assert!(lines[1].starts_with("-I OUTPUT ") && lines[1].contains("-d 10.77.0.12 "), "{rules}");
        assert!(lines.iter().all(|line| line.ends_with("--queue-num 12 --queue-bypass")), "{rules}");
    }

    #[test]
    fn only_rules_of_the_queue_itself_are_found() {
        let listing = "-P FORWARD ACCEPT\n\
            -A FORWARD -m physdev --physdev-out port12 --physdev-is-bridged -j NFQUEUE --queue-num 12 --queue-bypass\n\
            -A FORWARD -m physdev --physdev-out port1 --physdev-is-bridged -j NFQUEUE --queue-num 1 --queue-bypass\n\
            -A OUTPUT -d 10.77.0.12/32 -o br0 -j NFQUEUE --queue-num 12 --queue-bypass\n";
        let found = rules_of(listing, 12);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].starts_with("-A OUTPUT"), "{found:?}");
        assert_eq!(rules_of(listing, 1).len(), 1);
        assert_eq!(rules_of(listing, 2), Vec::<String>::new());
    }
}
