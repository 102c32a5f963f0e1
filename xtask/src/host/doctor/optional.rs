//! Checks of abilities that the engine can do without, and what is lost without them.

use super::facts::Facts;
use super::finding::{Finding, Group};
use crate::host::tools::packages::Use;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let group = Group::Optional;
    let pressure = if facts.has_pressure {
        Finding::ok(group, "psi", "the kernel counts waiting for processor, memory and disk")
    } else {
        let help = "boot with psi=1 on the kernel's command line";
        Finding::warning(
            group,
            "psi",
            "no /proc/pressure: waiting for processor, memory and disk is not measured",
            help,
        )
    };
    let mut findings = vec![
        facts.netem(),
        facts.nfqueue(),
        pressure,
        facts.has_extra("sudo", "sudo", "no runs by an ordinary user, and the engine's own tests need it"),
        facts.has_extra("strace", "strace", "no errors or delays of single system calls"),
        facts.has_extra("chromium", "chromium", "no pictures of web pages by the host's browser"),
    ];
    if facts.uses.contains(&Use::Guests) {
        findings.push(facts.has_extra("user-mode-linux", "linux.uml", "no `cargo xtask test host`"));
    }
    findings
}

impl Facts {
    fn has_extra(&self, check: &'static str, item: &'static str, lost: &str) -> Finding {
        match self.tools.find(item) {
            Some(path) => Finding::ok(Group::Optional, check, path.display().to_string()),
            None => {
                let help = self.supply.help(&[item], self.way_to_root);
                Finding::warning(Group::Optional, check, format!("missing: {lost}"), help).installing(&[item])
            }
        }
    }

    fn netem(&self) -> Finding {
        let found = self.has_part(Group::Optional, "netem", "netem", "sch_netem");
        self.without_failure(found, "delays use NFQUEUE instead, where it is available")
    }

    fn nfqueue(&self) -> Finding {
        let missing = self.tools.missing(&["iptables"]);
        let lost = "no corrupted packets; without netem no delays either";
        if !missing.is_empty() {
            let help = self.supply.help(&missing, self.way_to_root);
            let seen = format!("missing: iptables: {lost}");
            return Finding::warning(Group::Optional, "nfqueue", seen, help).installing(&missing);
        }
        let found = self.has_part(Group::Optional, "nfqueue", "nfqueue", "xt_NFQUEUE");
        self.without_failure(found, lost)
    }

    /// Turns a failure of something optional into a warning that names what is lost.
    fn without_failure(&self, found: Finding, lost: &str) -> Finding {
        match found.help {
            None => found,
            Some(help) => Finding::warning(
                found.group,
                found.check,
                format!("{}: {lost}", found.seen.trim_end_matches('.')),
                help,
            ),
        }
    }
}
