//! `--set`: a Python package of a template replaced by a local one, on machines of busybox, from wheels made for the test.

use std::fs;
use std::path::Path;

use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, e2e, events, project_with_template, record, said};

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

fn run(root: &Path, args: &[&str]) -> Output {
    let pinned = root.join("pinned").display().to_string();
    let offline =
        [("PIP_NO_INDEX", "1"), ("UV_NO_INDEX", "1"), ("PIP_FIND_LINKS", &pinned), ("UV_FIND_LINKS", &pinned)];
    e2e(root, args).envs(offline).output().unwrap()
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
