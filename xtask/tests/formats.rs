//! The reports of a run, as their readers take them: of a run with everything in it that can go wrong, and texts that mean
//! harm. Needs no root and no container.

#![expect(clippy::unwrap_used, reason = "tests: clippy takes their helpers for ordinary code")]

#[path = "formats/bounds.rs"]
mod bounds;
#[path = "formats/junit.rs"]
mod junit;
#[path = "formats/trace.rs"]
mod trace;

use std::collections::BTreeMap;
use std::path::Path;

use e2e_contract::{Check, Fault, Level};
use xtask::host::invoker::Invoker;
use xtask::record::{
    Attempt, CaseId, CaseResult, Cause, Counts, Event, FORMAT_VERSION, FaultObserved, Machine, Outcome, PastRun,
    Performance, RunDir, RunRecord, Sampling, Stamped, Verdict,
};
use xtask::report::annotations::{self, Checkout};
use xtask::report::files::write_all;

/// Escape codes, characters that XML cannot hold, ends of everything, and no end of line for long.
fn hostile() -> String {
    let long = "x".repeat(10_000);
    format!(
        "\u{1b}[31mred\u{1b}[0m \u{0}\u{8}\u{fffe} ]]> </failure><script>alert(1)</script> & \"' ``` | \u{202e} {long}"
    )
}

fn attempt(outcome: Outcome, folder: &str) -> Attempt {
    Attempt { outcome, duration_ms: 1500.0, folder: folder.into(), faults: None }
}

fn failed(message: &str) -> Outcome {
    Outcome::Failed { cause: Cause::Check { message: message.into() } }
}

fn cases() -> Vec<CaseResult> {
    let judged = |case: &str, attempts| CaseResult::judge(CaseId(case.into()), attempts);
    let no_lab = || Outcome::infrastructure("no memory");
    vec![
        judged("shop/orders:good", vec![attempt(Outcome::Passed, "shop/orders/good")]),
        judged(
            "shop/orders:bad",
            vec![
                attempt(failed(&hostile()), "shop/orders/bad"),
                attempt(failed("rows == 2"), "shop/orders/bad/attempt-2"),
            ],
        ),
        judged(
            "shop/orders:now_and_then",
            vec![
                attempt(failed("rows == 3"), "shop/orders/now"),
                attempt(Outcome::Passed, "shop/orders/now/attempt-2"),
            ],
        ),
        judged(
            "shop/stock:second_lab",
            vec![attempt(no_lab(), "shop/stock/a"), attempt(Outcome::Passed, "shop/stock/a/attempt-2")],
        ),
        judged(
            "shop/stock:no_lab",
            vec![attempt(no_lab(), "shop/stock/b"), attempt(no_lab(), "shop/stock/b/attempt-2")],
        ),
        judged("shop/stock:cut", vec![attempt(Outcome::Interrupted, "shop/stock/c")]),
        judged("shop/stock:left", Vec::new()),
    ]
}

fn machine() -> Machine {
    Machine {
        cpu_model: "c".into(),
        cores: 2,
        memory_bytes: 8 << 30,
        kernel: "6.1.0".into(),
        lxc: "5.0.2".into(),
        storage: "ext4".into(),
        cgroup: "v2".into(),
    }
}

/// The events of the bad case's first attempt, with a fault that is on when its check fails, and of the others their frames.
fn events() -> Vec<Stamped> {
    let bad = CaseId("shop/orders:bad".into());
    let case = || bad.clone();
    let exec = |duration_ms: f64| Event::Exec {
        case: case(),
        container: "db".into(),
        command: hostile(),
        status: 1,
        duration_ms,
        timed_out: false,
        location: Some(hostile()),
        not_kept_bytes: 0,
    };
    let fault = |evidence: &str, duration_ms: f64| FaultObserved {
        case: case(),
        fault: 1,
        scheduled: Some(4),
        container: "db".into(),
        description: Fault::NetIsolate,
        before: None,
        evidence: evidence.into(),
        lasted: None,
        planned_ms: None,
        late_ms: None,
        duration_ms,
    };
    let check = Check {
        passed: false,
        condition: "rows == 20_000".into(),
        values: format!("rows = 19999\n{}{}", hostile(), "x".repeat(1 << 20)),
        message: Some("none is lost".into()),
        file: "scenarios/shop/orders/main.rs".into(),
        line: 12,
    };
    let step = |name: &str, depth| Event::StepStarted { case: case(), name: name.into(), depth };
    let step_end = |name: &str, depth, duration_ms| Event::StepEnded {
        case: case(),
        name: name.into(),
        depth,
        passed: true,
        duration_ms,
    };
    let mut events = vec![
        (0.0, Event::Waiting { reason: "the slot".into() }),
        (100.0, Event::CaseStarted { case: case(), attempt: 1, folder: None }),
        (101.0, Event::ContainerStarted { case: case(), container: "db".into() }),
        (150.0, Event::ContainerReady { case: case(), container: "db".into(), after_ms: 50.0 }),
        (151.0, Event::LabReady { case: case(), after_ms: 51.0 }),
        (200.0, step("outer", 0)),
        (210.0, step("inner", 1)),
        (220.0, step_end("inner", 1, 10.0)),
        (221.0, exec(15.0)),
        (222.0, exec(8.0)),
        (230.0, exec(18.0)),
        (240.0, Event::FaultInjected(fault("3 of 3 packets lost", 20.0))),
        (250.0, Event::Log { case: case(), level: Level::Warning, message: hostile() }),
        (300.0, Event::Check { case: case(), check }),
        (320.0, Event::FaultHealed(fault("3 of 3 packets arrived", 5.0))),
        (330.0, step("never ends", 1)),
    ];
    let ended = |folder: &str, case: &CaseId, attempt, outcome| Event::CaseEnded {
        case: case.clone(),
        attempt,
        outcome,
        duration_ms: 1500.0,
        last_words: vec!["db/console.log:".into(), format!("  {}", hostile())],
        folder: folder.into(),
        faults: None,
    };
    events.push((400.0, ended("shop/orders/bad", &bad, 1, failed(&hostile()))));
    let mut at_ms = 500.0;
    for result in cases() {
        for (attempt, number) in result.attempts.iter().zip(1..) {
            if (&result.case, number) != (&bad, 1) {
                let case = result.case.clone();
                events.push((at_ms, Event::CaseStarted { case, attempt: number, folder: None }));
                events.push((at_ms + 50.0, ended(&attempt.folder, &result.case, number, attempt.outcome.clone())));
                at_ms += 100.0;
            }
        }
        events.push((at_ms, Event::CaseJudged { case: result.case, verdict: result.verdict }));
    }
    events.into_iter().map(|(at_ms, event)| Stamped { at_ms, event }).collect()
}

fn sampling() -> Sampling {
    let cumulative = || vec![Some(0.0), Some(50.0), Some(50.0), None];
    let columns = ["cpu_user_ms", "cpu_system_ms", "sent_bytes", "received_bytes", "memory_bytes"];
    Sampling {
        rate_hz: 10,
        thinned: 1,
        ticks: 4,
        own_cpu_ms: 0.1,
        duration_ms: 300.0,
        at_ms: vec![100.0, 200.0, 300.0, 400.0],
        series: BTreeMap::from([(
            "db".into(),
            columns.into_iter().map(|column| (column.to_owned(), cumulative())).collect(),
        )]),
        host: BTreeMap::from([("cpu_percent".into(), vec![Some(1.0), Some(2.0), None, Some(4.0)])]),
    }
}

/// The run in a folder, with its reports.
fn run(root: &Path) -> PastRun {
    let folder = root.join("target/e2e/20260101-000000-1");
    let cases = cases();
    let record = RunRecord {
        format_version: FORMAT_VERSION,
        run_id: "20260101-000000-1".into(),
        started_at: "2026-01-01T00:00:00.250Z".into(),
        duration_ms: 12_345.0,
        engine_version: "0.1.0".into(),
        user: "me".into(),
        shuffle_seed: None,
        chaos_seed: Some(7),
        layers: BTreeMap::new(),
        privileged: Vec::new(),
        allowed: [].into(),
        counts: Counts::of(&cases),
        cases,
        compared_with: None,
        comparisons: Vec::new(),
        cleanup_failures: Vec::new(),
        exit_code: 5,
        command: ["e2e", "shop", "--chaos"].map(String::from).to_vec(),
        patience: None,
        machine: Some(machine()),
        packages: BTreeMap::new(),
        part: None,
        ..RunRecord::default()
    };
    let bad = folder.join("shop/orders/bad");
    std::fs::create_dir_all(&bad).unwrap();
    let log = "line\n".repeat(10_000);
    std::fs::write(bad.join("scenario.log"), [log.as_bytes(), b"\xff\0last words\n"].concat()).unwrap();
    let mut performance = Performance::new("shop/orders:bad".into(), machine(), "class".into());
    performance.sampling = Some(sampling());
    std::fs::write(bad.join("performance.json"), serde_json::to_vec(&performance).unwrap()).unwrap();
    let lines: String = events().iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    std::fs::write(folder.join("events.jsonl"), lines).unwrap();
    std::fs::write(folder.join("run.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    let run = PastRun::read(folder).unwrap();
    assert_eq!(write_all(&run, &RunDir::of(&run, Invoker::find()).unwrap()), [""; 0]);
    run
}

fn text(run: &PastRun, name: &str) -> String {
    std::fs::read_to_string(run.folder.join(name)).unwrap()
}

#[test]
fn junit_is_what_its_readers_take() {
    let root = tempfile::tempdir().unwrap();
    let text = text(&run(root.path()), "junit.xml");
    let report = junit::check(&text).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
    assert!(text.len() < 200_000, "{} bytes", text.len());
    let suites: Vec<_> = report.children.iter().map(|suite| suite.attributes["name"].as_str()).collect();
    assert_eq!(suites, ["shop/orders", "shop/stock"]);
    let counts = |name: &str| report.children.iter().map(|suite| suite.attributes[name].clone()).collect::<Vec<_>>();
    assert_eq!((counts("tests"), counts("failures")), (vec!["3".into(), "4".into()], vec!["1".into(), "0".into()]));
    assert_eq!((counts("errors"), counts("skipped")), (vec!["0".into(), "2".into()], vec!["0".into(), "1".into()]));
    assert!(
        report.children[0].attributes["timestamp"].starts_with("2026-01-01T00:00:00.350"),
        "when its first case began"
    );
    let shown: Vec<String> = report
        .all("testcase")
        .iter()
        .map(|case| {
            let parts: Vec<String> = case
                .children
                .iter()
                .map(|part| format!("{} {}", part.name, part.attributes.get("type").map_or("", String::as_str)))
                .collect();
            format!("{}.{} {}", case.attributes["classname"], case.attributes["name"], parts.join(", "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "shop.orders.good ",
            "shop.orders.bad failure check, rerunFailure check, system-out ",
            "shop.orders.now_and_then flakyFailure check",
            "shop.stock.second_lab flakyError infrastructure",
            "shop.stock.no_lab error infrastructure, rerunError infrastructure",
            "shop.stock.cut error interrupted",
            "shop.stock.left skipped ",
        ]
    );
    let failure = report.all("failure")[0];
    assert!(failure.attributes["message"].starts_with("check failed: red"), "{:?}", failure.attributes);
    for part in [
        "check failed: rows == 20_000 (none is lost)",
        "rows = 19999",
        "at scenarios/shop/orders/main.rs:12",
        "db/console.log:",
    ] {
        assert!(failure.text.contains(part), "{part}");
    }
    let log = report.all("system-out")[0];
    assert!(log.text.starts_with("... the start stands in scenario.log\nline\n") && log.text.ends_with("last words\n"));
}

#[test]
fn what_is_wrong_with_a_junit_file_is_seen() {
    let suite = |inside: &str| {
        format!(
            "<testsuites><testsuite name=\"a\" tests=\"1\" failures=\"0\" errors=\"0\">{inside}</testsuite></testsuites>"
        )
    };
    let check = |text: &str, expected: &str| {
        let problem = junit::check(text).expect_err(text);
        assert!(problem.contains(expected), "{problem}");
    };
    assert!(junit::check(&suite("<testcase name=\"x\"/>")).is_ok());
    check(&suite("<testcase/>"), "<testcase> lacks name");
    check(&suite("<testcase name=\"x\" file=\"y\"/>"), "<testcase> takes no file");
    check(&suite("<testcase name=\"x\"><flakyFailure/></testcase>"), "<flakyFailure> lacks type");
    check(&suite("<testcase name=\"x\"><failure/></testcase>"), "says failures=0, and has 1");
    check(&suite("<testcase name=\"x\">text</testcase>"), "takes no text");
    check(&suite("<testcase name=\"x\"><skipped/><skipped/></testcase>"), "takes no <skipped> here");
    check(
        &suite("<testcase name=\"x\"><rerunError type=\"t\"><system-out/><stackTrace/></rerunError></testcase>"),
        "takes no <stackTrace> here",
    );
    check(&suite(""), "says tests=1, and has 0");
    check(&suite("<testcase name=\"x\" time=\"1 s\"/>"), "is no Seconds");
    check(&suite("<testcase name=\"\u{fffe}\"/>"), "cannot stand in XML");
    check("<html/>", "<html> at the top");
    check("<testsuites>", "");
}

#[test]
fn trace_is_what_a_viewer_shows() {
    let root = tempfile::tempdir().unwrap();
    let text = text(&run(root.path()), "trace.json");
    let trace = trace::check(&text).unwrap_or_else(|problem| panic!("{problem}"));
    let processes: Vec<&str> = trace.processes.values().map(String::as_str).collect();
    assert_eq!(
        processes[..4],
        ["run 20260101-000000-1", "shop/orders:bad", "shop/orders:good", "shop/orders:bad attempt 2"]
    );
    let lines: Vec<&str> =
        trace.lines.iter().filter(|((pid, _), _)| *pid == 2).map(|(_, name)| name.as_str()).collect();
    assert_eq!(
        lines,
        ["case", "scenario", "faults on db", "db", "db (2)"],
        "two programs that crossed lie side by side"
    );
    let slice = |name: &str| {
        let found = trace.slices.iter().find(|(line, other, ..)| line.0 == 2 && other == name);
        found.map(|(_, _, begin, length)| (*begin, *length))
    };
    assert_eq!(slice("outer"), Some((200_000, 200_000)), "a step without an end ends with its case");
    assert_eq!(slice("inner"), Some((210_000, 10_000)));
    assert_eq!(slice("net.isolate"), Some((220_000, 100_000)), "from the request until its recovery was verified");
    assert_eq!(slice("starts"), Some((101_000, 49_000)));
    assert!(trace.marks.iter().any(|(line, name)| line.0 == 2 && name == "check FAILED: rows == 20_000"));
    let curve = |name: &str| trace.curves.get(&(2, name.to_owned())).copied();
    assert_eq!(
        (curve("db cpu percent"), curve("db memory bytes"), curve("host cpu_percent")),
        (Some(3), Some(4), Some(4))
    );
    assert_eq!(
        (curve("db network bytes/s"), curve("db disk bytes/s")),
        (Some(3), None),
        "what is not counted has no curve"
    );
    assert!(text.contains(r#""programs":50.0"#), "50 ms in 100 ms are half a processor");
}

#[test]
fn what_is_wrong_with_a_trace_is_seen() {
    let check = |events: &str, expected: &str| {
        let names = r#"{"ph":"M","name":"process_name","pid":1,"args":{"name":"p"}},{"ph":"M","name":"thread_name","pid":1,"tid":1,"args":{"name":"t"}}"#;
        let problem = trace::check(&format!("{{\"traceEvents\":[{names},{events}]}}")).err().unwrap_or_default();
        assert!(problem.contains(expected) && problem.is_empty() == expected.is_empty(), "{problem}");
    };
    let slice =
        |tid: u32, ts: u32, dur: u32| format!(r#"{{"ph":"X","name":"s","pid":1,"tid":{tid},"ts":{ts},"dur":{dur}}}"#);
    check(&[slice(1, 0, 10), slice(1, 2, 3), slice(1, 10, 5)].join(","), "");
    check(&[slice(1, 0, 10), slice(1, 5, 10)].join(","), "begins in another one");
    check(&slice(2, 0, 10), "has no name");
    check(r#"{"ph":"B","name":"s","pid":1,"tid":1,"ts":0}"#, "nobody knows this kind");
    check(r#"{"ph":"X","name":"s","pid":1,"tid":1,"ts":0.5,"dur":1}"#, "ts is no whole number");
    check(r#"{"ph":"i","name":"s","pid":1,"tid":1,"ts":1}"#, "a mark of no line");
    let point = |ts: u32, part: &str| format!(r#"{{"ph":"C","name":"c","pid":1,"ts":{ts},"args":{{"{part}":1}}}}"#);
    check(&[point(1, "a"), point(2, "a")].join(","), "");
    check(&[point(2, "a"), point(1, "a")].join(","), "goes back");
    check(&[point(1, "a"), point(2, "b")].join(","), "other parts");
}

#[test]
fn the_summary_shows_what_failed_and_what_was_broken_then() {
    let root = tempfile::tempdir().unwrap();
    let text = text(&run(root.path()), "summary.md");
    assert!(text.len() < 100_000, "{} bytes", text.len());
    // Those are the begins of what is too long.
    let hostile: Vec<&str> = text.lines().filter(|line| line.contains("xxxx")).collect();
    assert!(!hostile.is_empty() && hostile.iter().all(|line| !line.contains('\u{1b}') && !line.contains('\u{202e}')));
    let shown: Vec<&str> = text.trim_end().lines().filter(|line| !line.contains("xxxx")).collect();
    assert_eq!(shown.join("\n"), include_str!("data/summary.md").trim_end());
}

#[test]
fn annotations_stand_at_the_failed_check() {
    let root = tempfile::tempdir().unwrap();
    let source = root.path().join("tests/shop/scenarios/shop/orders/main.rs");
    std::fs::create_dir_all(source.parent().unwrap()).unwrap();
    std::fs::write(&source, "").unwrap();
    let project = root.path().join("tests/shop");
    let checkout = Checkout { root: root.path().to_owned(), scenarios: project.join("scenarios"), project };
    let lines = annotations::make(&run(root.path()), &events().into_iter().collect(), &checkout);
    assert!(lines.iter().all(|line| !line.contains(['\n', '\r', '\u{1b}'])));
    let expected = [
        "::error file=tests/shop/scenarios/shop/orders/main.rs,line=12,title=shop/orders%3Abad::check failed: rows == 20_000 \
         (none is lost)%0Arows = 19999%0Ared",
        "::warning title=shop/orders%3Anow_and_then::check failed: rows == 3",
        "::error title=shop/stock%3Ano_lab::no memory",
    ];
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{}", line.get(..200).unwrap_or(line));
    }
}

#[test]
fn an_unreadable_record_is_a_problem_and_no_panic() {
    let root = tempfile::tempdir().unwrap();
    let run = run(root.path());
    std::fs::write(run.folder.join("shop/orders/bad/performance.json"), "{").unwrap();
    // A file that is damaged costs its own part of a report, which says so.
    assert_eq!(write_all(&run, &RunDir::of(&run, Invoker::find()).unwrap()), Vec::<String>::new());
    let trace = std::fs::read_to_string(run.folder.join("trace.json")).unwrap();
    assert!(trace.contains("no curves") && trace.contains("this is no performance.json"), "{trace}");
    std::fs::write(run.folder.join("events.jsonl"), "{\n").unwrap();
    let problems = write_all(&run, &RunDir::of(&run, Invoker::find()).unwrap());
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(run.record.cases[0].verdict, Verdict::Passed);
}

#[test]
fn no_report_has_raw_control_characters_or_marks_that_turn_text() {
    let hostile = "\u{1b}[2J\u{1b}]0;t\u{7}\0\u{8}\u{9b}5A\u{202e}dcba\u{2066}\u{feff}\u{7f}\r. <b>";
    let event = |event: &str, more: serde_json::Value| {
        let mut line = serde_json::json!({ "at_ms": 1000, "event": event, "case": "a/b:c" });
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{line}\n")
    };
    let cause = serde_json::json!({ "cause": "check", "message": hostile });
    let outcome = serde_json::json!({ "outcome": "failed", "cause": cause });
    let check = serde_json::json!({ "passed": false, "condition": hostile, "message": hostile, "values": hostile,
        "file": "main.rs", "line": 7 });
    let exec =
        serde_json::json!({ "container": "db", "command": hostile, "status": 1, "duration_ms": 5, "timed_out": false });
    let ended = serde_json::json!({ "attempt": 1, "outcome": outcome, "duration_ms": 4000, "last_words": [hostile],
        "folder": "a/b" });
    let events = [
        event("case_started", serde_json::json!({ "attempt": 1 })),
        event("step_started", serde_json::json!({ "name": hostile, "depth": 0 })),
        event("exec", exec),
        event("check", check),
        event("case_ended", ended),
    ];
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
    std::fs::write(folder.path().join("events.jsonl"), events.concat()).unwrap();
    std::fs::write(folder.path().join("a/b/scenario.log"), hostile).unwrap();
    let record = serde_json::json!({ "format_version": 1, "run_id": "run-1", "started_at": "2026-01-01T00:00:00.000Z",
        "duration_ms": 6000, "engine_version": "0.1.0", "user": "user", "shuffle_seed": null, "chaos_seed": null,
        "layers": {}, "privileged": [], "cases": [{ "case": "a/b:c", "verdict": "failed", "attempts": [{
        "outcome": "failed", "cause": cause, "duration_ms": 4000, "folder": "a/b" }] }], "counts": { "passed": 0,
        "failed": 1, "flaky": 0, "infrastructure": 0, "interrupted": 0, "skipped": 0 }, "cleanup_failures": [hostile],
        "exit_code": 1, "command": ["e2e", hostile], "packages": {} });
    std::fs::write(folder.path().join("run.json"), record.to_string()).unwrap();
    let run = PastRun::read(folder.path().to_owned()).unwrap();
    let dir = RunDir::of(&run, Invoker::find()).unwrap();
    assert_eq!(write_all(&run, &dir), Vec::<String>::new());
    for name in ["report.html", "junit.xml", "summary.md"] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        let bad: Vec<&str> = text.lines().filter(|line| !xtask::record::is_visible(line)).collect();
        assert!(bad.is_empty(), "{name}: {bad:?}");
        for part in ["␛[2J", "␇␀", "[U+202E]dcba"] {
            assert!(text.contains(part), "{name} shows {part}");
        }
    }
}
