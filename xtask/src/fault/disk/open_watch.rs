//! Watch for processes that open files of a folder (fanotify).

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags};

use crate::host::disk::container_fs;

/// Watch for opens of the files of one folder, from the creation of the watch on.
#[derive(Debug)]
pub struct OpenWatch {
    fanotify: Fanotify,
}

impl OpenWatch {
    /// Begins to watch a folder below a container's root; links on the way are followed inside that root.
    ///
    /// # Errors
    /// Also when the kernel refuses fanotify to this process.
    pub fn on(root: &Path, folder: &str) -> anyhow::Result<Self> {
        let fanotify = begin().context("fanotify")?;
        let mask = MaskFlags::FAN_OPEN | MaskFlags::FAN_EVENT_ON_CHILD;
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
        let opened = container_fs::folder(root, folder)?
            .with_context(|| format!("{} has no folder {folder}", root.display()))?;
        fanotify
            .mark(flags, mask, &opened, None::<&str>)
            .with_context(|| format!("watching {folder} of {} by fanotify", root.display()))?;
        Ok(Self { fanotify })
    }

    /// Returns the host PIDs of the processes that have opened a file of the folder since the last call; waits until there is one, or the
    /// deadline has passed. A process that has opened several files in between is listed once.
    pub fn wait(&self, deadline: Duration) -> anyhow::Result<Vec<i32>> {
        let timeout = PollTimeout::try_from(deadline).unwrap_or(PollTimeout::MAX);
        let mut entries = [PollFd::new(self.fanotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut entries, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Vec::new()),
            other => other.context("waiting for fanotify")?,
        };
        match self.fanotify.read_events() {
            Ok(events) => Ok(events.iter().map(FanotifyEvent::pid).filter(|pid| *pid > 0).collect()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Vec::new()),
            Err(error) => Err(error).context("reading from fanotify"),
        }
    }
}

fn begin() -> nix::Result<Fanotify> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
    Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)
}

/// Reason why the kernel does not tell this process who opens a file; `None` where it does.
#[must_use]
pub fn open_watch_problem() -> Option<String> {
    let error = begin().err()?;
    Some(format!("the kernel does not tell who opens a file (fanotify: {error})"))
}

/// Identity of a program in a process since its last `execve`; a forked process has the identity of its parent's program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    file: PathBuf,
    /// Address of the program's arguments, which the kernel draws at random at each execution.
    arguments_at: u64,
}

impl Image {
    /// Returns the identity of the program that a process runs; `None` if the process is gone.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        /// Index of the field `arg_start` in `/proc/PID/stat`, counted from the field of the process's state.
        const ARGUMENTS: usize = 45;
        let file = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let arguments_at = stat[stat.rfind(')')? + 1..].split_whitespace().nth(ARGUMENTS)?.parse().ok()?;
        Some(Self { file, arguments_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::exec::shell::Command;

    #[test]
    fn an_open_is_told_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("clock"), "+0").unwrap();
        let Ok(watch) = OpenWatch::on(folder.path(), "/") else { return }; // no root
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), Vec::<i32>::new());
        Command::new("cat").arg(folder.path().join("clock")).run().unwrap();
        let pids = watch.wait(Duration::from_secs(10)).unwrap();
        assert!(pids.len() == 1 && pids[0] != i32::try_from(std::process::id()).unwrap(), "{pids:?}");
        std::fs::read(folder.path().join("clock")).unwrap();
        assert_eq!(watch.wait(Duration::from_secs(10)).unwrap(), [i32::try_from(std::process::id()).unwrap()]);
    }

    #[test]
    fn an_image_is_that_of_one_execution() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(Image::of(own).unwrap().arguments_at > 0);
        assert_eq!(Image::of(own), Image::of(own));
        assert_eq!(Image::of(0), None);
    }
}
