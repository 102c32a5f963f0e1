//! Faults of name resolution. The container's DNS queries are dropped on the lab's bridge, or redirected in its own network. The effect is
//! observed by queries to a name server that the engine runs on the bridge.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::effect::{FaultTarget, usage};
use super::name_server::{self, Heard, Reply, SERVFAIL, Server};
use super::net::{CLOSED_PORT, Filter, IptablesRules, LinkDamage, Means, Rules, Seen, chain, ms, network_of};
use crate::host::network::netns::NetworkNamespace;
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, compose};

/// Port of name servers.
const PORT: u16 = 53;

/// Name that queries ask for, and its true answer: an address reserved for documentation.
const NAME: &str = "fault.test";
const TRUE_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);
const TRUTH: Heard = Heard::Answer { address: Some(TRUE_ADDRESS), code: 0 };

/// Deadline for an answer on a link that another fault may delay, and the minimum silence that counts as no answer.
const PATIENCE: Deadline = Deadline::from_secs(12);
const SILENCE: Deadline = Deadline::from_millis(100);

/// Time after which a query on a healed link is repeated.
const PATIENCE_SHORT: Deadline = Deadline::from_millis(500);

/// Deadline for the name servers' port to be free: an observation of another container may use the port.
const BIND_DEADLINE: Deadline = Deadline::from_secs(15);

/// File of the kernel's minimum interval between two ICMP errors, such as refusals, to one address: 1 s by default.
const REFUSALS_BOUND: &str = "/proc/sys/net/ipv4/icmp_ratelimit";

/// Fault in which name servers do not answer, refuse, fail, or answer wrongly (`dns.*`).
pub struct Dns {
    kind: Kind,
    /// Address of the lab's bridge; a placeholder until the lab is known.
    bridge: Ipv4Addr,
    server: Option<Server>,
    usual: Duration,
}

/// Treatment of the container's DNS queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Drop,
    Refuse,
    Answer(Reply),
}

impl Dns {
    pub fn drop() -> Self {
        Self::of(Kind::Drop)
    }

    pub fn refuse() -> Self {
        Self::of(Kind::Refuse)
    }

    pub fn servfail() -> Self {
        Self::of(Kind::Answer(Reply::Code(SERVFAIL)))
    }

    pub fn spoof(address: Ipv4Addr) -> Self {
        Self::of(Kind::Answer(Reply::Address(address)))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, bridge: TRUE_ADDRESS, server: None, usual: Duration::ZERO }
    }

    /// Result of a query that shows the effect.
    fn expected(&self) -> Heard {
        match self.kind {
            Kind::Drop => Heard::Nothing,
            Kind::Refuse => Heard::Refused,
            Kind::Answer(Reply::Code(code)) => Heard::Answer { address: None, code },
            Kind::Answer(Reply::Address(address)) => Heard::Answer { address: Some(address), code: 0 },
        }
    }

    fn patience(&self) -> Duration {
        match self.kind {
            Kind::Drop => SILENCE.scaled().max(self.usual * 3),
            _ => PATIENCE.scaled(),
        }
    }
}

/// Returns the rules for queries that leave the machine, also for those that a name server on the machine itself forwards. Where the fault
/// changes answers, queries by TCP are refused.
fn rules(kind: Kind, port: &DeviceName, bridge: Ipv4Addr, to_port: u16) -> Rules {
    if kind == Kind::Drop {
        let rule = compose!(
            Nft,
            "iifname {port} meta l4proto {{ tcp, udp }} th dport {number} counter drop\n",
            port = *port,
            number = PORT,
        );
        return chain("prerouting", &rule).into();
    }
    let led = |protocol: &'static str, to: u16| {
        compose!(
            Nft,
            "oifname != \"lo\" meta l4proto {protocol} th dport {number} counter dnat to {bridge}:{to}\n",
            protocol = protocol,
            number = PORT,
            bridge = bridge,
            to = to,
        )
    };
    let rules = led("udp", to_port) + led("tcp", CLOSED_PORT);
    let nft = compose!(Nft, "chain output {{\ntype nat hook output priority -100\n{rules}}}\n", rules = rules);
    let led = |protocol: &'static str, to: u16| {
        compose!(
            Iptables,
            "! -o lo -p {protocol} --dport {number} -j DNAT --to-destination {bridge}:{to}",
            protocol = protocol,
            number = PORT,
            bridge = bridge,
            to = to,
        )
    };
    let rules = vec![led("udp", to_port), led("tcp", CLOSED_PORT)];
    Rules { nft, iptables: Some(IptablesRules { table: "nat", hook: "OUTPUT", rules }) }
}

/// Asks the engine's own name server on the bridge from the container; returns the result and the time that it took.
fn ask(target: &FaultTarget<'_>, patience: Duration) -> anyhow::Result<(Heard, Duration)> {
    let address = SocketAddr::from((target.container.machine().network.gateway(), PORT));
    let socket = bind(target.lab.network(), address)?;
    let _server = Server::start(socket, Reply::Address(TRUE_ADDRESS)).context("starting a name server")?;
    let ask = || {
        let begun = Instant::now();
        (name_server::ask(address, NAME, patience), begun.elapsed())
    };
    let (heard, took) = network_of(target.container)?.inside(ask)?;
    Ok((heard.with_context(|| format!("asking a name server from {}", target.name()))?, took))
}

fn bind(network: &NetworkNamespace, address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let begun = Instant::now();
    loop {
        match network.inside(|| UdpSocket::bind(address)).and_then(|socket| socket) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < BIND_DEADLINE.scaled() => {
                std::thread::sleep(Duration::from_millis(5)); // until another look is over
            }
            Err(error) => return Err(error).with_context(|| format!("opening {address} on the bridge")),
        }
    }
}

impl LinkDamage for Dns {
    const GONE: &'static str = "nothing is between the container and its name servers any more";

    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Drop => "dns.drop",
            Kind::Refuse => "dns.refuse",
            Kind::Answer(Reply::Code(_)) => "dns.servfail",
            Kind::Answer(Reply::Address(_)) => "dns.spoof",
        }
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(match self.kind {
            // On the bridge: dropped by its own kernel, a program would be told at once that it may not send.
            Kind::Drop => Filter::on_bridge(self.name()),
            _ => Filter::inside(self.name(), &["ip"], "`modprobe -a nft_chain_nat nft_nat`"),
        })]
    }

    fn rules(&self, port: &DeviceName) -> Rules {
        let to_port = self.server.as_ref().map_or(CLOSED_PORT, |server| server.address().port());
        rules(self.kind, port, self.bridge, to_port)
    }

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        if self.kind == Kind::Answer(Reply::Address(TRUE_ADDRESS)) {
            return Err(usage(format!(
                "dns.spoof: {TRUE_ADDRESS} is the right answer of the engine's own name server: choose another address"
            )));
        }
        self.bridge = target.container.machine().network.gateway();
        let (heard, took) = ask(target, PATIENCE.scaled())?;
        if heard != TRUTH {
            return Err(usage(format!(
                "{} hears {heard} from a name server without the fault, so that its effect could not be seen: heal the cause first",
                target.name()
            )));
        }
        self.usual = took;
        Ok(format!("the container hears {heard} from a name server after {}", ms(took)))
    }

    fn prepare(&mut self, target: &FaultTarget<'_>) -> anyhow::Result<()> {
        match self.kind {
            Kind::Drop => {}
            Kind::Refuse => {
                let unbound = target.lab.network().inside(|| std::fs::write(REFUSALS_BOUND, "0"))?;
                unbound.with_context(|| format!("writing {REFUSALS_BOUND}"))?;
            }
            Kind::Answer(reply) => {
                let socket = bind(target.lab.network(), SocketAddr::from((self.bridge, 0)))?;
                self.server = Some(Server::start(socket, reply).context("starting a name server")?);
            }
        }
        Ok(())
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        let (heard, took) = ask(target, target.within(self.patience()))?;
        if heard != self.expected() {
            bail!("the container hears {heard} from a name server, not {}", self.expected());
        }
        Ok(format!(
            "the container hears {heard} from a name server, where the right answer is {TRUE_ADDRESS}, after {}",
            ms(took)
        ))
    }

    fn taken_back(&mut self, _target: &FaultTarget<'_>) {
        self.server = None;
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let (heard, took) = ask(target, PATIENCE_SHORT.scaled().max(self.usual * 3))?;
        let said = format!("the container hears {heard} from a name server after {}", ms(took));
        Ok(if heard == TRUTH { Ok(said) } else { Err(format!("{said}, where the right answer is {TRUE_ADDRESS}")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_dropped_on_the_bridge_and_led_elsewhere_inside() {
        let bridge = Ipv4Addr::new(10, 77, 0, 1);
        let dropped = rules(Kind::Drop, &DeviceName::port(12), bridge, CLOSED_PORT).nft;
        assert!(dropped.contains("iifname \"port12\" meta l4proto { tcp, udp } th dport 53 counter drop"), "{dropped}");
        let led = rules(Kind::Answer(Reply::Code(SERVFAIL)), &DeviceName::port(12), bridge, 4242);
        let rules = led.iptables.unwrap().rules;
        let iptables = rules.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(iptables.contains("! -o lo -p udp --dport 53 -j DNAT --to-destination 10.77.0.1:4242\n"), "{iptables}");
        assert!(iptables.contains("-p tcp --dport 53 -j DNAT --to-destination 10.77.0.1:1"), "{iptables}");
        let led = led.nft;
        assert!(led.contains("udp th dport 53 counter dnat to 10.77.0.1:4242\n"), "{led}");
        assert!(led.contains("tcp th dport 53 counter dnat to 10.77.0.1:1\n"), "{led}");
        assert_eq!(led.matches("oifname != \"lo\"").count(), 2, "{led}");
    }

    #[test]
    fn each_kind_is_told_from_the_truth() {
        let wrong = Ipv4Addr::new(192, 0, 2, 66);
        for dns in [Dns::drop(), Dns::refuse(), Dns::servfail(), Dns::spoof(wrong)] {
            assert_ne!(dns.expected(), TRUTH, "{:?}", dns.kind);
        }
    }
}
