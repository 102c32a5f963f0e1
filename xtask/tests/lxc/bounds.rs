//! Bounds of what a machine and a scenario can make the host keep, and what is told of a cut.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use walkdir::WalkDir;
use xtask::host::exec::program_output::OUTPUT_BYTES_MAX;
use xtask::host::exec::shell::Output;

use super::common::{Host, clean_slot, e2e, engine, events, project_with_template, record, said, slot, with_slot};

const MINI: &str = "from = \"mini\"\ninit = [\"/bin/init\"]\n[limits]\ncpus = 2.0\n";

const MIB: u64 = 1 << 20;

/// Scenario whose attempts are refused or cut; none of them makes the case fail.
const SCENARIO: &str = r#"
import os
import sys
import tempfile

import e2e


def scenario(lab):
    a = lab.container("a")
    a.sh("yes console | head -c 18000000 > /dev/console; echo the newest line > /dev/console").success()

    extended = a.sh("truncate -s 734003200 /proc/self/fd/1; truncate -s 734003200 /proc/self/fd/2; echo after")
    lab.check_equal(extended.stdout_text, "after\n")
    extended = a.sh("truncate -s 734003200 /dev/stdout; echo after", user="user")
    lab.check_equal(extended.stdout_text, "after\n")

    flood = a.sh("dd if=/dev/zero bs=1M count=260 2> /dev/null; echo end >&2", deadline=60).success()
    lab.check_equal((len(flood.stdout), flood.stderr_text), (256 << 20, "end\n"))
    del flood

    # It goes on writing into the stream of a program that has ended.
    a.sh("(while [ ! -e /tmp/end ]; do head -c 1000000 /dev/zero; done; touch /tmp/ended) & echo begun").success()

    a.sh("truncate -s 1099511627776 /tmp/sparse").success()
    refused(lab, lambda: a.get("/tmp/sparse"), "larger than 256 MiB, the most that `get` reads")

    with tempfile.TemporaryDirectory() as folder:
        sparse = os.path.join(folder, "sparse")
        with open(sparse, "wb") as file:
            file.truncate(1 << 40)
        content = {"file": {"path": sparse, "bytes": 1 << 40}}
        artifact = {"name": "sparse", "content": content}
        refused(lab, lambda: lab._connection.call("artifact", artifact), "may be 1024 MiB in 10000 files")
    lab.artifact("small", b"still fits")

    lab.log("x" * 1_000_000)
    for _ in range(80):
        sys.stdout.write("scenario\n" * 100_000)
    print("the scenario's last line")

    a.sh("touch /tmp/end").success()
    a.wait_for_file("/tmp/ended", deadline=30)


def refused(lab, attempt, why):
    try:
        attempt()
        said = "nothing"
    except e2e.RequestError as error:
        said = str(error)
    lab.check(why in said, "it is refused", said=said)


e2e.run(scenario)
"#;

/// Bytes on the disk of all files below a folder.
fn bytes_on_disk(folder: &Path) -> u64 {
    let files = WalkDir::new(folder).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files.map(|file| file.metadata().unwrap().blocks() * 512).sum()
}

fn run(project: &Path, args: &[&str]) -> Output {
    let words: Vec<&str> = args.iter().map(|word| if *word == "SLOT" { slot() } else { word }).collect();
    engine().args(words).dir(project).output().unwrap()
}

#[test]
fn what_a_machine_and_a_scenario_write_on_the_host_has_a_bound_and_a_cut_is_told() {
    let _host = Host::take();
    let folder = project_with_template(MINI);
    let project = folder.path();
    let scenario = project.join("scenarios/smoke/never_connects");
    let manifest = "description = \"Writes without end\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n";
    std::fs::write(scenario.join("scenario.toml"), manifest).unwrap();
    std::fs::write(scenario.join("main.py"), SCENARIO).unwrap();

    let output = e2e(project, &["--keep-containers=always"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    assert_eq!(record(project)["cases"][0]["verdict"], "passed");
    let run_folder = project.join("target/e2e/latest").canonicalize().unwrap();
    let case = run_folder.join("smoke/never_connects");

    // The stream of 260 MiB is there up to its bound, and nothing else is large.
    assert_eq!(case.join("artifacts/stream-1-stdout").metadata().unwrap().len(), OUTPUT_BYTES_MAX);
    let (kept, room) = (bytes_on_disk(&run_folder), OUTPUT_BYTES_MAX + 100 * MIB);
    assert!(kept < room, "{kept} bytes of the record");
    let streams = bytes_on_disk(&PathBuf::from("/var/lib/mancer-e2e/streams").join(slot()));
    assert!(streams < MIB, "{streams} bytes of streams");
    let live = record_of_machine(project);
    let live_bytes = bytes_on_disk(&live);
    assert!(live_bytes < 20 * MIB, "{live_bytes} bytes of live logs");

    // Each cut is told where it is.
    let warnings: Vec<String> = events(project)
        .iter()
        .filter(|event| event["event"] == "warning")
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    let missing = 260 * MIB - OUTPUT_BYTES_MAX;
    for part in [format!("{missing} bytes of its output are missing"), "are missing in scenario.log".to_owned()] {
        assert!(warnings.iter().any(|warning| warning.contains(&part)), "{part}: {warnings:?}");
        assert!(said(&output).contains(&part), "{part}: {}", said(&output));
    }
    let cut = events(project).iter().filter(|event| event["not_kept_bytes"] == missing).count();
    assert_eq!(cut, 1);
    let noted = events(project).into_iter().find(|event| event["event"] == "log").unwrap();
    assert!(noted["message"].as_str().unwrap().ends_with("[... 934464 bytes are not kept]"));
    let console = std::fs::read_to_string(case.join("containers/a/console.log")).unwrap();
    assert!(console.starts_with("[only the last 8 MiB of this log are kept]\n"), "{}", &console[..80]);
    assert!(console.contains("the newest line"), "{}", &console[console.len() - 200..]);
    let log = std::fs::read_to_string(case.join("scenario.log")).unwrap();
    assert!(log.contains("bytes are not kept here]\n") && log.ends_with("the scenario's last line\n"));

    // A sparse file on its way out of the kept lab.
    let made = "truncate -s 52428800 /tmp/small; printf end >> /tmp/small; truncate -s 1099511627776 /tmp/huge";
    let output = engine().args(with_slot(&["exec", "a", "--", "sh", "-c", made])).dir(project).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let copied = tempfile::tempdir().unwrap();
    let to = copied.path().display().to_string();
    let output = run(project, &["cp", "a:/tmp/small", &to, "--slot", "SLOT"]);
    assert_eq!(output.status, 0, "{}", said(&output));
    assert_eq!(copied.path().join("small").metadata().unwrap().len(), 50 * MIB + 3);
    assert!(bytes_on_disk(copied.path()) < MIB, "holes stay holes");
    let output = run(project, &["cp", "a:/tmp/huge", &to, "--slot", "SLOT"]);
    assert_eq!(output.status, 2, "{}", said(&output));
    assert!(said(&output).contains("more than 64 GiB, the most that one copy"), "{}", said(&output));
    assert!(!copied.path().join("huge").exists() && bytes_on_disk(copied.path()) < MIB);

    // LXC's log of a machine that reboots again and again.
    let lxc_log = live.join("lxc.log");
    let earlier = std::fs::read_to_string(&lxc_log).unwrap();
    std::fs::write(&lxc_log, earlier.repeat(usize::try_from(6 * MIB).unwrap() / earlier.len())).unwrap();
    let output = engine().args(with_slot(&["exec", "a", "--", "reboot", "-f"])).dir(project).output().unwrap();
    let begun = Instant::now();
    // It is empty for a moment before it says so.
    let is_cut = |log: &str| log.len() as u64 <= 2 * MIB && log.contains("earlier lines of this log are not kept");
    while !is_cut(&std::fs::read_to_string(&lxc_log).unwrap()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", said(&output));
        std::thread::sleep(Duration::from_millis(20)); // a file that becomes shorter gives no sign
    }
    clean_slot();
}

/// The folder of the live logs of the machine.
fn record_of_machine(project: &Path) -> PathBuf {
    let output = engine().args(with_slot(&["--format", "json", "ps"])).dir(project).output().unwrap();
    let name = format!("e2e-selftest-{}-a", slot());
    assert!(said(&output).contains(&name), "{}", said(&output));
    Path::new("/var/log/lxc").join(name)
}
