//! Labs as tenants of one host: each has ids of its own, and layers in all of them the owners that they were built with.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use xtask::host::container::ids::COUNT;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, clean, engine, pair_slot, project_with_template, said, slot};

/// Capabilities and marks of a program in the machine's user namespace before anything of its own.
const PRELUDE: &str = "
import ctypes, errno, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ADD_KEY, KEYCTL = (248, 250) if os.uname().machine == 'x86_64' else (217, 219)
def call(*words):
    result = libc.syscall(*words)
    return result if result >= 0 else -ctypes.get_errno()
def add_key(name, ring=-3):
    return call(ADD_KEY, b'user', name.encode(), b'secret', 6, ring)
def say(*words):
    print(*words, flush=True)
call(KEYCTL, 1, None)
";

/// Takes keys and the memory of pipes until the kernel gives no more, shows one key to everybody of the same user, and stays.
const GREEDY: &str = "
shown = add_key('shown')
call(KEYCTL, 5, shown, ctypes.c_uint(0x3f3f3f00))
taken = 1
while (result := add_key(f'k{taken}')) > 0: taken += 1
pipes = []
try:
    while len(pipes) < 1000:
        pipes.append(os.pipe())
        fcntl.fcntl(pipes[-1][0], 1031, 1 << 20)
except OSError as error:
    say(shown, os.getpid(), errno.errorcode[-result], errno.errorcode[error.errno])
sys.stdin.read()
";

/// Things left for another program: a key of its own, the other's key, the other's process, a large pipe.
const OTHER: &str = "
def name(result): return 'yes' if result >= 0 else errno.errorcode[-result]
key, process = int(sys.argv[1]), int(sys.argv[2])
buffer = ctypes.create_string_buffer(16)
own = add_key('own')
read = call(KEYCTL, 11, key, buffer, 16)
try:
    os.kill(process, 0)
    signal = 'yes'
except OSError as error:
    signal = errno.errorcode[error.errno]
try:
    large = 'yes' if fcntl.fcntl(os.pipe()[0], 1031, 1 << 20) else 'no'
except OSError as error:
    large = errno.errorcode[error.errno]
say('own key', name(own), 'other key', name(read), 'signal', signal, 'large pipe', large)
";

/// Makes files whose owners and rights are more than a number and a mode.
const OWNERS: &str = "
import os, struct, sys
root, first = sys.argv[1], int(sys.argv[2])
os.setxattr(f'{root}/srv/busybox-net', 'security.capability', struct.pack('<6I', 0x03000001, 1 << 13, 0, 0, 0, first))
entries = [(1, 6, 0xffffffff), (2, 4, first + 1000), (4, 0, 0xffffffff), (16, 4, 0xffffffff), (32, 0, 0xffffffff)]
os.setxattr(f'{root}/srv/acl', 'system.posix_acl_access', struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries))
";

/// Words that run Python as root of the user namespace of a process.
fn python_as(pid: i32, program: &str, args: &[String]) -> Vec<String> {
    let mut words: Vec<String> =
        ["nsenter", "--user", "--setuid", "0", "--setgid", "0", "--target"].map(String::from).into();
    words.extend([pid.to_string(), "--".into(), "/usr/bin/python3".into(), "-c".into(), format!("{PRELUDE}{program}")]);
    words.extend_from_slice(args);
    words
}

#[expect(clippy::disallowed_methods, reason = "the seam waits for what it starts; this test does not")]
fn in_background(words: &[String]) -> (Child, String) {
    let mut command = std::process::Command::new(&words[0]);
    let mut child = command.args(&words[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

struct Labs {
    project: tempfile::TempDir,
}

impl Labs {
    fn verb(&self, slot: &str, args: &[&str]) -> Output {
        let command = engine().args(args).dir(self.project.path()).env("E2E_SLOT", slot);
        command.deadline(Duration::from_secs(60)).output().unwrap()
    }

    fn up(&self, slot: &str) {
        let output = self.verb(slot, &["up", "odd", "--slot", slot, "--name", "m"]);
        assert_eq!(output.status, 0, "{}", said(&output));
    }

    fn inside(&self, slot: &str, user: &str, script: &str) -> String {
        let output = self.verb(slot, &["exec", "m", "--slot", slot, "--user", user, "--", "/bin/sh", "-c", script]);
        format!("{}{}", output.text(), String::from_utf8_lossy(&output.stderr)).trim().to_owned()
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        for slot in [slot(), &pair_slot()] {
            clean(slot);
        }
    }
}

/// First process of the machine of a slot.
fn init_of(slot: &str) -> i32 {
    let file = format!("/run/mancer-e2e/{slot}/containers/m/init.pid");
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// Ids of the host that a process and its namespace have.
fn first_id(pid: i32) -> u32 {
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    map.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn template(privileged: bool) -> String {
    let privileged = if privileged { "privileged = true\n" } else { "" };
    format!(
        "from = \"mini\"\ninit = [\"/bin/init\"]\n{privileged}run = [\"mkdir -p /srv && cp /bin/busybox /srv/busybox-net && cp /bin/busybox \
         /srv/suid && chmod 4755 /srv/suid && echo text > /srv/acl && chmod 600 /srv/acl && chown 1000:0 /srv && echo tenants-{}\"]\n",
        slot()
    )
}

/// Tree of the template's own layer.
fn layer_of(labs: &Labs) -> (PathBuf, u32) {
    let output = labs.verb(slot(), &["image", "build", "odd", "--format", "json"]);
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let layers = answer["layers"].as_array().unwrap();
    let layer = layers.iter().find(|layer| layer["template"] == "odd").unwrap();
    let tree = Path::new("/var/lib/mancer-e2e/layers").join(layer["hash"].as_str().unwrap()).join("root");
    (tree, layer["stored"]["first_id"].as_u64().unwrap().try_into().unwrap())
}

/// Owners, modes and capabilities as the machine sees them, and what its user may do with each file.
fn expect_owners(labs: &Labs, slot: &str) {
    let owners = "stat -c '%n %u:%g %a' /bin/busybox /srv /srv/busybox-net /srv/suid /srv/acl /home/user /etc/hosts";
    let expected = "/bin/busybox 0:0 755\n/srv 1000:0 755\n/srv/busybox-net 0:0 755\n/srv/suid 0:0 4755\n/srv/acl 0:0 640\n/home/user 1000:1000 755\n\
                    /etc/hosts 0:0 644";
    assert_eq!(labs.inside(slot, "root", owners), expected);
    let user = "cat /srv/acl; /srv/busybox-net grep CapEff /proc/self/status; echo x >> /srv/acl; echo x > /srv/new && stat -c %u /srv/new";
    let seen = labs.inside(slot, "user", user);
    for part in ["text\n", "CapEff:\t0000000000002000\n", "Permission denied", "1000"] {
        assert!(seen.contains(part), "{seen} lacks {part:?}");
    }
    // What is written goes up with its owner and its rights.
    let changed = "echo more >> /srv/acl && chown 7:8 /srv/suid && stat -c %u:%g /srv/suid && cat /srv/acl";
    assert_eq!(labs.inside(slot, "root", changed), "7:8\ntext\nmore");
    assert!(labs.inside(slot, "user", "cat /srv/acl").contains("more"), "the list of who may read went up as well");
}

#[test]
fn labs_have_ids_of_their_own_and_layers_the_same_owners_in_each() {
    let _host = Host::take();
    let labs = Labs { project: project_with_template(&template(false)) };
    let (tree, stored_first) = layer_of(&labs);
    let marked = Command::new("/usr/bin/python3")
        .args(["-c", OWNERS])
        .arg(&tree)
        .arg(stored_first.to_string())
        .output()
        .unwrap();
    assert_eq!(marked.status, 0, "{}", said(&marked));
    let other_slot = pair_slot();
    for slot in [slot(), &other_slot] {
        labs.up(slot);
        expect_owners(&labs, slot);
    }
    assert_eq!(std::fs::read_to_string(tree.join("srv/acl")).unwrap(), "text\n", "the layer is as it was");

    let (one, two) = (init_of(slot()), init_of(&other_slot));
    let firsts = [first_id(one), first_id(two), stored_first];
    assert!(firsts.iter().all(|first| first % COUNT == 0 && *first >= 1_879_048_192), "{firsts:?}");
    assert!(firsts[0] != firsts[1] && !firsts[..2].contains(&stored_first), "{firsts:?}");

    // A lab that takes all it can leaves the other one what is its own, and nothing of the one is the other's.
    let (mut greedy, line) = in_background(&python_as(one, GREEDY, &[]));
    let words: Vec<&str> = line.split_whitespace().collect();
    let [key, process, keys, pipes] = words[..] else { panic!("{line:?}") };
    assert_eq!([keys, pipes], ["EDQUOT", "EPERM"], "both budgets are used up");
    let ask = |pid: i32| {
        let words = python_as(pid, OTHER, &[key.to_owned(), process.to_owned()]);
        Command::new(&words[0]).args(&words[1..]).output().unwrap().text()
    };
    assert_eq!(ask(two).trim(), "own key yes other key EACCES signal EPERM large pipe yes");
    // The same from the same lab: what is asked can be answered otherwise.
    assert_eq!(ask(one).trim(), "own key EDQUOT other key yes signal yes large pipe EPERM");
    drop(greedy.stdin.take());
    assert!(greedy.wait().unwrap().success());
    let read_only = Command::new("nsenter").args(["--mount", "--target"]).arg(guard_of(slot()).to_string());
    let place = format!("/run/mancer-e2e/{}/shown/0/forged", slot());
    let written = read_only.args(["--", "touch", &place]).output().unwrap();
    assert!(said(&written).contains("Read-only file system"), "{}", said(&written));
}

fn guard_of(slot: &str) -> i32 {
    super::common::guard_pid_of(slot).expect("the slot has a guard")
}

#[test]
fn a_privileged_machine_sees_the_owners_too_and_the_store_is_closed_to_others() {
    let _host = Host::take();
    let labs = Labs { project: project_with_template(&template(true)) };
    let (tree, _) = layer_of(&labs);
    labs.up(slot());
    assert_eq!(
        labs.inside(slot(), "root", "stat -c %u:%g:%a /bin/busybox /srv /srv/suid"),
        "0:0:755\n1000:0:755\n0:0:4755"
    );
    let forge = |path: &Path| Command::new(path.display().to_string()).arg("id").user(65_534, 65_534).dir("/").output();
    let run = forge(&tree.join("srv/suid"));
    assert!(run.as_ref().map_or(true, |output| output.status != 0), "a set-id program of a layer can be run: {run:?}");
    let listed = Command::new("ls").arg("/var/lib/mancer-e2e/layers").user(65_534, 65_534).dir("/").output().unwrap();
    assert!(said(&listed).contains("Permission denied"), "{}", said(&listed));
    let mode = std::fs::metadata("/var/lib/mancer-e2e/layers").unwrap().mode() & 0o7777;
    assert_eq!(mode, 0o700);
    // Who may not look is told so where it matters, and nothing fails.
    let plan = ["--root", &labs.project.path().display().to_string(), "e2e", "--dry-run"].map(str::to_owned);
    let plan = engine().args(&plan).user(65_534, 65_534).dir("/").output().unwrap();
    assert!(plan.status == 0 && plan.text().contains("only root sees whether it is built"), "{}", said(&plan));
}
