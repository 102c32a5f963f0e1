//! Packet queues of the kernel, read through netlink (linux/netfilter/nfnetlink_queue.h).

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::host::network::netns::NetworkNamespace;
use crate::host::network::receive_buffer;

/// Types of netlink messages: the error of netlink itself, and those of the queue subsystem, number 3.
const ERROR: u16 = 2;
const PACKET: u16 = 3 << 8;
const VERDICT: u16 = 3 << 8 | 1;
const CONFIG: u16 = 3 << 8 | 2;

/// Flags of a netlink message.
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;

/// Attributes of a queue's configuration.
const COMMAND: u16 = 1;
const COPY: u16 = 2;
const LENGTH_MAX: u16 = 3;
const FLAGS_MASK: u16 = 4;
const FLAGS: u16 = 5;

/// Attributes of a packet and of the verdict on it.
const PACKET_HEADER: u16 = 1;
const VERDICT_HEADER: u16 = 2;
const PAYLOAD: u16 = 10;

const COMMAND_BIND: u8 = 1;
const COPY_NOTHING_OF_PACKET: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_PASS_WHEN_FULL: u32 = 1;
/// Flag of a queue by which large segments stay whole, and checksums are left to the network card.
const FLAG_WHOLE_SEGMENTS: u32 = 4;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

/// Maximum number of waiting packets of a queue; further ones pass at once.
const PACKETS_MAX: u32 = 65_536;

/// Requested size of the socket's buffer for messages on packets that were not read yet, each less than 1 KiB. Where it is full, packets
/// pass untreated, and [`super::state`] counts them.
const SOCKET_BYTES: usize = 64 << 20;

const HEADER_BYTES: usize = 16;
/// Size of a buffer for the message of a packet of the largest size.
const BUFFER_BYTES: usize = 72 << 10;

/// Part of a queue's packets that its reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Numbers only: the packets may be large segments, not split yet.
    Nothing,
    /// Every byte from the IP header on, as on a wire: segments are split to their size and have their checksums.
    Whole,
}

/// Packet queue that this process reads. Packets stay in the kernel; the reader knows them by their numbers.
#[derive(Debug)]
pub struct PacketQueue {
    socket: OwnedFd,
    number: u16,
    buffer: Vec<u8>,
}

impl PacketQueue {
    /// Becomes the reader of a queue of the calling thread's network namespace.
    pub fn open(number: u16, copy: Copy) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        receive_buffer::enlarge(&socket, SOCKET_BYTES)?;
        let mut queue = Self { socket, number, buffer: vec![0; BUFFER_BYTES] };
        let (range, mode, flags) = match copy {
            Copy::Nothing => (0_u32, COPY_NOTHING_OF_PACKET, FLAG_PASS_WHEN_FULL | FLAG_WHOLE_SEGMENTS),
            Copy::Whole => (0xffff, COPY_PACKET, FLAG_PASS_WHEN_FULL),
        };
        let mut copy = range.to_be_bytes().to_vec();
        copy.push(mode);
        let mut config = Vec::new();
        message(
            &mut config,
            CONFIG,
            REQUEST | ACKNOWLEDGE,
            number,
            &[
                (COMMAND, &[COMMAND_BIND, 0, 0, 0]),
                (COPY, &copy),
                (LENGTH_MAX, &PACKETS_MAX.to_be_bytes()),
                (FLAGS_MASK, &(FLAG_PASS_WHEN_FULL | FLAG_WHOLE_SEGMENTS).to_be_bytes()),
                (FLAGS, &flags.to_be_bytes()),
            ],
        );
        send(queue.socket.as_raw_fd(), &config, MsgFlags::empty())?;
        // The kernel answers before send returns; no rule fills the queue before it has a reader.
        if !queue.read(|_, _| ())? {
            return Err(Error::new(
                ErrorKind::WouldBlock,
                "the kernel did not answer the request to open a packet queue",
            ));
        }
        Ok(queue)
    }

    /// Reads one buffer of messages without waiting, and calls `packet` with each packet's number and bytes; returns false if there was
    /// none.
    pub fn read(&mut self, mut packet: impl FnMut(u32, &[u8])) -> Result<bool> {
        match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Ok(count) => {
                for event in events(&self.buffer[..count]) {
                    match event {
                        Event::Packet(number, bytes) => packet(number, bytes),
                        // A packet goes with the device it would have left through.
                        Event::Answer(Errno::ENOENT) => {}
                        Event::Answer(errno) if errno as i32 == 0 => {}
                        Event::Answer(errno) => return Err(errno.into()),
                    }
                }
                Ok(true)
            }
            Err(Errno::EAGAIN) => Ok(false),
            // More came than the socket could hold: the queue let those pass.
            Err(Errno::EINTR | Errno::ENOBUFS) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Lets packets go on.
    pub fn accept(&self, packets: &[u32]) -> Result<()> {
        self.decide(ACCEPT, packets)
    }

    pub fn refuse(&self, packets: &[u32]) -> Result<()> {
        self.decide(DROP, packets)
    }

    fn decide(&self, verdict: u32, packets: &[u32]) -> Result<()> {
        for some in packets.chunks(256) {
            let mut verdicts = Vec::new();
            for packet in some {
                let verdict = [verdict.to_be_bytes(), packet.to_be_bytes()].concat();
                message(&mut verdicts, VERDICT, REQUEST, self.number, &[(VERDICT_HEADER, &verdict)]);
            }
            let sent = send(self.socket.as_raw_fd(), &verdicts, MsgFlags::empty())?;
            if sent != verdicts.len() {
                return Err(Error::new(ErrorKind::WriteZero, "the kernel took only a part of the verdicts"));
            }
        }
        Ok(())
    }

    /// Lets a packet go on with other bytes of the same length.
    pub fn accept_as(&self, packet: u32, bytes: &[u8]) -> Result<()> {
        let header = [ACCEPT.to_be_bytes(), packet.to_be_bytes()].concat();
        let mut verdict = Vec::new();
        message(&mut verdict, VERDICT, REQUEST, self.number, &[(VERDICT_HEADER, &header), (PAYLOAD, bytes)]);
        send(self.socket.as_raw_fd(), &verdict, MsgFlags::empty())?;
        Ok(())
    }
}

impl AsFd for PacketQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Message of the kernel to the reader of a queue.
#[derive(Debug, PartialEq, Eq)]
enum Event<'a> {
    /// Waiting packet, by its number; its bytes, as far as they are copied.
    Packet(u32, &'a [u8]),
    /// Result of a request; 0 is success.
    Answer(Errno),
}

/// Appends a message with its attributes.
fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, queue: u16, attributes: &[(u16, &[u8])]) {
    let start = bytes.len();
    bytes.extend([0; 4]); // the length, known at the end
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and sender: not used
    bytes.extend([0, 0]); // any protocol family, version 0
    bytes.extend(queue.to_be_bytes());
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*value);
        bytes.resize(start + aligned(bytes.len() - start), 0);
    }
    let length = u32::try_from(bytes.len() - start).unwrap_or(u32::MAX);
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Parses received messages; those that cannot be understood are passed over.
fn events(mut bytes: &[u8]) -> Vec<Event<'_>> {
    let mut found = Vec::new();
    while let Some(length) = u32_at(bytes, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= HEADER_BYTES) else { break };
        match u16_at(message, 4) {
            Some(PACKET) => found.extend(packet(&message[HEADER_BYTES..])),
            Some(ERROR) => found.extend(
                u32_at(message, HEADER_BYTES)
                    .map(|code| Event::Answer(Errno::from_raw(code.cast_signed().wrapping_neg()))),
            ),
            _ => {}
        }
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    found
}

/// Parses a packet: its number is the first field of one attribute, and its bytes are another attribute.
fn packet(body: &[u8]) -> Option<Event<'_>> {
    let header = attribute(body, PACKET_HEADER)?;
    let number = u32::from_be_bytes(header.get(..4)?.try_into().ok()?);
    Some(Event::Packet(number, attribute(body, PAYLOAD).unwrap_or_default()))
}

fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = body.get(4..)?; // past the family, the version and the queue's number
    loop {
        let (length, kind) = (usize::from(u16_at(rest, 0)?), u16_at(rest, 2)?);
        if kind == wanted {
            return rest.get(4..length);
        }
        rest = rest.get(aligned(length.max(4))..)?;
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

/// Number of netlink's protocol for netfilter, as `/proc/net/netlink` writes it.
const NETFILTER: &str = "12";

/// State of a queue that a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Number of packets that wait now.
    pub waiting: u64,
    /// Number of packets that ever came to the queue.
    pub seen: u64,
    /// Number of packets that passed untreated, because the reader's socket had no room for them.
    pub passed: u64,
}

/// Returns the kernel's state of a queue of this namespace; `None` while no program reads it.
pub fn state(network: &NetworkNamespace, number: u16) -> anyhow::Result<Option<QueueState>> {
    // Those of the thread: `/proc/net` is that of the whole process.
    let (queues, sockets) = ("/proc/thread-self/net/netfilter/nfnetlink_queue", "/proc/thread-self/net/netlink");
    let read = || -> std::io::Result<_> { Ok((std::fs::read_to_string(queues)?, std::fs::read_to_string(sockets)?)) };
    match network.inside(read).and_then(|texts| texts) {
        Ok((queues, sockets)) => Ok(state_in(&queues, &sockets, number)),
        // The first reader of a queue makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {queues} and {sockets}")),
    }
}

/// Parses the state of a queue from the kernel's tables. The queue's own counters of refused packets stay at 0, because it lets such
/// packets pass: the reader's socket counts them.
fn state_in(queues: &str, sockets: &str, number: u16) -> Option<QueueState> {
    let mut queues = queues.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Number, reader, waiting, copy mode, copy range, refused by the queue, refused by its reader, seen, 1.
    let queue = queues.find(|queue| queue.first() == Some(&number.to_string().as_str()))?;
    let (reader, waiting, seen) = (queue.get(1)?, queue.get(2)?.parse().ok()?, queue.get(7)?.parse().ok()?);
    let mut sockets = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Address, kind, reader, groups, bytes received and sent, dump, locks, drops, ...
    let socket = sockets.find(|socket| socket.get(1) == Some(&NETFILTER) && socket.get(2) == Some(reader));
    let passed = socket.and_then(|socket| socket.get(8)?.parse().ok()).unwrap_or_default();
    Some(QueueState { waiting, seen, passed })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a packet's message as the kernel writes it, with an attribute before the one that counts.
    fn news(number: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = [&number.to_be_bytes()[..], &[8, 0, 2]].concat();
        let port = 7_u32.to_be_bytes();
        message(&mut bytes, PACKET, 0, 12, &[(5, &port), (PACKET_HEADER, &header), (PAYLOAD, payload)]);
        bytes
    }

    fn answer(code: i32) -> Vec<u8> {
        let mut bytes = [36_u32.to_ne_bytes().to_vec(), ERROR.to_ne_bytes().to_vec()].concat();
        bytes.resize(HEADER_BYTES, 0);
        bytes.extend(code.to_ne_bytes());
        bytes.resize(36, 0);
        bytes
    }

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let mut bytes = Vec::new();
        message(&mut bytes, CONFIG, REQUEST, 12, &[(COPY, &[0, 0, 0, 0, 1]), (LENGTH_MAX, &[0, 0, 1, 0])]);
        assert_eq!(bytes.len(), 20 + 12 + 8);
        assert_eq!(u32_at(&bytes, 0), Some(40));
        assert_eq!((u16_at(&bytes, 4), u16_at(&bytes, 6)), (Some(0x302), Some(1)));
        assert_eq!(bytes[16..20], [0, 0, 0, 12]);
        assert_eq!((u16_at(&bytes, 20), u16_at(&bytes, 22)), (Some(9), Some(COPY)), "without its padding");
        assert_eq!(bytes[24..32], [0, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn packets_and_answers_are_read_from_one_buffer() {
        let bytes = [news(3, b""), answer(-(Errno::ENOENT as i32)), news(0x0102_0304, b"bytes"), answer(0)].concat();
        let expected = [
            Event::Packet(3, b""),
            Event::Answer(Errno::ENOENT),
            Event::Packet(0x0102_0304, b"bytes"),
            Event::Answer(Errno::from_raw(0)),
        ];
        assert_eq!(events(&bytes), expected);
    }

    #[test]
    fn what_is_cut_short_is_passed_over() {
        for length in 0..news(3, b"x").len() {
            assert_eq!(events(&news(3, b"x")[..length]), [], "{length} bytes");
        }
        assert_eq!(events(&[[3, 0, 0, 0].as_slice(), &[0; 20]].concat()), []);
        let mut lying = news(3, b"x");
        lying[20..22].copy_from_slice(&60000_u16.to_ne_bytes());
        assert_eq!(events(&lying), []);
    }

    #[test]
    fn a_queue_is_found_by_its_number_and_its_reader_by_its_own() {
        let queues =
            "   12  29797     3 2    64     0     0     1234  1\n  112     5     0 2    64     0     0        0  1\n";
        let sockets = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
                       0000000000000000 0   29797      00000000 0        0        0     2        4        7\n\
                       0000000000000000 12  29797      00000000 0        0        0     2        3        8\n\
                       0000000000000000 12  0          00000000 0        0        0     2        9        9\n";
        assert_eq!(state_in(queues, sockets, 12), Some(QueueState { waiting: 3, seen: 1234, passed: 3 }));
        assert_eq!(
            state_in(queues, sockets, 112),
            Some(QueueState { waiting: 0, seen: 0, passed: 0 }),
            "it is just ending"
        );
        assert_eq!(state_in(queues, sockets, 2), None);
        assert_eq!(state_in("", sockets, 12), None);
    }
}
