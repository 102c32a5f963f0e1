//! Layers, built for real on the busybox template in a store of the test's own. Needs root, as every build does.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use crate::common::{Host, PATIENCE, engine, start};

/// Root inside, in the test's project.
const FIRST_ID: u32 = 1_962_934_272;

const MINI: &str = "
from = 'scratch'
init = ['/bin/init']
run = [['/bin/busybox', '--install', '-s', '/bin'], 'id -u > /etc/built-as; id -u user >> /etc/built-as', COMMAND]
users = [{ name = 'user', uid = 1000 }]
files = [
  { program = 'busybox', target = '/bin/busybox', mode = '4755' },
  { source = 'files', target = '/srv/files', owner = 'user' },
]
";

/// A project with one template and a store, both of this test alone.
struct Fixture {
    project: tempfile::TempDir,
    store: tempfile::TempDir,
    /// Last, so that it looks at the host when the folders are gone.
    _host: Host,
}

impl Fixture {
    fn new(command: &str) -> Self {
        let host = Host::alone();
        let (project, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::set_permissions(project.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let fixture = Self { project, store, _host: host };
        fixture.write("e2e.toml", &format!("name = 'x'\nids = {{ first = {FIRST_ID} }}\n"));
        fixture.write("scenarios/.keep", "");
        fixture.write("containers/mini/files/a", "1");
        fixture.write_template(command);
        fixture
    }

    fn write_template(&self, command: &str) {
        self.write("containers/mini/template.toml", &MINI.replace("COMMAND", &format!("{command:?}")));
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.project.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        engine()
            .args(["--root", self.project.path().to_str().unwrap(), "--format", "json", "image"])
            .args(args)
            .env("E2E_STATE_DIR", self.store.path())
    }

    fn in_background(&self, args: &[&str]) -> Child {
        let root = ["--root", self.project.path().to_str().unwrap(), "image"];
        start(Path::new("/"), root.iter().chain(args).copied(), &[("E2E_STATE_DIR", self.store.path())])
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it and takes its one layer out of the answer.
    fn layer(&self, args: &[&str]) -> Value {
        let output = self.command(args).run().unwrap_or_else(|error| panic!("{error}"));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["format_version"], 1);
        answer["layers"][0].clone()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.store.path().join("layers")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    fn root(&self, layer: &Value) -> PathBuf {
        self.store.path().join("layers").join(layer["hash"].as_str().unwrap()).join("root")
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The mounts of this process, and the processes whose command line has this text.
fn traces(text: &str) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> = mounts.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains(text) && !words.contains("--root") {
            found.push(words);
        }
    }
    found
}

#[test]
fn a_layer_is_built_from_nothing_with_its_owners_and_found_again() {
    let fixture = Fixture::new("true");
    assert_eq!(fixture.layer(&["list"])["stored"], Value::Null);
    let layer = fixture.layer(&["build"]);
    let root = fixture.root(&layer);
    let owner = |inside: &str| {
        let metadata = fs::symlink_metadata(root.join(inside)).unwrap();
        (metadata.uid() - FIRST_ID, metadata.gid() - FIRST_ID)
    };
    assert_eq!([owner(""), owner("bin/busybox"), owner("bin/sh")], [(0, 0); 3]);
    assert_eq!([owner("home/user"), owner("srv/files/a")], [(1000, 1000); 2]);
    assert_eq!(fs::metadata(root.join("bin/busybox")).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(fs::read_to_string(root.join("etc/built-as")).unwrap(), "0\n1000\n");
    assert!(fs::read_dir(root.join("dev")).unwrap().next().is_none(), "devices of the build stayed");
    assert_eq!(fixture.names(), [layer["hash"].as_str().unwrap()]);

    let again = fixture.layer(&["build"]);
    assert_eq!(again["stored"]["created_unix_s"], layer["stored"]["created_unix_s"]);
    fixture.write("containers/mini/files/a", "2");
    assert_ne!(fixture.layer(&["list"])["hash"], layer["hash"]);
}

#[test]
fn a_layer_lies_on_its_parent_and_a_tar_becomes_one() {
    let fixture = Fixture::new("mkdir -p /home/dev && echo 1 > /home/dev/kept.txt");
    let mini = fixture.root(&fixture.layer(&["build"]));
    let tar = fixture.project.path().join("containers/unpacked/root.tar");
    fs::create_dir_all(tar.parent().unwrap()).unwrap();
    // Below a folder that is closed to others, as a home folder is. As an exporter writes it: owners as seen inside.
    let owners = format!("--owner-map={}", map_file(fixture.project.path(), 1000).display());
    Command::new("tar")
        .args(["--create", "--numeric-owner", &owners, &owners.replace("owner", "group")])
        .arg(format!("--file={}", tar.display()))
        .arg(format!("--directory={}", mini.display()))
        .arg(".")
        .run()
        .unwrap();
    // Devices, by each way in which exporters write them.
    let devices = fixture.project.path().join("devices");
    fs::create_dir_all(devices.join("dev")).unwrap();
    for name in ["dev/dotted", "dev/plain"] {
        fs::write(devices.join(name), "").unwrap();
    }
    Command::new("tar")
        .args(["--append", &format!("--file={}", tar.display()), &format!("--directory={}", devices.display())])
        .args(["./dev/dotted", "dev/plain"])
        .run()
        .unwrap();
    fixture.write("containers/unpacked/template.toml", "from = { tar = 'root.tar' }\ninit = ['/bin/init']\n");
    fixture.write(
        "containers/child/template.toml",
        "from = 'mini'\ninit = ['/bin/init']\nrun = ['rm /srv/files/a', 'echo child > /etc/child']\n",
    );
    let output = fixture.command(&["build"]).run().unwrap_or_else(|error| panic!("{error}"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = answer["layers"].as_array().unwrap();
    let root = |template: &str| {
        fixture.root(layers.iter().find(|layer| layer["template"] == template).expect("a layer of this template"))
    };
    let (child, unpacked) = (root("child"), root("unpacked"));
    assert_eq!(fs::read_to_string(child.join("etc/child")).unwrap(), "child\n");
    assert!(!child.join("bin").exists(), "the parent's files are in the child");
    let whiteout = fs::symlink_metadata(child.join("srv/files/a")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0, "a removed file leaves a whiteout");
    assert_eq!(fs::read_to_string(unpacked.join("home/dev/kept.txt")).unwrap(), "1\n", "a folder of the same name");
    assert_eq!(fs::read_dir(unpacked.join("dev")).unwrap().count(), 0, "devices were unpacked");
    assert_eq!(fs::metadata(unpacked.join("etc/passwd")).unwrap().uid(), FIRST_ID);
    assert_eq!(fs::metadata(unpacked.join("srv/files/a")).unwrap().uid(), FIRST_ID + 1000);

    fixture.command(&["rm", "mini"]).run().unwrap();
    assert!(!child.exists(), "a layer stayed without the one it was built on");
    assert!(unpacked.exists());
}

/// The engine is root, and knows files of a tree by their paths: where the tree has a link there, it stays inside.
#[test]
fn a_link_of_the_tree_leads_nothing_out_of_it() {
    let fixture = Fixture::new("true");
    let prey = tempfile::tempdir().unwrap();
    let place = prey.path().display().to_string();
    for name in ["file", "policy-rc.d"] {
        fs::write(prey.path().join(name), "root's").unwrap();
    }
    let links = "/usr/sbin/policy-rc.d /etc/resolv.conf /etc/machine-id /etc/passwd /var/lib/dpkg/status-old /var/log";
    let link = format!(
        "for link in {links}; do mkdir -p ${{link%/*}}; rm -rf $link; ln -s {place}/file $link; done; rm /var/log; ln -s {place} /var/log"
    );
    fixture.write(
        "containers/hostile/template.toml",
        &format!(
            "from = 'mini'\ninit = ['/bin/init']\nrun = [{link:?}]\n\
             files = [{{ source = 'apt-get', target = '/usr/bin/apt-get', mode = '0755' }}]\n"
        ),
    );
    // What a package's own program may do while the engine's file lies there.
    let apt_get = format!("#!/bin/sh\nrm -rf /usr/sbin\nln -s {place} /usr/sbin\n");
    fixture.write("containers/hostile/apt-get", &apt_get);
    fixture.write(
        "containers/child/template.toml",
        "from = 'hostile'\ninit = ['/bin/init']\npackages = ['any']\nusers = [{ name = 'other', uid = 2000 }]\n",
    );
    let output = fixture.command(&["build", "child"]).output().unwrap();
    let left = |name: &str| fs::read_to_string(prey.path().join(name)).unwrap_or_default();
    assert_eq!((left("file"), left("policy-rc.d")), ("root's".into(), "root's".into()), "{}", stderr(&output));
    assert_eq!(fs::metadata(prey.path().join("file")).unwrap().mode() & 0o111, 0);
    assert_eq!(output.status, 0, "{}", stderr(&output));
}

#[test]
fn a_build_that_wants_the_whole_host_ends_and_says_which_bound_it_met() {
    // The step passes, and its layer would lack what was killed.
    for (command, expected) in [
        ("bomb() { bomb & bomb & wait; }; bomb; true", "the build wanted to have more than 4096 processes at once"),
        ("for one in 1 2 3 4 5 6 7 8; do tail /dev/zero & done; wait; true", "the build used up its memory"),
    ] {
        let fixture = Fixture::new(command);
        let output = fixture.run(&["build"]);
        let said = stderr(&output);
        assert_eq!(output.status, 3, "{said}");
        for part in ["mini does not build", "step `run ", expected, "help: have the step do less at once"] {
            assert!(said.contains(part), "{part:?} is missing in: {said}");
        }
        assert!(fixture.names().is_empty(), "{:?}", fixture.names());
    }
}

/// Listeners on the host, beside a build that tries to get there. The way out itself is what templates with packages are built by.
#[test]
fn a_build_reaches_nothing_that_listens_on_the_host_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("e2e-test-{}", std::process::id());
    let address = <SocketAddr as SocketAddrExt>::from_abstract_name(&name).unwrap();
    let _abstract: UnixListener = UnixListener::bind_addr(&address).unwrap();
    let seen_on_host = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(seen_on_host.contains(&name));
    let fixture = Fixture::new(&format!(
        "for host in 127.0.0.1 localhost 10.0.2.2; do if nc -w 5 $host {port} </dev/null; then echo reached $host; exit 9; fi; done; \
         if grep {name} /proc/net/unix; then exit 8; fi; \
         if nc -w 5 169.254.169.254 80 </dev/null; then exit 7; fi; \
         cat /proc/net/dev > /etc/devices"
    ));
    let layer = fixture.layer(&["build"]);
    let devices = fs::read_to_string(fixture.root(&layer).join("etc/devices")).unwrap();
    assert_eq!(devices.contains("tap0"), Path::new("/dev/net/tun").exists(), "{devices}");
    assert!(!devices.contains("eth0"), "{devices}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody came");
}

/// A file for tar that maps owners of the test's range to those inside.
fn map_file(folder: &Path, user: u32) -> PathBuf {
    let map = format!("+{FIRST_ID} root:0\n+{} user:{user}\n", FIRST_ID + user);
    fs::write(folder.join("groups"), &map).unwrap();
    fs::write(folder.join("owners"), map).unwrap();
    folder.join("owners")
}

#[test]
fn a_layer_in_use_is_neither_removed_nor_pruned() {
    let fixture = Fixture::new("true");
    let layer = fixture.layer(&["build"]);
    let lock = xtask::image::lock_shared(&[fixture.root(&layer)]).unwrap();
    fixture.write_template("echo changed");
    let refused = fixture.run(&["prune"]);
    assert_eq!(refused.status, 3);
    assert!(stderr(&refused).contains("in use by a lab"), "{}", stderr(&refused));
    assert!(fixture.root(&layer).is_dir());
    drop(lock);
    fixture.command(&["prune"]).run().unwrap();
    assert!(fixture.names().is_empty(), "{:?}", fixture.names());
}

#[test]
fn a_template_that_does_not_build_says_where_and_leaves_no_layer() {
    let fixture = Fixture::new("echo some reason >&2; exit 7");
    let output = fixture.run(&["build"]);
    let said = stderr(&output);
    assert_eq!(output.status, 3, "{said}");
    for part in
        ["mini does not build", "step `run echo some reason", "some reason\n", "ended with status 7", "logs/mini.log"]
    {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    assert!(fixture.names().is_empty(), "{:?}", fixture.names());
    fixture.write_template("true");
    fixture.layer(&["build"]);
}

#[test]
fn locked_refuses_what_the_lock_file_does_not_say() {
    let fixture = Fixture::new("true");
    let locked = fixture.run(&["build", "--locked"]);
    assert_eq!(locked.status, 2);
    assert!(stderr(&locked).contains("which is not locked"), "{}", stderr(&locked));
    assert!(fixture.names().is_empty(), "built before it was compared");

    fixture.layer(&["build"]);
    fixture.layer(&["build", "--locked"]);
    let path = fixture.project.path().join("containers/lock.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"packages\": []", "\"packages\": [\"a=1\"]")).unwrap();
    let locked = fixture.run(&["build", "--locked"]);
    assert_eq!(locked.status, 2);
    assert!(stderr(&locked).contains("mini: locked a=1, found none"), "{}", stderr(&locked));
}

#[test]
fn two_builds_of_one_layer_at_once_make_it_once() {
    let fixture = Fixture::new("sleep 0.3; head -c 8 /dev/urandom | od -x > /etc/built");
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| fixture.layer(&["build"]));
        (fixture.layer(&["build"]), other.join().unwrap())
    });
    assert_eq!(one["stored"], two["stored"]);
    assert_eq!(fixture.names().len(), 1);
}

#[test]
fn a_killed_build_leaves_no_process_no_mount_and_no_half_layer() {
    let fixture = Fixture::new("touch /etc/started; sleep 60");
    let store = fixture.store.path().to_owned();
    let staging = || fixture.names().iter().any(|name| name.starts_with(".building-"));
    let mut engine = fixture.in_background(&["build"]);
    wait_until("the build begins", || has_started(&store));
    assert!(staging());
    // SIGKILL; its guard and worker are in process groups of their own.
    engine.kill().unwrap();
    assert!(!engine.wait().unwrap().success(), "the engine ended before it was killed");
    wait_until("everything is gone", || fixture.names().is_empty());
    let place = store.display().to_string();
    wait_until("no trace is left", || traces(&place).is_empty());
    fixture.write_template("true");
    fixture.layer(&["build"]);
}

#[test]
fn a_damaged_layer_is_told_removed_and_built_again() {
    let fixture = Fixture::new("true");
    let layer = fixture.layer(&["build"]);
    let dir = fixture.root(&layer).parent().unwrap().to_owned();
    let record = dir.join("layer.json");
    let damages: [&dyn Fn(); 3] = [&|| fs::remove_file(&record).unwrap(), &|| fs::write(&record, "").unwrap(), &|| {
        fs::remove_dir_all(dir.join("root")).unwrap();
    }];
    for damage in damages {
        for verb in [&["rm", "mini"][..], &["prune"], &["build"]] {
            damage();
            let listed = fixture.run(&["list"]);
            let hint = stderr(&listed);
            assert!(listed.status == 0 && hint.contains("is damaged") && hint.contains(" image prune`"), "{hint}");
            assert!(String::from_utf8_lossy(&listed.stdout).contains("\"damage\":\"it"), "{hint}");
            let done = fixture.run(verb);
            assert_eq!(done.status, 0, "{verb:?}: {}", stderr(&done));
            assert_eq!(dir.exists(), verb[0] == "build", "{verb:?}");
            let again = fixture.layer(&["build"]);
            assert!(again["stored"].is_object() && again.get("damage").is_none(), "{again}");
        }
    }
    // As long as a lab uses it, it stays.
    let used = Flock::lock(fs::File::open(&dir).unwrap(), FlockArg::LockShared).map_err(|(_, error)| error).unwrap();
    fs::remove_file(&record).unwrap();
    for (verb, part) in [("build", "is damaged and in use"), ("prune", "in use by a lab")] {
        let refused = fixture.run(&[verb]);
        let said = stderr(&refused);
        assert!(refused.status == 3 && said.contains(part) && said.contains("`cargo xtask ps`"), "{said}");
    }
    engine().args(["ps"]).dir(fixture.project.path()).env("E2E_STATE_DIR", fixture.store.path()).run().unwrap();
    assert!(dir.join("root").is_dir());
    drop(used);
    let doctor = engine().args(["--root"]).arg(fixture.project.path()).args(["--format", "json", "doctor"]);
    let found = doctor.env("E2E_STATE_DIR", fixture.store.path()).deadline(Duration::from_secs(120)).output().unwrap();
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let finding = |check: &str| {
        let findings = found["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("{found:#}")).clone()
    };
    assert_eq!(finding("layers")["help"], "cargo xtask image prune");
    let place = fixture.store.path().display().to_string();
    assert!(finding("disk-layers")["seen"].as_str().unwrap().contains(&place), "{found:#}");
    assert_eq!(fixture.run(&["prune"]).status, 0);
    fixture.layer(&["build"]);
}

fn has_started(store: &Path) -> bool {
    let log = fs::read_to_string(store.join("logs/mini.log")).unwrap_or_default();
    log.contains("touch /etc/started")
}

#[test]
fn layers_go_into_another_store_as_one_file() {
    let fixture = Fixture::new("true");
    let layer = fixture.layer(&["build"]);
    fs::create_dir(fixture.store.path().join("layers/.building-x")).unwrap();
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("layers.tar").display().to_string();
    let store = other.path().join("store");
    let layers = |verb: &str, store: &Path| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/layers");
        Command::new(script).args([verb, &file]).env("E2E_STATE_DIR", store).dir("/").output().unwrap()
    };
    for (verb, store) in [("pack", fixture.store.path()), ("unpack", &store)] {
        let done = layers(verb, store);
        assert_eq!(done.status, 0, "{}", stderr(&done));
    }
    assert_eq!(inside(&store.join("layers")), inside(&fixture.store.path().join("layers")));
    let listed = fixture.command(&["list"]).env("E2E_STATE_DIR", &store).run().unwrap();
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(
        listed["layers"][0]["stored"].is_object() && listed["layers"][0]["stored"] == layer["stored"],
        "{listed:#}"
    );
    let again = layers("unpack", &store);
    assert!(again.status == 1 && stderr(&again).contains("nothing is added to them"), "{}", stderr(&again));
}

/// Lists everything in finished layers: where, whose, with which mode, how large.
fn inside(layers: &Path) -> Vec<(PathBuf, u32, u32, u32, u64)> {
    let entries = walkdir::WalkDir::new(layers)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.depth() != 1 || !entry.file_name().to_string_lossy().starts_with('.'));
    let seen = entries.map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        let path = entry.path().strip_prefix(layers).unwrap().to_owned();
        (path, metadata.uid(), metadata.gid(), metadata.mode(), size)
    });
    let seen: Vec<_> = seen.collect();
    assert!(seen.iter().any(|one| one.1 >= FIRST_ID && one.3 & 0o4000 != 0), "a set-id program of a container's root");
    seen
}
