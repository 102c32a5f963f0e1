//! The engine and its guard killed at random moments: nothing is left, and the next run works.
//!
//! `E2E_TEST_KILLS` sets how often; the seed is printed, and `E2E_TEST_SEED` repeats a series.

use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::common::{
    self, Host, PATIENCE, clean, clean_slot, e2e, e2e_args_in, e2e_in_background, engine, guard_pid, guard_pid_of,
    mancer, said, selftest, slot,
};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use xtask::host::shell::Command;
use xtask::selftest::CRASH_SLOTS;

/// Maximum time of a run of three machines, twice, on this kind of machine: kills fall within it.
const RUN_MS: u64 = 450;

/// Time until everything that `stays_broken` breaks is broken.
const BREAKING_MS: u64 = 1500;

/// Time of a run with faults.
const CHAOS_MS: u64 = 5000;

fn kills(default: u32) -> u32 {
    std::env::var("E2E_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn random() -> Pcg64 {
    let seed = std::env::var("E2E_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("seed {seed}: E2E_TEST_SEED={seed} repeats this series");
    Pcg64::seed_from_u64(seed)
}

fn start() -> Child {
    e2e_in_background(&selftest(), &["three_machines", "--repeat", "2"])
}

fn expect_the_next_run_to_work() {
    let output = e2e(&selftest(), &["three_machines"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

/// Starts an engine, kills it at a random moment of its run, and expects the host to be clean soon after.
fn kill_the_engine(host: &Host, random: &mut Pcg64, run_ms: u64, start: impl Fn() -> Child) {
    let delay = Duration::from_millis(random.random_range(0..run_ms));
    let mut engine = start();
    std::thread::sleep(delay); // the moment of the kill is the test's input
    engine.kill().unwrap();
    engine.wait().unwrap();
    println!("engine killed after {delay:?}");
    host.expect_clean_within(PATIENCE);
}

#[test]
fn the_engine_killed_leaves_nothing() {
    let host = Host::alone();
    let mut random = random();
    for _ in 0..kills(8) {
        kill_the_engine(&host, &mut random, RUN_MS, start);
    }
    expect_the_next_run_to_work();
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the seam hands no descriptor over; this guard is started as the engine starts it"
)]
fn a_guard_whose_engine_is_gone_before_its_first_word_ends() {
    let host = Host::alone();
    let (engine, guard) = UnixStream::pair().unwrap();
    drop(engine);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["guard", "--slot", slot(), "--purpose", "a test"]);
    command.fd_mappings(vec![FdMapping { parent_fd: guard.into(), child_fd: 3 }]).unwrap();
    let mut guard = command.spawn().unwrap();
    let began = Instant::now();
    while guard.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            guard.kill().unwrap();
            panic!("the guard goes on without an engine");
        }
        std::thread::sleep(Duration::from_millis(10)); // it is looked at again
    }
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn the_engine_killed_while_real_services_run_leaves_nothing() {
    let host = Host::alone();
    let mut random = random();
    let project = mancer();
    // The templates are built first: a build has its own test.
    let output = e2e(&project, &["data_ingestion:small"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    for _ in 0..kills(3) {
        kill_the_engine(&host, &mut random, 2200, || e2e_in_background(&project, &["data_ingestion:small"]));
    }
    let output = e2e(&project, &["data_ingestion:small"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

#[test]
fn the_engine_killed_amid_faults_leaves_nothing() {
    let host = Host::alone();
    let mut random = random();
    for _ in 0..kills(6) {
        kill_the_engine(&host, &mut random, BREAKING_MS, || e2e_in_background(&selftest(), &["stays_broken"]));
    }
    expect_the_next_run_to_work();
}

#[test]
fn the_engine_killed_amid_chaos_leaves_nothing() {
    let host = Host::alone();
    let mut random = random();
    for _ in 0..kills(6) {
        let seed = random.random_range(1..1000).to_string();
        let start = || e2e_in_background(&selftest(), &["chaos", "--chaos=heavy", "--seed", &seed]);
        println!("seed {seed} of the chaos");
        kill_the_engine(&host, &mut random, CHAOS_MS, start);
    }
    expect_the_next_run_to_work();
}

#[test]
fn both_killed_amid_faults_leave_nothing_once_reclaimed() {
    let host = Host::alone();
    let mut random = random();
    for _ in 0..kills(3) {
        let mut engine = e2e_in_background(&selftest(), &["stays_broken"]);
        std::thread::sleep(Duration::from_millis(random.random_range(0..BREAKING_MS))); // the test's input
        let guard = guard_pid();
        engine.kill().unwrap();
        if let Some(pid) = guard {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL); // it may have gone by itself, after the engine
        }
        engine.wait().unwrap();
        clean_slot();
        host.expect_clean_within(PATIENCE);
    }
    expect_the_next_run_to_work();
}

#[test]
fn the_guard_killed_leaves_nothing_once_it_is_reclaimed() {
    let host = Host::alone();
    let mut random = random();
    for round in 0..kills(8) {
        let delay = Duration::from_millis(random.random_range(0..RUN_MS));
        let engine = start();
        std::thread::sleep(delay); // the moment of the kill is the test's input
        let killed = guard_pid().is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        println!("round {round}: guard killed after {delay:?}: {killed}");
        // The engine sees its guard go, takes the slot back, starts another and tries the case again. Only a guard that
        // died before it had answered leaves nothing to try with.
        let output = engine.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let tried = output.status.code() == Some(0) || text.contains("before it began");
        assert!(tried, "{}: {text}", output.status);
        host.expect_clean_within(PATIENCE);
    }
    expect_the_next_run_to_work();
}

#[test]
fn both_killed_with_a_frozen_container_leave_nothing_once_reclaimed() {
    let host = Host::alone();
    for _ in 0..kills(3) {
        let output = e2e(&selftest(), &["three_machines", "--keep-containers=always"]).output().unwrap();
        assert_eq!(output.status, 0, "{}", said(&output));
        Command::new("lxc-freeze").args(["-n", &format!("e2e-selftest-{}-b", slot())]).dir("/").run().unwrap();
        kill(Pid::from_raw(guard_pid().expect("the lab is kept")), Signal::SIGKILL).unwrap();
        // A frozen container outlives its guard: that is what reclaiming is for.
        clean_slot();
        host.expect_clean_within(Duration::ZERO);
    }
    expect_the_next_run_to_work();
}

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
        let tried = output.status.code() == Some(0) || text.contains("before it began");
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
