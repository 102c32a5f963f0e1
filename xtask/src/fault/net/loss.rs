//! Some of the packets to the container get lost.

use super::filter::{Filter, TRAVELS, chain};
use super::peer::{expect_up, until_healed};
use super::tally::{Happens, Tally};
use crate::fault::effect::{Effect, Lasted, Site};
use crate::host::iptables::UNDELAYED;
use crate::host::syntax::{DeviceName, Nft, Text, compose};

/// A bad link.
pub struct Loss {
    which: Which,
    filter: Filter,
    tally: Tally,
}

/// Choice of lost packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// A percentage, at random.
    Random { percent: u8 },
    /// Every n-th packet.
    Nth { every: u32 },
}

impl Loss {
    pub fn random(percent: u8) -> Self {
        Self::of("net.loss", Which::Random { percent }, f64::from(percent.max(1)) / 100.0)
    }

    pub fn nth(every: u32) -> Self {
        Self::of("net.nth-loss", Which::Nth { every }, 1.0 / f64::from(every))
    }

    fn of(fault: &'static str, which: Which, share: f64) -> Self {
        Self { which, filter: Filter::on_bridge(fault), tally: Tally::new(Happens::Lost, share, Some(UNDELAYED)) }
    }

    /// Routes all egress of the port through one chain, so that one counter counts it.
    fn rules(&self, port: &DeviceName) -> Text<Nft> {
        let lost = match self.which {
            Which::Random { percent } => compose!(Nft, "numgen random mod 100 <= {last}", last = percent - 1),
            Which::Nth { every } => compose!(Nft, "numgen inc mod {every} {last}", every = every, last = every - 1),
        };
        let rule = compose!(
            Nft,
            "oifname {port} {travels} {lost} counter drop\n",
            port = *port,
            travels = TRAVELS,
            lost = lost,
        );
        chain("postrouting", &rule)
    }
}

impl Effect for Loss {
    fn supported(&self) -> anyhow::Result<()> {
        self.filter.supported(&self.rules(&DeviceName::port(0)), "`modprobe -a nf_tables_bridge nft_numgen`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        self.filter.expect_none(site)?;
        self.tally.before(site)
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let rules = self.rules(&site.container.machine().port());
        self.filter.make(site, &rules)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        self.filter.drops(site, || self.tally.bites(site))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        let proof = self.filter.drops(site, || self.tally.bites_once(site));
        self.filter.lasts(site, proof)
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.take_back(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.filter.exists(site);
        until_healed(site, "nothing loses its packets any more", is_left, || self.tally.healed(site))
    }

    fn outlives_container(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_says_which_packets_and_only_those_to_the_port() {
        let rules = Loss::random(30).rules(&DeviceName::port(12));
        assert!(rules.contains("oifname \"port12\" ether type { ip, ip6 } numgen random mod 100 <= 29 counter drop"));
        assert!(
            Loss::nth(3).rules(&DeviceName::port(12)).contains(" numgen inc mod 3 2 counter drop\n"),
            "the third, not the first"
        );
    }
}
