//! `cargo bench -p xtask --bench lab`: the engine compared with plain LXC. Runs on a lab of three machines alternate with a shell script
//! that starts three containers; a program is run in a container by the SDK, then by `lxc-attach`. Prints medians, spread and ratios, and
//! no verdict.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark's program")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::host::cgroup::Tree;
use xtask::host::exec::shell::Command;

const ROUNDS: usize = 20;
const EXECS: usize = 20;
const SLOT: &str = "91";

fn main() {
    assert!(nix::unistd::geteuid().is_root(), "labs need root");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--quiet", "--package", "xtask", "--package", "selftest-scenarios", "--bins"];
    Command::new(cargo).args(build).dir(env!("CARGO_MANIFEST_DIR")).deadline(Duration::from_secs(900)).run().unwrap();
    engine_run(); // builds the template where it is missing
    let layer = layer();
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let (ready, whole) = engine_run();
        times.engine_ready.push(ready);
        times.engine_whole.push(whole);
        let (ready, whole) = plain_run(&layer);
        times.plain_ready.push(ready);
        times.plain_whole.push(whole);
    }
    compare("three containers ready", &times.engine_ready, &times.plain_ready);
    compare("up, a scenario's work, down against up, down", &times.engine_whole, &times.plain_whole);
    let (engine, attach) = execs();
    compare("exec as the scenario sees it, against lxc-attach", &engine, &attach);
}

#[derive(Default)]
struct Times {
    engine_ready: Vec<f64>,
    engine_whole: Vec<f64>,
    plain_ready: Vec<f64>,
    plain_whole: Vec<f64>,
}

fn selftest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/project")
}

/// Returns the folder of the programs of Cargo's `dev` profile, which users run; a benchmark itself has another profile.
fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug").canonicalize().unwrap()
}

fn e2e(args: &[&str]) -> Command {
    let programs = programs();
    let root = selftest();
    Command::new(programs.join("xtask"))
        .arg("--root")
        .arg(&root)
        .args(["e2e", "--slot", SLOT, "--binaries"])
        .arg(&programs)
        .args(args)
        .dir(&root)
        .deadline(Duration::from_secs(60))
}

fn events() -> Vec<Value> {
    let text = std::fs::read_to_string(selftest().join("target/e2e/latest/events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs the engine; returns the milliseconds from the run's start until the lab is ready, and those that the program took in all.
fn engine_run() -> (f64, f64) {
    let begun = Instant::now();
    e2e(&["three_machines"]).run().unwrap();
    let whole = begun.elapsed().as_secs_f64() * 1e3;
    let ready = events().into_iter().find(|event| event["event"] == "lab_ready").unwrap();
    (ready["at_ms"].as_f64().unwrap(), whole)
}

fn plain_run(layer: &Path) -> (f64, f64) {
    let work = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/plain.sh");
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "sh"])
        .arg(script)
        .arg(layer)
        .arg(work.path())
        .run()
        .unwrap();
    Tree::named("plain-bench").kill_and_remove(Duration::from_secs(5), || ()).unwrap();
    for folder in Tree::named("lxc.pivot").folders() {
        let _ = std::fs::remove_dir(folder); // what the plain script leaves; busy where another container uses it
    }
    let text = output.text();
    let mut nanoseconds = text.split(' ').map(|word| word.parse::<f64>().unwrap() / 1e6);
    (nanoseconds.next().unwrap(), nanoseconds.next().unwrap())
}

fn layer() -> PathBuf {
    let text = std::fs::read_to_string(selftest().join("target/e2e/latest/run.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    Path::new("/var/lib/mancer-e2e/layers").join(record["layers"]["mini"].as_str().unwrap()).join("root")
}

/// Measures running a program in a container, first through the SDK, then by `lxc-attach`; returns both series of durations in
/// milliseconds, in this order.
fn execs() -> (Vec<f64>, Vec<f64>) {
    let (mut engine, mut attach) = (Vec::new(), Vec::new());
    e2e(&["exec_round_trip", "--keep-containers=always"]).run().unwrap();
    let folder = selftest().join("target/e2e/latest/smoke/exec_round_trip/performance.json");
    let performance: Value = serde_json::from_str(&std::fs::read_to_string(folder).unwrap()).unwrap();
    let samples = performance["operations"]["exec"]["samples"].as_array().unwrap();
    engine.extend(samples.iter().map(|sample| sample["wall_ms"].as_f64().unwrap()));
    for _ in 0..EXECS {
        let begun = Instant::now();
        let name = format!("e2e-selftest-{SLOT}-a");
        Command::new("lxc-attach")
            .args(["--quiet", "-n", &name, "--clear-env", "--", "/bin/true"])
            .dir("/")
            .run()
            .unwrap();
        attach.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Command::new(programs().join("xtask")).args(["clean", "--slot", SLOT]).run().unwrap();
    (engine, attach)
}

fn compare(what: &str, engine: &[f64], plain: &[f64]) {
    let (ours, theirs) = (Spread::of(engine), Spread::of(plain));
    println!("{what}");
    println!("    engine {ours}");
    println!("    plain  {theirs}");
    println!("    ratio of the medians {:.2}", ours.median / theirs.median);
}

struct Spread {
    low: f64,
    median: f64,
    high: f64,
    count: usize,
}

impl Spread {
    fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: usize| sorted[(sorted.len() - 1) * part / 100];
        Self { low: at(10), median: at(50), high: at(90), count: sorted.len() }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "median {:.1} ms, 10 % {:.1}, 90 % {:.1}, n = {}", self.median, self.low, self.high, self.count)
    }
}
