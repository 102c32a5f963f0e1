//! Slots in a bad state: a guard that stands still or was killed, a lock that somebody else has, folders that are in the way. The next
//! command works, or says what does; that help is carried out as it is printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::host::container::lxc::LOG_PATH;
use xtask::host::disk::marked::MARK;
use xtask::host::exec::shell::{Command, which};

use super::common::{
    Host, PATIENCE, e2e, e2e_in_background, engine, guard_pid, project_with_template, said, selftest, slot, with_slot,
};

fn xtask(args: &[&str]) -> Command {
    engine().args(with_slot(args)).dir(selftest()).deadline(Duration::from_secs(120))
}

fn passes(args: &[&str]) -> String {
    let output = xtask(args).output().unwrap();
    assert_eq!(output.status, 0, "{args:?}: {}", said(&output));
    said(&output)
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn guard() -> i32 {
    guard_pid().expect("the slot has a guard")
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5)); // the host gives no sign
    }
}

/// The commands in a text, as they stand between backticks.
fn commands(text: &str) -> Vec<String> {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Fails for what somebody can mend, does what is said of it, and works then.
fn helped(failing: &Command, status: i32, problem: &str, help: &str) {
    let output = failing.output().unwrap();
    let text = said(&output);
    assert_eq!(output.status, status, "{text}");
    assert!(text.contains(problem), "{problem:?} is not in: {text}");
    assert!(commands(&text).iter().any(|command| command == help), "{help:?} is not in: {text}");
    carry_out(help);
    let output = failing.output().unwrap();
    assert_eq!(output.status, 0, "after {help}: {}", said(&output));
}

/// Does what a help says, word for word; a word in capitals stands for one of the reader's choice.
fn carry_out(help: &str) {
    carry_out_in(&selftest(), None, help);
}

fn carry_out_in(folder: &Path, state_dir: Option<&Path>, help: &str) {
    let mut line = help.replace("cargo xtask", env!("CARGO_BIN_EXE_xtask"));
    for (name, word) in
        [("TEMPLATE", "mini"), ("--slot N", OTHER_SLOT), ("FAULT", "net.isolate"), ("CONTAINER", "mini")]
    {
        line = line.replace(name, word);
    }
    let shell = Command::new("sh").args(["-c", &line]).dir(folder).env("E2E_SLOT", slot());
    let shell = state_dir.into_iter().fold(shell, |shell, folder| shell.env("E2E_STATE_DIR", folder));
    let done = shell.deadline(Duration::from_secs(120)).output().unwrap();
    assert_eq!(done.status, 0, "{help}: {}", said(&done));
}

/// Slot for help that says "another slot": one that no test leases.
const OTHER_SLOT: &str = "--slot 98";

fn up() -> Command {
    xtask(&["up", "mini", "--no-wait"])
}

fn run() -> Command {
    e2e(&selftest(), &["who_am_i"])
}

fn container() -> String {
    format!("e2e-selftest-{}-a", slot())
}

#[test]
fn a_lab_whose_guard_was_killed_is_in_nobodys_way() {
    let host = Host::take();
    for _ in 0..3 {
        passes(&["up", "mini", "--no-wait"]);
        signal(guard(), Signal::SIGKILL);
    }
    passes(&["up", "mini", "--no-wait"]);
    signal(guard(), Signal::SIGKILL);
    let text = passes(&["down"]);
    assert!(text.contains("the guard was gone; leftovers removed"), "{text}");
    assert!(text.contains("logs of 1 container removed"), "{text}");
    host.expect_clean_within(Duration::ZERO);
    let again = xtask(&["down"]).output().unwrap();
    assert_eq!(again.status, 2, "{}", said(&again));
    assert!(said(&again).contains("there is no lab in slot"), "{}", said(&again));
}

#[test]
fn a_guard_that_stands_still_is_let_go_on_and_goes() {
    let host = Host::take();
    passes(&["up", "mini"]);
    signal(guard(), Signal::SIGSTOP);
    let help = format!("cargo xtask down --slot {}", slot());
    helped(&up(), 3, "whose guard is stopped (SIGSTOP)", &help);
    helped(&run(), 3, "holds a lab", &help);
    passes(&["up", "mini"]);
    signal(guard(), Signal::SIGSTOP);
    let output = xtask(&["ttl", "1h"]).env("E2E_PATIENCE", "0.1").output().unwrap();
    assert!(output.status == 3 && commands(&said(&output)).contains(&help), "{}", said(&output));
    carry_out(&help);
    passes(&["up", "mini"]);
    signal(guard(), Signal::SIGSTOP);
    let text = passes(&["clean"]);
    assert!(text.contains("was stopped: it was continued") && text.contains("is gone"), "{text}");
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn a_guard_that_stands_still_and_has_no_engine_is_cleaned() {
    let _host = Host::take();
    let mut engine = e2e_in_background(&selftest(), &["misbehaves:hangs", "--timeout", "60s"]);
    let socket = Path::new("/run/mancer-e2e").join(slot()).join("socket");
    wait_until("the scenario runs", || socket.exists());
    signal(guard(), Signal::SIGSTOP);
    engine.kill().unwrap();
    engine.wait().unwrap();
    helped(&run(), 3, "whose engine has ended", &format!("cargo xtask clean --slot {}", slot()));
}

#[test]
fn a_run_whose_guard_stood_still_ends() {
    let host = Host::take();
    let engine = e2e_in_background(&selftest(), &["misbehaves:hangs", "--timeout", "60s"]);
    let socket = Path::new("/run/mancer-e2e").join(slot()).join("socket");
    wait_until("the scenario runs", || socket.exists());
    signal(guard(), Signal::SIGSTOP);
    let id = engine.id().cast_signed();
    signal(id, Signal::SIGINT);
    wait_until("the engine has heard it", || !xtask(&["ps"]).output().unwrap().text().is_empty());
    signal(id, Signal::SIGINT); // twice: it is not to wait for its guard
    let ended = engine.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(5));
    passes(&["clean"]);
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn a_guard_that_does_not_go_is_killed_and_its_ledger_carried_out() {
    let host = Host::take();
    let made = xtask(&["up", "mini"]).env("E2E_CRASH_SLOTS", slot()).env("E2E_CRASH", "ending#1 guard STOP");
    assert_eq!(made.output().unwrap().status, 0);
    let output = xtask(&["down"]).env("E2E_PATIENCE", "0.1").output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    assert!(said(&output).contains("did not go down within 3s: it was killed"), "{}", said(&output));
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn faults_whose_holder_was_killed_go_with_their_lab() {
    let host = Host::take();
    passes(&["up", "mini"]);
    passes(&["fault", "inject", "net.delay", "delay_ms=50", "--on", "mini"]);
    let holder = || {
        let all = Command::new("pgrep").args(["-f", &format!("fault-holder --slot {}$", slot())]).output().unwrap();
        all.text().trim().parse::<i32>().ok()
    };
    // One that stands still does not keep its lab.
    signal(holder().unwrap(), Signal::SIGSTOP);
    signal(guard(), Signal::SIGKILL);
    passes(&["up", "mini", "--no-wait"]);
    assert_eq!(holder(), None);
    passes(&["fault", "inject", "net.delay", "delay_ms=50", "--on", "mini"]);
    signal(holder().unwrap(), Signal::SIGKILL);
    wait_until("the holder is gone", || holder().is_none());
    let inject = ["fault", "inject", "net.isolate", "--on", "mini"];
    let output = xtask(&inject).output().unwrap();
    let help = format!("cargo xtask down --slot {}", slot());
    assert!(output.status == 3 && commands(&said(&output)).contains(&help), "{}", said(&output));
    let listed = passes(&["fault", "list", "--live"]);
    assert!(commands(&listed).contains(&help), "{listed}");
    carry_out(&help);
    passes(&["up", "mini"]);
    passes(&inject);
    passes(&["down"]);
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn a_machine_that_stands_still_is_healed() {
    let _host = Host::take();
    passes(&["up", "mini"]);
    passes(&["fault", "inject", "node.freeze", "--on", "mini"]);
    carry_out("cargo xtask ps");
    // Two labs with faults are the normal case beside other tests: the help names the one that is meant.
    let heal = format!("cargo xtask fault heal --all --slot {}", slot());
    helped(&xtask(&["exec", "mini", "--", "true"]), 3, "no program can run in it", &heal);
    let own_lab = ["cargo xtask fault inject FAULT --on CONTAINER", "cargo xtask ps"];
    own_lab.iter().for_each(|help| carry_out(&format!("{help} --slot {}", slot())));
    let shown = xtask(&["exec", "nobody", "--", "true"]).output().unwrap();
    let own = "cargo xtask ps".to_owned();
    assert!(shown.status == 2 && commands(&said(&shown)).contains(&own), "{}", said(&shown));
    carry_out(&own);
    passes(&["down"]);
}

#[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test does not")]
fn lock_by_hand() -> Child {
    let folder = Path::new("/run/mancer-e2e").join(slot());
    fs::create_dir_all(&folder).unwrap();
    let mut command = std::process::Command::new("flock");
    let child = command.arg("--no-fork").arg(folder.join("lock")).args(["sleep", "120"]).spawn().unwrap();
    wait_until("the lock is taken", || xtask(&["up", "mini", "--no-wait"]).output().unwrap().status != 0);
    child
}

#[test]
fn whoever_holds_a_slot_is_named() {
    let host = Host::take();
    let mut other = lock_by_hand();
    let named = format!("process {} (sleep 120)", other.id());
    for (args, status) in [(&["up", "mini", "--no-wait"][..], 3), (&["down"], 3), (&["clean"], 0)] {
        let output = xtask(args).output().unwrap();
        assert_eq!(output.status, status, "{args:?}: {}", said(&output));
        assert!(said(&output).contains(&named), "{args:?}: {}", said(&output));
    }
    other.kill().unwrap();
    other.wait().unwrap();
    passes(&["clean"]);
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn a_log_folder_that_a_late_program_has_made_is_taken_or_removed() {
    let _host = Host::take();
    let folder = Path::new("/var/log/lxc").join(container());
    let late = || {
        let log = format!("--logfile={}", folder.join("attach.log").display());
        let late = Command::new("lxc-attach").args([&log, "-n", &container(), "--", "/bin/true"]).dir("/").output();
        assert_ne!(late.unwrap().status, 0, "its container is gone");
        assert!(folder.join("attach.log").exists() && !folder.join(".mancer-e2e").exists());
    };
    run().run().unwrap();
    passes(&["clean"]);
    assert!(!folder.exists());
    late();
    run().run().unwrap();
    passes(&["clean"]);
    late();
    let text = passes(&["clean"]);
    assert!(text.contains("logs of 1 container removed") && !folder.exists(), "{text}");
    late();
    passes(&["down"]);
    assert!(!folder.exists());
}

/// A folder of somebody else's; gone at the test's end.
struct InTheWay(PathBuf);

impl InTheWay {
    fn with(path: impl AsRef<Path>, file: &str, content: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        fs::write(path.as_ref().join(file), content).unwrap();
        Self(path.as_ref().to_owned())
    }
}

impl Drop for InTheWay {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn folders_of_somebody_else_are_named_and_left_alone() {
    let _host = Host::take();
    let name = container();
    let kept = |folder: &Path| assert!(fs::read_dir(folder).unwrap().next().is_some(), "it is left alone");

    let half = InTheWay::with(Path::new("/var/lib/lxc").join(&name), "notes", "mine");
    passes(&["clean"]);
    kept(&half.0);
    helped(&run(), 3, "not made by this engine", &format!("rm -r /var/lib/lxc/{name}"));

    let root = tempfile::tempdir().unwrap();
    let config = format!("lxc.uts.name = {name}\nlxc.rootfs.path = dir:{}\n", root.path().join("root").display());
    fs::create_dir(root.path().join("root")).unwrap();
    let container = InTheWay::with(Path::new("/var/lib/lxc").join(&name), "config", &config);
    passes(&["clean"]);
    kept(&container.0);
    assert!(which("lxc-destroy").is_some());
    helped(&run(), 3, "not made by this engine", &format!("lxc-destroy -n {name}"));

    passes(&["clean"]); // the logs of the run
    let logs = InTheWay::with(Path::new("/var/log/lxc").join(&name), "mine.log", "mine");
    passes(&["clean"]);
    kept(&logs.0);
    let moved = InTheWay(Path::new("/var/log/lxc").join(format!("{name}.old")));
    helped(&run(), 3, "not made by this engine", &format!("mv {} {}", logs.0.display(), moved.0.display()));
    kept(&moved.0);

    let streams = InTheWay::with(Path::new("/var/lib/mancer-e2e/streams").join(slot()), "mine", "mine");
    helped(&run(), 3, "not made by this engine", &format!("rm -r {}", streams.0.display()));
}

#[test]
fn a_container_of_another_slot_is_named_with_its_slot() {
    let _host = Host::take();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let other = format!("test-{}", slot());
    let mark = format!(
        "{{\"format_version\":1,\"engine\":\"mancer-e2e\",\"slot\":\"{other}\",\"boot_id\":\"{}\"}}",
        boot.trim()
    );
    let help = format!("cargo xtask clean --slot {other}");
    for home in ["/var/lib/lxc", "/var/log/lxc"] {
        passes(&["clean"]);
        let _folder = InTheWay::with(Path::new(home).join(container()), ".mancer-e2e", &mark);
        helped(&run(), 3, &format!("belongs to slot {other}"), &help);
    }
}

/// Labs of one machine whose `/proc` is covered, as that of a container may be.
#[test]
fn a_lab_is_made_where_proc_is_covered() {
    let _host = Host::take();
    let script = "mount --make-rprivate / && mount --bind /proc/version /proc/uptime && exec \"$@\"";
    let words = with_slot(&["e2e", "who_am_i"]);
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "covered", env!("CARGO_BIN_EXE_xtask")])
        .args(words)
        .args(["--binaries", &super::common::binaries().display().to_string()])
        .dir(selftest())
        .deadline(Duration::from_secs(120))
        .output()
        .unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

#[test]
fn what_up_prints_can_be_typed() {
    let host = Host::take();
    let text = passes(&["up", "mini"]);
    for (beginning, word) in [("run a program", "true"), ("take it down", "")] {
        let line = text.lines().find_map(|line| line.strip_prefix(beginning)).expect("it says how");
        carry_out(&line.trim().replace("COMMAND", word));
    }
    host.expect_clean_within(Duration::ZERO);
}

/// Carries out the help that is printed where no lab is, and where a name is wrong: each command of it can be carried
/// out there.
#[test]
fn help_without_a_lab_can_be_carried_out() {
    let _host = Host::take();
    let nobody = ["exec", "nobody-here", "--", "true"];
    let shown = xtask(&nobody).output().unwrap();
    assert_eq!(shown.status, 2, "{}", said(&shown));
    let none = xtask(&["fault", "heal", "--all"]).output().unwrap();
    assert_eq!(none.status, 2, "{}", said(&none));
    for (args, help) in [
        (&["e2e", "no-such-scenario"][..], "cargo xtask e2e --list"),
        (&["up", "no-such-thing-at-all"], "cargo xtask e2e --list"),
        (&["e2e", "three_machines", "--chaos=no-such-fault-at-all"], "cargo xtask fault list"),
        (&["fault", "try", "no-such-fault-at-all"], "cargo xtask fault list"),
        (&["runs", "rm", "19700101-000000-1"], "cargo xtask runs"),
        (&["baseline", "show", "smoke/nothing"], "cargo xtask baseline list"),
    ] {
        let words = if args[0] == "runs" || args[0] == "baseline" {
            args.iter().map(|word| (*word).to_owned()).collect()
        } else {
            with_slot(args)
        };
        let output = engine().args(words).dir(selftest()).output().unwrap();
        let text = said(&output);
        assert!(output.status != 0 && commands(&text).iter().any(|command| command == help), "{args:?}: {text}");
        carry_out(help);
    }
}

/// Layers and their lock file, in a store of the test's own.
#[test]
fn help_for_layers_can_be_carried_out() {
    let _host = Host::take();
    let project = project_with_template("from = \"mini\"\ninit = [\"/bin/sleep\", \"3600\"]\n");
    let state = tempfile::tempdir().unwrap();
    let here = |args: &[&str]| {
        engine().args(args).dir(project.path()).env("E2E_STATE_DIR", state.path()).deadline(Duration::from_secs(120))
    };
    let does = |help: &str| carry_out_in(project.path(), Some(state.path()), help);
    let lock = project.path().join("containers/lock.json");
    for text in ["{", "{\"format_version\":1,\"templates\":{}}"] {
        fs::write(&lock, text).unwrap();
        let output = here(&["image", "build", "--locked"]).output().unwrap();
        let help = "cargo xtask image build";
        assert!(output.status == 2 && commands(&said(&output)).contains(&help.to_owned()), "{}", said(&output));
        does(help);
        here(&["image", "build", "--locked"]).run().unwrap();
    }
    here(&["up", "odd", "--slot", slot()]).run().unwrap();
    let remove = here(&["image", "rm", "mini"]);
    let output = remove.output().unwrap();
    let said = said(&output);
    let help = ["cargo xtask ps", "cargo xtask down --slot N"];
    assert!(output.status == 3 && help.iter().all(|help| commands(&said).contains(&(*help).to_owned())), "{said}");
    does(help[0]);
    does(&help[1].replace("--slot N", &format!("--slot {}", slot())));
    remove.run().unwrap();
    does("cargo xtask image prune");
}

#[test]
fn a_run_in_the_slot_leaves_room_in_another() {
    let _host = Host::take();
    let mut run = e2e_in_background(&selftest(), &["misbehaves:hangs", "--timeout", "60s"]);
    let socket = Path::new("/run/mancer-e2e").join(slot()).join("socket");
    wait_until("the scenario runs", || socket.exists());
    let output = xtask(&["down"]).output().unwrap();
    let help = "cargo xtask up TEMPLATE --slot N";
    assert!(output.status == 3 && commands(&said(&output)).contains(&help.to_owned()), "{}", said(&output));
    carry_out(help);
    carry_out("cargo xtask down --slot N");
    signal(run.id().cast_signed(), Signal::SIGINT);
    assert_eq!(run.wait().unwrap().code(), Some(5));
}

#[test]
fn a_folder_that_a_killed_engine_was_making_goes_with_its_lab() {
    let host = Host::take();
    let mut run = e2e_in_background(&selftest(), &["misbehaves:hangs", "--timeout", "60s"]);
    wait_until("the run has a guard", || guard_pid().is_some());
    let half = Path::new(LOG_PATH).join(format!("{MARK}.{0}.e2e-selftest-{0}-z", slot()));
    fs::create_dir(&half).unwrap();
    run.kill().unwrap();
    run.wait().unwrap();
    host.expect_clean_within(PATIENCE);
    assert!(!half.exists());
}
