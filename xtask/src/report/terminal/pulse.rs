//! Clock of plain lines: what is waited for is told again, so that no wait is silent.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(200);

/// Time without a line after which a wait is told again.
pub(super) const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// Thread that looks at what goes on, until this is dropped.
#[derive(Debug)]
pub(super) struct Pulse {
    _ends_when_dropped: Sender<()>,
}

impl Pulse {
    pub fn start(look: impl Fn() + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            while receiver.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        });
        Self { _ends_when_dropped: sender }
    }
}
