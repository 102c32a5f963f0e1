//! Packet filters that a fault makes, and takes back.

use crate::error::Error;
use crate::fault::effect::Site;
use crate::fault::injection::usage;
use crate::host::netns::NetworkNamespace;
use crate::host::nft::Table;
use crate::host::undo::Undo;

/// What travels: without it, a peer still learns the hardware address, and hears a healed link at once.
pub const TRAVELS: &str = "ether type { ip, ip6 }";

/// A fault's table on one container: different faults have different ones, and stand side by side.
pub struct Filter {
    fault: &'static str,
    family: &'static str,
    undo: Vec<Undo>,
}

impl Filter {
    /// On the lab's bridge, where a restart of the container does not undo it.
    pub fn on_bridge(fault: &'static str) -> Self {
        Self::of("bridge", fault)
    }

    /// Of another family of tables.
    pub fn of(family: &'static str, fault: &'static str) -> Self {
        Self { fault, family, undo: Vec::new() }
    }

    /// Whether this host can make tables of these lines.
    ///
    /// # Errors
    /// What is missing, and the cure.
    pub fn supported(&self, body: &str, kernel: &str) -> anyhow::Result<()> {
        let Some(problem) = Table { family: self.family, name: "e2e_trial" }.problem(body) else { return Ok(()) };
        let cure = format!("`cargo xtask setup` installs nft; of the kernel it takes {kernel}");
        Err(Error::Host { problem: format!("{}: {problem}", self.fault), cure }.into())
    }

    /// Refuses a second table of the same kind.
    ///
    /// # Errors
    /// When there is one, or nft cannot be asked.
    pub fn expect_none(&self, site: &Site<'_>, network: &NetworkNamespace) -> anyhow::Result<()> {
        if self.exists(site, network)? {
            return Err(usage(format!("{} is done to {} already: heal that first", self.fault, site.name())));
        }
        Ok(())
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// When nft cannot be asked.
    pub fn exists(&self, site: &Site<'_>, network: &NetworkNamespace) -> anyhow::Result<bool> {
        Table { family: self.family, name: &self.name(site) }.exists(network)
    }

    /// Makes it of these lines.
    ///
    /// # Errors
    /// With what nft said.
    pub fn make(&mut self, site: &Site<'_>, network: &NetworkNamespace, body: &str) -> anyhow::Result<()> {
        self.note(site, network)?;
        Table { family: self.family, name: &self.name(site) }.make(network, body)
    }

    /// Makes it anew where it is not whole any more.
    ///
    /// # Errors
    /// With what nft said.
    pub fn make_again(&mut self, site: &Site<'_>, network: &NetworkNamespace, body: &str) -> anyhow::Result<()> {
        Table { family: self.family, name: &self.name(site) }.delete(network)?;
        self.make(site, network, body)
    }

    /// Writes down how it is taken back.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn note(&mut self, site: &Site<'_>, network: &NetworkNamespace) -> anyhow::Result<()> {
        let undo =
            Undo::DeleteTable { network: network.place()?, family: self.family.to_owned(), table: self.name(site) };
        site.note(vec![undo.clone()])?;
        if !self.undo.contains(&undo) {
            self.undo.push(undo);
        }
        Ok(())
    }

    /// Takes it back; one that was not made is fine.
    ///
    /// # Errors
    /// When it is still there.
    pub fn take_back(&self, site: &Site<'_>) -> anyhow::Result<()> {
        site.undo(self.undo.clone())
    }

    /// Its name, by the container's port.
    pub fn name(&self, site: &Site<'_>) -> String {
        format!("{}_{}", self.fault.replace(['.', '-'], "_"), site.container.machine().port())
    }
}

/// A chain of filters with these rules, each ended by a line's end.
pub fn chain(hook: &str, rules: &str) -> String {
    format!("chain {hook} {{\ntype filter hook {hook} priority 0\n{rules}}}\n")
}
