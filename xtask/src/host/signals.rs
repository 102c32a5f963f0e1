//! Signals of processes and their threads, as /proc tells of them: which are handled, and whether a handler is still at work.

use std::fs;

use nix::libc;
use nix::sys::signal::Signal;

/// Whether a process has a handler of its own for a signal.
#[must_use]
pub fn handles(pid: i32, signal: Signal) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| has(&status, "SigCgt", signal))
}

/// Tells whether a signal waits until the process takes it.
#[must_use]
pub fn is_pending(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok();
    status.is_some_and(|status| ["SigPnd", "ShdPnd"].iter().any(|mask| has(&status, mask, signal)))
}

/// Threads of a process, the main thread first.
#[must_use]
pub fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let mut threads: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    threads.sort_by_key(|thread| (*thread != pid, *thread));
    threads
}

/// Tells whether a thread has a signal blocked, as it also has while it handles one.
#[must_use]
pub fn is_blocked(pid: i32, thread: i32, signal: Signal) -> bool {
    thread_status(pid, thread).is_some_and(|status| has(&status, "SigBlk", signal))
}

/// Tells whether a signal that a thread was sent waits for its handler, or the handler runs.
#[must_use]
pub fn is_being_handled(pid: i32, thread: i32, signal: Signal) -> bool {
    let status = thread_status(pid, thread);
    status.is_some_and(|status| ["SigPnd", "SigBlk"].iter().any(|mask| has(&status, mask, signal)))
}

/// Sends a signal to one thread of a process; one that has ended already is fine.
pub fn send_to_thread(pid: i32, thread: i32, signal: Signal) {
    // SAFETY: the call takes three numbers, and no memory of this process.
    let _ = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal as i32) };
}

fn thread_status(pid: i32, thread: i32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/task/{thread}/status")).ok()
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
        assert_eq!(threads(own)[0], own);
        assert!(threads(own).iter().all(|thread| !is_being_handled(own, *thread, Signal::SIGUSR1)));
        assert!(!handles(i32::MAX, Signal::SIGUSR1) && threads(i32::MAX).is_empty());
        assert!(!is_being_handled(i32::MAX, i32::MAX, Signal::SIGUSR1));
    }
}
