//! Fault that changes a byte of some packets to the container.

use anyhow::{Context as _, bail};

use super::helper::Helper;
use super::link::LinkDamage;
use super::means::Means;
use super::peer::Seen;
use super::tally::{Happens, Tally};
use crate::fault::effect::FaultTarget;
use crate::host::network::netns::bad_udp_checksums;

/// Fault that changes a byte of some packets, whose receiver drops them for their wrong checksum (`net.corrupt`).
pub struct Corrupt {
    percent: u8,
    tally: Tally,
}

impl Corrupt {
    pub fn new(percent: u8) -> Self {
        Self { percent, tally: Tally::new(Happens::Lost, f64::from(percent.max(1)) / 100.0, None) }
    }

    /// Returns the number of packets with a wrong checksum, as the container's kernel counts them.
    fn refused(target: &FaultTarget<'_>) -> anyhow::Result<u64> {
        bad_udp_checksums(target.container.init_pid()?).context("counting wrong checksums")
    }

    /// Observes by `observe` that packets are missing, and that the container's kernel has refused some for their checksum meanwhile.
    fn refuses(target: &FaultTarget<'_>, observe: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        let before = Self::refused(target)?;
        let seen = observe()?;
        match Self::refused(target)?.saturating_sub(before) {
            0 => bail!("{seen}, but the container's kernel refused no packet for a wrong checksum"),
            refused => Ok(format!("{seen}; {} has refused {refused} packets for a wrong checksum", target.name())),
        }
    }
}

impl LinkDamage for Corrupt {
    const GONE: &'static str = "nothing changes its packets any more";

    fn name(&self) -> &'static str {
        "net.corrupt"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Helper(Helper::that_changes("corrupt", &[("--percent", self.percent.into())]))]
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        let refused = Self::refused(target)?;
        let seen = self.tally.before(target)?;
        Ok(format!("{seen}, and {} arrived with a wrong checksum", Self::refused(target)?.saturating_sub(refused)))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        Self::refuses(target, || self.tally.verify_effect(target))
    }

    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        Self::refuses(target, || self.tally.verify_effect_once(target))
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let before = Self::refused(target)?;
        let seen = self.tally.passes(target)?;
        // Others may lose some still.
        Ok(match (seen, Self::refused(target)?.saturating_sub(before)) {
            (Ok(seen), 0) => Ok(format!("{seen}, none for a wrong checksum")),
            (Ok(seen), refused) => Err(format!("{seen}, still {refused} for a wrong checksum")),
            (Err(problem), _) => Err(problem),
        })
    }
}
