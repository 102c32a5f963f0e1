//! Ctrl-C and SIGTERM: the first asks the run to stop and clean up, the second ends the engine at once; its guard cleans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::EXIT_INTERRUPTED;

/// Whether the run was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens to both signals from now on.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub fn listen() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the second signal finds the flag set by the first.
            let exit =
                flag::register_conditional_shutdown(signal, i32::from(EXIT_INTERRUPTED), Arc::clone(&interrupt.flag));
            exit.and_then(|_| flag::register(signal, Arc::clone(&interrupt.flag))).context("listening to signals")?;
        }
        Ok(interrupt)
    }

    /// Whether it was.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
}
