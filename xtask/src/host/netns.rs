//! Network namespaces without a name, held by a file descriptor.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns, unshare};

use super::shell::Command;

/// A network namespace: it lives as long as this value, or a process in it.
#[derive(Debug)]
pub struct NetworkNamespace {
    file: File,
}

impl NetworkNamespace {
    /// Makes a fresh one with nothing but a loopback device that is down. The calling thread stays where it is.
    ///
    /// # Errors
    /// Without root.
    pub fn make() -> anyhow::Result<Self> {
        let home = Self::of_this_thread()?;
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let made = Self::of_this_thread();
        home.enter().context("returning to the host's network namespace")?;
        made
    }

    /// The one that a path such as `/proc/PID/ns/net` leads to.
    ///
    /// # Errors
    /// When the path cannot be opened.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening the network namespace {}", path.display()))?;
        Ok(Self { file })
    }

    /// A path that leads other processes to it, as long as this process holds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// Runs `ip -batch` with these lines in it.
    ///
    /// # Errors
    /// When a line fails; the error has what `ip` said.
    pub fn ip_batch(&self, lines: &str) -> anyhow::Result<()> {
        let home = Self::of_this_thread()?;
        self.enter()?;
        let done = Command::new("ip").args(["-batch", "-"]).stdin(lines).run();
        home.enter().context("returning to the host's network namespace")?;
        done.with_context(|| format!("configuring the lab's network:\n{lines}"))?;
        Ok(())
    }

    /// Connects to an address of this namespace, from a thread that enters it.
    ///
    /// # Errors
    /// Those of [`TcpStream::connect_timeout`].
    pub fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        let file = self.file.try_clone()?;
        let thread = std::thread::Builder::new().name("connect".into()).spawn(move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            TcpStream::connect_timeout(&address, timeout)
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the connecting thread panicked")))
    }

    fn of_this_thread() -> anyhow::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    fn enter(&self) -> anyhow::Result<()> {
        setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }
}
