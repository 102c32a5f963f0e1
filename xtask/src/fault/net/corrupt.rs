//! Some of the packets to the container arrive with a byte changed.

use anyhow::{Context as _, bail};

use super::helper::Helper;
use super::peer::{expect_up, until_healed};
use super::tally::{Happens, Tally};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Keeper, Lasted, Site};
use crate::host::netns::bad_udp_checksums;

/// A byte of a packet is another one; its receiver finds the checksum wrong, and drops it.
pub struct Corrupt {
    percent: u8,
    helper: Helper,
    tally: Tally,
}

impl Corrupt {
    pub fn new(percent: u8) -> Self {
        let tally = Tally::new(Happens::Lost, f64::from(percent.max(1)) / 100.0, None);
        Self { percent, helper: Helper::that_changes("corrupt"), tally }
    }

    /// Returns the number of packets with a wrong checksum, as the container's kernel counts them.
    fn refused(site: &Site<'_>) -> anyhow::Result<u64> {
        bad_udp_checksums(site.container.init_pid()?).context("counting wrong checksums")
    }

    /// Observes that packets are missing, and that the container's kernel has refused some for their checksum meanwhile.
    fn refuses(site: &Site<'_>, observe: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        let before = Self::refused(site)?;
        let seen = observe()?;
        match Self::refused(site)?.saturating_sub(before) {
            0 => bail!("{seen}, but none for its checksum"),
            refused => Ok(format!("{seen}; {} has refused {refused} for their checksum", site.name())),
        }
    }
}

impl Effect for Corrupt {
    fn supported(&self) -> anyhow::Result<()> {
        Helper::supported("net.corrupt")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        if self.helper.exists(site)? {
            return Err(usage(format!("net.corrupt is done to {} already: heal that first", site.name())));
        }
        let refused = Self::refused(site)?;
        let seen = self.tally.before(site)?;
        Ok(format!("{seen}, {} with a wrong checksum", Self::refused(site)?.saturating_sub(refused)))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        let numbers = [("--percent", u64::from(self.percent)), ("--seed", self.helper.seed(site))];
        let mut words = vec!["corrupt".to_owned()];
        words.extend(numbers.into_iter().flat_map(|(flag, number)| [flag.to_owned(), number.to_string()]));
        self.helper.start(site, &words)
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        Self::refuses(site, || self.tally.bites(site))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        if let Some(lost) = self.helper.lost() {
            return Ok(lost);
        }
        let proof = Self::refuses(site, || self.tally.bites_once(site));
        Lasted::proved(proof, Keeper::Host, || self.helper.is_at_work(site))
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.helper.stop(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.helper.exists(site);
        let seen = until_healed(site, "nothing changes its packets any more", is_left, || {
            let before = Self::refused(site)?;
            let seen = self.tally.passes(site)?;
            // Others may lose some still.
            Ok(match (seen, Self::refused(site)?.saturating_sub(before)) {
                (Ok(seen), 0) => Ok(format!("{seen}, none for its checksum")),
                (Ok(seen), refused) => Err(format!("{seen}, {refused} for their checksum")),
                (Err(problem), _) => Err(problem),
            })
        })?;
        Ok(seen + &self.helper.passed())
    }

    fn outlives_container(&self) -> bool {
        true
    }
}
