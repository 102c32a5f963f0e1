//! Mutants: each verdict on a small product, whose labs are machines of busybox.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::common::{Host, engine, project_with_template, said, with_slot};

const TEMPLATE: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n[[files]]\nsource = \"total\"\n\
                        target = \"/bin/total\"\nmode = \"0755\"\n";

/// The product: adds two numbers up.
const TOTAL: &str = "#!/bin/sh\n# Adds up.\necho $(($1 + $2))\n";

const SCENARIO: &str = "import e2e


def scenario(lab):
    a = lab.container('a')
    with lab.known_defect('product-1/negative', failing_with='is 0'):
        if a.exec(['total', '-1', '1']).success().stdout_text.strip() == '0':
            raise e2e.Error('-1 + 1 is 0')
    lab.check_equal(int(a.exec(['total', '2', '3']).success().stdout_text), 5, 'the total of two numbers')


e2e.run(scenario)
";

struct Product {
    folder: tempfile::TempDir,
    _host: Host,
}

impl Product {
    fn new() -> Self {
        let product = Self {
            folder: project_with_template("from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n"),
            _host: Host::take(),
        };
        product.write("containers/odd/total", TOTAL);
        product.write("containers/odd/template.toml", TEMPLATE);
        fs::remove_dir_all(product.root().join("scenarios/smoke")).unwrap();
        product.write(
            "scenarios/sums/total/scenario.toml",
            "description = \"Adds up\"\ndefects = [\"product-1/negative\"]\ncommand = [\"python3\", \"main.py\"]\n\
             [containers.a]\ntemplate = \"odd\"\n[containers.b]\ntemplate = \"mini\"\n",
        );
        product.write("scenarios/sums/total/main.py", SCENARIO);
        product
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A mutant that edits the product with sed, and its expectation.
    fn mutant(&self, name: &str, sed: &str) {
        let text = format!(
            "breaks = \"{name}\"\non = \"odd\"\nsays = '\\b6\\b'\nrun = ['''\nset -e\nsed -i '{sed}' /bin/total\n''']\n\
             [noticed_by]\nscenario = \"total\"\ncheck = \"the total of two\"\n"
        );
        self.write(&format!("scenarios/mutants/{name}.toml"), &text);
    }

    fn run(&self, args: &[&str]) -> (i32, String, Value) {
        let root = self.root().display().to_string();
        let words = [&["--root", &root, "--format", "json", "mutants"], args].concat();
        let output = engine().args(with_slot(&words)).dir(self.root()).output().unwrap();
        let table = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status, said(&output), table)
    }
}

const MARK: &str = "2i echo total >> /e2e-mutant/reached";
/// What the scenario asks about a known defect before stays as it is.
const ONE_MORE: &str = "s|((|(( ($1 == 2) + |";

#[test]
fn each_mutant_gets_the_verdict_that_its_run_shows() {
    let product = Product::new();
    product.mutant("one_more", &format!("{MARK}\n{ONE_MORE}"));
    product.mutant("two_more", &format!("{MARK}\n{}", ONE_MORE.replace("2)", "2) * 2")));
    product.mutant("crashes", &format!("{MARK}\n2i [ \"$1\" = 2 ] && exit 3"));
    product.mutant("no_change", MARK);
    product.mutant("unmarked", ONE_MORE);
    product.mutant("defect_gone", &format!("{MARK}\n2i [ \"$1\" = -1 ] && echo 7 && exit"));
    product.mutant("unbuildable", "no command of sed");
    product.write(
        "scenarios/mutants/comment.toml",
        "breaks = \"a comment\"\non = \"odd\"\nrun = [\"sed -i s/Adds/Sums/ /bin/total\"]\nequivalent = \"nothing reads comments\"\n",
    );
    let (status, said, table) = product.run(&[]);
    assert_eq!(status, 1, "{said}");
    let verdicts: Vec<(&str, &str, &str)> = table["mutants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["verdict"].as_str().unwrap(), row["reason"].as_str().unwrap()))
        .collect();
    let expected = [
        ("comment", "equivalent", "nothing reads comments"),
        ("crashes", "killed_unexplained", "no check failed"),
        ("defect_gone", "misread", "only a known defect's expected failure changed: product-1/negative"),
        ("no_change", "survived", "its case passed"),
        ("one_more", "killed", "the total of two numbers"),
        ("two_more", "killed_unexplained", "`says` does not match"),
        ("unbuildable", "misread", "does not build"),
        ("unmarked", "not_reached", "left no mark"),
    ];
    assert_eq!(verdicts.len(), expected.len(), "{said}");
    for ((name, verdict, reason), row) in expected.iter().zip(&verdicts) {
        assert!(
            (*name, *verdict) == (row.0, row.1) && row.2.contains(reason),
            "{row:?}\n  expected {name} {verdict} {reason}"
        );
    }
    assert_eq!(table["counts"]["killed"], 1);

    // Each run is a run of its own below the first one's folder, which is the latest and has the table.
    let latest = product.root().join("target/e2e/latest");
    let written: Value = serde_json::from_slice(&fs::read(latest.join("mutants.json")).unwrap()).unwrap();
    assert_eq!(written, table);
    assert_eq!(latest.canonicalize().unwrap().file_name().unwrap().to_string_lossy(), table["run"].as_str().unwrap());
    let of_mutant: PathBuf = latest.join("mutants/one_more");
    let record: Value = serde_json::from_slice(&fs::read(of_mutant.join("run.json")).unwrap()).unwrap();
    assert_eq!((&record["counts"]["failed"], &record["exit_code"]), (&1.into(), &1.into()));
    assert!(record["layers"]["odd+one_more"].is_string() && of_mutant.join("report.html").is_file());
    let runs = fs::read_dir(product.root().join("target/e2e")).unwrap().count();
    assert_eq!(runs, 2, "one run and the link to it");

    let (status, said, table) = product.run(&["one_more", "--sample", "1", "--seed", "7"]);
    assert_eq!((status, &table["sample_seed"]), (0, &7.into()), "{said}");
    assert_eq!((status, &table["mutants"][0]["verdict"]), (0, &"killed".into()), "{said}");
}

#[test]
fn no_mutant_is_tried_on_a_suite_that_fails() {
    let product = Product::new();
    product.mutant("one_more", &format!("{MARK}\n{ONE_MORE}"));
    product.write("containers/odd/total", "#!/bin/sh\necho $(($1 * $2))\n");
    let (status, said, table) = product.run(&[]);
    assert_eq!(
        (status, &table["unbroken_passed"], &table["mutants"]),
        (1, &false.into(), &Value::Array(Vec::new())),
        "{said}"
    );
    let (status, said, _) = product.run(&["one_mor"]);
    assert!(status == 2 && said.contains("did you mean one_more?"), "{said}");
    let (status, said, _) = product.run(&["unlike_any"]);
    assert!(status == 2 && said.contains("mutants --list` shows them all"), "{said}");
    let (status, said, list) = product.run(&["--list"]);
    assert_eq!((status, &list["mutants"][0]["scenario"]), (0, &"sums/total".into()), "{said}");
    product.write("scenarios/mutants/total/scenario.toml", "description = \"x\"\n[containers.mini]\n");
    let (status, said, _) = product.run(&[]);
    assert!(status == 2 && said.contains("is the folder of mutants, and no category"), "{said}");
}
