//! `--settle`: duets with the machines that a committed baseline was measured on, on work of a known size.

use std::fs;
use std::path::Path;

use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::comparisons::{compare, comparison, file, project, set_percent, update, xtask};
use crate::common::{Host, e2e, engine, events, project_with_template, record, said, slot};
use crate::replaced::WHEEL;

fn commit(root: &Path) {
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        Command::new("git").args(identity).args(words).dir(root).run().unwrap();
    };
    git(&["init", "--quiet"]);
    git(&["add", "e2e.toml", "containers", "scenarios"]);
    git(&["commit", "--quiet", "-m", "one"]);
}

/// Moves the baseline to another class of machines, so that the samples say nothing here.
fn move_to_another_class(root: &Path, scenario: &str) {
    let mut classes = fs::read_dir(root.join("baselines")).unwrap().map(|class| class.unwrap().path());
    let class = classes.find(|class| !class.ends_with("references")).unwrap();
    let (name, path) = (class.file_name().unwrap().to_str().unwrap().to_owned(), format!("{scenario}.json"));
    let text = fs::read_to_string(class.join(&path)).unwrap();
    let other = root.join("baselines/other").join(&path);
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    let machine_class = |name: &str| format!("\"machine_class\": \"{name}\"");
    fs::write(other, text.replace(&machine_class(&name), &machine_class("other"))).unwrap();
    fs::remove_dir_all(class).unwrap();
}

fn because(one: &Value) -> &str {
    one["because"].as_str().unwrap()
}

#[test]
fn doubts_are_settled_beside_the_machines_of_the_baseline() {
    let _host = Host::alone();
    let folder = project();
    let root = folder.path();
    commit(root);
    let made = update(root);
    assert_eq!(made.status, 0, "{}", said(&made));
    assert!(!said(&made).contains("no revision"), "{}", said(&made));
    let shown = xtask(root, &["baseline", "show", "judge/task"]);
    assert!(said(&shown).contains("default: machines of revision "), "{}", said(&shown));
    assert!(file(root).exists());
    move_to_another_class(root, "judge/task");

    // The same product: there is nothing to measure in pairs.
    let same = compare(root, &["--settle"]);
    assert_eq!(same.status, 0, "{}", said(&same));
    for operation in ["hash", "count"] {
        let found = comparison(root, operation, "cpu_ms");
        assert_eq!((&found["decision"], &found["way"]), (&"unchanged".into(), &"settled".into()), "{found:#}");
        assert_eq!((because(&found), &found["samples"]), ("same layers, same program", &0.into()));
        assert_eq!(found["was"]["decision"], "inconclusive", "{found:#}");
        assert!(because(&found["was"]).contains("this machine is of class"), "{found:#}");
    }
    assert!(!events(root).iter().any(|event| event["event"] == "duet_began"));

    // A budget that reaches nothing leaves all as it was, and says so.
    set_percent(root, 60);
    let late = compare(root, &["--settle=1s"]);
    assert_eq!(late.status, 0, "{}", said(&late));
    let found = comparison(root, "hash", "cpu_ms");
    assert_eq!((&found["decision"], &found["way"]), (&"inconclusive".into(), &"committed".into()), "{found:#}");
    assert!(because(&found).ends_with("; not settled: its time budget was used up (1s)"), "{found:#}");

    let slower = compare(root, &["--settle=10m", "--pairs", "30", "--seed", "5"]);
    assert_eq!(slower.status, 4, "{}", said(&slower));
    for operation in ["hash", "count"] {
        let found = comparison(root, operation, "cpu_ms");
        assert_eq!((&found["decision"], &found["way"]), (&"regressed".into(), &"settled".into()), "{found:#}");
        assert_eq!((&found["was"]["decision"], &found["gates"]), (&"inconclusive".into(), &true.into()));
        assert!(!because(&found).contains("today's base layers"), "{found:#}");
    }
    assert!(said(&slower).contains("(was inconclusive: nothing to compare with"), "{}", said(&slower));
    // Both attempts belong to the case: the one that was compared with samples, and the one beside the reference.
    let record = record(root);
    let case = &record["cases"][0];
    assert_eq!((&case["verdict"], case["attempts"].as_array().unwrap().len()), (&"passed".into(), 2), "{case:#}");
    let folder = case["attempts"][1]["folder"].as_str().unwrap();
    assert!(folder.ends_with("attempt-2"), "{folder}");

    // Without the revision nothing of this product can be made again, for it is in no requirements.
    fs::remove_dir_all(root.join(".git")).unwrap();
    fs::remove_dir_all(root.join("target/e2e/refs")).unwrap();
    let lost = compare(root, &["--settle"]);
    assert_eq!(lost.status, 0, "{}", said(&lost));
    let found = comparison(root, "hash", "cpu_ms");
    assert_eq!(found["decision"], "inconclusive", "{found:#}");
    assert!(because(&found).contains("; not settled: there is no revision "), "{found:#}");
    assert!(because(&found).contains("no template of the case pins packages"), "{found:#}");
}

const WHEELS: &str = r"
work = 'left={}; while [ $left -gt 0 ]; do left=$((left - 1)); done\n'
os.mkdir('pinned')
for version, loops in ((1, 40000), (2, 64000)):
    pin = wheel('pinned', 'total', str(version), {'work': work.format(loops)})
    open(f'containers/odd/{version}.txt', 'w').write(pin)
";

const TEMPLATE: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n\
                        [pip]\nrequirements = \"1.txt\"\ntarget = \"/opt/py\"\npython = \"3.11\"\n";

const SCENARIO: &str = "import e2e


def scenario(lab):
    a = lab.container('a')
    lab.measure_n('work', 20, lambda: a.exec(['sh', '/opt/py/total/work']).success())


e2e.run(scenario)
";

#[test]
fn without_its_revision_the_product_alone_is_settled_on_todays_layers() {
    let _host = Host::alone();
    let folder = project_with_template(TEMPLATE);
    let root = folder.path();
    fs::remove_dir_all(root.join("scenarios/smoke")).unwrap();
    fs::create_dir_all(root.join("scenarios/sums/total")).unwrap();
    fs::write(
        root.join("scenarios/sums/total/scenario.toml"),
        "description = \"Counts\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n",
    )
    .unwrap();
    fs::write(root.join("scenarios/sums/total/main.py"), SCENARIO).unwrap();
    Command::new("python3").args(["-c", &format!("{WHEEL}{WHEELS}")]).dir(root).run().unwrap();
    commit(root);
    let pinned = root.join("pinned").display().to_string();
    let offline =
        || [("PIP_NO_INDEX", "1"), ("UV_NO_INDEX", "1"), ("PIP_FIND_LINKS", &pinned), ("UV_FIND_LINKS", &pinned)];
    let words = ["baseline-update", "--over", "1s", "--slot", slot(), "--root"];
    let made = engine().args(words).arg(root).dir(root).envs(offline()).output().unwrap();
    assert_eq!(made.status, 0, "{}", said(&made));
    move_to_another_class(root, "sums/total");

    // Another repository has other commits, as a clone has that is not deep enough.
    fs::remove_dir_all(root.join(".git")).unwrap();
    let template = root.join("containers/odd/template.toml");
    fs::write(&template, TEMPLATE.replace("1.txt", "2.txt")).unwrap();
    commit(root);
    let settle = |words: &[&str]| -> Output {
        e2e(root, &[&["--baseline-compare", "--pairs", "30", "--seed", "5"], words].concat())
            .envs(offline())
            .output()
            .unwrap()
    };
    let slower = settle(&["--settle"]);
    assert_eq!(slower.status, 4, "{}", said(&slower));
    let found = comparison(root, "work", "cpu_ms");
    assert_eq!((&found["decision"], &found["way"]), (&"regressed".into(), &"settled".into()), "{found:#}");
    let remark =
        "; both sides have today's base layers, and differ in the product alone, because there is no revision ";
    assert!(because(&found).contains(remark), "{found:#}");

    // The pinned version as it was: both sides have the same product.
    fs::write(&template, TEMPLATE).unwrap();
    let same = settle(&["--settle"]);
    assert_eq!(same.status, 0, "{}", said(&same));
    let found = comparison(root, "work", "cpu_ms");
    assert_eq!(found["decision"], "unchanged", "{found:#}");
    assert!(because(&found).starts_with(&format!("same layers, same program{remark}")), "{found:#}");

    // Neither the revision nor the pinned version is to be had any more.
    let removed = engine().args(["image", "rm", "odd", "--root"]).arg(root).dir(root).output().unwrap();
    assert_eq!(removed.status, 0, "{}", said(&removed));
    fs::write(&template, TEMPLATE.replace("1.txt", "2.txt")).unwrap();
    fs::remove_file(root.join("pinned/total-1-py3-none-any.whl")).unwrap();
    let lost = settle(&["--settle"]);
    assert_eq!(lost.status, 0, "{}", said(&lost));
    let found = comparison(root, "work", "cpu_ms");
    assert_eq!((&found["decision"], &found["way"]), (&"inconclusive".into(), &"committed".into()), "{found:#}");
    assert!(because(&found).contains("; not settled: there is no revision "), "{found:#}");
    assert!(because(&found).contains("; and with today's base layers: "), "{found:#}");
}
