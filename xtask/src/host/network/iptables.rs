//! Rules of iptables. They hand packets to a queue that a program reads, which only few kernels support in nft, and form chains where the
//! kernel's nft lacks a part. Where the kernel has no family `ip` of nft, iptables' older program is used.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::netns::NetworkNamespace;
use crate::host::exec::shell::{Output, which};
use crate::host::machine::kernel_part::{self, Trial, one_line};
use crate::host::syntax::{ChainName, DeviceName, Iptables, ListedRule, Text, compose};

/// Programs in the order in which they are tried: the host's own choice, then the one with the kernel's older tables.
const PROGRAMS: [&str; 2] = ["iptables", "iptables-legacy"];

/// Setting that shows iptables the packets that pass a bridge. Every network namespace has its own.
const SHOW_BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// Mark of probe packets sent from the bridge's own address, which no rule puts in a queue: they show what else the link does to packets.
pub const UNDELAYED: u32 = 0xe2e;

/// Tables in which rules fill queues, in the order in which packets meet them. A packet that comes back from a queue skips the rest of its
/// table: queues that are to see the same packets lie in different tables.
const TABLES: [&str; 2] = ["mangle", "filter"];

/// Position of a queue among the two that packets meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// First queue that packets meet.
    First,
    /// Second queue that packets meet.
    Second,
}

/// Both stages, in the order in which packets meet them.
pub const STAGES: [Stage; 2] = [Stage::First, Stage::Second];

impl Stage {
    /// Returns the number of a machine's queue at this stage, by the number of the machine.
    #[must_use]
    pub fn queue(self, machine: u8) -> u16 {
        match self {
            Self::First => u16::from(machine),
            Self::Second => u16::from(machine) + (1 << 8),
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::First => TABLES[0],
            Self::Second => TABLES[1],
        }
    }
}

/// Rules that hand packets to a queue: all that a bridge sends out through one port.
#[derive(Debug, Clone, Copy)]
pub struct QueueRules<'a> {
    /// Number of the queue: one for each set of rules in a namespace.
    pub queue: u16,
    pub stage: Stage,
    /// Name of the bridge.
    pub bridge: &'static str,
    /// Port of the container, which need not exist yet.
    pub port: &'a DeviceName,
    /// Address of the container, by which packets that are sent from the bridge's own address are matched.
    pub address: Ipv4Addr,
}

impl QueueRules<'_> {
    /// Inserts the rules. Where no program reads the queue, packets pass.
    ///
    /// # Errors
    /// On failure no rule is left.
    pub fn insert(&self, network: &NetworkNamespace) -> anyhow::Result<()> {
        let program = queue_program().map_err(anyhow::Error::msg)?;
        self.insert_by(program, network)
    }

    fn insert_by(&self, program: &str, network: &NetworkNamespace) -> anyhow::Result<()> {
        restore(program, network, self.script())?;
        let shown = network.inside(|| std::fs::write(SHOW_BRIDGED, "1")).and_then(|written| written);
        shown.with_context(|| format!("writing {SHOW_BRIDGED}"))
    }

    /// Composes the rules. Packets from one port to another pass the chain `FORWARD`; those from the bridge's own address pass `OUTPUT`.
    fn script(&self) -> Text<Iptables> {
        let Self { queue, stage, bridge, port, address } = self;
        let target = compose!(Iptables, "-j NFQUEUE --queue-num {queue} --queue-bypass", queue = *queue);
        compose!(
            Iptables,
            "*{table}\n\
             -I FORWARD -m physdev --physdev-is-bridged --physdev-out {port} {target}\n\
             -I OUTPUT -o {bridge} -d {address} -m mark ! --mark {undelayed} {target}\n\
             COMMIT\n",
            table = stage.table(),
            port = **port,
            target = target,
            bridge = *bridge,
            address = *address,
            undelayed = UNDELAYED,
        )
    }
}

/// Removes the rules that fill a queue; fails where one is left. Does nothing where there are none.
pub fn delete_queue_rules(network: &NetworkNamespace, queue: u16) -> anyhow::Result<()> {
    let Ok(program) = queue_program() else { return Ok(()) }; // then nothing could make any
    for table in TABLES {
        let rules = queue_rules_in(program, network, table, queue)?;
        if rules.is_empty() {
            continue;
        }
        let delete = |rule: &String| Ok(compose!(Iptables, "-D {rule}\n", rule = ListedRule::new(rule)?));
        let lines: Text<Iptables> = rules.iter().map(delete).collect::<anyhow::Result<_>>()?;
        restore(program, network, compose!(Iptables, "*{table}\n{lines}COMMIT\n", table = table, lines = lines))?;
        let left = queue_rules_in(program, network, table, queue)?;
        anyhow::ensure!(
            left.is_empty(),
            "{program} still lists rules that it should have deleted:\n{}",
            left.join("\n")
        );
    }
    Ok(())
}

/// Returns the rules that fill a queue, as `iptables -S` shows them; empty where iptables is not installed.
pub fn queue_rules(network: &NetworkNamespace, queue: u16) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    if let Ok(program) = queue_program() {
        for table in TABLES {
            found.extend(queue_rules_in(program, network, table, queue)?);
        }
    }
    Ok(found)
}

fn queue_rules_in(program: &str, network: &NetworkNamespace, table: &str, queue: u16) -> anyhow::Result<Vec<String>> {
    Ok(rules_of(&listing(program, network, table)?, queue))
}

/// Returns the program that fills queues on this host; the error says in one line what is missing. Tried once a boot, in a namespace of its
/// own.
pub fn queue_program() -> Result<&'static str, String> {
    first_program(|program| {
        kernel_part::problem(&format!("{} queue", path_of(program)), || {
            let (port, address) = (DeviceName::port(0), Ipv4Addr::new(192, 0, 2, 1));
            let rules = |stage| QueueRules { queue: 1, stage, bridge: "br0", port: &port, address };
            let network = NetworkNamespace::make();
            let tried = network
                .and_then(|network| STAGES.iter().try_for_each(|stage| rules(*stage).insert_by(program, &network)));
            let Err(error) = tried else { return Trial::Works };
            let bridged = "-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT";
            let parts = [
                ("mangle", "", "the iptables table mangle"),
                ("filter", "", "the iptables table filter"),
                ("filter", bridged, "xt_physdev"),
                ("filter", "-A FORWARD -m mark ! --mark 0x1 -j ACCEPT", "xt_mark"),
                ("filter", "-A FORWARD -j NFQUEUE --queue-num 1 --queue-bypass", "xt_NFQUEUE"),
            ];
            let lacks = |network: NetworkNamespace| {
                let missing = parts.iter().find(|(table, rule, _)| !takes(program, &network, table, rule));
                missing.map(|(_, _, part)| (*part).to_owned()).or_else(|| {
                    let shown = network.inside(|| std::path::Path::new(SHOW_BRIDGED).exists());
                    shown.is_ok_and(|shown| !shown).then(|| "br_netfilter".to_owned())
                })
            };
            match NetworkNamespace::make().ok().and_then(lacks) {
                Some(part) => Trial::Lacks(part),
                None => Trial::Fails(one_line(&error)),
            }
        })
    })
}

/// Returns the first program that is installed and has no problem, or else the problem of the first installed one.
fn first_program(problem: impl Fn(&str) -> Option<String>) -> Result<&'static str, String> {
    let mut problems = Vec::new();
    for program in PROGRAMS.into_iter().filter(|program| which(&restorer(program)).is_some()) {
        match problem(program) {
            None => return Ok(program),
            Some(problem) => problems.push(problem),
        }
    }
    Err(problems.into_iter().next().unwrap_or_else(|| "iptables is not installed on this host".to_owned()))
}

/// Tells whether the kernel accepts a rule in a chain of a table, or the chain alone where the rule is empty.
fn takes(program: &str, network: &NetworkNamespace, table: &'static str, rule: &'static str) -> bool {
    let script = compose!(Iptables, "*{table}\n:e2e_trial - [0:0]\n{rule}\nCOMMIT\n", table = table, rule = rule);
    restore(program, network, script).is_ok()
}

fn path_of(program: &str) -> String {
    which(program).map_or_else(|| program.to_owned(), |path| path.display().to_string())
}

fn restorer(program: &str) -> String {
    format!("{program}-restore")
}

fn restore(program: &str, network: &NetworkNamespace, script: Text<Iptables>) -> anyhow::Result<Output> {
    let command = network.command(&restorer(program)).args(["--wait", "5", "--noflush"]);
    Ok(command.stdin(script.into_string()).run()?)
}

fn listing(program: &str, network: &NetworkNamespace, table: &str) -> anyhow::Result<String> {
    Ok(network.command(program).args(["--wait", "5", "-t", table, "-S"]).run()?.text())
}

/// Chain of iptables that holds all rules of one purpose: its place and its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Table of iptables, such as `filter`.
    pub table: String,
    /// Built-in chain of the kernel that jumps to this chain, such as `INPUT`.
    pub hook: String,
    /// Name of the chain, of 28 characters at most.
    pub name: String,
}

impl Chain {
    /// Returns the program by which this host can keep these rules in such a chain; each rule is without its chain. Tried once a boot, in a
    /// namespace of its own.
    ///
    /// # Errors
    /// One line that says what is missing.
    pub fn program(&self, rules: &[Text<Iptables>]) -> Result<&'static str, String> {
        let Self { table, hook, .. } = self;
        let listed = rules.iter().map(Text::to_string).collect::<Vec<_>>().join("; ");
        first_program(|program| {
            kernel_part::problem(&format!("{} {table} {hook} {}", path_of(program), listed), || {
                let make = |rules: &[Text<Iptables>]| {
                    NetworkNamespace::make().and_then(|network| self.make(program, &network, rules))
                };
                let Err(error) = make(rules) else { return Trial::Works };
                if make(&[]).is_err() {
                    return Trial::Lacks(format!("the iptables table {table}"));
                }
                match rules.iter().find(|rule| make(std::slice::from_ref(rule)).is_err()) {
                    Some(rule) => Trial::Lacks(format!("a part of the iptables rule `{rule}`")),
                    None => Trial::Fails(one_line(&error)),
                }
            })
        })
    }

    /// Makes the chain from these rules in one step, by the program that [`Self::program`] has returned.
    ///
    /// # Errors
    /// On failure nothing is made.
    pub fn make(&self, program: &str, network: &NetworkNamespace, rules: &[Text<Iptables>]) -> anyhow::Result<()> {
        let (table, hook, name) = self.words()?;
        let append = |rule: &Text<Iptables>| compose!(Iptables, "-A {name} {rule}\n", name = name, rule = *rule);
        let script = compose!(
            Iptables,
            "*{table}\n:{name} - [0:0]\n{lines}-I {hook} -j {name}\nCOMMIT\n",
            lines = rules.iter().map(append).collect::<Text<Iptables>>(),
            table = table,
            hook = hook,
            name = name,
        );
        restore(program, network, script)?;
        Ok(())
    }

    fn words(&self) -> anyhow::Result<(ChainName, ChainName, ChainName)> {
        Ok((ChainName::new(&self.table)?, ChainName::new(&self.hook)?, ChainName::new(&self.name)?))
    }

    /// Tells whether the chain exists, whichever program has made it.
    pub fn exists(&self, network: &NetworkNamespace) -> anyhow::Result<bool> {
        Ok(self.maker(network)?.is_some())
    }

    /// Returns the number of packets that the rules of the chain have matched, all together.
    pub fn packets(&self, program: &str, network: &NetworkNamespace) -> anyhow::Result<u64> {
        let words = ["-t", &self.table, "-n", "-v", "-x", "-L", &self.name];
        Ok(met(&network.command(program).args(words).run()?.text()))
    }

    /// Removes the chain with all it holds; does nothing where it does not exist.
    pub fn delete(&self, network: &NetworkNamespace) -> anyhow::Result<()> {
        let (table, hook, name) = self.words()?;
        let Some(program) = self.maker(network)? else { return Ok(()) };
        let script = compose!(
            Iptables,
            "*{table}\n-D {hook} -j {name}\n-F {name}\n-X {name}\nCOMMIT\n",
            table = table,
            hook = hook,
            name = name,
        );
        restore(program, network, script)?;
        Ok(())
    }

    /// Returns the program in whose tables the chain is. A program that cannot show its tables has none.
    fn maker(&self, network: &NetworkNamespace) -> anyhow::Result<Option<&'static str>> {
        let (mut asked, mut refused) = (0, None);
        for program in PROGRAMS.into_iter().filter(|program| which(&restorer(program)).is_some()) {
            match listing(program, network, &self.table) {
                Ok(text) if text.lines().any(|line| line == format!("-N {}", self.name)) => return Ok(Some(program)),
                Ok(_) => asked += 1,
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if asked == 0 => Err(error),
            _ => Ok(None),
        }
    }
}

/// Adds up the packets that a chain's rules have matched: the first column of a listing with counters, whose head has two lines.
fn met(listing: &str) -> u64 {
    listing.lines().skip(2).filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok()).sum()
}

fn rules_of(listing: &str, queue: u16) -> Vec<String> {
    let queue = queue.to_string();
    let fills = |line: &&str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.first() == Some(&"-A") && words.windows(2).any(|pair| pair == ["--queue-num", &queue])
    };
    listing.lines().filter(fills).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_all_rules_of_a_chain_are_added_up() {
        let listing = "Chain net_loss_12 (1 references)\n    pkts      bytes target     prot opt in     out     source               \
                       destination\n      12     1008 DROP       0    --  *      *       0.0.0.0/0            0.0.0.0/0\n       3 \
                            252 DROP       17   --  *      *       0.0.0.0/0            0.0.0.0/0";
        assert_eq!(met(listing), 15);
        assert_eq!(met("Chain x (0 references)\n pkts bytes target\n"), 0);
    }

    #[test]
    fn both_ways_to_the_port_are_covered_and_a_dead_reader_lets_packets_pass() {
        let (address, port) = (Ipv4Addr::new(10, 77, 0, 12), DeviceName::port(12));
        let rules = QueueRules { queue: 12, stage: Stage::Second, bridge: "br0", port: &port, address }.script();
        assert!(rules.starts_with("*filter\n"), "{rules}");
        let lines: Vec<&str> = rules.lines().filter(|line| line.starts_with("-I")).collect();
        assert!(lines[0].starts_with("-I FORWARD ") && lines[0].contains("--physdev-out port12 "), "{rules}");
        assert!(lines[1].starts_with("-I OUTPUT ") && lines[1].contains("-d 10.77.0.12 "), "{rules}");
        assert!(lines.iter().all(|line| line.ends_with("--queue-num 12 --queue-bypass")), "{rules}");
    }

    #[test]
    fn only_rules_of_the_queue_itself_are_found() {
        let listing = "-P FORWARD ACCEPT\n\
            -A FORWARD -m physdev --physdev-out port12 --physdev-is-bridged -j NFQUEUE --queue-num 12 --queue-bypass\n\
            -A FORWARD -m physdev --physdev-out port1 --physdev-is-bridged -j NFQUEUE --queue-num 1 --queue-bypass\n\
            -A OUTPUT -d 10.77.0.12/32 -o br0 -j NFQUEUE --queue-num 12 --queue-bypass\n";
        let found = rules_of(listing, 12);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].starts_with("-A OUTPUT"), "{found:?}");
        assert_eq!(rules_of(listing, 1).len(), 1);
        assert_eq!(rules_of(listing, 2), Vec::<String>::new());
    }
}
