//! Budgets that all labs share: what is too little is said before a lab is made, once, and is never the product's failure. In a user
//! namespace of the test's own, whose bound is lowered: the host's stays as it is.

use std::fmt::Write as _;
use std::time::Duration;

use xtask::host::container::userns::UserNamespace;
use xtask::host::exec::shell::Command;

use super::common::{Host, e2e_args, events, project_with_template, record, said};

/// inotify instances of the namespace: fewer than five machines with systemd take.
const INSTANCES: u32 = 20;

/// Lowers the bound of its namespace, and becomes the engine.
const LOWERED: &str = r#"echo "$1" > /proc/sys/user/max_inotify_instances && ip link set lo up && shift && exec "$@""#;

#[test]
fn too_few_inotify_instances_are_said_before_a_lab_is_made() {
    let _host = Host::take();
    let project = project_with_template("from = \"mini\"\ninit = \"systemd\"\n");
    let root = project.path();
    let scenario = |name: &str, containers: &str| {
        let folder = root.join("scenarios/smoke").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let text = format!("description = \"x\"\ncommand = [\"python3\", \"main.py\"]\n{containers}");
        std::fs::write(folder.join("scenario.toml"), text).unwrap();
        std::fs::write(
            folder.join("main.py"),
            "import e2e\ne2e.run(lambda lab: lab.container(\"m\").exec([\"true\"]))\n",
        )
        .unwrap();
    };
    let many = (0..5).fold(String::new(), |mut text, number| {
        writeln!(text, "[containers.m{number}]\ntemplate = \"odd\"").unwrap();
        text
    });
    std::fs::remove_dir_all(root.join("scenarios/smoke/never_connects")).unwrap();
    scenario("a_many", &many);
    scenario("b_one", "[containers.m]\ntemplate = \"mini\"\n");

    let namespace = UserNamespace::new(0, u32::MAX).unwrap();
    let mut words = namespace.enter_words();
    words.extend(
        ["unshare", "--net", "--mount", "--propagation", "private", "/bin/sh", "-c", LOWERED, "lowered"]
            .map(String::from),
    );
    words.extend([INSTANCES.to_string(), env!("CARGO_BIN_EXE_xtask").to_owned()]);
    words.extend(e2e_args(root, &["--progress", "plain"]));
    let output =
        Command::new(&words[0]).args(&words[1..]).dir(root).deadline(Duration::from_secs(120)).output().unwrap();
    let text = said(&output);

    assert_eq!(output.status, 3, "{text}");
    let reason = format!("inotify instances: the lab needs at least 35, and {INSTANCES} of {INSTANCES} are left");
    assert!(text.contains(&reason), "{text}");
    assert!(text.contains("`sysctl -w user.max_inotify_instances=1024`"), "{text}");
    let record = record(root);
    // In a user namespace nothing can be shown with other ids.
    assert_eq!(record["ids"], "shared", "{text}");
    assert!(text.contains("all labs of this host share one range of ids"), "{text}");
    let case = |name: &str| {
        let cases = record["cases"].as_array().unwrap();
        cases.iter().find(|case| case["case"] == format!("smoke/{name}:default")).unwrap().clone()
    };
    let refused = case("a_many");
    assert_eq!(refused["attempts"].as_array().unwrap().len(), 1, "it is not tried again: {refused}");
    let attempt = &refused["attempts"][0];
    assert_eq!((attempt["outcome"].as_str(), attempt["host_cause"].as_str()), (Some("infrastructure"), Some("budget")));
    assert_eq!(case("b_one")["verdict"], "passed", "a smaller lab has room: {text}");
    let started = |event: &serde_json::Value| {
        event["event"] == "container_started" && event["case"].as_str().is_some_and(|case| case.contains("a_many"))
    };
    assert!(!events(root).iter().any(started), "no machine of it was started");
}
