//! Many packets at once, to measure what a link does to them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// Bytes of a packet on a wire that are Ethernet, IP and UDP headers.
pub const HEADER_BYTES: u64 = 14 + 20 + 8;

/// Minimum payload, in bytes, for which one call hands the kernel many packets as one, to be segmented (UDP GSO): one call per packet would
/// be slower than many links.
const PIECES_FROM_BYTES: u64 = 1000;
const PACKETS_IN_PIECE: u64 = 40;

/// Packets of one size, sent as fast as the link takes them.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    pub packets: u64,
    /// Payload of each packet, in bytes.
    pub payload_bytes: u64,
    /// Mark by which rules of the host recognize these packets; only root may mark packets.
    pub mark: Option<u32>,
}

impl Flood {
    /// Returns the least by which a network device's byte counter grows when all packets pass the device, headers included. Packets that
    /// are handed to the kernel in one piece may be counted with a single header.
    #[must_use]
    pub fn counted_bytes(&self) -> u64 {
        self.packets * self.payload_bytes + self.packets.div_ceil(self.packets_in_piece()) * HEADER_BYTES
    }

    fn packets_in_piece(&self) -> u64 {
        if self.payload_bytes < PIECES_FROM_BYTES { 1 } else { PACKETS_IN_PIECE }
    }

    /// Sends the packets from the calling thread's network namespace, as fast as the link takes them.
    ///
    /// # Errors
    /// Also when the link takes no packet for as long as `patience`.
    pub fn send(self, target: SocketAddr, patience: Duration) -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_write_timeout(Some(patience))?;
        if let Some(mark) = self.mark {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        let at_once = self.packets_in_piece();
        if at_once > 1 {
            let segment = i32::try_from(self.payload_bytes).map_err(io::Error::other)?;
            setsockopt(&socket, sockopt::UdpGsoSegment, &segment)?;
        }
        let piece = vec![0; usize::try_from(at_once * self.payload_bytes).map_err(io::Error::other)?];
        let mut left = self.packets;
        while left > 0 {
            let packets = left.min(at_once);
            let bytes = usize::try_from(packets * self.payload_bytes).map_err(io::Error::other)?;
            socket.send_to(&piece[..bytes], target)?;
            left -= packets;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_has_its_size_in_pieces_and_alone() {
        for payload_bytes in [100, 1472] {
            let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let flood = Flood { packets: 45, payload_bytes, mark: None };
            flood.send(receiver.local_addr().unwrap(), Duration::from_secs(10)).unwrap();
            let mut buffer = [0; 2000];
            for packet in 0..45 {
                assert_eq!(receiver.recv(&mut buffer).unwrap() as u64, payload_bytes, "packet {packet}");
            }
        }
    }

    #[test]
    fn a_piece_has_one_header() {
        let counted = |payload_bytes| Flood { packets: 45, payload_bytes, mark: None }.counted_bytes();
        assert_eq!(counted(100), 45 * 142);
        assert_eq!(counted(1472), 45 * 1472 + 2 * 42);
    }
}
