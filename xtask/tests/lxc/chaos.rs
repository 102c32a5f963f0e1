//! Runs with faults: drawn from a seed, played, owed, replayed and made smaller.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use xtask::host::exec::shell::Output;

use super::common::{Host, binaries, e2e, engine, events, record, said, selftest, slot};

/// The file of a case in the last run.
fn chaos_file(project: &Path, case: &str) -> PathBuf {
    project.join("target/e2e/latest/smoke/chaos").join(case).join("chaos.json")
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn run(args: &[&str], status: i32, part: &str) -> Output {
    let output = e2e(&selftest(), args).output().unwrap();
    assert_eq!(output.status, status, "{args:?}: {}", said(&output));
    assert!(said(&output).contains(part), "{args:?}: {part}: {}", said(&output));
    output
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap()
}

#[test]
fn a_seed_and_a_replay_play_the_same_schedule() {
    let _host = Host::take();
    let project = selftest();
    let mut schedules = Vec::new();
    let seeded = ["chaos", "--chaos", "--seed", "11"];
    for args in [&seeded[..], &seeded[..], &["chaos", "--chaos-replay", "latest"]] {
        run(args, 0, "settled after");
        let file = read(&chaos_file(&project, "tolerates"));
        let bit = file["played"].as_array().unwrap().iter().filter(|one| one["fate"] == "bit").count();
        assert!(bit > 0, "{file:#}");
        assert_eq!(record(&project)["cases"][0]["attempts"][0]["faults"]["bit"], bit, "the record counts them");
        schedules.push(file["schedule"].clone());
    }
    assert!(schedules.iter().all(|schedule| *schedule == schedules[0]), "{schedules:#?}");
    let shown = e2e(&project, &["chaos:tolerates", "--chaos", "--seed", "11", "--dry-run"]).output().unwrap();
    for planned in schedules[0]["faults"].as_array().unwrap() {
        let line =
            format!("break {} from {:.1} s on", planned["container"].as_str().unwrap(), number(planned, "at_ms") / 1e3);
        assert!(said(&shown).contains(&line), "{line}\n{}", said(&shown));
    }
    let events = events(&project);
    let of_schedule = |event: &&Value| event["event"] == "fault_injected" && event["scheduled"].is_u64();
    assert!(events.iter().any(|event| of_schedule(&event)), "events say which faults are the schedule's");
    assert!(events.iter().any(|event| event["event"] == "invariant" && event["kind"] == "always"));
    let history = fs::read_to_string(project.join("target/e2e/latest/smoke/chaos/tolerates/history.jsonl")).unwrap();
    let lines: Vec<Value> = history.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let begun = lines.iter().filter(|line| line["phase"] == "invoke").count();
    assert!(begun > 0 && lines.len() == 2 * begun, "each operation has a begin and an end");
}

#[test]
fn what_a_run_with_faults_owes_is_missed() {
    let _host = Host::take();
    let with = |case: &str| format!("chaos:{case}");
    for (case, part) in [
        ("never_begins", "but the scenario never started them with `lab.chaos`"),
        ("ends_amid_faults", "the scenario ended before its faults were healed"),
        ("never_comes_true", "never came true while faults were played: a page was read"),
        ("does_not_hold", "check failed: what b serves is its page"),
    ] {
        run(&[&with(case), "--chaos=node.kill", "--seed", "5"], 1, part);
    }
    run(&["chaos:never_comes_true"], 0, "1 passed");
    assert!(!chaos_file(&selftest(), "never_comes_true").exists(), "without --chaos there is none");
}

#[test]
fn a_failure_is_reduced_to_the_fault_that_matters() {
    let _host = Host::take();
    let project = selftest();
    let args = ["chaos:cannot_stand_a_kill", "--chaos=node.kill,disk.full,net.delay", "--seed", "3"];
    run(&args, 1, "b was never started again");
    let shrunk = engine()
        .args(["--root", &project.display().to_string(), "--format", "json", "shrink", "--slot", slot()])
        .args(["--times", "1", "--verify", "2", "--binaries", &binaries().display().to_string()])
        .dir(&project)
        .deadline(std::time::Duration::from_secs(300))
        .output()
        .unwrap();
    assert_eq!(shrunk.status, 0, "{}", said(&shrunk));
    let answer: Value = serde_json::from_slice(&shrunk.stdout).unwrap();
    let faults = answer["schedule"]["faults"].as_array().unwrap();
    assert!(faults.len() == 1 && faults[0]["fault"]["name"] == "node.kill", "{answer:#}");
    assert_eq!((&answer["failed"], &answer["of"]), (&json!(2), &json!(2)));
    run(
        &["chaos:cannot_stand_a_kill", "--chaos-replay", answer["file"].as_str().unwrap()],
        1,
        "b was never started again",
    );
}

#[test]
fn bad_schedules_and_profiles_are_refused_with_place_and_help() {
    let _host = Host::take();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chaos.json");
    let schedule = |version: u32, container: &str| {
        json!({ "format_version": version, "case": "smoke/chaos:tolerates", "profile": "x", "length_ms": 1000, "faults": [
            { "number": 1, "at_ms": 0, "duration_ms": 10, "container": container, "fault": { "name": "node.kill" } }
        ]})
    };
    let replay = ["chaos", "--chaos-replay", &path.display().to_string()].map(str::to_owned);
    let replay: Vec<&str> = replay.iter().map(String::as_str).collect();
    for (text, part) in [
        ("{}".to_owned(), "this is no schedule"),
        ("{\n  x".to_owned(), "chaos.json:2:3: key must be a string"),
        (schedule(7, "b").to_string(), "the schedule has version 7, and this engine plays version 1"),
        (schedule(1, "z").to_string(), "fault 1 is for the container z, which smoke/chaos does not have: it has a, b"),
        (schedule(1, "b").to_string().replace("node.kill", "node.kil"), "unknown variant `node.kil`"),
        (schedule(1, "b").to_string().replace("tolerates", "tolerate"), "which this project does not have"),
    ] {
        fs::write(&path, text).unwrap();
        run(&replay, 2, part);
    }
    run(&["chaos", "--chaos-replay", "no-such-run"], 2, "no-such-run is no run");
    // What lies below a folder that is no run's is somebody else's.
    let above = tempfile::tempdir().unwrap();
    fs::create_dir_all(above.path().join("stranger")).unwrap();
    fs::write(above.path().join("stranger/chaos.json"), "{").unwrap();
    run(&["chaos", "--chaos-replay", &above.path().display().to_string()], 2, "is no run's folder");
    run(&["chaos", "--chaos=nett"], 2, "did you mean \"net\"?");
    run(&["chaos", "--chaos=cpu"], 2, "no fault is possible in this run");
    run(&["three_machines", "--chaos"], 2, "its scenario.toml has no [chaos]");
    run(&["chaos", "--seed", "1"], 2, "--chaos");
}
