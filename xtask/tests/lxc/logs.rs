//! `cargo xtask logs`, of a run and of the lab that it has kept.

use serde_json::Value;
use xtask::host::exec::shell::Output;

use super::common::{Host, clean_slot, e2e, engine, said, selftest, slot};

fn logs(args: &[&str]) -> Output {
    let project = selftest();
    engine().args(["logs"]).args(args).dir(project).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(output.status, 0, "{}", said(output));
    output.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_a_run_and_a_live_lab_have_logged_is_shown() {
    let _host = Host::take();
    let project = selftest();
    let output = e2e(&project, &["misbehaves:check_fails", "--keep-containers"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));

    let all = lines(&logs(&["--format", "json"]));
    assert_eq!(all[0]["format_version"], 1, "{}", all[0]);
    let failed = all.iter().find(|line| line["machine"] == "scenario" && line["source"] == "scenario.log").unwrap();
    let run: Value =
        serde_json::from_slice(&std::fs::read(project.join("target/e2e/latest/run.json")).unwrap()).unwrap();
    let at_ms = failed["at_ms"].as_f64().expect("the engine saw it come");
    assert!(at_ms > 0.0 && at_ms < run["duration_ms"].as_f64().unwrap(), "{failed}");
    assert!(failed["text"].as_str().unwrap().contains("check failed"), "{failed}");
    assert_eq!(failed["case"], "smoke/misbehaves:check_fails");

    let shown = logs(&["latest", "scenario", "--grep", "check fail.d"]);
    assert!(shown.text().contains("scenario  scenario.log"), "{}", said(&shown));
    assert_eq!(logs(&["scenario", "--grep", "^no such line$"]).text(), "");
    let digest = logs(&["--digest"]);
    assert!(digest.text().starts_with("smoke/misbehaves:check_fails\n"), "{}", said(&digest));

    for (args, help) in [
        (&["--grep", "a(b"][..], "not a regular expression"),
        (&["scenaro"], "did you mean scenario?"),
        (&["--case", "nothing"], "has no such case: there are smoke/misbehaves:check_fails"),
        (&["--since", "soon"], "write a duration"),
        (&["--live", "b", "--slot", slot()], "did you mean a?"),
    ] {
        let output = logs(args);
        assert_eq!(output.status, 2, "{args:?}: {}", said(&output));
        assert!(said(&output).contains(help), "{args:?}: {}", said(&output));
    }

    let live = lines(&logs(&["--live", "a", "--slot", slot(), "--level", "debug", "--format", "json"]));
    assert_eq!((&live[0]["format_version"], &live[0]["live"]), (&1.into(), &true.into()));
    let started = live.iter().find(|line| line["source"] == "lxc.log").expect("LXC has logged");
    assert_eq!(started["machine"], "a");
    clean_slot();
}
