//! Faults that take machines down, or meet a machine that goes down by itself: the bound as played, recovery to readiness, reboots amid
//! an injection, and the ends that belong to a fault.

use std::path::Path;

use serde_json::{Value, json};
use xtask::host::exec::shell::Command;

use super::common::{Host, e2e, events, record, said};
use super::project::{APP, MINI, Project, case};

/// A product that is process 1, and ready as soon as it says so in a place that does not outlast the machine.
fn readily(timeout: &str) -> String {
    format!("{APP}[[probes]]\nexec = [\"/bin/sh\", \"-c\", \"test -e /dev/ready\"]\ntimeout = \"{timeout}\"\n")
}

/// Returns its program: the first start of a machine is ready at once; `again` is done at each later one.
fn app(again: &str) -> String {
    format!(
        "#!/bin/sh\ncut -d' ' -f1 /proc/uptime >> /times\n[ ! -e /started ] || {{ {again}; }}\ntouch /started /dev/ready\n\
         cut -d' ' -f1 /proc/uptime >> /times\nwhile :; do sleep 1; done\n"
    )
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("no {name} in {value:#}"))
}

/// Kills each of these machines for a moment, one soon after the other.
fn kills(project: &Project, scenario: &str, machines: &[&str]) -> String {
    let kill = |(place, machine): (usize, &&str)| {
        json!({ "number": place + 1, "at_ms": 600 * place, "duration_ms": 200, "container": machine,
            "fault": { "name": "node.kill" } })
    };
    let faults: Vec<Value> = machines.iter().enumerate().map(kill).collect();
    let schedule = json!({ "format_version": 1, "case": format!("smoke/{scenario}:default"), "profile": "made by hand",
        "length_ms": 14_000, "faults": faults });
    project.write(&format!("{scenario}.json"), &schedule.to_string());
    project.path().join(format!("{scenario}.json")).display().to_string()
}

const CHAOS: &str = "[chaos]\nmax_concurrent = 1\nlength = \"14s\"\nrecovery = \"20s\"\nquiet = \"1ms\"\n[[chaos.faults]]\nfault = \
                     \"node.kill\"\n";

#[test]
fn no_machine_goes_down_while_another_one_is_not_ready_again() {
    let _host = Host::take();
    let project = Project::new(MINI);
    project.template("slow", &readily("20s"), &app("sleep 2.5"));
    let body = "    names = ['a', 'b', 'c']\n    with lab.chaos() as chaos:\n        while chaos.lasts():\n            time.sleep(0.05)\n    \
                spans = sorted(tuple(map(float, lab.container(n).get('/times').split()[2:4])) for n in names)\n    for one, two in \
                zip(spans, spans[1:]):\n        lab.check(one[1] <= two[0], f'ready again before the next one starts again: \
                {spans}')\n";
    let more = "[containers.b]\ntemplate = \"slow\"\n[containers.c]\ntemplate = \"slow\"\n";
    project.scenario("quorum", "slow", &format!("{CHAOS}{more}"), body);
    let replay = kills(&project, "quorum", &["a", "b", "c"]);
    let output = e2e(project.path(), &["--chaos-replay", &replay, "--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));

    let all = events(project.path());
    let (injected, healed) = (named(&all, "fault_injected"), named(&all, "fault_healed"));
    assert_eq!((injected.len(), healed.len()), (3, 3), "{all:#?}");
    for (place, machine) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!((&injected[place]["container"], &healed[place]["container"]), (&json!(machine), &json!(machine)));
        let evidence = healed[place]["evidence"].as_str().unwrap();
        assert!(evidence.contains("; ready again 2."), "{evidence}");
        if place > 0 {
            let asked_ms = number(injected[place], "at_ms") - number(injected[place], "duration_ms");
            assert!(number(healed[place - 1], "at_ms") <= asked_ms, "{injected:#?} {healed:#?}");
            let (planned_ms, late_ms) = (number(injected[place], "planned_ms"), number(injected[place], "late_ms"));
            assert!(planned_ms as usize == 600 * place && late_ms > 1000.0, "{:#}", injected[place]);
        }
    }
    let record = record(project.path());
    let faults = &case(&record, "quorum")["attempts"][0]["faults"];
    assert_eq!((&faults["bit"], &faults["lateness"]["displaced"]), (&3.into(), &2.into()), "{faults:#}");
    assert!(number(&faults["lateness"], "max_ms") > 2500.0, "{faults:#}");
    let sentence = "2 of the faults took effect only after their planned time, so ANOTHER SCHEDULE";
    let latest = project.path().join("target/e2e/latest");
    let read = |name: &str| std::fs::read_to_string(latest.join(name)).unwrap();
    assert!(said(&output).contains("ANOTHER SCHEDULE"), "{}", said(&output)); // it is wrapped there
    assert!(read("report.html").contains(sentence) && read("summary.md").contains(sentence));
}

#[test]
fn a_machine_that_does_not_come_up_after_a_fault_is_the_products_failure() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let kill = "    a.inject('node.kill').heal()\n";
    for (name, again) in [("never", "sleep 2000000000"), ("dies", "exit 3"), ("dies_late", "sleep 0.5; exit 3")] {
        project.template(name, &readily("3s"), &app(again));
        project.scenario(name, name, "", kill);
    }
    let body = "    with lab.chaos() as chaos:\n        while chaos.lasts():\n            time.sleep(0.05)\n";
    project.scenario("amid_chaos", "never", &CHAOS.replace("20s", "2s"), body);
    let output = e2e(project.path(), &["never", "dies", "dies_late", "--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    let found = record(project.path());
    let check = |found: &Value, name: &str, cause: &str, words: &str| {
        let case = case(found, name);
        let attempts = case["attempts"].as_array().unwrap();
        assert_eq!((case["verdict"].as_str(), attempts.len()), (Some("failed"), 1), "{case:#}");
        assert_eq!(attempts[0]["cause"]["cause"], cause, "{case:#}");
        assert!(attempts[0]["cause"]["message"].as_str().unwrap().contains(words), "{case:#}");
    };
    check(&found, "never", "not_ready", "after the healing of node.kill on a: a: ");
    check(&found, "dies", "machine_ended", "exited with status 3");
    check(&found, "dies_late", "machine_ended", "exited with status 3");

    let replay = kills(&project, "amid_chaos", &["a"]);
    let output = e2e(project.path(), &["--chaos-replay", &replay, "--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 1, "{}", said(&output));
    check(&record(project.path()), "amid_chaos", "not_ready", "after the healing of node.kill on a: a: ");
}

/// The machine of Mancer's base, without its probes.
fn add_base(project: &Project) {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../containers/base");
    let copied = Command::new("cp").arg("-r").arg(base).arg(project.path().join("containers/base")).run();
    copied.unwrap();
    let template = project.path().join("containers/base/template.toml");
    let text = std::fs::read_to_string(&template).unwrap();
    let (before, _) = text.split_once("[[probes]]").unwrap(); // they stand last
    std::fs::write(&template, before).unwrap();
}

#[test]
fn a_machine_of_systemd_is_healed_when_it_has_booted() {
    let _host = Host::take();
    let project = Project::new(MINI);
    add_base(&project);
    let body = "    for fault, more in (('node.kill', {}), ('node.stop', {'grace_ms': 5000}), ('node.freeze', {})):\n        healed = \
                a.inject(fault, **more).heal()\n        state = a.exec(['systemctl', \
                'is-system-running']).stdout_text.strip()\n        lab.check(state in ('running', 'degraded'), f'{fault}: \
                {state}')\n        lab.check('ready again' in healed, healed)\n";
    project.scenario("healed", "base", "", body);
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
}

#[test]
fn a_fault_that_ends_process_1_has_the_end_to_itself() {
    let _host = Host::take();
    let project = Project::new(MINI);
    project.template("app", &readily("10s"), &app("true"));
    // Process 1 holds most of the memory itself, so that the kernel takes it for the one to kill.
    let holder = "#!/bin/sh\n[ -p /held ] || mkfifo /held\n( head -c 40000000 /dev/zero; touch /dev/ready; exec sleep 2000000000 ) > \
                  /held &\nexec tail -c 40000000 < /held\n";
    project.template("holder", &format!("{}[limits]\nmemory = \"64M\"\n", readily("10s")), holder);
    let killed = "    kill = a.inject('process.kill', command='/app')\n    lab.check(gone(a), 'the machine is down')\n    lab.check('ready \
                  again' in kill.heal())\n    a.exec(['true']).success()\n";
    project.scenario("killed", "app", "", killed);
    let oom = "    oom = a.inject('memory.oom')\n    lab.check('process 1 has ended' in oom.evidence, oom.evidence)\n    \
               lab.check(gone(a), 'the machine is down')\n    lab.check('ready again' in oom.heal())\n    a.exec(['true']).success()\n";
    project.scenario("oom", "holder", "", oom);
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let all = events(project.path());
    assert!(named(&all, "machine_ended").is_empty(), "{all:#?}");
    let record = record(project.path());
    for name in ["killed", "oom"] {
        assert_eq!(case(&record, name)["attempts"].as_array().unwrap().len(), 1, "{record:#}");
    }
}

#[test]
fn a_reboot_amid_an_injection_is_the_products_and_the_injection_is_done_again() {
    let _host = Host::take();
    let project = Project::new(MINI);
    add_base(&project);
    // One by the kernel, and one for which systemd ends all services first.
    for (name, template, reboot) in [
        ("early", "odd", "sleep 0.2; reboot -f"),
        ("late", "odd", "sleep 0.7; reboot -f"),
        ("orderly", "base", "sleep 0.1; systemctl reboot"),
    ] {
        let body = format!(
            "    a.exec(['/bin/sh', '-c', '({reboot}) > /dev/null 2>&1 & exit 0'])\n    quota = a.inject('cpu.quota', \
             percent=20)\n    quota.heal()\n"
        );
        project.scenario(name, template, "", &body);
    }
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let (all, record) = (events(project.path()), record(project.path()));
    let mut amid = 0;
    for name in ["early", "late", "orderly"] {
        let attempts = case(&record, name)["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "the host is not blamed: {record:#}");
        let of_case = |event: &&Value| event["case"].as_str().is_some_and(|case| case.contains(name));
        let told: Vec<&Value> = all.iter().filter(of_case).collect();
        let place = |wanted: &str| told.iter().position(|event| event["event"] == wanted);
        let (rebooted, injected) = (place("machine_rebooted"), place("fault_injected"));
        // A busy machine may have done the injection before the reboot.
        assert!(rebooted.is_some() && injected.is_some(), "{told:#?}");
        amid += usize::from(rebooted < injected);
        assert_eq!(told[rebooted.unwrap()]["expected"], false);
    }
    assert!(amid > 0, "none of three reboots came amid an injection: {all:#?}");
}

#[test]
fn a_fault_on_a_machine_that_does_not_stay_up_is_refused() {
    let _host = Host::take();
    let project = Project::new(MINI);
    let restless = "( sleep 0.4; [ ! -e /restless ] || reboot -f ) &\n        true";
    project.template("restless", APP, &app(restless));
    let body = "    a.write('/restless', '')\n    a.exec(['/bin/sh', '-c', '(sleep 0.2; reboot -f) > /dev/null 2>&1 & exit 0'])\n    try:\n        \
                a.inject('cpu.quota', percent=20)\n    except e2e.RequestError as error:\n        lab.check(error.is_unavailable and \
                'does not stay up' in str(error), str(error))\n    else:\n        lab.check(False, 'it was injected')\n    def \
                calm():\n        try:\n            return a.sh('rm -f /restless; ! test -e /restless').status == 0\n        except \
                e2e.RequestError:\n            return False\n    lab.eventually('it stays up', 20, calm)\n";
    project.scenario("restless", "restless", "", body);
    let output = e2e(project.path(), &["--progress", "plain"]).output().unwrap();
    assert_eq!(output.status, 0, "{}", said(&output));
    let record = record(project.path());
    assert_eq!(case(&record, "restless")["attempts"].as_array().unwrap().len(), 1, "{record:#}");
    assert!(named(&events(project.path()), "machine_rebooted").len() > 1);
}
