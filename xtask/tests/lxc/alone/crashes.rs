//! Engines and guards of several slots killed side by side: the processors are theirs, and traces are looked for everywhere.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use xtask::selftest::CRASH_SLOTS;

use crate::common::{self, Host, PATIENCE, clean, e2e_args_in, engine, guard_pid_of, said, selftest};
use crate::crashes::{RUN_MS, kills, random};

/// Kills the engine of a slot, its guard or both at a random moment of a run, and expects the slot to be as new.
fn kill_one_of_several(slot: &str, random: &mut Pcg64) {
    let run = e2e_args_in(slot, &selftest(), &["three_machines", "--repeat", "2"]);
    let delay = Duration::from_millis(random.random_range(0..RUN_MS * 2)); // six share the processors
    let (engine_too, guard_too) = [(true, false), (false, true), (true, true)][random.random_range(0..3)];
    let mut run = common::start(&selftest(), run.iter().map(String::as_str), &[]);
    std::thread::sleep(delay); // the moment of the kill is the test's input
    let guard = guard_pid_of(slot).filter(|_| guard_too);
    if engine_too {
        run.kill().unwrap();
    }
    let killed = guard.is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
    let output = run.wait_with_output().unwrap();
    println!("slot {slot}: after {delay:?}: engine killed: {engine_too}, guard killed: {killed}, {}", output.status);
    if !engine_too {
        let text = String::from_utf8_lossy(&output.stderr);
        let tried = output.status.code() == Some(0) || text.contains("before it held the slot");
        assert!(tried, "slot {slot}: {}: {text}", output.status);
    }
    clean(slot);
}

#[test]
fn six_engines_killed_side_by_side_leave_nothing_and_no_slot_broken() {
    let host = Host::alone();
    let mut random = random();
    for _ in 0..kills(6).div_ceil(6) {
        let seeds: Vec<u64> = CRASH_SLOTS.map(|_| random.random()).collect();
        std::thread::scope(|scope| {
            for (slot, seed) in CRASH_SLOTS.zip(seeds) {
                scope.spawn(move || kill_one_of_several(&slot.to_string(), &mut Pcg64::seed_from_u64(seed)));
            }
        });
        host.expect_clean_within(PATIENCE);
    }
    for slot in CRASH_SLOTS {
        let output = engine()
            .args(e2e_args_in(&slot.to_string(), &selftest(), &["three_machines"]))
            .dir(selftest())
            .output()
            .unwrap();
        assert_eq!(output.status, 0, "slot {slot}: {}", said(&output));
    }
}
