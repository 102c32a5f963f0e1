//! Blame for failures: products that end, crash or do not come up, and hosts that fail under them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::host::exec::shell::Command;

use super::common::{Host, e2e, e2e_in_background, events, record, said, slot};
use super::project::{APP, MINI, Project, case};

/// Ends the machine from inside.
const POWER_OFF: &str =
    "    a.exec(['/bin/sh', '-c', '(sleep 0.3; kill -9 -1; poweroff -f) > /dev/null 2>&1 & exit 0'])\n";

#[test]
fn a_product_that_ends_its_machine_has_failed() {
    let _host = Host::take();
    let project = Project::new(MINI);
    project.template("exits", APP, "#!/bin/sh\nsleep 0.5\necho 'panic: no quorum' >&2\nexit 7\n");
    project.template(
        "full",
        APP,
        "#!/bin/sh\nwhile dd if=/dev/zero bs=4k count=1 2> /dev/null >> /data/log; do sleep 0.05; done\nexit 1\n",
    );
    let wait_for_end = "    lab.eventually('it ends', 20, lambda: gone(a))\n";
    project.scenario("powers_off", "odd", "", &format!("{POWER_OFF}{wait_for_end}"));
    project.scenario("exits", "exits", "", wait_for_end);
    project.scenario(
        "full",
        "full",
        "",
        &format!("    a.inject('disk.full', path='/data', free_bytes=0)\n{wait_for_end}"),
    );
    let coins = format!(
        "{POWER_OFF}    try:\n        lab.check_equal('99 coins', '100 coins', 'no money is lost')\n    finally:\n        \
         lab.eventually('it ends', 20, lambda: gone(a))\n"
    );
    project.scenario("coins", "odd", "", &coins);
    let expects = "[[expects]]\nfinding = \"machine_ended\"\non = [\"a\"]\n";
    project.scenario("expected", "odd", expects, &format!("{POWER_OFF}{wait_for_end}"));
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let record = record(project.path());
    for (name, status) in [
        ("powers_off", serde_json::json!({ "how": "signaled", "signal": 2 })),
        ("exits", serde_json::json!({ "how": "exited", "status": 7 })),
        ("full", serde_json::json!({ "how": "exited", "status": 1 })),
    ] {
        let case = case(&record, name);
        let attempts = case["attempts"].as_array().unwrap();
        assert_eq!((case["verdict"].as_str(), attempts.len()), (Some("failed"), 1), "{case:#}");
        let cause = &attempts[0]["cause"];
        assert_eq!(
            (&cause["cause"], &cause["container"], &cause["process_1"]),
            (&"machine_ended".into(), &"a".into(), &status)
        );
    }
    let coins = case(&record, "coins");
    assert_eq!((coins["verdict"].as_str(), &coins["attempts"][0]["cause"]["cause"]), (Some("failed"), &"check".into()));
    assert_eq!(case(&record, "expected")["verdict"], "passed");
    let ended: Vec<Value> =
        events(project.path()).into_iter().filter(|event| event["event"] == "machine_ended").collect();
    assert_eq!(ended.len(), 5, "{ended:#?}");
    assert_eq!(ended.iter().filter(|event| event["expected"] == true).count(), 1, "{ended:#?}");
    let junit = std::fs::read_to_string(project.path().join("target/e2e/latest/junit.xml")).unwrap();
    assert!(junit.contains("type=\"machine_ended\"") && junit.contains("no money is lost"), "{junit}");
}

#[test]
fn a_product_that_does_not_come_up_has_failed_and_a_missing_program_is_a_bad_template() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let probe = |condition: &str| format!("{MINI}[[probes]]\n{condition}\ntimeout = \"1s\"\n");
    project.template("refuses", &probe("tcp = 5432"), "");
    project.template("says_no", &probe("exec = [\"/bin/sh\", \"-c\", \"echo not yet; exit 3\"]"), "");
    project.template("dies", APP, "#!/bin/sh\nexit 3\n");
    for name in ["refuses", "says_no", "dies"] {
        project.scenario(name, name, "", "    pass");
    }
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let found = record(project.path());
    for (name, cause, words) in [
        ("refuses", "not_ready", "5432"),
        ("says_no", "not_ready", "not yet"),
        ("dies", "machine_ended", "exited with status 3"),
    ] {
        let case = case(&found, name);
        let attempts = case["attempts"].as_array().unwrap();
        assert_eq!((case["verdict"].as_str(), attempts.len()), (Some("failed"), 1), "{case:#}");
        assert_eq!(attempts[0]["cause"]["cause"], cause, "{case:#}");
        assert!(attempts[0]["cause"]["message"].as_str().unwrap().contains(words), "{case:#}");
    }
    for (name, template, words) in [
        ("no_probe", probe("exec = [\"no-such-probe\"]"), "no-such-probe"),
        ("no_init", "from = \"mini\"\ninit = [\"/no/such/init\"]\n".to_owned(), "/no/such/init"),
    ] {
        project.template(name, &template, "");
        project.scenario(name, name, "", "    pass");
        let output = e2e(project.path(), &[name, "--progress", "plain"]).output().unwrap();
        let text = said(&output);
        assert_eq!(output.status, 2, "{text}");
        assert!(text.contains(words) && text.contains(&format!("containers/{name}/template.toml")), "{text}");
    }
}

#[test]
fn a_machine_that_the_host_kills_is_no_failure_of_the_product() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let marks = tempfile::tempdir().unwrap();
    std::fs::set_permissions(marks.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let mark = marks.path().join("attempts").display().to_string();
    // The first attempt waits to be killed; the second passes.
    let body = format!(
        "    first = not os.path.exists({mark:?})\n    open({mark:?}, 'a').close()\n    if first:\n        lab.eventually('it \
         ends', 30, lambda: gone(a))\n        lab.check_equal(1, 2, 'a check after the end')\n"
    );
    project.scenario("waits", "odd", "", &body);
    for victim in ["init", "lxc-start"] {
        let _ = std::fs::remove_file(marks.path().join("attempts"));
        let mut running = e2e_in_background(project.path(), &["--progress", "plain"]);
        let begun = Instant::now();
        while !marks.path().join("attempts").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the scenario did not begin");
            std::thread::sleep(Duration::from_millis(5)); // a file gives no sign
        }
        let folder = Path::new("/run/mancer-e2e").join(slot()).join("containers/a");
        let init: i32 = std::fs::read_to_string(folder.join("init.pid")).unwrap().trim().parse().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        let pid = nix::unistd::Pid::from_raw(if victim == "init" { init } else { parent });
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let ended = running.wait().unwrap();
        let record = record(project.path());
        // A check failed on broken ground: the case is not blamed on the product, and no clean pass either.
        let case = case(&record, "waits");
        let attempts = case["attempts"].as_array().unwrap();
        assert_eq!((ended.code(), case["verdict"].as_str()), (Some(0), Some("flaky")), "{victim}: {case:#}");
        assert_eq!(attempts[0]["outcome"], "infrastructure", "{victim}: {case:#}");
        assert!(attempts[0]["failed_check"].as_str().unwrap().contains("a check after the end"), "{case:#}");
        let ended = events(project.path()).into_iter().find(|event| event["event"] == "machine_ended").unwrap();
        let how = if victim == "init" { "signaled" } else { "unknown" };
        assert_eq!(ended["process_1"]["how"], how, "{ended:#}");
        let junit = std::fs::read_to_string(project.path().join("target/e2e/latest/junit.xml")).unwrap();
        assert!(junit.contains("flakyError"), "{junit}");
    }
}

#[test]
fn a_machine_of_systemd_is_ready_when_it_has_booted() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/base");
    let copied = Command::new("cp").arg("-r").arg(base).arg(project.path().join("containers/base")).run();
    copied.unwrap();
    let template = project.path().join("containers/base/template.toml");
    let text = std::fs::read_to_string(&template).unwrap();
    let (before, _) = text.split_once("[[probes]]").unwrap(); // they stand last
    std::fs::write(&template, before).unwrap();
    let body = "    state = a.exec(['systemctl', 'is-system-running']).stdout_text.strip()\n    lab.check(state in ('running', \
                'degraded'), state)\n";
    project.scenario("booted", "base", "", body);
    let output = e2e(project.path(), &["--repeat", "3", "--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

#[test]
fn the_end_of_a_service_is_told_beside_the_client_that_met_it() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/base");
    Command::new("cp").arg("-r").arg(base).arg(project.path().join("containers/base")).run().unwrap();
    let body = "    a.exec(['systemd-run', '--unit=counter', '--service-type=exec', 'sleep', 'infinity']).success()\n    \
                a.exec(['systemctl', 'kill', '--signal=SEGV', 'counter.service']).success()\n    \
                lab.eventually('it is gone', 20, lambda: a.exec(['systemctl', 'is-failed', 'counter']).status == 0)\n    \
                a.exec(['/bin/sh', '-c', 'echo empty reply >&2; exit 52']).success()\n";
    project.scenario("counts", "base", "", body);
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "the verdict is the scenario's: {}", said(&output));
    let told = "counter.service on a died of SIGSEGV, its result is ";
    let said = said(&output);
    let lines: Vec<&str> = said.lines().map(str::trim_start).collect();
    let what = lines.iter().position(|line| line.starts_with("what ")).unwrap();
    let before = lines[what..].iter().position(|line| line.starts_with(&format!("before    {told}"))).expect(&said);
    assert!((1..6).contains(&before) && lines[what + before..what + before + 2].concat().contains(" before"), "{said}");
    for file in ["junit.xml", "summary.md", "report.html"] {
        let text = std::fs::read_to_string(project.path().join("target/e2e/latest").join(file)).unwrap();
        assert!(text.contains(told), "{file}: {text}");
    }
}

#[test]
fn an_engine_without_threads_is_no_failure_of_the_product() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let marks = tempfile::tempdir().unwrap();
    std::fs::set_permissions(marks.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (ready, go) = (marks.path().join("ready").display().to_string(), marks.path().join("go").display().to_string());
    // Many requests at once, each of which needs a thread of the engine, from the moment on at which it gets none any more.
    let body = format!(
        "    import threading\n    open({ready:?}, 'a').close()\n    while not os.path.exists({go:?}):\n        time.sleep(0.01)\n    \
         failed = []\n    def one():\n        try:\n            a.exec(['sleep', '0.5'])\n        except e2e.RequestError as error:\n            \
         failed.append(error)\n    threads = [threading.Thread(target=one) for _ in range(40)]\n    [t.start() for t in threads]\n    \
         [t.join() for t in threads]\n    if failed:\n        raise failed[0]\n"
    );
    project.scenario("crowded", "odd", "", &body);
    let mut running = e2e_in_background(project.path(), &["--progress", "plain"]);
    let begun = Instant::now();
    while !Path::new(&ready).exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the scenario did not begin");
        std::thread::sleep(Duration::from_millis(5)); // a file gives no sign
    }
    let group = Group::of(running.id());
    std::fs::write(&go, "").unwrap();
    let ended = running.wait().unwrap();
    drop(group);
    let record = record(project.path());
    let case = case(&record, "crowded");
    // The second attempt finds the same engine in the same group.
    assert_eq!((ended.code(), case["verdict"].as_str()), (Some(3), Some("infrastructure")), "{case:#}");
    let duration_ms = case["attempts"][0]["duration_ms"].as_f64().unwrap();
    assert!(
        duration_ms < 30_000.0,
        "each request was answered, so the scenario did not wait for its deadline: {case:#}"
    );
}

/// A control group that lets a process have few more threads and children than it has.
struct Group(std::path::PathBuf);

impl Group {
    fn of(pid: u32) -> Self {
        let top =
            ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new).into_iter().find(|top| top.is_dir()).unwrap();
        let group = top.join(format!("e2e-test-{}", slot()));
        std::fs::create_dir_all(&group).unwrap();
        std::fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
        let now: u32 = std::fs::read_to_string(group.join("pids.current")).unwrap().trim().parse().unwrap();
        std::fs::write(group.join("pids.max"), (now + 6).to_string()).unwrap();
        Self(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Keeps as many requests under way as the engine takes, and never reads an answer.
const FLOOD: &str = r#"
import json, os, socket, time
peer = socket.socket(socket.AF_UNIX)
peer.connect(os.environ["E2E_SOCKET"])
file = peer.makefile("rwb")
def send(number, method, params):
    line = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    file.write(json.dumps(line).encode() + b"\n")
    file.flush()
send(1, "hello", {"protocol": 1})
file.readline()
word = ["sh", "-c", "echo late >> /tmp/late; sleep 60"]
for number in range(2, 100000):
    try:
        send(number, "exec", {"container": "a", "argv": word, "deadline_ms": 60000})
    except OSError:
        break
time.sleep(30)
"#;

#[test]
fn requests_of_a_case_that_is_over_never_run_in_the_next_ones_machine() {
    let _host = Host::take();
    let project = Project::new(MINI);
    project.scenario("late", "odd", "", "");
    project.write("scenarios/smoke/late/main.py", FLOOD);
    project.scenario(
        "victim",
        "odd",
        "",
        "    time.sleep(1)\n    lab.check(a.exec(['test', '-e', '/tmp/late']).status == 1, 'no late file')\n",
    );
    let output = e2e(project.path(), &["late", "victim", "--repeat", "3", "--timeout", "3s", "--progress", "plain"]);
    let output = output.output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    for case in record(project.path())["cases"].as_array().unwrap() {
        let is_victim = case["case"].as_str().unwrap().contains("victim");
        assert_eq!(case["verdict"] == "passed", is_victim, "{case:#}");
    }
    // The scenario's end ends its requests at once: none waits for its own minute.
    for ended in events(project.path()).iter().filter(|event| event["event"] == "case_ended") {
        assert!(ended["duration_ms"].as_f64().unwrap() < 30_000.0, "{ended:#}");
    }
}

/// Runs programs in a machine all the time while it reboots five times; none may take as long as its deadline.
const AMID_REBOOTS: &str = "    import threading
    over = threading.Event()
    longest = [0.0]
    def runs():
        while not over.is_set():
            begun = time.monotonic()
            try:
                a.exec(['/bin/true'], deadline=60)
            except e2e.RequestError:
                time.sleep(0.01)
            longest.append(time.monotonic() - begun)
    threads = [threading.Thread(target=runs) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        a.exec(['reboot', '-f'], deadline=60)
        lab.eventually('it is up again', 20, lambda: a.exec(['/bin/true']).status == 0)
    over.set()
    for thread in threads:
        thread.join()
    lab.log(f'{len(longest)} programs, the longest took {max(longest):.1f} s')
    lab.check(max(longest) < 30, f'each program ends; the longest took {max(longest):.1f} s')
";

#[test]
fn programs_in_a_machine_that_reboots_end_with_it() {
    let _host = Host::take();
    let project = Project::new(MINI);
    project.scenario("amid_reboots", "odd", "[[expects]]\nfinding = \"rebooted\"\n", AMID_REBOOTS);
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

#[test]
fn a_reboot_is_told_and_its_faults_are_on_again() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let body = "    fault = a.inject('pids.cap', free=5)\n    a.exec(['/bin/sh', '-c', '(sleep 0.3; reboot -f) > /dev/null 2>&1 & \
                exit 0'])\n    first = a.sh(\"cut -d' ' -f22 /proc/1/stat\").stdout_text\n    def again():\n        \
                try:\n            return a.sh(\"cut -d' ' -f22 /proc/1/stat\").stdout_text not in ('', first)\n        except \
                e2e.RequestError:\n            return False\n    lab.eventually('it has rebooted', 20, again)\n    line = 'for i in 1 2 3 \
                4 5 6 7 8; do sleep 1 & done; wait'\n    lab.eventually('the cap is on again', 20, lambda: \"can't fork\" in \
                a.sh(line).stderr_text)\n    fault.heal()\n    lab.check(\"can't fork\" not in a.sh(line).stderr_text)\n";
    project.scenario("surprised", "odd", "", body);
    project.scenario("expects", "odd", "[[expects]]\nfinding = \"rebooted\"\n", body);
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let all = events(project.path());
    let told: Vec<&Value> = all.iter().filter(|event| event["event"] == "machine_rebooted").collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    for event in told {
        let is_expected = event["case"].as_str().unwrap().contains("expects");
        assert_eq!((&event["expected"], &event["reboots"]), (&is_expected.into(), &1.into()), "{event:#}");
    }
}
