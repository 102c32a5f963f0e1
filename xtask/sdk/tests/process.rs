//! Tests of a scenario's process with an imitated engine: checks, panics, errors, a lost engine, no engine. Started with `act WHAT`, this
//! program is the scenario, otherwise the test.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test without the harness, which clippy takes for none"
)]

#[path = "../src/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::process::{ExitCode, Output};
use std::sync::mpsc;

use anyhow::{Context as _, anyhow, bail};
use e2e::{Lab, Result, check};
use e2e_contract::{ErrorCode, RpcError, SOCKET_VARIABLE};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [act, what] = arguments.as_slice()
        && act == "act"
    {
        return e2e::run(|lab| play(lab, what));
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let tests: [(&str, fn()); 9] = [
        ("every_operator_is_split_and_shown", every_operator_is_split_and_shown),
        ("a_failed_check_is_recorded_and_ends_the_scenario", a_failed_check_is_recorded_and_ends_the_scenario),
        ("checks_overlap_in_threads", checks_overlap_in_threads),
        ("an_error_is_told_with_its_causes", an_error_is_told_with_its_causes),
        ("a_failed_request_is_told_with_its_place", a_failed_request_is_told_with_its_place),
        ("a_panic_is_told_with_its_place", a_panic_is_told_with_its_place),
        ("a_panic_in_a_thread_counts", a_panic_in_a_thread_counts),
        ("a_lost_engine_ends_the_process", a_lost_engine_ends_the_process),
        ("without_an_engine_it_says_how_to_run_it", without_an_engine_it_says_how_to_run_it),
    ];
    for (name, test) in tests.iter().filter(|(name, _)| wanted.is_none_or(|wanted| name.contains(wanted.as_str()))) {
        test();
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// Runs the part of the scenario that has the name `what`.
fn play(lab: &Lab, what: &str) -> Result {
    match what {
        "operators" => operators(),
        "check" => lab.step("outer", || too_few(19_999).context("while counting")),
        "threads" => threads(),
        "refused" => lab.container("db")?.get("/x").map(drop).context("reading x"),
        "failing_program" => lab.container("db")?.sh("exit 7")?.success().map(drop),
        "error" => Err(anyhow!("disk full").context("writing rows").context("loading")),
        "panic" => lab.measure("worse", || panic!("no {}", "way")),
        "thread_panic" => {
            let detached = std::thread::spawn(|| panic!("in a thread"));
            check!(detached.join().is_err());
            Ok(())
        }
        "lost" => {
            lab.log("the last words");
            loop {
                std::thread::park();
            }
        }
        other => bail!("the scenario cannot act {other}"),
    }
}

fn too_few(rows: u64) -> Result {
    check!(rows == 20_000, "every row of {} was loaded", "rows.csv");
    Ok(())
}

#[rustfmt::skip]
fn operators() -> Result {
    let (one, two, text) = (1u64, 2u64, "abc");
    let list = Vec::from([1usize, 2]);
    let mut evaluated = 0;
    let mut next = || { evaluated += 1; evaluated };
    check!(next() == 1);
    check!(one != two);
    check!(one < two, "one is {one}, not {}", two);
    check!(one <= two,);
    check!(two > one);
    check!(two >= one);
    check!(text.contains("b"), "it has one");
    check!(!list.is_empty());
    check!(list.len() + 3 == list.iter().map(|a| a + 1).sum::<usize>());
    check!(list.iter().map(|a| a * 2).collect::<Vec<usize>>() == [2, 4], "twice");
    check!(list.iter().map(|a| (a, Vec::new())).collect::<BTreeMap<_, Vec<&&usize>>>().len() < 3);
    check!(<u64 as std::str::FromStr>::from_str("2")? == two);
    check!(one << 2 > two);
    check!(one == 1 && two == 2, "both");
    check!(one == 2 || two == 2);
    check!(&&one == &&1);
    check!((one == 1));
    check!(text.to_owned() == "abc");
    check!(matches!(list.first(), Some(1)));
    check!(one as usize == list.len() - 1);
    let result: Result = (|| { check!(text.repeat(1000) == ""); Ok(()) })();
    check!(result.is_err());
    Ok(())
}

fn threads() -> Result {
    std::thread::scope(|scope| {
        let checking: Vec<_> = (0..8u32)
            .map(|number| {
                scope.spawn(move || -> Result {
                    for repetition in 0..50 {
                        check!(number < 8, "{repetition}");
                    }
                    Ok(())
                })
            })
            .collect();
        checking.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("panicked"))?)
    })
}

/// Requests that the engine got from a scenario, and the end of its process.
struct Played {
    requests: Vec<(String, Value)>,
    output: Output,
}

impl Played {
    fn of(&self, method: &str) -> Vec<&Value> {
        self.requests.iter().filter(|(name, _)| name == method).map(|(_, params)| params).collect()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

fn played(what: &str) -> Played {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let (sender, requests) = mpsc::channel();
    let closes_at = if what == "lost" { "log" } else { "none" };
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let handle = stream.try_clone().unwrap();
        peer::serve(stream, move |request| {
            let (method, params) = (request.method.as_str(), request.params.clone());
            sender.send((method.to_owned(), params)).unwrap();
            if method == closes_at {
                handle.shutdown(std::net::Shutdown::Both).unwrap();
            }
            Ok(match method {
                "measure.begin" => json!({"measurement": 1}),
                "measure.end" => json!({"more": false}),
                "get" => return Err(RpcError::new(ErrorCode::InvalidParams, "no such file")),
                "exec" => {
                    let stream = json!({"text": ""});
                    json!({"status": 7, "stdout": stream, "stderr": stream, "duration_ms": 1.0, "timed_out": false})
                }
                _ => json!({}),
            })
        });
    });
    let output = start(what, Some(&socket));
    serving.join().unwrap();
    Played { requests: requests.into_iter().collect(), output }
}

#[expect(clippy::disallowed_methods, reason = "the SDK has no seam: the scenario is started as the engine starts it")]
fn start(what: &str, socket: Option<&std::path::Path>) -> Output {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["act", what]).env_remove(SOCKET_VARIABLE).env_remove("RUST_BACKTRACE");
    if let Some(socket) = socket {
        command.env(SOCKET_VARIABLE, socket);
    }
    command.output().unwrap()
}

fn every_operator_is_split_and_shown() {
    let played = played("operators");
    let shown = |check: &&Value| {
        let part = |name: &str| check[name].as_str().unwrap_or("-").to_owned();
        format!("{} | {} | {} | {}", check["passed"], part("condition"), part("values"), part("message"))
    };
    let checks: Vec<String> = played.of("check").iter().map(shown).collect();
    let long = format!("false | text.repeat(1000) == \"\" | text.repeat(1000) = \"{}", "abc".repeat(667));
    let expected = [
        "true | next() == 1 | next() = 1 | -",
        "true | one != two | one = 1, two = 2 | -",
        "true | one < two | one = 1, two = 2 | one is 1, not 2",
        "true | one <= two | one = 1, two = 2 | -",
        "true | two > one | two = 2, one = 1 | -",
        "true | two >= one | two = 2, one = 1 | -",
        "true | text.contains(\"b\") |  | it has one",
        "true | !list.is_empty() |  | -",
        "true | list.len() + 3 == list.iter().map(|a| a + 1).sum::<usize>() | \
         list.len() + 3 = 5, list.iter().map(|a| a + 1).sum::<usize>() = 5 | -",
        "true | list.iter().map(|a| a * 2).collect::<Vec<usize>>() == [2, 4] | \
         list.iter().map(|a| a * 2).collect::<Vec<usize>>() = [2, 4] | twice",
        "true | list.iter().map(|a| (a, Vec::new())).collect::<BTreeMap<_, Vec<&&usize>>>().len() < 3 | \
         list.iter().map(|a| (a, Vec::new())).collect::<BTreeMap<_, Vec<&&usize>>>().len() = 2 | -",
        "true | <u64 as std::str::FromStr>::from_str(\"2\")? == two | \
         <u64 as std::str::FromStr>::from_str(\"2\")? = 2, two = 2 | -",
        "true | one << 2 > two | one << 2 = 4, two = 2 | -",
        "true | one == 1 && two == 2 |  | both",
        "true | one == 2 || two == 2 |  | -",
        "true | &&one == &&1 | &&one = 1, &&1 = 1 | -",
        "true | (one == 1) |  | -",
        "true | text.to_owned() == \"abc\" | text.to_owned() = \"abc\" | -",
        "true | matches!(list.first(), Some(1)) |  | -",
        "true | one as usize == list.len() - 1 | one as usize = 1, list.len() - 1 = 1 | -",
        &format!("{} [... cut after 2000 characters] | -", &long[..long.len() - 2]),
        "true | result.is_err() |  | -",
    ];
    assert_eq!(checks, expected);
    assert_eq!(played.output.status.code(), Some(0), "{}", played.stderr());
}

fn a_failed_check_is_recorded_and_ends_the_scenario() {
    let played = played("check");
    assert_eq!(played.output.status.code(), Some(1));
    let line = include_str!("process.rs").lines().position(|line| line.contains("check!(rows == 20_000")).unwrap() + 1;
    let expected = json!({
        "passed": false, "condition": "rows == 20_000", "values": "rows = 19999",
        "message": "every row of rows.csv was loaded", "file": "xtask/sdk/tests/process.rs", "line": line,
    });
    assert_eq!(played.of("check"), [&expected]);
    assert_eq!(played.of("step")[1]["edge"], "failed");
    assert!(played.of("abort").is_empty(), "the check says it all");
    let said = format!(
        "while counting\n  caused by: check failed at xtask/sdk/tests/process.rs:{line}: rows == 20_000; rows = 19999; \
         every row of rows.csv was loaded\n"
    );
    assert_eq!(played.stderr(), said);
}

fn checks_overlap_in_threads() {
    let played = played("threads");
    assert_eq!(played.output.status.code(), Some(0), "{}", played.stderr());
    assert_eq!(played.of("check").len(), 400);
}

fn an_error_is_told_with_its_causes() {
    let played = played("error");
    assert_eq!(played.output.status.code(), Some(1));
    let message = "loading\n  caused by: writing rows\n  caused by: disk full";
    assert_eq!(played.of("abort"), [&json!({"kind": "error", "message": message})]);
    assert_eq!(played.stderr(), format!("{message}\n"));
}

fn a_failed_request_is_told_with_its_place() {
    for (what, code) in [("refused", r#""refused" => lab"#), ("failing_program", r#""failing_program" => lab"#)] {
        let played = played(what);
        let line = include_str!("process.rs").lines().position(|line| line.contains(code)).unwrap() + 1;
        let [abort] = played.of("abort")[..] else { panic!("{:?}", played.requests) };
        assert_eq!(abort["location"], format!("xtask/sdk/tests/process.rs:{line}"), "{abort}");
    }
}

fn a_panic_is_told_with_its_place() {
    let played = played("panic");
    assert_eq!(played.output.status.code(), Some(101));
    let [abort] = played.of("abort")[..] else { panic!("{:?}", played.requests) };
    assert_eq!((&abort["kind"], &abort["message"]), (&json!("panic"), &json!("no way")));
    assert!(abort["location"].as_str().unwrap().starts_with("xtask/sdk/tests/process.rs:"), "{abort}");
    assert_eq!(played.of("measure.end")[0]["succeeded"], false);
    assert!(played.stderr().contains("no way"), "{}", played.stderr());
}

fn a_panic_in_a_thread_counts() {
    let played = played("thread_panic");
    assert_eq!(played.output.status.code(), Some(101), "{}", played.stderr());
    assert_eq!(played.of("abort").len(), 1);
}

fn a_lost_engine_ends_the_process() {
    let played = played("lost");
    assert_eq!(played.output.status.code(), Some(1));
    assert!(played.stderr().contains("the engine is gone: the engine closed the connection"), "{}", played.stderr());
}

fn without_an_engine_it_says_how_to_run_it() {
    let output = start("error", None);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("run it with `cargo xtask e2e process"), "{stderr}");

    let folder = tempfile::tempdir().unwrap();
    let output = start("error", Some(&folder.path().join("missing")));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("connecting to "));
}
