//! Packet filters that faults make and remove.

use std::sync::OnceLock;

use anyhow::{Context as _, bail};

use super::peer::{Network, network_of};
use crate::fault::effect::{FaultTarget, Keeper};
use crate::host::network::iptables;
use crate::host::network::netns::NetworkPlace;
use crate::host::network::nft::Table;
use crate::host::syntax::{Iptables, Nft, Text, compose};
use crate::host::undo::Undo;

/// Match of nft for IP packets. ARP is left out, so that peers still resolve the hardware address, and a healed link works at once.
pub const TRAVELS: &str = "ether type { ip, ip6 }";

/// Packet filter of a fault on one container. Each fault has a table of its own, so that several faults work side by side.
pub struct Filter {
    fault: &'static str,
    /// Families of nft in which the rules have the same meaning, the best first.
    families: &'static [&'static str],
    lies: Lies,
    /// Command that loads the parts of the kernel that the rules need.
    kernel: &'static str,
    /// Way in which this host keeps the filter; empty until the ways were tried.
    way: OnceLock<Way>,
    undo: Vec<Undo>,
}

/// Way in which a host keeps a filter: by nft or by iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Table of nft, of this family.
    Nft(&'static str),
    /// Chain of the fault in a table of iptables; `program` is `iptables` or `ip6tables`, `hook` the built-in chain that jumps to it.
    Iptables { program: &'static str, table: &'static str, hook: &'static str },
}

/// Rules of a filter, in the syntax of nft and, where possible, of iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Chains of a table of nft.
    pub nft: Text<Nft>,
    /// The same rules for iptables, for kernels whose nft lacks a part; `None` where iptables cannot express them.
    pub iptables: Option<IptablesRules>,
}

/// Rules of one chain of iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IptablesRules {
    pub table: &'static str,
    /// Built-in chain of the kernel that jumps to the rules.
    pub hook: &'static str,
    /// Rules, each without its chain.
    pub rules: Vec<Text<Iptables>>,
}

impl From<Text<Nft>> for Rules {
    fn from(nft: Text<Nft>) -> Self {
        Self { nft, iptables: None }
    }
}

/// Place of a filter's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    /// Bridge of the lab's network, where a restart of the container does not touch them.
    OnBridge,
    /// Container's port in the lab's network, which is a new port after a restart.
    AtPort,
    /// Container's own network, which ends with the container's processes.
    Inside,
}

impl Filter {
    /// Returns a filter on the lab's bridge, where a restart of the container does not undo it.
    pub fn on_bridge(fault: &'static str) -> Self {
        Self::of(fault, &["bridge"], Lies::OnBridge, "`modprobe nf_tables_bridge`")
    }

    /// Returns a filter for packets that leave the bridge through the container's port.
    pub fn at_port(fault: &'static str, kernel: &'static str) -> Self {
        Self::of(fault, &["netdev"], Lies::AtPort, kernel)
    }

    /// Returns a filter in the container's own network, which a restart of the container undoes.
    pub fn inside(fault: &'static str, families: &'static [&'static str], kernel: &'static str) -> Self {
        Self::of(fault, families, Lies::Inside, kernel)
    }

    fn of(fault: &'static str, families: &'static [&'static str], lies: Lies, kernel: &'static str) -> Self {
        Self { fault, families, lies, kernel, way: OnceLock::new(), undo: Vec::new() }
    }

    /// Returns the same filter for rules that need other parts of the kernel, which the command `kernel` loads.
    pub fn needs(self, kernel: &'static str) -> Self {
        Self { kernel, ..self }
    }

    fn network<'a>(&self, target: &FaultTarget<'a>) -> anyhow::Result<Network<'a>> {
        Ok(match self.lies {
            Lies::OnBridge | Lies::AtPort => Network::Lab(target.lab.network()),
            Lies::Inside => Network::Container(network_of(target.container)?),
        })
    }

    /// Returns the filter's network namespace as the ledger records it: by name or process, not by an open file, which would keep the
    /// container's namespace alive after its last process.
    fn place(&self, target: &FaultTarget<'_>) -> anyhow::Result<NetworkPlace> {
        match self.lies {
            Lies::OnBridge | Lies::AtPort => target.lab.network().place(),
            Lies::Inside => NetworkPlace::of_process(target.container.init_pid()?),
        }
    }

    /// Help text for a host that cannot keep the filter's rules.
    pub fn help(&self) -> String {
        format!("`cargo xtask setup` installs nft; for the kernel, {}", self.kernel)
    }

    /// Reason why this host cannot keep these rules, in one line; `None` where it can.
    pub fn problem(&self, rules: &Rules) -> Option<String> {
        let mut problems = Vec::new();
        for family in self.families {
            match (Table { family, name: "e2e_trial" }).problem(&rules.nft) {
                None => return self.goes(Way::Nft(family)),
                Some(problem) => problems.push(problem),
            }
        }
        if let Some(IptablesRules { table, hook, rules }) = &rules.iptables {
            match chain_of(table, hook, "e2e_trial".into()).program(rules) {
                Ok(program) => return self.goes(Way::Iptables { program, table, hook }),
                Err(problem) => problems.push(problem),
            }
        }
        problems.dedup();
        Some(problems.join("; "))
    }

    fn goes(&self, way: Way) -> Option<String> {
        let _ = self.way.set(way); // the same as before, if it was known
        None
    }

    fn way(&self) -> Way {
        self.way.get().copied().unwrap_or(Way::Nft(self.families[0]))
    }

    pub fn exists(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.exists(&network),
            Way::Iptables { table, hook, .. } => chain_of(table, hook, name).exists(&network),
        }
    }

    /// Place from which the rules could be removed: root in the container can remove those in the container's own network.
    pub fn keeper(&self) -> Keeper {
        if self.lies == Lies::Inside { Keeper::Container } else { Keeper::Host }
    }

    /// Tells whether the rules survive a restart of the container.
    pub fn outlives_container(&self) -> bool {
        self.lies == Lies::OnBridge
    }

    /// Makes the filter from these rules, with its undo step in the ledger first.
    pub fn make(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        self.note(target)?;
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.make(&network, &rules.nft),
            Way::Iptables { program, table, hook } => {
                let rules = rules.iptables.context("these rules have no equivalent in iptables")?;
                chain_of(table, hook, name).make(program, &network, &rules.rules)
            }
        }
    }

    /// Removes what is left of the filter, and makes it anew.
    pub fn make_again(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.delete(&network)?,
            Way::Iptables { table, hook, .. } => chain_of(table, hook, name).delete(&network)?,
        }
        self.make(target, rules)
    }

    /// Writes the filter's undo step to the ledger.
    pub fn note(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (network, name) = (self.place(target)?, self.name(target));
        let undo = match self.way() {
            Way::Nft(family) => Undo::DeleteTable { network, family: family.to_owned(), table: name },
            Way::Iptables { table, hook, .. } => Undo::DeleteChain { network, chain: chain_of(table, hook, name) },
        };
        target.lab.guard().note(vec![undo.clone()])?;
        if !self.undo.contains(&undo) {
            self.undo.push(undo);
        }
        Ok(())
    }

    /// Removes the filter; does nothing where it was not made.
    pub fn take_back(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        target.lab.guard().undo(self.undo.clone())
    }

    /// Observes that packets are missing. A machine that is slow, or that another fault cuts off, misses packets as well: they count as
    /// dropped by this filter only where it has dropped some meanwhile.
    ///
    /// # Errors
    /// Also when the filter dropped no packet.
    pub fn drops(
        &self,
        target: &FaultTarget<'_>,
        observe: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let before = self.packets(target)?;
        let seen = observe()?;
        match self.packets(target)?.saturating_sub(before) {
            0 => bail!("{seen}, but the fault's rules dropped no packet: something else loses the packets"),
            1 => Ok(format!("{seen}; 1 packet dropped")),
            dropped => Ok(format!("{seen}; {dropped} packets dropped")),
        }
    }

    fn packets(&self, target: &FaultTarget<'_>) -> anyhow::Result<u64> {
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.packets(&network),
            Way::Iptables { program, table, hook } => chain_of(table, hook, name).packets(program, &network),
        }
    }

    /// Returns the name of the filter's table or chain, which ends in the container's port.
    pub fn name(&self, target: &FaultTarget<'_>) -> String {
        format!("{}_{}", self.fault.replace(['.', '-'], "_"), target.container.machine().port())
    }
}

fn chain_of(table: &str, hook: &str, name: String) -> iptables::Chain {
    iptables::Chain { table: table.to_owned(), hook: hook.to_owned(), name }
}

/// Priority of filters on a bridge, which nft calls `filter` there. br_netfilter, of priority 0, takes bridged packets to the chains of IP
/// and returns them behind its own priority, so that they would skip a chain of priority 0.
const PRIORITY_ON_BRIDGE: i32 = -200;

/// Returns a chain of filters on a bridge with these rules, each of which ends in a newline.
pub fn chain(hook: &'static str, rules: &Text<Nft>) -> Text<Nft> {
    compose!(
        Nft,
        "chain {hook} {{\ntype filter hook {hook} priority {priority}\n{rules}}}\n",
        hook = hook,
        priority = PRIORITY_ON_BRIDGE,
        rules = *rules,
    )
}
