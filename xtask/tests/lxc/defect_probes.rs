//! `cargo xtask defects`: each answer on a small product, whose labs are machines of busybox.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::common::{Host, engine, project_with_template, said, with_slot};

/// Scenario whose probes end in every way. The scenario itself would fail.
const ANSWERS: &str = "import e2e


def scenario(lab):
    raise e2e.Error('the scenario ran')


def probes(lab):
    a = lab.container('a')
    with lab.known_defect('product-1/present', failing_with='is not there'):
        if a.exec(['cat', '/sent']).status:
            raise e2e.Error('what was sent is not there')
    with lab.known_defect('product-1/gone', failing_with='is not there') as mark:
        a.write('/sent', 'x' * 34)
        size = a.exec(['wc', '-c', '/sent']).success().stdout_text.split()[0]
        mark.observed(f'a has the file: {size} bytes')
    with lab.known_defect('product-1/otherwise', failing_with='is not there') as mark:
        mark.observed('a has half of the file')
        a.sh('echo disk full >&2; exit 1').success()
    with lab.known_defect('product-1/unseen', failing_with='is not there'):
        pass


e2e.run(scenario, defects=probes)
";

/// Scenario whose program dies between its two marks.
const DIES: &str = "import os
import e2e


def probes(lab):
    with lab.known_defect('product-1/early', failing_with='as ever'):
        raise e2e.Error('as ever')
    print('out of luck', flush=True)
    os._exit(7)


e2e.run(probes, defects=probes)
";

/// Scenario that names no function for its known defects.
const WITHOUT: &str = "import e2e
e2e.run(lambda lab: None)
";

fn project() -> tempfile::TempDir {
    let folder = project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    fs::remove_dir_all(folder.path().join("scenarios/smoke")).unwrap();
    let names = |names: &[&str]| -> String {
        names.iter().map(|name| format!("\"product-1/{name}\"")).collect::<Vec<_>>().join(", ")
    };
    for (scenario, defects, program) in [
        ("answers", names(&["present", "gone", "otherwise", "unseen"]), ANSWERS),
        ("dies", names(&["early", "late"]), DIES),
        ("without", names(&["untried"]), WITHOUT),
    ] {
        let dir = folder.path().join("scenarios/probes").join(scenario);
        fs::create_dir_all(&dir).unwrap();
        let manifest = format!(
            "description = \"x\"\ndefects = [{defects}]\ncommand = [\"python3\", \"main.py\"]\n\
             [containers.a]\ntemplate = \"mini\"\n"
        );
        fs::write(dir.join("scenario.toml"), manifest).unwrap();
        fs::write(dir.join("main.py"), program).unwrap();
    }
    folder
}

fn run(root: &Path, args: &[&str]) -> (i32, String, Value) {
    let folder = root.display().to_string();
    let words = [&["--root", &folder, "--format", "json", "defects"], args].concat();
    let output = engine().args(with_slot(&words)).dir(root).output().unwrap();
    (output.status, said(&output), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// Checks the rows of a report: name, answer, and a part of what was seen.
fn check(report: &Value, expected: &[(&str, &str, &str)]) {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows: Vec<(String, String, String)> = report["defects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (text(row, "name"), text(row, "verdict"), text(row, "seen")))
        .collect();
    assert_eq!(rows.len(), expected.len(), "{rows:#?}");
    for ((name, verdict, seen), row) in expected.iter().zip(&rows) {
        let is_as_expected = row.0 == format!("product-1/{name}") && row.1 == *verdict && row.2.contains(seen);
        assert!(is_as_expected, "{row:?}\n  expected {name} {verdict} {seen}");
    }
}

#[test]
fn each_defect_is_present_or_gone_or_cannot_be_told() {
    let _host = Host::take();
    let folder = project();
    let root = folder.path();
    let (status, said, report) = run(root, &[]);
    assert_eq!((status, &report["exit_code"]), (1, &1.into()), "{said}");
    let early = ("early", "present", "it failed: as ever");
    let present = ("present", "present", "it failed: what was sent is not there");
    check(
        &report,
        &[
            early,
            ("gone", "gone", "observed: a has the file: 34 bytes"),
            ("late", "cannot_tell", "it was not reached: out of luck (the scenario's program ended with status 7)"),
            ("otherwise", "cannot_tell", "it failed: exec in a ended with status 1: disk full"),
            present,
            ("unseen", "cannot_tell", "it did not fail, and nothing was observed of the effect"),
            ("untried", "cannot_tell", "probes/without names no function that tries its known defects alone"),
        ],
    );
    assert_eq!(report["counts"], serde_json::json!({"present": 2, "gone": 1, "cannot_tell": 4}));
    assert!(!said.contains("the scenario ran"), "{said}");
    let written = fs::read(root.join("target/e2e/latest/defects.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), report);

    // Those that were not chosen count for nothing.
    let (status, said, report) = run(root, &["early", "product-1/pres"]);
    assert_eq!(status, 0, "{said}");
    check(&report, &[early, present]);
    let (status, said, list) = run(root, &["dies", "--list"]);
    assert_eq!((status, &list["defects"][1]["case"]), (0, &"probes/dies:default".into()), "{said}");
    let (status, said, _) = run(root, &["product-1/lat2"]);
    assert!(status == 2 && said.contains("did you mean product-1/late?"), "{said}");
}
