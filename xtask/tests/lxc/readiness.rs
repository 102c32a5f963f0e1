//! Machines that do not become ready, or stop answering: whose failure that is, and what is said of it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;
use xtask::host::exec::shell::Command;

use super::common::{Host, e2e, e2e_in_background, engine, events, guard_pid, record, said, slot};
use super::project::{MINI, Project, case};

/// A product whose first program does something before it becomes init, with one probe.
fn first(probe: &str) -> String {
    format!(
        "from = \"mini\"\ninit = [\"/app\"]\n[[files]]\nsource = \"app\"\ntarget = \"/app\"\nmode = \"0755\"\n[[probes]]\n{probe}\n"
    )
}

#[test]
fn a_machine_that_leaves_its_network_has_failed() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let cases = [
        ("down", "ip link set eth0 down", "tcp = 80", "eth0 is down"),
        ("bare", "ip addr flush dev eth0", "tcp = 80", "has no address"),
        ("other", "ip link set eth0 address 02:00:00:00:00:99", "tcp = 80", "02:00:00:00:00:99 instead of"),
        ("gone", "ip link del eth0", "http = \"/\"", "eth0 is gone"),
    ];
    for (name, line, probe, _) in cases {
        project.template(
            name,
            &first(&format!("{probe}\ntimeout = \"2s\"")),
            &format!("#!/bin/sh\n{line}\nexec /bin/init\n"),
        );
        project.scenario(name, name, "", "    pass");
    }
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    for (name, _, _, words) in cases {
        expect_not_ready(&record(project.path()), name, words);
    }
}

fn expect_not_ready(record: &Value, name: &str, words: &str) {
    let case = case(record, name);
    let attempts = case["attempts"].as_array().unwrap();
    assert_eq!((case["verdict"].as_str(), attempts.len()), (Some("failed"), 1), "{case:#}");
    let cause = &attempts[0]["cause"];
    let message = cause["message"].as_str().unwrap();
    assert_eq!(cause["cause"], "not_ready", "{case:#}");
    assert!(message.contains(words) && !message.contains("not started yet"), "{case:#}");
}

#[test]
fn a_probe_that_never_answers_and_a_program_that_the_product_removes_are_its_failure() {
    let _host = Host::take();
    let project = Project::new(MINI);
    for (name, timeout) in [("hangs_1s", "1s"), ("hangs_5s", "5s"), ("hangs_7s", "7s")] {
        let probe = format!("{MINI}[[probes]]\nexec = [\"sleep\", \"100\"]\ntimeout = \"{timeout}\"\n");
        project.template(name, &probe, "");
        project.scenario(name, name, "", "    pass");
    }
    // The program is the probe's too, and refuses it until it has removed itself: the first look may come before that.
    let probe = first("exec = [\"/app\"]\ntimeout = \"2s\"");
    project.template("removes", &probe, "#!/bin/sh\n[ $$ = 1 ] || exit 1\nrm /app\nexec /bin/init\n");
    project.scenario("removes", "removes", "", "    pass");
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let record = record(project.path());
    for name in ["hangs_1s", "hangs_5s", "hangs_7s"] {
        expect_not_ready(&record, name, "no answer within");
    }
    expect_not_ready(&record, "removes", "is in the template's layers, but the machine does not have it any more");
}

#[test]
fn a_layer_that_was_damaged_in_the_store_is_the_hosts_failure() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let store = tempfile::tempdir().unwrap();
    let template = format!("{MINI}[[files]]\nsource = \"app\"\ntarget = \"/bin/tool\"\nmode = \"0755\"\n");
    project.template("tooled", &template, "#!/bin/busybox true\n");
    let plain = "from = \"tooled\"\ninit = [\"/bin/busybox\", \"init\"]\n[[probes]]\nexec = [\"/bin/tool\"]\ntimeout = \"2s\"\n";
    project.template("plain", plain, "");
    project.scenario("damaged", "plain", "", "    pass");
    let run = || {
        let command = e2e(project.path(), &["damaged", "--progress", "plain"]);
        command.env("E2E_STATE_DIR", store.path()).output().unwrap()
    };
    let whole = run();
    assert_eq!(whole.status, 0, "{}", said(&whole));
    for file in ["bin/tool", "bin/busybox"] {
        let found = Command::new("find").arg(store.path().join("layers")).args([
            "-path",
            &format!("*/root/{file}"),
            "-delete",
            "-print",
        ]);
        assert!(!found.run().unwrap().stdout.is_empty(), "{file}");
        let output = run();
        let text = said(&output);
        assert_eq!(output.status, 3, "{text}");
        assert!(text.contains("a layer was changed after it was built") && text.contains("image rm"), "{text}");
    }
    // The help that is printed, carried out.
    let root = project.path().display().to_string();
    let remove = engine().args(["--root", &root, "image", "rm", "mini", "tooled", "plain"]);
    remove.env("E2E_STATE_DIR", store.path()).run().unwrap();
    let again = run();
    assert_eq!(again.status, 0, "{}", said(&again));
}

/// Waits for a file that a scenario makes.
fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} was not made", path.display());
        std::thread::sleep(Duration::from_millis(5)); // a file gives no sign
    }
}

/// Waits until a process has ended.
fn wait_for_end(pid: i32) {
    let begun = Instant::now();
    while !xtask::host::exec::process::has_ended(pid) {
        assert!(begun.elapsed() < Duration::from_secs(60), "process {pid} has not ended");
        std::thread::sleep(Duration::from_millis(5)); // a process of another gives no sign
    }
}

#[test]
fn what_stands_still_by_somebody_elses_hand_is_no_failure_of_the_product() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let marks = tempfile::tempdir().unwrap();
    std::fs::set_permissions(marks.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mark = |name: &str| marks.path().join(name);
    let (ready, go) = (mark("ready").display().to_string(), mark("go").display().to_string());
    // The second attempt is left alone.
    let waits = format!(
        "    if not os.path.exists({ready:?}):\n        open({ready:?}, 'a').close()\n        while not \
         os.path.exists({go:?}):\n            time.sleep(0.01)\n"
    );
    project.scenario("exec", "odd", "", &format!("{waits}    a.exec(['true'], deadline=3).success()\n"));
    project.scenario("probe", "odd", "", &format!("{waits}    a.wait_for_command(['true'], deadline=3)\n"));
    project.scenario("fault", "odd", "", &format!("{waits}    a.inject('net.loss', percent=30).heal()\n"));
    let name = format!("e2e-selftest-{}-a", slot());
    for (scenario, what, words) in [
        ("exec", "frozen", "a is frozen, but not by a fault of this run"),
        ("probe", "frozen", "a is frozen, but not by a fault of this run"),
        ("exec", "lxc-start", "the lxc-start of a"),
        ("fault", "guard", "the guard of slot"),
    ] {
        [&ready, &go].iter().for_each(|path| drop(std::fs::remove_file(path)));
        let mut running = e2e_in_background(project.path(), &[scenario, "--timeout", "6s", "--progress", "plain"]);
        wait_for(Path::new(&ready));
        let folder = Path::new("/run/mancer-e2e").join(slot()).join("containers/a");
        let init: i32 = std::fs::read_to_string(folder.join("init.pid")).unwrap().trim().parse().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        let stopped = match what {
            "frozen" => {
                Command::new("lxc-freeze").args(["-n", &name]).run().unwrap();
                None
            }
            "lxc-start" => Some(monitor),
            _ => guard_pid(),
        };
        stopped.into_iter().for_each(|pid| kill(Pid::from_raw(pid), SIGSTOP).unwrap());
        std::fs::write(&go, "").unwrap();
        if let Some(pid) = stopped {
            // Until the scenario has ended: then it was seen that nothing goes on.
            let begun = events(project.path()).into_iter().find(|event| event["event"] == "scenario_started").unwrap();
            let scenario = i32::try_from(begun["pid"].as_i64().unwrap()).unwrap();
            wait_for_end(scenario);
            let _ = kill(Pid::from_raw(pid), SIGCONT); // it may have been ended with its lab
        }
        let ended = running.wait().unwrap();
        let record = record(project.path());
        let case = case(&record, scenario);
        let first = &case["attempts"][0];
        assert_eq!((ended.code(), first["outcome"].as_str()), (Some(0), Some("infrastructure")), "{what}: {case:#}");
        assert!(first["message"].as_str().unwrap().contains(words), "{what}: {case:#}");
    }
}
