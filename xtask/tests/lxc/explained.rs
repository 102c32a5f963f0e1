//! Failures that explain themselves: where a scenario stood, what a wait can never see, and a program's own last words.

use std::path::Path;

use serde_json::Value;
use xtask::host::exec::shell::{Command, Output};

use super::common::{Host, e2e, events, project_with_template, record, said};

const MINI: &str = "from = \"mini\"\ninit = [\"/bin/busybox\", \"init\"]\n";

/// A project whose scenarios in Python have machines `a` and `b`.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let folder = project_with_template(MINI);
        std::fs::remove_dir_all(folder.path().join("scenarios/smoke")).unwrap();
        Self(folder)
    }

    fn scenario(&self, name: &str, template: &str, timeout: &str, program: &str) {
        let folder = self.0.path().join("scenarios/smoke").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("main.py"), program).unwrap();
        let manifest = format!(
            "description = \"{name}\"\ncommand = [\"python3\", \"main.py\"]\ntimeout = \"{timeout}\"\n[containers.a]\ntemplate = \
             \"{template}\"\n[containers.b]\ntemplate = \"{template}\"\n"
        );
        std::fs::write(folder.join("scenario.toml"), manifest).unwrap();
    }

    fn run(&self) -> Output {
        e2e(self.0.path(), &["--progress", "plain"]).output().unwrap()
    }

    fn file(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join("target/e2e/latest").join(path)).unwrap()
    }

    /// Cause and message of a scenario's only attempt.
    fn cause(&self, name: &str) -> (String, Value) {
        let record = record(self.0.path());
        let cases = record["cases"].as_array().unwrap();
        let wanted = format!("smoke/{name}:default");
        let case =
            cases.iter().find(|case| case["case"] == wanted).unwrap_or_else(|| panic!("no {wanted}: {record:#}"));
        let cause = case["attempts"][0]["cause"].clone();
        (cause["cause"].as_str().unwrap_or("none").to_owned(), cause)
    }
}

/// The line of a program that has this text.
fn line_of(program: &str, text: &str) -> usize {
    program.lines().position(|line| line.contains(text)).unwrap() + 1
}

#[test]
fn a_time_out_tells_where_the_scenario_stood_and_what_was_down() {
    let _host = Host::take();
    let project = Project::new();
    let sleeps = "import e2e, time\ndef wait_for_nothing():\n    time.sleep(100)\ndef scenario(lab):\n    lab.container('b')\
                  .inject('node.freeze')\n    lab.log('now it hangs')\n    wait_for_nothing()\ne2e.run(scenario)\n";
    let execs = "import e2e\ndef scenario(lab):\n    lab.container('b').inject('node.freeze')\n    lab.container('a')\
                 .exec(['sleep', '100'], deadline=100)\ne2e.run(scenario)\n";
    // It gives the signal its default action back, which would end the process.
    let deaf = "import e2e, faulthandler, signal, time\ndef scenario(lab):\n    faulthandler.unregister(signal.SIGUSR1)\n    \
                lab.log('deaf')\n    time.sleep(100)\ne2e.run(scenario)\n";
    let silent = "import time\ntime.sleep(100)\n";
    project.scenario("sleeps", "mini", "4s", sleeps);
    project.scenario("execs", "mini", "4s", execs);
    project.scenario("deaf", "mini", "3s", deaf);
    project.scenario("silent", "mini", "2s", silent);
    let output = project.run();
    assert_eq!(output.status, 1, "{}", said(&output));
    let doing = |name: &str| {
        let (kind, cause) = project.cause(name);
        assert_eq!(kind, "timed_out", "{name}: {cause:#}");
        cause["doing"].as_str().unwrap_or_default().to_owned()
    };
    let frozen = |doing: &str| {
        let line = doing.lines().find(|line| line.starts_with("b is frozen: node.freeze for "));
        let seconds = line.and_then(|line| line.rsplit_once("for ")?.1.strip_suffix(" s")?.parse::<f64>().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0.5), "{doing}");
    };

    let told = doing("sleeps");
    let place = |text: &str| format!("scenarios/smoke/sleeps/main.py:{}", line_of(sleeps, text));
    let stack = format!(
        "it stood at {} in wait_for_nothing: time.sleep(100), called at {} in scenario: wait_for_nothing()",
        place("time.sleep"),
        place("    wait_for_nothing()")
    );
    assert_eq!(told.lines().next(), Some(stack.as_str()), "{told}");
    let last = format!("before: log at {}", place("lab.log"));
    assert!(told.lines().any(|line| line.starts_with("its last request ended") && line.ends_with(&last)), "{told}");
    frozen(&told);
    assert!(project.file("smoke/sleeps/artifacts/stacks-at-timeout.txt").contains("in wait_for_nothing"));
    let junit = project.file("junit.xml");
    let page = project.file("report.html").replace("&#x2f;", "/");
    for shown in [said(&output), junit, project.file("summary.md"), page] {
        assert!(shown.contains(&place("time.sleep")) && shown.contains("b is frozen: node.freeze for"), "{shown}");
    }

    let told = doing("execs");
    let place = format!("scenarios/smoke/execs/main.py:{}", line_of(execs, "exec(['sleep'"));
    let request = format!("exec in a: sleep 100 at {place}");
    assert!(told.lines().any(|line| line.starts_with("under way for ") && line.ends_with(&request)), "{told}");
    assert!(told.starts_with(&format!("it stood at {place} in scenario: lab.container('a').exec(")), "{told}");
    frozen(&told);

    let told = doing("deaf");
    assert!(told.starts_with("its last request ended") && told.contains("deaf/main.py:4"), "{told}");
    assert_eq!(doing("silent"), "");
    for without in ["deaf", "silent"] {
        let file = format!("target/e2e/latest/smoke/{without}/artifacts/stacks-at-timeout.txt");
        assert!(!project.0.path().join(file).exists(), "{without} has an empty file");
    }
    let execs = events(project.0.path()).into_iter().filter(|event| event["event"] == "exec").collect::<Vec<_>>();
    assert!(execs.iter().all(|event| event["location"].as_str().is_some_and(|at| at.starts_with("scenarios/smoke/"))));
}

#[test]
fn the_reason_of_a_failed_program_begins_with_its_own_last_words() {
    let _host = Host::take();
    let project = Project::new();
    let import = "import time\nimport e2e, no_such_module\n";
    let syntax = "import e2e\ndef scenario(lab:\n    pass\n";
    let status = "import sys\nprint('begin')\nsys.exit('fatal: no configuration')\n";
    let exec = "import e2e\ndef scenario(lab):\n    lab.container('a').sh('echo one; echo no such table >&2; exit \
                7').success()\ne2e.run(scenario)\n";
    let silent = "import sys\nsys.exit(7)\n";
    for (name, program) in
        [("import", import), ("syntax", syntax), ("status", status), ("exec", exec), ("silent", silent)]
    {
        project.scenario(name, "mini", "20s", program);
    }
    let output = project.run();
    assert_eq!(output.status, 1, "{}", said(&output));
    let junit = project.file("junit.xml");
    for (name, begin) in [
        ("import", "ModuleNotFoundError: No module named 'no_such_module' at scenarios/smoke/import/main.py:2 ("),
        ("syntax", "SyntaxError: "),
        ("status", "fatal: no configuration (the scenario's program ended with status 1)"),
        ("exec", "error: exec in a ended with status 7: no such table at scenarios/smoke/exec/main.py:3"),
        ("silent", "the scenario's program ended with status 7 and wrote nothing"),
    ] {
        let quoted = begin.replace('\'', "&apos;");
        assert!(junit.contains(&format!("message=\"{quoted}")), "{name}: {begin}: {junit}");
    }
    assert!(said(&output).contains("exec in a ended with status 7: no such table"), "{}", said(&output));
    assert!(project.file("summary.md").contains("ModuleNotFoundError: No module named"));
}

#[test]
fn a_wait_that_cannot_come_true_ends_at_once_with_its_reason() {
    let _host = Host::take();
    let project = Project::new();
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/base");
    Command::new("cp").arg("-r").arg(base).arg(project.0.path().join("containers/base")).run().unwrap();
    let helpers = "import e2e, threading, time\n\
        def refused(lab, wait, *parts):\n    began = time.monotonic()\n    try:\n        wait()\n    \
        except e2e.RequestError as error:\n        took = time.monotonic() - began\n        \
        lab.check(all(part in str(error) for part in parts) and took < 20, 'it ends at once', error=str(error), took=took)\n    \
        else:\n        lab.check(False, 'it does not come true', parts=parts)\n";
    let systemd = format!(
        "{helpers}def scenario(lab):\n    a, b = lab.container('a'), lab.container('b')\n    \
        refused(lab, lambda: a.wait_for_unit('shh.service'), 'there is no such unit', 'did you mean ssh')\n    \
        a.sh('systemctl mask --now ssh').success()\n    \
        refused(lab, lambda: a.wait_for_unit('ssh'), 'it is masked')\n    \
        a.write('/etc/systemd/system/bad.service', '[Service]\\nType=oneshot\\nExecStart=/bin/sh -c \"echo no quorum; exit \
        3\"\\n')\n    a.sh('systemctl daemon-reload; systemctl start bad')\n    \
        refused(lab, lambda: a.wait_for_unit('bad'), 'result exit-code, status 3', 'no quorum')\n    \
        a.write('/etc/systemd/system/odd.service', '[Service]\\n')\n    a.sh('systemctl daemon-reload')\n    \
        refused(lab, lambda: a.wait_for_unit('odd'), 'systemd cannot load it')\n    \
        refused(lab, lambda: a.wait_for_unit('x@.service'), 'x@.service')\n    \
        refused(lab, lambda: a.wait_for_file('/etc/passwd/x/y'), '/etc/passwd is no folder')\n    \
        refused(lab, lambda: a.wait_for_file('/srv/none/x', deadline=0.5), 'there is no folder /srv/none')\n    \
        refused(lab, lambda: a.wait_for_command(['no-such-program']), 'no program \"no-such-program\"')\n    \
        def install():\n        b.sh('sleep 2; printf \"[Service]\\\\nExecStart=/bin/sleep 600\\\\n\" > \
        /etc/systemd/system/late.service; systemctl daemon-reload; systemctl start late').success()\n    \
        thread = threading.Thread(target=install)\n    thread.start()\n    time.sleep(0.3)\n    \
        lab.check(b.wait_for_unit('late') > 1, 'a unit that another thread makes is waited for')\n    thread.join()\n    \
        b.write('/etc/systemd/system/again.service', '[Service]\\nRestart=on-failure\\nRestartSec=1\\nExecStart=/bin/sh -c \"[ -e \
        /run/seen ] && exec sleep 600; touch /run/seen; exit 1\"\\n')\n    b.sh('systemctl daemon-reload; systemctl start again')\n    \
        b.wait_for_unit('again')\ne2e.run(scenario)\n"
    );
    let mini = format!(
        "{helpers}def scenario(lab):\n    a = lab.container('a')\n    \
        refused(lab, lambda: a.wait_for_unit('x'), 'only systemd has units')\n    \
        refused(lab, lambda: a.wait_for_port(0), 'no TCP port 0')\n    \
        refused(lab, lambda: a.wait_for_http(':x/'), 'write \"/path\"')\n    \
        refused(lab, lambda: a.wait_for_file(''), 'the path is empty')\n    \
        refused(lab, lambda: a.wait_for_command([]), 'name is empty')\n    \
        refused(lab, lambda: a.wait_for_unit(''), 'name is empty')\n    \
        threading.Timer(0.5, lambda: a.sh('mkdir -p /srv/x; touch /srv/x/y')).start()\n    \
        a.wait_for_file('/srv/x/y', deadline=20)\ne2e.run(scenario)\n"
    );
    project.scenario("systemd", "base", "1m", &systemd);
    project.scenario("mini", "mini", "1m", &mini);
    let output = project.run();
    assert_eq!(output.status, 0, "{}", said(&output));
}
