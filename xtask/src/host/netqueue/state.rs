//! What the kernel says of a queue.

use std::io::ErrorKind;

use anyhow::Context as _;

use crate::host::netns::NetworkNamespace;

/// A queue that a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Packets that wait now.
    pub waiting: u64,
    /// Packets that could not wait, because too many did.
    pub refused: u64,
    /// Packets that have ever come.
    pub seen: u64,
}

/// What the kernel says of a queue of this namespace; `None` while no program reads it.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn state(network: &NetworkNamespace, number: u16) -> anyhow::Result<Option<QueueState>> {
    // That of the thread: `/proc/net` is that of the whole process.
    let path = "/proc/thread-self/net/netfilter/nfnetlink_queue";
    match network.inside(|| std::fs::read_to_string(path)).and_then(|text| text) {
        Ok(table) => Ok(state_in(&table, number)),
        // The first reader of a queue makes it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {path}")),
    }
}

fn state_in(table: &str, number: u16) -> Option<QueueState> {
    let rows = table.lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect());
    let mut queues = rows.filter(|row: &Vec<u64>| row.first() == Some(&u64::from(number)));
    // Number, reader, waiting, copy mode, copy range, refused by the queue, refused by the reader's socket, seen, 1.
    match queues.next()?[..] {
        [_, _, waiting, _, _, by_queue, by_socket, seen, ..] => {
            Some(QueueState { waiting, refused: by_queue + by_socket, seen })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_found_by_its_number_in_the_kernels_table() {
        let table =
            "   12  29797     3 2    64     1     2     1234  1\n  112     5     0 2    64     0     0        0  1\n";
        assert_eq!(state_in(table, 12), Some(QueueState { waiting: 3, refused: 3, seen: 1234 }));
        assert_eq!(state_in(table, 2), None);
        assert_eq!(state_in("", 12), None);
    }
}
