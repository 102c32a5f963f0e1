//! The catalogue of faults on real containers: the scenario checks each one from inside, this the record.

use std::path::Path;
use std::time::Duration;

use super::common::{Host, e2e, engine, events, mancer, project_with_template, said, selftest, slot, with_slot};
use super::project::{MINI, Project};
use serde_json::Value;
use xtask::fault::{Needs, catalogue};
use xtask::host::exec::shell::{Command, Output};

#[test]
fn every_fault_takes_effect_is_recorded_and_recovers() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["faults"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let of = |kind: &str| -> Vec<(String, u64)> {
        let events = events(&project).into_iter().filter(|event| event["event"] == kind);
        let key = |event: &serde_json::Value| {
            assert!(!event["evidence"].as_str().unwrap().is_empty(), "{event}");
            (event["case"].as_str().unwrap().to_owned(), event["fault"].as_u64().unwrap())
        };
        let mut keys: Vec<_> = events.map(|event| key(&event)).collect();
        keys.sort();
        keys
    };
    let (injected, healed) = (of("fault_injected"), of("fault_healed"));
    assert_eq!(injected, healed, "each is healed once, those too that the scenario left");
    let names: std::collections::BTreeSet<String> = events(&project)
        .iter()
        .filter(|event| event["event"] == "fault_injected")
        .map(|event| event["description"]["name"].as_str().unwrap().to_owned())
        .collect();
    let mut of_busybox = vec![
        "cpu.burn",
        "cpu.quota",
        "disk.dead",
        "disk.fs-error",
        "disk.full",
        "disk.inodes",
        "disk.readonly",
        "disk.slow",
        "dns.drop",
        "dns.refuse",
        "dns.servfail",
        "dns.spoof",
        "fd.cap",
        "file.bitflip",
        "file.truncate",
        "io.delay",
        "io.error",
        "memory.limit",
        "memory.oom",
        "memory.pressure",
        "net.corrupt",
        "net.delay",
        "net.duplicate",
        "net.flap",
        "net.isolate",
        "net.loss",
        "net.mtu-hole",
        "net.nth-loss",
        "net.oneway",
        "net.partition",
        "net.port-block",
        "net.rate",
        "net.reset",
        "net.stall",
        "node.freeze",
        "node.kill",
        "node.restart-storm",
        "node.stop",
        "pids.cap",
        "process.crashloop",
        "process.kill",
        "process.pause",
    ];
    if xtask::host::machine::hardware::processors() > 1 {
        of_busybox.push("cpu.pin");
    }
    assert_eq!(names, of_busybox.into_iter().map(String::from).collect(), "all but those that need systemd");
}

#[test]
fn the_whole_catalogue_can_be_tried() {
    let _host = Host::take();
    let project = mancer();
    let output = engine()
        .args(["--root", &project.display().to_string(), "--format", "json", "fault", "try", "--all", "--slot", slot()])
        .dir(&project)
        .deadline(std::time::Duration::from_secs(500))
        .output()
        .unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(rows.len(), e2e_contract::Fault::NAMES.len());
    for row in &rows {
        let done = row["bites"] == true && row["healed"] == true;
        assert!(done || row["supported"] == false, "{row:#}");
        let is_moment = ["process.kill", "memory.oom"].contains(&row["fault"].as_str().unwrap());
        let lasted = if done && !is_moment { Value::from("until_now") } else { Value::Null };
        assert_eq!(row["lasted"]["state"], lasted, "{row:#}");
        assert!(!row["evidence"].as_str().unwrap().is_empty(), "{row:#}");
    }
    assert_eq!(output.status, 0, "{}", said(&output));
}

/// Does each of some faults to a kept lab, and takes each back, by processes other than the one that made the lab.
fn inject_and_heal_each(project: &Path, target: &str, others: &[&str], is_meant: fn(Needs) -> bool) {
    let root = project.display().to_string();
    let xtask = |args: &[&str]| {
        let words = with_slot(args);
        engine().args(["--root", &root]).args(words).dir(project).deadline(Duration::from_secs(100)).output().unwrap()
    };
    let names = ["a", "b", "c", "d"][..=others.len()].join(",");
    let made = xtask(&[&["up", target], others, &["--name", &names]].concat());
    assert_eq!(made.status, 0, "{}", said(&made));
    let mut told = String::new();
    let all = catalogue().into_iter().filter(|entry| is_meant(entry.needs) && entry.supported().is_ok());
    for entry in all {
        if let Some(subject) = entry.subject {
            let fresh = format!("killall sleep dd tail; exec >/dev/null 2>&1\n{subject}\n");
            let begun = xtask(&["exec", "a", "--", "/bin/sh", "-c", &fresh]);
            let now = || [xtask(&["ps"]), xtask(&["logs", "a", "--live"])].map(|output| said(&output)).concat();
            assert_eq!(begun.status, 0, "before {}: {}after {told}{}", entry.example, said(&begun), now());
        }
        let fault = serde_json::to_value(&entry.example).unwrap();
        let parameters = fault.as_object().unwrap().iter().filter(|(name, value)| *name != "name" && !value.is_null());
        let parameters: Vec<String> = parameters
            .map(|(name, value)| format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        let words: Vec<&str> = parameters.iter().map(String::as_str).collect();
        let injected = xtask(&[&["fault", "inject", entry.example.name()], words.as_slice(), &["--on", "a"]].concat());
        let healed = xtask(&["fault", "heal", "--all"]);
        told = format!("{}: {}{}", entry.example, said(&injected), said(&healed));
        assert!(injected.status == 0 && healed.status == 0 && told.contains("is healed"), "{told}");
    }
    let gone = xtask(&["down"]);
    assert_eq!(gone.status, 0, "{}", said(&gone));
}

#[test]
fn every_fault_can_be_done_to_a_lab_that_stays() {
    let _host = Host::take();
    inject_and_heal_each(&mancer(), "minidisk", &["mini", "mini", "mini"], |needs| needs != Needs::Systemd);
}

#[test]
fn every_fault_of_systemd_can_be_done_to_a_lab_that_stays() {
    let _host = Host::take();
    inject_and_heal_each(&mancer(), "base", &["mini"], |needs| needs == Needs::Systemd);
}

/// A template that cannot be built, and would have what faults of disks need.
const UNBUILDABLE: &str = "from = \"mini\"\nrun = [\"exit 7\"]\ninit = [\"/bin/init\"]\n\
                           [[volumes]]\npath = \"/data\"\nsize = \"16M\"\nkind = \"ext4\"\n";

/// `fault try` of a family in a project, by way of another program.
fn try_family(before: &[&str], project: &Path, family: &str) -> Output {
    let root = project.display().to_string();
    let engine = [env!("CARGO_BIN_EXE_xtask"), "--root", &root, "--format", "json"];
    let words = [before, &engine, &["fault", "try", family, "--slot", slot()]].concat();
    Command::new(words[0]).args(&words[1..]).dir(project).deadline(Duration::from_secs(120)).output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
}

#[test]
fn a_fault_that_cannot_be_tried_does_not_stop_the_others() {
    let _host = Host::take();
    let project = project_with_template(UNBUILDABLE);
    let output = try_family(&["env"], project.path(), "disk");
    let rows = rows(&output);
    assert_eq!((output.status, rows.len()), (3, 6), "{}", said(&output));
    for row in rows {
        let (template, evidence) = (row["template"].as_str().unwrap(), row["evidence"].as_str().unwrap());
        match template {
            "mini" => assert!(row["bites"] == true && row["healed"] == true, "{row:#}"),
            _ => assert!(evidence.starts_with("the template odd could not be built: "), "{row:#}"),
        }
    }
    // No template has systemd: that is no failure of a fault, but nothing was tried.
    let output = try_family(&["env"], project.path(), "clock");
    let rows = self::rows(&output);
    assert_eq!((output.status, rows.len()), (3, 2), "{}", said(&output));
    for row in rows {
        assert_eq!((&row["supported"], &row["template"]), (&Value::Bool(false), &Value::Null), "{row:#}");
        assert_eq!(row["evidence"], "no template of this project has systemd");
    }
}

#[test]
fn a_host_that_makes_no_lab_is_said_once() {
    let _host = Host::take();
    let project = project_with_template("from = \"mini\"\ninit = [\"/bin/init\"]\n");
    // In a mount namespace of its own, nothing can be written where LXC looks for containers.
    let read_only = "mount -t tmpfs -o ro tmpfs /var/lib/lxc || exit 99; exec \"$@\"";
    let output = try_family(&["unshare", "--mount", "sh", "-c", read_only, "sh"], project.path(), "node");
    let said = said(&output);
    assert_eq!((output.status, output.text().as_str()), (3, ""), "{said}");
    assert_eq!(
        said.matches("no fault can be tried, because even the smallest lab cannot be created: ").count(),
        1,
        "{said}"
    );
    assert_eq!(said.matches("Read-only file system").count(), 1, "{said}");
}

/// Tools that behave as on a kernel without some of its parts, in front of the real ones.
struct Tools {
    folder: tempfile::TempDir,
}

impl Tools {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A tool that fails with these words where a shell's pattern matches its arguments and input.
    fn lacks(&self, tool: &str, pattern: &str, words: &str) {
        let script = format!(
            "#!/bin/sh\ninput=\ncase \" $* \" in *' - '*|*' --noflush '*) input=$(cat; echo .); input=${{input%.}} ;; esac\n\
             case \"$* $input\" in {pattern}) echo '{words}' >&2; exit 2 ;; esac\n\
             PATH=${{PATH#*:}}\nprintf %s \"$input\" | exec {tool} \"$@\"\n"
        );
        let path = self.folder.path().join(tool);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// The row of a fault that is tried with them, and its exit code.
    fn tried(&self, fault: &str) -> (Value, i32) {
        let path = format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        let output = engine()
            .args(["--format", "json", "fault", "try", fault, "--slot", slot()])
            .dir(selftest())
            .env("PATH", path)
            .deadline(Duration::from_secs(60))
            .output()
            .unwrap();
        let rows: Vec<Value> =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
        (rows[0].clone(), output.status)
    }
}

#[test]
fn what_the_kernel_lacks_is_done_another_way_or_said_in_one_line() {
    let _host = Host::take();
    let tools = Tools::new();
    tools.lacks("tc", "*tbf*", "Error: Specified qdisc kind is unknown.");
    tools.lacks("nft", "*\"table inet \"*|*\"table ip \"*", "Error: Could not process rule: Operation not supported");
    for tool in ["iptables", "iptables-restore"] {
        tools.lacks(tool, "*", "TABLE_ADD failed (Operation not supported)");
    }
    for fault in ["net.rate", "net.reset", "dns.refuse", "dns.spoof", "net.corrupt", "net.isolate"] {
        let (row, status) = tools.tried(fault);
        assert!(status == 0 && row["bites"] == true && row["healed"] == true, "{row:#}");
    }
    for tool in ["iptables-legacy", "iptables-legacy-restore"] {
        tools.lacks(tool, "*", "Table does not exist (do you need to insmod?)");
    }
    let queue = "the kernel lacks the iptables table mangle";
    for (fault, expected) in [
        ("net.rate", format!("net.rate: the kernel lacks sch_tbf, and this host cannot hand packets to a process (NFQUEUE): {queue}")),
        ("net.corrupt", format!("net.corrupt: this host cannot hand packets to a process (NFQUEUE): {queue}")),
        (
            "net.reset",
            "net.reset: the kernel lacks nft family inet; the kernel lacks nft family ip; the kernel lacks the iptables table filter"
                .to_owned(),
        ),
        ("dns.spoof", "dns.spoof: the kernel lacks nft family ip; the kernel lacks the iptables table nat".to_owned()),
    ] {
        let (row, status) = tools.tried(fault);
        assert!(status == 3 && row["supported"] == false, "{row:#}");
        assert_eq!(row["evidence"].as_str().unwrap().lines().next(), Some(expected.as_str()), "{row:#}");
    }
}

/// Second faults of the same kind, on each fault that is on; and each pair of faults that take a machine down.
const AGAIN: &str = "    def refused(name, more):
        try:
            a.inject(name, **more)
            return False
        except e2e.RequestError:
            return True
    down = {'node.kill': {}, 'node.stop': {'grace_ms': 100}, 'node.freeze': {}, 'node.restart-storm': {'times': 1, 'up_ms': 50}}
    for one in down:
        fault = a.inject(one, **down[one])
        for two in down:
            lab.check(refused(two, down[two]), f'{two} after {one}')
            try:
                a.exec(['true'])
                lab.check(False, f'{one} holds it down, and {two} was refused')
            except e2e.RequestError:
                pass
        fault.heal()
        a.exec(['true']).success()
    file = {'path': '/etc/hostname', 'offset': 0, 'bit': 0}
    for name, more in [('file.bitflip', file), ('net.flap', {'down_ms': 200, 'up_ms': 300})]:
        fault = a.inject(name, **more)
        lab.check(refused(name, more), name)
        fault.heal()
        a.inject(name, **more).heal()
";

#[test]
fn a_fault_that_is_refused_leaves_the_one_that_is_on() {
    let _host = Host::take();
    let project = Project::new(MINI);
    project.scenario("again", "odd", "", AGAIN);
    // A disk that is slow already is no failure of the host.
    let disk = "from = \"mini\"\ninit = [\"/bin/init\"]\n[[volumes]]\npath = \"/data\"\nsize = \"16M\"\n";
    project.template("disk", disk, "");
    let twice = "    slow = {'path': '/data', 'kilobytes_per_second': 1000}\n    fault = a.inject('disk.slow', **slow)\n    \
                 try:\n        a.inject('disk.slow', **slow)\n        lab.check(False, 'it is slow already')\n    except \
                 e2e.RequestError as error:\n        lab.check('slowed to 1000 kilobytes a second already' in str(error), \
                 str(error))\n    fault.heal()\n";
    let has_disks = xtask::host::disk::ext4::problem().is_none() && xtask::host::cgroup::throttle_problem().is_none();
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    if has_disks {
        project.scenario("twice", "disk", "", twice);
        let output = e2e(project.path(), &["twice", "--progress", "plain"]).output().unwrap();
        // On a busy host the first one may not take effect; then the second is never asked for.
        let text = said(&output);
        assert!(output.status == 0 || text.contains("it has no effect"), "{text}");
    }
}
