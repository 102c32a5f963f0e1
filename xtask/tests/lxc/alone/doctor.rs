//! `doctor` and `setup` as a user calls them, on the machine of the test.

use std::time::Duration;

use xtask::host::shell::{Command, Output};

use crate::common::{Host, engine};

fn xtask(args: &[&str]) -> Command {
    let deadline = Duration::from_secs(90);
    engine().args(args).env_remove("IN_NIX_SHELL").deadline(deadline)
}

/// Name and status of each finding, and the exit code that they lead to.
fn findings(output: &Output) -> (Vec<serde_json::Value>, i32) {
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON");
    assert_eq!(document["format_version"], 1);
    let findings = document["findings"].as_array().expect("a list of findings").clone();
    let has_failed = findings.iter().any(|finding| finding["status"] == "failure");
    (findings, if has_failed { 3 } else { 0 })
}

#[test]
fn doctor_answers_with_an_empty_path_and_its_exit_code_is_what_it_found() {
    let _host = Host::alone();
    let empty = tempfile::tempdir().unwrap();
    let output = xtask(&["doctor", "--format", "json"]).env("PATH", empty.path()).output().unwrap();
    let (findings, expected) = findings(&output);
    assert_eq!(output.status, expected);
    for finding in &findings {
        assert_eq!(finding["status"] == "ok", finding["cure"].is_null(), "{finding}");
    }
    let groups: Vec<_> = findings.iter().map(|finding| finding["group"].as_str().unwrap()).collect();
    for group in ["machine", "containers", "network", "permission", "resources", "optional"] {
        assert!(groups.contains(&group), "no check about {group}");
    }
}

#[test]
fn setup_without_a_terminal_never_asks() {
    let _host = Host::alone();
    let output = xtask(&["setup"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    match output.status {
        0 => assert!(output.stdout.starts_with(b"nothing to install"), "{said}"),
        2 => assert!(said.contains("cargo xtask setup --yes"), "{said}"),
        3 => assert!(said.contains("cure: "), "{said}"),
        status => panic!("status {status}: {said}"),
    }
}
