//! Some of the packets to the container arrive twice.

use super::filter::Filter;
use super::peer::{expect_up, until_healed};
use super::tally::{Happens, Tally};
use crate::fault::effect::{Effect, Site};
use crate::fault::injection::usage;
use crate::host::iptables::UNDELAYED;

/// A copy carries it, so that it is not copied again; it does not leave the lab's namespace.
const COPY_MARK: &str = "0xe2ec";

/// Packets are copied where they leave through the port.
pub struct Duplicate {
    percent: u8,
    filter: Filter,
    tally: Tally,
}

impl Duplicate {
    pub fn new(percent: u8) -> Self {
        let tally = Tally::new(Happens::Doubled, f64::from(percent.max(1)) / 100.0, Some(UNDELAYED));
        Self { percent, filter: Filter::in_lab("netdev", "net.duplicate"), tally }
    }

    fn check(&self) -> anyhow::Result<()> {
        if !(1..=100).contains(&self.percent) {
            return Err(usage("net.duplicate: percent is 1 to 100"));
        }
        Ok(())
    }

    fn rules(&self, port: &str) -> String {
        let last = self.percent - 1; // of as many as there are percents
        format!(
            "chain egress {{\n\
             type filter hook egress device \"{port}\" priority 0\n\
             meta mark {COPY_MARK} accept\n\
             meta protocol {{ ip, ip6 }} numgen random mod 100 <= {last} meta mark set {COPY_MARK} counter \
             dup to \"{port}\" meta mark set 0\n\
             }}\n"
        )
    }
}

impl Effect for Duplicate {
    fn supported(&self) -> anyhow::Result<()> {
        self.check()?;
        self.filter.supported(&self.rules("lo"), "Linux 5.16 and `modprobe -a nft_dup_netdev nft_numgen`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        self.check()?;
        expect_up(site)?;
        self.filter.expect_none(site)?;
        self.tally.before(site)
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let rules = self.rules(&site.container.machine().port());
        self.filter.make(site, &rules)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        self.tally.bites(site)
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.take_back(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.filter.exists(site);
        until_healed(site, "nothing copies its packets any more", is_left, || self.tally.healed(site))
    }

    /// The port was a new one, and its rules went with the old one.
    fn restore(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let rules = self.rules(&site.container.machine().port());
        self.filter.make_again(site, &rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_copied_again() {
        let rules = Duplicate::new(30).rules("port12");
        let lines: Vec<&str> = rules.lines().collect();
        assert_eq!(lines[2], "meta mark 0xe2ec accept", "{rules}");
        assert!(lines[3].contains("meta mark set 0xe2ec counter dup to \"port12\" meta mark set 0"), "{rules}");
        assert!(Duplicate::new(0).check().is_err() && Duplicate::new(101).check().is_err());
    }
}
