//! Example of a request and its answer for each method, in the order of the methods' types.

use std::fmt::Debug;
use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use crate::*;

/// Example of a request with its answer.
pub struct Exchange {
    pub method: &'static str,
    pub params: Value,
    pub answer: Value,
}

fn exchange<M: Method<Answer: PartialEq + Debug> + PartialEq + Debug>(params: &M, answer: &M::Answer) -> Exchange {
    let exchange = Exchange {
        method: M::NAME,
        params: serde_json::to_value(params).unwrap(),
        answer: serde_json::to_value(answer).unwrap(),
    };
    assert_eq!(serde_json::from_value::<M>(exchange.params.clone()).unwrap(), *params, "{} read again", M::NAME);
    assert_eq!(serde_json::from_value::<M::Answer>(exchange.answer.clone()).unwrap(), *answer, "{}'s answer", M::NAME);
    exchange
}

/// Returns an example for each method.
pub fn exchanges() -> Vec<Exchange> {
    [of_containers(), of_the_course(), of_faults(), of_pages()].into_iter().flatten().collect()
}

/// Returns an example of an answer with an error.
pub fn refusal() -> Response {
    Response::failure(
        Some(3),
        RpcError::new(ErrorCode::InvalidParams, "there is no container \"bd\" in this lab: it has app, db"),
    )
}

fn file() -> String {
    "scenarios/data_pipeline/data_ingestion/main.rs".into()
}

fn of_containers() -> Vec<Exchange> {
    let container = || "db".to_owned();
    let info = |name: &str, last| ContainerInfo {
        name: name.into(),
        host_name: format!("mancer-e2e-{name}"),
        address: Ipv4Addr::new(10, 77, 0, last),
        template: name.into(),
    };
    let welcome = Welcome {
        scenario: "data_pipeline/data_ingestion".into(),
        case: "small".into(),
        params: Map::from_iter([("rows".to_owned(), json!(20_000))]),
        containers: vec![info("app", 11), info("db", 12)],
        fixtures: "/srv/project/scenarios/data_pipeline/data_ingestion/fixtures".into(),
        artifacts: "/srv/project/target/e2e/RUN/data_pipeline/data_ingestion/small/artifacts".into(),
        stack_file: "/srv/project/target/e2e/RUN/data_pipeline/data_ingestion/small/artifacts/stacks-at-timeout.txt"
            .into(),
        defects_only: false,
    };
    let exec = Exec {
        container: container(),
        argv: ["psql", "-Atc", "select count(*) from orders"].map(String::from).to_vec(),
        stdin: Some(Stream::Text(String::new())),
        environment: vec![("PGOPTIONS".into(), "-c statement_timeout=5s".into())],
        user: Some("postgres".into()),
        deadline_ms: 30_000,
    };
    let result = ExecResult {
        status: 0,
        stdout: Stream::Text("20000\n".into()),
        stderr: Stream::Text(String::new()),
        duration_ms: 57.25,
        timed_out: false,
    };
    let put = Put {
        container: "app".into(),
        path: "/etc/nginx/conf.d/site.conf".into(),
        content: Stream::Text("server { listen 80; }\n".into()),
        mode: 0o644,
        owner: Some("root:root".into()),
        deadline_ms: 10_000,
    };
    let get = Get { container: container(), path: "/etc/machine-id".into(), deadline_ms: 10_000 };
    let wait = Wait { container: container(), condition: Condition::Tcp(5432), deadline_ms: 30_000 };
    vec![
        exchange(&Hello { protocol: PROTOCOL_VERSION }, &welcome),
        exchange(&exec, &result),
        exchange(&put, &Done {}),
        exchange(&get, &Stream::Text("3f0c5a1e9d\n".into())),
        exchange(&wait, &Waited { duration_ms: 212.5 }),
    ]
}

fn of_the_course() -> Vec<Exchange> {
    let check = Check {
        passed: false,
        condition: "rows == 20_000".into(),
        values: "rows = 19999".into(),
        message: Some("each row is there once".into()),
        file: file(),
        line: 42,
    };
    let abort = Abort {
        kind: AbortKind::Error,
        message: "connecting to db: connection refused".into(),
        location: Some(format!("{}:42", file())),
    };
    let metric = Metric { name: "throughput".into(), value: 812.5, unit: "records/s".into(), better: Better::Higher };
    vec![
        exchange(&Step { name: "load 20,000 rows".into(), edge: Edge::Begin }, &Done {}),
        exchange(&MeasureBegin { operation: "query".into(), repetitions: 5 }, &Measurement { measurement: 1 }),
        exchange(&MeasureEnd { measurement: 1, succeeded: true, duration_ms: 12.75 }, &Measured { more: true }),
        exchange(&metric, &Done {}),
        exchange(&check, &Done {}),
        exchange(&Log { level: Level::Info, message: "20,000 rows".into() }, &Done {}),
        exchange(&abort, &Done {}),
        exchange(&Artifact { name: "version.txt".into(), content: Stream::Base64("MTUwMDIwCg==".into()) }, &Done {}),
    ]
}

fn of_faults() -> Vec<Exchange> {
    let fault = Fault::NetDelay { delay_ms: 50, jitter_ms: 0, reorder_percent: 0 };
    let invariant = Invariant {
        kind: InvariantKind::Always,
        name: "no job is done twice".into(),
        held: true,
        looks: 40,
        missed: 2,
        values: "jobs = 100".into(),
        file: file(),
        line: 57,
    };
    let history = History {
        process: "producer".into(),
        operation: "submit".into(),
        phase: Phase::Invoke,
        value: json!({ "job": 17 }),
    };
    let defect = Defect {
        defect: "mancer-0.1.4/restart-runs-twice".into(),
        failing_with: "started the service 2 times".into(),
        outcome: DefectOutcome::Known,
        failure: Some("restart_unit started the service 2 times".into()),
        observed: Some("cron runs on worker".into()),
        file: file(),
        line: 64,
    };
    vec![
        exchange(
            &FaultInject { container: "db".into(), fault },
            &Injected { fault: 1, evidence: "a reply came after 50.2 ms".into() },
        ),
        exchange(&FaultHeal { fault: 1 }, &Healed { evidence: "a reply came after 0.1 ms".into() }),
        exchange(&ChaosBegin {}, &ChaosPlaying { playing: true, length_ms: 10_000 }),
        exchange(&Settle {}, &Settled { bit: 7, refused: 1 }),
        exchange(&invariant, &Done {}),
        exchange(&history, &Done {}),
        exchange(&defect, &Done {}),
    ]
}

fn of_pages() -> Vec<Exchange> {
    let folder = "/srv/project/target/e2e/RUN/automation_workflows/monitoring/default/screenshots";
    let (name, url) = (|| "status".to_owned(), || "http://app/status".to_owned());
    let compare = ScreenshotCompare {
        name: name(),
        url: url(),
        deadline_ms: 30_000,
        expected: "/srv/project/scenarios/automation_workflows/monitoring/fixtures/status.png".into(),
        channel_off_max: 8,
    };
    let likeness = Likeness::Compared {
        path: format!("{folder}/status.png").into(),
        difference: Some(format!("{folder}/status-difference.png").into()),
        pixels_off: 709,
        pixels: 786_432,
    };
    vec![
        exchange(
            &Screenshot { name: name(), url: url(), deadline_ms: 30_000 },
            &Picture::Taken { path: format!("{folder}/status.png").into(), size_bytes: 20_480 },
        ),
        exchange(&compare, &likeness),
    ]
}
