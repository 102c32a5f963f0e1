//! Packet filters that a fault makes, and takes back.

use anyhow::bail;

use super::peer::{Network, network_of};
use crate::error::Error;
use crate::fault::effect::Site;
use crate::fault::injection::usage;
use crate::host::netns::NetworkPlace;
use crate::host::nft::Table;
use crate::host::undo::Undo;

/// What travels: without it, a peer still learns the hardware address, and hears a healed link at once.
pub const TRAVELS: &str = "ether type { ip, ip6 }";

/// A fault's table on one container: different faults have different ones, and stand side by side.
pub struct Filter {
    fault: &'static str,
    family: &'static str,
    lies: Lies,
    undo: Vec<Undo>,
}

/// In which network namespace a table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lies {
    /// In the lab's, which a restart of the container does not touch.
    InLab,
    /// In the container's own, which ends with its processes.
    Inside,
}

impl Filter {
    /// On the lab's bridge, where a restart of the container does not undo it.
    pub fn on_bridge(fault: &'static str) -> Self {
        Self::in_lab("bridge", fault)
    }

    /// Of another family of tables in the lab.
    pub fn in_lab(family: &'static str, fault: &'static str) -> Self {
        Self { fault, family, lies: Lies::InLab, undo: Vec::new() }
    }

    /// In the container itself, where a restart of it undoes it.
    pub fn inside(family: &'static str, fault: &'static str) -> Self {
        Self { fault, family, lies: Lies::Inside, undo: Vec::new() }
    }

    fn network<'a>(&self, site: &Site<'a>) -> anyhow::Result<Network<'a>> {
        Ok(match self.lies {
            Lies::InLab => Network::Lab(site.lab.network()),
            Lies::Inside => Network::Container(network_of(site.container)?),
        })
    }

    /// Where that is for others. Nobody holds a container's network beside its processes: it would live on without them.
    fn place(&self, site: &Site<'_>) -> anyhow::Result<NetworkPlace> {
        match self.lies {
            Lies::InLab => site.lab.network().place(),
            Lies::Inside => NetworkPlace::of_process(site.container.init_pid()?),
        }
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
    pub fn expect_none(&self, site: &Site<'_>) -> anyhow::Result<()> {
        if self.exists(site)? {
            return Err(usage(format!("{} is done to {} already: heal that first", self.fault, site.name())));
        }
        Ok(())
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// When nft cannot be asked.
    pub fn exists(&self, site: &Site<'_>) -> anyhow::Result<bool> {
        Table { family: self.family, name: &self.name(site) }.exists(&*self.network(site)?)
    }

    /// Makes it of these lines.
    ///
    /// # Errors
    /// With what nft said.
    pub fn make(&mut self, site: &Site<'_>, body: &str) -> anyhow::Result<()> {
        self.note(site)?;
        Table { family: self.family, name: &self.name(site) }.make(&*self.network(site)?, body)
    }

    /// Makes it anew where it is not whole any more.
    ///
    /// # Errors
    /// With what nft said.
    pub fn make_again(&mut self, site: &Site<'_>, body: &str) -> anyhow::Result<()> {
        Table { family: self.family, name: &self.name(site) }.delete(&*self.network(site)?)?;
        self.make(site, body)
    }

    /// Writes down how it is taken back.
    ///
    /// # Errors
    /// When the guard is gone.
    pub fn note(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let undo =
            Undo::DeleteTable { network: self.place(site)?, family: self.family.to_owned(), table: self.name(site) };
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

    /// Observes that packets are missing. A machine that is slow, or that another fault cuts off, misses them as well: they
    /// are this filter's work only where it has dropped some meanwhile.
    ///
    /// # Errors
    /// Those of `observe`; when nothing was dropped.
    pub fn drops(&self, site: &Site<'_>, observe: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        let before = self.packets(site)?;
        let seen = observe()?;
        match self.packets(site)?.saturating_sub(before) {
            0 => bail!("{seen}, but no packet was dropped"),
            1 => Ok(format!("{seen}; 1 packet dropped")),
            dropped => Ok(format!("{seen}; {dropped} packets dropped")),
        }
    }

    fn packets(&self, site: &Site<'_>) -> anyhow::Result<u64> {
        Table { family: self.family, name: &self.name(site) }.packets(&*self.network(site)?)
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
