//! Parts of the kernel that machines reach only where their template asks for them.

use serde::{Deserialize, Serialize};

/// A part of the kernel that a template may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
    #[serde(rename = "programs_32_bit")]
    Programs32Bit,
}

impl Part {
    /// List of all, with the name that a file says.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::UserNamespaces, "user_namespaces"),
        (Self::IoUring, "io_uring"),
        (Self::Keyring, "keyring"),
        (Self::Bpf, "bpf"),
        (Self::Perf, "perf"),
        (Self::Userfaultfd, "userfaultfd"),
        (Self::MountApi, "mount_api"),
        (Self::FileHandles, "file_handles"),
        (Self::Fanotify, "fanotify"),
        (Self::Sockets, "sockets"),
        (Self::Programs32Bit, "programs_32_bit"),
    ];

    /// Returns its name in a file.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(each, _)| *each == self).map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_name_in_files_and_its_line_in_the_documentation() {
        let page = include_str!("../../../../docs/isolation.md");
        for (part, name) in Part::ALL {
            assert_eq!(serde_json::to_value(part).unwrap(), name);
            assert_eq!(part.name(), name);
            assert!(page.lines().any(|line| line.starts_with(&format!("| `{name}` | "))), "{name}");
        }
    }
}
