//! State of a queue in the kernel.

use std::io::ErrorKind;

use anyhow::Context as _;

use crate::host::netns::NetworkNamespace;

/// The kind of netlink sockets that read queues.
const NETFILTER: &str = "12";

/// A queue that a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Packets that wait now.
    pub waiting: u64,
    /// Packets that have ever come.
    pub seen: u64,
    /// Packets that passed untreated, because the reader's socket had no room for them.
    pub passed: u64,
}

/// Returns the kernel's state of a queue of this namespace; `None` while no program reads it.
///
/// # Errors
/// When the kernel cannot be asked.
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

/// The queue's own counters of packets that it refused stay at 0, because it lets them pass: the reader's socket counts them.
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
