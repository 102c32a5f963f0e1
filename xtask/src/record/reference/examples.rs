//! One example of each event, in the order of the type.

use std::collections::BTreeMap;

use e2e_contract::{
    AbortKind, Better, Check, Defect, DefectOutcome, Fault, Invariant, InvariantKind, Level, Likeness, Metric, Picture,
};

use crate::record::{
    CaseId, Cause, Comparison, Counts, Event, FORMAT_VERSION, FaultCounts, FaultLasted, FaultObserved, LabIds,
    LastedState, Lateness, Machine, Onward, Outcome, RecordedPatience, RunSetup, Verdict, Way,
};
use e2e_stats::{Decision, Verdict as Judged};

fn case() -> CaseId {
    CaseId("data_pipeline/data_ingestion:small".into())
}

fn place() -> (String, u32) {
    ("scenarios/data_pipeline/data_ingestion/main.rs".into(), 42)
}

/// Returns an example of each event.
pub fn examples() -> Vec<Event> {
    let mut all = of_the_run();
    all.extend(of_the_case());
    all.extend(of_faults());
    all.extend(of_the_end());
    all
}

fn of_the_run() -> Vec<Event> {
    let template = || "app".to_owned();
    vec![
        Event::RunStarted {
            format_version: FORMAT_VERSION,
            run_id: "20260101-000000-1".into(),
            started_at: "2026-01-01T00:00:00.000Z".into(),
            cases: 12,
            shuffle_seed: None,
            user: "user".into(),
            patience: Some(RecordedPatience::of(6.2, Some(std::time::Duration::from_micros(15_510)))),
            setup: Box::new(RunSetup {
                engine_version: Some("0.1.0".into()),
                command: vec!["e2e".into(), "data_ingestion".into()],
                plan: vec![case().0],
                ..RunSetup::default()
            }),
        },
        Event::RunPrepared {
            layers: BTreeMap::from([(template(), "0123456789abcdef".into())]),
            packages: BTreeMap::from([(template(), vec!["nginx=1.22.1-9".into()])]),
            privileged: Vec::new(),
            allowed: BTreeMap::from([(template(), vec!["user_namespaces".into()])]),
            machine: Some(Machine {
                cpu_model: "AMD EPYC".into(),
                cores: 2,
                memory_bytes: 24 << 30,
                kernel: "6.1.0".into(),
                lxc: "5.0.2".into(),
                storage: "ext4 on vda (solid state)".into(),
                cgroup: "v2".into(),
            }),
            ids: Some(LabIds::PerSlot),
        },
        Event::Waiting { reason: "slot 1 is held by run 20260101-000000-1".into() },
        Event::LayerStep { template: template(), step: "packages".into() },
        Event::ScenariosBuild { progress: "12/158: regex, serde".into() },
        Event::LayerBuilt { template: template(), duration_ms: 41_210.5, size_bytes: 220_200_960 },
    ]
}

fn of_the_case() -> Vec<Event> {
    let container = || "db".to_owned();
    let (file, line) = place();
    let check = Check {
        passed: false,
        condition: "rows == 20_000".into(),
        values: "rows = 19999".into(),
        message: Some("each row is there once".into()),
        file,
        line,
    };
    let metric = Metric { name: "throughput".into(), value: 812.5, unit: "records/s".into(), better: Better::Higher };
    let verdict = Judged {
        decision: Decision::Unchanged,
        effect: Some(1.004),
        interval: Some((0.99, 1.02)),
        p: Some(0.61),
        samples: 30,
        because: "the difference is smaller than what matters".into(),
    };
    vec![
        Event::CaseStarted { case: case(), attempt: 1, folder: Some("data_pipeline/data_ingestion/small".into()) },
        Event::ContainerStarted { case: case(), container: container() },
        Event::ContainerReady { case: case(), container: container(), after_ms: 280.25 },
        Event::LabReady { case: case(), after_ms: 589.5 },
        Event::ScenarioStarted { case: case(), pid: 4711, user: "user".into() },
        Event::StepStarted { case: case(), name: "rows are loaded".into(), depth: 0 },
        Event::StepEnded { case: case(), name: "rows are loaded".into(), depth: 0, passed: true, duration_ms: 367.5 },
        Event::Check { case: case(), check },
        Event::Exec {
            case: case(),
            container: container(),
            command: "psql -Atc 'select 1'".into(),
            status: 0,
            duration_ms: 57.5,
            timed_out: false,
            location: Some("scenarios/data_pipeline/data_ingestion/main.rs:42".into()),
            not_kept_bytes: 0,
        },
        Event::Operation {
            case: case(),
            operation: "data_processing".into(),
            repetition: 0,
            duration_ms: 888.0,
            succeeded: true,
        },
        Event::DuetBegan { baseline: "v1.2 (0123456789ab)".into(), seed: 7, differences: Vec::new() },
        Event::Compared(Comparison {
            case: case(),
            operation: "query".into(),
            metric: "cpu_ms".into(),
            way: Way::Duet,
            gates: true,
            missing: false,
            baseline_samples: Vec::new(),
            was: None,
            verdict,
        }),
        Event::Covered(super::coverage::example().recorded()),
        Event::Metric { case: case(), metric },
    ]
}

fn of_faults() -> Vec<Event> {
    let observed = |evidence: &str| FaultObserved {
        case: case(),
        fault: 1,
        scheduled: Some(3),
        container: "db".into(),
        description: Fault::NetDelay { delay_ms: 50, jitter_ms: 0, reorder_percent: 0 },
        before: Some("a reply came after 0.1 ms".into()),
        evidence: evidence.into(),
        lasted: None,
        planned_ms: Some(2000),
        late_ms: Some(135),
        duration_ms: 12.5,
    };
    let lasted = FaultLasted { state: LastedState::UntilNow, detail: "a reply came after 50.4 ms".into() };
    let (file, line) = place();
    let invariant = Invariant {
        kind: InvariantKind::Always,
        name: "no job is done twice".into(),
        held: true,
        looks: 40,
        missed: 2,
        values: String::new(),
        file: file.clone(),
        line,
    };
    let defect = Defect {
        defect: "mancer-0.1.4/restart-runs-twice".into(),
        failing_with: "started the service 2 times".into(),
        outcome: DefectOutcome::Known,
        failure: Some("restart_unit started the service 2 times".into()),
        observed: Some("cron runs on worker".into()),
        file,
        line,
    };
    vec![
        Event::FaultInjected(observed("a reply came after 50.2 ms")),
        Event::FaultHealed(FaultObserved { lasted: Some(lasted), ..observed("a reply came after 0.1 ms") }),
        Event::FaultRefused {
            case: case(),
            scheduled: 4,
            container: "worker".into(),
            description: Fault::ProcessKill { command: "batch_worker.py".into() },
            reason: "no process has this command".into(),
        },
        Event::ChaosBegan { case: case(), profile: "default".into(), seed: Some(7), faults: 8, length_ms: 10_000 },
        Event::Settled { case: case(), bit: 7, refused: 1, duration_ms: 13_500.0 },
        Event::Invariant { case: case(), invariant },
        Event::Finding {
            case: case(),
            kind: "oom_kill".into(),
            container: Some("db".into()),
            about: "postgres".into(),
            detail: "1 process was killed".into(),
            happened_at_ms: Some(1200.5),
            expected: false,
        },
        Event::MachineEnded {
            case: case(),
            container: "db".into(),
            process_1: crate::record::InitStatus::Exited { status: 1 },
            out_of_memory: Some(false),
            expected: false,
            detail: "container db has ended: its process 1 exited with status 1".into(),
        },
        Event::MachineRebooted { case: case(), container: "db".into(), reboots: 1, expected: false },
        Event::Defect { case: case(), defect },
    ]
}

fn of_the_end() -> Vec<Event> {
    vec![
        Event::Log { case: case(), level: Level::Info, message: "20,000 rows".into() },
        Event::Aborted {
            case: case(),
            kind: AbortKind::Error,
            message: "connecting to db: connection refused".into(),
            location: Some("scenarios/data_pipeline/data_ingestion/main.rs:42".into()),
        },
        Event::Artifact {
            case: case(),
            path: "data_pipeline/data_ingestion/small/artifacts/version.txt".into(),
            size_bytes: 6,
        },
        Event::Screenshot {
            case: case(),
            name: "status".into(),
            url: "http://app/".into(),
            picture: Picture::Taken {
                path: "data_pipeline/data_ingestion/small/screenshots/status.png".into(),
                size_bytes: 20_480,
            },
        },
        Event::ScreenshotCompared {
            case: case(),
            name: "status".into(),
            expected: "scenarios/automation_workflows/monitoring/fixtures/status.png".into(),
            likeness: Likeness::Compared {
                path: "data_pipeline/data_ingestion/small/screenshots/status.png".into(),
                difference: Some("data_pipeline/data_ingestion/small/screenshots/status-difference.png".into()),
                pixels_off: 709,
                pixels: 786_432,
            },
        },
        Event::Held { case: case(), reason: "rows == 20_000 [rows = 19999]".into() },
        Event::Released { case: case(), onward: Onward::Continue, duration_ms: 74_500.0 },
        Event::Kept {
            case: case(),
            enter: vec!["cargo xtask shell db".into()],
            remove: "cargo xtask down --slot 1".into(),
        },
        Event::LabDown { case: case(), duration_ms: 85.0 },
        Event::CaseEnded {
            case: case(),
            attempt: 1,
            outcome: Outcome::Failed { cause: Cause::Check { message: "rows == 20_000 [rows = 19999]".into() } },
            duration_ms: 2240.0,
            last_words: vec!["scenario.log:".into(), "  19999 rows".into()],
            folder: "data_pipeline/data_ingestion/small".into(),
            faults: Some(FaultCounts {
                planned: 8,
                bit: 7,
                refused: 1,
                lateness: Some(Lateness { median_ms: 120, max_ms: 480, displaced: 0 }),
            }),
        },
        Event::CaseJudged { case: case(), verdict: Verdict::Failed },
        Event::Warning { message: "template old is privileged".into() },
        Event::RunEnded {
            counts: Counts { passed: 11, failed: 1, ..Counts::default() },
            duration_ms: 88_000.0,
            exit_code: 1,
            cleanup_failures: Vec::new(),
            error: None,
        },
    ]
}
