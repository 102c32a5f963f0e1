//! Socket at which engines attach to a lab that another one has left: it is in the slot's folder, for root alone.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use anyhow::Context as _;

use super::link::{Link, Side};
use super::slot::Slot;
use crate::host::patience::Deadline;

/// Deadline for an attached engine to read a message: the guard does nothing else meanwhile.
const WRITE_DEADLINE: Deadline = Deadline::from_secs(1);

/// The socket; it goes with the slot's folder.
pub(super) struct Door {
    listener: UnixListener,
}

impl Door {
    /// Opens the socket.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(slot: &Slot) -> anyhow::Result<Self> {
        let path = slot.guard_socket();
        let open = || -> anyhow::Result<UnixListener> {
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        Ok(Self { listener: open().with_context(|| format!("making the guard's socket {}", path.display()))? })
    }

    /// Accepts a waiting connection; `None` where there is none.
    pub fn let_in(&self) -> Option<Link> {
        let (socket, _) = self.listener.accept().ok()?;
        socket.set_nonblocking(false).ok()?;
        socket.set_write_timeout(Some(WRITE_DEADLINE.scaled())).ok()?;
        Some(Link::new(socket, Side::Visitor))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
