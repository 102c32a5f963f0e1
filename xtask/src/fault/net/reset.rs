//! TCP segments to the container are answered with a reset, by its own kernel.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::filter::{Filter, IptablesRules, Rules};
use super::peer::{Peer, answers, expect_up, network_of, side_by_side, until_healed};
use crate::fault::effect::usage;
use crate::fault::effect::{Effect, Lasted, Site};
use crate::host::patience::Deadline;
use crate::host::syntax::{Iptables, Nft, Text, compose};

/// Deadline for a connection to be established, or to break.
const PATIENCE: Deadline = Deadline::from_secs(5);

/// Connections that break.
pub struct Reset {
    port: Option<u16>,
    filter: Filter,
    peers: Vec<Peer>,
    /// Connections from before, by the peer's place.
    connections: Vec<Connection>,
}

/// Pair of ends of a connection; the far one only where nobody else listened.
struct Connection {
    near: TcpStream,
    far: Option<TcpStream>,
}

/// A port of the container that takes connections.
struct Door {
    address: SocketAddr,
    /// Listener of the engine; none where a program in the container listens already.
    listener: Option<TcpListener>,
}

/// Result of a knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Connected,
    Reset,
    Nothing,
}

impl Door {
    fn open(site: &Site<'_>, port: Option<u16>) -> anyhow::Result<Self> {
        let host = site.container.machine().address();
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.unwrap_or(0)));
        match network_of(site.container)?.inside(bind).and_then(|bound| bound) {
            Ok(listener) => {
                let address = SocketAddr::from((host, listener.local_addr()?.port()));
                listener.set_nonblocking(true)?;
                Ok(Self { address, listener: Some(listener) })
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                Ok(Self { address: SocketAddr::from((host, port.unwrap_or(0))), listener: None })
            }
            Err(error) => Err(error).with_context(|| format!("listening in {}", site.name())),
        }
    }

    /// A new connection of a peer.
    fn connect(&self, site: &Site<'_>, peer: &Peer) -> anyhow::Result<(Came, Option<TcpStream>)> {
        let connect =
            || TcpStream::connect_timeout(&self.address, site.within(PATIENCE.scaled().max(peer.usual() * 3)));
        match peer.network(site)?.inside(connect)? {
            Ok(stream) => Ok((Came::Connected, Some(stream))),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Ok((Came::Reset, None)),
                ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                    Ok((Came::Nothing, None))
                }
                _ => Err(error).with_context(|| format!("connecting from {} to {}", peer.name(), self.address)),
            },
        }
    }

    /// The far end of a connection that has come about.
    fn accept(&self) -> anyhow::Result<Option<TcpStream>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        let begun = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < PATIENCE.scaled() => {
                    std::thread::sleep(Duration::from_millis(1)); // until the last segment has come
                }
                Err(error) => return Err(error).context("taking a connection"),
            }
        }
    }
}

impl Connection {
    /// Sends something to the container, and says whether the connection breaks of it. Where a program of the container
    /// is at the other end it would see the end of what is sent, and nothing else.
    fn breaks(&mut self) -> anyhow::Result<bool> {
        self.near.set_read_timeout(Some(PATIENCE.scaled()))?;
        let is_reset =
            |kind| matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected);
        let sent = match self.far {
            Some(_) => self.near.write_all(b"?"),
            None => self.near.shutdown(Shutdown::Write),
        };
        let begun = Instant::now();
        let mut said = [0; 1024];
        let mut heard = sent.and_then(|()| self.near.read(&mut said));
        // What came before is read first.
        while matches!(heard, Ok(count) if count > 0) && begun.elapsed() < PATIENCE.scaled() {
            heard = self.near.read(&mut said);
        }
        match heard {
            Ok(_) => Ok(false),
            Err(error) if is_reset(error.kind()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) => Err(error).context("using a connection"),
        }
    }
}

impl Reset {
    pub fn new(port: Option<u16>) -> Self {
        Self { port, filter: Filter::inside(&["inet", "ip"], "net.reset"), peers: Vec::new(), connections: Vec::new() }
    }

    fn at(&self) -> String {
        self.port.map_or_else(|| "a port".to_owned(), |port| format!("port {port}"))
    }

    /// Rules for what comes from others and is no reset itself: those tell the container that its end is broken too.
    fn rules(&self) -> Rules {
        let of_nft = self.port.map(|port| compose!(Nft, "tcp dport {port} ", port = port));
        let of_iptables = self.port.map(|port| compose!(Iptables, "--dport {port} ", port = port));
        let nft = compose!(
            Nft,
            "chain input {{\n\
             type filter hook input priority 0\n\
             iifname != \"lo\" meta l4proto tcp {only}tcp flags & rst == 0 counter reject with tcp reset\n\
             }}\n",
            only = of_nft.into_iter().collect::<Text<Nft>>(),
        );
        let rule = compose!(
            Iptables,
            "! -i lo -p tcp {only}! --tcp-flags RST RST -j REJECT --reject-with tcp-reset",
            only = of_iptables.into_iter().collect::<Text<Iptables>>(),
        );
        Rules { nft, iptables: Some(IptablesRules { table: "filter", hook: "INPUT", rules: vec![rule] }) }
    }

    fn look(&self, site: &Site<'_>, peers: &[&Peer], wanted: Came) -> anyhow::Result<Result<(), String>> {
        let door = Door::open(site, self.port)?;
        let came = side_by_side(peers, |peer| Ok(door.connect(site, peer)?.0))?;
        let other = peers.iter().zip(came).find(|(_, came)| *came != wanted);
        Ok(other.map_or(Ok(()), |(peer, came)| {
            let said = match came {
                Came::Connected => "still connected to it",
                Came::Reset => "was still refused",
                Came::Nothing => "had no answer",
            };
            Err(format!("{} {said} at {}", peer.name(), self.at()))
        }))
    }
}

impl Effect for Reset {
    fn supported(&self) -> anyhow::Result<()> {
        self.filter.supported(self.rules(), "`modprobe -a nft_reject_inet`")
    }

    fn before(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        expect_up(site)?;
        self.filter.expect_none(site)?;
        self.peers = Peer::of(site)?;
        let door = Door::open(site, self.port)?;
        for peer in &self.peers {
            let (came, near) = door.connect(site, peer)?;
            let Some(near) = near else {
                let message = format!("net.reset: {} cannot connect to {} as it is: {came:?}", peer.name(), self.at());
                return Err(usage(message));
            };
            self.connections.push(Connection { near, far: door.accept()? });
        }
        Ok(format!("{}; each has a connection to {}", answers(&self.peers), self.at()))
    }

    fn inject(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.make(site, self.rules())
    }

    fn bites(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let mut connections = std::mem::take(&mut self.connections);
        for (peer, connection) in self.peers.iter().zip(&mut connections) {
            if !connection.breaks()? {
                bail!("the connection of {} goes on", peer.name());
            }
        }
        let peers: Vec<&Peer> = self.peers.iter().collect();
        if let Err(problem) = self.look(site, &peers, Came::Reset)? {
            bail!(problem);
        }
        let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
        Ok(format!("the connections of {} broke, and new ones to {} are refused", names.join(" and "), self.at()))
    }

    fn lasts(&mut self, site: &Site<'_>) -> anyhow::Result<Lasted> {
        let peers: Vec<&Peer> = self.peers.iter().filter(|peer| !peer.is_gone()).collect();
        let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
        let refused = || format!("new connections of {} to {} are refused", names.join(" and "), self.at());
        let proof = self.look(site, &peers, Came::Reset);
        let proof = proof.and_then(|seen| seen.map(|()| refused()).map_err(anyhow::Error::msg));
        self.filter.lasts(site, proof)
    }

    fn heal(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.take_back(site)
    }

    fn healed(&mut self, site: &Site<'_>) -> anyhow::Result<String> {
        let is_left = || self.filter.exists(site);
        until_healed(site, "nothing resets its connections any more", is_left, || {
            let mut present = Vec::new();
            for peer in &self.peers {
                if peer.is_there(site)? {
                    present.push(peer);
                }
            }
            let names: Vec<&str> = present.iter().map(|peer| peer.name()).collect();
            let seen = self.look(site, &present, Came::Connected)?;
            Ok(seen.map(|()| format!("{} connected to {}", names.join(" and "), self.at())))
        })
    }

    /// The rules were in the network that ended with the container.
    fn restore(&mut self, site: &Site<'_>) -> anyhow::Result<()> {
        self.filter.make_again(site, self.rules())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_themselves_pass_and_so_does_what_a_machine_says_to_itself() {
        let rules = Reset::new(None).rules();
        let iptables = rules.iptables.unwrap().rules.into_iter().collect::<Text<Iptables>>();
        assert!(iptables.starts_with("! -i lo -p tcp ! --tcp-flags RST RST -j REJECT"), "{iptables}");
        let rules = rules.nft;
        let rule = "iifname != \"lo\" meta l4proto tcp tcp flags & rst == 0 counter reject with tcp reset";
        assert!(rules.contains(rule), "{rules}");
        assert!(Reset::new(Some(80)).rules().nft.contains(" tcp dport 80 tcp flags"), "one port alone");
        let iptables = Reset::new(Some(80)).rules().iptables.unwrap().rules.into_iter().collect::<Text<Iptables>>();
        assert!(iptables.contains("-p tcp --dport 80 ! --tcp-flags"), "{iptables}");
    }
}
