//! Whole runs of the engine on real containers: what passes, each way to fail, and what a bad day looks like.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::common::{
    Host, PATIENCE, e2e, e2e_in_background, engine, events, project_with_template, record, said, selftest, slot,
    with_slot,
};
use super::project::{MINI, Project};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::host::exec::shell::Command;

fn xtask(args: &[&str]) -> Command {
    engine().args(with_slot(args)).dir(selftest()).deadline(Duration::from_secs(60))
}

#[test]
fn a_good_run_passes_and_leaves_a_record() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["tag:smoke"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let record = record(&project);
    assert_eq!(record["format_version"], 1);
    assert_eq!(record["counts"]["passed"], 5);
    let run = project.join("target/e2e/latest");
    for file in ["events.jsonl", "e2e_test.log", "smoke/three_machines/performance.json", "smoke/programs/scenario.log"]
    {
        assert!(run.join(file).is_file(), "{file} is missing");
    }
    let linked = std::fs::read_to_string(project.join("e2e_test.log")).unwrap();
    assert!(linked.contains("smoke/three_machines"), "{linked}");
    let performance = std::fs::read_to_string(run.join("smoke/three_machines/performance.json")).unwrap();
    let performance: serde_json::Value = serde_json::from_str(&performance).unwrap();
    assert_eq!(performance["operations"]["page"]["samples"].as_array().unwrap().len(), 5);
    let planned = |operation: &str| performance["operations"][operation]["planned"].as_u64();
    assert_eq!((planned("page"), planned("first_page")), (Some(5), Some(1)));
    for kind in [
        "run_started",
        "container_ready",
        "lab_ready",
        "step_started",
        "step_ended",
        "check",
        "operation",
        "exec",
        "run_ended",
    ] {
        assert!(events(&project).iter().any(|event| event["event"] == kind), "no event {kind}");
    }
}

#[test]
fn each_way_to_fail_is_told_apart() {
    let _host = Host::take();
    let project = selftest();
    let output =
        e2e(&project, &["marks", "misbehaves", "misspeaks", "never_connects", "wrong_protocol"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let causes: BTreeMap<String, String> = record(&project)["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let outcome = &case["attempts"][0];
            assert_eq!(case["verdict"], "failed", "{case}");
            (case["case"].as_str().unwrap().to_owned(), outcome["cause"]["cause"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("smoke/marks:covers_a_check", "check"),
        ("smoke/marks:different", "check"),
        ("smoke/marks:fixed", "check"),
        ("smoke/marks:not_listed", "error"),
        ("smoke/marks:not_looked_at", "protocol"),
        ("smoke/marks:unobserved", "check"),
        ("smoke/misbehaves:check_fails", "check"),
        ("smoke/misbehaves:error", "error"),
        ("smoke/misbehaves:exit_7", "exit_status"),
        ("smoke/misbehaves:hangs", "timed_out"),
        ("smoke/misbehaves:hangs_in_exec", "timed_out"),
        ("smoke/misbehaves:killed", "signal"),
        ("smoke/misbehaves:panic", "panic"),
        ("smoke/misspeaks:adds_a_parameter", "protocol"),
        ("smoke/misspeaks:closes", "protocol"),
        ("smoke/misspeaks:does_not_wait", "check"),
        ("smoke/misspeaks:floods", "protocol"),
        ("smoke/misspeaks:garbage", "protocol"),
        ("smoke/misspeaks:misspells", "protocol"),
        ("smoke/misspeaks:says_it_twice", "protocol"),
        ("smoke/misspeaks:waits_for_nothing", "check"),
        ("smoke/never_connects:default", "protocol"),
        ("smoke/wrong_protocol:default", "protocol"),
    ];
    let expected = expected.map(|(case, cause)| (case.to_owned(), cause.to_owned()));
    assert_eq!(causes, BTreeMap::from(expected));
    let text = said(&output);
    assert!(
        text.contains("rows = 19999") && text.contains("misbehaves/main.rs:"),
        "a check shows values and place:\n{text}"
    );
    let main = std::fs::read_to_string(project.join("scenarios/smoke/misbehaves/main.rs")).unwrap();
    let line = main.lines().position(|line| line.contains("\"54321\"")).unwrap() + 1;
    let record = record(&project);
    let cases = record["cases"].as_array().unwrap();
    let hangs = cases.iter().find(|case| case["case"] == "smoke/misbehaves:hangs_in_exec").unwrap();
    let doing = hangs["attempts"][0]["cause"]["doing"].as_str().unwrap();
    assert!(doing.contains(": exec in a: sleep 54321 at ") && doing.contains(&format!("misbehaves/main.rs:{line}")));
    for message in [
        "selftest-1/listed is fixed: remove its mark at",
        "selftest-1/listed no longer fails as known: repaired, or broken otherwise?",
        "it failed: exec in a ended with status 1: as ever",
        "it did not fail, and nothing was observed of the effect",
        "the scenario goes on after the mark",
        "does not list the defect \"selftest-1/new\"",
        "never checked known defects that scenario.toml lists: selftest-1/listed",
    ] {
        assert!(text.contains(message), "{message}:\n{text}");
    }
}

#[test]
fn a_pass_after_a_failure_is_flaky() {
    let _host = Host::take();
    let project = selftest();
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("tried");
    let output = e2e(&project, &["flaky", "--retries", "1"]).env("SELFTEST_MARKER", &marker).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    assert_eq!(record(&project)["counts"]["flaky"], 1);
    assert!(said(&output).contains("1 flaky"), "{}", said(&output));
}

#[test]
fn max_fail_stops_and_repeat_and_shuffle_repeat() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["exit_7", "misbehaves:exit_7", "--repeat", "3", "--max-fail", "1"]).output().unwrap();
    assert_eq!(output.status, 2, "a case's name alone is no filter: {}", said(&output));
    let output = e2e(&project, &["misbehaves:exit_7", "--repeat", "3", "--max-fail", "1"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let counts = record(&project)["counts"].clone();
    assert_eq!((&counts["failed"], &counts["skipped"]), (&1.into(), &2.into()));
    let order = || -> Vec<String> {
        let output = e2e(&project, &["tag:smoke", "--shuffle=7", "--dry-run", "--format", "json"]).output().unwrap();
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        plan["cases"].as_array().unwrap().iter().map(|case| case["case"].to_string()).collect()
    };
    assert_eq!(order(), order());
}

#[test]
fn a_kept_lab_can_be_entered_holds_its_slot_and_is_cleaned() {
    let host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["three_machines", "--keep-containers=always"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let name = format!("e2e-selftest-{}-a", slot());
    assert!(said(&output).contains(&format!("lxc-attach -n {name} -- ")), "{}", said(&output));
    Command::new("lxc-attach").args(["-n", &name, "--", "/bin/true"]).dir("/").run().unwrap();
    assert!(xtask(&["ps"]).run().unwrap().text().contains(&name));
    assert_eq!(xtask(&["shell", "b", "--", "/bin/hostname"]).run().unwrap().text(), "b");
    assert_eq!(xtask(&["shell", "b", "--", "/bin/sh", "-c", "exit 9"]).output().unwrap().status, 9);
    assert_eq!(xtask(&["shell", "zz"]).output().unwrap().status, 2);
    let second = e2e(&project, &["three_machines"]).output().unwrap();
    assert_eq!(second.status, 3, "{}", said(&second));
    assert!(said(&second).contains("cargo xtask down"), "{}", said(&second));
    assert!(!host.leftovers().is_empty(), "the lab is there");
    let cleaned = xtask(&["clean"]).run().unwrap();
    assert!(cleaned.text().contains("is gone"), "{}", cleaned.text());
}

#[test]
fn only_a_failure_keeps_the_lab_by_default() {
    let _host = Host::take();
    let project = selftest();
    let labs = || said(&xtask(&["ps"]).output().unwrap());
    e2e(&project, &["three_machines", "--keep-containers"]).run().unwrap();
    assert!(labs().contains("there is no lab in slot"), "{}", labs());
    let output = e2e(&project, &["misbehaves:exit_7", "--keep-containers"]).output().unwrap();
    assert_eq!(output.status, 1);
    assert!(labs().contains("kept for inspection"), "{}", labs());
    xtask(&["clean"]).run().unwrap();
}

#[test]
fn two_runs_at_once_both_pass_and_no_wait_fails() {
    let _host = Host::take();
    let project = selftest();
    let runs: Vec<_> = (0..2).map(|_| e2e_in_background(&project, &["three_machines", "--repeat", "4"])).collect();
    let texts: Vec<String> = runs
        .into_iter()
        .map(|run| {
            let output = run.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            said
        })
        .collect();
    assert_eq!(texts.iter().filter(|text| text.contains("is held by")).count(), 1, "{texts:?}");

    let mut holder = e2e_in_background(&project, &["misbehaves:hangs"]);
    wait_for_lab();
    let output = e2e(&project, &["three_machines", "--no-wait"]).output().unwrap();
    assert_eq!(output.status, 3, "{}", said(&output));
    holder.wait().unwrap();
}

#[test]
fn one_interrupt_cleans_up_and_a_second_ends_at_once() {
    let host = Host::take();
    let project = selftest();
    let run = e2e_in_background(&project, &["misbehaves:hangs", "three_machines", "--timeout", "60s"]);
    wait_for_lab();
    kill(Pid::from_raw(run.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    host.expect_clean_within(Duration::ZERO);
    let counts = record(&project)["counts"].clone();
    assert_eq!((&counts["interrupted"], &counts["skipped"]), (&1.into(), &1.into()));

    let mut run = e2e_in_background(&project, &["misbehaves:hangs", "--timeout", "60s"]);
    wait_for_lab();
    let pid = Pid::from_raw(run.id().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    let _ = kill(pid, Signal::SIGINT); // it may have ended in between
    assert_eq!(run.wait().unwrap().code(), Some(5));
    host.expect_clean_within(PATIENCE);
}

#[test]
fn a_cause_that_every_case_would_meet_is_said_once_and_ends_the_run() {
    let _host = Host::take();
    // A host on which no network can be made, and one on which LXC starts nothing, for a reason that nobody knows.
    let no_network =
        "[ \"$1\" = -V ] && exit 0\ncat >&2\necho 'RTNETLINK answers: Operation not supported' >&2\nexit 2";
    let no_start =
        "[ \"$1\" = --version ] && exec /usr/bin/lxc-start --version\necho 'this host is too tired' >&2\nexit 1";
    for (program, script, cause, problem, seen) in [
        ("ip", no_network, "network", "no network for a lab can be created on this host", "Operation not supported"),
        ("lxc-start", no_start, "lab", "not even the smallest lab can be made on this host", "this host is too tired"),
    ] {
        let project = selftest();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(program);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let output = e2e(&project, &["tag:smoke"]).env("PATH", path).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status, 3, "{text}");
        assert!(text.contains(problem) && text.contains(seen), "{text}");
        assert_eq!(
            text.matches("cases were not tried, because every case would fail for the same cause").count(),
            1,
            "{text}"
        );
        let record = record(&project);
        let cases = record["cases"].as_array().unwrap();
        let tried = |case: &serde_json::Value| case["attempts"].as_array().unwrap().len();
        assert_eq!(cases.iter().map(tried).collect::<Vec<_>>(), [1, 0, 0, 0, 0], "{cases:?}");
        assert_eq!(cases[0]["attempts"][0]["host_cause"], cause);
        assert_eq!((&record["counts"]["infrastructure"], &record["counts"]["skipped"]), (&1.into(), &4.into()));
        let junit = std::fs::read_to_string(project.join("target/e2e/latest/junit.xml")).unwrap();
        assert_eq!(junit.matches(&format!("it was not run: {problem}")).count(), 4, "{junit}");
    }
}

#[test]
fn a_container_that_dies_ends_the_wait_for_it() {
    let _host = Host::take();
    let probe = "[[probes]]\nfile = \"/never\"\ntimeout = \"60s\"\n";
    let template = format!("{}{probe}", init_script("sleep 0.3; echo no more of this"));
    let project = project_with_template(&template);
    let output = e2e(project.path(), &[]).deadline(Duration::from_secs(30)).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("file /never"), "{}", said(&output));
    assert!(said(&output).contains("no more of this"), "its last words are shown: {}", said(&output));
}

#[test]
fn a_probe_that_never_passes_says_what_it_saw_last() {
    let _host = Host::take();
    let init = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";
    // The last look hangs, and the deadline cuts it short: that says nothing, and what was seen before does.
    let hangs = "exec = [\"/bin/sh\", \"-c\", \"[ -e /tmp/x ] && exec sleep 60; : > /tmp/x; echo not yet; exit 3\"]";
    for (probe, seen) in [
        ("tcp = 81", "refused"),
        ("http = \":81/x\"", "refused"),
        ("exec = [\"/bin/sh\", \"-c\", \"echo not yet; exit 3\"]", "not yet"),
        (hangs, "not yet"),
    ] {
        let project = project_with_template(&format!("{init}[[probes]]\n{probe}\ntimeout = \"300ms\"\n"));
        let output = e2e(project.path(), &["--patience", "2"]).output().unwrap();
        assert_eq!(output.status, 1, "{}", said(&output));
        let text = said(&output);
        assert!(text.contains(seen) && text.contains("timed out after 600ms"), "{probe}: {text}");
        assert!(!text.contains("no answer within"), "{probe}: {text}");
        assert_eq!(record(project.path())["patience"], serde_json::json!({ "factor": 2.0 }));
    }
}

#[test]
fn a_lab_that_is_not_ready_leaves_its_logs_and_can_be_kept() {
    let _host = Host::take();
    let template = "[[probes]]\nfile = \"/never\"\ntimeout = \"500ms\"\n";
    let project = project_with_template(&format!("{}{template}", init_script("echo here I am; exec sleep 600")));
    let output = e2e(project.path(), &["--keep-containers"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("here I am"), "the console is shown: {}", said(&output));
    let attempts = record(project.path())["cases"][0]["attempts"].clone();
    assert_eq!(attempts.as_array().unwrap().len(), 1, "the product's failure is not tried again: {attempts}");
    let console = "smoke/never_connects/containers/a/console.log";
    assert!(project.path().join("target/e2e/latest").join(console).is_file());
    assert_eq!(xtask(&["shell", "a", "--", "/bin/hostname"]).run().unwrap().text(), "a");
    xtask(&["clean"]).run().unwrap();
}

#[test]
fn what_a_container_may_use_is_bounded() {
    let _host = Host::take();
    let template = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n\
                    [limits]\nmemory = \"64M\"\npids = 40\ndisk = \"8M\"\ncpus = 0.5\n\
                    [[volumes]]\npath = \"/data\"\nsize = \"16M\"\nkind = \"ext4\"\n\
                    [[volumes]]\npath = \"/fast\"\nsize = \"4M\"\nkind = \"tmpfs\"\n";
    let project = project_with_template(template);
    let output = e2e(project.path(), &["--keep-containers=always"]).output().unwrap();
    assert_eq!(output.status, 1, "its scenario never connects: {}", said(&output));
    let inside = |script: &str| xtask(&["shell", "a", "--", "/bin/sh", "-c", script]).output().unwrap();
    for path in ["/data", "/fast", "/"] {
        let filled = inside(&format!("dd if=/dev/zero of={path}/x bs=1M count=32 2>&1"));
        assert!(filled.text().contains("No space left"), "{path}: {}", filled.text());
    }
    let hog = inside("head -c 200m /dev/zero | tail");
    assert_eq!(hog.status, 137, "killed for want of memory: {}", said(&hog));
    let forks = inside("for i in $(seq 60); do sleep 5 & done 2>&1; wait");
    assert!(said(&forks).contains("fork"), "{}", said(&forks));
    xtask(&["clean"]).run().unwrap();
}

#[test]
fn a_machine_without_memory_or_disk_is_told_so() {
    let _host = Host::take();
    let template = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";
    let project = project_with_template(&format!("{template}[limits]\nmemory = \"900G\"\n"));
    let output = e2e(project.path(), &[]).output().unwrap();
    assert_eq!(output.status, 3, "{}", said(&output));
    assert!(
        said(&output).contains("MiB of memory: the lab needs at least 230400") && said(&output).contains("help:"),
        "{}",
        said(&output)
    );

    let project = project_with_template(template);
    let target = project.path().join("target");
    std::fs::create_dir(&target).unwrap();
    Command::new("mount").args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"]).arg(&target).run().unwrap();
    let output = e2e(project.path(), &[]).output();
    Command::new("umount").arg(&target).run().unwrap();
    let output = output.unwrap();
    // Its scenario never connects: that failure stays, and the record says what it lacks.
    assert_eq!(output.status, 1, "{}", said(&output));
    for part in ["the record is incomplete", "No space left on device"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
}

#[test]
fn bad_input_names_the_place_and_touches_nothing() {
    let host = Host::take();
    let check = |args: &[&str], project: &Path, expected: &str| {
        let output = e2e(project, args).output().unwrap();
        assert_eq!(output.status, 2, "{args:?}: {}", said(&output));
        assert!(said(&output).contains(expected), "{args:?}: {}", said(&output));
    };
    let project = selftest();
    check(&["three_machins"], &project, "did you mean three_machines?");
    check(&["smkoe"], &project, "did you mean smoke?");
    check(&["tag:smoek"], &project, "did you mean tag:smoke?");
    check(&["--timeout", "soon"], &project, "--timeout");
    check(&["--e2e-containers", "a,a"], &project, "twice");
    check(&["--e2e-containers", "a,b,c,d"], &project, "4 names");
    check(&["--set", "nonsense"], &project, "--set");
    let bad = project_with_template("from = \"mini\"\ninit = [\"/x\"]\nmemroy = 1\n");
    check(&[], bad.path(), "odd/template.toml:3:1: unknown field `memroy`");
    let empty = tempfile::tempdir().unwrap();
    check(&[], empty.path(), "--root DIR");
    // A variable with a list of folders cannot name such a project.
    let colon = tempfile::Builder::new().prefix("colon:").tempdir().unwrap();
    let whole = Project::new(MINI);
    whole.scenario("named", "odd", "", "    pass");
    Command::new("cp").arg("-a").arg(whole.path().join(".")).arg(colon.path()).run().unwrap();
    check(&["named"], colon.path(), "PYTHONPATH");
    assert!(host.leftovers().is_empty());
}

#[test]
fn a_run_that_cannot_be_recorded_does_not_begin() {
    let _host = Host::take();
    let project = project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    std::fs::write(project.path().join("target"), "in the way").unwrap();
    let output = e2e(project.path(), &[]).output().unwrap();
    assert_eq!(output.status, 3, "{}", said(&output));
    assert!(said(&output).contains("is no folder: mv "), "{}", said(&output));
}

#[test]
fn containers_are_named_by_position() {
    let _host = Host::take();
    let project = selftest();
    let output =
        e2e(&project, &["three_machines", "--e2e-containers", "first,second", "--keep-containers=always"]).output();
    assert_eq!(output.unwrap().status, 0);
    for (name, hostname) in [("first", "a"), ("second", "b"), (&format!("e2e-selftest-{}-c", slot()), "c")] {
        let output = Command::new("lxc-attach").args(["-n", name, "--", "/bin/hostname"]).dir("/").run().unwrap();
        assert_eq!(output.text(), hostname);
    }
    xtask(&["clean"]).run().unwrap();
}

/// A template on mini whose first process runs these lines of shell.
fn init_script(lines: &str) -> String {
    format!(
        "from = \"mini\"\ninit = [\"/bin/first\"]\nrun = [\"printf '#!/bin/sh\\\\n{lines}\\\\n' > /bin/first && chmod 755 /bin/first\"]\n"
    )
}

/// Waits until the lab of the test's slot exists.
fn wait_for_lab() {
    let path = Path::new("/run/mancer-e2e").join(slot()).join("socket");
    let started = std::time::Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "{} did not appear", path.display());
        std::thread::sleep(Duration::from_millis(2)); // a path gives no sign of its own
    }
}
