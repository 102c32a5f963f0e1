//! Capture of the packets that pass a network device of any namespace, and the file that keeps them.

use std::ffi::CString;
use std::io::{self, IoSliceMut, Write};
use std::mem::size_of;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::time::TimeSpec;
use nix::{cmsg_space, libc};

use super::netns::NetworkNamespace;
use super::receive_buffer;

/// Requested size of the kernel's buffer for packets that were not read yet, in bytes.
const KERNEL_BYTES: usize = 16 << 20;

/// Running capture of a device's packets, in both directions.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    kernel_bytes: usize,
    buffer: Vec<u8>,
}

/// Captured packet.
#[derive(Debug)]
pub struct Packet<'a> {
    /// Time at which the packet was captured, since 1970.
    pub at: Duration,
    /// Bytes of the packet, or of its start where it is longer than a capture keeps.
    pub bytes: &'a [u8],
    /// Length of the whole packet, in bytes.
    pub length: usize,
}

/// Result of a wait for the next packet.
#[derive(Debug)]
pub enum Heard<'a> {
    Packet(Packet<'a>),
    /// No packet within the given time.
    Nothing,
    /// End of the capture: the device is gone.
    Gone,
}

impl Capture {
    /// Starts to capture the packets of a device of a namespace. Needs root.
    pub fn open(network: &NetworkNamespace, device: &str) -> anyhow::Result<Self> {
        let opened = network.inside(|| open(device)).and_then(|opened| opened);
        let (socket, kernel_bytes) = opened.with_context(|| format!("listening to the network device {device}"))?;
        Ok(Self { socket, kernel_bytes, buffer: vec![0; PACKET_BYTES_MAX] })
    }

    /// Returns the next packet, or [`Heard::Nothing`] where none comes within `wait`.
    pub fn next(&mut self, wait: Duration) -> anyhow::Result<Heard<'_>> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Heard::Nothing),
            Ok(_) => {}
            Err(error) => return Err(error).context("waiting for packets"),
        }
        let mut control = cmsg_space!(TimeSpec);
        let (at, length) = {
            let mut pieces = [IoSliceMut::new(&mut self.buffer)];
            let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
            let message = match recvmsg::<()>(self.socket.as_raw_fd(), &mut pieces, Some(&mut control), flags) {
                Ok(message) => message,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Heard::Nothing),
                Err(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => return Ok(Heard::Gone),
                Err(error) => return Err(error).context("reading a packet"),
            };
            let stamp = message.cmsgs().context("reading a packet's time")?.find_map(|one| match one {
                ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                _ => None,
            });
            (stamp.context("the kernel gave no time for a packet")?, message.bytes)
        };
        let kept = length.min(self.buffer.len());
        Ok(Heard::Packet(Packet { at, bytes: &self.buffer[..kept], length }))
    }

    /// Returns the size of the kernel's buffer for packets that were not read yet.
    #[must_use]
    pub fn kernel_bytes(&self) -> usize {
        self.kernel_bytes
    }

    /// Returns the number of packets that the kernel has dropped since the last call, because they were not read in time.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        let mut counted = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = socklen::<libc::tpacket_stats>();
        // SAFETY: the kernel writes no more than `length` bytes to `counted`, which has as many.
        let asked = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut counted).cast(),
                &raw mut length,
            )
        };
        if asked == 0 { counted.tp_drops } else { 0 }
    }
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(libc::socklen_t::MAX)
}

/// Opens a socket in the calling thread's network namespace. It has no protocol at first: with one, packets of all devices would come until
/// the socket is bound to the device.
fn open(device: &str) -> io::Result<(OwnedFd, usize)> {
    let name = CString::new(device)?;
    // SAFETY: system calls on numbers and on structures that live until they return; the descriptor is nobody else's.
    unsafe {
        let index = libc::if_nametoindex(name.as_ptr());
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = Errno::result(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let (one, fd): (libc::c_int, _) = (1, socket.as_raw_fd());
        let length = socklen::<libc::c_int>();
        Errno::result(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const one).cast(), length))?;
        let kernel_bytes = receive_buffer::enlarge(&socket, KERNEL_BYTES)?;
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
        address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
        address.sll_ifindex = i32::try_from(index).unwrap_or_default();
        Errno::result(libc::bind(fd, (&raw const address).cast(), socklen::<libc::sockaddr_ll>()))?;
        Ok((socket, kernel_bytes))
    }
}

/// Maximum number of bytes of a packet that are kept.
const PACKET_BYTES_MAX: usize = 256 << 10;

/// Magic number at the start of a pcap file whose times are in nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
const LINK_TYPE_ETHERNET: u32 = 1;

/// Writer of captured packets in the pcap format, for tcpdump and Wireshark: <https://www.tcpdump.org/manpages/pcap-savefile.5.html>.
#[derive(Debug)]
pub struct PcapWriter<W> {
    output: W,
}

impl<W: Write> PcapWriter<W> {
    pub fn begin(mut output: W) -> io::Result<Self> {
        let length = u32::try_from(PACKET_BYTES_MAX).unwrap_or(u32::MAX);
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC.to_le_bytes());
        header.extend(VERSION.0.to_le_bytes());
        header.extend(VERSION.1.to_le_bytes());
        for word in [0, 0, length, LINK_TYPE_ETHERNET] {
            header.extend(word.to_le_bytes());
        }
        output.write_all(&header)?;
        Ok(Self { output })
    }

    /// Adds a packet, or the start of one, with its time since 1970 and its whole length.
    pub fn add(&mut self, at: Duration, bytes: &[u8], length: usize) -> io::Result<()> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // The format has 32 bits for seconds: until 2106.
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        for word in [seconds, at.subsec_nanos(), number(bytes.len()), number(length)] {
            self.output.write_all(&word.to_le_bytes())?;
        }
        self.output.write_all(bytes)
    }

    /// Flushes what was written so far to the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_header_and_each_packet_its_own() {
        let mut file = Vec::new();
        let mut writer = PcapWriter::begin(&mut file).unwrap();
        writer.add(Duration::new(0x0102_0304, 5), b"abc", 9).unwrap();
        let header = [0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        let packet = [4, 3, 2, 1, 5, 0, 0, 0, 3, 0, 0, 0, 9, 0, 0, 0, b'a', b'b', b'c'];
        assert_eq!(file, [&header[..], &packet].concat());
    }
}
