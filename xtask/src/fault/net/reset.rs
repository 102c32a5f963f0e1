//! Fault that answers TCP segments to the container with a reset, by the container's own kernel.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::filter::{Filter, IptablesRules, Rules};
use super::link::LinkDamage;
use super::means::Means;
use super::peer::{Peer, Seen, answers, network_of, present, side_by_side};
use crate::fault::effect::{FaultTarget, usage};
use crate::host::patience::Deadline;
use crate::host::syntax::{DeviceName, Iptables, Nft, Text, compose};

/// Deadline for a connection to be established, or to break.
const PATIENCE: Deadline = Deadline::from_secs(5);

/// Fault that resets TCP connections to a container, or to one of its ports (`net.reset`).
pub struct Reset {
    port: Option<u16>,
    peers: Vec<Peer>,
    /// Connections from before the injection, in the order of `peers`.
    connections: Vec<Connection>,
}

/// Both ends of a connection; `far`, the container's, is `None` where a program in the container listens.
struct Connection {
    near: TcpStream,
    far: Option<TcpStream>,
}

/// Port of the container that takes connections.
struct ListeningPort {
    address: SocketAddr,
    /// Listener of the engine; `None` where a program in the container listens already.
    listener: Option<TcpListener>,
}

/// Result of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Connected,
    Reset,
    Nothing,
}

impl ListeningPort {
    fn open(target: &FaultTarget<'_>, port: Option<u16>) -> anyhow::Result<Self> {
        let host = target.container.machine().address();
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.unwrap_or(0)));
        match network_of(target.container)?.inside(bind).and_then(|bound| bound) {
            Ok(listener) => {
                let address = SocketAddr::from((host, listener.local_addr()?.port()));
                listener.set_nonblocking(true)?;
                Ok(Self { address, listener: Some(listener) })
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                Ok(Self { address: SocketAddr::from((host, port.unwrap_or(0))), listener: None })
            }
            Err(error) => Err(error).with_context(|| format!("listening in {}", target.name())),
        }
    }

    /// Connects from a peer; returns the result, and the connection where there is one.
    fn connect(&self, target: &FaultTarget<'_>, peer: &Peer) -> anyhow::Result<(Came, Option<TcpStream>)> {
        let connect =
            || TcpStream::connect_timeout(&self.address, target.within(PATIENCE.scaled().max(peer.usual() * 3)));
        match peer.network(target)?.inside(connect)? {
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

    /// Takes the container's end of a new connection; `None` where a program in the container has it.
    fn accept(&self) -> anyhow::Result<Option<TcpStream>> {
        let Some(listener) = &self.listener else { return Ok(None) };
        let begun = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => return Ok(Some(stream)),
                Err(error) if error.kind() == ErrorKind::WouldBlock && begun.elapsed() < PATIENCE.scaled() => {
                    std::thread::sleep(Duration::from_millis(1)); // until the last segment has come
                }
                Err(error) => return Err(error).context("accepting a connection in the container"),
            }
        }
    }
}

impl Connection {
    /// Sends a byte to the container, and tells whether the connection breaks. Where a program of the container has the other end, only the
    /// end of the stream is sent.
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
            Err(error) => Err(error).context("sending and receiving on a connection to the container"),
        }
    }
}

impl Reset {
    pub fn new(port: Option<u16>) -> Self {
        Self { port, peers: Vec::new(), connections: Vec::new() }
    }

    fn at(&self) -> String {
        self.port.map_or_else(|| "a port".to_owned(), |port| format!("port {port}"))
    }

    /// Has each peer connect; returns the peers' names where all results are as wanted.
    fn look(&self, target: &FaultTarget<'_>, peers: &[&Peer], wanted: Came) -> anyhow::Result<Seen> {
        let listening = ListeningPort::open(target, self.port)?;
        let came = side_by_side(peers, |peer| Ok(listening.connect(target, peer)?.0))?;
        let other = peers.iter().zip(came).find(|(_, came)| *came != wanted);
        let Some((peer, came)) = other else {
            return Ok(Ok(peers.iter().map(|peer| peer.name()).collect::<Vec<_>>().join(" and ")));
        };
        let said = match came {
            Came::Connected => "still connected to the container",
            Came::Reset => "was still refused",
            Came::Nothing => "had no answer",
        };
        Ok(Err(format!("{} {said} at {}", peer.name(), self.at())))
    }
}

impl LinkDamage for Reset {
    const GONE: &'static str = "nothing resets its connections any more";

    fn name(&self) -> &'static str {
        "net.reset"
    }

    fn means(&self) -> Vec<Means> {
        vec![Means::Filter(Filter::inside(self.name(), &["inet", "ip"], "`modprobe -a nft_reject_inet`"))]
    }

    /// Rules for packets from other machines, except resets: a reset from a peer tells the container that the connection is broken.
    fn rules(&self, _port: &DeviceName) -> Rules {
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

    fn before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        self.peers = Peer::of(target)?;
        let listening = ListeningPort::open(target, self.port)?;
        for peer in &self.peers {
            let (came, near) = listening.connect(target, peer)?;
            let Some(near) = near else {
                let message = format!(
                    "net.reset: {} cannot connect to {} even without the fault, so its effect could not be observed: {came:?}",
                    peer.name(),
                    self.at()
                );
                return Err(usage(message));
            };
            self.connections.push(Connection { near, far: listening.accept()? });
        }
        Ok(format!("{}; each has a connection to {}", answers(&self.peers), self.at()))
    }

    fn verify_effect(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        for (peer, mut connection) in self.peers.iter().zip(std::mem::take(&mut self.connections)) {
            if !connection.breaks()? {
                bail!("the connection that {} had before the fault was not reset", peer.name());
            }
        }
        let peers: Vec<&Peer> = self.peers.iter().collect();
        let names = self.look(target, &peers, Came::Reset)?.map_err(anyhow::Error::msg)?;
        Ok(format!("the connections of {names} broke, and new ones to {} are refused", self.at()))
    }

    fn verify_effect_once(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<String> {
        let peers: Vec<&Peer> = self.peers.iter().filter(|peer| !peer.is_gone()).collect();
        let names = self.look(target, &peers, Came::Reset)?.map_err(anyhow::Error::msg)?;
        Ok(format!("new connections of {names} to {} are refused", self.at()))
    }

    fn is_as_before(&mut self, target: &FaultTarget<'_>, _means: &Means) -> anyhow::Result<Seen> {
        let seen = self.look(target, &present(target, &self.peers)?, Came::Connected)?;
        Ok(seen.map(|names| format!("{names} connected to {}", self.at())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_themselves_pass_and_so_does_what_a_machine_says_to_itself() {
        let rules = Reset::new(None).rules(&DeviceName::LOOPBACK);
        let iptables = rules.iptables.unwrap().rules.into_iter().collect::<Text<Iptables>>();
        assert!(iptables.starts_with("! -i lo -p tcp ! --tcp-flags RST RST -j REJECT"), "{iptables}");
        let rules = rules.nft;
        let rule = "iifname != \"lo\" meta l4proto tcp tcp flags & rst == 0 counter reject with tcp reset";
        assert!(rules.contains(rule), "{rules}");
        assert!(
            Reset::new(Some(80)).rules(&DeviceName::LOOPBACK).nft.contains(" tcp dport 80 tcp flags"),
            "one port alone"
        );
        let iptables = Reset::new(Some(80))
            .rules(&DeviceName::LOOPBACK)
            .iptables
            .unwrap()
            .rules
            .into_iter()
            .collect::<Text<Iptables>>();
        assert!(iptables.contains("-p tcp --dport 80 ! --tcp-flags"), "{iptables}");
    }
}
