//! The engine and its guard killed at random moments: nothing is left, and the next run works.
//!
//! `E2E_TEST_KILLS` sets how often; the seed is printed, and `E2E_TEST_SEED` repeats a series.

use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use super::common::{Host, PATIENCE, clean_slot, e2e, e2e_in_background, guard_pid, mancer, said, selftest, slot};
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use xtask::host::exec::shell::Command;

/// Time of a run of three machines, twice, on a quiet machine of this kind: kills fall within it.
pub const RUN_MS: u64 = 450;

/// Time until everything that `stays_broken` breaks is broken.
const BREAKING_MS: u64 = 1500;

/// Time of a run with real services.
const SERVICES_MS: u64 = 2200;

/// Time of a run with faults; its schedule is one of wall time.
const CHAOS_MS: u64 = 5000;

pub fn kills(default: u32) -> u32 {
    std::env::var("E2E_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub fn random() -> Pcg64 {
    let seed = std::env::var("E2E_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("seed {seed}: E2E_TEST_SEED={seed} repeats this series");
    Pcg64::seed_from_u64(seed)
}

fn start() -> Child {
    e2e_in_background(&selftest(), &["three_machines", "--repeat", "2"])
}

/// A time that is this long on a quiet machine of this kind, as it is beside other tests: a run that is not killed tells.
fn here(quiet_ms: u64) -> u64 {
    let begun = Instant::now();
    assert!(start().wait().unwrap().success());
    let run_ms = u64::try_from(begun.elapsed().as_millis()).unwrap();
    quiet_ms * run_ms.max(RUN_MS) / RUN_MS
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
    let host = Host::take();
    let (mut random, run_ms) = (random(), here(RUN_MS));
    for _ in 0..kills(8) {
        kill_the_engine(&host, &mut random, run_ms, start);
    }
    expect_the_next_run_to_work();
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the seam hands no descriptor over; this guard is started as the engine starts it"
)]
fn a_guard_whose_engine_is_gone_before_its_first_word_ends() {
    let host = Host::take();
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
    let host = Host::take();
    let (mut random, run_ms) = (random(), here(SERVICES_MS));
    let project = mancer();
    // The templates are built first: a build has its own test.
    let output = e2e(&project, &["data_ingestion:small"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    for _ in 0..kills(3) {
        kill_the_engine(&host, &mut random, run_ms, || e2e_in_background(&project, &["data_ingestion:small"]));
    }
    let output = e2e(&project, &["data_ingestion:small"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

#[test]
fn the_engine_killed_amid_faults_leaves_nothing() {
    let host = Host::take();
    let (mut random, breaking_ms) = (random(), here(BREAKING_MS));
    for _ in 0..kills(6) {
        kill_the_engine(&host, &mut random, breaking_ms, || e2e_in_background(&selftest(), &["stays_broken"]));
    }
    expect_the_next_run_to_work();
}

#[test]
fn the_engine_killed_amid_chaos_leaves_nothing() {
    let host = Host::take();
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
    let host = Host::take();
    let (mut random, breaking_ms) = (random(), here(BREAKING_MS));
    for _ in 0..kills(3) {
        let mut engine = e2e_in_background(&selftest(), &["stays_broken"]);
        std::thread::sleep(Duration::from_millis(random.random_range(0..breaking_ms))); // the test's input
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
    let host = Host::take();
    let (mut random, run_ms) = (random(), here(RUN_MS));
    for round in 0..kills(8) {
        let delay = Duration::from_millis(random.random_range(0..run_ms));
        let engine = start();
        std::thread::sleep(delay); // the moment of the kill is the test's input
        let killed = guard_pid().is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        println!("round {round}: guard killed after {delay:?}: {killed}");
        // The engine sees its guard go, takes the slot back, starts another and tries the case again. Only a guard that
        // died before it had answered leaves nothing to try with.
        let output = engine.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let tried = output.status.code() == Some(0) || text.contains("before it held the slot");
        assert!(tried, "{}: {text}", output.status);
        host.expect_clean_within(PATIENCE);
    }
    expect_the_next_run_to_work();
}

#[test]
fn both_killed_with_a_frozen_container_leave_nothing_once_reclaimed() {
    let host = Host::take();
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
