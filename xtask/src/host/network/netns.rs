//! Network namespaces without a name, held by a file descriptor.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use crate::host::cgroup::text_of;
use crate::host::exec::shell::{Command, path_of};
use crate::host::syntax::{IpBatch, Text};

/// Network namespace, which lives as long as this value, or a process in it.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
}

impl NetworkNamespace {
    /// Makes a new namespace with nothing but a loopback device that is down. The calling thread stays in its own. Needs root.
    pub fn make() -> anyhow::Result<Self> {
        let home = Self::of_this_thread()?;
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let made = Self::of_this_thread();
        home.enter().context("returning to the host's network namespace")?;
        made
    }

    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening the network namespace {}", path.display()))?;
        Ok(Self { file })
    }

    /// Path by which other processes find this namespace, as long as this process holds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Runs `ip -batch` with these lines in this namespace.
    pub fn ip_batch(&self, lines: &Text<IpBatch>) -> anyhow::Result<()> {
        let home = Self::of_this_thread()?;
        self.enter()?;
        let done = Command::new("ip").args(["-batch", "-"]).stdin(lines.to_string()).run();
        home.enter().context("returning to the host's network namespace")?;
        done.with_context(|| format!("configuring the lab's network:\n{lines}"))?;
        Ok(())
    }

    /// Returns a command that will run in this namespace, found as [`which`](crate::host::exec::shell::which) finds programs.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let path = path_of(program);
        Command::new("nsenter").arg(format!("--net={}", self.path().display())).arg(path)
    }

    /// Runs work in a thread that enters this namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("inside".into()).spawn_scoped(scope, || {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread in a network namespace panicked")))
        })
    }

    /// Moves the calling thread into this namespace for good. Needs root.
    pub fn enter(&self) -> anyhow::Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }

    /// Connects to an address of this namespace.
    pub fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&address, timeout))?
    }

    /// Returns the place at which another process finds this namespace, as long as this process holds it.
    pub fn place(&self) -> anyhow::Result<NetworkPlace> {
        let inode = self.file.metadata().context("looking at a network namespace")?.ino();
        Ok(NetworkPlace { path: self.path(), inode })
    }

    /// Opens the counters of the namespace's devices, which keep the namespace alive.
    pub fn devices(&self) -> anyhow::Result<Devices> {
        let file = self.inside(|| File::open("/proc/thread-self/net/dev"));
        Ok(Devices { file: file.and_then(|opened| opened).context("opening the counters of the lab's network")? })
    }

    fn of_this_thread() -> anyhow::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }
}

/// Counters of a namespace's devices, in a file that is kept open.
#[derive(Debug)]
pub struct Devices {
    file: File,
}

/// Traffic of a device since it was made, headers of Ethernet included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceCounted {
    pub received_bytes: u64,
    /// Number of packets received; a packet that the kernel has not segmented yet (GSO) counts once.
    pub received_packets: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    /// Number of packets that the device dropped, in either direction.
    pub dropped_packets: u64,
}

impl Devices {
    /// Reads the counters of all devices now.
    pub fn now(&self) -> anyhow::Result<DeviceTable> {
        Ok(DeviceTable { text: text_of(&self.file).context("reading the counters of the lab's network")? })
    }
}

/// Counters of all devices of a namespace, at one moment.
#[derive(Debug)]
pub struct DeviceTable {
    text: String,
}

impl DeviceTable {
    /// Returns the counters of a device; `None` where there is none of this name.
    #[must_use]
    pub fn device(&self, name: &str) -> Option<DeviceCounted> {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(':'));
        let (_, counts) = lines.find(|(device, _)| device.trim() == name)?;
        let counts: Vec<u64> = counts.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [
            received_bytes,
            received_packets,
            _,
            received_drops,
            _,
            _,
            _,
            _,
            sent_bytes,
            sent_packets,
            _,
            sent_drops,
            ..,
        ] = counts[..]
        else {
            return None;
        };
        let dropped_packets = received_drops + sent_drops;
        Some(DeviceCounted { received_bytes, received_packets, sent_bytes, sent_packets, dropped_packets })
    }
}

/// Returns the number of bytes that a device of a process's network namespace has received.
pub fn received_bytes(pid: i32, device: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/net/dev");
    let table = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    received_in(&table, device).with_context(|| format!("{path} has no device {device}"))
}

fn received_in(table: &str, device: &str) -> Option<u64> {
    let lines = table.lines().filter_map(|line| line.split_once(':'));
    let counts = lines.filter(|(name, _)| name.trim() == device).map(|(_, counts)| counts);
    counts.flat_map(str::split_whitespace).next()?.parse().ok()
}

/// Returns the number of UDP packets with a wrong checksum, as the network namespace of a process counts them.
pub fn bad_udp_checksums(pid: i32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/net/snmp");
    let table = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    counter_in(&table, "Udp:", "InCsumErrors")
        .with_context(|| format!("{path} has no counter of UDP packets with a wrong checksum"))
}

/// Returns the number of UDP packets that no socket had room for, from the counters of a network namespace (`/proc/PID/net/snmp`).
pub fn udp_without_room(table: &str) -> u64 {
    // Since Linux 5.14 packets that are dropped for want of memory count apart.
    let counters = ["RcvbufErrors", "MemErrors"].into_iter().filter_map(|name| counter_in(table, "Udp:", name));
    counters.sum()
}

/// Parses a counter of a protocol from a table with the names in one line, and the numbers in the next.
fn counter_in(table: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter(|line| line.starts_with(protocol)).map(str::split_whitespace);
    let (mut names, mut numbers) = (lines.next()?, lines.next()?);
    numbers.nth(names.position(|word| word == name)?)?.parse().ok()
}

/// Place of a network namespace, as data: a path below /proc, and the inode that tells whether the path still leads there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlace {
    /// Path of the namespace, such as `/proc/PID/fd/N`.
    pub path: PathBuf,
    /// Inode of the namespace.
    pub inode: u64,
}

impl NetworkPlace {
    /// Returns the place of a process's namespace, which may end with the process.
    pub fn of_process(pid: i32) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let metadata = std::fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?;
        Ok(Self { path, inode: metadata.ino() })
    }

    /// Opens the namespace; `None` where it is gone, or the path leads to another one by now.
    ///
    /// # Errors
    /// When the namespace is the caller's own: an operation on a lab's network must never reach the host's.
    pub fn find(&self) -> anyhow::Result<Option<NetworkNamespace>> {
        let host = NetworkNamespace::of_this_thread()?.file.metadata()?;
        let Ok(found) = NetworkNamespace::open(&self.path) else { return Ok(None) };
        let metadata = found.file.metadata()?;
        if metadata.dev() != host.dev() || metadata.ino() != self.inode {
            return Ok(None);
        }
        anyhow::ensure!(
            metadata.ino() != host.ino(),
            "{} is the host's own network namespace: left alone",
            self.path.display()
        );
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_only_while_it_leads_to_the_same_namespace() {
        let own = NetworkNamespace::of_this_thread().unwrap().place().unwrap();
        let gone = |place: &NetworkPlace| place.find().unwrap().is_none();
        assert!(gone(&NetworkPlace { path: "/proc/self/fd/9999".into(), ..own.clone() }));
        assert!(gone(&NetworkPlace { inode: own.inode + 1, path: "/proc/self/ns/net".into() }));
        assert!(gone(&NetworkPlace { inode: own.inode, path: "/proc/self/ns/uts".into() }));
        let error = NetworkPlace { path: "/proc/self/ns/net".into(), ..own }.find().unwrap_err().to_string();
        assert!(error.contains("the host's own network"), "{error}");
    }

    #[test]
    fn received_bytes_stand_first_after_the_name() {
        let table = "Inter-|   Receive                   |  Transmit\n face |bytes packets\n    lo:  5 1 0\n  eth0: 1234  10 0\n";
        assert_eq!(received_in(table, "eth0"), Some(1234));
        assert_eq!(received_in(table, "eth1"), None);
    }

    #[test]
    fn counters_of_a_device() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                    port11:   100 2 0 3 0 0 0 0  400 5 0 6 0 0 0 0\nport2: 1 1\n";
        let table = DeviceTable { text: text.into() };
        let expected = DeviceCounted {
            received_bytes: 100,
            received_packets: 2,
            sent_bytes: 400,
            sent_packets: 5,
            dropped_packets: 9,
        };
        assert_eq!(table.device("port11"), Some(expected));
        assert_eq!((table.device("port1"), table.device("port2")), (None, None));
    }

    #[test]
    fn counters_stand_below_their_names() {
        let table = "Tcp: InErrs InCsumErrors\nTcp: 1 2\nUdp: InDatagrams NoPorts InCsumErrors\nUdp: 3 4 5\n";
        assert_eq!(counter_in(table, "Udp:", "InCsumErrors"), Some(5));
        assert_eq!(counter_in(table, "Udp:", "None"), None);
        assert_eq!(counter_in("", "Udp:", "InCsumErrors"), None);
        assert_eq!(udp_without_room("Udp: RcvbufErrors InCsumErrors MemErrors\nUdp: 3 4 5\n"), 8);
        assert_eq!(udp_without_room("Udp: RcvbufErrors InCsumErrors\nUdp: 3 4\n"), 3, "an old kernel");
    }
}
