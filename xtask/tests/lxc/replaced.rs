//! `--set`: a Python package of a template replaced by a local one, on machines of busybox, from wheels made for the test.

use std::fs;
use std::path::Path;

use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, e2e, engine, events, project_with_template, record, said, with_slot};

/// A function that makes a wheel in a folder, and returns the line that pins it.
pub const WHEEL: &str = r#"
import hashlib, os, zipfile

def wheel(folder, name, version, files, requires=()):
    info = f'{name}-{version}.dist-info'
    required = ''.join(f'Requires-Dist: {one}\n' for one in requires)
    files = {f'{name}/{file}': text for file, text in files.items()}
    files[f'{info}/METADATA'] = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}'
    files[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    files[f'{info}/RECORD'] = ''.join(f'{file},,\n' for file in [*files, f'{info}/RECORD'])
    path = f'{folder}/{name}-{version}-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return f'{name}=={version} --hash=sha256:' + hashlib.sha256(open(path, 'rb').read()).hexdigest() + '\n'
"#;

/// Makes the wheels, and the requirements file that pins those of version 1.
const WHEELS: &str = r#"
os.mkdir('pinned')
os.mkdir('local')
pins = [wheel('pinned', 'total', '1', {'version': '1', 'old': ''}, ['parts>=1']), wheel('pinned', 'parts', '1', {'x': ''})]
open('containers/odd/requirements.txt', 'w').writelines(pins)
wheel('local', 'total', '2', {'version': '2'}, ['parts'])
wheel('local', 'total', '3', {'version': '3'}, ['parts>=2', 'leftpad', "none; extra == 'fast'"])
"#;

const TEMPLATE: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\nrun = [\"cp /opt/py/total/version /built\"]\n\
                        [pip]\nrequirements = \"requirements.txt\"\ntarget = \"/opt/py\"\npython = \"3.11\"\n";

const SCENARIO: &str = "import e2e


def scenario(lab):
    a = lab.container('a')
    lab.measure_n('list', 2, lambda: a.exec(['ls', '/opt/py']).success())
    print('seen:', *a.exec(['cat', '/opt/py/total/version', '/built']).success().stdout_text,
          *a.exec(['ls', '/opt/py', '/opt/py/total']).success().stdout_text.split(), flush=True)


e2e.run(scenario)
";

/// Probe of a package whose first version has the text `1`.
const PROBE: &str = "import e2e


def probes(lab):
    with lab.known_defect('total-1/old-version', failing_with='the version is 1') as mark:
        version = lab.container('a').exec(['cat', '/opt/py/total/version']).success().stdout_text
        if version == '1':
            raise e2e.Error('the version is 1')
        mark.observed(f'a has version {version}')


e2e.run(probes, defects=probes)
";

fn run(root: &Path, args: &[&str]) -> Output {
    offline(root, e2e(root, args)).output().unwrap()
}

/// Installs from the folder of pinned wheels alone.
fn offline(root: &Path, command: Command) -> Command {
    let pinned = root.join("pinned").display().to_string();
    let variables =
        [("PIP_NO_INDEX", "1"), ("UV_NO_INDEX", "1"), ("PIP_FIND_LINKS", &pinned), ("UV_FIND_LINKS", &pinned)];
    command.envs(variables)
}

/// What the scenario of the last run has seen on its machine.
fn seen(root: &Path, side: &str) -> String {
    let log = root.join("target/e2e/latest/sums/total").join(side).join("scenario.log");
    let text = fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    text.lines().filter_map(|line| line.split_once("seen: ")).map(|(_, seen)| seen.to_owned()).next().unwrap()
}

fn built(root: &Path) -> Vec<String> {
    let built = events(root).into_iter().filter(|event| event["event"] == "layer_built");
    built.map(|event| event["template"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_replaced_package_is_a_thin_layer_of_the_candidate_alone() {
    let _host = Host::take();
    let folder = project_with_template(TEMPLATE);
    let root = folder.path();
    fs::remove_dir_all(root.join("scenarios/smoke")).unwrap();
    fs::create_dir_all(root.join("scenarios/sums/total")).unwrap();
    fs::write(
        root.join("scenarios/sums/total/scenario.toml"),
        "description = \"Looks\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n",
    )
    .unwrap();
    fs::write(root.join("scenarios/sums/total/main.py"), SCENARIO).unwrap();
    Command::new("python3").args(["-c", &format!("{WHEEL}{WHEELS}")]).dir(root).run().unwrap();
    let wheel = |version: u32| format!("odd.total={}/local/total-{version}-py3-none-any.whl", root.display());

    // Both sides are the same: nothing is measured in pairs.
    let same = run(root, &["--baseline-dir", "containers"]);
    assert_eq!(same.status, 0, "{}", said(&same));
    assert!(said(&same).contains("the images of both sides are the same"), "{}", said(&same));
    let comparisons = record(root)["comparisons"].as_array().unwrap().clone();
    assert!(comparisons.len() >= 2, "{comparisons:#?}");
    for one in &comparisons {
        let found = (&one["operation"], &one["decision"], &one["because"], &one["samples"]);
        let because = "same layers, same program";
        assert_eq!(found, (&"list".into(), &"unchanged".into(), &because.into(), &0.into()));
    }
    assert_eq!(
        seen(root, ""),
        "1 1 /opt/py: parts parts-1.dist-info total total-1.dist-info /opt/py/total: old version"
    );

    // What the template has is not built again, and the baseline keeps it.
    let replaced = run(root, &["--baseline-dir", "containers", "--set", &wheel(2), "--pairs", "20", "--seed", "1"]);
    assert!([0, 4].contains(&replaced.status), "{}", said(&replaced)); // 20 pairs of a listing judge nothing
    assert_eq!(built(root), ["odd+total"]);
    assert!(said(&replaced).contains("odd+total: no layer in the baseline, layer "), "{}", said(&replaced));
    assert!(seen(root, "baseline").starts_with("1 1 /opt/py: parts parts-1.dist-info total total-1"));
    assert_eq!(seen(root, ""), "2 2 /opt/py: parts parts-1.dist-info total total-2.dist-info /opt/py/total: version");
    let record = record(root);
    let packages: Vec<&str> =
        record["packages"]["odd"].as_array().unwrap().iter().filter_map(|one| one.as_str()).collect();
    assert_eq!(packages, ["parts=1", "total=2"]);

    // Refused before any lab.
    let refused = |set: &str, expected: &[&str]| {
        let output = run(root, &["--set", set]);
        assert_eq!(output.status, 2, "{}", said(&output));
        for part in expected {
            assert!(said(&output).contains(part), "{part} is missing in: {}", said(&output));
        }
        assert!(!events(root).iter().any(|event| event["event"] == "case_started"), "{}", said(&output));
    };
    let unmet = [
        "total requires parts>=2: the template pins parts 1\n",
        "total requires leftpad: the template does not pin leftpad\n",
        "help: pin them",
    ];
    refused(&wheel(3), &unmet);
    assert!(built(root).is_empty(), "a refused layer is none");
    refused(&wheel(2).replace("odd.total", "odd.parts"), &["installs total, and not parts"]);
}

#[test]
fn known_defects_are_answered_for_the_pinned_package_and_for_a_local_one() {
    let _host = Host::take();
    let folder = project_with_template(TEMPLATE);
    let root = folder.path();
    fs::remove_dir_all(root.join("scenarios/smoke")).unwrap();
    fs::create_dir_all(root.join("scenarios/sums/known")).unwrap();
    fs::write(
        root.join("scenarios/sums/known/scenario.toml"),
        "description = \"Looks\"\ndefects = [\"total-1/old-version\"]\ncommand = [\"python3\", \"main.py\"]\n\
         [containers.a]\ntemplate = \"odd\"\n",
    )
    .unwrap();
    fs::write(root.join("scenarios/sums/known/main.py"), PROBE).unwrap();
    Command::new("python3").args(["-c", &format!("{WHEEL}{WHEELS}")]).dir(root).run().unwrap();
    let wheel = |version: u32| format!("{}/local/total-{version}-py3-none-any.whl", root.display());
    let defects = |args: &[&str]| {
        let folder = root.display().to_string();
        let words = with_slot(&[&["--root", &folder, "defects"], args].concat());
        offline(root, engine().args(words)).dir(root).output().unwrap()
    };
    let check = |output: &Output, status: i32, lines: &[String]| {
        assert_eq!(output.status, status, "{}", said(output));
        let shown = String::from_utf8(output.stdout.clone()).unwrap();
        let run = fs::canonicalize(root.join("target/e2e/latest")).unwrap();
        let run = run.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(shown.replace(&run, "RUN").lines().collect::<Vec<_>>(), lines);
    };
    let head = "defect               scenario    answer       seen".to_owned();
    let row = |answer: &str, seen: &str| format!("total-1/old-version  sums/known  {answer:11}  {seen}");
    let counts = |counts: &str| format!("{counts}; target/e2e/RUN/defects.json");
    check(
        &defects(&[]),
        0,
        &[
            "total 1 in odd, as pinned".to_owned(),
            head.clone(),
            row("present", "it failed: the version is 1"),
            counts("1 present, 0 gone, 0 cannot tell"),
        ],
    );
    check(
        &defects(&["--set", &format!("odd.total={}", wheel(2))]),
        1,
        &[
            format!("total 2 in odd, from {}", wheel(2)),
            head,
            row("gone", "observed: a has version 2"),
            counts("0 present, 1 gone, 0 cannot tell"),
        ],
    );
    let refused = defects(&["--set", &format!("odd.total={}", wheel(3)), "--format", "json"]);
    assert_eq!(refused.status, 2, "{}", said(&refused));
    assert!(said(&refused).contains("refused: --set: the local package has requirements"), "{}", said(&refused));
    assert!(!events(root).iter().any(|event| event["event"] == "case_started"), "{}", said(&refused));
    let report: serde_json::Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(report["refused"].as_str().unwrap().contains("total requires leftpad"), "{report}");
    assert_eq!((&report["exit_code"], &report["defects"]), (&2.into(), &serde_json::json!([])));
}
