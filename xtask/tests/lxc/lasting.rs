//! Faults that are ended behind the engine's back: the proof is repeated before a fault is healed. And clocks, whose proof is what
//! the running process itself reads.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::common::{
    Host, PATIENCE, e2e_in_background, engine, events, mancer, project_with_template, record, said, selftest, slot,
    with_slot,
};

/// Words of a repeated proof that held.
const UNTIL_NOW: &str = "was on until now: ";

/// Words of a repeated proof of a fault that was gone.
const LOST: &str = "was no longer on, ";

/// A kept lab, of one project.
struct Lab {
    project: PathBuf,
    /// LXC's name of `a`.
    name: String,
}

impl Lab {
    fn up(project: PathBuf, name: &str, words: &[&str]) -> Self {
        let lab = Self { project, name: format!("{name}-{}-a", slot()) };
        let output = lab.verb(&[&["up"], words].concat());
        assert_eq!(output.status, 0, "{}", said(&output));
        lab
    }

    fn verb(&self, words: &[&str]) -> Output {
        let command = engine().args(with_slot(words)).dir(&self.project).deadline(Duration::from_secs(300));
        command.output().unwrap()
    }

    fn try_inject(&self, fault: &str) -> Output {
        let words: Vec<&str> = ["--format", "json", "fault", "inject"].into_iter().chain(fault.split(' ')).collect();
        self.verb(&[&words[..], &["--on", "a"]].concat())
    }

    /// Does a fault to `a`; the answer has its number and what was seen.
    fn inject(&self, fault: &str) -> Value {
        let output = self.try_inject(fault);
        assert_eq!(output.status, 0, "{fault}: {}", said(&output));
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told["fault"].clone()
    }

    fn heal(&self, fault: &Value) -> String {
        let output = self.verb(&["fault", "heal", &fault["fault"].to_string()]);
        assert_eq!(output.status, 0, "{}", said(&output));
        output.text()
    }

    fn inside(&self, script: &str) -> String {
        let output = self.verb(&["exec", "a", "--", "/bin/sh", "-c", script]);
        assert_eq!(output.status, 0, "{script}: {}", said(&output));
        output.text()
    }

    /// Heals a fault that was left alone, and one of the same kind that somebody has ended.
    fn compare(&self, fault: &str, end: &End) {
        let told = self.heal(&self.inject(fault));
        assert!(told.contains(UNTIL_NOW), "{fault}: {told}");
        let ended = self.inject(fault);
        match end {
            End::Inside(script) => drop(self.inside(script)),
            End::OnHost(script) => on_host(&self.name, script),
        }
        let told = self.heal(&ended);
        assert!(told.contains(LOST) && told.contains("; recovered: "), "{fault}: {told}");
    }

    fn down(&self) {
        let output = self.verb(&["down"]);
        assert_eq!(output.status, 0, "{}", said(&output));
    }
}

/// Cause that ends a fault.
enum End {
    /// A program of the container's.
    Inside(&'static str),
    /// Whoever is root on the host.
    OnHost(String),
}

/// Runs a script on the host, which has the slot as `$1` and the first process of this container as `$2`; `net` runs a program
/// in the lab's network.
fn on_host(name: &str, script: &str) {
    let init = Command::new("lxc-info").args(["-n", name, "-p", "-H"]).run().unwrap().text();
    let lab = std::fs::read(format!("/run/mancer-e2e/{}/lab.json", slot())).unwrap();
    let lab: Value = serde_json::from_slice(&lab).unwrap();
    let network = lab["network"]["path"].as_str().unwrap();
    let script = format!("net() {{ nsenter --net={network} \"$@\"; }}\n{script}");
    let words = ["-ec", &script, "host", slot(), init.trim()];
    Command::new("/bin/sh").args(words).run().unwrap_or_else(|error| panic!("{script}: {error}"));
}

/// Ends each process of the slot with this word in its command line.
fn kill(word: &str) -> End {
    End::OnHost(format!(
        "for file in $(find /sys/fs/cgroup -path \"*mancer-e2e-$1/*\" -name cgroup.procs); do cat $file; done | sort -u | \
         while read -r pid; do if tr '\\0' ' ' < /proc/$pid/cmdline 2> /dev/null | grep -q {word}; then kill -9 $pid; fi; done"
    ))
}

/// Writes into the files of these names in the groups of `a`, for version 1 and 2 of control groups.
fn write(v1: (&str, &str), v2: (&str, &str)) -> End {
    let one = |(file, value): (&str, &str)| {
        format!(
            "find /sys/fs/cgroup -path \"*mancer-e2e-$1/a/*\" -name {file} | while read -r file; do \
             echo {value} > $file || true; done 2> /dev/null\n"
        )
    };
    End::OnHost(one(v1) + &one(v2))
}

const DROP_TABLES: &str =
    "for name in $(net nft list tables bridge | cut -d' ' -f3); do net nft delete table bridge $name; done";

const DROP_QUEUES: &str = "for port in $(net ip -o link | sed 's/^[0-9]*: \\([^:@]*\\).*/\\1/'); do \
                           net tc qdisc del dev $port root 2> /dev/null || true; done";

#[test]
fn a_fault_that_somebody_has_ended_is_told_from_one_that_lasted() {
    let _host = Host::take();
    let lab = Lab::up(selftest(), "e2e-selftest", &["minidisk", "mini", "--name", "a,b"]);
    lab.inside(
        "(sleep 4321 >/dev/null 2>&1 &); (while sleep 0.02; do dd if=/dev/zero of=/tmp/synced bs=1 count=1 conv=fsync; done \
         >/dev/null 2>&1 &); cp /bin/busybox /root/tail; echo as it was > /root/file",
    );
    let host = |script: &str| End::OnHost(script.to_owned());
    for (fault, end) in [
        ("node.freeze", write(("freezer.state", "THAWED"), ("cgroup.freeze", "0"))),
        ("process.pause command=4321", End::Inside("kill -CONT $(pidof sleep)")),
        ("process.crashloop program=/root/tail", End::Inside("umount /root/tail")),
        ("net.isolate", host(DROP_TABLES)),
        ("net.rate kilobits_per_second=1000", host(DROP_QUEUES)),
        ("net.delay delay_ms=60", kill("netqueue")),
        ("dns.servfail", host("nsenter --net=/proc/$2/ns/net nft flush ruleset")),
        ("disk.full path=/data", End::Inside("rm -f /data/.e2e-filler")),
        ("disk.readonly path=/data", End::Inside("mount -o remount,bind,rw,nodev,nosuid none /data")),
        ("io.error command=of=/tmp/synced call=fsync error=EIO", kill("strace")),
        ("file.truncate path=/root/file size_bytes=1", End::Inside("echo as it was > /root/file")),
        ("memory.pressure bytes=8388608", End::Inside("kill -9 $(pidof tail)")),
        ("memory.limit bytes=33554432", write(("memory.limit_in_bytes", "64M"), ("memory.max", "64M"))),
        ("cpu.quota percent=10", write(("cpu.cfs_quota_us", "-1"), ("cpu.max", "max"))),
        ("pids.cap free=4", write(("pids.max", "max"), ("pids.max", "max"))),
    ] {
        lab.compare(fault, &end);
    }
    lab.down();
}

#[test]
fn a_kept_labs_faults_are_done_again_after_a_reboot() {
    let _host = Host::take();
    let lab = Lab::up(selftest(), "e2e-selftest", &["minidisk", "mini", "--name", "a,b"]);
    let faults = ["net.rate kilobits_per_second=1000", "disk.readonly path=/data", "pids.cap free=5"];
    let on: Vec<Value> = faults.iter().map(|fault| lab.inject(fault)).collect();
    lab.inside("(sleep 0.2; reboot -f) > /dev/null 2>&1 & exit 0");
    let begun = Instant::now();
    let rebooted = || {
        let output = lab.verb(&["--format", "json", "fault", "list", "--live"]);
        let live: Value = serde_json::from_slice(&output.stdout).unwrap();
        let faults = live["labs"][0]["faults"].as_array().unwrap().clone();
        faults.iter().all(|fault| !fault["reboot"].is_null() && fault["reboot"]["problem"].is_null())
    };
    while !rebooted() {
        assert!(begun.elapsed() < PATIENCE, "{}", said(&lab.verb(&["fault", "list", "--live"])));
        std::thread::sleep(Duration::from_millis(50)); // until the holder has written that down
    }
    let shown = lab.verb(&["ps"]).text();
    assert!(shown.contains("(on again after a reboot at "), "{shown}");
    for fault in on.iter().rev() {
        let told = lab.heal(fault);
        assert!(told.contains(UNTIL_NOW), "{told}");
    }
    lab.down();
}

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A scenario on the machines `a` and `b`, with this body.
    fn scenario(&self, name: &str, body: &str) {
        let folder = self.path().join("scenarios/smoke").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let main = format!("import e2e\ndef scenario(lab):\n    a = lab.container('a')\n{body}\ne2e.run(scenario)\n");
        let manifest = format!(
            "description = \"{name}\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n\
             [containers.b]\ntemplate = \"odd\"\n"
        );
        for (file, text) in [("main.py", &main), ("scenario.toml", &manifest)] {
            std::fs::write(folder.join(file), text).unwrap();
            std::fs::set_permissions(folder.join(file), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// Events of one kind in the run that goes on.
    fn events(&self, kind: &str) -> Vec<Value> {
        let latest = self.path().join("target/e2e/latest/events.jsonl");
        if !latest.exists() {
            return Vec::new();
        }
        events(self.path()).into_iter().filter(|event| event["event"] == kind).collect()
    }
}

#[test]
fn a_fault_that_the_host_has_lost_says_nothing_of_the_product() {
    let _host = Host::take();
    let folder = project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    std::fs::remove_dir_all(folder.path().join("scenarios/smoke")).unwrap();
    let project = Project { folder };
    project.scenario("by_itself", "    a.sh('echo whole > /root/file')\n    fault = a.inject('file.truncate', path='/root/file', size_bytes=1)\n    a.sh('echo whole > /root/file')\n    fault.heal()");
    project.scenario(
        "on_host",
        "    fault = a.inject('net.isolate')\n    lab.eventually('the sign', 60, lambda: a.sh('test -e /go').status == 0)\n    \
         lab.log(fault.heal())",
    );
    let run = e2e_in_background(project.path(), &["--progress", "plain"]);
    // The first attempt's rules are taken away, the second one's are left alone.
    for attempt in 1..=2 {
        let begun = Instant::now();
        let is_isolated = |event: &&Value| event["description"]["name"] == "net.isolate";
        while project.events("fault_injected").iter().filter(is_isolated).count() < attempt {
            assert!(begun.elapsed() < PATIENCE * 3, "attempt {attempt}: {:#?}", project.events("case_ended"));
            std::thread::sleep(Duration::from_millis(50)); // until the event is written
        }
        let name = format!("e2e-selftest-{}-a", slot());
        if attempt == 1 {
            on_host(&name, DROP_TABLES);
        }
        Command::new("lxc-attach").args(["-n", &name, "--", "/bin/touch", "/go"]).run().unwrap();
    }
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let healed: Vec<Value> = project.events("fault_healed");
    let states: Vec<&str> = healed.iter().map(|event| event["lasted"]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["lost_in_container", "lost_on_host", "until_now"], "{healed:#?}");
    let record = record(project.path());
    for case in record["cases"].as_array().unwrap() {
        let outcomes: Vec<&str> =
            case["attempts"].as_array().unwrap().iter().map(|it| it["outcome"].as_str().unwrap()).collect();
        let is_lost = case["case"].as_str().unwrap().contains("on_host");
        let expected: &[&str] = if is_lost { &["infrastructure", "passed"] } else { &["passed"] };
        assert_eq!(outcomes, expected, "{case:#}");
        if is_lost {
            let first = case["attempts"][0].to_string();
            assert!(first.contains("fault net.isolate on a was no longer on, though nobody had healed it"), "{first}");
        }
    }
}

/// Services that read their clock by the C library, by a system call of their own, by the kernel's page that is in each process,
/// and not at all; and one without a C library that could be changed.
const CLOCKS: &str = r#"import ctypes, struct, sys, time

class Time(ctypes.Structure):
    _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]

libc = ctypes.CDLL(None)
now = Time()

def direct():
    libc.syscall(113 if is_arm else 228, 0, ctypes.byref(now))

def is_symbol(name):
    return name in (b"__vdso_clock_gettime", b"__kernel_clock_gettime")

def vdso():
    libc.getauxval.restype = ctypes.c_ulong
    base = libc.getauxval(ctypes.c_ulong(33))
    read = lambda at, form: struct.unpack(form, ctypes.string_at(at, struct.calcsize(form)))
    offset, = read(base + 32, "Q")
    size, count = read(base + 54, "HH")
    heads = [read(base + offset + size * i, "IIQQQQQQ") for i in range(count)]
    dynamic = next(head for head in heads if head[0] == 2)
    entries = {}
    for i in range(dynamic[5] // 16):
        tag, value = read(base + dynamic[2] + 16 * i, "QQ")
        entries[tag] = value
    place = lambda tag: base + entries[tag] % (1 << 32)
    for i in range(1, 64):
        name, _, _, _, value, _ = read(place(6) + 24 * i, "IBBHQQ")
        if is_symbol(ctypes.string_at(place(5) + name)):
            return ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)(base + value)

is_arm = __import__("platform").machine() == "aarch64"
kind = sys.argv[1]
page = vdso() if kind == "vdso" else None
while True:
    if kind in ("library", "both"):
        time.time()
    if kind in ("direct", "both"):
        direct()
    if kind == "vdso":
        assert page(0, ctypes.byref(now)) == 0
    libc.usleep(50000)
"#;

const STATIC: &str = "#!/usr/local/bin/busybox sh\nwhile :; do date; sleep 0.1; done\n";

#[test]
fn a_clock_is_another_one_only_where_the_process_itself_reads_it() {
    let _host = Host::take();
    let project = mancer();
    let folder = project.join("containers/clocks");
    std::fs::create_dir_all(folder.join("files")).unwrap();
    let mut template = "from = \"base\"\ninit = \"systemd\"\n".to_owned();
    let mut file = |name: &str, target: &str, text: &str| {
        std::fs::write(folder.join("files").join(name), text).unwrap();
        template += &format!("[[files]]\nsource = \"files/{name}\"\ntarget = \"{target}\"\nmode = \"0755\"\n");
    };
    file("clocks.py", "/usr/local/bin/clocks.py", CLOCKS);
    file("static", "/usr/local/bin/static", STATIC);
    let kinds = ["library", "direct", "vdso", "idle", "static", "both"];
    for kind in kinds {
        let program = match kind {
            "static" => "/usr/local/bin/busybox sh /usr/local/bin/static".to_owned(),
            kind => format!("/usr/bin/python3 /usr/local/bin/clocks.py {kind}"),
        };
        let unit = format!("[Service]\nExecStart={program}\n[Install]\nWantedBy=multi-user.target\n");
        file(&format!("{kind}.service"), &format!("/etc/systemd/system/{kind}.service"), &unit);
    }
    template += "[[files]]\nprogram = \"busybox\"\ntarget = \"/usr/local/bin/busybox\"\nmode = \"0755\"\n";
    let units: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}.service\"")).collect();
    template += &format!("[services]\nenable = [{}]\n", units.join(", "));
    std::fs::write(folder.join("template.toml"), template).unwrap();

    let lab = Lab::up(project, "mancer-e2e", &["clocks", "mini", "--name", "a,b"]);
    let is_watched = xtask::fault::strace::strace_problem().is_none();
    for kind in ["direct", "vdso", "idle", "static"].into_iter().chain(is_watched.then_some("both")) {
        let output = lab.try_inject(&format!("clock.jump unit={kind}.service offset_ms=3600000"));
        let text = said(&output);
        let expected = format!("not applicable to {kind}.service: ");
        assert!(output.status == 2 && text.contains(&expected), "{kind}: {}: {text}", output.status);
        let maps = format!("grep -c faketime /proc/$(systemctl show --property=MainPID --value {kind})/maps || true");
        assert_eq!(lab.inside(&maps).trim(), "0", "{kind} has its own clock again");
    }
    let fault = lab.inject("clock.rate unit=library.service percent=300");
    let evidence = fault["evidence"].as_str().unwrap();
    let rate = evidence.split_once("(python3) reads its clock through libfaketime: a clock of ");
    let rate = rate.and_then(|(_, rest)| rest.split_once(" %")?.0.parse::<f64>().ok());
    assert!(rate.is_some_and(|rate| (270.0..330.0).contains(&rate)), "{evidence}");
    lab.heal(&fault);
    lab.compare("clock.jump unit=library.service offset_ms=3600000", &End::Inside("rm -r /run/e2e-clock"));
    lab.compare("clock.jump unit=ssh.service offset_ms=3600000", &End::Inside("echo +0 > /run/e2e-clock/ssh.service"));
    lab.compare("service.stop unit=ssh.service", &End::Inside("systemctl start ssh.service"));
    lab.down();
}
