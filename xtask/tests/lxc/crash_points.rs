//! Kills, and resets of the host, at each step of a guard's ledger: nothing is left, and the next lab works.
//!
//! The engine names the steps (`host/crash_point.rs`): a run without a kill tells which there are. `E2E_TEST_CRASHES=all` tries all of them,
//! which takes more than an hour; else each test tries a sample for some seconds, by a seed that is the commit's. `E2E_TEST_SEED` is another one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64;
use xtask::host::cgroup::Tree;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, PATIENCE, binaries, clean_slot, e2e, engine, repository, said, selftest, slot};

/// The time of one test's sample, eight of which are less than a minute.
const SAMPLE: Duration = Duration::from_secs(7);

/// Deadline of one run in which something is killed.
const RUN_DEADLINE: Duration = Duration::from_secs(120);

const SIGNALS: [&str; 5] = ["INT", "TERM", "HUP", "QUIT", "KILL"];

/// Scenario of the runs: three machines.
const SCENARIO: &str = "three_machines";

fn tries_all() -> bool {
    std::env::var("E2E_TEST_CRASHES").is_ok_and(|text| text == "all")
}

fn seed() -> u64 {
    let given = std::env::var("E2E_TEST_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let git = Command::new("git").args(["-c", "safe.directory=*", "rev-parse", "HEAD"]).dir(repository()).output();
        let commit = git.map(|output| output.text()).unwrap_or_default();
        u64::from_str_radix(commit.get(..15).unwrap_or_default(), 16).unwrap_or_default()
    })
}

/// Tries all of them, or those that there is time for, in an order by the seed.
fn try_some<T>(mut all: Vec<T>, mut attempt: impl FnMut(&T)) {
    let (seed, count) = (seed(), all.len());
    println!("seed {seed}: E2E_TEST_SEED={seed} repeats this order");
    all.shuffle(&mut Pcg64::seed_from_u64(seed));
    let begun = Instant::now();
    let mut tried = 0;
    for one in &all {
        if !tries_all() && begun.elapsed() > SAMPLE {
            break;
        }
        attempt(one);
        tried += 1;
    }
    println!("{tried} of {count} tried in {:.0} s", begun.elapsed().as_secs_f64());
}

/// The first and the last time that each point is reached, by a trace.
fn first_and_last(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).unwrap();
    let mut points: BTreeMap<&str, u32> = BTreeMap::new();
    for (name, number) in text.lines().filter_map(|line| line.split_once('#')) {
        let last = points.entry(name).or_default();
        *last = (*last).max(number.parse().unwrap());
    }
    assert!(points.len() > 20, "a guard names its steps: {text}");
    let both =
        points.into_iter().flat_map(|(name, last)| [(name, 1), (name, last)].into_iter().take(last.min(2) as usize));
    both.map(|(name, number)| format!("{name}#{number}")).collect()
}

fn run() -> Command {
    e2e(&selftest(), &[SCENARIO]).env("E2E_CRASH_SLOTS", slot()).deadline(RUN_DEADLINE)
}

fn up() -> Command {
    let words = ["up", "mini", "minidisk", "--no-wait", "--slot", slot()];
    engine().args(words).env("E2E_CRASH_SLOTS", slot()).dir(selftest()).deadline(RUN_DEADLINE)
}

fn down() -> Output {
    engine().args(["down", "--slot", slot()]).dir(selftest()).deadline(RUN_DEADLINE).output().unwrap()
}

fn expect_the_next_run_to_pass(point: &str) {
    let output = e2e(&selftest(), &["who_am_i", "--no-wait"]).deadline(RUN_DEADLINE).output().unwrap();
    assert_eq!(output.status, 0, "after {point}: {}", said(&output));
}

fn traced(session: &dyn Fn(Command), command: Command) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    session(command.env("E2E_CRASH_TRACE", &trace));
    first_and_last(&trace)
}

fn kills(victim: &str, points: &[String]) -> Vec<String> {
    let of = |point: &String| SIGNALS.map(|signal| format!("{point} {victim} {signal}"));
    points.iter().flat_map(of).collect()
}

/// Kills one of the processes of a run.
fn sweep_runs(victim: &str) {
    let host = Host::take();
    let passes = |command: Command| drop(command.run().unwrap());
    let points = traced(&passes, run());
    try_some(kills(victim, &points), |crash| {
        let begun = Instant::now();
        let output = run().env("E2E_CRASH", crash).output().unwrap_or_else(|error| panic!("{crash}: {error}"));
        println!("{crash}: exit {} after {:.1} s", output.status, begun.elapsed().as_secs_f64());
        host.expect_clean_within(PATIENCE);
        expect_the_next_run_to_pass(crash);
    });
}

/// Kills one of the processes of a kept lab, from its making until it was taken down.
fn sweep_kept_labs(victim: &str) {
    let host = Host::take();
    let session = |command: Command| {
        command.run().unwrap();
        assert_eq!(down().status, 0);
    };
    let points = traced(&session, up());
    try_some(kills(victim, &points), |crash| {
        let made = up().env("E2E_CRASH", crash).output().unwrap_or_else(|error| panic!("{crash}: {error}"));
        let ended = down();
        println!("{crash}: up {}, down {}", made.status, ended.status);
        // 2: there is no lab, because it was not made; 3: the guard of a killed engine is just taking it down.
        assert!(matches!(ended.status, 0 | 2 | 3), "{crash}: {}", said(&ended));
        assert!(made.status != 0 || ended.status == 0, "{crash}: {}", said(&ended));
        host.expect_clean_within(PATIENCE);
        expect_the_next_run_to_pass(crash);
    });
}

#[test]
fn the_engine_is_killed_at_each_step_of_a_run() {
    sweep_runs("engine");
}

#[test]
fn the_guard_is_killed_at_each_step_of_a_run() {
    sweep_runs("guard");
}

#[test]
fn lxc_is_killed_at_each_step_of_a_run() {
    sweep_runs("lxc-start");
}

#[test]
fn the_scenario_is_killed_at_each_step_of_a_run() {
    sweep_runs("scenario");
}

#[test]
fn the_engine_is_killed_at_each_step_of_a_lab_that_stays() {
    sweep_kept_labs("engine");
}

#[test]
fn the_guard_is_killed_at_each_step_of_a_lab_that_stays() {
    sweep_kept_labs("guard");
}

#[test]
fn lxc_is_killed_at_each_step_of_a_lab_that_stays() {
    sweep_kept_labs("lxc-start");
}

/// A machine of its own: other processes, another boot; disks that stay. It shares the control groups of this one.
struct Machine {
    disks: tempfile::TempDir,
    run: Run,
}

/// The file system of `/run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Tmpfs,
    Disk,
}

impl Machine {
    fn new(run: Run) -> Self {
        let disks = tempfile::tempdir().unwrap();
        for name in ["lxc", "log", "state", "run"] {
            fs::create_dir(disks.path().join(name)).unwrap();
        }
        Self { disks, run }
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.disks.path().join(name)
    }

    /// Boots it, to do one thing.
    #[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test does not")]
    fn boot(&self, words: &[&str], crash: &str) -> Child {
        let run = match self.run {
            Run::Tmpfs => "mount -t tmpfs -o mode=755 tmpfs /run",
            Run::Disk => "mount --bind \"$DISKS/run\" /run",
        };
        let script = format!(
            "set -e; mount --make-rprivate /; mount --bind \"$DISKS/lxc\" /var/lib/lxc; mount --bind \"$DISKS/log\" /var/log/lxc; \
             {run}; cat /proc/sys/kernel/random/uuid >/run/boot; mount --bind /run/boot /proc/sys/kernel/random/boot_id; \
             \"$@\" </dev/null"
        );
        let mut command = std::process::Command::new("unshare");
        command.args(["-mpf", "--mount-proc", "--kill-child", "sh", "-c", &script, "machine"]);
        command.arg(env!("CARGO_BIN_EXE_xtask")).args(words).current_dir(selftest());
        command.env("DISKS", self.disks.path()).env("E2E_STATE_DIR", self.disk("state"));
        command.env("E2E_CRASH", crash).env("E2E_CRASH_SLOTS", slot());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Boots it for a run, and resets it when the guard has reached this point; says whether it has.
    fn reset_at(&self, point: &str) -> bool {
        let reached = self.disk("reached");
        let mut machine = self.boot(&e2e_words(), &format!("{point} reset {}", reached.display()));
        let begun = Instant::now();
        while machine.try_wait().unwrap().is_none() && !reached.exists() {
            assert!(begun.elapsed() < RUN_DEADLINE, "neither {point} nor the end came");
            std::thread::sleep(Duration::from_millis(2)); // a file gives no sign of its own
        }
        machine.kill().unwrap();
        machine.wait().unwrap();
        reached.exists()
    }

    fn carry_out(&self, words: &[&str]) -> Output {
        let output = self.boot(words, "").wait_with_output().unwrap();
        Output {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: output.stderr,
            duration: Duration::ZERO,
            timed_out: false,
        }
    }

    /// Returns what is left of labs on its disks, but for logs of labs that are gone.
    fn leftovers(&self) -> Vec<String> {
        let folders = ["lxc", "log", "state/streams", "state/layers", "run/mancer-e2e"];
        let names = folders.iter().flat_map(|folder| {
            let entries = fs::read_dir(self.disk(folder)).into_iter().flatten().filter_map(Result::ok);
            entries.map(move |entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
        });
        let is_left = |name: &String| match name.split_once('/').unwrap() {
            ("log", name) => name.starts_with('.'),
            ("state", name) => name.starts_with("streams") || name.starts_with("layers/."),
            _ => true,
        };
        names.filter(is_left).collect()
    }
}

fn e2e_words() -> [&'static str; 6] {
    let binaries: &'static str = Box::leak(binaries().display().to_string().into_boxed_str());
    ["e2e", "who_am_i", "--slot", slot(), "--binaries", binaries]
}

/// The next engine, or `clean`, finds folders of another boot alone, and needs nobody's help.
#[test]
fn the_host_is_reset_at_each_step_of_a_run() {
    let _host = Host::take();
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    e2e(&selftest(), &["who_am_i"]).env("E2E_CRASH_SLOTS", slot()).env("E2E_CRASH_TRACE", &trace).run().unwrap();
    let mut all = Vec::new();
    for point in first_and_last(&trace) {
        for run in [Run::Tmpfs, Run::Disk] {
            all.extend([(point.clone(), run, "e2e"), (point.clone(), run, "clean")]);
        }
    }
    try_some(all, |(point, run, next)| {
        let machine = Machine::new(*run);
        let reached = machine.reset_at(point);
        println!("reset at {point}, /run on {run:?}, then {next}: {reached}");
        // A step that a ledger of another boot must not have carried out, whosever the folder is.
        let other = machine.disk("lxc/other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("config"), "of somebody else").unwrap();
        let ledger = machine.disk(&format!("run/mancer-e2e/{}/ledger.jsonl", slot()));
        if let Ok(text) = fs::read_to_string(&ledger) {
            let step = "{\"remove_tree\":{\"path\":\"/var/lib/lxc/other\"}}\n";
            fs::write(&ledger, format!("{text}{step}")).unwrap();
        }
        let words: &[&str] = if *next == "clean" { &["clean", "--slot", slot()] } else { &e2e_words() };
        let output = machine.carry_out(words);
        assert_eq!(output.status, 0, "{next} after a reset at {point}: {}", said(&output));
        assert!(other.join("config").exists(), "a step of another boot was carried out: {}", said(&output));
        fs::remove_dir_all(&other).unwrap();
        assert_eq!(machine.leftovers(), [""; 0], "{next} after a reset at {point}: {}", said(&output));
        clean_slot();
        let groups = Tree::named(&format!("mancer-e2e-{}", slot())); // a real reset takes them away
        groups.kill_and_remove(PATIENCE, || ()).unwrap();
    });
}
