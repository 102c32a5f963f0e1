//! Packet filters that a fault makes, and takes back.

use std::sync::OnceLock;

use anyhow::{Context as _, bail};

use super::peer::{Network, network_of};
use crate::fault::effect::{FaultTarget, Keeper};
use crate::host::network::iptables;
use crate::host::network::netns::NetworkPlace;
use crate::host::network::nft::Table;
use crate::host::syntax::{Iptables, Nft, Text, compose};
use crate::host::undo::Undo;

/// Match of packets that carry data. Others pass: a peer still learns the hardware address, and hears a healed link at
/// once.
pub const TRAVELS: &str = "ether type { ip, ip6 }";

/// A fault's table on one container: different faults have different ones, and stand side by side.
pub struct Filter {
    fault: &'static str,
    /// Families of nft in which the rules mean the same, the best first.
    families: &'static [&'static str],
    lies: Lies,
    /// Parts of the kernel that it takes, as a command that loads them.
    kernel: &'static str,
    /// The way that this host can go, once it is known.
    way: OnceLock<Way>,
    undo: Vec<Undo>,
}

/// Means by which a host keeps a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A table of this family.
    Nft(&'static str),
    /// A chain of iptables, by this program.
    Iptables { program: &'static str, table: &'static str, hook: &'static str },
}

/// The rules of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The chains of a table of nft.
    pub nft: Text<Nft>,
    /// The same in words of iptables, for kernels whose nft lacks a part; not everything can be said in them.
    pub iptables: Option<IptablesRules>,
}

/// Rules of one chain of iptables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IptablesRules {
    /// The table.
    pub table: &'static str,
    /// The kernel's chain that leads to them.
    pub hook: &'static str,
    /// Rules, each without its chain.
    pub rules: Vec<Text<Iptables>>,
}

impl From<Text<Nft>> for Rules {
    fn from(nft: Text<Nft>) -> Self {
        Self { nft, iptables: None }
    }
}

/// Network namespace of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    /// The lab's, on the bridge, which a restart of the container does not touch.
    OnBridge,
    /// The lab's, at the container's port, which is a new one after a restart.
    AtPort,
    /// The container's own, which ends with its processes.
    Inside,
}

impl Filter {
    /// Returns a filter on the lab's bridge, where a restart of the container does not undo it.
    pub fn on_bridge(fault: &'static str) -> Self {
        Self::of(fault, &["bridge"], Lies::OnBridge, "`modprobe nf_tables_bridge`")
    }

    /// Returns a filter of what leaves through the container's port.
    pub fn at_port(fault: &'static str, kernel: &'static str) -> Self {
        Self::of(fault, &["netdev"], Lies::AtPort, kernel)
    }

    /// Returns a filter in the container itself, where a restart of it undoes it.
    pub fn inside(fault: &'static str, families: &'static [&'static str], kernel: &'static str) -> Self {
        Self::of(fault, families, Lies::Inside, kernel)
    }

    fn of(fault: &'static str, families: &'static [&'static str], lies: Lies, kernel: &'static str) -> Self {
        Self { fault, families, lies, kernel, way: OnceLock::new(), undo: Vec::new() }
    }

    /// The same filter, whose rules take other parts of the kernel.
    pub fn needs(self, kernel: &'static str) -> Self {
        Self { kernel, ..self }
    }

    fn network<'a>(&self, target: &FaultTarget<'a>) -> anyhow::Result<Network<'a>> {
        Ok(match self.lies {
            Lies::OnBridge | Lies::AtPort => Network::Lab(target.lab.network()),
            Lies::Inside => Network::Container(network_of(target.container)?),
        })
    }

    /// Returns that place for others. Nobody holds a container's network beside its processes: it would live on without
    /// them.
    fn place(&self, target: &FaultTarget<'_>) -> anyhow::Result<NetworkPlace> {
        match self.lies {
            Lies::OnBridge | Lies::AtPort => target.lab.network().place(),
            Lies::Inside => NetworkPlace::of_process(target.container.init_pid()?),
        }
    }

    /// Returns the help where this host cannot keep such rules.
    pub fn help(&self) -> String {
        format!("`cargo xtask setup` installs nft; of the kernel it takes {}", self.kernel)
    }

    /// Returns a line with the reason why this host cannot keep such rules; `None` when it can.
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

    /// Tells whether it exists.
    ///
    /// # Errors
    /// When nft cannot be asked.
    pub fn exists(&self, target: &FaultTarget<'_>) -> anyhow::Result<bool> {
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.exists(&network),
            Way::Iptables { table, hook, .. } => chain_of(table, hook, name).exists(&network),
        }
    }

    /// Side that could remove it: rules of the container's own network are within reach of root there.
    pub fn keeper(&self) -> Keeper {
        if self.lies == Lies::Inside { Keeper::Container } else { Keeper::Host }
    }

    /// Tells whether a start of the container leaves it as it is.
    pub fn outlives_container(&self) -> bool {
        self.lies == Lies::OnBridge
    }

    /// Makes it of these rules.
    ///
    /// # Errors
    /// With what nft or iptables said.
    pub fn make(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        self.note(target)?;
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.make(&network, &rules.nft),
            Way::Iptables { program, table, hook } => {
                let rules = rules.iptables.context("these rules cannot be said in words of iptables")?;
                chain_of(table, hook, name).make(program, &network, &rules.rules)
            }
        }
    }

    /// Makes it anew where it is not whole any more.
    ///
    /// # Errors
    /// With what nft or iptables said.
    pub fn make_again(&mut self, target: &FaultTarget<'_>, rules: Rules) -> anyhow::Result<()> {
        let (network, name) = (self.network(target)?, self.name(target));
        match self.way() {
            Way::Nft(family) => Table { family, name: &name }.delete(&network)?,
            Way::Iptables { table, hook, .. } => chain_of(table, hook, name).delete(&network)?,
        }
        self.make(target, rules)
    }

    /// Writes down how it is taken back.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn note(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (network, name) = (self.place(target)?, self.name(target));
        let undo = match self.way() {
            Way::Nft(family) => Undo::DeleteTable { network, family: family.to_owned(), table: name },
            Way::Iptables { table, hook, .. } => Undo::DeleteChain { network, chain: chain_of(table, hook, name) },
        };
        target.note(vec![undo.clone()])?;
        if !self.undo.contains(&undo) {
            self.undo.push(undo);
        }
        Ok(())
    }

    /// Takes it back; one that was not made is fine.
    ///
    /// # Errors
    /// When it is still there.
    pub fn take_back(&self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        target.undo(self.undo.clone())
    }

    /// Observes that packets are missing. A machine that is slow, or that another fault cuts off, misses them as well: they
    /// are this filter's work only where it has dropped some meanwhile.
    ///
    /// # Errors
    /// Those of `observe`; when nothing was dropped.
    pub fn drops(
        &self,
        target: &FaultTarget<'_>,
        observe: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let before = self.packets(target)?;
        let seen = observe()?;
        match self.packets(target)?.saturating_sub(before) {
            0 => bail!("{seen}, but no packet was dropped"),
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

    /// Returns its name, from the container's port.
    pub fn name(&self, target: &FaultTarget<'_>) -> String {
        format!("{}_{}", self.fault.replace(['.', '-'], "_"), target.container.machine().port())
    }
}

fn chain_of(table: &str, hook: &str, name: String) -> iptables::Chain {
    iptables::Chain { table: table.to_owned(), hook: hook.to_owned(), name }
}

/// Priority of filters on a bridge: what nft calls `filter` there. At 0 stands br_netfilter, which takes bridged packets to the
/// chains of IP and brings them back behind its own priority, so that a chain at 0 is passed over.
const PRIORITY_ON_BRIDGE: i32 = -200;

/// A chain of filters on a bridge with these rules, each ended by a line's end.
pub fn chain(hook: &'static str, rules: &Text<Nft>) -> Text<Nft> {
    compose!(
        Nft,
        "chain {hook} {{\ntype filter hook {hook} priority {priority}\n{rules}}}\n",
        hook = hook,
        priority = PRIORITY_ON_BRIDGE,
        rules = *rules,
    )
}
