//! Parts of the kernel that machines reach only where their template asks for them.

use serde::{Deserialize, Serialize};

/// A part of the kernel that a template may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// User namespaces inside the machine.
    UserNamespaces,
    /// `io_uring`.
    IoUring,
    /// Keys and keyrings.
    Keyring,
    /// BPF programs and maps.
    Bpf,
    /// Counters of the processor and tracepoints.
    Perf,
    /// Page faults handled by a program.
    Userfaultfd,
    /// The newer calls for mounts, such as `fsopen` and `open_tree`.
    MountApi,
    /// Files opened by their handles.
    FileHandles,
    /// Notifications about files of whole file systems.
    Fanotify,
    /// Sockets of other families than Unix, IPv4, IPv6, netlink and packet.
    Sockets,
    /// Programs of 32 bits, whose calls pass without the engine's filter.
    Programs32Bit,
}
