//! The command line as a user types it: what is set where, and what is said of it. Needs no root and no container.

#![expect(clippy::unwrap_used, reason = "tests: clippy takes their helpers for ordinary code")]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::cli::Cli;
use xtask::host::shell::{Command, Output};

/// Deadline for one answer.
const DEADLINE: Duration = Duration::from_secs(90);

/// The engine in a folder, without what the environment of the test has set.
fn xtask(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).dir(folder);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("E2E_")) {
        command = command.env_remove(name);
    }
    command
}

fn project(e2e_toml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["containers", "scenarios"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("e2e.toml"), e2e_toml).unwrap();
    folder
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns a setting as `config show` has it.
fn setting(command: &Command, name: &str) -> Value {
    let output = command.output().unwrap();
    assert_eq!(output.status, 0, "{}", stderr(&output));
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["format_version"], 1);
    let settings = shown["settings"].as_array().unwrap();
    settings.iter().find(|setting| setting["name"] == name).unwrap().clone()
}

#[test]
fn each_setting_says_where_it_came_from() {
    let folder = project("name = 'x'\ntimeout = '2m'\n[defaults]\nretries = 1\nprogress = 'plain'\n");
    let show = |more: &[&str]| xtask(folder.path(), &[&["config", "show", "--format", "json"], more].concat());
    let of_file = |line: u32| json!({ "kind": "file", "path": "e2e.toml", "line": line });
    let expected = json!({ "name": "retries", "value": 1, "origin": of_file(4) });
    assert_eq!(setting(&show(&[]), "retries"), expected);
    assert_eq!(setting(&show(&[]), "timeout")["origin"], of_file(2));
    assert_eq!(setting(&show(&[]), "progress")["origin"], of_file(5));
    assert_eq!(setting(&show(&[]), "max_fail")["origin"], json!({ "kind": "built_in" }));
    let in_environment = show(&[]).env("E2E_RETRIES", "2").env("E2E_COLOR", "never");
    let expected = json!({ "name": "retries", "value": 2,
                           "origin": { "kind": "environment", "variable": "E2E_RETRIES" } });
    assert_eq!(setting(&in_environment, "retries"), expected);
    assert_eq!(setting(&in_environment, "color")["value"], "never");
    let flagged = show(&["--retries", "0", "--progress", "auto"]).env("E2E_RETRIES", "2").env("E2E_PROGRESS", "live");
    let expected = json!({ "name": "retries", "value": 0, "origin": { "kind": "flag", "flag": "--retries" } });
    assert_eq!(setting(&flagged, "retries"), expected);
    assert_eq!(setting(&flagged, "progress")["origin"], json!({ "kind": "flag", "flag": "--progress" }));
}

#[test]
fn live_lines_as_a_default_are_plain_ones_without_a_terminal() {
    let folder = project("name = 'x'\n[defaults]\nprogress = 'live'\n");
    assert_eq!(xtask(folder.path(), &["runs"]).output().unwrap().status, 0);
    let asked = xtask(folder.path(), &["runs", "--progress", "live"]).output().unwrap();
    assert!(
        asked.status == 2 && stderr(&asked).contains("--progress live: stderr is no terminal"),
        "{}",
        stderr(&asked)
    );
}

#[test]
fn the_table_for_people_names_every_place() {
    let folder = project("name = 'x'\n[defaults]\nretries = 1\n");
    let command = xtask(folder.path(), &["config", "show", "--max-fail", "3"]);
    let output = command.env("E2E_SLOT", "7").env("E2E_RETRY", "7").env("E2E_STATE_DIR", "").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("retries"), "retries 1 e2e.toml:3");
    assert_eq!(line("max_fail"), "max_fail 3 flag --max-fail");
    assert_eq!(line("state_dir"), "state_dir /var/lib/mancer-e2e built in", "an empty variable sets nothing");
    assert_eq!(line("slot"), "slot 7 environment variable E2E_SLOT");
    assert_eq!(line("timeout"), "timeout 5m built in; a scenario's own comes first");
    assert_eq!(line("E2E_RETRY"), "E2E_RETRY is in the environment, and sets nothing: did you mean E2E_RETRIES?");
}

#[test]
fn what_is_wrong_is_named_with_its_place_whatever_the_verb() {
    let refused = |command: &Command, expected: &str| {
        let output = command.output().unwrap();
        assert_eq!(output.status, 2, "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    let bad = project("name = 'x'\n[defaults]\nretries = 'often'\n");
    refused(&xtask(bad.path(), &["e2e", "--list"]), "e2e.toml:3:11: \"often\" is not a number");
    refused(&xtask(bad.path(), &["runs"]), "e2e.toml:3:11: \"often\" is not a number");
    let good = project("name = 'x'\n");
    refused(
        &xtask(good.path(), &["runs"]).env("E2E_TTL", "soon"),
        "the environment variable E2E_TTL: \"soon\" is not a duration from \"1s\" to \"1year\", or \"never\"; write another value, or \
         unset it",
    );
    refused(&xtask(good.path(), &["e2e", "--keep-containers=sometimes"]), "--keep-containers");
    refused(&xtask(good.path(), &["e2e", "--list", "--timeout", "5"]), "to \"1day\"; write \"5s\"");
    refused(&xtask(good.path(), &["exec", "counter", "ls"]), "put `--` before the program and its arguments: -- ls");
    refused(&xtask(good.path(), &["fault", "heal"]), "<FAULT|--all>");
    refused(&xtask(good.path(), &["fault", "heal", "1", "--all"]), "cannot be used with");
    refused(&xtask(good.path(), &["e2e", "--list", "--ttl", "2h"]), "--ttl has an effect only on a kept lab");
    refused(
        &xtask(good.path(), &["e2e", "--list", "--baseline-missing", "allow"]),
        "has an effect only with --baseline-compare",
    );
}

#[test]
fn what_is_out_of_its_range_is_refused_with_the_range() {
    let project = project("name = 'x'\n");
    let refused = |args: &[&str], variable: Option<(&str, &str)>, expected: &str| {
        let mut command = xtask(project.path(), args).deadline(DEADLINE);
        if let Some((name, value)) = variable {
            command = command.env(name, value);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status, 2, "{args:?} {variable:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?} {variable:?}: {}", stderr(&output));
    };
    let case_time = "a duration from \"100ms\" to \"1day\"";
    let kept_time = "a duration from \"1s\" to \"1year\", or \"never\"";
    for (args, expected) in [
        (&["e2e", "--timeout", "0s"][..], case_time),
        (&["e2e", "--timeout", "99999999999999999999h"], case_time),
        (&["e2e", "--retries=-1"], "a whole number from 0 to 100"),
        (&["e2e", "--retries", "101"], "a whole number from 0 to 100"),
        (&["e2e", "--max-fail", "0"], "a whole number from 1 to 1000000, or \"off\""),
        (&["e2e", "--slot", "0"], "a whole number from 1 to 99"),
        (&["e2e", "--performance-monitoring=51"], "a whole number from 1 to 50, or \"off\""),
        (&["e2e", "--patience", "nan"], "a number from 0.1 to 100, or \"auto\""),
        (&["e2e", "--repeat", "0"], "1..=10000"),
        (&["e2e", "--repeat", "10001"], "1..=10000"),
        (&["e2e", "--pairs", "19"], "20..=1000"),
        (&["e2e", "--shard", "2/1001"], "N at most 1000"),
        (&["e2e", "--seed=-1", "--chaos"], "invalid digit"),
        (&["e2e", "--ttl", "0s"], kept_time),
        (&["up", "mini", "--ttl", "2years"], kept_time),
        (&["ttl", "0s"], kept_time),
        (&["ttl", "2h", "--slot", "../x"], "is not a slot: a whole number from 1 to 99"),
        (&["down", "--slot", "100"], "is not a slot: a whole number from 1 to 99"),
        (&["shell", "app", "--slot", ""], "is not a slot: a whole number from 1 to 99"),
        (&["pcap", "app", "--for", "0s"], "a duration from \"100ms\" to \"1day\""),
        (&["pcap", "app", "--count", "0"], "1..=1000000000"),
        (&["forward", "app:65536"], "a port from 1 to 65535"),
        (&["forward", "app:0"], "a port from 1 to 65535"),
        (&["forward", "app:80", "--port", "0"], "1..=65535"),
        (&["baseline-update", "--samples", "29"], "30..=1000"),
        (&["baseline-update", "--over", "2h"], "a duration from \"1s\" to \"1h\""),
        (&["runs", "prune", "--older", "0s"], "a duration from \"1s\" to \"10years\""),
        (&["runs", "prune", "--keep", "1000001"], "0..=1000000"),
        (&["shrink", "--times", "0"], "1..=100"),
        (&["judge-check", "--live", "--duets", "0"], "1..=10000"),
        (&["logs", "--since=-1h"], "write a duration (90s"),
        (&["test", "--jobs", "0"], "1..=256"),
    ] {
        refused(args, None, expected);
    }
    for (variable, expected) in [
        (("E2E_TIMEOUT", "25h"), case_time),
        (("E2E_RETRIES", "-1"), "a whole number from 0 to 100"),
        (("E2E_MAX_FAIL", "1000001"), "a whole number from 1 to 1000000, or \"off\""),
        (("E2E_SLOT", "1.5"), "a whole number from 1 to 99"),
        (("E2E_PERFORMANCE_MONITORING", "inf"), "a whole number from 1 to 50, or \"off\""),
        (("E2E_PATIENCE", "1e300"), "a number from 0.1 to 100, or \"auto\""),
        (("E2E_TTL", "-1h"), kept_time),
        (("E2E_KEEP_CONTAINERS", "yes"), "\"never\", \"failure\" or \"always\""),
        (("E2E_STATE_DIR", "state"), "is not an absolute path of up to 1024 bytes"),
        (("E2E_STATE_DIR", "/a b"), "is not an absolute path of up to 1024 bytes"),
        (("E2E_STATE_DIR", "/a/../b"), "is not an absolute path of up to 1024 bytes"),
    ] {
        refused(&["runs"], Some(variable), expected);
        let named = format!("the environment variable {}", variable.0);
        refused(&["runs"], Some(variable), &named);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_bad_usage_and_nothing_waits_for_it() {
    let project = project("name = 'x'\n");
    let at = |name: &str| project.path().join(name);
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let scenario = at("scenarios/cat/one");
    std::fs::create_dir_all(&scenario).unwrap();
    std::fs::create_dir_all(at("containers/mini")).unwrap();
    std::fs::write(at("containers/mini/template.toml"), "from = 'scratch'\ninit = ['/init']").unwrap();
    std::fs::write(scenario.join("scenario.toml"), "description = 'x'\n[containers.mini]").unwrap();
    let refused = |args: &[&str], expected: &str| {
        let output = xtask(project.path(), args).deadline(DEADLINE).output().unwrap();
        assert_eq!(output.status, 2, "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{args:?}: {}", stderr(&output));
    };
    let pipe = "pipe: it is a named pipe: a file is needed here";
    refused(&["e2e", "--dry-run", "--chaos-replay", "pipe"], pipe);
    refused(&["e2e", "--from-bundle", "pipe"], pipe);
    refused(&["judge-check", "pipe"], pipe);
    refused(&["e2e", "--dry-run", "--chaos-replay", "/dev/zero"], "/dev/zero: it is a device: a file is needed here");
    refused(&["e2e", "--list", "--set", "mini.x=pipe"], "installs no Python packages");
    std::fs::rename(at("pipe"), scenario.join("scenario.toml")).unwrap();
    refused(&["e2e", "--list"], "scenario.toml: it is a named pipe");
    std::fs::rename(scenario.join("scenario.toml"), at("e2e.toml")).unwrap();
    refused(&["config", "show"], "e2e.toml: it is a named pipe");
    std::fs::remove_file(at("e2e.toml")).unwrap();
    std::fs::write(at("e2e.toml"), "name = 'x'\n[paths]\ncontainers = 'none'").unwrap();
    refused(&["e2e", "--list"], "none: No such file or directory");
}

#[test]
fn a_schedule_out_of_its_ranges_is_refused_with_its_place() {
    let project = project("name = 'x'\n");
    let scenario = project.path().join("scenarios/cat/one");
    std::fs::create_dir_all(&scenario).unwrap();
    std::fs::create_dir_all(project.path().join("containers/mini")).unwrap();
    std::fs::write(project.path().join("containers/mini/template.toml"), "from = 'scratch'\ninit = ['/init']").unwrap();
    let text = "description = 'x'\n[containers.mini]\n[chaos]\n[[chaos.faults]]\nfault = 'net'";
    std::fs::write(scenario.join("scenario.toml"), text).unwrap();
    let replay = |length: &str, fault: &str, expected: &str| {
        let text = format!(
            "{{\"format_version\": 1, \"case\": \"cat/one:default\", \"profile\": \"default\",\n\"length_ms\": {length},\n\"faults\": [\n{fault}]}}\n"
        );
        std::fs::write(project.path().join("chaos.json"), text).unwrap();
        let args = ["e2e", "--dry-run", "--chaos-replay", "chaos.json"];
        let output = xtask(project.path(), &args).deadline(DEADLINE).output().unwrap();
        let status = if expected.is_empty() { 0 } else { 2 };
        assert_eq!(output.status, status, "{length} {fault}: {}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{length} {fault}: {}", stderr(&output));
    };
    let fault = |number: &str, at: &str, lasts: &str, percent: &str| {
        format!(
            "{{\"number\": {number}, \"at_ms\": {at}, \"duration_ms\": {lasts}, \"container\": \"mini\", \
             \"fault\": {{\"name\": \"net.loss\", \"percent\": {percent}}}}}"
        )
    };
    let good = fault("1", "0", "10", "5");
    replay("1000", &good, "");
    replay("0", &good, "chaos.json:2:14: 0 is not a whole number from 1 to 3600000");
    replay("86400000", &good, "chaos.json:2:21: 86400000 is not a whole number from 1 to 3600000");
    replay("1000", &fault("0", "0", "10", "5"), "chaos.json:4:12: 0 is not a whole number from 1 to 1000000");
    replay("1000", &fault("1", "-1", "10", "5"), "chaos.json:4:25: -1 is not a whole number from 0 to 3600000");
    replay("1000", &fault("1", "18446744073709551615", "10", "5"), "chaos.json:4:");
    replay("1000", &fault("1", "0", "0", "5"), "0 is not a whole number from 1 to 3600000");
    replay("1000", &fault("1", "0", "10", "101"), "percent: 101 is not a whole number from 1 to 100");
    replay("1000", &fault("1", "0", "10", "0"), "chaos.json:4:");
    replay("1000", &fault("1", "995", "10", "5"), "chaos.json:4:2: fault 1 ends at 1005 ms: `length_ms` is 1000");
    replay("1000", &format!("{good},\n{good}"), "chaos.json:5:2: there are two faults of number 1");
}

#[test]
fn a_default_that_a_comparison_cannot_have_is_passed_over() {
    let folder = project("name = 'x'\n[defaults]\nretries = 1\nkeep_containers = 'always'\n");
    let pairs = |more: &[&str]| {
        let args = [&["e2e", "--list", "--baseline-dir", "containers"], more].concat();
        xtask(folder.path(), &args).env("E2E_TTL", "2h").output().unwrap()
    };
    let output = pairs(&[]);
    assert_eq!(output.status, 0, "{}", stderr(&output));
    let output = pairs(&["--retries", "1"]);
    assert_eq!(output.status, 2);
    assert!(stderr(&output).contains("cannot be used with") && stderr(&output).contains("--retries"));
}

/// The engine under the name that it is installed by: a link, as it is elsewhere a copy.
fn installed(folder: &Path) -> PathBuf {
    let path = folder.join("mancer-e2e");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_xtask"), &path).unwrap();
    path
}

/// Returns all verbs, hidden ones too, with those below them.
fn verbs(command: &clap::Command, above: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![above.to_vec()];
    for verb in command.get_subcommands() {
        found.extend(verbs(verb, &[above, &[verb.get_name().to_owned()]].concat()));
    }
    found
}

#[test]
fn an_installed_program_says_its_own_name() {
    let folder = project("name = 'x'\n");
    let program = installed(folder.path());
    let said = |args: &[&str]| {
        let output = Command::new(&program).args(args).dir(folder.path()).deadline(DEADLINE).output().unwrap();
        (output.status, format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output)))
    };
    let mut examples = 0;
    for verb in verbs(&Cli::dressed(), &[]) {
        let (status, text) = said(&[&["help"], &verb.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
        assert!(status == 0 && text.contains("Usage: mancer-e2e"), "{verb:?}: {text}");
        assert!(!text.contains("cargo xtask"), "{verb:?}: {text}");
        examples += text.matches("\n  mancer-e2e ").count();
    }
    assert!(examples > 30, "only {examples} examples");
    let (status, text) = said(&["e2e", "no_such_scenario"]);
    assert_eq!(
        (status, text.as_str()),
        (2, "error: no scenario matches \"no_such_scenario\": `mancer-e2e e2e --list` shows them all\n")
    );
    let (_, text) = said(&["no-such-verb"]);
    assert!(text.contains("Usage: mancer-e2e") && !text.contains("cargo xtask"), "{text}");
    let (_, text) = said(&["e2e", "--chaos=nothing_of_that_name"]);
    assert!(text.contains("mancer-e2e fault list") && !text.contains("cargo xtask"), "{text}");
    // A machine that lacks everything has all the cures to tell.
    let empty = tempfile::tempdir().unwrap();
    let doctor = Command::new(&program).args(["doctor"]).env("PATH", empty.path()).dir(folder.path());
    let output = doctor.deadline(DEADLINE).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("mancer-e2e ") && !text.contains("cargo xtask"), "{text}");
}

#[test]
fn what_is_set_and_the_name_go_through_sudo() {
    let folder = project("name = 'x'\n");
    let open = |path: &Path| std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    // Where an ordinary user can reach both, wherever this checkout lies: the engine, and a sudo that says what it was given.
    let program = folder.path().join("mancer-e2e");
    // By another process: a file that this one still has open for writing, in a child of another test, cannot be started.
    Command::new("cp").arg(env!("CARGO_BIN_EXE_xtask")).arg(&program).run().unwrap();
    let sudo = folder.path().join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
    [folder.path(), &program, &sudo].into_iter().for_each(open);
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(&program).args(["ps", "--slot", "7"]).dir(folder.path()).env("PATH", path);
    if nix::unistd::geteuid().is_root() {
        command = command.user(65_534, 65_534);
    }
    let output = command.deadline(DEADLINE).output().unwrap();
    assert_eq!(output.status, 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.lines().collect();
    let kept: Vec<&str> = words[0].strip_prefix("--preserve-env=").unwrap().split(',').collect();
    for name in ["E2E_ROOT", "E2E_SLOT", "E2E_MAX_FAIL", "E2E_PROGRESS"] {
        assert!(kept.contains(&name), "{text}");
    }
    assert_eq!(words[1..3], ["--", "env"], "{text}");
    assert_eq!(words[4..], [&program.display().to_string(), "ps", "--slot", "7"], "{text}");
}

#[test]
fn in_its_own_checkout_it_is_cargo_xtask() {
    let folder = project("name = 'x'\n");
    let output = xtask(folder.path(), &["e2e", "no_such_scenario"]).output().unwrap();
    assert!(stderr(&output).contains("`cargo xtask e2e --list`"), "{}", stderr(&output));
    let output = xtask(folder.path(), &["--help"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("Usage: cargo xtask"));
}

#[test]
fn the_projects_folder_is_named_by_a_flag_above_the_environment() {
    let (one, other) = (project("name = 'one'\n"), project("name = 'other'\n"));
    let elsewhere = tempfile::tempdir().unwrap();
    let root = |args: &[&str]| {
        let command = xtask(elsewhere.path(), &[args, &["config", "show", "--format", "json"]].concat());
        setting(&command.env("E2E_ROOT", one.path()), "root")
    };
    assert_eq!(root(&[])["value"], one.path().display().to_string());
    assert_eq!(root(&[])["origin"], json!({ "kind": "environment", "variable": "E2E_ROOT" }));
    let other = other.path().display().to_string();
    assert_eq!(root(&["--root", &other])["value"], other);
    assert_eq!(root(&["--root", &other])["origin"], json!({ "kind": "flag", "flag": "--root" }));
}

#[test]
fn a_project_that_is_found_has_to_be_the_callers() {
    let (open, foreign) = (project("name = 'x'\n"), project("name = 'x'\n"));
    std::fs::set_permissions(open.path(), Permissions::from_mode(0o777)).unwrap();
    let mut cases = vec![(open.path(), "may be changed by every user of this machine (mode 777)")];
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(foreign.path().join("e2e.toml"), Some(12_345), None).unwrap();
        cases.push((foreign.path(), "e2e.toml belongs to 12345"));
    }
    for (folder, problem) in cases {
        let below = folder.join("below");
        std::fs::create_dir(&below).unwrap();
        let shown = folder.display().to_string();
        let run = |variable: &str, args: &[&str]| {
            xtask(&below, args).env("E2E_TRUST", variable).env_remove("SUDO_UID").output().unwrap()
        };
        for args in [&["e2e", "--list"][..], &["ps"], &["config", "show"]] {
            let refused = run("/nonexistent", args);
            assert_eq!(refused.status, 2, "{args:?}: {}", stderr(&refused));
            for part in [problem, &shown, &format!("E2E_TRUST={shown}"), "--root"] {
                assert!(stderr(&refused).contains(part), "{part}: {}", stderr(&refused));
            }
        }
        for (variable, args) in [
            (&*shown, &["config", "show"][..]),
            ("*", &["config", "show"]),
            ("", &["--root", &shown, "config", "show"]),
        ] {
            let taken = run(variable, args);
            assert_eq!(taken.status, 0, "{variable} {args:?}: {}", stderr(&taken));
        }
    }
    let bad = xtask(foreign.path(), &["config", "show"]).env("E2E_TRUST", "here").output().unwrap();
    assert_eq!(bad.status, 2, "{}", stderr(&bad));
    assert!(stderr(&bad).contains("E2E_TRUST: \"here\" is not an absolute path"), "{}", stderr(&bad));
}

#[test]
fn a_full_standard_output_is_an_error_and_a_closed_one_is_none() {
    let folder = project("name = 'x'\n");
    let verbs: [&[&str]; 8] = [
        &["runs"],
        &["runs", "--format", "json"],
        &["ps"],
        &["config", "show"],
        &["fault", "list"],
        &["image", "list"],
        &["e2e", "--list"],
        &["baseline", "list", "--format", "json"],
    ];
    // Nobody reads from the pipe any more when the verb begins.
    let closed = "mkfifo pipe && exec 3<>pipe 4>pipe 3<&- && rm pipe && exec \"$@\" >&4";
    for verb in verbs {
        for (script, status, part) in [
            ("exec \"$@\" > /dev/full", 3, "error: writing to standard output: No space left on device"),
            (closed, 0, ""),
        ] {
            let mut shell = Command::new("sh").args(["-c", script, "sh", env!("CARGO_BIN_EXE_xtask")]).args(verb);
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("E2E_")) {
                shell = shell.env_remove(name);
            }
            let output = shell.dir(folder.path()).deadline(DEADLINE).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status, status, "{verb:?}: {said}");
            assert!(said.contains(part) && !said.contains("panicked"), "{verb:?}: {said}");
        }
    }
}

/// A pipe that nobody writes to, and a device without an end, in the place of each file that a verb reads by itself.
#[test]
fn what_is_no_file_is_refused_wherever_it_lies() {
    let run = "target/e2e/20260101-000000-1";
    let baseline = "baselines/class/a/b.json";
    for (file, words) in [
        ("containers/t/template.toml", &["image", "list"][..]),
        ("scenarios/durations.toml", &["e2e", "--list", "--shard", "1/2"]),
        (baseline, &["baseline", "show", "a/b"]),
        (baseline, &["baseline", "diff", baseline, baseline]),
        ("target/e2e/20260101-000000-1/run.json", &["runs", "show"]),
        ("target/e2e/20260101-000000-1/run.json", &["e2e", "--rerun-failed"]),
        ("target/e2e/20260101-000000-1/run.json", &["logs"]),
    ] {
        for device in [None, Some("/dev/zero")] {
            let folder = project("name = 'x'\n");
            let at = |path: &str| folder.path().join(path);
            for path in [run, "containers/t", "scenarios/a/b", "baselines/class/a"] {
                std::fs::create_dir_all(at(path)).unwrap();
            }
            symlink("20260101-000000-1", at("target/e2e/latest")).unwrap();
            std::fs::write(at("containers/t/template.toml"), "from = 'scratch'\ninit = ['/i']\n").unwrap();
            let text = "description = 'x'\ncommand = ['true']\n[containers.t]\n";
            std::fs::write(at("scenarios/a/b/scenario.toml"), text).unwrap();
            let _ = std::fs::remove_file(at(file));
            match device {
                None => nix::unistd::mkfifo(&at(file), nix::sys::stat::Mode::S_IRWXU).unwrap(),
                Some(device) => symlink(device, at(file)).unwrap(),
            }
            let output = xtask(folder.path(), words).deadline(DEADLINE).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status, 2, "{file} {device:?} {words:?}: {said}");
            let why = match device {
                None => "it is a named pipe",
                Some(_) if file.starts_with("target/") => "a symbolic link leads there",
                Some(_) => "it is a device",
            };
            assert!(said.contains(file) && said.contains(why), "{file} {device:?} {words:?}: {said}");
        }
    }
    // A list goes on past it.
    let folder = project("name = 'x'\n");
    std::fs::create_dir_all(folder.path().join(run)).unwrap();
    symlink("/dev/zero", folder.path().join(run).join("run.json")).unwrap();
    let listed = xtask(folder.path(), &["runs"]).deadline(DEADLINE).output().unwrap();
    assert!(listed.status == 0 && listed.text().contains("cannot be read: "), "{}{}", listed.text(), stderr(&listed));
}
