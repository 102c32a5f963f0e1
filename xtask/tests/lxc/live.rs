//! Labs that stay, and a case that is held: everything that leads into a machine, on the template of busybox alone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::common::{
    Host, PATIENCE, e2e, e2e_args, engine, events, guard_pid, record, said, selftest, slot, with_slot,
};

/// A verb on the engine's own test project.
fn xtask(args: &[&str]) -> Command {
    engine().args(with_slot(args)).dir(selftest()).deadline(Duration::from_secs(60))
}

fn up(args: &[&str]) -> String {
    let output = xtask(&["up"]).args(args).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    output.text()
}

fn down() {
    let text = xtask(&["down"]).run().unwrap().text();
    assert!(text.contains("is gone"), "{text}");
}

fn inside(name: &str, script: &str) -> Output {
    xtask(&["exec", name, "--", "/bin/sh", "-c", script]).output().unwrap()
}

/// The verb fails for what the user can mend, and says how.
fn refused(args: &[&str], status: i32, expected: &str) {
    let output = xtask(args).output().unwrap();
    assert_eq!(output.status, status, "{args:?}: {}", said(&output));
    assert!(said(&output).contains(expected), "{args:?}: {}", said(&output));
}

#[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test does not")]
fn in_background(args: &[&str]) -> Child {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
    command
        .args(with_slot(args))
        .current_dir(selftest())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

/// Other users may pass through a slot's folder: they read nothing that the engine keeps there. What lies on a file system of its own
/// is a container's.
fn expect_closed_files(more: &[&str]) {
    let folder = Path::new("/run/mancer-e2e").join(slot());
    // What is written aside may be gone when it is looked at.
    let walk = walkdir::WalkDir::new(&folder).same_file_system(true).into_iter().filter_map(Result::ok);
    let mut files = Vec::new();
    for entry in walk.filter(|entry| !entry.file_type().is_dir() && !entry.file_type().is_symlink()) {
        let Ok(metadata) = entry.metadata() else { continue };
        let mode = metadata.mode() & 0o7777;
        assert_eq!(mode & 0o077, 0, "{} has the mode {mode:o}", entry.path().display());
        files.push(entry.file_name().to_string_lossy().into_owned());
    }
    for name in ["owner.json", "ledger.jsonl", "lab.json", "lock", "guard.socket"].iter().chain(more) {
        assert!(files.iter().any(|file| file == name), "{name} is missing: {files:?}");
    }
}

/// A group of cgroup version 2 that hands out controllers takes in no process: the next start of its container would fail.
#[test]
fn a_group_with_groups_below_it_holds_no_process() {
    let _host = Host::take();
    up(&["mini", "mini", "--name", "left,right"]);
    xtask(&["fault", "inject", "net.stall", "--on", "left"]).run().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let unified = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("a tree of version 2");
    let group = Path::new(unified.split(' ').nth(4).unwrap()).join(format!("mancer-e2e-{}", slot()));
    let mut held = 0;
    for entry in
        walkdir::WalkDir::new(&group).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_dir())
    {
        let below = std::fs::read_dir(entry.path()).unwrap().filter_map(Result::ok);
        let is_inner = below.into_iter().any(|below| below.file_type().is_ok_and(|kind| kind.is_dir()));
        let processes = std::fs::read_to_string(entry.path().join("cgroup.procs")).unwrap();
        held += processes.lines().count();
        // LXC's own group of a container, in which each attach makes another, is the container's.
        let is_engines = !entry.file_name().to_string_lossy().starts_with("lxc.");
        assert!(!(is_engines && is_inner) || processes.is_empty(), "{}: {processes}", entry.path().display());
    }
    assert!(held >= 5, "two machines, their monitors, a helper: {held} processes below {}", group.display());
    // None of it is an error that is shown when a start fails.
    let log = format!("/var/log/lxc/e2e-selftest-{}-left/lxc.log", slot());
    let log = std::fs::read_to_string(&log).unwrap_or_else(|error| panic!("{log}: {error}"));
    assert!(!log.contains("Could not enable"), "{log}");
    down();
}

#[test]
fn a_lab_stays_is_entered_and_is_taken_down() {
    let host = Host::take();
    let none = format!("there is no lab in slot {}", slot());
    refused(&["exec", "left", "--slot", slot(), "--", "true"], 2, &none);
    refused(&["down"], 2, &none);
    let said_up = up(&["mini", "mini", "--name", "left,right", "--ttl", "1h"]);
    let down_line = format!("cargo xtask down --slot {}", slot());
    for part in ["left", "right", &down_line, "cargo xtask forward left:PORT", "automatically in 1h"] {
        assert!(said_up.contains(part), "{part}: {said_up}");
    }
    refused(&["up", "mini", "--slot", slot(), "--no-wait"], 3, "cargo xtask down");

    let piped = xtask(&["exec", "left", "--user", "user", "--", "/bin/sh", "-c", "id -u; cat; echo bad >&2; exit 7"])
        .stdin("through")
        .output()
        .unwrap();
    assert_eq!((piped.status, piped.text().as_str()), (7, "1000\nthrough"), "{}", said(&piped));
    assert_eq!(String::from_utf8_lossy(&piped.stderr), "bad\n");
    refused(&["exec", "lefft", "--", "true"], 2, "did you mean left?");
    refused(&["exec", "left", "--user", "nobody-here", "--", "true"], 2, "there is no user");
    refused(
        &["exec", "left", "--slot", "89", "--", "true"],
        2,
        "there is no lab in slot 89: live labs are in the slots",
    );

    let shown = xtask(&["--format", "json", "ps"]).run().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let lab = &shown["labs"][0];
    assert_eq!(
        (lab["machines"][1]["name"].as_str(), lab["machines"][1]["state"].as_str()),
        (Some("right"), Some("running"))
    );
    assert!(lab["machines"][0]["memory_bytes"].as_u64().unwrap() > 0, "{lab}");
    assert!((3000.0..3600.0).contains(&lab["goes_in_s"].as_f64().unwrap()), "{lab}");
    expect_closed_files(&["hook.sh", "init.pid", "starts"]);
    assert!(!host.leftovers().is_empty());
    down();
    host.expect_clean_within(Duration::ZERO);
}

#[test]
fn a_lab_goes_by_itself_when_its_time_is_over() {
    let host = Host::take();
    up(&["mini", "--ttl", "1h"]);
    let text = xtask(&["ttl", "1s"]).run().unwrap().text();
    assert!(text.contains("taken down automatically in 1s"), "{text}");
    host.expect_clean_within(PATIENCE);
    refused(&["ttl", "1s"], 2, "there is no lab in slot");

    let output = e2e(&selftest(), &["misbehaves:exit_7", "--keep-containers", "--ttl", "1s"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let down = said(&output)
        .lines()
        .any(|line| line.contains("cargo xtask down --root") && line.ends_with(&format!("--slot {}", slot())));
    assert!(down, "{}", said(&output));
    host.expect_clean_within(PATIENCE);
    assert_eq!(e2e(&selftest(), &["misbehaves:exit_7", "--ttl", "1s"]).output().unwrap().status, 2, "nothing is kept");
}

#[test]
fn files_go_in_and_come_out_and_nothing_else_is_written() {
    let _host = Host::take();
    up(&["mini"]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    std::fs::create_dir_all(path("tree/closed")).unwrap();
    std::fs::write(path("tree/closed/file"), "content").unwrap();
    std::fs::set_permissions(path("tree/closed/file"), std::fs::Permissions::from_mode(0o640)).unwrap();
    symlink("closed/file", path("tree/link")).unwrap();

    xtask(&["cp", &text("tree"), "mini:/root"]).run().unwrap();
    let listed =
        inside("mini", "stat -c '%a %u:%g' /root/tree/closed/file; readlink /root/tree/link; cat /root/tree/link");
    assert_eq!(listed.text(), "640 0:0\nclosed/file\ncontent", "{}", said(&listed));
    xtask(&["cp", "mini:/root/tree", &text("back")]).run().unwrap();
    assert_eq!(std::fs::read(path("back/closed/file")).unwrap(), b"content");
    assert_eq!(std::fs::metadata(path("back/closed/file")).unwrap().mode() & 0o7777, 0o640);
    xtask(&["cp", &text("tree/closed/file"), "mini:/tmp/new", "--user", "user"]).run().unwrap();
    assert_eq!(inside("mini", "stat -c %u /tmp/new").text(), "1000");

    refused(&["cp", "mini:/root/tree", &text("back/closed/file")], 2, "--force replaces it");
    refused(&["cp", &text("tree/closed/file"), "mini:/etc/passwd"], 2, "--force replaces it");
    refused(&["cp", &text("tree"), "mini:/root"], 2, "remove it first");
    refused(&["cp", &text("tree"), "mini:/no/such"], 2, "make it first");
    refused(&["cp", "mini:/no/such", &text("x")], 2, "No such file");
    refused(&["cp", &text("tree"), &text("y")], 2, "one of the two paths must be in a container");
    xtask(&["cp", &text("tree/closed/file"), "mini:/tmp/new", "--force"]).run().unwrap();

    // A tar of the container's own: first a link that leads out, then a file below it.
    let prey = path("prey");
    std::fs::create_dir(&prey).unwrap();
    let planted = inside(
        "mini",
        &format!(
            "set -e; mkdir -p /tmp/deep/evil; cd /tmp/deep; ln -s {} evil/a; tar -cf first evil
             rm evil/a; mkdir evil/a; echo x > evil/a/file; tar -cf second evil/a/file
             rm /bin/tar; printf '#!/bin/sh\nhead -c 1024 /tmp/deep/first; cat /tmp/deep/second\n' > /bin/tar
             chmod 755 /bin/tar",
            prey.display()
        ),
    );
    assert_eq!(planted.status, 0, "{}", said(&planted));
    refused(&["cp", "mini:/tmp/deep/evil", &text("got")], 3, "unpacking");
    assert!(!path("got").exists() && std::fs::read_dir(&prey).unwrap().next().is_none());
    let mut left = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.all(|name| !name.to_string_lossy().starts_with(".e2e-cp-")), "what was half unpacked is removed");
    down();
}

#[test]
fn a_port_is_forwarded_and_its_packets_are_captured() {
    let _host = Host::take();
    up(&["mini"]);
    let served = inside("mini", "mkdir /srv; echo a page > /srv/index.html; httpd -h /srv -p 80");
    assert_eq!(served.status, 0, "{}", said(&served));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mini.pcap").display().to_string();
    let mut pcap = in_background(&["pcap", "mini", "--output", &file]);
    let mut progress = BufReader::new(pcap.stderr.take().unwrap());
    let mut line = String::new();
    progress.read_line(&mut line).unwrap();
    assert!(line.contains("Ctrl-C ends it"), "{line}");

    let mut forward = in_background(&["forward", "mini:80", "--format", "json"]);
    let mut line = String::new();
    BufReader::new(forward.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let address = told["address"].as_str().unwrap().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    let port = address.rsplit(':').next().unwrap();
    let gets: Vec<_> = (0..20)
        .map(|_| {
            let address = address.clone();
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                let mut page = String::new();
                stream.read_to_string(&mut page).unwrap();
                page
            })
        })
        .collect();
    assert!(gets.into_iter().all(|get| get.join().unwrap().ends_with("a page\n")));
    refused(&["forward", "mini:80", "--port", port], 3, "another program listens");
    refused(&["forward", "mini"], 2, "such as app:80");
    interrupt(&forward);
    assert!(forward.wait().unwrap().success());

    interrupt(&pcap);
    assert!(pcap.wait().unwrap().success());
    let packets = packets_of(Path::new(&file));
    let requests = packets.iter().filter(|packet| packet.windows(14).any(|piece| piece == b"GET / HTTP/1.0")).count();
    let pages = packets.iter().filter(|packet| packet.windows(6).any(|piece| piece == b"a page")).count();
    assert_eq!((requests, pages), (20, 20), "{} packets", packets.len());
    refused(&["pcap", "mini", "--output", &file, "--count", "1"], 2, "exists already");
    let other = folder.path().join("none.pcap").display().to_string();
    xtask(&["pcap", "mini", "--output", &other, "--for", "100ms"]).run().unwrap();

    // What is forwarded ends with its lab.
    let mut forward = in_background(&["forward", "mini:81"]);
    let mut line = String::new();
    BufReader::new(forward.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.split(' ').next().unwrap();
    assert_eq!(TcpStream::connect(address).unwrap().read(&mut [0]).unwrap_or(0), 0, "nobody listens there");
    down();
    let output = forward.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("refused") && said.contains("is gone"), "{said}");
}

/// The packets of a capture file.
fn packets_of(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
    let (mut rest, mut packets) = (&bytes[24..], Vec::new());
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        packets.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    packets
}

#[test]
fn faults_are_done_and_healed_by_other_processes() {
    let host = Host::take();
    let _ = &host;
    up(&["mini", "mini", "--name", "a,b"]);
    refused(&["fault", "inject", "net.isolat", "--on", "a"], 2, "did you mean net.isolate?");
    refused(&["fault", "inject", "net.delay", "--on", "a"], 2, "missing field `delay_ms`");
    refused(&["fault", "inject", "process.kill", "command=nothing-like-it", "--on", "a"], 2, "nothing-like-it");
    refused(&["fault", "heal", "1"], 2, "no fault 1 was injected into this lab");
    let reaches = || inside("b", "ping -c 1 -W 1 a >/dev/null").status == 0;
    assert!(reaches());

    let text = xtask(&["fault", "inject", "net.isolate", "--on", "a"]).run().unwrap().text();
    assert!(text.contains("fault 1: net.isolate on a") && text.contains("effect   "), "{text}");
    assert!(!reaches());
    refused(&["fault", "inject", "net.isolate", "--on", "a"], 2, "net.isolate acts on a already");
    xtask(&["fault", "inject", "node.freeze", "--on", "b"]).run().unwrap();
    refused(&["exec", "b", "--", "true"], 3, "b is frozen");
    expect_closed_files(&["faults.json", "faults.lock", "faults.log", "faults.socket"]);
    let shown = xtask(&["ps"]).run().unwrap().text();
    for part in ["frozen", "fault 1 on a since", "net.isolate", "fault 2 on b", "node.freeze"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let text = xtask(&["fault", "heal", "1"]).run().unwrap().text();
    assert!(
        text.contains("fault 1 is healed: was on until now: ") && text.contains("; recovered: the container answers"),
        "{text}"
    );
    let text = xtask(&["fault", "heal", "--all"]).run().unwrap().text();
    assert!(text.contains("fault 2 is healed") && !text.contains("fault 1"), "{text}");
    assert!(reaches());
    refused(&["fault", "heal", "9"], 2, "no fault 9 was injected into this lab");

    // A machine goes down and comes back with a fault of another kind still on it.
    xtask(&["fault", "inject", "net.rate", "kilobits_per_second=10000", "--on", "a"]).run().unwrap();
    xtask(&["fault", "inject", "node.kill", "--on", "a"]).run().unwrap();
    assert!(xtask(&["ps"]).run().unwrap().text().contains("down"));
    refused(&["exec", "a", "--", "true"], 3, "fault heal");
    xtask(&["fault", "heal", "4"]).run().unwrap();
    assert_eq!(inside("a", "true").status, 0);
    let live: Value =
        serde_json::from_slice(&xtask(&["--format", "json", "fault", "list", "--live"]).run().unwrap().stdout).unwrap();
    let faults = live["labs"][0]["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 1, "{live}");
    assert_eq!((&faults[0]["fault"], &faults[0]["description"]["name"]), (&3.into(), &"net.rate".into()));

    // Whoever held them is killed: that is said, and the lab takes them along.
    let holder = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.unwrap().file_name().to_str()?.parse::<i32>().ok()?;
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        line.contains(&format!("fault-holder\0--slot\0{}\0", slot())).then_some(pid)
    });
    let holder: Vec<i32> = holder.collect();
    assert_eq!(holder.len(), 1);
    kill(Pid::from_raw(holder[0]), Signal::SIGKILL).unwrap();
    refused(&["fault", "heal", "3"], 3, "and its faults with it");
    refused(&["fault", "inject", "net.isolate", "--on", "b"], 3, "was killed");
    down();
}

#[test]
fn the_lab_of_a_run_can_be_entered_but_not_taken() {
    let _host = Host::take();
    let project = selftest();
    let mut run = super::common::e2e_in_background(&project, &["misbehaves:hangs", "--timeout", "60s"]);
    let started = Instant::now();
    while inside("a", "true").status != 0 {
        assert!(started.elapsed() < Duration::from_secs(30));
    }
    refused(&["down"], 3, "has no kept lab");
    refused(&["fault", "inject", "net.isolate", "--on", "a"], 3, "has no kept lab");
    assert!(xtask(&["ps"]).run().unwrap().text().contains("running"));
    interrupt(&run);
    assert_eq!(run.wait().unwrap().code(), Some(5));
}

/// Opens both ends of a new terminal: that of whoever sits at it, and that of programs.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let nothing = std::ptr::null_mut();
    // SAFETY: it writes two numbers; both descriptors are new, and nobody else's.
    unsafe {
        let made = libc::openpty(&raw mut master, &raw mut slave, nothing, nothing.cast(), nothing.cast());
        assert_eq!(made, 0);
        (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

/// The engine at a terminal, with somebody who types.
struct AtTerminal {
    child: Child,
    master: OwnedFd,
    seen: String,
}

impl AtTerminal {
    #[expect(clippy::disallowed_methods, reason = "the seam gives nobody a terminal")]
    fn e2e(args: &[&str]) -> Self {
        let (master, slave) = terminal();
        let end = || Stdio::from(slave.try_clone().unwrap());
        // As where somebody sits: what it starts finds the terminal as its own.
        let mut command = std::process::Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_xtask")]);
        command.args(e2e_args(&selftest(), args)).current_dir(selftest());
        command.stdin(end()).stdout(end()).stderr(end());
        Self { child: command.spawn().unwrap(), master, seen: String::new() }
    }

    /// Waits until this is seen, after what was seen before.
    fn expect(&mut self, text: &str) {
        let started = Instant::now();
        while !self.seen.contains(text) {
            let left = Duration::from_secs(60).saturating_sub(started.elapsed());
            assert!(!left.is_zero(), "{text:?} did not come:\n{}", self.seen);
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() > 0 {
                let mut buffer = [0; 4096];
                let count = nix::unistd::read(self.master.as_fd(), &mut buffer).unwrap_or(0);
                assert!(count > 0, "{text:?} did not come:\n{}", self.seen);
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn line(&self, text: &str) {
        nix::unistd::write(self.master.as_fd(), format!("{text}\n").as_bytes()).unwrap();
    }

    fn status(mut self) -> Option<i32> {
        drop(self.master);
        self.child.wait().unwrap().code()
    }
}

#[test]
fn a_case_is_held_at_its_first_failure() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["misbehaves:check_fails", "--break-on-failure"]).output().unwrap();
    assert_eq!(output.status, 2, "{}", said(&output));
    assert!(said(&output).contains("stdin is not a terminal") && guard_pid().is_none(), "{}", said(&output));

    // The deadline of the case is 3 s: it is held longer than that.
    let mut terminal = AtTerminal::e2e(&["misbehaves:check_fails", "--break-on-failure"]);
    terminal.expect("rows = 19999");
    terminal.expect("(held) ");
    let held = Instant::now();
    terminal.line("shel");
    terminal.expect("Did you mean shell?");
    terminal.line("shell a");
    terminal.expect("# "); // what is typed before the shell is there is dropped
    terminal.line("hostname; echo in-$((40+2))");
    terminal.expect("in-42");
    while held.elapsed() < Duration::from_millis(3500) {
        std::thread::sleep(Duration::from_millis(50)); // the time that must not count
    }
    terminal.line("exit");
    terminal.expect("(held) ");
    terminal.line("continue");
    terminal.expect("record: ");
    assert_eq!(terminal.status(), Some(1));
    let cause = record(&project)["cases"][0]["attempts"][0]["cause"]["cause"].clone();
    assert_eq!(cause, "check", "not timed_out");
    let all = events(&project);
    let of = |kind: &str| all.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((of("held"), of("released")), (1, 1), "once a case, though the error of the check follows");
}

#[test]
fn held_machines_stand_still_but_for_the_one_that_is_entered() {
    let _host = Host::take();
    let project = selftest();
    let mut terminal = AtTerminal::e2e(&["misbehaves:error", "misbehaves:exit_7", "--break-on-failure", "--freeze"]);
    terminal.expect("(held) ");
    let state = || xtask(&["ps"]).run().unwrap().text();
    assert!(state().contains("frozen"), "{}", state());
    terminal.line("shell a");
    terminal.expect("# ");
    terminal.line("echo in-$((40+2))");
    terminal.expect("in-42");
    assert!(state().contains("running"), "{}", state());
    terminal.line("exit");
    terminal.expect("(held) ");
    assert!(state().contains("frozen"), "{}", state());
    terminal.line("give up");
    terminal.expect("1 skipped");
    assert_eq!(terminal.status(), Some(1));
    let released = events(&project).into_iter().find(|event| event["event"] == "released").unwrap();
    assert_eq!(released["onward"], "give_up");
    assert_eq!(record(&project)["cases"][0]["attempts"][0]["cause"]["cause"], "error");
}
