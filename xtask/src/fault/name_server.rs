//! Client and server for address queries of the domain name system (RFC 1035).

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const HEADER_BYTES: usize = 12;
/// Maximum size of a query that is read, in bytes.
const QUESTION_BYTES_MAX: usize = 4096;

/// Flags of a message: it is an answer; the server is the authority for the name; recursion was wanted; recursion is available. The last
/// bits are the response code.
const IS_ANSWER: u16 = 1 << 15;
const IS_AUTHORITATIVE: u16 = 1 << 10;
const RECURSION_WANTED: u16 = 1 << 8;
const RECURSION_THERE: u16 = 1 << 7;
const CODE_BITS: u16 = 0xf;

/// Type of a record with an address, and the class of all records.
const ADDRESS: u16 = 1;
const INTERNET: u16 = 1;

/// Response code for a failure of the name server.
pub const SERVFAIL: u8 = 2;

/// Time to live of an answer, in seconds. An answer with 0 is not cached, so that none is left when its server has ended.
const TIME_TO_LIVE_SECONDS: u32 = 0;

/// Time after which a query is repeated: the query or its answer may have been lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Interval at which a server checks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Reply of a server to every query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The same address for each name, and no other record.
    Address(Ipv4Addr),
    /// Response code of an error.
    Code(u8),
}

/// Result of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// An answer, with an address or without.
    Answer { address: Option<Ipv4Addr>, code: u8 },
    /// A refusal: no process listens at the server's address.
    Refused,
    /// No answer in time.
    Nothing,
}

impl std::fmt::Display for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer { address: Some(address), .. } => write!(f, "the answer {address}"),
            Self::Answer { code: SERVFAIL, .. } => f.write_str("the answer SERVFAIL"),
            Self::Answer { code, .. } => write!(f, "an answer without an address, DNS response code {code}"),
            Self::Refused => f.write_str("a refusal"),
            Self::Nothing => f.write_str("no answer"),
        }
    }
}

/// Name server in a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to answer the queries that come to a socket, in the network namespace of that socket.
    pub fn start(socket: UdpSocket, reply: Reply) -> io::Result<Self> {
        let address = socket.local_addr()?;
        socket.set_read_timeout(Some(LOOK))?;
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::Builder::new().name("dns".into()).spawn(move || {
            let mut question = [0; QUESTION_BYTES_MAX];
            while !told.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut question) else { continue };
                if let Some(answer) = answer(&question[..count], reply) {
                    let _ = socket.send_to(&answer, from); // whoever does not hear it asks again
                }
            }
        })?;
        Ok(Self { address, ends, thread: Some(thread) })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it cannot fail
        }
    }
}

/// Asks a server for the address of a name, from the calling thread's network namespace.
pub fn ask(server: SocketAddr, name: &str, patience: Duration) -> io::Result<Heard> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    let number = socket.local_addr()?.port();
    let (begun, mut bytes) = (Instant::now(), [0; QUESTION_BYTES_MAX]);
    loop {
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(Heard::Nothing);
        }
        socket.set_read_timeout(Some(left.min(ASK_AGAIN)))?;
        match socket.send(&question(number, name)).and_then(|_| socket.recv(&mut bytes)) {
            Ok(count) => {
                if let Some(heard) = heard(&bytes[..count], number) {
                    return Ok(heard);
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused => return Ok(Heard::Refused),
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => return Ok(Heard::Nothing),
                _ => return Err(error),
            },
        }
    }
}

fn question(number: u16, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    // One question, and nothing else.
    for word in [number, RECURSION_WANTED, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend([ADDRESS.to_be_bytes(), INTERNET.to_be_bytes()].concat());
    bytes
}

/// Returns the answer to a query; `None` where the bytes are no query.
fn answer(bytes: &[u8], reply: Reply) -> Option<Vec<u8>> {
    let flags = word_at(bytes, 2).filter(|flags| flags & IS_ANSWER == 0)?;
    word_at(bytes, 4).filter(|questions| *questions == 1)?;
    let end = question_end(bytes)?;
    let kind = word_at(bytes, end - 4)?;
    let (code, address) = match reply {
        Reply::Code(code) => (code, None),
        Reply::Address(address) => (0, Some(address).filter(|_| kind == ADDRESS)),
    };
    let said = IS_ANSWER | IS_AUTHORITATIVE | RECURSION_THERE | flags & RECURSION_WANTED | u16::from(code);
    let mut answer = bytes.get(..2)?.to_vec();
    for word in [said, 1, u16::from(address.is_some()), 0, 0] {
        answer.extend(word.to_be_bytes());
    }
    answer.extend(bytes.get(HEADER_BYTES..end)?);
    if let Some(address) = address {
        // The name is that of the question: where that begins.
        for word in [0xc000 | HEADER_BYTES as u16, ADDRESS, INTERNET] {
            answer.extend(word.to_be_bytes());
        }
        answer.extend(TIME_TO_LIVE_SECONDS.to_be_bytes());
        answer.extend(4_u16.to_be_bytes());
        answer.extend(address.octets());
    }
    Some(answer)
}

/// Parses the answer to the query with this number; its first record has to refer to the query's name by a compression pointer.
fn heard(bytes: &[u8], number: u16) -> Option<Heard> {
    let flags = word_at(bytes, 2).filter(|flags| flags & IS_ANSWER != 0)?;
    word_at(bytes, 0).filter(|found| *found == number)?;
    let code = u8::try_from(flags & CODE_BITS).ok()?;
    let record = bytes.get(question_end(bytes)?..)?;
    let octets: Option<[u8; 4]> = record.get(12..16).and_then(|octets| octets.try_into().ok());
    let address = octets.filter(|_| word_at(record, 2) == Some(ADDRESS)).map(Ipv4Addr::from);
    Some(Heard::Answer { address, code })
}

/// Returns the offset in bytes at which the first query in a message ends. A query is a name of labels, a type and a class.
fn question_end(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        match *bytes.get(at)? {
            0 => break,
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None, // a question refers to no other name
        }
    }
    Some(at + 5).filter(|end| *end <= bytes.len())
}

fn word_at(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    #[test]
    fn a_question_is_answered_as_is_meant() {
        let asked = question(7, "db.test");
        let check = |reply, expected| {
            assert_eq!(heard(&answer(&asked, reply).unwrap(), 7), Some(expected));
        };
        check(Reply::Address(WRONG), Heard::Answer { address: Some(WRONG), code: 0 });
        check(Reply::Code(SERVFAIL), Heard::Answer { address: None, code: SERVFAIL });
        assert_eq!(heard(&answer(&asked, Reply::Code(0)).unwrap(), 8), None, "an answer to another question");
    }

    #[test]
    fn other_kinds_of_records_have_no_address() {
        let mut asked = question(7, "db.test");
        let kind = asked.len() - 3;
        asked[kind] = 28; // AAAA
        let said = heard(&answer(&asked, Reply::Address(WRONG)).unwrap(), 7);
        assert_eq!(said, Some(Heard::Answer { address: None, code: 0 }));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let asked = question(7, "db.test");
        for length in 0..asked.len() {
            assert_eq!(answer(&asked[..length], Reply::Code(0)), None, "{length} bytes");
            assert_eq!(heard(&asked[..length], 7), None, "{length} bytes");
        }
        let said = answer(&asked, Reply::Address(WRONG)).unwrap();
        assert_eq!(answer(&said, Reply::Code(0)), None, "an answer is no question");
        let mut circular = asked;
        circular[HEADER_BYTES] = 0xc0;
        assert_eq!(answer(&circular, Reply::Code(0)), None);
    }

    #[test]
    fn a_server_answers_until_it_is_dropped() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Server::start(socket, Reply::Address(WRONG)).unwrap();
        let address = server.address();
        let heard = ask(address, "db.test", Duration::from_secs(10)).unwrap();
        assert_eq!(heard.to_string(), "the answer 192.0.2.7");
        drop(server);
        assert_eq!(ask(address, "db.test", Duration::from_secs(10)).unwrap(), Heard::Refused);
    }
}
