//! `--coverage` and `mutants --empty`: a Python product of a few functions, from a wheel made for the test, on a machine of Debian.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, engine, events, record, said, with_slot};
use super::project::Project;

/// Makes the wheel, and the requirements file that pins it.
const WHEEL: &str = r#"
import hashlib, os, zipfile

SHOP = '''
import subprocess, sys

def total(*numbers):
    return sum(numbers)

def unchecked():
    return [1]

def empty():
    return None

def in_child():
    subprocess.run([sys.executable, "-c", "import shop; shop.child()"], check=True)

def child():
    import os
    os._exit(0)

def probed():
    return 1

def never():
    return 1
'''
files = {'shop/__init__.py': SHOP}
info = 'shop-1.2.dist-info'
files[f'{info}/METADATA'] = 'Metadata-Version: 2.1\nName: shop\nVersion: 1.2\n'
files[f'{info}/WHEEL'] = 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
files[f'{info}/RECORD'] = ''.join(f'{file},,\n' for file in [*files, f'{info}/RECORD'])
os.mkdir('pinned')
path = 'pinned/shop-1.2-py3-none-any.whl'
with zipfile.ZipFile(path, 'w') as archive:
    for file, text in files.items():
        archive.writestr(file, text)
with open('containers/odd/requirements.txt', 'w') as pins:
    pins.write('shop==1.2 --hash=sha256:' + hashlib.sha256(open(path, 'rb').read()).hexdigest() + '\n')
"#;

const TEMPLATE: &str = "from = \"base\"\ninit = \"systemd\"\n[environment]\nPYTHONPATH = \"/opt/py\"\n\
                        [pip]\nrequirements = \"requirements.txt\"\ntarget = \"/opt/py\"\npython = \"3.11\"\n";

const DRIVER: &str = "import shop\nshop.unchecked()\nshop.empty()\nshop.in_child()\nprint(shop.total(2, 3))\n";

/// Makes the project: a scenario that checks the total, and a slower one that checks nothing.
fn project() -> Project {
    let project = Project::new(TEMPLATE);
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/base");
    Command::new("cp").arg("-r").arg(base).arg(project.path().join("containers/base")).run().unwrap();
    Command::new("python3").args(["-c", WHEEL]).dir(project.path()).run().unwrap();
    project.write(
        "e2e.toml",
        "name = \"e2e-selftest\"\ncontainers = [\"a\"]\n[coverage]\nof = \"odd.shop\"\nprobes = [\"probes.py\"]\n",
    );
    let run = |program: &str, name: &str, user: &str| {
        format!(
            "    a.write('/tmp/{name}', {program:?}, mode=0o644)\n    said = a.exec(['python3', '/tmp/{name}'], user={user:?}).success().stdout_text\n"
        )
    };
    let driver = run(DRIVER, "driver.py", "mancer");
    let checks = format!("{driver}    lab.check_equal(said, '5\\n', 'the total of two numbers')\n");
    project.scenario("checks", "odd", "", &(checks + &run("import shop\nshop.probed()\n", "probes.py", "root")));
    project.scenario(
        "looks",
        "odd",
        "",
        &(run("import shop\nshop.unchecked()\n", "look.py", "root") + "    assert said == ''\n"),
    );
    project
}

fn run(root: &Path, args: &[&str]) -> Output {
    let pinned = root.join("pinned").display().to_string();
    let offline =
        [("PIP_NO_INDEX", "1"), ("UV_NO_INDEX", "1"), ("PIP_FIND_LINKS", &pinned), ("UV_FIND_LINKS", &pinned)];
    let root_flag = root.display().to_string();
    let words = [&["--root", &root_flag, "--format", "json"], args].concat();
    engine().args(with_slot(&words)).envs(offline).dir(root).output().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

#[test]
fn the_functions_that_ran_are_in_the_record_and_an_emptied_one_is_noticed() {
    let _host = Host::take();
    let project = project();
    let root = project.path();
    let output = run(root, &["e2e", "--coverage"]);
    assert_eq!(output.status, 0, "{}", said(&output));
    let run_dir = root.join("target/e2e/latest");
    let coverage = read(&run_dir.join("coverage.json"));
    let functions: Vec<(&str, &str, &Value)> = coverage["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["function"].as_str().unwrap(), one["called"].as_str().unwrap(), &one["returns"]))
        .collect();
    let (int, list, none) = (Value::from("int"), Value::from("list"), Value::Null);
    let expected = [
        ("shop:total", "drivers", &int),
        ("shop:unchecked", "drivers", &list),
        ("shop:empty", "drivers", &none),
        ("shop:in_child", "drivers", &none),
        ("shop:child", "drivers", &none),
        ("shop:probed", "probes_alone", &int),
        ("shop:never", "never", &none),
    ];
    assert_eq!(functions, expected, "{coverage:#}");
    let programs = serde_json::json!({ "driver.py": ["smoke/checks:default"], "look.py": ["smoke/looks:default"] });
    assert_eq!(coverage["functions"][1]["programs"], programs);
    let sentence = "coverage of shop 1.2: 6 of 7 functions called, 5 by drivers, 1 by probes alone";
    for file in ["summary.md", "e2e_test.log", "report.html"] {
        assert!(fs::read_to_string(run_dir.join(file)).unwrap().contains(sentence), "{file}");
    }
    assert_eq!((&record(root)["coverage"]["by_drivers"], &coverage["gaps"]), (&5.into(), &none));
    assert!(events(root).iter().any(|event| event["event"] == "covered" && event["never"] == 1));
    assert!(!run_dir.join("smoke/checks/containers/a/e2e-coverage-calls").exists(), "it is no log that a person reads");

    // The quick scenario that looks at nothing runs as well, because its program calls the function.
    let names = ["shop:total", "shop:unchecked", "shop:child"].map(|name| format!("empty:{name}"));
    let output = run(root, &[&["mutants"], &names.each_ref().map(String::as_str)[..]].concat());
    let table: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let verdicts: Vec<(&str, &str, &Value)> = table["mutants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["verdict"].as_str().unwrap(), &row["scenario"]))
        .collect();
    let noticed = Value::from("smoke/checks:default");
    let expected = [
        ("empty:shop:total", "killed", &noticed),
        ("empty:shop:unchecked", "survived", &none),
        ("empty:shop:child", "survived", &none),
    ];
    assert_eq!((output.status, verdicts), (1, expected.to_vec()), "{table:#}");
    let reason = table["mutants"][0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("the total of two numbers") && table["mutants"][0]["reached"][0] == "shop:total",
        "{table:#}"
    );
    assert_eq!((&table["emptied"]["candidates"], &table["emptied"]["do_nothing"]), (&4.into(), &1.into()));

    let output = run(root, &["mutants", "--empty", "1", "--seed", "3"]);
    let drawn: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let name = drawn["mutants"][0]["name"].as_str().unwrap();
    assert!(drawn["sample_seed"] == 3 && name.starts_with("empty:shop:"), "{drawn:#}");
}

#[test]
fn coverage_is_refused_together_with_measurements_and_without_a_package() {
    let project = Project::new(TEMPLATE);
    let root = project.path();
    project.write("containers/base/template.toml", "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n");
    project.write("containers/odd/requirements.txt", "shop==1.2 --hash=sha256:aa\n");
    project.scenario("looks", "odd", "", "    pass\n");
    for (args, expected) in [
        (&["e2e", "--coverage"][..], "write `of` in [coverage] of e2e.toml"),
        (
            &["e2e", "--coverage=odd.shop", "--performance-monitoring=4"],
            "--coverage and --performance-monitoring exclude",
        ),
        (&["e2e", "--coverage=odd.shop", "--baseline-compare"], "cannot be used with"),
        (&["e2e", "--coverage=odd.shop", "--baseline-dir", "containers"], "cannot be used with"),
        (&["e2e", "--coverage=odd.flask"], "pins no package flask: it has shop"),
        (&["mutants", "--empty", "3"], "write `of` in [coverage] of e2e.toml"),
        (&["mutants", "--seed", "3"], "--seed has an effect only with --sample or --empty"),
        (&["mutants", "empty:shop:total", "other"], "names that begin with empty: go with no other name"),
    ] {
        let output = run(root, args);
        assert!(output.status == 2 && said(&output).contains(expected), "{args:?}: {}", said(&output));
    }
    assert!(!root.join("target/e2e").exists(), "nothing has run");
}
