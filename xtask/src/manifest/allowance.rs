//! `allow` in a `template.toml`: parts of the kernel that machines reach only when their template asks for them.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::parse::{Source, nearest};
use crate::error::Error;

/// A part of the kernel that a template asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allowance {
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
    /// The newer calls for mounts, such as `fsopen`.
    MountApi,
    /// Files opened by their handles.
    FileHandles,
    /// Notifications about files of whole file systems.
    Fanotify,
    /// Sockets of other families than Unix, IPv4, IPv6, netlink and packet.
    Sockets,
    /// Programs of 32 bits.
    #[serde(rename = "programs_32_bit")]
    Programs32Bit,
}

impl Allowance {
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

/// Reads a list of names, each once.
pub(super) fn check_allowances(names: &[Spanned<String>], source: &Source) -> Result<Vec<Allowance>, Error> {
    let mut found = Vec::new();
    for place in names {
        let name = place.get_ref();
        let Some((allowance, _)) = Allowance::ALL.iter().find(|(_, each)| each == name) else {
            let all = Allowance::ALL.map(|(_, name)| name);
            let hint = nearest(name, all)
                .map_or_else(|| format!("they are {}", all.join(", ")), |near| format!("did you mean {near:?}?"));
            let message = format!("there is no part {name:?} of the kernel to allow: {hint}");
            return Err(source.error_at(place, message));
        };
        if found.contains(allowance) {
            return Err(source.error_at(place, format!("{name:?} stands there twice")));
        }
        found.push(*allowance);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_name_in_files_and_its_line_in_the_documentation() {
        let page = include_str!("../../../docs/isolation.md");
        for (allowance, name) in Allowance::ALL {
            assert_eq!(serde_json::to_value(allowance).unwrap(), name);
            assert_eq!(allowance.name(), name);
            assert!(page.lines().any(|line| line.starts_with(&format!("| `{name}` | "))), "{name}");
        }
    }
}
