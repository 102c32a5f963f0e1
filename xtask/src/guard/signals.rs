//! Signals that a guard gets from the kernel.

use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, low_level};

/// Signals of a guard, readable as bytes on a socket. They are handled, not blocked, because the library that starts short commands also
/// needs SIGCHLD.
pub(super) struct Signals {
    arrived: UnixStream,
    told_to_end: Arc<AtomicBool>,
}

/// Result of the signals received so far: whether the guard was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Termination {
    Requested,
    NotRequested,
}

impl Signals {
    pub fn listen() -> anyhow::Result<Self> {
        let (arrived, writer) = UnixStream::pair().context("making a socket pair")?;
        arrived.set_nonblocking(true)?;
        let told_to_end = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGQUIT] {
            flag::register(signal, Arc::clone(&told_to_end))?;
        }
        // SIGINT and SIGHUP are the engine's affair: handled, so that they do not end the guard.
        for signal in [SIGTERM, SIGQUIT, SIGCHLD, SIGINT, SIGHUP] {
            low_level::pipe::register(signal, writer.try_clone()?).context("listening to signals")?;
        }
        Ok(Self { arrived, told_to_end })
    }

    /// Empties the socket; tells whether a signal received so far told the guard to end.
    pub fn drain(&mut self) -> Termination {
        let mut buffer = [0; 256];
        while matches!(self.arrived.read(&mut buffer), Ok(count) if count > 0) {}
        if self.told_to_end.load(Ordering::SeqCst) { Termination::Requested } else { Termination::NotRequested }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}
