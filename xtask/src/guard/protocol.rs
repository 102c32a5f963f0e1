//! Messages between the engine and a guard: one JSON object per line, on a socket pair, or, for a kept lab, on the socket in its slot's
//! folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::holder::Holder;
use crate::error::{Error, HostCause};
use crate::host::container::idmap::IdMap;
use crate::host::exec::process::signal_name;
use crate::host::seccomp::Part;
use crate::host::syntax::{IpBatch, Text};
use crate::host::undo::Undo;

/// Behavior of a new guard when another process holds the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Wait until the slot is free.
    UntilFree,
    /// Fail at once.
    Never,
}

/// Resource to create on the host; its undo step is written first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Make {
    /// Folder, with missing parents; undone with all its content.
    Dir { path: PathBuf, mode: u32, owner: (u32, u32) },
    /// Folder on one of the host's disks, with the slot's mark in it; leftovers of an earlier holder at its path are removed first.
    Marked { path: PathBuf, mode: u32 },
    /// File; it is removed with its folder.
    File { path: PathBuf, content: String, mode: u32, owner: (u32, u32) },
    /// Shared lock on a folder, which keeps other processes from removing it.
    Share { path: PathBuf },
    /// File below a container's root, in which links on its path are resolved; the file is removed with the root.
    FileInRoot {
        /// Root filesystem of the container, on the host.
        root: PathBuf,
        /// Absolute path in the container; its folder or the folder's parent exists.
        path: String,
        content: String,
        mode: u32,
        owner: (u32, u32),
    },
    /// `/proc` with nothing mounted over parts of it, on an existing folder: the kernel lets containers mount a `/proc` only if such an
    /// uncovered `/proc` exists.
    Proc { path: PathBuf },
    /// Tmpfs of limited size, on an existing folder.
    Tmpfs {
        path: PathBuf,
        size_bytes: u64,
        /// Permission bits of the root folder of the tmpfs.
        mode: u32,
        /// User and group on the host of the root folder of the tmpfs.
        owner: (u32, u32),
    },
    /// Overlay, on an existing folder.
    Overlay {
        path: PathBuf,
        /// Read-only trees, lowest first.
        lowers: Vec<Lower>,
        /// Folder that stores what is written to the overlay.
        upper: PathBuf,
        /// Work folder beside `upper`, on the same file system.
        work: PathBuf,
    },
    /// Ext4 file system on a loop image, on an existing folder.
    Ext4 {
        /// Path of the image, which is created as a sparse file.
        image: PathBuf,
        size_bytes: u64,
        path: PathBuf,
        /// User and group on the host of the file system's root folder.
        owner: (u32, u32),
    },
    /// Ext4 file system of an existing image, checked and mounted anew in place of what is mounted at `path`.
    Ext4Anew { image: PathBuf, path: PathBuf },
    /// Content of a folder below a container's root, copied to an existing folder with owners, modes and attributes, and synced. Links on
    /// the way to the folder are resolved inside that root.
    Copy {
        root: PathBuf,
        /// Absolute path inside `root`; nothing is copied if no folder is there.
        path: String,
        /// Existing folder on the host that gets the content.
        to: PathBuf,
    },
}

/// Lower tree of an overlay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lower {
    pub tree: PathBuf,
    /// Mapping of the owners that the overlay shows; `None` shows the owners on disk.
    pub ids: Option<IdMap>,
}

impl Make {
    /// Returns the name of the variant, for the points at which tests kill a guard.
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

/// Process to start in the guard's mount namespace and in the slot's cgroup; it dies with the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    /// Name for messages and for the process's cgroup below the slot's.
    pub name: String,
    /// Absolute path of the program, and its arguments.
    pub argv: Vec<String>,
    /// Complete environment; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// Log file for stdout and stderr, appended through a pipe; when it is full, only the newest bytes are kept.
    pub log: PathBuf,
    /// Seccomp filter for the `lxc-start` of a machine: parts of the kernel that are allowed in addition to those of every machine. `None`
    /// sets no filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered: Option<Vec<Part>>,
}

/// Lifetime of a kept lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// Until the guard is told to go down.
    UntilTold,
    /// Time from now on.
    For(Duration),
}

impl Stay {
    /// Returns the lifetime for a time on the command line; unlimited without one.
    #[must_use]
    pub fn of(time: Option<Duration>) -> Self {
        time.map_or(Self::UntilTold, Self::For)
    }
}

/// Request from an engine to a guard, sent as one line of JSON.
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

/// Message from a guard to an engine, sent as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// Another process holds the slot, and the guard waits for it.
    Waiting { holder: Holder },
    /// The guard holds the slot now; `failures` are leftovers of an earlier holder that could not be removed.
    Held { failures: Vec<String> },
    /// Another process holds the slot, and the guard must not wait.
    Refused { reason: String },
    /// The guard could not start.
    Failed { reason: String },
    /// First message to an engine that attached to a kept lab: the last started process of each name.
    Attached { processes: BTreeMap<String, Started> },
    /// Answer to the request with this id.
    Answer { id: u64, result: Result<Answer, Failure> },
    /// A process that the guard started has ended.
    Exited { pid: i32, end: ProcessEnd },
}

/// Reason why a guard could not fulfill a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub message: String,
    /// Cause on the host that prevents a lab from being made; `None` for any other failure.
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

/// Process that a guard has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Started {
    pub pid: i32,
    /// End of the process; `None` while it runs.
    pub end: Option<ProcessEnd>,
}

/// End of a process that a guard has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessEnd {
    /// The process exited with this status, 0 to 255.
    Exited(i32),
    /// The process was killed by the signal of this number.
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
