//! `doctor` and `setup` as a user calls them, on the machine of the test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::host::exec::shell::{Command, Output};

use crate::common::{Host, engine};

fn xtask(args: &[&str]) -> Command {
    let deadline = Duration::from_secs(90);
    engine().args(args).env_remove("IN_NIX_SHELL").deadline(deadline)
}

/// Name and status of each finding, and the exit code that they lead to.
fn findings(output: &Output) -> (Vec<serde_json::Value>, i32) {
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("stdout is JSON");
    assert_eq!(document["format_version"], 2);
    let findings = document["findings"].as_array().expect("a list of findings").clone();
    let has_failed = findings.iter().any(|finding| finding["status"] == "failure");
    (findings, if has_failed { 3 } else { 0 })
}

/// The folder of the slot of doctor's own lab.
const SLOT_DIR: &str = "/run/mancer-e2e/doctor";

/// The finding about the lab.
fn lab(output: &Output) -> serde_json::Value {
    let (findings, _) = findings(output);
    findings.into_iter().find(|finding| finding["check"] == "lab").expect("doctor speaks of a lab")
}

fn expect_a_good_lab() {
    let output = xtask(&["doctor", "--format", "json"]).output().unwrap();
    let lab = lab(&output);
    assert_eq!((&lab["status"], &lab["group"]), (&"ok".into(), &"lab".into()), "{lab}");
    assert!(lab["seen"].as_str().unwrap().starts_with("made, used and taken down within "), "{lab}");
}

#[test]
fn doctor_makes_a_lab_of_its_own_and_leaves_nothing_of_it() {
    let host = Host::alone();
    expect_a_good_lab();
    assert_eq!(host.leftovers(), Vec::<String>::new());
    assert!(!Path::new("/var/log/lxc/mancer-e2e-doctor").exists(), "the logs go with a lab that nobody asked for");
}

#[test]
fn an_ordinary_users_doctor_says_how_to_have_the_lab() {
    let _host = Host::alone();
    let output = xtask(&["doctor", "--format", "json"]).user(65534, 65534).dir("/").output().unwrap();
    let lab = lab(&output);
    assert_eq!(lab["status"], "warning", "{lab}");
    assert!(lab["seen"].as_str().unwrap().starts_with("skipped: "), "{lab}");
    assert_eq!(lab["help"], "cargo xtask doctor --as-root");
}

#[test]
fn doctor_shows_lxcs_own_error_where_no_lab_starts() {
    let host = Host::alone();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("lxc-start");
    let said = "lxc-start: x: cgfsng.c: 3832 Not a directory - Failed to initialize cgroups";
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] && exec echo 5.0.2\necho '{said}' >&2\nexit 1\n");
    fs::write(&broken, script).unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = xtask(&["doctor", "--format", "json"]).env("PATH", &path).output().unwrap();
    let lab = lab(&output);
    assert_eq!((lab["status"].as_str(), output.status), (Some("failure"), 3), "{lab}");
    assert!(lab["seen"].as_str().unwrap().contains(said), "{lab}");
    let text = xtask(&["doctor"]).env("PATH", &path).output().unwrap().text();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(said), "{text}");
    host.expect_clean_within(Duration::from_secs(2));
}

#[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test kills it")]
fn doctor_in_background() -> Child {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["doctor", "--format", "json"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A doctor that has begun to make its lab, and the number of the lab's guard.
fn doctor_amid_its_lab() -> (Child, i32) {
    let mut doctor = doctor_in_background();
    let begun = Instant::now();
    loop {
        let ledger = fs::read_to_string(format!("{SLOT_DIR}/ledger.jsonl")).unwrap_or_default();
        let owner = fs::read(format!("{SLOT_DIR}/owner.json")).unwrap_or_default();
        let owner: serde_json::Value = serde_json::from_slice(&owner).unwrap_or_default();
        if let (true, Some(guard)) =
            (ledger.contains("overlay") || ledger.contains("unmount"), owner["guard_pid"].as_i64())
        {
            return (doctor, guard.try_into().unwrap());
        }
        let ended = doctor.try_wait().unwrap();
        assert!(ended.is_none() && begun.elapsed() < Duration::from_secs(60), "no lab was seen: {ended:?}");
        std::thread::sleep(Duration::from_millis(1)); // a file has no sign that it has grown
    }
}

#[test]
fn a_doctor_that_is_killed_leaves_nothing() {
    let host = Host::alone();
    let (mut doctor, _) = doctor_amid_its_lab();
    doctor.kill().unwrap();
    doctor.wait().unwrap();
    host.expect_clean_within(Duration::from_secs(5));
    let (mut doctor, guard) = doctor_amid_its_lab();
    // The guard cannot be a moment quicker than the second signal: it is stopped first.
    kill(Pid::from_raw(guard), Signal::SIGSTOP).unwrap();
    doctor.kill().unwrap();
    kill(Pid::from_raw(guard), Signal::SIGKILL).unwrap();
    doctor.wait().unwrap();
    expect_a_good_lab();
    host.expect_clean_within(Duration::from_secs(5));
}

#[test]
fn doctor_answers_with_an_empty_path_and_its_exit_code_is_what_it_found() {
    let _host = Host::alone();
    let empty = tempfile::tempdir().unwrap();
    let output = xtask(&["doctor", "--format", "json"]).env("PATH", empty.path()).output().unwrap();
    let (findings, expected) = findings(&output);
    assert_eq!(output.status, expected);
    for finding in &findings {
        assert_eq!(finding["status"] == "ok", finding["help"].is_null(), "{finding}");
    }
    let groups: Vec<_> = findings.iter().map(|finding| finding["group"].as_str().unwrap()).collect();
    for group in ["machine", "containers", "network", "permission", "resources", "optional", "lab"] {
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
        3 => assert!(said.contains("help: "), "{said}"),
        status => panic!("status {status}: {said}"),
    }
}

/// Shows two files in place of the machine's, in a mount namespace that ends with the engine.
const OWN_IDS: &str = "mount --bind \"$1\" /etc/subuid && mount --bind \"$2\" /etc/subgid && shift 2 && exec \"$@\"";

#[test]
fn setup_registers_the_ids_of_labs_once_and_labs_work_with_the_line() {
    let _host = Host::alone();
    let folder = tempfile::tempdir().unwrap();
    let files = ["subuid", "subgid"].map(|name| folder.path().join(name));
    let before = "alice:100000:65536\nroot:1000000:1000000000";
    for file in &files {
        fs::write(file, before).unwrap();
    }
    let here = |args: &[&str]| {
        let shell = ["--mount", "--propagation", "private", "sh", "-c", OWN_IDS, "own-ids"];
        let command = Command::new("unshare").args(shell).args(&files).arg(env!("CARGO_BIN_EXE_xtask")).args(args);
        command.env_remove("IN_NIX_SHELL").deadline(Duration::from_secs(120)).output().unwrap()
    };
    let finding = |output: &Output, check: &str| {
        findings(output).0.into_iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check}"))
    };
    let unregistered = here(&["doctor", "--format", "json"]);
    for check in ["subuid", "subgid"] {
        let found = finding(&unregistered, check);
        assert_eq!((found["status"].as_str(), found["help"].as_str()), (Some("warning"), Some("cargo xtask setup")));
    }
    let done = here(&["setup", "--yes"]);
    let said = format!("{}{}", done.text(), String::from_utf8_lossy(&done.stderr));
    assert!(done.status == 0 && said.contains("mancer-e2e:1879048192:16777216 >>/etc/subuid"), "{said}");
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        assert_eq!(text, format!("{before}\nmancer-e2e:1879048192:16777216\n"));
    }
    let registered = here(&["doctor", "--format", "json"]);
    for check in ["subuid", "subgid", "ids", "lab"] {
        assert_eq!(finding(&registered, check)["status"], "ok", "{check}");
    }
    let again = here(&["setup", "--yes"]);
    assert!(!String::from_utf8_lossy(&again.stderr).contains(">>/etc/sub"), "{}", again.text());
    // Somebody else is given some of them.
    fs::write(&files[0], "bob:1879100000:65536\n").unwrap();
    let claimed = finding(&here(&["doctor", "--format", "json"]), "ids");
    assert!(claimed["seen"].as_str().unwrap().contains("gives bob 1879100000-1879165535"), "{claimed}");
    assert_eq!(claimed["help"], "ids = { first = 1895825408 } in e2e.toml");
}
