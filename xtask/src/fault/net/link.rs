//! Common part of all faults on a container's link, whatever treats the packets and however the damage is verified.

use std::sync::OnceLock;

use super::filter::Rules;
use super::means::Means;
use super::peer::{Seen, expect_up, until_healed};
use crate::error::Error;
use crate::fault::effect::{Effect, FaultTarget, Lasted, usage};
use crate::host::syntax::DeviceName;

/// One kind of damage to a link: its packet treatment, and how peers observe it.
pub trait LinkDamage: Send {
    /// Words for the recovery of a container that cannot be observed, such as "nothing delays its packets any more".
    const GONE: &'static str;

    fn name(&self) -> &'static str;

    /// Means of doing the damage, the best first.
    fn means(&self) -> Vec<Means>;

    /// Observes the link before the damage, as [`Effect::before`].
    ///
    /// # Errors
    /// When the link is in a state in which the damage could not be observed later.
    fn before(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String>;

    /// Makes what the damage's rules refer to, such as a name server.
    fn prepare(&mut self, _target: &FaultTarget<'_>) -> anyhow::Result<()> {
        Ok(())
    }

    /// Rules of packet filters at a container's port, for means that need rules.
    fn rules(&self, _port: &DeviceName) -> Rules {
        Rules { nft: std::iter::empty().collect(), iptables: None }
    }

    /// Observes the damage, as [`Effect::verify_effect`].
    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String>;

    /// Like [`LinkDamage::verify_effect`], by a single observation, in the check before healing.
    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        self.verify_effect(target, means)
    }

    /// Observes once whether the link is as before the damage.
    fn is_as_before(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<Seen>;

    /// Observes that the damage is gone, as [`Effect::verify_recovery`].
    fn verify_recovery(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        until_healed(target, Self::GONE, || means.exists(target), || self.is_as_before(target, means))
    }

    /// Releases what was kept for the time of the damage, such as connections, once the damage was taken back.
    fn taken_back(&mut self, _target: &FaultTarget<'_>) {}

    /// Releases what has ended with the container's processes, after a restart of the container.
    fn restarted(&mut self) {}
}

/// Effect of a damage to a link, by the first means that this host has.
struct LinkEffect<D> {
    damage: D,
    means: Vec<Means>,
    /// Index in `means` of the first means that this host has; empty until it was looked for.
    chosen: OnceLock<usize>,
}

/// Returns the effect of a damage, which is not injected yet.
pub fn effect<D: LinkDamage + 'static>(damage: D) -> Box<dyn Effect> {
    Box::new(LinkEffect { means: damage.means(), damage, chosen: OnceLock::new() })
}

impl<D> LinkEffect<D> {
    fn parts(&mut self) -> (&mut D, &mut Means) {
        (&mut self.damage, &mut self.means[self.chosen.get().copied().unwrap_or_default()])
    }
}

impl<D: LinkDamage> Effect for LinkEffect<D> {
    fn supported(&self) -> anyhow::Result<()> {
        // At a device that each network has.
        let rules = self.damage.rules(&DeviceName::LOOPBACK);
        let mut problems = Vec::new();
        for (place, means) in self.means.iter().enumerate() {
            let Some(problem) = means.problem(&rules) else {
                let _ = self.chosen.set(place); // the same as before, if it was known
                return Ok(());
            };
            problems.push(problem);
        }
        let problem = format!("{}: {}", self.damage.name(), problems.join(", and "));
        let help = self.means.iter().map(Means::help).collect::<Vec<_>>().join("; or ");
        Err(Error::Host { problem, help }.into())
    }

    fn before(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        expect_up(target)?;
        let best = self.means.first().map(Means::help).filter(|_| self.chosen.get().is_some_and(|place| *place > 0));
        let (damage, means) = self.parts();
        if let Some(taken) = means.taken(target, damage.name())? {
            let beside = best.map_or_else(String::new, |help| format!(", or let both act at once: {help}"));
            return Err(usage(format!("{taken}: heal that fault first{beside}")));
        }
        damage.before(target, means)
    }

    fn inject(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (damage, means) = self.parts();
        damage.prepare(target)?;
        means.make(target, damage.rules(&target.container.machine().port()))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let (damage, means) = self.parts();
        damage.verify_effect(target, means)
    }

    fn lasts(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<Lasted> {
        let (damage, means) = self.parts();
        if let Some(lost) = means.lost() {
            return Ok(lost);
        }
        let proof = damage.verify_effect_once(target, means);
        Lasted::proved(proof, means.keeper(), || means.is_at_work(target))
    }

    fn heal(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (damage, means) = self.parts();
        means.take_back(target)?;
        damage.taken_back(target);
        Ok(())
    }

    fn verify_recovery(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<String> {
        let (damage, means) = self.parts();
        Ok(damage.verify_recovery(target, means)? + &means.passed())
    }

    fn restore(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        let (damage, means) = self.parts();
        damage.restarted();
        means.restore(target, damage.rules(&target.container.machine().port()))
    }

    fn outlives_container(&self) -> bool {
        self.means.get(self.chosen.get().copied().unwrap_or_default()).is_some_and(Means::outlives_container)
    }
}
