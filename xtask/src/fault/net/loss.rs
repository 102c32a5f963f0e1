//! Fault that loses some of the packets to the container.

use super::filter::{Filter, Rules, TRAVELS, chain};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::Seen;
use super::tally::{Happens, Tally};
use crate::fault::effect::FaultTarget;
use crate::host::network::iptables::UNDELAYED;
use crate::host::syntax::{DeviceName, compose};

/// Fault that loses packets on a container's link: a percentage at random, or every n-th (`net.loss`, `net.nth-loss`).
pub struct Loss {
    which: Which,
    tally: Tally,
}

/// Choice of the packets that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Percentage of packets, drawn at random.
    Random {
        percent: u8,
    },
    Nth {
        every: u32,
    },
}

impl Loss {
    pub fn random(percent: u8) -> Self {
        Self::of(Which::Random { percent }, f64::from(percent.max(1)) / 100.0)
    }

    pub fn nth(every: u32) -> Self {
        Self::of(Which::Nth { every }, 1.0 / f64::from(every))
    }

    fn of(which: Which, share: f64) -> Self {
        Self { which, tally: Tally::new(Happens::Lost, share, Some(UNDELAYED)) }
    }
}

impl LinkDamage for Loss {
    const GONE: &'static str = "nothing loses its packets any more";

    fn name(&self) -> &'static str {
        match self.which {
            Which::Random { .. } => "net.loss",
            Which::Nth { .. } => "net.nth-loss",
        }
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::on_bridge(self.name()).needs("`modprobe -a nf_tables_bridge nft_numgen`"))]
    }

    /// Routes all packets to the port through one chain, so that one counter counts them.
    fn rules(&self, port: &DeviceName) -> Rules {
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
        chain("postrouting", &rule).into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.tally.before(target)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        means.drops(target, || self.tally.verify_effect(target))
    }

    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, means: &Means) -> anyhow::Result<String> {
        means.drops(target, || self.tally.verify_effect_once(target))
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        self.tally.verify_recovery(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_says_which_packets_and_only_those_to_the_port() {
        let rules = Loss::random(30).rules(&DeviceName::port(12)).nft;
        assert!(rules.contains("oifname \"port12\" ether type { ip, ip6 } numgen random mod 100 <= 29 counter drop"));
        assert!(
            Loss::nth(3).rules(&DeviceName::port(12)).nft.contains(" numgen inc mod 3 2 counter drop\n"),
            "the third, not the first"
        );
    }
}
