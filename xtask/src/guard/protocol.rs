//! Messages between the engine and a guard: one JSON object a line, on a socket pair, or, once a lab is kept, on the
//! socket in its slot's folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::holder::Holder;
use crate::error::{Error, HostCause};
use crate::host::idmap::IdMap;
use crate::host::process::signal_name;
use crate::host::seccomp::Part;
use crate::host::syntax::{IpBatch, Text};
use crate::host::undo::Undo;

/// Behavior when another process holds the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Wait until it is free.
    UntilFree,
    /// Fail at once.
    Never,
}

/// A thing to make, each with its undo step written first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Make {
    /// A folder, with missing parents; undone with all it holds.
    Dir {
        /// Absolute.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
        /// User and group on the host.
        owner: (u32, u32),
    },
    /// A folder on one of the host's disks, with the slot's mark in it; what an earlier holder left in its place goes before.
    Marked {
        /// Absolute.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// A file; it goes with the folder it lies in.
    File {
        /// Absolute.
        path: PathBuf,
        /// Content.
        content: String,
        /// Permission bits.
        mode: u32,
        /// User and group on the host.
        owner: (u32, u32),
    },
    /// A shared lock on a folder that others must not remove meanwhile.
    Share {
        /// The folder.
        path: PathBuf,
    },
    /// A file below a container's root, where links never lead out; it goes with the root.
    FileInRoot {
        /// The root on the host.
        root: PathBuf,
        /// Absolute in the container; its folder exists, or the folder's parent does.
        path: String,
        /// Content.
        content: String,
        /// Permission bits.
        mode: u32,
        /// User and group on the host.
        owner: (u32, u32),
    },
    /// A `/proc` that nothing covers, on an existing folder: without one the kernel gives no container one.
    Proc {
        /// Mount point.
        path: PathBuf,
    },
    /// A tmpfs of bounded size on an existing folder.
    Tmpfs {
        /// Mount point.
        path: PathBuf,
        /// Bound.
        size_bytes: u64,
        /// Permission bits of its top.
        mode: u32,
        /// User and group of its top.
        owner: (u32, u32),
    },
    /// An overlay on an existing folder.
    Overlay {
        /// Mount point.
        path: PathBuf,
        /// Read-only, lowest first.
        lowers: Vec<Lower>,
        /// Takes the writes.
        upper: PathBuf,
        /// Work folder beside `upper`, on the same file system.
        work: PathBuf,
    },
    /// An ext4 file system on a loop image, on an existing folder.
    Ext4 {
        /// The image's file, made sparse.
        image: PathBuf,
        /// Size of the image.
        size_bytes: u64,
        /// Mount point.
        path: PathBuf,
        /// User and group of its top.
        owner: (u32, u32),
    },
    /// The ext4 file system of an image that was made before, checked and mounted anew in place of what is mounted there.
    Ext4Anew {
        /// The image's file.
        image: PathBuf,
        /// Mount point.
        path: PathBuf,
    },
    /// Content of a folder below a container's root, copied into another one with owners, modes and attributes, and synced.
    /// Links on the way to the folder lead where they lead inside that root.
    Copy {
        /// The container's root, on the host.
        root: PathBuf,
        /// Absolute path inside; nothing happens where there is no folder.
        path: String,
        /// An existing folder.
        to: PathBuf,
    },
}

/// Tree that an overlay shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    /// Folder of the tree.
    pub tree: PathBuf,
    /// Owners that it is shown with; absent where they are those on the disk.
    pub ids: Option<IdMap>,
}

impl Make {
    /// Name of the variant, for the points at which tests kill a guard.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Dir { .. } => "dir",
            Self::Marked { .. } => "marked",
            Self::File { .. } => "file",
            Self::Share { .. } => "share",
            Self::FileInRoot { .. } => "file in root",
            Self::Proc { .. } => "proc",
            Self::Tmpfs { .. } => "tmpfs",
            Self::Overlay { .. } => "overlay",
            Self::Ext4 { .. } => "ext4",
            Self::Ext4Anew { .. } => "ext4 anew",
            Self::Copy { .. } => "copy",
        }
    }
}

/// A process to start in the guard's mount namespace and in the slot's cgroup; it dies with the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Name for messages, and of its cgroup below the slot's.
    pub name: String,
    /// Program by its absolute path, and arguments.
    pub argv: Vec<String>,
    /// Environment, complete.
    pub environment: Vec<(String, String)>,
    /// Takes stdout and stderr, appended through a pipe; the newest bytes are kept.
    pub log: PathBuf,
    /// Seccomp filter for the `lxc-start` of a machine: the parts of the kernel that it allows beyond those of every machine. `None`:
    /// the process gets no filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered: Option<Vec<Part>>,
}

/// Lifetime of a kept lab that is not told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// Unlimited.
    UntilTold,
    /// Time from now on.
    For(Duration),
}

impl Stay {
    /// Returns the lifetime for a time on the command line; unlimited where none was given.
    #[must_use]
    pub fn of(time: Option<Duration>) -> Self {
        time.map_or(Self::UntilTold, Self::For)
    }
}

/// A line from the engine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub id: u64,
    pub command: Command,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Command {
    Make(Vec<Make>),
    Network { ip_batch: Text<IpBatch> },
    Spawn(Spawn),
    Note(Vec<Undo>),
    Undo(Vec<Undo>),
    Reset,
    Keep(Stay),
    Down,
}

/// A line from the guard.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Another process holds the slot.
    Waiting { holder: Holder },
    /// The slot is ours; what an earlier holder left was taken back, as far as the failures say.
    Held { failures: Vec<String> },
    /// Another process keeps the slot.
    Refused { reason: String },
    /// The guard could not begin.
    Failed { reason: String },
    /// The first message to an engine that has attached to a lab which another one has left: the processes that were started last, by name.
    Attached { processes: BTreeMap<String, Started> },
    /// The answer to a request.
    Answer { id: u64, result: Result<Answer, Failure> },
    /// A spawned process ended.
    Exited { pid: i32, end: ProcessEnd },
}

/// Reason why a guard has not carried a request out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub message: String,
    /// Cause on the host that would stop every lab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_cause: Option<HostCause>,
}

impl Failure {
    /// Turns an error into a failure to send.
    pub fn of(error: &anyhow::Error) -> Self {
        match Error::of(error) {
            Some(Error::EveryCase { cause, detail, .. }) => Self { message: detail.clone(), host_cause: Some(*cause) },
            _ => Self { message: format!("{error:#}"), host_cause: None },
        }
    }

    /// Turns the failure into an error in the engine.
    pub fn error(self) -> anyhow::Error {
        let detail = anyhow::Error::msg(self.message);
        match self.host_cause {
            Some(cause) => cause.error(&detail),
            None => detail,
        }
    }
}

/// A process that a guard has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    pub pid: i32,
    /// End of the process, if it has ended.
    pub end: Option<ProcessEnd>,
}

/// End of a process that a guard has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// Exit with this status.
    Exited(i32),
    /// Killed by this signal.
    Signaled(i32),
    /// The guard is gone, and the process with it.
    GuardGone,
}

impl ProcessEnd {
    /// Returns the exit status that a shell would report for this end.
    #[must_use]
    pub fn shell_status(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(signal) => 128 + signal,
            Self::GuardGone => 128 + Signal::SIGKILL as i32,
        }
    }
}

impl std::fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exited with status {status}"),
            Self::Signaled(signal) => write!(f, "was ended by {}", signal_name(*signal)),
            Self::GuardGone => f.write_str("ended with its guard"),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Done,
    Network { path: PathBuf },
    Spawned { pid: i32 },
    Undone { failures: Vec<String> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_the_host_comes_through_the_socket() {
        for cause in HostCause::ALL {
            let error = cause.error(&anyhow::anyhow!("No space left on device")).context("making container a");
            let sent = serde_json::to_string(&Failure::of(&error)).unwrap();
            let heard: Failure = serde_json::from_str(&sent).unwrap();
            assert_eq!(HostCause::of(&heard.clone().error()), Some(cause));
            assert_eq!(heard.message, "No space left on device");
        }
        let other = Failure::of(&anyhow::anyhow!("status 1").context("mounting"));
        assert_eq!(other, Failure { message: "mounting: status 1".into(), host_cause: None });
        assert_eq!(other.error().to_string(), "mounting: status 1");
    }
}
