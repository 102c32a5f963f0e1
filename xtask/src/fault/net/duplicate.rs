//! Some of the packets to the container arrive twice.

use std::sync::OnceLock;

use super::filter::{Filter, Rules};
use super::peer::{expect_up, until_healed};
use super::tally::{Happens, Tally};
use crate::error::Error;
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::iptables::UNDELAYED;
use crate::host::syntax::{DeviceName, Nft, Text, compose};
use crate::host::tc::{self, Qdisc};
use crate::host::undo::Undo;

/// A copy carries it, so that it is not copied again; it does not leave the lab's namespace.
const COPY_MARK: &str = "0xe2ec";

/// Packets are copied where they leave through the port.
pub struct Duplicate {
    percent: u8,
    filter: Filter,
    tally: Tally,
    means: OnceLock<Means>,
    undo: Vec<Undo>,
}

/// Means of copying packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// A rule of nft, which stands beside what slows the link.
    Filter,
    /// Netem, where nft cannot copy.
    Netem,
}

impl Duplicate {
    pub fn new(percent: u8) -> Self {
        let tally = Tally::new(Happens::Doubled, f64::from(percent.max(1)) / 100.0, Some(UNDELAYED));
        Self {
            percent,
            filter: Filter::in_lab(&["netdev"], "net.duplicate"),
            tally,
            means: OnceLock::new(),
            undo: Vec::new(),
        }
    }

    /// The means of this host.
    fn means(&self) -> anyhow::Result<Means> {
        if let Some(means) = self.means.get() {
            return Ok(*means);
        }
        let filter = self.filter.problem(&Rules::from(&self.rules(&DeviceName::LOOPBACK)));
        let means = match filter {
            None => Means::Filter,
            Some(filter) => match self.qdisc().problem() {
                None => Means::Netem,
                Some(netem) => {
                    let problem = format!("net.duplicate: {filter}; {netem}");
                    let help = "Linux 5.16 with nft and `modprobe -a nft_dup_netdev nft_numgen`, or tc and \
                                `modprobe sch_netem`";
                    return Err(Error::Host { problem, help: help.into() }.into());
                }
            },
        };
        Ok(*self.means.get_or_init(|| means))
    }

    fn qdisc(&self) -> Qdisc {
        Qdisc::Duplicate { percent: self.percent }
    }

    fn exists(&self, site: &Site<'_>) -> anyhow::Result<bool> {
        match self.means()? {
            Means::Filter => self.filter.exists(site),
            Means::Netem => Ok(tc::root_kind(site.lab.network(), &site.container.machine().port())?.is_some()),
        }
    }

    fn rules(&self, port: &DeviceName) -> Text<Nft> {
        compose!(
            Nft,
            "chain egress {{\n\
             type filter hook egress device {port} priority 0\n\
             meta mark {mark} accept\n\
             meta protocol {{ ip, ip6 }} numgen random mod 100 <= {last} meta mark set {mark} counter \
             dup to {port} meta mark set 0\n\
             }}\n",
            port = *port,
            mark = COPY_MARK,
            last = self.percent - 1, // of as many as there are percents
        )
    }
}

impl Effect for Duplicate {
    fn supported(&self) -> anyhow::Result<()> {
        self.means().map(drop)
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        match self.means()? {
            Means::Filter => self.filter.expect_none(site)?,
            Means::Netem => {
                if let Some(kind) = tc::root_kind(site.lab.network(), &site.container.machine().port())? {
                    let name = site.name();
                    return Err(usage(format!("net.duplicate: {name} has {kind} at its port: heal that first")));
                }
            }
        }
        self.tally.before(site)
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let (network, port) = (site.lab.network(), site.container.machine().port());
        if self.means()? == Means::Netem {
            let undo = vec![Undo::DeleteQdisc { network: network.place()?, device: port.to_string() }];
            site.note(undo.clone())?;
            self.undo = undo;
            return self.qdisc().set(network, &port);
        }
        let rules = self.rules(&port);
        self.filter.make(site, &rules)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        self.tally.bites(site)
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        Lasted::proved(self.tally.bites_once(site), Keeper::Host, || self.exists(site))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        site.undo(self.undo.clone())?;
        self.filter.take_back(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.exists(site);
        until_healed(site, "nothing copies its packets any more", is_left, || self.tally.healed(site))
    }

    /// The port was a new one, and its rules went with the old one.
    fn restore(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let (network, port) = (site.lab.network(), site.container.machine().port());
        match self.means()? {
            Means::Filter => self.filter.make_again(site, &self.rules(&port)),
            Means::Netem if self.exists(site)? => Ok(()),
            Means::Netem => self.qdisc().set(network, &port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_copied_again() {
        let rules = Duplicate::new(30).rules(&DeviceName::port(12));
        let lines: Vec<&str> = rules.lines().collect();
        assert_eq!(lines[2], "meta mark 0xe2ec accept", "{rules}");
        assert!(lines[3].contains("meta mark set 0xe2ec counter dup to \"port12\" meta mark set 0"), "{rules}");
    }
}
