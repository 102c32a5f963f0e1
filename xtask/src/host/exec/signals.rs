//! Signals of processes and their threads, as /proc shows them: which are handled, and whether a handler is still running.

use std::fs;

use nix::libc;
use nix::sys::signal::Signal;

/// Names of the lines of a thread's `status` in /proc that count its voluntary and its involuntary context switches.
const SWITCHES: [&str; 2] = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];

/// Tells whether a process has a handler of its own for a signal.
#[must_use]
pub fn handles(pid: i32, signal: Signal) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| has(&status, "SigCgt", signal))
}

/// Tells whether a signal is pending for a process.
#[must_use]
pub fn is_pending(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok();
    status.is_some_and(|status| ["SigPnd", "ShdPnd"].iter().any(|mask| has(&status, mask, signal)))
}

/// Returns the threads of a process, the main thread first.
#[must_use]
pub fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().filter_map(Result::ok);
    let mut threads: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    threads.sort_by_key(|thread| (*thread != pid, *thread));
    threads
}

/// State of a thread with respect to one signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread {
    /// True if the signal waits for the thread to take it.
    pub is_pending: bool,
    /// True if the thread has the signal blocked, as it also has while it handles the signal, or begins another thread.
    pub is_blocked: bool,
    /// True if the thread runs, waits for a processor, or waits in the kernel for something short, and so will soon be elsewhere in its
    /// program.
    pub is_under_way: bool,
    /// Processor time that the thread has used, in ticks of the kernel.
    pub ticks: u64,
}

/// Returns the state of a thread of a process; `None` where the thread has ended.
#[must_use]
pub fn thread(pid: i32, thread: i32, signal: Signal) -> Option<Thread> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}")).ok();
    let (first, stat, last) = (read("status")?, read("stat")?, read("status")?);
    Some(Thread::of([&first, &last], &stat, signal))
}

impl Thread {
    /// Reads a thread's state from two readings of its `status`, and its `stat`. A single reading mixes several moments: the state may be
    /// that of a thread that waits, and the masks, some lines later, those of the same thread as it goes on. A thread that waits in both
    /// readings, and has given up no processor in between, has waited from the first to the second, so that the masks in between belong to
    /// the same state.
    fn of(looks: [&str; 2], stat: &str, signal: Signal) -> Self {
        let [first, last] = looks;
        // The name, in parentheses, may hold spaces; user and system time are the 12th and 13th behind it.
        let behind_the_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let times = behind_the_name.split_ascii_whitespace().skip(11).take(2);
        let field = |status: &str, name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(|value| value.trim().to_owned())
        };
        let runs = |status: &str| field(status, "State").is_some_and(|state| state.starts_with(['R', 'D']));
        let switches = |status: &str| SWITCHES.map(|name| field(status, name));
        Self {
            is_pending: has(first, "SigPnd", signal),
            is_blocked: has(first, "SigBlk", signal),
            is_under_way: runs(first) || runs(last) || switches(first) != switches(last),
            ticks: times.filter_map(|time| time.parse::<u64>().ok()).sum(),
        }
    }
}

/// Sends a signal to one thread of a process; does nothing where the thread has ended.
pub fn send_to_thread(pid: i32, thread: i32, signal: Signal) {
    // SAFETY: the call takes three numbers, and no memory of this process.
    let _ = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, signal as i32) };
}

/// Tells whether a mask in a `status` of /proc has a signal.
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
        assert!(!handles(i32::MAX, Signal::SIGUSR1) && threads(i32::MAX).is_empty());
        assert_eq!(thread(i32::MAX, i32::MAX, Signal::SIGUSR1), None);
    }

    #[test]
    fn a_thread_that_went_on_between_two_looks_is_under_way() {
        let look = |state: &str, blocked: &str, switches: u32| {
            format!(
                "Name:\tpython3\nState:\t{state}\nSigPnd:\t0\nSigBlk:\t{blocked}\n\
                 voluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t2\n"
            )
        };
        let state = |first: &str, last: &str| {
            let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 9 0 0 0 3 4 0 0 20 0 1 0 5 6 7";
            let found = Thread::of([first, last], stat, Signal::SIGUSR1);
            assert_eq!(found.ticks, 7);
            (found.is_blocked, found.is_under_way)
        };
        let waits = look("S (sleeping)", "0", 5);
        // The state of a thread that waited, and the mask of the moment in which it begins another one.
        let torn = look("S (sleeping)", "200", 5);
        assert_eq!(state(&waits, &waits), (false, false));
        assert_eq!(state(&torn, &look("R (running)", "200", 5)), (true, true));
        assert_eq!(state(&torn, &look("S (sleeping)", "0", 6)), (true, true));
        assert_eq!(state(&torn, &torn), (true, false), "it has waited with the signal blocked");
        assert_eq!(state(&look("D (disk sleep)", "0", 5), &waits), (false, true));
    }

    #[test]
    fn a_thread_that_works_is_under_way_and_uses_ticks_and_one_that_waits_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let me = nix::unistd::gettid().as_raw();
                let mut state = thread(own, me, Signal::SIGUSR1).unwrap();
                assert!(state.is_under_way && !state.is_blocked && !state.is_pending, "{state:?}");
                let begun = state.ticks;
                while state.ticks < begun + 2 {
                    state = thread(own, me, Signal::SIGUSR1).unwrap();
                }
                let mask = nix::sys::signal::SigSet::from(Signal::SIGUSR1);
                mask.thread_block().unwrap();
                send_to_thread(own, me, Signal::SIGUSR1);
                tell.send(me).unwrap();
                let _ = ended.recv();
                assert_eq!(mask.wait().unwrap(), Signal::SIGUSR1);
            });
            let other = told.recv().unwrap();
            let state = loop {
                let state = thread(own, other, Signal::SIGUSR1).unwrap();
                if !state.is_under_way {
                    break state;
                }
                std::thread::yield_now();
            };
            assert!(state.is_blocked && state.is_pending, "{state:?}");
            end.send(()).unwrap();
        });
    }
}
