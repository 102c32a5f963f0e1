//! Attempts to get out: by root in a machine, by an ordinary user of the host, and by the files of a project. Each has what
//! would be gained by it; none may work. SECURITY.md says what they stand for.

use std::path::Path;

use serde_json::Value;
use xtask::host::exec::shell::Command;

use super::common::{Host, e2e, engine, guard_pid, said, selftest, slot, with_slot};
use super::project::{MINI, Project};

/// Word that the ordinary user and the hostile project are after.
const SECRET: &str = "s3cret-of-the-machine";

fn table(project: &Path, case: &str) -> Vec<Value> {
    let path = project.join("target/e2e/latest/smoke/escape").join(case).join("artifacts/attempts.json");
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn names(table: &[Value], escaped: bool) -> Vec<&str> {
    table.iter().filter(|row| row["escaped"] == escaped).map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn root_in_a_machine_gets_nothing_of_the_host_and_the_control_does() {
    let _host = Host::take();
    let project = selftest();
    let held = e2e(&project, &["escape:held", "--progress", "plain"]).output().unwrap();
    assert_eq!(held.status, 0, "{}", said(&held));
    let tried = table(&project, "held");
    assert!(tried.len() >= 60, "{} attempts", tried.len());
    assert_eq!(names(&tried, true), [""; 0]);

    // The control: the same attempts by a machine that is root of the host. A suite in which nothing works proves nothing.
    let scenario = project.join("scenarios/smoke/escape/scenario.toml");
    let text = std::fs::read_to_string(&scenario).unwrap();
    std::fs::write(
        &scenario,
        text.replace("[containers.a]\ntemplate = \"mini\"", "[containers.a]\ntemplate = \"bare\""),
    )
    .unwrap();
    let bare = project.join("../../../containers/bare");
    std::fs::create_dir(&bare).unwrap();
    let template = "from = \"mini\"\ninit = [\"/bin/init\"]\nprivileged = true\n";
    std::fs::write(bare.join("template.toml"), template).unwrap();
    let surveyed = e2e(&project, &["escape:surveyed", "--progress", "plain"]).output().unwrap();
    assert_eq!(surveyed.status, 0, "{}", said(&surveyed));
    let control = table(&project, "surveyed");
    let worked = names(&control, true);
    // Held from the one and open to the other on each kernel, whatever it was built with.
    for name in ["core-pattern-remounted", "file-watch", "kernel-addresses", "loop-control", "priority", "swap"] {
        assert!(
            worked.contains(&name),
            "{name} did not work in the control, so that its refusal says nothing: {worked:?}"
        );
    }
    println!("{} attempts held, {} of them work for root of the host: {worked:?}", tried.len(), worked.len());
}

/// An attempt by a line of shell, which ends with 0 where it has worked.
struct Line {
    name: &'static str,
    gain: &'static str,
    line: String,
}

#[test]
fn an_ordinary_user_gets_nothing_of_a_lab() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let template = format!(
        "from = \"mini\"\ninit = [\"/bin/init\"]\n[environment]\nTOKEN = \"{SECRET}\"\n\
         [[volumes]]\npath = \"/vault\"\nsize = \"1M\"\n"
    );
    project.template("secretive", &template, "");
    let root = project.path().display().to_string();
    let verb = |words: &[&str]| engine().args(with_slot(words)).arg("--root").arg(&root).dir("/").output().unwrap();
    let up = verb(&["up", "secretive", "--ttl", "5m"]);
    assert_eq!(up.status, 0, "{}", said(&up));

    let (slot, name) = (slot(), format!("e2e-selftest-{}-secretive", slot()));
    let run = format!("/run/mancer-e2e/{slot}");
    let machine = format!("{run}/containers/secretive");
    let init = std::fs::read_to_string(format!("{machine}/init.pid")).unwrap().trim().to_owned();
    let guard = guard_pid().unwrap();
    let uid = Command::new("stat").args(["-c", "%u", &format!("/proc/{init}")]).run().unwrap().text();
    let attempt = |name, gain, line: String| Line { name, gain, line };
    let attempts = [
        attempt(
            "lxc-configuration",
            "what the machine is given, secrets too",
            format!("cat /var/lib/lxc/{name}/config"),
        ),
        attempt("lab-file", "the same", format!("cat {run}/lab.json")),
        attempt("owner-of-environment", "the same", format!("cat /proc/{init}/environ")),
        attempt("root-by-process", "the machine's files", format!("ls /proc/{init}/root/")),
        attempt("root-by-path", "the machine's files", format!("stat {machine}/root/bin")),
        attempt("writes", "the machine's files", format!("ls {machine}/writes")),
        attempt("volume", "the machine's data", format!("stat {machine}/images/0.img")),
        attempt("hook", "root of the host by the next start", format!("echo >>{machine}/hook.sh")),
        attempt("init-pid", "an end of another process", format!("echo 1 >{machine}/init.pid")),
        attempt("guard-socket", "the guard's obedience, which is root's", connect(&format!("{run}/guard.socket"))),
        attempt("slot-lock", "no lab in this slot for anybody", format!("exec 9<{run}/lock")),
        attempt("ledger", "what is undone as root", format!("echo >>{run}/ledger.jsonl")),
        attempt("new-slot", "folders in which root works", "mkdir /run/mancer-e2e/escape".into()),
        attempt("streams", "what programs in machines say", format!("ls /var/lib/mancer-e2e/streams/{slot}")),
        attempt("layers", "set-id programs and files of every template", "ls /var/lib/mancer-e2e/layers".into()),
        attempt("log", "other words in the logs", format!("echo >>/var/log/lxc/{name}/console.log")),
        attempt("new-log", "files where root writes", format!("touch /var/log/lxc/{name}/new.log")),
        attempt("console", "what the machine's programs say", format!("cat /var/log/lxc/{name}/console.log")),
        attempt("attach", "root in the machine", format!("lxc-attach -n {name} -- /bin/true")),
        attempt("stop", "an end of the machine", format!("lxc-stop -k -n {name}")),
        attempt("signal", "an end of the machine", format!("kill -0 {init}")),
        attempt("signal-to-guard", "an end of the lab", format!("kill -0 {guard}")),
        attempt("network", "the lab's network", format!("nsenter --net=/proc/{init}/ns/net true")),
        attempt("mounts", "the guard's mounts", format!("nsenter --mount=/proc/{guard}/ns/mnt true")),
        attempt("guard-descriptors", "what the guard has open", format!("ls /proc/{guard}/fd")),
        attempt("guard-memory", "the guard's memory", format!("exec 9</proc/{guard}/mem")),
        attempt("guard-environment", "the environment of whoever started it", format!("cat /proc/{guard}/environ")),
        attempt(
            "group",
            "limits of the machine",
            format!("echo $$ >$(find /sys/fs/cgroup -type d -name secretive | grep -m1 -F /{slot}/)/cgroup.procs"),
        ),
        attempt(
            "ids",
            "the machine's own ids, by the next user that somebody adds",
            format!("test {uid} -ge 100000 -a {uid} -lt 600100000"),
        ),
    ];
    let mut worked = Vec::new();
    for Line { name, gain, line } in &attempts {
        let output = Command::new("sh").args(["-c", line]).user(65534, 65534).dir("/").output().unwrap();
        if output.status == 0 {
            worked.push(format!("{name} ({gain}): {}", said(&output).lines().next().unwrap_or_default()));
        }
        // Each of the looks works for root, or its failure would say nothing of the user.
        let is_look = ["cat ", "ls ", "kill -0", "exec 9<"].iter().any(|look| line.starts_with(look));
        if is_look {
            let by_root = Command::new("sh").args(["-c", line]).dir("/").output().unwrap();
            assert_eq!(by_root.status, 0, "{name}: {}", said(&by_root));
        }
    }
    let down = verb(&["down"]);
    assert_eq!(down.status, 0, "{}", said(&down));
    assert!(worked.is_empty(), "{} of {} attempts worked:\n  {}", worked.len(), attempts.len(), worked.join("\n  "));
    println!("{} attempts by an ordinary user held", attempts.len());
}

fn connect(socket: &str) -> String {
    format!("python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"{socket}\")'")
}

#[test]
fn the_files_of_a_project_get_nothing_of_the_host() {
    let _host = Host::take();
    let prey = tempfile::tempdir().unwrap();
    let pwned = prey.path().join("pwned");
    let all = [
        ("environment", "[environment]\nA = \"x\\nlxc.hook.pre-start = /usr/bin/touch PWNED\"\n"),
        ("environment-name", "[environment]\n\"A\\nlxc.hook.pre-start = /usr/bin/touch PWNED\\nB\" = \"x\"\n"),
        ("environment-return", "[environment]\nA = \"x\\rlxc.hook.pre-start = /usr/bin/touch PWNED\"\n"),
        ("environment-end", "[environment]\nA = \"x\\u0000y\"\n"),
        ("volume", "[[volumes]]\npath = \"/x\\nlxc.hook.pre-start = /usr/bin/touch PWNED\"\nsize = \"1M\"\n"),
        ("volume-fields", "[[volumes]]\npath = \"/x none bind 0 0\\n/ y\"\nsize = \"1M\"\n"),
        ("volume-above", "[[volumes]]\npath = \"/../../x\"\nsize = \"1M\"\n"),
        ("init", "init = [\"/bin/init\\nlxc.hook.pre-start = /usr/bin/touch PWNED\"]\n"),
        ("init-above", "init = [\"../../../bin/touch\", \"PWNED\"]\n"),
        ("release", "from = { debian = \"--setup-hook=touch PWNED\" }\n"),
        ("release-words", "from = { debian = \"bookworm --setup-hook='touch PWNED'\" }\n"),
        ("package", "packages = [\"-oDPkg::Pre-Invoke::=touch PWNED\"]\n"),
        ("package-list", "packages = [\"busybox,--setup-hook=touch PWNED\"]\n"),
        ("package-file", "packages = [\"./app\"]\n"),
        ("user", "[[users]]\nname = \"x:0:0::/:/bin/sh\\ny\"\nuid = 1500\n"),
        ("user-shell", "[[users]]\nname = \"x\"\nuid = 1500\nshell = \"/bin/sh\\nroot2::0:0::/:/bin/sh\"\n"),
        ("target-above", "[[files]]\nsource = \"app\"\ntarget = \"/../../../../PWNED\"\n"),
        ("owner", "[[files]]\nsource = \"app\"\ntarget = \"/app\"\nowner = \"root;touch PWNED\"\n"),
        ("mode", "[[files]]\nsource = \"app\"\ntarget = \"/app\"\nmode = \"0755;touch PWNED\"\n"),
        ("program-above", "[[files]]\nprogram = \"../../root/x\"\ntarget = \"/app\"\n"),
        ("logs-above", "logs = [\"/../../../etc/shadow\"]\n"),
        ("unit", "[services]\nenable = [\"--root=/ ssh\"]\n"),
        ("masked-unit", "[services]\nmask = [\"../../../etc/x.service\"]\n"),
        ("python", "[pip]\nrequirements = \"app\"\ntarget = \"/opt/x\"\npython = \"3.11; touch PWNED\"\n"),
        ("pip-target", "[pip]\nrequirements = \"app\"\ntarget = \"/../../..\"\npython = \"3.11\"\n"),
        ("ssh-user", "[ssh]\naccepts = [\"../../../root\"]\n"),
        ("probe-unit", "[[probes]]\nunit = \"-H root@127.0.0.1 x\"\n"),
        ("probe-path", "[[probes]]\nhttp = \"/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n\"\n"),
        ("device-as-source", "[[files]]\nsource = \"/dev/zero\"\ntarget = \"/app\"\n"),
        ("process-as-source", "[[files]]\nsource = \"/proc/self/environ\"\ntarget = \"/app\"\n"),
        ("template-above", "from = \"../../mini\"\n"),
    ];
    let mut worked = Vec::new();
    for (name, lines) in &all {
        let project = Project::new(MINI);
        let lines = lines.replace("PWNED", &pwned.display().to_string());
        // What the attempt does not say is as in any template.
        let usual = ["from = \"mini\"\n", "init = [\"/bin/init\"]\n"];
        let before: String = usual.into_iter().filter(|line| !lines.starts_with(&line[..5])).collect();
        project.template("hostile", &format!("{before}{lines}"), "x");
        project.scenario("hostile", "hostile", "", "    pass");
        let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
        let text = said(&output);
        let is_named = text.contains("containers/hostile/template.toml:");
        if pwned.exists() || output.status != 2 || !is_named {
            let effect = if pwned.exists() { "with an effect on the host" } else { "without an effect" };
            worked.push(format!("{name}: exit {}, {effect}: {text}", output.status));
            let _ = std::fs::remove_file(&pwned);
        }
    }
    assert!(worked.is_empty(), "{} of {} not refused:\n  {}", worked.len(), all.len(), worked.join("\n  "));
    println!("{} hostile templates refused", all.len());
}
