//! Packet filters of a network namespace, by nftables.

use super::netns::NetworkNamespace;
use crate::host::exec::shell::{Command, which};
use crate::host::machine::kernel_part::{self, Trial, one_line};
use crate::host::syntax::{ChainName, Nft, Text, compose};

/// Words of rules, each with the part of the kernel that a rule with this word needs.
const PARTS: [(&str, &str); 9] = [
    ("iifname .", "nft concatenations"),
    ("reject", "nft reject"),
    ("dnat to", "nft nat"),
    ("dup to", "nft dup"),
    ("numgen", "nft numgen"),
    ("limit rate", "nft limit"),
    ("queue num", "nft queue"),
    ("ct state", "nft ct"),
    ("{", "nft sets"),
];

/// Table of nftables, which has all rules of one purpose, so that they are removed in one step.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Family of the table, such as `bridge` or `ip`.
    pub family: &'a str,
    /// Name of the table in its family.
    pub name: &'a str,
}

/// Table of the lock on the ports of a lab's bridge.
pub(super) const PORTS: Table<'static> = Table { family: "bridge", name: "e2e_ports" };

impl Table<'_> {
    /// Makes the table from these lines, chains with rules, in one step.
    ///
    /// # Errors
    /// On failure nothing is made.
    pub fn make(&self, network: &NetworkNamespace, body: &Text<Nft>) -> anyhow::Result<()> {
        let (family, name) = self.words()?;
        run(
            network,
            compose!(Nft, "table {family} {name} {{\n{body}\n}}\n", family = family, name = name, body = *body),
        )
    }

    fn words(&self) -> anyhow::Result<(ChainName, ChainName)> {
        Ok((ChainName::new(self.family)?, ChainName::new(self.name)?))
    }

    /// Reason, in one line, why this host cannot make such a table; `None` where it can. Tried once a boot, in a namespace of its own.
    #[must_use]
    pub fn problem(&self, body: &Text<Nft>) -> Option<String> {
        let Some(nft) = which("nft") else { return Some("nft is not installed on this host".into()) };
        kernel_part::problem(&format!("{} {} {body}", nft.display(), self.family), || self.trial(body))
    }

    fn trial(&self, body: &str) -> Trial {
        // Parts of a table that was composed.
        let works =
            |body: &str| NetworkNamespace::make().and_then(|network| self.make(&network, &Text::as_written(body)));
        let Err(error) = works(body) else { return Trial::Works };
        match self.missing_part(body, |body| works(body).is_ok()) {
            Some(part) => Trial::Lacks(part),
            None => Trial::Fails(one_line(&error)),
        }
    }

    /// Returns the first part of a table that the kernel does not accept, be it the family, a chain or a rule; `works` tries a table's
    /// body.
    fn missing_part(&self, body: &str, works: impl Fn(&str) -> bool) -> Option<String> {
        let Self { family, .. } = self;
        if !works("") {
            return Some(format!("nft family {family}"));
        }
        for (header, rules) in chains(body) {
            let kind = header.lines().nth(1).unwrap_or_default();
            if !works(&format!("{header}}}\n")) {
                let words: Vec<&str> = kind.split_whitespace().collect();
                return Some(match words[..] {
                    ["type", "nat", ..] => format!("nft nat in family {family}"),
                    ["type", "filter", "hook", hook, ..] => format!("nft hook {hook} of family {family}"),
                    _ => format!("`{kind}` of nft in family {family}"),
                });
            }
            if let Some(rule) = rules.into_iter().find(|rule| !works(&format!("{header}{rule}\n}}\n"))) {
                let part = PARTS.iter().find(|(word, _)| rule.contains(word)).map(|(_, part)| *part);
                return Some(part.map_or_else(
                    || format!("a part of the nft rule `{rule}` in family {family}"),
                    |part| format!("{part} in family {family}"),
                ));
            }
        }
        None
    }

    /// Removes the table with all it holds; does nothing where it does not exist.
    pub fn delete(&self, network: &NetworkNamespace) -> anyhow::Result<()> {
        // `destroy` is newer than many an nft: made where it is missing, the table is there to be deleted.
        let (family, name) = self.words()?;
        run(
            network,
            compose!(Nft, "table {family} {name} {{\n}}\ndelete table {family} {name}\n", family = family, name = name),
        )
    }

    pub fn exists(&self, network: &NetworkNamespace) -> anyhow::Result<bool> {
        let tables = network.command("nft").args(["list", "tables"]).run()?.text();
        Ok(tables.lines().any(|line| line.trim() == format!("table {} {}", self.family, self.name)))
    }

    /// Returns the sum of the packets that the table's counters have counted.
    pub fn packets(&self, network: &NetworkNamespace) -> anyhow::Result<u64> {
        let list = network.command("nft").args(["list", "table", self.family, self.name]).run()?;
        Ok(counted(&list.text()))
    }
}

/// Tells whether a network namespace has any table of a fault.
pub fn has_tables(network: &NetworkNamespace) -> anyhow::Result<bool> {
    let tables = network.command("nft").args(["list", "tables"]).run()?.text();
    // Those that iptables keeps there are none of a fault, and neither is the lock on the lab's ports.
    let others = [" mangle", " filter", PORTS.name];
    Ok(tables.lines().any(|line| line.starts_with("table ") && !others.iter().any(|other| line.ends_with(other))))
}

fn run(network: &NetworkNamespace, script: Text<Nft>) -> anyhow::Result<()> {
    // By a thread inside, and not by `nsenter`: a lab waits for this.
    let load = || Command::new("nft").args(["-f", "-"]).stdin(script.into_string()).run();
    network.inside(load)??;
    Ok(())
}

/// Returns the chains of a table's body, each with the two lines that make it, and its rules.
fn chains(body: &str) -> Vec<(String, Vec<&str>)> {
    let mut chains: Vec<(String, Vec<&str>)> = Vec::new();
    for line in body.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "}") {
        match chains.last_mut() {
            _ if line.starts_with("chain ") => chains.push((format!("{line}\n"), Vec::new())),
            Some((header, _)) if line.starts_with("type ") => header.push_str(&format!("{line}\n")),
            Some((_, rules)) => rules.push(line),
            None => {}
        }
    }
    chains
}

/// Returns the sum of all `counter packets N` of a listing.
fn counted(listing: &str) -> u64 {
    let words: Vec<&str> = listing.split_whitespace().collect();
    let counts = words.windows(3).filter(|words| words[..2] == ["counter", "packets"]);
    counts.filter_map(|words| words[2].parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_that_is_missing_is_named() {
        let body = "chain input {\ntype filter hook input priority 0\niifname \"a\" numgen random mod 2 < 1 drop\n\
                    meta l4proto tcp counter reject with tcp reset\n}\n\
                    chain output {\ntype nat hook output priority -100\nudp dport 53 dnat to 10.0.0.1:53\n}\n";
        let check = |lacks: &str, expected: Option<&str>| {
            let works = |body: &str| !(body.contains(lacks) || lacks == "all");
            let part = Table { family: "inet", name: "x" }.missing_part(body, works);
            assert_eq!(part.as_deref(), expected, "{lacks}");
        };
        check("all", Some("nft family inet"));
        check("hook input", Some("nft hook input of family inet"));
        check("numgen", Some("nft numgen in family inet"));
        check("reject", Some("nft reject in family inet"));
        check("type nat", Some("nft nat in family inet"));
        check("dnat", Some("nft nat in family inet"));
        check("meta l4proto", Some("nft reject in family inet"));
        check("nothing", None);
    }

    #[test]
    fn counters_are_added_up() {
        let listing = "table bridge x {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\
                       \t\tiifname \"port12\" counter packets 3 bytes 180 drop\n\
                       \t\toifname \"port12\" counter packets 14 bytes 840 drop\n\t}\n}\n";
        assert_eq!(counted(listing), 17);
        assert_eq!(counted("table bridge x {\n}\n"), 0);
    }
}
