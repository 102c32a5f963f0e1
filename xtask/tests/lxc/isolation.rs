//! Calls of the kernel that programs of a machine may make, and addresses that no machine takes from another: one lab, entered as root.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, engine, said, slot, with_slot};
use super::project::{MINI, Project};

/// Parts of the kernel, by their names in `allow`, that one machine of the lab asks for.
const ASKED: &str = "allow = [\"user_namespaces\", \"io_uring\", \"keyring\", \"perf\", \"mount_api\", \"sockets\"]\n";

/// `CLONE_NEWUSER`.
const NEW_USER: u64 = 0x1000_0000;

/// A call that is refused in machines that do not ask for it: name, number, two arguments, the error; and whether the machine that
/// asks is let through to the kernel.
const REFUSED: [(&str, libc::c_long, [u64; 2], i32, bool); 30] = [
    ("unshare with a user namespace", libc::SYS_unshare, [NEW_USER, 0], libc::EPERM, true),
    ("clone with a user namespace", libc::SYS_clone, [NEW_USER | 17, 0], libc::EPERM, false),
    ("clone3", libc::SYS_clone3, [0, 0], libc::ENOSYS, false),
    ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0], libc::ENOSYS, true),
    ("io_uring_enter", libc::SYS_io_uring_enter, [99, 0], libc::ENOSYS, true),
    ("io_uring_register", libc::SYS_io_uring_register, [99, 0], libc::ENOSYS, true),
    ("keyctl", libc::SYS_keyctl, [0, 0xffff_fffd], libc::ENOSYS, true),
    ("add_key", libc::SYS_add_key, [0, 0], libc::ENOSYS, true),
    ("request_key", libc::SYS_request_key, [0, 0], libc::ENOSYS, true),
    ("perf_event_open", libc::SYS_perf_event_open, [0, 0], libc::ENOSYS, true),
    ("open_tree", libc::SYS_open_tree, [99, 0], libc::ENOSYS, true),
    ("fsopen", libc::SYS_fsopen, [0, 0], libc::ENOSYS, true),
    ("fsconfig", libc::SYS_fsconfig, [99, 0], libc::ENOSYS, true),
    ("a socket to the hypervisor", libc::SYS_socket, [40, 1], libc::EAFNOSUPPORT, false),
    ("a socket of the kernel's ciphers", libc::SYS_socket, [38, 5], libc::EAFNOSUPPORT, false),
    ("a socket of Bluetooth", libc::SYS_socket, [31, 3], libc::EAFNOSUPPORT, false),
    ("userfaultfd", libc::SYS_userfaultfd, [0, 0], libc::ENOSYS, false),
    ("bpf", libc::SYS_bpf, [0, 0], libc::EPERM, false),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, [99, 0], libc::EPERM, false),
    ("fanotify_init", libc::SYS_fanotify_init, [0, 0], libc::ENOSYS, false),
    ("kexec_load", libc::SYS_kexec_load, [0, 0], libc::EPERM, false),
    ("init_module", libc::SYS_init_module, [0, 0], libc::EPERM, false),
    ("finit_module", libc::SYS_finit_module, [99, 0], libc::EPERM, false),
    ("delete_module", libc::SYS_delete_module, [0, 0], libc::EPERM, false),
    ("swapon", libc::SYS_swapon, [0, 0], libc::EPERM, false),
    ("acct", libc::SYS_acct, [0, 0], libc::EPERM, false),
    ("quotactl", libc::SYS_quotactl, [0, 0], libc::EPERM, false),
    ("the kernel's log", libc::SYS_syslog, [3, 0], libc::EPERM, false),
    ("memfd_secret", libc::SYS_memfd_secret, [0, 0], libc::ENOSYS, false),
    ("a call of a newer kernel", 999, [0, 0], libc::ENOSYS, false),
];

/// Calls that every machine may make: the kernel is asked, and gives no error, or this one for arguments that make no sense.
const ALLOWED: [(&str, libc::c_long, [u64; 2], i32); 9] = [
    ("unshare with a mount namespace", libc::SYS_unshare, [0x0002_0000, 0], 0),
    ("a socket of Unix", libc::SYS_socket, [1, 1], 0),
    ("a raw packet socket", libc::SYS_socket, [17, 3], 0),
    ("ptrace", libc::SYS_ptrace, [16, 999_999], libc::ESRCH),
    ("setns", libc::SYS_setns, [99, 0], libc::EBADF),
    ("mount", libc::SYS_mount, [0, 0], libc::EFAULT),
    ("seccomp", libc::SYS_seccomp, [99, 0], libc::EINVAL),
    ("personality", libc::SYS_personality, [0xffff_ffff, 0], 0),
    ("pidfd_open", libc::SYS_pidfd_open, [1, 0], 0),
];

/// A program of x86-64 that makes calls, one after another, and writes the kernel's answers to its standard output: 8 bytes each.
fn program(calls: &[(libc::c_long, [u64; 2])]) -> Vec<u8> {
    const BASE: u64 = 0x0040_0000;
    const HEADERS: u64 = 64 + 56;
    let load = |code: &mut Vec<u8>, register: [u8; 2], value: u64| {
        code.extend(register);
        code.extend(value.to_le_bytes());
    };
    let (rax, rdi, rsi, rdx) = ([0x48, 0xb8], [0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba]);
    let answers = BASE + 0x8000;
    let mut code = Vec::new();
    load(&mut code, [0x49, 0xbf], answers); // r15
    let call = |code: &mut Vec<u8>, number: libc::c_long, arguments: [u64; 3]| {
        for (register, value) in [rdi, rsi, rdx].into_iter().zip(arguments) {
            load(code, register, value);
        }
        load(code, rax, number.cast_unsigned());
        code.extend([0x4d, 0x31, 0xd2]); // r10 = 0
        code.extend([0x4d, 0x31, 0xc0]); // r8 = 0
        code.extend([0x0f, 0x05]); // the call
        code.extend([0x49, 0x89, 0x07]); // its answer
        code.extend([0x49, 0x83, 0xc7, 0x08]);
    };
    for (number, [first, second]) in calls {
        call(&mut code, *number, [*first, *second, 0]);
    }
    call(&mut code, libc::SYS_write, [1, answers, calls.len() as u64 * 8]);
    call(&mut code, libc::SYS_exit_group, [0, 0, 0]);
    executable(BASE, HEADERS, &code)
}

/// A static executable of one segment that may be read, written and executed.
fn executable(base: u64, headers: u64, code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [base + headers, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x07\0\0\0");
    let length = headers + code.len() as u64;
    for word in [0, base, base, length, 0x10000, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// A program that makes a call as programs of 32 bits do: `mov eax, 20; int 0x80; xor edi, edi; mov eax, 231; syscall`.
fn program_32_bit() -> Vec<u8> {
    let code = [0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x31, 0xff, 0xb8, 231, 0, 0, 0, 0x0f, 0x05];
    executable(0x0040_0000, 64 + 56, &code)
}

struct Lab {
    project: Project,
}

impl Lab {
    fn up() -> Self {
        let project = Project::new(MINI);
        let probe = "[[probes]]\nexec = [\"/bin/true\"]\n";
        project.template("asks", &format!("{MINI}{ASKED}{probe}"), "");
        project.template("control", &format!("{MINI}privileged = true\n{probe}"), "");
        let lab = Self { project };
        let words = ["up", "mini", "mini", "asks", "control", "--name", "app,db,asks,control"];
        let said_up = lab.verb(&words);
        let line = "containers of template asks may use parts of the kernel that other containers may not: user_namespaces, io_uring, ";
        assert!(said_up.contains(line), "{said_up}");
        lab
    }

    fn command(&self, words: &[&str]) -> Command {
        engine().args(with_slot(words)).dir(self.project.path()).deadline(Duration::from_secs(60))
    }

    fn verb(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert_eq!(output.status, 0, "{words:?}: {}", said(&output));
        said(&output)
    }

    fn inside(&self, machine: &str, script: &str) -> Output {
        self.command(&["exec", machine, "--", "/bin/sh", "-c", script]).output().unwrap()
    }

    fn put(&self, machine: &str, path: &str, bytes: &[u8]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        self.verb(&["cp", &file.path().display().to_string(), &format!("{machine}:{path}")]);
        assert_eq!(self.inside(machine, &format!("chmod 755 {path}")).status, 0);
    }

    /// The answers of the kernel to calls that a program makes, let into a machine by this command.
    fn answers(command: &Command, calls: &[(libc::c_long, [u64; 2])]) -> Vec<i64> {
        let output = command.output().unwrap();
        assert_eq!((output.status, output.stdout.len()), (0, calls.len() * 8), "{}", said(&output));
        output.stdout.chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    fn file(&self) -> Value {
        let path = Path::new("/run/mancer-e2e").join(slot()).join("lab.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn host_name(machine: &str) -> String {
        format!("e2e-selftest-{}-{machine}", slot())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_machine_reaches_only_its_part_of_the_kernel_and_keeps_its_own_address() {
    let _host = Host::take();
    let lab = Lab::up();
    every_program_is_filtered(&lab);
    calls_are_refused(&lab);
    files_of_the_kernel_are_hidden(&lab);
    addresses_are_kept(&lab);
}

fn every_program_is_filtered(lab: &Lab) {
    let status = "grep ^Seccomp /proc/self/status /proc/1/status | tr -d '\\n\\t'";
    let all = "/proc/self/status:Seccomp:2/proc/self/status:Seccomp_filters:2/proc/1/status:Seccomp:2/proc/1/status:Seccomp_filters:2";
    for machine in ["app", "db", "asks"] {
        let output = lab.inside(machine, status);
        assert_eq!(output.text().replace(' ', ""), all, "{machine}");
    }
    // A person's own command has the policy alone.
    let attach = |machine: &str| Command::new("lxc-attach").args(["-n", &Lab::host_name(machine), "--"]);
    let own = attach("app").args(["grep", "^Seccomp:", "/proc/self/status"]).run().unwrap().text();
    assert_eq!(own.split_whitespace().last(), Some("2"), "{own}");
    let control = lab.inside("control", status).text();
    assert!(control.contains("Seccomp:0"), "a privileged machine has no filter: {control}");
    let capabilities = lab.inside("app", "grep ^CapBnd /proc/self/status").text();
    let bounding = u64::from_str_radix(capabilities.split_whitespace().last().unwrap(), 16).unwrap();
    // sys_module, sys_rawio, sys_pacct, sys_time, audit_control, mac_override, mac_admin, syslog, wake_alarm, block_suspend.
    let dropped = [9_u32, 16, 17, 20, 25, 30, 32, 33, 34, 35, 36, 37];
    assert!(dropped.iter().all(|number| bounding & (1 << number) == 0), "{capabilities}");
    assert!(bounding & (1 << 21) != 0, "systemd needs sys_admin: {capabilities}");
}

fn calls_are_refused(lab: &Lab) {
    let refused: Vec<(libc::c_long, [u64; 2])> =
        REFUSED.iter().map(|(_, number, arguments, ..)| (*number, *arguments)).collect();
    let allowed: Vec<(libc::c_long, [u64; 2])> =
        ALLOWED.iter().map(|(_, number, arguments, _)| (*number, *arguments)).collect();
    let exec = |machine: &str, path: &str| lab.command(&["exec", machine, "--", path]);
    lab.put("app", "/root/refused", &program(&refused));
    lab.put("app", "/root/allowed", &program(&allowed));
    let expected: Vec<(&str, i64)> = REFUSED.iter().map(|(name, .., error, _)| (*name, i64::from(-error))).collect();
    let names = REFUSED.iter().map(|(name, ..)| *name);
    let answers: Vec<_> = names.clone().zip(Lab::answers(&exec("app", "/root/refused"), &refused)).collect();
    assert_eq!(answers, expected);
    let answers = Lab::answers(&exec("app", "/root/allowed"), &allowed);
    for ((name, _, _, error), answer) in ALLOWED.iter().zip(answers) {
        let is_allowed = if *error == 0 { answer >= 0 } else { answer == i64::from(-error) };
        assert!(is_allowed, "{name}: {answer}");
    }
    // Asked for by name: none but these reaches the kernel.
    let by_name: Vec<_> = REFUSED.iter().filter(|(.., is_asked)| *is_asked).collect();
    let calls: Vec<_> = by_name.iter().map(|(_, number, arguments, ..)| (*number, *arguments)).collect();
    lab.put("asks", "/root/asked", &program(&calls));
    for ((name, .., error, _), answer) in by_name.iter().zip(Lab::answers(&exec("asks", "/root/asked"), &calls)) {
        assert_ne!(answer, i64::from(-error), "{name} was asked for");
    }
    lab.put("asks", "/root/module", &program(&[(libc::SYS_init_module, [0, 0]), (999, [0, 0])]));
    let answers = Lab::answers(&exec("asks", "/root/module"), &[(0, [0, 0]); 2]);
    assert_eq!(answers, [i64::from(-libc::EPERM), i64::from(-libc::ENOSYS)], "what nobody can ask for");
    // What a person's own lxc-attach lets in meets LXC's policy.
    let own: BTreeMap<_, _> = {
        let attach = Command::new("lxc-attach").args(["-n", &Lab::host_name("app"), "--", "/root/refused"]);
        names.zip(Lab::answers(&attach, &refused)).collect()
    };
    for (name, error) in &expected {
        let of_policy =
            ["unshare", "clone", "keyctl", "_key", "io_uring_setup", "bpf", "perf", "userfaultfd", "handle"];
        if of_policy.iter().any(|part| name.contains(part)) {
            assert_eq!(own[name], *error, "{name}, by lxc-attach");
        }
    }
    // Calls of 32 bits end the program: 128 and SIGSYS.
    lab.put("app", "/root/old", &program_32_bit());
    assert_eq!(exec("app", "/root/old").output().unwrap().status, 128 + 31);
    // The control: without a filter the same calls reach the kernel. Those only that do nothing to the host, whose root it has.
    lab.put("control", "/root/refused", &program(&calls));
    let free = Lab::answers(&exec("control", "/root/refused"), &calls);
    let passed: Vec<_> =
        by_name.iter().zip(free).filter(|((.., error, _), answer)| *answer != i64::from(-error)).collect();
    assert!(passed.len() >= 8, "{passed:?} of {}", calls.len());
}

fn files_of_the_kernel_are_hidden(lab: &Lab) {
    let script = "for file in kallsyms keys timer_list config.gz; do cat /proc/$file 2>/dev/null | head -c 1; done; ls /sys/firmware \
                  /sys/kernel/slab /sys/kernel/security /sys/kernel/debug 2>/dev/null | grep -v : | tr -d '\\n'";
    assert_eq!(lab.inside("app", script).text(), "");
    assert_eq!(lab.inside("control", "cat /proc/kallsyms | head -c 1").text().len(), 1, "the control sees it");
}

/// Sends frames from a machine's card, as root in it can by a packet socket, and says of each whether it came to another machine's card:
/// a marker that every lock lets through follows each. Done with this host's Python, in the networks of both, for the template has none.
const FRAMES: &str = r"
import ctypes, socket, sys
sender, receiver, frames = sys.argv[1], sys.argv[2], sys.argv[3:]
def card(network):
    with open(network) as file:
        assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) == 0, ctypes.get_errno()
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    made.bind(('eth0', 0))
    made.settimeout(20)
    return made
sender, receiver = card(sender), card(receiver)
own = sender.getsockname()[4]
for number, frame in enumerate(frames):
    frame = bytes.fromhex(frame)
    sender.send(frame)
    sender.send(b'\xff' * 6 + own + b'\x88\xb5' + b'marker-%d' % number)
    seen = b''
    while b'marker-%d' % number not in seen:
        seen = receiver.recv(4096)
        if frame[-24:] in seen:  # tags are taken off before
            print(number)
";

/// Sends datagrams, each in a frame, from a machine's card, and prints the addresses from which they come to a socket of the lab's network,
/// until the last one does.
const DATAGRAMS: &str = r"
import ctypes, socket, sys
def enter(network):
    with open(network) as file:
        assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0) == 0, ctypes.get_errno()
enter(sys.argv[1])
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(('', 9))
receiver.settimeout(20)
enter(sys.argv[2])
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind(('eth0', 0))
for frame in sys.argv[3:]:
    sender.send(bytes.fromhex(frame))
while True:
    said, (address, _) = receiver.recvfrom(4096)
    print(address)
    if said == b'last':
        break
";

/// Parts of a frame, in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hardware address of the lab's machine or bridge with this last number of its address.
fn mac(number: u8) -> [u8; 6] {
    [2, 0xe2, 0xe0, 0, 0, number]
}

/// Address of IPv6 that a card with that hardware address gives itself.
fn link_local(number: u8) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0xe2, 0xe0, 0xff, 0xfe, 0, 0, number]
}

/// Checksum of the internet's protocols.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

/// Frames by which a machine claims addresses of another one or of the bridge, by their names.
fn claims(own: u8, others: &[(&str, u8)], network: [u8; 3]) -> Vec<(String, String)> {
    let [every, none] = [[0xff; 6], [0; 6]].map(|address| hex(&address));
    let own_mac = hex(&mac(own));
    let arp = |operation: u8, sender: &str, target: &str| {
        format!("0806{}{own_mac}{sender}{none}{target}", hex(&[0, 1, 8, 0, 6, 4, 0, operation]))
    };
    let icmpv6 = |from: [u8; 16], kind: u8, target: [u8; 16]| {
        let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let mut message = [[kind, 0, 0, 0, 0x20, 0, 0, 0].as_slice(), &target].concat();
        let sum = checksum(&[&from[..], &to, &[0, 0, 0, 24, 0, 0, 0, 58], &message].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        // Version 6, 24 bytes of ICMPv6, hop limit 255.
        format!("86dd{}{}{}{}", hex(&[0x60, 0, 0, 0, 0, 24, 58, 255]), hex(&from), hex(&to), hex(&message))
    };
    let mut claims = Vec::new();
    for (name, number) in others {
        let address = hex(&[network[0], network[1], network[2], *number]);
        for tags in ["8100", "88a8", "8100 8100", "88a8 8100", "8100 8100 88a8"] {
            let tagged: String = tags.split(' ').map(|tag| format!("{tag}0000")).collect();
            claims.push((format!("ARP of {name} with the tags {tags}"), tagged + &arp(2, &address, &address)));
        }
        claims.push((format!("ARP of {name}"), arp(2, &address, &address)));
        claims.push((format!("probe for {name}'s address"), arp(1, "00000000", &address)));
        let advertisement = icmpv6(link_local(own), 136, link_local(*number));
        claims.push((format!("advertisement of {name}'s IPv6 address"), advertisement));
        claims.push((format!("probe for {name}'s IPv6 address"), icmpv6([0; 16], 135, link_local(*number))));
        claims.push((format!("IPv6 from {name}'s address"), icmpv6(link_local(*number), 128, link_local(own))));
    }
    claims.into_iter().map(|(name, rest)| (name, format!("{every}{own_mac}{rest}"))).collect()
}

/// The network namespace of a machine.
fn network(machine: &str) -> String {
    let init = Command::new("lxc-info").args(["-n", &Lab::host_name(machine), "-pH"]).run().unwrap().text();
    format!("/proc/{}/ns/net", init.trim())
}

/// A datagram in a frame: the hardware address that it goes to, the machine that it says to come from, and its text.
fn datagram(to: [u8; 6], from: u8, text: &str, network: [u8; 3]) -> String {
    let [a, b, c] = network;
    let length = u8::try_from(8 + text.len()).unwrap();
    let mut header = vec![0x45, 0, 0, 20 + length, 0, 0, 0, 0, 64, 17, 0, 0, a, b, c, from, a, b, c, 1];
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let udp = [0, 9, 0, 9, 0, length, 0, 0]; // no checksum
    hex(&[&to, &mac(from)[..], &[8, 0], &header, &udp, text.as_bytes()].concat())
}

/// The names of those frames of `app` that come to `asks`.
fn passed(frames: &[(String, String)]) -> Vec<String> {
    let command = Command::new("python3").args(["-c", FRAMES, &network("app"), &network("asks")]);
    let numbers = command.args(frames.iter().map(|(_, frame)| frame)).run().unwrap().text();
    numbers.lines().map(|number| frames[number.parse::<usize>().unwrap()].0.clone()).collect()
}

fn address(lab: &Lab, machine: &str) -> String {
    let hosts = lab.inside("asks", &format!("grep ' {machine}$' /etc/hosts")).text();
    hosts.split(' ').next().unwrap().to_owned()
}

/// The attempts of `app` to get the connections of `db`, and how many of 12 came to `app`.
fn taken(lab: &Lab, attack: &str) -> usize {
    let (db, app) = (address(lab, "db"), address(lab, "app"));
    let octet: u8 = db.rsplit('.').next().unwrap().parse().unwrap();
    let mac = format!("02:e2:e0:00:00:{octet:02x}");
    let attack = attack.replace("DB", &db).replace("MAC", &mac).replace("APP", &app);
    let output = lab.inside("app", &attack);
    assert_eq!(output.status, 0, "{}", said(&output));
    let client = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do timeout 2 wget -q -O - http://{db}:8000/who 2>/dev/null || echo nobody; done"
    );
    let answers = lab.inside("asks", &client).text();
    assert_eq!(answers.lines().count(), 12, "{answers}");
    answers.lines().filter(|line| *line != "db").count()
}

fn addresses_are_kept(lab: &Lab) {
    for name in ["app", "db"] {
        let serve = format!("mkdir -p /tmp/www && echo {name} > /tmp/www/who && httpd -p 8000 -h /tmp/www");
        assert_eq!(lab.inside(name, &serve).status, 0);
    }
    // Its address beside the own one, announced again and again; and its hardware address, with packets that bridges learn from.
    let by_address = "ip address add DB/24 dev eth0; (while :; do arping -q -c 1 -A -I eth0 DB; usleep 20000; done) >/dev/null 2>&1 & \
                   for i in 1 2 3; do arping -q -c 1 -U -I eth0 DB; done; true";
    let by_hardware = "ip link set eth0 address MAC; (while :; do arping -q -c 1 -A -I eth0 APP; usleep 5000; done) >/dev/null 2>&1 & \
                    arping -q -c 1 -A -I eth0 APP; true";
    assert_eq!(taken(lab, "true"), 0, "nobody attacks");
    assert_eq!(taken(lab, by_address), 0, "by the address");
    let number = |name: &str| address(lab, name).rsplit('.').next().unwrap().parse::<u8>().unwrap();
    let network: Vec<u8> = address(lab, "app").split('.').take(3).map(|part| part.parse().unwrap()).collect();
    let subnet: [u8; 3] = network.try_into().unwrap();
    let frames = claims(number("app"), &[("db", number("db")), ("the bridge", 1)], subnet);
    assert_eq!(passed(&frames), Vec::<String>::new(), "claims of other machines' addresses");
    // Addresses that bridges keep for themselves: those frames go nowhere, but the bridge would learn from them.
    let reserved = |last: u8| {
        let frame = [&[1, 0x80, 0xc2, 0, 0, last], &mac(number("db"))[..], &[0x88, 0xcc]].concat();
        (format!("reserved address {last}"), hex(&frame))
    };
    passed(&[2, 3, 8, 14].map(reserved));
    assert_eq!(taken(lab, "true"), 0, "by frames to reserved addresses");
    // A packet to such an address comes to the lab's own sockets by the port itself, and not by the bridge.
    let place = lab.file()["network"]["path"].as_str().unwrap().to_owned();
    let datagrams = [
        datagram([1, 0x80, 0xc2, 0, 0, 14], number("db"), "first", subnet),
        datagram(mac(1), number("app"), "last", subnet),
    ];
    let senders = || {
        let command = Command::new("python3").args(["-c", DATAGRAMS, &place, &self::network("app")]);
        command.args(&datagrams).run().unwrap().text()
    };
    assert_eq!(senders(), address(lab, "app"), "a packet from another machine's address");
    assert_eq!(taken(lab, by_hardware), 0, "by both addresses");
    // The same without the lock: the attack is one.
    let unlock = |words: &[&str]| Command::new("nsenter").arg(format!("--net={place}")).args(words).run().unwrap();
    unlock(&["nft", "delete", "table", "bridge", "e2e_ports"]);
    unlock(&["sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter"]);
    let without = taken(lab, "true");
    assert!(without > 0, "without the lock");
    let names: Vec<String> = frames.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(passed(&frames), names, "each claim comes through without the lock");
    assert_eq!(senders(), format!("{}\n{}", address(lab, "db"), address(lab, "app")), "and so does a foreign address");
    println!("without the lock {without} of 12 connections came to another machine");
}
