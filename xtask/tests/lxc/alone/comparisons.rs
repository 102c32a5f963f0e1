//! Committed baselines and duets, on work of a known size: `xtask/src/rates/task`, which does as many percent more as a file says.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use crate::common::{Host, e2e, engine, events, record, said, slot};

/// A project of its own with that work.
pub(super) fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (root, xtask) = (folder.path(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let copy = |from: &Path, to: &str| {
        let to = root.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    };
    for (from, to) in [
        ("e2e.toml", "e2e.toml"),
        ("template.toml", "containers/task/template.toml"),
        ("task.sh", "containers/task/files/task.sh"),
        ("scenario.toml", "scenarios/judge/task/scenario.toml"),
        ("main.py", "scenarios/judge/task/main.py"),
    ] {
        copy(&xtask.join("src/rates/task").join(from), to);
    }
    for file in ["template.toml", "files/inittab"] {
        copy(&xtask.join("../containers/mini").join(file), &format!("containers/mini/{file}"));
    }
    // Less of it than where verdicts themselves are judged: differences here are of half and more.
    let task = root.join("containers/task/files/task.sh");
    let text = fs::read_to_string(&task).unwrap();
    let less = text.replace("$((100000 * ", "$((40000 * ").replace("$((500 * ", "$((200 * ");
    assert_ne!(less, text);
    fs::write(&task, less).unwrap();
    set_percent(root, 0);
    folder
}

/// Sets the additional work, in percent.
pub(super) fn set_percent(root: &Path, percent: u32) {
    fs::write(root.join("containers/task/files/percent"), format!("{percent}\n")).unwrap();
}

pub(super) fn xtask(root: &Path, words: &[&str]) -> Output {
    let command = engine().arg("--root").arg(root).args(words).dir(root);
    command.deadline(std::time::Duration::from_secs(300)).output().unwrap()
}

pub(super) fn update(root: &Path) -> Output {
    xtask(root, &["baseline-update", "--over", "1s", "--slot", slot()])
}

pub(super) fn compare(root: &Path, more: &[&str]) -> Output {
    e2e(root, &[&["--baseline-compare"], more].concat()).output().unwrap()
}

/// Reason of a comparison that has no verdict, because the machine was not quiet.
const OTHER_WORK: &str = "other work kept the processors busy";

/// Change of the machine's own speed, in percent, beyond which it was not quiet.
const MACHINE_PERCENT: f64 = 5.0;

/// Tells whether a text speaks of a regression, or says rightly that a machine which was busy or changed its speed has no verdict.
fn is_told(text: &str) -> bool {
    let changes = text.split("machine's own change (").skip(1).filter_map(|rest| rest.split_once(" %"));
    let has_changed = changes.filter_map(|(number, _)| number.parse::<f64>().ok()).any(|by| by > MACHINE_PERCENT);
    text.contains("regressed") || text.contains(OTHER_WORK) || has_changed
}

/// Largest by smallest sample of the baseline: a machine that changes its speed by as much between two runs adds as much to an effect.
fn own_spread(comparison: &Value) -> f64 {
    let samples = comparison["baseline_samples"].as_array().unwrap().iter().map(|sample| sample.as_f64().unwrap());
    let (least, most) = samples.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
    most / least
}

/// The only baseline file.
pub(super) fn file(root: &Path) -> PathBuf {
    let mut classes = fs::read_dir(root.join("baselines")).unwrap().map(|class| class.unwrap().path());
    classes.find(|class| !class.ends_with("references")).unwrap().join("judge/task.json")
}

/// Returns the verdict of the last run on a metric of an operation.
pub(super) fn comparison(root: &Path, operation: &str, metric: &str) -> Value {
    let record = record(root);
    let all = record["comparisons"].as_array().unwrap().clone();
    let found = all.iter().find(|one| one["operation"] == operation && one["metric"] == metric);
    found.unwrap_or_else(|| panic!("{operation} {metric}: {all:#?}")).clone()
}

#[test]
fn committed_baselines_are_made_judged_and_kept_in_order() {
    let _host = Host::alone();
    let folder = project();
    let root = folder.path();
    let none = compare(root, &[]);
    assert_eq!(none.status, 2, "{}", said(&none));
    assert!(said(&none).contains("`cargo xtask baseline-update judge/task`"), "{}", said(&none));
    let allowed = compare(root, &["--baseline-missing=allow"]);
    assert_eq!(allowed.status, 0, "{}", said(&allowed));
    assert_eq!(comparison(root, "hash", "cpu_ms")["missing"], true);

    let made = update(root);
    assert_eq!(made.status, 0, "{}", said(&made));
    let text = fs::read_to_string(file(root)).unwrap();
    let baseline: Value = serde_json::from_str(&text).unwrap();
    for operation in ["hash", "count"] {
        let samples = &baseline["cases"]["default"]["operations"][operation];
        for list in ["wall_ms", "cpu_ms", "calibration_wall_ms", "calibration_cpu_ms"] {
            assert_eq!(samples[list].as_array().unwrap().len(), 30, "{operation} {list}: {samples:#}");
        }
    }
    assert!(said(&made).contains("outside a Git repository"), "{}", said(&made));
    assert_eq!(baseline["format_version"], 2);
    let name = baseline["cases"]["default"]["reference"].as_str().unwrap();
    let reference = fs::read_to_string(root.join(format!("baselines/references/{name}.json"))).unwrap();
    let reference: Value = serde_json::from_str(&reference).unwrap();
    let layers: Vec<&String> = reference["layers"].as_object().unwrap().keys().collect();
    assert!(layers == ["mini", "task"] && reference["revision"].is_null(), "{reference:#}");
    let shown = xtask(root, &["baseline", "show", "judge/task"]);
    assert!(said(&shown).contains("default: machines of no revision, 2 layers"), "{}", said(&shown));
    let listed = xtask(root, &["baseline", "list"]);
    assert!(said(&listed).contains("judge/task.json: 2 operations, 60 samples"), "{}", said(&listed));

    let same = compare(root, &[]);
    assert_eq!(same.status, 0, "{}", said(&same));
    for operation in ["hash", "count"] {
        assert_ne!(comparison(root, operation, "cpu_ms")["decision"], "regressed", "{}", said(&same));
        assert_eq!(comparison(root, operation, "cpu_ms")["samples"], 30);
    }

    set_percent(root, 60);
    let slower = compare(root, &[]);
    // Beside other work there is no verdict, and that is said.
    let found = ["hash", "count"].map(|operation| comparison(root, operation, "cpu_ms"));
    for operation in &found {
        let (is_regressed, because) = (operation["decision"] == "regressed", operation["because"].as_str());
        let effect = operation["effect"].as_f64().unwrap();
        let most = (1.6 * own_spread(operation)).max(2.0);
        assert!(!is_regressed || (1.2..most).contains(&effect), "{operation:#}");
        assert!(is_regressed || is_told(because.unwrap_or_default()), "{operation:#}");
    }
    let has_regressed = found.iter().any(|operation| operation["decision"] == "regressed");
    assert_eq!(slower.status, if has_regressed { 4 } else { 0 }, "{}", said(&slower));
    let is_event =
        |event: &Value| event["event"] == "compared" && event["gates"] == true && event["decision"] == "regressed";
    assert_eq!(events(root).iter().any(is_event), has_regressed);
    let warned = compare(root, &["--perf-gate=warn"]);
    assert_eq!(warned.status, 0, "{}", said(&warned));

    let old = root.join("old.json");
    fs::copy(file(root), &old).unwrap();
    let updated = update(root);
    assert!(updated.status == 0 && is_told(&said(&updated)), "old against new: {}", said(&updated));
    let unused = root.join("baselines/references/0123456789abcdef.json");
    fs::write(&unused, "{}").unwrap();
    let pruned = xtask(root, &["baseline", "prune"]);
    assert!(pruned.status == 0 && !unused.exists(), "{}", said(&pruned));
    assert!(fs::read_dir(root.join("baselines/references")).unwrap().count() > 0, "{}", said(&pruned));
    let diff = xtask(root, &["baseline", "diff", &old.display().to_string(), &file(root).display().to_string()]);
    assert!(diff.status == 0 && said(&diff).contains(" judge/task:default hash cpu_ms"), "{}", said(&diff));
    assert!(is_told(&said(&diff)), "{}", said(&diff));

    fs::write(file(root), &text[..text.len() / 2]).unwrap();
    let cut = compare(root, &[]);
    assert!(cut.status == 2 && said(&cut).contains("judge/task.json:"), "{}", said(&cut));
    assert!(said(&cut).contains("cut off"), "{}", said(&cut));

    let class = baseline["machine_class"].as_str().unwrap();
    fs::remove_dir_all(root.join("baselines")).unwrap();
    let elsewhere = root.join("baselines/other/judge/task.json");
    fs::create_dir_all(elsewhere.parent().unwrap()).unwrap();
    let moved = text.replace(&format!("\"machine_class\": \"{class}\""), "\"machine_class\": \"other\"");
    fs::write(&elsewhere, moved).unwrap();
    let other = compare(root, &[]);
    assert_eq!(other.status, 0, "{}", said(&other));
    let because = comparison(root, "hash", "cpu_ms");
    assert!(because["decision"] == "inconclusive", "{because:#}");
    assert!(because["because"].as_str().unwrap().contains("this machine is of class"), "{because:#}");

    fs::write(
        root.join("scenarios/judge/task/scenario.toml"),
        "description = 'x'\ncommand = ['python3', 'main.py']\n[containers.task]\n[[cases]]\nname = 'new'\n",
    )
    .unwrap();
    let pruned = xtask(root, &["baseline", "prune"]);
    assert!(pruned.status == 0 && !elsewhere.exists(), "{}", said(&pruned));
}

#[test]
fn a_failed_run_stores_nothing() {
    let _host = Host::alone();
    let folder = project();
    let root = folder.path();
    fs::write(root.join("containers/task/files/task.sh"), "#!/bin/sh\nexit 1\n").unwrap();
    let failed = update(root);
    assert_eq!(failed.status, 1, "{}", said(&failed));
    assert!(said(&failed).contains("did not pass at the first attempt"), "{}", said(&failed));
    assert!(!root.join("baselines").exists());
}

#[test]
fn a_duet_finds_more_work_and_calls_the_same_work_no_worse() {
    let _host = Host::alone();
    let folder = project();
    let root = folder.path();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        Command::new("git").args(identity).args(words).dir(root).run().unwrap();
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    // Enough for half as much work again, and less than the default.
    let duet =
        |revision: &str| e2e(root, &["--baseline-ref", revision, "--seed", "5", "--pairs", "30"]).output().unwrap();
    let nowhere = duet("nowhere");
    assert!(nowhere.status == 2 && said(&nowhere).contains("there is no revision \"nowhere\""), "{}", said(&nowhere));

    let same = duet("HEAD");
    assert_eq!(same.status, 0, "{}", said(&same));
    assert!(said(&same).contains("the images of both sides are the same"), "{}", said(&same));
    let count = comparison(root, "count", "cpu_ms");
    assert!(count["decision"] == "unchanged" && count["samples"] == 0, "{count:#}");
    assert_eq!(count["because"], "same layers, same program");

    let task = root.join("containers/task/files/task.sh");
    let text = fs::read_to_string(&task).unwrap();
    fs::write(&task, format!("{text}# a comment\n")).unwrap();
    let same = duet("HEAD");
    assert_eq!(same.status, 0, "{}", said(&same));
    let count = comparison(root, "count", "cpu_ms");
    assert!(count["way"] == "duet" && count["samples"].as_u64().unwrap() >= 20, "{count:#}");

    set_percent(root, 50);
    let slower = duet("HEAD");
    assert_eq!(slower.status, 4, "{}", said(&slower));
    assert!(said(&slower).contains("task: layer "), "what differs is listed: {}", said(&slower));
    for operation in ["hash", "count"] {
        let found = comparison(root, operation, "cpu_ms");
        assert_eq!(found["decision"], "regressed", "{found:#}");
    }
}
