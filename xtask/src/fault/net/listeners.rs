//! TCP ports that processes listen on.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// State of a listening socket in the kernel's tables.
const LISTENS: &str = "0A";

/// Returns the addresses on which these processes listen, as other programs in the same network namespace reach them.
#[must_use]
pub fn listening_at(pids: &[i32]) -> Vec<SocketAddr> {
    let sockets: HashSet<String> = pids.iter().flat_map(|pid| sockets_of(*pid)).collect();
    let Some(pid) = pids.first() else { return Vec::new() };
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let mut found: Vec<SocketAddr> = [table("tcp"), table("tcp6")]
        .iter()
        .flat_map(|table| table.lines().skip(1).filter_map(listener).collect::<Vec<_>>())
        .filter(|(_, inode)| sockets.contains(inode))
        .map(|(address, _)| address)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Returns the inodes of the sockets that a process has open.
fn sockets_of(pid: i32) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().filter_map(Result::ok);
    let links = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

/// Parses address and inode of a listening socket from a line of `/proc/net/tcp`; `None` for other lines.
fn listener(line: &str) -> Option<(SocketAddr, String)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (address, port) = local.split_once(':')?;
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes())),
        // Four words, each in the byte order of the machine.
        32 => {
            let words = (0..4).map(|word| u32::from_str_radix(&address[word * 8..word * 8 + 8], 16).ok());
            let bytes: Vec<u8> = words.collect::<Option<Vec<u32>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
            IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    let address = match address {
        any if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        other => other,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (*state == LISTENS).then(|| (SocketAddr::new(address, port), (*inode).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn own_listeners_are_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        let listeners = ["127.0.0.1:0", "0.0.0.0:0"].map(|address| TcpListener::bind(address).unwrap());
        let found = listening_at(&[own]);
        for listener in &listeners {
            let port = listener.local_addr().unwrap().port();
            assert!(found.contains(&SocketAddr::from((Ipv4Addr::LOCALHOST, port))), "{port}: {found:?}");
        }
        assert_eq!(listening_at(&[]), Vec::new());
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1";
        assert_eq!(listener(line), Some(("127.0.0.1:22".parse().unwrap(), "4711".into())));
        assert_eq!(listener(&line.replace(" 0A ", " 01 ")), None);
        let six = line.replace("00000000:0016", "00000000000000000000000001000000:1538");
        assert_eq!(listener(&six).unwrap().0, "[::1]:5432".parse().unwrap());
    }
}
