//! A suite on several machines: split into shards, run apart, joined again. Here the machines are the same one.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::common::{Host, e2e, engine, events, record, said, selftest};
use xtask::host::exec::shell::Output;

/// Filter of the suite that is split: five cases.
const SUITE: &str = "tag:smoke";

/// Runs a shard, whose own exit code does not matter here; the answer is the folder of its record.
fn run_shard(filters: &[&str], shard: &str) -> PathBuf {
    let project = selftest();
    let output = e2e(&project, &[filters, &["--shard", shard]].concat()).output().unwrap();
    assert!([0, 1].contains(&output.status), "{}", said(&output));
    project.join("target/e2e/latest").canonicalize().unwrap()
}

fn merge(folders: &[&PathBuf]) -> Output {
    let words = folders.iter().map(|folder| folder.display().to_string());
    let words: Vec<String> = ["merge".to_owned()].into_iter().chain(words).collect();
    engine().args(words).dir(selftest()).deadline(Duration::from_secs(60)).output().unwrap()
}

fn cases(record: &Value, verdict: &str) -> Vec<String> {
    let of_verdict = record["cases"].as_array().unwrap().iter().filter(|case| case["verdict"] == verdict);
    of_verdict.map(|case| case["case"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn shards_are_the_suite_once_and_become_one_report() {
    let _host = Host::take();
    let project = selftest();
    // One more that fails, with values of its own.
    let filters = [SUITE, "misbehaves:check_fails"];
    let (first, second) = (run_shard(&filters, "1/2"), run_shard(&filters, "2/2"));

    let output = merge(&[&second, &first]);
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("5 passed, 1 failed"), "{}", said(&output));
    let joined = record(&project);
    assert_eq!(cases(&joined, "failed"), ["smoke/misbehaves:check_fails"]);
    let command: Vec<&str> = joined["command"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(!command.contains(&"--shard") && !command.contains(&"2/2") && command.contains(&SUITE), "{command:?}");
    assert_eq!(joined["exit_code"], 1);

    let run = project.join("target/e2e/latest").canonicalize().unwrap();
    assert!(run != first && run != second);
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for text in ["smoke&#x2f;three_machines", "smoke&#x2f;programs", "rows = 19999"] {
        assert!(page.contains(text), "{text} is not on the page");
    }
    for file in ["junit.xml", "summary.md", "e2e_test.log", "smoke/three_machines/containers/a/lxc.log"] {
        assert!(run.join(file).is_file(), "{file} is missing");
    }

    // One clock: events in order, one begin and one end, and the later shard's samples in their place.
    let all = events(&project);
    let at_ms: Vec<f64> = all.iter().map(|event| event["at_ms"].as_f64().unwrap()).collect();
    assert!(at_ms.is_sorted());
    let of_kind = |kind: &str| all.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((of_kind("run_started"), of_kind("run_ended"), of_kind("case_ended")), (1, 1, 6));
    let ready =
        all.iter().find(|event| event["event"] == "lab_ready" && event["case"] == "smoke/three_machines:default");
    let performance = std::fs::read_to_string(run.join("smoke/three_machines/performance.json")).unwrap();
    let performance: Value = serde_json::from_str(&performance).unwrap();
    let begun_ms = performance["operations"]["page"]["samples"][0]["begun_ms"].as_f64().unwrap();
    let ready_ms = ready.unwrap()["at_ms"].as_f64().unwrap();
    assert!((0.0..30_000.0).contains(&(begun_ms - ready_ms)), "{begun_ms} after {ready_ms}");

    // The joined run is one like any other: what failed in it can be run again.
    let output = e2e(&project, &["--rerun-failed"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert_eq!(record(&project)["cases"].as_array().unwrap().len(), 1);
}

#[test]
fn a_missing_shard_fails_and_a_doubled_one_is_refused() {
    let _host = Host::take();
    let project = selftest();
    let (first, third) = (run_shard(&[SUITE], "1/3"), run_shard(&[SUITE], "3/3"));
    let output = merge(&[&first, &third]);
    assert_eq!(output.status, 3, "{}", said(&output));
    let joined = record(&project);
    let (passed, skipped) = (cases(&joined, "passed"), cases(&joined, "skipped"));
    assert_eq!(passed.len() + skipped.len(), 5);
    assert!(!skipped.is_empty());
    assert!(said(&output).contains("shard 2/3 is missing"), "{}", said(&output));

    let again = run_shard(&[SUITE], "1/3");
    let output = merge(&[&first, &third, &again]);
    assert_eq!(output.status, 2, "{}", said(&output));
    assert!(said(&output).contains("are both shard 1/3"), "{}", said(&output));

    let other = run_shard(&["three_machines", "programs"], "2/2");
    let output = merge(&[&first, &other]);
    assert_eq!(output.status, 2, "{}", said(&output));
    assert!(said(&output).contains("shards of different suites"), "{}", said(&output));
    let whole = e2e(&project, &["three_machines"]).output().unwrap();
    assert_eq!(whole.status, 0, "{}", said(&whole));
    let output = merge(&[&project.join("target/e2e/latest")]);
    assert!(said(&output).contains("it was not run with --shard K/N"), "{}", said(&output));
}

#[test]
fn durations_are_recorded_from_a_plain_run() {
    let _host = Host::take();
    let project = selftest();
    let file = project.join("scenarios/durations.toml");
    let output = e2e(&project, &["three_machines"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let runs = |args: &[&str]| {
        let command = engine().args(["runs"]).args(args.iter().copied());
        command.dir(&project).deadline(Duration::from_secs(60)).output().unwrap()
    };
    let output = runs(&["durations", "latest"]);
    let text = std::fs::read_to_string(&file);
    std::fs::remove_file(&file).ok(); // it is no file of the self-test's
    assert!(said(&output).contains("1 cases recorded"), "{}", said(&output));
    assert!(text.unwrap().contains("\"smoke/three_machines:default\" = "));
}
