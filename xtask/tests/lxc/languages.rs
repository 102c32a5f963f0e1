//! Scenarios that are no binaries of Cargo's: how they end, and what a command that cannot be run says.

use std::collections::BTreeMap;
use std::path::Path;

use super::common::{Host, e2e, project_with_template, record, said, selftest};

const MINI: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";

#[test]
fn a_scenario_in_python_fails_in_ways_that_are_told_apart() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["python_misbehaves"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let causes: BTreeMap<String, String> = record(&project)["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let cause = &case["attempts"][0]["cause"];
            let case = case["case"].as_str().unwrap().trim_start_matches("smoke/python_misbehaves:");
            (case.to_owned(), cause["cause"].as_str().unwrap_or("none").to_owned())
        })
        .collect();
    let expected = [
        ("check_fails", "check"),
        ("error", "error"),
        ("exception", "panic"),
        ("exception_in_a_thread", "panic"),
        ("exit_7", "exit_status"),
    ];
    assert_eq!(causes, BTreeMap::from(expected.map(|(case, cause)| (case.to_owned(), cause.to_owned()))));
    let main = std::fs::read_to_string(project.join("scenarios/smoke/python_misbehaves/main.py")).unwrap();
    let line = main.lines().position(|line| line.contains("lab.check_equal(")).unwrap() + 1;
    for part in [
        &format!(
            "every row was loaded: rows == 20_000 [rows = 19999] at scenarios/smoke/python_misbehaves/main.py:{line}"
        ),
        "stderr: no such table",
        "exception: KeyError: 'no such key' at scenarios/smoke/python_misbehaves/main.py:",
    ] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
}

#[test]
fn a_scenario_in_python_tolerates_faults_and_is_held_to_what_it_says_of_them() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["python_chaos", "--chaos", "--seed", "1"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let history = std::fs::read_to_string(project.join("target/e2e/latest/smoke/python_chaos/tolerates/history.jsonl"));
    let history = history.unwrap();
    let begun = history.lines().filter(|line| line.contains(r#""phase":"invoke""#)).count();
    assert!(begun > 3 && history.lines().count() == 2 * begun, "each operation has one end: {history}");

    let output = e2e(&project, &["python_chaos:does_not_hold", "--chaos", "--seed", "1"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let main = std::fs::read_to_string(project.join("scenarios/smoke/python_chaos/main.py")).unwrap();
    let line = main.lines().position(|line| line.contains("chaos.always(")).unwrap() + 1;
    let expected = format!("what b serves is its page at scenarios/smoke/python_chaos/main.py:{line}");
    assert!(said(&output).contains(&expected), "{}", said(&output));
}

#[test]
fn a_command_that_cannot_be_run_names_the_file_and_touches_nothing() {
    let host = Host::take();
    let project = project_with_template(MINI);
    let check = |command: &str, status: i32, parts: &[&str]| {
        let text = format!("description = \"x\"\ncommand = {command}\n[containers.a]\ntemplate = \"odd\"\n");
        let path = project.path().join("scenarios/smoke/never_connects/scenario.toml");
        std::fs::write(&path, text).unwrap();
        let output = e2e(project.path(), &[]).output().unwrap();
        assert_eq!(output.status, status, "{}", said(&output));
        for part in parts {
            assert!(said(&output).contains(part), "{part}: {}", said(&output));
        }
    };
    check("['no-such-program-here']", 3, &["never_connects/scenario.toml", "which is not in PATH", "help:"]);
    check("['./main.sh']", 2, &["never_connects/scenario.toml:2:12", "main.sh", "No such file"]);
    assert!(!project.path().join("target").exists(), "the run has begun");
    assert!(host.leftovers().is_empty());
    check("['sh', '-c', 'pwd; exit 3']", 1, &["ended with status 3", &folder_line(project.path())]);
}

/// Returns what `pwd` in the scenario's folder shows.
fn folder_line(project: &Path) -> String {
    project.join("scenarios/smoke/never_connects").display().to_string()
}
