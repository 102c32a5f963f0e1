//! Tests of values out of their ranges in each kind of file: each gives an error that names file, line, column and range.

use std::path::Path;

use super::Project;
use crate::error::{EXIT_USAGE, Error};

const TEMPLATE: &str = "from = 'scratch'\ninit = ['/init']\n";
const SCENARIO: &str = "description = 'x'\n[containers.mini]\n";

/// Kind of project file under test: a valid beginning, to which each test adds an invalid entry.
struct Kind {
    file: &'static str,
    begin: &'static str,
}

const E2E: Kind = Kind { file: "e2e.toml", begin: "name = 'x'\n" };
const CONTAINER: Kind = Kind { file: "containers/mini/template.toml", begin: TEMPLATE };
const WORKFLOW: Kind = Kind { file: "scenarios/cat/one/scenario.toml", begin: SCENARIO };

fn lay_out(root: &Path) {
    for folder in ["containers/mini", "scenarios/cat/one"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (file, text) in [(E2E.file, E2E.begin), (CONTAINER.file, TEMPLATE), (WORKFLOW.file, SCENARIO)] {
        std::fs::write(root.join(file), text).unwrap();
    }
}

impl Kind {
    /// Asserts that each invalid entry is refused; a tuple holds the entry, its `line:column`, and the range that the error names.
    fn refuses(&self, bad: &[(&str, &str, &str)]) {
        for (added, place, range) in bad {
            let folder = tempfile::tempdir().unwrap();
            lay_out(folder.path());
            let text = format!("{}{added}", self.begin);
            std::fs::write(folder.path().join(self.file), &text).unwrap();
            let error = Project::read(folder.path()).expect_err(&text);
            let shown = error.to_string();
            let start = format!("{}:{place}: ", folder.path().join(self.file).display());
            assert!(shown.starts_with(&start), "{added}\n  gave     {shown}\n  expected {start}");
            assert!(shown.contains(range), "{added}\n  gave     {shown}\n  expected {range}");
            assert_eq!(Error::exit_code(&error), EXIT_USAGE, "{added}");
        }
    }
}

#[test]
fn a_good_project_is_read() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    Project::read(folder.path()).unwrap();
}

#[test]
fn of_the_project() {
    let ids = "a whole number from 1879048192 to 2130575360";
    E2E.refuses(&[
        ("timeout = '0s'", "2:11", "a duration from \"100ms\" to \"1day\""),
        ("timeout = '25h'", "2:11", "a duration from \"100ms\" to \"1day\""),
        ("timeout = 5", "2:11", "a duration from \"100ms\" to \"1day\""),
        ("ids = { first = 1000 }", "2:17", ids),
        ("ids = { first = -1 }", "2:17", ids),
        ("ids = { first = 100000 }", "2:17", ids),
        ("ids = { first = 2147352576 }", "2:17", ids),
        ("ids = { first = 1879048200 }", "2:7", "a multiple of 65536"),
        ("containers = ['a', 'a']", "2:20", "\"a\" is listed twice"),
        ("containers = ['A']", "2:15", "up to 32 of a-z"),
        ("network = '10.0.0.0/8'", "2:11", "\"10.77.0.0/24\": 256 private addresses"),
        ("network = '10.0.0.300/24'", "2:11", "256 private addresses"),
        ("scenarios_package = ''", "2:21", "the name of a Cargo package"),
        ("scenarios_package = 'a b'", "2:21", "the name of a Cargo package"),
        ("[paths]\ncontainers = ''", "3:14", "the path of a folder, of 1 to 4096 bytes"),
        ("[paths]\nscenarios = \"a\\nb\"", "3:13", "without control characters"),
        (
            "secrets = ['SESSION_ID']",
            "2:11",
            "secrets is a table: write this list as `shapes = [...]` below a line `[secrets]`",
        ),
        ("secrets = 3", "2:11", "invalid type: integer `3`, expected a table: [secrets]"),
        ("[secrets]\nshape = []", "3:1", "unknown field `shape`, expected one of `variables`, `files`, `shapes`"),
        ("[secrets]\nshapes = ['SESSION_ID',\n  'my id']", "4:3", "a shape is the name of"),
        ("[secrets]\nshapes = ['/cust-[0-9/']", "3:11", "not a regular expression: error: unclosed character"),
        ("[secrets]\nshapes = ['/x*/']", "3:11", "this regular expression matches the empty text"),
        ("[secrets]\nvariables = ['API TOKEN']", "3:14", "is not the name of an environment variable"),
        ("[secrets]\nvariables = ['1_TOKEN']", "3:14", "no digit first"),
        ("[secrets]\nvariables = ['LD_PRELOAD']", "3:14", "LD_PRELOAD means something to other programs"),
        ("[secrets]\nvariables = ['PATH']", "3:14", "PATH means something to other programs"),
        ("[secrets]\nvariables = ['A', 'A']", "3:19", "\"A\" is listed twice"),
        ("[secrets]\nvariables = ['A']\nfiles = { A = 'a' }", "4:15", "\"A\" is listed in `variables` too"),
        ("[secrets]\nfiles = { A = '' }", "3:15", "is not the path of a file"),
        ("[secrets]\nfiles = { 'A B' = 'a' }", "3:19", "is not the name of an environment variable"),
        ("[defaults]\nretries = 101", "3:11", "a whole number from 0 to 100"),
        ("[defaults]\nmax_fail = 0", "3:12", "a whole number from 1 to 1000000, or \"off\""),
        ("[defaults]\nslot = 0", "3:8", "a whole number from 1 to 99"),
        ("[defaults]\nperformance_monitoring = 51", "3:26", "a whole number from 1 to 50, or \"off\""),
        ("[defaults]\npatience = nan", "3:12", "a number from 0.1 to 100, or \"auto\""),
        ("[defaults]\npatience = inf", "3:12", "a number from 0.1 to 100, or \"auto\""),
        ("[defaults]\nttl = '0s'", "3:7", "a duration from \"1s\" to \"1year\", or \"never\""),
        ("[defaults]\nttl = '100years'", "3:7", "a duration from \"1s\" to \"1year\", or \"never\""),
    ]);
    let ninety: Vec<String> = (0..90).map(|number| format!("\"c{number}\"")).collect();
    E2E.refuses(&[(&format!("containers = [{}]", ninety.join(",\n")), "91:1", "at most 89 containers have a place")]);
}

#[test]
fn of_a_templates_limits_and_volumes() {
    let cpus = "a number from 0.01 to 8192";
    for bad in ["-1", "0", "0.0", "nan", "inf", "-inf", "1e300", "8193", "'2'", "true"] {
        CONTAINER.refuses(&[(&format!("[limits]\ncpus = {bad}"), "4:8", cpus)]);
    }
    for bad in ["0", "7", "-1", "4194305", "1.5", "99999999999"] {
        CONTAINER.refuses(&[(&format!("[limits]\npids = {bad}"), "4:8", "a whole number from 8 to 4194304")]);
    }
    for bad in ["'1k'", "'0'", "'17T'", "'-1M'", "'1e30'", "'nan'", "4194304", "''"] {
        CONTAINER.refuses(&[(&format!("[limits]\nmemory = {bad}"), "4:10", "a size from \"4M\" to \"16T\"")]);
        CONTAINER.refuses(&[(&format!("[limits]\ndisk = {bad}"), "4:8", "a size from \"1M\" to \"16T\"")]);
    }
    let kernels = "not /proc, /sys, /dev or below them: those are the kernel's";
    for bad in [
        "/",
        "/proc",
        "/proc/sys",
        "/sys",
        "/dev",
        "/dev/shm",
        "/a/..",
        "/a/../b",
        "/a/./b",
        "/a//b",
        "/a/",
        "a",
        "",
        "/a b",
        "/a\\nb",
        "/a#b",
    ] {
        CONTAINER.refuses(&[(&format!("[[volumes]]\nsize = '1M'\npath = \"{bad}\""), "5:8", kernels)]);
    }
    let volume = |path: &str| format!("[[volumes]]\npath = '{path}'\nsize = '1M'\n");
    CONTAINER.refuses(&[
        ("[[volumes]]\npath = '/a'\nsize = '1k'", "5:8", "a size from \"1M\" to \"1T\""),
        (&(volume("/a") + &volume("/a")), "6:1", "there is a volume at /a already"),
        (&(volume("/a/b") + &volume("/a")), "6:1", "would hide the one at /a/b, which lies below it"),
        (&(0..33).map(|number| volume(&format!("/v{number}"))).collect::<String>(), "99:1", "at most 32 volumes"),
    ]);
    let systemd = Kind { begin: "from = 'scratch'\ninit = 'systemd'\n", ..CONTAINER };
    systemd.refuses(&[(&volume("/run/data"), "3:1", "systemd mounts a file system of its own at /run")]);
}

#[test]
fn of_a_templates_other_keys() {
    let user = |text: &str| format!("[[users]]\nname = 'u'\nuid = 1000\n{text}");
    let file = |text: &str| format!("[[files]]\nprogram = 'busybox'\n{text}");
    let name = "the name of a user: up to 32 of";
    CONTAINER.refuses(&[
        ("[[users]]\nuid = 1\nname = 'us:er'", "5:8", name),
        ("[[users]]\nuid = 1\nname = \"a\\nb\"", "5:8", name),
        ("[[users]]\nuid = 1\nname = ''", "5:8", name),
        ("[[users]]\nname = 'u'\nuid = 0", "5:7", "a whole number from 1 to 65533"),
        ("[[users]]\nname = 'u'\nuid = 65534", "5:7", "a whole number from 1 to 65533"),
        (&user("shell = 'sh'"), "6:9", "an absolute path in the container without ':'"),
        (&user("groups = ['adm', 'a,b']"), "6:18", name),
        (&user(&user("")), "6:1", "there is the user u (1000) already"),
        (&user("[[users]]\nname = 'v'\nuid = 1000"), "6:1", "there is the user u (1000) already"),
        (&file("target = 'x'"), "5:10", "an absolute path in the container without `..`"),
        (&file("target = '/a/../b'"), "5:10", "without `..`"),
        (&file("target = \"/a\\nb\""), "5:10", "without `..` and control characters"),
        (&file("target = '/x'\nmode = '8'"), "6:8", "a mode from \"0000\" to \"7777\""),
        (&file("target = '/x'\nmode = '17777'"), "6:8", "a mode from \"0000\" to \"7777\""),
        (&file("target = '/x'\nowner = 'a:b:c'"), "6:9", "a number from 0 to 65535"),
        (&file("target = '/x'\nowner = '65536'"), "6:9", "a number from 0 to 65535"),
        ("[services]\nenable = ['nginx a']", "4:11", "the name of a systemd unit"),
        ("[services]\nmask = ['../x.service']", "4:9", "the name of a systemd unit"),
        ("logs = ['/a', 'b']", "3:15", "an absolute path in the container"),
        ("environment = { 'A B' = 'x' }", "3:17", "the name of a variable"),
        ("environment = { A = \"x\\nlxc.cap.drop = y\" }", "3:21", "without control characters"),
        ("run = ['']", "3:8", "the command is empty"),
        ("run = [\"a\\u0000b\"]", "3:8", "a zero byte"),
        ("[[probes]]\ntcp = 0", "4:7", "a whole number from 1 to 65535"),
        ("[[probes]]\ntcp = 65536", "4:7", "a whole number from 1 to 65535"),
        ("[[probes]]\nhttp = ':0/'", "4:8", "a port from 1 to 65535"),
        ("[[probes]]\nhttp = 'status'", "4:8", "`/path`, or `:port/path`"),
        ("[[probes]]\nexec = []", "3:1", "a program with its arguments"),
        ("[[probes]]\nexec = [\"a\\u0000\"]", "4:9", "without a zero byte"),
        ("[[probes]]\nfile = 'x'", "4:8", "an absolute path in the container"),
        ("[[probes]]\nunit = 'nginx a'", "4:8", "the name of a systemd unit"),
        ("[[probes]]\ntcp = 1\ntimeout = '0s'", "5:11", "a duration from \"100ms\" to \"1h\""),
        ("[[probes]]\ntcp = 1\ntimeout = '2h'", "5:11", "a duration from \"100ms\" to \"1h\""),
        ("[ssh]\nclients = ['a b']", "4:12", name),
    ]);
}

#[test]
fn of_a_scenario() {
    let head = |text: &str| format!("{text}{SCENARIO}");
    let whole = Kind { begin: "", ..WORKFLOW };
    whole.refuses(&[
        (&head("timeout = '0s'\n"), "1:11", "a duration from \"100ms\" to \"1day\""),
        (&head("timeout = '2days'\n"), "1:11", "a duration from \"100ms\" to \"1day\""),
    ]);
    let many: String = (0..300).map(|number| format!("[containers.c{number}]\ntemplate = 'mini'\n")).collect();
    WORKFLOW.refuses(&[
        ("[containers.a2345678901]", "3:13", "up to 10 of a-z"),
        ("[containers.A]", "3:13", "up to 10 of a-z"),
        // The 156th: the first one is the scenario's `mini`.
        (&many, "311:13", "a lab has at most 155 machines: each has an address by its place, from 100 to 254"),
        ("[[cases]]\nname = 'A'", "4:8", "a-z, 0-9"),
        ("[limits.mini]\ncpu_seconds = inf", "4:15", "a number from 0.001 to 864000"),
        ("[limits.mini]\ncpu_seconds = -1", "4:15", "a number from 0.001 to 864000"),
        ("[limits.mini]\nsent_bytes = '0'", "4:14", "a size from \"1\" to \"16T\""),
        ("[operations.o]\nworse_percent = 1001", "4:17", "a number from 1 to 1000"),
        ("[operations.o]\nworse_percent = nan", "4:17", "a number from 1 to 1000"),
        ("[pages]\np = 'http://mini:0/'", "4:5", "a whole number from 1 to 65535"),
        ("[pages]\np = 'http://mini:65536/'", "4:5", "a whole number from 1 to 65535"),
    ]);
}

#[test]
fn of_a_scenarios_chaos() {
    let chaos = Kind { begin: "description = 'x'\n[containers.mini]\n[chaos]\n", ..WORKFLOW };
    let fault = |text: &str| format!("[[chaos.faults]]\nfault = {text}");
    chaos.refuses(&[
        (&format!("length = '24h'\n{}", fault("'net'")), "4:10", "a duration from \"100ms\" to \"1h\""),
        (&format!("length = '0s'\n{}", fault("'net'")), "4:10", "a duration from \"100ms\" to \"1h\""),
        (&format!("longest = '11m'\n{}", fault("'net'")), "4:11", "a duration from \"10ms\" to \"10m\""),
        (
            &format!("length = '2s'\nlongest = '3s'\n{}", fault("'net'")),
            "5:11",
            "`longest` cannot exceed `length`, which is 2s",
        ),
        (&format!("quiet = '0s'\n{}", fault("'net'")), "4:9", "a duration from \"1ms\" to \"10m\""),
        (&format!("recovery = '1ms'\n{}", fault("'net'")), "4:12", "a duration from \"100ms\" to \"1h\""),
        (&format!("max_concurrent = 0\n{}", fault("'net'")), "4:18", "a whole number from 1 to 64"),
        (&format!("max_concurrent = -1\n{}", fault("'net'")), "4:18", "a whole number from 1 to 64"),
        (&fault("'net.loss'\npercent = 101"), "6:11", "net.loss: percent: 101 is not a whole number from 1 to 100"),
        (&fault("'net.loss'\npercent = [0, 50]"), "6:11", "0 is not a whole number from 1 to 100"),
        (&fault("'net.loss'\npercent = [50, 101]"), "6:11", "101 is not a whole number from 1 to 100"),
        (&fault("'net.loss'\npercent = 1.5"), "6:11", "1.5 is not a whole number from 1 to 100"),
        (&fault("'net.port-block'\nport = 65536"), "6:8", "a whole number from 1 to 65535"),
        (&fault("'net.delay'\ndelay_ms = [5, 9]\njitter_ms = 10"), "5:9", "a delay varies by no more than itself"),
        (&fault("'disk.full'\npath = 'data'"), "6:8", "an absolute path without `..`"),
        (&fault("'io.error'\ncommand = 'x'\ncall = 'a b'\nerror = 'EIO'"), "7:8", "the name of a system call"),
        (&fault("'process.kill'\ncommand = ''"), "6:11", "of 1 to 4096 bytes"),
        (&fault("'service.stop'\nunit = 'nginx a'"), "6:8", "the name of a systemd unit"),
    ]);
}

#[test]
fn of_recorded_durations() {
    for bad in ["-1", "nan", "inf", "86401", "'1'"] {
        let folder = tempfile::tempdir().unwrap();
        lay_out(folder.path());
        let path = folder.path().join("scenarios/durations.toml");
        std::fs::write(&path, format!("[seconds]\n\"cat/one:default\" = {bad}\n")).unwrap();
        let project = Project::read(folder.path()).unwrap();
        let error = super::Durations::read(&project).unwrap_err().to_string();
        let start = format!("{}:2:21: ", path.display());
        assert!(error.starts_with(&start) && error.ends_with("is not a number from 0 to 86400"), "{error}");
    }
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    for kind in [E2E, CONTAINER, WORKFLOW] {
        for (make, expected) in [
            (
                (|path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()) as fn(&Path),
                "a named pipe",
            ),
            (|path: &Path| std::fs::create_dir(path).unwrap(), "a folder"),
            (|path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(), "a device"),
            (|path: &Path| std::os::unix::fs::symlink("nowhere", path).unwrap(), "No such file or directory"),
            (|path: &Path| std::fs::write(path, b"\xff").unwrap(), "byte 0 is not UTF-8 text"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            lay_out(folder.path());
            let path = folder.path().join(kind.file);
            std::fs::remove_file(&path).unwrap();
            make(&path);
            let error = Project::read(folder.path()).unwrap_err();
            let shown = error.to_string();
            assert!(shown.starts_with(&path.display().to_string()) && shown.contains(expected), "{shown}");
            assert_eq!(Error::exit_code(&error), EXIT_USAGE, "{shown}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path());
    nix::unistd::mkfifo(&folder.path().join("containers/mini/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let text = format!("{TEMPLATE}[[files]]\nsource = 'pipe'\ntarget = '/x'");
    std::fs::write(folder.path().join(CONTAINER.file), text).unwrap();
    let error = Project::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("template.toml:4:10: ") && error.ends_with("is neither a file nor a folder"), "{error}");
}
