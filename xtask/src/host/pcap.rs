//! Files of captured packets, as tcpdump and Wireshark read them: <https://www.tcpdump.org/manpages/pcap-savefile.5.html>.

use std::io::{self, Write};
use std::time::Duration;

/// The longest piece of a packet that is kept, in bytes.
pub const PACKET_BYTES_MAX: usize = 256 << 10;

/// Times with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: (u16, u16) = (2, 4);
const LINK_TYPE_ETHERNET: u32 = 1;

/// Writes such a file.
#[derive(Debug)]
pub struct PcapWriter<W> {
    output: W,
}

impl<W: Write> PcapWriter<W> {
    /// Begins it.
    ///
    /// # Errors
    /// Those of writing.
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

    /// Adds a packet, or the begin of one, with its time since 1970 and its whole length.
    ///
    /// # Errors
    /// Those of writing.
    pub fn add(&mut self, at: Duration, bytes: &[u8], length: usize) -> io::Result<()> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // The format has 32 bits for seconds: until 2106.
        let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        for word in [seconds, at.subsec_nanos(), number(bytes.len()), number(length)] {
            self.output.write_all(&word.to_le_bytes())?;
        }
        self.output.write_all(bytes)
    }

    /// Hands on what was written so far.
    ///
    /// # Errors
    /// Those of writing.
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
