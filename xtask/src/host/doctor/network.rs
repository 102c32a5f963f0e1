//! Checks of the requirements of the containers' network.

use super::facts::Facts;
use super::finding::{Finding, Group};
use super::kernel_trial::KernelTrial;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let group = Group::Network;
    let iproute2 = facts.has_tools(group, "iproute2", &["ip", "tc"]);
    let iproute2 = if iproute2.help.is_some() { iproute2 } else { facts.has_version(group, "iproute2", "ip", (0, 0)) };
    let nft = facts.has_version(group, "nft", "nft", (0, 0));
    let nft_rules = facts.has_part(group, "nft", "nft", "nf_tables");
    let seen = format!("{}; {}", nft.seen, nft_rules.seen);
    vec![
        iproute2,
        facts.network_namespace(),
        facts.has_part(group, "bridge", "bridge", "bridge"),
        facts.has_part(group, "veth", "veth", "veth"),
        if nft.help.is_some() { nft } else { Finding { seen, ..nft_rules } },
        facts.port_lock(),
    ]
}

impl Facts {
    /// Finding about the port lock, which keeps machines from taking each other's addresses. Where nft does not work at all, nft's own
    /// check reports it.
    fn port_lock(&self) -> Finding {
        let (group, check) = (Group::Network, "port-lock");
        match self.trials.get("port-lock") {
            KernelTrial::Works => Finding::ok(group, check, "tried: works"),
            KernelTrial::NotTried => Finding::ok(group, check, "not tried"),
            KernelTrial::Fails(words) => {
                let seen = format!("tried: {words}: machines of a lab can take each other's addresses");
                Finding::warning(group, check, seen, "boot a kernel with CONFIG_NF_TABLES_BRIDGE")
            }
        }
    }

    fn network_namespace(&self) -> Finding {
        let (group, check) = (Group::Network, "network-namespace");
        let has_kind = self.namespaces.iter().any(|name| name == "net");
        match self.trials.get("network-namespace") {
            KernelTrial::Works => Finding::ok(group, check, "tried: works"),
            KernelTrial::Fails(words) => {
                Finding::failure(group, check, format!("tried: {words}"), self.help_for_rights())
            }
            KernelTrial::NotTried if has_kind => Finding::ok(group, check, "the kernel has it (not tried)"),
            KernelTrial::NotTried => {
                Finding::failure(group, check, "not in this kernel", "boot a kernel with CONFIG_NET_NS")
            }
        }
    }
}
