//! Signals of processes, as /proc tells of them: which are handled, and whether a handler is still at work.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Whether a process has a handler of its own for a signal.
#[must_use]
pub fn handles(pid: i32, signal: Signal) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| has(&status, "SigCgt", signal))
}

/// Whether a signal waits for its handler, or the handler runs: a thread that runs one has the signal blocked.
#[must_use]
pub fn is_being_handled(pid: i32, signal: Signal) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .any(|status| ["SigPnd", "ShdPnd", "SigBlk"].iter().any(|mask| has(&status, mask, signal)))
}

/// Sends a signal; a process that has ended already is fine.
pub fn send(pid: i32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether a mask in a `status` of /proc has a signal.
fn has(status: &str, mask: &str, signal: Signal) -> bool {
    let digits = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(':'));
    let mask = digits.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as i32 - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_bit_by_bit() {
        let status =
            "Name:\tpython3\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000200\nSigCgt:\t0000000100000002\n";
        assert!(has(status, "ShdPnd", Signal::SIGUSR1));
        assert!(!has(status, "SigPnd", Signal::SIGUSR1));
        assert!(has(status, "SigCgt", Signal::SIGINT));
        assert!(!has(status, "SigCgt", Signal::SIGUSR1));
        assert!(!has("", "SigCgt", Signal::SIGUSR1));
    }

    #[test]
    fn this_process_has_no_handler_and_a_process_that_is_gone_has_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!handles(own, Signal::SIGUSR1));
        assert!(!is_being_handled(own, Signal::SIGUSR1));
        assert!(!handles(i32::MAX, Signal::SIGUSR1) && !is_being_handled(i32::MAX, Signal::SIGUSR1));
    }
}
