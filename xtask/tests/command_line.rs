//! The command line as a user types it: what is set where, and what is said of it. Needs no root and no container.

#![expect(clippy::unwrap_used, reason = "tests: clippy takes their helpers for ordinary code")]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use xtask::cli::Cli;
use xtask::host::exec::shell::{Command, Output};
use xtask::record::{FORMAT_VERSION, RunRecord};

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
    assert_eq!(line("timeout"), "timeout 5m built in; a scenario's own timeout takes precedence");
    assert_eq!(
        line("E2E_RETRY"),
        "E2E_RETRY is set in the environment, but is no setting of the engine: did you mean E2E_RETRIES?"
    );
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
    let compare = |more: &[&str]| xtask(good.path(), &[&["e2e", "--list", "--baseline-compare"], more].concat());
    refused(&xtask(good.path(), &["e2e", "--list", "--settle"]), "--settle has an effect only with --baseline-compare");
    refused(&compare(&["--settle=soon"]), "\"soon\" is not a duration from \"1s\" to \"1day\", or \"off\"");
    for more in [&["--chaos"][..], &["--baseline-ref", "HEAD"], &["--keep-containers"], &["--ttl", "2h"]] {
        refused(&compare(&[&["--settle"], more].concat()), "cannot be used with");
    }
    refused(
        &compare(&["--pairs", "30"]),
        "--pairs has an effect only with --baseline-ref REV, --baseline-dir DIR or --settle",
    );
    refused(&compare(&["--settle", "--whole-cases"]), "--whole-cases has an effect only with --baseline-ref");
    refused(&compare(&["--settle=off", "--seed", "1"]), "--seed has an effect only with");
    let settled = compare(&["--settle", "--pairs", "30", "--seed", "1"]).env("E2E_KEEP_CONTAINERS", "always");
    assert_eq!(settled.output().unwrap().status, 0);
    // A default of what needs baselines is passed over without them.
    assert_eq!(xtask(good.path(), &["e2e", "--list"]).env("E2E_SETTLE", "5m").output().unwrap().status, 0);
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
fn a_replacement_that_changes_no_layer_is_refused_and_one_that_another_shard_needs_is_not() {
    let project = project("name = 'x'\n");
    let pip = "[pip]\nrequirements = 'r.txt'\ntarget = '/opt'\npython = '3.11'\n";
    for (name, text) in [
        ("containers/app/template.toml", &*format!("from = 'scratch'\ninit = ['/i']\n{pip}")),
        ("containers/app/r.txt", "a==1 --hash=sha256:aa\n"),
        ("containers/db/template.toml", "from = 'scratch'\ninit = ['/i']\n"),
        ("scenarios/cat/of_app/scenario.toml", "description = 'x'\n[containers.app]\n"),
        ("scenarios/cat/of_db/scenario.toml", "description = 'x'\n[containers.db]\n"),
        ("tree/pyproject.toml", ""),
    ] {
        let path = project.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let list = |args: &[&str]| {
        let words = [&["e2e", "--list", "--set", "app.a=tree"], args].concat();
        let output = xtask(project.path(), &words).deadline(DEADLINE).output().unwrap();
        (output.status, stderr(&output))
    };
    assert_eq!(list(&[]).0, 0, "{}", list(&[]).1);
    let (status, said) = list(&["of_db"]);
    assert!(status == 2 && said.contains("it changes no layer") && said.contains("chosen: db"), "{said}");
    for shard in ["1/2", "2/2"] {
        let (status, said) = list(&["--shard", shard]);
        assert_eq!(status, 0, "{shard}: {said}");
    }
    let (status, said) = list(&["--set", "app.A=tree"]);
    assert!(status == 2 && said.contains("app.a is replaced twice"), "{said}");
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
    replay(
        "1000",
        &fault("1", "995", "10", "5"),
        "chaos.json:4:2: fault 1 ends at 1005 ms, after the schedule: `length_ms` is 1000",
    );
    replay("1000", &format!("{good},\n{good}"), "chaos.json:5:2: two faults of the schedule have the number 1");
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
    // A machine that lacks everything has all its help to tell.
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

/// A value that only root may read.
const ROOTS: &str = "hunter22";

/// A project of a user, with links to files and folders of root's planted in it, and one whole run that is named last.
struct Planted {
    home: tempfile::TempDir,
    user: u32,
}

impl Planted {
    const RUN: &'static str = "20260101-000000-9";

    fn make(user: u32) -> Self {
        let planted = Self { home: tempfile::tempdir().unwrap(), user };
        let at = |path: &str| planted.at(path);
        std::fs::set_permissions(planted.home.path(), Permissions::from_mode(0o755)).unwrap();
        for folder in
            ["containers/t", "scenarios", "baselines", "target/e2e/20260101-000000-1", "roots/case", "roots/run"]
        {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        std::fs::write(at("e2e.toml"), "name = 'x'\n").unwrap();
        std::fs::write(at("containers/t/template.toml"), "from = 'scratch'\ninit = ['/i']\n").unwrap();
        let case = |folder: &str| {
            json!([{ "case": "a/b:c", "verdict": "failed", "attempts": [{ "outcome": "failed", "duration_ms": 1.0, "folder": folder,
                     "cause": { "cause": "check", "message": "m" } }] }])
        };
        let record = |run_id: &str, cases: &Value| {
            let record = RunRecord {
                format_version: FORMAT_VERSION,
                run_id: run_id.into(),
                started_at: "2026-01-01T00:00:00.000Z".into(),
                ..RunRecord::default()
            };
            let mut record = serde_json::to_value(record).unwrap();
            record["cases"] = cases.clone();
            record.to_string()
        };
        // Root's own: a record, logs, a baseline.
        std::fs::write(at("roots/run/run.json"), record(ROOTS, &json!([]))).unwrap();
        std::fs::write(at("roots/case/scenario.log"), format!("said {ROOTS}\n")).unwrap();
        std::fs::write(at("roots/case/performance.json"), format!("{{ {ROOTS}")).unwrap();
        std::fs::create_dir_all(at("roots/class/a")).unwrap();
        std::fs::write(at("roots/class/a/b.json"), ROOTS).unwrap();
        for entry in walkdir::WalkDir::new(at("roots")) {
            let entry = entry.unwrap();
            let mode = if entry.file_type().is_dir() { 0o700 } else { 0o600 };
            std::fs::set_permissions(entry.path(), Permissions::from_mode(mode)).unwrap();
        }
        // The user's: a run whose record is a link, one whose folder is one, and one that is whole but for a case's folder.
        symlink("../../../roots/run/run.json", at("target/e2e/20260101-000000-1/run.json")).unwrap();
        symlink("../../roots/run", at("target/e2e/linked")).unwrap();
        let whole = at(&format!("target/e2e/{}", Self::RUN));
        std::fs::create_dir_all(whole.join("a")).unwrap();
        std::fs::write(whole.join("run.json"), record(Self::RUN, &case("a/b"))).unwrap();
        symlink("../../../../roots/case", whole.join("a/b")).unwrap();
        symlink(Self::RUN, at("target/e2e/latest")).unwrap();
        symlink("../roots/class", at("baselines/class")).unwrap();
        for entry in walkdir::WalkDir::new(planted.home.path()) {
            let path = entry.unwrap().into_path();
            if !path.starts_with(at("roots")) {
                lchown(&path, Some(user), Some(user)).unwrap();
            }
        }
        planted
    }

    fn at(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn engine(&self, words: &[&str]) -> Output {
        let id = self.user.to_string();
        let command = xtask(self.home.path(), words).env("SUDO_UID", &id).env("SUDO_GID", &id);
        command.deadline(DEADLINE).output().unwrap()
    }
}

#[test]
fn through_sudo_no_link_is_followed_with_roots_rights() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let planted = Planted::make(65534);
    let roots = || -> Vec<PathBuf> {
        let walk = walkdir::WalkDir::new(planted.at("roots")).sort_by_file_name();
        walk.into_iter().map(|entry| entry.unwrap().into_path()).collect()
    };
    let before = roots();
    let json = planted.at("roots/new.json").display().to_string();
    let (first, linked) = ("20260101-000000-1", "linked");
    for words in [
        &["runs"][..],
        &["runs", "show", first],
        &["runs", "show", linked],
        &["runs", "show"],
        &["runs", "durations", first],
        &["runs", "prune", "--keep", "5"],
        &["logs", first],
        &["logs", linked],
        &["logs"],
        &["logs", "--digest"],
        &["report", first],
        &["report", linked],
        &["report"],
        &["report", "--compare", linked, "latest"],
        &["bundle"],
        &["bundle", linked],
        &["bundle", "--output", &json],
        &["merge", "target/e2e/linked", "target/e2e/latest"],
        &["baseline", "list"],
        &["baseline", "show", "a/b"],
        &["baseline", "diff", "baselines/class/a/b.json", "baselines/class/a/b.json"],
        &["e2e", "--rerun-failed=20260101-000000-1"],
        &["e2e", "--rerun-failed=linked"],
        &["e2e", "--chaos-replay", linked],
        &["e2e", "--from-bundle", "roots/class/a/b.json"],
        &["shrink", linked],
        &["judge-check", "roots/class/a/b.json"],
        &["build-layer", "roots/class/a/b.json"],
        &["guest-order", "roots/class/a/b.json"],
        &["init", "roots/project"],
        &["init", "roots/class"],
    ] {
        let output = planted.engine(words);
        let said = format!("{}{}", output.text(), stderr(&output));
        assert!(!said.contains(ROOTS), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
        assert_eq!(roots(), before, "{words:?}: {said}");
    }
    let closed = planted.engine(&["judge-check", "roots/class/a/b.json"]);
    let why =
        "roots/class/a/b.json: Permission denied (os error 13); it is read with the rights of nobody, who called sudo";
    assert!(closed.status == 2 && stderr(&closed).contains(why), "{}", stderr(&closed));
    // No report, bundle or record has it either, and all that was made is the user's.
    let user = |path: &Path| path.symlink_metadata().unwrap().uid();
    assert!(planted.at("target/e2e/latest/report.html").is_file() && planted.at("target/e2e/bundles").is_dir());
    for entry in walkdir::WalkDir::new(planted.home.path()).into_iter().map(Result::unwrap) {
        if entry.path().starts_with(planted.at("roots")) {
            continue;
        }
        assert_eq!(user(entry.path()), planted.user, "{}", entry.path().display());
        if entry.file_type().is_file() {
            let content = std::fs::read(entry.path()).unwrap();
            let has_it = content.windows(ROOTS.len()).any(|part| part == ROOTS.as_bytes());
            assert!(!has_it, "{}", entry.path().display());
        }
    }
    // What the user may do is done, as the user.
    let made = planted.engine(&["init", "own"]);
    assert_eq!(made.status, 0, "{}", stderr(&made));
    let new = ["new", "category/one", "--language", "python", "--root", "own"];
    let made = planted.engine(&new);
    assert_eq!(made.status, 0, "{}", stderr(&made));
    for path in ["own", "own/e2e.toml", "own/scenarios/category/one/main.py"] {
        assert_eq!(user(&planted.at(path)), planted.user, "{path}");
    }
    std::fs::remove_dir_all(planted.at("own/scenarios")).unwrap();
    symlink("../roots", planted.at("own/scenarios")).unwrap();
    let refused = planted.engine(&new);
    assert!(refused.status != 0 && roots() == before, "{}", stderr(&refused));
    assert_eq!(planted.engine(&["runs", "rm", Planted::RUN]).status, 0);
    assert!(!planted.at("target/e2e").join(Planted::RUN).exists());
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
                Some(_) if file.starts_with("target/") => "the path has a symbolic link",
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
