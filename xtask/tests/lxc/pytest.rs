//! Commands of `docs/pytest.md`: each one is typed, on the engine's own test project.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use xtask::host::exec::shell::Command;

use super::common::{Host, binaries, e2e, engine, record, repository, said, selftest, slot};

/// Commands that the page has beside those of pytest.
const SHOWN: &[&str] = &[
    "cargo xtask e2e",
    "cargo xtask e2e scenarios/data_pipeline/",
    "cargo xtask e2e --performance-monitoring",
    "cargo xtask e2e scenarios/error_handling/ --chaos",
    "cargo xtask e2e --e2e-containers a,b",
    "cargo xtask e2e --baseline-compare",
    "cargo xtask e2e --keep-containers",
    "cargo xtask e2e tag:performance",
    "cargo xtask shell app",
    "cargo xtask baseline-update",
];

/// The commands in the second column of the page's table.
fn shown() -> BTreeSet<String> {
    let page = std::fs::read_to_string(repository().join("docs/pytest.md")).unwrap();
    let cells = page.lines().filter_map(|line| line.strip_prefix('|')?.trim_end_matches('|').split('|').nth(1));
    let commands = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    commands.filter(|text| text.starts_with("cargo xtask ")).map(str::to_owned).collect()
}

/// `e2e` passes with these arguments.
fn passes(args: &[&str]) {
    let output = e2e(&selftest(), args).output().unwrap();
    assert_eq!(output.status, 0, "{args:?}: {}", said(&output));
}

fn performance() -> Value {
    let file = selftest().join("target/e2e/latest/smoke/three_machines/performance.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The baselines that the test makes in a project that has none.
struct Baselines(PathBuf);

impl Drop for Baselines {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_table_shows_what_the_tests_below_type() {
    assert_eq!(shown(), SHOWN.iter().map(|line| (*line).to_owned()).collect());
}

#[test]
fn scenarios_are_chosen_and_broken_as_with_pytest() {
    let _host = Host::take();
    let project = selftest();
    passes(&["tag:smoke", "--run-e2e"]);
    assert_eq!(record(&project)["counts"]["passed"], 5);
    passes(&["scenarios/smoke/three_machines/"]);
    assert_eq!(record(&project)["counts"]["passed"], 1);
    passes(&["tag:performance"]);
    for chaos in ["--chaos", "--chaos-mode"] {
        passes(&["chaos:tolerates", chaos, "--seed", "11"]);
        let faults = &record(&project)["cases"][0]["attempts"][0]["faults"];
        assert!(faults["bit"].as_u64().unwrap() > 0, "{chaos}: {faults}");
    }
}

#[test]
fn operations_are_watched_and_compared_as_with_pytest() {
    let _host = Host::take();
    let project = selftest();
    passes(&["three_machines", "--performance-monitoring"]);
    assert_eq!(performance()["sampling"]["rate_hz"], 10);
    let baselines = Baselines(project.join("baselines"));
    assert!(!baselines.0.exists(), "{} is somebody's", baselines.0.display());
    let missing = e2e(&project, &["three_machines", "--baseline-compare"]).output().unwrap();
    assert!(missing.status == 2 && said(&missing).contains("cargo xtask baseline-update"), "{}", said(&missing));
    let update =
        ["baseline-update", "three_machines", "--slot", slot(), "--binaries", &binaries().display().to_string()];
    let update = engine().args(update).dir(&project);
    update.deadline(Duration::from_secs(120)).run().unwrap();
    // How long a page takes is another test's business.
    passes(&["three_machines", "--baseline-compare", "--perf-gate=warn"]);
    let compared = &record(&project)["comparisons"];
    assert!(compared.as_array().unwrap().iter().any(|one| one["operation"] == "page"), "{compared}");
}

#[test]
fn labs_are_kept_named_and_entered_as_with_pytest() {
    let _host = Host::take();
    let failed = e2e(&selftest(), &["misbehaves:exit_7", "--keep-containers"]).output().unwrap();
    assert_eq!(failed.status, 1, "{}", said(&failed));
    let engine = |args: &[&str]| {
        let command = engine().args(args).dir(selftest());
        command.deadline(Duration::from_secs(60)).run().unwrap().text()
    };
    let attach = |name: &str| {
        let inside = ["-n", name, "--", "/bin/hostname"];
        Command::new("lxc-attach").args(inside).dir("/").run().unwrap().text().trim().to_owned()
    };
    assert_eq!(engine(&["shell", "a", "--slot", slot(), "--", "/bin/hostname"]).trim(), "a");
    assert_eq!(attach(&format!("e2e-selftest-{}-a", slot())), "a");
    engine(&["down", "--slot", slot()]);

    passes(&["three_machines", "--e2e-containers", "left,right", "--keep-containers=always"]);
    assert_eq!((attach("left"), attach("right")), ("a".into(), "b".into()));
    engine(&["down", "--slot", slot()]);
}
