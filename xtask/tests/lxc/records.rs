//! Records that are valid at every moment: of runs that signals end, of killed engines, on a disk that is full.

use std::time::{Duration, Instant};

use super::common::{
    Host, PATIENCE, e2e, e2e_args, e2e_in_background, engine, project_with_template, record, said, selftest, slot,
};
use super::project::{MINI, Project};
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

/// A command of the engine that needs no lab.
fn xtask(args: &[&str]) -> Output {
    engine().args(args).dir(selftest()).deadline(Duration::from_secs(60)).output().unwrap()
}

/// Waits until the events of the run that has just begun hold this text.
fn wait_for_event(engine_pid: u32, text: &str) {
    let runs = selftest().join("target/e2e");
    let deadline = Instant::now() + PATIENCE;
    let is_there = || {
        let latest = std::fs::read_link(runs.join("latest")).unwrap_or_default();
        latest.to_string_lossy().ends_with(&format!("-{engine_pid}"))
            && std::fs::read_to_string(runs.join(latest).join("events.jsonl")).is_ok_and(|events| events.contains(text))
    };
    while !is_there() {
        assert!(Instant::now() < deadline, "no event with {text:?}");
        std::thread::sleep(Duration::from_millis(20)); // between two looks at a file
    }
}

/// Has programs that are started from now on end at a hangup, as a shell has them: a run under `nohup` goes on, and so would those of
/// tests that were started so.
fn end_at_hangup() {
    // SAFETY: the default disposition runs no code of this process.
    unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) }.unwrap();
}

#[test]
fn whatever_signal_ends_a_run_it_cleans_up_and_its_record_is_whole() {
    let host = Host::take();
    end_at_hangup();
    for sent in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGQUIT] {
        let run = e2e_in_background(&selftest(), &["misbehaves:hangs", "three_machines", "--timeout", "60s"]);
        wait_for_event(run.id(), "scenario_started");
        kill(Pid::from_raw(run.id().cast_signed()), sent).unwrap();
        if sent == Signal::SIGHUP {
            // A shell that goes sends it too.
            let _ = kill(Pid::from_raw(run.id().cast_signed()), sent);
        }
        let output = run.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5), "{sent}: {}", String::from_utf8_lossy(&output.stderr));
        host.expect_clean_within(Duration::ZERO);
        let record = record(&selftest());
        let counts = &record["counts"];
        assert_eq!((&counts["interrupted"], &counts["skipped"]), (&1.into(), &1.into()), "{sent}");
        assert!(record.get("unfinished").is_none() && selftest().join("target/e2e/latest/report.html").is_file());
    }
}

#[test]
fn a_closed_terminal_ends_a_run_as_an_interrupt_does() {
    /// Runs a command on a terminal of its own, closes it when a file holds a text, and prints the exit status.
    const ON_TERMINAL: &str = "import os, pty, select, sys, time\n\
        pid, terminal = pty.fork()\n\
        if pid == 0: os.execvp(sys.argv[1], sys.argv[1:])\n\
        latest = os.path.join('target', 'e2e', 'latest')\n\
        def is_there():\n\
        \x20   try: return os.readlink(latest).endswith('-%d' % pid) and 'scenario_started' in open(latest + '/events.jsonl').read()\n\
        \x20   except OSError: return False\n\
        end = time.monotonic() + 60\n\
        while not is_there() and time.monotonic() < end:\n\
        \x20   if select.select([terminal], [], [], 0.02)[0]: os.read(terminal, 65536)\n\
        os.close(terminal)\n\
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n";
    let host = Host::take();
    end_at_hangup();
    for progress in ["plain", "live"] {
        let mut words = e2e_args(&selftest(), &["misbehaves:hangs", "--timeout", "60s", "--progress", progress]);
        words.insert(0, env!("CARGO_BIN_EXE_xtask").to_owned());
        let python = Command::new("python3").args(["-c", ON_TERMINAL]).args(words).env("E2E_SLOT", slot());
        let output = python.dir(selftest()).deadline(Duration::from_secs(120)).output().unwrap();
        assert_eq!(output.text(), "5", "{}", said(&output));
        host.expect_clean_within(Duration::ZERO);
        assert_eq!(record(&selftest())["counts"]["interrupted"], 1);
        assert!(selftest().join("target/e2e/latest/report.html").is_file());
    }
}

#[test]
fn a_killed_run_is_shown_reported_packed_and_repeated_from_its_events() {
    let host = Host::take();
    let filters = ["exec_round_trip", "misbehaves:hangs", "three_machines", "--timeout", "60s"];
    let mut run = e2e_in_background(&selftest(), &filters);
    wait_for_event(run.id(), "\"case_ended\"");
    wait_for_event(run.id(), "misbehaves:hangs");
    run.kill().unwrap();
    run.wait().unwrap();
    host.expect_clean_within(PATIENCE);
    let folder = selftest().join("target/e2e/latest").canonicalize().unwrap();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    assert!(!folder.join("run.json").exists());
    // What is left of a line that was being written.
    let events = folder.join("events.jsonl");
    let torn = std::fs::read_to_string(&events).unwrap() + "{\"at_ms\": 1";
    std::fs::write(&events, torn).unwrap();

    let check = |words: &[&str], status: i32, parts: &[&str]| {
        let output = xtask(words);
        assert_eq!(output.status, status, "{words:?}: {}", said(&output));
        for part in parts {
            assert!(said(&output).contains(part), "{words:?}: {part}: {}", said(&output));
        }
        output
    };
    let killed = "it was killed: its events end at";
    check(&["runs", "show", &name], 0, &[killed, "misbehaves:hangs was under way", "was written only in part"]);
    check(&["runs", "list"], 0, &["killed: "]);
    check(&["logs", &name, "--case", "exec_round_trip"], 0, &[killed]);
    check(&["logs", &name, "--digest"], 0, &["misbehaves:hangs"]);
    check(&["report", &name], 0, &["report.html", killed]);
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    for part in [
        "The run was killed",
        "misbehaves:hangs was under way",
        "was written only in part",
        "smoke&#x2f;exec_round_trip",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let bundle = folder.join("../killed.tar.gz");
    check(&["bundle", &name, "--output", &bundle.display().to_string()], 0, &[killed, "misbehaves:hangs"]);
    std::fs::remove_file(&bundle).unwrap();
    let again = format!("--rerun-failed={name}");
    let output = e2e(&selftest(), &[&again, "--dry-run"]).output().unwrap();
    let text = said(&output);
    assert!(output.status == 0 && text.contains("misbehaves:hangs") && text.contains("three_machines"), "{text}");
    assert!(!text.contains("exec_round_trip"), "it had passed: {text}");
    check(&["shrink", &name], 2, &["no case of", "failed while faults were played"]);
    check(&["merge", &folder.display().to_string()], 2, &["is not the record of a shard"]);
    let shown: Value = serde_json::from_slice(&xtask(&["runs", "show", &name, "--format", "json"]).stdout).unwrap();
    assert_eq!(shown["unfinished"]["under_way"][0], "smoke/misbehaves:hangs");
    assert_eq!(shown["unfinished"]["not_begun"], 1);
    assert_eq!((&shown["counts"]["passed"], &shown["exit_code"]), (&1.into(), &5.into()));
    assert!(shown["layers"].as_object().is_some_and(|layers| !layers.is_empty()), "{shown}");
    check(&["runs", "rm", &name], 0, &["removed"]);
}

#[test]
fn a_run_whose_record_or_reports_find_no_room_has_not_passed() {
    let _host = Host::take();
    let project = project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    let scenario = project.path().join("scenarios/smoke/never_connects");
    let manifest =
        "description = \"One check\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n";
    std::fs::write(scenario.join("scenario.toml"), manifest).unwrap();
    let program = "import e2e\ndef scenario(lab): lab.check(True, 'fine')\ne2e.run(scenario)\n";
    std::fs::write(scenario.join("main.py"), program).unwrap();
    let words = e2e_args(project.path(), &[]);
    // In a mount namespace of its own: the runs lie on a tmpfs with room for so many KiB.
    let run = |room_kib: u32| {
        let script = format!(
            "mkdir -p target && mount -t tmpfs -o size=4m none target && \
             dd if=/dev/zero of=target/fill bs=1k count=$((4096 - {room_kib})) status=none; \"$@\"; status=$?; \
             rm target/fill; \"$1\" --root . runs show latest; exit $status"
        );
        let command = Command::new("unshare").args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        let command = command.arg(env!("CARGO_BIN_EXE_xtask")).args(words.clone()).env("E2E_SLOT", slot());
        command.dir(project.path()).deadline(Duration::from_secs(120)).output().unwrap()
    };
    let whole = run(3000);
    assert_eq!(whole.status, 0, "{}", said(&whole));
    for room_kib in [4, 16, 40] {
        let output = run(room_kib);
        let text = said(&output);
        assert_eq!(output.status, 3, "{room_kib}: {text}");
        assert!(text.contains("No space left on device"), "{room_kib}: {text}");
    }
}

#[test]
fn a_check_that_fails_on_a_full_disk_has_failed() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let fill = "    try:\n        with open(lab.artifacts / 'fill', 'wb', 0) as file:\n            while True:\n                \
                file.write(bytes(512))\n    except OSError as error:\n        print(error)\n";
    project.scenario(
        "fills",
        "odd",
        "",
        &format!("{fill}    lab.check_equal('99 coins', '100 coins', 'no money is lost')\n"),
    );
    let words = e2e_args(project.path(), &["--retries", "1"]);
    let script = "mkdir -p target && mount -t tmpfs -o size=2m none target && \"$@\"";
    let command = Command::new("unshare").args(["-m", "--propagation", "private", "sh", "-c", script, "sh"]);
    let command = command.arg(env!("CARGO_BIN_EXE_xtask")).args(words).env("E2E_SLOT", slot());
    let output = command.dir(project.path()).deadline(Duration::from_secs(120)).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status, 1, "{text}");
    assert!(text.contains("no money is lost") && text.contains("incomplete") && text.contains("1 failed"), "{text}");
}

#[test]
fn a_worker_that_cannot_write_its_log_says_so() {
    let _host = Host::take();
    let project = project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$1\" && mkdir -p \"$1\"/logs && \
        dd if=/dev/zero of=\"$1\"/fill bs=1k count=1000 status=none; dd if=/dev/zero of=\"$1\"/fill2 bs=4k status=none 2>&1; \
        E2E_STATE_DIR=\"$1\" \"$2\" --root \"$3\" image build mini";
    let words = ["-m", "--propagation", "private", "sh", "-c", script, "sh"];
    let command = Command::new("unshare").args(words).arg(folder.path()).arg(env!("CARGO_BIN_EXE_xtask"));
    let output = command.arg(project.path()).deadline(Duration::from_secs(120)).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status, 3, "{text}");
    assert!(text.contains("No space left on device") || text.contains("the file system of the log is full"), "{text}");
    assert!(!text.contains("``") && !text.contains("status 101"), "{text}");
}

/// A project whose scenario is a Python program of these lines, in a case of each name.
fn python_project(cases: &[&str], lines: &[&str]) -> tempfile::TempDir {
    let project = project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    let scenario = project.path().join("scenarios/smoke/never_connects");
    let mut manifest =
        "description = \"Harms its record\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n"
            .to_owned();
    manifest.extend(cases.iter().map(|case| format!("[[cases]]\nname = \"{case}\"\n")));
    std::fs::write(scenario.join("scenario.toml"), manifest).unwrap();
    let body: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    let program = format!("import os, shutil, e2e\ndef scenario(lab):\n{body}e2e.run(scenario)\n");
    std::fs::write(scenario.join("main.py"), program).unwrap();
    project
}

#[test]
fn a_link_in_place_of_a_cases_folder_leads_no_write_elsewhere() {
    let _host = Host::take();
    let lines = [
        "case = os.path.dirname(lab.artifacts)",
        "os.rename(case, case + '.aside')",
        "os.symlink(os.environ['OUTSIDE'], case)",
        "lab.check(lab.case == 'holds', 'it holds')",
    ];
    let project = python_project(&["holds", "fails"], &lines);
    let outside = tempfile::tempdir().unwrap();
    for name in ["kernel.log", "performance.json", "scenario.log"] {
        std::fs::write(outside.path().join(name), "untouched").unwrap();
    }
    // A pass without its files is none; what has failed stays a failure.
    for (case, status, part) in [("holds", 3, "the path has a symbolic link"), ("fails", 1, "it holds")] {
        let run = e2e(project.path(), &[&format!("never_connects:{case}")]).env("OUTSIDE", outside.path());
        let output = run.output().unwrap();
        assert_eq!(output.status, status, "{case}: {}", said(&output));
        assert!(said(&output).contains(part), "{case}: {}", said(&output));
        record(project.path());
        let left: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(left.iter().all(|file| std::fs::read_to_string(file).unwrap() == "untouched"));
    }
}

#[test]
fn a_run_whose_folder_or_events_were_harmed_has_not_passed() {
    let _host = Host::take();
    let lines = [
        "run = lab.artifacts",
        "while not os.path.exists(os.path.join(run, 'events.jsonl')): run = os.path.dirname(run)",
        "if lab.case == 'removed': shutil.rmtree(run)",
        "if lab.case == 'cut': os.truncate(os.path.join(run, 'events.jsonl'), 0)",
        "if lab.case == 'replaced': os.rename(run, run + '.aside'); os.mkdir(run)",
    ];
    let project = python_project(&["unharmed", "removed", "cut", "replaced"], &lines);
    for (case, status, part) in [
        ("unharmed", 0, "PASSED"),
        ("removed", 3, "was removed or replaced during the run"),
        ("replaced", 3, "was removed or replaced during the run"),
        ("cut", 3, "events.jsonl was changed: it has"),
    ] {
        // The second case is not tried, because it would have no record.
        let filters = [format!("never_connects:{case}"), "never_connects:unharmed".to_owned()];
        let output = e2e(project.path(), &filters.each_ref().map(String::as_str)).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status, status, "{case}: {text}");
        assert!(text.contains(part), "{case}: {text}");
        assert_eq!(text.contains("PASSED"), status == 0, "{case}: {text}");
        if case == "cut" {
            let left = std::fs::read(project.path().join("target/e2e/latest/events.jsonl")).unwrap();
            assert!(!left.is_empty() && !left.contains(&0), "a hole in the events");
            let shown = engine().args(["--root"]).arg(project.path()).args(["runs", "show"]).output().unwrap();
            assert!(said(&shown).contains(part), "{}", said(&shown));
        }
    }
    let latest = project.path().join("target/e2e/latest");
    assert!(latest.join("run.json").is_file(), "that of the last one, whose folder is there");
}

#[test]
fn events_that_find_no_room_on_standard_output_are_an_error() {
    let _host = Host::take();
    let words = e2e_args(&selftest(), &["exec_round_trip", "--format", "json"]);
    let shell =
        Command::new("sh").args(["-c", "exec \"$@\" > /dev/full", "sh", env!("CARGO_BIN_EXE_xtask")]).args(words);
    let output = shell.env("E2E_SLOT", slot()).dir(selftest()).deadline(Duration::from_secs(120)).output().unwrap();
    assert_eq!(output.status, 3, "{}", said(&output));
    assert!(said(&output).contains("writing to standard output: No space left on device"), "{}", said(&output));
    assert_eq!(record(&selftest())["counts"]["passed"], 1, "the run went on");
}

#[test]
fn a_name_that_is_no_snake_case_is_refused() {
    let _host = Host::take();
    let lines = ["with lab.measure('two words'): pass"];
    let project = python_project(&["measure"], &lines);
    let output = e2e(project.path(), &[]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("operation \"two words\" is not a name in snake_case"), "{}", said(&output));
}

/// Resident memory of a process, in KiB.
fn resident_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[test]
fn many_cases_take_no_more_memory_than_few() {
    let _host = Host::take();
    let cases: usize = std::env::var("E2E_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let mut run = e2e_in_background(&selftest(), &["who_am_i", "--repeat", &cases.to_string()]);
    let ended = || {
        let events = std::fs::read_to_string(selftest().join("target/e2e/latest/events.jsonl")).unwrap_or_default();
        let is_of_run = events.lines().next().is_some_and(|line| line.contains(&format!("-{}\"", run.id())));
        if is_of_run { events.matches("\"case_ended\"").count() } else { 0 }
    };
    let (mut early, mut late) = (0, 0);
    loop {
        let (count, resident) = (ended(), resident_kib(run.id()));
        let Some(resident) = resident.filter(|_| count < cases) else { break }; // a report takes what a page takes
        let half = if count < cases / 5 { &mut early } else { &mut late };
        *half = resident.max(*half);
        std::thread::sleep(Duration::from_millis(50)); // memory is sampled
    }
    let status = run.wait().unwrap();
    assert!(status.success() && early > 0, "{status}, {early} KiB");
    println!("{cases} cases: at most {early} KiB in the first fifth, {late} KiB after it");
    // The end of each case is kept for the summary: 1.5 KiB.
    assert!(late < early + 2048 + 4 * cases as u64, "{late} KiB after {early} KiB");
    let record = record(&selftest());
    assert_eq!((&record["counts"]["passed"], record["cases"].as_array().unwrap().len()), (&cases.into(), cases));
}
