//! Signals that ask the engine to stop: Ctrl-C (INT), TERM, a closed terminal (HUP), Ctrl-\\ (QUIT). The first signal asks the run to stop,
//! clean up and write its record; a second one ends the engine at once, and its guard cleans up. HUP never ends the engine at once, because
//! a closed terminal sends it more than once. If the engine was started with HUP ignored (`nohup`), HUP has no effect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::flag;

use crate::error::EXIT_INTERRUPTED;

/// Flag that is set when the run was asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    flag: Arc<AtomicBool>,
}

impl Interrupt {
    /// Starts handling the signals.
    pub fn listen() -> anyhow::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGQUIT] {
            // In this order: the second signal finds the flag set by the first.
            let exit =
                flag::register_conditional_shutdown(signal, i32::from(EXIT_INTERRUPTED), Arc::clone(&interrupt.flag));
            exit.and_then(|_| flag::register(signal, Arc::clone(&interrupt.flag))).context("listening to signals")?;
        }
        if !is_ignored(SIGHUP) {
            flag::register(SIGHUP, Arc::clone(&interrupt.flag)).context("listening to signals")?;
        }
        Ok(interrupt)
    }

    /// Creates an interrupt that is set already.
    #[cfg(test)]
    pub fn already_come() -> Self {
        Self { flag: Arc::new(AtomicBool::new(true)) }
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
}

/// Tells whether this process was started with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignores(&status, signal)
}

fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_kernels_mask() {
        let status = "Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\tffffffffffffffff\n";
        assert_eq!([SIGHUP, SIGINT, SIGTERM, 13].map(|signal| ignores(status, signal)), [true, false, false, true]);
        assert!(!ignores("", SIGHUP));
    }
}
