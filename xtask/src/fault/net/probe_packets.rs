//! Numbered packets from one network namespace to another, to tell which arrive, how often, and when.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};

use crate::host::cgroup::text_of;
use crate::host::network::netns::{NetworkNamespace, udp_without_room};
use crate::host::network::receive_buffer::{self, kibibytes};

/// Bytes of a packet that are IP and UDP headers.
pub const HEADER_BYTES: usize = 20 + 8;

/// Bytes of the number of the round and of the packet's own number, which are the whole payload of a small packet.
pub const PAYLOAD_BYTES_MIN: usize = 8;

/// Number of packets that are sent before the arrived ones are read: no link's queue is shorter.
const SENT_AT_ONCE: usize = 100;

/// Time without an arrival after which the sender goes on, each time that it has sent `SENT_AT_ONCE` packets.
const PAUSE: Duration = Duration::from_millis(10);

/// Requested size of a receiver's buffer for packets that were not read yet, in bytes.
const SOCKET_BYTES: usize = 8 << 20;

/// Maximum room that a packet takes of a socket's buffer, in bytes: the packet itself, the kernel's bookkeeping, and a third more, because
/// the kernel is late to free part of the buffer.
const PACKET_ROOM_BYTES: usize = 3072;

/// Sender in one network namespace and receiver in another, for numbered packets.
#[derive(Debug)]
pub struct Lane {
    sender: UdpSocket,
    receiver: Receiver,
    target: SocketAddr,
    round: u32,
}

/// Receiving end of a lane, with the counters of packets that it had no room for.
#[derive(Debug)]
struct Receiver {
    socket: UdpSocket,
    buffer_bytes: usize,
    /// UDP counters of the whole network namespace.
    counters: File,
}

/// Arrivals of the packets of one round.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Arrivals {
    round: u32,
    packets: Vec<Packet>,
    arrived: usize,
    overflow_before: Overflow,
}

/// Counters of packets that a socket had no room for. Each counts other packets as well: the socket's counts those with a wrong checksum,
/// the namespace's those of other sockets.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Overflow {
    socket: u64,
    namespace: u64,
}

impl Overflow {
    /// Returns the maximum number of packets of this socket that can have had no room since the counters were read `before`.
    fn since(self, before: Self) -> usize {
        let socket = self.socket.saturating_sub(before.socket);
        let namespace = self.namespace.saturating_sub(before.namespace);
        usize::try_from(socket.min(namespace)).unwrap_or(usize::MAX)
    }
}

impl Receiver {
    /// Opens a socket in a namespace, with as large a buffer as the kernel grants.
    fn open(namespace: &NetworkNamespace) -> anyhow::Result<Self> {
        let opened =
            namespace.inside(|| Self::open_here(SOCKET_BYTES, Ipv4Addr::UNSPECIFIED)).and_then(|opened| opened);
        opened.context("opening a socket to receive packets")
    }

    fn open_here(wanted_bytes: usize, address: Ipv4Addr) -> io::Result<Self> {
        let socket = UdpSocket::bind((address, 0))?;
        let buffer_bytes = receive_buffer::enlarge(&socket, wanted_bytes)?;
        // Those of the thread: `/proc/net` is that of the whole process.
        let counters = File::open("/proc/thread-self/net/snmp")?;
        Ok(Self { socket, buffer_bytes, counters })
    }

    fn overflow(&self) -> io::Result<Overflow> {
        let namespace = udp_without_room(&text_of(&self.counters)?);
        Ok(Overflow { socket: receive_buffer::dropped(&self.socket)?, namespace })
    }

    /// Returns the number of packets that fit into the buffer, even if each comes twice.
    fn window(&self) -> usize {
        (self.buffer_bytes / (2 * PACKET_ROOM_BYTES)).max(1)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Packet {
    sent: Instant,
    /// Time from sending until the first copy arrived; `None` where none has.
    took: Option<Duration>,
    copies: u32,
}

impl Lane {
    /// Opens a lane from a network namespace to an address of another one. `mark` is the firewall mark of the packets, if they are to have
    /// one.
    pub fn between(
        from: &NetworkNamespace,
        mark: Option<u32>,
        to: &NetworkNamespace,
        address: Ipv4Addr,
    ) -> anyhow::Result<Self> {
        let any = (Ipv4Addr::UNSPECIFIED, 0);
        let sender = from.inside(|| UdpSocket::bind(any)).and_then(|socket| socket);
        let sender = sender.context("opening a socket to send packets")?;
        if let Some(mark) = mark {
            setsockopt(&sender, sockopt::Mark, &mark).context("marking packets")?;
        }
        let receiver = Receiver::open(to)?;
        let target = SocketAddr::from((address, receiver.socket.local_addr()?.port()));
        Ok(Self { sender, receiver, target, round: 0 })
    }

    /// Sends packets and waits until each has arrived, or none has for `quiet`. No more are on their way at once than the receiver has room
    /// for.
    ///
    /// # Errors
    /// Also when the receiver had no room after all: missing packets prove nothing then.
    pub fn send(&mut self, packets: usize, payload_bytes: usize, quiet: Duration) -> io::Result<Arrivals> {
        let mut arrivals = self.begin()?;
        let (window, mut missing) = (self.receiver.window(), 0);
        for number in 1..=packets {
            self.send_one(&mut arrivals, payload_bytes)?;
            let is_full = arrivals.lost() >= missing + window;
            let wait = if number == packets || is_full {
                quiet
            } else if number % SENT_AT_ONCE == 0 {
                PAUSE
            } else {
                Duration::ZERO
            };
            self.receive_all(&mut arrivals, wait)?;
            if is_full {
                missing = arrivals.lost();
            }
        }
        self.expect_room(&arrivals)?;
        Ok(arrivals)
    }

    /// Sends a packet every `pace` until `enough` is true of the arrivals, or the deadline has passed.
    ///
    /// # Errors
    /// Also when the receiver had no room.
    pub fn watch(
        &mut self,
        pace: Duration,
        deadline: Duration,
        mut enough: impl FnMut(&Arrivals) -> bool,
    ) -> io::Result<Arrivals> {
        let (begun, mut arrivals) = (Instant::now(), self.begin()?);
        while !enough(&arrivals) && begun.elapsed() < deadline {
            let next = Instant::now() + pace;
            self.send_one(&mut arrivals, PAYLOAD_BYTES_MIN)?;
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if !self.receive(&mut arrivals, left)? {
                    break;
                }
            }
        }
        self.expect_room(&arrivals)?;
        Ok(arrivals)
    }

    fn begin(&mut self) -> io::Result<Arrivals> {
        self.round += 1;
        Ok(Arrivals { round: self.round, overflow_before: self.receiver.overflow()?, ..Arrivals::default() })
    }

    /// Fails when the receiver had no room for packets of this round: missing packets prove nothing then.
    fn expect_room(&self, arrivals: &Arrivals) -> io::Result<()> {
        match self.receiver.overflow()?.since(arrivals.overflow_before) {
            0 => Ok(()),
            dropped => {
                let buffer = kibibytes(self.receiver.buffer_bytes);
                let problem =
                    format!("{dropped} packets were dropped because the socket's buffer of {buffer} was full");
                Err(io::Error::other(problem))
            }
        }
    }

    fn send_one(&self, arrivals: &mut Arrivals, payload_bytes: usize) -> io::Result<()> {
        let number = u32::try_from(arrivals.packets.len()).map_err(io::Error::other)?;
        let mut payload = [self.round.to_be_bytes(), number.to_be_bytes()].concat();
        payload.resize(payload_bytes.max(PAYLOAD_BYTES_MIN), 0);
        arrivals.packets.push(Packet { sent: Instant::now(), took: None, copies: 0 });
        match self.sender.send_to(&payload, self.target) {
            Ok(_) => Ok(()),
            // Lost, which is what is looked for.
            Err(error) if is_loss(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Receives until all packets have arrived, or none has for `quiet`.
    ///
    /// # Errors
    /// Also when the receiver had no room.
    pub fn listen(&self, arrivals: &mut Arrivals, quiet: Duration) -> io::Result<()> {
        self.receive_all(arrivals, quiet)?;
        self.expect_room(arrivals)
    }

    fn receive_all(&self, arrivals: &mut Arrivals, quiet: Duration) -> io::Result<()> {
        while self.receive(arrivals, if arrivals.is_whole() { Duration::ZERO } else { quiet })? {}
        Ok(())
    }

    /// Receives one packet if one comes within `patience`; returns true if one did.
    fn receive(&self, arrivals: &mut Arrivals, patience: Duration) -> io::Result<bool> {
        let mut bytes = [0; PAYLOAD_BYTES_MIN];
        self.receiver.socket.set_nonblocking(patience.is_zero())?;
        if !patience.is_zero() {
            self.receiver.socket.set_read_timeout(Some(patience))?;
        }
        match self.receiver.socket.recv(&mut bytes) {
            Ok(_) => {
                arrivals.take(bytes);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }
}

fn is_loss(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
            | ErrorKind::WouldBlock
    ) || error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32)
}

impl Arrivals {
    fn take(&mut self, bytes: [u8; PAYLOAD_BYTES_MIN]) {
        let [a, b, c, d, number @ ..] = bytes;
        let number = usize::try_from(u32::from_be_bytes(number)).unwrap_or(usize::MAX);
        let packet = self.packets.get_mut(number).filter(|_| u32::from_be_bytes([a, b, c, d]) == self.round);
        let Some(packet) = packet else { return }; // of an earlier round
        packet.copies += 1;
        if packet.took.is_none() {
            packet.took = Some(packet.sent.elapsed());
            self.arrived += 1;
        }
    }

    fn is_whole(&self) -> bool {
        self.arrived == self.packets.len()
    }

    #[must_use]
    pub fn sent(&self) -> usize {
        self.packets.len()
    }

    #[must_use]
    pub fn arrived(&self) -> usize {
        self.arrived
    }

    #[must_use]
    pub fn lost(&self) -> usize {
        self.packets.len() - self.arrived
    }

    /// Number of packets that arrived more than once.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.packets.iter().filter(|packet| packet.copies > 1).count()
    }

    /// Times on the way of arrived packets, in the order in which they were sent.
    pub fn times(&self) -> impl Iterator<Item = Duration> + '_ {
        self.packets.iter().filter_map(|packet| packet.took)
    }

    /// Time from the first to the last packet of the longest run of lost ones. Packets after the last one that arrived may still be on
    /// their way, and do not count as lost.
    #[must_use]
    pub fn longest_cut(&self) -> Duration {
        let arrived = self.packets.iter().rposition(|packet| packet.took.is_some()).unwrap_or_default();
        longest_run(&self.packets[..arrived])
    }

    /// Like [`Self::longest_cut`], where packets after the last one that arrived count as lost, too.
    #[must_use]
    pub fn longest_silence(&self) -> Duration {
        longest_run(&self.packets)
    }
}

fn longest_run(packets: &[Packet]) -> Duration {
    let runs = packets.split(|packet| packet.took.is_some());
    let spans = runs.filter_map(|run| Some(run.last()?.sent.duration_since(run.first()?.sent)));
    spans.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(took: &[bool]) -> Arrivals {
        let start = Instant::now();
        let packets = took.iter().zip(0..).map(|(arrived, index)| Packet {
            sent: start + Duration::from_millis(index * 10),
            took: arrived.then_some(Duration::from_millis(1)),
            copies: u32::from(*arrived),
        });
        let arrived = took.iter().filter(|it| **it).count();
        Arrivals { round: 1, packets: packets.collect(), arrived, ..Arrivals::default() }
    }

    #[test]
    fn a_packet_is_told_by_its_round_and_number() {
        let mut seen = arrivals(&[false, false, false]);
        let bytes = |round: u8, number: u8| [0, 0, 0, round, 0, 0, 0, number];
        for packet in [bytes(1, 0), bytes(1, 2), bytes(1, 2), bytes(2, 1), bytes(1, 3)] {
            seen.take(packet);
        }
        assert_eq!((seen.sent(), seen.arrived(), seen.lost(), seen.copies()), (3, 2, 1, 1));
        assert_eq!(seen.times().count(), 2);
    }

    #[test]
    fn a_cut_lies_before_a_packet_that_arrived() {
        let ms = Duration::from_millis;
        let check = |took: &[bool], cut: u64, silence: u64| {
            let seen = arrivals(took);
            assert_eq!((seen.longest_cut(), seen.longest_silence()), (ms(cut), ms(silence)), "{took:?}");
        };
        check(&[], 0, 0);
        check(&[true, true], 0, 0);
        check(&[false, false, false, true, false], 20, 20);
        check(&[true, false, false, true, false, false, false], 10, 20);
        check(&[false, false], 0, 10);
    }

    fn lane(buffer_bytes: usize) -> Lane {
        let receiver = Receiver::open_here(buffer_bytes, Ipv4Addr::LOCALHOST).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = receiver.socket.local_addr().unwrap();
        Lane { sender, receiver, target, round: 0 }
    }

    #[test]
    fn packets_arrive_within_one_namespace() {
        let mut lane = lane(SOCKET_BYTES);
        let seen = lane.send(250, 0, Duration::from_secs(10)).unwrap();
        assert_eq!((seen.arrived(), seen.copies()), (250, 0));
        let seen = lane.watch(Duration::from_millis(1), Duration::from_secs(10), |seen| seen.arrived() >= 5).unwrap();
        assert_eq!(seen.longest_cut(), Duration::ZERO);
    }

    #[test]
    fn a_small_buffer_holds_all_that_is_on_its_way() {
        let mut lane = lane(1);
        assert_eq!(lane.receiver.window(), 1);
        let seen = lane.send(250, 1400, Duration::from_secs(10)).unwrap();
        assert_eq!(seen.arrived(), 250);
    }

    #[test]
    fn packets_without_room_are_said_and_belong_to_their_round() {
        let mut lane = lane(1);
        let mut seen = lane.begin().unwrap();
        for _ in 0..100 {
            lane.send_one(&mut seen, 1000).unwrap();
        }
        let said = lane.listen(&mut seen, Duration::from_millis(1)).unwrap_err().to_string();
        let expected = format!("{} packets were dropped because the socket's buffer of 2 KiB was full", seen.lost());
        assert!(seen.lost() > 0 && said == expected, "{said}; {} lost", seen.lost());
        assert_eq!(lane.send(1, 0, Duration::from_secs(10)).unwrap().arrived(), 1, "that was the round before");
    }

    #[test]
    fn an_overflow_is_what_both_counters_say() {
        let at = |socket, namespace| Overflow { socket, namespace };
        assert_eq!(at(7, 9).since(at(5, 5)), 2, "other sockets had no room either");
        assert_eq!(at(9, 5).since(at(5, 5)), 0, "the others had a wrong checksum");
    }
}
