//! Use of what a run leaves behind: its reports, the list of runs, what did not pass run again, here and out of a
//! bundle.

use std::path::Path;

use serde_json::Value;
use xtask::host::exec::shell::Output;

use super::common::{Host, e2e, engine, mancer, project_with_template, record, said, selftest};

#[path = "../formats/junit.rs"]
mod junit;
#[path = "../formats/trace.rs"]
mod trace;

const MINI: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";

/// A scenario whose first case fails, and says what it should not.
const MAIN: &str = r#"
import e2e

def scenario(lab: e2e.Lab) -> None:
    print("connected with password=hunter2 for cust-123456")
    lab.check_equal(lab.param("answer"), 42)

if __name__ == "__main__":
    e2e.run(scenario)
"#;

fn xtask(project: &Path, args: &[&str]) -> Output {
    let root = project.display().to_string();
    engine().args(["--root", &root]).args(args).dir(project).output().unwrap()
}

/// A project with that scenario, which declares a secret.
fn project() -> tempfile::TempDir {
    let project = project_with_template(MINI);
    let scenario = project.path().join("scenarios/smoke/answers");
    std::fs::remove_dir_all(project.path().join("scenarios/smoke")).unwrap();
    std::fs::create_dir_all(&scenario).unwrap();
    std::fs::write(scenario.join("main.py"), MAIN).unwrap();
    let manifest = "description = \"It answers\"\ncommand = [\"python3\", \"main.py\"]\n[containers.a]\ntemplate = \"odd\"\n\
                    [[cases]]\nname = \"bad\"\nanswer = 41\n[[cases]]\nname = \"good\"\nanswer = 42\n";
    std::fs::write(scenario.join("scenario.toml"), manifest).unwrap();
    let e2e_toml = "name = \"e2e-selftest\"\ncontainers = [\"a\"]\n[secrets]\nshapes = [\"/cust-[0-9]{6}/\"]\n";
    std::fs::write(project.path().join("e2e.toml"), e2e_toml).unwrap();
    project
}

fn cases(project: &Path) -> Vec<String> {
    let record = record(project);
    record["cases"].as_array().unwrap().iter().map(|case| case["case"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn reports_of_real_runs_are_what_their_readers_take() {
    let _host = Host::take();
    let project = selftest();
    let summary = tempfile::NamedTempFile::new().unwrap();
    let output =
        e2e(&project, &["misbehaves:check_fails", "misbehaves:panic", "three_machines", "chaos:tolerates", "--chaos"])
            .env("GITHUB_ACTIONS", "true")
            .env("GITHUB_STEP_SUMMARY", summary.path())
            .env("GITHUB_WORKSPACE", mancer())
            .output()
            .unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let read = |name: &str| std::fs::read_to_string(project.join("target/e2e/latest").join(name)).unwrap();
    let report = junit::check(&read("junit.xml")).unwrap();
    assert_eq!((report.all("testcase").len(), report.all("failure").len()), (4, 2));
    let trace = trace::check(&read("trace.json")).unwrap();
    assert!(trace.processes.values().any(|name| name == "smoke/three_machines:default"));
    for kind in ["lab starts", "page", "chaos", "lab goes down"] {
        assert!(trace.slices.iter().any(|(_, name, ..)| name == kind), "no {kind}");
    }
    assert!(trace.lines.values().any(|name| name.starts_with("faults on ")));
    assert!(trace.curves.keys().any(|(_, name)| name == "b cpu percent"));
    assert_eq!(std::fs::read_to_string(summary.path()).unwrap(), read("summary.md"));
    let annotations: Vec<&str> =
        std::str::from_utf8(&output.stdout).unwrap().lines().filter(|line| line.starts_with("::error ")).collect();
    let place = "::error file=xtask/tests/project/scenarios/smoke/misbehaves/main.rs,line=";
    assert_eq!(annotations.len(), 2, "{annotations:?}");
    assert!(annotations.iter().all(|line| line.starts_with(place)), "{annotations:?}");
}

#[test]
fn what_did_not_pass_is_run_again_with_the_same_faults() {
    let _host = Host::take();
    let project = selftest();
    let chaos = ["chaos:does_not_hold", "chaos:never_comes_true", "misbehaves:exit_7"];
    let output = e2e(&project, &chaos).args(["--chaos=node.kill", "--seed", "5", "--max-fail", "1"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let first = record(&project);
    let schedule = |case: &str| -> Value {
        let path = project.join(format!("target/e2e/latest/smoke/chaos/{case}/chaos.json"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let planned = [schedule("does_not_hold"), schedule("never_comes_true")].map(|file| file["schedule"].clone());
    assert_eq!(first["counts"]["skipped"], 2, "{first:#}");

    let output = e2e(&project, &["--rerun-failed"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    assert!(said(&output).contains("1 of 1 templates still have the layer of run"), "{}", said(&output));
    let second = record(&project);
    assert_eq!(cases(&project).len(), 3, "the two that were not run, too: {second:#}");
    assert_eq!(second["chaos_seed"], 5);
    let again = [schedule("does_not_hold"), schedule("never_comes_true")].map(|file| file["schedule"].clone());
    assert_eq!(again, planned);
    let named = format!("--rerun-failed={}", first["run_id"].as_str().unwrap());
    assert!(second["command"].as_array().unwrap().contains(&named.into()), "{second:#}");

    let output = e2e(&project, &["three_machines"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let output = e2e(&project, &["--rerun-failed"]).output().unwrap();
    assert!(output.status == 0 && said(&output).contains("there is nothing to repeat"), "{}", said(&output));
    let output = e2e(&project, &["--rerun-failed", "three_machines"]).output().unwrap();
    assert_eq!(output.status, 2, "{}", said(&output));
}

#[test]
fn a_bundle_is_repeated_elsewhere_and_holds_no_secret() {
    let _host = Host::take();
    let project = project();
    let output = e2e(project.path(), &[]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let run = record(project.path())["run_id"].as_str().unwrap().to_owned();
    let bundle = project.path().join("run.tar.gz");
    let output = xtask(project.path(), &["bundle", "--output", bundle.to_str().unwrap()]);
    assert_eq!(output.status, 0, "{}", said(&output));
    assert!(said(&output).contains("scenario.log: password or token"), "{}", said(&output));

    let elsewhere = tempfile::tempdir().unwrap();
    let output = e2e(elsewhere.path(), &["--from-bundle", bundle.to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    for part in ["1 of 1 templates still have the layer of run", "FAILED   smoke/answers:bad", "0 passed, 1 failed"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    let bundles = elsewhere.path().join("target/e2e/bundles");
    let laid_out = std::fs::read_dir(&bundles).unwrap().next().unwrap().unwrap().path().join("project");
    assert_eq!(cases(&laid_out), ["smoke/answers:bad"]);
    let log = laid_out.join(format!("target/e2e/{run}/smoke/answers/bad/scenario.log"));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.starts_with("connected with password=[redacted] for [redacted]\n"), "{log}");
    assert!(said(&output).contains(&format!("--root {}", laid_out.display())), "what to type next: {}", said(&output));
    let source = std::fs::read_to_string(laid_out.join("scenarios/smoke/answers/main.py")).unwrap();
    assert_eq!(source, MAIN, "the project's own files stay as they are");

    std::fs::write(laid_out.join("containers/odd/template.toml"), format!("{MINI}run = [\"true\"]\n")).unwrap();
    let output = e2e(elsewhere.path(), &["--from-bundle", bundle.to_str().unwrap(), "answers:good"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    for part in
        ["changed since it was unpacked: project/containers/odd/template.toml", "template odd has changed: its layer "]
    {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }

    let mut damaged = std::fs::read(&bundle).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    std::fs::write(&bundle, damaged).unwrap();
    let output = e2e(elsewhere.path(), &["--from-bundle", bundle.to_str().unwrap()]).output().unwrap();
    assert!(output.status == 2 && said(&output).contains("cannot be taken as a bundle"), "{}", said(&output));
}

#[test]
fn runs_are_listed_shown_and_removed() {
    let _host = Host::take();
    let project = project();
    for _ in 0..2 {
        assert_eq!(e2e(project.path(), &["answers:good"]).output().unwrap().status, 0);
    }
    let top = project.path().join("target/e2e");
    let killed = "20200101-000000-1";
    std::fs::create_dir(top.join(killed)).unwrap();
    std::fs::write(top.join(killed).join("events.jsonl"), "{\"half").unwrap();
    let list = || -> Vec<Value> {
        let output = xtask(project.path(), &["--format", "json", "runs"]);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["format_version"], 1);
        value["runs"].as_array().unwrap().clone()
    };
    let runs = list();
    let states: Vec<&str> = runs.iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["ended", "ended", "killed"]);
    assert_eq!((&runs[0]["counts"]["passed"], &runs[2]["run"]), (&1.into(), &killed.into()));
    let shown = xtask(project.path(), &["runs", "show"]);
    assert!(shown.text().contains("1 passed, 0 failed"), "{}", said(&shown));
    let shown = xtask(project.path(), &["runs", "show", killed]);
    assert!(shown.status == 0 && said(&shown).contains("it was killed"), "{}", said(&shown));
    let newest = runs[0]["run"].as_str().unwrap();
    assert_eq!(xtask(project.path(), &["runs", "rm", "latest", "nothing"]).status, 2);
    assert_eq!(list().len(), 3, "nothing is removed where one name is wrong");
    assert_eq!(xtask(project.path(), &["runs", "rm", newest, killed]).status, 0);
    assert_eq!(std::fs::read_link(top.join("latest")).unwrap(), Path::new(runs[1]["run"].as_str().unwrap()));
    assert_eq!(xtask(project.path(), &["runs", "prune"]).status, 2, "of what?");
    assert_eq!(xtask(project.path(), &["runs", "prune", "--keep", "0", "--older", "1d"]).status, 0);
    assert_eq!(list().len(), 1);
    assert_eq!(xtask(project.path(), &["runs", "prune", "--keep", "0"]).status, 0);
    assert_eq!(list().len(), 0);
}
