//! Named points at which a test kills the engine, its guard or a process of the lab.
//!
//! A guard names each step of its ledger by [`reach`]. Two variables of its environment give these points an effect, only in programs with
//! debug assertions: `E2E_CRASH_TRACE=FILE` adds the name and number of each point to a file, and `E2E_CRASH=POINT#NUMBER VICTIM SIGNAL`
//! sends a signal when that point is reached for the NUMBERth time. The victim is `engine`, `guard`, `lxc-start` or `scenario`. The victim
//! `reset`, with a file's name instead of a signal, creates the file and waits: the test that waits for the file then ends the whole
//! machine. `E2E_CRASH_SLOTS=PREFIX` restricts both to guards of the slots whose names begin with PREFIX.

#[cfg(debug_assertions)]
pub use armed::{arm, reach};

/// Notes that a point was reached; does nothing in programs without debug assertions.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_phase: &str, _subject: &str) {}

/// Sets the engine, the slot and the cgroup to find victims by; does nothing in programs without debug assertions.
#[cfg(not(debug_assertions))]
#[inline]
pub fn arm(_engine_pid: i32, _slot: &str, _cgroup: &str) {}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::HashMap;
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::str::FromStr as _;
    use std::sync::{Mutex, OnceLock, PoisonError};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{Pid, pause};

    use crate::host::cgroup::Tree;

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

    #[derive(Debug)]
    struct Plan {
        engine_pid: i32,
        cgroup: String,
        trace: Option<PathBuf>,
        crash: Option<Crash>,
        reached: Mutex<HashMap<String, u32>>,
    }

    #[derive(Debug, PartialEq, Eq)]
    struct Crash {
        point: String,
        victim: String,
        /// Name of the signal without `SIG`, or the file that tells the test to reset the machine.
        how: String,
    }

    /// Sets the engine, the slot and the cgroup to find victims by. Before this call, points have no effect.
    pub fn arm(engine_pid: i32, slot: &str, cgroup: &str) {
        PLAN.get_or_init(|| {
            let variable = |name: &str| std::env::var(name).ok();
            let prefix = variable("E2E_CRASH_SLOTS").unwrap_or_default();
            let crash = variable("E2E_CRASH").and_then(|text| Crash::parse(&text));
            let trace = variable("E2E_CRASH_TRACE").map(PathBuf::from);
            let is_wanted = slot.starts_with(&prefix) && (crash.is_some() || trace.is_some());
            is_wanted.then(|| Plan { engine_pid, cgroup: cgroup.to_owned(), trace, crash, reached: Mutex::default() })
        });
    }

    /// Notes that a point was reached, and sends the signal that `E2E_CRASH` names for the point.
    pub fn reach(phase: &str, subject: &str) {
        let Some(Some(plan)) = PLAN.get() else { return };
        let name = format!("{phase} {subject}").trim_end().replace(' ', "-");
        let number = {
            let mut reached = plan.reached.lock().unwrap_or_else(PoisonError::into_inner);
            let count = reached.entry(name.clone()).or_default();
            *count += 1;
            *count
        };
        let point = format!("{name}#{number}");
        if let Some(trace) = &plan.trace
            && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(trace)
        {
            let _ = writeln!(file, "{point}"); // a test that finds no points fails
        }
        if let Some(crash) = plan.crash.as_ref().filter(|crash| crash.point == point) {
            plan.carry_out(crash);
        }
    }

    impl Crash {
        fn parse(text: &str) -> Option<Self> {
            let mut words = text.splitn(3, ' ').map(str::to_owned);
            Some(Self { point: words.next()?, victim: words.next()?, how: words.next()? })
        }
    }

    impl Plan {
        fn carry_out(&self, crash: &Crash) {
            let scenario = Tree::named(&format!("{}/_scenario", self.cgroup));
            let victims = match crash.victim.as_str() {
                "engine" => vec![self.engine_pid],
                "guard" => vec![std::process::id().cast_signed()],
                "lxc-start" => Tree::named(&self.cgroup).pids().into_iter().filter(|pid| is_lxc_start(*pid)).collect(),
                "scenario" => scenario.pids(),
                "reset" => {
                    let _ = std::fs::write(&crash.how, ""); // without it the test's deadline passes
                    loop {
                        pause();
                    }
                }
                _ => Vec::new(),
            };
            let Ok(signal) = Signal::from_str(&format!("SIG{}", crash.how)) else { return };
            // Process 1 has inherited a guard whose engine is gone: it is no victim.
            for pid in victims.into_iter().filter(|pid| *pid > 1) {
                let _ = kill(Pid::from_raw(pid), signal); // one that has ended is hit by nothing
            }
        }
    }

    fn is_lxc_start(pid: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "lxc-start")
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_crash_names_a_point_a_victim_and_a_signal() {
            let crash = Crash::parse("noted-unmount#2 guard KILL").unwrap();
            let expected = Crash { point: "noted-unmount#2".into(), victim: "guard".into(), how: "KILL".into() };
            assert_eq!(crash, expected);
            assert_eq!(Crash::parse("noted-unmount#2 guard"), None);
        }
    }
}
