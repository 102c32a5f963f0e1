//! `scenarios/DEFECTS.md`, line by line: the program of each entry is run where its users would run it, and has to show
//! the defect.

use std::sync::Mutex;
use std::time::Duration;

use super::common::{Host, clean_slot, e2e, mancer, repository, said, slot};
use xtask::host::exec::shell::Command;

/// Number of programs that run at once.
const AT_ONCE: usize = 2;

/// The longest of them waits for a command of two seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A scenario whose lab has all machines that the programs need.
const SCENARIO: &str = "inventory";

/// Name and program of each entry, which a heading of this level begins.
pub(super) fn entries(text: &str, level: &str) -> Vec<(String, String)> {
    let mark = format!("\n{level} ");
    let sections = text.split(mark.as_str()).skip(1);
    let entry = |section: &str| {
        let name = section.lines().next().unwrap_or_default().to_owned();
        let programs: Vec<&str> = section.split("\n```python\n").skip(1).collect();
        assert_eq!(programs.len(), 1, "{name} has one program");
        (name, programs[0].split("\n```").next().unwrap_or_default().to_owned())
    };
    sections.map(entry).collect()
}

/// Returns the problem of an entry's program, if any.
fn problem(name: &str, program: &str) -> Option<String> {
    let app = format!("mancer-e2e-{}-app", slot());
    let environment = ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/home/mancer", "USER=mancer"];
    let environment = environment.into_iter().chain(["LANG=C.UTF-8", "PYTHONPATH=/opt/mancer"]);
    let attach = Command::new("lxc-attach").args(["-n", &app, "--clear-env", "--uid=1000", "--gid=1000"]).dir("/");
    let attach = attach.args(environment.map(|setting| format!("--set-var={setting}")));
    let output = attach.args(["--", "python3", "-c", program]).deadline(DEADLINE).output().unwrap();
    let said = said(&output);
    if output.status == 1 && !said.contains("Traceback") && !said.trim().is_empty() {
        return None;
    }
    Some(format!("{name}: status {}: {}", output.status, said.lines().last().unwrap_or("it says nothing")))
}

/// Runs each program in a lab that has all machines that the programs need; returns the problems.
pub(super) fn problems(entries: &[(String, String)]) -> Vec<String> {
    let _host = Host::take();
    let output = e2e(&mancer(), &[SCENARIO, "--keep-containers=always"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let left = Mutex::new(entries.iter());
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((name, program)) = left.lock().unwrap().next() else { return };
                    problems.lock().unwrap().extend(problem(name, program));
                }
            });
        }
    });
    clean_slot();
    problems.into_inner().unwrap()
}

#[test]
fn every_described_defect_is_shown_by_its_program() {
    let entries = entries(&std::fs::read_to_string(repository().join("scenarios/DEFECTS.md")).unwrap(), "###");
    assert!(entries.len() > 10, "only {} entries", entries.len());
    let problems = problems(&entries);
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}
