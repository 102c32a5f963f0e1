//! The page of a run with a hundred thousand lines of logs, some of them hostile: it opens as fast as it should.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use xtask::record::PastRun;
use xtask::report::html;

use crate::browser::Page;

/// Line that would show that it was taken for more than text.
const HOSTILE: &[u8] =
    b"</pre><script>window.taken = 1</script><img src=x onerror=\"window.taken = 2\"> \x1b[31mred\x1b[0m \xff\xfe \
    {{ 7 * 7 }} <!-- ]]>";

/// A record of this many cases with so many log lines each, every one of which has failed.
fn large_run(folder: &Path, cases: usize, lines: usize) {
    let machine = json!({ "cpu_model": "any", "cores": 2, "memory_bytes": 1 << 30, "kernel": "6", "lxc": "5", "storage": "ext4",
        "cgroup": "v2" });
    let mut events = String::new();
    let mut event = |at_ms: f64, case: &str, mut event: Value| {
        event["at_ms"] = json!(at_ms);
        event["case"] = json!(case);
        writeln!(events, "{event}").unwrap();
    };
    let mut results = Vec::new();
    for number in 0..cases {
        let (case, folder_name) = (format!("large/case_{number}:default"), format!("large/case_{number}"));
        let begun = 1000.0 + 70_000.0 * number as f64;
        event(begun, &case, json!({ "event": "case_started", "attempt": 1 }));
        event(begun + 50.0, &case, json!({ "event": "lab_ready", "after_ms": 50.0 }));
        event(begun + 60.0, &case, json!({ "event": "scenario_started", "pid": 1, "user": "user" }));
        for check in 0..300 {
            let at = begun + 100.0 + 200.0 * f64::from(check);
            let exec = json!({ "event": "exec", "container": "app", "command": "true", "status": 0, "duration_ms": 20.0,
                "timed_out": false });
            event(at, &case, exec);
            let passed = check != 250;
            let text = format!("row {check} < 7 </script>");
            event(
                at + 10.0,
                &case,
                json!({ "event": "check", "passed": passed, "condition": text, "values": "a = \"<b>\"",
                "file": "main.rs", "line": check }),
            );
        }
        let cause = json!({ "cause": "check", "message": "row 250 < 7 </script> at main.rs:250" });
        let outcome = json!({ "outcome": "failed", "cause": cause });
        event(
            begun + 65_000.0,
            &case,
            json!({ "event": "case_ended", "attempt": 1, "outcome": outcome, "duration_ms": 65_000.0,
            "last_words": [], "folder": folder_name }),
        );
        let attempt = json!({ "outcome": "failed", "cause": cause, "duration_ms": 65_000.0, "folder": folder_name });
        results.push(json!({ "case": case, "verdict": "failed", "attempts": [attempt] }));

        let logs = folder.join(&folder_name).join("containers/app");
        fs::create_dir_all(&logs).unwrap();
        let mut journal = Vec::new();
        for line in 0..lines {
            let at = begun + 60_000.0 * line as f64 / lines as f64;
            let stamp =
                format!("2026-01-01T00:{:02}:{:09.6}+0000", (at / 60_000.0) as u32 % 60, at % 60_000.0 / 1000.0);
            let text = format!(
                "{stamp} app worker[{line}]: handled job {line} of queue default in 12 ms, result stored, next one\n"
            );
            journal.extend_from_slice(text.as_bytes());
            if line % 1000 == 0 {
                journal.extend_from_slice(format!("{stamp} app worker[1]: ").as_bytes());
                journal.extend_from_slice(HOSTILE);
                journal.push(b'\n');
            }
        }
        journal.extend(std::iter::repeat_n(b'x', 1 << 20)); // without a line end
        fs::write(logs.join("journal.log"), journal).unwrap();
        let looks: Vec<f64> = (0..600).map(|look| begun + 100.0 * f64::from(look)).collect();
        let column = |grows: f64| (0..600).map(|look| f64::from(look) * grows).collect::<Vec<f64>>();
        let series = json!({ "cpu_user_ms": column(50.0), "cpu_system_ms": column(9.0), "memory_bytes": column(1e5),
            "received_bytes": column(1e4), "sent_bytes": column(2e4), "read_bytes": column(0.0), "written_bytes": column(5e4) });
        let performance = json!({ "format_version": 2, "case": case, "machine": machine, "machine_class": "c", "operations": {},
            "metrics": {}, "sampling": { "rate_hz": 10, "thinned": 1, "ticks": 600, "own_cpu_ms": 1.0, "duration_ms": 60_000.0,
            "at_ms": looks, "series": { "app": series, "db": series, "worker": series }, "host": {} } });
        fs::write(folder.join(&folder_name).join("performance.json"), performance.to_string()).unwrap();
    }
    let record = json!({ "format_version": 1, "run_id": "large", "started_at": "2026-01-01T00:00:00.000Z", "duration_ms": 7e5,
        "engine_version": "0", "user": "user", "shuffle_seed": null, "layers": {}, "privileged": [], "cases": results,
        "counts": { "passed": 0, "failed": cases, "flaky": 0, "infrastructure": 0, "interrupted": 0, "skipped": 0 },
        "cleanup_failures": [], "exit_code": 1 });
    fs::write(folder.join("run.json"), record.to_string()).unwrap();
    fs::write(folder.join("events.jsonl"), events).unwrap();
}

#[test]
fn a_hundred_thousand_lines_open_at_once_and_none_of_them_does_harm() {
    let folder = tempfile::tempdir().unwrap();
    large_run(folder.path(), 10, 10_000);
    let run = PastRun::read(folder.path().to_owned()).unwrap();
    let text = html::page(&run, &run.events().unwrap()).unwrap();
    let path = folder.path().join("report.html");
    fs::write(&path, &text).unwrap();
    assert!(text.len() < 20_000_000, "{} bytes", text.len());
    let mut page = Page::start();
    page.open(&path);
    let (busy_ms, wall_ms) = (page.busy_ms(), page.value("performance.now()"));
    println!("{} bytes, opened in {busy_ms:.0} ms of the page's thread, {wall_ms} ms by the clock", text.len());
    assert!(busy_ms < 2000.0, "{busy_ms} ms");
    page.value("document.querySelector('details.log').open = true");
    page.wait_until("document.querySelectorAll('.log-row').length > 0");
    assert!(page.text(".log-tools output").contains("10,0"), "{}", page.text(".log-tools output"));
    assert_eq!(page.value("window.taken ?? null"), Value::Null, "a log line was taken for more than text");
    assert_eq!(page.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(page.complaints(), Vec::<String>::new());
}
