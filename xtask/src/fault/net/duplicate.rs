//! Fault that lets some of the packets to the container arrive twice.

use super::filter::{Filter, Rules};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::Seen;
use super::tally::{Happens, Tally};
use crate::fault::effect::FaultTarget;
use crate::host::network::iptables::UNDELAYED;
use crate::host::network::tc::Qdisc;
use crate::host::syntax::{DeviceName, compose};

/// Packet mark of copies, so that they are not copied again. Packets lose the mark where they leave the lab's network namespace.
const COPY_MARK: &str = "0xe2ec";

/// Fault that copies some packets where they leave through the container's port (`net.duplicate`).
pub struct Duplicate {
    percent: u8,
    tally: Tally,
}

impl Duplicate {
    pub fn new(percent: u8) -> Self {
        let tally = Tally::new(Happens::Doubled, f64::from(percent.max(1)) / 100.0, Some(UNDELAYED));
        Self { percent, tally }
    }
}

impl LinkDamage for Duplicate {
    const GONE: &'static str = "nothing copies its packets any more";

    fn name(&self) -> &'static str {
        "net.duplicate"
    }

    /// Rules of nft, which work beside faults that slow the link, else netem, where nft cannot copy.
    fn means(&self) -> Vec<Means> {
        let kernel = "`modprobe -a nft_dup_netdev nft_numgen` on Linux 5.16 or newer";
        let (percent, filter) = (self.percent, Filter::at_port(self.name(), kernel));
        vec![Means::Filter(filter), Means::queue(Qdisc::Duplicate { percent })]
    }

    fn rules(&self, port: &DeviceName) -> Rules {
        let rules = compose!(
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
        );
        rules.into()
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.tally.before(target)
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.tally.verify_effect(target)
    }

    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.tally.verify_effect_once(target)
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        self.tally.verify_recovery(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_not_copied_again() {
        let rules = Duplicate::new(30).rules(&DeviceName::port(12)).nft;
        let lines: Vec<&str> = rules.lines().collect();
        assert_eq!(lines[2], "meta mark 0xe2ec accept", "{rules}");
        assert!(lines[3].contains("meta mark set 0xe2ec counter dup to \"port12\" meta mark set 0"), "{rules}");
    }
}
